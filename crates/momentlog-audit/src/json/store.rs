//! Documents about the store itself: `momentlog.receipt/1`, `momentlog.image/1`, `momentlog.copy/1`, `momentlog.verify/1`
//! and `momentlog.policy/1`.

use momentlog_core::Policy;
use momentlog_engine::Verification;
use momentlog_store::{Copied, Head, Receipt};
use serde::Serialize;

use super::stat::time;
use super::{DomainDoc, rules};

/// A receipt of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiptDoc {
    schema: &'static str,
    receipt: String,
    log: String,
    seq: u64,
    digest: String,
}

impl ReceiptDoc {
    /// Returns the document of a receipt.
    pub fn of(receipt: &Receipt) -> ReceiptDoc {
        ReceiptDoc {
            schema: "momentlog.receipt/1",
            receipt: receipt.to_string(),
            log: receipt.log.to_string(),
            seq: receipt.head.seq.get(),
            digest: receipt.head.digest.to_string(),
        }
    }
}

/// An image that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ImageDoc {
    schema: &'static str,
    seq: u64,
    digest: String,
}

impl ImageDoc {
    /// Returns the document of the image of a record.
    pub fn of(head: Head) -> ImageDoc {
        ImageDoc {
            schema: "momentlog.image/1",
            seq: head.seq.get(),
            digest: head.digest.to_string(),
        }
    }
}

/// What a copy has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyDoc {
    schema: &'static str,
    log: String,
    records: u64,
    seq: u64,
    digest: String,
}

impl CopyDoc {
    /// Returns the document of a copy.
    pub fn of(copied: &Copied) -> CopyDoc {
        CopyDoc {
            schema: "momentlog.copy/1",
            log: copied.end.log.to_string(),
            records: copied.records,
            seq: copied.end.head.seq.get(),
            digest: copied.end.head.digest.to_string(),
        }
    }
}

/// What a verification has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyDoc {
    schema: &'static str,
    verdict: &'static str,
    status: u8,
    log: Option<String>,
    records: u64,
    archived: Option<u64>,
    seq: Option<u64>,
    digest: Option<String>,
    texts_erased: u64,
    images: usize,
    images_ignored: usize,
    domains: usize,
    snapshots: usize,
    checkpoints: usize,
    jobs_open: usize,
    anchored_to: Option<u64>,
    unproven: Option<u64>,
    receipt_archived: bool,
    faults: Vec<String>,
    server: Option<ServerDoc>,
}

impl VerifyDoc {
    /// Returns the document of a verification, with the exit status of the program, every fault in words, and the database
    /// server that holds the log.
    pub fn of(
        found: &Verification,
        status: u8,
        faults: Vec<String>,
        server: Option<ServerDoc>,
    ) -> VerifyDoc {
        let log = &found.log;
        let (domains, snapshots, checkpoints) = found.counts;
        let unproven = log.anchored.zip(log.head);
        VerifyDoc {
            schema: "momentlog.verify/1",
            verdict: found.verdict().as_str(),
            status,
            log: log.log.map(|id| id.to_string()),
            records: log.records,
            archived: log.start.map(|start| start.seq.get()),
            seq: log.head.map(|head| head.seq.get()),
            digest: log.head.map(|head| head.digest.to_string()),
            texts_erased: log.texts_erased,
            images: found.images_sound,
            images_ignored: found.images_ignored,
            domains,
            snapshots,
            checkpoints,
            jobs_open: found.jobs_open,
            anchored_to: log.anchored.map(|head| head.seq.get()),
            unproven: unproven.map(|(anchored, head)| head.seq.get() - anchored.seq.get()),
            receipt_archived: log.receipt_archived,
            faults,
            server,
        }
    }
}

/// The database server that holds a log, as of when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServerDoc {
    /// Its version.
    pub version: String,
    /// Its clock, in microseconds since 1970; in a document as a time.
    #[serde(serialize_with = "time")]
    pub clock: Option<i64>,
    /// The standbys that a commit waits for; empty if it waits for none.
    pub synchronous: String,
    /// How far it is behind, if it is a standby.
    pub standby: Option<StandbyDoc>,
}

/// How far a standby is behind its primary, as far as it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StandbyDoc {
    /// Whether it is connected to its primary.
    pub connected: bool,
    /// Bytes of the write-ahead log that it has received and does not show yet.
    pub not_shown: u64,
    /// When the last transaction that it shows was committed, in microseconds since 1970; in a document as a time.
    #[serde(serialize_with = "time")]
    pub shown: Option<i64>,
}

/// The rules of a domain, or those of new domains with the settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyDoc {
    schema: &'static str,
    domain: Option<DomainDoc>,
    policy: Vec<&'static str>,
    request_window_s: Option<u32>,
}

impl PolicyDoc {
    /// Returns the document of a domain's policy.
    pub fn of_domain(domain: DomainDoc, policy: Policy) -> PolicyDoc {
        PolicyDoc {
            schema: "momentlog.policy/1",
            domain: Some(domain),
            policy: rules(policy),
            request_window_s: None,
        }
    }

    /// Returns the document of a store's settings.
    pub fn of_store(policy: Policy, request_window_s: u32) -> PolicyDoc {
        PolicyDoc {
            schema: "momentlog.policy/1",
            domain: None,
            policy: rules(policy),
            request_window_s: Some(request_window_s),
        }
    }
}
