//! What must hold for any bytes and any text: no panic, and what was read can be written and read again.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use momentlog::core::{Command, DomainUuid, MomentName, Profile};
use momentlog::store::{
    Digest, Draft, FileStore, LogId, MemoryStore, Place, Record, Seq, Store, StoreError, Text,
    Verdict, decode_frame, encode_frame,
};
use momentlog::xml::{
    CheckpointView, SnapshotView, read_checkpoint, read_checkpoint_redefine, read_domain,
    read_snapshot, read_snapshot_redefine, write_checkpoint, write_domain, write_snapshot,
};
use momentlog::{Connection, ManualClock};

use crate::crash::SMALL;
use crate::op::Op;
use crate::sim_disk::SimDisk;
use crate::suite::{UUID, connection};

const LOG: LogId = LogId(*b"a log of a suite");
const FRESH: DomainUuid = DomainUuid::from_bytes([0xf5; 16]);

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

/// A store that somebody made up or changed: records with correct checksums and digests, and then edits.
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
        store.begin(Duration::ZERO).expect("the disk is new");
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
    let begun = writer.begin(Duration::ZERO);
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

/// Facts whose layout is that of `docs/format.md`, so that what is in them is reached.
#[derive(Clone, Debug, Arbitrary)]
pub struct MadeUpFacts {
    /// The record kind.
    pub kind: u8,
    /// Whether it is about the domain of the suites.
    pub domain: bool,
    /// The record before about it.
    pub previous: u8,
    /// The reason, a text of a record before.
    pub reason: Option<(u8, u8)>,
    /// The request id.
    pub request: Option<u8>,
    /// The events.
    pub events: Vec<MadeUpEvent>,
    /// The texts.
    pub texts: Vec<Vec<u8>>,
    /// Bytes in place of all that.
    pub instead: Option<Vec<u8>>,
}

/// An event whose layout is that of `docs/format.md`.
#[derive(Clone, Debug, Arbitrary)]
pub struct MadeUpEvent {
    /// Which kind there is, modulo how many there are.
    pub kind: u8,
    /// The moment.
    pub id: u8,
    /// Its parent.
    pub parent: u8,
    /// A body of that kind, where the layout is known; its numbers and names are taken from here.
    pub seed: [u8; 6],
    /// Bytes in place of it.
    pub body: Option<Vec<u8>>,
}

const KINDS: [u16; 16] = [
    0x0101, 0x0102, 0x0103, 0x0104, 0x0105, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0301,
    0x0302, 0x0303, 0x0304, 0x0305,
];

impl MadeUpFacts {
    fn to_bytes(&self) -> Vec<u8> {
        if let Some(instead) = &self.instead {
            return instead.clone();
        }
        let kind = u16::from(self.kind % 4).max(1);
        let mut provenance = Vec::new();
        if kind == 1 {
            provenance.push(self.kind % 3);
            put_str(&mut provenance, "suite");
        } else {
            put_str(&mut provenance, "suite");
            match self.reason {
                Some((seq, index)) => {
                    provenance.push(1);
                    put_text_ref(&mut provenance, seq, index);
                }
                None => provenance.push(0),
            }
            match self.request {
                Some(id) if kind == 2 => {
                    provenance.push(1);
                    put_str(&mut provenance, &format!("r{id}"));
                    provenance.extend([id; 32]);
                }
                _ => provenance.push(0),
            }
        }
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        let events = u32::try_from(self.events.len()).expect("a fuzzer's input is short");
        bytes.extend(if kind == 2 { events } else { 0 }.to_le_bytes());
        bytes.extend(0_i64.to_le_bytes());
        bytes.extend(if self.domain && kind == 2 {
            *UUID.as_bytes()
        } else {
            [0; 16]
        });
        bytes.extend(u64::from(self.previous).to_le_bytes());
        put_len(&mut bytes, provenance.len());
        bytes.extend([0; 4]);
        bytes.extend(provenance);
        if kind == 2 {
            for event in &self.events {
                event.put(&mut bytes);
            }
        }
        bytes
    }
}

