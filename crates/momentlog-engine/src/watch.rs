//! What sees a log while it is replayed.

use momentlog_core::{DomainUuid, Event, State};

use crate::entry::Entry;

/// Sees each event right before and right after it is applied, and makes something of each record.
///
/// It is cheaper than the states around each record, of which the next record has to copy what it changes; a watch that
/// keeps a domain makes that domain's next event do so as well. Of a record that does not fit, the events that do are seen,
/// and the record is not.
pub trait Watch {
    /// What it makes of a record.
    type Made;

    /// Sees the state before a record, and the domain that the record is about.
    fn begin(&mut self, domain: Option<DomainUuid>, state: &State);

    /// Sees the next event, and the state that it is about to change.
    fn before(&mut self, event: &Event, state: &State);

    /// Sees that event, and the state that it has made.
    fn after(&mut self, event: &Event, state: &State);

    /// Makes something of a record whose events were seen, if it has any, and of the state after it.
    fn record(&mut self, entry: Entry, state: &State) -> Self::Made;
}

impl<W: Watch> Watch for &mut W {
    type Made = W::Made;

    fn begin(&mut self, domain: Option<DomainUuid>, state: &State) {
        (**self).begin(domain, state);
    }

    fn before(&mut self, event: &Event, state: &State) {
        (**self).before(event, state);
    }

    fn after(&mut self, event: &Event, state: &State) {
        (**self).after(event, state);
    }

    fn record(&mut self, entry: Entry, state: &State) -> W::Made {
        (**self).record(entry, state)
    }
}

/// What is seen, with the state there.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen<'e> {
    Begin(Option<DomainUuid>),
    Before(&'e Event),
    After(&'e Event),
}

/// Sees the states around events.
pub(crate) type See<'s> = &'s mut dyn FnMut(Seen<'_>, &State);

/// Lets a watch see what is seen.
pub(crate) fn see<W: Watch>(watch: &mut W, seen: Seen<'_>, state: &State) {
    match seen {
        Seen::Begin(domain) => watch.begin(domain, state),
        Seen::Before(event) => watch.before(event, state),
        Seen::After(event) => watch.after(event, state),
    }
}
