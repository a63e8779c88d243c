//! `proxy` with a store, between libvirt's own clients and a private libvirtd.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde_json::{Value, json};

use super::libvirt::{Managed, wait_for};
use super::proxy::{Daemon, UPSTREAM, asks_for_fewer_names, uri, virsh};
use super::serve::{PYTHON, assert_scripts_are_as_recorded, play, traces};
use super::*;

/// The driver that is recorded.
pub(super) const TEST: &str = "test:///default";

/// A proxy that records the calls of a libvirtd's clients, and the state of whose driver lasts as long as this.
struct Recorded {
    daemon: Daemon,
    proxy: Option<Killed>,
    holder: Killed,
}

impl Recorded {
    fn new() -> Option<Recorded> {
        let daemon = Daemon::new()?;
        let mut recorded = Recorded {
            holder: hold(&daemon),
            daemon,
            proxy: None,
        };
        recorded.start(&[]);
        Some(recorded)
    }

    fn start(&mut self, options: &[&str]) {
        self.proxy = None;
        self.proxy = Some(record(self.daemon.dir(), TEST, options));
    }

    fn uri(&self) -> String {
        uri("test+unix:///default", self.daemon.dir(), "proxy")
    }

    fn direct(&self) -> String {
        uri("test+unix:///default", self.daemon.dir(), UPSTREAM)
    }

    fn program(&self) -> &Program {
        &self.daemon.program
    }

