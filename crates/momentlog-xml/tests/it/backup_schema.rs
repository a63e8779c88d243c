//! What libvirt's schema and parser take of a backup.

use momentlog_xml::read_backup;

use super::*;

const SERVER: &str = "<server transport='unix' socket='/images/nbd.sock'/>";

#[test]
fn the_schema_says_what_a_backup_holds() {
    let rows = [
        ("<domainbackup/>", ""),
        (
            "<domainbackup mode='push'><!-- c --><?pi x?></domainbackup>",
            "",
        ),
        ("<domainbackup><incremental/></domainbackup>", ""),
        (
            "<domainbackup mode='both'/>",
            "1:1 'both' in attribute 'mode' of 'domainbackup' is not 'push' or 'pull'",
        ),
        (
            "<domainbackup id='1'/>",
            "1:1 attribute 'id' is not allowed in 'domainbackup'",
        ),
        (
            "<domainbackup xmlns='urn:x'/>",
            "1:1 element 'domainbackup' must be in no namespace",
        ),
        (
            "<domainbackup><bogus/></domainbackup>",
            "1:15 element 'bogus' is not allowed in 'domainbackup'",
        ),
        (
            "<domainbackup><incremental a='b'>c</incremental></domainbackup>",
            "1:15 attribute 'a' is not allowed in 'incremental'",
        ),
        (
            "<domainbackup><server name='h' port='1'/></domainbackup>",
            "1:15 'server' is only allowed with mode='pull'",
        ),
        (
            "<domainbackup mode='pull'/>",
            "1:1 'domainbackup' with mode='pull' needs a 'server'",
        ),
        (
            "<domainbackup><disks/></domainbackup>",
            "1:15 'disks' needs at least one 'disk'",
        ),
        (
            "<domainbackup><disks><disc/></disks></domainbackup>",
            "1:22 element 'disc' is not allowed in 'disks'",
        ),
    ];
    check_table(&rows, read_backup);
}

#[test]
fn the_schema_says_where_a_backup_is_served() {
    let rows = [
        ("<server name='h' port='10809' tls='yes'/>", ""),
        ("<server transport='tcp' name='::1'/>", ""),
        ("<server transport='unix' socket='/s' tls='no'/>", ""),
        ("<server/>", "2:1 'server' needs a 'name'"),
        ("<server port='1'/>", "2:1 'server' needs a 'name'"),
        (
            "<server name='a_b'/>",
            "2:1 'a_b' in attribute 'name' of 'server' is not a host's name or address",
        ),
        (
            "<server name='h' port='-1'/>",
            "2:1 '-1' in attribute 'port' of 'server' is not an unsigned number",
        ),
        (
            "<server name='h' port='4294967296'/>",
            "2:1 '4294967296' in attribute 'port' of 'server' is not an unsigned number",
        ),
        (
            "<server name='h' tls='x'/>",
            "2:1 'x' in attribute 'tls' of 'server' is not 'yes' or 'no'",
        ),
        (
            "<server transport='unix'/>",
            "2:1 'server' needs a 'socket'",
        ),
        (
            "<server transport='unix' socket='s'/>",
            "2:1 's' in attribute 'socket' of 'server' is not an absolute path",
        ),
        (
            "<server transport='unix' socket='/s' name='h'/>",
            "2:1 attribute 'name' is not allowed in 'server'",
        ),
        (
            "<server name='h' socket='/s'/>",
            "2:1 attribute 'socket' is not allowed in 'server'",
        ),
        (
            "<server transport='rdma' name='h'/>",
            "2:1 'rdma' in attribute 'transport' of 'server' is not 'tcp' or 'unix'",
        ),
        // What the schema takes, and the parser does not.
        (
            "<server name='h' port='65536'/>",
            "2:1 port '65536' out of range",
        ),
        (
            "<server name='h' tls=' no '/>",
            "2:1 Invalid value for attribute 'tls' in element 'server': ' no '.",
        ),
        (
            "<server transport=' unix ' tls=' no ' socket='/s'/>",
            "2:1 unknown protocol transport type ' unix '",
        ),
        (
            "<server transport='unix' tls=' no ' socket='c:\\x'/>",
            "2:1 backup socket path 'c:\\x' must be absolute",
        ),
    ];
    let read = |server: &str| {
        read_backup(&format!(
            "<domainbackup mode='pull'>\n{server}</domainbackup>"
        ))
    };
    check_table(&rows, read);
    let xml = format!("<domainbackup mode=' pull '>{SERVER}</domainbackup>");
    check_table(&[(&xml, "1:1 unknown backup mode ' pull '")], read_backup);
}

