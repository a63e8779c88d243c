//! Creation times that a moment claims and that need an explanation.
//!
//! A claimed time is part of a definition: whoever makes or redefines a moment may write any. The time of the record is the
//! writer's clock and never falls. None of what is listed here is proof of anything: a clock that was wrong leaves the same.

use momentlog_core::{DomainUuid, MomentId, MomentKind, MomentList, Scope};
use momentlog_engine::Step;

use crate::consequence::{Consequence, Named, What, consequences};

/// A claimed creation time that needs an explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// The kind of the moment.
    pub kind: MomentKind,
    /// The moment.
    pub moment: Named,
    /// The time that it claims after the record, in seconds since 1970.
    pub claimed: i64,
    /// What is odd about it.
    pub why: SuspicionOf,
}

/// What is odd about a claimed time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuspicionOf {
    /// It is in the future of the record.
    Future,
    /// It is before that of its parent.
    BeforeParent {
        /// The parent.
        parent: Named,
        /// The time that the parent claims.
        claimed: i64,
    },
    /// A redefinition changed it.
    Changed {
        /// The time that it claimed before.
        from: i64,
    },
    /// It is the same as that of a sibling that another record made.
    SameAsSibling {
        /// The sibling.
        sibling: Named,
    },
}

/// Returns what is odd about the times that a record's new, redefined and reparented moments claim, in the order of its
/// events. A deletion claims nothing, also if it moves moments. It costs as much as the moments have siblings and children.
pub fn suspicions(step: &Step) -> Vec<Suspicion> {
    let mut found = Vec::new();
    let Some(domain) = step.entry.domain else {
        return found;
    };
    for consequence in consequences(step) {
        match consequence.kind() {
            Some(MomentKind::Snapshot) => {
                let lists = Lists {
                    kind: MomentKind::Snapshot,
                    recorded: step.entry.recorded,
                    before: of(&step.before, domain).map(momentlog_core::Domain::snapshots),
                    after: of(&step.after, domain).map(momentlog_core::Domain::snapshots),
                };
                lists.look(&consequence, &mut found);
            }
            Some(MomentKind::Checkpoint) => {
                let lists = Lists {
                    kind: MomentKind::Checkpoint,
                    recorded: step.entry.recorded,
                    before: of(&step.before, domain).map(momentlog_core::Domain::checkpoints),
                    after: of(&step.after, domain).map(momentlog_core::Domain::checkpoints),
                };
                lists.look(&consequence, &mut found);
            }
            None => {}
        }
    }
    found
}

fn of(view: &momentlog_engine::View, domain: DomainUuid) -> Option<&momentlog_core::Domain> {
    view.state().domain(domain)
}

/// The moments of one kind before a record and after it.
struct Lists<'a, D> {
    kind: MomentKind,
    /// When the record was recorded, in microseconds since 1970.
    recorded: i64,
    before: Option<&'a MomentList<D>>,
    after: Option<&'a MomentList<D>>,
}

impl<D> Lists<'_, D> {
    fn look(&self, consequence: &Consequence, found: &mut Vec<Suspicion>) {
        let Some(after) = self.after else {
            return;
        };
        let claimed = |list: Option<&MomentList<D>>, id: MomentId| Some(list?.get(id)?.created);
        let (moment, is_new) = match &consequence.what {
            What::Created { moment, .. } => (moment, true),
            What::Redefined { moment, .. } | What::Moved { moment, .. } => (moment, false),
            _ => return,
        };
        // A later event of the record may have taken it away.
        let Some(now) = claimed(Some(after), moment.id) else {
            return;
        };
        let before = claimed(self.before, moment.id);
        let is_changed = before.is_some_and(|before| before != now);
        let is_claimed = is_new || is_changed;
        let mut suspect = |moment: Named, claimed, why| {
            found.push(Suspicion {
                kind: self.kind,
                moment,
                claimed,
                why,
            });
        };
        if is_claimed && now > self.recorded.div_euclid(1_000_000) {
            suspect(moment.clone(), now, SuspicionOf::Future);
        }
        let is_elsewhere = !consequence.moved.is_empty();
        if let Some(parent) = after.parent(moment.id)
            && (is_claimed || is_elsewhere)
            && now < parent.created
        {
            let (parent, claimed) = (Named::from(parent), parent.created);
            let why = SuspicionOf::BeforeParent { parent, claimed };
            suspect(moment.clone(), now, why);
        }
        if let Some(from) = before.filter(|_| is_changed) {
            suspect(moment.clone(), now, SuspicionOf::Changed { from });
        }
        if is_claimed || is_elsewhere {
            let siblings = match after.parent(moment.id) {
                Some(parent) => after.walk(Scope::ChildrenOf(parent.id)),
                None => after.walk(Scope::Roots),
            };
            for sibling in siblings {
                let is_older = claimed(self.before, sibling.id).is_some();
                if sibling.id != moment.id && sibling.created == now && is_older {
                    let sibling = Named::from(sibling);
                    let why = SuspicionOf::SameAsSibling { sibling };
                    suspect(moment.clone(), now, why);
                }
            }
        }
        // Its children claim what they did, and now it claims to be younger.
        for child in after.walk(Scope::ChildrenOf(moment.id)) {
            if is_changed && child.created < now {
                let (parent, claimed) = (moment.clone(), now);
                let why = SuspicionOf::BeforeParent { parent, claimed };
                suspect(Named::from(child), child.created, why);
            }
        }
    }
}
