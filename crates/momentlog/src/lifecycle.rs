//! libvirt's lifecycle events, read from the records of the log: also of those that other processes append.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use momentlog_core::{Change, Domain as DomainState, DomainUuid, Event, Power, RunState, State};
use momentlog_engine::{Call, Entry};
use momentlog_store::{Head, Seq};

use crate::connection::{Connection, Subscription};
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::Result;

/// The reason of a guest that was booted.
const BOOTED: u8 = 1;

/// Something that happened to a domain, as libvirt tells it. Snapshots and checkpoints are no events there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// The record that says so.
    pub seq: Seq,
    /// The domain.
    pub domain: DomainUuid,
    /// Its name; its former one, if that was given up.
    pub name: Arc<str>,
    /// The number of a running domain, after what happened.
    pub id: Option<u32>,
    /// What happened.
    pub kind: LifecycleKind,
}

/// A lifecycle event in libvirt's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LifecycleKind {
    /// The `virDomainEventType`.
    pub event: u8,
    /// The detail of that event, such as a `virDomainEventStartedDetailType`.
    pub detail: u8,
}

/// Declares the kinds that records can tell.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = ($event:literal, $detail:literal),)*) => {
        impl LifecycleKind {
            $($(#[$doc])* pub const $kind: LifecycleKind = LifecycleKind { event: $event, detail: $detail };)*
        }
    };
}

kinds! {
    /// A domain is defined that was not.
    DEFINED_ADDED = (0, 0),
    /// A domain has another persistent definition.
    DEFINED_UPDATED = (0, 1),
    /// A domain has this name from now on.
    DEFINED_RENAMED = (0, 2),
    /// A domain is not defined any more.
    UNDEFINED_REMOVED = (1, 0),
    /// A domain does not have this name any more.
    UNDEFINED_RENAMED = (1, 1),
    /// A guest was started.
    STARTED_BOOTED = (2, 0),
    /// A guest was started from a snapshot.
    STARTED_FROM_SNAPSHOT = (2, 3),
    /// A guest was paused.
    SUSPENDED_PAUSED = (3, 0),
    /// A guest is paused, as its snapshot was.
    SUSPENDED_FROM_SNAPSHOT = (3, 5),
    /// A guest runs on.
    RESUMED_UNPAUSED = (4, 0),
    /// A guest shut itself down.
    STOPPED_SHUTDOWN = (5, 0),
    /// A guest was stopped.
    STOPPED_DESTROYED = (5, 1),
    /// A guest is off because its domain goes to a snapshot, or a snapshot was to be the last of it.
    STOPPED_FROM_SNAPSHOT = (5, 6),
}

impl LifecycleKind {
    const fn of(event: u8, detail: u8) -> LifecycleKind {
        LifecycleKind { event, detail }
    }

    /// A guest runs or is about to, for the reason of its run state.
    fn started(power: Power) -> LifecycleKind {
        let detail = match (power.state, power.reason) {
            (RunState::Running, 2) => 1,
            (RunState::Running, 3) => 2,
            (RunState::Running, 6) => 4,
            (RunState::Running, 4) | (RunState::Paused, 7) => {
                return LifecycleKind::STARTED_FROM_SNAPSHOT;
            }
            _ => 0,
        };
        LifecycleKind::of(2, detail)
    }

    fn suspended(reason: u8) -> LifecycleKind {
        LifecycleKind::of(
            3,
            match reason {
                2 => 1,
                5 => 2,
                6 => 3,
                7 => 5,
                12 => 7,
                13 => 8,
                14 => 6,
                _ => 0,
            },
        )
    }

    fn resumed(reason: u8) -> LifecycleKind {
        LifecycleKind::of(
            4,
            match reason {
                2 => 1,
                4 => 2,
                _ => 0,
            },
        )
    }

    fn stopped(reason: u8) -> LifecycleKind {
        // The reasons begin at 1, the details at 0.
        LifecycleKind::of(5, reason.saturating_sub(1).min(6))
    }
}

impl Lifecycle {
    /// Returns what libvirt would tell of a record, in order, and brings the state before the record to the one after it.
    /// A record that does not fit the state tells what comes before that.
    pub fn of(state: &mut State, entry: &Entry) -> Vec<Lifecycle> {
        let mut told = Vec::new();
        for event in &entry.events {
            let Some(uuid) = event.domain else { continue };
            let before = state.domain(uuid).cloned();
            if state.advance(event).is_err() {
                break;
            }
            let after = state.domain(uuid);
            let mut tell = |domain: &DomainState, kind: LifecycleKind| {
                let stopped = kind.event == LifecycleKind::STOPPED_SHUTDOWN.event;
                told.push(Lifecycle {
                    seq: entry.head.seq,
                    domain: uuid,
                    name: domain.name().clone(),
                    id: domain.power().id.filter(|_| !stopped),
                    kind,
                });
            };
            // The built-in domain is there from the beginning, and of metadata libvirt tells in events of another kind.
            if ![Call::BUILT_IN, Call::SET_METADATA].contains(&entry.call) {
                tell_of(event, before.as_ref(), after, &mut tell);
            }
        }
        told
    }
}

