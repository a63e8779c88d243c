//! Backups: what one copies and where to, and how its disks follow those of the domain.

use std::num::NonZeroU16;
use std::sync::Arc;

use crate::{DomainDef, DomainDisk, SourceKind};

/// What a backup is: as it was asked for, or aligned with its domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackupDef {
    /// Who moves the data.
    pub mode: BackupMode,
    /// The checkpoint since which disks that name no other are copied, as given.
    pub incremental: Option<Arc<str>>,
    /// Where a pull backup is served; a push backup has none.
    pub server: Option<BackupServer>,
    /// The disks; all of the domain's once they were aligned with it, those that were listed first.
    pub disks: Vec<BackupDisk>,
}

/// Who moves the data of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackupMode {
    /// The hypervisor writes it to a target.
    Push,
    /// A client reads it from a server; what the guest overwrites meanwhile is kept in scratch space.
    Pull,
}

/// Where a pull backup is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackupServer {
    /// On a port of this host.
    Tcp {
        /// The name or address to listen on.
        name: Arc<str>,
        /// The port; without one, no backup can begin.
        port: Option<NonZeroU16>,
        /// Whether connections are encrypted; `None` leaves it to the hypervisor's settings.
        tls: Option<bool>,
    },
    /// On a socket in the file system.
    Unix {
        /// The socket's absolute path.
        socket: Arc<str>,
        /// Whether connections are encrypted; `None` leaves it to the hypervisor's settings.
        tls: Option<bool>,
    },
}

/// One disk of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BackupDisk {
    /// The disk's target.
    pub name: Arc<str>,
    /// Whether the disk is copied. If not, all that follows is absent.
    pub backup: bool,
    /// What kind of thing the target or scratch space is: a file or a block device.
    pub kind: Option<SourceKind>,
    /// How much of the disk is copied.
    pub extent: Option<BackupExtent>,
    /// The checkpoint since which the disk is copied, as given.
    pub incremental: Option<Arc<str>>,
    /// What clients of a pull backup call the disk.
    pub export_name: Option<Arc<str>>,
    /// What clients of a pull backup call the bitmap that says what to copy.
    pub export_bitmap: Option<Arc<str>>,
    /// Number of the image that the driver made for the target or scratch space; known once the backup runs.
    pub index: Option<u32>,
    /// The image format of the target or scratch space.
    pub format: Option<Arc<str>>,
    /// Path of the target or scratch space.
    pub destination: Option<Arc<str>>,
    /// Wishes for the security labels of the target or scratch space, which are kept and not followed.
    pub labels: Vec<SecurityLabel>,
}

/// How much of a disk a backup copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BackupExtent {
    /// All of it.
    Full,
    /// What was written since a checkpoint.
    Incremental,
}

/// A wish for the security label of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecurityLabel {
    /// The security model; `None` stands for all of them.
    pub model: Option<Arc<str>>,
    /// What to do.
    pub relabel: Relabel,
}

/// What to do with the security label of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Relabel {
    /// Leave it.
    No,
    /// Leave it, because the file system takes none.
    Skip,
    /// Set this one.
    To(Arc<str>),
}

/// Why a backup does not fit its domain. The texts are libvirt's details, without its prefixes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupRefused {
    /// The domain has no disk at all.
    #[error("domain must have at least one disk to perform backup")]
    NoDisks,
    /// No disk of this name.
    #[error("no disk named '{disk}'")]
    Unknown {
        /// The disk as given.
        disk: Arc<str>,
    },
    /// The same disk again.
    #[error("disk '{disk}' specified twice")]
    Twice {
        /// The disk.
        disk: Arc<str>,
    },
    /// The disk is to be copied since a checkpoint, and none is named.
    #[error(
        "'incremental' backup mode of disk '{disk}' requires setting 'incremental' field for disk or backup"
    )]
    SinceWhat {
        /// The disk.
        disk: Arc<str>,
    },
    /// The drive is empty.
    #[error("disk '{disk}' has no media")]
    NoMedia {
        /// The disk.
        disk: Arc<str>,
    },
    /// No name can be made up for what is not a file.
    #[error("refusing to generate file name for disk '{disk}'")]
    Destination {
        /// The disk.
        disk: Arc<str>,
    },
    /// A server on this host needs a port.
    #[error("<domainbackup> must specify TCP port for now")]
    PortMissing,
    /// No disk is copied.
    #[error("no disks selected for backup")]
    NoneSelected,
}

