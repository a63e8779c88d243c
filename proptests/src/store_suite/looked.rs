//! What a store does that is looked through for records.

use std::ops::ControlFlow;

use momentlog::store::{Digest, Head, Record, Seq, Store, StoreError};

use super::{Breach, NewStore, append, done, end_of, holds, outlined, read_all, same, scan};

/// Enough that a store with short segments has several.
const RECORDS: u64 = 20;

fn filled(store: &mut dyn Store) -> Result<Vec<Record>, Breach> {
    let mut all = Vec::new();
    for record in 0..RECORDS {
        let end = end_of(&all);
        all.extend(append(store, end, &[&format!("record {record}")])?);
    }
    Ok(all)
}

fn seq(number: u64) -> Seq {
    Seq::new(number).expect("it is not 0")
}

/// Checks one handle of a store that has these records.
type Check = dyn Fn(&mut dyn Store, &[Record]) -> Result<(), Breach>;

/// Checks a handle, another reader of it, and another handle.
fn each_handle(mut new: NewStore, check: &Check) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let all = filled(store)?;
    check(store, &all)?;
    if let Some(mut reader) = store.reader() {
        check(reader.as_mut(), &all)?;
    }
    if let Some(open) = &new.open {
        check(open().as_mut(), &all)?;
    }
    done(
        "a store that nobody writes is acquired",
        store.acquire(super::SHORT),
    )?;
    check(store, &all)?;
    store.release();
    same("looking changes nothing", &read_all(store)?, &all)
}

/// A scan gives out what reading gives out.
pub(super) fn a_scan(new: NewStore) -> Result<(), Breach> {
    each_handle(new, &|store, all| {
        for from in 0..=all.len() {
            let after = end_of(&all[..from]);
            let rule = "a scan gives out the records after the one that is named, and no other";
            same(
                rule,
                &done(rule, scan(store, after))?,
                &outlined(&all[from..]),
            )?;
        }
        for number in 1..=RECORDS + 3 {
            let at = seq(number);
            let digest = Digest([9; 32]);
            let rest = &all[all
                .len()
                .min(usize::try_from(number).expect("a small number"))..];
            let rule = "a scan after a record that is not the log's fails as reading does, or gives out what follows";
            match scan(store, Some(Head { seq: at, digest })) {
                Ok(outlines) => same(rule, &outlines, &outlined(rest))?,
                Err(StoreError::Forked { at: found }) => {
                    same(rule, &(found <= at, number <= RECORDS), &(true, true))?;
                }
                Err(StoreError::Truncated { .. }) => same(rule, &(number > RECORDS), &true)?,
                Err(error) => holds(rule, false, error)?,
            }
        }
        Ok(())
    })
}

/// A scan that is broken off goes no further, and can be taken up again.
pub(super) fn a_scan_that_breaks_off(new: NewStore) -> Result<(), Breach> {
    each_handle(new, &|store, all| {
        for enough in 1..=all.len() {
            let mut seen = Vec::new();
            let mut after = None;
            while seen.len() < all.len() {
                let mut lot = 0;
                let scanned = store.scan(after, &mut |outline| {
                    lot += 1;
                    seen.push(outline.seq);
                    if lot < enough {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                let rule = "a scan that is broken off is no error, and calls no more";
                done(rule, scanned)?;
                holds(rule, 0 < lot && lot <= enough, lot)?;
                after = end_of(&all[..seen.len().min(all.len())]);
            }
            let seqs: Vec<Seq> = all.iter().map(|record| record.seq).collect();
            let rule = "a scan is taken up where it was broken off";
            same(rule, &seen, &seqs)?;
        }
        Ok(())
    })
}

/// The last record for which something holds, and the record of a seq.
pub(super) fn a_search(new: NewStore) -> Result<(), Breach> {
    each_handle(new, &|store, all| {
        // Neither ascending nor descending, so that what an earlier search has learnt is used.
        for number in (0..=RECORDS + 2).rev().chain(0..=RECORDS + 2) {
            let rule = "the last record for which something holds is found";
            let last = store.last_where(&mut |outline| outline.seq.get() <= number);
            let count = usize::try_from(number).expect("a small number");
            let wanted = all[..count.min(all.len())].last().cloned();
            same(rule, &done(rule, last)?, &wanted)?;
            let facts = all.get(count).map(|record| record.facts.clone());
            let last = store.last_where(&mut |outline| {
                Some(outline.facts) != facts.as_deref() && outline.seq.get() <= number
            });
            same(rule, &done(rule, last)?, &wanted)?;
            if let Some(at) = Seq::new(number) {
                let rule = "a record is found by its seq, and none behind the end";
                let wanted = all.get(count - 1).cloned();
                same(rule, &done(rule, store.record(at))?, &wanted)?;
            }
        }
        Ok(())
    })
}
