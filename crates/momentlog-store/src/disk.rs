//! The byte-level seam below the log: a directory of files, real or simulated.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, RawMode};

/// A directory that holds one store.
pub trait Disk: Debug + Send + Sync {
    /// Makes the directory, durably, if it is missing.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn create(&self) -> io::Result<()>;

    /// Checks that the directory is there and can be trusted by a reader.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none; `PermissionDenied` with [`Unsafe`] inside if it cannot be trusted.
    fn check(&self) -> io::Result<()>;

    /// Checks that the directory is there and can be trusted by a writer.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    fn check_writable(&self) -> io::Result<()> {
        self.check()
    }

    /// Returns the names of all files, in any order.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that is there, without following links.
    ///
    /// # Errors
    ///
    /// `NotFound`; `PermissionDenied` with [`Unsafe`] inside if the file cannot be trusted.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>>;

    /// Returns which file has this name now, to be compared with [`DiskFile::id`] of one that is open.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the disk says.
    fn id_of(&self, name: &str) -> io::Result<FileId>;

    /// Creates a file that is not there yet, for this user alone.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, or what the disk says.
    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, in place of the file that has that name, if there is one.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Makes creations, removals and new names durable.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn sync_dir(&self) -> io::Result<()>;

    /// The directory, for messages.
    fn path(&self) -> &Path;

    /// Where a file of this name is, for messages.
    fn path_of(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The directory without links and relative parts, as far as it is there: for telling whether one directory is in
    /// another.
    fn resolved(&self) -> PathBuf {
        self.path().to_path_buf()
    }
}

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only.
    Read,
    /// Reading and writing.
    Write,
}

/// Tells one file of a machine from all others, as long as it is open or has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file there.
    pub number: u64,
}

/// One open file of a [`Disk`].
pub trait DiskFile: Debug + Send + Sync {
    /// Returns which file this is, whatever its name is now.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn id(&self) -> io::Result<FileId>;

    /// Reads up to `buffer.len()` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// What the disk says; some of the bytes may be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes all bytes written so far, and the file's length, durable.
    ///
    /// # Errors
    ///
    /// What the disk says; any of the bytes may be lost then.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file, or lengthens it with zeros.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Returns the file's length in bytes.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn length(&self) -> io::Result<u64>;

    /// Takes the file's lock, shared or exclusive, if no other handle's lock excludes it. It lasts until [`unlock`](Self::unlock)
    /// or until the file is dropped.
    ///
    /// # Errors
    ///
    /// What the disk says; that another handle holds it is `Ok(false)`.
    fn try_lock(&self, share: bool) -> io::Result<bool>;

    /// Lets go of the lock.
    ///
    /// # Errors
    ///
    /// What the disk says.
    fn unlock(&self) -> io::Result<()>;
}

/// Why a directory or file cannot be trusted with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// It belongs to another user.
    #[error("it belongs to user {owner}, not to user {user}")]
    Owner {
        /// The owner's number.
        owner: u32,
        /// This process's.
        user: u32,
    },
    /// Others may write it.
    #[error("it is writable by group or others (mode {mode:o})")]
    Writable {
        /// The permission bits.
        mode: u32,
    },
    /// It is a symbolic link.
    #[error("it is a symbolic link")]
    Link,
    /// It is neither a directory nor a regular file where one is needed.
    #[error("it is not a regular file")]
    Kind,
}

impl From<Unsafe> for io::Error {
    fn from(why: Unsafe) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, why)
    }
}

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
}

impl RealDisk {
    /// Returns the directory at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> RealDisk {
        RealDisk { path: path.into() }
    }

    /// Opens the directory itself, without following a link, and checks that it can be trusted for this.
    fn directory(&self, access: Access) -> io::Result<OwnedFd> {
        // A trailing slash would make the kernel follow a link.
        let path: PathBuf = self.path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| {
            let is_link = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink());
            if is_link {
                Unsafe::Link.into()
            } else {
                io::Error::from(error)
            }
        })?;
        self.vet(&rustix::fs::fstat(&directory)?, access)?;
        Ok(directory)
    }

    /// Refuses what cannot be trusted for this, and warns once of what is read although it is another user's.
    fn vet(&self, stat: &rustix::fs::Stat, access: Access) -> Result<(), Unsafe> {
        static WARNED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
        let user = rustix::process::geteuid().as_raw();
        let Some(foreign) = trust(user, stat.st_uid, stat.st_mode, access)? else {
            return Ok(());
        };
        let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.insert(self.path.clone()) {
            let path = self.path.display();
            tracing::warn!(%path, "this store is another user's, and is only read: {foreign}");
        }
        Ok(())
    }
}

