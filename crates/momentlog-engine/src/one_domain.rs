//! The history of some domains, from their own records.
//!
//! The log is scanned by the facts of its records. Those of the domains, of the store's settings, and those that stand for
//! archived ones are read as a whole and replayed on the state of these domains alone; others are passed, and nothing is kept
//! of them but which says what the XML of a domain means, for records of these domains may rest on it.

mod mention;
mod scan;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use memchr::memmem;
use momentlog_core::{Domain, DomainUuid};
use momentlog_store::{Head, Record, Seq, StoreError};

use crate::codec::body::DomainFacts;
use crate::codec::{DecodeError, Outline, TextRef};
use crate::entry::Entry;
use crate::error::EngineError;
use crate::history::Step;
use crate::ledger::{Ledger, ReplayError};
use crate::log::{Log, replay};
use crate::lookup::{DIVIDED_MIN, Lookup, Meaning};
use crate::view::View;
use crate::watch::{See, Watch, see};
use scan::{Ended, Wanted};

pub use mention::Mention;

/// Records that are scanned at once, and those of them that are read as a whole.
const SCANNED_MAX: u64 = 1 << 17;
const WHOLE_MAX: u32 = 4096;

/// Bytes of texts that are kept to be referred to. Those that are forgotten are read once more when they are missed.
const LEARNT_MAX: usize = 16 << 20;

/// The steps of one domain, or a few steps of the log. The views around them are of the domains alone that they are about.
///
/// It ends as a [`History`](crate::History) does, and goes on as that does behind records that were archived meanwhile.
pub struct DomainHistory<'a> {
    lookup: Lookup<'a>,
    asked: Asked,
    /// The domains whose records are replayed, ascending.
    domains: Arc<[DomainUuid]>,
    /// What the records up to here have made of the domains.
    ledger: Ledger,
    /// The last record that says what the XML at a place means, of those behind where the log begins.
    said: HashMap<TextRef, Seq>,
    items: VecDeque<Item>,
    /// Where the next scan begins, and the time of the record there.
    after: Option<Head>,
    recorded: i64,
    /// What a second thread scans with, once there is one.
    beside: Option<Lookup<'a>>,
    /// How many records each of two threads scans.
    stretch: u64,
    /// The last record that is scanned.
    last: Option<Seq>,
    end: End,
}

/// Which steps are given out: those from a record on, of one domain or of all.
#[derive(Clone, Copy, Debug)]
struct Asked {
    domain: Option<DomainUuid>,
    from: Seq,
}

impl Asked {
    fn is_asked(self, seq: Seq, domain: Option<DomainUuid>) -> bool {
        self.from <= seq && self.domain.is_none_or(|asked| domain == Some(asked))
    }
}

/// What a scan has found, in the order of the log.
enum Item {
    Record(Record),
    /// Other records up to this one, with as many events.
    Passed {
        last: Seq,
        events: u32,
    },
    /// What the XML at a place means is said in this record, which is one of others.
    Said {
        place: TextRef,
        seq: Seq,
    },
}

/// What comes after the items.
enum End {
    Open,
    Fault(EngineError),
    Reached,
}

impl fmt::Debug for DomainHistory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainHistory")
            .field("asked", &self.asked)
            .field("seq", &self.ledger.seq)
            .finish_non_exhaustive()
    }
}

impl<'a> DomainHistory<'a> {
    /// The steps of a domain from the first record on, where the log begins.
    pub(crate) fn new(log: &'a Log, domain: DomainUuid) -> Result<DomainHistory<'a>, EngineError> {
        DomainHistory::of(log, domain, Seq::FIRST, None)
    }

    /// The steps of a domain from a record to another, or to the end. Begins with an image before them, or where the log
    /// begins.
    pub(crate) fn of(
        log: &'a Log,
        domain: DomainUuid,
        from: Seq,
        last: Option<Seq>,
    ) -> Result<DomainHistory<'a>, EngineError> {
        DomainHistory::behind(log, first_behind(log, from)?, domain, last)
    }