    #[track_caller]
    fn does(&self, words: &[&str]) {
        let ran = virsh(&self.uri(), words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    }

    /// What the log has of each domain, as the client lists what libvirt has.
    fn logged(&self) -> Value {
        let out = |words: &[&str]| {
            let ran = self.program().run(words);
            assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
            ran.out
        };
        let mut domains = serde_json::Map::new();
        for name in out(&["-q", "list", "--all", "--name"]).lines() {
            let tree = |verb: &str| {
                let listed: Value =
                    serde_json::from_str(&out(&["--format", "json", verb, name])).unwrap();
                let moments = listed["moments"].as_array().unwrap().clone();
                let mut current = Value::Null;
                let mut tree = serde_json::Map::new();
                for moment in moments {
                    let own = moment["name"].as_str().unwrap().to_owned();
                    if moment["current"] == true {
                        current = own.clone().into();
                    }
                    tree.insert(own, moment["below"]["name"].clone());
                }
                (tree, current)
            };
            if name.is_empty() {
                continue;
            }
            let ((snapshots, current), (checkpoints, _)) =
                (tree("snapshot-list"), tree("checkpoint-list"));
            let state = out(&["-q", "domstate", name]);
            let domain = json!({
                "active": state.trim() != "shut off",
                "snapshots": snapshots,
                "current": current,
                "checkpoints": checkpoints,
            });
            domains.insert(name.to_owned(), domain);
        }
        Value::Object(domains)
    }

    fn listed(&self) -> Value {
        let ran = ran(client(&["list", &self.direct()]).output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        serde_json::from_str(&ran.out).unwrap()
    }

    /// The log has what libvirt lists, is sound, and no call is open.
    #[track_caller]
    fn is_as_listed(&self) {
        assert_eq!(self.logged(), self.listed());
        let verified = self.program().run(&["-q", "verify"]);
        assert_eq!(verified.status, 0, "{verified:?}");
    }

    /// What a look that passes nothing on shows.
    fn look(&self, options: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-c", "momentlog:store"])
            .args(["proxy", "--upstream", UPSTREAM, "--uri", TEST, "--once"])
            .args(options)
            .current_dir(self.daemon.dir());
        ran(command.output().unwrap())
    }

    /// The log also has each definition that libvirt lists. The proxy is ended.
    #[track_caller]
    fn ends_as_listed(&mut self) {
        self.is_as_listed();
        self.proxy = None;
        let nothing = self.look(&[]);
        assert_eq!(
            (nothing.out.trim(), nothing.err.as_str(), nothing.status),
            ("The log has what libvirtd lists", "", 0)
        );
    }

    fn entries(&self) -> Vec<Value> {
        let mut command = self.program().command();
        let answered = command.args(["log", "--format", "json"]).output().unwrap();
        let out = String::from_utf8(answered.stdout).unwrap();
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Keeps the state of libvirtd's test driver.
fn hold(daemon: &Daemon) -> Killed {
    let direct = uri("test+unix:///default", daemon.dir(), UPSTREAM);
    started(&mut client(&["hold", &direct]), "held")
}

/// How many rounds a test has: another number is set by hand.
fn rounds(usual: usize) -> usize {
    let set = std::env::var("MOMENTLOG_ROUNDS");
    set.map_or(usual, |rounds| rounds.parse().unwrap())
}

fn client(words: &[&str]) -> Command {
    let script = repository().join("crates/momentlog-cli/tests/clients/snapshots.py");
    let mut command = Command::new(PYTHON);
    command.arg(script).args(words).stdin(Stdio::null());
    command
}

/// Starts a proxy that records the domains of a driver.
pub(super) fn record(dir: &Path, driver: &str, options: &[&str]) -> Killed {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .args(["-c", "momentlog:store", "--lock-wait", "0"])
        .args(["proxy", "--upstream", UPSTREAM, "--socket", "proxy"])
        .args(["--uri", driver])
        .args(options)
        // A libvirtd of one user has its files there.
        .env("XDG_CONFIG_HOME", dir.join("config"))
        .current_dir(dir);
    started(
        &mut command,
        &format!("Passing libvirt's clients on to {UPSTREAM}, recorded in momentlog:store"),
    )
}

/// The names in an event's list of moments.
fn names(moments: &Value) -> Vec<String> {
    let moments = moments.as_array().unwrap().iter();
    let name = |moment: &Value| moment["name"].as_str().unwrap().to_owned();
    moments.map(name).collect()
}

#[test]
fn recorded_scripts_and_traces_are_the_same_through_a_proxy_that_records() {
    let Some(daemon) = Daemon::new() else {
        return;
    };
    let _proxy = record(daemon.dir(), TEST, &[]);
    let uri = uri("test+unix:///default", daemon.dir(), "proxy");
    assert_scripts_are_as_recorded(&daemon.program, &uri);
    let mut traces = traces();
    traces.retain(|trace| !asks_for_fewer_names(trace));
    // Each takes a second here.
    let traces: Vec<PathBuf> = traces.into_iter().step_by(8).collect();
    let played = play(&uri, &traces);
    assert_eq!(
        played.out, "traces: 15 of 15 as recorded\n",
        "{}",
        played.err
    );
    let verified = daemon.program.run(&["-q", "verify"]);
    assert_eq!(verified.status, 0, "{verified:?}");
}

#[test]
fn after_any_calls_the_log_has_what_libvirt_lists() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    for seed in 0..12 {
        let seed = seed.to_string();
        let ran = ran(client(&["any", &recorded.uri(), &seed, "25"])
            .output()
            .unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
        recorded.is_as_listed();
    }
    let entries = recorded.entries();
    // Each difference has an actor, but for what was there at first.
    let outside = entries.iter().filter(|entry| entry["actor"] == "outside");
    assert_eq!(outside.count(), 1);
    let failed = |event: &Value| event["type"] == "job_failed";
    let refused = entries
        .iter()
        .flat_map(|entry| entry["events"].as_array().unwrap())
        .find(|event| failed(event))
        .unwrap();
    let said = refused["seen"][0]["found"].as_str().unwrap();
    assert!(said.starts_with("code "), "{refused}");
    recorded.ends_as_listed();
}

#[test]
fn a_deletion_names_all_that_went_with_who_asked_and_by_which_call() {
    let Some(recorded) = Recorded::new() else {
        return;
    };
    for name in ["a", "b", "c"] {
        recorded.does(&["snapshot-create-as", "test", name]);
    }
    recorded.does(&["snapshot-delete", "test", "a", "--children"]);
    let entries = recorded.entries();
    let last = entries.last().unwrap();
    assert_eq!(
        (&last["call"], &last["flags"]),
        (&json!("virDomainSnapshotDelete"), &json!(1))
    );
    let agent = last["agent"].as_str().unwrap();
    assert!(agent.contains(" virsh (pid "), "{agent}");
    let deleted = last["events"].as_array().unwrap().iter();
    let deleted: Vec<&Value> = deleted
        .filter(|event| event["type"] == "snapshot_deleted")
        .collect();
    assert_eq!(deleted.len(), 1, "{last}");
    assert_eq!(names(&deleted[0]["removed"]), ["a", "b", "c"]);
    let begun = &entries[entries.len() - 2];
    assert_eq!(begun["events"][0]["type"], "job_begun");
    recorded.is_as_listed();
}

#[test]
fn of_two_deletions_of_overlapping_trees_at_once_each_moment_went_with_exactly_one() {
    let rounds = rounds(40);
    let Some(recorded) = Recorded::new() else {
        return;
    };
    let ran = ran(client(&["overlap", &recorded.uri(), &rounds.to_string()])
        .output()
        .unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let mut made = 0;
    let mut gone: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in recorded.entries() {
        for event in entry["events"].as_array().unwrap() {
            made += usize::from(event["type"] == "snapshot_created");
            if event["type"] == "snapshot_deleted" {
                assert_eq!(entry["call"], "virDomainSnapshotDelete", "{entry}");
                assert_ne!(entry["actor"], "outside", "{entry}");
                for name in names(&event["removed"]) {
                    gone.entry(name).or_default().push(entry["seq"].clone());
                }
            }
        }
    }
    assert_eq!((made, gone.len()), (6 * rounds, 6 * rounds));
    for (name, by) in gone {
        assert_eq!(by.len(), 1, "{name}");
    }
    recorded.is_as_listed();
}

/// What is killed under its clients.
#[derive(Clone, Copy, PartialEq)]
enum Victim {
    Proxy,
    Libvirtd,
    Both,
}

#[test]
fn after_the_proxy_was_killed_nothing_that_was_answered_is_missing_and_no_call_is_open() {
    nothing_is_missing_after_kills(Victim::Proxy, rounds(20));
}

#[test]
fn after_libvirtd_was_killed_nothing_that_was_answered_is_missing_and_no_call_is_open() {
    nothing_is_missing_after_kills(Victim::Libvirtd, rounds(4));
}

#[test]
fn after_both_were_killed_nothing_that_was_answered_is_missing_and_no_call_is_open() {
    nothing_is_missing_after_kills(Victim::Both, rounds(4));
}

fn nothing_is_missing_after_kills(victim: Victim, rounds: usize) {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    recorded.start(&["--observe", "1"]);
    let mut answered = Vec::new();
    for round in 0..rounds {
        let mut clients: Vec<Child> = (0..3)
            .map(|number| {
                let prefix = format!("r{round}c{number}");
                let mut client = client(&["until", &recorded.uri(), &prefix]);
                client.stdout(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let lines = |client: &mut Child| {
            let stdout = client.stdout.take().unwrap();
            BufReader::new(stdout).lines().map(Result::unwrap)
        };
        let mut said: Vec<_> = clients.iter_mut().map(lines).collect();
        // All three are at it: what is killed is killed at another time of their calls in each round.
        answered.extend(said.iter_mut().filter_map(Iterator::next));
        std::thread::sleep(std::time::Duration::from_millis((round % 20) as u64));
        if victim != Victim::Proxy {
            recorded.daemon.kill();
        }
        if victim != Victim::Libvirtd {
            recorded.proxy = None;
        }
        answered.extend(said.into_iter().flatten());
        for mut client in clients {
            client.wait().unwrap();
        }
        if victim != Victim::Proxy {
            // What the test driver had is gone with it.
            recorded.daemon.start();
            recorded.holder = hold(&recorded.daemon);
        }
        if victim != Victim::Libvirtd {
            recorded.start(&["--observe", "1"]);
        }
        wait_for(recorded.daemon.dir(), "the next look", || {
            recorded.logged() == recorded.listed()
        });
    }
    // A call that libvirtd went on with, or that did nothing, is settled by the next look.
    wait_for(recorded.daemon.dir(), "the end of open calls", || {
        open_jobs(&recorded).is_empty()
    });
    recorded.ends_as_listed();
    let mut said = Vec::new();
    for entry in recorded.entries() {
        for event in entry["events"].as_array().unwrap() {
            match event["type"].as_str().unwrap() {
                "snapshot_created" => {
                    said.push(format!(
                        "created {}",
                        event["moment"]["name"].as_str().unwrap()
                    ));
                }
                "snapshot_deleted" => {
                    let gone = names(&event["removed"]).into_iter();
                    said.extend(gone.map(|name| format!("deleted {name}")));
                }
                _ => {}
            }
        }
    }
    println!("{rounds} kills, {} answered", answered.len());
    assert!(answered.len() > rounds, "{answered:?}");
    let said: BTreeSet<String> = said.into_iter().collect();
    for one in answered {
        assert!(said.contains(&one), "{one}");
    }
}

/// The calls of which the log does not say what became.
fn open_jobs(recorded: &Recorded) -> Vec<Value> {
    let mut open = Vec::new();
    for entry in recorded.entries() {
        for event in entry["events"].as_array().unwrap() {
            let job = event["job"].clone();
            match event["type"].as_str().unwrap() {
                "job_begun" => open.push(job),
                "job_ended" | "job_failed" => open.retain(|one| *one != job),
                _ => {}
            }
        }
    }
    open
}

#[test]
fn what_came_by_libvirts_own_socket_is_found_at_the_start_and_while_it_is_looked_for() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    let straight = |words: &[&str]| {
        let ran = virsh(&recorded.direct(), words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    };
    straight(&["snapshot-create-as", "test", "before"]);
    recorded.does(&["snapshot-create-as", "test", "through"]);
    recorded.is_as_listed();
    let by = |recorded: &Recorded, name: &str| {
        let entries = recorded.entries();
        let made = |entry: &&Value| {
            let events = entry["events"].as_array().unwrap();
            events
                .iter()
                .any(|event| event["type"] == "snapshot_created" && event["moment"]["name"] == name)
        };
        let found = entries.iter().find(made).unwrap();
        found["actor"].as_str().unwrap().to_owned()
    };
    assert_eq!(by(&recorded, "before"), "outside");
    assert_ne!(by(&recorded, "through"), "outside");

    recorded.proxy = None;
    let ran = virsh(&recorded.direct(), &["snapshot-create-as", "test", "down"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    recorded.start(&["--observe", "1"]);
    wait_for(recorded.daemon.dir(), "the first look", || {
        recorded.logged() == recorded.listed()
    });
    assert_eq!(by(&recorded, "down"), "outside");
    let ran = virsh(&recorded.direct(), &["snapshot-create-as", "test", "up"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    wait_for(recorded.daemon.dir(), "the next look", || {
        recorded.logged() == recorded.listed()
    });
    assert_eq!(by(&recorded, "up"), "outside");
}

#[test]
fn without_a_proxy_one_look_shows_what_came_by_other_ways_and_settles_what_was_left_open() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    recorded.does(&["snapshot-create-as", "test", "a"]);
    recorded.proxy = None;
    let ran = virsh(&recorded.direct(), &["snapshot-create-as", "test", "b"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let found = recorded.look(&["--format", "json"]);
    assert_eq!((found.err.as_str(), found.status), ("", 0));
    let found: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!(found["actor"], "outside");
    assert_eq!(found["events"][0]["moment"]["name"], "b");
    recorded.ends_as_listed();
    let ran = virsh(&recorded.direct(), &["snapshot-delete", "test", "a"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let shown = recorded.look(&[]);
    assert!(
        shown
            .out
            .contains("snapshot a deleted; b moved to the roots"),
        "{shown:?}"
    );
    let both = recorded.look(&["--socket", "proxy"]);
    assert_eq!(both.status, 1, "{both:?}");
    let mut nowhere = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    nowhere
        .args(["-c", "momentlog:store", "proxy", "--upstream", "nowhere"])
        .arg("--once")
        .current_dir(recorded.daemon.dir());
    let nowhere = super::ran(nowhere.output().unwrap());
    assert_eq!((nowhere.out.trim(), nowhere.status), ("", 1));
    assert!(
        nowhere.err.contains("the connection to libvirtd fails"),
        "{nowhere:?}"
    );
}

/// The records that redefine a snapshot.
fn redefinitions(recorded: &Recorded, name: &str) -> Vec<Value> {
    let mut entries = recorded.entries();
    entries.retain(|entry| {
        let events = entry["events"].as_array().unwrap();
        events
            .iter()
            .any(|event| event["type"] == "snapshot_redefined" && event["moment"]["name"] == name)
    });
    entries
}

#[test]
fn what_another_way_redefines_is_no_calls_doing_and_a_look_at_all_finds_it() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    for name in ["a", "b"] {
        recorded.does(&["snapshot-create-as", "test", name]);
    }
    let redefine = |uri: &str, name: &str, description: &str| {
        let dumped = virsh(&recorded.direct(), &["snapshot-dumpxml", "test", name]);
        let old = dumped.out.find("<description>").map_or_else(
            || dumped.out.clone(),
            |from| {
                let to = dumped.out.find("</description>").unwrap() + "</description>".len();
                format!("{}{}", &dumped.out[..from], &dumped.out[to..])
            },
        );
        let described = format!("</name><description>{description}</description>");
        let xml = recorded.daemon.dir().join("redefined.xml");
        fs::write(&xml, old.replacen("</name>", &described, 1)).unwrap();
        let xml = xml.to_str().unwrap();
        let ran = virsh(uri, &["snapshot-create", "test", xml, "--redefine"]);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    };
    redefine(&recorded.direct(), "b", "another way");
    recorded.does(&["snapshot-create-as", "test", "c"]);
    assert_eq!(redefinitions(&recorded, "b"), Vec::<Value>::new());
    // A call that redefines it is its own doing alone: it is looked at before, too.
    redefine(&recorded.uri(), "b", "through");
    let found = redefinitions(&recorded, "b");
    let by: Vec<(&Value, &Value)> = found
        .iter()
        .map(|entry| (&entry["call"], &entry["actor"]))
        .collect();
    assert_eq!(found.len(), 2, "{by:?}");
    assert_eq!(found[0]["actor"], "outside");
    assert_eq!(found[1]["call"], "virDomainSnapshotCreateXML");
    assert_ne!(found[1]["actor"], "outside");

    redefine(&recorded.direct(), "a", "while it is up");
    recorded.start(&[]);
    wait_for(recorded.daemon.dir(), "the first look", || {
        !redefinitions(&recorded, "a").is_empty()
    });
    assert_eq!(redefinitions(&recorded, "a")[0]["actor"], "outside");
    recorded.is_as_listed();
}

#[test]
fn a_call_that_cannot_be_recorded_is_refused_and_what_only_reads_is_not() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    recorded.does(&["snapshot-create-as", "test", "s1"]);
    let (store, away) = (
        recorded.daemon.dir().join("store"),
        recorded.daemon.dir().join("away"),
    );
    fs::rename(&store, &away).unwrap();
    let refused = virsh(&recorded.uri(), &["snapshot-create-as", "test", "s2"]);
    assert!(
        refused
            .err
            .contains("the proxy cannot record the call, and does not pass it on: "),
        "{refused:?}"
    );
    let read = virsh(&recorded.uri(), &["snapshot-list", "test", "--name"]);
    assert_eq!((read.out.trim(), read.status), ("s1", 0), "{read:?}");
    assert!(!store.exists(), "no other log is begun");
    fs::rename(&away, &store).unwrap();
    recorded.does(&["snapshot-create-as", "test", "s2"]);
    recorded.is_as_listed();

    recorded.start(&["--fail-open"]);
    recorded.does(&["snapshot-create-as", "test", "s3"]);
    fs::rename(&store, &away).unwrap();
    recorded.does(&["snapshot-create-as", "test", "s4"]);
    fs::rename(&away, &store).unwrap();
    recorded.does(&["snapshot-create-as", "test", "s5"]);
    recorded.is_as_listed();
    assert_gap_is_told(&recorded);
}

/// The log says that a creation of a snapshot was passed on and not recorded.
#[track_caller]
fn assert_gap_is_told(recorded: &Recorded) {
    let entries = recorded.entries();
    let gap = entries
        .iter()
        .filter_map(|entry| entry["reason"].as_str())
        .find(|reason| reason.starts_with("calls that were passed on and not recorded"))
        .unwrap();
    assert!(gap.contains("virDomainSnapshotCreateXML by "), "{gap}");
}

#[test]
fn while_another_process_writes_the_store_changes_are_refused_and_what_only_reads_is_not() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    recorded.does(&["snapshot-create-as", "test", "s1"]);
    let path = recorded.daemon.dir().join("store/lock");
    let taken = || {
        let mut options = fs::OpenOptions::new();
        let lock = options.read(true).write(true).open(&path).unwrap();
        lock.lock().unwrap();
        fs::write(&path, "pid 4711\nhost elsewhere\n").unwrap();
        lock
    };
    let lock = taken();
    let refused = virsh(&recorded.uri(), &["snapshot-create-as", "test", "s2"]);
    for part in [
        "the proxy cannot record the call, and does not pass it on: ",
        "store is being written by process 4711 on elsewhere",
    ] {
        assert!(refused.err.contains(part), "{refused:?}");
    }
    let read = virsh(&recorded.uri(), &["snapshot-list", "test", "--name"]);
    assert_eq!((read.out.trim(), read.status), ("s1", 0), "{read:?}");
    drop(lock);
    recorded.does(&["snapshot-create-as", "test", "s2"]);

    recorded.start(&["--fail-open"]);
    recorded.does(&["snapshot-create-as", "test", "s3"]);
    let lock = taken();
    recorded.does(&["snapshot-create-as", "test", "s4"]);
    drop(lock);
    recorded.does(&["snapshot-create-as", "test", "s5"]);
    recorded.is_as_listed();
    assert_gap_is_told(&recorded);
}

#[test]
fn a_call_that_defines_a_domain_is_named_before_it_is_made() {
    let Some(recorded) = Recorded::new() else {
        return;
    };
    let xml = recorded.daemon.dir().join("new.xml");
    fs::write(
        &xml,
        "<domain type='test'><name>new</name><memory>1024</memory><os><type>hvm</type></os></domain>",
    )
    .unwrap();
    recorded.does(&["define", xml.to_str().unwrap()]);
    let log = recorded.program().run(&["log"]).out;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let asked = "virDomainDefineXML \"about to be passed on to libvirt\"";
    assert!(log.lines().any(|line| words(line) == asked), "{log}");
    recorded.is_as_listed();
}

#[test]
fn while_the_disk_is_full_changes_are_refused() {
    let Some(mut recorded) = Recorded::new() else {
        return;
    };
    recorded.proxy = None;
    let mut shell = Command::new("sh");
    // A write beyond 8 KiB of a file is an error. What the proxy logs has no room from the start.
    fs::write(recorded.daemon.dir().join("full.log"), [b'x'; 8 << 10]).unwrap();
    let proxy = format!(
        "trap '' XFSZ; ulimit -f 16; exec 2>>full.log; exec {} -c momentlog:store proxy --upstream {UPSTREAM} --socket proxy --uri {TEST}",
        env!("CARGO_BIN_EXE_momentlog")
    );
    shell
        .args(["-c", &proxy])
        .current_dir(recorded.daemon.dir());
    recorded.proxy = Some(started(
        &mut shell,
        &format!("Passing libvirt's clients on to {UPSTREAM}, recorded in momentlog:store"),
    ));
    let mut refused = None;
    for number in 0..200 {
        let name = format!("n{number}");
        let ran = virsh(&recorded.uri(), &["snapshot-create-as", "test", &name]);
        if ran.status != 0 {
            refused = Some((name, ran));
            break;
        }
    }
    let (name, ran) = refused.unwrap();
    assert!(
        ran.err.contains("the proxy cannot record the call"),
        "{ran:?}"
    );
    let read = virsh(&recorded.uri(), &["snapshot-list", "test", "--name"]);
    assert!(!read.out.contains(&name), "{read:?}");
    recorded.start(&[]);
    recorded.does(&["snapshot-create-as", "test", "last"]);
    recorded.is_as_listed();
}

#[test]
fn guests_of_a_real_qemu_are_recorded_with_their_checkpoints() {
    let Some(managed) = Managed::new() else {
        return;
    };
    let dir = managed.program.dir.path();
    fs::remove_dir_all(dir.join("store")).unwrap();
    let _proxy = record(dir, "qemu:///session", &[]);
    let through = uri("qemu+unix:///session", dir, "proxy");
    let does = |words: &[&str]| {
        let ran = virsh(&through, words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
    };
    for name in ["c1", "c2", "c3"] {
        does(&["checkpoint-create-as", "vm", name]);
    }
    does(&["snapshot-create-as", "vm", "s1"]);
    does(&["checkpoint-delete", "vm", "c2"]);
    does(&["destroy", "vm"]);
    for verb in ["checkpoint-list", "snapshot-list"] {
        let logged = managed.program.run(&["-q", verb, "vm", "--tree"]);
        let listed = managed.virsh_does(&[verb, "vm", "--tree"]);
        assert_eq!(logged.out.trim(), listed.trim());
    }
    let state = managed.program.run(&["-q", "domstate", "vm"]);
    assert_eq!(state.out.trim(), "shut off");
    let why = managed.program.run(&["why", "vm", "c2"]);
    assert!(
        why.out.contains("deleted; c3 (#3) moved to its parent"),
        "{why:?}"
    );
    let log = managed.program.run(&["log", "--format", "json"]);
    let deleted = log
        .out
        .lines()
        .find(|line| line.contains("\"checkpoint_deleted\""));
    let deleted: Value = serde_json::from_str(deleted.unwrap()).unwrap();
    assert_eq!(deleted["call"], "virDomainCheckpointDelete");
    assert_eq!(
        deleted["events"][1]["removed"],
        json!([{ "id": 2, "name": "c2" }])
    );
}

#[test]
fn what_libvirts_files_and_events_tell_of_is_looked_at_without_being_asked() {
    let Some(mut managed) = Managed::new() else {
        return;
    };
    let dir = managed.program.dir.path().to_owned();
    fs::remove_dir_all(dir.join("store")).unwrap();
    let _proxy = record(&dir, "qemu:///session", &[]);
    let logged = |managed: &Managed, event: &Value| {
        let mut command = managed.program.command();
        let log = command.args(["log", "--format", "json"]).output().unwrap();
        let log = String::from_utf8(log.stdout).unwrap();
        let entries: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let has = |entry: &&Value| {
            let events = entry["events"].as_array().unwrap();
            let wanted = event.as_object().unwrap();
            let is_it = |one: &Value| wanted.iter().all(|(key, value)| one[key] == *value);
            events.iter().any(is_it)
        };
        let found = entries.iter().rfind(has);
        found.map(|entry| entry["actor"].as_str().unwrap().to_owned())
    };
    let comes = |managed: &Managed, kind: &str, mut event: Value| {
        event["type"] = kind.into();
        wait_for(&dir, kind, || logged(managed, &event).is_some());
        assert_eq!(logged(managed, &event).as_deref(), Some("outside"));
    };
    comes(&managed, "domain_defined", json!({}));

    // Files: neither the proxy nor its looks are asked for any of these.
    managed.virsh_does(&["checkpoint-create-as", "vm", "c1"]);
    comes(&managed, "checkpoint_created", json!({}));
    managed.virsh_does(&["checkpoint-delete", "vm", "c1"]);
    comes(&managed, "checkpoint_deleted", json!({}));
    managed.virsh_does(&["snapshot-create-as", "vm", "s1"]);
    comes(&managed, "snapshot_created", json!({}));
    let dumped = managed.virsh_does(&["snapshot-dumpxml", "vm", "s1"]);
    let described = "</name><description>another</description>";
    let dumped = dumped.replacen("</name>", described, 1);
    managed.program.write("s1.xml", &dumped);
    managed.virsh_does(&["snapshot-create", "vm", "s1.xml", "--redefine"]);
    comes(&managed, "snapshot_redefined", json!({}));

    // Events.
    managed.virsh_does(&["destroy", "vm"]);
    comes(&managed, "state_changed", json!({ "to": "shutoff" }));

    // A libvirtd that was away.
    managed.restart_daemon();
    managed.virsh_does(&["snapshot-delete", "vm", "s1"]);
    comes(&managed, "snapshot_deleted", json!({}));
}
