//! Finding slots by name: an index of hashes, whose hits the caller checks against the names.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, OnceLock};

use hashbrown::{HashTable, hash_table};

use super::table::{Slot, Table};
use super::{Moment, Row, moment_at};
use crate::MomentName;

/// Added entries that a version has at least before it takes them into its table, and of how many entries one.
const ADDED_MIN: usize = 256;
const ADDED_PART: usize = 32;

/// Part of a name's hash, and where the name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: u32,
    slot: Slot,
}

impl Entry {
    /// The tag spread over a whole hash, as the table wants it.
    fn hash(self) -> u64 {
        u64::from(self.tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Slots by the hash of their names. A clone shares what both have.
///
/// An entry may outlive its moment, so every hit is compared with the row.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    table: Arc<Lazy>,
    /// Entries that are not in the table.
    added: im::OrdSet<Entry>,
    hasher: RandomState,
}

/// The table, which is made of all rows when it is needed.
#[derive(Clone, Debug, Default)]
struct Lazy(OnceLock<Made>);

#[derive(Clone, Debug)]
struct Made {
    table: HashTable<Entry>,
    /// A slot whose name one before it has as well.
    twice: Option<Slot>,
}

impl Names {
    /// Makes the table, and returns a slot whose name one before it has as well.
    pub(super) fn twice<D>(&self, rows: &Table<Row<D>>) -> Option<Slot> {
        self.made(rows).twice
    }

    /// Returns the moment of this name.
    pub(super) fn find<'r, D>(&self, name: &str, rows: &'r Table<Row<D>>) -> Option<Moment<'r, D>> {
        self.find_in(&self.made(rows).table, self.tag(name), name, rows)
    }

    fn find_in<'r, D>(
        &self,
        table: &HashTable<Entry>,
        tag: u32,
        name: &str,
        rows: &'r Table<Row<D>>,
    ) -> Option<Moment<'r, D>> {
        let first = Entry {
            tag,
            slot: Slot::at(0),
        };
        let mut found = None;
        let mut is_it = |entry: &Entry| {
            found = named(rows, *entry, tag, name);
            found.is_some()
        };
        if table.find(first.hash(), &mut is_it).is_none() && !self.added.is_empty() {
            let mut alike = self.added.range(first..);
            alike.find(|entry| entry.tag != tag || is_it(entry));
        }
        found
    }

    /// Inserts the name of a row that is about to come, unless another has it already; returns whether it did.
    pub(super) fn insert<D>(
        &mut self,
        name: &MomentName,
        slot: Slot,
        rows: &Table<Row<D>>,
    ) -> bool {
        self.made(rows);
        let name = name.as_str();
        let tag = self.tag(name);
        let entry = Entry { tag, slot };
        if self.added.is_empty()
            && let Some(Made { table, .. }) =
                Arc::get_mut(&mut self.table).and_then(|lazy| lazy.0.get_mut())
        {
            let is_it = |other: &Entry| named(rows, *other, tag, name).is_some();
            return match table.entry(entry.hash(), is_it, |entry| entry.hash()) {
                hash_table::Entry::Occupied(_) => false,
                hash_table::Entry::Vacant(vacant) => {
                    vacant.insert(entry);
                    true
                }
            };
        }
        let table = &self.made(rows).table;
        if self.find_in(table, tag, name, rows).is_some() {
            return false;
        }
        self.added.insert(entry);
        if self.added.len() > ADDED_MIN + self.made(rows).table.len() / ADDED_PART {
            self.take_in();
        }
        true
    }

    /// Removes the name of a row that is about to go. An entry that others share stays until the list is made anew.
    pub(super) fn remove<D>(&mut self, name: &MomentName, slot: Slot, rows: &Table<Row<D>>) {
        self.made(rows);
        let entry = Entry {
            tag: self.tag(name.as_str()),
            slot,
        };
        if self.added.remove(&entry).is_none()
            && let Some(Made { table, .. }) =
                Arc::get_mut(&mut self.table).and_then(|lazy| lazy.0.get_mut())
            && let Ok(found) = table.find_entry(entry.hash(), |other| *other == entry)
        {
            found.remove();
        }
    }

    fn take_in(&mut self) {
        let added = std::mem::take(&mut self.added);
        if let Some(Made { table, .. }) = Arc::make_mut(&mut self.table).0.get_mut() {
            for entry in added {
                table.insert_unique(entry.hash(), entry, |entry| entry.hash());
            }
        }
    }

    /// The table of all rows, as they were when the list was made: it is made before the first of them changes.
    fn made<D>(&self, rows: &Table<Row<D>>) -> &Made {
        self.table.0.get_or_init(|| {
            let name = |slot| rows.get(slot).map(|row| row.name.as_str());
            let entry = |(slot, row): (Slot, &Row<D>)| Entry {
                tag: self.tag(row.name.as_str()),
                slot,
            };
            let entries: Vec<Entry> = rows.iter().map(entry).collect();
            let mut table = HashTable::with_capacity(entries.len());
            let mut twice = None;
            for entry in by_place(&entries, table.num_buckets()) {
                let is_same =
                    |other: &Entry| other.tag == entry.tag && name(other.slot) == name(entry.slot);
                match table.entry(entry.hash(), is_same, |entry| entry.hash()) {
                    hash_table::Entry::Occupied(_) => twice = Some(entry.slot),
                    hash_table::Entry::Vacant(vacant) => {
                        vacant.insert(entry);
                    }
                }
            }
            Made { table, twice }
        })
    }

    fn tag(&self, name: &str) -> u32 {
        u32::try_from(self.hasher.hash_one(name) >> 32).expect("half of a hash")
    }
}

/// Returns the moment of an entry, if it is there and has this name and tag.
fn named<'r, D>(
    rows: &'r Table<Row<D>>,
    entry: Entry,
    tag: u32,
    name: &str,
) -> Option<Moment<'r, D>> {
    let moment = (entry.tag == tag).then(|| moment_at(rows, entry.slot));
    moment
        .flatten()
        .filter(|moment| moment.name.as_str() == name)
}

/// Returns entries roughly in the order in which they lie in a table of so many places: far faster to insert than in any
/// other, because each part of the table is then visited once.
fn by_place(entries: &[Entry], places: usize) -> Vec<Entry> {
    const PARTS: usize = 256;
    // A table has a power of two of places, and begins to look at the one that the low bits of a hash give.
    let mask = (places as u64).saturating_sub(1);
    let shift = mask.count_ones().saturating_sub(PARTS.trailing_zeros());
    let place = |entry: &Entry| {
        let part = (entry.hash() & mask) >> shift;
        usize::try_from(part).map_or(0, |part| part % PARTS)
    };
    let mut ends = [0; PARTS];
    for entry in entries {
        ends[place(entry)] += 1;
    }
    let mut end = 0;
    for part in &mut ends {
        end += *part;
        *part = end;
    }
    let mut sorted = entries.to_vec();
    // Each part is filled from its end, and keeps the order of slots.
    for entry in entries.iter().rev() {
        let end = &mut ends[place(entry)];
        *end -= 1;
        sorted[*end] = *entry;
    }
    sorted
}
