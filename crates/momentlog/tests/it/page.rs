//! A program that knows only `docs/format.md` reads what this library writes: `docs/format/reader.py`.

mod forged;

use std::ffi::OsStr;
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

/// Runs a program of the page, and returns its exit status, and what it said.
fn run(program: &str, words: &[&OsStr]) -> (i32, String) {
    let done = Command::new("python3")
        .args(["-E", "-S", "-B"])
        .arg(page(program))
        .args(words)
        .output()
        .expect("these tests need python3: install it");
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(!said.contains("Traceback"), "{said}");
    (done.status.code().unwrap(), said)
}

/// Reads a log without an archive, and returns whether it was verified, and what was said.
fn read(store: &Path, at: Option<Seq>) -> (bool, String) {
    read_all(store, None, at)
}

fn read_all(store: &Path, archive: Option<&Path>, at: Option<Seq>) -> (bool, String) {
    let archive = archive.map(Path::as_os_str);
    let archive: Vec<&OsStr> = archive
        .into_iter()
        .flat_map(|archive| [OsStr::new("--archive"), archive])
        .collect();
    run_at("reader.py", store, &archive, at)
}

/// Reads a log from the image at its start.
fn read_image(store: &Path, at: Option<Seq>) -> (bool, String) {
    run_at("image.py", store, &[], at)
}

fn run_at(program: &str, store: &Path, words: &[&OsStr], at: Option<Seq>) -> (bool, String) {
    let mut words = [&[store.as_os_str()], words].concat();
    let number = at.map(|seq| seq.to_string());
    if let Some(number) = &number {
        words.extend([OsStr::new("--at"), OsStr::new(number)]);
    }
    let (status, said) = run(program, &words);
    assert!(status < 2, "{said}");
    (status == 0, said)
}

