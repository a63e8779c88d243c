//! What must hold for any bytes and any text: no panic, and what was read can be written and read again.

mod facts;
mod monitor;
mod rpc;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use momentlog::ManualClock;
use momentlog::store::{
    Digest, Draft, FileStore, LogId, Place, Record, Retention, Seq, Store, StoreError, Text,
    Verdict, decode_frame, encode_frame,
};

use momentlog::Point;
use momentlog_audit::{Edge, json, read_point};

use crate::crash::SMALL;
use crate::op::Op;
use crate::sim_disk::SimDisk;
use crate::suite::{UUID, connection};

pub use facts::{MadeUpEvent, MadeUpFacts, costly_log, facts};
pub use monitor::monitor;
pub use rpc::{rpc_frame, rpc_relay, rpc_session};
pub use xml::{backup_xml, checkpoint_xml, domain_xml, snapshot_xml};

const LOG: LogId = LogId(*b"a log of a suite");

/// Decodes any bytes as a frame, and a frame of these bytes back to what it was; a flipped bit is always found.
///
/// # Panics
///
/// If one of these does not hold.
pub fn frame(bytes: &[u8]) {
    let place = Place {
        log: LOG,
        segment: Seq::FIRST,
        offset: 8 * bytes.len() as u64,
    };
    let _ = decode_frame(bytes, place);
    let (facts, text) = bytes.split_at(bytes.len() / 2);
    let texts = vec![
        Text::Plain {
            salt: [3; 32],
            bytes: text.to_vec(),
        },
        Text::Erased {
            commitment: Digest([4; 32]),
            length: u32::try_from(facts.len()).expect("a fuzzer's input is short"),
        },
    ];
    let record = Record::new(
        LOG,
        None,
        None,
        Draft {
            facts: facts.to_vec(),
            texts,
        },
    );
    let mut encoded = encode_frame(&record, place);
    assert_eq!(decode_frame(&encoded, place), Ok((record, encoded.len())));
    let at = bytes.iter().fold(bytes.len(), |sum, byte| {
        sum.wrapping_mul(31) + *byte as usize
    }) % (8 * encoded.len());
    encoded[at / 8] ^= 1 << (at % 8);
    assert!(decode_frame(&encoded, place).is_err(), "bit {at}");
}

/// A forged or changed store: records with correct checksums and digests, and then edits.
#[derive(Clone, Debug, Arbitrary)]
pub struct MadeUpLog {
    /// Facts and text of each record.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the file `head` is there.
    pub head: bool,
    /// What is done to the files then.
    pub edits: Vec<Edit>,
}

/// One change of the bytes of a store. Numbers count modulo what there is.
#[derive(Clone, Debug, Arbitrary)]
pub enum Edit {
    /// Turns one bit.
    Flip {
        /// Which file.
        file: u8,
        /// Which bit.
        bit: u32,
    },
    /// Takes bytes out.
    Cut {
        /// Which file.
        file: u8,
        /// From where.
        from: u32,
        /// How many.
        length: u16,
    },
    /// Puts bytes in.
    Insert {
        /// Which file.
        file: u8,
        /// Where.
        at: u32,
        /// Which.
        bytes: Vec<u8>,
    },
    /// Writes bytes of the file over others of it.
    Copy {
        /// Which file.
        file: u8,
        /// From where.
        from: u32,
        /// To where.
        to: u32,
        /// How many.
        length: u16,
    },
    /// Removes the file.
    Remove {
        /// Which file.
        file: u8,
    },
}

