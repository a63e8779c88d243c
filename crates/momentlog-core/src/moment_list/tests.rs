use super::links::Link;
use super::*;

fn id(number: u64) -> MomentId {
    MomentId::new(number).unwrap()
}

fn name(text: &str) -> MomentName {
    MomentName::new(text).unwrap()
}

/// Builds a list from `name` or `name<parent`, numbered from 1 in the order given.
fn list(moments: &str) -> MomentList<()> {
    let mut list = MomentList::new();
    for (index, word) in moments.split_whitespace().enumerate() {
        let (child, parent) = word
            .split_once('<')
            .map_or((word, None), |(child, parent)| (child, Some(parent)));
        let parent = parent
            .and_then(|parent| list.find(parent))
            .map(|moment| moment.id);
        let def = Arc::new(());
        list.link(id(index as u64 + 1), parent, name(child), 0, def);
    }
    assert_eq!(list.check(), Ok(()));
    list
}

fn names(list: &MomentList<()>, scope: Scope) -> String {
    list.walk(scope)
        .map(|moment| moment.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

fn find(list: &MomentList<()>, name: &str) -> MomentId {
    list.find(name).unwrap().id
}

const FOREST: &str = "r a<r a1<a a2<a1 a3<a b<r b1<b";

#[test]
fn a_name_that_is_not_there_finds_nothing() {
    assert_eq!(list(FOREST).find(""), None);
    assert_eq!(list(FOREST).find("R"), None);
}

#[test]
fn siblings_come_newest_first_and_parents_before_children() {
    let list = list(FOREST);
    assert_eq!(names(&list, Scope::All), "r b b1 a a3 a1 a2");
    assert_eq!(names(&list, Scope::Roots), "r");
    assert_eq!(names(&list, Scope::ChildrenOf(find(&list, "r"))), "b a");
    assert_eq!(
        names(&list, Scope::DescendantsOf(find(&list, "a"))),
        "a3 a1 a2"
    );
    assert_eq!(names(&list, Scope::DescendantsOf(find(&list, "a2"))), "");
}

/// A list that comes from an image has no gaps where moments were removed.
#[test]
fn moments_of_equal_lists_are_equal_wherever_they_are_kept() {
    let mut list = list(FOREST);
    list.remove(find(&list, "a"));
    let (placed, current) = list.to_rows();
    let again = MomentList::restore(placed.collect::<Vec<_>>(), current).unwrap();
    assert!(again == list);
    let moments = |list: &MomentList<()>| list.walk(Scope::All).map(|moment| moment.slot).max();
    assert_ne!(moments(&list), moments(&again));
    assert!(list.walk(Scope::All).eq(again.walk(Scope::All)));
    let other = again.find("b").unwrap();
    assert_ne!(list.find("r").unwrap(), other);
}

#[test]
fn a_removed_moments_children_go_in_front_as_a_block() {
    let mut list = list(FOREST);
    list.remove(find(&list, "a"));
    assert_eq!(names(&list, Scope::All), "r a3 a1 a2 b b1");
    list.remove(find(&list, "r"));
    assert_eq!(names(&list, Scope::Roots), "a3 a1 b");
    assert_eq!(list.check(), Ok(()));
}

#[test]
fn removing_descendants_leaves_the_moment() {
    let mut list = list(FOREST);
    let a = find(&list, "a");
    let below: Vec<_> = list
        .walk(Scope::DescendantsOf(a))
        .map(|moment| moment.id)
        .collect();
    list.set_current(Some(find(&list, "a2")));
    list.remove_descendants(a, &below);
    assert_eq!(names(&list, Scope::All), "r b b1 a");
    assert_eq!(list.current_id(), None);
    assert_eq!(list.check(), Ok(()));
}

#[test]
fn relinking_moves_a_moment_to_the_front_with_its_children() {
    let mut list = list(FOREST);
    let (a1, r) = (find(&list, "a1"), find(&list, "r"));
    list.relink(a1, Some(r));
    assert_eq!(names(&list, Scope::All), "r a1 a2 b b1 a a3");
    list.relink(a1, None);
    assert_eq!(names(&list, Scope::Roots), "a1 r");
    assert_eq!(list.check(), Ok(()));
}

#[test]
fn the_three_refusals_of_a_parent() {
    let list = list("r1 r3<r1 r4<r3");
    let check = |child: &str, parent: &str| {
        list.check_parent(&name(child), Some(&name(parent)))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(check("r1", "r1"), "cannot set moment r1 as its own parent");
    assert_eq!(
        check("new", "new"),
        "cannot set moment new as its own parent"
    );
    assert_eq!(check("r1", "x"), "parent x for moment r1 not found");
    assert_eq!(check("r1", "r4"), "parent r3 would create cycle to r1");
    assert_eq!(check("r1", "r3"), "parent r3 would create cycle to r1");
    assert_eq!(
        list.check_parent(&name("r4"), Some(&name("r1"))),
        Ok(Some(id(1)))
    );
    assert_eq!(list.check_parent(&name("r1"), None), Ok(None));
}

#[test]
fn the_leaf_is_that_of_a_single_chain() {
    assert_eq!(list("").leaf(), None);
    assert_eq!(list("a b<a c<b").leaf().unwrap().name.as_str(), "c");
    assert_eq!(list("a b<a c<a").leaf(), None);
    assert_eq!(list("a b").leaf(), None);
}

#[test]
fn both_leaf_filters_together_keep_nothing() {
    let list = list(FOREST);
    let count = |leaves, no_leaves| {
        let leaves = LeafFilter::from_bits(leaves, no_leaves);
        for scope in [
            Scope::All,
            Scope::Roots,
            Scope::ChildrenOf(id(1)),
            Scope::DescendantsOf(id(2)),
        ] {
            let listed = list.list(scope, leaves, |()| true).count();
            assert_eq!(list.count(scope, leaves), listed, "{scope:?} {leaves:?}");
        }
        list.count(Scope::All, leaves)
    };
    assert_eq!(
        (
            count(false, false),
            count(true, false),
            count(false, true),
            count(true, true)
        ),
        (7, 3, 4, 0)
    );
}

#[test]
fn a_clone_keeps_its_version() {
    let mut list = list(FOREST);
    let before = list.clone();
    list.remove(find(&list, "a"));
    assert_eq!(names(&before, Scope::All), "r b b1 a a3 a1 a2");
    assert_eq!(before.check(), Ok(()));
}

/// Two of three moments; the last is gone.
fn list_with_one_gone() -> MomentList<()> {
    let mut list = list("a b<a c<b");
    list.remove(id(3));
    list
}

#[test]
fn each_broken_rule_is_named() {
    let sound = list("a b<a c<b");
    let (b, c) = (Slot::at(1), Slot::at(2));

    let mut list = sound.clone();
    list.current = Some(Slot::at(8));
    assert_eq!(list.check(), Err(Broken::Current));
    assert_eq!(list.check_around(id(9)), Err(Broken::Current));

    let mut list = sound.clone();
    list.rows.update(b, |row| row.name = name("a"));
    assert_eq!(list.check(), Err(Broken::Name(id(2))));
    assert_eq!(list.check_around(id(2)), Err(Broken::Name(id(2))));

    let mut list = sound.clone();
    list.rows.update(b, |row| row.id = id(1));
    assert_eq!(list.check(), Err(Broken::Order(id(1))));

    let mut list = sound.clone();
    list.links.push(None);
    assert_eq!(list.check(), Err(Broken::Columns));

    let mut list = sound.clone();
    list.last = Some(id(9));
    assert_eq!(list.check(), Err(Broken::Columns));

    let below = |parents: [Option<Slot>; 3]| {
        let mut list = sound.clone();
        let link = |parent| Link {
            parent,
            ..Link::default()
        };
        list.links = Links::restore(parents.map(link).to_vec());
        list.check()
    };
    let a = Slot::at(0);
    assert_eq!(below([None, Some(a), Some(b)]), Ok(()));
    let gone = Some(Slot::at(8));
    assert_eq!(
        below([None, gone, Some(b)]),
        Err(Broken::ParentMissing(id(2)))
    );
    // Both are children of a, and neither is linked to the other.
    assert_eq!(
        below([None, Some(a), Some(a)]),
        Err(Broken::ChildCount(Some(id(1))))
    );

    // A slot that was given up, and then counts as a leaf.
    let mut list = list_with_one_gone();
    list.links.forget(c);
    assert!(matches!(list.check(), Err(Broken::Leaves { .. })));

    let mut list = sound.clone();
    list.links.forget(b);
    assert!(list.check().is_err());

    // b and c hang below each other: all lists of children are sound, but no root leads there.
    let mut list = sound.clone();
    list.links.unlink(b);
    list.links.link(b, Some(c));
    assert_eq!(list.check(), Err(Broken::Cycle { reached: 1, len: 3 }));

    let mut list = sound.clone();
    list.links.drop_children(b);
    assert!(matches!(list.check(), Err(Broken::Cycle { .. })));
    assert_eq!(list.check_around(id(3)), Err(Broken::Links(id(3))));
}

/// As many moments as take several chunks, of which most go again.
#[test]
fn a_list_that_lost_most_of_its_moments_is_compacted() {
    let mut list = MomentList::new();
    let mut versions = Vec::new();
    for number in 1..=10_000 {
        let parent = (number > 1).then(|| id(number / 2));
        list.link(
            id(number),
            parent.filter(|_| number > 1),
            name(&number.to_string()),
            0,
            Arc::new(number),
        );
        if number % 1000 == 0 {
            versions.push(list.clone());
        }
    }
    let before = list.clone();
    for number in (1..=10_000).filter(|number| number % 100 != 0) {
        list.remove(id(number));
        if number % 1000 == 1 {
            assert_eq!(list.check(), Ok(()));
            versions.push(list.clone());
        }
    }
    assert_eq!(list.check(), Ok(()));
    assert_eq!((list.len(), list.walk(Scope::All).count()), (100, 100));
    assert!(
        list.rows.len() < 400,
        "{} slots for 100 moments",
        list.rows.len()
    );
    let found = list.find("9900").map(|moment| (moment.id, **moment.def));
    assert_eq!(found, Some((id(9900), 9900)));
    assert_eq!(list.get(id(9901)), None);
    assert_eq!(before.len(), 10_000);
    for version in &versions {
        assert_eq!(version.check(), Ok(()));
    }
}

#[test]
fn a_list_is_restored_as_it_was_placed() {
    let mut sound = list(FOREST);
    sound.relink(find(&sound, "a1"), None);
    sound.remove(find(&sound, "a"));
    sound.set_current(Some(find(&sound, "b1")));
    let (placed, current) = sound.to_rows();
    let placed: Vec<_> = placed.collect();
    let restored = MomentList::restore(placed.clone(), current).unwrap();
    assert_eq!(restored, sound);
    assert_eq!(restored.check(), Ok(()));
    for (index, moment) in placed.iter().enumerate() {
        let wrong = |change: &dyn Fn(&mut ListRow<()>)| {
            let mut placed = placed.clone();
            change(&mut placed[index]);
            MomentList::restore(placed, current).unwrap_err()
        };
        let own = u32::try_from(index).unwrap();
        wrong(&|placed| placed.parent = Some(own));
        wrong(&|placed| placed.parent = Some(99));
        wrong(&|placed| placed.next = Some(own));
        wrong(&|placed| placed.next = Some(99));
        if moment.next.is_some() {
            wrong(&|placed| placed.next = None);
        }
        if index > 0 {
            let mut twice = placed.clone();
            twice[index].name = placed[0].name.clone();
            let twice = MomentList::restore(twice, current);
            assert_eq!(twice.unwrap_err(), Broken::Name(moment.id));
            assert_eq!(wrong(&|placed| placed.id = id(1)), Broken::Order(id(1)));
        }
    }
    let wrong = MomentList::restore(placed, Some(99));
    assert_eq!(wrong.unwrap_err(), Broken::Current);
}

/// The index is made by the first who needs it, and versions that share it change on their own.
#[test]
fn names_are_found_before_and_after_they_are_indexed() {
    let sound = list(FOREST);
    let (placed, current) = sound.to_rows();
    let placed: Vec<_> = placed.collect();
    for looked in 0..3 {
        let before = MomentList::restore(placed.clone(), current).unwrap();
        for _ in 0..looked {
            assert_eq!(find(&before, "b1"), id(7));
            assert_eq!(before.find("x"), None);
        }
        let mut after = before.clone();
        after.remove(id(7));
        assert!(after.link(id(8), None, name("x"), 0, Arc::new(())));
        assert!(!after.link(id(9), None, name("x"), 0, Arc::new(())));
        assert_eq!((after.find("b1"), find(&after, "x")), (None, id(8)));
        assert_eq!((find(&before, "b1"), before.find("x")), (id(7), None));
        assert_eq!((before.check(), after.check()), (Ok(()), Ok(())));
    }
}

/// Each adds to what they share, some of it under the same names and in the same slots.
#[test]
fn threads_that_go_different_ways_from_one_version_do_not_see_each_other() {
    const COMMON: u64 = 100;
    const OWN: u64 = 3000;
    let mut common = MomentList::new();
    for number in 1..=COMMON {
        let parent = (number > 1).then(|| id(number / 2));
        common.link(
            id(number),
            parent,
            name(&format!("n{number}")),
            0,
            Arc::new(0),
        );
    }
    let go = |way: u64| {
        let mut list = common.clone();
        for number in COMMON + 1..=COMMON + OWN {
            let text = match number % 3 {
                0 => format!("n{number}"),
                _ => format!("{way}-{number}"),
            };
            let held = list.clone();
            assert!(list.link(
                id(number),
                Some(id(1 + number % COMMON)),
                name(&text),
                0,
                Arc::new(way)
            ));
            if number % 5 == way {
                list.remove(id(number));
            }
            drop(held);
        }
        list
    };
    let ways: Vec<MomentList<u64>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..4).map(|way| scope.spawn(move || go(way))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (way, list) in (1..).zip(&ways) {
        assert_eq!(list.check(), Ok(()));
        let is_own = |number: u64| number <= COMMON || number % 5 != way;
        let expected: Vec<MomentId> = (1..=COMMON + OWN)
            .filter(|number| is_own(*number))
            .map(id)
            .collect();
        assert_eq!(list.ids().collect::<Vec<_>>(), expected);
        let defs = list
            .walk(Scope::All)
            .all(|moment| **moment.def == if moment.id <= id(COMMON) { 0 } else { way });
        assert!(defs);
        let others = format!("{}-{}", way % 3 + 1, COMMON + 1);
        assert_eq!(list.find(&others), None);
    }
    assert_eq!((common.len() as u64, common.check()), (COMMON, Ok(())));
    assert_eq!(common.find("n102"), None);
}

/// A list is not searched longer for a name that was often given to others, and versions that are held keep theirs.
#[test]
fn a_name_that_comes_and_goes_leads_to_the_last_who_has_it() {
    // A few names, and more than are kept beside the index.
    names_take_turns(7);
    names_take_turns(700);
}

fn names_take_turns(count: u64) {
    let mut list = MomentList::new();
    for number in 1..=1000 {
        list.link(
            id(number),
            None,
            name(&format!("n{number}")),
            0,
            Arc::new(()),
        );
    }
    let mut held = Vec::new();
    for number in 1001..=3000 {
        let text = format!("daily-{}", number % count);
        if let Some(last) = list.find(&text).map(|moment| moment.id) {
            list.remove(last);
        }
        assert!(list.link(id(number), None, name(&text), 0, Arc::new(())));
        assert!(
            !list
                .clone()
                .link(id(number + 1), None, name(&text), 0, Arc::new(()))
        );
        if number % 100 == 0 {
            held.push((number, list.clone()));
        }
    }
    assert!(list.names.candidates("daily-3") < 10);
    // Two who do the same share the entry.
    for mut list in [list.clone(), list.clone()] {
        assert!(list.link(id(4000), None, name("new"), 0, Arc::new(())));
        assert_eq!(list.names.candidates("new"), 1);
    }
    for (number, list) in held {
        assert_eq!(list.check(), Ok(()));
        for number in (1001..=number).rev().take(usize::try_from(count).unwrap()) {
            assert_eq!(
                find(&list, &format!("daily-{}", number % count)),
                id(number)
            );
        }
    }
}

#[test]
fn ids_with_any_gaps_are_found() {
    let mut list = MomentList::new();
    let numbers: Vec<u64> = (0..200)
        .map(|at: u64| 1 + at + at.pow(7))
        .chain([u64::MAX])
        .collect();
    for number in &numbers {
        list.link(
            id(*number),
            None,
            name(&number.to_string()),
            0,
            Arc::new(()),
        );
    }
    for number in &numbers {
        assert_eq!(
            list.get(id(*number)).map(|moment| moment.id),
            Some(id(*number))
        );
        let absent = number.saturating_add(1);
        let found = list.get(id(absent)).map(|moment| moment.id);
        assert_eq!(found, numbers.contains(&absent).then(|| id(absent)));
    }
}
