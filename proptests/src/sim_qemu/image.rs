//! Image files as they lie on the disk.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one cluster: the unit in which an image holds data.
pub const CLUSTER_LEN: u64 = 65536;

/// Bytes of one sector: the unit of a write. All its bytes are the same here.
pub const SECTOR_LEN: u64 = 512;

const SECTORS: usize = 128;
const _: () = assert!(CLUSTER_LEN == SECTOR_LEN * SECTORS as u64);

/// The content of one cluster: the byte that fills each of its sectors.
pub type Cluster = [u8; SECTORS];

/// What reads as zeros.
pub(super) const ZEROS: Cluster = [0; SECTORS];

/// All images of a host, by path.
pub(super) type Images = BTreeMap<String, SimImage>;

/// How an image is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Without backing file or bitmaps. An empty file is one of these, of 0 bytes.
    Raw,
    /// With both.
    Qcow2,
}

impl ImageFormat {
    pub(super) fn name(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        }
    }
}

/// One image file as a killed hypervisor leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimImage {
    /// How it is stored.
    pub format: ImageFormat,
    /// Bytes that a guest sees.
    pub size: u64,
    /// The version of qcow2: 2 cannot store bitmaps, 3 can.
    pub version: u8,
    /// The cluster size that the image names. Data are kept in clusters of [`CLUSTER_LEN`] all the same.
    pub cluster_size: u64,
    /// Absolute path of the image below, which is read where this one has no cluster.
    pub backing: Option<String>,
    /// The data, by number of the cluster.
    pub clusters: BTreeMap<u64, Cluster>,
    /// The stored bitmaps. Their order means nothing.
    pub bitmaps: Vec<StoredBitmap>,
}

/// A bitmap that is stored in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Its name.
    pub name: String,
    /// Bytes that one bit stands for.
    pub granularity: u64,
    /// The flag `auto`: it records once the image is open.
    pub auto: bool,
    /// The flag `in-use`: a hypervisor has it in memory, or had it when it was killed.
    pub in_use: bool,
    /// Which bits are set.
    pub granules: BTreeSet<u64>,
}

impl SimImage {
    /// Returns an empty raw image of `size` bytes.
    pub fn raw(size: u64) -> SimImage {
        SimImage {
            format: ImageFormat::Raw,
            size,
            version: 3,
            cluster_size: CLUSTER_LEN,
            backing: None,
            clusters: BTreeMap::new(),
            bitmaps: Vec::new(),
        }
    }

    /// Returns an empty qcow2 image of `size` bytes.
    pub fn qcow2(size: u64) -> SimImage {
        SimImage {
            format: ImageFormat::Qcow2,
            ..SimImage::raw(size)
        }
    }

    /// Returns the image over the one at `path`.
    #[must_use]
    pub fn over(self, path: impl Into<String>) -> SimImage {
        SimImage {
            backing: Some(path.into()),
            ..self
        }
    }

    /// The stored bitmap of this name.
    pub fn bitmap(&self, name: &str) -> Option<&StoredBitmap> {
        self.bitmaps.iter().find(|bitmap| bitmap.name == name)
    }

    pub(super) fn drop_bitmap(&mut self, name: &str) {
        self.bitmaps.retain(|bitmap| bitmap.name != name);
    }

    /// Marks all stored bitmaps as in use: from opening until they are stored again, they miss writes.
    pub(super) fn mark_in_use(&mut self) {
        for bitmap in &mut self.bitmaps {
            bitmap.in_use = true;
        }
    }
}

/// The numbers of the parts of `unit` bytes that `length` bytes at `offset` touch.
pub(super) fn touched(offset: u64, length: u64, unit: u64) -> std::ops::Range<u64> {
    match length {
        0 => 0..0,
        _ => offset / unit..offset.saturating_add(length - 1) / unit + 1,
    }
}
