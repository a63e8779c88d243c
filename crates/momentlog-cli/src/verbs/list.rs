//! The verb `list`.

use momentlog::DomainListFlags;
use momentlog::core::RunState;

use super::domain::{document, state_word};
use super::{Verb, exclusive};
use crate::failure::Answer;
use crate::grammar::{Invocation, Spec, flag};
use crate::layout::Table;
use crate::session::Session;

/// The verb that lists domains.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "list",
        "list domains: running ones, or all",
        &[
            flag("inactive", "list inactive domains"),
            flag("all", "list inactive & active domains"),
            flag("transient", "list transient domains"),
            flag("persistent", "list persistent domains"),
            flag("with-snapshot", "list domains with existing snapshot"),
            flag("without-snapshot", "list domains without a snapshot"),
            flag("with-checkpoint", "list domains with existing checkpoint"),
            flag("without-checkpoint", "list domains without a checkpoint"),
            flag("state-running", "list domains in running state"),
            flag("state-paused", "list domains in paused state"),
            flag("state-shutoff", "list domains in shutoff state"),
            flag("state-other", "list domains in other states"),
            flag("autostart", "list domains with autostart enabled"),
            flag("no-autostart", "list domains with autostart disabled"),
            flag("with-managed-save", "list domains with managed save state"),
            flag("without-managed-save", "list domains without managed save"),
            flag("uuid", "list uuid's only"),
            flag("name", "list domain names only"),
            flag("id", "list domain IDs only"),
            flag("table", "list table (default)"),
            flag(
                "managed-save",
                "mark inactive domains with managed save state",
            ),
            flag("title", "show domain title"),
        ],
    ),
    run: list,
}];

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    use DomainListFlags as Flags;
    for column in ["name", "uuid", "id"] {
        exclusive(invocation, "table", column)?;
    }
    let has = |name: &str| invocation.has(name);
    // virsh takes --state-shutoff for --inactive, too.
    let inactive = has("inactive") || has("state-shutoff");
    let flags = Flags::NONE
        .with(Flags::ACTIVE, has("all") || !inactive)
        .with(Flags::INACTIVE, has("all") || inactive)
        .with(Flags::HAS_SNAPSHOT, has("with-snapshot"))
        .with(Flags::NO_SNAPSHOT, has("without-snapshot"))
        .with(Flags::HAS_CHECKPOINT, has("with-checkpoint"))
        .with(Flags::NO_CHECKPOINT, has("without-checkpoint"));
    let domains = session.connection.list_all_domains(flags)?;
    let in_words = has("uuid") || has("name") || has("id");
    // With only ids asked for, virsh leaves out the domains that have none.
    let only_ids = has("id") && !has("uuid") && !has("name");
    let header = ["Id", "Name", "State", "Title"];
    let mut table = Table::new(if has("title") { &header } else { &header[..3] });
    let mut listed = Vec::new();
    for domain in &domains {
        let power = domain.power()?;
        if !is_listed(invocation, domain.is_persistent()?, power.state) {
            continue;
        }
        if only_ids && power.id.is_none() {
            continue;
        }
        listed.push(domain);
        let id = power.id.map_or("-".to_owned(), |id| id.to_string());
        if in_words {
            let fields = [
                (has("uuid"), domain.uuid().to_string()),
                (has("id"), id),
                (has("name"), domain.name().to_owned()),
            ];
            let fields = fields.into_iter();
            let shown: Vec<String> = fields
                .filter(|(wanted, _)| *wanted)
                .map(|(_, text)| text)
                .collect();
            session.print(&format!("{}\n", shown.join(" ")));
            continue;
        }
        let state = state_word(power.state).to_owned();
        let mut row = vec![id, domain.name().to_owned(), state];
        if has("title") {
            row.push(domain.title()?.unwrap_or_default());
        }
        table.row(row);
    }
    if !in_words {
        session.print_table(&table);
    }
    document(session, listed);
    Ok(0)
}

/// Whether a domain passes the filters of `list`: one of each group that is asked for. No domain here starts with its
/// host, or is saved on it.
fn is_listed(invocation: &Invocation, persistent: bool, state: RunState) -> bool {
    let word = match state {
        RunState::Running => "state-running",
        RunState::Paused => "state-paused",
        RunState::Shutoff => "state-shutoff",
        _ => "state-other",
    };
    let groups: [(&[&str], &str); 4] = [
        (
            &["transient", "persistent"],
            if persistent {
                "persistent"
            } else {
                "transient"
            },
        ),
        (
            &[
                "state-running",
                "state-paused",
                "state-shutoff",
                "state-other",
            ],
            word,
        ),
        (&["autostart", "no-autostart"], "no-autostart"),
        (
            &["with-managed-save", "without-managed-save"],
            "without-managed-save",
        ),
    ];
    groups.iter().all(|(group, own)| {
        let asked = group.iter().any(|name| invocation.has(name));
        !asked || invocation.has(own)
    })
}
