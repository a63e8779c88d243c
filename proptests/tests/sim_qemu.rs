//! The simulated hypervisor as a test of a driver uses it: monitors, faults, jobs that run, and what a kill costs.

use std::path::Path;
use std::time::Duration;

use momentlog_proptests::sim_qemu::{
    CLUSTER_LEN, Content, QemuFault, Side, SimGuest, SimGuestDisk, SimHost, SimImage, Tops,
};
use momentlog_qemu::{AskError, EnterError, Hypervisor as _, Monitor, Request};
use serde_json::{Value, json};

const SOCKET: &str = "/run/vm.sock";
const QDEV: &str = "/machine/peripheral/disk0/virtio-backend";
const SIZE: u64 = 16 * CLUSTER_LEN;

/// A host with one guest, which has one disk with one image.
fn host() -> SimHost {
    let host = SimHost::new();
    host.put_image("/a.qcow2", SimImage::qcow2(SIZE));
    host.start(
        SOCKET,
        SimGuest {
            disks: vec![SimGuestDisk::new(QDEV, "vda", "/a.qcow2")],
            ..SimGuest::default()
        },
    )
    .expect("the image can be opened");
    host
}

fn enter(host: &SimHost) -> Box<dyn Monitor> {
    host.enter(Path::new(SOCKET), Duration::ZERO)
        .expect("the guest runs and its monitor is free")
}

fn ask(monitor: &mut Box<dyn Monitor>, execute: &'static str, arguments: Value) -> Value {
    monitor
        .ask(&Request::new(execute, arguments))
        .unwrap_or_else(|error| panic!("{execute}: {error}"))
}

fn add(names: &[&str]) -> Value {
    let actions = names.iter().map(|name| {
        json!({"type": "block-dirty-bitmap-add", "data": {"node": "vda", "name": name, "persistent": true}})
    });
    json!({"actions": actions.collect::<Vec<_>>()})
}

fn remove(names: &[&str]) -> Value {
    let actions = names.iter().map(
        |name| json!({"type": "block-dirty-bitmap-remove", "data": {"node": "vda", "name": name}}),
    );
    json!({"actions": actions.collect::<Vec<_>>()})
}

/// The named bitmaps in memory.
fn bitmaps(monitor: &mut Box<dyn Monitor>) -> Vec<String> {
    let nodes = ask(monitor, "query-named-block-nodes", json!({"flat": true}));
    let nodes = nodes.as_array().into_iter().flatten();
    let listed = nodes.filter(|node| node["node-name"] == "vda");
    listed
        .filter_map(|node| node["dirty-bitmaps"].as_array())
        .flatten()
        .filter_map(|bitmap| Some(bitmap["name"].as_str()?.to_owned()))
        .collect()
}

fn stored(host: &SimHost) -> Vec<(String, bool)> {
    let image = host.image("/a.qcow2").expect("the image is there");
    let mut stored: Vec<_> = image
        .bitmaps
        .into_iter()
        .map(|bitmap| (bitmap.name, bitmap.in_use))
        .collect();
    stored.sort();
    stored
}

/// Adds the nodes `target` and `target-file` for a new image, which is made by a job.
fn add_target(host: &SimHost, monitor: &mut Box<dyn Monitor>) {
    host.put_image("/t.qcow2", SimImage::raw(0));
    let file = json!({"driver": "file", "filename": "/t.qcow2", "node-name": "target-file"});
    ask(monitor, "blockdev-add", file);
    let options = json!({"driver": "qcow2", "file": "target-file", "size": SIZE});
    ask(
        monitor,
        "blockdev-create",
        json!({"job-id": "create", "options": options}),
    );
    host.end_jobs(SOCKET);
    ask(monitor, "job-dismiss", json!({"id": "create"}));
    let image = json!({"driver": "qcow2", "file": "target-file", "node-name": "target"});
    ask(monitor, "blockdev-add", image);
}

fn begin_backup(monitor: &mut Box<dyn Monitor>, sync: &str) {
    ask(
        monitor,
        "blockdev-backup",
        json!({"device": "vda", "target": "target", "job-id": "job", "sync": sync, "auto-dismiss": false}),
    );
}