    /// The steps of a domain behind a record, or from the first one on.
    fn behind(
        log: &'a Log,
        behind: Option<Seq>,
        domain: DomainUuid,
        last: Option<Seq>,
    ) -> Result<DomainHistory<'a>, EngineError> {
        let begin = log.place_at(behind)?.ledger;
        let lookup = Lookup::over(log, Some(&begin))?;
        let asked = Asked {
            domain: Some(domain),
            from: Seq::after(behind),
        };
        Ok(DomainHistory::at(lookup, begin, asked, &[domain], last))
    }

    /// All steps from a record to another. Begins as [`of`](Self::of) does.
    pub(crate) fn between(
        log: &'a Log,
        from: Seq,
        last: Option<Seq>,
    ) -> Result<DomainHistory<'a>, EngineError> {
        let behind = first_behind(log, from)?;
        let begin = log.place_at(behind)?.ledger;
        let mut lookup = Lookup::over(log, Some(&begin))?;
        let domains = domains_between(&mut lookup, begin.view.head, behind, last)?;
        let asked = Asked { domain: None, from };
        Ok(DomainHistory::at(lookup, begin, asked, &domains, last))
    }

    fn at(
        lookup: Lookup<'a>,
        begin: Ledger,
        asked: Asked,
        domains: &[DomainUuid],
        last: Option<Seq>,
    ) -> DomainHistory<'a> {
        DomainHistory {
            lookup,
            asked,
            domains: domains.into(),
            said: HashMap::new(),
            items: VecDeque::new(),
            after: begin.view.head,
            recorded: begin.recorded,
            beside: None,
            stretch: SCANNED_MAX,
            last,
            end: End::Open,
            ledger: begin.only(domains),
        }
    }

    /// Returns the entries alone, which costs less than the states around them.
    pub fn entries(mut self) -> impl Iterator<Item = Result<Entry, EngineError>> + 'a {
        std::iter::from_fn(move || self.next_entry(&mut |_| {}, &mut |_, _| {}))
    }

    /// Returns what a watch makes of each record, which costs less than the views around them.
    pub fn watched<W: Watch + 'a>(
        mut self,
        mut watch: W,
    ) -> impl Iterator<Item = Result<W::Made, EngineError>> + use<'a, W> {
        std::iter::from_fn(move || {
            let seen =
                self.next_entry(&mut |_| {}, &mut |seen, state| see(&mut watch, seen, state))?;
            let state = &self.ledger.view.state;
            Some(seen.map(|entry| watch.record(entry, state)))
        })
    }

    /// Reads on to the last record, or to the end of the log if that is before it, and returns the state of the domain there.
    fn last_view(mut self) -> Result<View, EngineError> {
        while let Some(step) = self.next_entry(&mut |_| {}, &mut |_, _| {}) {
            step?;
        }
        let mut view = self.ledger.view;
        if let Some(last) = self.ledger.seq
            && view.head.is_none_or(|head| head.seq != last)
        {
            view.head = self.lookup.record(last)?.map(|record| record.head());
        }
        Ok(view)
    }

    /// Returns the next entry that is asked for. `before` is called with the state before each record from the first one that
    /// is asked for: what is kept of it is copied when the record changes it. `see` sees the events of those that are.
    fn next_entry(
        &mut self,
        before: &mut dyn FnMut(&View),
        see: See<'_>,
    ) -> Option<Result<Entry, EngineError>> {
        loop {
            let entry = match self.next_record()? {
                Ok(record) => {
                    if self.asked.from <= record.seq {
                        before(&self.ledger.view);
                    }
                    self.replay(&record, see)
                }
                Err(error) => Err(error),
            };
            match entry {
                Ok(entry) if self.asked.is_asked(entry.head.seq, entry.domain) => {
                    return Some(Ok(entry));
                }
                Ok(_) => {}
                Err(error) => {
                    self.end = End::Reached;
                    self.items.clear();
                    return Some(Err(self.resume(error)));
                }
            }
        }
    }

    fn next_record(&mut self) -> Option<Result<Record, EngineError>> {
        loop {
            match self.items.pop_front() {
                Some(Item::Record(record)) => {
                    let seq = Seq::new(record.seq.get() - 1);
                    let digest = record.previous;
                    self.ledger.view.head = seq.map(|seq| Head { seq, digest });
                    return Some(Ok(record));
                }
                Some(Item::Passed { last, events }) => self.ledger.pass(last, events),
                Some(Item::Said { place, seq }) => {
                    self.said.insert(place, seq);
                    self.ledger.dictionary.forget_meaning(place);
                }
                None => match std::mem::replace(&mut self.end, End::Reached) {
                    End::Open => self.fill(),
                    End::Fault(error) => return Some(Err(error)),
                    End::Reached => return None,
                },
            }
        }
    }

    fn replay(&mut self, record: &Record, see: See<'_>) -> Result<Entry, EngineError> {
        let (said, ledger) = (&mut self.said, &mut self.ledger);
        if self.lookup.learnt > LEARNT_MAX {
            self.lookup.learnt = 0;
            ledger.dictionary = self.lookup.base()?.clone();
            for place in said.keys() {
                ledger.dictionary.forget_meaning(*place);
            }
        }
        self.lookup.learnt += replay::size(record);
        let meaning = &mut |lookup: &mut Lookup<'_>, place: TextRef| match said.get(&place) {
            Some(seq) => Ok(lookup.record(*seq)?.map(Meaning::SaidIn)),
            None => Ok(lookup
                .base()?
                .domains
                .get(&place)
                .cloned()
                .map(Meaning::Known)),
        };
        let meanings = ledger.dictionary.meanings;
        let facts = self
            .lookup
            .decode(&mut ledger.dictionary, record, meaning)?;
        if ledger.dictionary.meanings != meanings {
            let seq = record.seq;
            Outline::read(seq, &record.facts)
                .and_then(|outline| {
                    outline.meanings(seq, &mut |place, _| {
                        said.insert(place, seq);
                    })
                })
                .map_err(|why| fault(seq, why))?;
        }
        if self.asked.is_asked(record.seq, facts.domain) {
            Ok(ledger.apply(record, facts, see)?)
        } else {
            Ok(ledger.apply(record, facts, &mut |_, _| {})?)
        }
    }

    /// Scans on, until enough is found: two stretches at once where there are records enough.
    fn fill(&mut self) {
        let wanted = Wanted {
            domains: &self.domains,
            last: self.last,
            log: self.lookup.log(),
        };
        let middle = self.lookup.middle(self.after, self.last, self.stretch);
        if middle.is_some() && self.beside.is_none() {
            self.beside = self.lookup.beside();
        }
        let (first, second) = match (&mut self.beside, middle) {
            (Some(beside), Some(middle)) => self.lookup.with(
                beside,
                middle,
                |lookup| wanted.scan(lookup, self.after, Some(middle), self.recorded),
                |lookup, begin| wanted.scan(lookup, Some(begin), None, i64::MIN),
            ),
            _ => {
                let first = wanted.scan(&mut self.lookup, self.after, None, self.recorded);
                (first, None)
            }
        };
        // Where whole records fill a stretch, the second one begins where the first one ends.
        self.stretch = if first.is_full {
            first.scanned
        } else {
            self.stretch * 2
        };
        self.stretch = self.stretch.clamp(DIVIDED_MIN, SCANNED_MAX);
        let joined = match (&first.end, second) {
            (Ended::At(end), Some((begin, second))) if *end == begin => first.join(second),
            _ => first,
        };
        self.items = joined.found.items;
        self.recorded = joined.found.recorded;
        self.end = match joined.end {
            Ended::Failed(error) => End::Fault(error),
            Ended::Reached => End::Reached,
            Ended::At(head) => {
                self.after = Some(head);
                End::Open
            }
        };
    }

    /// Goes on behind the bridge, if that is where the log begins by now.
    fn resume(&mut self, error: EngineError) -> EngineError {
        if let Some(StoreError::Archived { .. }) = error.store()
            && let Ok(next) = self.begin_again()
        {
            *self = next;
        }
        error
    }

    fn begin_again(&self) -> Result<DomainHistory<'a>, EngineError> {
        let (log, last) = (self.lookup.log().0, self.last);
        let Asked { domain, from } = self.asked;
        match domain {
            Some(domain) => DomainHistory::of(log, domain, from, last),
            None => DomainHistory::between(log, from, last),
        }
    }
}

