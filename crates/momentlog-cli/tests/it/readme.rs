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
    let days = [
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let refused: Vec<&str> = second.err.lines().collect();
    assert_eq!(refused.len(), days.len(), "{refused:?}");
    for (index, (line, day)) in refused.iter().zip(days).enumerate() {
        // They stand below each other in the script.
        let place = format!("backup-week.virsh:{}: ", 12 + index);
        let why = format!("{place}operation failed: domain moment {day} already exists");
        assert!(
            line.starts_with("error: ") && line.ends_with(&why),
            "{line}"
        );
    }
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

#[test]
fn the_rust_version_that_is_stated_is_that_of_every_dependency_at_least() {
    // Packages of other systems need not have been fetched.
    let version = Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap();
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{metadata:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let version = |text: &str| -> Vec<u32> {
        let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap()).collect();
        parts.resize(3, 0);
        parts
    };
    let stated = env!("CARGO_PKG_RUST_VERSION");
    for package in metadata["packages"].as_array().unwrap() {
        if let Some(needed) = package["rust_version"].as_str() {
            let (name, of) = (&package["name"], &package["version"]);
            assert!(
                version(needed) <= version(stated),
                "{name} {of} needs {needed}"
            );
        }
    }
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    assert!(readme.contains(&format!("With a Rust toolchain ({stated}, ")));
}
