//! Several domains in one store, under request ids and expected revisions, with a second reader, images, archives and
//! reopening: played against a store and a model of all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Unstructured};
use momentlog::core::{
    Action, CreateCheckpoint, Domain, DomainDef, DomainUuid, JobId, MomentName, Profile, Report,
};
use momentlog::store::{Draft, Head, LogId, Record, Seq, Store, StoreError};
use momentlog::{Connection, ErrorCode, ManualClock, Outcome, Provenance, Revision};
use proptest::prelude::*;

use crate::model::{Model, Reason};
use crate::op::{Asked, Op, ops};
use crate::sim_disk::SimDisk;
use crate::suite::{connection, describe, domain_def_of};

/// Which domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Arbitrary)]
#[expect(missing_docs, reason = "they differ in nothing but their names")]
pub enum Vm {
    A,
    B,
    C,
    D,
}

impl Vm {
    /// All of them.
    pub const ALL: [Vm; 4] = [Vm::A, Vm::B, Vm::C, Vm::D];

    pub(crate) fn uuid(self) -> DomainUuid {
        DomainUuid::from_bytes([0xa0 + self as u8; 16])
    }

    fn name(self) -> String {
        format!("vm-{self:?}").to_lowercase()
    }

    /// The definition of a domain with the uuid of this one, and the name of another.
    fn def(self, named: Vm) -> Arc<DomainDef> {
        static DEFS: LazyLock<Vec<Arc<DomainDef>>> = LazyLock::new(|| {
            let all = Vm::ALL.into_iter();
            let pairs = all.flat_map(|uuid| Vm::ALL.map(|named| (uuid, named)));
            pairs
                .map(|(uuid, named)| domain_def_of(&named.name(), uuid.uuid()))
                .collect()
        });
        DEFS[4 * self as usize + named as usize].clone()
    }

    fn other(self) -> Vm {
        Vm::ALL[(self as usize + 1) % Vm::ALL.len()]
    }
}

/// What is asked of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Call {
    /// An op of the small language.
    Op(Op),
    /// Define it, by a definition with this name and uuid.
    Define {
        /// The domain whose name it has.
        name: Vm,
        /// The domain whose uuid it has.
        uuid: Vm,
    },
    /// Start it, by a definition with this name and uuid.
    Launch {
        /// The domain whose name it has.
        name: Vm,
        /// The domain whose uuid it has.
        uuid: Vm,
    },
    /// Put a moment back that embeds another domain.
    Foreign {
        /// A snapshot rather than a checkpoint.
        snapshot: bool,
    },
    /// Make a checkpoint whose name is not one.
    Misnamed,
}

/// Which revision of the domain is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Arbitrary)]
pub enum Expects {
    /// None is named.
    Anything,
    /// The one that it has.
    Right,
    /// The one before.
    Stale,
    /// That there is no record of it.
    NoRecord,
}

/// One turn in the life of a store.
#[derive(Clone, Debug, PartialEq, Eq, Arbitrary)]
pub enum Turn {
    /// A command.
    Ask {
        /// About which domain.
        vm: Vm,
        /// What.
        call: Call,
        /// Under which request id, modulo the few that there are.
        request: Option<u8>,
        /// Which revision is expected.
        expects: Expects,
    },
    /// A second reader looks.
    Look,
    /// Make an image.
    Image,
    /// Move what was recorded to an archive.
    Archive,
    /// Close the store and open it again.
    Reopen,
}

/// Turns as a fuzzer makes them of bytes: most begin with a domain that is defined and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turns(pub Vec<Turn>);

impl<'a> Arbitrary<'a> for Turns {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Turns> {
        let mut turns = if bytes.ratio(7, 8)? {
            begin()
        } else {
            Vec::new()
        };
        turns.extend(Vec::<Turn>::arbitrary(bytes)?);
        Ok(Turns(turns))
    }
}

fn begin() -> Vec<Turn> {
    let calls = [Op::Define, Op::ChangeState(0)].map(Call::Op);
    calls.map(of_the_first).to_vec()
}

/// A transient domain with a snapshot of when it was off, or one that has gone back to it.
fn begin_transient(reverted: bool) -> Vec<Turn> {
    let launch = Call::Launch {
        name: Vm::A,
        uuid: Vm::A,
    };
    let snapshot = Op::Redefine {
        snapshot: true,
        name: 0,
        parent: None,
        current: true,
        state: 2,
        domain: true,
    };
    let revert = Op::Revert { name: 0, resume: 1 };
    let calls = [launch, Call::Op(snapshot), Call::Op(revert)];
    let count = if reverted { 3 } else { 2 };
    calls.into_iter().take(count).map(of_the_first).collect()
}

