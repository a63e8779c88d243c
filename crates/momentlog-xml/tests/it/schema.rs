//! What the schemas refuse, and where: every rule of structure once at least.

use momentlog_xml::{
    Carry, RecentDomain, read_checkpoint, read_checkpoint_redefine, read_snapshot,
};

use super::*;

/// Reads a checkpoint with `inside` on its second line.
fn checkpoint(inside: &str) -> Result<(), XmlError> {
    let xml = format!("<domaincheckpoint>\n{inside}</domaincheckpoint>");
    read_checkpoint(&xml).map(|_| ())
}

/// Reads a snapshot with `inside` on its second line, under the schema.
fn snapshot(inside: &str) -> Result<(), XmlError> {
    let xml = format!("<domainsnapshot>\n{inside}</domainsnapshot>");
    read_snapshot(&xml, true, Carry::Everything).map(|_| ())
}

#[test]
fn a_checkpoint_holds_what_its_schema_knows() {
    let rows = [
        ("", ""),
        ("<!-- a --><?b c?>", ""),
        (
            "<name>c</name><description/><creationTime>5</creationTime>",
            "",
        ),
        (
            "  <bogus/>",
            "2:3 element 'bogus' is not allowed in 'domaincheckpoint'",
        ),
        ("text", "1:1 text is not allowed in 'domaincheckpoint'"),
        (
            "<name>a</name><name>a</name>",
            "2:15 element 'name' may stand in 'domaincheckpoint' only once",
        ),
        (
            "<name>a b</name>",
            "2:1 'a b' in 'name' is not the name of a checkpoint",
        ),
        (
            "<name/>",
            "2:1 '' in 'name' is not the name of a checkpoint",
        ),
        (
            "<name><b/></name>",
            "2:7 element 'b' is not allowed in 'name'",
        ),
        (
            "<name a='b'>c</name>",
            "2:1 attribute 'a' is not allowed in 'name'",
        ),
        (
            "<creationTime>-1</creationTime>",
            "2:1 '-1' in 'creationTime' is not an unsigned number",
        ),
        (
            "<creationTime>18446744073709551616</creationTime>",
            "2:1 '18446744073709551616' in 'creationTime' is not an unsigned number",
        ),
        ("<parent/>", "2:1 'parent' needs a 'name'"),
        (
            "<parent><name>a b</name></parent>",
            "2:9 'a b' in 'name' is not the name of a checkpoint",
        ),
        (
            "<x:name xmlns:x='urn:x'>c</x:name>",
            "2:1 element 'x:name' is not allowed in 'domaincheckpoint'",
        ),
    ];
    check_table(&rows, checkpoint);
}

#[test]
fn a_checkpoints_disks_are_named_and_tracked() {
    let rows = [
        ("<disks><disk name='vda'/><disk name='/a'/></disks>", ""),
        ("<disks/>", "2:1 'disks' needs at least one 'disk'"),
        (
            "<disks><disc/></disks>",
            "2:8 element 'disc' is not allowed in 'disks'",
        ),
        ("<disks><disk/></disks>", "2:8 'disk' needs a 'name'"),
        (
            "<disks><disk name='a'/></disks>",
            "2:8 'a' in attribute 'name' of 'disk' is not a target or an absolute path",
        ),
        (
            "<disks><disk name='/'/></disks>",
            "2:8 '/' in attribute 'name' of 'disk' is not a target or an absolute path",
        ),
        (
            "<disks><disk name='vda' checkpoint='yes'/></disks>",
            "2:8 'yes' in attribute 'checkpoint' of 'disk' is not 'no' or 'bitmap'",
        ),
        (
            "<disks><disk name='vda' size='-1'/></disks>",
            "2:8 '-1' in attribute 'size' of 'disk' is not an unsigned number",
        ),
        (
            "<disks><disk name='vda' checkpoint='no' bitmap='b'/></disks>",
            "2:8 attribute 'bitmap' is not allowed with checkpoint='no'",
        ),
        (
            "<disks><disk name='vda' checkpoint='no' size='1'/></disks>",
            "2:8 attribute 'size' is not allowed with checkpoint='no'",
        ),
        (
            "<disks><disk name='vda' mode='b'/></disks>",
            "2:8 attribute 'mode' is not allowed in 'disk'",
        ),
        (
            "<disks><disk name='vda'><b/></disk></disks>",
            "2:25 element 'b' is not allowed in 'disk'",
        ),
    ];
    check_table(&rows, checkpoint);
}