/// Disks that both modes take or refuse; `DISK` begins one of vda.
const EITHER_MODE: [(&str, &str); 19] = [
    ("DISK backup='no'/>", ""),
    (
        "DISK backup='no' backupmode='incremental' incremental='c'/>",
        "",
    ),
    ("DISK backup='yes' type='file'/>", ""),
    (
        "DISK type='file' backupmode='incremental' incremental=''/>",
        "",
    ),
    ("<disk type='file'/>", "2:1 'disk' needs a 'name'"),
    (
        "<disk name='/images/a' type='file'/>",
        "2:1 attribute 'name' of 'disk' is a path, not a target",
    ),
    (
        "<disk name='a' type='file'/>",
        "2:1 'a' in attribute 'name' of 'disk' is not a target or an absolute path",
    ),
    ("DISK backup='yes'/>", "2:1 'disk' needs a 'type'"),
    (
        "DISK backup='x'/>",
        "2:1 'x' in attribute 'backup' of 'disk' is not 'yes' or 'no'",
    ),
    (
        "DISK backup='no' type='file'/>",
        "2:1 attribute 'type' is not allowed in 'disk'",
    ),
    (
        "DISK backup='no'><driver type='qcow2'/></disk>",
        "2:30 element 'driver' is not allowed in 'disk'",
    ),
    (
        "DISK type='network'/>",
        "2:1 'network' in attribute 'type' of 'disk' is not 'file' or 'block'",
    ),
    (
        "DISK type='file' index='1'/>",
        "2:1 attribute 'index' is not allowed in 'disk'",
    ),
    (
        "DISK type='file' backupmode='x'/>",
        "2:1 'x' in attribute 'backupmode' of 'disk' is not 'full' or 'incremental'",
    ),
    (
        "DISK type='file' backupmode='full' incremental='c'/>",
        "2:1 attribute 'incremental' is not allowed with backupmode='full'",
    ),
    (
        "DISK type='file'>text</disk>",
        "2:1 text is not allowed in 'disk'",
    ),
    // What the schema takes, and the parser does not.
    (
        "DISK type=' file ' backup=' yes ' backupmode=' full '/>",
        "2:1 Invalid value for attribute 'backup' in element 'disk': ' yes '.",
    ),
    (
        "DISK type=' file ' backupmode=' full '/>",
        "2:1 Invalid value for attribute 'backupmode' in element 'disk': ' full '.",
    ),
    (
        "DISK type=' file '/>",
        "2:1 unknown storage source type ' file '",
    ),
];

/// Disks of a push backup.
const PUSH: [(&str, &str); 12] = [
    (
        "DISK type='file'><target file='/t'/><driver type='vmdk'/></disk>",
        "",
    ),
    ("DISK type='block'/>", ""),
    ("DISK type='file'><driver type='raw'/></disk>", ""),
    ("DISK/>", "2:1 'disk' needs a 'type'"),
    (
        "DISK type='file' exportname='e'/>",
        "2:1 attribute 'exportname' is not allowed in 'disk'",
    ),
    (
        "DISK type='file'><scratch file='/t'/></disk>",
        "2:30 element 'scratch' is not allowed in 'disk'",
    ),
    (
        "DISK type='file'><driver/></disk>",
        "2:30 'driver' needs a 'type'",
    ),
    (
        "DISK type='file'><driver type='x'/></disk>",
        "2:30 'x' in attribute 'type' of 'driver' is not an image format",
    ),
    (
        "DISK type='file'><driver type='luks'/></disk>",
        "2:1 unknown storage source format 'luks'",
    ),
    (
        "DISK type='file'><target/></disk>",
        "2:30 'target' needs a 'file'",
    ),
    (
        "DISK type='block'><target file='/t'/></disk>",
        "2:31 attribute 'file' is not allowed in 'target'",
    ),
    (
        "DISK type='file'><target file='t'/></disk>",
        "2:30 't' in attribute 'file' of 'target' is not an absolute path",
    ),
];

