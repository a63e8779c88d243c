//! What every [`Store`] does, in memory, in files, in a table of one's own.

mod looked;
mod retained;

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use momentlog::store::{Digest, Draft, Head, LogId, Record, Seq, Store, StoreError, Text, Written};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;

use crate::op::ops;
use crate::suite::run;

/// The log of the suite.
const LOG: LogId = LogId([0x5a; 16]);

/// How long a handle waits for another one that is about to release the store.
const SHORT: Duration = Duration::from_secs(10);

/// How many sequences of commands the suite plays.
const SEQUENCES: usize = 16;

/// A new, empty store.
pub struct NewStore {
    store: Box<dyn Store>,
    open: Option<Opener>,
}

type Opener = Box<dyn Fn() -> Box<dyn Store>>;

impl fmt::Debug for NewStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewStore")
            .field("store", &self.store)
            .field("is_shared", &self.open.is_some())
            .finish()
    }
}

impl NewStore {
    /// A store that has this one handle, and is gone with it.
    pub fn alone(store: impl Store + 'static) -> NewStore {
        NewStore {
            store: Box::new(store),
            open: None,
        }
    }

    /// A store of which `open` returns one handle after the other.
    pub fn shared<S: Store + 'static>(open: impl Fn() -> S + 'static) -> NewStore {
        NewStore {
            store: Box::new(open()),
            open: Some(Box::new(move || Box::new(open()))),
        }
    }
}

/// A rule of the contract that a store breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The rule.
    pub rule: &'static str,
    /// What the store did.
    pub seen: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a store must do this: {}; {}", self.rule, self.seen)
    }
}

impl std::error::Error for Breach {}

/// Checks that a store keeps the contract of [`Store`], and that of [`Retention`](momentlog::store::Retention) if it has it. Each call of `make` returns another new store.
///
/// It also plays commands over the store, as [`run`] does.
///
/// # Panics
///
/// If the store breaks the contract; the message names the rule.
pub fn store_suite(make: &mut dyn FnMut() -> NewStore) {
    if let Err(breach) = check_store(make) {
        panic!("{breach}");
    }
    let mut runner = TestRunner::deterministic();
    for _ in 0..SEQUENCES {
        let commands = ops(24).new_tree(&mut runner);
        let commands = commands.expect("commands can be generated").current();
        run(&commands, make().store);
    }
}

/// As [`store_suite`], without playing commands: returns the first rule that the store breaks.
///
/// # Errors
///
/// The [`Breach`].
pub fn check_store(make: &mut dyn FnMut() -> NewStore) -> Result<(), Breach> {
    let checks = [
        an_empty_log,
        an_append,
        an_append_elsewhere,
        a_read,
        a_reader_that_stops,
        a_place_that_is_not_there,
        looked::a_scan,
        looked::a_scan_that_breaks_off,
        looked::a_search,
        another_reader,
        two_handles,
        threads,
        retained::images,
        retained::an_archive,
    ];
    checks.iter().try_for_each(|check| check(make()))
}

/// Compares what a store did with what it must do.
fn same<T: PartialEq + fmt::Debug>(rule: &'static str, got: &T, wanted: &T) -> Result<(), Breach> {
    if got == wanted {
        return Ok(());
    }
    let seen = format!("it gave {got:?} in place of {wanted:?}");
    Err(Breach { rule, seen })
}

fn holds(rule: &'static str, holds: bool, seen: impl fmt::Debug) -> Result<(), Breach> {
    if holds {
        return Ok(());
    }
    let seen = format!("it gave {seen:?}");
    Err(Breach { rule, seen })
}

/// Returns what a call gave that must succeed.
fn done<T>(rule: &'static str, result: Result<T, StoreError>) -> Result<T, Breach> {
    result.map_err(|error| Breach {
        rule,
        seen: format!("it failed: {error} ({error:?})"),
    })
}

fn draft(text: &str) -> Draft {
    Draft {
        facts: format!("facts of {text}\0\u{ff}").into_bytes(),
        texts: vec![
            Text::Plain {
                salt: [7; 32],
                bytes: text.as_bytes().to_vec(),
            },
            Text::Plain {
                salt: [8; 32],
                bytes: Vec::new(),
            },
        ],
    }
}

fn drafts(texts: &[&str]) -> Vec<Draft> {
    texts.iter().map(|text| draft(text)).collect()
}

fn end_of(records: &[Record]) -> Option<Head> {
    records.last().map(Record::head)
}

/// Appends as a writer does: acquires, appends, releases.
fn append(
    store: &mut dyn Store,
    expected: Option<Head>,
    texts: &[&str],
) -> Result<Vec<Record>, Breach> {
    done(
        "a store that nobody writes is acquired",
        store.acquire(SHORT),
    )?;
    let appended = store.append(LOG, expected, drafts(texts));
    store.release();
    done("records are appended after the end of the log", appended)
}

