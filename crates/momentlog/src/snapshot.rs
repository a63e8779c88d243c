//! Snapshot handles.

use std::fmt;
use std::sync::Arc;

use momentlog_core::{
    Action, Domain as DomainState, Extent, Moment, MomentKind, MomentName, Resume, SnapshotDef,
};
use momentlog_xml::{SnapshotView, write_snapshot};

use crate::connection::Connection;
use crate::domain::Domain;
use crate::error::{Error, ErrorCode, ErrorDomain, Result, exclusive, no_moment};
use crate::flags::{RevertFlags, SnapshotDeleteFlags, SnapshotListFlags, SnapshotXmlFlags};
use crate::listing::{SnapshotListing, below};
use momentlog_engine::Call;

/// A snapshot, by its domain and name. A clone is the same handle, and dropping it frees it.
///
/// The name is looked up at every call: a stale handle works again as soon as a snapshot of that name exists.
/// Follows `virDomainSnapshotPtr`.
#[derive(Clone)]
pub struct Snapshot {
    /// Shared by all handles of one listing.
    domain: Arc<Domain>,
    name: MomentName,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("domain", &self.domain.name())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    pub(crate) fn new(domain: &Arc<Domain>, name: MomentName) -> Snapshot {
        Snapshot {
            domain: domain.clone(),
            name,
        }
    }

    /// The name. Follows `virDomainSnapshotGetName`.
    pub fn name(&self) -> &MomentName {
        &self.name
    }

    /// The domain. Follows `virDomainSnapshotGetDomain`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The connection. Follows `virDomainSnapshotGetConnect`.
    pub fn connection(&self) -> &Connection {
        self.domain.connection()
    }