fn of_the_first(call: Call) -> Turn {
    Turn::Ask {
        vm: Vm::A,
        call,
        request: None,
        expects: Expects::Anything,
    }
}

/// How many request ids there are: few, so that they meet again.
const REQUESTS: u8 = 6;

/// Returns a strategy for up to `length` turns. Nearly all define and start the first domain first.
pub fn fleet(length: usize) -> impl Strategy<Value = Vec<Turn>> {
    let vm = || prop_oneof![4 => Just(Vm::A), 2 => Just(Vm::B), 1 => Just(Vm::C), 1 => Just(Vm::D)];
    let own = move || (vm(), prop::bool::weighted(0.7));
    let call = move |op: Op| {
        prop_oneof![
            24 => Just(Call::Op(op)),
            2 => (vm(), vm()).prop_map(|(name, uuid)| Call::Define { name, uuid }),
            2 => own().prop_map(|(vm, own)| Call::Launch {
                name: if own { vm } else { vm.other() },
                uuid: vm,
            }),
            1 => (0..3_u8).prop_map(|resume| Call::Op(Op::Revert { name: 0, resume })),
            1 => any::<bool>().prop_map(|snapshot| Call::Foreign { snapshot }),
            1 => Just(Call::Misnamed),
        ]
    };
    let expects = || {
        prop_oneof![
            12 => Just(Expects::Anything),
            3 => Just(Expects::Right),
            1 => Just(Expects::Stale),
            1 => Just(Expects::NoRecord),
        ]
    };
    let turn = move |op: Op| {
        let request = prop::option::weighted(0.3, 0..REQUESTS);
        prop_oneof![
            16 => (vm(), call(op), request, expects())
                .prop_map(|(vm, call, request, expects)| Turn::Ask { vm, call, request, expects }),
            2 => Just(Turn::Look),
            1 => Just(Turn::Image),
            1 => Just(Turn::Archive),
            1 => Just(Turn::Reopen),
        ]
    };
    let begin = prop_oneof![
        15 => Just(begin()),
        3 => Just(begin_transient(false)),
        2 => Just(begin_transient(true)),
        1 => Just(Vec::new()),
    ];
    (ops(length), begin).prop_flat_map(move |(ops, begin)| {
        let turns: Vec<_> = ops.into_iter().map(turn).collect();
        turns.prop_map(move |turns| begin.iter().cloned().chain(turns).collect())
    })
}

/// What the model says of a command that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    seq: u64,
    repeated: bool,
}

/// Why a command is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    Refused(Reason),
    /// The domain has another revision.
    Stale,
    /// The request id stands for another command.
    Reused,
}

/// The model of a store with several domains.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    vms: BTreeMap<Vm, Model>,
    /// Whose name each domain has.
    names: BTreeMap<Vm, Vm>,
    /// The last record about each domain.
    revisions: BTreeMap<Vm, u64>,
    requests: BTreeMap<u8, ((Vm, Action), u64)>,
    /// The requests that began the open short jobs.
    jobs: BTreeMap<Vm, u8>,
    records: u64,
}

impl Fleet {
    fn model(&mut self, vm: Vm) -> &mut Model {
        self.vms.entry(vm).or_insert(Model::new(Profile::Own))
    }

    fn may_define(&mut self, vm: Vm, named: Vm, uuid: Vm) -> Result<(), Reason> {
        if uuid != vm {
            return Err(Reason::DefinitionUuid);
        }
        match self.names.get(&vm) {
            Some(has) if *has != named => Err(Reason::DomainRenamed),
            Some(_) => Ok(()),
            None if self.names.values().any(|has| *has == named) => Err(Reason::DomainNameTaken),
            None => Ok(()),
        }
    }

    fn apply(&mut self, vm: Vm, call: &Call, now: i64) -> Result<(), Reason> {
        match call {
            Call::Op(Op::Define) => {
                return self.apply(vm, &Call::Define { name: vm, uuid: vm }, now);
            }
            Call::Op(op) => self.model(vm).apply(op, now)?,
            Call::Define { name, uuid } => {
                self.may_define(vm, *name, *uuid)?;
                self.model(vm).apply(&Op::Define, now)?;
                self.names.insert(vm, *name);
            }
            Call::Launch { name, uuid } => {
                self.may_define(vm, *name, *uuid)?;
                self.model(vm).launch()?;
                self.names.insert(vm, *name);
            }
            Call::Foreign { snapshot } => {
                return self.model(vm).refuses(*snapshot, false, Reason::WrongUuid);
            }
            Call::Misnamed => {
                return self.model(vm).refuses(false, true, Reason::CheckpointName);
            }
        }
        if !self.model(vm).is_there() {
            self.names.remove(&vm);
        }
        Ok(())
    }

