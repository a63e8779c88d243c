//! One run of a hypervisor: its nodes, and what goes between them and the images.

use std::collections::BTreeMap;

use super::bitmap::Bitmap;
use super::image::{
    CLUSTER_LEN, Cluster, ImageFormat, Images, SECTOR_LEN, SimImage, ZEROS, touched,
};
use super::jobs::{Export, Job};
use super::requests::Trouble;

/// What a process works on.
pub(super) struct World<'a> {
    pub(super) images: &'a mut Images,
    /// Images that other processes have open, and whether they write them.
    pub(super) locked: &'a [(String, bool)],
    /// Requests that a job which begins now takes to its end.
    pub(super) job_requests: u32,
    /// The error with which jobs that begin now end.
    pub(super) job_error: Option<String>,
}

/// What a hypervisor keeps in memory. All of it is gone when the hypervisor is killed.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// It is a `qemu-storage-daemon`, which has no devices to ask about.
    pub(super) daemon: bool,
    pub(super) name: Option<String>,
    pub(super) uuid: String,
    pub(super) paused: bool,
    /// Newest first.
    pub(super) nodes: Vec<Node>,
    pub(super) devices: Vec<Device>,
    /// Newest first.
    pub(super) jobs: Vec<Job>,
    pub(super) nbd_server: bool,
    pub(super) exports: Vec<Export>,
    pub(super) names_made: u32,
}

/// What writes to a node: a device of the guest, or a writable export of a storage daemon.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) root: String,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: String,
    /// The image's file.
    pub(super) path: String,
    pub(super) kind: NodeKind,
    pub(super) read_only: bool,
    /// It was added by its own name, not as a part of another, so it may be deleted.
    pub(super) owned: bool,
    /// Newest first.
    pub(super) bitmaps: Vec<Bitmap>,
    /// Clusters of which the tables on the disk do not know yet.
    pub(super) pending: BTreeMap<u64, Cluster>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    /// A file.
    Protocol,
    /// An image in a file.
    Format {
        format: ImageFormat,
        file: String,
        backing: Option<String>,
    },
    /// A job's `copy-before-write` over a node.
    Filter { below: String, job: String },
}

/// How an image is to be opened.
pub(super) struct Opening {
    pub(super) node: String,
    pub(super) format: ImageFormat,
    pub(super) file: FileNode,
    pub(super) backing: BackingNode,
    pub(super) read_only: bool,
    pub(super) owned: bool,
}

pub(super) enum FileNode {
    /// One that is there.
    Named(String),
    /// One that is opened with the image, by its path.
    Inline { node: Option<String>, path: String },
}

pub(super) enum BackingNode {
    /// As the image says.
    Image,
    None,
    Named(String),
}

