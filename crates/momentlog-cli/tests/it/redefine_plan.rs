//! `redefine-plan`, and what libvirt's own virsh makes of what it writes.

use std::io::Write as _;

use momentlog::core::{Action, Command as Asked, MomentKind, MomentName, Policy};
use momentlog::{
    CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointXmlFlags, Connection, Domain,
    SnapshotCreateFlags, SnapshotDeleteFlags, SnapshotXmlFlags,
};

use super::*;

/// Numbers that look random, and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

/// The domain, to libvirt as well.
fn vm2() -> String {
    let path = repository().join("proptests/conformance/virsh/files/vm2.xml");
    std::fs::read_to_string(path).unwrap()
}

/// A moment as it is redefined; `number` makes its name, its time and what else may differ.
fn xml(kind: MomentKind, number: usize, parent: Option<usize>, odd: usize) -> String {
    let parent = parent.map_or(String::new(), |parent| {
        format!("<parent><name>m{parent}</name></parent>")
    });
    let described = if odd.is_multiple_of(3) {
        format!("<description>what {odd} &lt;was&gt;</description>")
    } else {
        String::new()
    };
    let time = 1_700_000_000 + odd;
    let common =
        format!("<name>m{number}</name>{described}{parent}<creationTime>{time}</creationTime>");
    let domain = vm2();
    match kind {
        MomentKind::Checkpoint => {
            let disks = [
                "",
                "<disks><disk name='vda' checkpoint='no'/><disk name='vdb'/></disks>",
            ];
            let disks = disks[odd % 2];
            let domain = if odd.is_multiple_of(5) { "" } else { &domain };
            format!("<domaincheckpoint>{common}{disks}{domain}</domaincheckpoint>")
        }
        MomentKind::Snapshot => {
            let state = ["shutoff", "running", "paused", "disk-snapshot"][odd % 4];
            let disk = |name: &str| {
                format!(
                    "<disk name='{name}' snapshot='external'><driver type='qcow2'/>\
                     <source file='/images/{name}.{odd}'/></disk>"
                )
            };
            let disks = match state {
                "disk-snapshot" => format!("<disks>{}{}</disks>", disk("vda"), disk("vdb")),
                _ => String::new(),
            };
            format!(
                "<domainsnapshot>{common}<state>{state}</state>{disks}{domain}</domainsnapshot>"
            )
        }
    }
}

/// Makes a tree of moments, or a chain if `number` says so, with deletions, moves and a current moment.
fn grow(domain: &Domain, kind: MomentKind, number: usize) {
    let mut numbers = Numbers(0x9e37_79b9 + number as u64);
    let is_chain = number.is_multiple_of(5);
    let redefine = |number: usize, parent: Option<usize>, odd: usize| {
        let xml = xml(kind, number, parent, odd);
        match kind {
            MomentKind::Checkpoint => domain
                .checkpoint_create_xml(&xml, CheckpointCreateFlags::REDEFINE)
                .map(|_| ()),
            MomentKind::Snapshot => domain
                .snapshot_create_xml(&xml, SnapshotCreateFlags::REDEFINE)
                .map(|_| ()),
        }
    };
    let count = 1 + numbers.below(14);
    for moment in 0..count {
        let parent = match moment {
            0 => None,
            _ if is_chain => Some(moment - 1),
            _ => Some(numbers.below(moment + 1)).filter(|parent| *parent < moment),
        };
        redefine(moment, parent, numbers.below(1000)).unwrap();
    }
    if is_chain {
        return;
    }
    // Some are moved, below what may be their own descendant: that is refused. One is deleted.
    for _ in 0..3 {
        let (moment, parent) = (numbers.below(count), numbers.below(count + 1));
        let parent = Some(parent).filter(|parent| *parent < count);
        let _ = redefine(moment, parent, numbers.below(250) * 4);
    }
    let name = |number: usize| MomentName::new(&format!("m{number}")).unwrap();
    if count > 4 {
        let gone = name(numbers.below(count));
        match kind {
            MomentKind::Checkpoint => domain
                .checkpoint_lookup_by_name(gone.as_str())
                .unwrap()
                .delete(CheckpointDeleteFlags::NONE),
            MomentKind::Snapshot => domain
                .snapshot_lookup_by_name(gone.as_str())
                .unwrap()
                .delete(SnapshotDeleteFlags::NONE),
        }
        .unwrap();
    }
    // Of what is gone, nothing is made current.
    let current = Some(numbers.below(count + 1)).filter(|current| *current < count);
    let action = Action::SetCurrent {
        kind,
        name: current.map(name),
    };
    let domain_uuid = domain.uuid();
    let _ = domain.connection().execute(&Asked {
        domain: domain_uuid,
        action,
    });
}

