//! The rows after one record: who is shown, in which lane, and how edges run.
//!
//! The page's script has the same steps under the same names (`page.js`, from `stateAt` on); a test in a browser
//! compares the two, record by record.

use std::collections::{BTreeMap, BTreeSet};

use super::timeline::{Change, Timeline};

/// Deletions whose moments are still shown.
const GHOST_DELETIONS: usize = 20;
/// Longest run of plain rows in a lane.
const RUN_MAX: usize = 12;
/// Rows that a folded run keeps at either end.
const RUN_ENDS: usize = 3;
/// Most rows before side branches are closed.
const OPEN_MAX: usize = 200;
/// Rows between which a dashed edge is drawn to where a moment hung before.
const DASHED_MAX: usize = 12;

/// The tree after a record.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) moments: Vec<MomentState>,
    pub(super) current: Option<usize>,
    /// The places of the records that deleted a moment.
    pub(super) deletions: Vec<usize>,
}

/// A moment after a record.
#[derive(Clone, Debug, Default)]
pub(super) struct MomentState {
    pub(super) life: Life,
    /// Its parent; of a deleted one, its last parent.
    pub(super) parent: Option<usize>,
    /// Its parent before it was moved last, and the place of the record that moved it.
    pub(super) was: Option<(Option<usize>, usize)>,
    /// The tags under which it is held.
    pub(super) tags: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Life {
    /// Not yet there.
    #[default]
    Before,
    Alive,
    /// Deleted by the record at this place.
    Deleted(usize),
}

impl State {
    /// The tree after the first `position` records.
    pub(super) fn at(timeline: &Timeline, position: usize) -> State {
        let mut state = State {
            moments: vec![MomentState::default(); timeline.moments.len()],
            ..State::default()
        };
        for change in &timeline.start {
            state.apply(change, 0);
        }
        for (place, record) in timeline.records[..position].iter().enumerate() {
            for change in &record.changes {
                state.apply(change, place);
            }
        }
        state
    }

    fn apply(&mut self, change: &Change, place: usize) {
        match change {
            Change::Created { moment, below } => {
                self.moments[*moment].life = Life::Alive;
                self.moments[*moment].parent = *below;
            }
            Change::Deleted { moment } => {
                self.moments[*moment].life = Life::Deleted(place);
                self.moments[*moment].tags.clear();
                if self.current == Some(*moment) {
                    self.current = None;
                }
                if self.deletions.last() != Some(&place) {
                    self.deletions.push(place);
                }
            }
            Change::Moved { moment, below } => {
                let moment = &mut self.moments[*moment];
                moment.was = Some((moment.parent, place));
                moment.parent = *below;
            }
            Change::Current { moment } => self.current = *moment,
            Change::Held { moment, tag } => {
                self.moments[*moment].tags.insert(tag.clone());
            }
            Change::Released { moment, tag } => {
                self.moments[*moment].tags.remove(tag);
            }
            Change::Named { .. } => {}
        }
    }

    pub(super) fn is_alive(&self, moment: usize) -> bool {
        self.moments[moment].life == Life::Alive
    }

    pub(super) fn living(&self) -> usize {
        let moments = self.moments.iter();
        moments.filter(|moment| moment.life == Life::Alive).count()
    }

    /// The moments that have a row, in the order of their rows: the living, and the ghosts of the last deletions.
    fn shown(&self) -> Vec<usize> {
        let oldest = self.deletions.len().saturating_sub(GHOST_DELETIONS);
        let oldest = self.deletions.get(oldest).copied().unwrap_or(0);
        let is_shown = |moment: &usize| match self.moments[*moment].life {
            Life::Before => false,
            Life::Alive => true,
            Life::Deleted(place) => place >= oldest,
        };
        (0..self.moments.len()).filter(is_shown).collect()
    }

