//! The hypervisor's nodes, as it lists them, and the layers of each disk.
//!
//! A layer is found by its file, among the nodes of an image format. The device's own node does not tell: while a job runs,
//! it is the job's filter.

use momentlog::ErrorCode;
use momentlog::driver::{Bitmap, Fault, Layer};
use serde::Deserialize;
use serde_json::Value;

/// Most images of one disk.
const LAYERS_MAX: usize = 1000;

/// One node, as `query-named-block-nodes` tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Node {
    #[serde(rename = "node-name", default)]
    pub(crate) name: String,
    #[serde(rename = "drv")]
    pub(crate) driver: String,
    #[serde(rename = "ro", default)]
    read_only: bool,
    #[serde(default)]
    pub(crate) file: String,
    #[serde(default)]
    image: Option<Image>,
    #[serde(rename = "dirty-bitmaps", default)]
    pub(crate) bitmaps: Vec<NodeBitmap>,
}

/// What a node says of its image, also nested.
#[derive(Debug, Deserialize)]
pub(crate) struct Image {
    filename: String,
    #[serde(rename = "virtual-size", default)]
    size: u64,
    #[serde(rename = "cluster-size", default)]
    cluster: Option<u64>,
    #[serde(rename = "full-backing-filename", default)]
    backing: Option<String>,
    #[serde(rename = "backing-filename", default)]
    backing_as_given: Option<String>,
    #[serde(rename = "backing-image", default)]
    below: Option<Box<Image>>,
    #[serde(rename = "format-specific", default)]
    specific: Option<Value>,
}

/// A bitmap of a node. One of a running job may have no name.
#[derive(Debug, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is what the hypervisor says of a bitmap"
)]
pub(crate) struct NodeBitmap {
    #[serde(default)]
    pub(crate) name: Option<String>,
    count: u64,
    granularity: u64,
    recording: bool,
    #[serde(default)]
    busy: bool,
    persistent: bool,
    #[serde(default)]
    inconsistent: bool,
}

/// One device, as `query-block` tells it.
#[derive(Debug, Deserialize)]
struct Device {
    #[serde(default)]
    inserted: Option<Inserted>,
}

#[derive(Debug, Deserialize)]
struct Inserted {
    #[serde(default)]
    file: String,
    #[serde(default)]
    image: Option<Image>,
}

/// All nodes, and the chains of files below the devices.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    chains: Vec<Vec<String>>,
}

/// An image of a disk, with the nodes that it is made of.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) layer: Layer,
    /// The node of the file itself.
    pub(crate) storage: String,
}

