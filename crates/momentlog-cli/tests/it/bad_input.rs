//! Every refusal says what and where, and changes nothing.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// Every byte of a store, to see that nothing changed.
fn bytes(store: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "lock")
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect();
    files.sort();
    files
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of refusals")]
fn refused_commands_say_why_and_change_nothing() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 a; checkpoint-create-as web01 b; checkpoint-create-as web01 c",
    ]);
    let checkpoint = |name: &str, parent: &str| {
        format!(
            "<domaincheckpoint><name>{name}</name><parent><name>{parent}</name></parent><creationTime>5</creationTime></domaincheckpoint>"
        )
    };
    for (name, text) in [
        ("malformed.xml", "<domaincheckpoint>\n<name>x</domaincheckpoint>".to_owned()),
        ("schema.xml", "<domaincheckpoint>\n  <bogus/>\n</domaincheckpoint>".to_owned()),
        ("root.xml", "<domainsnapshot/>".to_owned()),
        ("doctype.xml", "<!DOCTYPE d [<!ENTITY e 'x'>]><domaincheckpoint/>".to_owned()),
        ("nameless.xml", "<domaincheckpoint><creationTime>5</creationTime></domaincheckpoint>".to_owned()),
        ("cycle.xml", checkpoint("a", "c")),
        ("own.xml", checkpoint("a", "a")),
        ("orphan.xml", checkpoint("x", "nobody")),
        ("fork.xml", checkpoint("x", "a")),
        ("uuid.xml", "<domaincheckpoint><name>x</name><parent><name>c</name></parent><creationTime>5</creationTime>\
            <domain type='kvm'><name>other</name><uuid>00000000-0000-4000-8000-000000000001</uuid><os><type>hvm</type></os></domain>\
            </domaincheckpoint>".to_owned()),
        ("deep.xml", "<a>".repeat(100_000)),
        ("domain.xml", "<domain type='kvm'><name>web01</name><os><type>hvm</type></os></domain>".to_owned()),
    ] {
        program.write(name, &text);
    }
    let before = bytes(&program.store());
    let redefine = "checkpoint-create web01 --redefine --xmlfile";
    for (command, expected) in [
        (
            "checkpoint-create web01 malformed.xml",
            "(domain_checkpoint):2: ",
        ),
        (
            "checkpoint-create web01 schema.xml",
            "schema: line 2, column 3: element 'bogus' is not allowed in 'domaincheckpoint'",
        ),
        (
            "checkpoint-create web01 root.xml",
            "expecting root element of 'domaincheckpoint', not 'domainsnapshot'",
        ),
        (
            "checkpoint-create web01 doctype.xml",
            "a document type is not processed",
        ),
        (
            "checkpoint-create web01 deep.xml",
            "elements are nested deeper than 256",
        ),
        (
            &format!("{redefine} nameless.xml"),
            "a redefined checkpoint must have a name",
        ),
        (
            &format!("{redefine} cycle.xml"),
            "invalid argument: parent b would create cycle to a",
        ),
        (
            &format!("{redefine} own.xml"),
            "invalid argument: cannot set moment a as its own parent",
        ),
        (
            &format!("{redefine} orphan.xml"),
            "invalid argument: parent nobody for moment x not found",
        ),
        (
            &format!("{redefine} fork.xml"),
            "checkpoint x would fork the chain",
        ),
        (
            &format!("{redefine} uuid.xml"),
            "definition for checkpoint x must use uuid 3f2c7a90-",
        ),
        (
            &format!("{redefine} own.xml --quiesce"),
            "are mutually exclusive",
        ),
        (
            "checkpoint-create-as web01 a",
            "operation failed: domain moment a already exists",
        ),
        (
            "checkpoint-create-as web01 'a b'",
            "is not the name of a checkpoint",
        ),
        (
            "checkpoint-create-as web01 x --diskspec vdz",
            "no disk named 'vdz'",
        ),
        (
            "checkpoint-create-as web01 x --diskspec vda --diskspec vda",
            "disk 'vda' specified twice",
        ),
        (
            "checkpoint-create-as web01 x --diskspec sda",
            "disk 'sda' is empty or readonly",
        ),
        (
            "checkpoint-create-as web01 x --diskspec vda,bogus=1",
            "unable to parse diskspec: vda,bogus=1",
        ),
        (
            "checkpoint-delete web01 a --children --children-only",
            "are mutually exclusive",
        ),
        (
            "checkpoint-delete web01 nobody",
            "no domain checkpoint with matching name 'nobody'",
        ),
        (
            "snapshot-create-as web01 s",
            "cannot create snapshot while checkpoint exists",
        ),
        (
            "snapshot-current web01",
            "domain 'web01' has no current snapshot",
        ),
        (
            "suspend web01",
            "internal error: domain 'web01' not running",
        ),
        (
            "define domain.xml",
            "operation failed: domain 'web01' already exists with uuid 3f2c7a90-",
        ),
        (
            "define nowhere.xml",
            "Failed to open file 'nowhere.xml': No such file or directory",
        ),
        ("policy web01 chain=perhaps", "'chain=perhaps' is no rule"),
        ("checkpoint-info nobody x", "failed to get domain 'nobody'"),
    ] {
        let ran = program.run(&[command]);
        assert_eq!(ran.status, 1, "{command}: {ran:?}");
        assert!(ran.err.contains(expected), "{command}: {}", ran.err);
        assert_eq!(bytes(&program.store()), before, "{command}");
    }
    assert_eq!(program.run(&["verify"]).status, 0);
}