    /// Below which moment each row hangs: a living one below its parent, a ghost below its last parent. Where others
    /// stand between a ghost and its last parent, which is a ghost, too, it hangs below the nearest that lives.
    fn parents(&self, shown: &[usize]) -> BTreeMap<usize, usize> {
        let mut parents = BTreeMap::new();
        // The ghosts above, each below the one before.
        let mut above: Vec<usize> = Vec::new();
        for &moment in shown {
            let mut parent = self.moments[moment].parent;
            if self.is_alive(moment) {
                above.clear();
            } else {
                while above.last().is_some_and(|ghost| Some(*ghost) != parent) {
                    above.pop();
                }
                if above.is_empty() {
                    while let Some(dead) = parent.filter(|parent| !self.is_alive(*parent)) {
                        parent = self.moments[dead].parent;
                    }
                }
                above.push(moment);
            }
            parents.extend(parent.map(|parent| (moment, parent)));
        }
        parents
    }
}

/// What is drawn after a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) rows: Vec<Row>,
    /// How many lanes there are.
    pub(super) lanes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) what: Shown,
    pub(super) lane: usize,
    /// The edge to its parent; a root has none.
    pub(super) edge: Option<Edge>,
    /// The row of what it hung below before it was moved, if that is near.
    pub(super) dashed: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// A moment, and how many rows are closed below it.
    Moment { moment: usize, closed: usize },
    /// A run of plain rows, and how many moments they stand for.
    Fold {
        first: usize,
        last: usize,
        count: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// The row that it comes from.
    pub(super) from: usize,
    /// It runs beside the lanes, because others stand between. That happens only before an explicit move.
    pub(super) is_bow: bool,
}

/// Lays out the rows of a state. `pinned` are moments whose rows are neither folded nor closed away.
pub(super) fn frame(state: &State, pinned: &BTreeSet<usize>) -> Frame {
    let shown = state.shown();
    let parents = state.parents(&shown);
    let lanes = Lanes::of(&shown, &parents);
    let closed = closed(&shown, &parents, &lanes, pinned);
    let open: Vec<usize> = shown
        .into_iter()
        .filter(|moment| !closed.hidden.contains(moment))
        .collect();
    let folded = fold(state, &open, &lanes, &closed, pinned);
    let rows = connect(state, &folded, &parents, &lanes);
    Frame {
        lanes: rows.iter().map(|row| row.lane + 1).max().unwrap_or(1),
        rows,
    }
}

/// In which lane each row is.
#[derive(Debug, Default)]
struct Lanes {
    of: BTreeMap<usize, usize>,
    /// The row that goes on in its parent's lane: its last child.
    heirs: BTreeMap<usize, usize>,
    last_root: Option<usize>,
    /// Rows that something else separates from their parent.
    apart: BTreeSet<usize>,
}

impl Lanes {
    fn of(shown: &[usize], parents: &BTreeMap<usize, usize>) -> Lanes {
        let mut lanes = Lanes::default();
        let mut places = BTreeMap::new();
        for (place, moment) in shown.iter().enumerate() {
            places.insert(*moment, place);
            match parents.get(moment) {
                Some(parent) => _ = lanes.heirs.insert(*parent, *moment),
                None => lanes.last_root = Some(*moment),
            }
        }
        // The rows above whose last child is still to come, each in a lane further right than the one before.
        let mut above: Vec<usize> = Vec::new();
        for (place, moment) in shown.iter().enumerate() {
            let ends = |above: usize| places[&lanes.heirs[&above]];
            while above.last().is_some_and(|last| ends(*last) < place) {
                above.pop();
            }
            let right = above.last().map_or(0, |last| lanes.of[last] + 1);
            let parent = parents.get(moment);
            let lane = match parent {
                Some(parent) if above.last() == Some(parent) => {
                    if lanes.heirs[parent] == *moment {
                        above.pop();
                        right - 1
                    } else {
                        right
                    }
                }
                Some(_) => {
                    lanes.apart.insert(*moment);
                    right
                }
                None => right,
            };
            lanes.of.insert(*moment, lane);
            if lanes
                .heirs
                .get(moment)
                .is_some_and(|heir| places[heir] > place)
            {
                above.push(*moment);
            }
        }
        lanes
    }

    /// The row's parent, if nothing else separates them.
    fn joined(&self, moment: usize, parents: &BTreeMap<usize, usize>) -> Option<usize> {
        let parent = parents.get(&moment).copied();
        parent.filter(|_| !self.apart.contains(&moment))
    }
}

/// Side branches that are closed.
#[derive(Debug, Default)]
struct Closed {
    /// How many rows are hidden below each closed one.
    below: BTreeMap<usize, usize>,
    hidden: BTreeSet<usize>,
}

