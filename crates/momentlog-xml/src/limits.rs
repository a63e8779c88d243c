//! How large documents may be.
//!
//! Whatever is accepted can be written, and what is written can be read again: the limits of a moment are those of its two
//! domains and of what goes around them, and all of them hold for the text as it is written.

use momentlog_core::{
    BackupDef, BackupServer, CheckpointDef, DiskTracking, DomainDef, MomentName, Relabel,
    SnapshotDef,
};

use crate::error::{BackupRule, DocumentKind, MomentRule};

/// Longest domain, in bytes, as it stands in a moment's document.
pub const XML_LEN_MAX: usize = 16 << 20;

/// Most of what goes around the domains of a moment, in bytes, and longest document of a backup. The name of its parent
/// counts for the parent.
pub const XML_AROUND_LEN_MAX: usize = 4 << 20;

/// Longest document of a moment, in bytes: two domains, what goes around them, and the name of its parent.
pub const XML_MOMENT_LEN_MAX: usize = 2 * XML_LEN_MAX + 2 * XML_AROUND_LEN_MAX;

/// Most elements inside each other. A domain has one less, because it stands in a moment's document, too.
pub const XML_DEPTH_MAX: usize = 256;

/// Most attributes of one element.
pub const XML_ATTRIBUTES_MAX: usize = 256;

/// Most elements of one domain.
pub const XML_ELEMENTS_MAX: usize = 1 << 18;

/// Most elements around the domains of a moment, and of a backup.
const AROUND_ELEMENTS_MAX: usize = 1 << 17;

/// Elements that are written though they were not given.
const ADDED_ELEMENTS: usize = 64;

impl DocumentKind {
    /// Longest text that is read, in bytes.
    pub(crate) fn len_max(self) -> usize {
        match self {
            DocumentKind::Domain => XML_LEN_MAX,
            DocumentKind::Backup | DocumentKind::Metadata => XML_AROUND_LEN_MAX,
            DocumentKind::Snapshot | DocumentKind::Checkpoint => XML_MOMENT_LEN_MAX,
        }
    }

    /// Most elements of a document.
    pub(crate) fn elements_max(self) -> usize {
        match self {
            DocumentKind::Domain => XML_ELEMENTS_MAX,
            DocumentKind::Backup | DocumentKind::Metadata => AROUND_ELEMENTS_MAX,
            DocumentKind::Snapshot | DocumentKind::Checkpoint => {
                2 * XML_ELEMENTS_MAX + AROUND_ELEMENTS_MAX + ADDED_ELEMENTS
            }
        }
    }

    /// Most elements inside each other.
    pub(crate) fn depth_max(self) -> usize {
        match self {
            DocumentKind::Domain => XML_DEPTH_MAX - 1,
            // It stands in the metadata of a domain.
            DocumentKind::Metadata => XML_DEPTH_MAX - 3,
            DocumentKind::Snapshot | DocumentKind::Checkpoint | DocumentKind::Backup => {
                XML_DEPTH_MAX
            }
        }
    }
}

/// Whether the canonical text of a domain is at most as long as may be, where it stands in a moment's document.
pub(crate) fn domain_fits(xml: &str) -> bool {
    /// `inactiveDomain` is longer than `domain`, twice.
    const NAMES: usize = 16;
    const INDENT: usize = 2;
    let most = |lines: usize| xml.len() + NAMES + lines * INDENT;
    most(xml.len()) <= XML_LEN_MAX
        || most(xml.bytes().filter(|byte| *byte == b'\n').count()) <= XML_LEN_MAX
}

/// Checks what goes around the domains of a snapshot.
///
/// # Errors
///
/// [`MomentRule::TooLarge`].
pub fn snapshot_fits(name: &MomentName, def: &SnapshotDef) -> Result<(), MomentRule> {
    let mut around = Around::new(name, def.description.as_deref());
    if let momentlog_core::Memory::External(file) = &def.memory {
        around.text(file);
    }
    for disk in &def.disks {
        around.disk(&disk.name);
        around.text(disk.driver.as_deref().unwrap_or_default());
        around.text(disk.source.as_deref().unwrap_or_default());
        around.canonical(disk.xml.as_deref());
    }
    around.canonical(def.revert_disks.as_deref());
    around.canonical(def.extra.as_deref());
    around.fits()
}

