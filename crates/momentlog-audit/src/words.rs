//! What consequences are called, in a few words of one line.

use std::fmt::Write as _;

use momentlog_core::{
    Extent, Job, JobId, JobKind, JobLength, JobOutcome, MomentKind, Policy, Power, Rule, Settings,
    SettledBy,
};
use momentlog_engine::{Bridge, Call};

use crate::consequence::{Consequence, Move, Named, What};

/// How many names of moments or disks are shown.
const NAMES_SHOWN: usize = 16;

/// Returns a text in which each byte of a character that is not seen stands as `\x0a`: one that moves the cursor, drives a
/// terminal, turns the text around it, or has no width. So no name can forge a line, or look like another.
pub fn escaped(text: &str) -> String {
    // Nearly all texts are.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut bytes = [0; 4];
    for char in text.chars() {
        if is_unseen(char) {
            for byte in char.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "\\x{byte:02x}");
            }
        } else {
            out.push(char);
        }
    }
    out
}

fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Returns what all consequences of a record are, in one line.
pub fn summary(consequences: &[Consequence]) -> String {
    let words: Vec<String> = consequences.iter().map(Consequence::summary).collect();
    words.join("; ")
}

impl Consequence {
    /// Returns what it is, with the moments that moved by it, in one line.
    pub fn summary(&self) -> String {
        let mut words = self.what.words();
        match &self.what {
            // Where a moment hangs is said of itself.
            What::Redefined { .. } | What::Moved { .. } => {}
            _ => words += &moves(&self.moved),
        }
        if let What::Moved { below: parent, .. } = &self.what {
            if self.moved.is_empty() {
                words += ", to where it was";
            } else {
                words += &format!(" {}", below(parent.as_ref()));
            }
        }
        words
    }
}

/// Says which moments moved, and below which.
fn moves(moved: &[Move]) -> String {
    // All that one event moves goes to the same parent.
    match moved.first() {
        None => String::new(),
        Some(first) => {
            let names = some(moved.iter().map(|moved| moved.moment.to_string()));
            format!("; {names} moved {}", below(first.to.as_ref()))
        }
    }
}

fn below(parent: Option<&Named>) -> String {
    parent.map_or("to the roots".to_owned(), |parent| {
        format!("below {parent}")
    })
}

/// Its name, with what cannot be seen as escapes.
impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escaped(self.name.as_str()))
    }
}

impl What {
    /// Returns what happened, in one line.
    pub fn words(&self) -> String {
        match self {
            What::Begun => "log begun".to_owned(),
            What::Archived(bridge) => archived(bridge),
            What::SettingsSet { from, to } => settings(*from, *to),
            What::DomainDefined { live, fields, .. } => {
                let how = if *live { "created" } else { "defined" };
                match fields {
                    Some(fields) if fields.is_empty() => format!("domain {how} as before"),
                    Some(fields) => {
                        let fields = some(fields.iter().map(|change| escaped(&change.field)));
                        format!("domain {how}, other {fields}")
                    }
                    None => format!("domain {how}"),
                }
            }
            What::StateChanged { to, .. } => format!("now {}", power(*to)),
            What::MadeTransient => "made transient".to_owned(),
            What::DomainRemoved {
                snapshots,
                checkpoints,
            } => removed(snapshots, checkpoints),
            What::DomainRenamed { from, to } => {
                format!("domain renamed from {} to {}", escaped(from), escaped(to))
            }
            What::AutostartSet { to: true, .. } => "starts with its host".to_owned(),
            What::AutostartSet { to: false, .. } => "does not start with its host".to_owned(),
            What::PolicySet { from, to } => policy(*from, *to),
            What::Created {
                kind,
                moment,
                below,
            } => match below {
                Some(parent) => format!("{kind} {moment} created below {parent}"),
                None => format!("{kind} {moment} created as a root"),
            },
            What::Redefined {
                kind,
                moment,
                below,
                ..
            } => match below {
                Some(parent) => format!("{kind} {moment} redefined below {parent}"),
                None => format!("{kind} {moment} redefined as a root"),
            },
            What::Deleted {
                kind,
                moment,
                extent,
                removed,
                ..
            } => deleted(*kind, moment, *extent, removed),
            What::Moved { kind, moment, .. } => format!("{kind} {moment} moved"),
            What::CurrentSet { kind, moment } => match moment {
                Some(moment) => format!("current {kind} set to {moment}"),
                None => format!("current {kind} set to none"),
            },
            What::Reverted { moment, power: to } => {
                format!("reverted to snapshot {moment}, now {}", power(*to))
            }
            What::JobBegun { id, job, deletes } => begun(*id, job, deletes),
            What::JobEnded(outcome) => outcome_words("ended", outcome),
            What::JobFailed(outcome) => outcome_words("failed", outcome),
            What::Attached(attachment) => {
                let how = if attachment.look_only {
                    ", to look only"
                } else {
                    ""
                };
                let (driver, socket) = (escaped(&attachment.driver), escaped(&attachment.socket));
                format!("attached to {driver} at {socket}{how}")
            }
            What::Detached => "detached".to_owned(),
            What::Seen { moment, disks } => {
                let found = disks.iter();
                let found = found.map(|seen| format!("{} {}", escaped(&seen.disk), seen.state));
                format!("checkpoint {moment} seen: {}", some(found))
            }
            What::Held {
                kind, moment, tag, ..
            } => format!("{kind} {moment} held, tag {}", escaped(tag.as_str())),
            What::Released { kind, moment, tag } => {
                format!("{kind} {moment} released, tag {}", escaped(tag.as_str()))
            }
        }
    }
}

