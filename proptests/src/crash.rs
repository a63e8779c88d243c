//! Stopping a store anywhere, and failing any of its calls: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use momentlog::core::{Action, Command, Profile, State};
use momentlog::store::{
    Disk, FileStore, Head, Limits, Rejoined, Seq, StoreError, Verdict, Written,
};
use momentlog::{
    Connection, Entropy, ErrorCode, ManualClock, Options, Outcome, Provenance, Revision,
    verify_disk,
};
use proptest::prelude::*;

use crate::fleet::{self, Call, Vm};
use crate::op::{Op, ops};
use crate::sim_disk::{Fault, Random, SimDisk};
use crate::suite::{UUID, domain_def};

/// One step in the life of a store.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Step {
    /// One command.
    Do(Op),
    /// One command about one of several domains, also under a request id.
    Ask {
        /// The domain.
        vm: Vm,
        /// What.
        call: Call,
        /// The number of the request id.
        request: Option<u8>,
    },
    /// Several commands under one sync, all of which are accepted or none.
    Batch(Vec<Op>),
    /// Several commands that are handed in first and waited for then.
    Submit(Vec<Op>),
    /// Make an image.
    Image,
    /// Move everything so far to the archive.
    Archive,
    /// Close the store and open it again.
    Reopen,
    /// One command that expects the revision which its domain had that many changes before.
    Expect {
        /// The command.
        op: Op,
        /// How many changes before; 0 for the revision that it has.
        behind: u8,
    },
    /// Take a copy of the store.
    Copy,
    /// Put the last copy back under the open handle, let that try one command, and open the store again. Nothing is done
    /// if there is no copy, or if the archive has changed since.
    PutBack {
        /// In the same files, and not in others.
        in_place: bool,
    },
}

/// How many cases were tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Moments at which the machine stopped, or calls that failed.
    pub points: u64,
    /// States of the disk that were opened after that.
    pub disks: u64,
    /// Those of them in which the machine stopped again while the store was recovering.
    pub recoveries: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.points += other.points;
        self.disks += other.disks;
        self.recoveries += other.recoveries;
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// How many subsets of pending pieces are sampled, where there are too many for all.
    pub samples: usize,
    /// In one of how many disks recovery is interrupted as well, at each of its changes.
    pub nested_every: u64,
}

/// Segments so short that workloads of a few commands fill several.
pub(crate) const SMALL: Limits = Limits {
    segment_len_first: 1024,
    segment_len_max: 2048,
    fill_len_max: 512,
};

/// Returns a strategy for workloads of up to `length` commands, with images, archives and reopening in between.
pub fn steps(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let cut = (0..100_u8, 1..4_usize);
    (ops(length), prop::collection::vec(cut, length + 2)).prop_map(|(ops, cuts)| {
        let mut steps = Vec::new();
        let mut rest = &ops[..];
        for (kind, count) in cuts {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(count.min(rest.len()));
            match kind {
                0..50 => {
                    let op = rest[0].clone();
                    steps.push(match kind {
                        0..28 => Step::Do(op),
                        28..35 => Step::Expect {
                            op,
                            behind: (kind - 28) / 4,
                        },
                        _ => Step::Ask {
                            vm: Vm::ALL[usize::from(kind) % 2],
                            call: Call::Op(if kind < 40 { Op::Define } else { op }),
                            request: (kind % 3 > 0).then_some(kind % 3),
                        },
                    });
                    rest = &rest[1..];
                    continue;
                }
                50..65 => steps.push(Step::Batch(now.to_vec())),
                65..80 => steps.push(Step::Submit(now.to_vec())),
                80..88 => steps.push(Step::Image),
                88..92 => steps.push(Step::Archive),
                92..94 => steps.push(Step::Copy),
                94..97 => steps.push(Step::PutBack {
                    in_place: kind == 94,
                }),
                _ => steps.push(Step::Reopen),
            }
            if kind < 80 {
                rest = later;
            }
        }
        steps
    })
}

/// A store and its archive on one disk.
#[derive(Clone, Debug)]
struct World {
    live: SimDisk,
    archive: SimDisk,
}

