//! The directories in which libvirt keeps a file for each moment: `snapshot/DOMAIN/NAME.xml`, and `checkpoint` likewise.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use momentlog::core::{MomentKind, MomentName};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// What is watched of a directory that has those of domains.
const DIRS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What is watched of a domain's directory. libvirt writes some files in place, and moves others to theirs.
const FILES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// libvirt's files of moments.
#[derive(Debug)]
pub(super) struct Files {
    inotify: Inotify,
    dirs: HashMap<WatchDescriptor, Watched>,
}

/// A directory that is watched.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    kind: MomentKind,
    /// The domain; none if it has the directories of domains.
    domain: Option<String>,
}

/// A domain whose files have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Its name.
    pub(super) domain: String,
    /// The moment; none if each may have changed.
    pub(super) moment: Option<(MomentKind, MomentName)>,
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Files {
    /// Watches the files in a directory of libvirt's.
    pub(super) fn open(dir: &Path) -> io::Result<Files> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let mut files = Files {
            inotify,
            dirs: HashMap::new(),
        };
        for kind in [MomentKind::Snapshot, MomentKind::Checkpoint] {
            let path = dir.join(kind.as_str());
            files.add(path.clone(), kind, None)?;
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    files.add_domain(entry.path(), kind, &entry.file_name())?;
                }
            }
        }
        Ok(files)
    }

    /// Returns what has changed, without waiting.
    ///
    /// # Errors
    ///
    /// If changes were lost.
    pub(super) fn read(&mut self) -> io::Result<Vec<Changed>> {
        let mut changed = Vec::new();
        let events = match self.inotify.read_events() {
            Err(Errno::EAGAIN | Errno::EINTR) => Vec::new(),
            events => events?,
        };
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                return Err(io::Error::other("there were more than the system keeps"));
            }
            let Some(dir) = self.dirs.get(&event.wd) else {
                continue;
            };
            let (kind, domain, path) = (dir.kind, dir.domain.clone(), dir.path.clone());
            let is_gone = event.mask.contains(AddWatchFlags::IN_IGNORED);
            if event.mask.contains(AddWatchFlags::IN_MOVE_SELF) || is_gone && domain.is_none() {
                return Err(io::Error::other("a directory of them is at another place"));
            }
            match (domain, event.name) {
                (Some(domain), _) if is_gone => {
                    self.dirs.remove(&event.wd);
                    changed.push(Changed {
                        domain,
                        moment: None,
                    });
                }
                (None, Some(name)) => {
                    // No event says what was written before the watch began.
                    self.add_domain(path.join(&name), kind, &name)?;
                    changed.push(Changed {
                        domain: name.to_string_lossy().into_owned(),
                        moment: None,
                    });
                }
                (Some(domain), Some(name)) => {
                    if let Some(moment) = moment(kind, &name) {
                        changed.push(Changed { domain, moment });
                    }
                }
                (_, None) => {}
            }
        }
        Ok(changed)
    }

    fn add(&mut self, path: PathBuf, kind: MomentKind, domain: Option<String>) -> io::Result<()> {
        let changes = if domain.is_none() { DIRS } else { FILES };
        let watched = self.inotify.add_watch(&path, changes)?;
        let dir = Watched { path, kind, domain };
        self.dirs.insert(watched, dir);
        Ok(())
    }

    /// Watches a domain's directory, if it is one and still there.
    fn add_domain(&mut self, path: PathBuf, kind: MomentKind, name: &OsStr) -> io::Result<()> {
        let domain = name.to_string_lossy().into_owned();
        match self.add(path, kind, Some(domain)) {
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]
                    .contains(&error.kind()) =>
            {
                Ok(())
            }
            added => added,
        }
    }
}

/// The moment that a file is of, or each if its name cannot be one's; `None` if it is of none.
#[expect(clippy::option_option, reason = "as above")]
fn moment(kind: MomentKind, file: &OsStr) -> Option<Option<(MomentKind, MomentName)>> {
    let name = Path::new(file);
    if name.extension() != Some(OsStr::new("xml")) {
        return None;
    }
    let name = name.file_stem().and_then(OsStr::to_str);
    let name = name.and_then(MomentName::new);
    Some(name.map(|name| (kind, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(domain: &str, moment: Option<(MomentKind, &str)>) -> Changed {
        Changed {
            domain: domain.to_owned(),
            moment: moment.map(|(kind, name)| (kind, MomentName::new(name).unwrap())),
        }
    }

    #[test]
    fn files_that_are_written_moved_and_removed_are_told_with_their_domain_and_moment() {
        let dir = tempfile::tempdir().unwrap();
        let (snapshots, checkpoints) = (dir.path().join("snapshot"), dir.path().join("checkpoint"));
        assert!(Files::open(dir.path()).is_err());
        fs::create_dir_all(snapshots.join("vm")).unwrap();
        fs::create_dir_all(&checkpoints).unwrap();
        let mut files = Files::open(dir.path()).unwrap();
        assert_eq!(files.read().unwrap(), []);

        fs::write(snapshots.join("vm/s1.xml.new"), "").unwrap();
        assert_eq!(files.read().unwrap(), []);
        fs::rename(snapshots.join("vm/s1.xml.new"), snapshots.join("vm/s1.xml")).unwrap();
        let s1 = changed("vm", Some((MomentKind::Snapshot, "s1")));
        assert_eq!(files.read().unwrap(), std::slice::from_ref(&s1));
        fs::remove_file(snapshots.join("vm/s1.xml")).unwrap();
        assert_eq!(files.read().unwrap(), [s1]);

        // A directory that is new is of a domain all of which may have changed.
        fs::create_dir(checkpoints.join("vm")).unwrap();
        assert_eq!(files.read().unwrap(), [changed("vm", None)]);
        fs::write(checkpoints.join("vm/c1.xml"), "").unwrap();
        let c1 = changed("vm", Some((MomentKind::Checkpoint, "c1")));
        assert_eq!(files.read().unwrap(), [c1]);

        fs::remove_dir_all(checkpoints.join("vm")).unwrap();
        assert!(files.read().unwrap().contains(&changed("vm", None)));
        fs::create_dir(checkpoints.join("vm")).unwrap();
        assert_eq!(files.read().unwrap(), [changed("vm", None)]);

        fs::remove_dir_all(&snapshots).unwrap();
        assert!(files.read().is_err());
    }

    #[test]
    fn more_changes_than_the_system_keeps_are_said_to_be_lost() {
        let dir = tempfile::tempdir().unwrap();
        let vm = dir.path().join("snapshot/vm");
        fs::create_dir_all(&vm).unwrap();
        fs::create_dir(dir.path().join("checkpoint")).unwrap();
        let mut files = Files::open(dir.path()).unwrap();
        let kept = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let kept: usize = kept.trim().parse().unwrap();
        // The same twice in a row would be one.
        for number in 0..=kept {
            fs::write(vm.join(format!("s{}.xml", number % 2)), "").unwrap();
        }
        let mut told = 0;
        while let Ok(changes) = files.read() {
            assert!(
                !changes.is_empty(),
                "{told} of {kept} are told, and no loss"
            );
            told += changes.len();
        }
        // They are read in batches, and the last may have the loss in it.
        assert!((1..=kept).contains(&told), "{told} of {kept}");
    }
}
