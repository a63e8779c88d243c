//! Verbs of attached domains, with a real storage daemon: its monitor and its bitmaps are QEMU's.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// Whether tests that need a real QEMU can be run.
fn qemu_is_there() -> bool {
    is_there(&["qemu-storage-daemon", "qemu-img", "qemu-io"])
}

/// Whether tests that need these programs can be run.
pub(crate) fn is_there(programs: &[&str]) -> bool {
    let is_missing = |program: &&&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null());
        command.status().is_err()
    };
    let missing = programs.iter().find(is_missing);
    if let Some(missing) = missing {
        left_out(
            "MOMENTLOG_NEED_QEMU",
            &format!("{missing} is not installed"),
        );
    }
    missing.is_none()
}

/// A domain, and the daemon that has its disks, which is killed with the test.
pub(crate) struct Guest {
    pub(crate) program: Program,
    disks: &'static [&'static str],
    daemon: Option<Child>,
    /// Whether the first disk can be written to.
    is_written: bool,
}

/// The disks.
const DISKS: [&str; 2] = ["vda", "vdb"];

/// The size of each, in bytes.
pub(crate) const SIZE: u64 = 1 << 20;

impl Guest {
    /// Makes the disks, defines the domain, and starts the daemon. `None` where QEMU is not installed.
    pub(crate) fn new() -> Option<Guest> {
        Guest::of(&DISKS)
    }

