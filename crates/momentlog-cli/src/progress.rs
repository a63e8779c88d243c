//! What goes on while a command takes long: a line on standard error, on a terminal alone.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::ProgressBar;

/// What takes no longer shows nothing.
const SILENCE: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(100);

/// How many records were read.
static COUNT: AtomicU64 = AtomicU64::new(0);
static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

struct Shown {
    /// Dropped when there is nothing to show any more.
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Shows from half a second on that something goes on, unless it has ended by then. Nothing is shown where an output is no
/// terminal: another program has it, or keeps it.
pub fn begin(doing: &str) {
    end();
    COUNT.store(0, Ordering::Relaxed);
    if !std::io::stderr().is_terminal() || !std::io::stdout().is_terminal() {
        return;
    }
    let (end, ended) = channel();
    let doing = doing.to_owned();
    let thread = std::thread::spawn(move || {
        if ended.recv_timeout(SILENCE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        let spinner = ProgressBar::new_spinner();
        while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            spinner.set_message(match COUNT.load(Ordering::Relaxed) {
                0 => doing.clone(),
                records => format!("{doing}: {records} records"),
            });
            spinner.tick();
        }
        spinner.finish_and_clear();
    });
    if let Ok(mut shown) = SHOWN.lock() {
        *shown = Some(Shown { end, thread });
    }
}

/// Says that one record more was read.
pub fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

/// Shows nothing any more, so that the terminal is free for what comes.
pub fn end() {
    let shown = SHOWN.lock().ok().and_then(|mut shown| shown.take());
    if let Some(Shown { end, thread }) = shown {
        drop(end);
        let _ = thread.join();
    }
}
