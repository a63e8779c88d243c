//! virsh 9.0.0's own answers to 32 scripts: same standard output, errors and exit status.
//!
//! What depends on the moment of recording is rewritten as the recorder did; libxml2's wording, the C function behind
//! `in function`, and the product's name in banner and prompt are compared loosely, and nothing else.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;

fn second() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Rewrites times near the time of the run, and names made from them, as the recorder did.
fn normalised(
    text: &str,
    around: std::ops::RangeInclusive<i64>,
    names: &mut BTreeMap<String, String>,
) -> String {
    let mut text = text.to_owned();
    for second in around.clone() {
        let time = jiff::Timestamp::from_second(second)
            .unwrap()
            .to_zoned_datetime(jiff::tz::TimeZone::UTC);
        let stamp = time.strftime("%Y-%m-%d %H:%M:%S +0000").to_string();
        text = text.replace(&stamp, "YYYY-MM-DD HH:MM:SS +ZZZZ");
        text = text.replace(&format!("<creationTime>{second}<"), "<creationTime>@NOW<");
    }
    let mut found: Vec<(usize, String)> = around
        .filter_map(|second| {
            text.find(&second.to_string())
                .map(|at| (at, second.to_string()))
        })
        .collect();
    found.sort();
    for (_, second) in found {
        let next = names.len() + 1;
        let name = names
            .entry(second.clone())
            .or_insert_with(|| format!("@AUTO{next:05}"))
            .clone();
        text = text.replace(&second, &name);
    }
    text
}

/// Drops what is another's wording.
fn loosened(text: &str, errors: bool) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let mut line = line.to_owned();
        if let Some(at) = line.find("in function ") {
            let rest = &line[at + 12..];
            let end =
                rest.find(|char: char| !char.is_alphanumeric() && char != '\'' && char != '_');
            line = format!(
                "{}in function F{}",
                &line[..at],
                end.map_or("", |end| &rest[end..])
            );
        }
        for product in ["virsh", "momentlog"] {
            for prompt in ["# ", "> "] {
                if let Some(rest) = line.strip_prefix(&format!("{product} {prompt}")) {
                    line = format!("{prompt}{rest}");
                }
            }
        }
        if line.starts_with("Welcome to ") {
            "Welcome to ...".clone_into(&mut line);
        }
        if errors {
            let quoted = lines.last().is_some_and(|last| last.ends_with(" ~"));
            if quoted && !line.starts_with("error: ") {
                continue;
            }
            let parsers = [
                "error: XML document failed to validate against schema:",
                "error: (domain_snapshot):",
                "error: (domain_checkpoint):",
                "error: (domain_definition):",
            ];
            if let Some(parser) = parsers.iter().find(|parser| line.starts_with(**parser)) {
                line = format!("{parser} ~");
            }
        }
        lines.push(line);
    }
    lines
        .join("\n")
        .trim_end_matches(if errors { '\n' } else { '\0' })
        .to_owned()
}

#[test]
fn every_recorded_script_prints_what_virsh_printed() {
    let dir = repository().join("proptests/conformance/virsh");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "script")
    });
    scripts.sort();
    assert!(scripts.len() >= 32, "{} scripts", scripts.len());
    for path in scripts {
        let text = std::fs::read_to_string(&path).unwrap();
        let recorded =
            |extension: &str| std::fs::read_to_string(path.with_extension(extension)).unwrap();
        let begun = second();
        let mut command = Command::new(env!("CARGO_BIN_EXE_momentlog"));
        command
            .args(["-c", "test:///default"])
            .current_dir(&dir)
            .env("TZ", "UTC");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let input = text.strip_prefix("#!stdin\n");
        if input.is_none() {
            command.arg(&text);
        }
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.unwrap_or_default().as_bytes())
            .unwrap();
        let got = ran(child.wait_with_output().unwrap());
        let mut names = BTreeMap::new();
        let around = begun - 3..=second() + 3;
        let out = normalised(&got.out, around.clone(), &mut names);
        let err = normalised(&got.err, around, &mut names);
        let name = path.file_stem().unwrap().to_string_lossy();
        assert_eq!(
            loosened(&out, false),
            loosened(&recorded("out"), false),
            "{name}.out"
        );
        assert_eq!(
            loosened(&err, true),
            loosened(&recorded("err"), true),
            "{name}.err"
        );
        assert_eq!(format!("{}\n", got.status), recorded("rc"), "{name}.rc");
    }
}