/// Bytes that are the same in every run.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Entropy for Counter {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut random = Random(self.0.fetch_add(1, Ordering::Relaxed));
        bytes.fill_with(|| random.next().to_le_bytes()[0]);
        Ok(())
    }
}

impl World {
    fn new() -> World {
        let live = SimDisk::new("store");
        let archive = live.beside("archive");
        World { live, archive }
    }

    /// The same store on the disk of `live`.
    fn on(&self, live: SimDisk) -> World {
        let archive = self.archive.on(&live);
        World { live, archive }
    }

    fn after_power_failure(&self, samples: usize, seed: u64) -> Vec<World> {
        let disks = self.live.after_power_failure(samples, seed);
        disks.into_iter().map(|live| self.on(live)).collect()
    }

    fn killed(&self) -> World {
        self.on(self.live.killed())
    }

    fn connection(&self, entropy: Arc<Counter>) -> Connection {
        let store = FileStore::with_limits(Arc::new(self.live.clone()), SMALL);
        Connection::over(
            Box::new(store),
            Options {
                clock: Arc::new(ManualClock::at_second(100)),
                entropy,
                profile: Profile::Own,
                lock_wait: std::time::Duration::ZERO,
                ..Options::default()
            },
        )
    }

    /// The log as a whole, from the archive on.
    fn whole(&self) -> Connection {
        let archive = Arc::new(self.archive.clone());
        let joined: Arc<dyn Disk> = match self.archive.check() {
            Ok(()) => Arc::new(Rejoined::new(Arc::new(self.live.clone()), archive)),
            Err(_) => Arc::new(self.live.clone()),
        };
        Connection::over(Box::new(FileStore::over(joined)), Options::default())
    }

    fn verdict(&self) -> Verdict {
        let archive: Option<Arc<dyn Disk>> = self
            .archive
            .check()
            .is_ok()
            .then(|| Arc::new(self.archive.clone()) as Arc<dyn Disk>);
        for archive in [None, archive] {
            let found = verify_disk(Arc::new(self.live.clone()), archive, None, &mut |_| {});
            let found = found.expect("the disk can be read");
            assert!(
                matches!(found.verdict(), Verdict::Unanchored | Verdict::TornTail),
                "{found:?}"
            );
        }
        let found = verify_disk(Arc::new(self.live.clone()), None, None, &mut |_| {});
        found.expect("the disk can be read").verdict()
    }
}

/// What was acknowledged while steps were played, and what was said of the rest.
#[derive(Debug, Default)]
struct Played {
    /// The end of the log after each answer.
    acknowledged: Vec<Head>,
    /// The revisions that the first domain had after each answer, each once.
    revisions: Vec<Revision>,
    /// What the store was before each time when a copy was put back.
    replaced: Vec<World>,
    /// Whether a call ended with an unknown outcome.
    unknown: bool,
    /// The last error of the disk.
    failed: bool,
}

impl Played {
    fn last(&self) -> Option<Head> {
        self.acknowledged.last().copied()
    }

    /// Takes note of an answer, and says whether the store goes on working.
    fn note(&mut self, connection: &Connection, answer: &Result<(), momentlog::Error>) {
        match answer {
            Ok(()) => {
                let view = connection.view();
                self.acknowledged.extend(view.head());
                let revision = view.revision(UUID);
                if self.revisions.last() != Some(&revision) {
                    self.revisions.push(revision);
                }
            }
            Err(error) => match error.store() {
                // There is nothing to archive yet.
                Some(StoreError::Missing { .. }) => {}
                Some(store) => {
                    self.failed = true;
                    self.unknown |= store.written() == Written::Unknown;
                    let says_unknown = error.code() == ErrorCode::OperationTimeout;
                    assert_eq!(says_unknown, store.written() == Written::Unknown, "{error}");
                }
                // A refusal, or there was nothing to save yet.
                None => self.failed |= error.code() == ErrorCode::SystemError,
            },
        }
    }
}

/// A copy of a store, and what had been acknowledged when it was made.
struct Copied {
    live: BTreeMap<String, Vec<u8>>,
    archive: BTreeMap<String, Vec<u8>>,
    acknowledged: Vec<Head>,
    revisions: Vec<Revision>,
}

