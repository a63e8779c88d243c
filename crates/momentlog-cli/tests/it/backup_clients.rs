//! Clients of libvirt that make backups: at `serve` over a store with the qemu driver, with a real storage daemon, and at
//! `proxy` before a libvirtd that runs a real QEMU.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::hypervisor::{Guest, is_there};
use super::libvirt::Managed;
use super::serve::{PYTHON, clients_are_there, serve};
use super::*;

const STORE: &str = "momentlog:store?driver=qemu";

/// The URI by which clients connect to the server of a guest.
fn uri(guest: &Guest) -> String {
    format!("qemu:///system?socket={}", guest.path("sock"))
}

/// Writes to the first disk, as the guest would. The daemon has one server of disks at a time, and a backup needs it.
fn write(guest: &Guest, command: &str) {
    let server = guest.path("write.sock");
    let address = json!({ "type": "unix", "data": { "path": server } });
    guest.ask(&json!({ "execute": "nbd-server-start", "arguments": { "addr": address } }));
    let export = json!({ "type": "nbd", "id": "write", "node-name": "vda", "name": "vda", "writable": true });
    guest.ask(&json!({ "execute": "block-export-add", "arguments": export }));
    guest.write(command);
    guest.ask(&json!({ "execute": "nbd-server-stop" }));
}

/// Two images have the same content.
#[track_caller]
fn are_identical(one: &Path, other: &Path) {
    let mut compare = Command::new("qemu-img");
    let compared = ran(compare
        .args(["compare", "-U"])
        .args([one, other])
        .output()
        .unwrap());
    assert_eq!(compared.out, "Images are identical.\n", "{}", compared.err);
}

/// virtnbdbackup takes no URI whose scheme is not that of libvirt's qemu driver.
#[test]
fn virtnbdbackup_makes_backups_through_the_socket_and_restores_them() {
    if !clients_are_there() || !is_there(&["virtnbdbackup", "virtnbdrestore"]) {
        return;
    }
    let Some(guest) = Guest::attached() else {
        return;
    };
    let _server = serve(&guest.program, STORE);
    let backup = |level: &str, bytes: u64| {
        let mut command = Command::new("virtnbdbackup");
        command.args(["-U", &uri(&guest), "-d", "vm", "-l", level]);
        let ran = ran(command
            .args(["-o", &guest.path("backup")])
            .output()
            .unwrap());
        assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
        let copied = format!("[vda]: {bytes} bytes of data extents to backup");
        assert!(ran.err.contains(&copied), "{}", ran.err);
    };
    write(&guest, "write -P 7 0 256k");
    backup("full", 256 << 10);
    write(&guest, "write -P 9 128k 64k");
    backup("inc", 64 << 10);
    write(&guest, "write -P 5 512k 128k");
    write(&guest, "write -P 4 0 64k");
    backup("inc", 192 << 10);

    let mut command = Command::new("virtnbdrestore");
    command.args(["-U", &uri(&guest), "-i", &guest.path("backup")]);
    let restored = ran(command
        .args(["-o", &guest.path("restored")])
        .output()
        .unwrap());
    assert_eq!(restored.status, 0, "{}", restored.err);
    for disk in ["vda", "vdb"] {
        let [one, other] = ["", "restored/"].map(|dir| guest.path(&format!("{dir}{disk}.qcow2")));
        are_identical(Path::new(&one), Path::new(&other));
    }
    let checkpoints = guest.does(&["checkpoint-list", "vm", "--name"]);
    let names = ["virtnbdbackup.0", "virtnbdbackup.1", "virtnbdbackup.2", ""];
    assert_eq!(checkpoints.trim_end(), names.join("\n").trim_end());
    // No job is open, and nothing is left in the hypervisor.
    guest.does(&["reconcile", "vm"]);
}

