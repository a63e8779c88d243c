//! What the two drivers of libvirt take: facts, in one table.
//!
//! A store of one's own records what libvirt's qemu driver would take; a store of the profile `libvirt-test` answers as
//! libvirt's test driver. Where the two differ, the difference is a field here and no branch elsewhere.

use momentlog_core::{
    CheckpointDisk, DiskTracking, Domain, Memory, MomentName, Profile, align_disks,
};
use momentlog_xml::Carry;

use crate::error::{Error, ErrorCode, ErrorDomain, Result, exclusive, required};
use crate::flags::{
    CheckpointCreateFlags, DestroyFlags, DomainXmlFlags, RevertFlags, ShutdownFlags,
    SnapshotCreateFlags, SnapshotDeleteFlags, StartFlags, UndefineFlags,
};

/// What one driver takes.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) snapshot_create: SnapshotCreateFlags,
    pub(crate) snapshot_delete: SnapshotDeleteFlags,
    pub(crate) revert: RevertFlags,
    pub(crate) checkpoint_create: CheckpointCreateFlags,
    pub(crate) undefine: UndefineFlags,
    /// Flags of a start from XML.
    pub(crate) create: StartFlags,
    pub(crate) start: StartFlags,
    pub(crate) destroy: DestroyFlags,
    pub(crate) shutdown: ShutdownFlags,
    pub(crate) domain_xml: DomainXmlFlags,
    /// What any guest is said to run; none if its definition says it.
    pub(crate) os_type: Option<&'static str>,
    /// The architectures of guests; that of the host first.
    pub(crate) arches: &'static [&'static str],
    /// The types of domains that capabilities name.
    pub(crate) domain_types: &'static [&'static str],
    /// What the functions of the driver are called where those of libvirt begin with `vir`.
    prefix: &'static str,
    /// Whether snapshots follow the rules of a driver that makes files: their names become file names, and what is
    /// kept of the guest's memory must be something that it can keep.
    pub(crate) makes_files: bool,
    /// What of a snapshot's XML is kept although no field says it.
    pub(crate) carry: Carry,
    /// The image format that a bitmap needs; none if any will do.
    pub(crate) bitmap_format: Option<&'static str>,
}

/// libvirt's test driver, as recorded.
static TEST: Facts = {
    use CheckpointCreateFlags as Checkpoint;
    use SnapshotCreateFlags as Snapshot;
    Facts {
        snapshot_create: Snapshot::REDEFINE
            .union(Snapshot::CURRENT)
            .union(Snapshot::HALT)
            .union(Snapshot::QUIESCE)
            .union(Snapshot::ATOMIC)
            .union(Snapshot::LIVE)
            .union(Snapshot::VALIDATE),
        snapshot_delete: SnapshotDeleteFlags::CHILDREN.union(SnapshotDeleteFlags::CHILDREN_ONLY),
        revert: RevertFlags::RUNNING
            .union(RevertFlags::PAUSED)
            .union(RevertFlags::FORCE),
        checkpoint_create: Checkpoint::REDEFINE.union(Checkpoint::QUIESCE),
        undefine: UndefineFlags::MANAGED_SAVE.union(UndefineFlags::SNAPSHOTS_METADATA),
        create: StartFlags::VALIDATE,
        start: StartFlags::NONE,
        destroy: DestroyFlags::GRACEFUL,
        shutdown: ShutdownFlags::NONE,
        domain_xml: DomainXmlFlags::SECURE
            .union(DomainXmlFlags::INACTIVE)
            .union(DomainXmlFlags::MIGRATABLE),
        os_type: Some("linux"),
        arches: &["i686"],
        domain_types: &["test"],
        prefix: "test",
        makes_files: false,
        carry: Carry::TestDriver,
        bitmap_format: None,
    }
};

