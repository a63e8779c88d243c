//! The writer's lock: a file that is locked, and says for people who holds it.

use std::io;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::disk::{Access, Disk, DiskFile, host_name};
use crate::file_store::{HEAD, START};
use crate::segment::segments;

pub(crate) const LOCK: &str = "lock";

/// How long a writer waits before it tries again.
const PAUSE: Duration = Duration::from_millis(5);

/// What the lock file says after a write or a sync failed, until a writer has settled what became of the bytes.
const UNSETTLED: &str = "unsettled\n";

/// Takes the lock, within `wait`.
pub(crate) fn take(disk: &dyn Disk, wait: Duration) -> Result<Box<dyn DiskFile>, StoreError> {
    let file = open_or_create(disk)?;
    let path = disk.path().join(LOCK);
    let begun = Instant::now();
    while !file
        .try_lock(false)
        .map_err(StoreError::io("lock", &path))?
    {
        if begun.elapsed() >= wait {
            return Err(locked(disk, file.as_ref()));
        }
        std::thread::sleep(PAUSE.min(wait));
    }
    let unsettled = says_unsettled(file.as_ref()).map_err(StoreError::io("read", &path))?;
    tell(file.as_ref(), unsettled).map_err(StoreError::io("write", &path))?;
    Ok(file)
}

/// Writes for people who holds the lock, and for readers whether they may trust what stands behind `head`.
///
/// It is not synced: if it is lost, so is the kernel's copy of the bytes that it warns of.
pub(crate) fn tell(file: &dyn DiskFile, unsettled: bool) -> io::Result<()> {
    let mut text = format!("pid {}\nhost {}\n", std::process::id(), host_name());
    if unsettled {
        text.push_str(UNSETTLED);
    }
    // In one write and then the length, so that the warning is never gone in between.
    file.write_at(0, text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn says_unsettled(file: &dyn DiskFile) -> io::Result<bool> {
    let mut text = [0; 512];
    let length = file.read_at(0, &mut text)?;
    let text = String::from_utf8_lossy(&text[..length]);
    Ok(text.lines().any(|line| line == UNSETTLED.trim_end()))
}

/// What the lock tells a reader.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Status {
    /// A writer holds the lock.
    pub(crate) held: bool,
    /// The last writer left bytes that may or may not be durable.
    pub(crate) unsettled: bool,
}

/// Looks at the lock. See `docs/decisions/0006-momentary-shared-lock.md`.
pub(crate) fn status(disk: &dyn Disk) -> Result<Status, StoreError> {
    let path = || disk.path().join(LOCK);
    let file = match disk.open(LOCK, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Status::default()),
        opened => opened.map_err(StoreError::io("open", path()))?,
    };
    // Dropping the file lets go of the lock again.
    let free = file
        .try_lock(true)
        .map_err(StoreError::io("lock", path()))?;
    let unsettled = says_unsettled(file.as_ref()).map_err(StoreError::io("read", path()))?;
    Ok(Status {
        held: !free,
        unsettled,
    })
}

/// Opens or creates the lock file in a directory that holds a store, or nothing.
fn open_or_create(disk: &dyn Disk) -> Result<Box<dyn DiskFile>, StoreError> {
    let path = || disk.path().join(LOCK);
    match disk.open(LOCK, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map_err(StoreError::io("open", path())),
    }
    let names = disk.list().map_err(StoreError::io("open", disk.path()))?;
    let is_file_of_ours = |name: &String| [HEAD, LOCK, START].contains(&name.as_str());
    let has_segments = !segments(disk)?.is_empty();
    if !names.is_empty() && !has_segments && !names.iter().any(is_file_of_ours) {
        return Err(StoreError::NotAStore {
            path: disk.path().into(),
        });
    }
    match disk.create_file(LOCK) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => disk
            .open(LOCK, Access::Write)
            .map_err(StoreError::io("open", path())),
        created => created.map_err(StoreError::io("create", path())),
    }
}

/// The error that names who holds the lock, as far as the lock file tells.
fn locked(disk: &dyn Disk, file: &dyn DiskFile) -> StoreError {
    let mut text = [0; 512];
    let length = file.read_at(0, &mut text).unwrap_or(0);
    let text = String::from_utf8_lossy(&text[..length]);
    let field = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key));
        value.unwrap_or("unknown").escape_debug().to_string()
    };
    StoreError::Locked {
        path: disk.path().into(),
        pid: field("pid "),
        host: field("host "),
    }
}
