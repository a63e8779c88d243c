//! Snapshots: what one records, and how its disks follow those of the domain.

use std::sync::Arc;

use crate::{
    DiskLocation, DiskRefused, DomainDef, DomainDisk, MomentKind, MomentList, MomentName, RunState,
    SourceKind,
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
            let of = &domain.disks[index];
            aligned[index] = Some(SnapshotDisk {
                name: of.target.clone(),
                location: Some(self.location(disk, of)?),
                ..disk.clone()
            });
        }
        let aligned = aligned.into_iter().zip(&domain.disks);
        let mut aligned: Vec<SnapshotDisk> = aligned
            .map(|(aligned, disk)| aligned.unwrap_or_else(|| self.unlisted(disk)))
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

    /// Where a disk is kept if neither the snapshot nor the domain says so.
    fn default_location(&self) -> DiskLocation {
        if self.external {
            DiskLocation::External
        } else {
            DiskLocation::Internal
        }
    }

    /// A disk of the domain that the snapshot does not list.
    fn unlisted(&self, disk: &DomainDisk) -> SnapshotDisk {
        SnapshotDisk {
            name: disk.target.clone(),
            location: Some(disk.place(self.default_location())),
            kind: SourceKind::File,
            driver: None,
            source: None,
            xml: None,
        }
    }

    /// Returns where a listed disk is kept: where it says, if that may be, or as the domain wishes.
    fn location(&self, disk: &SnapshotDisk, of: &DomainDisk) -> Result<DiskLocation, DiskRefused> {
        let location = match (disk.location, of.snapshot) {
            (Some(location), _) if self.external || self.may_be_kept(location, of) => location,
            (Some(_), _) => {
                return Err(DiskRefused::NotInternal {
                    disk: disk.name.clone(),
                });
            }
            (None, Some(wish)) if self.external || wish == DiskLocation::No => wish,
            (None, _) => self.default_location(),
        };
        match &disk.source {
            Some(source) if location != DiskLocation::External => {
                Err(DiskRefused::FileNotExternal {
                    file: source.clone(),
                    disk: disk.name.clone(),
                })
            }
            _ => Ok(location),
        }
    }

    /// Whether a listed disk may be kept at `location` although the default is internal.
    fn may_be_kept(&self, location: DiskLocation, of: &DomainDisk) -> bool {
        let is_excluded = location == DiskLocation::No && of.snapshot == Some(DiskLocation::No);
        location == DiskLocation::Internal
            || is_excluded
            || match self.uniform {
                Uniform::Listed => false,
                Uniform::Deviant => location == of.place(self.default_location()),
                Uniform::Not => true,
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DomainUuid;

    /// A file, an empty drive, a read-only file and a block device.
    fn domain() -> DomainDef {
        let disk = |target: &str, kind, source: Option<&str>, wish| DomainDisk {
            target: target.into(),
            kind,
            source: source.map(Into::into),
            empty: source.is_none(),
            format: None,
            readonly: wish == Some(DiskLocation::No),
            snapshot: wish,
        };
        DomainDef {
            name: "vm".into(),
            uuid: DomainUuid::from_bytes([7; 16]),
            memory_kib: 0,
            disks: vec![
                disk("vda", SourceKind::File, Some("/i/a.qcow2"), None),
                disk("fda", SourceKind::File, None, None),
                disk(
                    "hdc",
                    SourceKind::File,
                    Some("/i/c.iso"),
                    Some(DiskLocation::No),
                ),
                disk("vdb", SourceKind::Block, Some("/dev/b"), None),
            ],
            xml: "".into(),
        }
    }

    /// Reads `NAME`, `NAME=LOCATION` or `NAME=LOCATION:FILE`.
    fn disk(text: &str) -> SnapshotDisk {
        let (name, rest) = text.split_once('=').unwrap_or((text, ""));
        let (word, source) = rest
            .split_once(':')
            .map_or((rest, None), |(word, source)| (word, Some(source)));
        let locations = [
            DiskLocation::No,
            DiskLocation::Internal,
            DiskLocation::External,
            DiskLocation::Manual,
        ];
        SnapshotDisk {
            name: name.into(),
            location: locations
                .into_iter()
                .find(|location| location.as_str() == word),
            kind: SourceKind::File,
            driver: None,
            source: source.map(Into::into),
            xml: None,
        }
    }

    /// Checks how listed disks are aligned, in the form that [`disk`] reads, or why not.
    #[track_caller]
    fn check(external: bool, uniform: Uniform, listed: &str, expected: &str) {
        let name = MomentName::new("s").unwrap();
        let alignment = Alignment {
            external,
            overlays: true,
            uniform,
            name: &name,
        };
        let listed: Vec<SnapshotDisk> = listed.split_whitespace().map(disk).collect();
        let shown = match alignment.align(&listed, &domain()) {
            Err(refused) => refused.to_string(),
            Ok(disks) => {
                let disk = |disk: &SnapshotDisk| {
                    let source = disk.source.as_deref().map(|source| format!(":{source}"));
                    let location = disk.location.unwrap().as_str();
                    format!("{}={location}{}", disk.name, source.unwrap_or_default())
                };
                disks.iter().map(disk).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn disks_that_are_not_listed_follow_the_domain_and_the_default() {
        let check = |external, listed, expected| check(external, Uniform::Listed, listed, expected);
        check(false, "", "vda=internal fda=no hdc=no vdb=internal");
        check(
            false,
            "vda=no",
            "disk 'vda' must use snapshot mode 'internal'",
        );
        check(false, "hdc=no", "vda=internal fda=no hdc=no vdb=internal");
        check(
            false,
            "hdc=internal",
            "vda=internal fda=no hdc=internal vdb=internal",
        );
        check(
            false,
            "fda",
            "vda=internal fda=internal hdc=no vdb=internal",
        );
        check(true, "vdb=no", "vda=external:/i/a.s fda=no hdc=no vdb=no");
        check(
            true,
            "vdb=no /i/a.qcow2=external:/o",
            "vda=external:/o fda=no hdc=no vdb=no",
        );
        check(
            true,
            "vdb=no vda=internal",
            "vda=internal fda=no hdc=no vdb=no",
        );
        check(true, "vdb=no vda=manual", "vda=manual fda=no hdc=no vdb=no");
    }

    #[test]
    fn disks_that_do_not_fit_are_refused_in_libvirts_order() {
        let check = |external, listed, expected| check(external, Uniform::Listed, listed, expected);
        check(
            true,
            "a b c d e",
            "too many disk snapshot requests for domain",
        );
        check(true, "vdx", "no disk named 'vdx'");
        check(true, "/i/x", "no disk named '/i/x'");
        check(true, "vda /i/a.qcow2", "disk '/i/a.qcow2' specified twice");
        check(
            true,
            "vda=internal:/o",
            "file '/o' for disk 'vda' requires use of external snapshot mode",
        );
        check(
            true,
            "",
            "source for disk 'vdb' is not a regular file; refusing to generate external snapshot name",
        );
        check(
            true,
            "vdb=no fda=external",
            "cannot generate external snapshot name for disk 'fda' without source",
        );
        check(
            true,
            "vdb=no vda=external:/i/c.s hdc=external",
            "cannot generate external snapshot name for disk 'hdc': collision with disk 'vda'",
        );
    }

    #[test]
    fn how_far_an_internal_default_is_for_all_disks() {
        use Uniform::{Deviant, Listed, Not};
        let refused = |disk| format!("disk '{disk}' must use snapshot mode 'internal'");
        let aligned = "vda=internal fda=no hdc=no vdb=internal";
        check(false, Listed, "fda=no", &refused("fda"));
        check(false, Deviant, "fda=no", aligned);
        check(false, Deviant, "vda=no", &refused("vda"));
        check(false, Not, "vda=no", "vda=no fda=no hdc=no vdb=internal");
    }
}
