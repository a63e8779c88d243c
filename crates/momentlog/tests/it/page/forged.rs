//! Logs as a forger, a crash or an eraser leaves them, and what the reader of the page says of each.

use std::ops::Range;
use std::time::Duration;

use momentlog::store::{
    Draft, FileStore, LogId, Place, RealDisk, Record, Store as _, Text, Verdict, decode_frame,
    encode_frame,
};
use momentlog::verify;

use super::*;

pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.concat() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

/// The only segment of a store, frame by frame.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    frames: Vec<(Record, Range<usize>)>,
}

impl Segment {
    fn read(store: &Path) -> Segment {
        let path = store.join("00000000000000000001.seg");
        let bytes = std::fs::read(&path).unwrap();
        let mut frames = Vec::new();
        let mut offset = 0;
        while offset < bytes.len() {
            let place = place(&bytes, offset);
            let (record, length) = decode_frame(&bytes[offset..], place).unwrap();
            frames.push((record, offset..offset + length));
            offset += length;
        }
        Segment {
            path,
            bytes,
            frames,
        }
    }

    fn log(&self) -> LogId {
        place(&self.bytes, 0).log
    }

    /// Writes the segment with a changed frame, whose checksums are made to fit.
    fn write_with(&self, frame: usize, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.bytes.clone();
        let range = self.frames[frame].1.clone();
        let place = place(&bytes, range.start);
        let frame = &mut bytes[range];
        change(frame);
        let sum = crc32c(&[&frame[..12], &frame[16..96]]);
        frame[12..16].copy_from_slice(&sum.to_le_bytes());
        let (covered, checksum) = frame.split_at_mut(frame.len() - 4);
        let (first, offset) = (place.segment.get(), place.offset);
        let sum = crc32c(&[
            &place.log.0,
            &first.to_le_bytes(),
            &offset.to_le_bytes(),
            covered,
        ]);
        checksum.copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&self.path, bytes).unwrap();
    }

    fn restore(&self) {
        std::fs::write(&self.path, &self.bytes).unwrap();
    }
}

fn place(bytes: &[u8], offset: usize) -> Place {
    Place {
        log: LogId(bytes[16..32].try_into().unwrap()),
        segment: Seq::FIRST,
        offset: offset as u64,
    }
}

/// A domain with the snapshots r (1), s (2) below it, and t (3) below that, which is current.
fn three_snapshots(scratch: &Scratch) -> PathBuf {
    let (store, domain) = scratch.with_domain();
    for name in ["r", "s", "t"] {
        snapshot(&domain, name).unwrap();
    }
    drop((domain, store));
    scratch.path()
}

/// Appends a record like the last one, with these events, and one more change to its facts.
fn forge(store: &Path, events: &[Vec<u8>], change: impl FnOnce(&mut Vec<u8>)) {
    let segment = Segment::read(store);
    let (last, _) = segment.frames.last().unwrap();
    let provenance = u32::from_le_bytes(last.facts[40..44].try_into().unwrap()) as usize;
    let mut facts = last.facts[..48 + provenance].to_vec();
    facts[4..8].copy_from_slice(&u32::try_from(events.len()).unwrap().to_le_bytes());
    facts[32..40].copy_from_slice(&last.seq.get().to_le_bytes());
    facts.extend(events.concat());
    change(&mut facts);
    let mut writer = FileStore::new(RealDisk::new(store));
    writer.acquire(Duration::from_secs(10)).unwrap();
    let texts = vec![];
    let draft = Draft { facts, texts };
    writer
        .append(segment.log(), Some(last.head()), vec![draft])
        .unwrap();
}

fn event(kind: u16, moment: u64, parent: u64, body: &[u8]) -> Vec<u8> {
    let version: u16 = 1;
    let length = u32::try_from(body.len()).unwrap();
    [
        &kind.to_le_bytes()[..],
        &version.to_le_bytes(),
        &moment.to_le_bytes(),
        &parent.to_le_bytes(),
        &length.to_le_bytes(),
        &[0; 4],
        body,
    ]
    .concat()
}

