//! Each word of `reconcile`, on a store and images that were prepared for it, as `docs/backup.md` shows them.

use std::sync::Arc;

use momentlog::{Connection, Options};
use momentlog_qemu::Qemu;
use serde_json::{Value, json};

use super::hypervisor::Guest;
use super::*;

const DISKS: [&str; 3] = ["vda", "vdb", "vdc"];

/// Makes a checkpoint that tracks one disk alone.
fn checkpoint(guest: &Guest, name: &str, tracked: &str) {
    let mut words = vec!["checkpoint-create-as", "vm", name];
    let others: Vec<String> = DISKS
        .iter()
        .filter(|disk| **disk != tracked)
        .map(|disk| format!("{disk},checkpoint=no"))
        .collect();
    words.extend(["--diskspec", tracked]);
    for other in &others {
        words.extend(["--diskspec", other]);
    }
    guest.does(&words);
}

/// A running guest with a bitmap for every word that a running guest can have: each checkpoint is called as what becomes of
/// it.
fn prepared() -> Option<Guest> {
    let mut guest = Guest::of(&DISKS)?;
    guest.does(&["attach", "vm", "qmp.sock"]);
    checkpoint(&guest, "inconsistent", "vda");
    // What it has stored is in use from its next start on, when it is killed.
    guest.quit();
    guest.start();
    checkpoint(&guest, "lost", "vda");
    guest.kill();
    guest.start();
    for (name, disk) in [
        ("ok", "vda"),
        ("stopped", "vda"),
        ("temporary", "vda"),
        ("broken", "vdb"),
        ("disk-gone", "vdc"),
        ("orphan", "vda"),
    ] {
        checkpoint(&guest, name, disk);
    }
    guest.does(&["checkpoint-delete", "vm", "orphan", "--metadata"]);
    let bitmap = |what: &str, name: &str, persistent: Option<bool>| {
        let mut arguments = json!({ "node": "vda", "name": name });
        if let Some(persistent) = persistent {
            arguments["persistent"] = persistent.into();
        }
        guest.ask(
            &json!({ "execute": format!("block-dirty-bitmap-{what}"), "arguments": arguments }),
        );
    };
    bitmap("disable", "stopped", None);
    bitmap("remove", "temporary", None);
    bitmap("add", "temporary", Some(false));
    bitmap("add", "foreign", Some(true));
    // An overlay that does not take the bitmaps along.
    let (base, top) = (guest.path("vdb.qcow2"), guest.path("vdb.top"));
    let made = Command::new("qemu-img")
        .args([
            "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", &base, &top, "1M",
        ])
        .status();
    assert!(made.unwrap().success());
    guest.ask(&json!({ "execute": "blockdev-add", "arguments": {
        "driver": "qcow2", "node-name": "top", "backing": null,
        "file": { "driver": "file", "filename": top },
    }}));
    guest.ask(&json!({ "execute": "blockdev-snapshot", "arguments": { "node": "vdb", "overlay": "top" } }));
    for node in ["vdc", "vdc-file"] {
        guest.ask(&json!({ "execute": "blockdev-del", "arguments": { "node-name": node } }));
    }
    Some(guest)
}

/// The blocks of the page that begin with this command.
pub(crate) fn shown(command: &str) -> String {
    let page = std::fs::read_to_string(repository().join("docs/backup.md")).unwrap();
    let mut blocks = page.split("```").filter_map(|block| {
        let (_, text) = block.split_once('\n')?;
        text.strip_prefix(command)?.strip_prefix('\n')
    });
    let block = blocks
        .next()
        .unwrap_or_else(|| panic!("the page does not show {command}"));
    normal(block)
}

/// The same text for the same meaning: without times, the lines of tables, and what names the directory.
pub(crate) fn normal(text: &str) -> String {
    let mut normal = String::new();
    for line in text.lines().filter(|line| !line.starts_with("---")) {
        let mut words = line.split_inclusive(' ').peekable();
        while let Some(word) = words.next() {
            let is_date = word.len() == 11 && word.starts_with("20") && word.contains('-');
            if is_date {
                words.next();
                words.next();
                normal.push_str("TIME");
            } else {
                normal.push_str(word);
            }
        }
        normal.push('\n');
    }
    normal.trim_end().to_owned()
}

/// What the program says of a guest, in the words of the page.
fn said(guest: &Guest, text: &str) -> String {
    let dir = guest.path("");
    let text = text.replace(&dir, "/var/lib/images/");
    normal(&text.replace("Domain:         vm", "Domain:         web01"))
}

fn json_of(ran: &Ran) -> Value {
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    report["domains"][0].clone()
}

