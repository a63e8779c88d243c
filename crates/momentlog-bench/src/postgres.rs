//! Row 30: the log in PostgreSQL, against plain SQL on the same server and against a directory.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use momentlog::store::{FileStore, RealDisk, Store};
use momentlog::xml::read_domain;
use momentlog::{Connection, Options};
use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;

use crate::Failed;
use crate::command::{DOMAIN, create};
use crate::measure::{Effort, Table, Target, median, threads};

/// Threads of one process.
const THREADS: usize = 64;

/// Rows of a transaction of the bare inserts that they are compared with.
const ROWS: usize = 64;

/// How often something is appended and seen elsewhere.
const SEEN: u64 = 200;

/// A server with a log and a table for the other side.
struct Bench {
    server: PostgresServer,
    next: AtomicU64,
}

impl Bench {
    fn address(&self, log: &str) -> Result<Address, Failed> {
        Ok(Address::parse(&self.server.uri("admin"))?.with_log(log))
    }

    /// A client with a log of its own in memory, as a process has.
    fn client(&self, log: &str) -> Result<Connection, Failed> {
        let store = PostgresStore::open(self.address(log)?)?;
        let client = Connection::over(Box::new(store), Options::default());
        client.refresh()?;
        Ok(client)
    }

    /// A new log with one domain.
    fn log(&self, log: &str) -> Result<(), Failed> {
        PostgresStore::init(self.address(log)?)?;
        define(&self.client(log)?)
    }

    fn command(&self, client: &Connection) -> Result<u64, Failed> {
        let name = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(client.execute(&create(name)).map(|_| 1)?)
    }

    /// Transactions a second of a script, from several clients.
    fn bare(&self, script: &str, clients: usize, time: Duration) -> Result<f64, Failed> {
        let file = self.server.data().with_file_name("script.sql");
        std::fs::write(&file, script)?;
        let file = file.display().to_string();
        let (clients, time) = (clients.to_string(), time.as_secs().max(1).to_string());
        let words = ["-n", "-f", &file, "-c", &clients, "-j", "1", "-T", &time];
        let said = self.server.run("pgbench", "admin", &words)?;
        let tps = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let tps = tps.and_then(|tps| tps.split(' ').next());
        Ok(tps.ok_or("pgbench says no rate")?.parse()?)
    }
}

fn define(client: &Connection) -> Result<(), Failed> {
    let xml = "<domain type='kvm'><name>vm</name><memory>1048576</memory><os><type>hvm</type></os><devices>\
        <disk type='file'><source file='/images/vda.qcow2'/><target dev='vda'/></disk></devices></domain>";
    let def = read_domain(xml, || DOMAIN)?;
    client.execute(&momentlog::core::Command {
        domain: DOMAIN,
        action: momentlog::core::Action::Define(std::sync::Arc::new(def)),
    })?;
    Ok(())
}

