//! Reading events: one table of what this version knows.
//!
//! Each kind of event has versions of its body of its own. A new version of a body is a new row below the older ones of
//! its kind, and the older ones stay: their function then reads the old body and makes what it means today of it, which
//! is the place of an upcaster. Events are written in the last version of their kind.

use std::sync::Arc;

use momentlog_core::{Change, MomentChange, MomentId, MomentName};
use momentlog_store::Seq;

use super::body::{self, decode_body, decode_first};
use super::{DecodeError, Dictionary, at, job, kind, split, u16_at, u32_at, u64_at};

/// One event as it is stored, without its kind and version.
pub(super) struct Stored<'a> {
    seq: Seq,
    /// Whether the record has no texts, so that bytes mean the same as in any other.
    plain: bool,
    id: Option<MomentId>,
    parent: Option<MomentId>,
    body: &'a [u8],
}

type Read = fn(&mut Dictionary, &Stored<'_>) -> Result<Change, DecodeError>;

/// Which ids stand in the fixed part of an event; the others are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    None,
    Moment,
    /// The moment, and its parent if it has one.
    Both,
    /// The current moment, if there is one.
    Current,
}

/// Kind, version of the body, ids, and how it is read; by kind and version.
const EVENTS: &[(u16, u16, Ids, Read)] = &[
    (
        kind::DOMAIN_DEFINED,
        1,
        Ids::None,
        Dictionary::domain_defined,
    ),
    (kind::STATE_CHANGED, 1, Ids::None, |_, event| {
        Ok(Change::StateChanged(body::decode_power(event.body)?))
    }),
    (kind::MADE_TRANSIENT, 1, Ids::None, |_, event| {
        event.empty(Change::MadeTransient)
    }),
    (kind::DOMAIN_REMOVED, 1, Ids::None, |_, event| {
        event.empty(Change::DomainRemoved)
    }),
    (kind::POLICY_SET, 1, Ids::None, |_, event| {
        Ok(Change::PolicySet(body::decode_policy(event.body)?))
    }),
    (kind::DOMAIN_RENAMED, 1, Ids::None, |dictionary, event| {
        let stored: body::Domain<'_> = decode_body(event.body, "domain")?;
        let def = dictionary.domain(event.seq, stored)?;
        Ok(Change::DomainRenamed(def))
    }),
    (kind::AUTOSTART_SET, 1, Ids::None, |_, event| {
        Ok(Change::AutostartSet(decode_body(event.body, "autostart")?))
    }),
    (kind::SNAPSHOT_CREATED, 1, Ids::Both, |dictionary, event| {
        event
            .created(|bytes| dictionary.recent_snapshot(event.seq, event.plain, bytes))
            .map(Change::Snapshot)
    }),
    (
        kind::SNAPSHOT_REDEFINED,
        1,
        Ids::Both,
        |dictionary, event| {
            event
                .redefined(|bytes| dictionary.recent_snapshot(event.seq, event.plain, bytes))
                .map(Change::Snapshot)
        },
    ),
    (kind::SNAPSHOT_DELETED, 1, Ids::Moment, |_, event| {
        event.deleted().map(Change::Snapshot)
    }),
    (kind::SNAPSHOT_REPARENTED, 1, Ids::Both, |_, event| {
        event.reparented().map(Change::Snapshot)
    }),
    (kind::CURRENT_SNAPSHOT_SET, 1, Ids::Current, |_, event| {
        event.current_set().map(Change::Snapshot)
    }),
    (kind::REVERTED, 1, Ids::Moment, |_, event| {
        Ok(Change::Reverted {
            id: event.moment()?,
            power: body::decode_power(event.body)?,
        })
    }),
    (
        kind::CHECKPOINT_CREATED,
        1,
        Ids::Both,
        |dictionary, event| {
            event
                .created(|bytes| dictionary.recent_checkpoint(event.seq, event.plain, bytes))
                .map(Change::Checkpoint)
        },
    ),
    (
        kind::CHECKPOINT_REDEFINED,
        1,
        Ids::Both,
        |dictionary, event| {
            event
                .redefined(|bytes| dictionary.recent_checkpoint(event.seq, event.plain, bytes))
                .map(Change::Checkpoint)
        },
    ),
    (kind::CHECKPOINT_DELETED, 1, Ids::Moment, |_, event| {
        event.deleted().map(Change::Checkpoint)
    }),
    (kind::CHECKPOINT_REPARENTED, 1, Ids::Both, |_, event| {
        event.reparented().map(Change::Checkpoint)
    }),
    (kind::CURRENT_CHECKPOINT_SET, 1, Ids::Current, |_, event| {
        event.current_set().map(Change::Checkpoint)
    }),
    (kind::JOB_BEGUN, 1, Ids::None, |dictionary, event| {
        let (id, job) = dictionary.job(event.seq, decode_body(event.body, "job")?)?;
        let job = Arc::new(job);
        Ok(Change::JobBegun { id, job })
    }),
    (kind::JOB_ENDED, 1, Ids::None, |dictionary, event| {
        let outcome = dictionary.decode_outcome(event.seq, event.body)?;
        Ok(Change::JobEnded(outcome))
    }),
    (kind::JOB_FAILED, 1, Ids::None, |dictionary, event| {
        let outcome = dictionary.decode_outcome(event.seq, event.body)?;
        Ok(Change::JobFailed(outcome))
    }),
    (kind::HYPERVISOR_ATTACHED, 1, Ids::None, |_, event| {
        let attachment = job::decode_attached(event.body)?;
        Ok(Change::HypervisorAttached(attachment.into()))
    }),
    (kind::HYPERVISOR_DETACHED, 1, Ids::None, |_, event| {
        event.empty(Change::HypervisorDetached)
    }),
    (kind::CHECKPOINT_SEEN, 1, Ids::Moment, |_, event| {
        job::decode_seen(event.moment()?, event.body)
    }),
    (kind::HOLD_ADDED, 1, Ids::Moment, |_, event| {
        job::decode_hold_added(event.moment()?, event.body)
    }),
    (kind::HOLD_REMOVED, 1, Ids::Moment, |_, event| {
        job::decode_hold_removed(event.moment()?, event.body)
    }),
    (kind::SETTINGS_SET, 1, Ids::None, |_, event| {
        Ok(Change::SettingsSet(job::decode_settings(event.body)?))
    }),
];