impl Edit {
    fn apply(&self, disk: &SimDisk) -> SimDisk {
        let names: Vec<String> = disk.contents().into_keys().collect();
        let (Edit::Flip { file, .. }
        | Edit::Cut { file, .. }
        | Edit::Insert { file, .. }
        | Edit::Copy { file, .. }
        | Edit::Remove { file }) = self;
        if names.is_empty() {
            return disk.killed();
        }
        let name = &names[*file as usize % names.len()];
        if matches!(self, Edit::Remove { .. }) {
            return disk.without(name);
        }
        disk.edited(name, |bytes| {
            let place = |at: u32| at as usize % (bytes.len() + 1);
            match self {
                Edit::Flip { bit, .. } if !bytes.is_empty() => {
                    let bit = *bit as usize % (8 * bytes.len());
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                Edit::Cut { from, length, .. } => {
                    let from = place(*from);
                    let end = bytes.len().min(from + *length as usize);
                    bytes.drain(from..end);
                }
                Edit::Insert {
                    at,
                    bytes: inserted,
                    ..
                } => {
                    let at = place(*at);
                    bytes.splice(at..at, inserted.iter().copied());
                }
                Edit::Copy {
                    from, to, length, ..
                } => {
                    let (from, to) = (place(*from), place(*to));
                    let length = (*length as usize).min(bytes.len() - from.max(to));
                    bytes.copy_within(from..from + length, to);
                }
                Edit::Flip { .. } | Edit::Remove { .. } => {}
            }
        })
    }
}

/// Opens, reads and verifies a log that was made up, and tries to write to it.
///
/// # Panics
///
/// If one of these panics, reading again gives something else, or a log that can be written does not go on.
pub fn log(made_up: &MadeUpLog) {
    let disk = SimDisk::new("store");
    let mut store = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
    if !made_up.records.is_empty() {
        store.acquire(Duration::ZERO).expect("the disk is new");
    }
    for (facts, text) in &made_up.records {
        let head = store.head();
        store
            .append(LOG, head, vec![draft(facts, text)])
            .expect("the disk is sound");
    }
    drop(store);
    let mut disk = disk.killed();
    if !made_up.head {
        disk = disk.without("head");
    }
    for edit in &made_up.edits {
        disk = edit.apply(&disk);
    }
    let read = || {
        let mut records = Vec::new();
        let mut store = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
        let start = store.start().ok().flatten();
        let outcome = store.read(start, &mut |record| {
            records.push(record);
            Ok(())
        });
        (records, outcome)
    };
    let (first, outcome) = read();
    let _ = momentlog::verify_disk(Arc::new(disk.clone()), None, None, &mut |_| {});
    let mut writer = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
    let begun = writer.acquire(Duration::ZERO);
    match &outcome {
        Ok(()) => assert!(begun.is_ok(), "{begun:?}"),
        Err(StoreError::Missing { .. }) => {}
        Err(_) => assert!(begun.is_err(), "{outcome:?}"),
    }
    if begun.is_ok() {
        let head = writer.head();
        let log = writer.log_id().unwrap_or(LOG);
        writer
            .append(log, head, vec![draft(b"goes on", b"")])
            .expect("a log that can be written goes on");
        drop(writer);
        let (again, outcome) = read();
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!(again[..first.len()], first);
        assert_eq!(again.len(), first.len() + 1);
    } else {
        drop(writer);
        assert_eq!(read().0, first);
    }
}

fn draft(facts: &[u8], text: &[u8]) -> Draft {
    let texts = vec![Text::Plain {
        salt: [0; 32],
        bytes: text.to_vec(),
    }];
    Draft {
        facts: facts.to_vec(),
        texts,
    }
}

/// Reads a text as a point, at a second since 1970 in one of a few time zones.
///
/// # Panics
///
/// If reading it panics, or what it means is read back from its print as something else.
pub fn point(now: i64, zone: u8, end: bool, text: &str) {
    const ZONES: [&str; 4] = [
        "UTC0",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "<-12>12",
    ];
    let zone = TimeZone::posix(ZONES[usize::from(zone) % ZONES.len()]).expect("it is a zone");
    let Ok(now) = Timestamp::from_second(now) else {
        return;
    };
    let now = now.to_zoned_datetime(zone);
    let edge = if end { Edge::End } else { Edge::Start };
    let Ok(point) = read_point(text, edge, &now) else {
        return;
    };
    let printed = match &point {
        Point::Seq(seq) => seq.to_string(),
        Point::Receipt(receipt) => receipt.to_string(),
        Point::Now => "now".to_owned(),
        Point::Time(micros) => match json::recorded(*micros) {
            // A point's year has four digits: none before 0.
            Some(time) if !time.starts_with('-') => time,
            _ => return,
        },
    };
    assert_eq!(read_point(&printed, edge, &now), Ok(point), "{printed}");
}

/// Opens a store with a changed image that has correct checksums.
///
/// # Panics
///
/// If opening panics or gives a state that breaks an invariant, or `verify` does not tell it from what the log gives.
pub fn image(ops: &[Op], edits: &[Edit]) {
    let disk = SimDisk::new("store");
    let open = |disk: &SimDisk| {
        let store = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
        connection(Box::new(store), Arc::new(ManualClock::default()))
    };
    let store = open(&disk);
    for op in [Op::Define, Op::ChangeState(0)].iter().chain(ops) {
        let asked = op.asked(0, store.view().state().domain(UUID));
        let _ = asked.of(&store, UUID);
    }
    let made = store.make_image().expect("there are records");
    let truth = store.view();
    drop(store);
    let name = format!("{:020}.img", made.seq.get());
    let body = disk.contents()[&name][96..].to_vec();
    let mut scratch = SimDisk::new("scratch").edited("body", |bytes| {
        *bytes = body[..body.len() - 4].to_vec();
    });
    for edit in edits {
        if !matches!(edit, Edit::Remove { .. }) {
            scratch = edit.apply(&scratch);
        }
    }
    let body = scratch.contents()["body"].clone();
    let disk = disk.killed().edited(&name, |bytes| {
        bytes.truncate(96);
        bytes[88..96].copy_from_slice(&(body.len() as u64).to_le_bytes());
        let header = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
        bytes[12..16].copy_from_slice(&header.to_le_bytes());
        bytes.extend(&body);
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
    });
    let found = momentlog::verify_disk(Arc::new(disk.clone()), None, None, &mut |_| {});
    let found = found.expect("the disk is sound");
    assert_eq!(found.log.verdict, Verdict::Unanchored);
    let store = open(&disk.killed());
    if let Ok(view) = store.refresh() {
        assert_eq!(view.state().check(), Ok(()));
        assert_eq!(view.head(), truth.head());
        if view.state() != truth.state() {
            assert_eq!(found.verdict(), Verdict::Damaged, "{found:?}");
        }
    }
}
