//! The log in a PostgreSQL server of the test's own.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use momentlog_proptests::{PostgresPool, PostgresServer};

use super::serve::clients_are_there;
use super::{Ran, ran, repository, started};

pub(super) fn run(uri: &str, words: &[&str]) -> Ran {
    let mut command = command(uri);
    ran(command.args(words).output().unwrap())
}

pub(super) fn command(uri: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command.args(["-c", uri]).env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

/// Starts a server whose log `fleet` has the domain of the examples; returns it with the URIs of a writer and of a reader.
pub(super) fn fleet(left_out: &str) -> Option<(PostgresServer, String, String)> {
    let server = PostgresServer::start(left_out)?;
    let uri = |user: &str| format!("{}&log=fleet", server.uri(user));
    let made = run(&uri("admin"), &["init"]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    assert!(
        made.out.contains("/postgres?log=fleet is ready\n"),
        "{}",
        made.out
    );
    assert_eq!(run(&uri("admin"), &["init"]), made);
    let users = "CREATE USER agent PASSWORD 'secret' IN ROLE momentlog_writer; CREATE USER auditor IN ROLE momentlog_reader";
    server.psql("admin", users).unwrap();
    let xml = repository().join("examples/web01.xml");
    let defined = run(&uri("agent"), &["define", xml.to_str().unwrap()]);
    assert_eq!((defined.err.as_str(), defined.status), ("", 0));
    let uris = (uri("agent"), uri("auditor"));
    Some((server, uris.0, uris.1))
}

#[test]
fn the_verbs_work_over_a_database() {
    let Some((_server, agent, auditor)) = fleet("the program over PostgreSQL") else {
        return;
    };
    the_verbs_work(&agent, &auditor);
}

#[test]
fn the_verbs_work_through_a_pool_in_transaction_mode() {
    let left_out = "the program through a pool of PostgreSQL";
    let Some((server, ..)) = fleet(left_out) else {
        return;
    };
    let Some(pool) = PostgresPool::start(&server, &["agent", "auditor"], left_out) else {
        return;
    };
    let uri = |user: &str| format!("{}&log=fleet", pool.uri(user));
    the_verbs_work(&uri("agent"), &uri("auditor"));
}

#[track_caller]
fn the_verbs_work(agent: &str, auditor: &str) {
    let done = |uri: &str, words: &[&str]| {
        let ran = run(uri, words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    done(agent, &["checkpoint-create-as", "web01", "monday"]);
    let receipt = done(auditor, &["receipt"]);
    done(agent, &["checkpoint-create-as", "web01", "tuesday"]);
    assert!(done(agent, &["image"]).starts_with("Image of record "));
    assert!(done(auditor, &["-r", "checkpoint-list", "web01"]).contains("monday"));
    assert!(done(auditor, &["log", "web01"]).contains("tuesday"));
    let before = run(
        auditor,
        &["--at", receipt.trim(), "checkpoint-list", "web01"],
    )
    .out;
    assert!(before.contains("monday"), "{before}");
    assert!(!before.contains("tuesday"));
    let verified = done(
        auditor,
        &["verify", "--strict", "--against", receipt.trim()],
    );
    assert!(
        verified.contains("anchored") && verified.contains("1 record behind it is not proven"),
        "{verified}"
    );
    assert!(verified.contains("1 agree with the log"), "{verified}");
    let again = "checkpoint-create-as web01 wednesday --request-id r1";
    assert_eq!(done(agent, &[again]), done(agent, &[again]));
    assert!(done(auditor, &["stat"]).contains("Records"));
    // Of a refusal nothing is left, and the next one writes at once.
    let refused = run(agent, &["checkpoint-create-as", "web01", "monday"]);
    assert_eq!(refused.status, 1, "{refused:?}");
    done(agent, &["checkpoint-delete", "web01", "monday"]);
}

#[test]
fn libvirts_clients_are_served_from_a_database() {
    if !clients_are_there() {
        return;
    }
    let Some((_server, agent, auditor)) = fleet("libvirt's clients over PostgreSQL") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let mut serve = command(&agent);
    serve.args(["serve", "--socket", socket.to_str().unwrap()]);
    let (_, host) = agent.split_once("host=").unwrap();
    let (host, _) = host.split_once('&').unwrap();
    let place = format!("postgres://{host}/postgres?log=fleet");
    let _serving = started(&mut serve, &format!("Serving {place} to libvirt's clients"));
    let virsh = |words: &[&str]| {
        let mut command = Command::new("virsh");
        let uri = format!("test+unix:///default?socket={}", socket.display());
        command.args(["-q", "-c", &uri]).args(words);
        let ran = ran(command.stdin(Stdio::null()).output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    virsh(&["checkpoint-create-as", "web01", "served"]);
    // What another client of the database makes is there as well.
    let made = run(&agent, &["checkpoint-create-as", "web01", "beside"]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    let listed = virsh(&["checkpoint-list", "web01", "--name"]);
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["beside", "served"]
    );
    let log = run(&auditor, &["log", "web01", "--moment", "served"]).out;
    assert!(log.contains("checkpoint served created"), "{log}");
}

#[test]
fn what_a_database_refuses_is_said_without_a_password() {
    let Some((server, agent, auditor)) = fleet("what the program says of PostgreSQL's refusals")
    else {
        return;
    };
    let secret = |uri: &str| uri.replace("agent@", "agent:secret@");
    let refused = |uri: &str, words: &[&str], why: &str| {
        let ran = run(uri, words);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.err.contains(why), "{ran:?}");
        assert!(!format!("{ran:?}").contains("secret"), "{ran:?}");
    };
    refused(
        &auditor,
        &["checkpoint-create-as", "web01", "b"],
        "grant it momentlog_writer",
    );
    let nowhere = secret(&agent).replace("log=fleet", "log=nowhere");
    refused(
        &nowhere,
        &["checkpoint-create-as", "web01", "b"],
        "there is no store at postgres://",
    );
    refused(
        &secret(&agent).replace("/postgres?", "/none?"),
        &["receipt"],
        "there is no such database",
    );
    refused(&secret(&agent), &["init"], "grant it");
    refused(
        &format!("{}&sslmode=secret", secret(&agent)),
        &["receipt"],
        "sslmode is disable",
    );
    refused(
        &secret(&agent),
        &["-r", "init"],
        "nothing is made for reading only",
    );
    drop(server);
    refused(&secret(&agent), &["receipt"], "cannot be reached");
    refused("momentlog:here", &["init"], "init is for postgres://");
}

#[test]
fn eight_processes_write_one_log() {
    const PROCESSES: usize = 8;
    const EACH: usize = 5;
    let Some((server, agent, auditor)) = fleet("eight processes on one log in PostgreSQL") else {
        return;
    };
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'agent' ORDER BY random() LIMIT 2";
    let running: Vec<_> = (0..PROCESSES)
        .map(|process| {
            // Each command is asked twice by its request id, as after an answer that was lost.
            let commands = (0..2 * EACH).map(|asked| {
                let name = format!("p{process}-{}", asked / 2);
                format!("checkpoint-create-as web01 {name} --request-id {name}")
            });
            let script = commands.collect::<Vec<_>>().join("\n");
            let mut child = command(&agent);
            child
                .args(["-q", &script])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            child.spawn().unwrap()
        })
        .collect();
    for _ in 0..10 {
        server.psql("admin", end).unwrap();
    }
    for process in running {
        let ran = ran(process.wait_with_output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    }
    let names = run(&auditor, &["checkpoint-list", "web01", "--name"]).out;
    let mut names: Vec<&str> = names.split_whitespace().collect();
    names.sort_unstable();
    let mut wanted: Vec<String> = (0..PROCESSES)
        .flat_map(|process| (0..EACH).map(move |number| format!("p{process}-{number}")))
        .collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let verified = run(&auditor, &["verify"]);
    assert_eq!(verified.status, 0, "{verified:?}");
    // And the one that begins the log, and the domain.
    let wanted = wanted.len() + 2;
    assert_eq!(
        server
            .psql("auditor", "SELECT count(*) FROM momentlog.records")
            .unwrap(),
        wanted.to_string()
    );
}

#[test]
fn a_password_comes_from_the_file_of_libpq_and_is_shown_nowhere() {
    let Some((server, agent, _)) = fleet("a password file of PostgreSQL") else {
        return;
    };
    let lines = "local all admin trust\nlocal all all scram-sha-256\n";
    std::fs::write(server.data().join("pg_hba.conf"), lines).unwrap();
    server.psql("admin", "SELECT pg_reload_conf()").unwrap();
    while server.psql("agent", "SELECT 1").is_ok() {}
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pgpass");
    let with_file = |mode: u32| {
        std::fs::write(&file, "*:5432:postgres:agent:secret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut command = command(&agent);
        command.args(["receipt"]).env("PGPASSFILE", &file);
        ran(command.output().unwrap())
    };
    let found = with_file(0o600);
    assert_eq!((found.err.as_str(), found.status), ("", 0));
    let open = with_file(0o644);
    assert_eq!(open.status, 1, "{open:?}");
    assert!(!open.err.contains("secret"), "{open:?}");
}

#[test]
fn a_standby_is_read_and_the_report_says_how_far_it_is_behind() {
    let Some((server, agent, auditor)) = fleet("the program over a standby of PostgreSQL") else {
        return;
    };
    let done = |uri: &str, words: &[&str]| {
        let ran = run(uri, words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    let alone = done(&auditor, &["-r", "verify"]);
    assert!(alone.contains("Server:         PostgreSQL 1"), "{alone}");
    assert!(
        alone.contains("Standbys:       none is synchronous"),
        "{alone}"
    );
    let standby = server.start_standby("second");
    let names = "ALTER SYSTEM SET synchronous_standby_names = 'second'";
    server.psql("admin", names).unwrap();
    server.psql("admin", "SELECT pg_reload_conf()").unwrap();
    while server
        .psql("admin", "SHOW synchronous_standby_names")
        .unwrap()
        != "second"
    {}
    let stat = done(&agent, &["stat"]);
    assert!(
        stat.contains("Standbys:       a commit waits for second\n"),
        "{stat}"
    );
    let uri = format!("{}&log=fleet", standby.uri("auditor"));
    for verb in ["stat", "verify"] {
        let said = done(&uri, &["-r", verb]);
        assert!(
            said.contains("Standby:        connected to its primary\n"),
            "{said}"
        );
        assert!(said.contains("Not shown yet:  "), "{said}");
    }
    let uri = format!("{}&log=fleet", standby.uri("agent"));
    let refused = run(&uri, &["checkpoint-create-as", "web01", "monday"]);
    assert!(refused.err.contains("can only be read"), "{refused:?}");
}

#[test]
fn records_of_a_database_are_archived_by_its_keeper_and_the_log_goes_on() {
    let Some((server, agent, auditor)) = fleet("an archive of the program over PostgreSQL") else {
        return;
    };
    server
        .psql("admin", "CREATE USER keeper IN ROLE momentlog_keeper")
        .unwrap();
    let keeper = format!("{}&log=fleet", server.uri("keeper"));
    let done = |uri: &str, words: &[&str]| {
        let ran = run(uri, words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    };
    done(&agent, &["checkpoint-create-as", "web01", "monday"]);
    let receipt = done(&auditor, &["receipt"]);
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("archive");
    let to = archive.to_str().unwrap();
    let refused = run(&agent, &["archive", to]);
    assert!(refused.err.contains("momentlog_keeper"), "{refused:?}");
    assert!(done(&keeper, &["archive", to]).contains("moved to"));
    done(&agent, &["checkpoint-create-as", "web01", "tuesday"]);
    let listed = done(&auditor, &["checkpoint-list", "web01", "--name"]);
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        ["monday", "tuesday"]
    );
    assert!(done(&auditor, &["verify"]).contains("Archived:"));
    // The archive ends where the receipt says, and copies to a whole log together with what came behind.
    let archived = format!("momentlog:{to}");
    let verified = done(
        &archived,
        &["verify", "--strict", "--against", receipt.trim()],
    );
    assert!(verified.contains("anchored"), "{verified}");
    let whole = format!("momentlog:{}", dir.path().join("whole").display());
    done(&auditor, &["copy", &archived, &whole]);
    done(&auditor, &["copy", &auditor, &whole]);
    let head = |text: &str| {
        text.lines()
            .find(|line| line.starts_with("Head:"))
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        head(&done(&whole, &["verify"])),
        head(&done(&auditor, &["verify"]))
    );
}
