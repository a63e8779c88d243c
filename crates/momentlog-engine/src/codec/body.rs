//! Version 1 of every body. A field is never added, dropped or moved here: that would be version 2.

use std::sync::Arc;

use momentlog_core::{
    CheckpointDisk, DiskLocation, DiskTracking, DomainDef, DomainDisk, DomainUuid, Extent, IdRuns,
    Memory, MomentId, Policy, Power, Profile, Rule, RunState, SnapshotDisk, SnapshotState,
    SourceKind,
};
use momentlog_store::{Digest, Head, Seq};
use serde::{Deserialize, Serialize};

use super::{DecodeError, RequestKey, power_from};
use crate::entry::Bridge;

/// Most bytes that a body is read into: that of the longest record.
const LIMIT: usize = 64 << 20;

/// Longest request id, in bytes.
pub(crate) const REQUEST_ID_LEN_MAX: usize = 64;

pub(crate) fn encode_body<T: Serialize>(body: &T) -> Vec<u8> {
    let mut out = Vec::new();
    put_body(body, &mut out);
    out
}

/// Writes a body behind what is there.
pub(crate) fn put_body<T: Serialize>(body: &T, out: &mut Vec<u8>) {
    bincode::serde::encode_into_writer(body, Appender(out), bincode::config::legacy())
        .expect("stored types always encode");
}

struct Appender<'a>(&'a mut Vec<u8>);

impl bincode::enc::write::Writer for Appender<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

pub(crate) fn decode_body<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &'static str,
) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let body = decode_first(&mut rest, what)?;
    if rest.is_empty() {
        Ok(body)
    } else {
        Err(DecodeError::Body(what))
    }
}

/// Reads the body at the front of `bytes`, and moves past it.
pub(crate) fn decode_first<'a, T: Deserialize<'a>>(
    bytes: &mut &'a [u8],
    what: &'static str,
) -> Result<T, DecodeError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let (body, length) = bincode::serde::borrow_decode_from_slice(bytes, config)
        .map_err(|_| DecodeError::Body(what))?;
    *bytes = &bytes[length..];
    Ok(body)
}

/// Where a text is: in a record, 0 for the one that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct TextRef {
    pub(crate) seq: u64,
    pub(crate) index: u32,
}

impl TextRef {
    /// The place as the whole log knows it.
    pub(crate) fn seen_from(self, seq: Seq) -> TextRef {
        if self.seq == 0 {
            TextRef {
                seq: seq.get(),
                ..self
            }
        } else {
            self
        }
    }

    /// The place as the record `seq` says it.
    pub(crate) fn named_in(self, seq: Seq) -> TextRef {
        if self.seq == seq.get() {
            TextRef { seq: 0, ..self }
        } else {
            self
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Genesis<'a> {
    profile: u8,
    writer: &'a str,
}

pub(crate) fn profile_of(profile: Profile) -> u8 {
    match profile {
        Profile::LibvirtTest => 1,
        Profile::Own => 2,
    }
}

pub(crate) fn profile_from(number: u8) -> Result<Profile, DecodeError> {
    match number {
        1 => Ok(Profile::LibvirtTest),
        2 => Ok(Profile::Own),
        other => Err(DecodeError::Word {
            what: "profile",
            value: other.into(),
        }),
    }
}

pub(crate) fn genesis(profile: Profile, writer: &str) -> Vec<u8> {
    let profile = profile_of(profile);
    encode_body(&Genesis { profile, writer })
}

pub(crate) fn decode_genesis(bytes: &[u8]) -> Result<(Profile, String), DecodeError> {
    let stored: Genesis<'_> = decode_body(bytes, "genesis")?;
    let profile = profile_from(stored.profile)?;
    Ok((profile, stored.writer.to_owned()))
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Provenance<'a> {
    pub(crate) actor: &'a str,
    pub(crate) agent: TextRef,
    pub(crate) call: u16,
    pub(crate) flags: u32,
    pub(crate) reason: Option<TextRef>,
    #[serde(borrow)]
    pub(crate) request: Option<StoredRequest<'a>>,
    pub(crate) undoes: u64,
}

/// The id of a request, and the digest of what was asked.
type StoredRequest<'a> = (&'a str, [u8; 32]);

pub(crate) fn request_key((id, digest): StoredRequest<'_>) -> Result<RequestKey, DecodeError> {
    if id.is_empty() || id.len() > REQUEST_ID_LEN_MAX {
        return Err(DecodeError::Body("request id"));
    }
    let id = id.into();
    Ok(RequestKey { id, digest })
}

/// What follows the provenance in a bridge.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredBridge {
    first: u64,
    last: u64,
    digest: [u8; 32],
    tree_root: [u8; 32],
    image: [u8; 32],
    pub(crate) archive: Option<TextRef>,
}

