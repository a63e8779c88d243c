//! What is refused, and where the error says that it stands.

use momentlog_xml::{
    Carry, Position, RecentDomain, read_checkpoint, read_snapshot, read_snapshot_redefine,
};

use super::FRESH;

/// Checks what the error of a snapshot's XML says.
#[track_caller]
fn check(xml: &str, expected: &str) {
    let error = read_snapshot(xml, true, Carry::Everything).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_error_shows_the_place_in_a_long_line() {
    let xml = format!("<domainsnapshot>{}</x>", "<!-- a -->".repeat(20));
    let error = read_snapshot(&xml, false, Carry::Everything).unwrap_err();
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(error.position.column > 80, "{shown}");
    assert!(
        lines[1].ends_with('<') && lines[1].chars().count() == 80,
        "{shown}"
    );
    assert_eq!(lines[2], format!("{}^", "-".repeat(79)), "{shown}");
}

#[test]
fn an_error_shows_no_secret() {
    check(
        "<domainsnapshot><graphics passwd='s3cret'/></x>",
        "(domain_snapshot):1: ill-formed document: expected `</domainsnapshot>`, but `</x>` was found\n\
         <domainsnapshot><graphics passwd='***'/></x>\n\
         ----------------------------------------^",
    );
}

#[test]
fn an_error_cannot_drive_a_terminal() {
    let xml = "<domainsnapshot><a\u{9b}2J\u{202e}/></domainsnapshot>";
    let shown = read_snapshot(xml, true, Carry::Everything)
        .unwrap_err()
        .to_string();
    assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
    assert!(shown.contains("\\u{9b}2J\\u{202e}"), "{shown:?}");
    let xml = "<domaincheckpoint>\n<name>a\u{85}\u{2067}b</name></domaincheckpoint>";
    let error = read_checkpoint(xml).unwrap_err();
    assert_eq!(
        error.excerpt,
        "<name>a\\u{85}\\u{2067}b</name></domaincheckpoint>"
    );
    assert!(
        !error.to_string().contains(['\u{85}', '\u{2067}']),
        "{error}"
    );
}

#[test]
fn an_encoding_that_is_not_read_is_named_with_its_place() {
    let xml = "<?xml version='1.0' encoding='ISO-8859-1'?><domainsnapshot/>";
    let error = read_snapshot(xml, false, Carry::Everything).unwrap_err();
    assert_eq!(error.position, Position { line: 1, column: 1 });
    let shown = error.to_string();
    assert!(
        shown.contains("encoding 'ISO-8859-1' is not supported, only UTF-8 is"),
        "{shown}"
    );
}

/// A snapshot to be redefined, with blanks round a value of a list: the schema takes them, what reads the value does not.
#[test]
fn blanks_round_a_word_are_refused_by_what_reads_it() {
    let moment = |more: &str, state: &str| {
        format!(
            "<domainsnapshot><name>e</name><creationTime>5</creationTime><state>{state}</state>{more}</domainsnapshot>"
        )
    };
    for (xml, expected) in [
        (
            moment("", " running "),
            "Invalid state ' running ' in domain snapshot XML",
        ),
        (moment("<active> 1 </active>", "running"), ""),
        (
            moment("<memory snapshot=' internal '/>", "running"),
            "Invalid value for attribute 'snapshot' in element 'memory': ' internal '.",
        ),
        (
            moment(
                "<disks><disk name='vda' snapshot=' no '/></disks>",
                "running",
            ),
            "Invalid value for attribute 'snapshot' in element 'disk': ' no '.",
        ),
        (
            moment("<disks><disk name='vda' type=' file '/></disks>", "running"),
            "Invalid value for attribute 'type' in element 'disk': ' file '.",
        ),
        (
            moment(
                "<disks><disk name='vda'><driver type=' qcow2 '/></disk></disks>",
                "running",
            ),
            "unknown disk snapshot driver ' qcow2 '",
        ),
        (
            moment("<disks><disk name=' vda '/></disks>", "running"),
            "' vda ' in attribute 'name' of 'disk' is not a target or an absolute path",
        ),
        (moment("", "bogus"), "'bogus' in 'state' is not a state"),
    ] {
        let recent = RecentDomain::default();
        let read = read_snapshot_redefine(&xml, true, Carry::Everything, &recent, || FRESH);
        let rule = read.err().map(|error| error.rule.to_string());
        assert_eq!(rule.unwrap_or_default(), expected, "{xml}");
    }
}

/// What the schema of libvirt 9.0.0 takes for the source of an overlay, as its test driver answers.
#[test]
fn a_schema_takes_what_the_kind_of_an_overlay_has() {
    let host = "<host name='h' port='1'/>";
    let network = |protocol: &str, attribute: &str, inside: &str| {
        format!(
            "<disk name='vda' type='network'><source protocol='{protocol}' name='a/n' {attribute}>{host}{inside}</source></disk>"
        )
    };
    let local =
        |kind: &str, source: &str| format!("<disk name='vda' type='{kind}'>{source}</disk>");
    let driver = "<driver type='qcow2'/>";
    for (disk, taken) in [
        (local("file", "<source file='/a' index='1'/>"), true),
        (local("file", "<source file='/a' index='x'/>"), false),
        (
            local("file", "<source file='/a' startupPolicy='optional'/>"),
            false,
        ),
        (local("file", "<source file='/a' dev='/d'/>"), false),
        (local("file", "<source/>"), true),
        (local("file", "<source file='a'/>"), false),
        (local("block", "<source dev='a'/>"), false),
        (local("block", "<source/>"), false),
        (
            local(
                "block",
                "<source dev='/a'><seclabel model='dac' relabel='no'/></source>",
            ),
            true,
        ),
        (
            local(
                "file",
                "<source file='/a'><encryption format='luks'/></source>",
            ),
            true,
        ),
        (
            local(
                "file",
                "<source file='/a'><reservations managed='yes'/></source>",
            ),
            false,
        ),
        (local("file", "<source file='/a'><foo/></source>"), false),
        (local("file", "<source file='/a'>text</source>"), false),
        (
            network("nbd", "", "").replace("<source", &format!("{driver}<source")),
            false,
        ),
        (network("nbd", "tls='yes'", ""), true),
        (network("rbd", "tls='yes'", ""), false),
        (network("https", "query='q'", ""), true),
        (network("nbd", "query='q'", ""), false),
        (network("nbd", "foo='x'", ""), false),
        (network("rbd", "index='1'", ""), true),
        (
            network("rbd", "", "<snapshot name='s'/><config file='/c'/>"),
            true,
        ),
        (network("nbd", "", "<snapshot name='s'/>"), false),
        (
            network(
                "https",
                "",
                "<cookies><cookie name='a'>b</cookie></cookies>",
            ),
            true,
        ),
        (
            network(
                "iscsi",
                "",
                "<cookies><cookie name='a'>b</cookie></cookies>",
            ),
            false,
        ),
        (
            network("iscsi", "", "<initiator><iqn name='i'/></initiator>"),
            true,
        ),
        (
            network("https", "", "<initiator><iqn name='i'/></initiator>"),
            false,
        ),
        (network("nbd", "", "<encryption format='luks'/>"), true),
        (network("nbd", "", "<foo/>"), false),
        (network("nbd", "", "text"), false),
    ] {
        let xml = format!("<domainsnapshot><name>e</name><disks>{disk}</disks></domainsnapshot>");
        let read = read_snapshot(&xml, true, Carry::Everything);
        let refused = read.err().map(|error| error.to_string());
        assert_eq!(refused.is_none(), taken, "{disk}: {refused:?}");
    }
}