/// The first of some words, and how many more there are.
fn some(words: impl ExactSizeIterator<Item = String>) -> String {
    let all = words.len();
    let shown: Vec<String> = words.take(NAMES_SHOWN).collect();
    match all - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn names(moments: &[Named]) -> String {
    some(moments.iter().map(ToString::to_string))
}

fn archived(bridge: &Bridge) -> String {
    let to = match bridge.archive.as_deref() {
        None => String::new(),
        Some("") => " (where was erased)".to_owned(),
        Some(archive) => format!(" to {}", escaped(archive)),
    };
    let (first, last) = (bridge.first, bridge.last.seq);
    format!("records {first} to {last} archived{to}")
}

fn settings(from: Settings, to: Settings) -> String {
    let mut words = Vec::new();
    if from.policy != to.policy {
        words.push(format!("new domains {}", rules_text(to.policy)));
    }
    if from.request_window_s != to.request_window_s {
        let window = window_text(to.request_window_s);
        words.push(format!("request ids remembered {window}"));
    }
    if words.is_empty() {
        "store set as before".to_owned()
    } else {
        format!("store set: {}", words.join("; "))
    }
}

/// Says which rules a policy has.
pub fn rules_text(policy: Policy) -> String {
    let on: Vec<&str> = policy.rules().map(Rule::name).collect();
    if on.is_empty() {
        "no rule".to_owned()
    } else {
        on.join(", ")
    }
}

/// Says how long request ids are remembered.
pub fn window_text(seconds: u32) -> String {
    const DAY: u32 = 24 * 60 * 60;
    match seconds {
        0 => "for ever".to_owned(),
        _ if seconds.is_multiple_of(DAY) => format!("{} days", seconds / DAY),
        _ => format!("{seconds} s"),
    }
}

fn policy(from: Policy, to: Policy) -> String {
    let changed: Vec<String> = Rule::ALL
        .into_iter()
        .filter(|rule| from.has(*rule) != to.has(*rule))
        .map(|rule| {
            format!(
                "{} {}",
                rule.name(),
                if to.has(rule) { "on" } else { "off" }
            )
        })
        .collect();
    if changed.is_empty() {
        "policy set as before".to_owned()
    } else {
        format!("policy {}", changed.join(", "))
    }
}

/// Says a run state.
fn power(power: Power) -> String {
    match power.state.number() {
        1 => "running".to_owned(),
        3 => "paused".to_owned(),
        5 => "shut off".to_owned(),
        other => format!("in state {other}"),
    }
}

fn removed(snapshots: &[Named], checkpoints: &[Named]) -> String {
    let went: Vec<String> = [
        (MomentKind::Snapshot, snapshots),
        (MomentKind::Checkpoint, checkpoints),
    ]
    .into_iter()
    .filter(|(_, moments)| !moments.is_empty())
    .map(|(kind, moments)| {
        let plural = if moments.len() == 1 { "" } else { "s" };
        format!("{} {kind}{plural} ({})", moments.len(), names(moments))
    })
    .collect();
    if went.is_empty() {
        "domain removed".to_owned()
    } else {
        format!("domain removed, with {}", went.join(" and "))
    }
}

fn deleted(kind: MomentKind, moment: &Named, extent: Extent, removed: &[Named]) -> String {
    let count = removed.len();
    match extent {
        Extent::One => format!("{kind} {moment} deleted"),
        Extent::Subtree => format!(
            "{kind} {moment} and its children deleted ({count} gone: {})",
            names(removed)
        ),
        Extent::ChildrenOnly => format!(
            "children of {kind} {moment} deleted ({count} gone: {})",
            names(removed)
        ),
    }
}

/// Says what a job is to do: with which moments, and to which disks.
fn begun(id: JobId, job: &Job, deletes: &[Named]) -> String {
    let snapshots = job.snapshots.iter().map(|made| made.name.as_str());
    let checkpoints = job.checkpoints.iter().map(|made| made.name.as_str());
    let made = snapshots.chain(checkpoints).map(escaped);
    let moments: Vec<String> = made.chain(deletes.iter().map(Named::to_string)).collect();
    let moments = some(moments.into_iter());
    let mut disks: Vec<&str> = Vec::new();
    for effect in &job.effects {
        if !disks.contains(&&*effect.disk) {
            disks.push(&effect.disk);
        }
    }
    let mut what = match (job.kind, job.length) {
        (JobKind::Backup, JobLength::Long) => "copies".to_owned(),
        (JobKind::Forward, _) => format!("{} is forwarded", Call(job.call)),
        (kind, _) => kind.as_str().to_owned(),
    };
    match (job.kind, moments.is_empty()) {
        (_, true) => {}
        (JobKind::Backup, _) => what += &format!(" with checkpoint {moments}"),
        _ => what += &format!(" {moments}"),
    }
    if !disks.is_empty() {
        what += &format!(" of {}", some(disks.into_iter().map(escaped)));
    }
    format!("job {id} begun: {what}")
}

/// Says how a job has ended, and what was seen of it, but for what goes without saying.
fn outcome_words(how: &str, outcome: &JobOutcome) -> String {
    let by = match outcome.settled_by {
        SettledBy::Beginner => String::new(),
        SettledBy::Later if outcome.agent.is_empty() => ", settled by (erased)".to_owned(),
        SettledBy::Later => format!(", settled by {}", escaped(&outcome.agent)),
    };
    let seen: Vec<String> = outcome
        .seen
        .pairs()
        .iter()
        .filter(|(_, found)| &**found != "done")
        .map(|(thing, found)| format!("{}: {}", escaped(disk_of_copy(thing)), escaped(found)))
        .collect();
    let seen = if seen.is_empty() {
        String::new()
    } else {
        format!(" ({})", seen.join(", "))
    };
    format!("job {} {how}{by}{seen}", outcome.job)
}

/// The disk in the name of a copy, `momentlog-LOG-JOB-DISK`; any other text as it is.
fn disk_of_copy(thing: &str) -> &str {
    let parts: Vec<&str> = thing.splitn(4, '-').collect();
    match parts[..] {
        ["momentlog", _, _, disk] => disk,
        _ => thing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_called_by_its_disk() {
        assert_eq!(disk_of_copy("momentlog-0123abcd-7-vda"), "vda");
        assert_eq!(disk_of_copy("momentlog-0123abcd-7-v-d-a"), "v-d-a");
        assert_eq!(disk_of_copy("vda c1"), "vda c1");
    }

    #[test]
    fn what_cannot_be_seen_is_an_escape() {
        assert_eq!(escaped("web01 é 日本"), "web01 é 日本");
        assert_eq!(escaped("a\nb"), "a\\x0ab");
        assert_eq!(escaped("\u{202e}gpj.exe"), "\\xe2\\x80\\xaegpj.exe");
        assert_eq!(escaped("c\u{200b}1"), "c\\xe2\\x80\\x8b1");
    }
}
