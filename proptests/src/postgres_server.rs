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
    /// Megabytes of a file system that only the server sees.
    little_space: Option<u32>,
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
        let mut server = PostgresServer::without_data(programs);
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

    /// Starts a standby of this server, which follows it as `name` and can be read.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    #[must_use]
    pub fn start_standby(&self, name: &str) -> PostgresServer {
        let mut standby = PostgresServer::without_data(self.programs.clone());
        let primary = format!(
            "host={} user=admin application_name={name}",
            self.scratch.path().display()
        );
        let copied = standby
            .program("pg_basebackup")
            .args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"])
            .args(["-d", &primary, "-D"])
            .arg(standby.data())
            .output()
            .expect("pg_basebackup runs");
        let said = String::from_utf8_lossy(&copied.stderr);
        assert!(copied.status.success(), "{said}");
        standby.start_again();
        standby
    }

    fn without_data(programs: PathBuf) -> PostgresServer {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        give_to_nobody(scratch.path());
        PostgresServer {
            scratch,
            programs,
            server: None,
            little_space: None,
        }
    }

    /// The directory of its socket, which libpq takes for a host.
    pub fn host(&self) -> &Path {
        self.scratch.path()
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
                    .postgres()
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

    /// Stops the server and starts it with a small file system of its own, which is gone with it; returns where that is, and
    /// `None` after saying so where the test is not root, who alone can do that.
    ///
    /// # Panics
    ///
    /// As [`start_again`](Self::start_again).
    pub fn start_again_with_little_space(&mut self, megabytes: u32) -> Option<PathBuf> {
        if !is_root() {
            let said =
                "left out, because only root makes file systems: a PostgreSQL with little space\n";
            let _ = io::Write::write_all(&mut io::stderr(), said.as_bytes());
            return None;
        }
        self.stop();
        let little = self.little();
        std::fs::create_dir(&little).expect("it is new");
        self.little_space = Some(megabytes);
        self.start_again();
        Some(little)
    }

    fn little(&self) -> PathBuf {
        self.scratch.path().join("little")
    }

    /// The server's program, where its own file system is there.
    fn postgres(&self) -> Command {
        let program = self.program("postgres");
        let Some(megabytes) = self.little_space else {
            return program;
        };
        let mount = format!(
            "mount -t tmpfs -o size={megabytes}m,uid={NOBODY},gid={NOBODY},mode=700 tmpfs \"$0\" && exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", &mount])
            .arg(self.little());
        command.arg(program.get_program()).args(program.get_args());
        command.current_dir("/").env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
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
        let quiet = ["--no-psqlrc", "-qAtX", "-v", "ON_ERROR_STOP=1"];
        self.run("psql", user, &[&quiet[..], &["-c", sql]].concat())
    }

    /// Runs one of PostgreSQL's programs on the database `postgres`, as the user of the server, and returns what it prints.
    ///
    /// # Errors
    ///
    /// What the program says of an error.
    pub fn run(&self, program: &str, user: &str, words: &[&str]) -> Result<String, String> {
        let output = self
            .program(program)
            .arg("-h")
            .arg(self.scratch.path())
            .args(["-U", user])
            .args(words)
            .arg("postgres")
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
        as_nobody(&self.programs.join(name))
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A command that is run by a user who is not root, and ends with the thread that starts it.
pub(crate) fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.arg("--pdeathsig=KILL");
    if is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.arg(program).current_dir("/").env_clear();
    command
}

/// Gives a directory to the user of [`as_nobody`].
pub(crate) fn give_to_nobody(directory: &Path) {
    if is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).expect("root changes owners");
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
