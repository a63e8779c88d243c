//! The log through its public calls, on real files.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod append;
mod copy;
mod damage;
mod races;
mod replaced;
mod safety;
mod vectors;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use momentlog_store::{
    Draft, FileStore, Head, Limits, LogId, RealDisk, Record, Store, StoreError, Text,
};

pub(crate) const LOG: LogId = LogId(*b"a log of a test.");

/// Segments small enough that a few records fill several.
pub(crate) const SMALL: Limits = Limits {
    segment_len_first: 512,
    segment_len_max: 2048,
    fill_len_max: 256,
};

pub(crate) fn open(dir: &Path) -> FileStore {
    FileStore::with_limits(Arc::new(RealDisk::new(dir)), SMALL)
}

pub(crate) fn draft(text: &str) -> Draft {
    let salted = Text::Plain {
        salt: [9; 32],
        bytes: text.as_bytes().to_vec(),
    };
    Draft {
        facts: format!("facts of {text}").into_bytes(),
        texts: vec![salted],
    }
}

/// Appends one record for each text, each with a sync of its own; returns the head.
pub(crate) fn append(store: &mut FileStore, texts: &[&str]) -> Head {
    store.acquire(Duration::ZERO).unwrap();
    let mut head = store.head();
    for text in texts {
        let records = store.append(LOG, head, vec![draft(text)]).unwrap();
        head = records.last().map(Record::head);
    }
    head.unwrap()
}

/// Reads all records, up to an error.
pub(crate) fn read(store: &mut FileStore) -> (Vec<Record>, Option<StoreError>) {
    let mut records = Vec::new();
    let outcome = store.read(None, &mut |record| {
        records.push(record);
        Ok(())
    });
    (records, outcome.err())
}

pub(crate) fn facts(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| String::from_utf8(record.facts.clone()).unwrap())
        .collect()
}

/// A store of `count` records in several segments, closed.
pub(crate) fn store_of(count: usize) -> (tempfile::TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let texts: Vec<String> = (0..count).map(|index| format!("record {index}")).collect();
    append(
        &mut open(&dir),
        &texts.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    (parent, dir)
}

pub(crate) fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    found.sort();
    found
}
