//! Help, manual and completion: three views of one table.

use std::collections::BTreeSet;

use super::*;

/// All verbs, as `help` lists them.
fn verbs(program: &Program) -> Vec<String> {
    let all = program.run(&["-q", "help"]).out;
    let names = all
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split(' ').next());
    names.map(str::to_owned).collect()
}

/// What can stand next in a line.
fn completed(program: &Program, shell: &str, line: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command
        .current_dir(program.dir.path())
        .args(["complete", shell, line]);
    let ran = ran(command.output().unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{line}");
    ran.out.lines().map(str::to_owned).collect()
}

/// The options that a text has, each with the rest of its line behind it.
fn options(text: &str) -> BTreeSet<String> {
    let words = text
        .split_whitespace()
        .map(|word| word.trim_matches(['[', ']']));
    words
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// A page as it is read: without what roff needs.
fn read(page: &str) -> String {
    let plain = page
        .replace("\\-", "-")
        .replace("\\fB", "")
        .replace("\\fI", "")
        .replace("\\fR", "");
    plain
        .replace("\\&", "")
        .replace("\\(aq", "'")
        .replace("\\*(Aq", "'")
}

#[test]
fn help_manual_and_completion_of_every_verb_have_the_same_options_with_the_same_lines() {
    let program = Program::with_domain();
    let (whole, all) = (read(&program.run(&["-q", "man"]).out), verbs(&program));
    assert!(all.len() > 60, "{all:?}");
    assert_eq!(completed(&program, "bash", "momentlog ").len(), all.len());
    for verb in all {
        let help = program.run(&["-q", "help", &verb]).out;
        let section = help.split("  OPTIONS\n").nth(1).unwrap_or("");
        // From the first line on which an option stands.
        let rows: Vec<&str> = section.lines().filter(|line| line.contains("--")).collect();
        let named = |line: &&str| line.trim_start().trim_start_matches('[').starts_with("--");
        let rows: Vec<&str> = rows.into_iter().filter(named).collect();
        let listed: BTreeSet<String> = rows
            .iter()
            .map(|row| {
                row.split_whitespace()
                    .next()
                    .unwrap()
                    .trim_matches(['[', ']'])
                    .to_owned()
            })
            .collect();
        let page = read(&program.run(&["-q", "man", &verb]).out);
        assert!(page.contains(&format!("momentlog-{verb} - ")), "{page}");
        let part = page.split(".SH OPTIONS").nth(1).unwrap_or("");
        let part = part.split(".SH").next().unwrap();
        let tagged: BTreeSet<String> = part
            .split(".TP\n")
            .skip(1)
            .flat_map(|item| options(item.lines().next().unwrap()))
            .collect();
        assert_eq!(tagged, listed, "{verb}");
        for row in &rows {
            let (_, text) = row
                .trim_start()
                .split_once("  ")
                .unwrap_or_else(|| row.rsplit_once("> ").unwrap());
            assert!(part.contains(text.trim()), "{verb}: {row}: {part}");
        }
        let words = completed(&program, "zsh", &format!("momentlog {verb} -"));
        let offered: BTreeSet<String> = words
            .iter()
            .map(|word| word.split('\t').next().unwrap().to_owned())
            .collect();
        assert_eq!(offered, listed, "{verb}");
        for word in words {
            let text = word.split('\t').nth(1).unwrap();
            assert!(rows.iter().any(|row| row.ends_with(text)), "{verb}: {word}");
        }
        // Each verb is in the page of the program, with its options or with the name of its own page.
        let is_own = whole.contains(&format!("momentlog-{verb}(1)"));
        let synopsis = help
            .split("  SYNOPSIS\n    ")
            .nth(1)
            .unwrap()
            .lines()
            .next()
            .unwrap();
        assert!(is_own || whole.contains(synopsis), "{verb}");
    }
}

#[test]
fn the_manual_of_the_program_has_its_own_options_and_a_page_for_each_verb_of_its_own() {
    let program = Program::new();
    let whole = read(&program.run(&["man"]).out);
    let help = program.run(&["--help"]).out;
    for option in options(help.split("Options:").nth(1).unwrap()) {
        assert!(
            whole.contains(option.trim_end_matches(|char: char| !char.is_ascii_alphanumeric())),
            "{option}"
        );
    }
    let written = program.run(&["-q", "man", "--out", "pages"]);
    assert_eq!((written.err.as_str(), written.status), ("", 0));
    let mut names: Vec<String> = std::fs::read_dir(program.dir.path().join("pages"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for own in [
        "momentlog.1",
        "momentlog-log.1",
        "momentlog-why.1",
        "momentlog-checkpoint-undelete.1",
        "momentlog-reconcile.1",
    ] {
        assert!(names.contains(&own.to_owned()), "{names:?}");
    }
    assert!(!names.contains(&"momentlog-checkpoint-list.1".to_owned()));
    let page = std::fs::read_to_string(program.dir.path().join("pages/momentlog-log.1")).unwrap();
    assert_eq!(page, program.run(&["-q", "man", "log"]).out);
    assert!(!program.store().exists());
    // A formatter reads them, where there is one.
    for name in names {
        let mut command = Command::new("groff");
        command
            .args(["-man", "-Tutf8", "-ww", "-z"])
            .arg(program.dir.path().join("pages").join(&name));
        if let Ok(output) = command.output() {
            let ran = ran(output);
            assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{name}");
        }
    }
}

/// A store with the checkpoints c1, c2 and c4.
fn with_checkpoints() -> Program {
    let program = Program::with_domain();
    let ran = program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-create-as web01 c3; \
         checkpoint-create-as web01 c4; checkpoint-delete web01 c3; checkpoint-hold web01 c4 audit",
    ]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    program
}

#[test]
fn names_come_from_the_store_that_the_line_names() {
    let program = with_checkpoints();
    for (line, expected) in [
        (
            "momentlog -c momentlog:store checkpoint-delete ",
            &["web01"][..],
        ),
        (
            "momentlog -c momentlog:store checkpoint-delete web01 ",
            &["c1", "c2", "c4"],
        ),
        (
            "momentlog --connect=momentlog:store checkpoint-delete --domain web01 --checkpointname c",
            &["c1", "c2", "c4"],
        ),
        (
            "momentlog -c momentlog:store checkpoint-undelete web01 ",
            &["c3"],
        ),
        (
            "momentlog -c momentlog:store why web01 ",
            &["c1", "c2", "c4", "c3"],
        ),
        (
            "momentlog -c momentlog:store checkpoint-list web01 --from ",
            &["c1", "c2", "c4"],
        ),
        (
            "momentlog -c momentlog:store checkpoint-release web01 c4 ",
            &["audit"],
        ),
        (
            "momentlog -c momentlog:store why web01 c4 --kind=ch",
            &["checkpoint"],
        ),
        ("momentlog -c momentlog:store snapshot-delete web02 ", &[]),
        ("momentlog --format js", &["json"]),
        ("momentlog --fo", &["--format"]),
        ("momentlog checkpoint-he", &[]),
        ("momentlog checkpoint-ho", &["checkpoint-hold"]),
        ("momentlog 'broken", &[]),
    ] {
        let found = completed(&program, "bash", line);
        let found = if expected.is_empty() {
            found
                .into_iter()
                .filter(|word| !word.starts_with("--"))
                .collect()
        } else {
            found
        };
        assert_eq!(found, expected, "{line}");
    }
    // What a file is called is for the shell to know.
    let file = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        ran(command.args(["complete", "bash", line]).output().unwrap()).status
    };
    assert_eq!(file("momentlog -f "), 3);
    assert_eq!(file("momentlog define we"), 3);
}

#[test]
fn a_completion_makes_no_store_and_is_silent() {
    let program = Program::new();
    for line in [
        "momentlog -c momentlog:store checkpoint-delete ",
        "momentlog -c momentlog:no/such/store checkpoint-delete web01 ",
        "momentlog -c qemu:///system checkpoint-delete ",
        "momentlog -c momentlog:store checkpoint-delete \"",
        "momentlog --no-such ",
        "",
    ] {
        let found = completed(&program, "bash", line);
        assert!(
            found.iter().all(|word| word.starts_with("--")),
            "{line}: {found:?}"
        );
    }
    assert_eq!(std::fs::read_dir(program.dir.path()).unwrap().count(), 0);
    // Whoever holds the lock is not waited for.
    let program = with_checkpoints();
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(program.store().join("lock"))
        .unwrap();
    lock.lock().unwrap();
    let found = completed(
        &program,
        "bash",
        "momentlog -c momentlog:store checkpoint-delete web01 ",
    );
    assert_eq!(found, ["c1", "c2", "c4"]);
}

/// Runs a shell with a script of completion; none if the shell is not installed, which only `.ci/run` takes for a fault.
fn in_shell(program: &Program, shell: &str, script: &str) -> Option<Ran> {
    let directory = Path::new(env!("CARGO_BIN_EXE_momentlog")).parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(shell);
    command
        .args(["-c", script])
        .current_dir(program.dir.path())
        .stdin(Stdio::null());
    command.env("PATH", format!("{}:{path}", directory.display()));
    command
        .env("HOME", program.dir.path())
        .env("MOMENTLOG_DEFAULT_URI", "momentlog:store");
    match command.output() {
        Ok(output) => Some(ran(output)),
        Err(error) => {
            left_out("MOMENTLOG_NEED_SHELLS", &format!("{shell}: {error}"));
            None
        }
    }
}

#[test]
fn bash_lists_the_checkpoints_of_a_domain() {
    let program = with_checkpoints();
    program.run(&["checkpoint-hold web01 c4 'for ever'"]);
    let asked = |words: &str, last: usize| {
        let script = format!(
            "source <(momentlog completion bash); COMP_WORDS=({words}); COMP_CWORD={last}; \
             _momentlog momentlog; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        in_shell(&program, "bash", &script).map(|ran| {
            assert_eq!(ran.err, "", "{words}");
            ran.out
        })
    };
    let Some(found) = asked("momentlog checkpoint-delete web01 ''", 3) else {
        return;
    };
    assert_eq!(found, "c1\nc2\nc4\n");
    assert_eq!(
        asked("momentlog checkpoint-release web01 c4 ''", 4).unwrap(),
        "audit\nfor\\ ever\n"
    );
    assert_eq!(
        asked("momentlog checkpoint-delete web01 c", 3).unwrap(),
        "c1\nc2\nc4\n"
    );
    assert_eq!(
        asked("momentlog checkpoint-unde", 1).unwrap(),
        "checkpoint-undelete\n"
    );
    assert_eq!(asked("momentlog diff 1 2 --dom", 4).unwrap(), "--domain\n");
    // As bash calls it: with the line, and the place of the cursor in it.
    let script = "source <(momentlog completion bash); COMP_LINE='momentlog -c momentlog:store checkpoint-delete web01 c and more'; \
        COMP_POINT=54; _momentlog momentlog; echo \"${COMPREPLY[@]}\"";
    assert_eq!(
        in_shell(&program, "bash", script).unwrap().out,
        "c1 c2 c4\n"
    );
}

#[test]
fn fish_lists_the_checkpoints_of_a_domain() {
    let program = with_checkpoints();
    let script =
        "momentlog completion fish | source; complete -C 'momentlog checkpoint-delete web01 '";
    let Some(ran) = in_shell(&program, "fish", script) else {
        return;
    };
    let found: Vec<&str> = ran.out.lines().map(str::trim_end).collect();
    assert_eq!(found, ["c1", "c2", "c4"], "{ran:?}");
    let script = "momentlog completion fish | source; complete -C 'momentlog checkpoint-unde'";
    let ran = in_shell(&program, "fish", script).unwrap();
    assert!(
        ran.out
            .starts_with("checkpoint-undelete\tput back a deleted checkpoint"),
        "{ran:?}"
    );
}

#[test]
fn zsh_lists_the_checkpoints_of_a_domain() {
    let program = with_checkpoints();
    // Only within an editor of lines does zsh complete: what it would be given is printed.
    let script = "compdef() { :; }; _describe() { print -l -- ${(P)2}; }; source <(momentlog completion zsh); \
        words=(momentlog checkpoint-delete web01 ''); CURRENT=4; PREFIX=''; _momentlog; \
        words=(momentlog checkpoint-unde); CURRENT=2; PREFIX=checkpoint-unde; _momentlog";
    let Some(ran) = in_shell(&program, "zsh", script) else {
        return;
    };
    let found: Vec<&str> = ran.out.lines().collect();
    assert_eq!(found[..3], ["c1", "c2", "c4"], "{ran:?}");
    assert!(
        found[3].starts_with("checkpoint-undelete:put back a deleted checkpoint"),
        "{ran:?}"
    );
}
