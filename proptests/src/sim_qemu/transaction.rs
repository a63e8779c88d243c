//! The actions that one transaction does together, or not at all, but for what QEMU does at once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::bitmap::Bitmap;
use super::image::ImageFormat;
use super::jobs::{BackupOptions, Sync};
use super::process::{Node, NodeKind, Process, World, no_device};
use super::requests::{Args, Trouble};

/// Longest name of a bitmap, in bytes.
const NAME_MAX: usize = 1023;

/// One action, understood.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Add {
        node: String,
        name: String,
        granularity: Option<u64>,
        persistent: bool,
        disabled: bool,
    },
    Remove {
        node: String,
        name: String,
    },
    Clear {
        node: String,
        name: String,
    },
    Enable {
        node: String,
        name: String,
    },
    Disable {
        node: String,
        name: String,
    },
    Merge {
        node: String,
        target: String,
        sources: Vec<(String, String)>,
    },
    Backup(BackupOptions),
    Snapshot {
        node: String,
        overlay: String,
    },
    Abort,
}

impl Action {
    /// Understands an action by its type, which is also the name of the request that does it alone.
    pub(super) fn parse(kind: &str, data: &Value, place: &str) -> Result<Action, Trouble> {
        let known = |keys: &'static [&'static str]| Args::at(place, data, keys);
        Ok(match kind {
            "block-dirty-bitmap-add" => {
                let args = known(&["node", "name", "granularity", "persistent", "disabled"])?;
                Action::Add {
                    node: args.text("node")?,
                    name: args.text("name")?,
                    granularity: args.number("granularity")?,
                    persistent: args.flag("persistent")?.unwrap_or(false),
                    disabled: args.flag("disabled")?.unwrap_or(false),
                }
            }
            "block-dirty-bitmap-merge" => {
                let args = known(&["node", "target", "bitmaps"])?;
                let node = args.text("node")?;
                let mut sources = Vec::new();
                for (at, source) in args.list("bitmaps")?.iter().enumerate() {
                    sources.push(match source.as_str() {
                        Some(name) => (node.clone(), name.to_owned()),
                        None => {
                            let place = format!("{place}bitmaps[{at}].");
                            let source = Args::at(&place, source, &["node", "name"])?;
                            (source.text("node")?, source.text("name")?)
                        }
                    });
                }
                Action::Merge {
                    target: args.text("target")?,
                    node,
                    sources,
                }
            }
            "blockdev-snapshot" => {
                let args = known(&["node", "overlay"])?;
                Action::Snapshot {
                    node: args.text("node")?,
                    overlay: args.text("overlay")?,
                }
            }
            "blockdev-backup" => Action::Backup(backup(data, place)?),
            "abort" => {
                known(&[])?;
                Action::Abort
            }
            "block-dirty-bitmap-remove"
            | "block-dirty-bitmap-clear"
            | "block-dirty-bitmap-enable"
            | "block-dirty-bitmap-disable" => {
                let args = known(&["node", "name"])?;
                let (node, name) = (args.text("node")?, args.text("name")?);
                match kind {
                    "block-dirty-bitmap-remove" => Action::Remove { node, name },
                    "block-dirty-bitmap-clear" => Action::Clear { node, name },
                    "block-dirty-bitmap-enable" => Action::Enable { node, name },
                    _ => Action::Disable { node, name },
                }
            }
            _ => {
                return Err(Trouble::refused(format!(
                    "Parameter 'type' does not accept value '{kind}'"
                )));
            }
        })
    }

    /// Understands the arguments of `transaction`.
    pub(super) fn parse_all(arguments: &Value) -> Result<Vec<Action>, Trouble> {
        let args = Args::new(arguments, &["actions"])?;
        args.list("actions")?
            .iter()
            .enumerate()
            .map(|(at, action)| {
                let action = Args::at(&format!("actions[{at}]."), action, &["type", "data"])?;
                let place = format!("actions[{at}].data.");
                Action::parse(&action.text("type")?, action.value("data")?, &place)
            })
            .collect()
    }
}

fn backup(data: &Value, place: &str) -> Result<BackupOptions, Trouble> {
    let args = Args::at(
        place,
        data,
        &[
            "device",
            "target",
            "job-id",
            "sync",
            "bitmap",
            "bitmap-mode",
            "filter-node-name",
            "auto-dismiss",
            "auto-finalize",
            "speed",
            "compress",
            "on-source-error",
            "on-target-error",
        ],
    )?;
    let sync = args.text("sync")?;
    Ok(BackupOptions {
        device: args.text("device")?,
        target: args.text("target")?,
        id: args.optional("job-id")?,
        sync: match sync.as_str() {
            "full" => Sync::Full,
            "top" => Sync::Top,
            "incremental" => Sync::Incremental,
            "none" => Sync::None,
            _ => {
                return Err(Trouble::refused(format!(
                    "Parameter 'sync' does not accept value '{sync}'"
                )));
            }
        },
        bitmap: args.optional("bitmap")?,
        bitmap_mode: args.optional("bitmap-mode")?,
        filter: args.optional("filter-node-name")?,
        auto_dismiss: args.flag("auto-dismiss")?.unwrap_or(true),
    })
}