    fn ask(
        &mut self,
        asked: &Asked,
        turn: (Vm, &Call, Option<u8>, Expects),
        now: i64,
    ) -> Result<Answer, No> {
        let (vm, call, request, expects) = turn;
        let asked = request.zip(action_of(asked)).map(|(request, mut action)| {
            // A retry reads the clock again, so that the time of what is made is no part of it.
            match &mut action {
                Action::CreateSnapshot(create) => create.now = 0,
                Action::CreateCheckpoint(create) => create.now = 0,
                Action::Hold { hold, .. } => hold.since = 0,
                _ => {}
            }
            (request, (vm, action))
        });
        if let Some((request, asked)) = &asked
            && let Some((before, seq)) = self.requests.get(request)
        {
            if before != asked {
                return Err(No::Reused);
            }
            return Ok(Answer {
                seq: *seq,
                repeated: true,
            });
        }
        let has = self.revisions.get(&vm).copied();
        let fits = match expects {
            Expects::Anything | Expects::Right => true,
            Expects::Stale => false,
            Expects::NoRecord => has.is_none(),
        };
        if !fits {
            return Err(No::Stale);
        }
        self.apply(vm, call, now).map_err(No::Refused)?;
        // The first record begins the log.
        let seq = self.records.max(1) + 1;
        self.records = seq;
        self.revisions.insert(vm, seq);
        match call {
            Call::Op(Op::End { long: false, .. }) => drop(self.jobs.remove(&vm)),
            Call::Op(Op::Fail { long: false }) => {
                // What was asked was not done, and may be asked again.
                if let Some(request) = self.jobs.remove(&vm) {
                    self.requests.remove(&request);
                }
            }
            _ => {}
        }
        if let Some((request, asked)) = asked {
            if matches!(call, Call::Op(Op::Begin { .. })) {
                self.jobs.insert(vm, request);
            }
            self.requests.insert(request, (asked, seq));
        }
        Ok(Answer {
            seq,
            repeated: false,
        })
    }

    /// A revision that the domain does not have.
    fn stale(&self, vm: Vm) -> u64 {
        self.revisions.get(&vm).map_or(7, |seq| seq - 1)
    }

    fn expected(&self, vm: Vm, expects: Expects) -> Option<Revision> {
        let at = |seq: Option<u64>| {
            let seq = seq.and_then(Seq::new);
            seq.map_or(Revision::None, Revision::At)
        };
        match expects {
            Expects::Anything => None,
            Expects::Right => Some(at(self.revisions.get(&vm).copied())),
            Expects::Stale => Some(at(Some(self.stale(vm)))),
            Expects::NoRecord => Some(Revision::None),
        }
    }

    fn describe(&self, vm: Vm) -> String {
        match (self.names.get(&vm), self.vms.get(&vm)) {
            (Some(named), Some(model)) => format!("{} {}", named.name(), model.describe()),
            _ => "no domain".to_owned(),
        }
    }
}

/// How often each refusal came, and what else was not accepted.
pub type Seen = BTreeMap<String, u64>;

/// Returns what a call asks at the second `now` of a domain as it is.
fn asked(vm: Vm, call: &Call, now: i64, domain: Option<&Domain>) -> Asked {
    let action = match call {
        Call::Op(op) => return op.asked_in(&vm.def(vm), now, domain),
        Call::Define { name, uuid } => Action::Define(uuid.def(*name)),
        Call::Launch { name, uuid } => Action::CreateLive(uuid.def(*name)),
        Call::Foreign { snapshot } => foreign(vm, *snapshot),
        Call::Misnamed => Action::CreateCheckpoint(CreateCheckpoint {
            name: MomentName::new("not a name"),
            description: None,
            now,
            disks: Vec::new(),
        }),
    };
    Asked::Action(action)
}

/// As [`asked`], of the domain as it is in a store.
pub(crate) fn asked_in(store: &Connection, vm: Vm, call: &Call, now: i64) -> Asked {
    asked(vm, call, now, store.view().state().domain(vm.uuid()))
}