/// A dump without the domain in it, which libvirt parses, and writes in its own way: `docs/libvirt.md`.
fn without_domain(xml: &str) -> String {
    match (xml.find("  <domain "), xml.find("  </domain>\n")) {
        (Some(begin), Some(end)) => format!("{}{}", &xml[..begin], &xml[end + 12..]),
        _ => xml.to_owned(),
    }
}

/// What a virsh says to lines on its standard input, without what it prints for each.
fn virsh(dir: &Path, lines: &str) -> (Vec<String>, String) {
    let mut command = Command::new("virsh");
    command
        .args(["-q", "-c", "test:///default"])
        .current_dir(dir);
    command.env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    let ran = ran(child.wait_with_output().unwrap());
    let said = ran.out.split("virsh # ");
    let said = said.filter_map(|part| part.split_once('\n'));
    // Behind the last command is the end of the input.
    let said = said.filter(|(command, _)| !command.is_empty());
    (said.map(|(_, said)| said.to_owned()).collect(), ran.err)
}

#[test]
fn fifty_trees_and_chains_are_rebuilt_in_libvirt_by_its_own_virsh() {
    if !super::hypervisor::is_there(&["virsh"]) {
        return;
    }
    let mut placeholders = 0;
    for number in 0..50 {
        let kind = [MomentKind::Checkpoint, MomentKind::Snapshot][number % 2];
        let program = Program::new();
        program.write("vm2.xml", &vm2());
        let uri = format!("momentlog://{}", program.store().display());
        let connection = Connection::open(&uri).unwrap();
        let domain = connection.define_domain_xml(&vm2()).unwrap();
        connection.set_policy(domain.uuid(), Policy::NONE).unwrap();
        grow(&domain, kind, number);
        let view = connection.refresh().unwrap();
        let state = view.state().domain(domain.uuid()).unwrap();
        let (names, current): (Vec<String>, Option<String>) = match kind {
            MomentKind::Checkpoint => {
                let list = state.checkpoints();
                let all = list.walk(momentlog::core::Scope::All);
                let names = all.map(|moment| moment.name.to_string()).collect();
                (
                    names,
                    list.current().map(|current| current.name.to_string()),
                )
            }
            MomentKind::Snapshot => {
                let list = state.snapshots();
                let all = list.walk(momentlog::core::Scope::All);
                let names = all.map(|moment| moment.name.to_string()).collect();
                (
                    names,
                    list.current().map(|current| current.name.to_string()),
                )
            }
        };
        let dump = |name: &String| match kind {
            MomentKind::Checkpoint => {
                let found = domain.checkpoint_lookup_by_name(name).unwrap();
                found.xml_desc(CheckpointXmlFlags::NONE).unwrap()
            }
            MomentKind::Snapshot => {
                let found = domain.snapshot_lookup_by_name(name).unwrap();
                found.xml_desc(SnapshotXmlFlags::NONE).unwrap()
            }
        };
        let dumps: Vec<String> = names
            .iter()
            .map(|name| without_domain(&dump(name)))
            .collect();
        connection.close().unwrap();

        let made = program.run(&["redefine-plan", "vm2", "--out", "plan"]);
        assert_eq!((made.err.as_str(), made.status), ("", 0));
        let plan = program.dir.path().join("plan");
        let script = std::fs::read_to_string(plan.join("redefine.virsh")).unwrap();
        placeholders += usize::from(script.contains("placeholder"));
        let kind = kind.as_str();
        // libvirt's test driver forgets all when virsh ends, so that one process does it all.
        let mut lines = format!("define ../vm2.xml\nstart vm2\n{script}");
        lines += &format!("{kind}-list vm2 --topological --name\n");
        for name in &names {
            lines += &format!("{kind}-dumpxml vm2 {name}\n");
        }
        lines += match kind {
            "snapshot" => "snapshot-current vm2 --name\n",
            // The current checkpoint is the parent of the next one.
            _ => "checkpoint-create-as vm2 next\ncheckpoint-parent vm2 next\n",
        };
        let (mut said, err) = virsh(&plan, &lines);
        let none = match kind {
            "snapshot" => "error: domain 'vm2' has no current snapshot\n",
            _ => "error: checkpoint 'next' has no parent\n",
        };
        let expected = if current.is_some() { "" } else { none };
        assert_eq!(err, expected, "{number}: {script}");
        let tail = said.split_off(said.len() - names.len() - 2 - usize::from(kind == "checkpoint"));
        let listed: Vec<&str> = tail[0].lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(listed, names, "{number}: {script}");
        for (index, dump) in dumps.iter().enumerate() {
            assert_eq!(
                without_domain(&tail[index + 1]).trim_end(),
                dump.trim_end(),
                "{number}"
            );
        }
        let found = tail.last().unwrap().trim();
        assert_eq!(
            found,
            current.as_deref().unwrap_or_default(),
            "{number}: {script}"
        );
    }
    assert!(
        placeholders > 5,
        "only {placeholders} plans needed a placeholder"
    );
}