/// What the reader prints of a state: domains by name, moments in the order of listings.
fn expected(view: &View) -> String {
    fn kind<D>(text: &mut String, name: &str, list: &MomentList<D>) {
        fn below<D>(
            text: &mut String,
            list: &MomentList<D>,
            parent: Option<MomentId>,
            depth: usize,
        ) {
            let scope = parent.map_or(Scope::Roots, Scope::ChildrenOf);
            for moment in list.walk(scope) {
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
    agrees_with(directory, directory, None);
}

/// The reader of a store and its archive agrees with the library that reads all of it in one directory.
#[track_caller]
fn agrees_with(directory: &Path, live: &Path, archive: Option<&Path>) {
    let store =
        Connection::open_read_only(&format!("momentlog://{}", directory.display())).unwrap();
    let head = store.view().head().unwrap();
    for number in 1..=head.seq.get() {
        let seq = Seq::new(number).unwrap();
        let (verified, said) = read_all(live, archive, Some(seq));
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

/// Copies the files of a directory that `is_wanted`, with the modes of a store.
fn copy(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) {
    if !to.exists() {
        std::fs::create_dir(to).unwrap();
        std::fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
    }
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if is_wanted(entry.file_name().to_str().unwrap()) {
            let copy = to.join(entry.file_name());
            std::fs::copy(entry.path(), &copy).unwrap();
            std::fs::set_permissions(&copy, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

fn is_segment(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "seg")
}

/// The log of format 1, with its archive: segments of both, without `start`, are the whole log.
#[test]
fn the_log_of_format_1_is_read_by_the_page_alone() {
    let scratch = Scratch::new();
    let whole = scratch.path();
    let (store, archive) = (page("log-1/store"), page("log-1/archive"));
    copy(&archive, &whole, is_segment);
    copy(&store, &whole, |name| is_segment(name) || name == "head");
    agrees(&whole);
    agrees_with(&whole, &store, Some(&archive));
    let (verified, said) = read(&store, None);
    assert!(!verified && said.contains("give --archive"), "{said}");
}

/// What an archiving leaves that was stopped before the segments were removed, or before `start` was written.
#[test]
fn segments_that_are_in_the_store_and_in_the_archive_must_be_equal() {
    let scratch = Scratch::new();
    let (store, archive) = (scratch.path(), page("log-1/archive"));
    copy(&page("log-1/store"), &store, |_| true);
    copy(&archive, &store, is_segment);
    let (_, whole) = read_all(&page("log-1/store"), Some(&archive), None);
    for with in [Some(&*archive), None] {
        assert_eq!(read_all(&store, with, None), (true, whole.clone()));
    }
    let segment = store.join("00000000000000000001.seg");
    let sound = std::fs::read(&segment).unwrap();
    let mut other = sound.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, other).unwrap();
    let (verified, said) = read_all(&store, Some(&archive), None);
    assert!(
        !verified && said.contains("not as in the archive"),
        "{said}"
    );
    std::fs::write(&segment, sound).unwrap();
    // Before `start`, the archive's copy may be the beginning, from an attempt before.
    let short = scratch.path().with_extension("archive");
    copy(&archive, &short, is_segment);
    let copied = std::fs::File::options()
        .write(true)
        .open(short.join("00000000000000000001.seg"))
        .unwrap();
    copied.set_len(4096).unwrap();
    let (verified, said) = read_all(&store, Some(&short), None);
    assert!(
        !verified && said.contains("not as in the archive"),
        "{said}"
    );
    std::fs::remove_file(store.join("start")).unwrap();
    for with in [&short, &archive] {
        assert_eq!(read_all(&store, Some(with), None), (true, whole.clone()));
    }
}

#[test]
fn every_changed_byte_of_head_and_start_is_refused() {
    let scratch = Scratch::new();
    let (store, archive) = (scratch.path(), page("log-1/archive"));
    copy(&page("log-1/store"), &store, |_| true);
    for name in ["head", "start"] {
        let path = store.join(name);
        let sound = std::fs::read(&path).unwrap();
        let mut changed: Vec<Vec<u8>> = vec![sound[..71].to_vec(), [&sound[..], &[0]].concat()];
        for place in (0..sound.len()).step_by(3) {
            let mut bytes = sound.clone();
            bytes[place] ^= 1 << (place % 8);
            changed.push(bytes);
        }
        for bytes in changed {
            std::fs::write(&path, &bytes).unwrap();
            let (verified, said) = read_all(&store, Some(&archive), None);
            assert!(!verified && said.contains(name), "{bytes:x?}: {said}");
        }
        std::fs::write(&path, sound).unwrap();
    }
    assert!(read_all(&store, Some(&archive), None).0);
}

#[test]
fn a_start_that_names_no_bridge_is_refused() {
    let scratch = Scratch::new();
    let (store, archive) = (scratch.path(), page("log-1/archive"));
    copy(&page("log-1/store"), &store, |_| true);
    let mut start = std::fs::read(store.join("head")).unwrap();
    start[..8].copy_from_slice(b"\x8amtstrt\n");
    let sum = forged::crc32c(&[&start[..12], &start[16..]]);
    start[12..16].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(store.join("start"), start).unwrap();
    let (verified, said) = read_all(&store, Some(&archive), None);
    assert!(!verified && said.contains("no bridge"), "{said}");
}

/// The program that reads the image at the start says the same as the one that reads the archive.
#[track_caller]
fn begins_with_its_image(store: &Path, archive: &Path, records: std::ops::RangeInclusive<u64>) {
    for number in records {
        let trees = |(verified, said): (bool, String)| {
            assert!(verified, "record {number}: {said}");
            let (_, trees) = said.split_once('\n').unwrap();
            trees.to_owned()
        };
        let seq = Seq::new(number);
        assert_eq!(
            trees(read_image(store, seq)),
            trees(read_all(store, Some(archive), seq))
        );
    }
}

#[test]
fn an_image_at_the_start_is_read_by_the_page_alone() {
    let (store, archive) = (page("log-1/store"), page("log-1/archive"));
    begins_with_its_image(&store, &archive, 14..=19);
    let (verified, said) = read_image(&archive, None);
    assert!(!verified && said.contains("no start"), "{said}");
    // Siblings in an order of their own, checkpoints of another domain, and a hold.
    let scratch = Scratch::new();
    let (store, domain) = siblings(&scratch);
    let other = DOMAIN
        .replace("<name>", "<name>other-")
        .replace("<uuid>3", "<uuid>4");
    let other = store.define_domain_xml(&other).unwrap();
    checkpoint(&other, "k").unwrap();
    domain
        .snapshot_lookup_by_name("z")
        .unwrap()
        .revert(RevertFlags::NONE)
        .unwrap();
    drop((other, domain, store));
    forged::hold(&scratch.path(), 1);
    let archive = scratch.path().with_extension("archive");
    let store = scratch.open();
    let last = store.archive(&archive).unwrap().bridge.seq.get();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    snapshot(&domain, "after").unwrap();
    drop((domain, store));
    begins_with_its_image(&scratch.path(), &archive, last..=last + 1);
}

#[test]
fn every_changed_byte_of_the_image_at_the_start_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.path();
    copy(&page("log-1/store"), &store, |_| true);
    let path = store.join("00000000000000000013.img");
    let sound = std::fs::read(&path).unwrap();
    let mut changed = vec![vec![], sound[..sound.len() - 1].to_vec()];
    for place in (0..120).step_by(5).chain((120..sound.len()).step_by(397)) {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << (place % 8);
        changed.push(bytes);
    }
    for bytes in changed {
        std::fs::write(&path, bytes).unwrap();
        let (verified, said) = read_image(&store, None);
        assert!(!verified && said.contains(".img"), "{said}");
    }
    // Its recorded time is another, and its checksum fits.
    let mut other = sound;
    other[100] ^= 1;
    let end = other.len() - 4;
    let sum = forged::crc32c(&[&other[96..end]]);
    other[end..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&path, other).unwrap();
    let (verified, said) = read_image(&store, None);
    assert!(!verified && said.contains("another image"), "{said}");
}

#[test]
fn a_wrong_call_is_answered_with_the_usage() {
    let store = page("log-1/store");
    for at in ["\u{b2}", "x", "", "1.0"] {
        let (status, said) = run(
            "reader.py",
            &[store.as_os_str(), OsStr::new("--at"), OsStr::new(at)],
        );
        assert!(status == 2 && said.contains("usage:"), "{at}: {said}");
    }
    let archive = page("log-1/archive");
    for at in [-1, 0, 14, i64::MAX] {
        let at = at.to_string();
        let (status, said) = run(
            "reader.py",
            &[archive.as_os_str(), OsStr::new("--at"), OsStr::new(&at)],
        );
        assert!(status == 1 && said.contains("no record"), "{at}: {said}");
    }
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

/// Siblings come newest link first: what is redefined is linked once more, and what a deletion moves up comes as a block.
fn siblings(scratch: &Scratch) -> (Connection, momentlog::Domain) {
    let (store, domain) = scratch.with_domain();
    snapshot(&domain, "r").unwrap();
    let find = |name: &str| domain.snapshot_lookup_by_name(name).unwrap();
    let below = |parent: &str, name: &str| {
        find(parent).revert(RevertFlags::NONE).unwrap();
        snapshot(&domain, name).unwrap();
    };
    for name in ["b", "c", "a", "B"] {
        below("r", name);
    }
    for name in ["z", "x", "y"] {
        below("c", name);
    }
    let dump = find("b")
        .xml_desc(momentlog::SnapshotXmlFlags::NONE)
        .unwrap();
    domain
        .snapshot_create_xml(&dump, SnapshotCreateFlags::REDEFINE)
        .unwrap();
    find("c").delete(SnapshotDeleteFlags::NONE).unwrap();
    (store, domain)
}

#[test]
fn siblings_are_in_the_order_of_listings() {
    let scratch = Scratch::new();
    drop(siblings(&scratch));
    agrees(&scratch.path());
    let (_, said) = read(&scratch.path(), None);
    let names: Vec<&str> = said
        .lines()
        .filter_map(|line| line.strip_prefix("      "))
        .collect();
    assert_eq!(names, ["y *", "x", "z", "b", "B", "a"]);
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
    }
    std::fs::write(&segment, &sound[..end - 8]).unwrap();
    let (verified, said) = read(&directory, None);
    assert!(!verified, "{said}");
}
