//! The calls of a domain that begin, tell and end its backups.

use std::path::Path;
use std::sync::Arc;

use momentlog_core::{
    Action, BackupDef, BeginJob, Command, DiskEffect, Domain as DomainState, EffectKind,
    FileToMake, Job, JobKind, JobLength, JobOutcome, OpenJob, Refusal, Report, Seen, SettledBy,
};
use momentlog_engine::{Call, Decision};
use momentlog_xml::{CheckpointRequest, backup_fits, read_backup, read_checkpoint, write_backup};

use super::Domain;
use super::backup_history::is_pull;
use super::driven::{begun, new_job, refuse_look_only};
use super::effects::{created_checkpoint, wanted};
use crate::driver::{Session, Sight, Tracked, copy_name, plan, seen_bytes};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{BackupBeginFlags, BackupXmlFlags};
use crate::recordable;

impl Domain {
    /// Begins a backup of an attached domain's disks, and makes a checkpoint at the same instant if one is given. Follows
    /// `virDomainBackupBegin`.
    ///
    /// It returns once the copies run. A push backup is done when [`job_info`](Self::job_info) finds no job any more, and was
    /// done well if the last of [`backups`](Self::backups) says so; a pull backup goes on until [`abort_job`](Self::abort_job).
    ///
    /// # Errors
    ///
    /// In libvirt's order: read-only, flags, the backup's XML, the checkpoint's, another backup, the guest being off, the
    /// disks, the port, the checkpoint, the checkpoints since which disks are copied, files that are there.
    pub fn backup_begin(
        &self,
        xml: &str,
        checkpoint_xml: Option<&str>,
        flags: BackupBeginFlags,
    ) -> Result<()> {
        self.try_to_begin(xml, checkpoint_xml, flags)
            .map_err(|error| self.connection.told(error))
    }

    fn try_to_begin(
        &self,
        xml: &str,
        checkpoint_xml: Option<&str>,
        flags: BackupBeginFlags,
    ) -> Result<()> {
        const FUNCTION: &str = "virDomainBackupBegin";
        self.connection
            .deny_read_only(FUNCTION, ErrorDomain::Domain)?;
        self.connection.facts().vet_backup(FUNCTION)?;
        flags.refuse_all_but(BackupBeginFlags::ALL, "qemuBackupBegin")?;
        let def = read_backup(xml)?;
        let checkpoint = checkpoint_xml.map(read_checkpoint).transpose()?;
        let call = (Call::BACKUP_BEGIN, flags.bits());
        let mut arguments = vec![xml];
        arguments.extend(checkpoint_xml);
        let request = self.request(call, &arguments);
        if self.answered(request)?.is_some() {
            return Ok(());
        }
        let name = self.name.clone();
        let guest = self.guest()?.ok_or(Refusal::NotAttached { name })?;
        self.unless_a_job_forbids(&mut |wait| {
            let mut entered = self.enter(&guest, wait)?;
            let run = entered.run();
            let seen = (entered.sight.as_ref(), entered.session.as_deref());
            let outcome = self.connection.decide(request, &mut |decision| {
                let begin = self.plan_backup(decision, seen, &def, checkpoint.as_ref(), call)?;
                refuse_look_only(&entered.guest)?;
                let begin = BeginJob {
                    job: Job { run, ..begin.job },
                    ..begin
                };
                decision.decide_report(self.uuid, &Report::Begin(Box::new(begin)))?;
                Ok::<_, Error>(())
            })?;
            match begun(&outcome.events) {
                Some((id, job)) if !outcome.repeated => self.perform(&mut entered, id, &job),
                _ => Ok(()),
            }
        })
    }

    /// Plans the job that begins a backup, in libvirt's order of checks.
    fn plan_backup(
        &self,
        decision: &mut Decision<'_>,
        (sight, session): (Option<&Sight>, Option<&dyn Session>),
        def: &BackupDef,
        checkpoint: Option<&CheckpointRequest>,
        call: (Call, u32),
    ) -> Result<BeginJob> {
        let log = self.connection.log.log_id();
        let state = decision.state();
        let domain = state.domain(self.uuid);
        let domain = domain.ok_or(Refusal::NoDomain { uuid: self.uuid })?;
        if let Some(open) = domain.jobs().get(JobLength::Long) {
            return Err(waits_for(domain, open).into());
        }
        let sight = sight.ok_or_else(|| {
            Error::new(
                ErrorCode::OperationUnsupported,
                ErrorDomain::Test,
                "cannot perform disk backup for inactive domain",
            )
        })?;
        let now = self.second();
        let action = checkpoint.map(|request| self.new_checkpoint(request.clone()));
        let suffix = match action.as_ref().and_then(|create| create.name.as_ref()) {
            Some(name) => name.to_string(),
            None => now.to_string(),
        };
        let refused = |refused| Error::from(Refusal::Backup(refused));
        let def = def.align(domain.def(), &suffix).map_err(refused)?;
        def.check_port().map_err(refused)?;
        let mut effects = Vec::new();
        let action = action.map(Action::CreateCheckpoint);
        if let Some(action) = &action {
            let command = Command {
                domain: self.uuid,
                action: action.clone(),
            };
            plan::vet_tops(sight, &wanted(domain, &command))?;
            let tracked = created_checkpoint(&state.decide(&command)?);
            effects = plan::additions(sight, &tracked)?;
        }
        def.check_selected().map_err(refused)?;
        let job = state.next_job().ok_or(Refusal::IdsExhausted)?;
        let mut files = Vec::new();
        let reuse = BackupBeginFlags::from_bits_retain(call.1);
        let reuse = reuse.contains(BackupBeginFlags::REUSE_EXTERNAL);
        for disk in def.disks.iter().filter(|disk| disk.backup) {
            check_since(domain, sight, &disk.name, disk.incremental.as_deref())?;
            let top = plan::top(sight, &disk.name)?;
            let destination = disk.destination.clone().unwrap_or_default();
            let name = log.map(|log| copy_name(log, job, &disk.name));
            effects.push(DiskEffect {
                kind: EffectKind::Copied,
                bitmap: name.map(Arc::from),
                file: Some(destination.clone()),
                ..plan::on(&disk.name, top)
            });
            if !reuse {
                files.push(FileToMake {
                    disk: disk.name.clone(),
                    path: destination,
                });
            }
        }
        backup_fits(&def)
            .map_err(|rule| Error::new(ErrorCode::XmlError, ErrorDomain::Domain, rule))?;
        if let Some(action) = &action {
            let command = Command {
                domain: self.uuid,
                action: action.clone(),
            };
            recordable::check(decision, &command)?;
        }
        // A job owns the files that it names: whoever settles it after a failure removes them.
        let is_there = |file: &&FileToMake| {
            session.is_some_and(|session| session.is_there(Path::new(&*file.path)))
        };
        if let Some(FileToMake { disk, path }) = files.iter().find(is_there) {
            let detail = format!("store '{path}' for backup of '{disk}' exists");
            let code = ErrorCode::InvalidArg;
            return Err(Error::new(code, ErrorDomain::Test, detail));
        }
        let job = Job {
            document: Some(write_backup(&def).into()),
            effects,
            files,
            ..new_job(JobKind::Backup, JobLength::Short, call)
        };
        Ok(BeginJob { job, action })
    }