/// Appends a hold of a moment of the domain that the last record is about; no command makes one yet.
pub(super) fn hold(store: &Path, moment: u64) {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let body = [text("tag"), 1_i64.to_le_bytes().to_vec(), text("somebody")].concat();
    forge(store, &[event(0x0501, moment, 0, &body)], |_| {});
}

/// The deletion of a moment alone.
fn deletion(moment: u64, run: (u64, u64), moved: u64, current: u64) -> Vec<u8> {
    let numbers = [1, run.0, run.1, moved, current];
    let mut body = vec![0];
    body.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    event(0x0203, moment, 0, &body)
}

/// Whether the library takes the log as it is.
fn is_taken(scratch: &Scratch) -> bool {
    Connection::open_read_only(&scratch.uri()).is_ok_and(|reader| reader.refresh().is_ok())
}

#[test]
fn what_does_not_fit_is_refused_at_once() {
    let cases: [(&str, &str, Vec<Vec<u8>>); 18] = [
        ("an unknown kind", "0x9999", vec![event(0x9999, 0, 0, &[])]),
        (
            "bitmaps of no moment",
            "makes no sense",
            vec![event(0x0406, 0, 0, &[0; 8])],
        ),
        (
            "a long body",
            "bytes behind a body",
            vec![event(0x0204, 3, 1, &[0])],
        ),
        (
            "a long run state",
            "bytes behind a body",
            vec![event(0x0102, 0, 0, &[1, 0, 0, 0])],
        ),
        (
            "a cut body",
            "a body is cut",
            vec![event(0x0102, 0, 0, &[1, 0])],
        ),
        (
            "no bool",
            "neither 0 nor 1",
            vec![event(0x0102, 0, 0, &[1, 0, 2])],
        ),
        (
            "current",
            "moment 77 cannot be current",
            vec![event(0x0205, 0, 77, &[])],
        ),
        (
            "a moment",
            "moment 77 is not there",
            vec![event(0x0204, 77, 1, &[])],
        ),
        (
            "no moment",
            "makes no sense",
            vec![event(0x0204, 0, 1, &[])],
        ),
        (
            "a parent",
            "cannot hang below 77",
            vec![event(0x0204, 3, 77, &[])],
        ),
        (
            "its own parent",
            "cannot hang below",
            vec![event(0x0204, 3, 3, &[])],
        ),
        (
            "a cycle of two",
            "cannot hang below",
            vec![event(0x0204, 2, 3, &[])],
        ),
        (
            "a cycle of three",
            "cannot hang below",
            vec![event(0x0204, 1, 3, &[])],
        ),
        (
            "a long run",
            "removes something else",
            vec![deletion(3, (3, 1 << 60), 0, 0)],
        ),
        (
            "another run",
            "removes something else",
            vec![deletion(3, (2, 1), 0, 0)],
        ),
        (
            "a child that is not",
            "moves other children",
            vec![deletion(3, (3, 1), 1, 0)],
        ),
        (
            "what was current",
            "moment 3 cannot be current",
            vec![deletion(3, (3, 1), 0, 3)],
        ),
        (
            "after the removal",
            "is not there",
            vec![event(0x0104, 0, 0, &[]), event(0x0104, 0, 0, &[])],
        ),
    ];
    for (what, why, events) in cases {
        let scratch = Scratch::new();
        let store = three_snapshots(&scratch);
        forge(&store, &events, |_| {});
        let (verified, said) = read(&store, None);
        assert!(!verified && said.contains(why), "{what}: {said}");
        assert!(said.contains("at offset"), "{what}: {said}");
        assert!(!is_taken(&scratch), "{what}");
    }
}

#[test]
fn what_fits_is_taken_from_a_forger_as_well() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let moves = [(3, 1), (2, 3), (3, 0), (1, 2)];
    let moves = moves.map(|(moment, parent)| event(0x0204, moment, parent, &[]));
    forge(&store, &moves, |_| {});
    forge(&store, &[deletion(2, (2, 1), 1, 1)], |_| {});
    assert!(is_taken(&scratch));
    agrees(&store);
}

