//! The calls of a domain that make, list and find its moments.

use momentlog_core::{
    Action, CreateCheckpoint, CreateSnapshot, MomentKind, MomentName, Redefine, SnapshotState,
};
use momentlog_xml::{
    CheckpointRequest, SnapshotRequest, XmlError, read_checkpoint, read_checkpoint_redefine,
    read_snapshot, read_snapshot_redefine,
};

use super::Domain;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, ErrorCode, ErrorDomain, Result, exclusive, no_moment, required};
use crate::flags::{
    CheckpointCreateFlags, CheckpointListFlags, SnapshotCreateFlags, SnapshotListFlags,
};
use crate::listing::{CheckpointListing, SnapshotListing, within};
use crate::snapshot::Snapshot;
use momentlog_engine::{Call, Outcome, Request};

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

/// Returns the name of the moment that was made, or else of the one that was redefined.
fn name_of(outcome: &Outcome, redefined: Option<MomentName>) -> MomentName {
    let made = outcome.created().cloned();
    made.or(redefined)
        .expect("a moment that was recorded has a name")
}

impl Domain {
    /// Makes a snapshot, or with REDEFINE puts its record back. Follows `virDomainSnapshotCreateXML`.
    ///
    /// # Errors
    ///
    /// In libvirt's order: read-only, flags, domain, policy, XML, parent, uuid, state, disks, name.
    pub fn snapshot_create_xml(&self, xml: &str, flags: SnapshotCreateFlags) -> Result<Snapshot> {
        use SnapshotCreateFlags as Flags;
        const FUNCTION: &str = "virDomainSnapshotCreateXML";
        const PREFIX: &str = "VIR_DOMAIN_SNAPSHOT_CREATE_";
        let domain = ErrorDomain::DomainSnapshot;
        let has = |flag: Flags| flags.contains(flag);
        self.connection.deny_read_only(FUNCTION, domain)?;
        if has(Flags::CURRENT) && !has(Flags::REDEFINE) {
            return Err(required(domain, PREFIX, "REDEFINE", "CURRENT"));
        }
        for (flag, name) in [(Flags::NO_METADATA, "NO_METADATA"), (Flags::HALT, "HALT")] {
            if has(Flags::REDEFINE) && has(flag) {
                return Err(exclusive(domain, PREFIX, "REDEFINE", name));
            }
        }
        let facts = self.connection.facts();
        facts.vet_snapshot_create(flags, FUNCTION)?;
        let validate = has(Flags::VALIDATE);
        // Read before it is this thread's turn; what is wrong with it comes after what is wrong with the domain.
        let read = self.connection.read_xml(|recent, fresh| {
            Ok::<_, XmlError>(if has(Flags::REDEFINE) {
                let mut redefine =
                    read_snapshot_redefine(xml, validate, facts.carry, recent, fresh)?;
                redefine.current = has(Flags::CURRENT);
                Read::Redefine(redefine)
            } else {
                Read::Create(read_snapshot(xml, validate, facts.carry)?)
            })
        })?;
        let call = (Call::SNAPSHOT_CREATE_XML, flags.bits());
        let request = self.request(call, &[xml]);
        let outcome = self.carry_out(call, request, &mut |domain| {
            domain.admits(MomentKind::Snapshot)?;
            if has(Flags::HALT) {
                domain.admits_halt()?;
            }
            match read.clone()? {
                Read::Redefine(redefine) => {
                    facts.vet_snapshot_name(Some(&redefine.name))?;
                    let disk_snapshot = redefine.def.state == SnapshotState::DiskSnapshot;
                    if has(Flags::DISK_ONLY) && !disk_snapshot {
                        return Err(Error::new(
                            ErrorCode::InvalidArg,
                            ErrorDomain::DomainSnapshot,
                            format!(
                                "disk-only flag for snapshot {} requires disk-snapshot state",
                                redefine.name
                            ),
                        ));
                    }
                    Ok(Action::RedefineSnapshot(redefine))
                }
                Read::Create(request) => {
                    let SnapshotRequest { name, memory, .. } = &request;
                    facts.vet_new_snapshot(domain, name.as_ref(), memory.as_ref(), flags)?;
                    Ok(Action::CreateSnapshot(self.new_snapshot(request, flags)))
                }
            }
        })?;
        let redefined = read.ok().and_then(Read::into_name);
        Ok(self.snapshot_handle(name_of(&outcome, redefined)))
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
        use CheckpointCreateFlags as Flags;
        const FUNCTION: &str = "virDomainCheckpointCreateXML";
        const PREFIX: &str = "VIR_DOMAIN_CHECKPOINT_CREATE_";
        let domain = ErrorDomain::DomainCheckpoint;
        let has = |flag: Flags| flags.contains(flag);
        self.connection.deny_read_only(FUNCTION, domain)?;
        if has(Flags::REDEFINE) && has(Flags::QUIESCE) {
            return Err(exclusive(domain, PREFIX, "REDEFINE", "QUIESCE"));
        }
        if has(Flags::REDEFINE_VALIDATE) && !has(Flags::REDEFINE) {
            return Err(required(domain, PREFIX, "REDEFINE", "REDEFINE_VALIDATE"));
        }
        let facts = self.connection.facts();
        flags.refuse_all_but(facts.checkpoint_create, FUNCTION)?;
        let read = self.connection.read_xml(|recent, fresh| {
            Ok::<_, XmlError>(if has(Flags::REDEFINE) {
                Read::Redefine(read_checkpoint_redefine(xml, recent, fresh)?)
            } else {
                Read::Create(read_checkpoint(xml)?)
            })
        })?;
        let call = (Call::CHECKPOINT_CREATE_XML, flags.bits());
        let request = self.request(call, &[xml]);
        let outcome = self.carry_out(call, request, &mut |domain| {
            domain.admits(MomentKind::Checkpoint)?;
            Ok(match read.clone()? {
                Read::Redefine(redefine) => Action::RedefineCheckpoint(redefine),
                Read::Create(request) => {
                    // Of an attached domain, the images themselves are looked at.
                    if domain.attachment().is_none() {
                        facts.vet_new_checkpoint(domain, &request.disks)?;
                    }
                    Action::CreateCheckpoint(self.new_checkpoint(request))
                }
            })
        })?;
        let redefined = read.ok().and_then(Read::into_name);
        Ok(self.checkpoint_handle(name_of(&outcome, redefined)))
    }

