//! A column of rows; versions share unchanged chunks.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

/// Rows of a full chunk.
const CHUNK: usize = 4096;

/// How many changed rows are worth copying one chunk for.
const CHANGES_PER_CHUNK: usize = 256;

/// Position of a row, in the order in which rows came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(NonZeroU32);

impl Slot {
    /// The slot at `index`, from 0.
    pub(super) fn at(index: usize) -> Slot {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Slot(number.expect("a list has fewer than 2^32 moments"))
    }

    /// The number that stands for it elsewhere, from 1.
    pub(super) fn number(self) -> u32 {
        self.0.get()
    }

    /// The slot that a number stands for.
    pub(super) fn from_number(number: u32) -> Option<Slot> {
        NonZeroU32::new(number).map(Slot)
    }

    /// How many slots are before it.
    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Rows by slot. A clone shares all of them, and never changes with the original.
///
/// Rows lie in chunks. A row that is added goes into the last of them, behind those that other versions know of. A row is
/// changed in place where no other version has its chunk; otherwise it goes into a persistent map, the overlay, and many such
/// changes are merged into chunks at once. `docs/decisions/0012-columns.md` has the reasons.
#[derive(Debug)]
pub(super) struct Table<R> {
    /// All but the last are full.
    chunks: Arc<Vec<Arc<Chunk<R>>>>,
    /// Rows that differ from those in the chunks.
    overlay: im::OrdMap<Slot, R>,
    /// One bit for the chunks in which rows differ, so that most reads need not look.
    overlay_chunks: u64,
    len: usize,
}

/// At most [`CHUNK`] rows, copied as a unit.
#[derive(Debug)]
enum Chunk<R> {
    /// Rows, and spare places for those after them, which are filled in order. Versions share the spare places: behind the
    /// rows of one version there may be what another has added.
    Own {
        rows: Vec<R>,
        spare: Box<[OnceLock<R>]>,
    },
    /// The rows from the second on, of those that came all at once and lie in one block.
    Slice(Arc<Vec<R>>, usize),
}

impl<R> Chunk<R> {
    fn get(&self, at: usize) -> Option<&R> {
        match self {
            Chunk::Own { rows, spare } => match at.checked_sub(rows.len()) {
                None => Some(&rows[at]),
                Some(behind) => spare.get(behind)?.get(),
            },
            Chunk::Slice(block, from) => block.get(from + at),
        }
    }

    /// The spare place of a row that is about to come.
    fn spare(&self, at: usize) -> Option<&OnceLock<R>> {
        match self {
            Chunk::Own { rows, spare } => spare.get(at - rows.len()),
            Chunk::Slice(..) => None,
        }
    }
}

impl<R: Clone> Chunk<R> {
    /// Copies the first `rows` rows into a new chunk with room for `all` rows.
    fn copy(&self, rows: usize, all: usize) -> Chunk<R> {
        let mut copy = Vec::with_capacity(rows);
        copy.extend((0..rows).filter_map(|at| self.get(at)).cloned());
        Chunk::Own {
            spare: empty(all - rows),
            rows: copy,
        }
    }

    /// The chunk, or a copy of the first rows if others have it as well.
    fn make_unique(chunk: &mut Arc<Chunk<R>>, rows: usize) -> &mut Chunk<R> {
        let all = match &**chunk {
            Chunk::Own { .. } if Arc::strong_count(chunk) == 1 => None,
            Chunk::Own { rows, spare } => Some(rows.len() + spare.len()),
            Chunk::Slice(..) => Some(rows),
        };
        if let Some(all) = all {
            *chunk = Arc::new(chunk.copy(rows, all));
        }
        Arc::get_mut(chunk).expect("no other version has the chunk")
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut R> {
        let Chunk::Own { rows, spare } = self else {
            return None;
        };
        match at.checked_sub(rows.len()) {
            None => Some(&mut rows[at]),
            Some(behind) => spare.get_mut(behind)?.get_mut(),
        }
    }
}

fn empty<R>(spare: usize) -> Box<[OnceLock<R>]> {
    std::iter::repeat_with(OnceLock::new).take(spare).collect()
}

/// How many of a table's rows are in a chunk that it has.
fn rows_of(len: usize, chunk: usize) -> usize {
    (len - chunk * CHUNK).min(CHUNK)
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
        if self.overlay_chunks & bit(slot) != 0
            && let Some(row) = self.overlay.get(&slot)
        {
            return Some(row);
        }
        let index = slot.index();
        if index >= self.len {
            return None;
        }
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// All rows with their slots, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &R)> {
        self.chunks
            .iter()
            .enumerate()
            .flat_map(move |(number, chunk)| {
                let first = number * CHUNK;
                (0..rows_of(self.len, number)).filter_map(move |at| {
                    let slot = Slot::at(first + at);
                    let overlay = self.overlay_chunks & bit(slot) != 0;
                    let overlay = overlay.then(|| self.overlay.get(&slot)).flatten();
                    Some((slot, overlay.or_else(|| chunk.get(at))?))
                })
            })
    }
}

impl<R: Clone> Table<R> {
    /// Adds a row after all others.
    pub(super) fn push(&mut self, row: R) -> Slot {
        let slot = Slot::at(self.len);
        let (chunk, at) = (self.len / CHUNK, self.len % CHUNK);
        self.len += 1;
        let place = self.chunks.get(chunk).and_then(|chunk| chunk.spare(at));
        let refused = match place {
            Some(place) => place.set(row).err(),
            None => self.make_spare(at).set(row).err(),
        };
        if let Some(row) = refused {
            // Another version that has the same rows has added a row.
            self.change(slot, row);
        }
        slot
    }

