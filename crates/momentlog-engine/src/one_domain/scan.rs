//! One scan for the records of some domains.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use momentlog_core::DomainUuid;
use momentlog_store::{Head, Seq};

use super::{Item, SCANNED_MAX, WHOLE_MAX, fault};
use crate::codec::Outline;
use crate::error::EngineError;
use crate::ledger::{ReplayError, ReplayFault};
use crate::log::{Log, replay};
use crate::lookup::Lookup;

/// What is looked for in a log.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'w, 'a> {
    pub(super) domains: &'w [DomainUuid],
    /// The last record that is scanned.
    pub(super) last: Option<Seq>,
    pub(super) log: (&'a Log, bool),
}

impl<'a> Wanted<'_, 'a> {
    /// Scans the records after `after` up to `until`, or until enough is found. `recorded` is the time of the record `after`.
    pub(super) fn scan(
        &self,
        lookup: &mut Lookup<'a>,
        after: Option<Head>,
        until: Option<Seq>,
        recorded: i64,
    ) -> Stretch {
        let mut found = Found {
            items: VecDeque::new(),
            passed: None,
            began: None,
            recorded,
        };
        let (mut scanned, mut whole, mut bytes, mut is_full) = (0, 0, 0, false);
        let mut end = None;
        let read = lookup.scan(after, &mut |outline| {
            if self.last.is_some_and(|last| outline.seq > last) {
                return Ok(ControlFlow::Break(()));
            }
            let facts = found.look(outline.seq, outline.facts)?;
            scanned += 1;
            let mut head = None;
            if facts
                .domain
                .is_none_or(|of| self.domains.binary_search(&of).is_ok())
            {
                let record = Lookup::whole(self.log, outline)?;
                whole += 1;
                bytes += replay::size(&record);
                head = Some(record.head());
                found.flush();
                found.items.push_back(Item::Record(record));
            } else {
                found.pass(outline.seq, facts.events);
                found.note_meanings(outline.seq, &facts)?;
            }
            is_full = whole >= WHOLE_MAX || bytes >= replay::LOT_BYTES;
            if scanned < SCANNED_MAX && !is_full && Some(outline.seq) != until {
                return Ok(ControlFlow::Continue(()));
            }
            end = match head {
                Some(head) => Some(head),
                None => Some(Lookup::whole(self.log, outline)?.head()),
            };
            Ok(ControlFlow::Break(()))
        });
        found.flush();
        let end = match (read, end) {
            (Err(error), _) => Ended::Failed(error),
            (Ok(()), None) => Ended::Reached,
            (Ok(()), Some(head)) => Ended::At(head),
        };
        Stretch {
            found,
            scanned,
            is_full,
            end,
        }
    }
}

/// What was found in records that follow each other.
pub(super) struct Stretch {
    pub(super) found: Found,
    /// How many records they are.
    pub(super) scanned: u64,
    /// Whether no more records fit that are read as a whole.
    pub(super) is_full: bool,
    pub(super) end: Ended,
}

/// How a scan has ended.
pub(super) enum Ended {
    Failed(EngineError),
    /// At the last record that is asked for, or there is.
    Reached,
    /// At this record, with others behind it.
    At(Head),
}

impl Stretch {
    /// Adds what was found right behind it.
    pub(super) fn join(mut self, next: Stretch) -> Stretch {
        if let Some((seq, recorded)) = next.found.began
            && recorded < self.found.recorded
        {
            let why = ReplayFault::Time;
            self.end = Ended::Failed(ReplayError { seq, why }.into());
            return self;
        }
        self.found.items.extend(next.found.items);
        self.found.recorded = self.found.recorded.max(next.found.recorded);
        self.scanned += next.scanned;
        self.end = next.end;
        self
    }
}

/// What one scan has found so far.
pub(super) struct Found {
    pub(super) items: VecDeque<Item>,
    passed: Option<(Seq, u32)>,
    /// The first record, and its time.
    began: Option<(Seq, i64)>,
    /// The time of the last record.
    pub(super) recorded: i64,
}

impl Found {
    /// Reads the fixed part of the facts of a record, whose time is not before that of the record before.
    fn look<'f>(&mut self, seq: Seq, facts: &'f [u8]) -> Result<Outline<'f>, EngineError> {
        let outline = Outline::read(seq, facts).map_err(|why| fault(seq, why))?;
        if outline.recorded < self.recorded {
            let why = ReplayFault::Time;
            return Err(ReplayError { seq, why }.into());
        }
        self.recorded = outline.recorded;
        self.began.get_or_insert((seq, outline.recorded));
        Ok(outline)
    }

    fn pass(&mut self, seq: Seq, events: u32) {
        let before = self.passed.map_or(0, |(_, events)| events);
        self.passed = Some((seq, before.saturating_add(events)));
    }

    /// Writes down what was passed.
    fn flush(&mut self) {
        if let Some((last, events)) = self.passed.take() {
            self.items.push_back(Item::Passed { last, events });
        }
    }

    fn note_meanings(&mut self, seq: Seq, facts: &Outline<'_>) -> Result<(), EngineError> {
        let items = &mut self.items;
        facts
            .meanings(seq, &mut |place, _| {
                items.push_back(Item::Said { place, seq });
            })
            .map_err(|why| fault(seq, why))
    }
}