/// Reads what comes after a record.
fn read(store: &mut dyn Store, after: Option<Head>) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    store.read(after, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

/// What a scan gives out: of each record its seq, its facts, and the record.
type Outlines = Vec<(Seq, Vec<u8>, Record)>;

/// Scans what comes after a record.
fn scan(store: &mut dyn Store, after: Option<Head>) -> Result<Outlines, StoreError> {
    let mut outlines = Ok(Vec::new());
    store.scan(after, &mut |outline| {
        match (&mut outlines, outline.record()) {
            (Ok(found), Ok(record)) => found.push((outline.seq, outline.facts.to_vec(), record)),
            (_, Err(error)) => outlines = Err(error),
            (Err(_), Ok(_)) => {}
        }
        ControlFlow::Continue(())
    })?;
    outlines
}

/// What a scan must give out of records.
fn outlined(records: &[Record]) -> Outlines {
    let outline = |record: &Record| (record.seq, record.facts.clone(), record.clone());
    records.iter().map(outline).collect()
}

fn read_all(store: &mut dyn Store) -> Result<Vec<Record>, Breach> {
    let read = read(store, None);
    done("a log that is whole can be read", read)
}

fn an_empty_log(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    same("an empty log has no id", &store.log_id(), &None)?;
    same("an empty log has no head", &store.head(), &None)?;
    holds_nothing(store)?;
    done("an empty store is acquired", store.acquire(SHORT))?;
    let nothing = store.append(LOG, None, Vec::new());
    let rule = "no drafts append no record";
    same(rule, &done(rule, nothing)?, &vec![])?;
    store.release();
    holds_nothing(store)?;
    let rule = "no drafts leave an empty log empty";
    same(rule, &(store.head(), store.log_id()), &(None, None))
}

/// A log without records gives out none, or is not there.
fn holds_nothing(store: &mut dyn Store) -> Result<(), Breach> {
    match read(store, None) {
        Ok(records) => same(
            "a log to which nothing was appended gives out no record",
            &records,
            &vec![],
        ),
        Err(StoreError::Missing { .. }) => Ok(()),
        Err(error) => holds("an empty log is empty, or missing", false, error),
    }
}

/// What is appended is what was given, and it is there.
fn an_append(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let mut all: Vec<Record> = Vec::new();
    for texts in [&["a"][..], &["b", "c"], &["d"]] {
        let head = end_of(&all);
        let appended = append(store, head, texts)?;
        let mut last = head;
        let mut wanted = Vec::new();
        for (draft, record) in drafts(texts).into_iter().zip(&appended) {
            let next = Record::new(LOG, last, record.durable, draft);
            last = Some(next.head());
            wanted.push(next);
        }
        let rule = "append returns one record for each draft, with its facts and texts, each after the one before";
        same(rule, &appended, &wanted)?;
        same(rule, &appended.len(), &texts.len())?;
        let durable = appended
            .iter()
            .all(|record| record.durable <= head.map(|head| head.seq));
        holds(
            "a record says at most that what was there before the append is durable",
            durable,
            &appended,
        )?;
        all.extend(appended);
        same(
            "after an append, head is the last record",
            &store.head(),
            &end_of(&all),
        )?;
        for _ in 0..3 {
            let rule = "the first append gives the log its id, which never changes";
            same(rule, &store.log_id(), &Some(LOG))?;
        }
    }
    let rule = "what was appended is given out as it was appended, in order";
    same(rule, &read_all(store)?, &all)?;
    same("reading changes nothing", &read_all(store)?, &all)?;
    if let Some(open) = &new.open {
        let mut other = open();
        let rule = "another handle gives out what was appended";
        same(rule, &read_all(other.as_mut())?, &all)?;
        same(
            "a handle that has read has the log's id",
            &other.log_id(),
            &Some(LOG),
        )?;
        same(
            "a handle that has read to the end has it as its head",
            &other.head(),
            &end_of(&all),
        )?;
    }
    Ok(())
}

/// Nothing is appended but at the end.
fn an_append_elsewhere(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let nowhere = |seq: u64| {
        Seq::new(seq).map(|seq| Head {
            seq,
            digest: Digest([3; 32]),
        })
    };
    refuses(store, nowhere(1), None)?;
    holds_nothing(store)?;
    let all = append(store, None, &["a", "b", "c"])?;
    let end = end_of(&all);
    for elsewhere in [
        None,
        Some(all[0].head()),
        Some(all[1].head()),
        nowhere(3),
        nowhere(4),
    ] {
        refuses(store, elsewhere, end)?;
        same(
            "a refused append leaves the log as it was",
            &read_all(store)?,
            &all,
        )?;
    }
    append(store, end, &["d"])?;
    same(
        "a handle goes on after a conflict",
        &read_all(store)?.len(),
        &4,
    )
}

fn refuses(store: &mut dyn Store, expected: Option<Head>, end: Option<Head>) -> Result<(), Breach> {
    done(
        "a store that nobody writes is acquired",
        store.acquire(SHORT),
    )?;
    let refused = store.append(LOG, expected, drafts(&["elsewhere"]));
    store.release();
    let rule =
        "an append that does not expect the end of the log is a conflict, and writes nothing";
    match refused {
        Err(error @ StoreError::Conflict { .. }) => {
            same(rule, &error.written(), &Written::No)?;
            let StoreError::Conflict {
                expected: said,
                found,
            } = error
            else {
                return Ok(());
            };
            same(
                "a conflict says what was expected, and what was found",
                &(said, found),
                &(expected, end),
            )
        }
        other => holds(rule, false, other),
    }
}

/// Reading begins after the record that is named.
fn a_read(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let all = append(store, None, &["a", "b", "c", "d", "e"])?;
    let check = |store: &mut dyn Store| {
        for from in 0..=all.len() {
            let after = end_of(&all[..from]);
            let rule = "read gives out the records after the one that is named, and no other";
            same(
                rule,
                &done(rule, read(store, after))?,
                &all[from..].to_vec(),
            )?;
        }
        Ok(())
    };
    check(store)?;
    if let Some(mut reader) = store.reader() {
        check(reader.as_mut())?;
    }
    if let Some(open) = &new.open {
        check(open().as_mut())?;
    }
    Ok(())
}

/// What the caller's closure returns ends the reading, and is what reading returns.
fn a_reader_that_stops(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let all = append(store, None, &["a", "b", "c", "d", "e"])?;
    for enough in 1..=all.len() {
        let mut seen = Vec::new();
        let stopped = store.read(None, &mut |record| {
            seen.push(record);
            if seen.len() < enough {
                return Ok(());
            }
            let doing = "go on";
            Err(StoreError::Unsupported { doing })
        });
        let rule = "read returns what the caller's closure returns, and calls it no more";
        let is_passed_on = matches!(stopped, Err(StoreError::Unsupported { doing: "go on" }));
        holds(rule, is_passed_on, &stopped)?;
        same(rule, &seen, &all[..enough].to_vec())?;
    }
    same(
        "a reading that was ended changes nothing",
        &read_all(store)?,
        &all,
    )?;
    append(store, end_of(&all), &["f"])?;
    Ok(())
}

/// A record that is not there is said to be another one, or behind the end, or its successors are given out, whose chain
/// the reader compares.
fn a_place_that_is_not_there(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let all = append(store, None, &["a", "b", "c"])?;
    for seq in 1..=6 {
        let at = Seq::new(seq).expect("it is not 0");
        let digest = Digest([9; 32]);
        let after = Some(Head { seq: at, digest });
        let rest: Vec<Record> = all
            .iter()
            .filter(|record| record.seq > at)
            .cloned()
            .collect();
        let rule = "a record that is not the log's is forked if another stands there, and truncated behind the end; or what follows is given out";
        match read(store, after) {
            Ok(records) => same(rule, &records, &rest)?,
            Err(StoreError::Forked { at: found }) => {
                same(rule, &(found <= at, seq <= 3), &(true, true))?;
            }
            Err(StoreError::Truncated { .. }) => same(rule, &(seq > 3), &true)?,
            Err(error) => holds(rule, false, error)?,
        }
    }
    same("the handle goes on after that", &read_all(store)?, &all)
}

/// A reader beside the handle sees what is appended.
fn another_reader(mut new: NewStore) -> Result<(), Breach> {
    let store = new.store.as_mut();
    let mut all = append(store, None, &["a"])?;
    let Some(mut reader) = store.reader() else {
        return Ok(());
    };
    same(
        "a reader reads the same log",
        &read_all(reader.as_mut())?,
        &all,
    )?;
    let end = end_of(&all);
    all.extend(append(store, end, &["b", "c"])?);
    let rule = "a reader reads on to what was appended since";
    same(
        rule,
        &done(rule, read(reader.as_mut(), end))?,
        &all[1..].to_vec(),
    )
}

/// One writer at a time, or a comparison with each append.
fn two_handles(new: NewStore) -> Result<(), Breach> {
    let NewStore {
        store: mut first,
        open: Some(open),
    } = new
    else {
        return Ok(());
    };
    let mut second = open();
    let acquired = |store: &mut dyn Store| {
        done(
            "a store that nobody writes is acquired",
            store.acquire(SHORT),
        )
    };
    acquired(first.as_mut())?;
    acquired(first.as_mut())?;
    let is_exclusive = first.is_exclusive();
    let other = second.acquire(Duration::ZERO);
    if is_exclusive {
        let rule = "while one handle is exclusive, no other becomes the writer";
        holds(
            rule,
            matches!(other, Err(StoreError::Locked { .. })),
            &other,
        )?;
        same(rule, &second.is_exclusive(), &false)?;
    } else {
        done("where no handle is exclusive, each is acquired", other)?;
    }
    let appended = first.append(LOG, None, drafts(&["a", "b"]));
    let mut all = done("records are appended after the end of the log", appended)?;
    same(
        "others read while one writes",
        &read_all(second.as_mut())?,
        &all,
    )?;
    first.release();
    same(
        "a handle that was released is not exclusive",
        &first.is_exclusive(),
        &false,
    )?;
    acquired(second.as_mut())?;
    if second.is_exclusive() {
        same(
            "the head of an exclusive handle is the end of the log",
            &second.head(),
            &end_of(&all),
        )?;
    }
    let stale = second.append(LOG, Some(all[0].head()), drafts(&["stale"]));
    holds(
        "what another handle has appended is a conflict",
        matches!(stale, Err(StoreError::Conflict { .. })),
        &stale,
    )?;
    let appended = second.append(LOG, end_of(&all), drafts(&["c"]));
    all.extend(done("a second handle appends after the first", appended)?);
    if second.is_exclusive() {
        let locked = first.acquire(Duration::ZERO);
        holds(
            "while one handle is exclusive, no other becomes the writer",
            matches!(locked, Err(StoreError::Locked { .. })),
            &locked,
        )?;
    }
    // A writer that is gone holds nothing.
    drop(second);
    acquired(first.as_mut())?;
    let stale = first.append(LOG, Some(all[1].head()), drafts(&["stale"]));
    holds(
        "what another handle has appended is a conflict",
        matches!(stale, Err(StoreError::Conflict { .. })),
        &stale,
    )?;
    let appended = first.append(LOG, end_of(&all), drafts(&["d"]));
    all.extend(done("the first handle appends after the second", appended)?);
    first.release();
    drop(first);
    let mut again = open();
    same(
        "the log outlives its handles",
        &read_all(again.as_mut())?,
        &all,
    )?;
    same("the id outlives its handles", &again.log_id(), &Some(LOG))
}

/// Threads that append at the same time lose nothing, and write nothing twice.
fn threads(new: NewStore) -> Result<(), Breach> {
    const THREADS: usize = 3;
    const EACH: usize = 12;
    let NewStore {
        store: mut first,
        open: Some(open),
    } = new
    else {
        return Ok(());
    };
    let begun = append(first.as_mut(), None, &["begun"])?;
    let handles: Vec<_> = (0..THREADS).map(|_| open()).collect();
    std::thread::scope(|scope| {
        let writing: Vec<_> = handles
            .into_iter()
            .enumerate()
            .map(|(thread, mut store)| {
                scope.spawn(move || {
                    for index in 0..EACH {
                        append_at_the_end(store.as_mut(), &format!("{thread} {index}"))?;
                    }
                    Ok(())
                })
            })
            .collect();
        writing.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let rule = "records that threads append at the same time are there once each, each after the one before";
    let all = read_all(first.as_mut())?;
    let mut last = None;
    for record in &all {
        let draft = Draft {
            facts: record.facts.clone(),
            texts: record.texts.clone(),
        };
        same(rule, record, &Record::new(LOG, last, record.durable, draft))?;
        last = Some(record.head());
    }
    let mut facts: Vec<_> = all
        .iter()
        .skip(begun.len())
        .map(|record| record.facts.clone())
        .collect();
    facts.sort();
    let mut wanted: Vec<_> = (0..THREADS)
        .flat_map(|thread| (0..EACH).map(move |index| draft(&format!("{thread} {index}")).facts))
        .collect();
    wanted.sort();
    same(rule, &facts, &wanted)
}

/// Appends one record wherever the log ends, as often as others come first.
fn append_at_the_end(store: &mut dyn Store, text: &str) -> Result<(), Breach> {
    const TRIES: usize = 1_000;
    for _ in 0..TRIES {
        done("a writer waits for another one", store.acquire(SHORT))?;
        let end = end_of(&read_all(store)?);
        let appended = store.append(LOG, end, drafts(&[text]));
        store.release();
        match appended {
            Err(StoreError::Conflict { .. }) => std::thread::yield_now(),
            appended => return done("an append succeeds, or is a conflict", appended).map(|_| ()),
        }
    }
    holds(
        "of those that append at the same time, one succeeds",
        false,
        text,
    )
}