pub(crate) fn rows(dir: &Path, effort: Effort, table: &mut Table) -> Result<(), Failed> {
    let Some(server) = PostgresServer::start("row 30") else {
        table.missing("30", "no PostgreSQL");
        return Ok(());
    };
    let bench = Bench {
        server,
        next: AtomicU64::new(0),
    };
    let bare = "CREATE TABLE bare (seq bigserial PRIMARY KEY, body bytea NOT NULL); \
        CREATE TABLE locked (seq bigint PRIMARY KEY, body bytea NOT NULL); INSERT INTO locked VALUES (1, '')";
    bench.server.psql("admin", bare)?;
    bench.log("appends")?;
    let client = bench.client("appends")?;
    threads(THREADS, Duration::from_secs(1), |_| bench.command(&client))?;
    let length = "SELECT avg(frame_len)::int FROM momentlog.records WHERE seq > 100";
    let length: usize = bench.server.psql("admin", length)?.parse()?;
    let body = format!("'\\x{}'", "5a".repeat(length));
    let single = format!("INSERT INTO bare (body) VALUES ({body});");
    let many = vec![format!("({body})"); ROWS].join(",");
    let many = format!("INSERT INTO bare (body) VALUES {many};");
    // As many round trips as ours: the turn and the end of the log in one, the row and the commit in another.
    let locked = format!(
        "BEGIN \\; SELECT pg_advisory_xact_lock(1) \\; SELECT seq FROM locked ORDER BY seq DESC LIMIT 1 \\gset\n\
         INSERT INTO locked VALUES (:seq + 1, {body}) \\; COMMIT;"
    );
    let time = effort.round.max(Duration::from_secs(1)) * 2;
    let rounds = |ours: &dyn Fn() -> Result<u64, Failed>,
                  theirs: &dyn Fn() -> Result<f64, Failed>|
     -> Result<[Vec<f64>; 2], Failed> {
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..effort.rounds.min(5) {
            let begun = Instant::now();
            let count = ours()?;
            #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52")]
            rates[0].push(count as f64 / begun.elapsed().as_secs_f64());
            rates[1].push(theirs()?);
        }
        Ok(rates)
    };
    #[expect(clippy::cast_precision_loss, reason = "few")]
    let [ours, theirs] = rounds(
        &|| threads(THREADS, time, |_| bench.command(&client)),
        &|| Ok(bench.bare(&many, 1, time)? * ROWS as f64),
    )?;
    let target = |peer, ratio| Target { peer, ratio };
    table.rounds(
        "30 PostgreSQL, 64 threads of one process",
        &ours,
        &theirs,
        target("inserts of 64 rows", 0.4),
    );
    let [ours, theirs] = rounds(&|| threads(1, time, |_| bench.command(&client)), &|| {
        bench.bare(&single, 1, time)
    })?;
    table.rounds(
        "30 PostgreSQL, one command alone",
        &ours,
        &theirs,
        target("inserts of one row", 0.5),
    );
    for processes in [8, 32] {
        let clients: Vec<Connection> = (0..processes)
            .map(|_| bench.client("appends"))
            .collect::<Result<_, _>>()?;
        let [ours, theirs] = rounds(
            &|| threads(processes, time, |client| bench.command(&clients[client])),
            &|| bench.bare(&locked, processes, time),
        )?;
        table.rounds(
            &format!("30 PostgreSQL, {processes} clients with logs of their own"),
            &ours,
            &theirs,
            target("transactions under a lock", 0.9),
        );
    }
    let seen = seen(&bench)?;
    table.relate(
        &format!(
            "30 PostgreSQL, appended here and seen there ({:.2} ms)",
            seen * 1e3
        ),
        1.0 / seen,
        1000.0 / 5.0,
        target("5 ms", 1.0),
    );
    opened(&bench, dir, table)
}

/// Seconds from an append's answer until another client has it, in the median.
fn seen(bench: &Bench) -> Result<f64, Failed> {
    let writer = bench.client("appends")?;
    let reader = bench.client("appends")?;
    let mut subscription = reader.subscribe(reader.refresh()?.head());
    let (send, received) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut seen = 0;
            while seen < SEEN {
                let entries = subscription.next(Duration::from_secs(10))?;
                for entry in entries {
                    seen += 1;
                    let _ = send.send((entry.head.seq, Instant::now()));
                }
            }
            Ok::<(), momentlog::Error>(())
        });
        let mut times = Vec::new();
        for _ in 0..SEEN {
            let name = bench.next.fetch_add(1, Ordering::Relaxed);
            let seq = writer.execute(&create(name))?.seq;
            let appended = Instant::now();
            let (found, at) = received.recv_timeout(Duration::from_mins(1))?;
            if found != seq {
                return Err("another record was seen".into());
            }
            times.push(at.saturating_duration_since(appended).as_secs_f64());
        }
        Ok(median(&times))
    })
}

/// Opening a log of many records from its image, here and in a directory.
fn opened(bench: &Bench, dir: &Path, table: &mut Table) -> Result<(), Failed> {
    const RECORDS: u64 = 100_000;
    bench.log("opened")?;
    let path = dir.join("opened");
    let in_files = || {
        Connection::over(
            Box::new(FileStore::new(RealDisk::new(&path))),
            Options::default(),
        )
    };
    define(&in_files())?;
    for client in [bench.client("opened")?, in_files()] {
        let all: Vec<_> = (0..RECORDS).map(create).collect();
        for batch in all.chunks(1_000) {
            client.execute_all(batch)?;
        }
        client.make_image()?;
        client.release();
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..5 {
        let store: Box<dyn Store> = Box::new(PostgresStore::open(bench.address("opened")?)?);
        let ours = Connection::over(store, Options::default());
        for (client, rates) in [ours, in_files()].iter().zip(&mut rates) {
            let begun = Instant::now();
            client.refresh()?;
            rates.push(1.0 / begun.elapsed().as_secs_f64());
        }
    }
    let [ours, theirs] = rates;
    table.rounds(
        &format!(
            "30 PostgreSQL, {RECORDS} records opened from an image ({:.0} ms)",
            1e3 / median(&ours)
        ),
        &ours,
        &theirs,
        Target {
            peer: "a directory's",
            ratio: 0.1,
        },
    );
    Ok(())
}
