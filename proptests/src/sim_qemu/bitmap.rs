//! Dirty bitmaps in the memory of a hypervisor.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::image::{StoredBitmap, touched};
use super::requests::Trouble;

/// A dirty bitmap of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "QEMU tells each of them by itself"
)]
pub(super) struct Bitmap {
    /// Those of jobs have none.
    pub(super) name: Option<String>,
    pub(super) granularity: u64,
    pub(super) granules: BTreeSet<u64>,
    pub(super) recording: bool,
    pub(super) persistent: bool,
    /// A job, an export or an earlier action of the same transaction has it.
    pub(super) busy: bool,
    /// It is stored and may not be changed, but for being disabled, which is not stored.
    pub(super) read_only: bool,
    /// A killed hypervisor left it: it misses writes, and can only be removed.
    pub(super) inconsistent: bool,
    /// The job that it goes with.
    pub(super) job: Option<String>,
}

impl Bitmap {
    pub(super) fn new(name: Option<String>, granularity: u64) -> Bitmap {
        Bitmap {
            name,
            granularity,
            granules: BTreeSet::new(),
            recording: false,
            persistent: false,
            busy: false,
            read_only: false,
            inconsistent: false,
            job: None,
        }
    }

    /// Returns the bitmap that opening an image makes of a stored one.
    pub(super) fn load(stored: &StoredBitmap, read_only: bool) -> Bitmap {
        Bitmap {
            recording: stored.auto && !stored.in_use,
            granules: if stored.in_use {
                BTreeSet::new()
            } else {
                stored.granules.clone()
            },
            persistent: true,
            inconsistent: stored.in_use,
            read_only,
            ..Bitmap::new(Some(stored.name.clone()), stored.granularity)
        }
    }

    /// Returns what is to be stored of it, unless it cannot be stored or is stored already.
    pub(super) fn stored(&self) -> Option<StoredBitmap> {
        let name = self.name.clone()?;
        (self.persistent && !self.inconsistent && !self.read_only).then(|| StoredBitmap {
            name,
            granularity: self.granularity,
            auto: self.recording,
            in_use: false,
            granules: self.granules.clone(),
        })
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    pub(super) fn mark(&mut self, offset: u64, length: u64) {
        self.granules
            .extend(touched(offset, length, self.granularity));
    }

    /// Adds what another bitmap of the same size says, whatever its granularity.
    pub(super) fn merge(&mut self, granules: &BTreeSet<u64>, granularity: u64) {
        for granule in granules {
            self.mark(granule * granularity, granularity);
        }
    }

    /// Bytes that it says were written.
    pub(super) fn count(&self) -> u64 {
        self.granules.len() as u64 * self.granularity
    }

    pub(super) fn check_free(&self) -> Result<(), Trouble> {
        self.refuse_if(
            self.busy,
            "is currently in use by another operation and cannot be used",
        )
    }

    pub(super) fn check_writable(&self) -> Result<(), Trouble> {
        self.refuse_if(self.read_only, "is readonly and cannot be modified")
    }

    pub(super) fn check_consistent(&self) -> Result<(), Trouble> {
        self.refuse_if(self.inconsistent, "is inconsistent and cannot be used")
    }

    fn refuse_if(&self, refused: bool, why: &str) -> Result<(), Trouble> {
        if !refused {
            return Ok(());
        }
        let name = self.name.as_deref().unwrap_or_default();
        Err(Trouble::refused(format!("Bitmap '{name}' {why}")))
    }

    /// Returns it as `query-named-block-nodes` tells it.
    pub(super) fn reply(&self) -> Value {
        let mut reply = json!({
            "recording": self.recording,
            "persistent": self.persistent,
            "busy": self.busy,
            "granularity": self.granularity,
            "count": self.count(),
        });
        if let Some(name) = &self.name {
            reply["name"] = json!(name);
        }
        if self.inconsistent {
            reply["inconsistent"] = json!(true);
        }
        reply
    }
}