impl BackupDef {
    /// Returns the backup with exactly the disks of `domain`: those listed in their order, then the others in its.
    ///
    /// Follows `virDomainBackupBegin`: disks that are not listed are copied only if none is listed, and they are
    /// neither empty nor read-only. A disk without a destination gets `SOURCE.SUFFIX`, where `suffix` is the name of
    /// the checkpoint that is made with the backup, or else the time in seconds; libvirt fails if such a disk is
    /// listed. What libvirt fills in later is here, too: the format `qcow2`, and for a pull backup the name of the
    /// export, which is the disk's, and of its bitmap, `backup-DISK`. Aligning once more changes nothing.
    ///
    /// # Errors
    ///
    /// [`BackupRefused`]: no disks, then for each listed disk unknown, twice, incremental since nothing, empty,
    /// without a destination; then the last for each that is not listed.
    pub fn align(&self, domain: &DomainDef, suffix: &str) -> Result<BackupDef, BackupRefused> {
        if domain.disks.is_empty() {
            return Err(BackupRefused::NoDisks);
        }
        let mut is_listed = vec![false; domain.disks.len()];
        let mut disks = Vec::with_capacity(domain.disks.len());
        for disk in &self.disks {
            let named = |of_domain: &DomainDisk| of_domain.target == disk.name;
            let index = domain.disks.iter().position(named);
            let index = index.ok_or_else(|| BackupRefused::Unknown {
                disk: disk.name.clone(),
            })?;
            if std::mem::replace(&mut is_listed[index], true) {
                return Err(BackupRefused::Twice {
                    disk: disk.name.clone(),
                });
            }
            disks.push(self.align_disk(disk, &domain.disks[index], suffix)?);
        }
        let others = is_listed.iter().zip(&domain.disks);
        for (_, of_domain) in others.filter(|(is_listed, _)| !**is_listed) {
            let copied = self.disks.is_empty() && !of_domain.empty && !of_domain.readonly;
            let disk = BackupDisk::new(of_domain.target.clone(), copied);
            disks.push(self.align_disk(&disk, of_domain, suffix)?);
        }
        Ok(BackupDef {
            mode: self.mode,
            incremental: self.incremental.clone(),
            server: self.server.clone(),
            disks,
        })
    }

    fn align_disk(
        &self,
        disk: &BackupDisk,
        of_domain: &DomainDisk,
        suffix: &str,
    ) -> Result<BackupDisk, BackupRefused> {
        let name = &disk.name;
        if !disk.backup {
            return Ok(BackupDisk::new(name.clone(), false));
        }
        let since = disk.incremental.as_ref().or(self.incremental.as_ref());
        let incremental = match (disk.extent, since) {
            (Some(BackupExtent::Full), _) | (None, None) => None,
            (Some(BackupExtent::Incremental), None) => {
                return Err(BackupRefused::SinceWhat { disk: name.clone() });
            }
            (_, Some(since)) => Some(since.clone()),
        };
        if of_domain.empty {
            return Err(BackupRefused::NoMedia { disk: name.clone() });
        }
        let kind = disk.kind.unwrap_or(SourceKind::File);
        let destination = match (&disk.destination, &of_domain.source) {
            (Some(destination), _) => destination.clone(),
            (None, Some(source))
                if (kind, of_domain.kind) == (SourceKind::File, SourceKind::File) =>
            {
                format!("{source}.{suffix}").into()
            }
            _ => return Err(BackupRefused::Destination { disk: name.clone() }),
        };
        let (export_name, export_bitmap) = match self.mode {
            BackupMode::Push => (None, None),
            BackupMode::Pull => {
                let bitmap = incremental
                    .as_ref()
                    .map(|_| format!("backup-{name}").into());
                let export = disk.export_name.as_ref().unwrap_or(name);
                (Some(export.clone()), disk.export_bitmap.clone().or(bitmap))
            }
        };
        Ok(BackupDisk {
            name: name.clone(),
            backup: true,
            kind: Some(kind),
            extent: Some(match incremental {
                Some(_) => BackupExtent::Incremental,
                None => BackupExtent::Full,
            }),
            incremental,
            export_name,
            export_bitmap,
            index: disk.index,
            format: Some(disk.format.clone().unwrap_or_else(|| "qcow2".into())),
            destination: Some(destination),
            labels: disk.labels.clone(),
        })
    }

    /// Checks that a server on this host has a port. libvirt does so after it has aligned the disks, and before it
    /// looks at those of a checkpoint that is made with the backup.
    ///
    /// # Errors
    ///
    /// [`BackupRefused::PortMissing`].
    pub fn check_port(&self) -> Result<(), BackupRefused> {
        match self.server {
            Some(BackupServer::Tcp { port: None, .. }) => Err(BackupRefused::PortMissing),
            _ => Ok(()),
        }
    }

    /// Checks that any disk is copied. libvirt does so after the disks of a checkpoint that is made with the backup,
    /// and before it looks for the checkpoints since which disks are copied.
    ///
    /// # Errors
    ///
    /// [`BackupRefused::NoneSelected`].
    pub fn check_selected(&self) -> Result<(), BackupRefused> {
        if self.disks.iter().any(|disk| disk.backup) {
            Ok(())
        } else {
            Err(BackupRefused::NoneSelected)
        }
    }
}

impl BackupMode {
    /// The word in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupMode::Push => "push",
            BackupMode::Pull => "pull",
        }
    }
}

impl BackupDisk {
    /// Returns a disk of which nothing is known but whether it is copied.
    pub fn new(name: Arc<str>, backup: bool) -> BackupDisk {
        BackupDisk {
            name,
            backup,
            kind: None,
            extent: None,
            incremental: None,
            export_name: None,
            export_bitmap: None,
            index: None,
            format: None,
            destination: None,
            labels: Vec::new(),
        }
    }
}

impl BackupExtent {
    /// The word in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            BackupExtent::Full => "full",
            BackupExtent::Incremental => "incremental",
        }
    }
}

#[cfg(test)]
mod tests;
