//! Domain handles, and the calls of a domain.

use std::sync::Arc;

use momentlog_core::{
    Action, Command, CreateCheckpoint, CreateSnapshot, Domain as DomainState, DomainUuid, Event,
    MomentKind, MomentName, Policy, Power, Redefine, Refusal, RunState, Scope, StateChange,
};
use momentlog_xml::{
    CheckpointRequest, SnapshotRequest, XmlError, disk_details, read_checkpoint,
    read_checkpoint_redefine, read_snapshot, read_snapshot_redefine, write_domain,
};

use crate::checkpoint::Checkpoint;
use crate::connection::{Connection, digest, made_name};
use crate::engine::Outcome;
use crate::error::{
    Error, ErrorCode, ErrorDomain, Result, exclusive, no_moment, required, unsupported,
};
use crate::flags::{
    CheckpointCreateFlags, CheckpointListFlags, DomainXmlFlags, SnapshotCreateFlags,
    SnapshotListFlags, UndefineFlags,
};
use crate::ledger::View;
use crate::listing::{CheckpointListing, SnapshotListing};
use crate::snapshot::Snapshot;

/// A domain, by its uuid. A clone is the same handle; the domain may be gone, and calls say so.
///
/// Follows `virDomainPtr`.
#[derive(Clone, Debug)]
pub struct Domain {
    connection: Connection,
    uuid: DomainUuid,
    name: Arc<str>,
}

/// What the XML of a moment asks for.
#[derive(Clone)]
enum Read<D, C> {
    Redefine(Redefine<D>),
    Create(C),
}

impl<D, C> Read<D, C> {
    /// The name of a moment that is redefined.
    fn into_name(self) -> Option<MomentName> {
        match self {
            Read::Redefine(redefine) => Some(redefine.name),
            Read::Create(_) => None,
        }
    }
}

impl Domain {
    pub(crate) fn new(connection: &Connection, uuid: DomainUuid, name: &Arc<str>) -> Domain {
        Domain {
            connection: connection.clone(),
            uuid,
            name: name.clone(),
        }
    }

    /// The handle as those of its moments hold it.
    fn shared(&self) -> Arc<Domain> {
        Arc::new(self.clone())
    }

    /// The name that the domain had when it was looked up. Follows `virDomainGetName`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The uuid. Follows `virDomainGetUUID`.
    pub fn uuid(&self) -> DomainUuid {
        self.uuid
    }