/// The kinds of events, ascending.
#[cfg(test)]
pub(super) fn kinds() -> impl Iterator<Item = u16> {
    let mut kinds: Vec<u16> = EVENTS.iter().map(|(kind, ..)| *kind).collect();
    kinds.dedup();
    kinds.into_iter()
}

/// The version in which a kind of event is written.
pub(super) fn version_of(kind: u16) -> u16 {
    let after = EVENTS.partition_point(|(known, ..)| *known <= kind);
    let (_, version, ..) = EVENTS[after - 1];
    version
}

impl Dictionary {
    /// Reads the event at the front of `bytes`.
    pub(super) fn decode_event<'a>(
        &mut self,
        seq: Seq,
        plain: bool,
        bytes: &'a [u8],
    ) -> Result<(Change, &'a [u8]), DecodeError> {
        let head = bytes
            .get(..at::EVENT_LEN)
            .ok_or(DecodeError::Length("head of an event"))?;
        let kind = u16_at(head, at::EVENT_KIND);
        let version = u16_at(head, at::EVENT_VERSION);
        let length = u32_at(head, at::EVENT_BODY_LEN);
        let (body, rest) = split(&bytes[at::EVENT_LEN..], length, "event")?;
        if u32_at(head, at::EVENT_ZERO) != 0 {
            return Err(DecodeError::Length("head of an event"));
        }
        let found =
            EVENTS.binary_search_by_key(&(kind, version), |(kind, version, ..)| (*kind, *version));
        let (_, _, ids, read) =
            EVENTS[found.map_err(|_| DecodeError::EventKind { kind, version })?];
        let stored = Stored {
            seq,
            plain,
            id: MomentId::new(u64_at(head, at::EVENT_MOMENT)),
            parent: MomentId::new(u64_at(head, at::EVENT_PARENT)),
            body,
        };
        let (has_moment, has_parent) = (stored.id.is_some(), stored.parent.is_some());
        let fits = match ids {
            Ids::None => !has_moment && !has_parent,
            Ids::Moment => has_moment && !has_parent,
            Ids::Both => has_moment,
            Ids::Current => !has_moment,
        };
        if !fits {
            return Err(DecodeError::Ids { kind });
        }
        Ok((read(self, &stored)?, rest))
    }

    fn domain_defined(&mut self, event: &Stored<'_>) -> Result<Change, DecodeError> {
        let stored: body::DomainDefined<'_> = decode_body(event.body, "domain")?;
        let def = self.domain(event.seq, stored.domain)?;
        Ok(Change::DomainDefined {
            def,
            policy: stored.policy.try_into()?,
            live: stored.live,
        })
    }
}

