//! Thirty-two processes on one log in PostgreSQL, some of which are killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::postgres::{command, fleet, run};
use super::repository;

const PROCESSES: usize = 32;
const DOMAINS: usize = 8;

/// Commands of a process, also where the time is over before.
const COMMANDS_MIN: usize = 8;

/// Finds faults by a query of its own.
const VERIFY: &str = include_str!("../../../momentlog-postgres/tests/verify.sql");

/// A process of the program that is given one command after the other.
struct Agent {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    fn start(uri: &str) -> Agent {
        let mut program = command(uri);
        program.args(["-q", "--format", "json", "--lock-wait", "120"]);
        let streams = program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = streams.spawn().unwrap();
        Agent {
            commands: process.stdin.take().unwrap(),
            answers: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    fn send(&mut self, command: &str) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The record that the command has made, and whether an earlier one with its request id has.
    fn answer(&mut self) -> (u64, String, bool) {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let record = &answer["records"][0];
        let seq = record["seq"].as_u64().unwrap_or_else(|| panic!("{line}"));
        let digest = record["digest"].as_str().unwrap().to_owned();
        (seq, digest, record["repeated"].as_bool().unwrap())
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What one of the fleet was answered.
#[derive(Default)]
struct Answered {
    records: BTreeMap<String, (u64, String)>,
    kills: usize,
    longest: Duration,
}

/// Gives commands to a process until `end`. Each sixth command is given twice, and at each sixteenth the process is killed before
/// its answer is read, and another one is given the same.
fn work(uri: &str, number: usize, end: Instant) -> Answered {
    let mut answered = Answered::default();
    let mut agent = Agent::start(uri);
    let mut count = 0;
    while count < COMMANDS_MIN || Instant::now() < end {
        count += 1;
        let request = format!("p{number}-{count}");
        let domain = (number + count) % DOMAINS;
        let command = format!("checkpoint-create-as vm{domain} {request} --request-id {request}");
        let begun = Instant::now();
        agent.send(&command);
        if (number + count).is_multiple_of(16) {
            agent.kill();
            agent = Agent::start(uri);
            answered.kills += 1;
            agent.send(&command);
        }
        let (seq, digest, _) = agent.answer();
        answered.longest = answered.longest.max(begun.elapsed());
        if count % 6 == 0 {
            agent.send(&command);
            assert_eq!(agent.answer(), (seq, digest.clone(), true));
        }
        answered.records.insert(request, (seq, digest));
    }
    drop(agent.commands);
    assert!(agent.process.wait().unwrap().success());
    answered
}

#[test]
fn of_many_processes_every_command_that_was_acknowledged_is_there_once() {
    let Some((server, agent, auditor)) = fleet("thirty-two processes over PostgreSQL") else {
        return;
    };
    let seconds = std::env::var("MOMENTLOG_FLEET_SECONDS");
    let seconds = seconds.map_or(3, |seconds| seconds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let xml = std::fs::read_to_string(repository().join("examples/web01.xml")).unwrap();
    for number in 0..DOMAINS {
        let file = dir.path().join("domain.xml");
        let uuid = xml.split("<uuid>").nth(1).unwrap();
        let (uuid, _) = uuid.split_once("</uuid>").unwrap();
        let own = format!("{number}a{}", &uuid[2..]);
        let xml = xml.replace(uuid, &own);
        let xml = xml.replace("<name>web01<", &format!("<name>vm{number}<"));
        std::fs::write(&file, xml).unwrap();
        let defined = run(&agent, &["define", file.to_str().unwrap()]);
        assert_eq!((defined.err.as_str(), defined.status), ("", 0));
    }
    let end = Instant::now() + Duration::from_secs(seconds);
    let answered: Vec<Answered> = std::thread::scope(|scope| {
        let working: Vec<_> = (0..PROCESSES)
            .map(|number| {
                let agent = &agent;
                scope.spawn(move || work(agent, number, end))
            })
            .collect();
        working
            .into_iter()
            .map(|working| working.join().unwrap())
            .collect()
    });

    let log = run(&auditor, &["-r", "--format", "json", "log"]);
    assert_eq!((log.err.as_str(), log.status), ("", 0));
    let mut stands = BTreeMap::new();
    let mut last = 0;
    for line in log.out.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let seq = entry["seq"].as_u64().unwrap();
        assert_eq!(seq, last + 1, "a gap");
        last = seq;
        if let Some(request) = entry["request_id"].as_str() {
            let digest = entry["digest"].as_str().unwrap().to_owned();
            let twice = stands.insert(request.to_owned(), (seq, digest));
            assert_eq!(twice, None, "{request} is there twice");
        }
    }
    let mut acknowledged = BTreeMap::new();
    for one in &answered {
        acknowledged.extend(one.records.clone());
    }
    assert_eq!(stands, acknowledged);
    let counts = answered.iter().map(|one| one.records.len());
    let kills: usize = answered.iter().map(|one| one.kills).sum();
    assert!(kills > 0);
    println!(
        "{} commands in {seconds} s, {kills} kills, least and most of a process {:?} and {:?}, longest wait {:?}",
        acknowledged.len(),
        counts.clone().min().unwrap(),
        counts.max().unwrap(),
        answered.iter().map(|one| one.longest).max().unwrap(),
    );
    let size = "SELECT pg_total_relation_size('momentlog.records') / count(*) || ' bytes a record, of which frames ' \
        || sum(frame_len) / count(*) FROM momentlog.records";
    println!("{}", server.psql("auditor", size).unwrap());
    let verified = run(&auditor, &["-r", "verify"]);
    assert_eq!(verified.status, 0, "{verified:?}");
    assert_eq!(server.psql("auditor", VERIFY).unwrap(), "");
}
