//! momentlog's own verbs.

use momentlog::Entry;
use momentlog::core::{
    Change, JobOutcome, MomentChange, MomentId, Policy, Scope, SettingsChange, SettledBy,
};
use momentlog::store::Seq;
use serde_json::json;

use super::the_domain;
use crate::grammar::{Answer, Invocation};
use crate::layout::{Table, escaped, info as line};
use crate::session::{Failure, Format, Session};
use crate::verbs::VERBS;

pub fn log(session: &mut Session, invocation: &Invocation) -> Answer {
    let number = |option: &str| {
        let text = invocation.get(option);
        let invalid =
            |text: &str| Failure::new(format!("'{}' in --{option} is not a number", escaped(text)));
        text.map(|text| text.parse::<u64>().map_err(|_| invalid(text)))
            .transpose()
    };
    let after = number("from")?.and_then(|from| Seq::new(from.saturating_sub(1)));
    let limit = number("limit")?.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    });
    let wanted = invocation.get("domain");
    let mut rows = Vec::new();
    let mut names = std::collections::HashMap::new();
    let mut moments: std::collections::HashMap<MomentId, String> = std::collections::HashMap::new();
    // A damaged log is shown up to the damage, and then the error.
    let replayed = session.connection.replay(|entry, view| {
        if entry.bridge.is_some() {
            // What was made before is named by what is left of it.
            for domain in view.state().domains() {
                names.insert(domain.uuid(), domain.name().to_string());
                let snapshots = domain.snapshots().walk(Scope::All);
                moments.extend(snapshots.map(|moment| (moment.id, moment.name.to_string())));
                let checkpoints = domain.checkpoints().walk(Scope::All);
                moments.extend(checkpoints.map(|moment| (moment.id, moment.name.to_string())));
            }
        }
        for event in &entry.events {
            if let Change::DomainDefined { def, .. } = &event.change {
                names.insert(def.uuid, def.name.to_string());
            }
            if let Change::Snapshot(MomentChange::Created { id, name, .. })
            | Change::Checkpoint(MomentChange::Created { id, name, .. }) = &event.change
            {
                moments.insert(*id, name.to_string());
            }
        }
        let domain = entry.domain.and_then(|uuid| names.get(&uuid).cloned());
        let about = wanted.is_none_or(|wanted| {
            domain.as_deref() == Some(wanted)
                || entry.domain.is_some_and(|uuid| uuid.to_string() == wanted)
        });
        if about && Some(entry.head.seq) > after {
            let mut what: Vec<String> = entry
                .events
                .iter()
                .map(|event| told(&event.change, &moments))
                .collect();
            if let Some(bridge) = &entry.bridge {
                what.push(format!(
                    "records {} to {} archived",
                    bridge.first, bridge.last.seq
                ));
            } else if what.is_empty() {
                what.push("log begun".to_owned());
            }
            rows.push((entry, domain, what));
        }
    });
    rows.truncate(limit);
    match session.format {
        Format::Json => {
            for (entry, domain, what) in &rows {
                session.print(&format!("{}\n", as_json(entry, domain.as_deref(), what)));
            }
        }
        Format::Text => {
            let mut table = Table::new(&["Seq", "Time", "Actor", "Domain", "What", "Reason"]);
            for (entry, domain, what) in rows {
                table.row(vec![
                    entry.head.seq.to_string(),
                    micros(entry.recorded),
                    escaped(&entry.actor),
                    domain.as_deref().map_or("-".to_owned(), escaped),
                    escaped(&what.join("; ")),
                    entry.reason.as_deref().map_or(String::new(), escaped),
                ]);
            }
            let text = table.render(session.quiet);
            session.print(&text);
        }
    }
    replayed?;
    Ok(0)
}

/// Says an event in a few words.
fn told(change: &Change, moments: &std::collections::HashMap<MomentId, String>) -> String {
    let name = |id: MomentId| {
        moments
            .get(&id)
            .cloned()
            .unwrap_or_else(|| format!("#{id}"))
    };
    let below = |parent: Option<MomentId>| {
        parent.map_or("as a root".to_owned(), |parent| {
            format!("below {}", name(parent))
        })
    };
    match change {
        Change::DomainDefined { live: false, .. } => "domain defined".to_owned(),
        Change::DomainDefined { live: true, .. } => "domain created".to_owned(),
        Change::StateChanged(power) => match power.state.number() {
            1 => "now running".to_owned(),
            3 => "now paused".to_owned(),
            5 => "now shut off".to_owned(),
            other => format!("now in state {other}"),
        },
        Change::MadeTransient => "made transient".to_owned(),
        Change::DomainRemoved => "domain removed".to_owned(),
        Change::PolicySet(policy) => format!("policy set: {}", rules(*policy)),
        Change::Reverted { id, .. } => format!("reverted to snapshot {}", name(*id)),
        Change::JobBegun { id, job } => {
            format!(
                "job {id} begun: {} ({})",
                job.kind.as_str(),
                job.length.as_str()
            )
        }
        Change::JobEnded(outcome) => told_outcome("ended", outcome),
        Change::JobFailed(outcome) => told_outcome("failed", outcome),
        Change::HoldAdded { id, tag, .. } => format!("{} held, tag {tag}", name(*id)),
        Change::HoldRemoved { id, tag } => format!("{} released, tag {tag}", name(*id)),
        Change::SettingsSet(settings) => format!(
            "store set: new domains {}; request ids remembered {}",
            rules(settings.policy),
            window_text(settings.request_window_s)
        ),
        Change::Snapshot(change) => told_moment("snapshot", change, &name, &below),
        Change::Checkpoint(change) => told_moment("checkpoint", change, &name, &below),
    }
}

