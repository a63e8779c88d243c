//! What a document holds and no field says: it is printed again, where libvirt prints it.

use momentlog_xml::{
    Carry, RecentDomain, SnapshotView, read_snapshot, read_snapshot_redefine, write_domain,
    write_snapshot,
};

use super::*;

const DOMAIN: &str = "<domain type='kvm'><name>d</name><uuid>11111111-1111-4111-8111-111111111111</uuid><os><type>hvm</type></os></domain>";

/// Reads a snapshot of the domain as a redefinition, and returns its dump.
#[track_caller]
fn dump(xml: &str, carry: Carry, secure: bool) -> String {
    let read = read_snapshot_redefine(xml, false, carry, &RecentDomain::default(), || FRESH);
    let read = read.unwrap_or_else(|error| panic!("{error}\n{xml}"));
    let view = SnapshotView {
        name: &read.name,
        parent: read.parent.as_ref(),
        created: read.created,
        def: &read.def,
        domain: FRESH,
    };
    write_snapshot(view, secure)
}

fn snapshot(attributes: &str, disks: &str, more: &str) -> String {
    format!(
        "<domainsnapshot{attributes}><name>s</name><state>disk-snapshot</state><creationTime>5</creationTime>\
         <disks>{disks}</disks>{DOMAIN}{more}</domainsnapshot>"
    )
}

/// Each line of `expected` is in the dump, in this order, and the dump's dump is the same.
#[track_caller]
fn check(xml: &str, carry: Carry, expected: &[&str]) -> String {
    let dumped = dump(xml, carry, true);
    let mut lines = dumped.lines().map(str::trim);
    for line in expected {
        assert!(lines.any(|found| found == *line), "{line} in\n{dumped}");
    }
    assert_eq!(dump(&dumped, carry, true), dumped);
    dumped
}

#[test]
fn an_overlay_keeps_what_its_source_and_driver_say() {
    let disks = "<disk name='vda' snapshot='external' type='file'><snapshotDeleteInProgress/>\
         <driver type='qcow2'><metadata_cache><max_size unit='bytes'>5</max_size></metadata_cache></driver>\
         <source file='/o'><encryption format='luks'><secret type='passphrase' uuid='0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f'/></encryption></source></disk>\
         <disk name='vdb' snapshot='external' type='network'><driver type='qcow2'/>\
         <source protocol='rbd' name='vms/x' tls='yes' query='a=b'><host name='192.0.2.1' port='6789'/><snapshot name='q'/><config file='/c'/>\
         <auth username='u'><secret type='ceph' uuid='457eb676-33da-42ec-9a8c-9293d545c337'/></auth></source></disk>\
         <disk name='vdc' snapshot='external' type='file'><driver type='qcow2'/><source file='/p'/></disk>";
    for carry in [Carry::Everything, Carry::TestDriver] {
        check(
            &snapshot("", disks, ""),
            carry,
            &[
                "<disk name='vda' snapshot='external' type='file'>",
                "<snapshotDeleteInProgress/>",
                "<driver type='qcow2'>",
                "<max_size unit='bytes'>5</max_size>",
                "<source file='/o'>",
                "<encryption format='luks'>",
                "<disk name='vdb' snapshot='external' type='network'>",
                "<source protocol='rbd' name='vms/x' tls='yes' query='a=b'>",
                "<host name='192.0.2.1' port='6789'/>",
                "<config file='/c'/>",
                "<auth username='u'>",
                "<disk name='vdc' snapshot='external' type='file'>",
                "<driver type='qcow2'/>",
                "<source file='/p'/>",
            ],
        );
    }
}

#[test]
fn what_the_test_driver_does_not_know_is_kept_elsewhere() {
    let disks = "<disk name='vda' snapshot='external' type='file' later='1'><source file='/o' later='2'><later/></source><what/></disk>";
    let more = "<cookie><cpu mode='custom'/></cookie><revertDisks><disk name='vda' snapshot='external' type='file'><source file='/r'/></disk></revertDisks><later>x</later>";
    let xml = snapshot("", disks, more);
    check(
        &xml,
        Carry::Everything,
        &[
            "<disk name='vda' snapshot='external' type='file' later='1'>",
            "<source file='/o' later='2'>",
            "<later/>",
            "<what/>",
            "</disks>",
            "<revertDisks>",
            "<source file='/r'/>",
            "</domain>",
            "<cookie>",
            "<cpu mode='custom'/>",
            "<later>x</later>",
            "</domainsnapshot>",
        ],
    );
    let recorded = dump(&xml, Carry::TestDriver, true);
    for word in ["later", "cookie", "revertDisks", "what"] {
        assert!(!recorded.contains(word), "{recorded}");
    }
    assert!(
        recorded.contains("      <source file='/o'/>\n"),
        "{recorded}"
    );
}

#[test]
fn a_new_snapshot_keeps_what_libvirt_does_not_know_but_no_cookie() {
    let xml = "<domainsnapshot><cookie/><later a='1'/></domainsnapshot>";
    let read = read_snapshot(xml, false, Carry::Everything).unwrap();
    assert_eq!(read.extra.as_deref(), Some("<later a='1'/>\n"));
}

#[test]
fn secrets_of_what_is_carried_are_left_out_unless_asked_for() {
    let disks = "<disk name='vda' snapshot='external' type='network'><source protocol='https' name='p'><host name='h'/>\
         <cookies><cookie name='a'>hush</cookie></cookies></source></disk>";
    let more = "<later><graphics type='vnc' passwd='hush'/></later>";
    let xml = snapshot("", disks, more);
    assert_eq!(
        dump(&xml, Carry::Everything, true).matches("hush").count(),
        2
    );
    let shown = dump(&xml, Carry::Everything, false);
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("<graphics type='vnc'/>"), "{shown}");
    assert!(
        shown.contains("<source protocol='https' name='p'>"),
        "{shown}"
    );
}

