//! XML as people's tools write it, read and written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted;
mod backup;
mod backup_schema;
mod canonical;
mod carried;
mod checkpoint;
mod disks;
mod domain;
mod limits;
mod metadata;
mod refused;
mod schema;
mod snapshot;

use momentlog_core::{DomainDef, DomainUuid};
use momentlog_xml::{Position, XmlError, read_domain};

/// The uuid of a domain that has none.
pub(crate) const FRESH: DomainUuid = DomainUuid::from_bytes([9; 16]);

/// Reads a domain of a name and an os type, with `more` in it.
pub(crate) fn domain(more: &str) -> Result<DomainDef, XmlError> {
    read_domain(&domain_xml(more), || FRESH)
}

pub(crate) fn domain_xml(more: &str) -> String {
    format!("<domain type='kvm'><name>d</name><os><type>hvm</type></os>{more}</domain>")
}

/// Checks a table of texts: each is read as `""` says, or refused as `LINE:COLUMN RULE` says. All rows that differ are shown.
#[track_caller]
pub(crate) fn check_table<T>(rows: &[(&str, &str)], read: impl Fn(&str) -> Result<T, XmlError>) {
    let differing: Vec<String> = rows
        .iter()
        .filter_map(|(xml, expected)| {
            let found = read(xml).err().map(|error| at(&error)).unwrap_or_default();
            (found != *expected)
                .then(|| format!("{xml}\n  expected {expected}\n  found    {found}"))
        })
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Where the error is, and which rule is broken.
pub(crate) fn at(error: &XmlError) -> String {
    let Position { line, column } = error.position;
    format!("{line}:{column} {}", error.rule)
}