/// Returns the record behind which a history from a record on begins: the one before, or where the log begins if that is
/// later.
fn first_behind(log: &Log, from: Seq) -> Result<Option<Seq>, StoreError> {
    let start = log.start()?.map(|start| start.seq);
    Ok(Seq::new(from.get() - 1).max(start))
}

/// Returns the domains that the records behind `behind` up to `last` are about, ascending. `known` is the last record before
/// whose place is known.
fn domains_between(
    lookup: &mut Lookup<'_>,
    known: Option<Head>,
    behind: Option<Seq>,
    last: Option<Seq>,
) -> Result<Vec<DomainUuid>, EngineError> {
    let after = match behind {
        Some(behind) if known.is_none_or(|known| known.seq != behind) => {
            match lookup.record(behind)? {
                Some(record) => Some(record.head()),
                // The log ends before it.
                None => return Ok(Vec::new()),
            }
        }
        _ => known,
    };
    let mut domains = BTreeSet::new();
    lookup.scan(after, &mut |outline| {
        if last.is_some_and(|last| outline.seq > last) {
            return Ok(ControlFlow::Break(()));
        }
        let facts = Outline::read(outline.seq, outline.facts);
        domains.extend(facts.map_err(|why| fault(outline.seq, why))?.domain);
        Ok(if Some(outline.seq) == last {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(domains.into_iter().collect())
}

fn fault(seq: Seq, why: DecodeError) -> EngineError {
    let why = why.into();
    ReplayError { seq, why }.into()
}

impl Iterator for DomainHistory<'_> {
    type Item = Result<Step, EngineError>;

    fn next(&mut self) -> Option<Result<Step, EngineError>> {
        let mut before = None;
        let entry = self.next_entry(&mut |view| before = Some(view.clone()), &mut |_, _| {});
        let entry = match entry? {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error)),
        };
        let after = self.ledger.view.clone();
        Some(Ok(Step {
            before: before.expect("a record was replayed"),
            entry,
            after,
        }))
    }
}

impl Log {
    /// Returns the steps of one domain, in order: from its first record that is not archived, also if it is gone by now. Other
    /// records are scanned and not replayed. The views around a step are of that domain alone: see
    /// [`State::of_domains`](momentlog_core::State::of_domains).
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history); what comes up while it is read is an item.
    pub fn history_of(&self, domain: DomainUuid) -> Result<DomainHistory<'_>, EngineError> {
        DomainHistory::new(self, domain)
    }

    /// Returns the steps of one domain from a record to another, as [`history_of`](Self::history_of) does: from the first one
    /// that is not archived if that is later. The records before them are replayed from an image before them.
    ///
    /// # Errors
    ///
    /// As [`history_of`](Self::history_of).
    pub fn steps_of(
        &self,
        domain: DomainUuid,
        from: Seq,
        to: Seq,
    ) -> Result<DomainHistory<'_>, EngineError> {
        DomainHistory::of(self, domain, from, Some(to))
    }

    /// Returns the steps from a record to another, in order: from the first one that is not archived if that is later. Only
    /// records of the domains that they are about are replayed, from an image before them, and the views around a step are
    /// of these domains alone, as those of [`history_of`](Self::history_of). For few steps: a
    /// [`history`](Self::history) of many costs less.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history), and what a scan of the steps comes upon; what comes up later is an item.
    pub fn steps(&self, from: Seq, to: Seq) -> Result<DomainHistory<'_>, EngineError> {
        DomainHistory::between(self, from, Some(to))
    }

    /// Returns the domains that have or had a name, in the order in which records first say it. All records are scanned,
    /// and only those of domains that may have had the name are replayed.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history) and its items.
    pub fn domains_called(&self, name: &str) -> Result<Vec<DomainUuid>, EngineError> {
        let begin = self.place_at(None)?.ledger;
        let there = begin.view.state.domain_by_name(name);
        let mut named: Vec<DomainUuid> = there.map(Domain::uuid).into_iter().collect();
        let mut lookup = Lookup::over(self, Some(&begin))?;
        // A record that gives a domain its name has it in its facts, as it is.
        let says = memmem::Finder::new(name);
        let found = lookup.find_all(begin.view.head, &|outline| {
            let mut found = Vec::new();
            if says.find(outline.facts).is_some() {
                let seq = outline.seq;
                let mut note = |_, facts: DomainFacts<'_>| {
                    if facts.name == name {
                        found.push(DomainUuid::from_bytes(facts.uuid));
                    }
                };
                Outline::read(seq, outline.facts)
                    .and_then(|facts| facts.meanings(seq, &mut note))
                    .map_err(|why| fault(seq, why))?;
            }
            Ok(found)
        })?;
        // What was said before the log begins is not said again.
        let known = begin.dictionary.domains.iter();
        let mut known: Vec<(TextRef, DomainUuid)> = known
            .filter(|(_, def)| *def.name == *name)
            .map(|(place, def)| (*place, def.uuid))
            .collect();
        known.sort_unstable_by_key(|(place, _)| (place.seq, place.index));
        for uuid in known.into_iter().map(|(_, uuid)| uuid).chain(found) {
            if !named.contains(&uuid) {
                named.push(uuid);
            }
        }
        let newest = self.view();
        let now = newest.state.domain_by_name(name);
        let mut called = Vec::new();
        for uuid in named {
            let is = |domain: Option<&Domain>| domain.is_some_and(|domain| domain.uuid() == uuid);
            if is(there) || is(now) || self.was_called(uuid, name)? {
                called.push(uuid);
            }
        }
        Ok(called)
    }

    /// Whether a domain had a name: a moment may keep a definition under one that its domain never had.
    fn was_called(&self, uuid: DomainUuid, name: &str) -> Result<bool, EngineError> {
        for step in self.history_of(uuid)? {
            let step = step?;
            let domain = step.after.state().domain(uuid);
            if domain.is_some_and(|domain| &**domain.name() == name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the state of one domain as of a record: the end of the log if that is before it. Other domains are not in it.
    ///
    /// # Errors
    ///
    /// As [`history_of`](Self::history_of) and its items; what comes after that record does not matter.
    pub fn view_of(&self, domain: DomainUuid, seq: Seq) -> Result<View, EngineError> {
        DomainHistory::behind(self, Some(seq), domain, Some(seq))?.last_view()
    }
}
