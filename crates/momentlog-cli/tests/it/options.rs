//! The program's own options, the environment, and the grammar of commands.

use super::*;

/// Runs the program without `-c`, with an environment of its own.
fn bare(program: &Program, environment: &[(&str, &str)], words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
    command.args(words).current_dir(program.dir.path());
    command.env_clear().stdin(Stdio::null());
    command.envs(environment.iter().copied());
    ran(command.output().unwrap())
}

#[test]
fn options_of_virsh_are_taken_before_the_verb() {
    let program = Program::with_domain();
    for options in [
        &["-k", "5", "-K", "3"][..],
        &["--keepalive-interval=0", "--keepalive-count", "2"],
        &["-d", "4"],
        &["--debug=0"],
        &["-e", "^]"],
        &["--escape", "x"],
        &["-l", "log.txt"],
        &["--conn", "momentlog:store"],
        &["-qr"],
    ] {
        let options = if options == ["--conn", "momentlog:store"] {
            options.to_vec()
        } else {
            [&["-c", "momentlog:store"], options].concat()
        };
        let ran = bare(
            &program,
            &[],
            &[&options[..], &["domstate", "web01"]].concat(),
        );
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{options:?}");
        assert!(ran.out.starts_with("shut off\n"), "{options:?}: {ran:?}");
    }
}

#[test]
fn options_of_virsh_that_are_wrong_are_refused_in_its_words() {
    let program = Program::new();
    for (words, expected) in [
        (&["-k", "x"][..], "Invalid value for option -k"),
        (
            &["-K", "-1"],
            "option -K requires a positive integer argument",
        ),
        (&["-d", "x"], "option -d takes a numeric argument"),
        (&["-e", "xyz"], "Invalid string 'xyz' for escape sequence"),
        (&["-e", ""], "Invalid string '' for escape sequence"),
        (&["-c"], "option '-c'/'--connect' requires an argument"),
        (&["-z"], "unsupported option '-z'. See --help."),
        (
            &["--actor", ""],
            "Failed to get option 'actor': Option argument is empty",
        ),
        (
            &["--reason="],
            "Failed to get option 'reason': Option argument is empty",
        ),
        (
            &["-l", "no/such/file"],
            "failed to open the log file 'no/such/file': No such file or directory",
        ),
    ] {
        let words = if words == ["-c"] {
            words.to_vec()
        } else {
            [words, &["echo", "a"]].concat()
        };
        let ran = program.run(&words);
        assert_eq!(ran.err, format!("error: {expected}\n"), "{words:?}");
        assert_eq!((ran.out.as_str(), ran.status), ("", 1), "{words:?}");
    }
    let ran = program.run_on_test(&["-d", "9", "-q", "echo", "a"]);
    assert_eq!(
        ran.err,
        "error: ignoring debug level 9 out of range [0-4]\n"
    );
    assert_eq!((ran.out.as_str(), ran.status), ("a", 0));
}

#[test]
fn the_version_is_short_or_long() {
    let program = Program::new();
    let short = concat!(env!("CARGO_PKG_VERSION"), "\n");
    for words in ["-v", "--version", "--version=short"] {
        assert_eq!(bare(&program, &[], &[words]).out, short, "{words}");
    }
    for words in ["-V", "--version=long"] {
        let out = bare(&program, &[], &[words]).out;
        assert!(
            out.starts_with(&format!("momentlog {short}\n")),
            "{words}: {out}"
        );
    }
}

#[test]
fn timing_and_the_log_file_have_their_meaning() {
    let program = Program::with_domain();
    let ran = program.run(&["-q", "-t", "-l", "log.txt", "echo a; domstate nobody"]);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "a");
    assert!(
        lines[1].starts_with("(Time: ") && lines[1].ends_with(" ms)"),
        "{ran:?}"
    );
    let log = std::fs::read_to_string(program.dir.path().join("log.txt")).unwrap();
    assert_eq!(log, "ERROR failed to get domain 'nobody'\n");
}

#[test]
fn the_environment_of_virsh_names_a_store_after_ours_if_it_is_one() {
    let program = Program::with_domain();
    let list = |environment: &[(&str, &str)]| {
        let home = [("HOME", program.dir.path().to_str().unwrap())];
        bare(
            &program,
            &[&home[..], environment].concat(),
            &["-q", "list", "--all", "--name"],
        )
    };
    let (ours, virsh, libvirt) = (
        "MOMENTLOG_DEFAULT_URI",
        "VIRSH_DEFAULT_CONNECT_URI",
        "LIBVIRT_DEFAULT_URI",
    );
    let (store, test) = ("momentlog:store", "test:///default");
    assert_eq!(list(&[(virsh, store)]).out, "web01\n");
    assert_eq!(list(&[(libvirt, store)]).out, "web01\n");
    assert_eq!(list(&[(virsh, store), (libvirt, test)]).out, "web01\n");
    assert_eq!(
        list(&[(virsh, "qemu:///system"), (libvirt, store)]).out,
        "web01\n"
    );
    assert_eq!(
        list(&[(ours, store), (virsh, test), (libvirt, test)]).out,
        "web01\n"
    );
    let none = list(&[(virsh, "qemu:///system")]);
    assert!(none.err.contains("there is no store at"), "{none:?}");
}