/// Says whether `user` may use what belongs to `owner` and has this mode: whatever the modes allow may be read, with a word
/// about it if it is another user's, and only one's own is written. What other users may write is not trusted.
fn trust(user: u32, owner: u32, mode: u32, access: Access) -> Result<Option<Unsafe>, Unsafe> {
    let foreign = Unsafe::Owner { owner, user };
    if mode & 0o022 != 0 {
        let mode = mode & 0o7777;
        return Err(Unsafe::Writable { mode });
    }
    match access {
        _ if owner == user => Ok(None),
        Access::Read => Ok(Some(foreign)),
        Access::Write => Err(foreign),
    }
}

impl Disk for RealDisk {
    fn create(&self) -> io::Result<()> {
        if let Some(parent) = self.path.parent()
            && !parent.as_os_str().is_empty()
        {
            std::fs::create_dir_all(parent)?;
        }
        match rustix::fs::mkdir(&self.path, Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) => return Ok(()),
            made => made?,
        }
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()
    }

    fn check(&self) -> io::Result<()> {
        self.directory(Access::Read).map(|_| ())
    }

    fn check_writable(&self) -> io::Result<()> {
        self.directory(Access::Write).map(|_| ())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(self.directory(Access::Read)?)? {
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn DiskFile>> {
        let mode = if access == Access::Write {
            OFlags::RDWR
        } else {
            OFlags::RDONLY
        };
        // Without NONBLOCK, opening a pipe that stands here would wait for its other end.
        let flags = mode | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self.directory(access)?, name, flags, Mode::empty());
        let file = opened.map_err(|error| match error {
            rustix::io::Errno::LOOP => Unsafe::Link.into(),
            error => io::Error::from(error),
        })?;
        let stat = rustix::fs::fstat(&file)?;
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode as RawMode).is_file() {
            return Err(Unsafe::Kind.into());
        }
        self.vet(&stat, access)?;
        Ok(Box::new(File::from(file)))
    }

    fn id_of(&self, name: &str) -> io::Result<FileId> {
        // One call, because a writer asks before each answer. Nothing is trusted here: the caller compares the file with
        // one that it has open.
        Ok(id_in(&rustix::fs::lstat(self.path.join(name))?))
    }

    fn create_file(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(
            self.directory(Access::Write)?,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?;
        Ok(Box::new(File::from(file)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            self.directory(Access::Write)?,
            name,
            AtFlags::empty(),
        )?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let directory = self.directory(Access::Write)?;
        Ok(rustix::fs::renameat(&directory, from, &directory, to)?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.directory(Access::Write)?)?)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn resolved(&self) -> PathBuf {
        let whole = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        for ancestor in whole.ancestors() {
            if let Ok(resolved) = std::fs::canonicalize(ancestor) {
                let rest = whole.strip_prefix(ancestor).unwrap_or(Path::new(""));
                // What is not there yet has no links.
                return rest.components().fold(resolved, |path, part| match part {
                    std::path::Component::ParentDir => {
                        path.parent().map(Path::to_path_buf).unwrap_or(path)
                    }
                    part => path.join(part),
                });
            }
        }
        whole
    }
}

/// Returns the file that a look at it names. The types of the fields differ between systems.
fn id_in(stat: &rustix::fs::Stat) -> FileId {
    FileId {
        device: stat.st_dev,
        number: stat.st_ino,
    }
}

impl DiskFile for File {
    fn id(&self) -> io::Result<FileId> {
        Ok(id_in(&rustix::fs::fstat(self)?))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        File::set_len(self, length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn try_lock(&self, share: bool) -> io::Result<bool> {
        let locked = if share {
            File::try_lock_shared(self)
        } else {
            File::try_lock(self)
        };
        match locked {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        File::unlock(self)
    }
}

/// Returns the name of this machine, for the lock file's message.
pub(crate) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_modes_allow_is_read_and_only_ones_own_is_written() {
        use Access::{Read, Write};
        let (me, other) = (1000, 1001);
        let foreign = |user, owner| Unsafe::Owner { owner, user };
        for (user, owner, mode, access, expected) in [
            (me, me, 0o700, Read, Ok(None)),
            (me, me, 0o700, Write, Ok(None)),
            (me, me, 0o755, Write, Ok(None)),
            (me, other, 0o750, Read, Ok(Some(foreign(me, other)))),
            (me, other, 0o750, Write, Err(foreign(me, other))),
            (0, other, 0o700, Read, Ok(Some(foreign(0, other)))),
            (0, other, 0o700, Write, Err(foreign(0, other))),
            (me, 0, 0o755, Read, Ok(Some(foreign(me, 0)))),
            (me, 0, 0o755, Write, Err(foreign(me, 0))),
            (me, me, 0o770, Read, Err(Unsafe::Writable { mode: 0o770 })),
            (me, me, 0o702, Write, Err(Unsafe::Writable { mode: 0o702 })),
            (0, other, 0o722, Read, Err(Unsafe::Writable { mode: 0o722 })),
        ] {
            // The kind of file is in the same number.
            for kind in [0o040_000, 0o100_000] {
                assert_eq!(
                    trust(user, owner, kind | mode, access),
                    expected,
                    "{user} {owner} {mode:o} {access:?}"
                );
            }
        }
    }
}
