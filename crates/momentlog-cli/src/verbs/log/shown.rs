//! How the records of `log` come out: as they are read, or once the newest are known.

use std::collections::VecDeque;
use std::io;

use momentlog::Step;
use momentlog_audit::json::{self, EntryDoc, SuspicionDoc};
use momentlog_audit::{Suspicion, Told};

use super::Asked;
use crate::failure::{Failure, reason};
use crate::interrupt;
use crate::layout::escaped;
use crate::reversed::Reversed;
use crate::session::{Format, Session};
use crate::verbs::show;
use crate::verbs::told::Rows;

/// Records that are shown as they come, or once the newest are known.
pub struct Shown<'a> {
    session: &'a mut Session,
    rows: Rows,
    /// How many are shown at most; with `newest`, the last of them.
    count: usize,
    newest: bool,
    reverse: bool,
    xml: bool,
    /// The newest of those that were read; `reversed` has all of them.
    waiting: VecDeque<String>,
    reversed: Reversed,
    /// Why no more of them can be kept.
    failed: Option<io::Error>,
    taken: usize,
}

impl Shown<'_> {
    pub fn new<'a>(session: &'a mut Session, asked: &Asked, last: u64) -> Shown<'a> {
        Shown {
            session,
            rows: Rows::new(asked.one_line, last),
            count: asked.count.unwrap_or(usize::MAX),
            newest: asked.count.is_some() && asked.wanted.from.is_none() && asked.behind.is_none(),
            reverse: asked.reverse,
            xml: asked.xml,
            waiting: VecDeque::new(),
            reversed: Reversed::default(),
            failed: None,
            taken: 0,
        }
    }

    /// Shows a record; returns false once as many were shown as are asked for.
    pub fn take(&mut self, told: &Told, step: Option<&Step>, suspicions: &[Suspicion]) -> bool {
        if self.taken >= self.count && !self.newest {
            return false;
        }
        self.taken += 1;
        let mut text = match self.session.format {
            Format::Json if suspicions.is_empty() => json::line(&EntryDoc::of(told)),
            Format::Json => suspicions
                .iter()
                .map(|suspicion| json::line(&SuspicionDoc::of(told, suspicion)))
                .collect(),
            Format::Text => self.rows.record(told) + &self.rows.suspicions(suspicions),
        };
        if let (true, Format::Text, Some(step)) = (self.xml, self.session.format, step) {
            text += &show::documents(&self.session.connection, step, &told.consequences);
        }
        if self.newest {
            self.waiting.push_back(text);
            if self.waiting.len() > self.count {
                self.waiting.pop_front();
            }
        } else if self.reverse {
            if let Err(error) = self.reversed.push(text) {
                self.failed = Some(error);
                return false;
            }
        } else {
            self.session.answer(&text);
        }
        self.newest || self.taken < self.count && self.session.is_heard()
    }

    /// Shows what has waited for the end of the log.
    pub fn finish(&mut self) -> Result<(), Failure> {
        if self.reverse {
            self.waiting.make_contiguous().reverse();
        }
        for text in std::mem::take(&mut self.waiting) {
            self.session.answer(&text);
        }
        let reversed = std::mem::take(&mut self.reversed);
        let kept = self.failed.take().map_or(Ok(()), Err);
        let shown = kept.and_then(|()| {
            reversed.show(|text| {
                self.session.answer(text);
                self.session.is_heard()
            })
        });
        shown.map_err(|error| {
            let directory = escaped(&std::env::temp_dir().display().to_string());
            let why = reason(&error);
            Failure::new(format!("Failed to keep records in '{directory}': {why}"))
        })?;
        // What comes later is shown as it comes.
        (self.newest, self.reverse) = (false, false);
        self.count = usize::MAX;
        self.session.flush();
        Ok(())
    }

    pub fn flush(&mut self) {
        self.session.flush();
    }

    pub fn goes_on(&self) -> bool {
        self.session.is_heard() && !interrupt::pressed()
    }
}
