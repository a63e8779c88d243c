//! What libvirt's list of checkpoints and the log do not agree on, and the commands that would give libvirt back what it
//! has lost. They are printed, and never run.

use std::fmt::Write as _;

use momentlog::Redefinition;
use momentlog::core::DomainUuid;
use momentlog::driver::Listing;

use crate::layout::{Table, escaped, info as line};
use crate::session::Session;
use crate::verbs::redefine_plan::words;

pub fn show(session: &mut Session, uri: &str, domain: DomainUuid, listing: &Listing) {
    session.print(&line("libvirt", escaped(uri)));
    if !listing.checkpoints.is_empty() {
        session.print("\n");
        let mut table = Table::new(&["Checkpoint", "In libvirt"]);
        for found in &listing.checkpoints {
            let state = found.state.as_str().to_owned();
            table.row(vec![found.checkpoint.to_string(), state]);
        }
        session.print_table(&table);
    }
    if !listing.unrecorded.is_empty() {
        session.print("\n");
        let mut table = Table::new(&["Unrecorded checkpoint", "Parent"]);
        for unlisted in &listing.unrecorded {
            let parent = unlisted.parent.as_ref().map(ToString::to_string);
            table.row(vec![unlisted.name.to_string(), parent.unwrap_or_default()]);
        }
        session.print_table(&table);
    }
    for redefinition in &listing.plan {
        session.print("\n");
        session.print(&in_shell(uri, domain, redefinition));
    }
}

/// The command that redefines a checkpoint in libvirt, whose XML it reads from its input. libvirt itself looks at the bitmaps,
/// and refuses what is not valid.
pub fn command(uri: &str, domain: DomainUuid, redefinition: &Redefinition) -> Vec<String> {
    let mut command = vec!["virsh".to_owned(), format!("--connect={uri}")];
    command.extend(words(domain, redefinition, "/dev/stdin"));
    command.push("--redefine-validate".to_owned());
    command
}

/// The command with its XML, for a shell.
fn in_shell(uri: &str, domain: DomainUuid, redefinition: &Redefinition) -> String {
    let xml = shown_xml(&redefinition.xml);
    let mut end = "END".to_owned();
    while xml.lines().any(|line| line == end) {
        end.push('_');
    }
    let words: Vec<String> = command(uri, domain, redefinition)
        .iter()
        .map(|word| quoted(word))
        .collect();
    format!("{} <<'{end}'\n{xml}{end}\n", words.join(" "))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=/.:+,@".contains(&byte);
    if word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", escaped(word).replace('\'', r"'\''"))
}

/// XML that means the same, without characters that drive a terminal.
fn shown_xml(xml: &str) -> String {
    let mut shown = String::with_capacity(xml.len());
    for char in xml.chars() {
        let is_seen = char == '\n' || escaped(char.encode_utf8(&mut [0; 4])).starts_with(char);
        if is_seen {
            shown.push(char);
        } else {
            let _ = write!(shown, "&#x{:x};", u32::from(char));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use momentlog::core::MomentName;

    use super::*;

    #[test]
    fn what_is_printed_for_a_shell_holds_no_word_of_its_own() {
        let redefinition = Redefinition {
            kind: momentlog::core::MomentKind::Checkpoint,
            moment: MomentName::new("c1").unwrap(),
            parent: None,
            current: false,
            xml: "<description>\u{9b}2J\u{202e}\nEND\n$(id) é</description>\n".to_owned(),
        };
        let uri = "qemu+ssh://host/system?a='b c'";
        let text = in_shell(uri, DomainUuid::from_bytes([7; 16]), &redefinition);
        let (command, xml) = text.split_once('\n').unwrap();
        assert_eq!(
            command,
            r"virsh '--connect=qemu+ssh://host/system?a='\''b c'\''' checkpoint-create --domain=07070707-0707-0707-0707-070707070707 --xmlfile=/dev/stdin --redefine --redefine-validate <<'END_'"
        );
        assert_eq!(
            xml,
            "<description>&#x9b;2J&#x202e;\nEND\n$(id) é</description>\nEND_\n"
        );
    }
}
