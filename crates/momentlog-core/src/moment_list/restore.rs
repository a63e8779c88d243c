//! A list as plain rows, to keep it in an image, and back.

use std::sync::Arc;

use super::check::BrokenLinks;
use super::links::{Link, Links};
use super::names::{Entry, NameIndex};
use super::table::Slot;
use super::{Broken, MomentList, Row, Table};
use crate::{MomentId, MomentName};

/// A list is compacted once it has more than `SPARSE_MIN` empty slots and one for each moment.
const SPARSE_MIN: usize = 64;

/// A moment and its place in a list, for an image: positions count the moments of the list from 0, by ascending id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow<D> {
    /// The id.
    pub id: MomentId,
    /// The name.
    pub name: MomentName,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// The definition.
    pub def: Arc<D>,
    /// Position of the parent; none for a root.
    pub parent: Option<u32>,
    /// Position of the sibling after it, which was linked before it.
    pub next: Option<u32>,
}

/// What of a list does not depend on its moments' contents: who hangs below whom, and the index of names. One thread can
/// make it while another reads the moments themselves.
#[derive(Debug)]
pub struct Skeleton {
    links: Links,
    /// What checking them found.
    sound: Result<usize, BrokenLinks>,
    names: NameIndex,
    /// Entries whose names may be those of earlier moments.
    colliding: Vec<Entry>,
}

impl Skeleton {
    /// Returns the skeleton of moments by ascending id: of each the positions of its parent and of the sibling after it, as
    /// in [`ListRow`], and its name.
    pub fn new<'a>(
        moments: impl IntoIterator<Item = (Option<u32>, Option<u32>, &'a str)>,
    ) -> Skeleton {
        let moments = moments.into_iter();
        let count = moments.size_hint().1.unwrap_or(0);
        let mut names = NameIndex::default();
        let (mut links, mut entries) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (index, (parent, next, name)) in moments.enumerate() {
            links.push(link(parent, next));
            entries.push(names.entry(Slot::at(index), name));
        }
        let links = Links::restore(links);
        Skeleton {
            colliding: names.bulk_build(&entries),
            sound: links.check(|_| true),
            links,
            names,
        }
    }
}

fn slot(position: u32) -> Slot {
    Slot::at(position as usize)
}

fn link(parent: Option<u32>, next: Option<u32>) -> Link {
    Link {
        parent: parent.map(slot),
        next: next.map(slot),
        ..Link::default()
    }
}

impl<D> MomentList<D> {
    /// Returns all moments by ascending id, with their places, and the position of the current one.
    pub fn to_rows(&self) -> (impl Iterator<Item = ListRow<D>>, Option<u32>) {
        let mut position = 0;
        // What stands for a slot without a moment is never used: nothing links to it.
        let positions: Vec<u32> = self
            .rows
            .iter()
            .map(|(_, row)| {
                let own = position;
                position += u32::from(row.def.is_some());
                own
            })
            .collect();
        let current = self.current.map(|slot| positions[slot.index()]);
        let placed = self.rows.iter().filter_map(move |(slot, row)| {
            let link = self.links.of(slot)?;
            let position = |slot: Slot| positions[slot.index()];
            Some(ListRow {
                id: row.id,
                name: row.name.clone(),
                created: row.created,
                def: row.def.clone()?,
                parent: link.parent.map(position),
                next: link.next.map(position),
            })
        });
        (placed, current)
    }

    /// Returns the list of these moments, by ascending id.
    ///
    /// # Errors
    ///
    /// The first rule of a list that is [`Broken`].
    pub fn restore(
        moments: impl IntoIterator<Item = ListRow<D>>,
        current: Option<u32>,
    ) -> Result<MomentList<D>, Broken> {
        let moments: Vec<ListRow<D>> = moments.into_iter().collect();
        let skeleton = Skeleton::new(
            moments
                .iter()
                .map(|placed| (placed.parent, placed.next, placed.name.as_str())),
        );
        let moments = moments
            .into_iter()
            .map(|placed| (placed.id, placed.name, placed.created, placed.def));
        MomentList::restore_with(moments, current, || skeleton)
    }

    /// Returns the list of these moments, by ascending id, with the skeleton that was made of the same, which is asked for
    /// last.
    ///
    /// # Errors
    ///
    /// As [`restore`](Self::restore).
    pub fn restore_with(
        moments: impl IntoIterator<Item = (MomentId, MomentName, i64, Arc<D>)>,
        current: Option<u32>,
        skeleton: impl FnOnce() -> Skeleton,
    ) -> Result<MomentList<D>, Broken> {
        let row = |(id, name, created, def)| Row {
            id,
            name,
            created,
            def: Some(def),
        };
        let moments = moments.into_iter();
        let mut rows = Vec::with_capacity(moments.size_hint().1.unwrap_or(0));
        rows.extend(moments.map(row));
        let (newest, len) = (rows.last().map(|row| row.id), rows.len());
        let rows = Table::from(rows);
        let Skeleton {
            links,
            sound,
            mut names,
            colliding,
        } = skeleton();
        names.resolve(colliding, &rows);
        let list = MomentList {
            rows,
            links,
            names,
            current: current.map(slot),
            len,
            last: newest,
        };
        list.check_rows()?;
        list.check_columns(sound)?;
        list.check_names()?;
        Ok(list)
    }

    /// Gives up the slots of moments that are gone, once they are more than those that are there.
    pub(super) fn compact_if_sparse(&mut self) {
        let gone = self.rows.len() - self.len;
        if gone > SPARSE_MIN + self.len {
            let (placed, current) = self.to_rows();
            let compacted = MomentList::restore(placed, current);
            *self = compacted.expect("a list that was sound is sound");
        }
    }
}