#[test]
fn facts_that_are_not_as_the_page_says_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 6] = [
        ("zero of the facts", |facts| facts[44] = 1),
        ("kind of the record", |facts| facts[0] = 4),
        ("genesis", |facts| facts[0] = 1),
        ("zero of the event", |facts| {
            let at = facts.len() - 4;
            facts[at] = 1;
        }),
        ("version of the event", |facts| {
            let at = facts.len() - 26;
            facts[at] = 2;
        }),
        ("bytes behind the events", |facts| facts.push(0)),
    ];
    for (what, change) in cases {
        let scratch = Scratch::new();
        let store = three_snapshots(&scratch);
        forge(&store, &[event(0x0204, 3, 1, &[])], change);
        let (verified, said) = read(&store, None);
        assert!(!verified && said.contains("at offset"), "{what}: {said}");
        assert!(!is_taken(&scratch), "{what}");
    }
}

#[test]
fn bytes_that_the_page_promises_to_be_zero_are_checked() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let segment = Segment::read(&store);
    let texts_at = |record: &Record| 96 + record.facts.len();
    let with_text = segment
        .frames
        .iter()
        .position(|(record, _)| !record.texts.is_empty())
        .unwrap();
    let (record, _) = &segment.frames[with_text];
    let first_text = texts_at(record);
    let padded = segment.frames.iter().position(|(record, range)| {
        let lengths = record.texts.iter().map(|text| match text {
            Text::Plain { bytes, .. } => 40 + bytes.len(),
            Text::Erased { length, .. } => 40 + *length as usize,
        });
        range.len() > texts_at(record) + lengths.sum::<usize>() + 4
    });
    segment.write_with(0, |_| {});
    assert!(read(&store, None).0);
    // An erased text keeps its commitment; a byte of it is left.
    let commitment = record.texts[0].commitment();
    let leave = |byte: u8| {
        let Text::Plain { bytes, .. } = &record.texts[0] else {
            panic!("the text is plain");
        };
        let length = bytes.len();
        segment.write_with(with_text, |frame| {
            frame[first_text] = 1;
            frame[first_text + 8..first_text + 40].copy_from_slice(&commitment.0);
            frame[first_text + 40..first_text + 40 + length].fill(0);
            frame[first_text + 40 + length - 1] = byte;
        });
        read(&store, None)
    };
    let (verified, said) = leave(0);
    assert!(verified && said.contains(" 1 texts erased"), "{said}");
    let (verified, said) = leave(1);
    assert!(!verified && said.contains("a text is malformed"), "{said}");
    for (frame, place, why) in [
        (0, 92, "the header makes no sense"),
        (with_text, first_text + 2, "a text is malformed"),
    ] {
        segment.write_with(frame, |frame| frame[place] = 1);
        let (verified, said) = read(&store, None);
        assert!(!verified && said.contains(why), "{said}");
    }
    segment.write_with(padded.unwrap(), |frame| frame[frame.len() - 5] = 1);
    let (verified, said) = read(&store, None);
    assert!(!verified && said.contains("padding"), "{said}");
}

#[test]
fn a_log_with_erased_texts_is_read_by_the_page_alone() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let mut segment = Segment::read(&store);
    let mut erased = 0;
    for (record, range) in &mut segment.frames {
        for text in &mut record.texts {
            let commitment = text.commitment();
            if let Text::Plain { bytes, .. } = text {
                let length = u32::try_from(bytes.len()).unwrap();
                *text = Text::Erased { commitment, length };
                erased += 1;
            }
        }
        let place = place(&segment.bytes, range.start);
        segment.bytes[range.clone()].copy_from_slice(&encode_frame(record, place));
    }
    segment.restore();
    assert!(erased > 1);
    agrees(&store);
    let (_, said) = read(&store, None);
    assert!(said.contains(&format!(" {erased} texts erased")), "{said}");
}

