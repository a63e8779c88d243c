//! What a driver of a hypervisor asks to be recorded.
//!
//! A caller's [`Command`](crate::Command) is decided and recorded at once. What changes a hypervisor as well is recorded twice:
//! a job is begun before the hypervisor is asked, and ended or failed by what is seen afterwards.

use std::sync::Arc;

use crate::{Action, Job, JobOutcome, RunState};

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
