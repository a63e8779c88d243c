//! The verbs that let the user change a moment's XML in an editor.

use std::fs::OpenOptions;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use momentlog::core::{DomainUuid, MomentName, Profile};
use momentlog::xml::{Carry, RecentDomain, read_checkpoint_redefine, read_snapshot_redefine};
use momentlog::{
    CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointXmlFlags, Domain, Snapshot,
    SnapshotCreateFlags, SnapshotDeleteFlags, SnapshotXmlFlags,
};

use super::{Verb, checkpoint, exclusive, host, the_domain};
use crate::failure::{Answer, Failure, reason};
use crate::grammar::{Invocation, Spec, flag, needed, word};
use crate::session::Session;

/// The verbs of an editor.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "checkpoint-edit",
            "change a checkpoint's XML in an editor",
            &[
                needed("domain", "domain name, id or uuid"),
                word("checkpointname", "checkpoint name"),
            ],
        )
        .changing(),
        run: checkpoint,
    },
    Verb {
        spec: Spec::new(
            "snapshot-edit",
            "change or clone a snapshot's XML in an editor",
            &[
                needed("domain", "domain name, id or uuid"),
                word("snapshotname", "snapshot name"),
                flag("current", "also set edited snapshot as current"),
                flag("rename", "allow renaming an existing snapshot"),
                flag("clone", "allow cloning to new name"),
            ],
        )
        .changing(),
        run: snapshot,
    },
];

pub fn checkpoint(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let checkpoint = checkpoint::named(&domain, invocation)?;
    let name = checkpoint.name();
    let edited = Edited::of(checkpoint.xml_desc(CheckpointXmlFlags::SECURE)?)?;
    if !edited.is_changed() {
        edited.discard();
        session.say(&format!(
            "Checkpoint {name} XML configuration not changed.\n"
        ));
        return Ok(0);
    }
    let not_renamed = |new: &MomentName| {
        Failure::new(format!("Cannot rename checkpoint {name} to {new}"))
            .and(format!("Failed to update {name}"))
    };
    let new_name = read_checkpoint_redefine(&edited.text, &RecentDomain::default(), no_uuid)
        .map(|redefine| redefine.name);
    if let (true, Ok(new)) = (makes_no_copy(&domain), &new_name)
        && new != name
    {
        return Err(edited.refused(not_renamed(new)));
    }
    let changed = match domain.checkpoint_create_xml(&edited.text, CheckpointCreateFlags::REDEFINE)
    {
        Ok(changed) => changed,
        Err(error) => {
            return Err(edited.kept(Failure::under(format!("Failed to update {name}"))(error)));
        }
    };
    if changed.name() != name {
        let failure = not_renamed(changed.name());
        changed.delete(CheckpointDeleteFlags::METADATA_ONLY)?;
        return Err(edited.refused(failure));
    }
    edited.discard();
    session.say(&format!("Checkpoint {name} edited.\n"));
    Ok(0)
}

pub fn snapshot(session: &mut Session, invocation: &Invocation) -> Answer {
    exclusive(invocation, "rename", "clone")?;
    let (rename, clone) = (invocation.has("rename"), invocation.has("clone"));
    let domain = the_domain(session, invocation)?;
    // A name together with --current makes the snapshot current.
    let (snapshot, make_current) = match invocation.get("snapshotname") {
        Some(name) => (
            domain.snapshot_lookup_by_name(name)?,
            invocation.has("current"),
        ),
        None if invocation.has("current") => (domain.snapshot_current()?, false),
        None => {
            return Err(Failure::new(
                "--snapshotname or --current is required".to_owned(),
            ));
        }
    };
    let name = snapshot.name();
    let edited = Edited::of(snapshot.xml_desc(SnapshotXmlFlags::SECURE)?)?;
    if !edited.is_changed() && !make_current {
        edited.discard();
        session.say(&format!("Snapshot {name} XML configuration not changed.\n"));
        return Ok(0);
    }
    let not_renamed = |new: &MomentName| {
        Failure::new(format!(
            "Must use --rename or --clone to change {name} to {new}"
        ))
        .and(format!("Failed to update {name}"))
    };
    let new_name = read_snapshot_redefine(
        &edited.text,
        false,
        Carry::Everything,
        &RecentDomain::default(),
        no_uuid,
    )
    .map(|redefine| redefine.name);
    if let (true, false, Ok(new)) = (makes_no_copy(&domain), rename || clone, &new_name)
        && new != name
    {
        return Err(edited.refused(not_renamed(new)));
    }
    let flags = SnapshotCreateFlags::REDEFINE.with(SnapshotCreateFlags::CURRENT, make_current);
    let changed = match domain.snapshot_create_xml(&edited.text, flags) {
        Ok(changed) => changed,
        Err(error) => {
            return Err(edited.kept(Failure::under(format!("Failed to update {name}"))(error)));
        }
    };
    if changed.name() == name {
        session.say(&format!("Snapshot {name} edited.\n"));
    } else if clone {
        session.say(&format!("Snapshot {name} cloned to {}.\n", changed.name()));
    } else {
        let unwanted = if rename { &snapshot } else { &changed };
        if let Err(failure) = clean_up(&domain, unwanted) {
            return Err(edited.refused(failure.and(format!("Failed to update {name}"))));
        }
        if !rename {
            return Err(edited.refused(not_renamed(changed.name())));
        }
    }
    edited.discard();
    Ok(0)
}