    /// Makes a snapshot from typed values, for embedders without XML.
    ///
    /// # Errors
    ///
    /// As [`snapshot_create_xml`](Self::snapshot_create_xml), but for XML; what concerns XML (REDEFINE, CURRENT, VALIDATE)
    /// has no effect.
    pub fn create_snapshot(
        &self,
        request: SnapshotRequest,
        flags: SnapshotCreateFlags,
    ) -> Result<Snapshot> {
        const FUNCTION: &str = "virDomainSnapshotCreateXML";
        let facts = self.connection.facts();
        facts.vet_snapshot_create(flags, FUNCTION)?;
        self.with(|domain| {
            let SnapshotRequest { name, memory, .. } = &request;
            facts.vet_new_snapshot(domain, name.as_ref(), memory.as_ref(), flags)
        })?;
        let create = self.new_snapshot(request, flags);
        let call = (Call::EXECUTE, flags.bits());
        let outcome = self.execute_typed(call, &Action::CreateSnapshot(create))?;
        Ok(self.snapshot_handle(name_of(&outcome, None)))
    }

    /// Makes a checkpoint from typed values, for embedders without XML.
    ///
    /// # Errors
    ///
    /// As [`checkpoint_create_xml`](Self::checkpoint_create_xml), but for flags and XML.
    pub fn create_checkpoint(&self, request: CheckpointRequest) -> Result<Checkpoint> {
        let facts = self.connection.facts();
        self.with(|domain| {
            // Of an attached domain, the images themselves are looked at.
            match domain.attachment() {
                None => facts.vet_new_checkpoint(domain, &request.disks),
                Some(_) => Ok(()),
            }
        })?;
        let create = self.new_checkpoint(request);
        let outcome = self.execute_typed((Call::EXECUTE, 0), &Action::CreateCheckpoint(create))?;
        Ok(self.checkpoint_handle(name_of(&outcome, None)))
    }

