//! `momentlog.stat/1`: how much a log holds, and who wrote it.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::ServerDoc;

/// How much a log holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StatDoc {
    schema: &'static str,
    /// Records here.
    pub records: u64,
    /// When the first one was recorded, in microseconds since 1970; in a document as a time.
    #[serde(serialize_with = "time")]
    pub first: Option<i64>,
    /// When the last one was.
    #[serde(serialize_with = "time")]
    pub last: Option<i64>,
    /// Whether records before the first one were archived.
    pub archived: bool,
    /// Bytes of all files; 0 for a store without files.
    pub bytes: u64,
    /// Files of records.
    pub segments: u64,
    /// Files of images.
    pub images: u64,
    /// Domains that are there.
    pub domains: u64,
    /// Snapshots that are there.
    pub snapshots: u64,
    /// Checkpoints that are there.
    pub checkpoints: u64,
    /// Moments of both kinds that were ever made.
    pub moments_ever: u64,
    /// Moments of the longest way from a root to a leaf.
    pub deepest: u64,
    /// Holds that are there.
    pub holds: u64,
    /// Records by who is said to have asked.
    pub actors: BTreeMap<String, u64>,
    /// Records by what they did; one may count for several words.
    pub kinds: BTreeMap<&'static str, u64>,
    /// The database server that holds the log; `None` for one in a directory.
    pub server: Option<ServerDoc>,
}

impl StatDoc {
    /// Returns the document of nothing, to be filled in.
    pub fn new() -> StatDoc {
        StatDoc {
            schema: "momentlog.stat/1",
            records: 0,
            first: None,
            last: None,
            archived: false,
            bytes: 0,
            segments: 0,
            images: 0,
            domains: 0,
            snapshots: 0,
            checkpoints: 0,
            moments_ever: 0,
            deepest: 0,
            holds: 0,
            actors: BTreeMap::new(),
            kinds: BTreeMap::new(),
            server: None,
        }
    }
}

impl Default for StatDoc {
    fn default() -> StatDoc {
        StatDoc::new()
    }
}

#[expect(clippy::ref_option, reason = "serde hands a field in by reference")]
pub(super) fn time<S: Serializer>(micros: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    micros.and_then(super::recorded).serialize(serializer)
}
