//! Threads of one process, which share turns and appends, beside another process.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use momentlog::{CheckpointCreateFlags, Connection, Domain, Options};
use momentlog_proptests::PostgresServer;

use super::{VERIFY, open, server};

pub(crate) const XML: &str = "<domain type='kvm'><name>vm</name><uuid>3f2c7a90-5d1e-4b7c-9a52-0c6f1d8e4b21</uuid>\
    <os><type>hvm</type></os><devices>\
    <disk type='file'><source file='/images/vm.qcow2'/><target dev='vda'/></disk></devices></domain>";

/// A connection with a log of its own in memory, as a process has.
fn process(server: &PostgresServer) -> Connection {
    Connection::over(Box::new(open(server, "agent", "main")), Options::default())
}

pub(crate) fn domain(process: &Connection) -> Domain {
    process.refresh().unwrap();
    process.lookup_domain_by_name("vm").unwrap()
}

/// Creates a checkpoint; false if one of this name exists.
#[track_caller]
pub(crate) fn create(domain: &Domain, name: &str) -> bool {
    let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
    match domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::NONE) {
        Ok(_) => true,
        Err(error) if error.message().contains("already exists") => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// The names of all checkpoints, in the order in which they were made: each is the parent of the next.
fn names(process: &Connection) -> Vec<String> {
    let view = process.refresh().unwrap();
    let domain = view.state().domains().next().unwrap();
    let made = std::iter::successors(domain.checkpoints().current(), |made| {
        domain.checkpoints().parent(made.id)
    });
    let mut names: Vec<String> = made.map(|made| made.name.to_string()).collect();
    names.reverse();
    names
}

/// How many transactions have appended.
fn appends(server: &PostgresServer) -> usize {
    let count = "SELECT count(DISTINCT xmin::text) FROM momentlog.records";
    server.psql("admin", count).unwrap().parse().unwrap()
}

#[test]
fn threads_share_appends_and_processes_take_turns() {
    const PROCESSES: usize = 2;
    const THREADS: usize = 16;
    const EACH: usize = 12;
    let Some(server) = server("threads that write one log in PostgreSQL") else {
        return;
    };
    let processes: Vec<Connection> = (0..PROCESSES).map(|_| process(&server)).collect();
    processes[0].define_domain_xml(XML).unwrap();
    let refused = AtomicUsize::new(0);
    let begin = Barrier::new(PROCESSES * THREADS);
    std::thread::scope(|scope| {
        for (number, process) in processes.iter().enumerate() {
            for thread in 0..THREADS {
                let (refused, begin) = (&refused, &begin);
                scope.spawn(move || {
                    let domain = domain(process);
                    begin.wait();
                    for each in 0..EACH {
                        assert!(create(&domain, &format!("p{number}-t{thread}-{each}")));
                    }
                    for each in 0..EACH {
                        // All threads want this one, and one of them gets it.
                        let shared = create(&domain, &format!("shared-{each}"));
                        refused.fetch_add(usize::from(!shared), Ordering::Relaxed);
                    }
                });
            }
        }
    });
    assert_eq!(refused.into_inner(), (PROCESSES * THREADS - 1) * EACH);
    let made = names(&process(&server));
    assert_eq!(made.len(), PROCESSES * THREADS * EACH + EACH);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
    let appends = appends(&server);
    // How many commands share an append depends on the machine; that some do does not.
    assert!(appends < made.len(), "{appends} appends of {made:?}");
    let early = &made[..made.len() / 2];
    for number in 0..PROCESSES {
        let own = format!("p{number}-");
        let has_had_turns = early.iter().any(|name| name.starts_with(&own));
        assert!(has_had_turns, "process {number} in {early:?}");
    }
}

#[test]
fn threads_whose_connections_are_ended_or_whose_server_is_killed_lose_and_double_nothing() {
    const THREADS: usize = 8;
    const EACH: usize = 20;
    let Some(mut server) = server("threads while PostgreSQL ends their connections") else {
        return;
    };
    let writer = process(&server);
    writer.define_domain_xml(XML).unwrap();
    let domain = domain(&writer);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS)
            .map(|thread| {
                let domain = &domain;
                scope.spawn(move || {
                    for each in 0..EACH {
                        assert!(create(domain, &format!("t{thread}-{each}")));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            let joined: Vec<_> = running
                .into_iter()
                .map(std::thread::ScopedJoinHandle::join)
                .collect();
            done.store(true, Ordering::Relaxed);
            assert!(joined.iter().all(Result::is_ok));
        });
        let end =
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'agent'";
        server.psql("admin", end).unwrap();
        server.kill();
        server.start_again();
        while !done.load(Ordering::Relaxed) {
            server.psql("admin", end).unwrap();
        }
    });
    let mut made = names(&process(&server));
    made.sort();
    made.dedup();
    assert_eq!(made.len(), THREADS * EACH);
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}
