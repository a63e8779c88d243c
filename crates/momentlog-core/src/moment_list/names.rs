//! Finding slots by name: an index of hashes, whose hits the caller checks against the names.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::table::{Slot, Table};
use super::{Moment, Row, moment_at};
use crate::MomentName;

/// A version rebuilds the index once its overflow holds more than `OVERFLOW_MIN` entries and one for each
/// `ROWS_PER_OVERFLOW` rows.
const OVERFLOW_MIN: usize = 256;
const ROWS_PER_OVERFLOW: usize = 32;

/// Part of a name's hash, and where the name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    tag: u32,
    slot: Slot,
}

/// Slots by the hash of their names. A clone shares what both have.
///
/// The index may lead to moments that a version does not have any more, or not yet, so every hit is compared with the row.
#[derive(Clone, Debug)]
pub(super) struct NameIndex {
    index: Arc<Index>,
    /// Entries that are not in the index, each because one with its tag is.
    overflow: im::OrdSet<Entry>,
    /// A slot whose name an earlier slot has, too. Only a restored list can have one.
    duplicate: Option<Slot>,
    hasher: RandomState,
}

impl Default for NameIndex {
    fn default() -> NameIndex {
        NameIndex {
            index: Arc::new(Index::with_room(0)),
            overflow: im::OrdSet::new(),
            duplicate: None,
            hasher: RandomState::new(),
        }
    }
}

impl NameIndex {
    /// The entry of a name in a slot.
    pub(super) fn entry(&self, slot: Slot, name: &str) -> Entry {
        let tag = self.tag(name);
        Entry { tag, slot }
    }

    /// Builds the index of these entries alone, and returns those that collide, for [`resolve`](Self::resolve).
    pub(super) fn bulk_build(&mut self, entries: &[Entry]) -> Vec<Entry> {
        let mut index = Index::with_room(entries.len());
        let mut colliding = radix_partition(entries);
        colliding.retain(|entry| !index.insert_unique(*entry));
        self.index = Arc::new(index);
        colliding
    }

    /// Puts colliding entries into the overflow, or notes a duplicate name.
    pub(super) fn resolve<D>(&mut self, colliding: Vec<Entry>, rows: &Table<Row<D>>) {
        for entry in colliding {
            let name = rows.get(entry.slot).map(|row| row.name.as_str());
            if name.is_some_and(|name| self.find(name, rows).is_some()) {
                self.duplicate = Some(entry.slot);
            } else {
                self.overflow.insert(entry);
            }
        }
    }

    /// Returns a slot whose name an earlier slot has, too.
    pub(super) fn duplicate(&self) -> Option<Slot> {
        self.duplicate
    }

