//! `snapshot-edit` and `checkpoint-edit` as people use them.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Runs a command with `sed` as the editor, and temporary files in a directory of its own.
fn edit(program: &Program, script: &str, command: &str) -> Ran {
    let scratch = program.dir.path().join("tmp");
    std::fs::create_dir_all(&scratch).unwrap();
    let mut run = program.command();
    run.env("EDITOR", format!("sed -i -E '{script}'"));
    run.env_remove("VISUAL").env("TMPDIR", scratch);
    ran(run.arg(command).output().unwrap())
}

/// What the editor left behind.
fn left(program: &Program) -> Vec<PathBuf> {
    std::fs::read_dir(program.dir.path().join("tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

fn names(program: &Program) -> (String, String) {
    let names = program.run(&["-q", "snapshot-list web01 --name"]).out;
    let current = program.run(&["-q", "snapshot-current web01 --name"]).out;
    (names.replace('\n', " "), current)
}

fn with_snapshots() -> Program {
    let program = Program::with_domain();
    let made = program.run(&[
        "snapshot-create-as web01 a; snapshot-create-as web01 b; snapshot-create-as web01 c",
    ]);
    assert_eq!((made.err.as_str(), made.status), ("", 0));
    program
}

/// As libvirt's qemu driver was seen to do, step by step.
#[test]
fn a_snapshot_is_renamed_cloned_and_made_current_as_the_qemu_driver_does() {
    let program = with_snapshots();
    let rename = |from: &str, to: &str| format!("s#<name>{from}</name>#<name>{to}</name>#");
    let refused =
        "error: Must use --rename or --clone to change b to bb\nerror: Failed to update b\n";
    for (script, command, out, err, list, current) in [
        (rename("b", "bb"), "b", "\n", refused, "a b c ", "c"),
        (rename("b", "bb"), "b --rename", "\n", "", "a bb c ", "c"),
        (
            rename("c", "c9"),
            "--current --rename",
            "\n",
            "",
            "a bb c9 ",
            "a",
        ),
        (
            rename("x", "y"),
            "a --current",
            "Snapshot a edited.\n\n",
            "",
            "a bb c9 ",
            "a",
        ),
        (
            rename("x", "y"),
            "a --clone",
            "Snapshot a XML configuration not changed.\n\n",
            "",
            "a bb c9 ",
            "a",
        ),
        (
            rename("a", "a2"),
            "a --clone",
            "Snapshot a cloned to a2.\n\n",
            "",
            "a a2 bb c9 ",
            "a",
        ),
        (
            rename("bb", "bb"),
            "bb --current",
            "Snapshot bb edited.\n\n",
            "",
            "a a2 bb c9 ",
            "bb",
        ),
        (
            rename("a", "a9"),
            "a --rename",
            "\n",
            "",
            "a2 a9 bb c9 ",
            "bb",
        ),
    ] {
        let ran = edit(&program, &script, &format!("snapshot-edit web01 {command}"));
        assert_eq!(
            (ran.out.as_str(), ran.err.as_str()),
            (out, err),
            "{command}"
        );
        assert_eq!(ran.status, i32::from(!err.is_empty()), "{command}");
        assert_eq!(
            names(&program),
            (list.to_owned(), current.to_owned()),
            "{command}"
        );
        assert!(left(&program).is_empty(), "{command}");
    }
}

#[test]
fn an_unchanged_clone_and_a_refused_name_write_no_record() {
    let program = with_snapshots();
    let records = || program.run(&["-q", "log", "--oneline"]).out.lines().count();
    let before = records();
    edit(&program, "s/x/x/", "snapshot-edit web01 a --clone");
    edit(&program, "s#<name>a<#<name>z<#", "snapshot-edit web01 a");
    assert_eq!(records(), before);
    let program = Program::with_domain();
    program.run(&["checkpoint-create-as web01 a"]);
    let records = || program.run(&["-q", "log", "--oneline"]).out.lines().count();
    let before = records();
    let ran = edit(&program, "s#<name>a<#<name>z<#", "checkpoint-edit web01 a");
    assert_eq!(
        ran.err,
        "error: Cannot rename checkpoint a to z\nerror: Failed to update a\n"
    );
    assert_eq!(records(), before);
}

#[test]
fn a_rename_that_is_asked_twice_under_one_request_id_gets_its_first_answer() {
    let program = with_snapshots();
    let command = "snapshot-edit web01 b --rename --request-id r1";
    let first = edit(&program, "s#<name>b<#<name>bb<#", command);
    assert_eq!((first.err.as_str(), first.status), ("", 0));
    assert_eq!(edit(&program, "s#<name>b<#<name>bb<#", command), first);
    assert_eq!(names(&program).0, "a bb c ");
}

#[test]
fn an_edited_text_is_not_lost_after_an_error() {
    let program = with_snapshots();
    program.run(&["snapshot-delete web01 a --children; checkpoint-create-as web01 k"]);
    program.run(&["policy web01 exclusive=off; snapshot-create-as web01 s"]);
    for command in ["snapshot-edit web01 s", "checkpoint-edit web01 k"] {
        let ran = edit(&program, "s#<creationTime>#<creationTime>my work#", command);
        assert_eq!(ran.status, 1, "{ran:?}");
        let kept = left(&program);
        let line = format!("error: the edited text is in {}\n", kept[0].display());
        assert!(ran.err.ends_with(&line), "{ran:?}");
        assert!(
            std::fs::read_to_string(&kept[0])
                .unwrap()
                .contains("my work")
        );
        let mode = std::fs::metadata(&kept[0]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_file(&kept[0]).unwrap();
    }
}

#[test]
fn a_file_with_secrets_is_its_owners_alone() {
    let program = with_snapshots();
    program.write(
        "old.xml",
        "a longer text than the XML will be, perhaps, and readable by all",
    );
    program.write("a.xml", "");
    let mode = |name: &str| {
        let file = std::fs::metadata(program.dir.path().join(name)).unwrap();
        file.permissions().mode() & 0o777
    };
    let all = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(program.dir.path().join("old.xml"), all).unwrap();
    program.run(&["snapshot-delete web01 a --children; checkpoint-create-as web01 k"]);
    program.run(&["policy web01 exclusive=off; snapshot-create-as web01 s"]);
    for (verb, name) in [("snapshot-dumpxml", "s"), ("checkpoint-dumpxml", "k")] {
        let printed = program
            .run(&["-q", verb, "web01", name, "--security-info"])
            .out;
        for file in ["new.xml", "old.xml"] {
            let words = [verb, "web01", name, "--security-info", "--output", file];
            let ran = program.run(&words);
            assert_eq!((ran.err.as_str(), ran.status), ("", 0));
            assert_eq!(mode(file), 0o600, "{verb} {file}");
            let written = std::fs::read_to_string(program.dir.path().join(file)).unwrap();
            assert_eq!(written, printed);
        }
        let open = [verb, "web01", name, "--output", "open.xml"];
        assert_eq!(program.run(&open).status, 0);
        let plain = mode("a.xml");
        assert_eq!(
            mode("open.xml"),
            plain,
            "a text without secrets follows the umask"
        );
        let into_null = [
            verb,
            "web01",
            name,
            "--security-info",
            "--output",
            "/dev/null",
        ];
        assert_eq!(program.run(&into_null).status, 0);
        let mode = std::fs::metadata("/dev/null").unwrap().permissions().mode();
        assert_eq!(mode & 0o666, 0o666, "a device keeps its mode");
        let too_much = [verb, "web01", name, "--output", "/dev/full"];
        let ran = program.run(&too_much);
        assert_eq!(
            ran.err,
            "error: Failed to write file '/dev/full': No space left on device\n"
        );
    }
}
