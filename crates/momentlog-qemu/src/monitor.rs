//! The narrow seam to a hypervisor: requests in, replies out.
//!
//! It has two users: the QMP socket of a real QEMU, and a simulated one that tests kill and let fail at any request. So
//! what is tested is the sequence of requests, not only its meaning.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use momentlog_core::HypervisorRun;
use serde::Serialize;
use serde_json::Value;

/// Leads to the monitors of guests.
pub trait Hypervisor: fmt::Debug + Send + Sync {
    /// Waits up to `wait` until the monitor at `socket` greets, and has it alone from then on until it is dropped.
    ///
    /// # Errors
    ///
    /// See [`EnterError`].
    fn enter(&self, socket: &Path, wait: Duration) -> Result<Box<dyn Monitor>, EnterError>;

    /// Makes an empty file that only its owner may use, for an image that the hypervisor will write. It is not durable yet.
    ///
    /// # Errors
    ///
    /// What the operating system says; [`io::ErrorKind::AlreadyExists`] if it is there.
    fn create_file(&self, path: &Path) -> io::Result<()> {
        let options = &mut std::fs::OpenOptions::new();
        let options = options.write(true).create_new(true);
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600).open(path)?;
        Ok(())
    }

    /// Whether something is at this path, of whatever kind.
    fn is_there(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok()
    }

    /// Makes files and their names durable.
    ///
    /// # Errors
    ///
    /// What the operating system says of the first of them that it refuses.
    fn sync_files(&self, paths: &[&Path]) -> io::Result<()> {
        let parents = paths.iter().filter_map(|path| path.parent());
        let parents: BTreeSet<&Path> = parents
            .filter(|parent| !parent.as_os_str().is_empty())
            .collect();
        let mut all = paths.iter().copied().chain(parents);
        all.try_for_each(|path| std::fs::File::open(path)?.sync_all())
    }

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    /// Returns what `qemu-img info` says of an image that no hypervisor uses, and of all images below it. Without a format, it
    /// is the one that the image seems to have.
    ///
    /// # Errors
    ///
    /// Why it cannot be told; a hypervisor may be using it.
    fn image_info(&self, path: &Path, format: Option<&str>) -> Result<Value, String> {
        crate::qemu_img::image_info(path, format)
    }

    /// Whether a qcow2 image that no hypervisor uses, and that lies above another, holds data or zeros of its own.
    ///
    /// # Errors
    ///
    /// As [`image_info`](Self::image_info).
    fn holds_data(&self, path: &Path) -> Result<bool, String> {
        crate::qemu_img::holds_data(path)
    }

    /// Removes a bitmap that is stored in a qcow2 image which no hypervisor uses.
    ///
    /// # Errors
    ///
    /// Why it cannot be removed; a hypervisor may be using the image.
    fn remove_stored_bitmap(&self, path: &Path, bitmap: &str) -> Result<(), String> {
        crate::qemu_img::remove_stored_bitmap(path, bitmap)
    }
}

/// The monitor of one run of one guest. It greets one client at a time, so whoever has it has the guest alone.
pub trait Monitor: fmt::Debug + Send {
    /// Which run of the hypervisor this is, if it can be told.
    fn run(&self) -> Option<HypervisorRun>;

    /// Sends one request and returns what it returns.
    ///
    /// # Errors
    ///
    /// [`AskError::Refused`] if the hypervisor refuses it: nothing was done then, and the monitor goes on. After any other
    /// error it is unknown whether the request was done, and every later request fails.
    fn ask(&mut self, request: &Request) -> Result<Value, AskError>;

    /// Sends requests, all in one write, of which none depends on the answer to another. They are done in order. Returns for
    /// each of them, in order, what it returns, or that it is [refused](AskError::Refused).
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask), of the first one after which all is unknown.
    fn ask_all(&mut self, requests: &[Request]) -> Result<Vec<Result<Value, AskError>>, AskError> {
        let answers = requests.iter().map(|request| known(self.ask(request)));
        answers.collect()
    }
}