    /// Returns the moment of this name.
    pub(super) fn find<'r, D>(&self, name: &str, rows: &'r Table<Row<D>>) -> Option<Moment<'r, D>> {
        let tag = self.tag(name);
        let named = |slot| named(rows, slot, name);
        let mut candidates = self.index.slots(tag);
        let first = named(candidates.next()?);
        let found = first.or_else(|| candidates.find_map(named));
        found.or_else(|| self.overflow(tag).find_map(named))
    }

    /// Inserts the name of a row that is about to come, unless another has it already; returns whether it did.
    pub(super) fn insert<D>(
        &mut self,
        name: &MomentName,
        slot: Slot,
        rows: &Table<Row<D>>,
    ) -> bool {
        let name = name.as_str();
        let entry = self.entry(slot, name);
        let tag = entry.tag;
        let is_it = |other| named(rows, other, name).is_some();
        let (mut is_there, mut is_tag_taken) = (false, false);
        for other in self.index.slots(tag) {
            if is_it(other) {
                return false;
            }
            is_there |= other == slot;
            is_tag_taken = true;
        }
        if is_tag_taken && self.overflow(tag).any(is_it) {
            return false;
        }
        if is_there {
            // Another version that has the same rows has added it.
        } else if is_tag_taken {
            // Without the rebuild, a name that is deleted and made again leaves one stale entry a round, and a lookup
            // scans them all.
            self.overflow.insert(entry);
            if self.overflow.len() > OVERFLOW_MIN + rows.len() / ROWS_PER_OVERFLOW {
                self.rebuild(entry, rows);
            }
        } else if !self.index.insert(entry) {
            let grown = self.index.grown();
            grown.insert(entry);
            self.index = Arc::new(grown);
        }
        true
    }

    /// Removes the name of a row that is about to go. An entry in the index stays until the index is rebuilt.
    pub(super) fn remove(&mut self, name: &MomentName, slot: Slot) {
        if !self.overflow.is_empty() {
            self.overflow.remove(&self.entry(slot, name.as_str()));
        }
    }

    /// Slots in the overflow whose names have this tag.
    fn overflow(&self, tag: u32) -> impl Iterator<Item = Slot> {
        let first = Entry {
            tag,
            slot: Slot::at(0),
        };
        let entries = (!self.overflow.is_empty()).then(|| self.overflow.range(first..));
        entries
            .into_iter()
            .flatten()
            .take_while(move |entry| entry.tag == tag)
            .map(|entry| entry.slot)
    }

    /// Number of entries that a lookup of this name reads.
    #[cfg(test)]
    pub(super) fn candidates(&self, name: &str) -> usize {
        let tag = self.tag(name);
        self.index.slots(tag).count() + self.overflow(tag).count()
    }

    /// Builds the index of the listed moments, and of one that is about to come.
    fn rebuild<D>(&mut self, coming: Entry, rows: &Table<Row<D>>) {
        let listed = rows.iter().filter(|(_, row)| row.def.is_some());
        let entries = listed.map(|(slot, row)| self.entry(slot, row.name.as_str()));
        let entries: Vec<Entry> = entries.chain([coming]).collect();
        self.overflow = im::OrdSet::new();
        let colliding = self.bulk_build(&entries);
        self.resolve(colliding, rows);
    }

    fn tag(&self, name: &str) -> u32 {
        u32::try_from(self.hasher.hash_one(name) >> 32).expect("half of a hash")
    }
}

/// Returns the moment in a slot, if it is there and has this name.
fn named<'r, D>(rows: &'r Table<Row<D>>, slot: Slot, name: &str) -> Option<Moment<'r, D>> {
    moment_at(rows, slot).filter(|moment| moment.name.as_str() == name)
}

/// A set of entries that only grows, so that versions can share it: a hash table with linear probing, of which at least half
/// is free. Entries lie roughly in the order of their tags.
#[derive(Debug)]
struct Index {
    /// A tag and a slot each; 0 is free. A power of two of them.
    places: Box<[AtomicU64]>,
    /// How many are taken, or soon will be.
    taken: AtomicUsize,
}

impl Index {
    fn with_room(entries: usize) -> Index {
        let places = entries.max(4).next_power_of_two() * 2;
        let places = std::iter::repeat_with(AtomicU64::default).take(places);
        Index {
            places: places.collect(),
            taken: AtomicUsize::new(0),
        }
    }

    /// All places in the order in which entries of this tag are put there and looked for.
    fn probe(&self, tag: u32) -> impl Iterator<Item = usize> + use<> {
        let unused_bits = u64::BITS - self.places.len().trailing_zeros();
        let first = (u64::from(tag) << 32) >> unused_bits;
        let first = usize::try_from(first).expect("an index of what is in memory");
        let mask = self.places.len() - 1;
        (first..).map(move |at| at & mask)
    }

    /// The slots of the entries with this tag.
    fn slots(&self, tag: u32) -> impl Iterator<Item = Slot> {
        self.probe(tag)
            .map_while(|at| Entry::from_bits(self.places[at].load(Ordering::Acquire)))
            .filter(move |entry| entry.tag == tag)
            .map(|entry| entry.slot)
    }