impl Process {
    pub(super) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    pub(super) fn node_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name == name)
    }

    /// The node of this name.
    ///
    /// # Errors
    ///
    /// As most requests refuse a name that is not there.
    pub(super) fn existing(&self, name: &str) -> Result<&Node, Trouble> {
        self.node(name).ok_or_else(|| no_device(name))
    }

    pub(super) fn made_name(&mut self) -> String {
        self.names_made += 1;
        format!("#block{:03}", 100 + self.names_made)
    }

    /// Adds a node for a file.
    pub(super) fn open_file(
        &mut self,
        world: &World<'_>,
        name: Option<String>,
        path: &str,
        owned: bool,
    ) -> Result<String, Trouble> {
        let name = self.free_name(name)?;
        if !world.images.contains_key(path) {
            return Err(Trouble::refused(format!(
                "Could not open '{path}': No such file or directory"
            )));
        }
        self.nodes.insert(
            0,
            Node {
                name: name.clone(),
                path: path.to_owned(),
                kind: NodeKind::Protocol,
                read_only: false,
                owned,
                bitmaps: Vec::new(),
                pending: BTreeMap::new(),
            },
        );
        Ok(name)
    }

    fn free_name(&mut self, name: Option<String>) -> Result<String, Trouble> {
        let name = match name {
            Some(name) => name,
            None => self.made_name(),
        };
        if name.len() > 31 {
            return Err(Trouble::refused("Node name too long"));
        }
        match self.node(&name) {
            Some(_) => Err(Trouble::refused(format!(
                "Duplicate nodes with node-name='{name}'"
            ))),
            None => Ok(name),
        }
    }

    /// Opens an image: adds its node, and the nodes that are opened with it.
    ///
    /// # Errors
    ///
    /// If any of it is refused; the caller then takes back what was added.
    pub(super) fn open(&mut self, world: &mut World<'_>, opening: Opening) -> Result<(), Trouble> {
        let name = self.free_name(Some(opening.node))?;
        let file = match opening.file {
            FileNode::Named(file) => {
                self.existing(&file)?;
                self.check_alone(&file, &name)?;
                file
            }
            FileNode::Inline { node, path } => self.open_file(world, node, &path, false)?,
        };
        let path = self.existing(&file)?.path.clone();
        self.check_locks(world, &path, opening.format, opening.read_only)?;
        let image = world.images.get(&path).ok_or_else(|| no_device(&file))?;
        if opening.format == ImageFormat::Qcow2 && image.format != ImageFormat::Qcow2 {
            return Err(Trouble::refused("Image is not in qcow2 format"));
        }
        let backing = match (opening.backing, image.backing.clone()) {
            (BackingNode::Named(backing), _) => {
                self.existing(&backing)?;
                Some(backing)
            }
            (BackingNode::Image, Some(path)) => Some(self.open_backing(world, &path)?),
            (BackingNode::Image, None) | (BackingNode::None, _) => None,
        };
        let image = world
            .images
            .get_mut(&path)
            .ok_or_else(|| no_device(&file))?;
        let mut bitmaps = Vec::new();
        if opening.format == ImageFormat::Qcow2 {
            for stored in &image.bitmaps {
                bitmaps.insert(0, Bitmap::load(stored, opening.read_only));
            }
            if !opening.read_only {
                image.mark_in_use();
            }
        }
        if let Some(file) = self.node_mut(&file) {
            file.read_only = opening.read_only;
        }
        self.nodes.insert(
            0,
            Node {
                name,
                path,
                kind: NodeKind::Format {
                    format: opening.format,
                    file,
                    backing,
                },
                read_only: opening.read_only,
                owned: opening.owned,
                bitmaps,
                pending: BTreeMap::new(),
            },
        );
        Ok(())
    }

    fn open_backing(&mut self, world: &mut World<'_>, path: &str) -> Result<String, Trouble> {
        let Some(image) = world.images.get(path) else {
            return Err(Trouble::refused(format!(
                "Could not open backing file: Could not open '{path}': No such file or directory"
            )));
        };
        let node = self.made_name();
        self.open(
            world,
            Opening {
                node: node.clone(),
                format: image.format,
                file: FileNode::Inline {
                    node: None,
                    path: path.to_owned(),
                },
                backing: BackingNode::Image,
                read_only: true,
                owned: false,
            },
        )?;
        Ok(node)
    }

    /// Opens a node read-only or read-write that is open already, and hangs it over another backing node.
    pub(super) fn reopen(
        &mut self,
        images: &mut Images,
        name: &str,
        read_only: bool,
        over: Option<String>,
    ) {
        let Some(node) = self.node_mut(name) else {
            return;
        };
        let NodeKind::Format { file, backing, .. } = &mut node.kind else {
            return;
        };
        *backing = over;
        let file = file.clone();
        if let Some(image) = images.get_mut(&node.path) {
            node.flush(image);
            match (node.read_only, read_only) {
                (false, true) => node.store_bitmaps(image),
                (_, false) => node.take_bitmaps(image),
                (true, true) => {}
            }
        }
        node.read_only = read_only;
        if let Some(file) = self.node_mut(&file) {
            file.read_only = read_only;
        }
    }

    /// Closes a node and the nodes that were opened with it.
    pub(super) fn close(&mut self, images: &mut Images, name: &str) {
        let Some(at) = self.nodes.iter().position(|node| node.name == name) else {
            return;
        };
        let mut node = self.nodes.remove(at);
        let NodeKind::Format { file, backing, .. } = node.kind.clone() else {
            return;
        };
        if let Some(image) = images.get_mut(&node.path)
            && !node.read_only
        {
            node.flush(image);
            node.store_bitmaps(image);
        }
        for part in backing.into_iter().chain([file]) {
            let kept = self.node(&part).is_none_or(|part| part.owned);
            if !kept && self.users(&part).next().is_none() {
                self.close(images, &part);
            }
        }
    }

    /// The nodes that use this one.
    pub(super) fn users<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> + 'a {
        self.nodes.iter().filter(move |node| match &node.kind {
            NodeKind::Protocol => false,
            NodeKind::Format { file, backing, .. } => {
                file == name || backing.as_deref() == Some(name)
            }
            NodeKind::Filter { below, .. } => below == name,
        })
    }

    /// Ends in order: running jobs are cancelled, and everything is stored.
    pub(super) fn end(&mut self, images: &mut Images) {
        self.cancel_all();
        for node in &mut self.nodes {
            if let Some(image) = images.get_mut(&node.path)
                && matches!(node.kind, NodeKind::Format { .. })
                && !node.read_only
            {
                node.flush(image);
                node.store_bitmaps(image);
            }
        }
        self.nodes.clear();
    }

    /// The cluster as a reader of this node sees it; absent if no image of the chain has it.
    pub(super) fn read(&self, images: &Images, name: &str, cluster: u64) -> Option<Cluster> {
        let mut name = name;
        // Bounded, as a chain cannot be longer than there are nodes.
        for _ in 0..=self.nodes.len() {
            let node = self.node(name)?;
            let own = images.get(&node.path)?.clusters.get(&cluster);
            name = match &node.kind {
                NodeKind::Protocol => return own.copied(),
                NodeKind::Filter { below, .. } => below,
                NodeKind::Format { backing, .. } => {
                    if let Some(data) = node.pending.get(&cluster).or(own) {
                        return Some(*data);
                    }
                    backing.as_deref()?
                }
            };
        }
        None
    }

    /// Writes as a device does: through filters, and into every bitmap that records.
    ///
    /// # Errors
    ///
    /// If the node cannot be written, or the write is not of whole sectors within it.
    pub(super) fn write(
        &mut self,
        images: &mut Images,
        root: &str,
        pattern: u8,
        offset: u64,
        length: u64,
    ) -> Result<(), Trouble> {
        let mut name = root.to_owned();
        while let Some(Node {
            kind: NodeKind::Filter { below, job },
            ..
        }) = self.node(&name)
        {
            let (below, job) = (below.clone(), job.clone());
            let clusters = touched(offset, length, CLUSTER_LEN);
            self.copy_before_write(images, &job, clusters);
            name = below;
        }
        let node = self.existing(&name)?;
        let size = images.get(&node.path).map_or(0, |image| image.size);
        let end = offset.saturating_add(length);
        if node.read_only {
            return Err(Trouble::refused("Block node is read-only"));
        }
        if end > size || !(offset | length).is_multiple_of(SECTOR_LEN) {
            return Err(Trouble::refused("write failed: Input/output error"));
        }
        if node.bitmaps.iter().any(|bitmap| bitmap.read_only) {
            return Err(Trouble::refused("write failed: Operation not permitted"));
        }
        for cluster in touched(offset, length, CLUSTER_LEN) {
            let mut data = self.read(images, &name, cluster).unwrap_or(ZEROS);
            for (sector, byte) in (cluster * data.len() as u64..).zip(&mut data) {
                if (offset / SECTOR_LEN..end / SECTOR_LEN).contains(&sector) {
                    *byte = pattern;
                }
            }
            self.put(images, &name, cluster, data);
        }
        if let Some(node) = self.node_mut(&name) {
            for bitmap in node.bitmaps.iter_mut().filter(|bitmap| bitmap.recording) {
                bitmap.mark(offset, length);
            }
        }
        Ok(())
    }

    /// Puts one cluster into an image: in place if its tables know the cluster, else into memory first.
    pub(super) fn put(&mut self, images: &mut Images, name: &str, cluster: u64, data: Cluster) {
        let Some(node) = self.node_mut(name) else {
            return;
        };
        let Some(image) = images.get_mut(&node.path) else {
            return;
        };
        let in_place = image.format == ImageFormat::Raw || image.clusters.contains_key(&cluster);
        let clusters = if in_place {
            &mut image.clusters
        } else {
            &mut node.pending
        };
        clusters.insert(cluster, data);
    }

    pub(super) fn flush(&mut self, images: &mut Images, name: &str) {
        if let Some(node) = self.node_mut(name)
            && let Some(image) = images.get_mut(&node.path)
        {
            node.flush(image);
        }
    }

    /// Stores what a node has in memory.
    pub(super) fn store(&mut self, images: &mut Images, name: &str) {
        if let Some(node) = self.node_mut(name)
            && let Some(image) = images.get_mut(&node.path)
        {
            node.flush(image);
            node.store_bitmaps(image);
        }
    }

    /// The node with the image that a device writes to, below filters.
    pub(super) fn below_filters<'a>(&'a self, root: &'a str) -> &'a str {
        let mut name = root;
        while let Some(NodeKind::Filter { below, .. }) = self.node(name).map(|node| &node.kind) {
            name = below;
        }
        name
    }

    /// Lets all that wrote to or read from one node by itself use another one.
    pub(super) fn move_roots(&mut self, from: &str, to: &str) {
        for device in &mut self.devices {
            if device.root == from {
                to.clone_into(&mut device.root);
            }
        }
        for export in &mut self.exports {
            if export.node == from {
                to.clone_into(&mut export.node);
            }
        }
    }
}

