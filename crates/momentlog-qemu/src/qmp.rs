//! A QMP monitor behind a unix socket.
//!
//! What is used of QMP: the server greets (`{"QMP": …}`), the client sends `qmp_capabilities`, and from then on each
//! request is a JSON object on a line of its own, with an `id` that its answer repeats. Answers come in the order of their
//! requests, because no request is sent out of band. An answer has `return` or `error`; every message that has neither,
//! such as an event, is passed over, and so is every field that is not named here.
//!
//! The other side is not trusted: one message is bounded in length and depth, and one request in time, however much arrives
//! meanwhile. A server that does not take the connection, does not greet or does not read what is sent costs no more than
//! that time.

mod connection;
mod message;
mod run;

use std::iter::zip;
use std::path::Path;
use std::slice;
use std::thread;
use std::time::Duration;

use momentlog_core::HypervisorRun;
use serde::Serialize;
use serde_json::Value;

use crate::deadline::Deadline;
use crate::monitor::known;
use crate::{AskError, EnterError, Hypervisor, Monitor, Request};
use connection::{Connection, Fault};
use message::Message;
pub use message::QemuVersion;

/// How often a server may close the connection before it has greeted.
const CLOSED_MAX: usize = 10;

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(10);

/// The id of the first request, which negotiates.
const FIRST_ID: u64 = 1;

/// Leads to the monitors of running QEMUs by their sockets, with the bounds that hold for what they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QmpSockets {
    /// How long a request may take, from its sending to the end of its answer. Requests that are sent together have this
    /// time together.
    pub answer_wait: Duration,
    /// Most bytes of one message: of an answer, an event or the greeting. The values of an answer take more memory than its
    /// text, at worst, for an array of the shortest objects, a hundred times as much.
    pub message_len_max: usize,
}

impl Default for QmpSockets {
    /// 30 seconds, 64 MiB.
    fn default() -> QmpSockets {
        QmpSockets {
            answer_wait: Duration::from_secs(30),
            message_len_max: 64 << 20,
        }
    }
}

impl QmpSockets {
    /// As [`enter`](Hypervisor::enter), and returns the type that also tells QEMU's version.
    ///
    /// A free monitor takes about a millisecond for it, so a shorter `wait` finds it held.
    ///
    /// # Errors
    ///
    /// See [`EnterError`].
    pub fn connect(&self, socket: &Path, wait: Duration) -> Result<QmpMonitor, EnterError> {
        let deadline = Deadline::after(wait);
        for _ in 0..CLOSED_MAX {
            if let Some(monitor) = self.greeted(socket, deadline)? {
                return Ok(monitor);
            }
            // A guest that ends closes what waits for its greeting; the next connect tells how it ended. A killed process
            // may close its connections before the socket at which it listens.
            thread::sleep(PAUSE);
        }
        Err(EnterError::NotQmp {
            socket: shown(socket),
            why: "it closes the connection before it greets".into(),
        })
    }

    /// Returns the monitor once it has greeted, and `None` if it closes the connection before.
    fn greeted(&self, socket: &Path, deadline: Deadline) -> Result<Option<QmpMonitor>, EnterError> {
        let mut connection = Connection::open(socket, deadline, self.message_len_max)?;
        let not_qmp = |why| EnterError::NotQmp {
            socket: shown(socket),
            why,
        };
        let held = || EnterError::Held {
            socket: shown(socket),
            wait: deadline.wait,
        };
        let version = loop {
            let line = match connection.line(deadline) {
                Ok(line) => line,
                Err(Fault::Closed) => return Ok(None),
                Err(Fault::Late) => return Err(held()),
                Err(Fault::TooLong) => {
                    return Err(not_qmp(format!(
                        "its greeting is longer than {} bytes",
                        self.message_len_max
                    )));
                }
                Err(Fault::NoObject(why)) => return Err(not_qmp(why)),
                Err(Fault::Io(source)) => {
                    return Err(EnterError::Io {
                        socket: shown(socket),
                        source,
                    });
                }
            };
            match Message::parse(&line) {
                Ok(Message::Greeting(version)) => break version,
                // It was meant for the client before this one.
                Ok(Message::Answer { .. } | Message::Stray(_) | Message::Event) => {}
                Ok(Message::Other) => {
                    return Err(not_qmp("its first message is no greeting".into()));
                }
                Err(why) => {
                    let why = format!("its first message is no greeting: {why}");
                    return Err(not_qmp(why));
                }
            }
        };
        let mut monitor = QmpMonitor {
            run: run::of_peer(connection.stream()),
            connection,
            version,
            bounds: *self,
            next_id: FIRST_ID,
            given_up: None,
        };
        match monitor.ask_until(deadline, &Request::bare("qmp_capabilities")) {
            Ok(_) => Ok(Some(monitor)),
            Err(AskError::Closed { .. }) => Ok(None),
            Err(AskError::Silent { .. }) => Err(held()),
            Err(AskError::Io { source, .. }) => Err(EnterError::Io {
                socket: shown(socket),
                source,
            }),
            Err(error) => Err(not_qmp(format!("it refuses to negotiate: {error}"))),
        }
    }
}