    /// Inserts an entry that is not there; returns whether there was room for it.
    ///
    /// Versions in several threads insert and look up at once, without a lock. That is right because an entry is a hint and
    /// never an answer: a lookup compares every hit with a row of its own version, and passes over entries of others. A
    /// version finds its own entries: it inserted them, or was cloned after that, and a thread that hands a clone to another
    /// thread makes all earlier stores visible there. Places are only ever filled, and each by one exchange, so a probe that
    /// passed over a place stays valid. `taken` counts attempts, and so never less than the places that are filled.
    fn insert(&self, entry: Entry) -> bool {
        if self.taken.fetch_add(1, Ordering::Relaxed) >= self.places.len() / 2 {
            return false;
        }
        let take = |at: usize| {
            let place = &self.places[at];
            place.load(Ordering::Relaxed) == 0
                && place
                    .compare_exchange(0, entry.bits(), Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
        };
        self.probe(entry.tag).any(take)
    }

    /// Inserts an entry if no entry has its tag, and returns whether it did. No other version has the index, and it has room.
    fn insert_unique(&mut self, entry: Entry) -> bool {
        for at in self.probe(entry.tag) {
            let place = self.places[at].get_mut();
            match Entry::from_bits(*place) {
                None => {
                    *place = entry.bits();
                    *self.taken.get_mut() += 1;
                    break;
                }
                Some(other) if other.tag == entry.tag => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// Returns a copy with twice as many places. Versions that differ may have left two entries of one tag.
    fn grown(&self) -> Index {
        let grown = Index::with_room(self.places.len());
        for place in &self.places {
            if let Some(entry) = Entry::from_bits(place.load(Ordering::Acquire)) {
                grown.insert(entry);
            }
        }
        grown
    }
}

impl Entry {
    fn bits(self) -> u64 {
        u64::from(self.tag) << 32 | u64::from(self.slot.number())
    }

    fn from_bits(bits: u64) -> Option<Entry> {
        let [tag, slot] = [bits >> 32, bits & u64::from(u32::MAX)]
            .map(|half| u32::try_from(half).expect("half of the bits"));
        Slot::from_number(slot).map(|slot| Entry { tag, slot })
    }
}

/// Returns entries roughly in the order in which they lie in an index: far faster to insert than in any other, because each
/// part of the index is then visited once.
fn radix_partition(entries: &[Entry]) -> Vec<Entry> {
    const PARTS: usize = 256;
    let part = |entry: &Entry| (entry.tag >> (u32::BITS - PARTS.trailing_zeros())) as usize;
    let mut ends = [0; PARTS];
    for entry in entries {
        ends[part(entry)] += 1;
    }
    let mut end = 0;
    for part in &mut ends {
        end += *part;
        *part = end;
    }
    let mut sorted = entries.to_vec();
    // Each part is filled from its end, and keeps the order of slots.
    for entry in entries.iter().rev() {
        let end = &mut ends[part(entry)];
        *end -= 1;
        sorted[*end] = *entry;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MomentId;

    fn rows(names: &[&str]) -> Table<Row<()>> {
        let row = |(index, name): (u64, &&str)| Row {
            id: MomentId::new(index).unwrap(),
            name: MomentName::new(name).unwrap(),
            created: 0,
            def: Some(Arc::new(())),
        };
        Table::from((1..).zip(names).map(row).collect::<Vec<_>>())
    }

    /// Tags of other names are hardly ever equal, so the index is made of another name than the row has.
    #[test]
    fn a_name_with_the_tag_of_another_is_found_beside_the_index() {
        let mut names = NameIndex::default();
        assert_eq!(names.bulk_build(&[names.entry(Slot::at(0), "b")]), []);
        let rows = rows(&["a", "b"]);
        assert_eq!(names.find("b", &rows), None);
        names.resolve(vec![names.entry(Slot::at(1), "b")], &rows);
        let found = names.find("b", &rows).map(|found| found.slot);
        assert_eq!(found, Some(Slot::at(1)));
        assert_eq!(names.duplicate(), None);
    }

    #[test]
    fn a_duplicate_name_is_noticed() {
        let all = ["a", "b", "a", "a"];
        let mut names = NameIndex::default();
        let entries = [0, 1, 2, 3].map(|at| names.entry(Slot::at(at), all[at]));
        let colliding = names.bulk_build(&entries);
        assert_eq!(colliding.len(), 2);
        let rows = rows(&all);
        names.resolve(colliding, &rows);
        assert!(names.duplicate().is_some_and(|slot| slot >= Slot::at(2)));
        assert_eq!(names.candidates("a"), 1);
    }

    #[test]
    fn an_index_has_room_for_what_it_was_made_for() {
        for count in [0, 1, 4, 5, 1000] {
            let index = Index::with_room(count);
            let entry = |slot| Entry { tag: 7, slot };
            assert!((0..count).all(|at| index.insert(entry(Slot::at(at)))));
            assert_eq!(index.slots(7).count(), count);
            let grown = index.grown();
            assert_eq!(grown.slots(7).count(), count);
            assert!(grown.insert(entry(Slot::at(count))));
        }
    }
}