/// The reader and the library say the same of how a log ends.
#[track_caller]
fn ends(store: &Path, verdict: Verdict) -> String {
    let found = verify(store, None, None, &mut |_| {}).unwrap();
    assert_eq!(found.verdict(), verdict, "{:?}", found.log.error);
    let (verified, said) = read(store, None);
    let is_sound = matches!(verdict, Verdict::Unanchored | Verdict::TornTail);
    assert_eq!(verified, is_sound, "{said}");
    assert_eq!(
        said.contains("torn tail:"),
        verdict == Verdict::TornTail,
        "{said}"
    );
    said
}

#[test]
fn a_torn_tail_is_told_from_damage() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let segment = Segment::read(&store);
    let head = std::fs::read(store.join("head")).unwrap();
    let count = segment.frames.len();
    let (_, last) = &segment.frames[count - 1];
    let (_, before) = &segment.frames[count - 2];
    ends(&store, Verdict::Unanchored);
    let tear = |at: usize, fill: u8| {
        let mut bytes = segment.bytes.clone();
        bytes[at..last.end].fill(fill);
        std::fs::write(&segment.path, bytes).unwrap();
    };
    // `head` names the last record, and so it was durable.
    tear(last.start + 200, 0);
    assert!(ends(&store, Verdict::Damaged).contains("but head names"));
    tear(last.start, 0);
    assert!(ends(&store, Verdict::Truncated).contains("but head names"));
    // It did not get so far.
    std::fs::write(store.join("head"), [0; 72]).unwrap();
    ends(&store, Verdict::Unanchored);
    for at in [last.start + 8, last.start + 200, last.end - 1] {
        tear(at, 0xee);
        let said = ends(&store, Verdict::TornTail);
        assert!(said.contains(&format!("{} records verified", count - 1)));
    }
    // Bytes behind the last record.
    std::fs::write(&segment.path, [&segment.bytes[..], &[0; 96], b"x"].concat()).unwrap();
    ends(&store, Verdict::TornTail);
    // The last frame says that the one before was durable.
    let mut bytes = segment.bytes.clone();
    bytes[before.start + 100] ^= 1;
    std::fs::write(&segment.path, &bytes).unwrap();
    assert!(ends(&store, Verdict::Damaged).contains("a later frame says"));
    // Unless that one is bad as well.
    bytes[last.start + 100] ^= 1;
    std::fs::write(&segment.path, &bytes).unwrap();
    ends(&store, Verdict::TornTail);
    // A segment that does not come next, of which nothing says more.
    segment.restore();
    let later = store.join("00000000000000000099.seg");
    std::fs::write(&later, b"left over").unwrap();
    ends(&store, Verdict::TornTail);
    std::fs::remove_file(later).unwrap();
    std::fs::write(store.join("head"), head).unwrap();
    ends(&store, Verdict::Unanchored);
}

#[test]
fn a_segment_of_zeros_only_holds_no_record() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let segment = Segment::read(&store);
    std::fs::write(&segment.path, vec![0; 4096]).unwrap();
    let (verified, said) = read(&store, None);
    assert!(!verified && said.contains("but head names"), "{said}");
    std::fs::remove_file(store.join("head")).unwrap();
    let (verified, said) = read(&store, None);
    assert!(!verified && said.contains("no record"), "{said}");
    std::fs::remove_file(&segment.path).unwrap();
    let (verified, said) = read(&store, None);
    assert!(!verified && said.contains("no segment"), "{said}");
}

#[test]
fn a_segment_that_is_longer_than_any_can_be_is_damage() {
    let scratch = Scratch::new();
    let store = three_snapshots(&scratch);
    let segment = Segment::read(&store);
    let file = std::fs::File::options()
        .write(true)
        .open(&segment.path)
        .unwrap();
    file.set_len(16 << 20).unwrap();
    ends(&store, Verdict::Unanchored);
    file.set_len((16 << 20) + 1).unwrap();
    assert!(ends(&store, Verdict::Damaged).contains("longer than a segment can be"));
}
