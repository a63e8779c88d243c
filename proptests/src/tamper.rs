//! Changing a small log in every way: `verify` tells what is wrong, and where.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use momentlog::store::{
    Disk, Draft, FileStore, Head, LogId, Place, Receipt, Record, Seq, Store, StoreError, Text,
    Verdict, VerifyReport, decode_frame, encode_frame, verify,
};
use momentlog::{Connection, ImageFault, ManualClock, verify_disk};

use crate::crash::SMALL;
use crate::op::Op;
use crate::sim_disk::SimDisk;
use crate::suite::{UUID, connection};

const LOG: LogId = LogId(*b"log to tamper w.");
const SEGMENT: &str = "00000000000000000001.seg";

/// How many changes were made, and how many of them were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tampered {
    /// Bits turned, one at a time, in every file that holds the log or says something of it.
    pub flips: u64,
    /// Those that `verify` found without a receipt, and said where.
    pub flips_found: u64,
    /// Ranges of bytes taken out.
    pub cuts: u64,
    /// Those that `verify` found with a receipt.
    pub cuts_found: u64,
    /// Records swapped, repeated, removed, taken from another log, or written again with all that follows; copies put back,
    /// as a whole or some of their files.
    pub records: u64,
    /// Those that `verify` found with a receipt.
    pub records_found: u64,
}

/// Changes a small log in every way there is.
///
/// # Panics
///
/// If `verify` names another place or verdict than it should.
pub fn tamper_everywhere() -> Tampered {
    let mut tampered = Tampered::default();
    flip_records(&mut tampered);
    flip_files(&mut tampered);
    cut(&mut tampered);
    rearrange(&mut tampered);
    put_back(&mut tampered);
    take_away_the_beginning();
    tampered
}

fn draft(text: &str) -> Draft {
    Draft {
        facts: text.as_bytes().to_vec(),
        texts: vec![Text::Plain {
            salt: [9; 32],
            bytes: b"t".to_vec(),
        }],
    }
}

/// A closed store of these records, and the frames of each.
fn store(log: LogId, texts: &[&str]) -> (SimDisk, Vec<Record>) {
    let disk = SimDisk::new("store");
    let mut store = FileStore::over(Arc::new(disk.clone()));
    store.acquire(Duration::ZERO).expect("the disk is new");
    let drafts = texts.iter().map(|text| draft(text)).collect();
    let records = store.append(log, None, drafts).expect("the disk is sound");
    drop(store);
    (disk.killed(), records)
}

fn receipt(record: &Record) -> Receipt {
    Receipt {
        log: LOG,
        head: record.head(),
    }
}

fn report(disk: &SimDisk, receipt: Option<Receipt>) -> VerifyReport {
    let mut store = FileStore::over(Arc::new(disk.clone()));
    verify(&mut store, receipt, &mut |_| {}).expect("the disk is sound")
}

/// Where the report says that something is wrong: seq and offset.
fn place(report: &VerifyReport) -> Option<(Seq, u64)> {
    match (&report.error, &report.torn) {
        (Some(StoreError::Damaged { seq, offset, .. }), _) => Some((*seq, *offset)),
        (_, Some(torn)) => Some((torn.seq, torn.offset)),
        _ => None,
    }
}

/// Checks that a scan gives out what reading gives out, and ends as it does: bytes that were turned or cut are no frame for
/// either.
fn scan_as_read(disk: &SimDisk) {
    let open = || FileStore::over(Arc::new(disk.clone()));
    let mut read = Vec::new();
    let ended = open().read(None, &mut |record| {
        read.push((record.seq, record.facts));
        Ok(())
    });
    let mut scanned = Vec::new();
    let mut store = open();
    let scan = store.scan(None, &mut |outline| {
        scanned.push((outline.seq, outline.facts.to_vec()));
        ControlFlow::Continue(())
    });
    assert_eq!(scanned, read);
    assert_eq!(format!("{scan:?}"), format!("{ended:?}"));
    for (seq, facts) in &read {
        let record = open().record(*seq).expect("it can be read");
        let record = record.expect("it is there");
        assert_eq!((record.seq, &record.facts), (*seq, facts));
    }
}

