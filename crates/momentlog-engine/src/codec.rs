//! The stored form of records: versioned bytes, as `docs/format.md` lists them.
//!
//! Nothing else in the workspace serialises events, and nothing else uses bincode.

pub(crate) mod body;
mod dictionary;
pub(crate) mod encode;
mod events;
pub(crate) mod job;
mod outline;
mod request;

use std::sync::Arc;

use momentlog_core::{DomainUuid, Event, Power, Profile, RunState};
use momentlog_store::{Seq, Text};

use crate::call::Call;
use crate::entry::Bridge;

pub(crate) use body::REQUEST_ID_LEN_MAX;
pub(crate) use body::TextRef;
pub(crate) use dictionary::Dictionary;
pub(crate) use outline::Outline;
pub(crate) use request::{command_digest, request_digest, settings_digest};

const KIND_GENESIS: u16 = 1;
const KIND_COMMAND: u16 = 2;
const KIND_BRIDGE: u16 = 3;
const KIND_STORE: u16 = 5;
const LAYOUT_VERSION: u16 = 1;

/// Where things are in the fixed parts of facts and of events.
mod at {
    pub(super) const KIND: usize = 0;
    pub(super) const VERSION: usize = 2;
    pub(super) const EVENTS: usize = 4;
    pub(super) const RECORDED: usize = 8;
    pub(super) const DOMAIN: usize = 16;
    pub(super) const PREVIOUS: usize = 32;
    pub(super) const PROVENANCE_LEN: usize = 40;
    pub(super) const ZERO: usize = 44;
    pub(super) const FACTS_LEN: usize = 48;

    pub(super) const EVENT_KIND: usize = 0;
    pub(super) const EVENT_VERSION: usize = 2;
    pub(super) const EVENT_MOMENT: usize = 4;
    pub(super) const EVENT_PARENT: usize = 12;
    pub(super) const EVENT_BODY_LEN: usize = 20;
    pub(super) const EVENT_ZERO: usize = 24;
    pub(super) const EVENT_LEN: usize = 28;
}

/// Kind numbers of events; never reused.
mod kind {
    pub(super) const DOMAIN_DEFINED: u16 = 0x0101;
    pub(super) const STATE_CHANGED: u16 = 0x0102;
    pub(super) const MADE_TRANSIENT: u16 = 0x0103;
    pub(super) const DOMAIN_REMOVED: u16 = 0x0104;
    pub(super) const POLICY_SET: u16 = 0x0105;
    pub(super) const DOMAIN_RENAMED: u16 = 0x0106;
    pub(super) const AUTOSTART_SET: u16 = 0x0107;
    pub(super) const SNAPSHOT_CREATED: u16 = 0x0201;
    pub(super) const SNAPSHOT_REDEFINED: u16 = 0x0202;
    pub(super) const SNAPSHOT_DELETED: u16 = 0x0203;
    pub(super) const SNAPSHOT_REPARENTED: u16 = 0x0204;
    pub(super) const CURRENT_SNAPSHOT_SET: u16 = 0x0205;
    pub(super) const REVERTED: u16 = 0x0206;
    pub(super) const CHECKPOINT_CREATED: u16 = 0x0301;
    pub(super) const CHECKPOINT_REDEFINED: u16 = 0x0302;
    pub(super) const CHECKPOINT_DELETED: u16 = 0x0303;
    pub(super) const CHECKPOINT_REPARENTED: u16 = 0x0304;
    pub(super) const CURRENT_CHECKPOINT_SET: u16 = 0x0305;
    pub(super) const JOB_BEGUN: u16 = 0x0401;
    pub(super) const JOB_ENDED: u16 = 0x0402;
    pub(super) const JOB_FAILED: u16 = 0x0403;
    pub(super) const HYPERVISOR_ATTACHED: u16 = 0x0404;
    pub(super) const HYPERVISOR_DETACHED: u16 = 0x0405;
    pub(super) const CHECKPOINT_SEEN: u16 = 0x0406;
    pub(super) const HOLD_ADDED: u16 = 0x0501;
    pub(super) const HOLD_REMOVED: u16 = 0x0502;
    pub(super) const SETTINGS_SET: u16 = 0x0601;
}

