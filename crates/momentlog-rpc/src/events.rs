//! Events for clients that listen: one thread follows the log and puts what happened to domains into their outboxes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use momentlog::core::DomainUuid;
use momentlog::store::Seq;
use momentlog::{Connection, Lifecycle, LifecycleEvents};

use crate::failure::Failure;
use crate::frame::{Frame, Header};
use crate::outbox::Outbox;
use crate::proto::{DomainRef, Event, Value, encode};
use crate::served::Store;

/// The only event that is ever sent; clients may register for others.
const LIFECYCLE: i32 = 0;

/// The last event that a client may register for.
const EVENT_LAST: i32 = 26;

/// Most callbacks of one client.
const CALLBACKS_MAX: usize = 4096;

/// How long the thread waits before it looks whether a client still listens.
const WAIT: Duration = Duration::from_secs(1);

/// Who listens to the events of a store.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Listeners>);

#[derive(Debug, Default)]
struct Listeners {
    listeners: Vec<Weak<Listener>>,
    followed: bool,
}

/// A client that registered callbacks.
#[derive(Debug)]
pub(crate) struct Listener {
    outbox: Arc<Outbox>,
    callbacks: Mutex<Callbacks>,
}

#[derive(Debug, Default)]
struct Callbacks {
    next: i32,
    registered: Vec<Callback>,
}

#[derive(Debug)]
struct Callback {
    /// Its number; none if it is of the older kind that has no number.
    id: Option<i32>,
    event: i32,
    domain: Option<DomainUuid>,
    /// The last record that it is not about.
    after: Option<Seq>,
}

impl Listener {
    pub(crate) fn new(outbox: Arc<Outbox>) -> Listener {
        Listener {
            outbox,
            callbacks: Mutex::default(),
        }
    }

    /// Registers a callback, and returns its number.
    pub(crate) fn register(
        self: &Arc<Listener>,
        store: &Arc<Store>,
        event: i32,
        domain: Option<DomainUuid>,
    ) -> Result<i32, Failure> {
        if event == LIFECYCLE {
            store.events.listen(store, self)?;
        }
        let mut callbacks = self.lock();
        let id = callbacks.next;
        callbacks.add(&store.connection, Some(id), event, domain)?;
        callbacks.next += 1;
        Ok(id)
    }

    /// Registers a callback without a number, for all domains.
    pub(crate) fn register_unnumbered(
        self: &Arc<Listener>,
        store: &Arc<Store>,
        event: i32,
    ) -> Result<(), Failure> {
        if event == LIFECYCLE {
            store.events.listen(store, self)?;
        }
        self.lock().add(&store.connection, None, event, None)
    }

    /// Removes the callback of a number.
    pub(crate) fn deregister(&self, id: i32) -> Result<(), Failure> {
        self.remove(|callback| callback.id == Some(id))
            .ok_or_else(|| Failure::internal(&format!("domain event callback {id} not registered")))
    }

    /// Removes a callback without a number.
    pub(crate) fn deregister_unnumbered(&self, event: i32) -> Result<(), Failure> {
        self.remove(|callback| callback.id.is_none() && callback.event == event)
            .ok_or_else(|| Failure::internal(&format!("domain event {event} not registered")))
    }

    fn remove(&self, is: impl Fn(&Callback) -> bool) -> Option<()> {
        let mut callbacks = self.lock();
        let at = callbacks.registered.iter().position(is)?;
        callbacks.registered.remove(at);
        Some(())
    }

    fn send(&self, event: &Lifecycle) {
        let frames: Vec<Frame> = {
            let callbacks = self.lock();
            let registered = callbacks.registered.iter();
            let about = registered.filter(|callback| callback.is_about(event));
            about
                .filter_map(|callback| message(callback.id, event))
                .collect()
        };
        for frame in &frames {
            self.outbox.send(frame);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Callbacks> {
        self.callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Callbacks {
    fn add(
        &mut self,
        connection: &Connection,
        id: Option<i32>,
        event: i32,
        domain: Option<DomainUuid>,
    ) -> Result<(), Failure> {
        if !(0..=EVENT_LAST).contains(&event) {
            return Err(Failure::internal(&format!("unsupported event ID {event}")));
        }
        if self.registered.len() >= CALLBACKS_MAX {
            let why = format!("a connection has at most {CALLBACKS_MAX} callbacks");
            return Err(Failure::internal(&why));
        }
        // Also what other processes have appended came before.
        let view = connection.refresh().unwrap_or_else(|_| connection.view());
        let after = view.head().map(|head| head.seq);
        self.registered.push(Callback {
            id,
            event,
            domain,
            after,
        });
        Ok(())
    }
}

impl Callback {
    fn is_about(&self, event: &Lifecycle) -> bool {
        self.event == LIFECYCLE
            && self.domain.is_none_or(|domain| domain == event.domain)
            && Some(event.seq) > self.after
    }
}

/// The message of an event, with the callback's number if it has one.
fn message(id: Option<i32>, lifecycle: &Lifecycle) -> Option<Frame> {
    let id_of = |id: u32| i32::try_from(id).unwrap_or(i32::MAX);
    let domain = DomainRef {
        name: lifecycle.name.as_bytes().into(),
        uuid: *lifecycle.domain.as_bytes(),
        id: lifecycle.id.map_or(-1, id_of),
    };
    let mut fields = vec![
        Value::Domain(domain),
        Value::Int(lifecycle.kind.event.into()),
        Value::Int(lifecycle.kind.detail.into()),
    ];
    let event = match id {
        None => Event::LIFECYCLE_UNNUMBERED,
        Some(id) => {
            fields.insert(0, Value::Int(id));
            Event::LIFECYCLE
        }
    };
    Some(Frame {
        header: Header::event(event.number),
        payload: encode(event.fields, &fields).ok()?,
    })
}

impl Events {
    /// Sends events to a client from now on.
    fn listen(&self, store: &Arc<Store>, listener: &Arc<Listener>) -> Result<(), Failure> {
        let mut state = self.lock();
        let known = |other: &Weak<Listener>| std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener));
        if !state.listeners.iter().any(known) {
            state.listeners.push(Arc::downgrade(listener));
        }
        if !state.followed {
            let events = store.connection.lifecycle()?;
            let store = Arc::downgrade(store);
            let thread = thread::Builder::new().name("events".to_owned());
            let started = thread.spawn(move || follow(&store, events));
            started
                .map_err(|error| Failure::internal(&format!("no thread for events: {error}")))?;
            state.followed = true;
        }
        Ok(())
    }

    /// Sends events to all that listen; `false` if there are none any more.
    fn send(&self, events: &[Lifecycle]) -> bool {
        let listeners: Vec<Arc<Listener>> = {
            let mut state = self.lock();
            state.listeners.retain(|one| one.strong_count() > 0);
            state.followed = !state.listeners.is_empty();
            state.listeners.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in &listeners {
            for one in events {
                listener.send(one);
            }
        }
        !listeners.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the log while a client listens.
fn follow(store: &Weak<Store>, mut events: LifecycleEvents) {
    loop {
        let happened = events.next(WAIT).unwrap_or_else(|error| {
            tracing::warn!("events cannot be read: {error}");
            // Not every error comes after a wait.
            thread::sleep(WAIT);
            Vec::new()
        });
        match store.upgrade() {
            Some(store) if store.events.send(&happened) => {}
            _ => return,
        }
    }
}