fn told_outcome(how: &str, outcome: &JobOutcome) -> String {
    let by = match outcome.settled_by {
        SettledBy::Beginner => String::new(),
        SettledBy::Later => format!(", settled by {}", outcome.agent),
    };
    let seen: Vec<String> = outcome
        .seen
        .pairs()
        .iter()
        .map(|(thing, found)| format!("{thing}: {found}"))
        .collect();
    let seen = if seen.is_empty() {
        String::new()
    } else {
        format!(" ({})", seen.join(", "))
    };
    format!("job {} {how}{by}{seen}", outcome.job)
}

fn told_moment<D>(
    kind: &str,
    change: &MomentChange<D>,
    name: &dyn Fn(MomentId) -> String,
    below: &dyn Fn(Option<MomentId>) -> String,
) -> String {
    match change {
        MomentChange::Created { id, parent, .. } => {
            format!("{kind} {} created {}", name(*id), below(*parent))
        }
        MomentChange::Redefined { id, parent, .. } => {
            format!("{kind} {} redefined {}", name(*id), below(*parent))
        }
        MomentChange::Deleted { id, removed, .. } => {
            format!("{kind} {} deleted ({} gone)", name(*id), removed.len())
        }
        MomentChange::Reparented { id, parent } => {
            format!("{kind} {} moved {}", name(*id), below(*parent))
        }
        MomentChange::CurrentSet(current) => {
            format!(
                "current {kind} set to {}",
                current.map_or("none".to_owned(), name)
            )
        }
    }
}

fn as_json(entry: &Entry, domain: Option<&str>, what: &[String]) -> serde_json::Value {
    json!({
        "seq": entry.head.seq.get(),
        "digest": entry.head.digest.to_string(),
        "recorded_us": entry.recorded,
        "actor": &*entry.actor,
        "reason": entry.reason.as_deref(),
        "request_id": entry.request_id.as_deref(),
        "domain": domain,
        "uuid": entry.domain.map(|uuid| uuid.to_string()),
        "previous": entry.previous.map(Seq::get),
        "what": what,
    })
}

fn micros(recorded: i64) -> String {
    match jiff::Timestamp::from_microsecond(recorded) {
        Ok(time) => time
            .to_zoned_datetime(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S%.3f %z")
            .to_string(),
        Err(_) => recorded.to_string(),
    }
}

pub fn policy(session: &mut Session, invocation: &Invocation) -> Answer {
    if invocation.has("default") {
        return default_policy(session, invocation);
    }
    if invocation.get("request-window").is_some() {
        let message = "--request-window is the store's: it needs --default";
        return Err(Failure::new(message.to_owned()));
    }
    let domain = the_domain(session, invocation)?;
    let policy = domain.policy()?;
    let given = invocation.all("rule");
    if given.is_empty() {
        show_rules(session, policy, &[]);
        return Ok(0);
    }
    let policy = changed(policy, given)?;
    domain.connection().set_policy(domain.uuid(), policy)?;
    session.say(&format!(
        "Policy of domain '{}' set\n",
        escaped(domain.name())
    ));
    Ok(0)
}

/// The settings of the store: the policy of new domains, and how long request ids are remembered.
fn default_policy(session: &mut Session, invocation: &Invocation) -> Answer {
    let connection = session.connection_for(invocation)?;
    let settings = connection.settings()?;
    // The first bare word would be the domain.
    let first = invocation.get("domain").map(str::to_owned);
    let given: Vec<String> = first
        .into_iter()
        .chain(invocation.all("rule").iter().cloned())
        .collect();
    let window = invocation.get("request-window").map(seconds).transpose()?;
    if given.is_empty() && window.is_none() {
        let window = window_text(settings.request_window_s);
        let more = [("request window", settings.request_window_s, window)];
        show_rules(session, settings.policy, &more);
        return Ok(0);
    }
    let policy = changed(settings.policy, &given)?;
    connection.set_settings(SettingsChange {
        policy: (!given.is_empty()).then_some(policy),
        request_window_s: window,
    })?;
    session.say("Settings of the store set\n");
    Ok(0)
}

/// Returns the policy with the rules that were given as `NAME=on` or `NAME=off`.
fn changed(mut policy: Policy, given: &[String]) -> Result<Policy, Failure> {
    for rule in given {
        let invalid = || {
            let known = "exclusive, chain, active, suffix or overlays, each =on or =off";
            Failure::new(format!("'{}' is no rule: {known}", escaped(rule)))
        };
        let (name, value) = rule.split_once('=').ok_or_else(invalid)?;
        let on = match value {
            "on" => true,
            "off" => false,
            _ => return Err(invalid()),
        };
        *rule_mut(&mut policy, name).ok_or_else(invalid)? = on;
    }
    Ok(policy)
}

/// Reads a span of time: a number of seconds, or of minutes, hours or days with `m`, `h` or `d` behind it.
fn seconds(text: &str) -> Result<u32, Failure> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 60 * 60),
        Some(b'd') => (&text[..text.len() - 1], 24 * 60 * 60),
        _ => (text, 1_u32),
    };
    let number: Option<u32> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| {
            Failure::new(format!(
                "'{}' is no span of time: seconds, or a number with m, h or d, up to 49710d; 0 for ever",
                escaped(text)
            ))
        })
}