impl Process {
    /// Does one action by itself.
    pub(super) fn act(&mut self, world: &mut World<'_>, action: Action) -> Result<(), Trouble> {
        if let Action::Enable { node, name } = &action {
            self.checked(node, name)?;
        }
        self.transact(world, &[action], None)
    }

    /// Does actions together. With `dies_after` the process dies when it has prepared that many of them.
    ///
    /// What a refused transaction leaves all the same: persistent bitmaps that it was to remove are gone from the disk, and a
    /// bitmap that it could not enable does not record. One that is not there to be enabled kills the process.
    ///
    /// # Errors
    ///
    /// Of the first action that is refused, and that the process died.
    pub(super) fn transact(
        &mut self,
        world: &mut World<'_>,
        actions: &[Action],
        dies_after: Option<usize>,
    ) -> Result<(), Trouble> {
        let before = self.clone();
        for (at, action) in actions.iter().enumerate() {
            if dies_after == Some(at) {
                return Err(Trouble::Died);
            }
            match self.prepare(world, action) {
                Ok(()) => {}
                Err(Trouble::Died) => return Err(Trouble::Died),
                Err(refused) => {
                    *self = before;
                    if let Action::Enable { node, name } = action
                        && let Ok(bitmap) = self.named(node, name)
                    {
                        bitmap.recording = false;
                    }
                    return Err(refused);
                }
            }
        }
        if dies_after.is_some_and(|after| after >= actions.len()) {
            return Err(Trouble::Died);
        }
        for action in actions {
            self.commit(world, action);
        }
        self.end_due_jobs(world.images);
        Ok(())
    }

    fn prepare(&mut self, world: &mut World<'_>, action: &Action) -> Result<(), Trouble> {
        match action {
            Action::Add {
                node,
                name,
                granularity,
                persistent,
                disabled,
            } => {
                let granularity =
                    self.check_new_bitmap(world, node, name, *granularity, *persistent)?;
                let bitmap = Bitmap {
                    persistent: *persistent,
                    recording: !disabled,
                    ..Bitmap::new(Some(name.clone()), granularity)
                };
                if let Some(node) = self.node_mut(node) {
                    node.bitmaps.insert(0, bitmap);
                }
            }
            Action::Remove { node, name } => {
                let bitmap = self.named(node, name)?;
                bitmap.check_free()?;
                bitmap.check_writable()?;
                bitmap.busy = true;
                let persistent = std::mem::take(&mut bitmap.persistent);
                if let Some(image) = self
                    .node(node)
                    .and_then(|node| world.images.get_mut(&node.path))
                    && persistent
                {
                    image.drop_bitmap(name);
                }
            }
            Action::Clear { node, name } => {
                let bitmap = self.named(node, name)?;
                bitmap.check_free()?;
                bitmap.check_writable()?;
                bitmap.check_consistent()?;
                bitmap.granules.clear();
            }
            Action::Enable { node, name } => {
                let Ok(bitmap) = self.named(node, name) else {
                    return Err(Trouble::Died);
                };
                bitmap.check_free()?;
                bitmap.check_consistent()?;
                bitmap.recording = true;
            }
            Action::Disable { node, name } => {
                let bitmap = self.checked(node, name)?;
                bitmap.recording = false;
            }
            Action::Merge {
                node,
                target,
                sources,
            } => self.merge(world, node, target, sources)?,
            Action::Backup(options) => self.begin_backup(world, options.clone())?,
            Action::Snapshot { node, overlay } => self.put_over(node, overlay)?,
            Action::Abort => {
                return Err(Trouble::refused("Transaction aborted using Abort action"));
            }
        }
        Ok(())
    }

    fn commit(&mut self, world: &mut World<'_>, action: &Action) {
        match action {
            Action::Remove { node, name } => {
                if let Some(node) = self.node_mut(node) {
                    node.bitmaps.retain(|bitmap| !bitmap.is_named(name));
                }
            }
            Action::Snapshot { node, .. } => {
                let below = self.node(node).and_then(Node::backing).map(str::to_owned);
                self.reopen(world.images, node, true, below);
            }
            _ => {}
        }
    }

