//! The pages of the manual, made from the tables of options and verbs.

use clap::CommandFactory as _;
use clap_mangen::Man;
use roff::{Inline, Roff, bold, italic, roman};

use crate::grammar::{OptionSpec, Spec};
use crate::options::Arguments;
use crate::verbs::program::{GROUPS, Group};

/// virsh's verbs, which mean here what they mean there. `momentlog(1)` has their options.
const OF_VIRSH: [&str; 48] = [
    "autostart",
    "backup-begin",
    "backup-dumpxml",
    "checkpoint-create",
    "checkpoint-create-as",
    "checkpoint-delete",
    "checkpoint-dumpxml",
    "checkpoint-edit",
    "checkpoint-info",
    "checkpoint-list",
    "checkpoint-parent",
    "create",
    "define",
    "desc",
    "destroy",
    "domblklist",
    "domid",
    "dominfo",
    "domjobabort",
    "domjobinfo",
    "domname",
    "domrename",
    "domstate",
    "domuuid",
    "dumpxml",
    "echo",
    "exit",
    "help",
    "list",
    "metadata",
    "quit",
    "reboot",
    "reset",
    "resume",
    "shutdown",
    "snapshot-create",
    "snapshot-create-as",
    "snapshot-current",
    "snapshot-delete",
    "snapshot-dumpxml",
    "snapshot-edit",
    "snapshot-info",
    "snapshot-list",
    "snapshot-parent",
    "snapshot-revert",
    "start",
    "suspend",
    "undefine",
];

const ENVIRONMENT: [(&str, &str); 9] = [
    (
        "MOMENTLOG_DEFAULT_URI",
        "The store, where no option names one. After it VIRSH_DEFAULT_CONNECT_URI and LIBVIRT_DEFAULT_URI, if they name a store.",
    ),
    (
        "MOMENTLOG_PAGER, PAGER",
        "Shows long answers on a terminal; `less -FRX` by default, none if it is empty or `cat`.",
    ),
    ("NO_COLOR", "If it is not empty, nothing is coloured."),
    ("COLUMNS", "How wide lines may be."),
    ("TZ", "The time zone in which times are shown and read."),
    (
        "VISUAL, EDITOR",
        "The editor of checkpoint-edit and snapshot-edit.",
    ),
    (
        "MOMENTLOG_LOG",
        "What the program logs of its own work, as a filter such as `debug`.",
    ),
    ("XDG_DATA_HOME", "Where the store is, if nothing names one."),
    ("XDG_STATE_HOME", "Where the history of the shell is."),
];

const STATUS: [(&str, &str); 4] = [
    (
        "0",
        "The command did what was asked; of a script, its last one.",
    ),
    ("1", "It failed, or standard output could not be written."),
    (
        "3 and above",
        "What verify and reconcile have found; their pages and the documentation say which.",
    ),
    ("130", "It was interrupted."),
];

/// Whether a verb has a page of its own.
pub fn has_page(verb: &Spec) -> bool {
    !OF_VIRSH.contains(&verb.name)
}

/// Returns the page of a verb.
pub fn page(verb: &Spec) -> String {
    let title = format!("momentlog-{}", verb.name);
    let mut roff = Roff::new();
    roff.control("TH", head(&title).iter().map(String::as_str));
    section(&mut roff, "NAME");
    roff.text([roman(format!("{title} - {}", verb.help))]);
    section(&mut roff, "SYNOPSIS");
    roff.text([
        bold("momentlog"),
        roman(format!(" [OPTIONS] {}", verb.synopsis())),
    ]);
    let options: Vec<OptionSpec> = verb.all_options().collect();
    if !options.is_empty() {
        section(&mut roff, "OPTIONS");
        listed(&mut roff, &options);
    }
    section(&mut roff, "SEE ALSO");
    roff.text([bold("momentlog"), roman("(1)")]);
    roff.render()
}

/// Returns the page of the program: its own options, its verbs, and the options of those that have no page of their own.
pub fn program() -> String {
    let command = Arguments::command().version(env!("CARGO_PKG_VERSION"));
    let [_, section_number, date, source, manual] = head("momentlog");
    let man = Man::new(command)
        .section(section_number)
        .date(date)
        .source(source)
        .manual(manual);
    let mut front = Vec::new();
    let written = (man.render_title(&mut front))
        .and_then(|()| man.render_name_section(&mut front))
        .and_then(|()| man.render_synopsis_section(&mut front))
        .and_then(|()| man.render_description_section(&mut front))
        .and_then(|()| man.render_options_section(&mut front));
    written.expect("memory takes what is written");
    let mut roff = Roff::new();
    section(&mut roff, "COMMANDS");
    roff.text([roman(
        "Bare words fill the options of a command in their order; a value stands behind its option, or behind an equals sign.",
    )]);
    for group in &GROUPS {
        roff.control("SS", [group.title]);
        for verb in group.verbs() {
            if has_page(verb) {
                tagged(&mut roff, [bold(verb.name)]);
                roff.text([
                    roman(verb.help),
                    roman(". See "),
                    bold(format!("momentlog-{}", verb.name)),
                    roman("(1)"),
                ]);
                continue;
            }
            tagged(&mut roff, [bold(verb.synopsis())]);
            roff.text([roman(verb.help)]);
            let options: Vec<OptionSpec> = verb.all_options().collect();
            roff.control("RS", []);
            listed(&mut roff, &options);
            roff.control("RE", []);
        }
    }
    for (title, rows) in [
        ("ENVIRONMENT", &ENVIRONMENT[..]),
        ("EXIT STATUS", &STATUS[..]),
    ] {
        section(&mut roff, title);
        for (name, text) in rows {
            tagged(&mut roff, [bold(*name)]);
            roff.text([roman(*text)]);
        }
    }
    section(&mut roff, "SEE ALSO");
    let own = GROUPS
        .iter()
        .flat_map(Group::verbs)
        .filter(|verb| has_page(verb));
    let own: Vec<String> = own
        .map(|verb| format!("momentlog-{}(1)", verb.name))
        .collect();
    roff.text([roman(own.join(", ") + ", virsh(1)")]);
    String::from_utf8_lossy(&front).into_owned() + &roff.render()
}

/// What stands at the head of a page: title, section, date, source, manual.
fn head(title: &str) -> [String; 5] {
    let source = format!("momentlog {}", env!("CARGO_PKG_VERSION"));
    [title, "1", "", &source, "momentlog"].map(str::to_owned)
}

fn section(roff: &mut Roff, title: &str) {
    roff.control("SH", [title]);
}

fn tagged(roff: &mut Roff, tag: impl Into<Vec<Inline>>) {
    roff.control("TP", []);
    roff.text(tag);
}

/// Options, each with its line.
fn listed(roff: &mut Roff, options: &[OptionSpec]) {
    for option in options {
        let form = option.form();
        let (name, value) = form.split_once(' ').unwrap_or((&form, ""));
        let mut tag = vec![bold(name)];
        if !value.is_empty() {
            tag.extend([roman(" "), italic(value)]);
        }
        tagged(roff, tag);
        roff.text([roman(option.help)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verbs_of_virsh_are_all_here() {
        for name in OF_VIRSH {
            assert!(crate::verbs::find(name).is_some(), "{name}");
        }
    }
}
