//! Errors for programs: one document on standard error, which says what, where, and what to do.

use momentlog::core::{DomainUuid, Policy};
use serde_json::Value;

use super::*;

/// Runs what fails, and returns its document.
#[track_caller]
fn failed(program: &Program, words: &[&str]) -> Value {
    let words = [&["--format", "json"], words].concat();
    let ran = program.run(&words);
    assert_eq!(
        (ran.out.as_str(), ran.status),
        ("", 1),
        "{words:?}: {ran:?}"
    );
    // What is noted besides is no document.
    let mut lines = ran
        .err
        .lines()
        .filter(|line| !line.starts_with("momentlog: "));
    let error = lines.next().expect("an error");
    assert_eq!(lines.next(), None, "{words:?}: {}", ran.err);
    schema::check(error)
}

#[track_caller]
fn check(program: &Program, words: &[&str], code: u32, name: &str) -> Value {
    let error = failed(program, words);
    let found = (&error["code"], &error["name"]);
    assert_eq!(found, (&code.into(), &name.into()), "{words:?}: {error}");
    error
}

/// Checks an error that is in a file, and where in it.
#[track_caller]
fn check_file(error: &Value, path: &str, place: Option<(u64, u64)>) {
    let (line, column) = place.unzip();
    let found = (&error["path"], &error["line"], &error["column"]);
    let expected = (&path.into(), &line.into(), &column.into());
    assert_eq!(found, expected, "{error}");
}

fn store(program: &Program, name: &str) -> String {
    let store = program.store().canonicalize().unwrap();
    store.join(name).to_str().unwrap().to_owned()
}

