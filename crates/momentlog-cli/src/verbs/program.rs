//! Verbs of the program itself: `echo`, `help`, `quit`.

use super::Verb;
use crate::failure::{Answer, Failure, complain};
use crate::grammar::{Invocation, Spec, flag, other_name, unlisted, word, words};
use crate::layout::escaped;
use crate::script::quoted;
use crate::session::Session;

/// The verbs of the program itself.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "echo",
            "print words, quoted on request",
            &[
                flag("shell", "escape for shell use"),
                flag("xml", "escape for XML use"),
                flag(
                    "split",
                    "split each argument on ','; ',,' is an escape sequence",
                ),
                flag("err", "output to stderr"),
                words("string", "words to print"),
                other_name("str", "string"),
                unlisted("hi"),
            ],
        )
        .in_text()
        .of_now(),
        run: echo,
    },
    Verb {
        spec: Spec::new(
            "help",
            "list the commands, or explain one",
            &[word(
                "command",
                "Prints global help, command specific help, or help for a group of \
                 related commands",
            )],
        )
        .in_text()
        .of_now(),
        run: help,
    },
    Verb {
        spec: Spec::new("quit", "end the session", &[]).of_now(),
        run: quit,
    },
    Verb {
        spec: Spec::new("exit", "end the session", &[]).of_now(),
        run: quit,
    },
];

pub fn echo(session: &mut Session, invocation: &Invocation) -> Answer {
    super::exclusive(invocation, "shell", "xml")?;
    super::exclusive(invocation, "shell", "split")?;
    super::exclusive(invocation, "xml", "split")?;
    let quote = |text: &String| {
        if invocation.has("xml") {
            return super::moment::escape(text);
        }
        if invocation.has("split") {
            let parts = super::moment::split_spec(text);
            return parts
                .iter()
                .flat_map(|part| [part.as_str(), "\n"])
                .collect();
        }
        if invocation.has("shell") {
            return quoted(text);
        }
        text.clone()
    };
    let hello = invocation.has("hi").then(|| "hello".to_owned());
    let words: Vec<String> = hello
        .into_iter()
        .chain(invocation.all("string").iter().map(quote))
        .collect();
    let text = words.join(" ");
    if invocation.has("err") {
        complain(&[text]);
    } else {
        session.print(&text);
    }
    Ok(0)
}

/// Verbs that `help` lists together: virsh's title and keyword, and whether a verb is of them.
pub struct Group {
    /// virsh's title.
    pub title: &'static str,
    keyword: &'static str,
    holds: fn(&str) -> bool,
}

impl Group {
    /// The verbs of the group, by name.
    pub fn verbs(&self) -> Vec<&'static Spec> {
        let all = super::all().map(|verb| &verb.spec);
        let mut verbs: Vec<&Spec> = all.filter(|verb| (self.holds)(verb.name)).collect();
        verbs.sort_unstable_by_key(|verb| verb.name);
        verbs
    }
}

const MONITOR: [&str; 4] = ["domblklist", "dominfo", "domstate", "list"];
const LOG: [&str; 18] = [
    "log",
    "show",
    "why",
    "diff",
    "stat",
    "hold-list",
    "policy",
    "init",
    "receipt",
    "verify",
    "image",
    "archive",
    "copy",
    "serve",
    "proxy",
    "proxy-install",
    "proxy-remove",
    "moments-restore",
];
const HYPERVISOR: [&str; 3] = ["attach", "detach", "reconcile"];
const PROGRAM: [&str; 6] = ["completion", "echo", "exit", "help", "man", "quit"];

/// All groups, in the order of the help.
pub const GROUPS: [Group; 8] = [
    Group {
        title: "Domain Management",
        keyword: "domain",
        holds: |name| !GROUPS[1..].iter().any(|group| (group.holds)(name)),
    },
    Group {
        title: "Domain Monitoring",
        keyword: "monitor",
        holds: |name| MONITOR.contains(&name),
    },
    Group {
        title: "Checkpoint",
        keyword: "checkpoint",
        holds: |name| name.starts_with("checkpoint-"),
    },
    Group {
        title: "Snapshot",
        keyword: "snapshot",
        holds: |name| name.starts_with("snapshot-"),
    },
    Group {
        title: "Backup",
        keyword: "backup",
        holds: |name| name.starts_with("backup-"),
    },
    Group {
        title: "Attached domains",
        keyword: "hypervisor",
        holds: |name| HYPERVISOR.contains(&name),
    },
    Group {
        title: "The log",
        keyword: "momentlog",
        holds: |name| LOG.contains(&name),
    },
    Group {
        title: "The program itself",
        keyword: "virsh",
        holds: |name| PROGRAM.contains(&name),
    },
];

pub fn help(session: &mut Session, invocation: &Invocation) -> Answer {
    let list = |session: &mut Session, group: &Group| {
        session.print(&format!(
            " {} (help keyword '{}'):\n",
            group.title, group.keyword
        ));
        for verb in group.verbs() {
            session.print(&format!("    {:<30} {}\n", verb.name, verb.help));
        }
    };
    let Some(name) = invocation.get("command") else {
        session.print("Grouped commands:\n\n");
        for group in &GROUPS {
            list(session, group);
            session.print("\n");
        }
        return Ok(0);
    };
    if let Some(group) = GROUPS
        .iter()
        .find(|group| [group.keyword, group.title].contains(&name))
        && super::find(name).is_none()
    {
        list(session, group);
        return Ok(0);
    }
    let verb = super::find(name).ok_or_else(|| {
        Failure::new(format!(
            "command or command group '{}' doesn't exist",
            escaped(name)
        ))
    })?;
    session.print(&crate::colour::sections(&verb.spec.usage()));
    Ok(0)
}

pub fn quit(session: &mut Session, _: &Invocation) -> Answer {
    session.end();
    Ok(0)
}
