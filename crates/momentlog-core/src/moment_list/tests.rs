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
        let parent = list.find(parent).map(|moment| moment.id);
        list.link(
            Moment {
                id: id(index as u64 + 1),
                name: name(child),
                def: (),
            },
            parent,
        );
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
    list.find(Some(name)).unwrap().id
}

const FOREST: &str = "r a<r a1<a a2<a1 a3<a b<r b1<b";

#[test]
fn an_absent_name_finds_nothing() {
    assert_eq!(list(FOREST).find(None), None);
    assert_eq!(list(FOREST).find(Some("")), None);
    assert_eq!(list(FOREST).find(Some("R")), None);
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
        list.list(Scope::All, LeafFilter::from_bits(leaves, no_leaves), |()| {
            true
        })
        .count()
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

#[test]
fn each_broken_rule_is_named() {
    let sound = list("a b<a c<b");

    let mut list = sound.clone();
    list.current = Some(id(9));
    assert_eq!(list.check(), Err(Broken::Current(id(9))));

    let mut list = sound.clone();
    list.names.remove(&name("b"));
    list.names.insert(name("x"), id(2));
    assert_eq!(list.check(), Err(Broken::Name(id(2))));
    assert_eq!(list.check_around(id(2)), Err(Broken::Name(id(2))));

    let mut list = sound.clone();
    list.links.forget(id(2));
    assert!(list.check().is_err());

    // b and c hang below each other: all lists of children are sound, but no root leads there.
    let mut list = sound.clone();
    list.links.unlink(id(2));
    list.links.link(id(2), Some(id(3)));
    assert_eq!(list.check(), Err(Broken::Cycle { reached: 1, len: 3 }));

    let mut list = sound.clone();
    list.links.drop_children(id(2));
    assert!(matches!(list.check(), Err(Broken::Cycle { .. })));
    assert_eq!(list.check_around(id(3)), Err(Broken::Links(id(3))));
}
