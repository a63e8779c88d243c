//! What is known of a domain's job, which is a backup.

use momentlog_core::{Domain as DomainState, EffectKind, JobLength, OpenJob, RunState};

use super::Domain;
use super::backup_history::{Backup, is_pull};
use crate::driver::{Sight, add_progress};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{BlockJobInfoFlags, FsFreezeFlags, FsThawFlags, JobStatsFlags};

/// What is known of the job of a domain. Follows `virDomainJobInfo`, as far as backups have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Whether it goes on.
    pub state: JobState,
    /// Whether the data is read by clients, rather than written.
    pub pull: bool,
    /// How long it has run, in milliseconds.
    pub elapsed_ms: u64,
    /// Bytes that are copied, and bytes in all, over all disks; `None` if that was not seen.
    pub bytes: Option<(u64, u64)>,
    /// Why it has ended before its time, if it has.
    pub error: Option<String>,
}

/// Whether a job goes on. Follows `virDomainJobType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It goes on, and when it will end is not known.
    Unbounded,
    /// It has ended well; a pull backup that was ended has, too.
    Completed,
    /// It has failed.
    Failed,
}

impl JobState {
    /// The `virDomainJobType`.
    pub fn number(self) -> u8 {
        match self {
            JobState::Unbounded => 2,
            JobState::Completed => 3,
            JobState::Failed => 4,
        }
    }
}

/// The copy of one disk that runs. Follows `virDomainBlockJobInfo`, of the type backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockJobInfo {
    /// Bytes that are copied.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

impl JobInfo {
    /// libvirt's number of the operation, a backup: `VIR_DOMAIN_JOB_OPERATION_BACKUP`.
    pub const OPERATION: u8 = 9;

    /// What is known of a backup that has ended.
    fn of_ended(backup: &Backup) -> Option<JobInfo> {
        let end = backup.end.as_ref()?;
        let elapsed = end.recorded.saturating_sub(backup.begun) / 1000;
        let error = match end.seen.as_str() {
            "canceled" => Some("Operation canceled".to_owned()),
            seen => (!end.well).then(|| seen.to_owned()),
        };
        Some(JobInfo {
            state: if end.well {
                JobState::Completed
            } else {
                JobState::Failed
            },
            pull: backup.pull,
            elapsed_ms: u64::try_from(elapsed).unwrap_or(0),
            bytes: end.bytes,
            error,
        })
    }
}

impl Domain {
    /// What is known of the job that runs, after what has ended was settled; `None` if none does.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::OperationTimeout`] if another program has the guest.
    pub fn job_info(&self) -> Result<Option<JobInfo>> {
        let Some((open, sight)) = self.long_job()? else {
            return Ok(None);
        };
        let copies = sight.iter().flat_map(|sight| sight.copies.values());
        let done = copies.fold((0, 0), |sum, copy| add_progress(sum, copy.progress));
        let now = self.connection.now();
        let begun = self.begin_of(open.id)?;
        let elapsed = begun.map_or(0, |begun| now.saturating_sub(begun) / 1000);
        Ok(Some(JobInfo {
            state: JobState::Unbounded,
            pull: is_pull(&open.job),
            elapsed_ms: u64::try_from(elapsed).unwrap_or(0),
            bytes: Some(done),
            error: None,
        }))
    }

    /// What is known of the job that has ended last, as far as its record is not archived; `None` if none has. O(log).
    ///
    /// # Errors
    ///
    /// As [`job_info`](Self::job_info), for what has ended is settled first; and [`ErrorCode::SystemError`] if the log cannot
    /// be read.
    pub fn last_job(&self) -> Result<Option<JobInfo>> {
        self.long_job()?;
        let backups = self.backups()?;
        Ok(backups.iter().rev().find_map(JobInfo::of_ended))
    }

    /// What is known of the job that runs. Follows `virDomainGetJobInfo`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoSupport`] on `test:///default`; [`ErrorCode::OperationInvalid`] if the guest is off; else as
    /// [`job_info`](Self::job_info).
    pub fn running_job(&self) -> Result<Option<JobInfo>> {
        self.try_for_job("virDomainGetJobInfo")
            .map_err(|error| self.connection.told(error))
    }

    /// What is known of the job that runs, or of the one that has ended last. Follows `virDomainGetJobStats`; what is known
    /// of the last one stays, as if [`JobStatsFlags::KEEP_COMPLETED`] were always set.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArg`] for flags; else as [`running_job`](Self::running_job) and [`last_job`](Self::last_job).
    pub fn job_stats(&self, flags: JobStatsFlags) -> Result<Option<JobInfo>> {
        self.try_for_stats(flags)
            .map_err(|error| self.connection.told(error))
    }

    fn try_for_stats(&self, flags: JobStatsFlags) -> Result<Option<JobInfo>> {
        use JobStatsFlags as Flags;
        const FUNCTION: &str = "virDomainGetJobStats";
        if flags.contains(Flags::KEEP_COMPLETED) && !flags.contains(Flags::COMPLETED) {
            return Err(Error::new(
                ErrorCode::InvalidArg,
                ErrorDomain::Domain,
                "Flag 'VIR_DOMAIN_JOB_STATS_COMPLETED' is required by flag \
                 'VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED'",
            ));
        }
        self.connection.facts().vet_backup(FUNCTION)?;
        flags.refuse_all_but(Flags::ALL, "qemuDomainGetJobStats")?;
        if flags.contains(Flags::COMPLETED) {
            return self.last_job();
        }
        self.try_for_job(FUNCTION)
    }