#[test]
fn one_client_at_a_time_has_the_monitor() {
    let host = host();
    let first = enter(&host);
    assert!(matches!(
        host.enter(Path::new(SOCKET), Duration::ZERO),
        Err(EnterError::Held { .. })
    ));
    let waiting = std::thread::spawn({
        let host = host.clone();
        move || {
            host.enter(Path::new(SOCKET), Duration::from_mins(1))
                .is_ok()
        }
    });
    drop(first);
    assert!(waiting.join().unwrap());
}

#[test]
fn a_socket_tells_how_its_guest_ended_and_each_start_is_another_run() {
    let host = host();
    let first = enter(&host).run();
    assert!(first.is_some());
    host.kill(SOCKET);
    assert!(!host.runs(SOCKET));
    let killed = host.enter(Path::new(SOCKET), Duration::ZERO);
    assert!(matches!(killed, Err(EnterError::Dead { .. })));
    host.restart(SOCKET, Tops::Same).unwrap();
    assert_ne!(enter(&host).run(), first);
    host.stop(SOCKET);
    let stopped = host.enter(Path::new(SOCKET), Duration::ZERO);
    assert!(matches!(stopped, Err(EnterError::Missing { .. })));
    let never = host.enter(Path::new("/run/other.sock"), Duration::ZERO);
    assert!(matches!(never, Err(EnterError::Missing { .. })));
}

#[test]
fn a_monitor_of_a_run_that_is_over_does_not_free_that_of_the_next() {
    let host = host();
    let mut old = enter(&host);
    host.kill(SOCKET);
    host.restart(SOCKET, Tops::Same).unwrap();
    let _held = enter(&host);
    assert!(matches!(
        old.ask(&Request::bare("query-status")),
        Err(AskError::Closed { .. })
    ));
    drop(old);
    assert!(matches!(
        host.enter(Path::new(SOCKET), Duration::ZERO),
        Err(EnterError::Held { .. })
    ));
}

#[test]
fn a_fault_comes_before_or_after_the_request_is_done() {
    let cases = [
        (QemuFault::Closed(Side::Before), false),
        (QemuFault::Closed(Side::After), true),
        (QemuFault::Silent(Side::Before), false),
        (QemuFault::Silent(Side::After), true),
        (QemuFault::Gone(Side::Before), false),
        (QemuFault::Gone(Side::After), true),
    ];
    for (fault, done) in cases {
        let host = host();
        let mut monitor = enter(&host);
        ask(&mut monitor, "query-status", Value::Null);
        assert_eq!(host.requests(), 1);
        host.fault_at(2, fault);
        let answer = monitor.ask(&Request::new("transaction", add(&["c1"])));
        match (fault, &answer) {
            (QemuFault::Silent(_), Err(AskError::Silent { .. })) => {}
            (QemuFault::Closed(_) | QemuFault::Gone(_), Err(AskError::Closed { .. })) => {}
            _ => panic!("{fault:?}: {answer:?}"),
        }
        assert!(monitor.ask(&Request::bare("query-status")).is_err());
        drop(monitor);
        let now = host.enter(Path::new(SOCKET), Duration::ZERO);
        match fault {
            QemuFault::Silent(_) => {
                assert!(matches!(now, Err(EnterError::Held { .. })));
                host.thaw(SOCKET);
            }
            QemuFault::Gone(_) => {
                assert!(matches!(now, Err(EnterError::Io { .. })));
                host.come_back();
            }
            _ => drop(now.expect("whoever closed the connection leaves the monitor")),
        }
        let mut monitor = enter(&host);
        assert_eq!(bitmaps(&mut monitor).len(), usize::from(done), "{fault:?}");
    }
}

#[test]
fn a_refused_request_does_nothing_and_the_monitor_goes_on() {
    let host = host();
    let mut monitor = enter(&host);
    host.fault_at(1, QemuFault::Refused);
    let answer = monitor.ask(&Request::new("transaction", add(&["c1"])));
    assert!(matches!(answer, Err(AskError::Refused { .. })));
    assert!(bitmaps(&mut monitor).is_empty());
}