fn ask(connection: &Connection, op: &Op) -> momentlog::Result<Outcome> {
    let asked = op.asked(100, connection.view().state().domain(UUID));
    asked.of(connection, UUID)
}

/// The commands among ops: what a driver reports is recorded one by one.
fn commands(connection: &Connection, ops: &[Op]) -> Vec<Command> {
    let view = connection.view();
    let known = view.state().domain(UUID);
    let actions = ops.iter().filter_map(|op| op.action(100, known));
    let domain = UUID;
    actions.map(|action| Command { domain, action }).collect()
}

/// Asks with the revision that the domain had that many changes before, and checks that a stale one is refused, and no other.
fn expect(
    world: &World,
    connection: &Connection,
    played: &Played,
    op: &Op,
    behind: u8,
) -> momentlog::Result<Outcome> {
    let known = &played.revisions;
    let now = known.last().copied();
    let place = known.len().saturating_sub(1 + usize::from(behind));
    let expected = known.get(place).copied();
    let asking = connection.with_provenance(Provenance {
        expected_revision: Some(expected.unwrap_or(Revision::None)),
        ..connection.provenance().clone()
    });
    let answer = ask(&asking, op);
    let is_undisturbed = !world.live.has_failed() && !world.live.is_stopped();
    match &answer {
        Ok(_) => assert_eq!(expected, now, "a stale revision was accepted"),
        Err(error) if is_undisturbed => {
            let is_stale = error.code() == ErrorCode::OperationAborted;
            assert_eq!(is_stale, expected != now, "{error}");
        }
        Err(_) => {}
    }
    answer
}

/// Puts a copy back under an open handle, and lets that try one command: what it acknowledges counts.
fn put_back(
    world: &World,
    connection: &Connection,
    played: &mut Played,
    copy: &Copied,
    in_place: bool,
) {
    played.replaced.push(world.killed());
    world.live.put_back(&copy.live, in_place);
    let had = played.last();
    played.acknowledged.clone_from(&copy.acknowledged);
    played.revisions.clone_from(&copy.revisions);
    let answer = ask(connection, &Op::Define);
    match &answer {
        Err(error) if matches!(error.store(), Some(StoreError::Replaced { .. })) => {}
        // The handle has read or written nothing that is not in the copy, or it was of no use before.
        _ => {
            let is_undisturbed = !world.live.has_failed() && !world.live.is_stopped();
            let had_written = connection.view().head() == had && had != played.last();
            assert!(!(is_undisturbed && had_written), "{answer:?}");
            played.note(connection, &answer.map(|_| ()));
        }
    }
}

/// Plays steps until one fails on the disk, or on to the end if `go_on`.
fn play(world: &World, steps: &[Step], go_on: bool) -> Played {
    let entropy = Arc::new(Counter::default());
    let mut connection = world.connection(entropy.clone());
    let mut played = Played::default();
    let mut copy: Option<Copied> = None;
    for step in steps {
        match step {
            Step::Do(op) => {
                let answer = ask(&connection, op);
                played.note(&connection, &answer.map(|_| ()));
            }
            Step::Ask { vm, call, request } => {
                let asked = fleet::asked_in(&connection, *vm, call, 100);
                let asking = connection.with_provenance(Provenance {
                    request_id: request.map(|request| format!("r{request}").into()),
                    ..connection.provenance().clone()
                });
                let answer = asked.of(&asking, vm.uuid());
                played.note(&connection, &answer.map(|_| ()));
            }
            Step::Batch(ops) => {
                let answer = connection.execute_all(&commands(&connection, ops));
                played.note(&connection, &answer.map(|_| ()));
            }
            Step::Submit(ops) => {
                let commands = commands(&connection, ops);
                let commands = commands.iter();
                let submitted: Vec<_> =
                    commands.map(|command| connection.submit(command)).collect();
                for submitted in submitted {
                    let answer = submitted.and_then(momentlog::Submitted::wait);
                    played.note(&connection, &answer.map(|_| ()));
                }
            }
            Step::Image => {
                // It changes nothing, so its failure loses nothing.
                let _ = connection.make_image();
            }
            Step::Archive => {
                let answer = connection.archive_to(&world.archive);
                played.note(&connection, &answer.map(|_| ()));
            }
            Step::Reopen => connection = world.connection(entropy.clone()),
            Step::Expect { op, behind } => {
                let answer = expect(world, &connection, &played, op, *behind);
                played.note(&connection, &answer.map(|_| ()));
            }
            Step::Copy => {
                copy = Some(Copied {
                    live: world.live.contents(),
                    archive: world.archive.contents(),
                    acknowledged: played.acknowledged.clone(),
                    revisions: played.revisions.clone(),
                });
            }
            Step::PutBack { in_place } => {
                let unchanged = |copy: &&Copied| copy.archive == world.archive.contents();
                if let Some(copy) = copy.as_ref().filter(unchanged) {
                    put_back(world, &connection, &mut played, copy, *in_place);
                    connection = world.connection(entropy.clone());
                }
            }
        }
        if !go_on && (played.failed || world.live.is_stopped()) {
            break;
        }
    }
    played
}

