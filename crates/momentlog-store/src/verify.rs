//! Verification: what can be said of a log, from the bytes alone and against a receipt.

use crate::error::Damage;
use crate::{
    Head, LogId, Receipt, Record, Retention, Store, StoreError, Text, TornTail, read_checked,
};

/// What verification found, worst last. The number is the exit status of `momentlog verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Consistent, and it holds what the receipt proves.
    Anchored,
    /// Consistent in itself. A whole rewrite would be as well: only a receipt kept elsewhere tells.
    Unanchored,
    /// An interrupted write left bytes behind the last record, or in `head`.
    TornTail,
    /// Records that were there are not.
    Truncated,
    /// Another history than the receipt's.
    Forked,
    /// A segment is missing.
    Gap,
    /// Bytes are not what was written.
    Damaged,
}

impl Verdict {
    /// The exit status: 0 anchored or unanchored (3 if `strict`, when only an anchor is good enough), 4 torn tail,
    /// 5 truncated, 6 forked, 7 gap, 8 damaged.
    pub fn exit_status(self, strict: bool) -> u8 {
        match self {
            Verdict::Unanchored if strict => 3,
            Verdict::Anchored | Verdict::Unanchored => 0,
            Verdict::TornTail => 4,
            Verdict::Truncated => 5,
            Verdict::Forked => 6,
            Verdict::Gap => 7,
            Verdict::Damaged => 8,
        }
    }

    /// The verdict in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Anchored => "anchored",
            Verdict::Unanchored => "consistent, unanchored",
            Verdict::TornTail => "torn tail",
            Verdict::Truncated => "truncated or rolled back",
            Verdict::Forked => "forked",
            Verdict::Gap => "gap",
            Verdict::Damaged => "damaged",
        }
    }
}

/// What verification found.
#[derive(Debug)]
pub struct VerifyReport {
    /// The worst of it.
    pub verdict: Verdict,
    /// The log's id.
    pub log: Option<LogId>,
    /// The last record that was moved to an archive, which was not looked at.
    pub start: Option<Head>,
    /// The last record that verified.
    pub head: Option<Head>,
    /// Number of records that verified.
    pub records: u64,
    /// Number of texts that were erased.
    pub texts_erased: u64,
    /// The torn tail.
    pub torn: Option<TornTail>,
    /// Whether the file `head` says nothing, because its writing was interrupted or it is damaged.
    pub head_torn: bool,
    /// The record of the receipt, if the log holds it: what comes behind it is not proven.
    pub anchored: Option<Head>,
    /// Whether the receipt is of a record that was archived, so that only the archive can anchor it.
    pub receipt_archived: bool,
    /// What is wrong, with segment, offset and seq.
    pub error: Option<StoreError>,
}

impl VerifyReport {
    /// The exit status of a verdict on this log: as [`Verdict::exit_status`], and 3 if a receipt was given and only the
    /// archive, which was not, could be compared with it.
    pub fn exit_status(&self, verdict: Verdict, strict: bool) -> u8 {
        verdict.exit_status(strict || self.receipt_archived)
    }
}

/// Reads the whole log in any store, checks that it is one chain from its beginning, and compares it with a receipt if there is
/// one. Of a [`FileStore`](crate::FileStore) it checks every rule of the format.
///
/// `each` sees every record that verified, in order, for checks of a higher layer.
///
/// # Errors
///
/// [`StoreError::Missing`], [`StoreError::NewerFormat`] and what the file system says. Damage is no error here: it is the
/// report.
pub fn verify(
    store: &mut dyn Store,
    receipt: Option<Receipt>,
    each: &mut dyn FnMut(Record),
) -> Result<VerifyReport, StoreError> {
    let mut records = 0;
    let mut texts_erased = 0;
    let (start, mut read) = match store.retention().map_or(Ok(None), Retention::start) {
        Ok(start) => (start, Ok(())),
        Err(error) => (None, Err(error)),
    };
    let mut head = start;
    let mut proven = None;
    let mut compare = |head: Head| {
        if let Some(receipt) = receipt
            && receipt.head.seq == head.seq
        {
            proven = Some(receipt.head.digest == head.digest);
        }
    };
    start.map(&mut compare);
    if read.is_ok() {
        read = read_checked(store, None, start, &mut |record| {
            records += 1;
            texts_erased += record
                .texts
                .iter()
                .filter(|text| matches!(text, Text::Erased { .. }))
                .count() as u64;
            compare(record.head());
            head = Some(record.head());
            each(record);
            Ok(())
        });
    }
    let log = store.log_id();
    let torn = store.torn();
    let (mut verdict, error) = match read {
        Ok(()) if torn.tail.is_some() || torn.head => (Verdict::TornTail, None),
        Ok(()) => (Verdict::Unanchored, None),
        Err(error) => match &error {
            StoreError::Damaged { why, .. } => {
                let verdict = match why {
                    Damage::Truncated { .. } => Verdict::Truncated,
                    Damage::Gap { .. } => Verdict::Gap,
                    _ => Verdict::Damaged,
                };
                (verdict, Some(error))
            }
            StoreError::Untrue { .. } => (Verdict::Damaged, Some(error)),
            _ => return Err(error),
        },
    };
    let mut anchored = None;
    let mut receipt_archived = false;
    if let Some(receipt) = receipt {
        let against = match proven {
            Some(true) if log == Some(receipt.log) => {
                anchored = Some(receipt.head);
                Verdict::Anchored
            }
            Some(_) => Verdict::Forked,
            None if log.is_some_and(|log| log != receipt.log) => Verdict::Forked,
            None if start.is_some_and(|start| receipt.head.seq < start.seq) => {
                receipt_archived = true;
                Verdict::Unanchored
            }
            None => Verdict::Truncated,
        };
        verdict = if verdict == Verdict::Unanchored {
            against
        } else {
            verdict.max(against)
        };
    }
    Ok(VerifyReport {
        verdict,
        log,
        start,
        head,
        records,
        texts_erased,
        torn: torn.tail,
        head_torn: torn.head,
        anchored,
        receipt_archived,
        error,
    })
}