#[test]
fn a_domain_in_a_checkpoint_is_one() {
    let read = |domain: &str| {
        let xml = format!(
            "<domaincheckpoint><name>c</name><creationTime>5</creationTime>\n{domain}</domaincheckpoint>"
        );
        read_checkpoint_redefine(&xml, &RecentDomain::default(), || FRESH)
    };
    let rows = [
        (
            "<domain type='kvm'><name>d</name><os><type>hvm</type></os></domain>",
            "",
        ),
        ("<domain/>", "2:1 'domain' needs a 'type'"),
        (
            "<domain type='x'/>",
            "2:1 'domain' needs a 'type' that is known",
        ),
        ("<domain type='kvm'/>", "2:1 'domain' needs a 'name'"),
        (
            "<domain type='kvm'><name>d</name><name>d</name></domain>",
            "2:34 element 'name' may stand in 'domain' only once",
        ),
        (
            "<domain type='kvm'><name>d</name><os/><os/></domain>",
            "2:39 element 'os' may stand in 'domain' only once",
        ),
        (
            "<domain type='kvm'><name>d</name><uuid>x</uuid></domain>",
            "2:34 'x' is not a uuid",
        ),
    ];
    check_table(&rows, read);
}

#[test]
fn a_snapshot_holds_what_its_schema_knows() {
    let rows = [
        ("", ""),
        ("<name>a b</name><creationTime>x</creationTime>", ""),
        (
            "<bogus/>",
            "2:1 element 'bogus' is not allowed in 'domainsnapshot'",
        ),
        (
            "<description/><description/>",
            "2:15 element 'description' may stand in 'domainsnapshot' only once",
        ),
        ("<state>off</state>", "2:1 'off' in 'state' is not a state"),
        ("<active>2</active>", "2:1 '2' in 'active' is not 0 or 1"),
        ("<parent/>", "2:1 'parent' needs a 'name'"),
        (
            "<parent><name>a</name><x/></parent>",
            "2:23 element 'x' is not allowed in 'parent'",
        ),
        ("<memory/>", "2:1 external 'memory' needs a 'file'"),
        (
            "<memory snapshot='manual'/>",
            "2:1 'manual' in attribute 'snapshot' of 'memory' is not a location",
        ),
        (
            "<memory file='m'/>",
            "2:1 'm' in attribute 'file' of 'memory' is not an absolute path",
        ),
        (
            "<memory snapshot='no' file='/m'/>",
            "2:1 attribute 'file' is not allowed with snapshot='no'",
        ),
        (
            "<domain><uuid>28280000-0000-4000-8000-000000000001</uuid></domain>",
            "",
        ),
        (
            "<domain><uuid>x</uuid></domain>",
            "2:1 'domain' needs a 'type'",
        ),
        (
            "<inactiveDomain><uuid>28280000-0000-4000-8000-000000000001</uuid></inactiveDomain>",
            "2:1 'domain' needs a 'type'",
        ),
    ];
    check_table(&rows, snapshot);
}

#[test]
fn a_snapshots_disks_say_what_their_location_allows() {
    let rows = [
        ("<disks/>", ""),
        ("<disks><disk name='vda' snapshot='internal'/></disks>", ""),
        ("<disks><disk name='vda' snapshot='manual'/></disks>", ""),
        ("<disks><disk/></disks>", "2:8 'disk' needs a 'name'"),
        (
            "<disks><disk name='vda' snapshot='x'/></disks>",
            "2:8 'x' in attribute 'snapshot' of 'disk' is not a location",
        ),
        (
            "<disks><disk name='vda' type='dir'/></disks>",
            "2:8 'dir' in attribute 'type' of 'disk' is not a type of overlay",
        ),
        (
            "<disks><disk name='vda' snapshot='no' type='file'/></disks>",
            "2:8 attribute 'type' is only allowed with snapshot='external'",
        ),
        (
            "<disks><disk name='vda' snapshot='no'><source file='/a'/></disk></disks>",
            "2:39 'source' is only allowed with snapshot='external'",
        ),
        (
            "<disks><disk name='vda' snapshot='internal'><driver type='qcow2'/></disk></disks>",
            "2:45 'driver' is only allowed with snapshot='external'",
        ),
        (
            "<disks><disk name='vda'><driver type='raw'/></disk></disks>",
            "2:25 'raw' in attribute 'type' of 'driver' is not a format with a backing image",
        ),
        (
            "<disks><disk name='vda'><driver name='q'/></disk></disks>",
            "2:25 attribute 'name' is not allowed in 'driver'",
        ),
        (
            "<disks><disk name='vda' type='block'><source/></disk></disks>",
            "2:38 'source' needs a 'dev'",
        ),
        (
            "<disks><disk name='vda' type='network'><driver/></disk></disks>",
            "2:40 'driver' is not allowed with type='network'",
        ),
        (
            "<revertDisks><disk/></revertDisks>",
            "2:14 'disk' needs a 'name'",
        ),
    ];
    check_table(&rows, snapshot);
}