    /// The connection. Follows `virDomainGetConnect`.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The number of a running domain. Follows `virDomainGetID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn id(&self) -> Result<Option<u32>> {
        self.with(|domain| Ok(domain.power().id))
    }

    /// Run state and reason, as libvirt numbers it. Follows `virDomainGetState`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn state(&self) -> Result<(RunState, u8)> {
        self.with(|domain| Ok((domain.power().state, domain.power().reason)))
    }

    /// Whether the guest is active. Follows `virDomainIsActive`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn is_active(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.power().is_active()))
    }

    /// Whether the domain outlives its guest. Follows `virDomainIsPersistent`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn is_persistent(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.is_persistent()))
    }

    /// The domain's XML. Follows `virDomainGetXMLDesc`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] for secrets on a read-only connection; [`ErrorCode::NoDomain`].
    pub fn xml_desc(&self, flags: DomainXmlFlags) -> Result<String> {
        self.xml_desc_raw(flags.bits())
    }

    /// [`xml_desc`](Self::xml_desc) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing here.
    pub fn xml_desc_raw(&self, flags: u32) -> Result<String> {
        const FUNCTION: &str = "virDomainGetXMLDesc";
        let secure = flags & DomainXmlFlags::SECURE.bits() != 0;
        self.deny_secrets(secure, FUNCTION, ErrorDomain::Domain)?;
        let flags = DomainXmlFlags::checked(flags, FUNCTION)?;
        self.with(|domain| {
            Ok(if flags.contains(DomainXmlFlags::INACTIVE) {
                write_domain(domain.inactive_def(), None, secure)
            } else {
                write_domain(domain.def(), domain.power().id, secure)
            })
        })
    }

    /// Type, device, target and source (`-` if none) of each disk, as `virsh domblklist --details` shows them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn disks(&self, inactive: bool) -> Result<Vec<[String; 4]>> {
        self.with(|domain| {
            Ok(disk_details(if inactive {
                domain.inactive_def()
            } else {
                domain.def()
            }))
        })
    }

    /// The rules that the domain follows.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn policy(&self) -> Result<Policy> {
        self.with(|domain| Ok(domain.policy()))
    }

    /// Starts the guest. Follows `virDomainCreate`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it runs, as libvirt's test driver has it.
    pub fn start(&self) -> Result<()> {
        self.change_state("virDomainCreate", StateChange::Start)
    }

    /// Asks the guest to shut down, which it does at once. Follows `virDomainShutdown`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it is off.
    pub fn shutdown(&self) -> Result<()> {
        self.change_state("virDomainShutdown", StateChange::Shutdown)
    }

    /// Stops the guest; a transient domain is gone then. Follows `virDomainDestroy`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if it is off.
    pub fn destroy(&self) -> Result<()> {
        self.change_state("virDomainDestroy", StateChange::Destroy)
    }

    /// Pauses the guest. Follows `virDomainSuspend`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it does not run.
    pub fn suspend(&self) -> Result<()> {
        self.change_state("virDomainSuspend", StateChange::Suspend)
    }

    /// Lets a paused guest run on. Follows `virDomainResume`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InternalError`] if it is not paused.
    pub fn resume(&self) -> Result<()> {
        self.change_state("virDomainResume", StateChange::Resume)
    }

    /// Forgets the persistent definition; an active domain goes when it stops. Follows `virDomainUndefineFlags`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if it is inactive and has snapshots that may not go with it.
    pub fn undefine(&self, flags: UndefineFlags) -> Result<()> {
        self.undefine_raw(flags.bits())
    }

    /// [`undefine`](Self::undefine) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn undefine_raw(&self, flags: u32) -> Result<()> {
        const FUNCTION: &str = "virDomainUndefineFlags";
        self.connection
            .deny_read_only(FUNCTION, ErrorDomain::Domain)?;
        let known = UndefineFlags::MANAGED_SAVE | UndefineFlags::SNAPSHOTS_METADATA;
        unsupported(flags, known.bits(), FUNCTION)?;
        let with_snapshots = flags & UndefineFlags::SNAPSHOTS_METADATA.bits() != 0;
        self.act(FUNCTION, flags, &Action::Undefine { with_snapshots })
    }

    fn change_state(&self, function: &'static str, change: StateChange) -> Result<()> {
        self.connection
            .deny_read_only(function, ErrorDomain::Domain)?;
        self.act(function, 0, &Action::ChangeState(change))
    }

    /// Makes a snapshot, or with REDEFINE puts its record back. Follows `virDomainSnapshotCreateXML`.
    ///
    /// # Errors
    ///
    /// In libvirt's order: read-only, flags, domain, policy, XML, parent, uuid, state, disks, name.
    pub fn snapshot_create_xml(&self, xml: &str, flags: SnapshotCreateFlags) -> Result<Snapshot> {
        self.snapshot_create_xml_raw(xml, flags.bits())
    }

    /// [`snapshot_create_xml`](Self::snapshot_create_xml) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn snapshot_create_xml_raw(&self, xml: &str, flags: u32) -> Result<Snapshot> {
        use SnapshotCreateFlags as Flags;
        const FUNCTION: &str = "virDomainSnapshotCreateXML";
        const PREFIX: &str = "VIR_DOMAIN_SNAPSHOT_CREATE_";
        let domain = ErrorDomain::DomainSnapshot;
        let has = |flag: Flags| flags & flag.bits() != 0;
        self.connection.deny_read_only(FUNCTION, domain)?;
        if has(Flags::CURRENT) && !has(Flags::REDEFINE) {
            return Err(required(
                domain,
                &format!("{PREFIX}REDEFINE"),
                &format!("{PREFIX}CURRENT"),
            ));
        }
        for (flag, name) in [(Flags::NO_METADATA, "NO_METADATA"), (Flags::HALT, "HALT")] {
            if has(Flags::REDEFINE) && has(flag) {
                return Err(exclusive(
                    domain,
                    &format!("{PREFIX}REDEFINE"),
                    &format!("{PREFIX}{name}"),
                ));
            }
        }
        let known = Flags::REDEFINE
            | Flags::CURRENT
            | Flags::HALT
            | Flags::QUIESCE
            | Flags::ATOMIC
            | Flags::LIVE
            | Flags::VALIDATE;
        unsupported(flags, known.bits(), FUNCTION)?;
        let validate = has(Flags::VALIDATE);
        // Read before it is this thread's turn; what is wrong with it comes after what is wrong with the domain.
        let read = self.connection.read_xml(|fresh| {
            Ok::<_, XmlError>(if has(Flags::REDEFINE) {
                let mut redefine = read_snapshot_redefine(xml, validate, fresh)?;
                redefine.current = has(Flags::CURRENT);
                Read::Redefine(redefine)
            } else {
                Read::Create(read_snapshot(xml, validate)?)
            })
        })?;
        let asked = self.asked(FUNCTION, || [xml.to_owned(), flags.to_string()]);
        let outcome = self.decide(asked, &mut |domain| {
            domain.admits(MomentKind::Snapshot)?;
            if has(Flags::HALT) {
                domain.admits_halt()?;
            }
            Ok(match read.clone()? {
                Read::Redefine(redefine) => Action::RedefineSnapshot(redefine),
                Read::Create(request) => {
                    Action::CreateSnapshot(self.new_snapshot(request, has(Flags::HALT)))
                }
            })
        })?;
        let name = made_name(&outcome).or(read.ok().and_then(Read::into_name));
        Ok(Snapshot::new(
            &self.shared(),
            name.expect("a snapshot that was made has a name"),
        ))
    }

    /// Makes a checkpoint, or with REDEFINE puts its record back. Follows `virDomainCheckpointCreateXML`.
    ///
    /// # Errors
    ///
    /// In libvirt's order: read-only, flags, domain, policy, XML, parent, uuid, chain, disks, name.
    pub fn checkpoint_create_xml(
        &self,
        xml: &str,
        flags: CheckpointCreateFlags,
    ) -> Result<Checkpoint> {
        self.checkpoint_create_xml_raw(xml, flags.bits())
    }

    /// [`checkpoint_create_xml`](Self::checkpoint_create_xml) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn checkpoint_create_xml_raw(&self, xml: &str, flags: u32) -> Result<Checkpoint> {
        use CheckpointCreateFlags as Flags;
        const FUNCTION: &str = "virDomainCheckpointCreateXML";
        const PREFIX: &str = "VIR_DOMAIN_CHECKPOINT_CREATE_";
        let domain = ErrorDomain::DomainCheckpoint;
        let has = |flag: Flags| flags & flag.bits() != 0;
        self.connection.deny_read_only(FUNCTION, domain)?;
        if has(Flags::REDEFINE) && has(Flags::QUIESCE) {
            return Err(exclusive(
                domain,
                &format!("{PREFIX}REDEFINE"),
                &format!("{PREFIX}QUIESCE"),
            ));
        }
        if has(Flags::REDEFINE_VALIDATE) && !has(Flags::REDEFINE) {
            return Err(required(
                domain,
                &format!("{PREFIX}REDEFINE"),
                &format!("{PREFIX}REDEFINE_VALIDATE"),
            ));
        }
        unsupported(flags, (Flags::REDEFINE | Flags::QUIESCE).bits(), FUNCTION)?;
        let read = self.connection.read_xml(|fresh| {
            Ok::<_, XmlError>(if has(Flags::REDEFINE) {
                Read::Redefine(read_checkpoint_redefine(xml, fresh)?)
            } else {
                Read::Create(read_checkpoint(xml)?)
            })
        })?;
        let asked = self.asked(FUNCTION, || [xml.to_owned(), flags.to_string()]);
        let outcome = self.decide(asked, &mut |domain| {
            domain.admits(MomentKind::Checkpoint)?;
            Ok(match read.clone()? {
                Read::Redefine(redefine) => Action::RedefineCheckpoint(redefine),
                Read::Create(request) => Action::CreateCheckpoint(self.new_checkpoint(request)),
            })
        })?;
        let name = made_name(&outcome).or(read.ok().and_then(Read::into_name));
        Ok(Checkpoint::new(
            &self.shared(),
            name.expect("a checkpoint that was made has a name"),
        ))
    }

    /// Makes a snapshot from typed values, for embedders without XML.
    ///
    /// # Errors
    ///
    /// As [`snapshot_create_xml`](Self::snapshot_create_xml), but for flags and XML.
    pub fn create_snapshot(&self, request: SnapshotRequest, halt: bool) -> Result<Snapshot> {
        let create = self.new_snapshot(request, halt);
        let outcome = self
            .connection
            .execute(&self.command(Action::CreateSnapshot(create)))?;
        Ok(Snapshot::new(
            &self.shared(),
            made_name(&outcome).expect("a snapshot that was made has a name"),
        ))
    }

    /// Makes a checkpoint from typed values, for embedders without XML.
    ///
    /// # Errors
    ///
    /// As [`checkpoint_create_xml`](Self::checkpoint_create_xml), but for flags and XML.
    pub fn create_checkpoint(&self, request: CheckpointRequest) -> Result<Checkpoint> {
        let create = self.new_checkpoint(request);
        let outcome = self
            .connection
            .execute(&self.command(Action::CreateCheckpoint(create)))?;
        Ok(Checkpoint::new(
            &self.shared(),
            made_name(&outcome).expect("a checkpoint that was made has a name"),
        ))
    }

    fn new_snapshot(&self, request: SnapshotRequest, halt: bool) -> CreateSnapshot {
        let SnapshotRequest {
            name,
            description,
            memory,
            disks,
        } = request;
        CreateSnapshot {
            name,
            description,
            now: self.second(),
            memory,
            disks,
            halt,
        }
    }

    fn new_checkpoint(&self, request: CheckpointRequest) -> CreateCheckpoint {
        let CheckpointRequest {
            name,
            description,
            disks,
        } = request;
        CreateCheckpoint {
            name,
            description,
            now: self.second(),
            disks,
        }
    }

    fn second(&self) -> i64 {
        self.connection.now().div_euclid(1_000_000)
    }

    /// Returns all snapshots that pass the filters. Follows `virDomainListAllSnapshots`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn list_all_snapshots(&self, flags: SnapshotListFlags) -> Result<Vec<Snapshot>> {
        self.list_all_snapshots_raw(flags.bits())
    }

    /// [`list_all_snapshots`](Self::list_all_snapshots) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_snapshots_raw(&self, flags: u32) -> Result<Vec<Snapshot>> {
        let listing = SnapshotListing::new(flags, "virDomainListAllSnapshots")?;
        let shared = self.shared();
        self.with(|domain| {
            let names = listing.of_domain(domain);
            Ok(names.map(|name| Snapshot::new(&shared, name)).collect())
        })
    }

    /// Number of snapshots that pass the filters. Follows `virDomainSnapshotNum`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn snapshot_num(&self, flags: SnapshotListFlags) -> Result<usize> {
        self.snapshot_num_raw(flags.bits())
    }

    /// [`snapshot_num`](Self::snapshot_num) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn snapshot_num_raw(&self, flags: u32) -> Result<usize> {
        let listing = SnapshotListing::new(flags, "virDomainSnapshotNum")?;
        self.with(|domain| Ok(listing.count_of_domain(domain)))
    }

    /// Names of the snapshots that pass the filters. Follows `virDomainSnapshotListNames`, with an array that is long
    /// enough.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn snapshot_list_names(&self, flags: SnapshotListFlags) -> Result<Vec<MomentName>> {
        self.snapshot_list_names_raw(flags.bits())
    }

    /// [`snapshot_list_names`](Self::snapshot_list_names) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn snapshot_list_names_raw(&self, flags: u32) -> Result<Vec<MomentName>> {
        let listing = SnapshotListing::new(flags, "virDomainSnapshotListNames")?;
        self.with(|domain| Ok(listing.of_domain(domain).collect()))
    }

    /// Returns the snapshot of this name. Follows `virDomainSnapshotLookupByName`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`].
    pub fn snapshot_lookup_by_name(&self, name: &str) -> Result<Snapshot> {
        self.snapshot_lookup_by_name_raw(name, 0)
    }

    /// [`snapshot_lookup_by_name`](Self::snapshot_lookup_by_name) with libvirt's bits, of which there are none.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for any bit.
    pub fn snapshot_lookup_by_name_raw(&self, name: &str, flags: u32) -> Result<Snapshot> {
        unsupported(flags, 0, "virDomainSnapshotLookupByName")?;
        self.with(|domain| match domain.snapshots().find(Some(name)) {
            Some(moment) => Ok(Snapshot::new(&self.shared(), moment.name.clone())),
            None => Err(no_moment(MomentKind::Snapshot, name)),
        })
    }

    /// Whether a snapshot is current. Follows `virDomainHasCurrentSnapshot`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn has_current_snapshot(&self) -> Result<bool> {
        self.has_current_snapshot_raw(0)
    }

    /// [`has_current_snapshot`](Self::has_current_snapshot) with libvirt's bits, of which there are none.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for any bit.
    pub fn has_current_snapshot_raw(&self, flags: u32) -> Result<bool> {
        unsupported(flags, 0, "virDomainHasCurrentSnapshot")?;
        self.with(|domain| Ok(domain.snapshots().current().is_some()))
    }

    /// Returns the current snapshot. Follows `virDomainSnapshotCurrent`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`] if none is current.
    pub fn snapshot_current(&self) -> Result<Snapshot> {
        self.snapshot_current_raw(0)
    }

    /// [`snapshot_current`](Self::snapshot_current) with libvirt's bits, of which there are none.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for any bit.
    pub fn snapshot_current_raw(&self, flags: u32) -> Result<Snapshot> {
        unsupported(flags, 0, "virDomainSnapshotCurrent")?;
        self.with(|domain| match domain.snapshots().current() {
            Some(moment) => Ok(Snapshot::new(&self.shared(), moment.name.clone())),
            None => {
                let detail = "the domain does not have a current snapshot";
                Err(Error::new(
                    ErrorCode::NoDomainSnapshot,
                    ErrorDomain::Test,
                    detail,
                ))
            }
        })
    }

    /// Returns all checkpoints that pass the filters. Follows `virDomainListAllCheckpoints`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn list_all_checkpoints(&self, flags: CheckpointListFlags) -> Result<Vec<Checkpoint>> {
        self.list_all_checkpoints_raw(flags.bits())
    }

    /// [`list_all_checkpoints`](Self::list_all_checkpoints) with libvirt's bits.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_checkpoints_raw(&self, flags: u32) -> Result<Vec<Checkpoint>> {
        let listing = CheckpointListing::new(flags, "virDomainListAllCheckpoints")?;
        let scope = if listing.wide {
            Scope::Roots
        } else {
            Scope::All
        };
        let shared = self.shared();
        self.with(|domain| {
            let found = domain.checkpoints().list(scope, listing.leaves, |_| true);
            Ok(found
                .map(|moment| Checkpoint::new(&shared, moment.name.clone()))
                .collect())
        })
    }

    /// Returns the checkpoint of this name. Follows `virDomainCheckpointLookupByName`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainCheckpoint`].
    pub fn checkpoint_lookup_by_name(&self, name: &str) -> Result<Checkpoint> {
        self.checkpoint_lookup_by_name_raw(name, 0)
    }

    /// [`checkpoint_lookup_by_name`](Self::checkpoint_lookup_by_name) with libvirt's bits, of which there are none.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for any bit.
    pub fn checkpoint_lookup_by_name_raw(&self, name: &str, flags: u32) -> Result<Checkpoint> {
        unsupported(flags, 0, "virDomainCheckpointLookupByName")?;
        self.with(|domain| match domain.checkpoints().find(Some(name)) {
            Some(moment) => Ok(Checkpoint::new(&self.shared(), moment.name.clone())),
            None => Err(no_moment(MomentKind::Checkpoint, name)),
        })
    }

    /// Returns a handle for a snapshot that may not be there; calls say so.
    pub fn snapshot_handle(&self, name: MomentName) -> Snapshot {
        Snapshot::new(&self.shared(), name)
    }

    /// Returns a handle for a checkpoint that may not be there; calls say so.
    pub fn checkpoint_handle(&self, name: MomentName) -> Checkpoint {
        Checkpoint::new(&self.shared(), name)
    }

    /// Calls `read` with the domain as it is now.
    pub(crate) fn with<T>(&self, read: impl FnOnce(&DomainState) -> Result<T>) -> Result<T> {
        let view = self.connection.read()?;
        read(self.of(&view)?)
    }

    fn of<'a>(&self, view: &'a View) -> Result<&'a DomainState> {
        view.domain(self.uuid)
            .map_err(|refusal| self.named(refusal))
    }

    /// Adds the name that the handle remembers to what is said of a domain that is gone, as libvirt does.
    fn named(&self, refusal: Refusal) -> Error {
        let gone = matches!(refusal, Refusal::NoDomain { .. });
        let mut error = Error::from(refusal);
        if gone {
            let message = format!("{} ({})", error.message(), self.name);
            error.set_message(&message);
        }
        error
    }

    /// Decides a command about this domain, whose content may depend on the domain as it is.
    pub(crate) fn decide(
        &self,
        asked: Option<[u8; 32]>,
        action: &mut dyn FnMut(&DomainState) -> Result<Action>,
    ) -> Result<Outcome> {
        self.connection
            .decide_as(self.uuid, asked, &mut |view| -> Result<Vec<Event>> {
                let action = action(self.of(view)?)?;
                view.state()
                    .decide(&self.command(action))
                    .map_err(|refusal| self.named(refusal))
            })
    }

    /// Decides a command whose content is known.
    pub(crate) fn act(&self, function: &str, flags: u32, action: &Action) -> Result<()> {
        let asked = self.asked(function, || [format!("{action:?}"), flags.to_string()]);
        self.decide(asked, &mut |_| Ok(action.clone())).map(|_| ())
    }

    fn command(&self, action: Action) -> Command {
        Command {
            domain: self.uuid,
            action,
        }
    }

    /// Returns the digest of a call about this domain, if a request id needs one.
    fn asked(&self, function: &str, parts: impl FnOnce() -> [String; 2]) -> Option<[u8; 32]> {
        self.connection.asked(|| {
            let [first, second] = parts();
            digest(function, &[&self.uuid.to_string(), &first, &second])
        })
    }

    pub(crate) fn deny_secrets(
        &self,
        secure: bool,
        function: &str,
        domain: ErrorDomain,
    ) -> Result<()> {
        if secure && self.connection.is_read_only() {
            let detail = format!("{function} with secure flag");
            return Err(Error::new(ErrorCode::OperationDenied, domain, detail));
        }
        Ok(())
    }

    /// The domain's run state, with the number of a running domain.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn power(&self) -> Result<Power> {
        self.with(|domain| Ok(domain.power()))
    }
}