/// Every bit of a segment: the report names the record that the bit belongs to.
fn flip_records(tampered: &mut Tampered) {
    let (disk, records) = store(LOG, &["one", "two", "three"]);
    let bytes = disk.contents()[SEGMENT].clone();
    let mut starts = Vec::new();
    let mut offset = 0;
    for _ in &records {
        let at = usize::try_from(offset).expect("a small log");
        let place = Place {
            log: LOG,
            segment: Seq::FIRST,
            offset,
        };
        let (_, length) = decode_frame(&bytes[at..], place).expect("a frame stands there");
        starts.push(offset);
        offset += length as u64;
    }
    assert_eq!(offset, bytes.len() as u64, "a closed store has no zeros");
    for bit in 0..8 * bytes.len() {
        let flipped = disk.edited(SEGMENT, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        tampered.flips += 1;
        let report = report(&flipped, None);
        scan_as_read(&flipped);
        let index = starts.partition_point(|start| *start <= (bit / 8) as u64) - 1;
        assert_eq!(report.verdict, Verdict::Damaged, "bit {bit}: {report:?}");
        assert_eq!(
            place(&report),
            Some((records[index].seq, starts[index])),
            "bit {bit}: {report:?}"
        );
        tampered.flips_found += 1;
    }
}

fn open(disk: &SimDisk) -> Connection {
    let store = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
    connection(Box::new(store), Arc::new(ManualClock::at_second(1)))
}

fn execute(store: &Connection, op: &Op) {
    let asked = op.asked(1, store.view().state().domain(UUID));
    asked.of(store, UUID).expect("it is accepted");
}

fn create(name: u8) -> Op {
    Op::Create {
        snapshot: false,
        name: Some(name),
        halt: false,
    }
}

/// The first segment removed, and a file that says that it was archived, with an image that is what the log gave.
fn take_away_the_beginning() {
    let disk = SimDisk::new("store");
    let store = open(&disk);
    execute(&store, &Op::Define);
    // The record before the segment has an image: the first record alone has none.
    let segment = loop {
        execute(&store, &Op::Define);
        store.make_image().expect("there are records");
        let names = disk.contents().into_keys();
        let segments: Vec<String> = names
            .filter(|name| name.strip_suffix(".seg").is_some())
            .collect();
        if let [_, _, third] = &segments[..] {
            break third.clone();
        }
    };
    drop(store);
    let frame = disk.contents()[&segment].clone();
    let last = u64::from_le_bytes(frame[32..40].try_into().expect("8 bytes")) - 1;
    let mut start = b"\x8amtstrt\n\x01\0\0\0\0\0\0\0".to_vec();
    start.extend(&frame[16..32]);
    start.extend(last.to_le_bytes());
    start.extend(&frame[40..72]);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&start[..12]), &start[16..]);
    start[12..16].copy_from_slice(&checksum.to_le_bytes());
    let forged = disk
        .killed()
        .without(SEGMENT)
        .edited("start", |bytes| *bytes = start);
    let found = verify_disk(Arc::new(forged), None, None, &mut |_| {});
    let found = found.expect("the disk is sound");
    let last = Seq::new(last).expect("a record");
    assert_eq!(found.verdict(), Verdict::Damaged, "{found:?}");
    assert_eq!(found.images, [ImageFault::NoBridge(last)]);
}