    /// Makes spare places for rows to come: as many as the last chunk has rows, and at most until it is full. Returns the first.
    fn make_spare(&mut self, rows: usize) -> &OnceLock<R> {
        let chunks = Arc::make_mut(&mut self.chunks);
        match chunks.last_mut().filter(|_| rows > 0) {
            Some(last) => *last = Arc::new(last.copy(rows, (2 * rows).min(CHUNK))),
            None => {
                // A table of one chunk may stay small.
                let spare = if chunks.is_empty() { 1 } else { CHUNK };
                chunks.push(Arc::new(Chunk::Own {
                    rows: Vec::new(),
                    spare: empty(spare),
                }));
            }
        }
        let last = chunks.last().and_then(|last| last.spare(rows));
        last.expect("a place was made")
    }

    /// Lets `change` have the row in `slot`, and returns what it returns; `None` if there is no such row.
    pub(super) fn update<T>(&mut self, slot: Slot, change: impl FnOnce(&mut R) -> T) -> Option<T> {
        let index = slot.index();
        if self.overlay.is_empty()
            && index < self.len
            && let Some(chunks) = Arc::get_mut(&mut self.chunks)
        {
            let (chunk, at) = (index / CHUNK, index % CHUNK);
            let rows = rows_of(self.len, chunk);
            return Chunk::make_unique(&mut chunks[chunk], rows)
                .get_mut(at)
                .map(change);
        }
        let mut row = self.get(slot)?.clone();
        let result = change(&mut row);
        self.change(slot, row);
        Some(result)
    }

    fn change(&mut self, slot: Slot, row: R) {
        self.overlay.insert(slot, row);
        self.overlay_chunks |= bit(slot);
        let chunks_per_bit = self.chunks.len().div_ceil(64).max(1);
        let copied = self.overlay_chunks.count_ones() as usize * chunks_per_bit;
        if self.overlay.len() > CHANGES_PER_CHUNK * copied {
            self.merge_overlay();
        }
    }

    /// Merges the overlay into the chunks. A chunk that another version shares is copied first.
    fn merge_overlay(&mut self) {
        let chunks = Arc::make_mut(&mut self.chunks);
        self.overlay_chunks = 0;
        for (slot, row) in std::mem::take(&mut self.overlay) {
            let index = slot.index();
            let (chunk, at) = (index / CHUNK, index % CHUNK);
            let chunk = Chunk::make_unique(&mut chunks[chunk], rows_of(self.len, chunk));
            *chunk.get_mut(at).expect("a row that differs has a place") = row;
        }
    }
}

impl<R> From<Vec<R>> for Table<R> {
    fn from(rows: Vec<R>) -> Table<R> {
        let len = rows.len();
        let block = Arc::new(rows);
        let chunks = (0..len).step_by(CHUNK);
        let chunks = chunks.map(|from| Arc::new(Chunk::Slice(block.clone(), from)));
        Table {
            chunks: Arc::new(chunks.collect()),
            overlay: im::OrdMap::new(),
            overlay_chunks: 0,
            len,
        }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Table<R> {
        Table {
            chunks: Arc::default(),
            overlay: im::OrdMap::new(),
            overlay_chunks: 0,
            len: 0,
        }
    }
}

// Derived `Clone` would ask for `R: Clone`, which sharing does not need.
impl<R> Clone for Table<R> {
    fn clone(&self) -> Table<R> {
        Table {
            chunks: self.chunks.clone(),
            overlay: self.overlay.clone(),
            overlay_chunks: self.overlay_chunks,
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

    /// Versions of one table that go different ways, each past where places are made.
    #[test]
    fn versions_that_go_different_ways_keep_their_own_rows() {
        let mut common = Table::default();
        for row in 0..5 {
            common.push(row);
        }
        let mut ways: Vec<Table<usize>> = (0..3).map(|_| common.clone()).collect();
        for row in 5..2 * CHUNK {
            for (way, table) in ways.iter_mut().enumerate() {
                assert_eq!(table.push(row * 3 + way), Slot::at(row));
                if row % 7 == way {
                    assert_eq!(
                        table.update(Slot::at(row / 2), |row| *row += 1_000_000),
                        Some(())
                    );
                }
            }
        }
        for (way, table) in ways.iter().enumerate() {
            let expected = |row| {
                let own = if row < 5 { row } else { row * 3 + way };
                let changes = (2 * row..2 * row + 2)
                    .filter(|by| *by >= 5 && *by < 2 * CHUNK && by % 7 == way);
                own + 1_000_000 * changes.count()
            };
            assert!(
                table
                    .iter()
                    .all(|(slot, row)| *row == expected(slot.index()))
            );
            assert_eq!(table.iter().count(), 2 * CHUNK);
        }
        assert_eq!(common.iter().count(), 5);
        assert_eq!(common.get(Slot::at(5)), None);
        assert_eq!(common.update(Slot::at(5), |row| *row = 0), None);
    }

    /// A chunk that is copied for one version leaves out what others have added to it.
    #[test]
    fn a_copied_chunk_has_the_rows_of_its_version() {
        let mut first = Table::default();
        for row in 0..600 {
            first.push(row);
        }
        let mut second = first.clone();
        for row in 600..700 {
            first.push(row);
        }
        for row in 0..2 * CHANGES_PER_CHUNK {
            second.update(Slot::at(row), |row| *row += 10_000);
        }
        second.push(6);
        assert_eq!((first.len(), first.get(Slot::at(600))), (700, Some(&600)));
        assert_eq!((second.len(), second.get(Slot::at(600))), (601, Some(&6)));
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