#[test]
fn what_virtnbdbackup_does_through_a_proxy_to_libvirtd_is_recorded_and_restores() {
    if !clients_are_there() || !is_there(&["virtnbdbackup", "virtnbdrestore"]) {
        return;
    }
    let Some(managed) = Managed::new() else {
        return;
    };
    let dir = managed.program.dir.path();
    fs::remove_dir_all(dir.join("store")).unwrap();
    let _proxy = super::recording::record(dir, "qemu:///session", &[]);
    let through = super::proxy::uri("qemu:///session", dir, "proxy");
    // As the guest would, and not by the proxy.
    let write = |command: &str| {
        let device = "/machine/peripheral/virtio-disk0/virtio-backend";
        let command = format!("qemu-io -d {device} \"{command}\"");
        managed.virsh_does(&["qemu-monitor-command", "vm", "--hmp", &command]);
    };
    let does = |program: &str, words: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-U", &through]).args(words).current_dir(dir);
        let ran = ran(command.output().unwrap());
        assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    };
    for (level, pattern) in [("full", 1), ("inc", 2), ("inc", 3), ("inc", 4)] {
        write(&format!("write -P {pattern} {}k 128k", 64 * pattern));
        does("virtnbdbackup", &["-d", "vm", "-l", level, "-o", "backup"]);
    }
    does("virtnbdrestore", &["-i", "backup", "-o", "restored"]);
    let mut command = Command::new("virsh");
    command.args([
        "-q",
        "-c",
        &through,
        "checkpoint-delete",
        "vm",
        "virtnbdbackup.1",
    ]);
    let deleted = ran(command.output().unwrap());
    assert_eq!((deleted.err.as_str(), deleted.status), ("", 0));
    managed.virsh_does(&["destroy", "vm"]);
    for disk in ["vda.qcow2", "vdb.qcow2"] {
        are_identical(&dir.join(disk), &dir.join("restored").join(disk));
    }

    let logged = managed
        .program
        .run(&["-q", "checkpoint-list", "vm", "--tree"]);
    let listed = managed.virsh_does(&["checkpoint-list", "vm", "--tree"]);
    assert_eq!(logged.out.trim(), listed.trim());
    let log = managed.program.run(&["log", "--format", "json"]);
    let entries = log.out.lines();
    let entries: Vec<Value> = entries
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let with = |kind: &str| {
        let has = |entry: &&Value| {
            let events = entry["events"].as_array().unwrap();
            events.iter().any(|event| event["type"] == kind)
        };
        let found: Vec<&Value> = entries.iter().filter(has).collect();
        for entry in &found {
            assert_ne!(entry["actor"], "outside");
        }
        let said = |entry: &&Value| {
            let agent = entry["agent"].as_str().unwrap();
            let program = agent
                .split(' ')
                .find(|word| word.starts_with("virt") || *word == "virsh");
            (
                entry["call"].as_str().unwrap().to_owned(),
                program.unwrap().to_owned(),
            )
        };
        (found.iter().map(said).collect::<Vec<_>>(), found)
    };
    let of = |call: &str, program: &str| (call.to_owned(), program.to_owned());
    let (made, _) = with("checkpoint_created");
    assert_eq!(made, vec![of("virDomainBackupBegin", "virtnbdbackup"); 4]);
    let (gone, records) = with("checkpoint_deleted");
    assert_eq!(gone, [of("virDomainCheckpointDelete", "virsh")]);
    let why = managed.program.run(&["why", "vm", "virtnbdbackup.1"]);
    let deleted = format!("deleted in {}", records[0]["seq"]);
    assert!(why.out.contains(&deleted), "{}", why.out);
    let by = records[0]["actor"].as_str().unwrap();
    assert!(why.out.contains(by), "{}", why.out);
}