/// libvirt's qemu driver, as far as a record can mean it.
static QEMU: Facts = Facts {
    snapshot_create: TEST
        .snapshot_create
        .union(SnapshotCreateFlags::DISK_ONLY)
        .union(SnapshotCreateFlags::REUSE_EXT),
    snapshot_delete: TEST
        .snapshot_delete
        .union(SnapshotDeleteFlags::METADATA_ONLY),
    revert: TEST.revert.union(RevertFlags::RESET_NVRAM),
    checkpoint_create: TEST
        .checkpoint_create
        .union(CheckpointCreateFlags::REDEFINE_VALIDATE),
    undefine: TEST
        .undefine
        .union(UndefineFlags::NVRAM)
        .union(UndefineFlags::KEEP_NVRAM)
        .union(UndefineFlags::CHECKPOINTS_METADATA)
        .union(UndefineFlags::TPM)
        .union(UndefineFlags::KEEP_TPM)
        .union(UndefineFlags::STORAGE),
    create: StartFlags::VALIDATE
        .union(StartFlags::PAUSED)
        .union(StartFlags::RESET_NVRAM),
    start: StartFlags::PAUSED
        .union(StartFlags::BYPASS_CACHE)
        .union(StartFlags::FORCE_BOOT)
        .union(StartFlags::RESET_NVRAM),
    destroy: DestroyFlags::ALL,
    shutdown: ShutdownFlags::ALL,
    domain_xml: DomainXmlFlags::ALL,
    os_type: None,
    arches: &["x86_64", "i686"],
    domain_types: &["kvm", "qemu", "test"],
    prefix: "vir",
    makes_files: true,
    carry: Carry::Everything,
    bitmap_format: Some("qcow2"),
};