#[test]
fn reading_a_store_that_is_not_there_is_an_error_and_makes_none() {
    let program = Program::new();
    let ran = program.run(&["list", "--all"]);
    assert_eq!(
        (ran.err.as_str(), ran.status),
        (
            "error: there is no store at store\nhint: define FILE makes the store, with the domain of that file\n",
            1
        )
    );
    let ran = program.run(&["-r", "list", "--all"]);
    assert_eq!(
        ran.err,
        "error: failed to connect to the store\nerror: there is no store at store\n"
    );
    assert_eq!(program.run(&["verify"]).status, 1);
    assert_eq!(program.run(&["start", "nobody"]).status, 1);
    assert!(!program.store().exists());
}

#[test]
fn a_first_command_that_is_refused_makes_no_store() {
    let program = Program::new();
    program.write("bad.xml", "<domain/>");
    assert_eq!(program.run(&["define", "bad.xml"]).status, 1);
    assert!(!program.store().exists());
}

#[test]
fn a_read_only_connection_changes_nothing() {
    let program = Program::with_domain();
    let before = bytes(&program.store());
    let ran = program.run(&["-r", "checkpoint-create-as", "web01", "a"]);
    assert_eq!(
        ran.err,
        "error: operation forbidden: read only access prevents virDomainCheckpointCreateXML\n"
    );
    assert_eq!(bytes(&program.store()), before);
}

#[test]
fn a_locked_store_names_its_holder() {
    let program = Program::with_domain();
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(program.store().join("lock"))
        .unwrap();
    lock.lock().unwrap();
    std::fs::write(
        program.store().join("lock"),
        "pid 4711\nhost far\u{1b}away\n",
    )
    .unwrap();
    let ran = program.run(&["--lock-wait", "0", "checkpoint-create-as", "web01", "a"]);
    assert_eq!(
        ran.err,
        "error: store is being written by process 4711 on far\\u{1b}away\n\
         hint: another command writes: --lock-wait SECONDS waits longer\n"
    );
    assert_eq!(
        program.run(&["-q", "list", "--all", "--name"]).out,
        "web01\n"
    );
}

