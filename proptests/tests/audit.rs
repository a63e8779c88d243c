//! What is said of earlier points, of what would happen, and of what is put back, over generated histories.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use momentlog::core::{Change, DomainUuid, MomentChange, MomentList, Profile, Refusal, Scope};
use momentlog::store::{MemoryStore, Seq};
use momentlog::{
    CheckpointListFlags, CheckpointXmlFlags, Connection, DomainListFlags, DomainXmlFlags,
    ManualClock, Options, Outcome, Point, SnapshotListFlags, SnapshotXmlFlags,
};
use momentlog_proptests::{Op, ops};
use proptest::prelude::*;

/// How many deletions were taken back.
static UNDONE: AtomicUsize = AtomicUsize::new(0);

/// The one domain of the suites.
const UUID: DomainUuid = DomainUuid::from_bytes([0x5a; 16]);

fn opened(clock: &Arc<ManualClock>) -> Connection {
    let options = Options {
        clock: clock.clone(),
        profile: Profile::Own,
        ..Options::default()
    };
    Connection::over(Box::new(MemoryStore::new()), options)
}

/// An op, and the second at which it is asked.
#[derive(Clone, Copy)]
struct Turn<'a> {
    op: &'a Op,
    now: i64,
}

impl Turn<'_> {
    fn ask(self, connection: &Connection) -> momentlog::Result<Outcome> {
        let view = connection.view();
        let asked = self.op.asked(self.now, view.state().domain(UUID));
        asked.of(connection, UUID)
    }
}