impl Facts {
    /// Returns the facts of a store's driver.
    pub(crate) fn of(profile: Profile) -> &'static Facts {
        match profile {
            Profile::LibvirtTest => &TEST,
            Profile::Own => &QEMU,
        }
    }

    /// What the driver's function is called that libvirt's function of this name ends in.
    pub(crate) fn called(&self, function: &str) -> String {
        let rest = function.strip_prefix("vir").unwrap_or(function);
        format!("{}{rest}", self.prefix)
    }

    /// Refuses flags of a start but `known`'s.
    pub(crate) fn vet_start(
        &self,
        flags: StartFlags,
        known: StartFlags,
        function: &str,
    ) -> Result<()> {
        if self.makes_files && flags.contains(StartFlags::AUTODESTROY) {
            let why = "a record outlives the connection that made it (AUTODESTROY)";
            return Err(Error::argument(ErrorDomain::Test, why.to_owned()));
        }
        flags.refuse_all_but(known, &self.called(function))
    }

    /// Refuses flags of a snapshot's creation that the driver does not know, or that exclude or need each other there.
    ///
    /// Follows `qemuSnapshotCreateXML`: unknown flags first, then `QUIESCE` without `DISK_ONLY`, then `LIVE` with
    /// `REDEFINE`.
    pub(crate) fn vet_snapshot_create(
        &self,
        flags: SnapshotCreateFlags,
        function: &str,
    ) -> Result<()> {
        use SnapshotCreateFlags as Flags;
        const PREFIX: &str = "VIR_DOMAIN_SNAPSHOT_CREATE_";
        let has = |flag: Flags| flags.contains(flag);
        if self.makes_files && has(Flags::NO_METADATA) {
            let why = "a snapshot without metadata leaves nothing to record (NO_METADATA)";
            return Err(Error::argument(ErrorDomain::Test, why.to_owned()));
        }
        flags.refuse_all_but(self.snapshot_create, function)?;
        if !self.makes_files {
            return Ok(());
        }
        if has(Flags::QUIESCE) && !has(Flags::DISK_ONLY) {
            return Err(required(ErrorDomain::Test, PREFIX, "DISK_ONLY", "QUIESCE"));
        }
        if has(Flags::LIVE) && has(Flags::REDEFINE) {
            return Err(exclusive(ErrorDomain::Test, PREFIX, "LIVE", "REDEFINE"));
        }
        Ok(())
    }

    /// Refuses a name that a snapshot's file could not have.
    pub(crate) fn vet_snapshot_name(&self, name: Option<&MomentName>) -> Result<()> {
        let Some(name) = name.filter(|_| self.makes_files) else {
            return Ok(());
        };
        let why = if name.as_str().contains('/') {
            "can't contain '/'"
        } else if name.as_str().starts_with('.') {
            "can't start with '.'"
        } else {
            return Ok(());
        };
        let detail = format!("invalid snapshot name '{name}': name {why}");
        Err(Error::new(ErrorCode::XmlDetail, ErrorDomain::Test, detail))
    }

    /// Refuses what is asked of a snapshot's memory if the guest has none that could be kept so.
    ///
    /// Follows the qemu driver's order: memory of a guest that is off or left out, the name, LIVE, then an internal
    /// snapshot without memory.
    pub(crate) fn vet_new_snapshot(
        &self,
        domain: &Domain,
        name: Option<&MomentName>,
        memory: Option<&Memory>,
        flags: SnapshotCreateFlags,
    ) -> Result<()> {
        use SnapshotCreateFlags as Flags;
        let refuse = |code, domain, detail: &str| Err(Error::new(code, domain, detail));
        if !self.makes_files {
            return Ok(());
        }
        let active = domain.power().is_active();
        let disk_only = flags.contains(Flags::DISK_ONLY);
        if (disk_only || !active) && !matches!(memory, None | Some(Memory::No)) {
            return refuse(
                ErrorCode::XmlError,
                ErrorDomain::DomainSnapshot,
                "memory state cannot be saved with offline or disk-only snapshot",
            );
        }
        self.vet_snapshot_name(name)?;
        if flags.contains(Flags::LIVE) && !matches!(memory, Some(Memory::External(_))) {
            return refuse(
                ErrorCode::OperationUnsupported,
                ErrorDomain::Test,
                "live snapshot creation is supported only during full system snapshots",
            );
        }
        if active && !disk_only && memory == Some(&Memory::No) {
            return refuse(
                ErrorCode::OperationUnsupported,
                ErrorDomain::Test,
                "internal snapshot of a running VM must include the memory state",
            );
        }
        Ok(())
    }

    /// Refuses a new checkpoint that would track a disk whose image cannot keep a bitmap, where the format is known.
    ///
    /// Follows libvirt's qemu driver, as recorded.
    pub(crate) fn vet_new_checkpoint(
        &self,
        domain: &Domain,
        disks: &[CheckpointDisk],
    ) -> Result<()> {
        let Some(needed) = self.bitmap_format else {
            return Ok(());
        };
        // The decision says what is wrong with the disks themselves.
        let aligned = align_disks(disks, domain.def()).unwrap_or_default();
        for (tracked, disk) in aligned.iter().zip(&domain.def().disks) {
            if let Some(format) = disk.format.as_deref()
                && tracked.tracking != DiskTracking::No
                && format != needed
            {
                let name = &tracked.name;
                let detail =
                    format!("checkpoint for disk {name} unsupported for storage type {format}");
                return Err(Error::new(
                    ErrorCode::ConfigUnsupported,
                    ErrorDomain::Test,
                    detail,
                ));
            }
        }
        Ok(())
    }

    /// Refuses what libvirt's test driver has not: backups.
    pub(crate) fn vet_backup(&self, function: &str) -> Result<()> {
        if self.makes_files {
            return Ok(());
        }
        let detail = format!(": {function}");
        Err(Error::new(
            ErrorCode::NoSupport,
            ErrorDomain::Domain,
            detail,
        ))
    }

    /// Refuses flags of an undefinition that the driver does not know, or that exclude each other there.
    pub(crate) fn vet_undefine(&self, flags: UndefineFlags) -> Result<()> {
        use UndefineFlags as Flags;
        flags.refuse_all_but(self.undefine, &self.called("virDomainUndefineFlags"))?;
        for (one, other, what) in [
            (Flags::NVRAM, Flags::KEEP_NVRAM, "nvram"),
            (Flags::TPM, Flags::KEEP_TPM, "TPM"),
        ] {
            if flags.contains(one | other) {
                return Err(Error::new(
                    ErrorCode::OperationInvalid,
                    ErrorDomain::Test,
                    format!("cannot both keep and delete {what}"),
                ));
            }
        }
        Ok(())
    }
}