#[test]
fn what_is_cut_out_declares_the_namespaces_around_it() {
    let inside = "<metadata><my:x my:k='v' xmlns:my='urn:my'><b:y xmlns:b='urn:b'/></my:x><lib:o/></metadata>\
         <qemu:commandline><qemu:arg value='-s'/></qemu:commandline></domain>";
    let domain = DOMAIN.replace("</domain>", inside);
    let inactive = domain
        .replace("<domain ", "<inactiveDomain ")
        .replace("</domain>", "</inactiveDomain>");
    let xml = format!(
        "<domainsnapshot xmlns:qemu='urn:q' xmlns:lib='urn:lib' xmlns:unused='urn:u'><name>s</name><state>shutoff</state>\
         <creationTime>5</creationTime>{domain}{inactive}<cookie lib:a='1'/></domainsnapshot>"
    );
    let dumped = check(
        &xml,
        Carry::Everything,
        &[
            "<domain type='kvm' xmlns:qemu='urn:q'>",
            "<metadata xmlns:lib='urn:lib'>",
            "<my:x my:k='v' xmlns:my='urn:my'>",
            "<b:y xmlns:b='urn:b'/>",
            "<inactiveDomain type='kvm' xmlns:qemu='urn:q'>",
            "<metadata xmlns:lib='urn:lib'>",
            "<cookie lib:a='1' xmlns:lib='urn:lib'/>",
        ],
    );
    assert!(!dumped.contains("urn:u'"), "{dumped}");
}

/// A prefix that is bound again inside means what it means there.
#[test]
fn a_prefix_that_is_bound_again_inside_is_not_declared_outside() {
    let domain = DOMAIN.replace(
        "</domain>",
        "<metadata><p:x xmlns:p='urn:inner'/></metadata></domain>",
    );
    let xml = format!(
        "<domainsnapshot xmlns:p='urn:outer'><name>s</name><state>shutoff</state><creationTime>5</creationTime>{domain}</domainsnapshot>"
    );
    let dumped = check(&xml, Carry::Everything, &["<p:x xmlns:p='urn:inner'/>"]);
    assert!(!dumped.contains("urn:outer"), "{dumped}");
}

#[test]
fn a_prefix_that_nothing_declares_is_refused_with_its_place() {
    for (more, column) in [
        ("<metadata><lib:o/></metadata>", 1),
        ("<metadata><o lib:a='1'/></metadata>", 1),
        ("<metadata><lib:o xmlns:lib='urn:x'/><lib:o/></metadata>", 1),
    ] {
        let error = domain(&format!("\n{more}")).unwrap_err();
        assert!(error.to_string().contains("prefix 'lib'"), "{error}");
        assert_eq!(error.position.line, 2, "{error}");
        assert!(error.position.column > column, "{error}");
    }
}

/// Dump, redefine, dump gives the same bytes.
#[track_caller]
fn fixed(more: &str, expected: &str) {
    let def = domain(more).unwrap();
    let first = write_domain(&def, None, true);
    assert!(first.contains(expected), "{expected} in\n{first}");
    let again = read_domain(&first, || FRESH).unwrap();
    assert_eq!(write_domain(&again, None, true), first);
}

#[test]
fn a_dump_is_a_fixed_point() {
    fixed(
        "<metadata><a> <!-- one -->\n\n <!-- two --> </a></metadata>",
        "<a>\n      <!-- one -->\n      <!-- two -->\n    </a>",
    );
    fixed("<metadata><a><![CDATA[]]></a></metadata>", "    <a/>\n");
    fixed(
        "<metadata><a>1<?cut here?>2</a></metadata>",
        "<a>1<?cut here?>2</a>",
    );
    fixed(
        "<metadata><?only this > \n  <one?></metadata>",
        "    <?only this > \n  <one?>\n",
    );
    fixed(
        "<metadata><a><![CDATA[<x>&]]></a></metadata>",
        "<a>&lt;x&gt;&amp;</a>",
    );
    fixed(
        "<metadata><p>one <b>two</b> <i>three</i></p></metadata>",
        "<p>one <b>two</b> <i>three</i></p>",
    );
    fixed("<metadata><a>  </a></metadata>", "<a>  </a>");
    fixed("<!-- c --><title>t</title>", "  <!-- c -->\n");
}

/// A text that was erased is empty; what is printed says that there was one.
#[test]
fn what_was_erased_is_told_as_erased() {
    let disks =
        "<disk name='vda' snapshot='external' type='file'><source file='/o' later='1'/></disk>";
    let more = "<revertDisks/><cookie/>";
    let xml = snapshot("", disks, more);
    let everything = Carry::Everything;
    let read = read_snapshot_redefine(&xml, false, everything, &RecentDomain::default(), || FRESH);
    let mut def = read.unwrap().def;
    let domain = def.domain.take().unwrap();
    def.domain = Some(std::sync::Arc::new(DomainDef {
        xml: "".into(),
        ..(*domain).clone()
    }));
    def.revert_disks = Some("".into());
    def.extra = Some("".into());
    def.disks[0].xml = Some("".into());
    let name = momentlog_core::MomentName::new("s").unwrap();
    let view = SnapshotView {
        name: &name,
        parent: None,
        created: 5,
        def: &def,
        domain: FRESH,
    };
    let dumped = write_snapshot(view, false);
    for what in ["rest of the disk", "revertDisks", "domain", "rest"] {
        let comment = format!("<!-- the {what} was erased -->");
        assert!(dumped.contains(&comment), "{comment} in\n{dumped}");
    }
    assert!(dumped.contains("<source file='/o'/>"), "{dumped}");
}