/// Plays ops, and calls `each` for each of them, which asks it.
fn play(ops: &[Op], mut each: impl FnMut(&Connection, Turn<'_>)) -> Connection {
    let clock = Arc::new(ManualClock::default());
    let connection = opened(&clock);
    for (step, op) in ops.iter().enumerate() {
        let now = 100 + i64::try_from(step / 3).unwrap();
        clock.set_second(now);
        each(&connection, Turn { op, now });
    }
    connection
}

/// Everything that the calls that read say.
fn told(connection: &Connection) -> String {
    let mut text = String::new();
    for domain in connection.list_all_domains(DomainListFlags::NONE).unwrap() {
        let xml = domain.xml_desc(DomainXmlFlags::NONE).unwrap();
        let power = domain.power().unwrap();
        writeln!(
            text,
            "{} {power:?} {:?}\n{xml}",
            domain.name(),
            domain.policy().unwrap()
        )
        .unwrap();
        let snapshots = domain
            .list_all_snapshots(SnapshotListFlags::TOPOLOGICAL)
            .unwrap();
        for snapshot in snapshots {
            let parent = snapshot
                .parent()
                .unwrap()
                .map(|parent| parent.name().clone());
            let (current, xml) = (
                snapshot.is_current().unwrap(),
                snapshot.xml_desc(SnapshotXmlFlags::NONE).unwrap(),
            );
            writeln!(
                text,
                "{} below {parent:?}, current {current}\n{xml}",
                snapshot.name()
            )
            .unwrap();
        }
        let checkpoints = domain
            .list_all_checkpoints(CheckpointListFlags::TOPOLOGICAL)
            .unwrap();
        for checkpoint in checkpoints {
            let parent = checkpoint
                .parent()
                .unwrap()
                .map(|parent| parent.name().clone());
            let xml = checkpoint.xml_desc(CheckpointXmlFlags::NONE).unwrap();
            writeln!(text, "{} below {parent:?}\n{xml}", checkpoint.name()).unwrap();
        }
    }
    text
}

/// The trees of the domain, without ids and without the order of siblings, which an undeletion does not keep.
fn trees(connection: &Connection) -> Vec<String> {
    fn tree<D: std::fmt::Debug>(list: &MomentList<D>, out: &mut Vec<String>) {
        for moment in list.walk(Scope::All) {
            let parent = list.parent(moment.id).map(|parent| parent.name.clone());
            let current = list.current_id() == Some(moment.id);
            let (name, created, def) = (moment.name, moment.created, moment.def);
            out.push(format!("{name} {parent:?} {created} {current} {def:?}"));
        }
    }
    let view = connection.view();
    let mut out = Vec::new();
    if let Some(domain) = view.state().domain(UUID) {
        tree(domain.snapshots(), &mut out);
        out.push("checkpoints".to_owned());
        tree(domain.checkpoints(), &mut out);
    }
    out.sort();
    out
}

fn cases() -> u32 {
    if cfg!(debug_assertions) { 256 } else { 4096 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn as_of_a_record_the_calls_say_what_they_said_then(ops in ops(40)) {
        let mut said: Vec<(Seq, String)> = Vec::new();
        let connection = play(&ops, |connection, turn| {
            let _ = turn.ask(connection);
            if let Some(head) = connection.view().head() {
                said.retain(|(seq, _)| *seq != head.seq);
                said.push((head.seq, told(connection)));
            }
        });
        for (seq, then) in said {
            let at = connection.at(&Point::Seq(seq)).unwrap();
            prop_assert_eq!(told(&at), &then[..], "record {}", seq);
            // By each name that the domain may have had then, now or never, and by its uuid.
            let names = [&connection, &at].map(|connection| {
                let view = connection.view();
                view.state().domain(UUID).map(|domain| domain.name().to_string())
            });
            let names = names.into_iter().flatten();
            for name in names.chain([UUID.to_string(), "no domain".to_owned(), "1".to_owned()]) {
                let alone = connection.at_for(&Point::Seq(seq), &name).unwrap();
                prop_assert_eq!(told(&alone), &then[..], "record {}, {}", seq, name);
                prop_assert_eq!(alone.view().head(), at.view().head());
            }
            prop_assert_eq!(connection.locate(&Point::Seq(seq)).unwrap(), at.view().head().unwrap());
        }
    }

    #[test]
    fn a_dry_run_says_what_then_happens(ops in ops(40)) {
        play(&ops, |connection, turn| {
            let before = connection.view().head();
            let planning = connection.planning().unwrap();
            let planned = turn.ask(planning.connection());
            let steps = planning.steps().unwrap();
            assert_eq!(connection.view().head(), before, "a plan records nothing");
            let done = turn.ask(connection);
            match (planned, done) {
                (Ok(planned), Ok(done)) => {
                    assert_eq!((planned.seq, &planned.events), (done.seq, &done.events));
                    let last = steps.last().expect("what is accepted is recorded");
                    assert_eq!(last.entry.events, done.events);
                    assert_eq!(last.after.state(), connection.view().state());
                }
                (Err(planned), Err(done)) => assert_eq!(planned.message(), done.message()),
                (planned, done) => panic!("{planned:?} {done:?}"),
            }
        });
    }

    fn undelete_right_after_each_deletion(ops in ops(40)) {
        let undone = Cell::new(0);
        play(&ops, |connection, turn| {
            let before = trees(connection);
            let broke_its_rules = connection.view().state().check_policy().is_err();
            let Ok(done) = turn.ask(connection) else {
                return;
            };
            let deletes = |change: &Change| matches!(
                change,
                Change::Snapshot(MomentChange::Deleted { .. }) | Change::Checkpoint(MomentChange::Deleted { .. })
            );
            // What an open job has ended or begun besides is not taken back.
            if done.events.len() != 1 || !deletes(&done.events[0].change) {
                return;
            }
            let gone = match &done.events[0].change {
                Change::Snapshot(MomentChange::Deleted { removed, .. })
                | Change::Checkpoint(MomentChange::Deleted { removed, .. }) => removed.len(),
                _ => 0,
            };
            let planning = connection.planning().unwrap();
            let domain = planning.connection().lookup_domain_by_uuid(UUID).unwrap();
            let undeleted = domain.undelete(done.seq, None);
            let view = connection.view();
            let has_holds = !view.state().domain(UUID).expect("it is there").holds().is_empty();
            let is_waiting = connection.view().state().open_jobs().next().is_some();
            match undeleted {
                Ok(_) => {
                    assert!(gone > 0);
                    assert_eq!(trees(planning.connection()), before);
                    let last = planning.steps().unwrap().pop().expect("it is recorded");
                    assert_eq!(last.entry.undoes, Some(done.seq));
                    undone.set(undone.get() + 1);
                }
                Err(error) => match error.refusal() {
                    // What took nothing has nothing to give back.
                    None => assert_eq!(gone, 0, "{error}"),
                    Some(Refusal::JobOpen { .. }) => assert!(is_waiting, "{error}"),
                    // A child that moved up is held there.
                    Some(Refusal::Held { .. }) => assert!(has_holds, "{error}"),
                    // Only a job's end leaves what the rules forbid.
                    Some(Refusal::PolicyUnmet(_)) => assert!(broke_its_rules, "{error}"),
                    Some(_) => panic!("{error}"),
                },
            }
        });
        UNDONE.fetch_add(undone.get(), Ordering::Relaxed);
    }
}

#[test]
fn an_undeletion_right_after_a_deletion_gives_the_trees_before_it() {
    undelete_right_after_each_deletion();
    let undone = UNDONE.load(Ordering::Relaxed);
    assert!(undone > 50, "only {undone} deletions were taken back");
}
