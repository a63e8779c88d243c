//! What must hold for any bytes and any text: no panic, and what was read can be written and read again.

use std::sync::Arc;

use momentlog::core::{DomainUuid, MomentName};
use momentlog::store::{
    Digest, Draft, FileStore, LogId, MemoryStore, Place, RealDisk, Record, Seq, Store, Text,
    decode_frame, encode_frame,
};
use momentlog::xml::{
    CheckpointView, SnapshotView, read_checkpoint, read_checkpoint_redefine, read_domain,
    read_snapshot, read_snapshot_redefine, write_checkpoint, write_domain, write_snapshot,
};
use momentlog::{Connection, ManualClock};

use crate::suite::connection;

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

/// Opens, reads and verifies a log whose first segment is these bytes, and tries to write to it.
///
/// # Panics
///
/// If reading or writing panics, or reading again gives something else.
pub fn log(bytes: &[u8], dir: &std::path::Path) {
    let path = dir.join("store");
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir(&path).expect("the scratch directory can be written");
    std::fs::write(path.join("00000000000000000001.seg"), bytes)
        .expect("the scratch directory can be written");
    let read = || {
        let mut records = Vec::new();
        let outcome = FileStore::new(RealDisk::new(&path)).read(None, &mut |record| {
            records.push(record);
            Ok(())
        });
        (records, outcome.is_ok())
    };
    let (first, sound) = read();
    let _ = momentlog::verify(&path, None, None, &mut |_| {});
    let mut store = FileStore::new(RealDisk::new(&path));
    let writable = store.begin(std::time::Duration::ZERO).is_ok();
    assert_eq!(
        writable, sound,
        "a log that reads to its end can be written, and no other"
    );
    drop(store);
    assert_eq!(read().0, first);
}

/// Replays a log whose chain is whole, but whose facts and texts are any bytes.
///
/// # Panics
///
/// If replay panics.
pub fn facts(drafts: &[(Vec<u8>, Vec<u8>)]) {
    let mut store = MemoryStore::new();
    for (facts, text) in drafts {
        let texts = vec![Text::Plain {
            salt: [0; 32],
            bytes: text.clone(),
        }];
        let head = store.head();
        store
            .append(
                LOG,
                head,
                vec![Draft {
                    facts: facts.clone(),
                    texts,
                }],
            )
            .expect("memory takes everything");
    }
    let connection: Connection = connection(Box::new(store), Arc::new(ManualClock::default()));
    if let Ok(view) = connection.refresh() {
        assert_eq!(view.state().check(), Ok(()));
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