    /// The bitmap of this name on this node.
    fn named(&mut self, node: &str, name: &str) -> Result<&mut Bitmap, Trouble> {
        self.node_mut(node)
            .ok_or_else(|| Trouble::refused(format!("Node '{node}' not found")))?
            .bitmap_mut(name)
            .ok_or_else(|| Trouble::refused(format!("Dirty bitmap '{name}' not found")))
    }

    /// The bitmap of this name on this node, if it can be enabled and disabled.
    fn checked(&mut self, node: &str, name: &str) -> Result<&mut Bitmap, Trouble> {
        let bitmap = self.named(node, name)?;
        bitmap.check_free()?;
        bitmap.check_consistent()?;
        Ok(bitmap)
    }

    /// Checks a bitmap that is to be added, and returns its granularity.
    fn check_new_bitmap(
        &self,
        world: &World<'_>,
        name: &str,
        bitmap: &str,
        granularity: Option<u64>,
        persistent: bool,
    ) -> Result<u64, Trouble> {
        if bitmap.is_empty() {
            return Err(Trouble::refused("Bitmap name cannot be empty"));
        }
        let node = self.existing(name)?;
        let image = world.images.get(&node.path);
        let granularity = granularity
            .unwrap_or_else(|| image.map_or(65536, |image| image.cluster_size.clamp(4096, 65536)));
        if granularity < 512 || !granularity.is_power_of_two() {
            return Err(Trouble::refused(
                "Granularity must be power of 2 and at least 512",
            ));
        }
        if persistent {
            if node.format() != Some(ImageFormat::Qcow2) {
                return Err(Trouble::refused(format!(
                    "Can't store persistent bitmaps to {name}: Operation not supported"
                )));
            }
            let why = if image.is_some_and(|image| image.version < 3) {
                Some("Cannot store dirty bitmaps in qcow2 v2 files".to_owned())
            } else if bitmap.len() > NAME_MAX {
                Some(format!(
                    "Name length exceeds maximum ({NAME_MAX} characters)"
                ))
            } else {
                None
            };
            if let Some(why) = why {
                return Err(Trouble::refused(format!(
                    "Can't make bitmap '{bitmap}' persistent in '{name}': {why}"
                )));
            }
        }
        if node.bitmap(bitmap).is_some() {
            return Err(Trouble::refused(format!("Bitmap already exists: {bitmap}")));
        }
        if bitmap.len() > NAME_MAX {
            return Err(Trouble::refused(format!("Bitmap name too long: {bitmap}")));
        }
        Ok(granularity)
    }

    fn merge(
        &mut self,
        world: &World<'_>,
        node: &str,
        target: &str,
        sources: &[(String, String)],
    ) -> Result<(), Trouble> {
        let size = |node: &Node| world.images.get(&node.path).map_or(0, |image| image.size);
        self.named(node, target)?;
        let target_size = self.node(node).map_or(0, size);
        let mut parts: Vec<(BTreeSet<u64>, u64)> = Vec::new();
        for (source_node, source_name) in sources {
            let source = self.named(source_node, source_name)?.clone();
            let into = self.named(node, target)?;
            into.check_free()?;
            into.check_writable()?;
            into.check_consistent()?;
            source.check_free()?;
            source.check_consistent()?;
            let source_size = self.node(source_node).map_or(0, size);
            if source_size != target_size {
                return Err(Trouble::refused(format!(
                    "Bitmaps are of different sizes (destination size is {target_size}, source size is {source_size}) \
                     and can't be merged"
                )));
            }
            parts.push((source.granules, source.granularity));
        }
        let into = self.named(node, target)?;
        for (granules, granularity) in parts {
            into.merge(&granules, granularity);
        }
        Ok(())
    }

    /// Hangs an overlay over a node, so that what wrote to the node writes to the overlay.
    fn put_over(&mut self, base: &str, overlay: &str) -> Result<(), Trouble> {
        self.existing(base)?;
        self.check_base(base)?;
        let over = self.existing(overlay)?;
        let overlay_path = over.path.clone();
        let in_use = self.devices.iter().any(|device| device.root == overlay)
            || self.exports.iter().any(|export| export.node == overlay)
            || self.users(overlay).next().is_some()
            || base == overlay;
        if in_use {
            return Err(Trouble::refused("The overlay is already in use"));
        }
        if over.backing().is_some() {
            return Err(Trouble::refused("The overlay already has a backing image"));
        }
        match self.node_mut(overlay).map(|node| &mut node.kind) {
            Some(NodeKind::Format { backing, .. }) => *backing = Some(base.to_owned()),
            _ => return Err(no_device(overlay)),
        }
        self.move_roots(base, overlay);
        for node in &mut self.nodes {
            if let NodeKind::Filter { below, .. } = &mut node.kind
                && below == base
            {
                overlay.clone_into(below);
                node.path.clone_from(&overlay_path);
            }
        }
        Ok(())
    }
}