impl StoredBridge {
    pub(crate) fn of(bridge: &Bridge, archive: Option<TextRef>) -> StoredBridge {
        StoredBridge {
            first: bridge.first.get(),
            last: bridge.last.seq.get(),
            digest: bridge.last.digest.0,
            tree_root: [0; 32],
            image: bridge.image,
            archive,
        }
    }

    pub(crate) fn into_bridge(self, archive: Option<Arc<str>>) -> Result<Bridge, DecodeError> {
        let seq = |value| {
            let what = "seq";
            Seq::new(value).ok_or(DecodeError::Word { what, value })
        };
        let bridge = Bridge {
            first: seq(self.first)?,
            last: Head {
                seq: seq(self.last)?,
                digest: Digest(self.digest),
            },
            image: self.image,
            archive,
        };
        if self.tree_root != [0; 32] || bridge.first > bridge.last.seq {
            return Err(DecodeError::Body("bridge"));
        }
        Ok(bridge)
    }
}

/// The rules that are on, by their numbers, ascending.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredPolicy(Vec<u16>);

impl From<Policy> for StoredPolicy {
    fn from(policy: Policy) -> StoredPolicy {
        StoredPolicy(policy.rules().map(Rule::number).collect())
    }
}

impl TryFrom<StoredPolicy> for Policy {
    type Error = DecodeError;

    fn try_from(StoredPolicy(numbers): StoredPolicy) -> Result<Policy, DecodeError> {
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(DecodeError::Body("policy"));
        }
        numbers
            .into_iter()
            .try_fold(Policy::NONE, |policy, number| {
                let rule = Rule::from_number(number).ok_or(DecodeError::Rule(number))?;
                Ok(policy.with(rule, true))
            })
    }
}

pub(crate) fn decode_policy(bytes: &[u8]) -> Result<Policy, DecodeError> {
    decode_body::<StoredPolicy>(bytes, "policy")?.try_into()
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredPower {
    state: u8,
    reason: u8,
    id: Option<u32>,
}

impl From<Power> for StoredPower {
    fn from(power: Power) -> StoredPower {
        StoredPower {
            state: power.state.number(),
            reason: power.reason,
            id: power.id,
        }
    }
}

impl TryFrom<StoredPower> for Power {
    type Error = DecodeError;

    fn try_from(StoredPower { state, reason, id }: StoredPower) -> Result<Power, DecodeError> {
        power_from(state, reason, id)
    }
}

pub(crate) fn decode_power(bytes: &[u8]) -> Result<Power, DecodeError> {
    decode_body::<StoredPower>(bytes, "run state")?.try_into()
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DomainDefined<'a> {
    #[serde(borrow)]
    pub(crate) domain: Domain<'a>,
    pub(crate) policy: StoredPolicy,
    pub(crate) live: bool,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Domain<'a> {
    pub(crate) xml: TextRef,
    #[serde(borrow)]
    pub(crate) facts: Option<DomainFacts<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct DomainFacts<'a> {
    pub(crate) name: &'a str,
    pub(crate) uuid: [u8; 16],
    memory_kib: u64,
    #[serde(borrow)]
    disks: Vec<StoredDomainDisk<'a>>,
}

#[derive(Serialize, Deserialize)]
struct StoredDomainDisk<'a> {
    target: &'a str,
    kind: u8,
    source: Option<&'a str>,
    empty: bool,
    format: Option<&'a str>,
    readonly: bool,
    snapshot: Option<u8>,
}

impl<'a> DomainFacts<'a> {
    pub(crate) fn of(def: &'a DomainDef) -> DomainFacts<'a> {
        let disk = |disk: &'a DomainDisk| StoredDomainDisk {
            target: &disk.target,
            kind: kind_of(disk.kind),
            source: disk.source.as_deref(),
            empty: disk.empty,
            format: disk.format.as_deref(),
            readonly: disk.readonly,
            snapshot: disk.snapshot.map(location_of),
        };
        DomainFacts {
            name: &def.name,
            uuid: *def.uuid.as_bytes(),
            memory_kib: def.memory_kib,
            disks: def.disks.iter().map(disk).collect(),
        }
    }

