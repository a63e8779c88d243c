//! What a driver of a hypervisor asks to be recorded.
//!
//! A caller's [`Command`](crate::Command) is decided and recorded at once. What changes a hypervisor as well is recorded twice:
//! a job is begun before the hypervisor is asked, and ended or failed by what is seen afterwards.

use std::fmt;
use std::sync::Arc;

use crate::{Action, DomainSeen, Job, JobOutcome, MomentId, RunState};

/// Where the hypervisor of a domain is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// The driver that asks, by its name: `qemu`.
    pub driver: Arc<str>,
    /// The monitor's socket: an absolute path of 1 to [`Attachment::SOCKET_LEN_MAX`] bytes.
    pub socket: Arc<str>,
    /// Whether the driver may only look, because another program manages the guest.
    pub look_only: bool,
}

impl Attachment {
    /// Longest path of a socket, in bytes.
    pub const SOCKET_LEN_MAX: usize = 4096;

    /// Longest name of a driver, in bytes.
    pub const DRIVER_LEN_MAX: usize = 32;

    /// Whether its lengths are within the bounds.
    pub fn is_recordable(&self) -> bool {
        let fits = |text: &str, most| !text.is_empty() && text.len() <= most;
        fits(&self.driver, Attachment::DRIVER_LEN_MAX)
            && fits(&self.socket, Attachment::SOCKET_LEN_MAX)
            && self.socket.starts_with('/')
    }
}

/// What has become of a checkpoint's bitmap on a disk. Of several that fit, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskState {
    /// It cannot be seen now.
    Unknown,
    /// The hypervisor does not have the disk.
    DiskGone,
    /// No image has the bitmap.
    Lost,
    /// It is missing in an image between others, or in the top one: it has not seen all writes.
    Broken,
    /// It was not kept when a hypervisor ended.
    Inconsistent,
    /// It takes no note of writes any more.
    Stopped,
    /// It would not be kept when the hypervisor ends.
    Temporary,
    /// It has seen every write since the checkpoint.
    Ok,
}

impl DiskState {
    /// All of them, in order.
    pub const ALL: [DiskState; 8] = [
        DiskState::Unknown,
        DiskState::DiskGone,
        DiskState::Lost,
        DiskState::Broken,
        DiskState::Inconsistent,
        DiskState::Stopped,
        DiskState::Temporary,
        DiskState::Ok,
    ];

    /// Its number in the log: its place in [`ALL`](Self::ALL), from 0.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the state with this number.
    pub fn from_number(number: u8) -> Option<DiskState> {
        DiskState::ALL.get(usize::from(number)).copied()
    }

    /// The word for it, in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            DiskState::Unknown => "unknown",
            DiskState::DiskGone => "disk-gone",
            DiskState::Lost => "lost",
            DiskState::Broken => "broken",
            DiskState::Inconsistent => "inconsistent",
            DiskState::Stopped => "stopped",
            DiskState::Temporary => "temporary",
            DiskState::Ok => "ok",
        }
    }
}

impl fmt::Display for DiskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What was seen of a checkpoint's bitmap on one disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DiskSeen {
    /// The disk, one that the checkpoint tracks.
    pub disk: Arc<str>,
    /// What has become of the bitmap.
    pub state: DiskState,
}

/// What a driver asks to be recorded of one domain. [`State::decide_report`](crate::State::decide_report) says what would
/// come of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The domain's hypervisor is asked there from now on.
    Attach(Attachment),
    /// The domain's hypervisor is not asked any more.
    Detach,
    /// The guest is in this run state, as was seen. Nothing comes of it if that is known.
    Observe {
        /// The state.
        state: RunState,
        /// Why, as libvirt numbers the reasons of that state.
        reason: u8,
    },
    /// This was seen of the bitmaps of a checkpoint. Nothing comes of it if the checkpoint is gone, or does not track any of
    /// the disks.
    See {
        /// The checkpoint.
        checkpoint: MomentId,
        /// What was seen.
        disks: Vec<DiskSeen>,
    },
    /// The domain and its moments are as another program lists them now; none if it lists no such domain. No policy and no
    /// hold is asked. Nothing comes of it if the log says the same.
    SeeDomain(Option<Box<DomainSeen>>),
    /// The hypervisor is about to be asked.
    Begin(Box<BeginJob>),
    /// An open job has done what it was begun for.
    End {
        /// The job, and what was seen of it.
        outcome: JobOutcome,
        /// The long job that goes on from here, such as the copying of a backup.
        then: Option<Arc<Job>>,
    },
    /// An open job has not done what it was begun for.
    Fail(JobOutcome),
}

/// A job to be begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginJob {
    /// What is done to the hypervisor. The moments that its end makes and deletes are left out: they follow from `action`.
    pub job: Job,
    /// What its end does to moments: a creation, redefinition or deletion; none if it only touches disks.
    pub action: Option<Action>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_number_and_a_word_of_its_own() {
        for (number, state) in (0..).zip(DiskState::ALL) {
            assert_eq!(state.number(), number);
            assert_eq!(DiskState::from_number(number), Some(state));
        }
        assert_eq!(DiskState::from_number(8), None);
        let words: std::collections::BTreeSet<_> = DiskState::ALL.map(DiskState::as_str).into();
        assert_eq!(words.len(), DiskState::ALL.len());
    }
}