#[test]
fn what_a_call_or_a_rule_refuses_has_libvirts_numbers() {
    let program = Program::with_domain();
    let ran = program.run(&[
        "-q",
        "checkpoint-create-as web01 a; checkpoint-hold web01 a legal",
    ]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    for (command, code, name) in [
        (
            "checkpoint-info web01 b",
            103,
            "VIR_ERR_NO_DOMAIN_CHECKPOINT",
        ),
        ("snapshot-info web01 b", 72, "VIR_ERR_NO_DOMAIN_SNAPSHOT"),
        (
            "checkpoint-create-as web01 a",
            9,
            "VIR_ERR_OPERATION_FAILED",
        ),
        (
            "snapshot-create-as web01 s",
            84,
            "VIR_ERR_OPERATION_UNSUPPORTED",
        ),
        ("suspend web01", 1, "VIR_ERR_INTERNAL_ERROR"),
        (
            "checkpoint-create-as web01 b --diskspec vdz",
            67,
            "VIR_ERR_CONFIG_UNSUPPORTED",
        ),
        (
            "checkpoint-create-as web01 b --expect-revision 1",
            78,
            "VIR_ERR_OPERATION_ABORTED",
        ),
        (
            "checkpoint-create-as web01 b --undoes 99",
            8,
            "VIR_ERR_INVALID_ARG",
        ),
        ("attach web01 qmp.sock", 84, "VIR_ERR_OPERATION_UNSUPPORTED"),
        ("backup-begin web01", 55, "VIR_ERR_OPERATION_INVALID"),
        ("checkpoint-delete web01 a", 55, "VIR_ERR_OPERATION_INVALID"),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        check(&program, &words, code, name);
    }
    let held = failed(&program, &["checkpoint-delete", "web01", "a"]);
    assert_eq!(held["hint"], "checkpoint-release web01 a --tag legal");
    let words = ["-r", "checkpoint-create-as", "web01", "b"];
    check(&program, &words, 29, "VIR_ERR_OPERATION_DENIED");
    let mut other = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    other.args(["--format", "json", "-c", "qemu:///system", "list"]);
    let ran = super::ran(other.output().unwrap());
    assert_eq!(
        schema::check(ran.err.trim_end())["name"],
        "VIR_ERR_NO_CONNECT"
    );
    // A request id that stands for another command.
    program.run(&["checkpoint-create-as web01 b --request-id r"]);
    let words = ["checkpoint-create-as", "web01", "c", "--request-id", "r"];
    check(&program, &words, 8, "VIR_ERR_INVALID_ARG");
    let words = ["checkpoint-undelete", "web01", "b", "--record", "2"];
    check(&program, &words, 8, "VIR_ERR_INVALID_ARG");
}

#[test]
fn what_the_program_finds_itself_has_no_number() {
    let program = Program::with_domain();
    for words in [
        &["frob"][..],
        &["list", "--frob"],
        &["dominfo", "web02"],
        &["log", "web02"],
        &["show", "x"],
        &["--at", "last week or so", "list"],
        &["help"],
        &["echo", "a"],
        &["-f", "script", "list"],
    ] {
        let error = failed(&program, words);
        assert_eq!(
            (&error["code"], &error["path"]),
            (&Value::Null, &Value::Null),
            "{words:?}"
        );
    }
}

#[test]
fn wrong_xml_is_named_by_its_file_line_and_column() {
    let program = Program::with_domain();
    program.write("torn.xml", "<domaincheckpoint>\n  <name>a</nam>\n");
    program.write("other.xml", "<domainsnapshot/>\n");
    program.write("nameless.xml", "<domain type='kvm'>\n</domain>\n");
    program.write(
        "state.xml",
        "<domainsnapshot>\n  <state>running</state>\n  <frob/>\n</domainsnapshot>\n",
    );
    let error = check(
        &program,
        &["checkpoint-create", "web01", "torn.xml"],
        35,
        "VIR_ERR_XML_DETAIL",
    );
    check_file(&error, "torn.xml", Some((2, 10)));
    let error = check(
        &program,
        &["checkpoint-create", "web01", "other.xml"],
        27,
        "VIR_ERR_XML_ERROR",
    );
    check_file(&error, "other.xml", Some((1, 1)));
    let error = check(&program, &["define", "nameless.xml"], 21, "VIR_ERR_NO_NAME");
    check_file(&error, "nameless.xml", Some((1, 1)));
    let words = ["snapshot-create", "web01", "state.xml", "--validate"];
    let error = check(&program, &words, 92, "VIR_ERR_XML_INVALID_SCHEMA");
    check_file(&error, "state.xml", Some((3, 3)));
    std::fs::create_dir(program.dir.path().join("saved")).unwrap();
    program.write("saved/a.xml", "<domaincheckpoint>\n<name>a</nam>");
    let error = check(
        &program,
        &["moments-restore", "web01", "saved"],
        35,
        "VIR_ERR_XML_DETAIL",
    );
    check_file(&error, "saved/a.xml", Some((2, 8)));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let program = Program::with_domain();
    for words in [
        &["define", "nowhere.xml"][..],
        &["snapshot-create", "web01", "nowhere.xml"],
        &["-f", "nowhere.xml"],
        &["moments-restore", "web01", "nowhere.xml"],
    ] {
        check_file(&failed(&program, words), "nowhere.xml", None);
    }
    std::fs::write(program.dir.path().join("latin1.xml"), b"<domain>\n\xe4").unwrap();
    check_file(
        &failed(&program, &["define", "latin1.xml"]),
        "latin1.xml",
        None,
    );
}

#[test]
fn what_the_store_says_is_named_by_its_file() {
    let program = Program::new();
    let name = "VIR_ERR_SYSTEM_ERROR";
    let missing = check(&program, &["log"], 38, name);
    assert!(
        missing["path"].as_str().unwrap().ends_with("store"),
        "{missing}"
    );
    let xml = repository().join("examples/web01.xml");
    assert_eq!(program.run(&["define", xml.to_str().unwrap()]).status, 0);

    // Another process writes.
    let uri = format!("momentlog://{}", store(&program, ""));
    let writer = momentlog::Connection::open(&uri).unwrap();
    let uuid = program.run(&["-q", "domuuid", "web01"]).out;
    let uuid: DomainUuid = uuid.trim().parse().unwrap();
    writer.set_policy(uuid, Policy::NONE).unwrap();
    let words = ["--lock-wait", "0", "checkpoint-create-as", "web01", "a"];
    let busy = check(&program, &words, 38, name);
    assert!(busy["path"].as_str().unwrap().contains("store"), "{busy}");
    drop(writer);

    let segment = program.store().join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0xff;
    std::fs::write(&segment, bytes).unwrap();
    let words = ["checkpoint-create-as", "web01", "a"];
    let damaged = check(&program, &words, 38, name);
    let path = damaged["path"].as_str().unwrap();
    assert!(
        path.ends_with("store/00000000000000000001.seg"),
        "{damaged}"
    );
}
