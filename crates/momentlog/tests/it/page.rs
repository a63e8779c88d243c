//! A program that knows only `docs/format.md` reads what this library writes: `docs/format/reader.py`.

use std::fmt::Write as _;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use momentlog::core::{MomentId, MomentList, Scope};
use momentlog::store::Seq;
use momentlog::{
    CheckpointCreateFlags, CheckpointDeleteFlags, RevertFlags, SnapshotCreateFlags,
    SnapshotDeleteFlags, UndefineFlags, View,
};

use super::*;

fn page(name: &str) -> PathBuf {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format");
    docs.join(name)
}

/// Runs the reader, and returns whether it verified the log, and what it said.
fn read(store: &Path, at: Option<Seq>) -> (bool, String) {
    let mut command = Command::new("python3");
    command.arg(page("reader.py")).arg(store);
    if let Some(seq) = at {
        command.arg("--at").arg(seq.to_string());
    }
    let done = command
        .output()
        .expect("these tests need python3: install it");
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

/// What the reader prints of a state: domains by name, moments by id.
fn expected(view: &View) -> String {
    fn kind<D>(text: &mut String, name: &str, list: &MomentList<D>) {
        fn below<D>(
            text: &mut String,
            list: &MomentList<D>,
            parent: Option<MomentId>,
            depth: usize,
        ) {
            let scope = parent.map_or(Scope::Roots, Scope::ChildrenOf);
            let mut children: Vec<_> = list.walk(scope).collect();
            children.sort_by_key(|moment| moment.id);
            for moment in children {
                let mark = if list.current_id() == Some(moment.id) {
                    " *"
                } else {
                    ""
                };
                writeln!(text, "{}{}{mark}", "  ".repeat(depth), moment.name).unwrap();
                below(text, list, Some(moment.id), depth + 1);
            }
        }
        writeln!(text, "  {name}").unwrap();
        below(text, list, None, 2);
    }
    let mut text = String::new();
    for domain in view.state().domains() {
        writeln!(text, "{}", domain.name()).unwrap();
        kind(&mut text, "snapshots", domain.snapshots());
        kind(&mut text, "checkpoints", domain.checkpoints());
    }
    text
}

/// The reader agrees with the library at every record.
#[track_caller]
fn agrees(directory: &Path) {
    let store =
        Connection::open_read_only(&format!("momentlog://{}", directory.display())).unwrap();
    let head = store.view().head().unwrap();
    for number in 1..=head.seq.get() {
        let seq = Seq::new(number).unwrap();
        let (verified, said) = read(directory, Some(seq));
        assert!(verified, "{said}");
        let trees = said.splitn(3, '\n').nth(2).unwrap();
        assert_eq!(
            trees,
            expected(&store.view_at(seq).unwrap()),
            "record {seq}"
        );
        assert!(said.contains(&head.digest.to_string()), "{said}");
    }
}

/// The log of format 1, with its archive: segments of both, without `start`, are the whole log.
#[test]
fn the_log_of_format_1_is_read_by_the_page_alone() {
    let scratch = Scratch::new();
    let whole = scratch.path();
    std::fs::create_dir(&whole).unwrap();
    std::fs::set_permissions(&whole, Permissions::from_mode(0o700)).unwrap();
    for part in ["log-1/archive", "log-1/store"] {
        for entry in std::fs::read_dir(page(part)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            let is_log = Path::new(&name).extension().is_some_and(|end| end == "seg");
            if is_log || name == "head" {
                let copy = whole.join(name);
                std::fs::copy(entry.path(), &copy).unwrap();
                std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
            }
        }
    }
    agrees(&whole);
    let (verified, said) = read(&page("log-1/store"), None);
    assert!(!verified && said.contains("give --archive"), "{said}");
}

fn a_store_of_everything(scratch: &Scratch) -> PathBuf {
    let (store, domain) = scratch.with_domain();
    for name in ["a", "b", "c"] {
        checkpoint(&domain, name).unwrap();
    }
    let find = |name: &str| domain.checkpoint_lookup_by_name(name).unwrap();
    let dump = find("b")
        .xml_desc(momentlog::CheckpointXmlFlags::NONE)
        .unwrap();
    find("b").delete(CheckpointDeleteFlags::NONE).unwrap();
    find("c").delete(CheckpointDeleteFlags::NONE).unwrap();
    domain
        .checkpoint_create_xml(&dump, CheckpointCreateFlags::REDEFINE)
        .unwrap();
    find("a").delete(CheckpointDeleteFlags::CHILDREN).unwrap();
    let mut snapshots = Vec::new();
    for name in ["r", "s", "t", "u"] {
        snapshot(&domain, name).unwrap();
        snapshots.push(domain.snapshot_lookup_by_name(name).unwrap());
    }
    snapshots[1].revert(RevertFlags::NONE).unwrap();
    snapshot(&domain, "v").unwrap();
    let dump = snapshots[3]
        .xml_desc(momentlog::SnapshotXmlFlags::NONE)
        .unwrap();
    let moved = dump.replace("<name>t</name>", "<name>r</name>");
    assert_ne!(moved, dump);
    domain
        .snapshot_create_xml(
            &moved,
            SnapshotCreateFlags::REDEFINE | SnapshotCreateFlags::CURRENT,
        )
        .unwrap();
    snapshots[1]
        .delete(SnapshotDeleteFlags::CHILDREN_ONLY)
        .unwrap();
    domain.start().unwrap();
    domain.destroy().unwrap();
    snapshots[0].delete(SnapshotDeleteFlags::NONE).unwrap();
    let other = DOMAIN
        .replace("<name>", "<name>other-")
        .replace("<uuid>3", "<uuid>4");
    store.define_domain_xml(&other).unwrap();
    domain.undefine(UndefineFlags::SNAPSHOTS_METADATA).unwrap();
    drop((domain, snapshots, store));
    scratch.path()
}

#[test]
fn every_kind_of_change_is_read_by_the_page_alone() {
    let scratch = Scratch::new();
    agrees(&a_store_of_everything(&scratch));
}

#[test]
fn a_reader_of_the_page_finds_what_was_changed() {
    let scratch = Scratch::new();
    let directory = a_store_of_everything(&scratch);
    let segment = directory.join("00000000000000000001.seg");
    let sound = std::fs::read(&segment).unwrap();
    assert!(read(&directory, None).0);
    let number = |at: usize| u32::from_le_bytes(sound[at..at + 4].try_into().unwrap()) as usize;
    // The first frame with a text.
    let mut at = 0;
    while number(at + 84) == 0 {
        at += (96 + number(at + 80) + number(at + 88) + 4).next_multiple_of(8);
    }
    let texts = at + 96 + number(at + 80);
    let end = (texts + number(at + 88) + 4).next_multiple_of(8);
    for (what, place) in [
        ("header", at + 40),
        ("facts", at + 96 + 8),
        ("salt", texts + 8),
        ("text", texts + 40),
        ("checksum", end - 1),
    ] {
        let mut bytes = sound.clone();
        bytes[place] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let (verified, said) = read(&directory, None);
        assert!(!verified && said.contains("at offset"), "{what}: {said}");
        assert!(!said.contains("Traceback"), "{what}: {said}");
    }
    std::fs::write(&segment, &sound[..end - 8]).unwrap();
    let (verified, said) = read(&directory, None);
    assert!(!verified && !said.contains("Traceback"), "{said}");
}