    /// The snapshot's XML. Follows `virDomainSnapshotGetXMLDesc`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] for secrets on a read-only connection; [`ErrorCode::NoDomainSnapshot`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn xml_desc(&self, flags: SnapshotXmlFlags) -> Result<String> {
        const FUNCTION: &str = "virDomainSnapshotGetXMLDesc";
        let secure = flags.contains(SnapshotXmlFlags::SECURE);
        self.domain
            .deny_secrets(secure, FUNCTION, ErrorDomain::DomainSnapshot)?;
        flags.refuse_all_but(SnapshotXmlFlags::ALL, FUNCTION)?;
        self.with(|domain, moment| {
            let parent = domain
                .snapshots()
                .parent(moment.id)
                .map(|parent| parent.name);
            let view = SnapshotView {
                name: moment.name,
                parent,
                created: moment.created,
                def: moment.def,
                domain: domain.uuid(),
            };
            Ok(write_snapshot(view, secure))
        })
    }

    /// Returns the parent; none if the snapshot is a root.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`] if the snapshot is gone.
    pub fn parent(&self) -> Result<Option<Snapshot>> {
        self.with(|domain, moment| {
            let parent = domain.snapshots().parent(moment.id);
            Ok(parent.map(|parent| Snapshot::new(&self.domain, parent.name.clone())))
        })
    }

    /// As [`parent`](Self::parent), with libvirt's error for a root. Follows `virDomainSnapshotGetParent`.
    pub(crate) fn parent_unless_root(&self) -> Result<Snapshot> {
        self.parent()?.ok_or_else(|| {
            let detail = format!("snapshot '{}' does not have a parent", self.name);
            Error::new(ErrorCode::NoDomainSnapshot, ErrorDomain::Test, detail)
        })
    }

    /// Whether the snapshot is current. Follows `virDomainSnapshotIsCurrent`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`].
    pub fn is_current(&self) -> Result<bool> {
        self.with(|domain, moment| Ok(domain.snapshots().current_id() == Some(moment.id)))
    }

    /// Whether the snapshot has metadata: always, if it exists. Follows `virDomainSnapshotHasMetadata`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`].
    pub fn has_metadata(&self) -> Result<bool> {
        self.with(|_, _| Ok(true))
    }

    /// Returns the children that pass the filters, or everything below. Follows `virDomainSnapshotListAllChildren`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_children(&self, flags: SnapshotListFlags) -> Result<Vec<Snapshot>> {
        let names = self.children(flags, "virDomainSnapshotListAllChildren")?;
        Ok(names
            .into_iter()
            .map(|name| Snapshot::new(&self.domain, name))
            .collect())
    }

    /// Number of children that pass the filters, or of everything below. Follows `virDomainSnapshotNumChildren`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn num_children(&self, flags: SnapshotListFlags) -> Result<usize> {
        let listing = SnapshotListing::new(flags, "virDomainSnapshotNumChildren")?;
        self.with(|domain, moment| {
            let scope = below(listing.wide, moment.id);
            Ok(listing.count_of_scope(domain, scope))
        })
    }

    /// Names of the children that pass the filters, or of everything below. Follows
    /// `virDomainSnapshotListChildrenNames`, with an array that is long enough.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_children_names(&self, flags: SnapshotListFlags) -> Result<Vec<MomentName>> {
        self.children(flags, "virDomainSnapshotListChildrenNames")
    }

    fn children(&self, flags: SnapshotListFlags, function: &str) -> Result<Vec<MomentName>> {
        let listing = SnapshotListing::new(flags, function)?;
        self.with(|domain, moment| {
            let scope = below(listing.wide, moment.id);
            Ok(listing.of_scope(domain, scope).collect())
        })
    }

    /// Goes back to the snapshot. Follows `virDomainRevertToSnapshot`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`]; [`ErrorCode::OperationInvalid`] if a transient domain would be left off;
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing or exclude each other.
    pub fn revert(&self, flags: RevertFlags) -> Result<()> {
        use RevertFlags as Flags;
        const FUNCTION: &str = "virDomainRevertToSnapshot";
        const PREFIX: &str = "VIR_DOMAIN_SNAPSHOT_REVERT_";
        let has = |flag: Flags| flags.contains(flag);
        self.connection()
            .deny_read_only(FUNCTION, ErrorDomain::DomainSnapshot)?;
        if has(Flags::RUNNING) && has(Flags::PAUSED) {
            return Err(exclusive(
                ErrorDomain::DomainSnapshot,
                PREFIX,
                "RUNNING",
                "PAUSED",
            ));
        }
        flags.refuse_all_but(self.connection().facts().revert, FUNCTION)?;
        let resume = match (has(Flags::RUNNING), has(Flags::PAUSED)) {
            (true, _) => Some(Resume::Running),
            (_, true) => Some(Resume::Paused),
            _ => None,
        };
        self.domain.act(
            (Call::REVERT_TO_SNAPSHOT, flags.bits()),
            &Action::Revert {
                name: self.name.clone(),
                resume,
            },
        )
    }

    /// Deletes the snapshot, its children or both. Follows `virDomainSnapshotDelete`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainSnapshot`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing or exclude each other.
    pub fn delete(&self, flags: SnapshotDeleteFlags) -> Result<()> {
        const FUNCTION: &str = "virDomainSnapshotDelete";
        const PREFIX: &str = "VIR_DOMAIN_SNAPSHOT_DELETE_";
        self.connection()
            .deny_read_only(FUNCTION, ErrorDomain::DomainSnapshot)?;
        let extent = extent(flags.bits(), PREFIX, ErrorDomain::DomainSnapshot)?;
        let known = self.connection().facts().snapshot_delete;
        flags.refuse_all_but(known, FUNCTION)?;
        let action = Action::Delete {
            kind: MomentKind::Snapshot,
            name: self.name.clone(),
            extent,
        };
        self.domain
            .act((Call::SNAPSHOT_DELETE, flags.bits()), &action)
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&DomainState, Moment<'_, SnapshotDef>) -> Result<T>,
    ) -> Result<T> {
        self.domain
            .with(|domain| match domain.snapshots().find(self.name.as_str()) {
                Some(moment) => read(domain, moment),
                None => Err(no_moment(MomentKind::Snapshot, self.name.as_str())),
            })
    }
}

/// Returns how much a delete takes. The bits are the same for both kinds.
pub(crate) fn extent(flags: u32, prefix: &str, domain: ErrorDomain) -> Result<Extent> {
    let flags = SnapshotDeleteFlags::from_bits_retain(flags);
    let children = flags.contains(SnapshotDeleteFlags::CHILDREN);
    let only = flags.contains(SnapshotDeleteFlags::CHILDREN_ONLY);
    match (children, only) {
        (true, true) => Err(exclusive(domain, prefix, "CHILDREN", "CHILDREN_ONLY")),
        (true, false) => Ok(Extent::Subtree),
        (false, true) => Ok(Extent::ChildrenOnly),
        (false, false) => Ok(Extent::One),
    }
}
