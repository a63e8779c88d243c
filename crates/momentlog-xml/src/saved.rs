//! A moment as a file of it says: either kind, with what libvirt adds to the files of its own.

use momentlog_core::{CheckpointDef, DomainUuid, Redefine, SnapshotDef};

use crate::checkpoint::read_checkpoint_redefine;
use crate::document::Source;
use crate::error::{DocumentKind, MomentRule, Rule, XmlError};
use crate::recent::RecentDomain;
use crate::snapshot::{Carry, read_snapshot_redefine};

/// A moment that was saved as XML.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SavedMoment {
    /// A snapshot.
    Snapshot {
        /// What it was.
        redefine: Redefine<SnapshotDef>,
        /// Whether it was current, if the file says so: those that libvirt keeps do, those that were dumped do not.
        active: Option<bool>,
    },
    /// A checkpoint.
    Checkpoint(Redefine<CheckpointDef>),
}

/// Reads the XML of a snapshot or a checkpoint, as libvirt dumps it or keeps it in its own directories. An embedded domain is
/// taken from `recent` if it is there, and kept there; one without a uuid gets one that `fresh` returns.
///
/// # Errors
///
/// [`XmlError`]: where, and the first rule that the text breaks.
pub fn read_saved_moment(
    xml: &str,
    carry: Carry,
    recent: &RecentDomain,
    fresh: impl FnMut() -> DomainUuid,
) -> Result<SavedMoment, XmlError> {
    let (is_snapshot, active) = look(xml, recent)?;
    if is_snapshot {
        let redefine = read_snapshot_redefine(xml, false, carry, recent, fresh)?;
        Ok(SavedMoment::Snapshot { redefine, active })
    } else {
        let redefine = read_checkpoint_redefine(xml, recent, fresh)?;
        Ok(SavedMoment::Checkpoint(redefine))
    }
}

/// Returns whether it is a snapshot, and whether it says that it is current.
fn look(xml: &str, recent: &RecentDomain) -> Result<(bool, Option<bool>), XmlError> {
    let source = Source {
        kind: DocumentKind::Snapshot,
        text: xml,
    };
    let document = source.parse_knowing(recent.get(false))?;
    let root = document.root();
    let found = if root.is_namespaced() {
        root.local_name()
    } else {
        root.name()
    };
    if found == DocumentKind::Checkpoint.root() {
        return Ok((false, None));
    }
    if found != DocumentKind::Snapshot.root() {
        let rule = Rule::Root {
            expected: "domainsnapshot' or 'domaincheckpoint",
            found: found.to_owned(),
        };
        return Err(source.error(root.offset(), rule));
    }
    let Some(element) = root.child("active") else {
        return Ok((true, None));
    };
    let text = element.text();
    let active = match text.trim_matches([' ', '\t', '\r', '\n']) {
        "0" => false,
        "1" => true,
        _ => {
            let rule = MomentRule::Active(text.into_owned());
            return Err(source.error(element.offset(), rule));
        }
    };
    Ok((true, Some(active)))
}
