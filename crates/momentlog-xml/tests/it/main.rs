//! XML as people's tools write it, read and written.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted;
mod carried;
mod disks;
mod limits;
mod refused;

use momentlog_core::{DomainDef, DomainUuid};
use momentlog_xml::{XmlError, read_domain};

/// The uuid of a domain that has none.
pub(crate) const FRESH: DomainUuid = DomainUuid::from_bytes([9; 16]);

/// Reads a domain of a name and an os type, with `more` in it.
pub(crate) fn domain(more: &str) -> Result<DomainDef, XmlError> {
    read_domain(&domain_xml(more), || FRESH)
}

pub(crate) fn domain_xml(more: &str) -> String {
    format!("<domain type='kvm'><name>d</name><os><type>hvm</type></os>{more}</domain>")
}