/// Tells what an event means with the domain before and after it.
fn tell_of(
    event: &Event,
    before: Option<&DomainState>,
    after: Option<&DomainState>,
    tell: &mut dyn FnMut(&DomainState, LifecycleKind),
) {
    use LifecycleKind as Kind;
    match (&event.change, before, after) {
        (Change::DomainDefined { live: false, .. }, before, Some(after)) => {
            let known = before.is_some_and(DomainState::is_persistent);
            tell(
                after,
                if known {
                    Kind::DEFINED_UPDATED
                } else {
                    Kind::DEFINED_ADDED
                },
            );
        }
        (Change::DomainRenamed(_), Some(before), Some(after)) => {
            tell(before, Kind::UNDEFINED_RENAMED);
            tell(after, Kind::DEFINED_RENAMED);
        }
        (Change::MadeTransient, _, Some(after)) => tell(after, Kind::UNDEFINED_REMOVED),
        // A transient domain ends with its guest, of which there was an event.
        (Change::DomainRemoved, Some(before), None) if before.is_persistent() => {
            tell(before, Kind::UNDEFINED_REMOVED);
        }
        (Change::StateChanged(power), Some(before), Some(after)) => {
            change_of(before.power(), *power, &mut |kind| tell(after, kind));
        }
        (Change::Reverted { power, .. }, Some(before), Some(after)) => {
            // What runs is stopped before the snapshot is in its place.
            if before.power().is_active() {
                tell(after, Kind::STOPPED_FROM_SNAPSHOT);
            }
            change_of(Power::OFF, *power, &mut |kind| tell(after, kind));
        }
        _ => {}
    }
}

/// Tells that one run state followed another.
fn change_of(before: Power, after: Power, tell: &mut dyn FnMut(LifecycleKind)) {
    use LifecycleKind as Kind;
    if before.state == after.state {
        return;
    }
    if !before.is_active() {
        tell(Kind::started(after));
    }
    match after.state {
        // That it was rebooted is another kind of event, and no lifecycle.
        RunState::Running if before.is_active() && after.reason != BOOTED => {
            tell(Kind::resumed(after.reason));
        }
        RunState::Running | RunState::Blocked => {}
        RunState::Paused => tell(Kind::suspended(after.reason)),
        RunState::Shutoff => tell(Kind::stopped(after.reason)),
        RunState::Shutdown => tell(Kind::of(6, 0)),
        RunState::PmSuspended => tell(Kind::of(7, 0)),
        RunState::Crashed => tell(Kind::of(8, 0)),
    }
}

/// Waits for lifecycle events of all domains of a store, see [`Connection::lifecycle`].
pub struct LifecycleEvents {
    connection: Connection,
    subscription: Subscription,
    /// Records that were read and are not looked at yet, because the state before them could not be read.
    pending: VecDeque<Entry>,
    /// The state after the record `last`.
    state: State,
    last: Option<Seq>,
}

impl fmt::Debug for LifecycleEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifecycleEvents")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Returns the lifecycle events of the records that are appended from now on, by this or another process: in the order
    /// of the log, and only of what is durable.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read. That it is not there yet is no error.
    pub fn lifecycle(&self) -> Result<LifecycleEvents> {
        // As far as it is known where there is no store yet.
        let view = self.refresh().or_else(|error| match error.store() {
            Some(momentlog_store::StoreError::Missing { .. }) => Ok(self.view()),
            _ => Err(error),
        })?;
        let head = view.head();
        Ok(LifecycleEvents {
            connection: self.clone(),
            subscription: self.subscribe(head),
            pending: VecDeque::new(),
            state: view.state().clone(),
            last: head.map(|Head { seq, .. }| seq),
        })
    }
}

impl LifecycleEvents {
    /// Returns the events since the last call, at once if there are any records, or none after `wait`. A record may tell
    /// nothing, so that none can also come sooner.
    ///
    /// # Errors
    ///
    /// As [`Subscription::next`], and if the state before a record cannot be read. No event is lost by an error: the next
    /// call goes on where this one ended, and after `Archived` behind the records that were missed.
    pub fn next(&mut self, wait: Duration) -> Result<Vec<Lifecycle>> {
        if self.pending.is_empty() {
            self.pending.extend(self.subscription.next(wait)?);
        }
        // Records follow each other, so that only the first may lack the state before it.
        if let Some(first) = self.pending.front()
            && first.head.seq != Seq::after(self.last)
            && let Some(before) = Seq::new(first.head.seq.get() - 1)
        {
            self.state = self.connection.view_at(before)?.state().clone();
        }
        let mut events = Vec::new();
        for entry in self.pending.drain(..) {
            events.extend(Lifecycle::of(&mut self.state, &entry));
            self.last = Some(entry.head.seq);
        }
        Ok(events)
    }
}