    fn try_for_job(&self, function: &str) -> Result<Option<JobInfo>> {
        self.connection.facts().vet_backup(function)?;
        self.refuse_off()?;
        self.job_info()
    }

    /// What is known of the copy of a disk that runs, by the disk's target or its source; `None` if none does. Follows
    /// `virDomainGetBlockJobInfo`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoSupport`] on `test:///default`; [`ErrorCode::OperationInvalid`] if the guest is off;
    /// [`ErrorCode::InvalidArg`] for flags, and if it has no such disk; else as [`job_info`](Self::job_info).
    pub fn block_job_info(
        &self,
        disk: &str,
        flags: BlockJobInfoFlags,
    ) -> Result<Option<BlockJobInfo>> {
        self.try_for_block_job(disk, flags)
            .map_err(|error| self.connection.told(error))
    }

    fn try_for_block_job(
        &self,
        disk: &str,
        flags: BlockJobInfoFlags,
    ) -> Result<Option<BlockJobInfo>> {
        let facts = self.connection.facts();
        facts.vet_backup("virDomainGetBlockJobInfo")?;
        flags.refuse_all_but(BlockJobInfoFlags::ALL, "qemuDomainGetBlockJobInfo")?;
        self.refuse_off()?;
        let target = self.with(|domain| {
            let mut disks = domain.def().disks.iter();
            let found =
                disks.find(|one| &*one.target == disk || one.source.as_deref() == Some(disk));
            let found = found.ok_or_else(|| {
                let detail = format!("disk '{disk}' not found in domain");
                Error::new(ErrorCode::InvalidArg, ErrorDomain::Test, detail)
            });
            Ok(found?.target.clone())
        })?;
        let Some((open, sight)) = self.long_job()? else {
            return Ok(None);
        };
        let mut effects = open.job.effects.iter();
        let copied = effects.find(|one| one.kind == EffectKind::Copied && one.disk == target);
        let copy = copied
            .and_then(|copied| copied.bitmap.as_ref())
            .and_then(|name| sight.as_ref()?.copies.get(name));
        Ok(copy.filter(|copy| !copy.ended).map(|copy| BlockJobInfo {
            done: copy.progress.0,
            total: copy.progress.1,
        }))
    }

    /// Freezes file systems of the guest, which needs an agent in it, and no guest has one that momentlog could ask. Follows
    /// `virDomainFSFreeze`.
    ///
    /// # Errors
    ///
    /// Always: [`ErrorCode::OperationDenied`] if read-only; [`ErrorCode::NoSupport`] on `test:///default`;
    /// [`ErrorCode::InvalidArg`] for flags; [`ErrorCode::OperationInvalid`] if the guest is off;
    /// [`ErrorCode::ArgumentUnsupported`] else.
    pub fn fs_freeze(&self, _mountpoints: &[&str], flags: FsFreezeFlags) -> Result<usize> {
        let known = || flags.refuse_all_but(FsFreezeFlags::ALL, "qemuDomainFSFreeze");
        self.without_agent("virDomainFSFreeze", known)
            .map_err(|error| self.connection.told(error))
    }

    /// Thaws file systems of the guest. Follows `virDomainFSThaw`.
    ///
    /// # Errors
    ///
    /// As [`fs_freeze`](Self::fs_freeze).
    pub fn fs_thaw(&self, _mountpoints: &[&str], flags: FsThawFlags) -> Result<usize> {
        let known = || flags.refuse_all_but(FsThawFlags::ALL, "qemuDomainFSThaw");
        self.without_agent("virDomainFSThaw", known)
            .map_err(|error| self.connection.told(error))
    }

    fn without_agent(&self, function: &str, known: impl FnOnce() -> Result<()>) -> Result<usize> {
        self.connection
            .deny_read_only(function, ErrorDomain::Domain)?;
        self.connection.facts().vet_backup(function)?;
        known()?;
        self.refuse_off()?;
        Err(Error::new(
            ErrorCode::ArgumentUnsupported,
            ErrorDomain::Test,
            "QEMU guest agent is not configured",
        ))
    }

    fn refuse_off(&self) -> Result<()> {
        if self.power()?.state == RunState::Shutoff {
            return Err(Error::new(
                ErrorCode::OperationInvalid,
                ErrorDomain::Domain,
                "domain is not running",
            ));
        }
        Ok(())
    }

    /// The long job that is open after what has ended was settled, and what is seen of the guest. A connection for reading
    /// only looks at no guest.
    fn long_job(&self) -> Result<Option<(OpenJob, Option<Sight>)>> {
        let long = |domain: &DomainState| Ok(domain.jobs().get(JobLength::Long).cloned());
        if self.with(long)?.is_none() {
            return Ok(None);
        }
        let mut sight = None;
        if !self.connection.is_read_only()
            && let Some(guest) = self.guest()?
        {
            let mut entered = self.enter_swept(&guest, self.connection.lock_wait())?;
            if self.with(long)?.is_none() {
                return Ok(None);
            }
            entered.look_again()?;
            sight = entered.sight.take();
        }
        Ok(self.with(long)?.map(|open| (open, sight)))
    }
}