/// Tells an answer, which may be a refusal, from an error after which all is unknown.
pub(crate) fn known(asked: Result<Value, AskError>) -> Result<Result<Value, AskError>, AskError> {
    match asked {
        Err(error) if error.leaves_unknown() => Err(error),
        answer => Ok(answer),
    }
}

/// One request of QMP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Request {
    /// The name of the command.
    pub execute: Cow<'static, str>,
    /// Its arguments: an object, or null for none.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub arguments: Value,
}

impl Request {
    /// Returns a request without arguments.
    pub fn bare(execute: &'static str) -> Request {
        Request {
            execute: execute.into(),
            arguments: Value::Null,
        }
    }

    /// Returns a request with arguments.
    pub fn new(execute: &'static str, arguments: Value) -> Request {
        Request {
            execute: execute.into(),
            arguments,
        }
    }
}

/// Why a monitor cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    /// There is no socket: the guest ended in order, or was never there.
    #[error("there is no monitor at {socket}: the guest is not running")]
    Missing {
        /// The socket.
        socket: String,
    },
    /// No process listens: the hypervisor was killed or has crashed.
    #[error("no process listens at {socket}: the hypervisor was killed or has crashed")]
    Dead {
        /// The socket.
        socket: String,
    },
    /// It did not greet in time: another client holds it, or the hypervisor is stopped.
    #[error(
        "the monitor at {socket} did not greet within {} s: another client holds it, or the hypervisor is stopped",
        wait.as_secs_f64()
    )]
    Held {
        /// The socket.
        socket: String,
        /// How long it was waited for.
        wait: Duration,
    },
    /// What answers there is no QMP monitor.
    #[error("what answers at {socket} is no QMP monitor: {why}")]
    NotQmp {
        /// The socket.
        socket: String,
        /// What it said.
        why: String,
    },
    /// The operating system refuses it.
    #[error("cannot connect to {socket}: {source}")]
    Io {
        /// The socket.
        socket: String,
        /// Why.
        source: io::Error,
    },
}

/// Why a request has no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The hypervisor refuses it. Nothing was done.
    #[error("{desc}")]
    Refused {
        /// The class of the error: `GenericError`, or `CommandNotFound` if the hypervisor is too old for it.
        class: String,
        /// What the hypervisor says.
        desc: String,
    },
    /// The connection ended before the answer.
    #[error("the monitor closed the connection before it answered `{execute}`")]
    Closed {
        /// The request.
        execute: String,
    },
    /// There was no answer in time.
    #[error("the monitor did not answer `{execute}` within {} s", wait.as_secs_f64())]
    Silent {
        /// The request.
        execute: String,
        /// How long it was waited for.
        wait: Duration,
    },
    /// The answer is longer than may be read.
    #[error("the answer to `{execute}` is longer than {most} bytes")]
    TooLong {
        /// The request.
        execute: String,
        /// Most bytes.
        most: usize,
    },
    /// The answer is not one that QMP allows.
    #[error("the answer to `{execute}` is not QMP: {why}")]
    Garbage {
        /// The request.
        execute: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was not sent, because an earlier request left unknown what the monitor did. To enter once more opens a new connection.
    #[error("`{execute}` was not sent: the monitor was given up, because {why}")]
    GivenUp {
        /// The request.
        execute: String,
        /// The earlier error.
        why: String,
    },
    /// The operating system reports an error.
    #[error("cannot ask the monitor for `{execute}`: {source}")]
    Io {
        /// The request.
        execute: String,
        /// Why.
        source: io::Error,
    },
}

impl AskError {
    /// Whether it is unknown whether the request, or one before it, was done.
    pub fn leaves_unknown(&self) -> bool {
        !matches!(self, AskError::Refused { .. })
    }
}
