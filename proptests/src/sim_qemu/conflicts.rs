//! What may not be done to a node, or with a file, because something else uses it.

use super::image::ImageFormat;
use super::process::{Node, NodeKind, Process, World};
use super::requests::Trouble;

impl Process {
    /// Checks that no running job, device or export is in the way of deleting a node.
    pub(super) fn check_unused(&self, name: &str) -> Result<(), Trouble> {
        let rooted = self.devices.iter().any(|device| device.root == name)
            || self.exports.iter().any(|export| export.node == name);
        if rooted {
            return Err(Trouble::refused(format!("Node {name} is in use")));
        }
        if let Some(user) = self.users(name).find(|user| user.backing() == Some(name)) {
            return Err(Trouble::refused(format!(
                "Node '{name}' is busy: node is used as backing hd of '{}'",
                user.name
            )));
        }
        self.check_no_job(name)?;
        if self.node(name).is_some_and(|node| !node.owned) {
            return Err(Trouble::refused(format!(
                "Node {name} is not owned by the monitor"
            )));
        }
        match self.users(name).next() {
            Some(_) => Err(Trouble::refused(format!("Block device {name} is in use"))),
            None => Ok(()),
        }
    }

    /// Checks that a node can become the base of an overlay.
    pub(super) fn check_base(&self, name: &str) -> Result<(), Trouble> {
        match self.users(name).find(|user| user.backing() == Some(name)) {
            Some(user) => Err(Trouble::refused(format!(
                "Node '{name}' is busy: node is used as backing hd of '{}'",
                user.name
            ))),
            None => Ok(()),
        }
    }

    /// Checks that no running job writes to a node.
    pub(super) fn check_no_job(&self, node: &str) -> Result<(), Trouble> {
        match self.jobs.iter().find(|job| job.writes_to(node)) {
            Some(job) => Err(Trouble::refused(format!(
                "Node '{node}' is busy: block device is in use by block job: {}",
                job.kind()
            ))),
            None => Ok(()),
        }
    }

    pub(super) fn is_job_target(&self, name: &str) -> bool {
        self.jobs.iter().any(|job| job.writes_to(name))
    }

    pub(super) fn is_written(&self, name: &str) -> bool {
        let device = self
            .devices
            .iter()
            .any(|device| self.below_filters(&device.root) == name);
        device || self.is_job_target(name)
    }

    /// Checks that no other image uses this file node.
    pub(super) fn check_alone(&self, file: &str, node: &str) -> Result<(), Trouble> {
        let uses =
            |other: &&Node| matches!(&other.kind, NodeKind::Format { file: f, .. } if f == file);
        match self.nodes.iter().find(uses) {
            Some(other) => Err(Trouble::refused(format!(
                "Permission conflict on node '{file}': permissions 'write, resize' are both required by node '{}' \
                 (uses node '{file}' as 'file' child) and unshared by node '{node}' (uses node '{file}' as 'file' child).",
                other.name
            ))),
            None => Ok(()),
        }
    }

    /// Checks that the file is not written elsewhere, and not open elsewhere if it is to be written here.
    pub(super) fn check_locks(
        &self,
        world: &World<'_>,
        path: &str,
        format: ImageFormat,
        read_only: bool,
    ) -> Result<(), Trouble> {
        let mut others = world.locked.iter().cloned().chain(self.locks());
        let in_the_way = |writes: bool| match (read_only, format) {
            (true, ImageFormat::Raw) => false,
            (true, ImageFormat::Qcow2) => writes,
            (false, _) => true,
        };
        match others.any(|(other, writes)| other == path && in_the_way(writes)) {
            true if read_only => Err(Trouble::refused("Failed to get shared \"write\" lock")),
            true => Err(Trouble::refused("Failed to get \"write\" lock")),
            false => Ok(()),
        }
    }

    /// The images that it has open, and whether it writes them.
    pub(super) fn locks(&self) -> impl Iterator<Item = (String, bool)> + '_ {
        self.nodes
            .iter()
            .filter(|node| matches!(node.kind, NodeKind::Format { .. }))
            .map(|node| (node.path.clone(), !node.read_only))
    }
}
