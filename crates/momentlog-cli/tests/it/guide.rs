//! `docs/guide.md`, run from an empty directory.

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

/// A text without what differs from day to day and from machine to machine: times, numbers in hex, and who runs it.
fn timeless(text: &str, user: &str) -> String {
    let word = |word: &str| -> String {
        let bare = word.trim_matches(|char: char| !char.is_alphanumeric());
        let hex = bare.len() >= 32 && bare.chars().all(|char| char.is_ascii_hexdigit());
        let clock =
            bare.split(':').count() == 3 && bare.starts_with(|char: char| char.is_ascii_digit());
        let day = bare.len() == 10
            && bare
                .split('-')
                .filter(|part| part.parse::<u32>().is_ok())
                .count()
                == 3;
        match () {
            () if hex => word.replace(bare, "HEX"),
            () if clock => "CLOCK".to_owned(),
            () if day => word.replace(bare, "DAY"),
            () => word.replace(user, "USER"),
        }
    };
    let words: Vec<String> = text.split(' ').map(word).collect();
    let text = words.join(" ");
    // Documents have their times and digests between quotes.
    let parts = text.split('"').map(|part| {
        let hex = part.len() == 64 && part.chars().all(|char| char.is_ascii_hexdigit());
        let time = part.len() == 27 && part.ends_with('Z');
        if hex {
            "HEX"
        } else if time {
            "TIME"
        } else {
            part
        }
    });
    let lines = parts.collect::<Vec<_>>().join("\"");
    let lines = lines.lines().map(str::trim_end).collect::<Vec<_>>();
    lines.join("\n").trim_end().to_owned()
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
