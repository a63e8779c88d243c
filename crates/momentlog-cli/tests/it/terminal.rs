//! The program on a terminal: `script` of util-linux has one.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;

/// The program on a terminal.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    bytes: Receiver<Vec<u8>>,
    /// What was shown, and how much of it was waited for.
    shown: String,
    seen: usize,
}

/// What the program sends once it reads keys: text that is pasted comes in brackets. The prompt itself is drawn for each key.
const PROMPT: &str = "\u{1b}[?2004h";

/// Whoever waits longer for the program waits in vain.
const PATIENCE: Duration = Duration::from_mins(1);

impl Terminal {
    /// Runs a command of the shell on a terminal; none if there is no `script`, which only `.ci/run` takes for a fault.
    fn run(program: &Program, environment: &[(&str, &str)], command: &str) -> Option<Terminal> {
        let mut script = Command::new("script");
        script
            .args(["-qec", command, "/dev/null"])
            .current_dir(program.dir.path());
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        for name in [
            "NO_COLOR",
            "PAGER",
            "MOMENTLOG_PAGER",
            "LESS",
            "COLUMNS",
            "CLICOLOR",
            "CLICOLOR_FORCE",
        ] {
            script.env_remove(name);
        }
        script
            .env("TERM", "xterm")
            .env("TZ", "UTC")
            .env("HOME", program.dir.path());
        script
            .env("XDG_STATE_HOME", program.dir.path())
            .env("SHELL", "/bin/sh");
        script
            .env("momentlog", env!("CARGO_BIN_EXE_momentlog"))
            .env("MOMENTLOG_DEFAULT_URI", "momentlog:store");
        script.envs(environment.iter().copied());
        let mut child = match script.spawn() {
            Ok(child) => child,
            Err(error) => {
                left_out("MOMENTLOG_NEED_SHELLS", &format!("script: {error}"));
                return None;
            }
        };
        let mut out = child.stdout.take().unwrap();
        let (to, bytes) = channel();
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut part) {
                if to.send(part[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keys = child.stdin.take().unwrap();
        Some(Terminal {
            child,
            keys,
            bytes,
            shown: String::new(),
            seen: 0,
        })
    }

    /// Waits until a text is shown behind the one that was waited for before.
    #[track_caller]
    fn until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            match self.bytes.recv_timeout(PATIENCE) {
                Ok(part) => self.shown += &String::from_utf8_lossy(&part),
                Err(error) => panic!("{text:?} is not shown ({error}): {}", self.shown),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end; returns what was shown, without what a terminal adds, and the exit status.
    fn end(mut self) -> (String, i32) {
        while let Ok(part) = self.bytes.recv_timeout(PATIENCE) {
            self.shown += &String::from_utf8_lossy(&part);
        }
        drop(self.keys);
        let status = self.child.wait().unwrap().code().unwrap();
        (self.shown.replace("\r\n", "\n"), status)
    }
}

fn with_log() -> Program {
    let program = Program::with_domain();
    let ran = program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-delete web01 c1",
    ]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    program
}

/// A log whose documents are more than a pipe and the program's own buffer hold, several times over.
fn with_many() -> Program {
    let program = with_log();
    let name = "n".repeat(200);
    let many: Vec<String> = (0..60)
        .map(|number| format!("checkpoint-create-as web01 {name}{number}"))
        .collect();
    let ran = program.run(&[&many.join("; ")]);
    assert_eq!((ran.err.as_str(), ran.status), ("", 0));
    program
}

/// What is shown of a command, and its exit status.
fn on_terminal(
    program: &Program,
    environment: &[(&str, &str)],
    command: &str,
) -> Option<(String, i32)> {
    Some(Terminal::run(program, environment, command)?.end())
}

#[test]
fn long_answers_go_to_the_pager_on_a_terminal_alone() {
    let program = with_log();
    let pager = [("MOMENTLOG_PAGER", "sed s/^/paged:/"), ("PAGER", "false")];
    for command in [
        "log",
        "show 3",
        "why web01 c1",
        "diff 2",
        "help",
        "help log",
        "log --help",
    ] {
        let command = format!("\"$momentlog\" {command}");
        let Some((shown, status)) = on_terminal(&program, &pager, &command) else {
            return;
        };
        assert!(shown.starts_with("paged:"), "{command}: {shown}");
        assert!(
            shown
                .lines()
                .all(|line| line.is_empty() || line.starts_with("paged:")),
            "{shown}"
        );
        assert_eq!(status, 0, "{command}");
        // Piped, there is no pager, and no colour.
        let (piped, _) = on_terminal(&program, &pager, &format!("{command} | cat")).unwrap();
        assert!(
            !piped.contains("paged:") && !piped.contains('\u{1b}'),
            "{piped}"
        );
    }
    for command in [
        "list --all",
        "--format json log",
        "-q checkpoint-list web01",
    ] {
        let (shown, _) =
            on_terminal(&program, &pager, &format!("\"$momentlog\" {command}")).unwrap();
        assert!(!shown.contains("paged:"), "{command}: {shown}");
    }
    // An error comes below what was paged.
    let (shown, status) =
        on_terminal(&program, &pager, "\"$momentlog\" 'help log; show 99'").unwrap();
    assert!(
        shown.starts_with("paged:") && shown.contains("there is no record 99"),
        "{shown}"
    );
    assert_eq!(status, 1);
}

#[test]
fn the_pager_is_less_where_nothing_else_is_named_and_none_where_it_is_empty() {
    let program = with_log();
    for environment in [
        &[][..],
        &[("MOMENTLOG_PAGER", "")],
        &[("PAGER", "cat")],
        &[("PAGER", "less")],
        // One that is not installed is none.
        &[("PAGER", "no-such-pager -R")],
    ] {
        let Some((shown, status)) = on_terminal(&program, environment, "\"$momentlog\" log web01")
        else {
            return;
        };
        assert!(shown.contains("checkpoint c1 deleted"), "{shown}");
        assert_eq!(status, 0, "{environment:?}");
    }
}

#[test]
fn a_pager_that_ends_early_ends_the_verb_quietly_and_the_next_one_is_shown() {
    let program = with_many();
    let pager = [("MOMENTLOG_PAGER", "true")];
    let script = "\"$momentlog\" 'log --xml; echo after'";
    let Some((shown, status)) = on_terminal(&program, &pager, script) else {
        return;
    };
    assert_eq!((shown.trim(), status), ("after", 0));
}

#[test]
fn colour_is_on_a_terminal_without_no_color_and_never_the_only_sign() {
    let program = with_log();
    let plain = |text: &str| {
        let mut out = String::new();
        let mut parts = text.split('\u{1b}');
        out += parts.next().unwrap();
        for part in parts {
            out += part.split_once('m').unwrap().1;
        }
        out
    };
    let words = [
        "log",
        "show 3 --xml",
        "why web01 c1",
        "diff 2",
        "help log",
        "checkpoint-info web01 c9",
    ];
    for words in words {
        let command = format!("\"$momentlog\" {words}");
        let Some((coloured, _)) = on_terminal(&program, &[("PAGER", "cat")], &command) else {
            return;
        };
        assert!(coloured.contains("\u{1b}["), "{words}: {coloured}");
        for environment in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let (shown, _) =
                on_terminal(&program, &[("PAGER", "cat"), environment], &command).unwrap();
            assert!(!shown.contains('\u{1b}'), "{words}: {shown}");
            assert_eq!(plain(&coloured), shown, "{words}");
        }
    }
}

#[test]
fn a_wide_terminal_has_a_line_a_record_and_cuts_it_with_a_mark() {
    let program = with_log();
    let reason = "r".repeat(200);
    program.run(&["checkpoint-create-as", "web01", "c3", "--reason", &reason]);
    for (columns, words, lines) in [
        ("109", "log --from 3", 8),
        ("110", "log --from 3", 4),
        ("60", "log --from 3 --oneline", 4),
    ] {
        let environment = [("COLUMNS", columns), ("PAGER", "cat"), ("NO_COLOR", "1")];
        let command = format!("\"$momentlog\" -q {words}");
        let Some((shown, _)) = on_terminal(&program, &environment, &command) else {
            return;
        };
        let shown: Vec<&str> = shown.lines().collect();
        if lines == 4 {
            assert_eq!(shown.len(), 4, "{columns}: {shown:?}");
            let width: usize = columns.parse().unwrap();
            assert!(
                shown.iter().all(|line| line.chars().count() <= width),
                "{shown:?}"
            );
            assert!(shown[3].ends_with('…'), "{shown:?}");
        } else {
            assert!(shown.len() >= lines, "{columns}: {shown:?}");
            assert!(!shown.concat().contains('…'), "{shown:?}");
        }
    }
}

fn make_fifo(program: &Program, name: &str) -> PathBuf {
    let path = program.dir.path().join(name);
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

#[test]
fn what_takes_long_says_so_on_a_terminal_and_not_when_it_is_piped() {
    let program = with_log();
    let receipt = program.run(&["-q", "receipt"]).out;
    let fifo = make_fifo(&program, "receipt");
    // It waits for the receipt, for as long as it takes until that is seen.
    let Some(mut terminal) = Terminal::run(&program, &[], "\"$momentlog\" verify receipt") else {
        return;
    };
    terminal.until("verify");
    std::fs::write(&fifo, &receipt).unwrap();
    let (shown, status) = terminal.end();
    assert!(shown.contains("Verdict:        anchored"), "{shown}");
    assert_eq!(status, 0);
    let mut command = program.command();
    let child = command
        .args(["verify", "receipt"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::fs::write(&fifo, &receipt).unwrap();
    let piped = ran(child.wait_with_output().unwrap());
    assert_eq!((piped.err.as_str(), piped.status), ("", 0));
    assert!(
        piped.out.starts_with("Verdict:        anchored"),
        "{}",
        piped.out
    );
}

#[test]
fn ctrl_c_ends_the_verb_and_not_the_shell() {
    let program = with_log();
    let Some(mut terminal) = Terminal::run(&program, &[("NO_COLOR", "1")], "exec \"$momentlog\"")
    else {
        return;
    };
    for _ in 0..2 {
        terminal.until(PROMPT);
        terminal.press("log --follow\n");
        terminal.until("checkpoint c1 deleted");
        terminal.press("\u{3}");
    }
    terminal.until(PROMPT);
    // At the prompt it leaves the line.
    terminal.press("quit\u{3}");
    terminal.until(PROMPT);
    terminal.press("domstate web01\n");
    terminal.until("shut off");
    terminal.until(PROMPT);
    terminal.press("quit\n");
    let (_, status) = terminal.end();
    assert_eq!(status, 0);
}

#[test]
fn tab_lists_names_below_the_line_as_readline_does() {
    let program = with_log();
    program.run(&["checkpoint-create-as web01 c33"]);
    let Some(mut terminal) = Terminal::run(&program, &[("NO_COLOR", "1")], "exec \"$momentlog\"")
    else {
        return;
    };
    terminal.until(PROMPT);
    terminal.press("checkpoint-inf\t");
    terminal.until("checkpoint-info ");
    // Once for what is certain, twice for the list.
    terminal.press("web01 c\t\t");
    terminal.until("c2");
    terminal.until("c33");
    terminal.press("33\n");
    terminal.until("Parent:         c2");
    terminal.until(PROMPT);
    terminal.press("quit\n");
    assert_eq!(terminal.end().1, 0);
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn an_interrupted_command_ends_with_130() {
    let program = with_log();
    let mut command = program.command();
    command
        .args(["log --follow; echo after"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut read = String::new();
    while !read.contains("checkpoint c1 deleted") {
        let mut part = [0; 4096];
        let count = out.read(&mut part).unwrap();
        assert!(count > 0, "{read}");
        read += std::str::from_utf8(&part[..count]).unwrap();
    }
    interrupt(&child);
    out.read_to_string(&mut read).unwrap();
    assert!(!read.contains("after"), "{read}");
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 130));
}

#[test]
fn pressed_again_it_ends_a_command_whose_answer_is_not_read() {
    let program = with_many();
    let words = ["log --xml; echo after"];
    let whole = program.run(&words).out;
    let mut command = program.command();
    command
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut first = [0];
    out.read_exact(&mut first).unwrap();
    // It waits with more than the pipe holds: the first time marks it, and the second time ends it.
    let begun = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < PATIENCE, "it goes on");
        interrupt(&child);
    }
    let mut read = String::new();
    out.read_to_string(&mut read).unwrap();
    assert!(
        read.len() < whole.len() / 2,
        "{} of {}",
        read.len(),
        whole.len()
    );
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 130));
}

#[test]
fn a_command_that_changes_something_is_ended_before_the_interrupt_is_heeded() {
    let program = Program::new();
    let fifo = make_fifo(&program, "web01.xml");
    let xml = std::fs::read(repository().join("examples/web01.xml")).unwrap();
    let mut command = program.command();
    command
        .args(["define web01.xml; echo after"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // Once the file is open at both ends, the command runs.
    let mut to = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    interrupt(&child);
    to.write_all(&xml).unwrap();
    drop(to);
    let ran = ran(child.wait_with_output().unwrap());
    assert_eq!((ran.err.as_str(), ran.status), ("", 130));
    assert!(
        ran.out
            .starts_with("Domain 'web01' defined from web01.xml\n"),
        "{}",
        ran.out
    );
    assert_eq!(program.run(&["verify"]).status, 0);
    assert_eq!(
        program.run(&["-q", "list", "--all", "--name"]).out,
        "web01\n"
    );
}
