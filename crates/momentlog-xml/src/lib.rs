//! libvirt's XML of domains, snapshots, checkpoints and backups, to and from the types of `momentlog-core`.
//!
//! Input is untrusted: its size, depth, elements and attributes are bounded, a document type is refused, and every error
//! says where it is and which rule is broken. Output is byte for byte what libvirt 9.0.0 writes, but for the embedded
//! `<domain>`: that is kept as one canonical text, so that dump, redefine, dump is a fixed point.
//!
//! ```
//! use momentlog_core::{CheckpointDef, MomentName};
//! use momentlog_xml::{CheckpointView, read_checkpoint, write_checkpoint};
//!
//! let request = read_checkpoint("<domaincheckpoint><name>nightly</name></domaincheckpoint>")?;
//! let def = CheckpointDef { description: None, disks: request.disks, domain: None };
//! let name = request.name.unwrap();
//! let view = CheckpointView { name: &name, parent: None, created: 1_700_000_000, def: &def, sizes: None };
//! let xml = write_checkpoint(view, true, false);
//! assert!(xml.contains("  <creationTime>1700000000</creationTime>\n"));
//!
//! let error = read_checkpoint("<domaincheckpoint>\n  <bogus/>\n</domaincheckpoint>").unwrap_err();
//! assert_eq!((error.position.line, error.position.column), (2, 3));
//! # Ok::<(), momentlog_xml::XmlError>(())
//! ```
//!
//! The pages in `docs/` of the repository say more: `architecture.md`, `format.md`, `durability.md`, and `glossary.md` for
//! the words.

mod backup;
mod checkpoint;
mod disk_list;
mod disk_source;
mod document;
mod domain;
mod error;
mod excerpt;
mod limits;
mod metadata;
mod namespaces;
mod recent;
mod saved;
mod schema;
mod snapshot;
mod write;

pub use backup::{read_backup, write_backup};
pub use checkpoint::{
    CheckpointRequest, CheckpointView, read_checkpoint, read_checkpoint_redefine,
    read_checkpoint_sizes, write_checkpoint,
};
pub use disk_list::{GuestFacts, disk_details, guest_facts};
pub use domain::{DISKS_MAX, read_domain, rename_domain, write_domain};
pub use error::{
    BackupRule, DocumentKind, DomainRule, MomentRule, Position, Rule, SourceRule, XmlError,
};
pub use limits::{
    XML_AROUND_LEN_MAX, XML_ATTRIBUTES_MAX, XML_DEPTH_MAX, XML_ELEMENTS_MAX, XML_LEN_MAX,
    XML_MOMENT_LEN_MAX, backup_fits, checkpoint_fits, names_fit, snapshot_fits,
};
pub use metadata::{
    MetadataChange, domain_description, domain_metadata, domain_title, set_domain_metadata,
};
pub use recent::RecentDomain;
pub use saved::{SavedMoment, read_saved_moment};
pub use snapshot::{
    Carry, SnapshotRequest, SnapshotView, read_snapshot, read_snapshot_redefine, write_snapshot,
};
