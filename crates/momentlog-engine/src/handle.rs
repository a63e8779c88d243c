//! Logs in use: one engine for a directory in this process, and a writer that lets others in when it has nothing to do.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use momentlog_store::{FileStore, RealDisk, Store};

use crate::environment::Options;
use crate::log::Log;

/// How often idle writers are looked for.
const LOOK: Duration = Duration::from_millis(200);

/// A log that a caller uses. Dropping it waits until everything that was submitted is durable, and lets other processes
/// write.
pub struct LogHandle {
    log: Arc<Log>,
}

/// Short: up to where it is known.
impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.log.fmt(f)
    }
}

impl Deref for LogHandle {
    type Target = Arc<Log>;

    fn deref(&self) -> &Arc<Log> {
        &self.log
    }
}

impl Drop for LogHandle {
    fn drop(&mut self) {
        // Subscriptions, and the thread that looks for idle writers, may keep the log a little longer.
        self.log.release();
    }
}

impl LogHandle {
    /// Returns the log in a store that this caller alone uses. Nothing is read before it is asked for.
    pub fn over(store: Box<dyn Store>, options: Options) -> Arc<LogHandle> {
        Arc::new(Log::over(store, options).into())
    }

    /// Returns the log in a directory: the one that this process has open already, if that was opened with the same
    /// [`Options`] but for provenance and `read_only`, and can still be read. A writer of it that was asked for nothing for
    /// [`Options::hold_lock`] lets other processes write.
    ///
    /// Nothing is made before the first change. That there is no store yet is no error.
    pub fn open(path: &Path, options: Options) -> Arc<LogHandle> {
        let store = || Box::new(FileStore::new(RealDisk::new(path)));
        if !options.shared {
            let handle = LogHandle::over(store(), options);
            open_logs().look_after(&handle);
            return handle;
        }
        let place = place_of(path);
        let opened = open_logs().at(&place, &options);
        // Without the lock of the list: this reads the store.
        if let Some(handle) = opened.iter().find(|handle| handle.can_be_read()) {
            return handle.clone();
        }
        let mut logs = open_logs();
        // Another thread may have opened it meanwhile.
        let is_known = |handle: &Arc<LogHandle>| opened.iter().any(|one| Arc::ptr_eq(one, handle));
        let mut here = logs.at(&place, &options).into_iter();
        if let Some(handle) = here.find(|handle| !is_known(handle)) {
            return handle;
        }
        let handle = LogHandle::over(store(), options);
        logs.shared.push((place, Arc::downgrade(&handle)));
        logs.look_after(&handle);
        handle
    }

    /// Whether the store is there as it was, or not there yet.
    fn can_be_read(&self) -> bool {
        match self.refresh() {
            Ok(_) => self.check_store().is_ok(),
            Err(error) => error.is_missing(),
        }
    }
}

impl From<Log> for LogHandle {
    fn from(log: Log) -> LogHandle {
        LogHandle { log: Arc::new(log) }
    }
}

/// The logs of directories that this process has open.
#[derive(Debug, Default)]
struct OpenLogs {
    shared: Vec<(PathBuf, Weak<LogHandle>)>,
    /// Those whose writers are to let others in, each with how often it was asked at the last look, and since when it was
    /// asked for nothing.
    holding: Vec<Holding>,
    /// Whether a thread looks for idle writers.
    is_looked_after: bool,
}

#[derive(Debug)]
struct Holding {
    log: Weak<Log>,
    hold: Duration,
    asked: u64,
    idle: Duration,
    /// The thread that lets others in. It may wait for a write and make an image, and no other log waits for it.
    releasing: Option<JoinHandle<()>>,
}

fn open_logs() -> MutexGuard<'static, OpenLogs> {
    static OPEN: Mutex<OpenLogs> = Mutex::new(OpenLogs {
        shared: Vec::new(),
        holding: Vec::new(),
        is_looked_after: false,
    });
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The directory, whichever way it is written; one that is not there yet goes by its path.
fn place_of(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.canonicalize().unwrap_or_else(|_| absolute())
}

impl OpenLogs {
    /// The logs at a place that were opened with such options.
    fn at(&mut self, place: &Path, options: &Options) -> Vec<Arc<LogHandle>> {
        self.shared.retain(|(_, handle)| handle.strong_count() > 0);
        let here = self.shared.iter().filter(|(other, _)| other == place);
        here.filter_map(|(_, handle)| handle.upgrade())
            .filter(|handle| handle.is_opened_as(options))
            .collect()
    }

    /// Has the writer of a log let others in when it is idle.
    fn look_after(&mut self, handle: &LogHandle) {
        let hold = handle.hold_lock();
        if hold == Duration::MAX {
            return;
        }
        self.holding.push(Holding {
            log: Arc::downgrade(handle),
            hold,
            asked: 0,
            idle: Duration::ZERO,
            releasing: None,
        });
        if !self.is_looked_after {
            // Without the thread, writers keep the lock until they are released.
            let begun = thread::Builder::new().name("idle".into()).spawn(look);
            self.is_looked_after = begun.is_ok();
        }
    }
}

/// Looks for idle writers as long as a log is open.
fn look() {
    loop {
        thread::sleep(LOOK);
        let mut logs = open_logs();
        logs.holding.retain_mut(|holding| {
            let Some(log) = holding.log.upgrade() else {
                return false;
            };
            let asked = log.asked();
            if asked == holding.asked {
                holding.idle += LOOK;
            } else {
                holding.asked = asked;
                holding.idle = Duration::ZERO;
            }
            let is_releasing = holding.releasing.as_ref();
            let is_releasing = is_releasing.is_some_and(|thread| !thread.is_finished());
            if holding.idle >= holding.hold && log.is_exclusive() && !is_releasing {
                let release = move || log.release_if_idle(asked);
                // Without a thread, the next look tries again.
                let thread = thread::Builder::new().name("release".into()).spawn(release);
                holding.releasing = thread.ok();
            }
            true
        });
        if logs.holding.is_empty() {
            logs.is_looked_after = false;
            return;
        }
    }
}