/// Why the facts of a record mean nothing to this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are fewer bytes than the layout needs, or more.
    #[error("the {0} does not end where it should")]
    Length(&'static str),
    /// A record kind of a newer version.
    #[error("record kind {kind} in layout {version} is not known to this version")]
    RecordKind {
        /// The kind.
        kind: u16,
        /// The version of the layout of its facts.
        version: u16,
    },
    /// An event kind of a newer version.
    #[error("event kind {kind:#06x} in version {version} is not known to this version")]
    EventKind {
        /// The kind.
        kind: u16,
        /// The version of its body.
        version: u16,
    },
    /// An event with an id that its kind does not have, or without one that it needs.
    #[error("an event of kind {kind:#06x} has other ids than its kind has")]
    Ids {
        /// The kind.
        kind: u16,
    },
    /// A body that bincode does not read.
    #[error("the body of the {0} is malformed")]
    Body(&'static str),
    /// A number that stands for nothing.
    #[error("{value} is no {what}")]
    Word {
        /// What it should be.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A rule of a policy that a newer version has.
    #[error("rule {0} of a policy is not known to this version")]
    Rule(u16),
    /// A reference to a text that no record before has.
    #[error("text {index} of record {seq} is referred to, and is not there")]
    Text {
        /// The record.
        seq: u64,
        /// Which of its texts.
        index: u32,
    },
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// The first record is not genesis, or a later one is.
    #[error("record {0} is out of place")]
    OutOfPlace(Seq),
}

/// What every record begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Microseconds since 1970.
    pub(crate) recorded: i64,
    pub(crate) domain: Option<DomainUuid>,
    /// The record before about the same domain.
    pub(crate) previous: Option<Seq>,
    pub(crate) content: Content,
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Genesis { profile: Profile, writer: String },
    Command { asked: Asked, events: Vec<Event> },
    Bridge { asked: Asked, bridge: Bridge },
}

/// Who asked for what, why, and under which key: the provenance of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) actor: Arc<str>,
    pub(crate) agent: Arc<str>,
    pub(crate) call: Call,
    pub(crate) flags: u32,
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) request: Option<RequestKey>,
    pub(crate) undoes: Option<Seq>,
}

/// The caller's key for an idempotent retry, with the digest of what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestKey {
    pub(crate) id: Arc<str>,
    pub(crate) digest: [u8; 32],
}

/// Returns the time in facts, in microseconds since 1970, without decoding them; `None` if they are too short.
pub(crate) fn recorded(facts: &[u8]) -> Option<i64> {
    let head = facts.get(..at::FACTS_LEN)?;
    Some(u64_at(head, at::RECORDED).cast_signed())
}

/// Returns what a text says. An erased one is empty, which no text is that a record is given.
pub(crate) fn text_of(text: &Text) -> Result<Arc<str>, DecodeError> {
    Ok(match text {
        Text::Plain { bytes, .. } => std::str::from_utf8(bytes)
            .map_err(|_| DecodeError::Utf8)?
            .into(),
        Text::Erased { .. } => "".into(),
    })
}

pub(crate) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a record has at most 64 MiB")
}

fn split<'a>(
    bytes: &'a [u8],
    at: u32,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
    bytes
        .split_at_checked(at as usize)
        .ok_or(DecodeError::Length(what))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// Returns the power with these numbers, if they mean one.
fn power_from(state: u8, reason: u8, id: Option<u32>) -> Result<Power, DecodeError> {
    let state = RunState::from_number(state).ok_or(DecodeError::Word {
        what: "run state",
        value: state.into(),
    })?;
    Ok(Power { state, reason, id })
}

/// A provenance of tests.
#[cfg(test)]
pub(crate) fn asked_by(actor: &str) -> Asked {
    Asked {
        actor: actor.into(),
        agent: "suite".into(),
        call: Call::EXECUTE,
        flags: 0,
        reason: None,
        request: None,
        undoes: None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
