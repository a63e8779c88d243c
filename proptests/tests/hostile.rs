//! Input that is made to cost as much as it can: bounded time and memory, and an error that says why.
//!
//! The test command takes 4 MiB of each. The full size is
//! `MOMENTLOG_HOSTILE_MIB=64 cargo test --release -p momentlog-proptests --test hostile -- --nocapture --test-threads=1`.
#![expect(
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and the costs are the result"
)]

use std::sync::Arc;
use std::time::Instant;

use momentlog::core::DomainUuid;
use momentlog::store::{LogId, MemoryStore, Store};
use momentlog::xml::{
    Carry, RecentDomain, XML_LEN_MAX, read_checkpoint_redefine, read_domain, read_snapshot_redefine,
};
use momentlog::{Connection, ManualClock, Options};
use momentlog_proptests::untrusted;

const FRESH: DomainUuid = DomainUuid::from_bytes([7; 16]);

fn length() -> usize {
    let mib: usize = std::env::var("MOMENTLOG_HOSTILE_MIB").map_or(4, |mib| {
        mib.parse().expect("MOMENTLOG_HOSTILE_MIB is a number")
    });
    mib << 20
}

/// The most memory that this process ever had, in MiB.
fn memory_peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}

fn told(name: &str, begun: Instant) {
    println!(
        "{name}: {:.1?}, at most {} MiB so far",
        begun.elapsed(),
        memory_peak_mib()
    );
}

#[test]
fn a_log_of_moves_in_a_deep_chain_ends_when_its_steps_are_used_up() {
    let mut store = MemoryStore::new();
    for draft in untrusted::costly_log(length() - 4096) {
        let head = store.head();
        store.append(LogId([1; 16]), head, vec![draft]).unwrap();
    }
    let clock = Arc::new(ManualClock::default());
    let connection = Connection::over(
        Box::new(store),
        Options {
            clock,
            ..Options::default()
        },
    );
    let begun = Instant::now();
    let error = connection.refresh().unwrap_err();
    told("log of moves in a deep chain", begun);
    assert!(
        error.message().contains("steps that are left"),
        "{}",
        error.message()
    );
}

#[test]
fn documents_of_any_shape_are_refused_or_read() {
    let length = length().min(XML_LEN_MAX);
    let head = "<domainsnapshot><name>a</name><creationTime>1</creationTime><state>running</state>";
    let fill = |part: &str| part.repeat((length - 600) / part.len());
    let shapes = [
        ("deep elements", format!("{head}{}", fill("<a>"))),
        (
            "wide elements",
            format!("{head}{}</domainsnapshot>", fill("<a/>")),
        ),
        (
            "attributes",
            format!("{head}<a {}/></domainsnapshot>", fill("b='c' ")),
        ),
        (
            "disks",
            format!(
                "{head}<disks>{}</disks></domainsnapshot>",
                fill("<disk name='a'/>")
            ),
        ),
        (
            "text",
            format!(
                "{head}<description>{}</description></domainsnapshot>",
                fill("&#65;")
            ),
        ),
        ("one tag", format!("{head}<{}", fill("a"))),
        (
            "comments",
            format!("{head}{}</domainsnapshot>", fill("<!---->")),
        ),
        ("namespaces", format!("{head}{}", fill("<a xmlns:b='c'>"))),
    ];
    for (name, xml) in shapes {
        let recent = RecentDomain::default();
        let begun = Instant::now();
        let _ = read_snapshot_redefine(&xml, true, Carry::Everything, &recent, || FRESH);
        let _ = read_snapshot_redefine(&xml, false, Carry::Everything, &recent, || FRESH);
        let checkpoint = xml.replacen("domainsnapshot", "domaincheckpoint", 1);
        let _ = read_checkpoint_redefine(&checkpoint, &recent, || FRESH);
        let _ = read_domain(&xml.replacen("domainsnapshot", "domain", 1), || FRESH);
        told(name, begun);
    }
}

#[test]
fn an_image_of_any_numbers_is_passed_over() {
    let length = length();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let uri = format!("momentlog://{}", path.display());
    let store = Connection::open(&uri).unwrap();
    store
        .define_domain_xml("<domain type='kvm'><name>vm</name><os><type>hvm</type></os></domain>")
        .unwrap();
    let seq = store.make_image().unwrap().seq.get();
    drop(store);
    let file = path.join(format!("{seq:020}.img"));
    let sound = std::fs::read(&file).unwrap();
    for (name, fill) in [("zeros", 0), ("ones", 1), ("largest", 0xff)] {
        let begun = Instant::now();
        // The version and what follows as it was, and then numbers that claim anything.
        for keep in [4, 17, 50, 90, 106] {
            let mut body = sound[96..96 + keep].to_vec();
            body.resize(length, fill);
            let mut bytes = sound[..96].to_vec();
            bytes[88..96].copy_from_slice(&(body.len() as u64).to_le_bytes());
            let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
            bytes[12..16].copy_from_slice(&sum.to_le_bytes());
            bytes.extend(&body);
            bytes.extend(crc32c::crc32c(&body).to_le_bytes());
            std::fs::write(&file, bytes).unwrap();
            let store = Connection::open_read_only(&uri).unwrap();
            assert_eq!(store.view().state().domains().count(), 1);
        }
        told(name, begun);
    }
}
