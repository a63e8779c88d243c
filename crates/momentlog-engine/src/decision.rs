//! What a command is decided on, and what it causes.

use std::borrow::Cow;

use momentlog_core::{Command, DomainUuid, Event, Refusal, Report, SettingsChange, State};

use crate::View;

/// One request while it is decided: commands go in, the events that they cause stay inside.
///
/// Only [`State::decide`] makes events, so that nothing else can get into the log. A request may decide several
/// commands; each sees what those before it have made, and all of their events become one record.
#[derive(Debug)]
pub struct Decision<'a> {
    view: &'a View,
    /// The state after the first `applied` events.
    state: Cow<'a, State>,
    applied: usize,
    events: Vec<Event>,
}

impl<'a> Decision<'a> {
    /// Returns a decision on a view, to see what would come of commands. Nothing of it is recorded.
    pub fn on(view: &'a View) -> Decision<'a> {
        Decision {
            view,
            state: Cow::Borrowed(&view.state),
            applied: 0,
            events: Vec::new(),
        }
    }

    /// The state of the log before this request.
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// The state after the commands that were decided so far.
    pub fn state(&mut self) -> &State {
        for event in &self.events[self.applied..] {
            // That a decided event does not fit is our own bug. It is found again, and told, before anything is written.
            let _ = self.state.to_mut().advance(event);
        }
        self.applied = self.events.len();
        &self.state
    }

    /// Decides a command, and returns the events that it causes.
    ///
    /// # Errors
    ///
    /// The rule that refuses it; the request is then as it was before.
    pub fn decide(&mut self, command: &Command) -> Result<&[Event], Refusal> {
        let events = self.state().decide(command)?;
        let first = self.events.len();
        self.events.extend(events);
        Ok(&self.events[first..])
    }

    /// Decides a driver's report about a domain, and returns the events that it causes.
    ///
    /// # Errors
    ///
    /// The rule that refuses it; the request is then as it was before.
    pub fn decide_report(
        &mut self,
        domain: DomainUuid,
        report: &Report,
    ) -> Result<&[Event], Refusal> {
        let events = self.state().decide_report(domain, report)?;
        let first = self.events.len();
        self.events.extend(events);
        Ok(&self.events[first..])
    }

    /// Decides a change of the store's settings, and returns the events that it causes.
    pub fn decide_settings(&mut self, change: SettingsChange) -> &[Event] {
        let events = self.state().decide_settings(change);
        let first = self.events.len();
        self.events.extend(events);
        &self.events[first..]
    }

    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }
}