/// Each line as libvirt 9.0.0 gives it of a guest of its qemu driver, with one disk in a pull backup.
#[test]
fn what_runs_is_told_as_libvirts_qemu_driver_tells_it() {
    if !clients_are_there() {
        return;
    }
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    let _server = serve(&guest.program, STORE);
    guest.program.write("ask.py", ASK);
    let ask = |guest: &Guest, words: &[&str]| {
        let mut command = Command::new(PYTHON);
        command
            .arg(guest.path("ask.py"))
            .arg(uri(guest))
            .args(words);
        let ran = ran(command.output().unwrap());
        assert_eq!(ran.err, "");
        ran.out
    };
    let backup = format!(
        "<domainbackup mode='pull'><server transport='unix' socket='{}'/><disks><disk name='vda'>\
         <scratch file='{}'/></disk><disk name='vdb' backup='no'/></disks></domainbackup>",
        guest.path("nbd"),
        guest.path("scratch")
    );
    let idle = "info [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\nstats {'type': 0}\nvda {}\nvdb {}\n";
    let source = guest.path("vda.qcow2");
    assert_eq!(
        ask(&guest, &[&source, ""]),
        format!("{idle}{source} {{}}\n{ALWAYS}")
    );
    let running = "info [2, T, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n\
         stats {'operation': 9, 'time_elapsed': T, 'disk_temp_used': 0, 'disk_temp_total': 1048576, 'type': 2}\n\
         vda {'type': 5, 'bandwidth': 0, 'cur': 0, 'end': 1048576}\nvdb {}\n";
    let source_runs = format!("{source} {{'type': 5, 'bandwidth': 0, 'cur': 0, 'end': 1048576}}\n");
    assert_eq!(
        ask(&guest, &[&source, &backup]),
        format!("{running}{source_runs}{ALWAYS}{ENDED}")
    );
    guest.quit();
    // The store learns of it by the next look.
    guest.run(&["reconcile", "vm"]);
    let off = "55 20 Requested operation is not valid: domain is not running\n";
    let off = ["info", "stats", "vda", "vdb", &source]
        .map(|of| format!("{of} {off}"))
        .concat();
    let always = ALWAYS.replace("8 10 invalid argument: disk 'vdz' not found in domain", OFF);
    let always = always.replace(
        "74 10 argument unsupported: QEMU guest agent is not configured",
        OFF,
    );
    assert_eq!(ask(&guest, &[&source, ""]), format!("{off}{always}"));
}

const OFF: &str = "55 20 Requested operation is not valid: domain is not running";

/// What is answered of every guest that is on.
const ALWAYS: &str = "\
vdz 8 10 invalid argument: disk 'vdz' not found in domain
block flags 8 10 unsupported flags (0x2) in function qemuDomainGetBlockJobInfo
stats flags 8 10 unsupported flags (0x8) in function qemuDomainGetJobStats
stats keep 8 20 Flag 'VIR_DOMAIN_JOB_STATS_COMPLETED' is required by flag 'VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED'
freeze 74 10 argument unsupported: QEMU guest agent is not configured
thaw 74 10 argument unsupported: QEMU guest agent is not configured
freeze flags 8 10 unsupported flags (0x1) in function qemuDomainFSFreeze
thaw flags 8 10 unsupported flags (0x1) in function qemuDomainFSThaw
";

/// What libvirt answers of the pull backup once it was ended.
const ENDED: &str = "\
ended {'operation': 9, 'time_elapsed': T, 'disk_temp_used': 0, 'disk_temp_total': 1048576, 'success': True, \
'errmsg': 'Operation canceled', 'type': 3}
";

/// Asks about the job of a domain; begins a backup before that and ends it after, if it is given one.
const ASK: &str = r#"
import re, sys
import libvirt

libvirt.registerErrorHandler(lambda context, error: None, None)
uri, source, backup = sys.argv[1:]
domain = libvirt.open(uri).lookupByName("vm")

def ask(name, call):
    try:
        told = str(call())
    except libvirt.libvirtError as error:
        told = f"{error.get_error_code()} {error.get_error_domain()} {error.get_error_message()}"
    told = re.sub(r"'time_elapsed': \d+", "'time_elapsed': T", told)
    print(name, re.sub(r"^\[2, \d+", "[2, T", told))

if backup:
    domain.backupBegin(backup, None)
ask("info", domain.jobInfo)
ask("stats", domain.jobStats)
for disk in ("vda", "vdb", source, "vdz"):
    ask(disk, lambda: domain.blockJobInfo(disk))
ask("block flags", lambda: domain.blockJobInfo("vda", 2))
ask("stats flags", lambda: domain.jobStats(8))
ask("stats keep", lambda: domain.jobStats(2))
ask("freeze", lambda: domain.fsFreeze())
ask("thaw", lambda: domain.fsThaw(["/a", "/b"]))
ask("freeze flags", lambda: domain.fsFreeze(None, 1))
ask("thaw flags", lambda: domain.fsThaw(None, 1))
if backup:
    domain.abortJob()
    ask("ended", lambda: domain.jobStats(1))
"#;