fn window_text(seconds: u32) -> String {
    match seconds {
        0 => "for ever".to_owned(),
        _ if seconds.is_multiple_of(24 * 60 * 60) => format!("{} days", seconds / (24 * 60 * 60)),
        _ => format!("{seconds} s"),
    }
}

/// Prints rules, and numbers of the store besides: their names, values, and words for those.
fn show_rules(session: &mut Session, policy: Policy, more: &[(&str, u32, String)]) {
    let Policy {
        exclusive,
        chain,
        active,
        suffix,
        overlays,
    } = policy;
    match session.format {
        Format::Json => {
            let mut rules = json!({
                "exclusive": exclusive, "chain": chain, "active": active, "suffix": suffix, "overlays": overlays,
            });
            for (name, value, _) in more {
                rules[name.replace(' ', "_") + "_s"] = json!(value);
            }
            session.print(&format!("{rules}\n"));
        }
        Format::Text => {
            let on = |is: bool| if is { "on" } else { "off" };
            let mut text = [
                line("exclusive", on(exclusive)),
                line("chain", on(chain)),
                line("active", on(active)),
                line("suffix", on(suffix)),
                line("overlays", on(overlays)),
            ]
            .concat();
            for (name, _, words) in more {
                text += &line(name, words);
            }
            session.print(&text);
        }
    }
}

fn rule_mut<'a>(policy: &'a mut Policy, name: &str) -> Option<&'a mut bool> {
    Some(match name {
        "exclusive" => &mut policy.exclusive,
        "chain" => &mut policy.chain,
        "active" => &mut policy.active,
        "suffix" => &mut policy.suffix,
        "overlays" => &mut policy.overlays,
        _ => return None,
    })
}

fn rules(policy: Policy) -> String {
    let Policy {
        exclusive,
        chain,
        active,
        suffix,
        overlays,
    } = policy;
    let named = [
        (exclusive, "exclusive"),
        (chain, "chain"),
        (active, "active"),
        (suffix, "suffix"),
        (overlays, "overlays"),
    ];
    let on: Vec<&str> = named
        .into_iter()
        .filter(|(on, _)| *on)
        .map(|(_, name)| name)
        .collect();
    if on.is_empty() {
        "no rule".to_owned()
    } else {
        on.join(", ")
    }
}

pub fn echo(session: &mut Session, invocation: &Invocation) -> Answer {
    super::exclusive(invocation, "shell", "xml")?;
    let quote = |text: &String| {
        let mut text = text.clone();
        if invocation.has("xml") {
            text = super::moment::escape(&text);
        }
        if invocation.has("shell") {
            let plain = |char: char| char.is_ascii_alphanumeric() || "_-./:=@%+,".contains(char);
            if text.is_empty() || !text.chars().all(plain) {
                text = format!("'{}'", text.replace('\'', "'\\''"));
            }
        }
        text
    };
    let text = invocation
        .all("string")
        .iter()
        .map(quote)
        .collect::<Vec<_>>()
        .join(" ");
    if invocation.has("err") {
        crate::session::complain(&[text]);
    } else {
        session.print(&text);
    }
    Ok(0)
}

pub fn help(session: &mut Session, invocation: &Invocation) -> Answer {
    let Some(name) = invocation.get("command") else {
        for verb in VERBS {
            session.print(&format!("    {:<22} {}\n", verb.name, verb.help));
        }
        return Ok(0);
    };
    let verb = VERBS.iter().find(|verb| verb.name == name);
    let verb = verb.ok_or_else(|| {
        Failure::new(format!(
            "command or command group '{}' doesn't exist",
            escaped(name)
        ))
    })?;
    session.print(&verb.usage());
    Ok(0)
}

pub fn quit(session: &mut Session, _: &Invocation) -> Answer {
    session.end();
    Ok(0)
}