/// Disks of a pull backup.
const PULL: [(&str, &str); 8] = [
    ("DISK/>", ""),
    ("DISK backup='no' exportname='e' exportbitmap='b'/>", ""),
    ("DISK><scratch file='/t'/><driver type='qcow2'/></disk>", ""),
    (
        "DISK type='block'/>",
        "2:1 'disk' with type='block' or a 'driver' needs a 'scratch'",
    ),
    (
        "DISK><driver type='qcow2'/></disk>",
        "2:1 'disk' with type='block' or a 'driver' needs a 'scratch'",
    ),
    (
        "DISK><target file='/t'/></disk>",
        "2:18 element 'target' is not allowed in 'disk'",
    ),
    (
        "DISK><scratch file='/t'/><driver type='raw'/></disk>",
        "2:38 'raw' in attribute 'type' of 'driver' is not 'qcow2'",
    ),
    (
        "DISK><scratch file='/t'/><driver type=' qcow2 '/></disk>",
        "2:1 unknown storage source format ' qcow2 '",
    ),
];

#[test]
fn the_schema_says_what_a_disk_of_either_mode_is() {
    let read = |head: &str, disk: &str| {
        let disk = disk.replace("DISK", "<disk name='vda'");
        read_backup(&format!("{head}<disks>\n{disk}</disks></domainbackup>"))
    };
    let push = |disk: &str| read("<domainbackup>", disk);
    let pull = |disk: &str| read(&format!("<domainbackup mode='pull'>{SERVER}"), disk);
    check_table(&EITHER_MODE, push);
    check_table(&EITHER_MODE, pull);
    check_table(&PUSH, push);
    check_table(&PULL, pull);
}

#[test]
fn the_schema_says_what_a_target_is_labelled_with() {
    let secret = "<secret type='passphrase' uuid='28280000-0000-4000-8000-000000000001'/>";
    let encrypted = format!("<encryption format='luks'>{secret}</encryption>");
    let twice = format!("<encryption format=' luks '>{secret}</encryption>");
    let needs = "2:1 'seclabel' needs one of relabel='no', labelskip='yes' and a 'label'";
    let rows = [
        (
            "<seclabel model='dac' relabel='yes'><label>a</label><label>b</label></seclabel>",
            "",
        ),
        ("<seclabel relabel='no'/><seclabel relabel='no'/>", ""),
        ("<seclabel/>", needs),
        ("<seclabel relabel='yes'/>", needs),
        ("<seclabel relabel='no'><label>a</label></seclabel>", needs),
        ("<seclabel relabel='no' labelskip='yes'/>", needs),
        (
            "<seclabel labelskip='no'/>",
            "2:1 'no' in attribute 'labelskip' of 'seclabel' is not 'yes'",
        ),
        (
            "<seclabel type='none'/>",
            "2:1 attribute 'type' is not allowed in 'seclabel'",
        ),
        (
            "<seclabel model='d' relabel='no'/>\n<seclabel model='d' relabel=' no '/>",
            "3:1 seclabel for model d is already provided",
        ),
        (
            "<seclabel relabel=' no '/>",
            "2:1 Invalid value for attribute 'relabel' in element 'seclabel': ' no '.",
        ),
        (
            "<seclabel labelskip=' yes '/>",
            "2:1 Invalid value for attribute 'labelskip' in element 'seclabel': ' yes '.",
        ),
        (
            &encrypted,
            "1:22 encryption of what is copied from disk 'vda' is not supported",
        ),
        (&twice, "2:1 unknown volume encryption format type  luks "),
        (
            "<encryption format='luks'/>",
            "2:1 'encryption' needs a 'secret'",
        ),
        (
            "<encryption format='luks'><secret type='passphrase'/></encryption>",
            "2:27 'secret' needs one of 'uuid' and 'usage'",
        ),
        (
            "<encryption format='qcow'/>",
            "2:1 'qcow' in attribute 'format' of 'encryption' is not 'luks'",
        ),
        (
            "<reservations/>",
            "2:1 element 'reservations' is not allowed in 'target'",
        ),
    ];
    let read = |inside: &str| {
        read_backup(&format!(
            "<domainbackup><disks><disk name='vda' type='file'><target file='/t'>\n{inside}</target></disk></disks></domainbackup>"
        ))
    };
    check_table(&rows, read);
}