impl Stored<'_> {
    /// The moment of an event that is about one.
    fn moment(&self) -> Result<MomentId, DecodeError> {
        self.id.ok_or(DecodeError::Word {
            what: "moment id",
            value: 0,
        })
    }

    fn empty<T>(&self, value: T) -> Result<T, DecodeError> {
        if self.body.is_empty() {
            Ok(value)
        } else {
            Err(DecodeError::Length("event"))
        }
    }

    fn created<D>(
        &self,
        def: impl FnOnce(&[u8]) -> Result<Arc<D>, DecodeError>,
    ) -> Result<MomentChange<D>, DecodeError> {
        let mut rest = self.body;
        let head: body::Created<'_> = decode_first(&mut rest, "creation")?;
        Ok(MomentChange::Created {
            id: self.moment()?,
            parent: self.parent,
            name: MomentName::new(head.name).ok_or(DecodeError::Body("name of a moment"))?,
            created: head.time,
            def: def(rest)?,
            current: head.current,
        })
    }

    fn redefined<D>(
        &self,
        def: impl FnOnce(&[u8]) -> Result<Arc<D>, DecodeError>,
    ) -> Result<MomentChange<D>, DecodeError> {
        let mut rest = self.body;
        let head: body::Redefined = decode_first(&mut rest, "redefinition")?;
        Ok(MomentChange::Redefined {
            id: self.moment()?,
            parent: self.parent,
            created: head.time,
            def: def(rest)?,
            current: head.current,
        })
    }

    fn deleted<D>(&self) -> Result<MomentChange<D>, DecodeError> {
        let stored: body::Deleted = decode_body(self.body, "deletion")?;
        Ok(MomentChange::Deleted {
            id: self.moment()?,
            extent: body::extent_from(stored.extent)?,
            removed: body::runs_from(stored.removed).ok_or(DecodeError::Body("deletion"))?,
            children_moved: stored.children_moved,
            current: MomentId::new(stored.current),
        })
    }

    fn reparented<D>(&self) -> Result<MomentChange<D>, DecodeError> {
        self.empty(MomentChange::Reparented {
            id: self.moment()?,
            parent: self.parent,
        })
    }

    fn current_set<D>(&self) -> Result<MomentChange<D>, DecodeError> {
        self.empty(MomentChange::CurrentSet(self.parent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_events_is_that_of_the_page() {
        let page = include_str!("../../../../docs/format.md");
        let (_, table) = page.split_once("| event kind | versions |").unwrap();
        let mut listed = Vec::new();
        for line in table.lines().skip(2) {
            let Some(row) = line.strip_prefix("| 0x") else {
                break;
            };
            let cells: Vec<_> = row.split(" | ").collect();
            // A reserved kind has no version.
            for version in cells[1].split(", ").filter(|version| *version != "none") {
                let kind = u16::from_str_radix(cells[0], 16).unwrap();
                listed.push((kind, version.parse().unwrap()));
            }
        }
        let known: Vec<(u16, u16)> = EVENTS
            .iter()
            .map(|(kind, version, ..)| (*kind, *version))
            .collect();
        assert_eq!(known, listed);
        assert!(known.is_sorted(), "it is searched");
        for (kind, _) in &known {
            let last = known.iter().rfind(|(known, _)| known == kind).unwrap();
            assert_eq!(version_of(*kind), last.1);
        }
    }
}