/// Every bit of every file of a store that was archived once and has images.
fn flip_files(tampered: &mut Tampered) {
    let disk = SimDisk::new("store");
    let archive = disk.beside("archive");
    let store = open(&disk);
    execute(&store, &Op::Define);
    execute(&store, &create(0));
    store.archive_to(&archive).expect("there are records");
    execute(&store, &create(1));
    store.make_image().expect("there are records");
    drop(store);
    let disk = disk.killed();
    let sound = |disk: &SimDisk| {
        let found = verify_disk(Arc::new(disk.clone()), None, None, &mut |_| {});
        let found = found.expect("the disk is sound");
        found.verdict() == Verdict::Unanchored && found.images_ignored == 0
    };
    assert!(sound(&disk));
    for (name, bytes) in disk.contents() {
        // It says who writes, for people.
        if name == "lock" {
            continue;
        }
        for bit in 0..8 * bytes.len() {
            tampered.flips += 1;
            let flipped = disk.edited(&name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            if !sound(&flipped) {
                tampered.flips_found += 1;
            }
        }
    }
}

/// Every range of bytes of a log of two records.
fn cut(tampered: &mut Tampered) {
    let (disk, records) = store(LOG, &["1", "2"]);
    let length = disk.contents()[SEGMENT].len();
    let last = receipt(records.last().expect("there are two"));
    for from in 0..length {
        for to in from + 1..=length {
            tampered.cuts += 1;
            let cut = disk.edited(SEGMENT, |bytes| {
                bytes.drain(from..to);
            });
            // Also where the file `head` is gone, as after a power failure.
            let bare = cut.without("head");
            if from % 7 == 0 {
                scan_as_read(&cut);
                scan_as_read(&bare);
            }
            let found = report(&cut, None).verdict > Verdict::Unanchored
                && report(&bare, Some(last)).verdict > Verdict::Unanchored;
            tampered.cuts_found += u64::from(found);
        }
    }
}

/// Appends one record for each text, each as a process of its own does.
fn append_each(disk: &SimDisk, texts: &[&str]) -> Vec<Record> {
    let mut appended = Vec::new();
    for text in texts {
        let mut store = FileStore::with_limits(Arc::new(disk.clone()), SMALL);
        store.acquire(Duration::ZERO).expect("the disk is sound");
        let expected = store.head();
        let records = store.append(LOG, expected, vec![draft(text)]);
        appended.extend(records.expect("the disk is sound"));
    }
    appended
}

/// Every earlier copy of a log of several segments, each choice of its files beside the rest of the newest ones; and forks
/// of it. A receipt tells, and so does a handle that has read the log before.
fn put_back(tampered: &mut Tampered) {
    let long = "a text that fills a segment soon".repeat(32);
    let texts = ["one", &long, "two", &long, "six", &long];
    let disk = SimDisk::new("store");
    disk.create().expect("the disk is new");
    let mut records = Vec::new();
    let mut copies = Vec::new();
    for text in texts {
        records.extend(append_each(&disk, &[text]));
        let mut copy = disk.contents();
        copy.remove("lock");
        copies.push(copy);
    }
    let last = receipt(records.last().expect("there are some"));
    let newest = copies.pop().expect("there are some");
    let segments = |files: &BTreeMap<String, Vec<u8>>| {
        let mut files = files.clone();
        files.retain(|name, _| name.strip_suffix(".seg").is_some());
        files
    };
    assert!(segments(&newest).len() > 2, "there are several");
    for copy in &copies {
        for choice in 1..1_usize << newest.len() {
            let mut mixed = newest.clone();
            for (place, name) in newest.keys().enumerate() {
                if choice >> place & 1 == 1 {
                    mixed.remove(name);
                    mixed.extend(
                        copy.get_key_value(name)
                            .map(|(name, bytes)| (name.clone(), bytes.clone())),
                    );
                }
            }
            let changed = disk.killed();
            let mut reader = FileStore::over(Arc::new(changed.clone()));
            reader.read(None, &mut |_| Ok(())).expect("it is sound");
            changed.put_back(&mixed, false);
            let verdict = report(&changed, Some(last)).verdict;
            let seen = reader.read(Some(last.head), &mut |_| Ok(()));
            if segments(&mixed) == segments(&newest) {
                // A `head` that is old, or gone, hides nothing.
                assert_eq!(verdict, Verdict::Anchored);
                assert!(seen.is_ok(), "{seen:?}");
                continue;
            }
            tampered.records += 1;
            tampered.records_found += u64::from(verdict > Verdict::Unanchored);
            // A handle that goes on from its last record looks at that one.
            let end = |files| segments(files).into_iter().next_back();
            assert_eq!(seen.is_err(), end(&mixed) != end(&newest), "{seen:?}");
        }
    }
    for (kept, copy) in copies.iter().enumerate() {
        for more in 0..3 {
            let fork = disk.killed();
            fork.put_back(copy, false);
            append_each(&fork, &["else"].repeat(texts.len() - 1 - kept + more));
            tampered.records += 1;
            let verdict = report(&fork, Some(last)).verdict;
            assert_eq!(verdict, Verdict::Forked);
            assert_eq!(report(&fork, None).verdict, Verdict::Unanchored);
            tampered.records_found += 1;
        }
    }
}

/// Records in another order, of another log, and a tail that was written again, checksums and digests included.
fn rearrange(tampered: &mut Tampered) {
    let texts = ["one", "two", "six", "ten"];
    let (disk, records) = store(LOG, &texts);
    let (other, _) = store(LogId([3; 16]), &texts);
    let bytes = disk.contents()[SEGMENT].clone();
    let theirs = other.contents()[SEGMENT].clone();
    let length = bytes.len() / texts.len();
    let part = |index: usize| bytes[index * length..(index + 1) * length].to_vec();
    let last = receipt(records.last().expect("there are four"));
    let mut try_bytes = |changed: Vec<u8>, expected: &[Verdict]| {
        tampered.records += 1;
        let disk = disk
            .without("head")
            .edited(SEGMENT, |bytes| *bytes = changed);
        let verdict = report(&disk, Some(last)).verdict;
        assert!(expected.contains(&verdict), "{verdict:?}, not {expected:?}");
        tampered.records_found += u64::from(verdict > Verdict::Unanchored);
    };
    for order in 0..4_usize.pow(4) {
        let order: Vec<usize> = (0..4).map(|place| order / 4_usize.pow(place) % 4).collect();
        if order == [0, 1, 2, 3] {
            continue;
        }
        let changed = order.iter().flat_map(|index| part(*index)).collect();
        // The last record of a log may be one that was not written to its end.
        try_bytes(changed, &[Verdict::Damaged, Verdict::Truncated]);
    }
    for kept in 0..4 {
        let changed = bytes[..kept * length].to_vec();
        try_bytes(changed, &[Verdict::Truncated]);
        let mut changed = bytes.clone();
        changed[kept * length..(kept + 1) * length]
            .copy_from_slice(&theirs[kept * length..(kept + 1) * length]);
        try_bytes(
            changed,
            &[Verdict::Damaged, Verdict::Truncated, Verdict::Forked],
        );
        let changed = [
            &bytes[..kept * length],
            &bytes[(kept + 1).min(4) * length..],
        ]
        .concat();
        try_bytes(changed, &[Verdict::Damaged, Verdict::Truncated]);
        // Written again from here on, as an attacker would who has the program.
        let mut changed = bytes[..kept * length].to_vec();
        let mut head = kept.checked_sub(1).map(|before| records[before].head());
        for index in kept..4 {
            let durable = head.map(|head: Head| head.seq);
            let record = Record::new(LOG, head, durable, draft("new"));
            let place = Place {
                log: LOG,
                segment: Seq::FIRST,
                offset: (index * length) as u64,
            };
            head = Some(record.head());
            changed.extend(encode_frame(&record, place));
        }
        try_bytes(changed.clone(), &[Verdict::Forked]);
        let rewritten = disk
            .without("head")
            .edited(SEGMENT, |bytes| *bytes = changed);
        assert_eq!(
            report(&rewritten, None).verdict,
            Verdict::Unanchored,
            "only a receipt tells"
        );
    }
}
