//! Verbs of backups: `backup-begin` and `backup-dumpxml`.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use momentlog::core::{BackupMode, Change, Event, JobId, JobKind, JobLength, MomentId, MomentName};
use momentlog::store::Head;
use momentlog::xml::read_backup;
use momentlog::{Backup, BackupBeginFlags, BackupXmlFlags, Domain};
use momentlog_audit::json::{DomainDoc, TextDoc};
use serde::Serialize;

use super::since::{self, Chosen};
use super::{Verb, domain_doc, exclusive, read_file, read_moment_file, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, needed, only_named, word};
use crate::interrupt;
use crate::layout::{capacity, escaped};
use crate::outcome;
use crate::session::{Format, Session};

/// The verbs of backups.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "backup-begin",
            "begin a backup of an attached domain's disks",
            &[
                needed("domain", "domain name, id or uuid"),
                word(
                    "backupxml",
                    "domain backup XML; by default all disks, to SOURCE.SECOND",
                ),
                word("checkpointxml", "domain checkpoint XML"),
                flag("reuse-external", "reuse files provided by caller"),
                flag(
                    "wait",
                    "wait for the end of a push backup: exit status 1 if it failed",
                ),
                flag(
                    "since-last-done",
                    "copy of each disk what was written since the newest checkpoint of a \
                     finished backup whose bitmap is sound, or else all of it",
                ),
                only_named(
                    "to",
                    "directory in which --since-last-done makes a file DISK.qcow2 for each disk",
                ),
                only_named("checkpoint", "checkpoint that --since-last-done makes"),
            ],
        )
        .changing(),
        run: begin,
    },
    Verb {
        spec: Spec::new(
            "backup-dumpxml",
            "show the XML of the backup that runs",
            &[
                needed("domain", "domain name, id or uuid"),
                only_named("output", "write the XML to this file"),
            ],
        ),
        run: dumpxml,
    },
];

/// How often is looked whether a backup has ended.
const LOOK: Duration = Duration::from_millis(200);

/// What a backup is begun with.
struct Wanted {
    xml: String,
    checkpoint_xml: Option<String>,
    /// What was chosen for each disk, with `--since-last-done`.
    chosen: Vec<Chosen>,
}

pub fn begin(session: &mut Session, invocation: &Invocation) -> Answer {
    vet(invocation)?;
    let domain = the_domain(session, invocation)?;
    let wanted = wanted(session, invocation, &domain)?;
    let wait = invocation.has("wait");
    let is_pull = |xml: &str| read_backup(xml).is_ok_and(|def| def.mode == BackupMode::Pull);
    if wait && is_pull(&wanted.xml) {
        return Err(Failure::new(
            "--wait waits for a push backup: a pull backup goes on until domjobabort",
        ));
    }
    let flags = BackupBeginFlags::NONE.with(
        BackupBeginFlags::REUSE_EXTERNAL,
        invocation.has("reuse-external"),
    );
    domain.backup_begin(&wanted.xml, wanted.checkpoint_xml.as_deref(), flags)?;
    let text = session.format == Format::Text;
    if text {
        for chosen in &wanted.chosen {
            session.say(&format!("{}\n", escaped(&chosen.in_words())));
        }
        session.say("Backup started\n");
        session.flush();
        if !wait {
            return Ok(0);
        }
    }
    // As it is now: what is asked for the second time has seen an earlier state.
    let domain = session
        .connection
        .domain_handle(domain.uuid(), domain.name());
    let mut backup = begun(&domain, invocation.get("request-id"))?;
    if wait {
        wait_for(session, &domain, backup.job)?;
        backup = of_job(&domain, backup.job)?;
    }
    // The short job that sets the copies going; they are a job of their own.
    let is_begin = |event: &Event| match &event.change {
        Change::JobBegun { job, .. } => job.kind == JobKind::Backup,
        _ => false,
    };
    let record = outcome::with_event(session, is_begin)?;
    session.document(&BackupDoc::of(&domain, &backup, record, &wanted.chosen));
    match &backup.end {
        Some(end) if wait && !end.well => {
            Err(Failure::new(format!("the backup failed: {}", end.seen)))
        }
        Some(end) if wait && text => {
            let copied = end.bytes.map_or(String::new(), |(done, _)| {
                format!(": {} copied", capacity(done))
            });
            session.say(&format!("Backup done{copied}\n"));
            Ok(0)
        }
        _ => Ok(0),
    }
}

/// Refuses options that do not go together.
fn vet(invocation: &Invocation) -> Result<(), Failure> {
    const CHOOSING: &str = "since-last-done";
    for own in ["backupxml", "checkpointxml"] {
        exclusive(invocation, CHOOSING, own)?;
    }
    // What it chooses depends on what was done: asked again, it would be another command.
    exclusive(invocation, CHOOSING, "request-id")?;
    let required = |one: &str, by: &str| {
        Err(Failure::new(format!(
            "Option --{one} is required by option --{by}"
        )))
    };
    if invocation.has(CHOOSING) && !invocation.has("to") {
        return required("to", CHOOSING);
    }
    for option in ["to", "checkpoint"] {
        if invocation.has(option) && !invocation.has(CHOOSING) {
            return required(CHOOSING, option);
        }
    }
    Ok(())
}