/// The action that a request id stands for; that of a report stands for what a job is begun for.
fn action_of(asked: &Asked) -> Option<Action> {
    match asked {
        Asked::Action(action) => Some(action.clone()),
        Asked::Report(Report::Begin(begin)) => begin.action.clone(),
        Asked::Report(_) => None,
    }
}

fn foreign(vm: Vm, snapshot: bool) -> Action {
    // What is put back is what an op puts back, but for the domain.
    let op = Op::Redefine {
        snapshot,
        name: 0,
        parent: None,
        current: false,
        state: 2,
        domain: true,
    };
    let other = vm.other();
    let action = op.action_in(&other.def(other), 5, None);
    action.expect("it is a command")
}

/// Plays turns on a new store, of which `open` returns one handle after the other, and checks everything after each turn;
/// at the end also that the store keeps its contract. Returns how often each refusal came.
///
/// # Panics
///
/// If any invariant breaks, or store and model disagree; the message holds the turns so far.
pub fn run_fleet(turns: &[Turn], open: &mut dyn FnMut() -> Box<dyn Store>) -> Seen {
    let clock = Arc::new(ManualClock::default());
    let archive = SimDisk::new("archive");
    let mut store = connection(open(), clock.clone());
    let reader = connection(open(), clock.clone());
    let mut model = Fleet::default();
    let mut seen = Seen::new();
    for (step, turn) in turns.iter().enumerate() {
        let now = 100 + i64::try_from(step / 3).expect("a sequence is short");
        clock.set_second(now);
        let so_far = &turns[..=step];
        match turn {
            Turn::Ask {
                vm,
                call,
                request,
                expects,
            } => {
                let request = request.map(|request| request % REQUESTS);
                let asked = asked_in(&store, *vm, call, now);
                let asking = store.with_provenance(Provenance {
                    request_id: request.map(|request| format!("r{request}").into()),
                    expected_revision: model.expected(*vm, *expects),
                    ..store.provenance().clone()
                });
                let before = store.view();
                let got = answer(asked.of(&asking, vm.uuid()), &mut seen, so_far);
                let wanted = model.ask(&asked, (*vm, call, request, *expects), now);
                assert_eq!(got, wanted, "{so_far:?}");
                if !matches!(
                    got,
                    Ok(Answer {
                        repeated: false,
                        ..
                    })
                ) {
                    let same = store.view().state() == before.state();
                    assert!(same, "nothing was to change: {so_far:?}");
                }
            }
            Turn::Look => look(&reader, &store, so_far),
            Turn::Image => {
                // A store may keep none, and there may be nothing to keep.
                let _ = store.make_image();
            }
            Turn::Archive => {
                if store.archive_to(&archive).is_ok() {
                    let head = store.view().head().expect("something was archived");
                    model.records = head.seq.get();
                }
            }
            Turn::Reopen => {
                drop(store);
                store = connection(open(), clock.clone());
                match store.refresh() {
                    Err(error) if matches!(error.store(), Some(StoreError::Missing { .. })) => {}
                    Err(error) => panic!("{error}: {so_far:?}"),
                    Ok(_) => {}
                }
            }
        }
        check(&store, &model, so_far);
    }
    look(&reader, &store, turns);
    if let Some(head) = store.view().head() {
        let log = store.log_id();
        let archived = archive.contents().len();
        drop((store, reader));
        keeps_contract(open, log, head, archived > 0, turns);
    }
    seen
}

fn answer(got: momentlog::Result<Outcome>, seen: &mut Seen, so_far: &[Turn]) -> Result<Answer, No> {
    let error = match got {
        Ok(outcome) => {
            return Ok(Answer {
                seq: outcome.seq.get(),
                repeated: outcome.repeated,
            });
        }
        Err(error) => error,
    };
    let (no, word) = match (error.refusal(), error.code()) {
        (None, ErrorCode::OperationUnsupported) => {
            (No::Refused(Reason::NotDone), "(not done)".to_owned())
        }
        (Some(refusal), _) => {
            let shown = format!("{refusal:?}");
            let word = shown
                .split([' ', '('])
                .next()
                .unwrap_or_default()
                .to_owned();
            (No::Refused(Reason::of(refusal)), word)
        }
        (None, ErrorCode::OperationAborted) => (No::Stale, "(stale)".to_owned()),
        (None, ErrorCode::InvalidArg) => (No::Reused, "(reused)".to_owned()),
        _ => panic!("{error}: {so_far:?}"),
    };
    *seen.entry(word).or_default() += 1;
    Err(no)
}