impl Node {
    /// The format of its image, if it is an image's node.
    pub(super) fn format(&self) -> Option<ImageFormat> {
        match self.kind {
            NodeKind::Format { format, .. } => Some(format),
            NodeKind::Protocol | NodeKind::Filter { .. } => None,
        }
    }

    pub(super) fn backing(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Format { backing, .. } => backing.as_deref(),
            NodeKind::Protocol | NodeKind::Filter { .. } => None,
        }
    }

    pub(super) fn bitmap(&self, name: &str) -> Option<&Bitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.is_named(name))
    }

    pub(super) fn bitmap_mut(&mut self, name: &str) -> Option<&mut Bitmap> {
        self.bitmaps.iter_mut().find(|bitmap| bitmap.is_named(name))
    }

    pub(super) fn flush(&mut self, image: &mut SimImage) {
        image.clusters.append(&mut self.pending);
    }

    /// Marks what is stored as in use again, and lets those bitmaps be changed.
    fn take_bitmaps(&mut self, image: &mut SimImage) {
        image.mark_in_use();
        for bitmap in &mut self.bitmaps {
            bitmap.read_only &= !image
                .bitmaps
                .iter()
                .any(|stored| bitmap.is_named(&stored.name));
        }
    }

    /// Stores every persistent bitmap, and lets them no longer be changed. Those that are inconsistent stay in the image as
    /// they are.
    pub(super) fn store_bitmaps(&mut self, image: &mut SimImage) {
        for bitmap in self.bitmaps.iter_mut().filter(|bitmap| bitmap.persistent) {
            if let Some(stored) = bitmap.stored() {
                image.drop_bitmap(&stored.name);
                image.bitmaps.push(stored);
            }
            bitmap.read_only = true;
        }
    }
}

pub(super) fn no_device(name: &str) -> Trouble {
    Trouble::refused(format!(
        "Cannot find device='{name}' nor node-name='{name}'"
    ))
}
