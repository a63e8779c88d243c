//! Several runs of the program on one store, and stores that are not whole.

use super::*;

fn script_of(prefix: &str, count: usize, last: &str) -> String {
    let create = |index| format!("checkpoint-create-as web01 {prefix}{index}\n");
    let script: Vec<String> = (0..count).map(create).collect();
    script.concat() + last
}

#[test]
fn a_run_that_waits_while_another_archives_is_told_no_damage() {
    let program = Program::with_domain();
    for round in 0..3 {
        let first = script_of(&format!("a{round}-"), 200, "archive archive\n");
        let second = script_of(&format!("b{round}-"), 5, "checkpoint-list web01 --name\n");
        program.write("first", &first);
        program.write("second", &second);
        let start = |words: &[&str]| {
            let mut command = program.command();
            let command = command.args(words).stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut runs = vec![("writer", start(&["-f", "first"]))];
        runs.push(("waiter", start(&["--lock-wait", "60", "-f", "second"])));
        for _ in 0..3 {
            runs.push(("verify", start(&["-r", "verify"])));
            runs.push(("log", start(&["-r", "log"])));
        }
        for (who, run) in runs {
            let ran = ran(run.wait_with_output().unwrap());
            // A reader may come while a frame is being written.
            assert_eq!((ran.status, &*ran.err), (0, ""), "{who}: {}", ran.out);
        }
    }
    let whole = program.run(&["verify", "--archive", "archive"]);
    assert_eq!(whole.status, 0, "{}", whole.out);
    let names = program.run(&["checkpoint-list", "web01", "--name"]).out;
    assert_eq!(
        names.lines().filter(|name| !name.is_empty()).count(),
        3 * 205
    );
}

#[test]
fn a_store_whose_beginning_is_damaged_is_verified_as_damaged_also_for_reading_only() {
    for (damage, readable) in [("start", false), ("00000000000000000003.img", true)] {
        let program = Program::with_domain();
        let made = program.run(&["checkpoint-create-as web01 a; archive archive"]);
        assert_eq!(made.status, 0, "{}", made.err);
        let path = program.store().join(damage);
        assert!(path.exists());
        if readable {
            std::fs::remove_file(&path).unwrap();
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[60] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
        for words in [&["-r", "verify"][..], &["verify"]] {
            let ran = program.run(words);
            assert_eq!(ran.status, 8, "{damage}: {} {}", ran.out, ran.err);
            assert!(ran.out.contains("damaged"), "{}", ran.out);
        }
        let nowhere = program.run(&["verify", "--archive", "nowhere"]);
        assert_eq!(nowhere.status, 1);
        assert!(
            nowhere.err.contains("there is no archive at nowhere"),
            "{}",
            nowhere.err
        );
    }
}

#[test]
fn a_script_whose_store_is_put_back_in_between_is_not_answered_created() {
    use std::io::{BufRead as _, Write as _};
    let program = Program::with_domain();
    let copied = std::process::Command::new("cp")
        .args(["-a", "store", "old"])
        .current_dir(program.dir.path())
        .status();
    assert!(copied.unwrap().success());
    assert_eq!(
        program.run(&["checkpoint-create-as web01 monday"]).status,
        0
    );
    let mut run = program
        .command()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = run.stdin.take().unwrap();
    let mut output = std::io::BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    input.write_all(b"checkpoint-list web01 --name\n").unwrap();
    while !line.contains("monday") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0);
    }
    std::fs::remove_dir_all(program.store()).unwrap();
    std::fs::rename(program.dir.path().join("old"), program.store()).unwrap();
    input
        .write_all(b"checkpoint-create-as web01 thursday\n")
        .unwrap();
    drop(input);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut output, &mut rest).unwrap();
    let ended = ran(run.wait_with_output().unwrap());
    assert!(!rest.contains("thursday created"), "{rest}");
    assert!(
        ended.err.contains("was replaced while it was open"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("this handle had record 3"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("now the log has record 2"),
        "{}",
        ended.err
    );
    assert_eq!(program.run(&["verify"]).status, 0);
    assert_eq!(
        program.run(&["checkpoint-create-as web01 friday"]).status,
        0
    );
}
