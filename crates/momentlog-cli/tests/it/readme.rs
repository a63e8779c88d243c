use super::*;

fn backup_week(program: &Program) -> Ran {
    let script = repository().join("examples/backup-week.virsh");
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    let store = program.store();
    command
        .arg("-c")
        .arg(format!("momentlog://{}", store.display()))
        .arg("-f")
        .arg(script);
    let copy = program.dir.path().join("examples");
    std::fs::create_dir_all(&copy).unwrap();
    std::fs::copy(
        repository().join("examples/web01.xml"),
        copy.join("web01.xml"),
    )
    .unwrap();
    ran(command
        .current_dir(program.dir.path())
        .env("TZ", "UTC")
        .output()
        .unwrap())
}

#[test]
fn the_main_job_runs_and_continues_when_it_runs_again() {
    let program = Program::new();
    let first = backup_week(&program);
    assert_eq!((first.err.as_str(), first.status), ("", 0));
    assert!(
        first.out.contains("\ntuesday\n  |\n  +- wednesday\n"),
        "{}",
        first.out
    );
    assert!(
        first
            .out
            .contains("Verdict:        consistent, unanchored\nRecords:        12\n"),
        "{}",
        first.out
    );

    let second = backup_week(&program);
    assert_eq!(second.status, 0);
    let refused: Vec<String> = [
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ]
    .map(|day| format!("error: operation failed: domain moment {day} already exists\n"))
    .to_vec();
    assert_eq!(second.err, refused.concat());
    assert!(
        second.out.contains("Records:        17\n"),
        "{}",
        second.out
    );
}

#[test]
fn the_readme_names_the_two_commands_that_it_promises() {
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    for command in [
        "cargo run --release -- -c momentlog:demo-store -f examples/backup-week.virsh\n",
        "cargo test --workspace\n",
    ] {
        assert!(readme.contains(command), "{command}");
    }
}