#[test]
fn a_kill_takes_new_bitmaps_and_leaves_stored_ones_inconsistent() {
    let host = host();
    ask(&mut enter(&host), "transaction", add(&["c1"]));
    assert_eq!(stored(&host), []);
    host.restart(SOCKET, Tops::Same).unwrap();
    assert_eq!(stored(&host), [("c1".to_owned(), true)]);
    let mut monitor = enter(&host);
    host.fault_at(host.requests() + 1, QemuFault::Killed(Side::After));
    let answer = monitor.ask(&Request::new("transaction", add(&["c2"])));
    assert!(matches!(answer, Err(AskError::Closed { .. })));
    host.restart(SOCKET, Tops::Same).unwrap();
    let nodes = ask(
        &mut enter(&host),
        "query-named-block-nodes",
        json!({"flat": true}),
    );
    let bitmap = &nodes[0]["dirty-bitmaps"];
    assert_eq!(bitmap[0]["name"], "c1");
    assert_eq!(bitmap[0]["inconsistent"], true);
    assert_eq!(bitmap.as_array().unwrap().len(), 1);
}

#[test]
fn a_kill_within_a_removal_leaves_some_of_the_stored_bitmaps() {
    let names = ["c1", "c2", "c3", "c4"];
    for removed in 0..=names.len() {
        let host = host();
        ask(&mut enter(&host), "transaction", add(&names));
        host.restart(SOCKET, Tops::Same).unwrap();
        host.fault_at(host.requests() + 1, QemuFault::KilledWithin(removed));
        let answer = enter(&host).ask(&Request::new("transaction", remove(&names)));
        assert!(matches!(answer, Err(AskError::Closed { .. })));
        assert_eq!(stored(&host).len(), names.len() - removed);
    }
}

#[test]
fn enabling_a_missing_bitmap_in_a_transaction_kills_the_hypervisor() {
    let host = host();
    let enable = json!({"node": "vda", "name": "c1"});
    let mut monitor = enter(&host);
    let alone = monitor.ask(&Request::new("block-dirty-bitmap-enable", enable.clone()));
    assert!(matches!(alone, Err(AskError::Refused { .. })));
    let action = json!({"actions": [{"type": "block-dirty-bitmap-enable", "data": enable}]});
    let answer = monitor.ask(&Request::new("transaction", action));
    assert!(matches!(answer, Err(AskError::Closed { .. })));
    assert!(!host.runs(SOCKET));
}

#[test]
fn a_running_job_is_seen_and_a_concluded_backup_is_on_the_disk_when_its_node_is_closed() {
    for closed in [false, true] {
        let host = host();
        host.write(SOCKET, QDEV, 5, 0, 8 * CLUSTER_LEN).unwrap();
        let before = host.read(SOCKET, QDEV).unwrap();
        let mut monitor = enter(&host);
        add_target(&host, &mut monitor);
        host.set_job_requests(3);
        begin_backup(&mut monitor, "full");
        let mut seen = Vec::new();
        for _ in 0..3 {
            let jobs = ask(&mut monitor, "query-jobs", Value::Null);
            seen.push(jobs[0]["status"].clone());
            // The guest goes on, and the backup is of what was there when it began.
            host.write(SOCKET, QDEV, 6, 0, 8 * CLUSTER_LEN).unwrap();
        }
        assert_eq!(seen, ["running", "running", "concluded"]);
        if closed {
            ask(&mut monitor, "blockdev-del", json!({"node-name": "target"}));
        }
        host.kill(SOCKET);
        let copied = host.read_disk("/t.qcow2");
        assert_eq!(copied, if closed { before } else { Content::new() });
    }
}

#[test]
fn a_job_that_is_told_to_fails_with_its_error() {
    let host = host();
    let mut monitor = enter(&host);
    add_target(&host, &mut monitor);
    host.set_job_error(Some("No space left on device"));
    begin_backup(&mut monitor, "full");
    let jobs = ask(&mut monitor, "query-jobs", Value::Null);
    assert_eq!(jobs[0]["error"], "No space left on device");
    assert_eq!(jobs[0]["status"], "concluded");
}