impl Graph {
    /// Reads the replies of `query-named-block-nodes` and `query-block`.
    pub(crate) fn read(nodes: Value, devices: Value) -> Result<Graph, Fault> {
        let bad = |what: &str, error: serde_json::Error| {
            let detail = format!("the hypervisor's answer to `{what}` makes no sense: {error}");
            Fault::refused(ErrorCode::InternalError, detail)
        };
        let nodes: Vec<Node> =
            serde_json::from_value(nodes).map_err(|error| bad("query-named-block-nodes", error))?;
        let devices: Vec<Device> =
            serde_json::from_value(devices).map_err(|error| bad("query-block", error))?;
        let chains = devices.into_iter().filter_map(|device| device.inserted);
        let chains = chains.map(Inserted::chain).collect();
        Ok(Graph { nodes, chains })
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the images of the disk whose definition names this file, from the top down; none if the hypervisor does
    /// not have it.
    pub(crate) fn layers(&self, source: &str) -> Result<Vec<Placed>, Fault> {
        let files = match self.chain_of(source)? {
            Some(files) => files,
            None => self.chain_without_device(source)?,
        };
        files.iter().map(|file| self.placed(file)).collect()
    }

    /// The files of the device that has this file: as its top image, or else in one chain only.
    fn chain_of(&self, source: &str) -> Result<Option<Vec<String>>, Fault> {
        let tops = |chain: &&Vec<String>| chain.first().is_some_and(|top| top == source);
        let has = |chain: &&Vec<String>| chain.iter().any(|file| file == source);
        let mut found: Vec<&Vec<String>> = self.chains.iter().filter(tops).collect();
        if found.is_empty() {
            found = self.chains.iter().filter(has).collect();
        }
        match found[..] {
            [] => Ok(None),
            [chain] => Ok(Some(chain.clone())),
            _ => Err(Fault::refused(
                ErrorCode::ConfigUnsupported,
                format!("several devices of the hypervisor use the image '{source}'"),
            )),
        }
    }

    /// As [`chain_of`](Self::chain_of), of a hypervisor without devices: the nodes tell what lies above and below.
    fn chain_without_device(&self, source: &str) -> Result<Vec<String>, Fault> {
        let formats = || self.nodes.iter().filter(|node| node.is_format());
        let mut files: Vec<String> = Vec::new();
        if !formats().any(|node| node.is_of(source)) {
            return Ok(files);
        }
        files.push(source.to_owned());
        while let Some(below) = self
            .node_of(&files[files.len() - 1])?
            .and_then(Node::backing)
            && files.len() < LAYERS_MAX
        {
            files.push(below.to_owned());
        }
        loop {
            let above = |node: &&Node| {
                node.backing() == Some(&files[0])
                    && !node.name.starts_with(crate::names::TARGET)
                    // One that is above no disk names its image by its options.
                    && !node.filename().is_some_and(|file| file.starts_with("json:"))
            };
            let mut above = formats().filter(above).filter_map(Node::filename);
            match (above.next(), above.next()) {
                (Some(file), None) if files.len() < LAYERS_MAX => files.insert(0, file.to_owned()),
                _ => return Ok(files),
            }
        }
    }

    /// Returns the image in this file.
    fn placed(&self, file: &str) -> Result<Placed, Fault> {
        let node = self.node_of(file)?.ok_or_else(|| {
            let detail = format!("the hypervisor has no node for the image '{file}'");
            Fault::refused(ErrorCode::ConfigUnsupported, detail)
        })?;
        let image = node.image.as_ref();
        let compat = image
            .and_then(|image| image.specific.as_ref())
            .and_then(|specific| specific.pointer("/data/compat"));
        let is_old = compat.and_then(Value::as_str) == Some("0.10");
        let storage = self
            .nodes
            .iter()
            .find(|other| !other.is_format() && other.file == node.file && !other.is_filter());
        Ok(Placed {
            layer: Layer {
                image: file.into(),
                node: node.name.as_str().into(),
                format: node.driver.as_str().into(),
                keeps_bitmaps: node.driver == "qcow2" && !is_old,
                read_only: node.read_only,
                empty: false,
                size: image.map_or(0, |image| image.size),
                cluster: image.and_then(|image| image.cluster),
                bitmaps: node.bitmaps.iter().filter_map(NodeBitmap::named).collect(),
            },
            storage: storage.map_or_else(String::new, |node| node.name.clone()),
        })
    }

    /// The node of the image in this file.
    fn node_of(&self, file: &str) -> Result<Option<&Node>, Fault> {
        let is = |node: &&Node| node.is_format() && node.is_of(file);
        let mut found = self.nodes.iter().filter(is);
        match (found.next(), found.next()) {
            (found, None) => Ok(found),
            (_, Some(_)) => Err(Fault::refused(
                ErrorCode::ConfigUnsupported,
                format!("the hypervisor has two nodes for the image '{file}'"),
            )),
        }
    }

    /// The node of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

impl Inserted {
    /// The files of the images, from the top down.
    fn chain(self) -> Vec<String> {
        let mut files = vec![self.file];
        let mut image = self.image;
        while let Some(here) = image {
            if files.len() >= LAYERS_MAX {
                break;
            }
            if files.last() != Some(&here.filename) {
                // What a filter calls its file is the file below it.
                if files.len() > 1 || here.below.is_some() || files[0].is_empty() {
                    files.push(here.filename);
                }
            }
            image = here.below.map(|below| *below);
        }
        files.retain(|file| !file.is_empty());
        files.dedup();
        files
    }
}

impl Node {
    /// Whether it reads an image format, and is no file, filter or other layer.
    fn is_format(&self) -> bool {
        const FORMATS: [&str; 12] = [
            "raw",
            "qcow2",
            "qcow",
            "qed",
            "vmdk",
            "vdi",
            "vhdx",
            "vpc",
            "luks",
            "parallels",
            "bochs",
            "cloop",
        ];
        FORMATS.contains(&&*self.driver)
    }

    fn is_filter(&self) -> bool {
        const FILTERS: [&str; 6] = [
            "copy-before-write",
            "backup-top",
            "copy-on-read",
            "throttle",
            "preallocate",
            "snapshot-access",
        ];
        FILTERS.contains(&&*self.driver)
    }

    fn is_of(&self, file: &str) -> bool {
        self.filename() == Some(file)
    }

    fn filename(&self) -> Option<&str> {
        match &self.image {
            Some(image) => Some(&image.filename),
            None => Some(&self.file)
                .filter(|file| !file.is_empty())
                .map(String::as_str),
        }
    }

    /// The file of the image below.
    fn backing(&self) -> Option<&str> {
        let image = self.image.as_ref()?;
        image
            .backing
            .as_deref()
            .or(image.backing_as_given.as_deref())
    }
}

impl Node {
    /// Bytes that the bitmap of this name says are dirty.
    pub(crate) fn count_of(&self, name: &str) -> Option<u64> {
        let mut bitmaps = self.bitmaps.iter();
        let found = bitmaps.find(|bitmap| bitmap.name.as_deref() == Some(name));
        found.map(|bitmap| bitmap.count)
    }
}

impl NodeBitmap {
    fn named(&self) -> Option<Bitmap> {
        let name = self.name.as_deref().filter(|name| !name.is_empty())?;
        Some(Bitmap {
            name: name.into(),
            count: Some(self.count),
            granularity: self.granularity,
            recording: self.recording,
            persistent: self.persistent,
            inconsistent: self.inconsistent,
            busy: self.busy,
        })
    }
}