    pub(crate) fn into_def(self, xml: Arc<str>) -> Result<DomainDef, DecodeError> {
        let disk = |disk: StoredDomainDisk<'_>| {
            Ok(DomainDisk {
                target: disk.target.into(),
                kind: kind_from(disk.kind)?,
                source: disk.source.map(Arc::from),
                empty: disk.empty,
                format: disk.format.map(Arc::from),
                readonly: disk.readonly,
                snapshot: disk.snapshot.map(location_from).transpose()?,
            })
        };
        Ok(DomainDef {
            name: self.name.into(),
            uuid: DomainUuid::from_bytes(self.uuid),
            memory_kib: self.memory_kib,
            disks: self.disks.into_iter().map(disk).collect::<Result<_, _>>()?,
            xml,
        })
    }
}

/// What the body of a new moment begins with; its definition follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Created<'a> {
    pub(crate) current: bool,
    pub(crate) name: &'a str,
    pub(crate) time: i64,
}

/// What the body of a redefined moment begins with; its definition follows.
#[derive(Serialize, Deserialize)]
pub(crate) struct Redefined {
    pub(crate) current: bool,
    pub(crate) time: i64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Snapshot<'a, Disks = Vec<StoredSnapshotDisk<'a>>> {
    pub(crate) state: u8,
    pub(crate) memory: u8,
    pub(crate) memory_file: Option<&'a str>,
    pub(crate) description: Option<TextRef>,
    pub(crate) disks: Disks,
    #[serde(borrow)]
    pub(crate) domain: Option<Domain<'a>>,
    #[serde(borrow)]
    pub(crate) inactive_domain: Option<Domain<'a>>,
    pub(crate) revert_disks: Option<TextRef>,
    pub(crate) extra: Option<TextRef>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredSnapshotDisk<'a> {
    name: &'a str,
    location: Option<u8>,
    kind: u8,
    driver: Option<&'a str>,
    source: Option<&'a str>,
    pub(crate) xml: Option<TextRef>,
}

impl<'a> StoredSnapshotDisk<'a> {
    pub(crate) fn of(disk: &'a SnapshotDisk, xml: Option<TextRef>) -> StoredSnapshotDisk<'a> {
        StoredSnapshotDisk {
            name: &disk.name,
            location: disk.location.map(location_of),
            kind: kind_of(disk.kind),
            driver: disk.driver.as_deref(),
            source: disk.source.as_deref(),
            xml,
        }
    }

    pub(crate) fn into_disk(self, xml: Option<Arc<str>>) -> Result<SnapshotDisk, DecodeError> {
        Ok(SnapshotDisk {
            name: self.name.into(),
            location: self.location.map(location_from).transpose()?,
            kind: kind_from(self.kind)?,
            driver: self.driver.map(Arc::from),
            source: self.source.map(Arc::from),
            xml,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Checkpoint<'a, Disks = Vec<StoredCheckpointDisk<'a>>> {
    pub(crate) description: Option<TextRef>,
    pub(crate) disks: Disks,
    #[serde(borrow)]
    pub(crate) domain: Option<Domain<'a>>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredCheckpointDisk<'a> {
    name: &'a str,
    tracking: u8,
    bitmap: Option<&'a str>,
}

impl<'a> From<&'a CheckpointDisk> for StoredCheckpointDisk<'a> {
    fn from(disk: &'a CheckpointDisk) -> StoredCheckpointDisk<'a> {
        let (tracking, bitmap) = match &disk.tracking {
            DiskTracking::No => (0, None),
            DiskTracking::Bitmap(None) => (1, None),
            DiskTracking::Bitmap(Some(bitmap)) => (2, Some(&**bitmap)),
        };
        StoredCheckpointDisk {
            name: &disk.name,
            tracking,
            bitmap,
        }
    }
}

impl TryFrom<StoredCheckpointDisk<'_>> for CheckpointDisk {
    type Error = DecodeError;

    fn try_from(disk: StoredCheckpointDisk<'_>) -> Result<CheckpointDisk, DecodeError> {
        let tracking = match (disk.tracking, disk.bitmap) {
            (0, None) => DiskTracking::No,
            (1, None) => DiskTracking::Bitmap(None),
            (2, Some(bitmap)) => DiskTracking::Bitmap(Some(bitmap.into())),
            (other, _) => {
                return Err(DecodeError::Word {
                    what: "way of tracking",
                    value: other.into(),
                });
            }
        };
        Ok(CheckpointDisk {
            name: disk.name.into(),
            tracking,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Deleted {
    pub(crate) extent: u8,
    pub(crate) removed: Vec<(u64, u64)>,
    pub(crate) children_moved: u64,
    pub(crate) current: u64,
}

pub(crate) fn extent_of(extent: Extent) -> u8 {
    match extent {
        Extent::One => 0,
        Extent::Subtree => 1,
        Extent::ChildrenOnly => 2,
    }
}

pub(crate) fn extent_from(number: u8) -> Result<Extent, DecodeError> {
    Ok(match number {
        0 => Extent::One,
        1 => Extent::Subtree,
        2 => Extent::ChildrenOnly,
        other => {
            return Err(DecodeError::Word {
                what: "extent",
                value: other.into(),
            });
        }
    })
}

pub(crate) fn runs_of(ids: &IdRuns) -> Vec<(u64, u64)> {
    let runs = ids.runs().iter();
    runs.map(|(first, length)| (first.get(), *length)).collect()
}

pub(crate) fn runs_from(runs: Vec<(u64, u64)>) -> Option<IdRuns> {
    let run = |(first, length)| MomentId::new(first).map(|first| (first, length));
    let runs: Option<Vec<_>> = runs.into_iter().map(run).collect();
    IdRuns::from_runs(runs?)
}

pub(crate) fn state_of(state: SnapshotState) -> u8 {
    match state {
        SnapshotState::Run(state) => state.number(),
        SnapshotState::DiskSnapshot => 8,
    }
}

pub(crate) fn state_from(number: u8) -> Result<SnapshotState, DecodeError> {
    match number {
        8 => Ok(SnapshotState::DiskSnapshot),
        _ => RunState::from_number(number)
            .map(SnapshotState::Run)
            .ok_or(DecodeError::Word {
                what: "state of a snapshot",
                value: number.into(),
            }),
    }
}

pub(crate) fn memory_of(memory: &Memory) -> (u8, Option<&str>) {
    match memory {
        Memory::No => (0, None),
        Memory::Internal => (1, None),
        Memory::External(file) => (2, Some(file)),
    }
}

pub(crate) fn memory_from(number: u8, file: Option<&str>) -> Result<Memory, DecodeError> {
    match (number, file) {
        (0, None) => Ok(Memory::No),
        (1, None) => Ok(Memory::Internal),
        (2, Some(file)) => Ok(Memory::External(file.into())),
        _ => Err(DecodeError::Word {
            what: "place of memory",
            value: number.into(),
        }),
    }
}

pub(crate) fn kind_of(kind: SourceKind) -> u8 {
    match kind {
        SourceKind::File => 0,
        SourceKind::Block => 1,
        SourceKind::Dir => 2,
        SourceKind::Network => 3,
        SourceKind::Volume => 4,
        SourceKind::Nvme => 5,
        SourceKind::VhostUser => 6,
        SourceKind::VhostVdpa => 7,
    }
}

fn kind_from(number: u8) -> Result<SourceKind, DecodeError> {
    Ok(match number {
        0 => SourceKind::File,
        1 => SourceKind::Block,
        2 => SourceKind::Dir,
        3 => SourceKind::Network,
        4 => SourceKind::Volume,
        5 => SourceKind::Nvme,
        6 => SourceKind::VhostUser,
        7 => SourceKind::VhostVdpa,
        other => {
            return Err(DecodeError::Word {
                what: "kind of source",
                value: other.into(),
            });
        }
    })
}

pub(crate) fn location_of(location: DiskLocation) -> u8 {
    match location {
        DiskLocation::No => 0,
        DiskLocation::Internal => 1,
        DiskLocation::External => 2,
        DiskLocation::Manual => 3,
    }
}

fn location_from(number: u8) -> Result<DiskLocation, DecodeError> {
    Ok(match number {
        0 => DiskLocation::No,
        1 => DiskLocation::Internal,
        2 => DiskLocation::External,
        3 => DiskLocation::Manual,
        other => {
            return Err(DecodeError::Word {
                what: "location of a disk",
                value: other.into(),
            });
        }
    })
}
