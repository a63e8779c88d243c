//! The store that a server serves, shared by its clients.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use momentlog::{Connection, Result};

use crate::events::Events;

/// What a server serves: a store, and for how long it is kept.
pub struct Served {
    open: Box<dyn Fn() -> Result<Connection> + Send + Sync>,
    /// Whether it is libvirt's test driver, whose state ends with the last client.
    pub(crate) ends: bool,
    pub(crate) uri: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    store: Option<Arc<Store>>,
    clients: usize,
}

/// The store while it is open.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) events: Events,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("uri", &self.uri)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Served {
    /// Serves a store that lasts, such as one in a directory.
    pub fn lasting(connection: &Connection, uri: &str) -> Served {
        let connection = connection.clone();
        Served::new(Box::new(move || Ok(connection.clone())), false, uri)
    }

    /// Serves a store that is opened for the first client, and whose state is forgotten when the last one leaves, as that of
    /// `test:///default` in libvirtd.
    pub fn while_used(
        open: impl Fn() -> Result<Connection> + Send + Sync + 'static,
        uri: &str,
    ) -> Served {
        Served::new(Box::new(open), true, uri)
    }

    fn new(
        open: Box<dyn Fn() -> Result<Connection> + Send + Sync>,
        ends: bool,
        uri: &str,
    ) -> Served {
        Served {
            open,
            ends,
            uri: uri.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Lets a client in.
    pub(crate) fn enter(self: &Arc<Served>) -> Result<Entered> {
        let mut state = self.lock();
        let store = match &state.store {
            Some(store) => store.clone(),
            None => {
                let store = Arc::new(Store {
                    connection: (self.open)()?,
                    events: Events::default(),
                });
                state.store.insert(store).clone()
            }
        };
        state.clients += 1;
        Ok(Entered {
            served: self.clone(),
            store,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is in. It leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Entered {
    served: Arc<Served>,
    pub(crate) store: Arc<Store>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.served.lock();
        state.clients -= 1;
        if state.clients == 0 && self.served.ends {
            state.store = None;
        }
    }
}