#[test]
fn a_pull_backup_shows_the_disk_as_it_was_until_it_is_cancelled() {
    let host = host();
    host.write(SOCKET, QDEV, 5, 0, CLUSTER_LEN).unwrap();
    let before = host.read(SOCKET, QDEV).unwrap();
    let mut monitor = enter(&host);
    host.put_image("/t.qcow2", SimImage::qcow2(SIZE).over("/a.qcow2"));
    let file = json!({"driver": "file", "filename": "/t.qcow2"});
    let target = json!({"driver": "qcow2", "file": file, "node-name": "target", "backing": "vda"});
    ask(&mut monitor, "blockdev-add", target);
    begin_backup(&mut monitor, "none");
    let inserted = ask(&mut monitor, "query-block", Value::Null)[0]["inserted"].clone();
    assert_eq!(inserted["drv"], "copy-before-write");
    assert_eq!(inserted["file"], "/a.qcow2");
    let address = json!({"addr": {"type": "unix", "data": {"path": "/run/nbd.sock"}}});
    ask(&mut monitor, "nbd-server-start", address);
    let mut export = json!({"type": "nbd", "id": "e1", "name": "vda", "node-name": "target"});
    ask(&mut monitor, "block-export-add", export.clone());
    export["id"] = json!("e2");
    let twice = monitor.ask(&Request::new("block-export-add", export));
    let Err(AskError::Refused { desc, .. }) = twice else {
        panic!("{twice:?}");
    };
    assert_eq!(desc, "NBD server already has export named 'vda'");
    let write = format!("qemu-io -d {QDEV} \"write -P 6 0 128k\"");
    let said = ask(
        &mut monitor,
        "human-monitor-command",
        json!({"command-line": write}),
    );
    assert_eq!(said, "");
    assert_eq!(host.read_export(SOCKET, "vda").unwrap().content, before);
    assert_ne!(host.read(SOCKET, QDEV).unwrap(), before);
    ask(
        &mut monitor,
        "block-job-cancel",
        json!({"device": "job", "force": true}),
    );
    let jobs = ask(&mut monitor, "query-jobs", Value::Null);
    assert_eq!(jobs[0]["error"], "Operation canceled");
    let inserted = ask(&mut monitor, "query-block", Value::Null)[0]["inserted"].clone();
    assert_eq!(inserted["node-name"], "vda");
}

#[test]
fn a_guest_starts_again_with_its_first_image_or_with_the_newest_overlay() {
    for tops in [Tops::Same, Tops::Newest] {
        let host = host();
        host.write(SOCKET, QDEV, 5, 0, CLUSTER_LEN).unwrap();
        host.put_image("/b.qcow2", SimImage::qcow2(SIZE).over("/a.qcow2"));
        let file = json!({"driver": "file", "filename": "/b.qcow2"});
        let overlay =
            json!({"driver": "qcow2", "file": file, "node-name": "over", "backing": null});
        let mut monitor = enter(&host);
        ask(&mut monitor, "blockdev-add", overlay);
        let both = json!({"node": "vda", "overlay": "over"});
        ask(&mut monitor, "blockdev-snapshot", both);
        host.write(SOCKET, QDEV, 6, CLUSTER_LEN, CLUSTER_LEN)
            .unwrap();
        host.restart(SOCKET, tops).unwrap();
        let expected = match tops {
            Tops::Same => 1,
            Tops::Newest => 2,
        };
        assert_eq!(host.read(SOCKET, QDEV).unwrap().len(), expected);
        assert_eq!(host.read_disk("/b.qcow2").len(), 2);
    }
}

#[test]
fn two_guests_cannot_write_one_image() {
    let host = host();
    let disks = vec![SimGuestDisk::new("vdb", "vdb", "/a.qcow2")];
    let refused = host.start(
        "/run/other.sock",
        SimGuest {
            disks,
            ..SimGuest::default()
        },
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Failed to get \"write\" lock"
    );
    assert!(host.is_open("/a.qcow2"));
}

#[test]
fn a_refused_reopening_of_a_disk_in_use_stops_the_guests_writes_until_it_is_reopened() {
    let host = host();
    let mut monitor = enter(&host);
    ask(&mut monitor, "transaction", add(&["c1"]));
    let reopen = |read_only: bool| {
        let options = json!({
            "driver": "qcow2", "node-name": "vda", "file": "vda-file", "read-only": read_only,
        });
        json!({"options": [options]})
    };
    let answer = monitor.ask(&Request::new("blockdev-reopen", reopen(true)));
    assert!(matches!(answer, Err(AskError::Refused { .. })));
    assert_eq!(stored(&host), [("c1".to_owned(), false)]);
    assert!(host.write(SOCKET, QDEV, 5, 0, CLUSTER_LEN).is_err());
    ask(&mut monitor, "blockdev-reopen", reopen(false));
    assert_eq!(stored(&host), [("c1".to_owned(), true)]);
    assert!(host.write(SOCKET, QDEV, 5, 0, CLUSTER_LEN).is_ok());
}
