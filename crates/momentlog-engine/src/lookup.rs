//! Finding records and reading each by itself: what it refers to is read when it is missed, and nothing is replayed.
//!
//! A record's texts may be in any record before it. What the XML of a domain means may be said in any record before it as
//! well, the last one that says it counts. Records are found by their facts ([`Store::scan`]), so that what is read here is
//! checked by checksums, and by its own digest; the chain is checked by replay alone.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use momentlog_core::DomainDef;
use momentlog_store::{Damage, Head, Record, Seq, Store, StoreError};

use crate::codec::{DecodeError, Dictionary, Facts, Outline, TextRef, recorded, text_of};
use crate::entry::Entry;
use crate::error::EngineError;
use crate::ledger::{Ledger, ReplayError};
use crate::log::{Log, chain};
use crate::one_domain::DomainHistory;
use crate::view::View;

/// Where it is said what the XML at a place means.
pub(crate) enum Meaning {
    /// In a record: the last one in it counts.
    SaidIn(Record),
    Known(Arc<DomainDef>),
}

/// Finds where it is said what the XML at a place means.
type FindMeaning<'f, 'a> =
    dyn FnMut(&mut Lookup<'a>, TextRef) -> Result<Option<Meaning>, EngineError> + 'f;

/// Finds something in the outline of a record.
type Find<'f, T> = dyn Fn(&momentlog_store::Outline<'_>) -> Result<Vec<T>, EngineError> + Sync + 'f;

/// From this many records on, two threads scan: from fewer in tests, whose logs are short.
pub(crate) const DIVIDED_MIN: u64 = if cfg!(debug_assertions) { 8 } else { 128 };

/// Reads a log record by record, with a handle of its own where the store gives one.
pub(crate) struct Lookup<'a> {
    log: &'a Log,
    reader: Option<Box<dyn Store>>,
    /// The record behind which the log begins.
    start: Option<Head>,
    /// What the records up to there have taught, once it is needed.
    base: Option<Dictionary>,
    /// Whether the store compares digests itself.
    verifies: bool,
    /// Bytes of the texts that were learnt since they were last forgotten.
    pub(crate) learnt: usize,
}

impl<'a> Lookup<'a> {
    /// Looks through a log, which begins at `place` if that was read already.
    pub(crate) fn over(log: &'a Log, begin: Option<&Ledger>) -> Result<Lookup<'a>, EngineError> {
        // It is also compared here that no other store stands where this one was.
        let start = log.start()?;
        let (reader, verifies) = {
            let store = log.store();
            (store.reader(), store.verifies())
        };
        if !verifies && log.known().get().is_none() {
            // Digests cannot be compared without the log's id.
            log.refresh()?;
        }
        Ok(Lookup {
            log,
            reader,
            start,
            base: begin.map(|ledger| ledger.dictionary.clone()),
            verifies,
            learnt: 0,
        })
    }

    /// Returns another one of the same log, for a thread beside this one; `None` if the store has no other handle.
    pub(crate) fn beside(&self) -> Option<Lookup<'a>> {
        let reader = self.log.store().reader()?;
        Some(Lookup {
            log: self.log,
            reader: Some(reader),
            start: self.start,
            base: None,
            verifies: self.verifies,
            learnt: 0,
        })
    }

    /// What the records before the first one here have taught: nothing, but for an archived log.
    pub(crate) fn base(&mut self) -> Result<&Dictionary, EngineError> {
        if self.base.is_none() {
            let begin = match self.start {
                Some(_) => self.log.place_at(None)?.ledger.dictionary,
                None => Dictionary::default(),
            };
            self.base = Some(begin);
        }
        Ok(self.base.get_or_insert_default())
    }

    fn on_store<T>(&mut self, work: impl FnOnce(&mut dyn Store) -> T) -> T {
        match &mut self.reader {
            Some(reader) => work(reader.as_mut()),
            None => work(self.log.store().as_mut()),
        }
    }