/// What the log holds after steps that nothing disturbed, and held before each time when a copy was put back.
struct Reference {
    logs: Vec<Log>,
}

#[derive(Default)]
struct Log {
    heads: Vec<Head>,
    states: Vec<State>,
}

impl Reference {
    fn of(world: &World, played: &Played) -> Reference {
        let worlds = played.replaced.iter().chain([world]);
        Reference {
            logs: worlds.map(Log::of).collect(),
        }
    }

    /// Returns the state after the record `head`, in a log that also holds `earlier`.
    fn state(&self, head: Head, earlier: Option<Head>) -> Option<&State> {
        let log = self
            .logs
            .iter()
            .find(|log| log.holds(head) && earlier.is_none_or(|earlier| log.holds(earlier)))?;
        log.states.get(index(head))
    }
}

impl Log {
    fn of(world: &World) -> Log {
        let mut log = Log::default();
        let whole = world.whole();
        let history = match whole.history(None) {
            Err(error) if matches!(error.store(), Some(StoreError::Missing { .. })) => return log,
            history => history.expect("the log can be read"),
        };
        for step in history {
            let step = match step {
                Err(error) if matches!(error.store(), Some(StoreError::Missing { .. })) => break,
                step => step.expect("the log can be read"),
            };
            log.heads.push(step.entry.head);
            log.states.push(step.after.state().clone());
        }
        log
    }

    fn holds(&self, head: Head) -> bool {
        self.heads.get(index(head)) == Some(&head)
    }
}

/// The place of a record in a log that begins with the first.
fn index(head: Head) -> usize {
    usize::try_from(head.seq.get() - 1).expect("a short log")
}

/// Opens what is left on a disk, and checks that it is a prefix of the reference that holds all that was acknowledged;
/// that state and log agree; and that the log goes on. Returns what a reader saw.
fn check(world: &World, reference: &Reference, acknowledged: Option<Head>) -> Option<Head> {
    let reader = world.connection(Arc::default());
    let seen = match reader.refresh() {
        Ok(view) => view.head().map(|head| (head, view.state().clone())),
        Err(error) => {
            let missing = matches!(error.store(), Some(StoreError::Missing { .. }));
            assert!(missing, "{error}");
            None
        }
    };
    assert!(
        seen.as_ref().map(|(head, _)| head.seq) >= acknowledged.map(|head| head.seq),
        "acknowledged up to {acknowledged:?}, found {seen:?}"
    );
    if let Some((head, state)) = &seen {
        assert_eq!(reference.state(*head, acknowledged), Some(state));
        assert_eq!(state.check(), Ok(()));
        world.verdict();
    }
    let seen = seen.map(|(head, _)| head);
    drop(reader);
    goes_on(world, seen);
    seen
}

