//! Backups: copies are begun, finished and ended before their time.

use momentlog::ErrorCode;
use momentlog::core::{Job, JobId};
use momentlog::driver::Fault;
use serde_json::json;

use super::QemuSession;

impl QemuSession {
    pub(super) fn begin_backup(&mut self, _: JobId, _: &Job) -> Result<(), Fault> {
        Err(Fault::refused(
            ErrorCode::OperationUnsupported,
            "backups are not made yet",
        ))
    }

    pub(super) fn close_targets(&mut self, _: &Job) -> Result<(), Fault> {
        Ok(())
    }

    pub(super) fn abort_copies(&mut self, _: &Job) -> Result<(), Fault> {
        Ok(())
    }

    pub(super) fn sweep_copies(&mut self, open: &[(JobId, &Job)]) -> Result<(), Fault> {
        let _ = (open, json!({}));
        Ok(())
    }
}
