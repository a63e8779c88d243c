//! A libvirtd that serves this benchmark alone.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Failed;

/// How long a server may take to listen.
const START_WAIT: Duration = Duration::from_secs(20);

/// The user that a libvirtd without a system's configuration runs as, if this program is root's.
const NOBODY: u32 = 65534;

/// A process that is killed when it is dropped.
pub(crate) struct Killed(Child);

impl Killed {
    /// Starts a server, and waits until its socket is there.
    pub(crate) fn start(server: &mut Command, socket: &Path) -> Result<Killed, Failed> {
        let name = server.get_program().to_string_lossy().into_owned();
        let started = server.spawn();
        let mut started = Killed(started.map_err(|error| format!("{name}: {error}"))?);
        let begun = Instant::now();
        while !socket.exists() {
            if started.0.try_wait()?.is_some() || begun.elapsed() > START_WAIT {
                return Err(format!("{name} does not start").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(started)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A libvirtd for one user's session, so that nothing of the system is touched. It ends when it is dropped.
pub(crate) struct Libvirtd {
    _daemon: Killed,
    /// Sockets and configuration.
    home: TempDir,
}

impl Libvirtd {
    /// Starts one, which logs into `dir`. What is `owned` goes to the user that it runs as.
    pub(crate) fn start(dir: &Path, owned: &[PathBuf]) -> Result<Libvirtd, Failed> {
        let home = tempfile::tempdir()?;
        let mut daemon = Command::new("libvirtd");
        if is_root()? {
            // As root it would be the one of the whole system.
            for owned in owned.iter().map(|path| &**path).chain([home.path()]) {
                chown(owned, Some(NOBODY), Some(NOBODY))?;
            }
            daemon.uid(NOBODY).gid(NOBODY);
        }
        for place in [
            "HOME",
            "XDG_RUNTIME_DIR",
            "XDG_CONFIG_HOME",
            "XDG_CACHE_HOME",
        ] {
            daemon.env(place, home.path());
        }
        let log = File::create(dir.join("libvirtd.log"))?;
        daemon.stdout(Stdio::null()).stderr(log);
        let daemon = Killed::start(&mut daemon, &socket_in(home.path()))?;
        Ok(Libvirtd {
            _daemon: daemon,
            home,
        })
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.home.path())
    }
}

fn socket_in(home: &Path) -> PathBuf {
    home.join("libvirt/libvirt-sock")
}

pub(crate) fn is_root() -> Result<bool, Failed> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}
