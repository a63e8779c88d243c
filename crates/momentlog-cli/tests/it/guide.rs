//! `docs/guide.md`, run from an empty directory.
//!
//! Times, digests and ids of logs are compared by their shape. A set clock would not make the page exact: the id of a log is
//! random, every digest covers it, and the agent of a record is whoever runs the test. So no program that sets clocks is
//! needed for it.

use super::*;

/// A command of the page, and what the page says that it prints.
struct Shown {
    command: String,
    printed: String,
}

/// The commands of the page, in order.
fn page() -> Vec<Shown> {
    let page = std::fs::read_to_string(repository().join("docs/guide.md")).unwrap();
    let mut shown: Vec<Shown> = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = line == "```console";
        } else if let Some(command) = line.strip_prefix("$ ") {
            shown.push(Shown {
                command: command.to_owned(),
                printed: String::new(),
            });
        } else if in_block {
            let last = shown.last_mut().unwrap();
            last.printed += line;
            last.printed.push('\n');
        }
    }
    shown
}

/// A text without what differs from day to day and from machine to machine: times, digests, ids of logs, and who runs it.
fn timeless(text: &str, user: &str) -> String {
    let in_word = |char: char| char.is_ascii_alphanumeric() || "-:.+".contains(char);
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|char| in_word(char) != in_word(first));
        let (part, after) = rest.split_at(end.unwrap_or(rest.len()));
        out += if in_word(first) { known(part) } else { part };
        rest = after;
    }
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().replace(user, "USER")
}

/// What a word is called if it differs from day to day; otherwise the word.
fn known(word: &str) -> &str {
    let numbers = |text: &str, count: usize, by: char| {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        text.split(by).count() == count && text.split(by).all(digits)
    };
    let is_hex = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_day = word.len() == 10 && numbers(word, 3, '-');
    let is_clock = word.get(..8).is_some_and(|clock| numbers(clock, 3, ':'));
    let is_time = word.len() == 27 && word.ends_with('Z');
    match () {
        () if is_hex => "HEX",
        () if is_day => "DAY",
        () if is_clock => "CLOCK",
        () if is_time => "TIME",
        () => word,
    }
}

#[test]
fn the_guide_says_what_the_program_says() {
    let program = Program::new();
    let xml = repository().join("examples/web01.xml");
    std::fs::copy(xml, program.dir.path().join("web01.xml")).unwrap();
    let user = momentlog::process_user();
    let commands = page();
    assert!(commands.len() > 20, "{}", commands.len());
    for Shown { command, printed } in commands {
        let words = command
            .strip_prefix("momentlog ")
            .expect("a command of momentlog");
        let script = format!("exec \"$0\" -c momentlog:store {words}");
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &script, env!("CARGO_BIN_EXE_momentlog")])
            .current_dir(program.dir.path())
            .env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
            .env("COLUMNS", "80")
            .stdin(Stdio::null());
        let ran = ran(shell.output().unwrap());
        // On a terminal both stand below each other; what is said of the point comes first, and errors last.
        let said = if ran.err.starts_with("momentlog: ") {
            format!("{}{}", ran.err, ran.out)
        } else {
            format!("{}{}", ran.out, ran.err)
        };
        let (said, printed) = (timeless(&said, &user), timeless(&printed, "root@vm"));
        assert_eq!(said, printed, "$ {command}");
        assert!(
            said.lines()
                .all(|line| line.chars().count() <= 80 || line.starts_with('{')),
            "{said}"
        );
    }
}
