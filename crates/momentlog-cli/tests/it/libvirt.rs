//! `reconcile --libvirt` with a private libvirtd, which runs a real QEMU.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use super::words::{normal, shown};
use super::*;

/// What is needed.
const PROGRAMS: [&str; 4] = ["libvirtd", "virsh", "qemu-img", "qemu-system-x86_64"];

/// The domain, to both.
const UUID: &str = "aaaaaaaa-0000-4000-8000-000000000001";

/// A user who is not root: libvirtd runs for one user then, and keeps all that it has in that user's directories.
pub(super) const SOMEBODY: u32 = 65534;

/// Between two looks at what must come.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether tests that need libvirt can be run.
fn libvirt_is_there() -> bool {
    if !super::hypervisor::is_there(&PROGRAMS) {
        return false;
    }
    // The driver is a package of its own.
    let driver = "libvirt/connection-driver/libvirt_driver_qemu.so";
    let places = ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu"];
    let mut places = places.iter().map(|place| Path::new(place).join(driver));
    let has_driver = places.any(|place| place.exists());
    if !has_driver {
        left_out(
            "MOMENTLOG_NEED_QEMU",
            "libvirt's driver of QEMU is not installed",
        );
    }
    has_driver
}

/// A libvirtd with a domain of two disks, which is killed with the test, and the program.
pub(super) struct Managed {
    pub(super) program: Program,
    daemon: Child,
    pub(super) uri: String,
}

impl Managed {
    /// Makes the disks, starts the daemon, and defines the domain in both. `None` where libvirt is not installed.
    pub(super) fn new() -> Option<Managed> {
        if !libvirt_is_there() {
            return None;
        }
        let program = Program::new();
        let dir = program.dir.path().to_owned();
        let mut disks = String::new();
        for disk in ["vda", "vdb"] {
            let image = dir.join(format!("{disk}.qcow2"));
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&image)
                .arg("1M")
                .status();
            assert!(made.unwrap().success());
            disks += &format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
                 <target dev='{disk}' bus='virtio'/></disk>",
                image.display()
            );
        }
        program.write(
            "vm.xml",
            &format!(
                "<domain type='qemu'><name>vm</name><uuid>{UUID}</uuid><memory unit='KiB'>65536</memory>\
                 <os><type arch='x86_64' machine='q35'>hvm</type></os>\
                 <devices>{disks}<memballoon model='none'/></devices></domain>"
            ),
        );
        let managed = Managed {
            uri: format!(
                "qemu+unix:///session?socket={}/run/libvirt/libvirt-sock",
                dir.display()
            ),
            daemon: start_daemon(&dir, &["vda.qcow2", "vdb.qcow2"]),
            program,
        };
        wait_for(&dir, "a connection", || managed.virsh(&["uri"]).status == 0);
        managed.virsh_does(&["define", "vm.xml"]);
        managed.virsh_does(&["start", "vm"]);
        managed.does(&["define", "vm.xml"]);
        Some(managed)
    }

    /// Kills the daemon, and starts another one in its place, which takes over what it had.
    pub(super) fn restart_daemon(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let dir = self.program.dir.path();
        self.daemon = start_daemon(dir, &[]);
        wait_for(dir, "a connection", || self.virsh(&["uri"]).status == 0);
    }

    pub(super) fn virsh(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("virsh");
        command.args(["-q", "-c", &self.uri]).args(words);
        command.current_dir(self.program.dir.path());
        ran(command.stdin(Stdio::null()).output().unwrap())
    }

    #[track_caller]
    pub(super) fn virsh_does(&self, words: &[&str]) -> String {
        let ran = self.virsh(words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-q", "-c", "momentlog:store?driver=qemu"])
            .args(words)
            .current_dir(self.program.dir.path());
        ran(command.stdin(Stdio::null()).output().unwrap())
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    }

    /// What `reconcile` says in JSON of the domain, with its exit status.
    #[track_caller]
    fn reconcile(&self) -> (Value, i32) {
        let ran = self.run(&["--format", "json", "reconcile", "--libvirt", &self.uri]);
        assert_eq!(ran.err, "");
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(report["domains"].as_array().unwrap().len(), 1);
        (report["domains"][0].clone(), ran.status)
    }

    /// As people read it.
    fn reconcile_text(&self) -> Ran {
        let mut ran = self.run(&["reconcile", "vm", "--libvirt", &self.uri]);
        ran.out = ran.out.replace(&self.uri, "URI");
        ran
    }

    /// Has a shell do what was printed for it.
    fn carry_out(&self, said: &str) -> Ran {
        let script = &said[said.find("virsh ").unwrap()..];
        self.program
            .write("script", &script.replace("URI", &self.uri));
        let mut shell = Command::new("sh");
        shell.args(["-e", "script"]);
        shell.current_dir(self.program.dir.path());
        ran(shell.stdin(Stdio::null()).output().unwrap())
    }

    /// Makes a checkpoint in libvirt, and records it.
    fn checkpoint(&self, name: &str) {
        let name = format!("--name={name}");
        self.virsh_does(&["checkpoint-create-as", "vm", &name]);
        let name = name.replace("--name", "--checkpointname");
        let xml = self.virsh_does(&["checkpoint-dumpxml", "vm", "--no-domain", &name]);
        self.program.write("recorded.xml", &xml);
        self.does(&["checkpoint-create", "vm", "recorded.xml", "--redefine"]);
    }

    /// Kills QEMU, and waits until libvirt has taken note of it.
    fn kill_qemu(&self) {
        let pid = self.program.dir.path().join("run/libvirt/qemu/run/vm.pid");
        let pid = fs::read_to_string(pid).unwrap();
        assert!(kill(pid.trim()));
        let is_off = || self.virsh(&["domstate", "vm"]).out.starts_with("shut off");
        wait_for(self.program.dir.path(), "the end of QEMU", is_off);
    }
}