/// Appends to what is left on a disk, and checks that everything up to `seen` is still there.
fn goes_on(world: &World, seen: Option<Head>) {
    let writer = world.connection(Arc::default());
    let command = Command {
        domain: UUID,
        action: Action::Define(domain_def()),
    };
    let outcome = writer.execute(&command).expect("the log goes on");
    let expected = seen.map_or(2, |head| head.seq.get() + 1);
    assert_eq!(outcome.seq.get(), expected, "after {seen:?}");
    let view = writer.view();
    // Nothing is left of a torn tail, also if this writer never closes the store.
    assert_eq!(world.killed().verdict(), Verdict::Unanchored);
    drop(writer);
    assert_eq!(world.verdict(), Verdict::Unanchored);
    let mut found = None;
    for step in world.whole().history(None).expect("the log can be read") {
        let step = step.expect("the log can be read");
        let head = step.entry.head;
        assert!(seen.is_none_or(|seen| head.seq != seen.seq || head == seen));
        found = Some(step.after);
    }
    let found = found.expect("there is a record");
    assert_eq!(found.head(), view.head());
    assert_eq!(found.state(), view.state());
}

/// Plays a workload again and again, stopping the machine before each change of the disk, and checks every state of the
/// disk that a power failure, or the kill of the process, may leave then; in some of them also while it recovers.
///
/// # Panics
///
/// If anything that was acknowledged is lost, or state and log differ; the message holds the steps.
pub fn crash_everywhere(steps: &[Step], effort: Effort) -> Tally {
    let world = World::new();
    let played = play(&world, steps, false);
    assert!(!played.failed, "{steps:?}: {played:?}");
    let reference = Reference::of(&world, &played);
    let changes = world.live.changes();
    let mut tally = Tally::default();
    for stop in 0..changes {
        let world = World::new();
        world.live.stop_at(stop);
        let acknowledged = play(&world, steps, false).last();
        tally.points += 1;
        let _context = Context(|| format!("stopped before change {stop} of {steps:?}"));
        check(&world.killed(), &reference, acknowledged);
        for disk in world.after_power_failure(effort.samples, stop) {
            tally.disks += 1;
            if tally.disks % effort.nested_every == 0 {
                tally.recoveries += crash_while_recovering(&disk, &reference, acknowledged);
            }
            check(&disk.killed(), &reference, acknowledged);
        }
    }
    tally
}

/// As [`crash_everywhere`] at one moment, for one of the disks that may be left then, and at one moment of its recovery:
/// for fuzzers, which choose them.
/// Of the steps it plays the first six, and of each batch the first three commands.
///
/// # Panics
///
/// As there.
pub fn crash_once(steps: &[Step], stop: u64, seed: u64) {
    let mut steps = steps[..steps.len().min(6)].to_vec();
    for step in &mut steps {
        if let Step::Batch(ops) | Step::Submit(ops) = step {
            ops.truncate(3);
        }
    }
    let steps = &steps;
    let world = World::new();
    let played = play(&world, steps, false);
    let reference = Reference::of(&world, &played);
    let stop = stop % world.live.changes().max(1);
    let world = World::new();
    world.live.stop_at(stop);
    let acknowledged = play(&world, steps, false).last();
    let disks = world.after_power_failure(2, seed);
    let mut random = Random(seed);
    let chosen = random.below(disks.len() as u64);
    let disk = &disks[usize::try_from(chosen).expect("it is below a length")];
    recover_until(disk, random.below(16), 2, &reference, acknowledged);
    check(&disk.killed(), &reference, acknowledged);
}

/// Stops the machine before each change of a recovery; returns how many there are.
fn crash_while_recovering(world: &World, reference: &Reference, acknowledged: Option<Head>) -> u64 {
    (0..u64::MAX)
        .find(|stop| recover_until(world, *stop, usize::MAX, reference, acknowledged))
        .expect("a recovery ends")
}