/// Checks what goes around the domain of a checkpoint.
///
/// # Errors
///
/// [`MomentRule::TooLarge`].
pub fn checkpoint_fits(name: &MomentName, def: &CheckpointDef) -> Result<(), MomentRule> {
    let mut around = Around::new(name, def.description.as_deref());
    let name_len = escaped_len(name.as_str());
    for disk in &def.disks {
        around.disk(&disk.name);
        match &disk.tracking {
            DiskTracking::No => {}
            DiskTracking::Bitmap(Some(bitmap)) => around.text(bitmap),
            DiskTracking::Bitmap(None) => around.len = around.len.saturating_add(name_len),
        }
    }
    around.fits()
}

/// Checks that a backup can be read again as it is written. One that was aligned has longer texts than the one that
/// was read.
///
/// # Errors
///
/// [`BackupRule::TooLarge`].
pub fn backup_fits(def: &BackupDef) -> Result<(), BackupRule> {
    let mut around = Around {
        len: Around::MOMENT_LEN,
        elements: Around::BACKUP_ELEMENTS,
    };
    around.optional(def.incremental.as_deref());
    match &def.server {
        None => {}
        Some(BackupServer::Tcp { name, .. }) => around.text(name),
        Some(BackupServer::Unix { socket, .. }) => around.text(socket),
    }
    for disk in &def.disks {
        around.disk(&disk.name);
        around.len += Around::BACKUP_DISK_LEN;
        around.optional(disk.incremental.as_deref());
        around.optional(disk.export_name.as_deref());
        around.optional(disk.export_bitmap.as_deref());
        around.optional(disk.format.as_deref());
        around.optional(disk.destination.as_deref());
        for label in &disk.labels {
            around.len += Around::LABEL_LEN;
            around.elements += Around::LABEL_ELEMENTS;
            around.optional(label.model.as_deref());
            if let Relabel::To(text) = &label.relabel {
                around.text(text);
            }
        }
    }
    around.fits().map_err(|_| BackupRule::TooLarge)
}

/// Checks a moment of a domain before it is made: its name may be written once for each disk.
///
/// # Errors
///
/// [`MomentRule::TooLarge`].
pub fn names_fit(name: &MomentName, domain: &DomainDef) -> Result<(), MomentRule> {
    let names = escaped_len(name.as_str()).saturating_mul(domain.disks.len() + 1);
    if names > XML_AROUND_LEN_MAX {
        return Err(MomentRule::TooLarge);
    }
    Ok(())
}

/// An upper bound of what is written around the domains of a moment.
struct Around {
    len: usize,
    elements: usize,
}

impl Around {
    /// What is written of any moment.
    const MOMENT_LEN: usize = 512;
    /// What is written of any disk.
    const DISK_LEN: usize = 160;
    /// Its own element, its driver and its source.
    const DISK_ELEMENTS: usize = 3;
    /// The root, what it is incremental since, the server and the disks.
    const BACKUP_ELEMENTS: usize = 4;
    /// What is written of a backup's disk besides.
    const BACKUP_DISK_LEN: usize = 160;
    /// What is written of any security label.
    const LABEL_LEN: usize = 128;
    /// Its own element and its text.
    const LABEL_ELEMENTS: usize = 2;

    fn new(name: &MomentName, description: Option<&str>) -> Around {
        let mut around = Around {
            len: Around::MOMENT_LEN,
            elements: 0,
        };
        around.text(name.as_str());
        around.text(description.unwrap_or_default());
        around
    }

    fn text(&mut self, text: &str) {
        self.len = self.len.saturating_add(escaped_len(text));
    }

    fn optional(&mut self, text: Option<&str>) {
        self.text(text.unwrap_or_default());
    }

    /// Counts canonical XML, which is indented by at most three levels where it is printed.
    fn canonical(&mut self, xml: Option<&str>) {
        const INDENT: usize = 6;
        let count =
            |byte: u8| xml.map_or(0, |xml| xml.bytes().filter(|other| *other == byte).count());
        let len = xml.map_or(0, str::len) + INDENT * (1 + count(b'\n'));
        self.len = self.len.saturating_add(len);
        self.elements = self.elements.saturating_add(count(b'<'));
    }

    fn disk(&mut self, name: &str) {
        self.text(name);
        self.len += Around::DISK_LEN;
        self.elements += Around::DISK_ELEMENTS;
    }

    fn fits(&self) -> Result<(), MomentRule> {
        if self.len > XML_AROUND_LEN_MAX || self.elements > AROUND_ELEMENTS_MAX {
            return Err(MomentRule::TooLarge);
        }
        Ok(())
    }
}

/// Most bytes that a text is written as.
fn escaped_len(text: &str) -> usize {
    const LONGEST: usize = "&quot;".len();
    let escaped = |byte: &u8| matches!(byte, b'&' | b'<' | b'>' | b'\'' | b'"');
    text.len() + text.bytes().filter(escaped).count() * (LONGEST - 1)
}
