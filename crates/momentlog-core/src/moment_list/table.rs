//! Rows by slot, of which versions share what they have in common.

use std::num::NonZeroU32;
use std::sync::Arc;

/// Rows that are shared as one.
const CHUNK: usize = 4096;

/// How many changed rows are worth copying one chunk for.
const CHANGES_PER_CHUNK: usize = 256;

/// Position of a row, in the order in which rows came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    /// The slot after so many others.
    pub(super) fn at(index: usize) -> Slot {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Slot(number.expect("a list has fewer than 2^32 moments"))
    }

    /// How many slots are before it.
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Rows by slot. A clone shares all of them, and never changes with the original.
///
/// Rows lie in chunks. Where nobody else has a chunk, a change is made in place; otherwise it goes into a persistent map
/// beside them, and many such changes are taken into chunks at once. `docs/decisions/0012-columns.md` has the reasons.
#[derive(Debug)]
pub(super) struct Table<R> {
    /// All but the last are full.
    chunks: Arc<Vec<Arc<Chunk<R>>>>,
    /// Rows that differ from those in the chunks, or come after them.
    changed: im::OrdMap<Slot, R>,
    /// One bit for the chunks in which rows differ, so that most reads need not look.
    touched: u64,
    len: usize,
}

/// Up to so many rows that are copied as one.
#[derive(Debug)]
enum Chunk<R> {
    Own(Vec<R>),
    /// The rows from the second on, of those that came all at once and lie in one block.
    Of(Arc<Vec<R>>, usize),
}

impl<R> Chunk<R> {
    fn rows(&self) -> &[R] {
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Of(block, from) => {
                let rows = &block[*from..];
                &rows[..rows.len().min(CHUNK)]
            }
        }
    }
}

impl<R: Clone> Chunk<R> {
    fn rows_mut(&mut self) -> &mut Vec<R> {
        if let Chunk::Of(..) = self {
            *self = self.clone();
        }
        match self {
            Chunk::Own(rows) => rows,
            Chunk::Of(..) => unreachable!("a clone has its own rows"),
        }
    }
}

/// A chunk of its own.
impl<R: Clone> Clone for Chunk<R> {
    fn clone(&self) -> Chunk<R> {
        Chunk::Own(self.rows().to_vec())
    }
}

/// The bit of the chunk that a slot is in, which many share in a long table.
fn bit(slot: Slot) -> u64 {
    1 << (slot.index() / CHUNK % 64)
}

impl<R> Table<R> {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&R> {
        if self.touched & bit(slot) != 0
            && let Some(row) = self.changed.get(&slot)
        {
            return Some(row);
        }
        let index = slot.index();
        self.chunks.get(index / CHUNK)?.rows().get(index % CHUNK)
    }

    /// All rows with their slots, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &R)> {
        (0..self.len).filter_map(|index| {
            let slot = Slot::at(index);
            Some((slot, self.get(slot)?))
        })
    }
}

impl<R: Clone> Table<R> {
    /// Adds a row after all others.
    pub(super) fn push(&mut self, row: R) -> Slot {
        let slot = Slot::at(self.len);
        self.len += 1;
        match Arc::get_mut(&mut self.chunks).filter(|_| self.changed.is_empty()) {
            Some(chunks) => append(chunks, row),
            None => self.change(slot, row),
        }
        slot
    }

    /// Lets `change` have the row in `slot`, and returns what it returns; `None` if there is no such row.
    pub(super) fn update<T>(&mut self, slot: Slot, change: impl FnOnce(&mut R) -> T) -> Option<T> {
        if self.changed.is_empty()
            && let Some(chunks) = Arc::get_mut(&mut self.chunks)
        {
            let chunk = chunks.get_mut(slot.index() / CHUNK)?;
            let rows = Arc::make_mut(chunk).rows_mut();
            return Some(change(rows.get_mut(slot.index() % CHUNK)?));
        }
        let mut row = self.get(slot)?.clone();
        let result = change(&mut row);
        self.change(slot, row);
        Some(result)
    }

