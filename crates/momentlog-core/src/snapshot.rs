//! Snapshots: what one records, and how its disks follow those of the domain.

use std::sync::Arc;

use crate::{
    DiskLocation, DiskRefused, DomainDef, MomentKind, MomentList, MomentName, RunState, SourceKind,
};

/// The snapshots of one domain.
pub type SnapshotList = MomentList<SnapshotDef>;

/// What a snapshot records besides its name and its place in the list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotDef {
    /// Free text for people; empty if it was erased.
    pub description: Option<Arc<str>>,
    /// What the guest was doing then.
    pub state: SnapshotState,
    /// Where its memory is kept.
    pub memory: Memory,
    /// The disks; all of the domain's, in its order, once they were aligned with it.
    pub disks: Vec<SnapshotDisk>,
    /// The domain as it was defined then.
    pub domain: Option<Arc<DomainDef>>,
    /// The domain's definition for its next start, where that differed.
    pub inactive_domain: Option<Arc<DomainDef>>,
    /// `<revertDisks>` in full, as canonical XML.
    pub revert_disks: Option<Arc<str>>,
    /// What else its XML held and the other fields do not say, such as `<cookie>`: canonical XML, in its order.
    pub extra: Option<Arc<str>>,
}

impl SnapshotDef {
    /// Whether the memory or a disk is kept in a file of its own.
    pub fn is_external(&self) -> bool {
        matches!(self.memory, Memory::External(_))
            || self
                .disks
                .iter()
                .any(|disk| disk.location == Some(DiskLocation::External))
    }
}

/// What the guest was doing when a snapshot was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotState {
    /// As the domain's run state.
    Run(RunState),
    /// Only the disks of an active guest were kept.
    DiskSnapshot,
}

impl SnapshotState {
    /// The word in XML.
    pub fn as_str(self) -> &'static str {
        match self {
            SnapshotState::Run(RunState::Running) => "running",
            SnapshotState::Run(RunState::Blocked) => "blocked",
            SnapshotState::Run(RunState::Paused) => "paused",
            SnapshotState::Run(RunState::Shutdown) => "shutdown",
            SnapshotState::Run(RunState::Shutoff) => "shutoff",
            SnapshotState::Run(RunState::Crashed) => "crashed",
            SnapshotState::Run(RunState::PmSuspended) => "pmsuspended",
            SnapshotState::DiskSnapshot => "disk-snapshot",
        }
    }

    /// Returns the state that the word in XML means; `nostate` is none.
    pub fn from_word(word: &str) -> Option<SnapshotState> {
        (1..=7)
            .filter_map(RunState::from_number)
            .map(SnapshotState::Run)
            .chain([SnapshotState::DiskSnapshot])
            .find(|state| state.as_str() == word)
    }

    /// Whether a redefine counts the state as online: running or paused.
    pub fn is_online(self) -> bool {
        matches!(
            self,
            SnapshotState::Run(RunState::Running | RunState::Paused)
        )
    }

    /// Whether there is no memory to keep in this state.
    pub fn is_memoryless(self) -> bool {
        matches!(
            self,
            SnapshotState::Run(RunState::Shutoff) | SnapshotState::DiskSnapshot
        )
    }
}

/// Where a snapshot keeps the guest's memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Nowhere.
    No,
    /// Beside the disks, inside an image.
    Internal,
    /// In a file of its own, at this absolute path.
    External(Arc<str>),
}

/// One disk of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotDisk {
    /// The disk: a target, or before alignment also a source path.
    pub name: Arc<str>,
    /// Where its state is kept; `None` only before alignment.
    pub location: Option<DiskLocation>,
    /// What kind of thing `source` names.
    pub kind: SourceKind,
    /// The overlay's image format.
    pub driver: Option<Arc<str>>,
    /// The overlay: a path, or the name of a network disk.
    pub source: Option<Arc<str>>,
    /// The `<disk>` element as canonical XML, without the attributes that the other fields say, where its content says more
    /// than they do.
    pub xml: Option<Arc<str>>,
}

/// What alignment needs to know beside the disks.
pub(crate) struct Alignment<'a> {
    /// Whether disks without a wish become external.
    pub(crate) external: bool,
    /// Names the overlays that have none, or refuses to.
    pub(crate) overlays: bool,
    /// Whether listed disks follow an internal default, but for those that the domain excludes.
    pub(crate) uniform: Uniform,
    /// The snapshot's name, the suffix of such overlays.
    pub(crate) name: &'a MomentName,
}

/// How far an internal default is for all disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uniform {
    /// As libvirt: for every disk that is listed.
    Listed,
    /// Not for a disk that is listed where it would be if it were not: libvirt writes an empty floppy as `no`, and refuses
    /// that from its own dump.
    Deviant,
    /// Not at all: the snapshot was made of the disks alone.
    Not,
}

