//! The picture of a domain's moments of one kind: an HTML page with a slider over its records, or an SVG of one state.
//!
//! Three parts follow each other. `timeline` turns the steps of the history into a list of moments and a list of
//! records, each with its changes. `order` gives every moment that ever was its place among the rows, once for all
//! records, so that rows keep their order while time moves. `frame` lays out the rows of one record: lanes, edges,
//! what is folded and closed. `svg` draws a frame; `html` puts the timeline into a page whose script does what `frame`
//! does (decision 20).

mod escape;
mod frame;
mod html;
mod order;
mod svg;
mod timeline;

use momentlog_core::{DomainUuid, MomentKind};
use momentlog_engine::{Step, View};
use momentlog_store::{Head, LogId, Seq};

use timeline::Timeline;

/// What is to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The log that the steps are of.
    pub log: LogId,
    /// The domain.
    pub domain: DomainUuid,
    /// The kind of its moments.
    pub kind: MomentKind,
}

/// The history of a domain's moments of one kind, ready to be drawn.
#[derive(Clone, Debug)]
pub struct Graph {
    subject: Subject,
    timeline: Timeline,
    /// The last record that the picture includes.
    head: Option<Head>,
}

impl Graph {
    /// What it is a picture of.
    pub fn subject(&self) -> Subject {
        self.subject
    }

    /// Returns the history that these steps of the domain tell. `end` is the state after all of them: its head is the
    /// record that the picture is as of, which may be about another domain.
    ///
    /// # Errors
    ///
    /// The first error among the steps.
    pub fn of<E>(
        subject: Subject,
        steps: impl IntoIterator<Item = Result<Step, E>>,
        end: &View,
    ) -> Result<Graph, E> {
        let timeline = Timeline::of(subject, steps, end)?;
        Ok(Graph {
            subject,
            timeline,
            head: end.head(),
        })
    }

    /// How many moments there ever were.
    pub fn moments(&self) -> usize {
        self.timeline.moments.len()
    }

    /// Returns the page: one file that needs nothing else. The same history gives the same bytes.
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Returns the picture after the last record.
    pub fn svg(&self) -> String {
        svg::picture(self, self.timeline.records.len())
    }

    /// Returns the picture after a record, with the rows in the order that they have after the last one: what the page
    /// shows for that record.
    pub fn svg_at(&self, seq: Seq) -> String {
        svg::picture(self, self.timeline.position(seq))
    }

    /// What the picture is called.
    fn title(&self) -> String {
        format!("{}s of {}", self.subject.kind, self.timeline.domain)
    }

    /// Says of which log and record the picture is, and the digest of that record: a receipt of it ties the picture to
    /// the log.
    fn origin(&self) -> [String; 2] {
        let log = self.subject.log;
        match self.head {
            Some(head) => [
                format!("log {log}, as of record {}", head.seq),
                format!("digest {}", head.digest),
            ],
            None => [format!("log {log}"), String::new()],
        }
    }
}

#[cfg(test)]
mod tests;
