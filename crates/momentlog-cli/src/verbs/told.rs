//! What the log says of each event, in a few words.

use std::collections::HashMap;

use momentlog::core::{
    Change, Domain, Extent, IdRuns, Job, JobId, JobKind, JobLength, JobOutcome, MomentChange,
    MomentId, MomentName, Scope, SettledBy,
};

use super::log::{CHECKPOINT, SNAPSHOT};
use super::policy::{rules, window_text};

/// How many names of moments or disks are shown.
const NAMES_SHOWN: usize = 16;

/// Says which moments went with a domain.
pub fn told_removal(domain: Option<&Domain>) -> String {
    let Some(domain) = domain else {
        return "domain removed".to_owned();
    };
    let kinds = [
        (
            SNAPSHOT,
            domain.snapshots().len(),
            some_names(
                domain
                    .snapshots()
                    .walk(Scope::All)
                    .map(|moment| moment.name),
            ),
        ),
        (
            CHECKPOINT,
            domain.checkpoints().len(),
            some_names(
                domain
                    .checkpoints()
                    .walk(Scope::All)
                    .map(|moment| moment.name),
            ),
        ),
    ];
    let went: Vec<String> = kinds
        .into_iter()
        .filter(|(_, count, _)| *count > 0)
        .map(|(kind, count, names)| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {kind}{plural} ({names})")
        })
        .collect();
    if went.is_empty() {
        "domain removed".to_owned()
    } else {
        format!("domain removed, with {}", went.join(" and "))
    }
}

/// The first names of a list, and how many more there are.
fn some_names<'a>(mut names: impl Iterator<Item = &'a MomentName>) -> String {
    let shown: Vec<&str> = names
        .by_ref()
        .take(NAMES_SHOWN)
        .map(MomentName::as_str)
        .collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Says an event in a few words.
pub fn told(change: &Change, moments: &HashMap<MomentId, MomentName>) -> String {
    let name = |id: MomentId| {
        moments
            .get(&id)
            .map_or_else(|| format!("#{id}"), ToString::to_string)
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
        Change::JobBegun { id, job } => told_begun(*id, job, &name),
        Change::JobEnded(outcome) => told_outcome("ended", outcome),
        Change::JobFailed(outcome) => told_outcome("failed", outcome),
        Change::HypervisorAttached(attachment) => {
            let how = if attachment.look_only {
                ", to look only"
            } else {
                ""
            };
            let (driver, socket) = (&attachment.driver, &attachment.socket);
            format!("attached to {driver} at {socket}{how}")
        }
        Change::HypervisorDetached => "detached".to_owned(),
        Change::HoldAdded { id, tag, .. } => format!("{} held, tag {tag}", name(*id)),
        Change::HoldRemoved { id, tag } => format!("{} released, tag {tag}", name(*id)),
        Change::SettingsSet(settings) => format!(
            "store set: new domains {}; request ids remembered {}",
            rules(settings.policy),
            window_text(settings.request_window_s)
        ),
        Change::Snapshot(change) => told_moment(SNAPSHOT, change, &name, &below),
        Change::Checkpoint(change) => told_moment(CHECKPOINT, change, &name, &below),
    }
}

/// Says what a job is to do: with which moments, and to which disks.
fn told_begun(id: JobId, job: &Job, name: &dyn Fn(MomentId) -> String) -> String {
    let snapshots = job.snapshots.iter().map(|made| made.name.to_string());
    let checkpoints = job.checkpoints.iter().map(|made| made.name.to_string());
    let deleted = job.deletions.iter();
    let deleted = deleted.flat_map(|deletion| deletion.removed.ids().map(name));
    let moments = snapshots.chain(checkpoints).chain(deleted);
    let moments: Vec<String> = moments.take(NAMES_SHOWN).collect();
    let moments = moments.join(", ");
    let mut disks: Vec<&str> = Vec::new();
    for effect in &job.effects {
        if !disks.contains(&&*effect.disk) && disks.len() < NAMES_SHOWN {
            disks.push(&effect.disk);
        }
    }
    let mut what = match (job.kind, job.length) {
        (JobKind::Backup, JobLength::Long) => "copies".to_owned(),
        (kind, _) => kind.as_str().to_owned(),
    };
    match (job.kind, moments.is_empty()) {
        (_, true) => {}
        (JobKind::Backup, _) => what += &format!(" with checkpoint {moments}"),
        _ => what += &format!(" {moments}"),
    }
    if !disks.is_empty() {
        what += &format!(" of {}", disks.join(", "));
    }
    format!("job {id} begun: {what}")
}

/// Says how a job has ended, and what was seen of it, but for what goes without saying.
fn told_outcome(how: &str, outcome: &JobOutcome) -> String {
    let by = match outcome.settled_by {
        SettledBy::Beginner => String::new(),
        SettledBy::Later => format!(", settled by {}", outcome.agent),
    };
    let seen: Vec<String> = outcome
        .seen
        .pairs()
        .iter()
        .filter(|(_, found)| &**found != "done")
        .map(|(thing, found)| format!("{}: {found}", disk_of_copy(thing)))
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
        MomentChange::Deleted {
            id,
            extent,
            removed,
            ..
        } => {
            let (id, count) = (name(*id), removed.len());
            match extent {
                Extent::One => format!("{kind} {id} deleted ({count} gone)"),
                Extent::Subtree => format!(
                    "{kind} {id} and its children deleted ({count} gone: {})",
                    named_ids(removed, name)
                ),
                Extent::ChildrenOnly => format!(
                    "children of {kind} {id} deleted ({count} gone: {})",
                    named_ids(removed, name)
                ),
            }
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

/// The first names of what was removed, and how many more there are.
fn named_ids(removed: &IdRuns, name: &dyn Fn(MomentId) -> String) -> String {
    let shown: Vec<String> = removed.ids().take(NAMES_SHOWN).map(name).collect();
    match removed.len() - shown.len() as u64 {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
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
}