impl Hypervisor for QmpSockets {
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        Ok(Box::new(self.connect(socket, wait)?))
    }
}

/// The monitor of a running QEMU, which has greeted.
#[derive(Debug)]
#[must_use]
pub struct QmpMonitor {
    connection: Connection,
    version: QemuVersion,
    run: Option<HypervisorRun>,
    bounds: QmpSockets,
    next_id: u64,
    /// The error after which no answer can be trusted.
    given_up: Option<String>,
}

/// A request as it is sent.
#[derive(Serialize)]
struct Numbered<'a> {
    #[serde(flatten)]
    request: &'a Request,
    id: u64,
}

impl QmpMonitor {
    /// Returns QEMU's version, as its greeting tells it.
    pub fn version(&self) -> &QemuVersion {
        &self.version
    }

    fn ask_until(&mut self, deadline: Deadline, request: &Request) -> Result<Value, AskError> {
        let id = self.send(slice::from_ref(request), deadline)?;
        self.answer(request, id, deadline)
    }

    /// Sends the requests in one write. Returns the id of the first; the others follow it.
    fn send(&mut self, requests: &[Request], deadline: Deadline) -> Result<u64, AskError> {
        let first_id = self.next_id;
        let Some(first) = requests.first() else {
            return Ok(first_id);
        };
        if let Some(why) = &self.given_up {
            return Err(AskError::GivenUp {
                execute: first.execute.to_string(),
                why: why.clone(),
            });
        }
        let mut lines = Vec::new();
        for (id, request) in zip(first_id.., requests) {
            serde_json::to_writer(&mut lines, &Numbered { request, id }).expect(
                "a request has nothing that JSON lacks, and memory takes all that is written",
            );
            lines.push(b'\n');
            self.next_id = id + 1;
        }
        match self.connection.send(&lines, deadline) {
            Ok(()) => Ok(first_id),
            Err(fault) => Err(self.give_up(self.ask_error(fault, first, deadline))),
        }
    }

    /// Returns what the request with this id returns.
    fn answer(
        &mut self,
        request: &Request,
        id: u64,
        deadline: Deadline,
    ) -> Result<Value, AskError> {
        self.read_answer(request, id, deadline)
            .map_err(|error| self.give_up(error))
    }

    fn read_answer(
        &mut self,
        request: &Request,
        due: u64,
        deadline: Deadline,
    ) -> Result<Value, AskError> {
        let garbage = |why| AskError::Garbage {
            execute: request.execute.to_string(),
            why,
        };
        loop {
            let line = match self.connection.line(deadline) {
                Ok(line) => line,
                Err(fault) => return Err(self.ask_error(fault, request, deadline)),
            };
            let (id, outcome) = match Message::parse(&line).map_err(garbage)? {
                Message::Answer { id, outcome } => (id, outcome),
                Message::Greeting(_) => return Err(garbage("it is a second greeting".into())),
                Message::Stray(_) if due == FIRST_ID => continue,
                Message::Stray(why) => return Err(garbage(why)),
                Message::Event | Message::Other => continue,
            };
            // What comes once more for a request that has its answer is passed over.
            let late = FIRST_ID..due;
            // A client before this one may have gone without its answer: QEMU does what it was asked for, and answers the
            // client that is there by then. All this client's answers come behind that.
            let is_of_another = due == FIRST_ID && id != due;
            if late.contains(&id) || is_of_another {
                continue;
            }
            if id != due {
                return Err(garbage(format!("its id is {id}, but {due} is due")));
            }
            return outcome.map_err(|refused| AskError::Refused {
                class: refused.class,
                desc: refused.desc,
            });
        }
    }

    fn ask_error(&self, fault: Fault, request: &Request, deadline: Deadline) -> AskError {
        let execute = request.execute.to_string();
        match fault {
            Fault::Closed => AskError::Closed { execute },
            Fault::Late => AskError::Silent {
                execute,
                wait: deadline.wait,
            },
            Fault::TooLong => AskError::TooLong {
                execute,
                most: self.bounds.message_len_max,
            },
            Fault::NoObject(why) => AskError::Garbage { execute, why },
            Fault::Io(source) => AskError::Io { execute, source },
        }
    }

    /// After an error that leaves anything unknown, nothing is sent any more.
    fn give_up(&mut self, error: AskError) -> AskError {
        if error.leaves_unknown() {
            self.given_up = Some(error.to_string());
        }
        error
    }
}

impl Monitor for QmpMonitor {
    fn run(&self) -> Option<HypervisorRun> {
        self.run
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        self.ask_until(Deadline::after(self.bounds.answer_wait), request)
    }

    fn ask_all(&mut self, requests: &[Request]) -> Result<Vec<Result<Value, AskError>>, AskError> {
        let deadline = Deadline::after(self.bounds.answer_wait);
        let first_id = self.send(requests, deadline)?;
        zip(first_id.., requests)
            .map(|(id, request)| known(self.answer(request, id, deadline)))
            .collect()
    }
}

/// A socket as messages name it.
fn shown(socket: &Path) -> String {
    socket.display().to_string()
}
