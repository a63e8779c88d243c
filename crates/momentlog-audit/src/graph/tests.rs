mod history;

use std::collections::{BTreeMap, BTreeSet};

use momentlog_core::{Extent, MomentKind, Scope};
use momentlog_engine::Provenance;
use momentlog_store::{FileStore, RealDisk};
use proptest::prelude::*;

use super::frame::{Frame, Shown, State, frame, pinned};
use super::{Graph, Subject};
use history::{HOSTILE, History, Op, UUID, chain, ops, play, tree, week};

impl History {
    fn graph(&self) -> Graph {
        self.graph_of(MomentKind::Checkpoint)
    }

    fn graph_of(&self, kind: MomentKind) -> Graph {
        let subject = Subject {
            log: self.log.log_id().unwrap(),
            domain: UUID,
            kind,
        };
        let steps = self.log.history_of(UUID).unwrap();
        Graph::of(subject, steps, &self.log.view()).unwrap()
    }
}

impl Graph {
    /// The state and the frame after the first `position` records.
    fn frame(&self, position: usize) -> (State, Frame) {
        let state = State::at(&self.timeline, position);
        let frame = frame(&state, &pinned(&self.timeline, &state, position));
        (state, frame)
    }

    fn last(&self) -> (State, Frame) {
        self.frame(self.timeline.records.len())
    }
}

/// Whether each living moment and its parent are those of the engine.
fn agrees(history: &History, graph: &Graph, position: usize) {
    let Some(record) = position
        .checked_sub(1)
        .map(|at| &graph.timeline.records[at])
    else {
        return;
    };
    let view = history.log.view_at(record.seq).unwrap();
    let list = view.domain(UUID).unwrap().checkpoints();
    let plain = |name: &str| name.split(" (#").next().unwrap().to_owned();
    let wanted: BTreeMap<String, Option<String>> = list
        .walk(Scope::All)
        .map(|moment| {
            (
                moment.name.to_string(),
                list.parent(moment.id).map(|parent| parent.name.to_string()),
            )
        })
        .collect();
    let state = State::at(&graph.timeline, position);
    let name = |moment: usize| plain(&graph.timeline.moments[moment].name);
    let living = (0..state.moments.len()).filter(|moment| state.is_alive(*moment));
    let got: BTreeMap<_, _> = living
        .map(|at| (name(at), state.moments[at].parent.map(name)))
        .collect();
    assert_eq!(got, wanted, "after record {}", record.seq);
    let holds = view.domain(UUID).unwrap().holds();
    let wanted = holds.iter().map(|(id, tag, _)| {
        let name = list.get(id).unwrap().name.to_string();
        (name, tag.to_string())
    });
    let got = (0..state.moments.len()).flat_map(|at| {
        let tags = state.moments[at].tags.iter();
        tags.map(move |tag| (name(at), tag.clone()))
    });
    let (wanted, got): (BTreeSet<_>, BTreeSet<_>) = (wanted.collect(), got.collect());
    assert_eq!(got, wanted, "after record {}", record.seq);
    assert_eq!(
        state.current.map(name),
        list.current().map(|current| current.name.to_string())
    );
}

/// Whether an edge runs over a row that is not its end, and which edges cross.
fn faults(frame: &Frame) -> (Vec<String>, Vec<String>) {
    let (mut overlaps, mut crossings) = (Vec::new(), Vec::new());
    let edges: Vec<(usize, usize)> = frame
        .rows
        .iter()
        .enumerate()
        .filter_map(|(at, row)| {
            row.edge
                .filter(|edge| !edge.is_bow)
                .map(|edge| (edge.from, at))
        })
        .collect();
    let lane = |row: usize| frame.rows[row].lane;
    for &(from, to) in &edges {
        assert!(from < to && lane(from) <= lane(to), "{frame:?}");
        overlaps.extend(
            (from + 1..to)
                .filter(|row| lane(*row) == lane(from))
                .map(|row| format!("{from}-{to} over {row}")),
        );
        // Another edge's upright part, between the lanes of this one, at the row where it turns.
        let crossing = edges.iter().filter(|(other, end)| {
            (lane(from) + 1..lane(to)).contains(&lane(*other)) && *other < to && to < *end
        });
        crossings.extend(crossing.map(|other| format!("{from}-{to} and {other:?}")));
    }
    (overlaps, crossings)
}

fn moments_of(frame: &Frame) -> Vec<usize> {
    let rows = frame.rows.iter().map(|row| match row.what {
        Shown::Moment { moment, .. } => moment,
        Shown::Fold { first, .. } => first,
    });
    rows.collect()
}