#[test]
fn a_guest_that_runs_has_each_word_as_the_page_shows_it() {
    let Some(guest) = prepared() else {
        return;
    };
    let text = guest.says_with(3, &["reconcile", "vm"]);
    let page = shown("$ momentlog reconcile web01");
    assert_eq!(said(&guest, &text), page);

    // JSON has the same words.
    let ran = guest.run(&["--format", "json", "reconcile"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 3));
    let found = json_of(&ran);
    let checkpoints = found["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.len(), 7);
    for checkpoint in checkpoints {
        let [disk] = &checkpoint["disks"].as_array().unwrap()[..] else {
            panic!("{checkpoint}");
        };
        assert_eq!(disk["state"], checkpoint["name"]);
        assert_eq!(disk["bitmap"], checkpoint["name"]);
        let last_ok = disk["last_ok"].as_str().unwrap();
        assert!(
            last_ok.starts_with("20") && last_ok.ends_with('Z'),
            "{last_ok}"
        );
    }
    for bitmap in found["unrecorded"].as_array().unwrap() {
        assert_eq!(bitmap["kind"], bitmap["bitmap"]);
    }
    let kinds: Vec<&Value> = found["unrecorded"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["kind"])
        .collect();
    assert_eq!(kinds, ["foreign", "orphan"]);

    // What was seen is recorded once, and the log says since when it is bad.
    let mut told = Vec::new();
    for entry in log(&guest) {
        for event in entry["events"].as_array().unwrap() {
            if event["type"] == "checkpoint_seen" {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let disk = &event["disks"][0];
                told.push([&event["moment"]["name"], &disk["disk"], &disk["state"]].map(text));
            }
        }
    }
    let told: Vec<String> = told.iter().map(|words| words.join(" ")).collect();
    assert_eq!(
        told,
        [
            "inconsistent vda inconsistent",
            "lost vda lost",
            "stopped vda stopped",
            "temporary vda temporary",
            "broken vdb broken",
            "disk-gone vdc disk-gone"
        ]
    );
    let words = guest.does(&["log", "vm"]);
    let words: Vec<&str> = words.split_whitespace().collect();
    let words = words.join(" ");
    assert!(
        words.contains("checkpoint lost seen: vda lost; "),
        "{words}"
    );
}

#[test]
fn a_repair_that_is_stopped_after_each_step_goes_on_where_it_was() {
    let Some(guest) = prepared() else {
        return;
    };
    let uri = format!("momentlog:{}?driver=qemu", guest.program.store().display());
    let mut before = None;
    for steps in 0.. {
        // Another process each time.
        let connection =
            Connection::open_driven(&uri, Options::default(), &[Arc::new(Qemu::default())])
                .unwrap();
        let domain = connection.lookup_domain_by_name("vm").unwrap();
        let found = domain.reconcile().unwrap();
        assert_eq!(found.jobs, []);
        if let Some(before) = before {
            assert_eq!(found.plan, before, "after {steps} steps");
        }
        let Some((step, rest)) = found.plan.split_first() else {
            assert_eq!(steps, 6);
            break;
        };
        domain.repair(step).unwrap();
        before = Some(rest.to_vec());
    }
    let ran = guest.run(&["--format", "json", "reconcile", "--repair"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 3));
    let found = json_of(&ran);
    let names: Vec<&Value> = found["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| &found["name"])
        .collect();
    assert_eq!(names, ["ok", "disk-gone"]);
    assert_eq!(found["unrecorded"][0]["kind"], "foreign");
    assert_eq!(
        (&found["unrecorded"][1], &found["repaired"]),
        (&Value::Null, &json!([]))
    );
}

#[test]
fn a_guest_that_is_off_has_the_other_words_as_the_page_shows_them() {
    let Some(mut guest) = Guest::of(&DISKS[..2]) else {
        return;
    };
    guest.does(&["attach", "vm", "qmp.sock"]);
    guest.does(&["checkpoint-create-as", "vm", "night-1"]);
    guest.quit();
    // What a job of this log would leave, had its removal been stored half.
    let temporary = format!("momentlog-{}-9", log_id(&guest));
    let image = guest.path("vda.qcow2");
    let added = Command::new("qemu-img")
        .args(["bitmap", "--add", &image, &temporary])
        .status();
    assert!(added.unwrap().success());
    let ran = guest.run(&["--format", "json", "reconcile"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 3));
    let text = ran
        .out
        .replace(&guest.path(""), "/var/lib/images/")
        .replace(&temporary, "momentlog-LOG-9");
    let mut found: Value = serde_json::from_str(&text).unwrap();
    let mut page: Value =
        serde_json::from_str(&shown("$ momentlog --format json reconcile web01 | jq")).unwrap();
    found["domains"][0]["domain"] = "web01".into();
    found["domains"][0]["uuid"] = page["domains"][0]["uuid"].clone();
    for report in [&mut found, &mut page] {
        for disk in report["domains"][0]["checkpoints"][0]["disks"]
            .as_array_mut()
            .unwrap()
        {
            assert!(disk["last_ok"].is_string());
            disk["last_ok"] = "TIME".into();
        }
    }
    assert_eq!(found, page);

    // Entering a guest that runs takes it away.
    guest.start();
    let ran = guest.run(&["--format", "json", "reconcile"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    assert_eq!(json_of(&ran)["unrecorded"], json!([]));

    // An image that another program uses cannot be looked at, and what is unknown is not recorded.
    let records = log(&guest).len();
    std::fs::rename(guest.path("qmp.sock"), guest.path("elsewhere.sock")).unwrap();
    let ran = guest.run(&["--format", "json", "reconcile"]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 1));
    let found = json_of(&ran);
    assert_eq!(found["running"], false);
    for disk in found["checkpoints"][0]["disks"].as_array().unwrap() {
        assert_eq!(
            (&disk["state"], disk["last_ok"].is_string()),
            (&json!("unknown"), true)
        );
    }
    // That it is off is all that is news.
    assert_eq!(log(&guest).len(), records + 1);
}

/// The id of the store's log, which the first frame names.
fn log_id(guest: &Guest) -> String {
    let store = std::fs::read_dir(guest.program.store()).unwrap();
    let mut segments: Vec<PathBuf> = store.map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.sort();
    let bytes = std::fs::read(&segments[0]).unwrap();
    let id: [u8; 16] = bytes[16..32].try_into().unwrap();
    momentlog::store::LogId(id).to_string()
}

/// The records about the domain.
fn log(guest: &Guest) -> Vec<Value> {
    let printed = guest.does(&["--format", "json", "log", "vm"]);
    let lines = printed.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}