    /// Calls `each` with the outlines of the records after `after`, until it breaks or fails.
    pub(crate) fn scan(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&momentlog_store::Outline<'_>) -> Result<ControlFlow<()>, EngineError>,
    ) -> Result<(), EngineError> {
        let known = self.log.known();
        let mut last = after.map(|after| after.seq);
        let mut failed = None;
        let scanned = self.on_store(|store| {
            let scanned = store.scan(after, &mut |outline| {
                let seq = Seq::after(last);
                let flow = if outline.seq == seq {
                    each(outline)
                } else {
                    let found = outline.seq;
                    let why = Damage::Order { found };
                    Err(StoreError::Untrue { seq, why }.into())
                };
                last = Some(seq);
                flow.unwrap_or_else(|error| {
                    failed = Some(error);
                    ControlFlow::Break(())
                })
            });
            scanned.and_then(|()| chain::check_log(store, known, after))
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(scanned?),
        }
    }

    /// Returns what `find` finds in the records after `after`, in their order. Two threads look where there are records enough.
    pub(crate) fn find_all<T: Send>(
        &mut self,
        after: Option<Head>,
        find: &Find<'_, T>,
    ) -> Result<Vec<T>, EngineError> {
        let middle = self.middle(after, None, u64::MAX);
        let beside = middle.and_then(|_| self.beside());
        let Some((middle, mut beside)) = middle.zip(beside) else {
            return Ok(self.find_up_to(after, None, find)?.0);
        };
        let (first, second) = self.with(
            &mut beside,
            middle,
            |lookup| lookup.find_up_to(after, Some(middle), find),
            |lookup, begin| lookup.find_up_to(Some(begin), None, find),
        );
        let (mut found, end) = first?;
        let rest = match second {
            Some((begin, second)) if end == Some(begin) => second,
            _ if end.is_none() => return Ok(found),
            _ => self.find_up_to(end, None, find),
        };
        found.extend(rest?.0);
        Ok(found)
    }

    /// Returns also the record `until`, unless the log ends before it.
    fn find_up_to<T>(
        &mut self,
        after: Option<Head>,
        until: Option<Seq>,
        find: &Find<'_, T>,
    ) -> Result<(Vec<T>, Option<Head>), EngineError> {
        let (mut found, mut end) = (Vec::new(), None);
        let log = self.log();
        self.scan(after, &mut |outline| {
            found.extend(find(outline)?);
            if Some(outline.seq) != until {
                return Ok(ControlFlow::Continue(()));
            }
            end = Some(Lookup::whole(log, outline)?.head());
            Ok(ControlFlow::Break(()))
        })?;
        Ok((found, end))
    }

    /// Does `first` with this one, and in a second thread `second` with another one, behind the record `middle`. The second
    /// one's answer comes with that record; there is none if the record cannot be read.
    pub(crate) fn with<A, B: Send>(
        &mut self,
        beside: &mut Lookup<'a>,
        middle: Seq,
        first: impl FnOnce(&mut Lookup<'a>) -> A,
        second: impl FnOnce(&mut Lookup<'a>, Head) -> B + Send,
    ) -> (A, Option<(Head, B)>) {
        thread::scope(|scope| {
            let second = scope.spawn(|| {
                let begin = beside.record(middle).ok()??.head();
                Some((begin, second(beside, begin)))
            });
            let first = first(self);
            let second = second.join();
            (first, second.unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    /// Returns the record in the middle of those after `after` up to `last`, but at most `most` behind the first one; `None`
    /// if they are too few for two threads.
    pub(crate) fn middle(&self, after: Option<Head>, last: Option<Seq>, most: u64) -> Option<Seq> {
        let after = after.map_or(0, |after| after.seq.get());
        let newest = self.log.view().head()?.seq;
        let last = last.map_or(newest, |last| last.min(newest));
        let records = last.get().saturating_sub(after);
        let middle = Seq::new(after + most.min(records / 2));
        middle.filter(|_| records >= DIVIDED_MIN)
    }

    /// Reads the record of an outline, and compares its digest unless the store does so.
    pub(crate) fn whole(
        (log, verifies): (&Log, bool),
        outline: &momentlog_store::Outline<'_>,
    ) -> Result<Record, EngineError> {
        let record = outline.record()?;
        check_digest(log, &record, verifies)?;
        Ok(record)
    }

    /// The log, and whether its store compares digests itself.
    pub(crate) fn log(&self) -> (&'a Log, bool) {
        (self.log, self.verifies)
    }

    /// Returns the record `seq`; `None` if the log ends before it, or it was archived.
    pub(crate) fn record(&mut self, seq: Seq) -> Result<Option<Record>, EngineError> {
        let record = self.on_store(|store| store.record(seq))?;
        if let Some(record) = &record {
            check_digest(self.log, record, self.verifies)?;
        }
        Ok(record)
    }

    /// Returns the error of a log that begins behind a record that is asked for: also if it was archived meanwhile.
    pub(crate) fn archived(&mut self, seq: Option<Seq>) -> Result<(), EngineError> {
        let start = self.log.start()?.map(|start| start.seq);
        if start.is_none() || seq > start {
            return Ok(());
        }
        match self.on_store(|store| store.read(None, &mut |_| Err(StoreError::Stopped))) {
            Ok(()) | Err(StoreError::Stopped) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the facts of a record. `meaning` finds where it is said what the XML at a place means right before the record.
    pub(crate) fn decode(
        &mut self,
        dictionary: &mut Dictionary,
        record: &Record,
        meaning: &mut FindMeaning<'_, 'a>,
    ) -> Result<Facts, EngineError> {
        let fault = |why: DecodeError| {
            EngineError::from(ReplayError {
                seq: record.seq,
                why: why.into(),
            })
        };
        let mut meant: HashMap<TextRef, Arc<DomainDef>> = HashMap::new();
        loop {
            let missed = match dictionary.decode(record) {
                Ok(facts) => return Ok(facts),
                Err(missed) => missed,
            };
            let DecodeError::Text { seq, index } = missed else {
                return Err(fault(missed));
            };
            let place = TextRef { seq, index };
            let is_known = dictionary.by_place.contains_key(&place);
            let found = if is_known && !meant.contains_key(&place) {
                let found = meaning(self, place)?;
                let xml = dictionary.by_place[&place].clone();
                let def = found.and_then(|found| found.of(place, xml).transpose());
                let def = def.transpose().map_err(fault)?;
                def.map(|def| meant.insert(place, def)).is_some()
            } else if !is_known && seq < record.seq.get() {
                self.learn(dictionary, place).map_err(|error| match error {
                    Missed::Engine(error) => error,
                    Missed::Decode(why) => fault(why),
                })?
            } else {
                false
            };
            if !found {
                if self.log.start()? != self.start {
                    self.archived(None)?;
                }
                return Err(fault(missed));
            }
            // What the record itself says of meanings counts behind those of its events that come before.
            let outline = Outline::read(record.seq, &record.facts).map_err(fault)?;
            let forget = &mut |place, _| dictionary.forget_meaning(place);
            outline.meanings(record.seq, forget).map_err(fault)?;
            for (place, def) in &meant {
                dictionary.define(*place, def.clone());
            }
        }
    }

    /// Learns the texts of the record that has one of this place; returns whether it has.
    fn learn(&mut self, dictionary: &mut Dictionary, place: TextRef) -> Result<bool, Missed> {
        let Some(seq) = Seq::new(place.seq) else {
            return Ok(false);
        };
        if self.start.is_some_and(|start| seq <= start.seq) {
            let text = self.base()?.by_place.get(&place).cloned();
            let learnt = text.map(|text| dictionary.learn(text, place));
            return Ok(learnt.is_some());
        }
        let Some(record) = self.record(seq)? else {
            return Ok(false);
        };
        let texts: Result<Vec<Arc<str>>, _> = record.texts.iter().map(text_of).collect();
        let texts = texts?;
        self.learnt += texts.iter().map(|text| text.len()).sum::<usize>();
        dictionary.learn_all(seq, Some(&texts), None);
        Ok(dictionary.by_place.contains_key(&place))
    }

    /// Finds the last record before `seq` that says what the XML at `place` means.
    fn said_before(&mut self, place: TextRef, seq: Seq) -> Result<Option<Meaning>, EngineError> {
        let Some(first) = Seq::new(place.seq) else {
            return Ok(None);
        };
        let (after, mut said) = if self.start.is_some_and(|start| first <= start.seq) {
            let known = self.base()?.domains.get(&place).cloned();
            (self.start, known.map(Meaning::Known))
        } else {
            let Some(first) = self.record(first)? else {
                return Ok(None);
            };
            let says = says(first.seq, &first.facts, place)?;
            (Some(first.head()), says.then_some(Meaning::SaidIn(first)))
        };
        let log = self.log();
        self.scan(after, &mut |outline| {
            if outline.seq >= seq {
                return Ok(ControlFlow::Break(()));
            }
            if says(outline.seq, outline.facts, place)? {
                said = Some(Meaning::SaidIn(Lookup::whole(log, outline)?));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(said)
    }
}

enum Missed {
    Engine(EngineError),
    Decode(DecodeError),
}

impl From<EngineError> for Missed {
    fn from(error: EngineError) -> Missed {
        Missed::Engine(error)
    }
}

impl From<DecodeError> for Missed {
    fn from(error: DecodeError) -> Missed {
        Missed::Decode(error)
    }
}

impl Meaning {
    /// What the XML at `place` means.
    fn of(self, place: TextRef, xml: Arc<str>) -> Result<Option<Arc<DomainDef>>, DecodeError> {
        let record = match self {
            Meaning::Known(def) => return Ok(Some(def)),
            Meaning::SaidIn(record) => record,
        };
        let mut last = None;
        Outline::read(record.seq, &record.facts)?.meanings(record.seq, &mut |said, facts| {
            if said == place {
                last = Some(facts);
            }
        })?;
        last.map(|facts| Ok(Arc::new(facts.into_def(xml)?)))
            .transpose()
    }
}

/// Whether the facts of a record say what the XML at `place` means.
fn says(seq: Seq, facts: &[u8], place: TextRef) -> Result<bool, EngineError> {
    let mut says = false;
    let read = Outline::read(seq, facts)
        .and_then(|outline| outline.meanings(seq, &mut |said, _| says |= said == place));
    match read {
        Ok(()) => Ok(says),
        Err(why) => {
            let why = why.into();
            Err(ReplayError { seq, why }.into())
        }
    }
}

fn check_digest(log: &Log, record: &Record, verifies: bool) -> Result<(), EngineError> {
    if verifies {
        return Ok(());
    }
    let id = log.known().get().copied();
    if id.is_none_or(|id| record.computed(id) != record.digest) {
        let (seq, why) = (record.seq, Damage::Digest);
        return Err(StoreError::Untrue { seq, why }.into());
    }
    Ok(())
}

impl Log {
    /// Returns the last record that was recorded at a time or before it, in microseconds since 1970; `None` if the log begins
    /// later. The records are bisected by their times, which never fall; none is replayed.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if there is no store, or it cannot be read; [`StoreError::Archived`] if the record of that time
    /// was moved to an archive.
    pub fn locate(&self, time: i64) -> Result<Option<Head>, EngineError> {
        let mut lookup = Lookup::over(self, None)?;
        // A time that cannot be read is the fault of its replay.
        let holds = &mut |outline: &momentlog_store::Outline<'_>| {
            recorded(outline.facts).is_none_or(|recorded| recorded <= time)
        };
        let last = lookup.on_store(|store| store.last_where(holds))?;
        if let Some(last) = last {
            return Ok(Some(last.head()));
        }
        // The record with which an archived log begins has its time in its image alone.
        let place = self.place_at(None)?;
        match place.ledger.view.head {
            Some(start) if place.ledger.recorded <= time => Ok(Some(start)),
            _ => lookup.archived(None).map(|()| None),
        }
    }

    /// Returns the record `seq` with its digest, without decoding it; `None` if the log ends before it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Store`] if there is no store, or it cannot be read; [`StoreError::Archived`] if the record was moved to
    /// an archive before the one with which the log begins.
    pub fn head_at(&self, seq: Seq) -> Result<Option<Head>, EngineError> {
        let mut lookup = Lookup::over(self, None)?;
        if let Some(start) = lookup.start
            && start.seq == seq
        {
            return Ok(Some(start));
        }
        let record = lookup.record(seq)?;
        if record.is_none() {
            lookup.archived(Some(seq))?;
        }
        Ok(record.map(|record| record.head()))
    }

    /// Returns when the record `seq` was recorded, in microseconds since 1970; `None` if the log ends before it. Nothing but
    /// that record is read.
    ///
    /// # Errors
    ///
    /// As [`head_at`](Self::head_at).
    pub fn recorded_at(&self, seq: Seq) -> Result<Option<i64>, EngineError> {
        let mut lookup = Lookup::over(self, None)?;
        if lookup.start.is_some_and(|start| start.seq == seq) {
            // The record with which an archived log begins has its time in its image alone.
            return Ok(Some(self.place_at(None)?.ledger.recorded));
        }
        let Some(record) = lookup.record(seq)? else {
            lookup.archived(Some(seq))?;
            return Ok(None);
        };
        let outline = Outline::read(seq, &record.facts).map_err(|why| ReplayError {
            seq,
            why: why.into(),
        })?;
        Ok(Some(outline.recorded))
    }

    /// Returns the state as of a time, in microseconds since 1970: after the last record of that time or before it. Before
    /// the first record it is that of an empty log.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate) and [`view_at`](Self::view_at).
    pub fn view_as_of(&self, time: i64) -> Result<View, EngineError> {
        match self.locate(time)? {
            Some(head) => self.view_at(head.seq),
            None => Ok(View::empty(self.profile())),
        }
    }

    /// Returns one entry; `None` if the log ends before it. The records before it are not replayed: those that it refers to
    /// are read.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history) and its items.
    pub fn entry(&self, seq: Seq) -> Result<Option<Entry>, EngineError> {
        let mut lookup = Lookup::over(self, None)?;
        let Some(record) = lookup.record(seq)? else {
            lookup.archived(Some(seq))?;
            return Ok(None);
        };
        let outline = Outline::read(seq, &record.facts);
        let removed = outline.and_then(|outline| {
            let removes = outline.removes()?;
            Ok(outline.domain.filter(|_| removes))
        });
        let removed = removed.map_err(|why| {
            let why = why.into();
            ReplayError { seq, why }
        })?;
        if let Some(domain) = removed {
            // The entry has the domain as it was before.
            let entry = DomainHistory::of(self, domain, seq, Some(seq))?
                .entries()
                .next();
            return entry.transpose();
        }
        let mut dictionary = Dictionary::default();
        let facts = lookup.decode(&mut dictionary, &record, &mut |lookup, place| {
            lookup.said_before(place, seq)
        })?;
        Ok(Some(Entry::of(record.head(), facts)))
    }
}