fn wanted(session: &Session, invocation: &Invocation, domain: &Domain) -> Result<Wanted, Failure> {
    if !invocation.has("since-last-done") {
        let xml = invocation.get("backupxml").map(read_file).transpose()?;
        let checkpoint_xml = invocation.get("checkpointxml").map(read_moment_file);
        return Ok(Wanted {
            xml: xml.unwrap_or_else(|| "<domainbackup/>".to_owned()),
            checkpoint_xml: checkpoint_xml.transpose()?,
            chosen: Vec::new(),
        });
    }
    let chosen = since::choose(session, domain, invocation.need("to"))?;
    let checkpoint = invocation.get("checkpoint");
    Ok(Wanted {
        xml: since::backup_xml(&chosen),
        checkpoint_xml: checkpoint.map(|name| since::checkpoint_xml(name, &chosen)),
        chosen,
    })
}

/// Returns the backup that a command has begun: the one of its request id, or else the newest.
fn begun(domain: &Domain, request_id: Option<&str>) -> Result<Backup, Failure> {
    let backups = domain.backups()?;
    let is_asked =
        |backup: &Backup| request_id.is_none() || backup.request_id.as_deref() == request_id;
    let found = backups.into_iter().rev().find(is_asked);
    found.ok_or_else(|| Failure::new("the backup was begun, and its record is archived"))
}

fn of_job(domain: &Domain, job: JobId) -> Result<Backup, Failure> {
    let backups = domain.backups()?;
    let found = backups.into_iter().find(|backup| backup.job == job);
    found.ok_or_else(|| Failure::new("the record of the backup is archived"))
}

/// Waits until a backup has ended.
fn wait_for(session: &Session, domain: &Domain, job: JobId) -> Result<(), Failure> {
    let style = ProgressStyle::with_template("{bar:40} {bytes} of {total_bytes} ({eta})")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    let ended = loop {
        if interrupt::pressed() {
            break Err(momentlog::Error::aborted("interrupted"));
        }
        match domain.job_info() {
            Err(error) => break Err(error),
            Ok(_) if !is_open(session, domain, job) => break Ok(()),
            Ok(info) => {
                let (done, total) = info.and_then(|info| info.bytes).unwrap_or_default();
                bar.set_length(total);
                bar.set_position(done);
            }
        }
        std::thread::sleep(LOOK);
    };
    bar.finish_and_clear();
    ended.map_err(|error| {
        Failure::from(error).and("the backup was begun: domjobinfo tells what has become of it")
    })
}

/// Whether a backup goes on, as far as the log is known.
fn is_open(session: &Session, domain: &Domain, job: JobId) -> bool {
    let view = session.connection.view();
    let domain = view.state().domain(domain.uuid());
    let open = domain.and_then(|domain| domain.jobs().get(JobLength::Long));
    open.is_some_and(|open| open.id == job)
}

/// A backup that was begun, for programs.
#[derive(Debug, Serialize)]
struct BackupDoc<'a> {
    schema: &'static str,
    domain: DomainDoc,
    job: u64,
    /// The record that began it.
    seq: Option<u64>,
    digest: Option<String>,
    repeated: bool,
    checkpoint: Option<&'a str>,
    disks: Vec<DiskDoc<'a>>,
    end: Option<EndDoc<'a>>,
}

#[derive(Debug, Serialize)]
struct DiskDoc<'a> {
    disk: &'a str,
    file: &'a str,
    /// The checkpoint since which it is copied; none if all of it is.
    since: Option<&'a str>,
    /// Why that was chosen.
    why: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct EndDoc<'a> {
    done: bool,
    seen: &'a str,
    bytes: Option<u64>,
}

impl<'a> BackupDoc<'a> {
    fn of(
        domain: &Domain,
        backup: &'a Backup,
        record: Option<(Head, bool)>,
        chosen: &'a [Chosen],
    ) -> BackupDoc<'a> {
        let disks = backup.disks.iter().map(|disk| {
            let why = chosen.iter().find(|chosen| *chosen.disk == *disk.disk);
            DiskDoc {
                disk: &disk.disk,
                file: &disk.file,
                since: disk.since.as_deref(),
                why: why.map(|chosen| chosen.why.as_str()),
            }
        });
        let end = backup.end.as_ref().map(|end| EndDoc {
            done: backup.is_done(),
            seen: &end.seen,
            bytes: end.bytes.map(|(done, _)| done),
        });
        BackupDoc {
            schema: "momentlog.backup/1",
            domain: domain_doc(domain),
            job: backup.job.get(),
            seq: record.map(|(head, _)| head.seq.get()),
            digest: record.map(|(head, _)| head.digest.to_string()),
            repeated: record.is_some_and(|(_, repeated)| repeated),
            checkpoint: backup.checkpoint.as_ref().map(MomentName::as_str),
            disks: disks.collect(),
            end,
        }
    }
}

pub fn dumpxml(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let xml = domain.backup_xml_desc(BackupXmlFlags::NONE)?;
    let document = TextDoc::of("xml", &xml)
        .of_domain(domain_doc(&domain))
        .of_kind("backup", None);
    super::moment::put_xml(session, invocation, &xml, document)
}

/// Returns a word for the newest backup of each checkpoint that has one.
pub fn words(domain: &Domain) -> Result<HashMap<MomentId, &'static str>, Failure> {
    let backups = domain.backups()?;
    let word = |backup: &Backup| match &backup.end {
        None => "running",
        Some(end) if !end.well => "failed",
        Some(_) if backup.pull => "pull",
        Some(_) => "done",
    };
    let words = backups
        .iter()
        .filter_map(|backup| Some((backup.checkpoint_id?, word(backup))));
    Ok(words.collect())
}
