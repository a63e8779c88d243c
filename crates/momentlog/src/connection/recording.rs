//! What the calls of a connection are answered: the records that they make.

use std::sync::{Arc, Mutex, PoisonError};

use momentlog_engine::{Decision, EngineError, Outcome, Request};

use super::Connection;

/// The answers to the calls of a connection, see [`Connection::recording`].
#[derive(Clone, Debug)]
pub struct Recording {
    connection: Connection,
    outcomes: Outcomes,
}

/// Answers in the order in which they were given.
pub(super) type Outcomes = Arc<Mutex<Vec<Outcome>>>;

impl Recording {
    /// The connection to ask.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns what the calls of that connection and of its handles were answered by now, in the order of the answers: the
    /// record that each has made, or that it has found where a request id was asked again.
    pub fn outcomes(&self) -> Vec<Outcome> {
        let outcomes = self.outcomes.lock();
        outcomes.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Connection {
    /// Returns the same connection, and what its calls are answered from now on: for callers that need to know which records
    /// a call has made that returns something else, as libvirt's calls do. What is [submitted](Self::submit), and what
    /// [`archive`](Self::archive) records, is not among it.
    pub fn recording(&self) -> Recording {
        let outcomes = Outcomes::default();
        let connection = Connection {
            outcomes: Some(outcomes.clone()),
            ..self.clone()
        };
        Recording {
            connection,
            outcomes,
        }
    }

    /// Decides and records one request.
    pub(crate) fn decide<E: From<EngineError>>(
        &self,
        request: Request<'_>,
        decide: &mut dyn FnMut(&mut Decision<'_>) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let outcome = self.log.decide(request, decide)?;
        self.note(std::slice::from_ref(&outcome));
        Ok(outcome)
    }

    /// Keeps answers for whoever wants to know them.
    pub(super) fn note(&self, answered: &[Outcome]) {
        if let Some(outcomes) = &self.outcomes {
            let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
            outcomes.extend_from_slice(answered);
        }
    }
}