fn check(ops: &[Op], has_moves: bool) {
    let history = play(ops);
    let graph = history.graph();
    for position in 0..=graph.timeline.records.len() {
        agrees(&history, &graph, position);
        let (state, frame) = graph.frame(position);
        let rows = moments_of(&frame);
        assert!(rows.is_sorted(), "rows have changed their order");
        let pins = pinned(&graph.timeline, &state, position);
        for pin in pins.iter().filter(|pin| state.is_alive(**pin)) {
            assert!(rows.contains(pin), "{pin} is hidden");
        }
        let (overlaps, crossings) = faults(&frame);
        assert_eq!(overlaps, [""; 0], "{ops:?}\n{frame:?}");
        let is_last = position == graph.timeline.records.len();
        if is_last || !has_moves {
            assert_eq!(crossings, [""; 0], "{ops:?}\n{frame:?}");
            let living = frame.rows.iter().filter(|row| match row.what {
                Shown::Moment { moment, .. } => state.is_alive(moment),
                Shown::Fold { first, .. } => state.is_alive(first),
            });
            let (mut bows, mut lanes) = (0, 0);
            for row in living {
                bows += usize::from(row.edge.is_some_and(|edge| edge.is_bow));
                lanes = lanes.max(row.lane + 1);
            }
            assert_eq!(bows, 0, "{ops:?}\n{frame:?}");
            if is_last && lanes > 0 {
                let most = state.living().ilog2() as usize + 1;
                assert!(
                    lanes <= most,
                    "{lanes} lanes for {} moments: {ops:?}",
                    state.living()
                );
            }
        }
    }
    assert_eq!(graph.html(), history.graph().html());
    assert_eq!(graph.svg(), history.graph().svg());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_keep_their_order_and_no_edge_of_the_last_state_crosses_another(ops in ops(120, true)) {
        check(&ops, true);
    }

    #[test]
    fn where_nothing_was_moved_but_by_deletions_no_edge_ever_crosses_another(ops in ops(120, false)) {
        check(&ops, false);
    }
}

#[test]
fn a_deletion_is_told_with_what_it_moved() {
    let svg = week().graph().svg();
    for text in [
        "checkpoints of web01",
        "6 checkpoints, 2 deleted",
        "checkpoint c8 created below c7",
        "was below c3 until 9",
        "deleted in 9 by intern@ops2",
        "deleted in 7 by intern@ops2",
        "you are here",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
    let graph = week().graph();
    let then = graph.svg_at(momentlog_store::Seq::new(9).unwrap());
    assert!(
        then.contains("checkpoint c3 deleted; c4 moved below c1"),
        "{then}"
    );
    assert!(then.contains("2 checkpoints, 2 deleted"), "{then}");
}

#[test]
fn a_long_chain_is_one_lane_and_folds() {
    let (_, frame) = chain(300).graph().last();
    assert_eq!((frame.lanes, frame.rows.len()), (1, 8));
    assert!(frame.rows.iter().any(|row| matches!(
        row.what,
        Shown::Fold {
            first: 3,
            last: 295,
            count: 293
        }
    )));
    // The fold hangs below the row before it, and the row behind it below the fold.
    let edges: Vec<_> = frame
        .rows
        .iter()
        .map(|row| row.edge.map(|edge| edge.from))
        .collect();
    assert_eq!(
        edges,
        [
            None,
            Some(0),
            Some(1),
            Some(2),
            Some(3),
            Some(4),
            Some(5),
            Some(6)
        ]
    );
}

#[test]
fn a_chain_keeps_its_lane_where_every_moment_has_a_newer_child_besides() {
    let mut history = chain(20);
    for at in 1..20 {
        assert!(history.create_below(Some(&format!("n{at}")), &format!("leaf{at}")));
    }
    assert_eq!(history.graph().last().1.lanes, 2);
}

#[test]
fn twelve_plain_rows_are_not_folded_and_thirteen_are() {
    // The current one is not plain.
    assert_eq!(chain(13).graph().last().1.rows.len(), 13);
    assert_eq!(chain(14).graph().last().1.rows.len(), 8);
}

#[test]
fn many_children_of_one_are_two_lanes_and_few_rows() {
    let mut history = History::new("vm");
    history.create("root");
    for at in 0..400 {
        assert!(history.create_below(Some("root"), &format!("n{at}")));
    }
    let (_, frame) = history.graph().last();
    assert_eq!(frame.lanes, 2);
    assert!(frame.rows.len() <= 10, "{frame:?}");
}

#[test]
fn side_branches_of_a_large_tree_are_closed_but_for_what_is_pinned() {
    let graph = tree(600).graph();
    let (state, frame) = graph.last();
    let closed: usize = frame
        .rows
        .iter()
        .map(|row| match row.what {
            Shown::Moment { closed, .. } => closed,
            Shown::Fold { count, .. } => count - 1,
        })
        .sum();
    assert!(
        state.living() > 400 && frame.rows.len() < 200,
        "{} rows",
        frame.rows.len()
    );
    assert!(closed > 200, "{closed} closed");
    // The current one is in a side branch.
    let current = state.current.unwrap();
    assert!(moments_of(&frame).contains(&current));
    let mut up = state.moments[current].parent;
    while let Some(parent) = up {
        let is_closed = frame.rows.iter().any(|row| matches!(row.what, Shown::Moment { moment, closed } if moment == parent && closed > 0));
        assert!(!is_closed, "an ancestor of the current one is closed");
        up = state.moments[parent].parent;
    }
}

#[test]
fn what_is_held_is_marked_and_never_folded() {
    let mut history = chain(30);
    // What the newest record is about is not folded either, so another one follows each.
    let mut drawn = |is_held: bool| {
        if is_held {
            assert!(history.hold("n11", "legal") && history.hold("n11", "audit"));
        } else {
            assert!(history.release("n11", "legal") && history.release("n11", "audit"));
        }
        assert!(history.set_current(Some("n30")));
        history.graph()
    };
    let rows = |graph: &Graph| moments_of(&graph.last().1);
    let held = drawn(true);
    assert!(rows(&held).contains(&10));
    for text in [held.svg(), held.html()] {
        assert!(text.contains("held: audit, legal"), "{text}");
    }
    let released = drawn(false);
    assert!(!rows(&released).contains(&10));
    assert!(!released.svg().contains("held: "));
}

#[test]
fn an_archived_history_begins_with_what_was_there() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileStore::new(RealDisk::new(directory.path().join("store")));
    let archive = RealDisk::new(directory.path().join("archive"));
    let mut history = History::over(Box::new(store), "web01");
    for name in ["c1", "c2", "c3"] {
        assert!(history.create(name));
    }
    assert!(history.hold("c1", "legal"));
    history.log.make_image().unwrap();
    history
        .log
        .archive(&Provenance::default(), &archive)
        .unwrap();

    // No record of the domain is left.
    let graph = history.graph();
    assert_eq!((graph.timeline.records.len(), graph.moments()), (0, 3));
    assert!(graph.svg().contains("3 checkpoints, 0 deleted"));
    assert!(graph.svg().contains("before the first record"));

    assert!(history.delete("c2", Extent::One));
    assert!(history.create("c4"));
    let graph = history.graph();
    assert_eq!(graph.timeline.records.len(), 2);
    for position in 0..=2 {
        agrees(&history, &graph, position);
    }
    assert_eq!(graph.frame(0).1.rows.len(), 3);
    let svg = graph.svg();
    for text in [
        "3 checkpoints, 1 deleted",
        "checkpoint c4 created below c3",
        "was below c2 until 9",
        "held: legal",
    ] {
        assert!(svg.contains(text), "{text}: {svg}");
    }
    assert_eq!(graph.html().matches("<tr><td>").count(), 3);
}