/// Deletes one of the two snapshots that an edited name leaves.
fn clean_up(domain: &Domain, snapshot: &Snapshot) -> Result<(), Failure> {
    // The record of the copy has the request id; asked again, both get their first answer.
    let cleaned = host::again(domain, "clean-up")
        .snapshot_lookup_by_name(snapshot.name().as_str())
        .and_then(|snapshot| snapshot.delete(SnapshotDeleteFlags::METADATA_ONLY));
    cleaned.map_err(|error| {
        Failure::from(error).and(format!("Failed to clean up {}", snapshot.name()))
    })
}

/// Whether a new name is refused before there is a copy under it. libvirt's test driver was seen to leave the copy.
fn makes_no_copy(domain: &Domain) -> bool {
    domain.connection().view().state().profile() == Profile::Own
}

/// For a definition of which only the name is asked.
fn no_uuid() -> DomainUuid {
    DomainUuid::from_bytes([0; 16])
}

/// A text that the user changed in an editor. Its file stays until the change is recorded or given up.
pub(super) struct Edited {
    text: String,
    before: String,
    path: PathBuf,
}

impl Edited {
    /// Lets the user change a text in an editor: `VISUAL`, `EDITOR` or `vi`.
    pub(super) fn of(before: String) -> Result<Edited, Failure> {
        let cannot =
            |what: &str, error: &std::io::Error| Failure::new(format!("{what}: {}", reason(error)));
        let editor = ["VISUAL", "EDITOR"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        let editor = editor.unwrap_or_else(|| "vi".to_owned());
        let path =
            write_new(&before).map_err(|error| cannot("cannot write a temporary file", &error))?;
        let ran = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!("{editor} \"$1\""))
            .arg("sh")
            .arg(&path)
            .status();
        // Ctrl-C was the editor's.
        crate::interrupt::forget();
        let text = std::fs::read_to_string(&path);
        let failure = match (ran, text) {
            (Ok(status), Ok(text)) => {
                let edited = Edited { text, before, path };
                if status.success() {
                    return Ok(edited);
                }
                let failed = format!("{editor}: the editor failed with {status}");
                return Err(edited.kept(Failure::new(failed)));
            }
            (Err(error), _) => cannot(&format!("cannot run '{editor}'"), &error),
            (Ok(_), Err(error)) => cannot("cannot read the edited file", &error),
        };
        let _ = std::fs::remove_file(&path);
        Err(failure)
    }

    pub(super) fn is_changed(&self) -> bool {
        self.text != self.before
    }

    /// The text as the user left it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Removes the file.
    pub(super) fn discard(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Leaves the file, if the user changed something, and says where it is.
    pub(super) fn kept(self, failure: Failure) -> Failure {
        if !self.is_changed() {
            self.discard();
            return failure;
        }
        let path = self.path.display().to_string();
        let failure = failure.and(format!("the edited text is in {path}"));
        failure.in_file(path)
    }

    /// As [`kept`](Self::kept), for what the user asked and virsh refuses: at a terminal only, so that scripts that do it
    /// leave no files.
    fn refused(self, failure: Failure) -> Failure {
        if std::io::stdin().is_terminal() {
            return self.kept(failure);
        }
        self.discard();
        failure
    }
}

/// Writes a text into a new file that only its owner can read.
fn write_new(text: &str) -> std::io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let name = format!("momentlog-{}-{number}.xml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                return Ok(path);
            }
            // One that an earlier command left.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(error),
        }
    }
}