#[test]
fn a_tilde_in_a_uri_is_the_users_home() {
    let program = Program::with_domain();
    let home = [("HOME", program.dir.path().to_str().unwrap())];
    for uri in [
        "momentlog:~/store",
        "momentlog:///~/store",
        "momentlog://~/store",
    ] {
        let ran = bare(
            &program,
            &home,
            &["-c", uri, "-q", "list", "--all", "--name"],
        );
        assert_eq!(ran.out, "web01\n", "{uri}: {ran:?}");
    }
    let xml = repository().join("examples/web01.xml");
    let ran = bare(
        &program,
        &[],
        &["-c", "momentlog:~/store", "define", xml.to_str().unwrap()],
    );
    assert_eq!(ran.status, 1);
    let ran = bare(
        &program,
        &home,
        &["-c", "momentlog:~root/x", "define", xml.to_str().unwrap()],
    );
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("write the directory for '~'"), "{ran:?}");
    assert!(!program.dir.path().join("~").exists());
    assert!(!program.dir.path().join("~root").exists());
}

#[test]
fn a_uri_of_a_hypervisor_gets_a_hint() {
    let ran = bare(&Program::new(), &[], &["-c", "qemu:///system", "list"]);
    assert_eq!(ran.status, 1);
    assert!(
        ran.err.contains("error: a store is named by momentlog:DIR"),
        "{ran:?}"
    );
}

#[test]
fn echo_has_virshs_options() {
    let program = Program::new();
    let echo = |words: &str| program.run_on_test(&["-q", words]);
    assert_eq!(echo("echo --str a b").out, "a b");
    assert_eq!(echo("echo --string=a --str b").out, "a b");
    assert_eq!(echo("echo --split a,b c,,d").out, "a\nb\n c,d\n");
    assert_eq!(echo("echo --hi a").out, "hello a");
    assert_eq!(
        echo("echo --split --shell a").err,
        "error: Options --shell and --split are mutually exclusive\n"
    );
    assert_eq!(
        echo("echo --hi=1").err,
        "error: invalid '=' after option --hi\n"
    );
    assert_eq!(echo("echo \"a\\\nb\"").out, "ab");
    assert_eq!(echo("\\#echo a; echo c").out, "c");
    assert_eq!(program.run_on_test(&["-q", "#x", "y"]).status, 0);
}

#[test]
fn every_verb_has_its_help_and_every_group_too() {
    let program = Program::new();
    let all = program.run_on_test(&["-q", "help"]).out;
    let verbs: Vec<&str> = all
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split(' ').next())
        .collect();
    let mut sorted = verbs.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(
        sorted.len(),
        verbs.len(),
        "each verb is in one group: {all}"
    );
    assert!(verbs.contains(&"domblklist") && verbs.contains(&"verify") && verbs.contains(&"echo"));
    for verb in verbs {
        let help = program.run_on_test(&["-q", verb, "--help"]);
        assert!(
            help.out.contains(&format!("  NAME\n    {verb} - ")),
            "{help:?}"
        );
        assert_eq!(help.out, program.run_on_test(&["-q", "help", verb]).out);
    }
    let group = program.run_on_test(&["-q", "help", "snapshot"]).out;
    assert!(
        group.starts_with(" Snapshot (help keyword 'snapshot'):\n    snapshot-create "),
        "{group}"
    );
    assert_eq!(group.lines().count(), 14);
    assert_eq!(
        program.run_on_test(&["help", "--help", "x", "y"]).err,
        "error: unexpected data 'y'\n"
    );
}

#[test]
fn a_script_of_any_length_runs_and_an_endless_command_does_not() {
    let program = Program::new();
    let ran = program.run_on_test(&["-f", "/dev/zero"]);
    assert_eq!(
        ran.err,
        format!(
            "error: /dev/zero:1: a command is longer than {} bytes\n",
            4 << 20
        )
    );
    assert_eq!(ran.status, 1);
    program.write("bad", &("echo a;\n".repeat(10_000) + "echo --bogus"));
    let ran = program.run_on_test(&["-q", "-f", "bad"]);
    assert_eq!(
        ran.err,
        "error: bad:10001: command 'echo' doesn't support option --bogus\n"
    );
    assert_eq!(
        (ran.out.as_str(), ran.status),
        ("", 1),
        "a file is parsed before any of it runs"
    );
    program.write("good", &"echo a;".repeat(10_000));
    assert_eq!(
        program.run_on_test(&["-q", "-f", "good"]).out,
        "a".repeat(10_000)
    );
}

#[test]
fn a_bad_line_of_a_file_is_named() {
    let program = Program::new();
    let said = |text: &str| {
        program.write("script", text);
        let ran = program.run_on_test(&["-q", "-f", "script"]);
        assert_eq!((ran.out.as_str(), ran.status), ("", 1), "{text}");
        ran.err
    };
    assert_eq!(
        said("# a comment\n\necho a; frob\n"),
        "error: script:3: unknown command: 'frob'\n"
    );
    assert_eq!(
        said("echo a\necho \\\n  b --shell=1\n"),
        "error: script:2: invalid '=' after option --shell\n"
    );
    assert_eq!(
        said("echo a\necho b\n\necho \"c\nd\n"),
        "error: script:4: missing \"\n"
    );
    assert_eq!(
        said("echo a\nhelp --format json\n"),
        "error: script:2: command 'help' has no JSON form\n"
    );
    let typed = program.run_on_test(&["-q", "echo a\nfrob"]);
    assert_eq!(typed.err, "error: unknown command: 'frob'\n");
}

#[test]
fn a_list_escapes_what_is_not_printable_in_a_name() {
    let program = Program::new();
    program.write(
        "forged.xml",
        "<domainsnapshot><name>ok&#10; gold   2026-01-01 00:00:00 +0000   running</name></domainsnapshot>",
    );
    let ran = program.run_on_test(&["-q", "snapshot-create test forged.xml; snapshot-list test"]);
    assert_eq!(ran.out.lines().count(), 1, "{ran:?}");
    assert!(ran.out.starts_with(" ok\\x0a gold   2026"), "{ran:?}");
}
