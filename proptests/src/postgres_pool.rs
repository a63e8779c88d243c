//! A pool before a PostgreSQL server: `PgBouncer` in transaction mode, which gives each transaction whichever connection is free.

use std::io;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use crate::PostgresServer;
use crate::postgres_server::{as_nobody, give_to_nobody};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// Connections of a pool to its server for each user.
const CONNECTIONS: usize = 3;

/// A running pool, which ends with the thread that has started it.
#[derive(Debug)]
pub struct PostgresPool {
    scratch: tempfile::TempDir,
    program: Child,
}

impl PostgresPool {
    /// Starts a pool that lets these users in; `None` where `PgBouncer` is not installed, after saying that the test `left_out`
    /// was left out.
    ///
    /// # Panics
    ///
    /// If `PgBouncer` is missing and `MOMENTLOG_NEED_POSTGRES` is set, or if it cannot be started.
    pub fn start(server: &PostgresServer, users: &[&str], left_out: &str) -> Option<PostgresPool> {
        if !Path::new(PROGRAM).exists() {
            assert!(
                std::env::var_os("MOMENTLOG_NEED_POSTGRES").is_none(),
                "PgBouncer is missing, and MOMENTLOG_NEED_POSTGRES is set"
            );
            let said = format!("left out, because PgBouncer is missing: {left_out}\n");
            // Past the harness, which shows nothing of a test that passes.
            let _ = io::Write::write_all(&mut io::stderr(), said.as_bytes());
            return None;
        }
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let own = scratch.path().display();
        let users: Vec<String> = users
            .iter()
            .map(|user| format!("\"{user}\" \"\"\n"))
            .collect();
        let lines = format!(
            "[databases]\n* = host={host}\n[pgbouncer]\nunix_socket_dir = {own}\nlisten_port = 5432\nauth_type = trust\n\
             auth_file = {own}/users\npool_mode = transaction\ndefault_pool_size = {CONNECTIONS}\n",
            host = server.host().display(),
        );
        for (name, text) in [("users", users.concat()), ("pgbouncer.ini", lines)] {
            std::fs::write(scratch.path().join(name), text).expect("there is space");
        }
        give_to_nobody(scratch.path());
        let mut command = as_nobody(Path::new(PROGRAM));
        command.arg("-q").arg(scratch.path().join("pgbouncer.ini"));
        let program = command.spawn().expect("pgbouncer runs");
        let pool = PostgresPool { scratch, program };
        let end = Instant::now() + Duration::from_mins(1);
        while !pool.scratch.path().join(".s.PGSQL.5432").exists() {
            assert!(Instant::now() < end, "the pool does not begin");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(pool)
    }

    /// The address of the database `postgres` for a user, with parameters behind `?` to follow.
    pub fn uri(&self, user: &str) -> String {
        let host = self.scratch.path().display();
        format!("postgres://{user}@/postgres?host={host}")
    }
}

impl Drop for PostgresPool {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
