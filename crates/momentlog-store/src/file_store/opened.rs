//! Files that a writer keeps open, with what it knows of them.

use std::io;
use std::ops::Deref;

use crate::Seq;
use crate::disk::{DiskFile, FileId};

/// How much of the last frame a writer remembers, in bytes, and how much it reads at once to compare.
const TAIL_LEN_MAX: usize = 64 << 10;

/// A file that is open, and which one it is, whatever its name is now.
#[derive(Debug)]
pub(super) struct Opened {
    file: Box<dyn DiskFile>,
    pub(super) id: FileId,
}

impl Opened {
    pub(super) fn new(file: Box<dyn DiskFile>) -> io::Result<Opened> {
        let id = file.id()?;
        Ok(Opened { file, id })
    }
}

impl Deref for Opened {
    type Target = dyn DiskFile;

    fn deref(&self) -> &Self::Target {
        self.file.as_ref()
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) first: Seq,
    pub(super) file: Opened,
    pub(super) capacity: u64,
    /// Up to where the file has been written, with zeros at least.
    pub(super) filled: u64,
    /// The bytes that were put here last, and their offset: the end of the log. Until something is written they are none.
    tail: Vec<u8>,
    tail_at: u64,
}

impl OpenSegment {
    pub(super) fn new(first: Seq, file: Opened, capacity: u64, filled: u64) -> OpenSegment {
        OpenSegment {
            first,
            file,
            capacity,
            filled,
            tail: Vec::new(),
            tail_at: 0,
        }
    }

    /// Takes back what a write has left behind this offset, durably.
    pub(super) fn take_back(&mut self, offset: u64) -> io::Result<()> {
        self.file.set_len(offset)?;
        self.filled = offset;
        self.file.sync()
    }

    /// Remembers frames that were written at this offset, besides what was remembered before.
    pub(super) fn remember(&mut self, offset: u64, frames: &[u8]) {
        if !self.remembers_up_to(offset) {
            self.tail.clear();
            self.tail_at = offset;
        }
        self.tail.extend_from_slice(frames);
    }

    /// Forgets what stands before the frame at this offset, and the beginning of a long one.
    pub(super) fn forget_before(&mut self, offset: u64) {
        let whole = usize::try_from(offset.saturating_sub(self.tail_at)).unwrap_or(usize::MAX);
        let needless = whole.max(self.tail.len().saturating_sub(TAIL_LEN_MAX));
        let needless = needless.min(self.tail.len());
        self.tail.drain(..needless);
        self.tail.shrink_to(TAIL_LEN_MAX);
        self.tail_at += needless as u64;
    }

    /// Whether the bytes before this offset are remembered, and none behind it.
    pub(super) fn remembers_up_to(&self, offset: u64) -> bool {
        !self.tail.is_empty() && self.tail_at + self.tail.len() as u64 == offset
    }

    /// Whether the bytes before this offset are remembered, as far as they are compared.
    pub(super) fn remembers_before(&self, offset: u64) -> bool {
        !self.tail.is_empty() && self.tail_at < offset
    }

    /// Whether all that is remembered stands in the file.
    pub(super) fn stands(&self) -> io::Result<bool> {
        let mut offset = self.tail_at;
        let mut found = vec![0; self.tail.len().min(TAIL_LEN_MAX)];
        for written in self.tail.chunks(TAIL_LEN_MAX) {
            let found = &mut found[..written.len()];
            if self.file.read_at(offset, found)? < written.len() || found != written {
                return Ok(false);
            }
            offset += written.len() as u64;
        }
        Ok(true)
    }
}
