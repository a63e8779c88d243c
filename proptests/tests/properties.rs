//! Any sequence of commands agrees with the model, in memory and in files.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use momentlog::core::Profile;
use momentlog::store::{FileStore, Limits, MemoryStore, RealDisk, Verdict};
use momentlog::{Connection, ManualClock, Options};
use momentlog_proptests::untrusted::{Edit, MadeUpFacts, MadeUpLog};
use momentlog_proptests::{Op, apply_forged, connection, forged, ops, run, untrusted};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_sequence_agrees_with_the_model(ops in ops(60)) {
        run(&ops, Box::new(MemoryStore::new()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn jobs_holds_and_settings_between_commands_fit_exactly_if_they_should(steps in forged(40)) {
        apply_forged(&steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_store_of_files_agrees_too_and_reads_back_the_same(ops in ops(30)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        // Segments so short that most sequences fill several.
        let limits = Limits { segment_len_first: 1024, segment_len_max: 4096, fill_len_max: 512 };
        run(&ops, Box::new(FileStore::with_limits(Arc::new(RealDisk::new(&path)), limits)));
        if path.exists() {
            let verified = momentlog::verify(&path, None, None, &mut |_| {}).unwrap();
            prop_assert_eq!(verified.verdict(), Verdict::Unanchored, "{:?}", verified);
            prop_assert_eq!(verified.breach, None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_read_as_frames_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        untrusted::frame(&bytes);
    }

    #[test]
    fn a_log_that_was_changed_is_opened_without_harm(made_up in made_up::<MadeUpLog>(600)) {
        untrusted::log(&made_up);
    }

    #[test]
    fn facts_that_were_made_up_are_replayed_without_harm(made_up in made_up::<Vec<MadeUpFacts>>(1200)) {
        untrusted::facts(&made_up);
    }

    #[test]
    fn an_image_that_was_changed_is_opened_without_harm(
        ops in ops(12), edits in made_up::<Vec<Edit>>(80),
    ) {
        untrusted::image(&ops, &edits);
    }

    #[test]
    fn any_text_is_read_as_xml_without_harm(text in xml_text()) {
        untrusted::snapshot_xml(&text);
        untrusted::checkpoint_xml(&text);
        untrusted::domain_xml(&text);
    }

    #[test]
    fn a_backup_of_any_parts_is_read_aligned_and_written_without_harm(text in backup_text()) {
        untrusted::backup_xml(&text);
    }
}

/// What a fuzz target makes of random bytes.
fn made_up<T: for<'a> Arbitrary<'a> + std::fmt::Debug>(length: usize) -> impl Strategy<Value = T> {
    prop::collection::vec(any::<u8>(), 0..length).prop_map(|bytes| {
        T::arbitrary(&mut Unstructured::new(&bytes)).expect("there are always bytes enough")
    })
}

/// Text made of the pieces that the three documents are made of, in any order, mostly broken.
fn xml_text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<domainsnapshot>",
        "</domainsnapshot>",
        "<domaincheckpoint>",
        "</domaincheckpoint>",
        "<name>n</name>",
        "<creationTime>5</creationTime>",
        "<state>running</state>",
        "<parent><name>p</name></parent>",
        "<disks>",
        "<disk name='vda'/>",
        "<disk name='vda' snapshot='external'><source file='/x'/></disk>",
        "</disks>",
        "<domain type='test'><name>d</name><os><type>hvm</type></os>",
        "<memory unit='MiB'>1</memory>",
        "<devices><disk><source file='/a'/><target dev='vda'/></disk></devices>",
        "</domain>",
        "<memory snapshot='no'/>",
        "<!-- a > \n <b -->",
        "<![CDATA[<]]>",
        "&amp;",
        "&#10;",
        "&#13;",
        " \n ",
        "text",
        "<x a='&#10;'>",
        "</x>",
        "<p:q xmlns:p='u'/>",
    ]);
    prop::collection::vec(pieces, 0..16).prop_map(|pieces| pieces.concat())
}

/// A backup made of the parts that backups are made of, mostly one that the schema takes.
fn backup_text() -> impl Strategy<Value = String> {
    let server = prop::sample::select(vec![
        "<server name='h' port='1' tls='yes'/>",
        "<server name='::1'/>",
        "<server transport='unix' socket='/s&#9;&apos;'/>",
    ]);
    let attribute = |words: &'static [&'static str]| prop::sample::select(words);
    let attributes = (
        attribute(&["vda", "vdb", "sda", "vdz"]),
        attribute(&["", " backup='yes'", " backup='no'"]),
        attribute(&["", " type='file'", " type='block'"]),
        attribute(&["", " backupmode='full'", " backupmode='incremental'"]),
        attribute(&["", " incremental='c'", " incremental=' &lt;'"]),
        attribute(&["", " exportname='e&#10;'", " exportbitmap=''"]),
    );
    let destination = attribute(&[
        "",
        "<PLACE file='/t'/>",
        "<PLACE dev='/d&quot;'/>",
        "<PLACE file='/t'><seclabel relabel='no'/><seclabel model='m'><label>&#13;l</label></seclabel></PLACE>",
        "<PLACE file='/t'><seclabel model='m'><label/></seclabel></PLACE>",
    ]);
    let driver = attribute(&["", "<driver type='qcow2'/>", "<driver type='raw'/>"]);
    let disk = (attributes, destination, driver).prop_map(|(attributes, destination, driver)| {
        let (name, backup, kind, extent, since, export) = attributes;
        format!(
            "<disk name='{name}'{backup}{kind}{extent}{since}{export}>{destination}{driver}</disk>"
        )
    });
    let since = attribute(&["", "<incremental>a &amp; b</incremental>"]);
    let disks = prop::collection::vec(disk, 0..4).prop_map(|disks| match disks.concat() {
        none if none.is_empty() => none,
        some => format!("<disks>{some}</disks>"),
    });
    (prop::option::of(server), since, disks).prop_map(|(server, since, disks)| {
        let (mode, place) = match server {
            Some(_) => ("pull", "scratch"),
            None => ("push", "target"),
        };
        let server = server.unwrap_or_default();
        let disks = disks.replace("PLACE", place);
        format!("<domainbackup mode='{mode}'>{since}{server}{disks}</domainbackup>")
    })
}

#[test]
fn whole_documents_survive_a_round_of_writing_and_reading() {
    let domain = "<domain type='test'><name>d</name><os><type>hvm</type></os><title>a &gt;\n  b</title>\
        <!-- c >\n  <d --><m>x<n/>\n y</m><metadata><q:v xmlns:q='urn:q' w='1&#10;2&#9;'>z&#13;</q:v></metadata></domain>";
    untrusted::domain_xml(domain);
    untrusted::checkpoint_xml(&format!(
        "<domaincheckpoint><name>n</name><creationTime>5</creationTime>{domain}</domaincheckpoint>"
    ));
    untrusted::snapshot_xml(&format!(
        "<domainsnapshot><name>n\n</name><state>running</state><creationTime>5</creationTime>{domain}</domainsnapshot>"
    ));
}

#[test]
fn a_blank_text_with_a_line_break_does_not_move_with_the_indent() {
    let domain = "<domain type='test'><name>d</name><os><type>hvm</type></os><title>\n</title><t> \t</t></domain>";
    untrusted::domain_xml(domain);
    untrusted::checkpoint_xml(&format!(
        "<domaincheckpoint><name>n</name><creationTime>5</creationTime>{domain}</domaincheckpoint>"
    ));
}

#[test]
fn a_domain_of_more_disks_than_can_be_compared_is_refused() {
    let disks = |count: usize| -> String {
        let letter = |number: usize| char::from(b"abcdefghijklmnopqrstuvwxyz"[number % 26]);
        let disk = |index: usize| {
            let [a, b, c] = [index / 676, index / 26, index].map(letter);
            format!("<disk><target dev='vd{a}{b}{c}'/></disk>")
        };
        (0..count).map(disk).collect::<Vec<_>>().concat()
    };
    let domain = |count: usize| {
        let xml = format!(
            "<domain type='test'><name>d</name><os><type>hvm</type></os><devices>{}</devices></domain>",
            disks(count)
        );
        momentlog::xml::read_domain(&xml, || momentlog::core::DomainUuid::from_bytes([1; 16]))
    };
    assert_eq!(domain(100).unwrap().disks.len(), 100);
    assert_eq!(
        domain(5000).unwrap_err().to_string(),
        "a domain has at most 4096 disks"
    );
}

/// A bug of an earlier day stays a case of its own.
#[track_caller]
fn regression(ops: &[Op]) {
    run(ops, Box::new(MemoryStore::new()));
}

#[test]
fn a_redefine_below_the_leaf_of_an_emptied_chain() {
    let create = |name| Op::Create {
        snapshot: false,
        name: Some(name),
        halt: false,
    };
    let delete = Op::Delete {
        snapshot: false,
        name: 0,
        extent: 1,
    };
    let redefine = |parent| Op::Redefine {
        snapshot: false,
        name: 1,
        parent,
        current: false,
        state: 0,
        domain: true,
    };
    regression(&[
        Op::Define,
        create(0),
        create(1),
        delete,
        redefine(Some(0)),
        redefine(None),
        create(0),
    ]);
}

#[test]
fn a_job_that_would_go_on_beside_a_long_one() {
    let begin = Op::Begin {
        long: false,
        action: None,
    };
    let goes_on = Op::End {
        long: false,
        goes_on: true,
    };
    let twice = [begin, goes_on];
    regression(&[&[Op::Define], &twice[..], &twice[..]].concat());
}

#[test]
fn a_profile_is_part_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let uri = format!("momentlog://{}/store", dir.path().display());
    let options = || Options {
        clock: Arc::new(ManualClock::at_second(7)),
        ..Options::default()
    };
    let test = Connection::open_with(&format!("{uri}?profile=libvirt-test"), options()).unwrap();
    test.lookup_domain_by_name("test").unwrap_err();
    test.define_domain_xml("<domain type='test'><name>vm</name><os><type>hvm</type></os></domain>")
        .unwrap();
    let own = Connection::open_with(&format!("{uri}?profile=own"), options()).unwrap();
    assert_eq!(
        own.refresh().unwrap().state().profile(),
        Profile::LibvirtTest
    );
    assert!(
        own.lookup_domain_by_name("test")
            .unwrap()
            .is_active()
            .unwrap()
    );
    let memory = connection(
        Box::new(MemoryStore::new()),
        Arc::new(ManualClock::default()),
    );
    assert_eq!(memory.view().state().profile(), Profile::Own);
}