impl Alignment<'_> {
    /// Returns the disks of a snapshot of `domain`: exactly the domain's, in its order; none if the domain has none.
    ///
    /// Follows `virDomainSnapshotAlignDisks` with its rule that an internal default is uniform.
    ///
    /// # Errors
    ///
    /// [`DiskRefused`]: too many, then for each listed disk unknown, twice, wrong mode; then what overlays lack.
    pub(crate) fn align(
        &self,
        listed: &[SnapshotDisk],
        domain: &DomainDef,
    ) -> Result<Vec<SnapshotDisk>, DiskRefused> {
        let kind = MomentKind::Snapshot;
        if listed.len() > domain.disks.len() {
            return Err(DiskRefused::TooMany { kind });
        }
        let default = if self.external {
            DiskLocation::External
        } else {
            DiskLocation::Internal
        };
        let mut aligned: Vec<Option<SnapshotDisk>> = vec![None; domain.disks.len()];
        for disk in listed {
            let index = domain
                .find_disk(&disk.name)
                .ok_or_else(|| DiskRefused::Unknown {
                    kind,
                    disk: disk.name.clone(),
                })?;
            if aligned[index].is_some() {
                return Err(DiskRefused::Twice {
                    kind,
                    disk: disk.name.clone(),
                });
            }
            let wish = domain.disks[index].snapshot;
            let location = match disk.location {
                None => match wish {
                    Some(wish) if self.external || wish == DiskLocation::No => wish,
                    _ => default,
                },
                Some(location) => {
                    let excluded = location == DiskLocation::No && wish == Some(DiskLocation::No);
                    let fits = location == DiskLocation::Internal
                        || excluded
                        || match self.uniform {
                            Uniform::Listed => false,
                            Uniform::Deviant => location == domain.disks[index].place(default),
                            Uniform::Not => true,
                        };
                    if !self.external && !fits {
                        return Err(DiskRefused::NotInternal {
                            disk: disk.name.clone(),
                        });
                    }
                    location
                }
            };
            if let Some(source) = &disk.source
                && location != DiskLocation::External
            {
                return Err(DiskRefused::FileNotExternal {
                    file: source.clone(),
                    disk: disk.name.clone(),
                });
            }
            let name = domain.disks[index].target.clone();
            aligned[index] = Some(SnapshotDisk {
                name,
                location: Some(location),
                ..disk.clone()
            });
        }
        let mut aligned: Vec<SnapshotDisk> = aligned
            .into_iter()
            .zip(&domain.disks)
            .map(|(aligned, disk)| {
                aligned.unwrap_or_else(|| SnapshotDisk {
                    name: disk.target.clone(),
                    location: Some(disk.place(default)),
                    kind: SourceKind::File,
                    driver: None,
                    source: None,
                    xml: None,
                })
            })
            .collect();
        for index in 0..aligned.len() {
            let disk = &aligned[index];
            if disk.location == Some(DiskLocation::External) && disk.source.is_none() {
                let overlay = self.overlay(index, &aligned, domain)?;
                aligned[index].source = Some(overlay);
            }
        }
        Ok(aligned)
    }

    /// Returns a file name for an overlay: that of the disk with its suffix replaced by the snapshot's name.
    fn overlay(
        &self,
        index: usize,
        aligned: &[SnapshotDisk],
        domain: &DomainDef,
    ) -> Result<Arc<str>, DiskRefused> {
        let disk = &aligned[index];
        let name = || disk.name.clone();
        if disk.kind != SourceKind::File {
            return Err(DiskRefused::OverlayOnDevice {
                disk: name(),
                kind: disk.kind,
            });
        }
        let Some(source) = &domain.disks[index].source else {
            return Err(DiskRefused::OverlayWithoutSource { disk: name() });
        };
        if !self.overlays || domain.disks[index].kind != SourceKind::File {
            return Err(DiskRefused::OverlayNotRegular { disk: name() });
        }
        let file = source.rfind('/').map_or(0, |slash| slash + 1);
        let stem = source[file..]
            .rfind('.')
            .map_or(&source[..], |dot| &source[..file + dot]);
        let overlay: Arc<str> = format!("{stem}.{}", self.name).into();
        let taken = aligned[..index]
            .iter()
            .find(|other| other.source.as_ref() == Some(&overlay));
        match taken {
            Some(other) => Err(DiskRefused::OverlayTwice {
                disk: name(),
                other: other.name.clone(),
            }),
            None => Ok(overlay),
        }
    }
}

/// Checks the aligned disks of a snapshot that keeps the disks alone, and names the format of its overlays.
///
/// Follows libvirt's qemu driver.
///
/// # Errors
///
/// [`DiskRefused`]: for each disk the wrong place or format, then that none takes part, or some in either place.
pub(crate) fn keep_disks_alone(
    disks: &mut [SnapshotDisk],
    active: bool,
) -> Result<(), DiskRefused> {
    /// The formats that can lie above another image.
    const FORMATS: [&str; 2] = ["qcow2", "qed"];
    let (mut internal, mut external) = (false, false);
    for disk in disks {
        match disk.location {
            Some(DiskLocation::Internal) if active => {
                return Err(DiskRefused::ActiveInternal {
                    disk: disk.name.clone(),
                });
            }
            Some(DiskLocation::Internal) => internal = true,
            Some(DiskLocation::External) => {
                external = true;
                let format = disk.driver.get_or_insert_with(|| FORMATS[0].into());
                if !FORMATS.contains(&&**format) {
                    return Err(DiskRefused::OverlayFormat {
                        disk: disk.name.clone(),
                        format: format.clone(),
                    });
                }
            }
            _ => {}
        }
    }
    match (internal, external) {
        (false, false) => Err(DiskRefused::NoneSelected),
        (true, true) => Err(DiskRefused::Mixed),
        _ => Ok(()),
    }
}