impl MadeUpEvent {
    fn put(&self, out: &mut Vec<u8>) {
        let kind = KINDS[self.kind as usize % KINDS.len()];
        let body = self.body.clone().unwrap_or_else(|| self.made_up_body(kind));
        out.extend(kind.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(u64::from(self.id).to_le_bytes());
        out.extend(u64::from(self.parent).to_le_bytes());
        put_len(out, body.len());
        out.extend([0; 4]);
        out.extend(body);
    }

    fn made_up_body(&self, kind: u16) -> Vec<u8> {
        let [a, b, c, d, e, f] = self.seed;
        let mut body = Vec::new();
        let power = |body: &mut Vec<u8>| body.extend([a % 9, b, 0]);
        match kind {
            0x0101 => {
                put_domain(&mut body, a, b, c % 2 == 0);
                body.extend([d & 1, e & 1, f & 1, 1, 1, 0]);
            }
            0x0102 | 0x0206 => power(&mut body),
            0x0105 => body.extend([a & 1, b & 1, c & 1, d & 1, e & 1]),
            0x0201 | 0x0202 | 0x0301 | 0x0302 => {
                body.push(a & 1);
                if kind & 0xff == 1 {
                    put_str(&mut body, &format!("m{}", b % 16));
                }
                body.extend(100_i64.to_le_bytes());
                if kind < 0x0300 {
                    body.extend([c % 9, 0, 0]);
                }
                body.push(0);
                put_len64(&mut body, 0);
                let with_domain = d % 2 == 0;
                body.push(u8::from(with_domain));
                if with_domain {
                    put_domain(&mut body, e, f, a % 4 == 0);
                }
                if kind < 0x0300 {
                    body.push(0);
                }
            }
            0x0203 | 0x0303 => {
                body.push(a % 4);
                let runs = u64::from(b % 3);
                body.extend(runs.to_le_bytes());
                for run in 0..runs {
                    body.extend((u64::from(c) + 4 * run).to_le_bytes());
                    body.extend((u64::from(d % 3)).to_le_bytes());
                }
                body.extend(u64::from(e % 4).to_le_bytes());
                body.extend(u64::from(f).to_le_bytes());
            }
            _ => {}
        }
        body
    }
}

fn put_len(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a fuzzer's input is short");
    out.extend(length.to_le_bytes());
}

fn put_len64(out: &mut Vec<u8>, length: usize) {
    out.extend((length as u64).to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_len64(out, text.len());
    out.extend(text.as_bytes());
}

fn put_text_ref(out: &mut Vec<u8>, seq: u8, index: u8) {
    out.extend(u64::from(seq).to_le_bytes());
    out.extend(u32::from(index).to_le_bytes());
}

fn put_domain(out: &mut Vec<u8>, seq: u8, index: u8, facts: bool) {
    put_text_ref(out, seq % 8, index % 2);
    out.push(u8::from(facts));
    if facts {
        put_str(out, "vm");
        out.extend(UUID.as_bytes());
        out.extend(1024_u64.to_le_bytes());
        put_len64(out, 0);
    }
}

/// Replays a log whose chain is whole, but whose facts and texts somebody made up.
///
/// # Panics
///
/// If replay panics, or gives a state that breaks an invariant.
pub fn facts(made_up: &[MadeUpFacts]) {
    let mut store = MemoryStore::new();
    for made_up in made_up {
        let texts = made_up.texts.iter().map(|text| Text::Plain {
            salt: [0; 32],
            bytes: text.clone(),
        });
        let draft = Draft {
            facts: made_up.to_bytes(),
            texts: texts.collect(),
        };
        let head = store.head();
        store
            .append(LOG, head, vec![draft])
            .expect("memory takes everything");
    }
    let connection: Connection = connection(Box::new(store), Arc::new(ManualClock::default()));
    if let Ok(view) = connection.refresh() {
        assert_eq!(view.state().check(), Ok(()));
        // Also of a state that nobody would have decided, the log can go on.
        let command = Command {
            domain: UUID,
            action: Op::Define.action(0, Profile::Own.policy()),
        };
        let _ = connection.execute(&command);
        assert_eq!(connection.view().state().check(), Ok(()));
    }
}

/// Opens a store with an image that somebody changed and gave correct checksums.
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
        let policy = Profile::Own.policy();
        let action = op.action(0, policy);
        let _ = store.execute(&Command {
            domain: UUID,
            action,
        });
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

/// Reads any text as each kind of snapshot XML; what was read is written and read back the same.
///
/// # Panics
///
/// If one of these does not hold.
pub fn snapshot_xml(text: &str) {
    for validate in [false, true] {
        let _ = read_snapshot(text, validate);
        let Ok(read) = read_snapshot_redefine(text, validate, FRESH) else {
            continue;
        };
        let view = SnapshotView {
            name: &read.name,
            parent: read.parent.as_ref(),
            def: &read.def,
            domain: FRESH,
        };
        let written = write_snapshot(view, true);
        let again = match read_snapshot_redefine(&written, false, FRESH) {
            Ok(again) => again,
            // libvirt writes no time 0, and reads none back.
            Err(_) if read.def.created == 0 => continue,
            Err(error) => panic!("{error}: {written}"),
        };
        assert_eq!(normal(&again.name), normal(&read.name), "{written}");
        assert_eq!(
            (again.def.domain, again.def.state),
            (read.def.domain, read.def.state),
            "{written}"
        );
        assert_eq!(again.def.created, read.def.created, "{written}");
    }
}

/// Reads any text as each kind of checkpoint XML; what was read is written and read back the same.
///
/// # Panics
///
/// If one of these does not hold.
pub fn checkpoint_xml(text: &str) {
    let _ = read_checkpoint(text);
    let Ok(read) = read_checkpoint_redefine(text, FRESH) else {
        return;
    };
    let view = CheckpointView {
        name: &read.name,
        parent: read.parent.as_ref(),
        def: &read.def,
    };
    let written = write_checkpoint(view, true, true);
    match read_checkpoint_redefine(&written, FRESH) {
        Ok(again) => {
            assert_eq!(
                (&again.name, &again.parent),
                (&read.name, &read.parent),
                "{written}"
            );
            assert_eq!(again.def.domain, read.def.domain, "{written}");
        }
        Err(_) if read.def.created == 0 => {}
        Err(error) => panic!("{error}: {written}"),
    }
}

/// Reads any text as a domain; its canonical text is a fixed point, and shows no secret unless asked.
///
/// # Panics
///
/// If one of these does not hold.
pub fn domain_xml(text: &str) {
    let Ok(read) = read_domain(text, FRESH) else {
        return;
    };
    let again = read_domain(&read.xml, FRESH);
    assert_eq!(again.as_ref(), Ok(&read), "{}", read.xml);
    let open = write_domain(&read, Some(7), false);
    assert!(read_domain(&open, FRESH).is_ok(), "{open}");
}

/// A name after a reader's line ends: CR comes back as LF.
fn normal(name: &MomentName) -> String {
    name.as_str().replace("\r\n", "\n").replace('\r', "\n")
}

/// Returns the records of a log of at most `length` bytes that was made to cost as much as it can: a chain of snapshots,
/// and then one in its middle moved up and down, over and over, which climbs half of the chain each time.
pub fn costly_log(length: usize) -> Vec<Draft> {
    let event = |out: &mut Vec<u8>, kind: u16, id: u64, parent: u64, body: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(id.to_le_bytes());
        out.extend(parent.to_le_bytes());
        put_len(out, body.len());
        out.extend([0; 4]);
        out.extend(body);
    };
    let mut genesis = MadeUpFacts {
        kind: 1,
        domain: false,
        previous: 0,
        reason: None,
        request: None,
        events: Vec::new(),
        texts: Vec::new(),
        instead: None,
    };
    let first = genesis.to_bytes();
    genesis.kind = 2;
    genesis.domain = true;
    let mut facts = genesis.to_bytes();
    let mut domain = Vec::new();
    put_domain(&mut domain, 0, 0, true);
    domain.extend([1, 0, 0, 1, 1, 0]);
    event(&mut facts, 0x0101, 0, 0, &domain);
    let mut count = 1_u64;
    let mut moments = 0;
    while facts.len() < length / 2 {
        moments += 1;
        let mut body = vec![1];
        put_str(&mut body, &format!("m{moments}"));
        body.extend(100_i64.to_le_bytes());
        body.extend([5, 0, 0, 0]);
        put_len64(&mut body, 0);
        body.extend([0, 0]);
        event(&mut facts, 0x0201, moments, moments - 1, &body);
        count += 1;
    }
    let middle = moments / 2;
    while facts.len() + 28 < length {
        let parent = middle - 1 - count % 2;
        event(&mut facts, 0x0204, middle, parent, &[]);
        count += 1;
    }
    let count = u32::try_from(count).expect("a log of a test is short");
    facts[4..8].copy_from_slice(&count.to_le_bytes());
    let plain = |facts: Vec<u8>| draft(&facts, b"<domain/>");
    vec![plain(first), plain(facts)]
}
