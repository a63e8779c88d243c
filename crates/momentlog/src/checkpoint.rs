//! Checkpoint handles.
//!
//! Some calls of snapshots have no counterpart here, as in libvirt: num, list names, num children and list children
//! names were racy and have `list_all` in their place; current and is-current would only name the leaf of the chain;
//! has-metadata is always so; and a guest does not revert to a checkpoint: a backup is restored.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use momentlog_core::{
    Action, CheckpointDef, Domain as DomainState, Moment, MomentKind, MomentName, Refusal,
};
use momentlog_xml::{CheckpointView, write_checkpoint};

use crate::connection::Connection;
use crate::domain::Domain;
use crate::driver::Tracked;
use crate::error::{Error, ErrorCode, ErrorDomain, Result, no_moment};
use crate::flags::{CheckpointDeleteFlags, CheckpointListFlags, CheckpointXmlFlags};
use crate::listing::{CheckpointListing, below};
use crate::snapshot::extent;
use momentlog_engine::Call;

/// A checkpoint, by its domain and name. A clone is the same handle, and dropping it frees it.
///
/// The name is looked up at every call: a stale handle works again as soon as a checkpoint of that name exists.
/// Follows `virDomainCheckpointPtr`.
#[derive(Clone)]
pub struct Checkpoint {
    /// Shared by all handles of one listing.
    domain: Arc<Domain>,
    name: MomentName,
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoint")
            .field("domain", &self.domain.name())
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Checkpoint {
    pub(crate) fn new(domain: &Arc<Domain>, name: MomentName) -> Checkpoint {
        Checkpoint {
            domain: domain.clone(),
            name,
        }
    }

    /// The name. Follows `virDomainCheckpointGetName`.
    pub fn name(&self) -> &MomentName {
        &self.name
    }

    /// The domain. Follows `virDomainCheckpointGetDomain`.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The connection. Follows `virDomainCheckpointGetConnect`.
    pub fn connection(&self) -> &Connection {
        self.domain.connection()
    }

    /// The checkpoint's XML. Follows `virDomainCheckpointGetXMLDesc`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] for secrets on a read-only connection; [`ErrorCode::NoDomainCheckpoint`];
    /// [`ErrorCode::OperationInvalid`] for sizes of an inactive domain;
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn xml_desc(&self, flags: CheckpointXmlFlags) -> Result<String> {
        use CheckpointXmlFlags as Flags;
        const FUNCTION: &str = "virDomainCheckpointGetXMLDesc";
        let has = |flag: Flags| flags.contains(flag);
        self.domain
            .deny_secrets(has(Flags::SECURE), FUNCTION, ErrorDomain::DomainCheckpoint)?;
        flags.refuse_all_but(Flags::ALL, FUNCTION)?;
        let sizes = if has(Flags::SIZE) {
            self.measure()?
        } else {
            None
        };
        self.with(|domain, moment| {
            let parent = domain
                .checkpoints()
                .parent(moment.id)
                .map(|parent| parent.name);
            let view = CheckpointView {
                name: moment.name,
                parent,
                created: moment.created,
                def: moment.def,
                sizes: sizes.as_ref(),
            };
            Ok(write_checkpoint(
                view,
                !has(Flags::NO_DOMAIN),
                has(Flags::SECURE),
            ))
        })
    }

    /// Bytes of each disk that were written since, by target, as the hypervisor of an attached domain tells.
    fn measure(&self) -> Result<Option<BTreeMap<Arc<str>, u64>>> {
        let tracked = self.with(|domain, moment| {
            if !domain.power().is_active() {
                return Err(Refusal::Inactive.into());
            }
            Ok(Tracked::of(moment.name, moment.def))
        })?;
        self.domain.measure(&tracked)
    }

    /// Returns the parent; none if the checkpoint is a root.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainCheckpoint`] if the checkpoint is gone.
    pub fn parent(&self) -> Result<Option<Checkpoint>> {
        self.with(|domain, moment| {
            let parent = domain.checkpoints().parent(moment.id);
            Ok(parent.map(|parent| Checkpoint::new(&self.domain, parent.name.clone())))
        })
    }

    /// As [`parent`](Self::parent), with libvirt's error for a root. Follows `virDomainCheckpointGetParent`.
    pub(crate) fn parent_unless_root(&self) -> Result<Checkpoint> {
        self.parent()?.ok_or_else(|| {
            let detail = format!("checkpoint '{}' does not have a parent", self.name);
            let error = Error::new(ErrorCode::NoDomainCheckpoint, ErrorDomain::Test, detail);
            self.connection().told(error)
        })
    }

    /// Returns the children that pass the filters, or everything below. Follows `virDomainCheckpointListAllChildren`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainCheckpoint`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn list_all_children(&self, flags: CheckpointListFlags) -> Result<Vec<Checkpoint>> {
        let listing = CheckpointListing::new(flags, "virDomainCheckpointListAllChildren")?;
        self.with(|domain, moment| {
            let scope = below(listing.wide, moment.id);
            let found = domain.checkpoints().list(scope, listing.leaves, |_| true);
            Ok(found
                .map(|child| Checkpoint::new(&self.domain, child.name.clone()))
                .collect())
        })
    }

    /// Deletes the checkpoint, its children or both. Follows `virDomainCheckpointDelete`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainCheckpoint`];
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing or exclude each other.
    pub fn delete(&self, flags: CheckpointDeleteFlags) -> Result<()> {
        use CheckpointDeleteFlags as Flags;
        const FUNCTION: &str = "virDomainCheckpointDelete";
        self.connection()
            .deny_read_only(FUNCTION, ErrorDomain::DomainCheckpoint)?;
        let extent = extent(
            flags.bits(),
            "VIR_DOMAIN_CHECKPOINT_DELETE_",
            ErrorDomain::DomainCheckpoint,
        )?;
        flags.refuse_all_but(Flags::ALL, FUNCTION)?;
        let action = Action::Delete {
            kind: MomentKind::Checkpoint,
            name: self.name.clone(),
            extent,
        };
        self.domain
            .act((Call::CHECKPOINT_DELETE, flags.bits()), &action)
    }

    fn with<T>(
        &self,
        read: impl FnOnce(&DomainState, Moment<'_, CheckpointDef>) -> Result<T>,
    ) -> Result<T> {
        self.domain.with(
            |domain| match domain.checkpoints().find(self.name.as_str()) {
                Some(moment) => read(domain, moment),
                None => Err(no_moment(MomentKind::Checkpoint, self.name.as_str())),
            },
        )
    }
}
