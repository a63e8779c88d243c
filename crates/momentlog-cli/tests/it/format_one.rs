//! The log in `docs/format/log-1`, which a program of format 1 has written, is opened by this one.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Copies the log, for the owner alone, as a store has to be.
fn copied() -> Program {
    let program = Program::new();
    let from = repository().join("docs/format/log-1");
    for part in ["store", "archive"] {
        let to = program.dir.path().join(part);
        std::fs::create_dir(&to).unwrap();
        std::fs::set_permissions(&to, Permissions::from_mode(0o700)).unwrap();
        for entry in std::fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            let file = to.join(entry.file_name());
            std::fs::copy(entry.path(), &file).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        }
    }
    program
}

fn expected(name: &str) -> String {
    std::fs::read_to_string(repository().join("docs/format/log-1").join(name)).unwrap()
}

const STATE: &str = "checkpoint-list web01 --tree; snapshot-list db01 --tree; \
    snapshot-dumpxml db01 second-try; checkpoint-dumpxml web01 thursday";

#[test]
fn a_log_of_format_1_says_what_it_said() {
    let program = copied();
    let log = program.run(&["--format", "json", "log"]);
    assert_eq!(log.out, expected("log.json"), "{}", log.err);
    assert_eq!(program.run(&[STATE]).out, expected("state.txt"));
    for images in [".img", "nothing"] {
        // From an image, and from the records alone.
        for entry in std::fs::read_dir(program.store()).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_str().unwrap();
            if name.ends_with(images) && !name.ends_with("13.img") {
                std::fs::remove_file(path).unwrap();
            }
        }
        assert_eq!(program.run(&[STATE]).out, expected("state.txt"));
    }
}

#[test]
fn a_log_of_format_1_verifies_with_and_without_its_archive() {
    let program = copied();
    let receipt = expected("receipt.txt");
    let archived = expected("receipt-archived.txt");
    let verify = |words: &[&str]| program.run(&[&["verify"], words].concat());
    for receipt in [receipt.trim(), archived.trim()] {
        let alone = verify(&[receipt]);
        assert_eq!(alone.status, 0, "{alone:?}");
        assert!(
            alone.out.starts_with("Verdict:        anchored\n"),
            "{}",
            alone.out
        );
        assert!(alone.out.contains("records up to 13, not looked at"));
        let whole = verify(&[receipt, "--archive", "archive"]);
        assert!(
            whole.out.starts_with("Verdict:        anchored\n"),
            "{}",
            whole.out
        );
        assert!(whole.out.contains("Records:        19\n"), "{}", whole.out);
        assert!(whole.out.contains("2 agree with the log"), "{}", whole.out);
    }
    assert_eq!(verify(&["--strict"]).status, 3);
    assert_eq!(verify(&[]).status, 0);
}

#[test]
fn a_log_of_format_1_goes_on() {
    let program = copied();
    // Asked again, the request that was archived gets its first answer.
    let again = program.run(&["checkpoint-create-as web01 wednesday --request-id w1"]);
    assert_eq!(
        again.out, "Domain checkpoint wednesday created\n",
        "{}",
        again.err
    );
    let ran = program.run(&["checkpoint-create-as web01 saturday"]);
    assert_eq!(ran.status, 0, "{}", ran.err);
    let moved = program.run(&["archive archive --reason again"]);
    assert_eq!(
        moved.out, "Records 14 to 20 moved to archive; record 21 stands for them\n\n",
        "{}",
        moved.err
    );
    let whole = program.run(&[
        "verify",
        "--archive",
        "archive",
        expected("receipt.txt").trim(),
    ]);
    assert!(
        whole.out.starts_with("Verdict:        anchored\n"),
        "{}",
        whole.out
    );
    assert!(whole.out.contains("Records:        21\n"), "{}", whole.out);
    let image = program.run(&["image"]);
    assert_eq!(image.out, "Image of record 21 made\n\n", "{}", image.err);
    // What is in the archive says nothing of images that JSON names.
    let told = program.run(&["--format", "json", "verify", "--archive", "archive"]);
    let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(
        (told["records"].as_u64(), told["status"].as_u64()),
        (Some(21), Some(0))
    );
}