fn check(store: &Connection, model: &Fleet, so_far: &[Turn]) {
    let view = store.view();
    let state = view.state();
    assert_eq!(state.check(), Ok(()), "{so_far:?}");
    if model.vms.values().all(Model::keeps_rules) {
        assert_eq!(state.check_policy(), Ok(()), "{so_far:?}");
    }
    let records = view.head().map_or(0, |head| head.seq.get());
    assert_eq!(records, model.records, "records: {so_far:?}");
    let begun: u64 = model.vms.values().map(Model::begun).sum();
    let next_job = state.next_job().map(JobId::get);
    assert_eq!(next_job, Some(begun + 1), "{so_far:?}");
    for vm in Vm::ALL {
        let found = state.domain(vm.uuid());
        let found = found.map_or("no domain".to_owned(), |domain| {
            let by_name = state.domain_by_name(domain.name());
            assert_eq!(by_name.map(Domain::uuid), Some(vm.uuid()), "{so_far:?}");
            format!("{} {}", domain.name(), describe(domain))
        });
        assert_eq!(found, model.describe(vm), "{so_far:?}");
    }
    assert_eq!(state.domains().count(), model.names.len(), "{so_far:?}");
}

/// A second handle sees what the first one has acknowledged.
fn look(reader: &Connection, store: &Connection, so_far: &[Turn]) {
    let truth = store.view();
    let Some(head) = truth.head() else {
        return;
    };
    let view = reader
        .refresh()
        .unwrap_or_else(|error| panic!("a second reader fails: {error}: {so_far:?}"));
    assert_eq!(view.head(), Some(head), "a second reader: {so_far:?}");
    assert!(
        view.state() == truth.state(),
        "a second reader has another state: {so_far:?}"
    );
    let replayed = store.view_at(head.seq).expect("the log can be read");
    assert_eq!(replayed.head(), Some(head), "replay: {so_far:?}");
    assert!(
        replayed.state() == truth.state(),
        "replay has another state: {so_far:?}"
    );
}

/// Checks what a store promises to a direct user.
fn keeps_contract(
    open: &mut dyn FnMut() -> Box<dyn Store>,
    log: Option<LogId>,
    head: Head,
    archived: bool,
    turns: &[Turn],
) {
    let mut store = open();
    let mut records: Vec<Record> = Vec::new();
    let start = match store.retention() {
        Some(retention) => retention.start().expect("the store can be read"),
        None => None,
    };
    let read = store.read(start, &mut |record| {
        records.push(record);
        Ok(())
    });
    assert!(read.is_ok(), "the store is read: {read:?} {turns:?}");
    assert_eq!(store.log_id(), log, "the log has another id: {turns:?}");
    assert_eq!(store.log_id(), log, "the log has another id: {turns:?}");
    let heads: Vec<Head> = records.iter().map(Record::head).collect();
    assert_eq!(
        heads.last(),
        Some(&head),
        "the last record is missing: {turns:?}"
    );
    assert!(
        records.iter().all(|record| !record.facts.is_empty()),
        "a record has no facts: {turns:?}"
    );
    let distinct: BTreeSet<u64> = heads.iter().map(|head| head.seq.get()).collect();
    assert_eq!(
        distinct.len(),
        heads.len(),
        "a record comes twice: {turns:?}"
    );
    assert!(
        archived || heads[0].seq == Seq::FIRST,
        "the first record is missing: {turns:?}"
    );

    let middle = heads[heads.len() / 2];
    let mut after = Vec::new();
    let read = store.read(Some(middle), &mut |record| {
        after.push(record.head());
        Ok(())
    });
    assert!(
        read.is_ok(),
        "the store is read from its middle: {read:?} {turns:?}"
    );
    assert_eq!(
        after,
        heads[heads.len() / 2 + 1..],
        "`after` was ignored: {turns:?}"
    );

    let stop = || StoreError::Unsupported {
        doing: "read on, as the reader said stop",
    };
    let read = store.read(start, &mut |_| Err(stop()));
    assert!(read.is_err(), "the reader's error was swallowed: {turns:?}");

    let draft = Draft {
        facts: b"never written".to_vec(),
        texts: Vec::new(),
    };
    let log = log.expect("a log that has records has an id");
    let expected = (heads.len() > 1).then(|| heads[heads.len() - 2]);
    store
        .acquire(std::time::Duration::ZERO)
        .expect("nobody else writes");
    let appended = store.append(log, expected, vec![draft]);
    assert!(
        matches!(appended, Err(StoreError::Conflict { .. })),
        "`expected` was ignored: {appended:?} {turns:?}"
    );
    store.release();
}
