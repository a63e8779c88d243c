//! The names of what a driver makes in a hypervisor: of the log, of the job, and of the disk.
//!
//! Names of nodes have at most 31 bytes, so that of the log only the front is in them.

use momentlog::core::JobId;
use momentlog::driver::temporary_prefix;
use momentlog::store::LogId;

/// Begins the name of a node that a copy is written to. Such a node goes with its job.
pub(crate) const TARGET: &str = "ml-";

/// Begins the name of a node of an overlay. It stays.
const OVERLAY: &str = "mo-";

/// Begins the name of a job that writes an empty image.
const IMAGE_JOB: &str = "create-";

/// The names of what one log makes.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    log: String,
    prefix: String,
}

impl Names {
    pub(crate) fn new(log: LogId) -> Names {
        Names {
            log: log.to_string(),
            prefix: temporary_prefix(log),
        }
    }

    /// The witness of a job.
    pub(crate) fn witness(&self, job: JobId) -> String {
        format!("{}{job}", self.prefix)
    }

    /// A bitmap that measures.
    pub(crate) fn measure(&self) -> String {
        format!("{}measure", self.prefix)
    }

    /// Whether a bitmap or a job of this name is this log's, and goes when its job is settled.
    pub(crate) fn is_ours(&self, name: &str) -> bool {
        name.starts_with(&self.prefix)
    }

    /// The job that a witness belongs to.
    pub(crate) fn job_of_witness(&self, name: &str) -> Option<JobId> {
        JobId::new(name.strip_prefix(&self.prefix)?.parse().ok()?)
    }

    /// The job that began the copy which is written to the node of this name.
    pub(crate) fn job_of_target(&self, node: &str) -> Option<JobId> {
        let rest = node.strip_prefix(TARGET)?.strip_prefix(self.front())?;
        let (job, _) = rest.strip_prefix('-')?.split_once('-')?;
        JobId::new(job.parse().ok()?)
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

    /// The hypervisor's job that writes the empty image of a node.
    pub(crate) fn image_job(node: &str) -> String {
        format!("{IMAGE_JOB}{node}")
    }

    /// Whether a job of this name writes an image of this log.
    pub(crate) fn makes_image(&self, job: &str) -> bool {
        let node = job.strip_prefix(IMAGE_JOB).unwrap_or_default();
        let kinds = [TARGET, OVERLAY].into_iter();
        let mut rests = kinds.filter_map(|kind| node.strip_prefix(kind));
        rests.any(|rest| rest.starts_with(&format!("{}-", self.front())))
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
        let [format, storage] = names.target(job, 999);
        for name in [&witness, &names.measure()] {
            assert!(names.is_ours(name) && !other.is_ours(name), "{name}");
        }
        for node in [&format, &storage] {
            assert_eq!(names.job_of_target(node), Some(job));
            assert_eq!(other.job_of_target(node), None);
        }
        let [overlay, file] = names.overlay(job, 999);
        assert!(!names.is_ours(&overlay) && names.job_of_target(&overlay).is_none());
        for node in [format, storage, overlay, file] {
            assert!(node.len() <= 31, "{node}");
        }
        assert!(!names.is_ours("c1"));
        for node in [&names.target(job, 0)[0], &names.overlay(job, 0)[0]] {
            let image = Names::image_job(node);
            assert!(names.makes_image(&image) && !other.makes_image(&image));
            assert!(!names.makes_image(node));
        }
    }
}