/// Recovers, but stops before one change; returns whether that was never reached. Of the disks that may be left then it
/// tries the first few.
fn recover_until(
    world: &World,
    stop: u64,
    disks: usize,
    reference: &Reference,
    acknowledged: Option<Head>,
) -> bool {
    let recovering = world.killed();
    recovering.live.stop_at(stop);
    let reader = recovering.connection(Arc::default());
    let seen = reader.refresh().ok().and_then(|view| view.head());
    drop(reader);
    let writer = recovering.connection(Arc::default());
    let command = Command {
        domain: UUID,
        action: Action::Define(domain_def()),
    };
    let answered = writer.execute(&command).ok().and(writer.view().head());
    drop(writer);
    if !recovering.live.is_stopped() {
        return true;
    }
    // What a reader has seen is as good as what a writer was answered.
    let kept = seen.max_by_seq(acknowledged);
    for disk in recovering
        .after_power_failure(4, stop)
        .into_iter()
        .take(disks)
    {
        let again = disk.connection(Arc::default());
        let head = again.refresh().ok().and_then(|view| view.head());
        let seq = |head: Option<Head>| head.map_or(0, |head| head.seq.get());
        assert!(seq(head) >= seq(kept.max_by_seq(answered)), "{head:?}");
        if let Some(kept) = kept {
            assert!(reference.state(kept, None).is_some(), "{kept:?}");
        }
        drop(again);
        goes_on(&disk, head);
    }
    false
}

trait MaxBySeq {
    fn max_by_seq(self, other: Self) -> Self;
}

impl MaxBySeq for Option<Head> {
    fn max_by_seq(self, other: Option<Head>) -> Option<Head> {
        std::cmp::max_by_key(self, other, |head| head.map(|head| head.seq))
    }
}

/// Plays a workload again and again, and lets each call fail in each way. Nothing acknowledged is lost, a caller learns
/// whether its command may have been written, and what a reader saw before a power failure is there after it.
///
/// # Panics
///
/// If one of these does not hold; the message holds the steps.
pub fn fail_everywhere(steps: &[Step], effort: Effort) -> Tally {
    let world = World::new();
    play(&world, steps, true);
    let calls = world.live.calls();
    let mut tally = Tally::default();
    for call in 0..calls {
        for fault in Fault::ALL {
            let world = World::new();
            world.live.fail_at(call, fault);
            let played = play(&world, steps, true);
            assert!(world.live.has_failed(), "the fault came");
            tally.points += 1;
            let _context = Context(|| format!("{fault:?} at call {call} of {steps:?}"));
            // The process is gone, and the machine is not: a reader sees what it may rely on.
            let killed = world.killed();
            let reader = killed.connection(Arc::default());
            let seen = reader.refresh().ok().and_then(|view| view.head());
            drop(reader);
            let after = killed.after_power_failure(effort.samples, call);
            for disk in after.into_iter().chain([world.killed()]) {
                tally.disks += 1;
                holds(&disk, &played, seen);
            }
        }
    }
    tally
}

/// Checks that a disk still holds all that was acknowledged and seen, and no more than was in doubt.
fn holds(world: &World, played: &Played, seen: Option<Head>) {
    let writer = world.connection(Arc::default());
    let probe = writer.execute(&Command {
        domain: UUID,
        action: Action::Define(domain_def()),
    });
    let probe = probe.expect("the log goes on").seq;
    assert_eq!(world.killed().verdict(), Verdict::Unanchored);
    drop(writer);
    let mut heads = Vec::new();
    for step in world.whole().history(None).expect("the log can be read") {
        heads.push(step.expect("the log can be read").entry.head);
    }
    let at = |seq: Seq| heads[usize::try_from(seq.get() - 1).expect("a short log")];
    for head in played.acknowledged.iter().chain(&seen) {
        assert_eq!(at(head.seq), *head);
    }
    if !played.unknown {
        // Behind what was acknowledged there is the probe, and before the first record what begins a log.
        let last = played.last().map_or(0, |head| head.seq.get());
        assert!(
            probe.get() <= last.max(1) + 1,
            "{probe:?} after {last}, and nothing was in doubt"
        );
    }
    assert_eq!(world.verdict(), Verdict::Unanchored);
}

/// Says where it happened, if a check fails.
struct Context<F: Fn() -> String>(F);

impl<F: Fn() -> String> Drop for Context<F> {
    #[expect(
        clippy::print_stderr,
        reason = "a check that fails is shown on the way out"
    )]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", (self.0)());
        }
    }
}
