//! Plays recordings of libvirt's snapshot and checkpoint calls against momentlog, and says where they differ.
//!
//! A trace is a file of JSON lines: a header, then one call each with what libvirt 9.0.0 answered. Every call is made
//! again on a connection whose clock stands where it stood then, and compared at several levels, each counted on its own.
//!
//! ```
//! let trace = r#"{"format":"momentlog-oracle-trace","version":1,"clock_base":1000000000}
//! {"n":0,"call":"virDomainSnapshotNum","domain":"test","moment":null,"flags":0,"readonly":false,"result":0}"#;
//! let report = momentlog_conformance::play("example", trace)?;
//! assert_eq!((report.calls, report.divergences.len()), (1, 0));
//! # Ok::<(), momentlog_conformance::TraceError>(())
//! ```

mod compare;
mod qemu;
mod session;
mod trace;

use std::collections::BTreeMap;

pub use compare::{Divergence, Level};
pub use qemu::play_qemu;
pub use session::{Stage, play_on, play_over};
pub use trace::TraceError;

/// What a replay found.
#[derive(Debug, Default)]
pub struct Report {
    /// Calls that were made.
    pub calls: usize,
    /// How often each level was compared.
    pub compared: BTreeMap<Level, usize>,
    /// Where an answer differs.
    pub divergences: Vec<Divergence>,
    /// Where an answer differs on purpose, by the rule that says so.
    pub improved: BTreeMap<&'static str, usize>,
}

impl Report {
    /// Adds what another replay found.
    pub fn add(&mut self, other: Report) {
        self.calls += other.calls;
        for (level, count) in other.compared {
            *self.compared.entry(level).or_default() += count;
        }
        self.divergences.extend(other.divergences);
        for (rule, count) in other.improved {
            *self.improved.entry(rule).or_default() += count;
        }
    }
}

/// Plays a trace on `test:///default`. `name` is what divergences are reported under.
///
/// # Errors
///
/// [`TraceError`] if the text is not a trace.
pub fn play(name: &str, trace: &str) -> Result<Report, TraceError> {
    play_on(name, trace, &Stage::test_driver())
}
