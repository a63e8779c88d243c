//! libvirt, asked by `virsh`: answers that it gave once, a program that misbehaves in its place, and the real one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use momentlog::core::{DiskTracking, DomainUuid};
use momentlog_qemu::{Ask, Libvirt, LibvirtError, Virsh};

use super::{LONG, SHORT};

/// Of the domain that libvirt's test driver has.
const TEST_UUID: &str = "6695eb01-f6a4-8304-79aa-97f2502e193f";

fn uuid() -> DomainUuid {
    DomainUuid::from_str(TEST_UUID).unwrap()
}

/// Answers by the words that it is given, and takes note of them.
#[derive(Clone, Debug)]
struct Canned {
    answers: Vec<(&'static str, String)>,
    asked: Arc<Mutex<Vec<String>>>,
}

fn canned(answers: &[(&'static str, &str)]) -> Canned {
    let own = |(words, answer): &(&'static str, &str)| (*words, (*answer).to_owned());
    Canned {
        answers: answers.iter().map(own).collect(),
        asked: Arc::default(),
    }
}

impl Ask for Canned {
    fn ask(&self, words: &[&str]) -> Result<String, LibvirtError> {
        let asked = words.join(" ").replace(TEST_UUID, "UUID");
        self.asked.lock().unwrap().push(asked.clone());
        let answer = self.answers.iter().find(|(words, _)| *words == asked);
        answer
            .map(|(_, answer)| answer.clone())
            .ok_or(LibvirtError::Refused { said: asked })
    }
}

fn libvirt(canned: &Canned) -> Libvirt {
    Libvirt::over(Box::new(canned.clone()))
}

/// As virsh 9.0.0 prints it.
fn dumped(name: &str, parent: &str, sizes: [&str; 2]) -> String {
    let [first, second] = sizes;
    format!(
        "<domaincheckpoint>\n  <name>{name}</name>\n{parent}  <creationTime>1795811702</creationTime>\n  <disks>\n    \
         <disk name='vda' checkpoint='bitmap' bitmap='{name}'{first}/>\n    \
         <disk name='vdb' checkpoint='bitmap' bitmap='b'{second}/>\n    \
         <disk name='vdc' checkpoint='no'/>\n  </disks>\n</domaincheckpoint>\n"
    )
}

#[test]
fn a_guest_that_runs_tells_the_sizes_of_valid_disks() {
    let parent = "  <parent>\n    <name>c1</name>\n  </parent>\n";
    let canned = canned(&[
        ("domid --domain=UUID", "3\n\n"),
        ("checkpoint-list --domain=UUID --name", "--size\nc1\n\n"),
        (
            "checkpoint-dumpxml --domain=UUID --checkpointname=--size --no-domain --size",
            &dumped("--size", parent, [" size='65536'", ""]),
        ),
        (
            "checkpoint-dumpxml --domain=UUID --checkpointname=c1 --no-domain --size",
            &dumped("c1", "", [" size='0'", " size='18446744073709551615'"]),
        ),
    ]);
    let found = libvirt(&canned).look(uuid()).unwrap();
    assert!(found.running);
    let [second, first] = &found.checkpoints[..] else {
        panic!("{found:?}");
    };
    assert_eq!(second.name.as_str(), "--size");
    assert_eq!(second.parent.as_ref().unwrap().as_str(), "c1");
    assert_eq!(second.sizes, BTreeMap::from([("vda".into(), 65536)]));
    assert_eq!(first.parent, None);
    assert_eq!(first.sizes["vdb"], u64::MAX);
    let tracking = |disk: usize| first.def.disks[disk].tracking.clone();
    assert_eq!(tracking(1), DiskTracking::Bitmap(Some("b".into())));
    assert_eq!(tracking(2), DiskTracking::No);
}

#[test]
fn a_guest_that_is_off_is_not_asked_for_sizes() {
    let canned = canned(&[
        ("domid --domain=UUID", "-\n"),
        ("checkpoint-list --domain=UUID --name", "c1\n"),
        (
            "checkpoint-dumpxml --domain=UUID --checkpointname=c1 --no-domain",
            &dumped("c1", "", ["", ""]),
        ),
    ]);
    let found = libvirt(&canned).look(uuid()).unwrap();
    assert!(!found.running);
    assert_eq!(found.checkpoints[0].sizes, BTreeMap::new());
}

#[test]
fn what_makes_no_sense_is_named() {
    #[track_caller]
    fn check(name: &str, xml: &str, expected: &str) {
        let list = format!("{name}\n");
        let command = "checkpoint-dumpxml --domain=UUID --checkpointname=c1 --no-domain --size";
        let answers = [
            ("domid --domain=UUID", "1\n"),
            ("checkpoint-list --domain=UUID --name", &*list),
            (command, xml),
        ];
        let error = libvirt(&canned(&answers)).look(uuid()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error}");
    }
    let other = dumped("c2", "", ["", ""]);
    check(
        "c1",
        "",
        "the XML of libvirt's checkpoint 'c1' makes no sense",
    );
    check(
        "c1",
        "<domain/>",
        "the XML of libvirt's checkpoint 'c1' makes no sense",
    );
    check(
        "c1",
        &other,
        "the answer of virsh checkpoint-dumpxml makes no sense: it is about 'c2' and not 'c1'",
    );
    // A name of two lines is two names that libvirt does not know.
    check(
        "a\nb",
        &other,
        "checkpoint-dumpxml --domain=UUID --checkpointname=a ",
    );
    let id = libvirt(&canned(&[("domid --domain=UUID", "on\n")])).look(uuid());
    assert_eq!(
        id.unwrap_err().to_string(),
        "the answer of virsh domid makes no sense: 'on' is no number"
    );
    let list = libvirt(&canned(&[("list --all --uuid", "\nx\n")])).domains();
    assert_eq!(
        list.unwrap_err().to_string(),
        "the answer of virsh list makes no sense: 'x' is no uuid"
    );
}

/// Asks a shell script in the place of `virsh`.
fn ask(script: &str, wait: Duration) -> Result<String, LibvirtError> {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("virsh");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let virsh = Virsh {
        program: program.to_str().unwrap().to_owned(),
        wait,
        answer_len_max: 1 << 20,
        ..Virsh::at("test:///default")
    };
    // The file may still be open in a child of another test, which the system does not run then.
    loop {
        match virsh.ask(&["a b", "--c=$d;e"]) {
            Err(LibvirtError::Run { source }) if source.raw_os_error() == Some(26) => {}
            answer => return answer,
        }
    }
}

#[test]
fn each_word_is_one_argument_and_nothing_can_be_changed() {
    let words = ask("printf '%s|' \"$@\"", LONG).unwrap();
    assert_eq!(
        words,
        "--connect=test:///default|--readonly|--quiet|a b|--c=$d;e|"
    );
}

#[test]
fn a_virsh_that_fails_hangs_or_prints_without_end_is_an_error_in_bounded_time() {
    let told = |script: &str, wait| ask(script, wait).unwrap_err().to_string();
    let failing =
        "echo 'error: failed to connect' >&2; echo >&2; echo 'error: no socket' >&2; exit 1";
    assert_eq!(told(failing, LONG), "failed to connect: no socket");
    assert_eq!(told("exit 2", LONG), "virsh has failed without a word");
    assert!(matches!(
        ask("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1", LONG),
        Err(LibvirtError::Refused { said }) if said.len() == 1024
    ));
    assert_eq!(
        told("sleep 1000", SHORT),
        "virsh has not answered within 100ms and was killed"
    );
    assert_eq!(
        told("yes", LONG),
        "virsh has printed more than 1048576 bytes and was killed"
    );
    assert_eq!(told("kill -9 $$", LONG), "virsh was ended by signal 9");
    assert_eq!(
        told("printf '\\377'", LONG),
        "the answer of virsh a b makes no sense: it is not UTF-8"
    );
    let missing = Virsh {
        program: "/nowhere/virsh".into(),
        ..Virsh::at("test:///default")
    };
    let error = missing.ask(&["list"]).unwrap_err().to_string();
    assert!(error.starts_with("cannot run virsh"), "{error}");
}

#[test]
fn the_real_virsh_takes_these_words() {
    if !super::is_there("virsh") {
        return;
    }
    let libvirt = Libvirt::at("test:///default");
    assert_eq!(libvirt.domains().unwrap(), [uuid()]);
    let found = libvirt.look(uuid()).unwrap();
    assert!(found.running);
    assert_eq!(found.checkpoints, []);
    let nobody = DomainUuid::from_bytes([1; 16]);
    let error = libvirt.look(nobody).unwrap_err().to_string();
    assert!(
        error.starts_with("failed to get domain '01010101-"),
        "{error}"
    );
    let nowhere = Libvirt::at("nowhere:///x").domains();
    assert!(matches!(nowhere, Err(LibvirtError::Refused { .. })));
}