/// Waits for what a libvirtd with its directories in `dir` is to come to.
pub(super) fn wait_for(dir: &Path, what: &str, mut is_there: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_there() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    let log = fs::read_to_string(dir.join("libvirtd.log"));
    panic!("{what} does not come: {}", log.unwrap());
}

/// Starts a libvirtd that keeps all that it has in this directory, with these files of it, under a user who is not root.
pub(super) fn start_daemon(dir: &Path, files: &[&str]) -> Child {
    let log = fs::File::create(dir.join("libvirtd.log")).unwrap();
    fs::create_dir_all(dir.join("run")).unwrap();
    // Not of the directory: that is the other user's from the first start on.
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(if is_root { "setpriv" } else { "libvirtd" });
    if is_root {
        for path in ["", "run"].iter().chain(files) {
            chown(dir.join(path), Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        }
        command
            .arg(format!("--reuid={SOMEBODY}"))
            .arg(format!("--regid={SOMEBODY}"))
            .args(["--clear-groups", "libvirtd"]);
    }
    command
        .env("HOME", dir)
        .env("XDG_RUNTIME_DIR", dir.join("run"))
        .env("XDG_CONFIG_HOME", dir.join("config"))
        .env("XDG_CACHE_HOME", dir.join("cache"))
        .env("XDG_DATA_HOME", dir.join("data"));
    let command = command.current_dir(dir).stdin(Stdio::null());
    command.stdout(log.try_clone().unwrap());
    command.stderr(log).spawn().unwrap()
}

fn kill(pid: &str) -> bool {
    let killed = Command::new("kill").args(["-9", pid]).status();
    killed.unwrap().success()
}

impl Drop for Managed {
    fn drop(&mut self) {
        let pid = self.program.dir.path().join("run/libvirt/qemu/run/vm.pid");
        if let Ok(pid) = fs::read_to_string(pid) {
            kill(pid.trim());
        }
        // It may have ended already.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// What of each checkpoint `reconcile` says.
#[track_caller]
fn listed(domain: &Value) -> Vec<String> {
    let checkpoints = domain["libvirt"]["checkpoints"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = checkpoints.iter().map(|checkpoint| {
        let valid = checkpoint["disks"].as_array().unwrap().iter();
        let valid: Vec<String> = valid.map(|disk| disk["valid"].to_string()).collect();
        let (name, state) = (text(&checkpoint["name"]), text(&checkpoint["state"]));
        format!("{name}: {state}, {}", valid.join(" "))
    });
    told.collect()
}

#[test]
fn what_libvirt_lists_is_compared_and_what_it_lost_can_be_given_back() {
    let Some(managed) = Managed::new() else {
        return;
    };
    // What libvirt takes for current after a redefinition may be another than in the log.
    managed.does(&["policy", "vm", "chain=off"]);
    managed.checkpoint("c1");
    managed.checkpoint("--metadata");
    managed.checkpoint("c3");
    assert_eq!(
        managed.reconcile_text(),
        Ran {
            out: "Domain:         vm
State:          running
libvirt:        URI

 c1           listed
 --metadata   listed
 c3           listed
"
            .to_owned(),
            err: String::new(),
            status: 0
        }
    );
    let (domain, status) = managed.reconcile();
    assert_eq!(status, 0);
    assert_eq!(
        domain,
        json!({
            "domain": "vm",
            "uuid": domain["uuid"],
            "running": null,
            "checkpoints": null,
            "unrecorded": null,
            "jobs": null,
            "plan": null,
            "repaired": [],
            "errors": [],
            "libvirt": {
                "uri": managed.uri,
                "running": true,
                "checkpoints": domain["libvirt"]["checkpoints"],
                "unrecorded": [],
                "plan": [],
            },
        })
    );
    assert_eq!(
        domain["libvirt"]["checkpoints"][0]["disks"][1],
        json!({ "disk": "vdb", "bitmap": "c1", "valid": true, "bytes": 0 })
    );

    // libvirt loses two, one of them below the other, and has one that the log has not.
    for lost in ["--metadata", "c3"] {
        let lost = format!("--checkpointname={lost}");
        managed.virsh_does(&["checkpoint-delete", "--domain=vm", &lost, "--metadata"]);
    }
    managed.virsh_does(&["checkpoint-create-as", "vm", "theirs"]);
    let (domain, status) = managed.reconcile();
    assert_eq!(status, 3);
    assert_eq!(
        listed(&domain),
        [
            "c1: listed, true true",
            "--metadata: not listed, null null",
            "c3: not listed, null null"
        ]
    );
    assert_eq!(
        domain["libvirt"]["unrecorded"],
        json!([{ "name": "theirs", "parent": "c1" }])
    );
    let plan = domain["libvirt"]["plan"].as_array().unwrap();
    let steps: Vec<[&Value; 4]> = plan
        .iter()
        .map(|step| ["step", "do", "checkpoint", "parent"].map(|key| &step[key]))
        .collect();
    let redefine = json!("redefine-checkpoint");
    assert_eq!(
        steps,
        [
            [&json!(1), &redefine, &json!("--metadata"), &json!("c1")],
            [&json!(2), &redefine, &json!("c3"), &json!("--metadata")]
        ]
    );
    // Nothing was done by asking; what is printed for a shell does it.
    let said = managed.reconcile_text();
    assert_eq!((said.err.as_str(), said.status), ("", 3));
    assert!(said.out.contains("\n theirs   c1\n"), "{}", said.out);
    let redefined = managed.carry_out(&said.out);
    assert_eq!((redefined.err.as_str(), redefined.status), ("", 0));
    let (domain, _) = managed.reconcile();
    assert_eq!(
        listed(&domain),
        [
            "c1: listed, true true",
            "--metadata: listed, true true",
            "c3: listed, true true"
        ]
    );
    assert_eq!(domain["libvirt"]["plan"], json!([]));
    managed.virsh_does(&["checkpoint-delete", "vm", "theirs"]);
    assert_eq!(managed.reconcile().1, 0);
}

#[test]
fn what_a_kill_took_is_not_valid_and_libvirt_refuses_it_back() {
    let Some(managed) = Managed::new() else {
        return;
    };
    managed.checkpoint("c1");
    managed.checkpoint("c2");
    // libvirt goes on listing the checkpoints: the images tell, and then libvirt.
    managed.kill_qemu();
    let not_valid = ["c1", "c2"].map(|name| format!("{name}: listed and not valid, false false"));
    let (domain, status) = managed.reconcile();
    assert_eq!((&domain["libvirt"]["running"], status), (&json!(false), 3));
    assert_eq!(listed(&domain), not_valid);
    managed.virsh_does(&["start", "vm"]);
    managed.checkpoint("new");
    let (domain, status) = managed.reconcile();
    assert_eq!(status, 3);
    let new = "new: listed, true true".to_owned();
    assert_eq!(listed(&domain), [&not_valid[..], &[new]].concat());

    managed.virsh_does(&["checkpoint-delete", "vm", "c1", "--metadata"]);
    let refused = managed.carry_out(&managed.reconcile_text().out);
    let part = "missing or broken bitmap 'c1'";
    assert!(refused.err.contains(part), "{}", refused.err);
}

#[test]
fn the_page_shows_what_is_said_of_a_store_with_each_word() {
    let Some(managed) = Managed::new() else {
        return;
    };
    managed.checkpoint("old");
    managed.kill_qemu();
    managed.virsh_does(&["start", "vm"]);
    managed.checkpoint("c1");
    managed.checkpoint("c2");
    managed.virsh_does(&["checkpoint-delete", "vm", "c2", "--metadata"]);
    managed.virsh_does(&["checkpoint-create-as", "vm", "theirs"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .args(["-c", "momentlog:store?driver=qemu"])
        .args(["reconcile", "vm", "--libvirt", &managed.uri])
        .current_dir(managed.program.dir.path());
    let said = ran(command.output().unwrap());
    assert_eq!((said.err.as_str(), said.status), ("", 3));
    let uri = "qemu:///system";
    let connect = format!("--connect={}", managed.uri);
    let said = said
        .out
        .replace(&format!("'{connect}'"), &format!("--connect={uri}"));
    let said = said
        .replace(&managed.uri, uri)
        .replace("Domain:         vm", "Domain:         web01");
    let without_time = |text: &str| {
        let lines = text.lines().filter(|line| !line.contains("<creationTime>"));
        normal(&lines.collect::<Vec<_>>().join("\n"))
    };
    let page = shown(&format!("$ momentlog reconcile web01 --libvirt {uri}"));
    assert_eq!(without_time(&said), without_time(&page));
}

#[test]
fn a_libvirt_that_cannot_be_asked_is_said_and_the_rest_is_looked_at() {
    let program = Program::with_domain();
    if !super::hypervisor::is_there(&["virsh"]) {
        return;
    }
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-q", "-c", "momentlog:store?driver=qemu"])
            .args(words)
            .current_dir(program.dir.path());
        ran(command.stdin(Stdio::null()).output().unwrap())
    };
    let nowhere = "qemu+unix:///system?socket=/nowhere/sock";
    let one = run(&["reconcile", "web01", "--libvirt", nowhere]);
    assert_eq!(
        (one.out.as_str(), one.status),
        (
            "Domain:         web01\nState:          cannot be looked at\n",
            1
        )
    );
    let start = "error: domain 'web01': cannot ask libvirt: failed to connect to the hypervisor: ";
    assert!(one.err.starts_with(start), "{}", one.err);
    let all = run(&["reconcile", "--libvirt", nowhere]);
    assert_eq!((all.out.as_str(), all.status), ("", 1));
    let start = format!("error: cannot ask libvirt at {nowhere}: failed to connect");
    assert!(all.err.starts_with(&start), "{}", all.err);
    // A libvirt that does not have the domain.
    let other = run(&["reconcile", "web01", "--libvirt", "test:///default"]);
    assert_eq!(other.status, 1);
    assert!(other.err.contains("failed to get domain"), "{}", other.err);
    let none = run(&[
        "--format",
        "json",
        "reconcile",
        "--libvirt",
        "test:///default",
    ]);
    assert_eq!(
        none,
        Ran {
            out: "{\"schema\":\"momentlog.reconcile/1\",\"domains\":[]}\n".to_owned(),
            err: String::new(),
            status: 0
        }
    );
    // A guest that is attached is looked at all the same.
    assert_eq!(
        run(&["attach", "web01", "qmp.sock", "--look-only"]).status,
        0
    );
    let both = run(&[
        "--format",
        "json",
        "reconcile",
        "--libvirt",
        "test:///default",
    ]);
    assert_eq!(both.status, 1);
    let report: Value = serde_json::from_str(&both.out).unwrap();
    assert_eq!(report["domains"][0]["running"], false);
    assert_eq!(report["domains"][0]["libvirt"], json!(null));
}