    /// The XML of the backup that runs. Follows `virDomainBackupGetXMLDesc`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainBackup`] if none runs; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn backup_xml_desc(&self, flags: BackupXmlFlags) -> Result<String> {
        const FUNCTION: &str = "virDomainBackupGetXMLDesc";
        self.connection.facts().vet_backup(FUNCTION)?;
        flags.refuse_all_but(BackupXmlFlags::ALL, "qemuBackupGetXMLDesc")?;
        self.with(|domain| {
            let open = domain.jobs().get(JobLength::Long);
            let document = open.and_then(|open| open.job.document.clone());
            let document = document.ok_or_else(|| {
                let detail = "no domain backup job present";
                Error::new(ErrorCode::NoDomainBackup, ErrorDomain::Test, detail)
            })?;
            let mut def = read_backup(&document)?;
            // The images that are written to are numbered after those of the domain.
            let mut index = u32::try_from(domain.def().disks.len()).unwrap_or(u32::MAX);
            for disk in def.disks.iter_mut().filter(|disk| disk.backup) {
                index = index.saturating_add(1);
                disk.index = Some(index);
            }
            Ok(write_backup(&def))
        })
    }

    /// Ends the job of the domain before its time: a pull backup is over then, and the targets of a push backup are
    /// removed. Follows `virDomainAbortJob`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if there is none, or the guest is off.
    pub fn abort_job(&self) -> Result<()> {
        self.try_to_abort()
            .map_err(|error| self.connection.told(error))
    }

    fn try_to_abort(&self) -> Result<()> {
        const FUNCTION: &str = "virDomainAbortJob";
        self.connection
            .deny_read_only(FUNCTION, ErrorDomain::Domain)?;
        self.connection.facts().vet_backup(FUNCTION)?;
        // What is asked again must not end a backup that was begun since.
        let request = self.request((Call::ABORT_JOB, 0), &[]);
        if self.answered(request)?.is_some() {
            return Ok(());
        }
        let name = self.name.clone();
        let guest = self.guest()?.ok_or(Refusal::NotAttached { name })?;
        let mut entered = self.enter(&guest, self.connection.lock_wait())?;
        let Some(session) = &mut entered.session else {
            return Err(Refusal::Inactive.into());
        };
        let open = self.with(|domain| Ok(domain.jobs().get(JobLength::Long).cloned()))?;
        let Some(open) = open else {
            return Err(Error::new(
                ErrorCode::OperationInvalid,
                ErrorDomain::Test,
                "no job is active on the domain",
            ));
        };
        let copies = entered.sight.iter().flat_map(|sight| sight.copies.values());
        let mut seen = vec![("copies".into(), "canceled".into())];
        seen.extend(seen_bytes(copies));
        session.abort(open.id, &open.job)?;
        let outcome = JobOutcome {
            job: open.id,
            seen: Seen::new(seen).unwrap_or_default(),
            settled_by: SettledBy::Beginner,
            agent: "".into(),
        };
        // A pull backup ends in no other way.
        let report = if is_pull(&open.job) {
            Report::End {
                outcome,
                then: None,
            }
        } else {
            Report::Fail(outcome)
        };
        self.record(request, &[report])?;
        entered.sweep_after(self);
        Ok(())
    }
}

/// Checks that the checkpoint since which a disk is copied is there, and that its bitmap has seen every write.
fn check_since(domain: &DomainState, sight: &Sight, disk: &str, since: Option<&str>) -> Result<()> {
    let Some(since) = since else {
        return Ok(());
    };
    if domain.checkpoints().find(since).is_none() {
        return Err(Error::new(
            ErrorCode::NoDomainCheckpoint,
            ErrorDomain::Test,
            format!("Checkpoint '{since}' for incremental backup of disk '{disk}' not found"),
        ));
    }
    let tracked = Tracked {
        disk: disk.into(),
        bitmap: since.into(),
    };
    Ok(plan::validate(sight, &[tracked])?)
}

fn waits_for(domain: &DomainState, open: &OpenJob) -> Refusal {
    Refusal::JobOpen {
        name: domain.name().clone(),
        job: open.id,
        call: open.job.call,
        length: open.job.length,
    }
}