    /// As [`new`](Self::new), with these disks.
    pub(crate) fn of(names: &'static [&'static str]) -> Option<Guest> {
        if !qemu_is_there() {
            return None;
        }
        let program = Program::new();
        let mut disks = String::new();
        for disk in names {
            let image = program.dir.path().join(format!("{disk}.qcow2"));
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2"])
                .arg(&image)
                .arg(SIZE.to_string())
                .status();
            assert!(made.unwrap().success());
            disks += &format!(
                "<disk type='file'><driver name='qemu' type='qcow2'/><source file='{}'/><target dev='{disk}'/></disk>",
                image.display()
            );
        }
        program.write(
            "vm.xml",
            &format!(
                "<domain type='kvm'><name>vm</name><memory>1024</memory><os><type>hvm</type></os>\
                 <devices>{disks}</devices></domain>"
            ),
        );
        let mut guest = Guest {
            program,
            disks: names,
            daemon: None,
            is_written: false,
        };
        guest.does(&["define", "vm.xml"]);
        guest.start();
        Some(guest)
    }

    /// As [`new`](Self::new), attached.
    pub(crate) fn attached() -> Option<Guest> {
        let guest = Guest::new()?;
        guest.does(&["attach", "vm", "qmp.sock"]);
        Some(guest)
    }

    /// As [`attached`](Self::attached), with a first disk that can be [`written`](Self::write) to.
    pub(crate) fn written() -> Option<Guest> {
        let mut guest = Guest::attached()?;
        guest.kill();
        guest.is_written = true;
        guest.start();
        Some(guest)
    }

    /// Writes to the first disk, as the guest would.
    pub(crate) fn write(&self, command: &str) {
        let export = format!("nbd+unix:///vda?socket={}", self.path("write.sock"));
        let wrote = Command::new("qemu-io")
            .args(["-f", "raw", "-c", command, &export])
            .output();
        assert!(wrote.unwrap().status.success(), "{command}");
    }

    /// Starts the daemon, and waits until it listens.
    pub(crate) fn start(&mut self) {
        let dir = self.program.dir.path();
        let socket = dir.join("qmp.sock");
        let mut command = Command::new("qemu-storage-daemon");
        command.arg("--chardev").arg(format!(
            "socket,path={},server=on,wait=off,id=c",
            socket.display()
        ));
        command.args(["--monitor", "chardev=c"]);
        for disk in self.disks {
            let image = dir.join(format!("{disk}.qcow2"));
            command.arg("--blockdev").arg(format!(
                "file,node-name={disk}-file,filename={}",
                image.display()
            ));
            command
                .arg("--blockdev")
                .arg(format!("qcow2,node-name={disk},file={disk}-file"));
        }
        // A backup to be pulled is served by a server of its own, so that this one is on request.
        if self.is_written {
            let server = dir.join("write.sock");
            command
                .arg("--nbd-server")
                .arg(format!("addr.type=unix,addr.path={}", server.display()));
            command.args([
                "--export",
                "nbd,id=write,node-name=vda,name=vda,writable=on",
            ]);
        }
        let mut daemon = command.stdin(Stdio::null()).spawn().unwrap();
        while UnixStream::connect(&socket).is_err() {
            assert_eq!(daemon.try_wait().unwrap(), None);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.daemon = Some(daemon);
    }

    /// Kills the daemon: what it had in memory alone is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Has the daemon end in order: what it has in memory is stored.
    pub(crate) fn quit(&mut self) {
        self.ask(&json!({ "execute": "quit" }));
        if let Some(mut daemon) = self.daemon.take() {
            daemon.wait().unwrap();
        }
    }

    /// Sends one request to the daemon, as another program would.
    pub(crate) fn ask(&self, request: &Value) {
        let stream = UnixStream::connect(self.path("qmp.sock")).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut send = |request: &Value| {
            writeln!(&stream, "{request}").unwrap();
            // The greeting and events come in between.
            let is_answer =
                |line: &String| line.contains("\"return\"") || line.contains("\"error\"");
            answers
                .by_ref()
                .map(Result::unwrap)
                .find(|line| is_answer(line))
                .unwrap()
        };
        send(&json!({ "execute": "qmp_capabilities" }));
        let answer = send(request);
        assert!(answer.contains("\"return\""), "{request}: {answer}");
    }

    /// The program with its store and driver, to be given words.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-c", "momentlog:store?driver=qemu", "--lock-wait", "60"])
            .current_dir(self.program.dir.path())
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    /// Prints data only.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        ran(self.command().arg("-q").args(words).output().unwrap())
    }

    /// Runs what succeeds without a word on standard error, and returns what it prints.
    #[track_caller]
    pub(crate) fn does(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{words:?}");
        ran.out
    }

    /// As [`does`](Self::does), with all that is said, but for the empty line at the end.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) -> String {
        self.says_with(0, words)
    }

    /// As [`says`](Self::says), of what ends with this exit status.
    #[track_caller]
    pub(crate) fn says_with(&self, status: i32, words: &[&str]) -> String {
        let ran = ran(self.command().args(words).output().unwrap());
        assert_eq!((ran.err.as_str(), ran.status), ("", status), "{words:?}");
        ran.out.strip_suffix('\n').unwrap().to_owned()
    }

    /// Runs what is refused, and returns what is said on standard error.
    #[track_caller]
    pub(crate) fn refuses(&self, words: &[&str]) -> String {
        let ran = self.run(words);
        assert_eq!((ran.out.as_str(), ran.status), ("", 1), "{words:?}");
        ran.err
    }

    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let words = [&["--format", "json"], words].concat();
        serde_json::from_str(&self.does(&words)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path = self.program.dir.path().join(name);
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn make_dir(&self, name: &str) {
        std::fs::create_dir(self.program.dir.path().join(name)).unwrap();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn a_command_that_fails_after_a_first_record_says_which_it_has_made() {
    let Some(guest) = Guest::new() else {
        return;
    };
    guest.does(&["attach", "vm", "qmp.sock"]);
    let file = format!("vda,file={}", guest.path("missing/s.qcow2"));
    let asked = ["snapshot-create-as", "vm", "s", "--disk-only", "--diskspec"];
    let ran = guest.run(&[&["--format", "json"][..], &asked, &[&file]].concat());
    assert_eq!((ran.out.as_str(), ran.status), ("", 1));
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    let log = guest.does(&["--format", "json", "log", "-n", "2"]);
    let made = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let made: Vec<Value> = made.map(|record| record["seq"].clone()).collect();
    assert_eq!(error["records"], Value::from(made), "{error}");
    let refused = guest.run(&["--format", "json", "checkpoint-delete", "vm", "none"]);
    let error: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(error["records"], json!([]), "{error}");
}

#[test]
fn attaching_and_detaching_say_where_and_are_safe_to_repeat() {
    let Some(guest) = Guest::new() else {
        return;
    };
    let socket = guest.path("qmp.sock");
    let attach = ["attach", "vm", "qmp.sock", "--request-id", "r1"];
    let attached = format!("Domain 'vm' attached to qemu at {socket}; it is running\n");
    assert_eq!(guest.says(&attach), attached);
    assert_eq!(guest.says(&attach), attached);
    let detach = ["detach", "vm", "--request-id", "r2"];
    let detached = format!("Domain 'vm' detached from qemu at {socket}\n");
    assert_eq!(guest.says(&detach), detached);
    assert_eq!(guest.says(&detach), detached);
    let not_attached =
        "error: Requested operation is not valid: domain 'vm' is not attached to a hypervisor\n";
    assert_eq!(guest.refuses(&["detach", "vm"]), not_attached);

    let outcome = guest.json(&["attach", "vm", "qmp.sock", "--look-only"]);
    let event = &outcome["records"][0]["events"][0];
    assert_eq!(event["type"], "hypervisor_attached");
    assert_eq!(event["driver"], "qemu");
    assert_eq!(event["socket"], socket);
    assert_eq!(event["look_only"], true);
    let found = guest.json(&["dominfo", "vm"])["domains"][0].clone();
    assert_eq!(
        (&found["state"], &found["attached"]["socket"]),
        (&json!("running"), &json!(socket))
    );
    let refused = guest.refuses(&["checkpoint-create-as", "vm", "a"]);
    assert!(refused.contains("attached to look only"), "{refused}");
    let outcome = guest.json(&["detach", "vm"]);
    assert_eq!(
        (
            &outcome["records"][0]["summary"],
            &outcome["domain"]["name"]
        ),
        (&json!("detached"), &json!("vm"))
    );

    let log = guest.does(&["log", "vm", "--from", "3", "--oneline"]);
    for told in [
        format!("attached to qemu at {socket}; now running"),
        format!("attached to qemu at {socket}, to look only"),
        "  vm  detached\n".to_owned(),
    ] {
        assert!(log.contains(&told), "{told} in {log}");
    }
}

#[test]
fn a_guest_that_is_not_there_is_off() {
    let program = Program::with_domain();
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .args(["-c", "momentlog:store?driver=qemu", "--format", "json"])
        .args(["attach", "web01", "nowhere/qmp.sock"])
        .current_dir(program.dir.path());
    let ran = ran(command.output().unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let event = &report["records"][0]["events"][0];
    assert_eq!(event["type"], "hypervisor_attached");
}

#[test]
fn what_cannot_be_attached_says_why() {
    let program = Program::with_domain();
    program.write("plain", "");
    let listener = UnixListener::bind(program.dir.path().join("silent.sock")).unwrap();
    let run = |uri: &str, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-q", "-c", uri, "--lock-wait", "0"])
            .args(words)
            .current_dir(program.dir.path());
        let ran = ran(command.output().unwrap());
        assert_eq!(ran.status, 1, "{words:?}");
        ran.err
    };
    let plain = program.dir.path().join("plain");
    assert_eq!(
        run("momentlog:store?driver=qemu", &["attach", "web01", "plain"]),
        format!(
            "error: cannot connect to {}: it is no socket\n",
            plain.display()
        )
    );
    let held = run(
        "momentlog:store?driver=qemu",
        &["attach", "web01", "silent.sock"],
    );
    assert!(
        held.starts_with("error: Timed out during operation: cannot acquire state change lock ("),
        "{held}"
    );
    drop(listener);
    assert_eq!(
        run("momentlog:store", &["attach", "web01", "plain"]),
        "error: Operation not supported: the hypervisor is asked by the driver 'qemu': open the store with driver=qemu\n"
    );
    assert_eq!(
        run("momentlog:store?driver=xen", &["list"]),
        "error: failed to connect to the store\n\
         error: no connection driver available for momentlog:store?driver=xen (this program brings no driver 'xen')\n"
    );
    for verb in ["reconcile", "backup-begin", "domjobabort", "detach"] {
        assert_eq!(
            run(
                "momentlog:store?driver=qemu",
                &[verb, "web01", "--reason", "x"]
            )
            .lines()
            .last()
            .map(|line| line.ends_with("domain 'web01' is not attached to a hypervisor")),
            Some(true),
            "{verb}"
        );
    }
}

/// What `reconcile` finds of each disk of each checkpoint.
#[track_caller]
fn states(report: &Value) -> Vec<String> {
    let mut states = Vec::new();
    for checkpoint in report["domains"][0]["checkpoints"].as_array().unwrap() {
        for disk in checkpoint["disks"].as_array().unwrap() {
            let texts = [&checkpoint["name"], &disk["disk"], &disk["state"]];
            states.push(texts.map(|text| text.as_str().unwrap()).join(" "));
        }
    }
    states
}

#[test]
fn what_a_kill_costs_is_said_and_repaired() {
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    guest.does(&["checkpoint-create-as vm a; checkpoint-create-as vm b"]);
    let found = guest.json(&["reconcile"]);
    assert_eq!(
        states(&found),
        ["a vda ok", "a vdb ok", "b vda ok", "b vdb ok"]
    );
    let domain = &found["domains"][0];
    assert_eq!(
        (&domain["domain"], &domain["running"]),
        (&json!("vm"), &json!(true))
    );
    let disk = &domain["checkpoints"][1]["disks"][0];
    let layers = json!([{ "image": guest.path("vda.qcow2"), "state": "ok" }]);
    assert_eq!(
        (&disk["layers"], &disk["bitmap"], &disk["bytes"]),
        (&layers, &json!("b"), &json!(0))
    );
    for list in ["unrecorded", "jobs", "plan", "repaired", "errors"] {
        assert_eq!(domain[list], json!([]), "{list}");
    }
    assert_eq!(
        guest.says(&["reconcile", "vm"]),
        "Domain:         vm
State:          running

 Checkpoint   Disk   State   Bitmap   Bytes   Last ok
-------------------------------------------------------
 a            vda    ok      a        0       now
 a            vdb    ok      a        0       now
 b            vda    ok      b        0       now
 b            vdb    ok      b        0       now
"
    );

    guest.kill();
    let off = guest.run(&["reconcile"]);
    assert_eq!((off.err.as_str(), off.status), ("", 3));
    assert!(
        off.out.contains("State:          shut off\n"),
        "{}",
        off.out
    );
    guest.start();
    let lost = guest.run(&["reconcile"]);
    assert_eq!((lost.err.as_str(), lost.status), ("", 3));
    for line in [
        " a   vda   lost   a   -   20",
        " b   vdb   lost   b   -   20",
        "Step 1:         drop checkpoint b, which is lost\n",
        "Step 2:         drop checkpoint a, which is lost\n",
    ] {
        assert!(lost.out.contains(line), "{line} in {}", lost.out);
    }
    let repaired = guest.json(&["reconcile", "--repair", "--reason", "a kill"]);
    let domain = &repaired["domains"][0];
    let step = |number: u8, checkpoint: &str| {
        json!({
            "step": number,
            "do": "drop-checkpoint",
            "disk": null,
            "image": null,
            "bitmap": null,
            "checkpoint": checkpoint,
            "why": "lost",
        })
    };
    assert_eq!(domain["repaired"], json!([step(1, "b"), step(2, "a")]));
    assert_eq!(
        (&domain["checkpoints"], &domain["plan"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(guest.does(&["checkpoint-list", "vm"]), "");
    assert_eq!(guest.json(&["reconcile"])["domains"][0]["plan"], json!([]));

    guest.does(&["detach", "vm"]);
    assert_eq!(guest.says(&["reconcile"]), "No domain is attached\n");
    assert_eq!(guest.json(&["reconcile"])["domains"], json!([]));
}

#[test]
fn a_guest_that_is_off_is_repaired() {
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    guest.does(&["checkpoint-create-as vm a; checkpoint-create-as vm b"]);
    guest.kill();
    let image = guest.path("vda.qcow2");
    let added = Command::new("qemu-img")
        .args(["bitmap", "--add", &image, "a"])
        .status();
    assert!(added.unwrap().success());
    assert_eq!(
        guest.says(&["reconcile", "vm", "--repair"]),
        "Domain:         vm
State:          shut off
Repaired:       drop checkpoint b, which is lost
Repaired:       drop checkpoint a, which is lost
"
    );
    let said = Command::new("qemu-img").args(["info", &image]).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    assert!(!said.contains("bitmaps"), "{said}");
    let repaired = guest.json(&["reconcile"]);
    assert_eq!(repaired["domains"][0]["running"], false);
    assert_eq!(repaired["domains"][0]["checkpoints"], json!([]));
    let log = guest.does(&["log", "vm"]);
    assert!(log.contains("repair"), "{log}");
}

#[test]
fn bitmaps_that_nobody_recorded_are_named_by_whose_they_are() {
    let Some(mut guest) = Guest::attached() else {
        return;
    };
    guest.does(&["checkpoint-create-as vm a; checkpoint-delete vm a --metadata"]);
    let found = guest.run(&["--format", "json", "reconcile"]);
    assert_eq!((found.err.as_str(), found.status), ("", 3));
    let found: Value = serde_json::from_str(&found.out).unwrap();
    let orphan = |disk: &str| {
        let image = guest.path(&format!("{disk}.qcow2"));
        json!({ "disk": disk, "image": image, "bitmap": "a", "kind": "orphan" })
    };
    let domain = &found["domains"][0];
    assert_eq!(domain["unrecorded"], json!([orphan("vda"), orphan("vdb")]));
    assert_eq!(domain["plan"][0]["do"], "remove-bitmap");
    assert_eq!(domain["plan"][0]["why"], "orphan");
    let said = guest.says(&["reconcile", "--repair"]);
    let image = guest.path("vda.qcow2");
    let step = format!("Repaired:       remove the orphan bitmap a of vda from {image}\n");
    assert!(said.contains(&step), "{said}");

    // Another program's bitmap is named, and stays.
    guest.kill();
    let added = Command::new("qemu-img")
        .args(["bitmap", "--add", &image, "theirs"])
        .status();
    assert!(added.unwrap().success());
    guest.start();
    let repaired = guest.run(&["reconcile", "--repair"]);
    assert_eq!((repaired.err.as_str(), repaired.status), ("", 3));
    let row = format!(" theirs   foreign   vda   {image}\n");
    assert!(repaired.out.contains(&row), "{}", repaired.out);
}

#[test]
fn a_domain_that_cannot_be_looked_at_is_said_beside_those_that_can() {
    let Some(guest) = Guest::attached() else {
        return;
    };
    guest.program.write("plain", "");
    guest.program.write(
        "off.xml",
        "<domain type='kvm'><name>off</name><memory>1024</memory><os><type>hvm</type></os></domain>",
    );
    guest.does(&["define off.xml; attach off plain.sock"]);
    let off = guest.json(&["reconcile", "off"]);
    assert_eq!(off["domains"][0]["running"], false);
    guest.program.write("plain.sock", "");
    let both = guest.run(&["reconcile"]);
    assert_eq!(both.status, 1);
    let socket = guest.path("plain.sock");
    assert_eq!(
        both.err,
        format!("error: domain 'off': cannot connect to {socket}: it is no socket\n")
    );
    for line in [
        "Domain:         vm\nState:          running\n",
        "Domain:         off\nState:          cannot be looked at\n",
    ] {
        assert!(both.out.contains(line), "{line} in {}", both.out);
    }
    let refused = guest.refuses(&["reconcile", "--request-id", "r1"]);
    assert_eq!(
        refused,
        "error: reconcile takes no request id: it is safe to ask again\n"
    );
}

#[test]
fn a_plan_is_what_the_hypervisor_would_do_and_nothing_is_done() {
    let Some(guest) = Guest::new() else {
        return;
    };
    let image = guest.path("vda.qcow2");
    let plan = [
        "checkpoint-create-as",
        "vm",
        "c1",
        "--diskspec",
        "vda",
        "--diskspec",
        "vdb,checkpoint=no",
        "--plan",
    ];
    assert!(guest.refuses(&plan).contains("not attached"));
    guest.does(&["attach", "vm", "qmp.sock"]);
    let planned = format!("vda: bitmap c1 on {image}\n");
    assert_eq!(guest.does(&plan), planned);
    assert_eq!(guest.does(&plan), planned);
    let effects = json!([{ "disk": "vda", "image": image, "bitmap": "c1" }]);
    assert_eq!(guest.json(&plan)["effects"], effects);
    assert_eq!(guest.does(&["checkpoint-list", "vm", "--name"]), "");
    // What the hypervisor refuses, a plan says.
    guest.does(&["checkpoint-create-as", "vm", "c1"]);
    guest.does(&["checkpoint-delete", "vm", "c1", "--metadata"]);
    let refused = guest.refuses(&plan);
    assert!(refused.contains("Bitmap already exists: c1"), "{refused}");
}
