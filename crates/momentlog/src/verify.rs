//! Verification of a whole store: the chain, and what its records mean.

use std::path::Path;

use momentlog_core::{Broken, DomainUuid, PolicyBreach, Profile};
use momentlog_store::{FileStore, RealDisk, Receipt, Verdict, VerifyReport};

use crate::error::Result;
use crate::ledger::{Ledger, ReplayError};

/// What verification found.
#[derive(Debug)]
pub struct Verification {
    /// What the log's bytes say.
    pub log: VerifyReport,
    /// The first record that cannot be replayed.
    pub replay: Option<ReplayError>,
    /// The first invariant that the state breaks.
    pub broken: Option<Broken>,
    /// The first domain that does not meet its own policy.
    pub breach: Option<(DomainUuid, PolicyBreach)>,
    /// How many domains, snapshots and checkpoints the state has.
    pub counts: (usize, usize, usize),
}

impl Verification {
    /// The verdict: the log's, or damaged if its records make no sense.
    pub fn verdict(&self) -> Verdict {
        if self.replay.is_some() || self.broken.is_some() {
            Verdict::Damaged
        } else {
            self.log.verdict
        }
    }
}

/// Verifies the store in a directory from its bytes alone: it uses no image and no cache, and changes nothing.
/// `progress` is told how many records have been read, after each.
///
/// # Errors
///
/// [`crate::ErrorCode::SystemError`] if there is no store, it is from a newer version, or the disk says so. Damage is no
/// error here: it is the report.
pub fn verify(
    path: &Path,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification> {
    let mut store = FileStore::new(RealDisk::new(path));
    let mut ledger = Ledger::new(Profile::Own);
    let mut replay = None;
    let log = momentlog_store::verify(&mut store, receipt, &mut |record| {
        progress(record.seq.get());
        if replay.is_none() {
            replay = ledger.replay(record).err();
        }
    })?;
    let state = ledger.view().state();
    let domains: Vec<_> = state.domains().collect();
    let counts = (
        domains.len(),
        domains.iter().map(|domain| domain.snapshots().len()).sum(),
        domains
            .iter()
            .map(|domain| domain.checkpoints().len())
            .sum(),
    );
    Ok(Verification {
        log,
        replay,
        broken: state.check().err(),
        breach: state.check_policy().err(),
        counts,
    })
}
