//! The order of the rows: one place for every moment that ever was.
//!
//! The moments hang in a forest of all that ever were: a creation adds one, an explicit move takes along all that was
//! ever below, and a deletion changes nothing. What is left of it without the deleted ones is the tree, because
//! children of a deleted moment move to its parent. So a walk through this forest meets the moments of every state
//! between two explicit moves in the order of a walk through that state's tree, and rows never change their order.

/// One moment that ever was, as the order needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hanging {
    /// Where its creation or its last explicit move has put it, among those that ever were.
    pub(super) below: Option<usize>,
    /// Whether it is there in the last state.
    pub(super) is_alive: bool,
}

/// Returns the moments in the order of their rows.
///
/// It is a depth-first walk. Of the children of a living moment in the last state, the one with the most descendants
/// comes last (among equals the one that was made first), and what is deleted with all below it comes first.
pub(super) fn order(moments: &[Hanging]) -> Vec<usize> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); moments.len()];
    let mut roots = Vec::new();
    for (at, moment) in moments.iter().enumerate() {
        match moment.below {
            Some(below) => children[below].push(at),
            None => roots.push(at),
        }
    }
    let weights = weights(moments, &children, &roots);
    arrange(&mut roots, &weights);
    for siblings in &mut children {
        arrange(siblings, &weights);
    }
    walk(&children, &roots)
}

/// How much hangs below a moment in the last state, itself included. Of a deleted one it is what hangs below the heaviest
/// of those that are its parent's children now. Then, how many there ever were.
type Weight = (usize, usize);

fn weights(moments: &[Hanging], children: &[Vec<usize>], roots: &[usize]) -> Vec<Weight> {
    let mut weights = vec![(0, 0); moments.len()];
    let mut living = vec![0; moments.len()];
    for at in walk(children, roots).into_iter().rev() {
        let heaviest = children[at].iter().map(|child| weights[*child].0).max();
        let ever: usize = children[at].iter().map(|child| weights[*child].1).sum();
        let below: usize = children[at].iter().map(|child| living[*child]).sum();
        let is_alive = moments[at].is_alive;
        living[at] = below + usize::from(is_alive);
        let weight = if is_alive {
            living[at]
        } else {
            heaviest.unwrap_or(0)
        };
        weights[at] = (weight, ever + 1);
    }
    weights
}

/// Puts siblings, which are in the order of their creation, into that of their rows.
fn arrange(siblings: &mut [usize], weights: &[Weight]) {
    let heaviest = siblings
        .iter()
        .rev()
        .max_by_key(|at| weights[**at])
        .copied();
    siblings.sort_by_key(|at| (Some(*at) == heaviest, weights[*at].0 > 0));
}

/// A depth-first walk.
fn walk(children: &[Vec<usize>], roots: &[usize]) -> Vec<usize> {
    let mut walked = Vec::with_capacity(children.len());
    let mut ahead: Vec<usize> = roots.iter().rev().copied().collect();
    while let Some(at) = ahead.pop() {
        walked.push(at);
        ahead.extend(children[at].iter().rev());
    }
    walked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn living(below: impl Into<Option<usize>>) -> Hanging {
        Hanging {
            below: below.into(),
            is_alive: true,
        }
    }

    fn deleted(below: impl Into<Option<usize>>) -> Hanging {
        Hanging {
            below: below.into(),
            is_alive: false,
        }
    }

    #[test]
    fn the_child_with_the_most_below_it_comes_last() {
        let moments = [living(None), living(0), living(1), living(0), living(0)];
        assert_eq!(order(&moments), [0, 3, 4, 1, 2]);
    }

    #[test]
    fn among_equals_the_first_comes_last() {
        assert_eq!(
            order(&[living(None), living(0), living(0), living(0)]),
            [0, 2, 3, 1]
        );
    }

    #[test]
    fn what_hangs_below_a_deleted_moment_counts_as_its_parents() {
        // Below 0 hang 2 with one below it, and in the deleted 1's stead 4 and 6, of which 6 has two below it.
        let moments = [
            living(None),
            deleted(0),
            living(0),
            living(2),
            living(1),
            deleted(1),
            living(1),
            living(6),
            living(6),
        ];
        assert_eq!(order(&moments), [0, 2, 3, 1, 5, 4, 6, 8, 7]);
    }

    #[test]
    fn where_all_are_deleted_the_branch_that_had_the_most_comes_last() {
        let moments = [deleted(None), deleted(0), deleted(1), deleted(0)];
        assert_eq!(order(&moments), [0, 3, 1, 2]);
    }
}
