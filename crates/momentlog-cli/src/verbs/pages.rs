//! The verbs `man` and `completion`: pages of the manual, and what makes a shell complete commands.

use std::path::Path;

use super::Verb;
use crate::complete;
use crate::failure::{Answer, Failure, reason};
use crate::grammar::{Invocation, Spec, needed, only_named, word};
use crate::layout::escaped;
use crate::manual;
use crate::session::Session;

/// The verbs.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "man",
            "print a page of the manual, for man(1): momentlog(1), or that of a command",
            &[
                word("command", "command whose page is printed"),
                only_named("out", "directory to write all pages to"),
            ],
        )
        .of_now()
        .in_text(),
        run: man,
    },
    Verb {
        spec: Spec::new(
            "completion",
            "print a script that makes a shell complete commands, options and names",
            &[needed("shell", "bash, zsh or fish")],
        )
        .of_now()
        .in_text(),
        run: completion,
    },
];

pub fn man(session: &mut Session, invocation: &Invocation) -> Answer {
    if let Some(directory) = invocation.get("out") {
        super::exclusive(invocation, "out", "command")?;
        return write_all(session, Path::new(directory));
    }
    let page = match invocation.get("command") {
        None | Some("momentlog") => manual::program(),
        Some(name) => {
            let verb = super::find(name).ok_or_else(|| {
                Failure::new(format!("command '{}' doesn't exist", escaped(name)))
            })?;
            manual::page(&verb.spec)
        }
    };
    session.print(&page);
    Ok(0)
}

/// Writes the page of the program, and those of the verbs that have one of their own.
fn write_all(session: &mut Session, directory: &Path) -> Answer {
    let cannot = |path: &Path, error: &std::io::Error| {
        let path = escaped(&path.display().to_string());
        Failure::new(format!("cannot write '{path}': {}", reason(error)))
    };
    std::fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
    let own = super::all()
        .map(|verb| &verb.spec)
        .filter(|verb| manual::has_page(verb));
    let pages = own.map(|verb| (format!("momentlog-{}.1", verb.name), manual::page(verb)));
    let program = std::iter::once(("momentlog.1".to_owned(), manual::program()));
    for (name, page) in program.chain(pages) {
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(|error| cannot(&path, &error))?;
        session.say(&format!("{}\n", escaped(&path.display().to_string())));
    }
    Ok(0)
}

pub fn completion(session: &mut Session, invocation: &Invocation) -> Answer {
    let shell = invocation.need("shell");
    let script = complete::script(shell).ok_or_else(|| {
        let shell = escaped(shell);
        Failure::new(format!(
            "'{shell}' is no shell that is known: bash, zsh or fish"
        ))
    })?;
    session.print(script);
    Ok(0)
}
