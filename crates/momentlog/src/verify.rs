//! Verification of a whole store, with libvirt's errors.

use std::path::Path;
use std::sync::Arc;

use momentlog_engine::Verification;
use momentlog_store::{Disk, Receipt, Store};

use crate::error::Result;

/// Verifies the store in a directory, together with its archive if that is given, and changes nothing: see
/// [`momentlog_engine::verify`].
///
/// # Errors
///
/// [`crate::ErrorCode::SystemError`] if there is no store, it is from a newer version, or the disk says so. Damage is no
/// error here: it is the report.
pub fn verify(
    path: &Path,
    archive: Option<&Path>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification> {
    Ok(momentlog_engine::verify(path, archive, receipt, progress)?)
}

/// As [`verify`], on any disk.
///
/// # Errors
///
/// As there.
pub fn verify_disk(
    disk: Arc<dyn Disk>,
    archive: Option<Arc<dyn Disk>>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification> {
    Ok(momentlog_engine::verify_disk(
        disk, archive, receipt, progress,
    )?)
}

/// Verifies the log in any store: see [`momentlog_engine::verify_store`].
///
/// # Errors
///
/// As [`verify`], and what the store cannot read.
pub fn verify_store(
    store: &mut dyn Store,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification> {
    Ok(momentlog_engine::verify_store(store, receipt, progress)?)
}