#[test]
fn a_plan_is_written_to_a_directory_without_files() {
    let program = Program::with_domain();
    let none = program.run(&["redefine-plan", "web01", "--out", "plan"]);
    assert_eq!(
        none.err,
        "error: domain 'web01' has no snapshot and no checkpoint\n"
    );
    program.run(&["checkpoint-create-as web01 c1; checkpoint-create-as web01 c2"]);
    let at = program.run(&["-q", "receipt"]).out;
    program.run(&["checkpoint-create-as web01 c3"]);
    let made = program.run(&["redefine-plan web01 --out a/plan"]);
    let expected = "3 files of XML and redefine.virsh written to a/plan\n\n";
    assert_eq!((made.err.as_str(), made.out.as_str()), ("", expected));
    let read = |name: &str| std::fs::read_to_string(program.dir.path().join(name)).unwrap();
    let uuid = program.run(&["-q", "domuuid", "web01"]).out;
    let uuid = uuid.trim();
    assert_eq!(
        read("a/plan/redefine.virsh"),
        format!(
            "# The checkpoints of domain web01, for a libvirt that has the domain and none of them:\n\
             #   virsh -c URI < redefine.virsh\n\
             # c1, a root\n\
             checkpoint-create --domain={uuid} --xmlfile=1.xml --redefine\n\
             # c2 below c1\n\
             checkpoint-create --domain={uuid} --xmlfile=2.xml --redefine\n\
             # c3 below c2\n\
             checkpoint-create --domain={uuid} --xmlfile=3.xml --redefine\n\
             checkpoint-list --domain={uuid} --tree\n"
        )
    );
    let dumped = program
        .run(&["-q", "checkpoint-dumpxml", "web01", "c2"])
        .out;
    assert_eq!(read("a/plan/2.xml"), dumped);
    let again = program.run(&["redefine-plan web01 --out a/plan"]);
    assert_eq!(again.status, 1);
    let why = "directory 'a/plan' has files in it, and the plan needs one of its own";
    assert_eq!(again.err, format!("error: {why}\n"));
    // As of then, in JSON.
    let words = [
        "--format",
        "json",
        "redefine-plan",
        "web01",
        "--out",
        "b",
        "--at",
        at.trim(),
    ];
    let json: serde_json::Value = serde_json::from_str(&program.run(&words).out).unwrap();
    assert_eq!(json["schema"], "momentlog.redefinitions/1");
    assert_eq!(
        (&json["current"], &json["as_of"]),
        (&"c2".into(), &4.into())
    );
    assert_eq!(json["steps"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["steps"][1],
        serde_json::json!({"do": "redefine", "name": "c2", "parent": "c1", "current": false, "file": "2.xml"})
    );
    // A reader has no passwords.
    let secret = program.run(&[
        "-r",
        "redefine-plan",
        "web01",
        "--out",
        "c",
        "--security-info",
    ]);
    assert!(secret.err.contains("secure flag"), "{}", secret.err);
}