/// Closes side branches, if there are many rows: what hangs below a moment that is in a lane of its own, unless
/// something pinned is there.
fn closed(
    shown: &[usize],
    parents: &BTreeMap<usize, usize>,
    lanes: &Lanes,
    pinned: &BTreeSet<usize>,
) -> Closed {
    let mut closed = Closed::default();
    if shown.len() <= OPEN_MAX {
        return closed;
    }
    let mut kept = BTreeSet::new();
    for moment in pinned.iter().chain(&lanes.apart) {
        let mut at = *moment;
        while let Some(parent) = parents.get(&at) {
            if !kept.insert(*parent) {
                break;
            }
            at = *parent;
        }
    }
    // The closed row that hides each hidden one.
    let mut hides: BTreeMap<usize, usize> = BTreeMap::new();
    for &moment in shown {
        let parent = lanes.joined(moment, parents);
        let by = parent.and_then(|parent| match hides.get(&parent) {
            Some(by) => Some(*by),
            None => closed.below.contains_key(&parent).then_some(parent),
        });
        if let Some(by) = by {
            hides.insert(moment, by);
            closed.hidden.insert(moment);
            *closed.below.entry(by).or_default() += 1;
            continue;
        }
        let is_side = match parents.get(&moment) {
            Some(parent) => lanes.heirs[parent] != moment,
            None => lanes.last_root != Some(moment),
        };
        if is_side && !kept.contains(&moment) {
            closed.below.insert(moment, 0);
        }
    }
    closed
}

/// Rows and their lanes, without edges.
#[derive(Debug, Default)]
struct Folded {
    rows: Vec<(Shown, usize)>,
    /// The row of each moment, or that of the fold that it is in.
    places: BTreeMap<usize, usize>,
}

impl Folded {
    fn push(&mut self, shown: Shown, lane: usize, moments: &[usize]) {
        let place = self.rows.len();
        self.places
            .extend(moments.iter().map(|moment| (*moment, place)));
        self.rows.push((shown, lane));
    }
}

/// Folds long runs of plain rows that follow each other in a lane.
fn fold(
    state: &State,
    open: &[usize],
    lanes: &Lanes,
    closed: &Closed,
    pinned: &BTreeSet<usize>,
) -> Folded {
    let below = |moment: &usize| closed.below.get(moment).copied().unwrap_or(0);
    let is_plain = |moment: &usize| !pinned.contains(moment) && !lanes.apart.contains(moment);
    let goes_on = |one: &usize, next: &usize| {
        is_plain(one)
            && is_plain(next)
            && lanes.of[one] == lanes.of[next]
            && state.is_alive(*one) == state.is_alive(*next)
    };
    let mut folded = Folded::default();
    for run in open.chunk_by(goes_on) {
        let lane = lanes.of[&run[0]];
        let ends = if run.len() > RUN_MAX {
            RUN_ENDS
        } else {
            run.len()
        };
        let (begin, rest) = run.split_at(ends);
        let (middle, end) = rest.split_at(rest.len().saturating_sub(RUN_ENDS));
        let shown = |moment: &usize| Shown::Moment {
            moment: *moment,
            closed: below(moment),
        };
        for moment in begin {
            folded.push(shown(moment), lane, &[*moment]);
        }
        if let [first, .., last] = middle {
            let fold = Shown::Fold {
                first: *first,
                last: *last,
                count: middle.iter().map(|moment| 1 + below(moment)).sum(),
            };
            folded.push(fold, lane, middle);
        }
        for moment in end {
            folded.push(shown(moment), lane, &[*moment]);
        }
    }
    folded
}

/// Draws the edges between rows.
fn connect(
    state: &State,
    folded: &Folded,
    parents: &BTreeMap<usize, usize>,
    lanes: &Lanes,
) -> Vec<Row> {
    let row_of = |moment: usize| folded.places.get(&moment).copied();
    let connect = |(at, (what, lane)): (usize, &(Shown, usize))| {
        let (moment, was) = match what {
            Shown::Moment { moment, .. } => (*moment, state.moments[*moment].was),
            Shown::Fold { first, .. } => (*first, None),
        };
        let edge = parents.get(&moment).copied().and_then(row_of);
        let edge = edge.map(|from| Edge {
            from,
            is_bow: lanes.apart.contains(&moment),
        });
        let was = was.and_then(|(was, _)| row_of(was?));
        let dashed = was.filter(|from| {
            Some(*from) != edge.map(|edge| edge.from) && from.abs_diff(at) <= DASHED_MAX
        });
        Row {
            what: *what,
            lane: *lane,
            edge,
            dashed,
        }
    };
    folded.rows.iter().enumerate().map(connect).collect()
}

/// The moments whose rows are neither folded nor closed away: the current one, the held ones, and those that the record
/// before a position is about.
pub(super) fn pinned(timeline: &Timeline, state: &State, position: usize) -> BTreeSet<usize> {
    let mut pinned = timeline.about(position);
    pinned.extend(state.current);
    let moments = state.moments.iter().enumerate();
    pinned.extend(
        moments
            .filter(|(_, moment)| !moment.tags.is_empty())
            .map(|(at, _)| at),
    );
    pinned
}
