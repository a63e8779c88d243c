//! The names of what a driver makes in a hypervisor: of the log, of the job, and of the disk.
//!
//! Names of nodes have at most 31 bytes, so that of the log only the front is in them.

use momentlog::core::JobId;
use momentlog::store::LogId;

/// Begins the name of a node that a copy is written to. Such a node goes with its job.
pub(crate) const TARGET: &str = "ml-";

/// Begins the name of a node of an overlay. It stays.
const OVERLAY: &str = "mo-";

/// Begins the name of everything else.
const FRONT: &str = "momentlog-";

/// The names of what one log makes.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    log: String,
}

impl Names {
    pub(crate) fn new(log: LogId) -> Names {
        Names {
            log: log.to_string(),
        }
    }

    /// The witness of a job.
    pub(crate) fn witness(&self, job: JobId) -> String {
        format!("{FRONT}{}-{job}", self.log)
    }

    /// The copy of one disk: the hypervisor's job, and the bitmap that says what is copied.
    pub(crate) fn copy(&self, job: JobId, disk: &str) -> String {
        format!("{FRONT}{}-{job}-{disk}", self.log)
    }

    /// A bitmap that measures.
    pub(crate) fn measure(&self) -> String {
        format!("{FRONT}{}-measure", self.log)
    }

    /// Whether something of this name is this log's and goes with a job.
    pub(crate) fn is_ours(&self, name: &str) -> bool {
        name.strip_prefix(FRONT)
            .and_then(|rest| rest.strip_prefix(&*self.log))
            .is_some_and(|rest| rest.starts_with('-'))
            || name.starts_with(&format!("{TARGET}{}-", self.front()))
    }

    /// The job that a witness belongs to.
    pub(crate) fn job_of_witness(&self, name: &str) -> Option<JobId> {
        let rest = name.strip_prefix(FRONT)?.strip_prefix(&*self.log)?;
        JobId::new(rest.strip_prefix('-')?.parse().ok()?)
    }

    /// The node that the copy of the disk of this number is written to: of the format, and of the file.
    pub(crate) fn target(&self, job: JobId, disk: usize) -> [String; 2] {
        let name = format!("{TARGET}{}-{job}-{disk}", self.front());
        [format!("{name}f"), format!("{name}s")]
    }

    /// The node of the overlay above the disk of this number: of the format, and of the file.
    pub(crate) fn overlay(&self, job: JobId, disk: usize) -> [String; 2] {
        let name = format!("{OVERLAY}{}-{job}-{disk}", self.front());
        [format!("{name}f"), format!("{name}s")]
    }

    fn front(&self) -> &str {
        &self.log[..8.min(self.log.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_whose_they_are_and_fit() {
        let names = Names::new(LogId([0xab; 16]));
        let other = Names::new(LogId([0xac; 16]));
        let job = JobId::new(999_999_999_999).unwrap();
        let witness = names.witness(job);
        assert_eq!(names.job_of_witness(&witness), Some(job));
        assert_eq!(other.job_of_witness(&witness), None);
        assert_eq!(names.job_of_witness(&names.copy(job, "vda")), None);
        let [format, storage] = names.target(job, 999);
        let copy = names.copy(job, "vda");
        for name in [&witness, &copy, &format, &storage, &names.measure()] {
            assert!(names.is_ours(name) && !other.is_ours(name), "{name}");
        }
        let [overlay, file] = names.overlay(job, 999);
        assert!(!names.is_ours(&overlay));
        for node in [format, storage, overlay, file] {
            assert!(node.len() <= 31, "{node}");
        }
        assert!(!names.is_ours("c1"));
    }
}
