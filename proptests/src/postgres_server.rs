//! A PostgreSQL server of a test's own: a temporary directory, a unix socket, and a user who is not root.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Whom the server runs as where the test is root, whom it refuses.
const NOBODY: u32 = 65_534;

/// The oldest server that is taken.
const VERSION_MIN: u32 = 15;

/// How long a server may take until it answers.
const READY: Duration = Duration::from_mins(1);

/// A running server with the superuser `admin` and the database `postgres`, which lets everybody in by its socket. It ends with
/// the thread that has started it.
#[derive(Debug)]
pub struct PostgresServer {
    scratch: tempfile::TempDir,
    programs: PathBuf,
    server: Option<Child>,
}

impl PostgresServer {
    /// Starts a new server; `None` where PostgreSQL is not installed, after saying that the test `left_out` was left out.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is missing and `MOMENTLOG_NEED_POSTGRES` is set, or if it cannot be started.
    pub fn start(left_out: &str) -> Option<PostgresServer> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os("MOMENTLOG_NEED_POSTGRES").is_none(),
                "PostgreSQL {VERSION_MIN} or newer is missing, and MOMENTLOG_NEED_POSTGRES is set"
            );
            let said =
                format!("left out, because PostgreSQL {VERSION_MIN} is missing: {left_out}\n");
            // Past the harness, which shows nothing of a test that passes.
            let _ = io::Write::write_all(&mut io::stderr(), said.as_bytes());
            return None;
        };
        let scratch = tempfile::tempdir().expect("a temporary directory");
        if is_root() {
            chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("root changes owners");
        }
        let mut server = PostgresServer {
            scratch,
            programs,
            server: None,
        };
        let made = server
            .program("initdb")
            .args([
                "--auth=trust",
                "--username=admin",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ])
            .arg(server.data())
            .output()
            .expect("initdb runs");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.configure("listen_addresses = ''\nmax_connections = 100\n");
        server.start_again();
        Some(server)
    }

    /// The address of the database `postgres` for a user, with parameters behind `?` to follow.
    pub fn uri(&self, user: &str) -> String {
        format!(
            "postgres://{user}@/postgres?host={}",
            self.scratch.path().display()
        )
    }

    /// The directory of the data.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Adds lines to its configuration, which it reads when it is started.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn configure(&self, lines: &str) {
        let file = File::options()
            .append(true)
            .open(self.data().join("postgresql.conf"));
        let written = io::Write::write_all(&mut file.expect("it is there"), lines.as_bytes());
        written.expect("there is space");
    }

    /// Starts the server on its directory, after it was killed or stopped.
    ///
    /// # Panics
    ///
    /// If it gives no answer within a minute.
    pub fn start_again(&mut self) {
        let end = Instant::now() + READY;
        loop {
            if self
                .server
                .as_mut()
                .is_none_or(|server| !matches!(server.try_wait(), Ok(None)))
            {
                let log = File::create(self.scratch.path().join("log")).expect("a file of its own");
                let started = self
                    .program("postgres")
                    .arg("-D")
                    .arg(self.data())
                    .arg("-k")
                    .arg(self.scratch.path())
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(log)
                    .spawn();
                self.server = Some(started.expect("postgres runs"));
            }
            let asked = self.psql("admin", "SELECT 1");
            if asked.is_ok() {
                return;
            }
            let log = || std::fs::read_to_string(self.scratch.path().join("log"));
            assert!(Instant::now() < end, "no answer: {asked:?} {:?}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the postmaster with `kill -9`, as a crash would; its backends end themselves when they notice.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Ends the server and all its backends.
    pub fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = Command::new("kill")
                .args(["-QUIT", &server.id().to_string()])
                .status();
            let _ = server.wait();
        }
    }

    /// Runs SQL with `psql`, and returns what it prints: fields between `|`, one row a line.
    ///
    /// # Errors
    ///
    /// What `psql` says of an error.
    pub fn psql(&self, user: &str, sql: &str) -> Result<String, String> {
        let output = self
            .program("psql")
            .args([
                "--no-psqlrc",
                "-qAtX",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                user,
                "-d",
                "postgres",
                "-h",
            ])
            .arg(self.scratch.path())
            .args(["-c", sql])
            .output()
            .map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=KILL");
        if is_root() {
            let id = NOBODY.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        command.arg(program).current_dir("/").env_clear();
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The directory of the newest programs, as Debian installs them.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.parse().ok() };
    let newest = versions
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| version(path) >= Some(VERSION_MIN) && path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))?;
    Some(newest.join("bin"))
}