#[test]
fn ghosts_of_the_last_twenty_deletions_are_shown() {
    let mut history = History::new("vm");
    history.create("root");
    for at in 0..25 {
        history.create(&format!("n{at}"));
        history.delete(&format!("n{at}"), Extent::One);
    }
    let graph = history.graph();
    let (state, frame) = graph.last();
    let count: usize = frame
        .rows
        .iter()
        .map(|row| match row.what {
            Shown::Moment { moment, .. } => usize::from(!state.is_alive(moment)),
            Shown::Fold { count, .. } => count,
        })
        .sum();
    assert_eq!(count, 20);
}

#[test]
fn names_that_are_code_stay_names() {
    let mut history = History::new("</script><b>&\u{2028}");
    for name in HOSTILE {
        let actor = format!("</title></script>{name}");
        assert!(history.create_snapshot(&actor, name), "{name}");
    }
    let graph = history.graph_of(MomentKind::Snapshot);
    let (html, svg) = (graph.html(), graph.svg());
    for (text, count) in [
        ("</script", 2),
        ("<script", 2),
        ("</title", 1),
        ("<!--", 0),
        ("]]>", 0),
        ("<img", 0),
        ("<b>", 0),
    ] {
        assert_eq!(html.matches(text).count(), count, "{text}");
    }
    for text in ["</script", "<script", "<img", "<!--", "]]>", "<b>"] {
        assert!(!svg.contains(text), "{text}");
    }
    for text in ["\u{202e}", "\u{2028}"] {
        assert!(!html.contains(text) && !svg.contains(text), "{text:?}");
    }
    assert!(
        html.contains("&lt;b&gt;&amp;\\xe2\\x80\\xa8</title>"),
        "{html}"
    );
}

/// A page has at most 24 KB, and 300 bytes for each moment that has two records.
#[track_caller]
fn fits(history: &History, moments: usize) {
    let graph = history.graph();
    assert_eq!(graph.timeline.moments.len(), moments);
    assert!(
        graph.timeline.records.len() >= 2 * moments,
        "two records each"
    );
    let length = graph.html().len();
    assert!(
        length <= 24 * 1024 + 300 * moments,
        "{length} bytes for {moments} moments"
    );
}

#[test]
fn a_page_is_small() {
    let mut history = week();
    for night in 4..=8 {
        history.set_current(Some(&format!("c{night}")));
    }
    fits(&history, 8);
    fits(
        &{
            let mut history = chain(300);
            for at in 1..=300 {
                history.set_current(Some(&format!("n{at}")));
            }
            history
        },
        300,
    );
    fits(&tree(2000), 2000);
    let mut history = History::new("vm");
    for at in 0..2000 {
        history.create(&format!("nightly-{at}"));
        let gone = if at < 14 { at } else { at - 14 };
        if at < 14 {
            history.set_current(Some(&format!("nightly-{gone}")));
        } else {
            history.delete(&format!("nightly-{gone}"), Extent::One);
        }
    }
    fits(&history, 2000);
}