    /// Executes a typed command about this domain; what it does to the hypervisor of an attached domain is done, too.
    fn execute_typed(&self, call: (Call, u32), action: &Action) -> Result<Outcome> {
        let command = self.command(action.clone());
        if self.guest_if_there()?.is_none() {
            let done = self.connection.execute_as(call, &command);
            // Another process may have attached it, which the decision has found.
            if done.is_ok() || self.guest_if_there()?.is_none() {
                return done;
            }
        }
        self.connection
            .deny_read_only("execute", ErrorDomain::Domain)?;
        let request = Request::of_command(self.connection.provenance(), call, &command);
        self.carry_out(call, request, &mut |_| Ok(action.clone()))
    }

    fn new_snapshot(&self, request: SnapshotRequest, flags: SnapshotCreateFlags) -> CreateSnapshot {
        let SnapshotRequest {
            name,
            description,
            memory,
            disks,
            extra,
        } = request;
        CreateSnapshot {
            name,
            description,
            now: self.second(),
            memory,
            disks,
            extra,
            disk_only: flags.contains(SnapshotCreateFlags::DISK_ONLY),
            halt: flags.contains(SnapshotCreateFlags::HALT),
        }
    }

    pub(super) fn new_checkpoint(&self, request: CheckpointRequest) -> CreateCheckpoint {
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

    pub(super) fn second(&self) -> i64 {
        self.connection.now().div_euclid(1_000_000)
    }

    /// Returns all snapshots that pass the filters. Follows `virDomainListAllSnapshots`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_snapshots(&self, flags: SnapshotListFlags) -> Result<Vec<Snapshot>> {
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
    /// [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn snapshot_num(&self, flags: SnapshotListFlags) -> Result<usize> {
        let listing = SnapshotListing::new(flags, "virDomainSnapshotNum")?;
        self.with(|domain| Ok(listing.count_of_domain(domain)))
    }

    /// Names of the snapshots that pass the filters. Follows `virDomainSnapshotListNames`, with an array that is long
    /// enough.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn snapshot_list_names(&self, flags: SnapshotListFlags) -> Result<Vec<MomentName>> {
        let listing = SnapshotListing::new(flags, "virDomainSnapshotListNames")?;
        self.with(|domain| Ok(listing.of_domain(domain).collect()))
    }

    /// Returns the snapshot of this name. Follows `virDomainSnapshotLookupByName`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`].
    pub fn snapshot_lookup_by_name(&self, name: &str) -> Result<Snapshot> {
        let found = self.find(|domain| {
            let moment = domain.snapshots().find(name)?;
            Some(Snapshot::new(&self.shared(), moment.name.clone()))
        })?;
        match found {
            Some(found) => Ok(found),
            None => Ok(self.snapshot_handle(self.archived(MomentKind::Snapshot, name)?)),
        }
    }

    /// Whether a snapshot is current. Follows `virDomainHasCurrentSnapshot`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn has_current_snapshot(&self) -> Result<bool> {
        self.with(|domain| Ok(domain.snapshots().current().is_some()))
    }

    /// Returns the current snapshot. Follows `virDomainSnapshotCurrent`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`] if none is current.
    pub fn snapshot_current(&self) -> Result<Snapshot> {
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
    /// [`ErrorCode::NoDomain`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_checkpoints(&self, flags: CheckpointListFlags) -> Result<Vec<Checkpoint>> {
        let listing = CheckpointListing::new(flags, "virDomainListAllCheckpoints")?;
        let scope = within(listing.wide);
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
        let found = self.find(|domain| {
            let moment = domain.checkpoints().find(name)?;
            Some(Checkpoint::new(&self.shared(), moment.name.clone()))
        })?;
        match found {
            Some(found) => Ok(found),
            None => Ok(self.checkpoint_handle(self.archived(MomentKind::Checkpoint, name)?)),
        }
    }

    /// Returns the name of a moment that an archived record of this request may have removed.
    fn archived(&self, kind: MomentKind, name: &str) -> Result<MomentName> {
        let archived = self.connection.archived_request()?;
        archived
            .filter(|uuid| *uuid == self.uuid)
            .and_then(|_| MomentName::new(name))
            .ok_or_else(|| self.connection.told(no_moment(kind, name)))
    }

    /// Returns a handle for a snapshot that may not be there; calls say so.
    pub fn snapshot_handle(&self, name: MomentName) -> Snapshot {
        Snapshot::new(&self.shared(), name)
    }

    /// Returns a handle for a checkpoint that may not be there; calls say so.
    pub fn checkpoint_handle(&self, name: MomentName) -> Checkpoint {
        Checkpoint::new(&self.shared(), name)
    }
}
