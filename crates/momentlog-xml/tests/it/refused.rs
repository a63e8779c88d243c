//! What is refused, and where the error says that it stands.

use momentlog_xml::{Position, read_checkpoint, read_snapshot};

use super::*;

/// Checks what the error of a snapshot's XML says.
#[track_caller]
fn check(xml: &str, expected: &str) {
    let error = read_snapshot(xml, true).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_error_shows_the_place_in_a_long_line() {
    let xml = format!("<domainsnapshot>{}</x>", "<!-- a -->".repeat(20));
    let error = read_snapshot(&xml, false).unwrap_err();
    let shown = error.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert!(error.position.column > 80, "{shown}");
    assert!(
        lines[1].ends_with('<') && lines[1].chars().count() == 80,
        "{shown}"
    );
    assert_eq!(lines[2], format!("{}^", "-".repeat(79)), "{shown}");
}

#[test]
fn an_error_shows_no_secret() {
    check(
        "<domainsnapshot><graphics passwd='s3cret'/></x>",
        "(domain_snapshot):1: ill-formed document: expected `</domainsnapshot>`, but `</x>` was found\n\
         <domainsnapshot><graphics passwd='***'/></x>\n\
         ----------------------------------------^",
    );
}

#[test]
fn an_error_cannot_drive_a_terminal() {
    let xml = "<domainsnapshot><a\u{9b}2J\u{202e}/></domainsnapshot>";
    let shown = read_snapshot(xml, true).unwrap_err().to_string();
    assert!(!shown.contains(['\u{9b}', '\u{202e}']), "{shown:?}");
    assert!(shown.contains("\\u{9b}2J\\u{202e}"), "{shown:?}");
    let xml = "<domaincheckpoint>\n<name>a\u{85}\u{2067}b</name></domaincheckpoint>";
    let error = read_checkpoint(xml).unwrap_err();
    assert_eq!(
        error.excerpt,
        "<name>a\\u{85}\\u{2067}b</name></domaincheckpoint>"
    );
    assert!(
        !error.to_string().contains(['\u{85}', '\u{2067}']),
        "{error}"
    );
}

#[test]
fn an_encoding_that_is_not_read_is_named_with_its_place() {
    let xml = "<?xml version='1.0' encoding='ISO-8859-1'?><domainsnapshot/>";
    let error = read_snapshot(xml, false).unwrap_err();
    assert_eq!(error.position, Position { line: 1, column: 1 });
    let shown = error.to_string();
    assert!(
        shown.contains("encoding 'ISO-8859-1' is not supported, only UTF-8 is"),
        "{shown}"
    );
}
