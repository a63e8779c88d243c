//! The writer's lock: a file that is locked, and says for people who holds it.

use std::io;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::disk::{Access, Disk, DiskFile, host_name};
use crate::file_store::HEAD;
use crate::segment::segments;

const LOCK: &str = "lock";

/// How long a writer waits before it tries again.
const PAUSE: Duration = Duration::from_millis(5);

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
    let text = format!("pid {}\nhost {}\n", std::process::id(), host_name());
    let told = file
        .set_len(0)
        .and_then(|()| file.write_at(0, text.as_bytes()));
    told.map_err(StoreError::io("write", &path))?;
    Ok(file)
}

/// Whether somebody holds the lock. See `docs/decisions/0006-momentary-shared-lock.md`.
pub(crate) fn is_held(disk: &dyn Disk) -> Result<bool, StoreError> {
    let path = || disk.path().join(LOCK);
    let file = match disk.open(LOCK, Access::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(StoreError::io("open", path()))?,
    };
    // Dropping the file lets go of the lock again.
    Ok(!file
        .try_lock(true)
        .map_err(StoreError::io("lock", path()))?)
}

/// Opens or creates the lock file in a directory that holds a store, or nothing.
fn open_or_create(disk: &dyn Disk) -> Result<Box<dyn DiskFile>, StoreError> {
    let path = || disk.path().join(LOCK);
    match disk.open(LOCK, Access::Write) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened.map_err(StoreError::io("open", path())),
    }
    let names = disk.list().map_err(StoreError::io("open", disk.path()))?;
    let is_file_of_ours = |name: &String| name == HEAD || name == LOCK;
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