#[test]
fn a_store_that_others_may_write_or_that_is_a_link_is_refused() {
    let program = Program::with_domain();
    std::fs::set_permissions(program.store(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let ran = program.run(&["list"]);
    assert_eq!(
        ran.err,
        "error: cannot open store: it is writable by group or others (mode 777)\n"
    );
    std::fs::set_permissions(program.store(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::rename(program.store(), program.dir.path().join("elsewhere")).unwrap();
    symlink("elsewhere", program.store()).unwrap();
    assert_eq!(
        program.run(&["list"]).err,
        "error: cannot open store: it is a symbolic link\n"
    );
}

#[test]
fn damage_is_named_can_be_read_up_to_and_is_never_written_past() {
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a; checkpoint-create-as web01 b"]);
    let segment = program.store().join("00000000000000000001.seg");
    let mut all = std::fs::read(&segment).unwrap();
    let end = all.len() - 100;
    all[end] ^= 1;
    std::fs::write(&segment, all).unwrap();
    let ran = program.run(&["verify"]);
    assert_eq!(ran.status, 8, "{ran:?}");
    assert!(
        ran.out
            .contains("where record 4 should be: the frame does not match its checksum"),
        "{}",
        ran.out
    );
    let before = bytes(&program.store());
    assert_eq!(
        program.run(&["checkpoint-create-as", "web01", "c"]).status,
        1
    );
    assert_eq!(bytes(&program.store()), before);
}

#[test]
fn own_options_that_are_unknown_are_named() {
    let program = Program::new();
    let ran = program.run(&["--frob"]);
    assert_eq!(
        (ran.err.as_str(), ran.status),
        ("error: unsupported option '--frob'. See --help.\n", 1)
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    let ran = ran_of(command.args(["-c", "qemu:///system", "list"]));
    assert!(
        ran.err
            .contains("no connection driver available for qemu:///system"),
        "{}",
        ran.err
    );
}

fn ran_of(command: &mut Command) -> Ran {
    ran(command.output().unwrap())
}

#[test]
fn a_file_in_another_encoding_is_refused_with_line_and_byte() {
    let program = Program::with_domain();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(program.dir.path().join(name), bytes).unwrap();
    };
    write(
        "latin1.xml",
        b"<domaincheckpoint>\n <name>\xe4</name></domaincheckpoint>",
    );
    write("utf16.xml", b"\xff\xfe<\0d\0/\0>\0");
    for (name, expected) in [
        (
            "latin1.xml",
            "line 2, byte 8 of it is 0xe4, which is not UTF-8",
        ),
        (
            "utf16.xml",
            "line 1, byte 1 of it is 0xff, which is not UTF-8; the file is in UTF-16",
        ),
    ] {
        let ran = program.run(&["checkpoint-create", "web01", name]);
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.err.contains(expected), "{ran:?}");
    }
}

#[test]
fn an_xml_error_shows_no_secret_and_cannot_drive_a_terminal() {
    let program = Program::with_domain();
    let line = "<graphics passwd='s3cret' listen='\u{9b}2J\u{202e}'/>";
    program.write("bad.xml", &format!("<domain>\n{line}</x>"));
    let ran = program.run(&["define", "bad.xml"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("<graphics passwd='***' listen='\\u{9b}2J"),
        "{ran:?}"
    );
    assert!(
        !ran.err.contains(['\u{9b}', '\u{202e}']) && !ran.err.contains("s3cret"),
        "{ran:?}"
    );
}

#[test]
fn the_dump_of_a_large_domain_is_put_back() {
    let program = Program::new();
    let note = "a".repeat(9 << 20);
    let domain = format!(
        "<domain type='kvm'><name>big</name><os><type>hvm</type></os><description>{note}</description></domain>"
    );
    program.write("big.xml", &domain);
    let first = program.run(&["define big.xml; start big; snapshot-create-as big s"]);
    assert_eq!(first.status, 0, "{}", first.err);
    let dump = program.run(&["snapshot-dumpxml", "big", "s"]).out;
    assert!(dump.len() > 9 << 20);
    program.write("s.xml", &dump);
    let again = program.run(&["snapshot-create big s.xml --redefine --validate"]);
    assert_eq!(again.status, 0, "{}", again.err);
    assert!(program.run(&["snapshot-dumpxml", "big", "s"]).out == dump);
    // A folder of them, too.
    std::fs::create_dir(program.dir.path().join("saved")).unwrap();
    program.write("saved/s.xml", &dump);
    let restored = program.run(&["moments-restore big saved"]);
    assert_eq!(restored.status, 0, "{}", restored.err);
}