    fn change(&mut self, slot: Slot, row: R) {
        self.changed.insert(slot, row);
        self.touched |= bit(slot);
        let chunks_per_bit = self.chunks.len().div_ceil(64).max(1);
        let copied = self.touched.count_ones() as usize * chunks_per_bit;
        if self.changed.len() > CHANGES_PER_CHUNK * copied {
            self.take_in();
        }
    }

    /// Takes the changed rows into chunks, of which those are copied that somebody else has.
    fn take_in(&mut self) {
        let chunks = Arc::make_mut(&mut self.chunks);
        self.touched = 0;
        for (slot, row) in std::mem::take(&mut self.changed) {
            let place = chunks
                .get_mut(slot.index() / CHUNK)
                .map(Arc::make_mut)
                .and_then(|chunk| chunk.rows_mut().get_mut(slot.index() % CHUNK));
            match place {
                Some(place) => *place = row,
                None => append(chunks, row),
            }
        }
    }
}

fn append<R: Clone>(chunks: &mut Vec<Arc<Chunk<R>>>, row: R) {
    match chunks.last_mut().filter(|chunk| chunk.rows().len() < CHUNK) {
        Some(chunk) => Arc::make_mut(chunk).rows_mut().push(row),
        None => {
            // A table of one chunk may stay small.
            let mut chunk = Vec::with_capacity(if chunks.is_empty() { 1 } else { CHUNK });
            chunk.push(row);
            chunks.push(Arc::new(Chunk::Own(chunk)));
        }
    }
}

impl<R> From<Vec<R>> for Table<R> {
    fn from(rows: Vec<R>) -> Table<R> {
        let len = rows.len();
        let block = Arc::new(rows);
        let chunks = (0..len).step_by(CHUNK);
        let chunks = chunks.map(|from| Arc::new(Chunk::Of(block.clone(), from)));
        Table {
            chunks: Arc::new(chunks.collect()),
            changed: im::OrdMap::new(),
            touched: 0,
            len,
        }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Table<R> {
        Table {
            chunks: Arc::default(),
            changed: im::OrdMap::new(),
            touched: 0,
            len: 0,
        }
    }
}

// Derived `Clone` would ask for `R: Clone`, which sharing does not need.
impl<R> Clone for Table<R> {
    fn clone(&self) -> Table<R> {
        Table {
            chunks: self.chunks.clone(),
            changed: self.changed.clone(),
            touched: self.touched,
            len: self.len,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that are changed while another version is held, far beyond what is kept beside the chunks.
    #[test]
    fn versions_do_not_see_each_others_changes() {
        let count = 3 * CHUNK + 7;
        let before = Table::from((0..count).collect::<Vec<_>>());
        let mut after = before.clone();
        for index in (0..count).step_by(3) {
            assert_eq!(after.update(Slot::at(index), |row| *row += count), Some(()));
        }
        for index in count..2 * count {
            assert_eq!(after.push(index), Slot::at(index));
        }
        let expected = |index| {
            if index < count && index % 3 == 0 {
                index + count
            } else {
                index
            }
        };
        assert!(
            after
                .iter()
                .all(|(slot, row)| *row == expected(slot.index()))
        );
        assert_eq!((after.len(), after.iter().count()), (2 * count, 2 * count));
        assert!(before.iter().all(|(slot, row)| *row == slot.index()));
        assert_eq!((before.len(), before.get(Slot::at(count))), (count, None));
    }

    #[test]
    fn a_row_that_is_not_there_is_not_changed() {
        let mut table = Table::from(vec![1]);
        assert_eq!(table.update(Slot::at(1), |row| *row = 2), None);
        let held = table.clone();
        assert_eq!(table.update(Slot::at(1), |row| *row = 2), None);
        assert_eq!((table.len(), held.len()), (1, 1));
    }
}
