//! Ctrl-C: it ends the command that runs, and not the shell.
//!
//! A command that reads stops before the next record. One that changes something ends as it would have: an append is never
//! cut in half. What would have come after it in a script is left out.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use momentlog::Error;

use crate::progress;

/// The exit status of a command that was interrupted, as shells have it.
pub const STATUS: u8 = 130;

/// What the program does while Ctrl-C is pressed.
#[derive(Clone, Copy, Debug)]
pub enum Doing {
    /// It waits for input, or opens the store: it may end at once.
    Nothing,
    /// It runs a command that reads. Pressed again, Ctrl-C ends the program.
    Reading,
    /// It does, and a pager reads keys.
    Paging,
    /// It runs a command that changes something, and ends by itself.
    Changing,
}

static DOING: AtomicU8 = AtomicU8::new(Doing::Nothing as u8);
static PRESSED: AtomicBool = AtomicBool::new(false);
static IN_SHELL: AtomicBool = AtomicBool::new(false);

/// Makes Ctrl-C mean what the module says.
pub fn install() {
    let pressed = || {
        let doing = DOING.load(Ordering::SeqCst);
        let before = PRESSED.swap(true, Ordering::SeqCst);
        if IN_SHELL.load(Ordering::SeqCst) {
            return;
        }
        if doing == Doing::Nothing as u8 || before && doing == Doing::Reading as u8 {
            std::process::exit(STATUS.into());
        }
    };
    // Without it, Ctrl-C does what it does to every program.
    let _ = ctrlc::set_handler(pressed);
}

/// Says that the program has a prompt, and is never ended by Ctrl-C.
pub fn in_shell() {
    IN_SHELL.store(true, Ordering::SeqCst);
}

/// Says what the program does from now on.
pub fn now(doing: Doing) {
    DOING.store(doing as u8, Ordering::SeqCst);
}

/// Whether Ctrl-C was pressed.
pub fn pressed() -> bool {
    PRESSED.load(Ordering::SeqCst)
}

/// Whether Ctrl-C was pressed, and what the command prints is not wanted any more.
pub fn stops() -> bool {
    pressed() && DOING.load(Ordering::SeqCst) != Doing::Changing as u8
}

/// Forgets that Ctrl-C was pressed; returns whether it was.
pub fn forget() -> bool {
    PRESSED.swap(false, Ordering::SeqCst)
}

/// Reads steps until Ctrl-C is pressed, which is an error behind the last of them, and counts them where progress is shown.
pub fn watched<T>(
    steps: impl Iterator<Item = momentlog::Result<T>>,
) -> impl Iterator<Item = momentlog::Result<T>> {
    until(steps, pressed)
}

fn until<T>(
    steps: impl Iterator<Item = momentlog::Result<T>>,
    pressed: impl Fn() -> bool,
) -> impl Iterator<Item = momentlog::Result<T>> {
    let mut steps = steps.fuse();
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        if pressed() {
            ended = true;
            return Some(Err(Error::aborted("interrupted")));
        }
        progress::count();
        steps.next()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn steps_end_with_an_error_once_it_is_pressed() {
        let pressed = Cell::new(false);
        let endless = std::iter::repeat_with(|| Err::<(), _>(Error::aborted("read")));
        let mut steps = until(endless, || pressed.get());
        let mut next = || {
            steps
                .next()
                .map(|step| step.err().map(|error| error.message().to_owned()))
        };
        let said = |why: &str| Some(Some(format!("operation aborted: {why}")));
        assert_eq!((next(), next()), (said("read"), said("read")));
        pressed.set(true);
        assert_eq!((next(), next()), (said("interrupted"), None));
    }
}
