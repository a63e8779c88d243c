//! What is asked about one domain, one record or one time is answered as a full replay answers it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use momentlog::core::{
    Action, Attachment, BeginJob, Command, Domain, DomainDef, DomainUuid, Job, JobKind, JobLength,
    JobOutcome, Policy, Profile, Report, Seen, SettingsChange, SettledBy,
};
use momentlog::engine::{
    Call, Decision, EngineError, Entry, Log, ManualClock, Options, Provenance, Request, Step,
};
use momentlog::store::{Disk, FileStore, Limits, MemoryStore, Seq, Store};
use momentlog_audit::{Teller, Told};
use momentlog_proptests::{Op, SharedStore, SimDisk, ops};
use proptest::prelude::*;

/// Segments so short that a history fills several.
const LIMITS: Limits = Limits {
    segment_len_first: 1024,
    segment_len_max: 4096,
    fill_len_max: 512,
};

const DOMAINS: u8 = 3;

fn uuid(domain: u8) -> DomainUuid {
    DomainUuid::from_bytes([domain % DOMAINS + 1; 16])
}

/// The definition of a domain. Domains have equal texts that mean something else of each, at other times too, and names that
/// others have had.
fn def(domain: u8, variant: u8) -> Arc<DomainDef> {
    // Few, so that what a text has meant before comes again.
    let variant = variant % 8;
    let name = match variant % 4 {
        0..=2 => format!("vm{}", domain % DOMAINS),
        _ => "any".into(),
    };
    let xml = match variant % 3 {
        0 | 2 if variant < 4 => "<domain/>\n".into(),
        0 | 1 => format!("<domain variant='{}'/>\n", variant % 2),
        _ => format!("<domain variant='{variant}' of='{}'/>\n", domain % DOMAINS),
    };
    Arc::new(DomainDef {
        name: name.into(),
        uuid: uuid(domain),
        memory_kib: 1024 + u64::from(variant / 4),
        disks: Vec::new(),
        xml: xml.into(),
    })
}

#[derive(Clone, Debug)]
enum Turn {
    /// Commands about a domain with this definition, in one record.
    Ops {
        domain: u8,
        variants: Vec<(u8, Op)>,
    },
    /// A job of a domain that is attached for it, and its outcome later.
    Begin {
        domain: u8,
        variant: u8,
        op: Op,
    },
    Settle {
        domain: u8,
        failed: bool,
    },
    Settings {
        exclusive: bool,
    },
    Image,
    Archive,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let op = || ops(4).prop_map(|ops| ops.into_iter().last().unwrap_or(Op::Define));
    let some = (0..DOMAINS, prop::collection::vec((any::<u8>(), op()), 1..3));
    let turn = prop_oneof![
        40 => some.prop_map(|(domain, variants)| Turn::Ops { domain, variants }),
        6 => (0..DOMAINS, 0..8_u8).prop_map(|(domain, variant)| Turn::Ops {
            domain,
            variants: vec![(variant, Op::Define), (variant, Op::ChangeState(0))],
        }),
        4 => (0..DOMAINS, any::<u8>(), op())
            .prop_map(|(domain, variant, op)| Turn::Begin { domain, variant, op }),
        4 => (0..DOMAINS, any::<bool>()).prop_map(|(domain, failed)| Turn::Settle { domain, failed }),
        2 => any::<bool>().prop_map(|exclusive| Turn::Settings { exclusive }),
        1 => Just(Turn::Image),
        1 => Just(Turn::Archive),
    ];
    // Nearly all domains are there from the beginning.
    let begin = prop::collection::vec(prop::bool::weighted(0.9), usize::from(DOMAINS));
    (begin, prop::collection::vec(turn, 0..80)).prop_map(|(begin, turns)| {
        let begin = (0..DOMAINS).zip(begin).filter(|(_, there)| *there);
        let begin = begin.map(|(domain, _)| Turn::Ops {
            domain,
            variants: vec![(0, Op::Define), (0, Op::ChangeState(0))],
        });
        begin.chain(turns).collect()
    })
}

/// The action of an op, with the definition of a turn in the place of the suite's; none if the op is a report.
fn action(op: &Op, known: Option<&Domain>, domain: u8, variant: u8, now: i64) -> Option<Action> {
    let own = def(domain, variant);
    Some(match op.action(now, known)? {
        Action::Define(_) => Action::Define(own),
        Action::RedefineSnapshot(mut redefine) => {
            redefine.def.inactive_domain = redefine
                .def
                .domain
                .as_ref()
                .map(|_| def(variant, variant / 2));
            redefine.def.domain = redefine.def.domain.map(|_| own);
            redefine.def.description = Some("a text that is stored once".into());
            Action::RedefineSnapshot(redefine)
        }
        Action::RedefineCheckpoint(mut redefine) => {
            redefine.def.domain = redefine.def.domain.map(|_| own);
            Action::RedefineCheckpoint(redefine)
        }
        action => action,
    })
}

fn job() -> Job {
    Job {
        kind: JobKind::CreateCheckpoint,
        length: JobLength::Short,
        call: 411,
        flags: 0,
        document: Some("<domaincheckpoint/>\n".into()),
        snapshots: vec![],
        checkpoints: vec![],
        deletions: vec![],
        effects: vec![],
        files: vec![],
        run: None,
    }
}

/// Records what a turn asks, if it is accepted.
fn play(log: &Log, number: usize, turn: &Turn, archive: Option<&dyn Disk>) {
    let now = 100 + i64::try_from(number / 3).unwrap();
    let provenance = Provenance {
        actor: format!("actor {}", number % 3).into(),
        agent: format!("agent {}", number % 2).into(),
        reason: number
            .is_multiple_of(4)
            .then(|| format!("reason {}", number % 8).into()),
        request_id: number
            .is_multiple_of(5)
            .then(|| format!("request {number}").into()),
        ..Provenance::default()
    };
    let about = |domain: u8| {
        let (call, domain) = ((Call::EXECUTE, 7), Some(uuid(domain)));
        Request::of_call(&provenance, call, domain, &[])
    };
    let decide =
        |domain: u8, decide: &mut dyn FnMut(&mut Decision<'_>) -> Result<(), EngineError>| match log
            .decide(about(domain), decide)
        {
            Ok(_) | Err(EngineError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        };
    match turn {
        Turn::Ops { domain, variants } => decide(*domain, &mut |decision| {
            for (variant, op) in variants {
                let known = decision.state().domain(uuid(*domain)).cloned();
                let Some(action) = action(op, known.as_ref(), *domain, *variant, now) else {
                    continue;
                };
                let domain = uuid(*domain);
                match decision.decide(&Command { domain, action }) {
                    // What the others cause is recorded without it.
                    Err(_) if variants.len() > 1 => {}
                    decided => drop(decided?.to_vec()),
                }
            }
            Ok(())
        }),
        Turn::Begin {
            domain,
            variant,
            op,
        } => decide(*domain, &mut |decision| {
            let uuid = uuid(*domain);
            let attachment = Attachment {
                driver: "qemu".into(),
                socket: format!("/run/{domain}").into(),
                look_only: false,
            };
            decision.decide_report(uuid, &Report::Attach(attachment))?;
            let known = decision.state().domain(uuid).cloned();
            let action = action(op, known.as_ref(), *domain, *variant, now);
            let begin = BeginJob { job: job(), action };
            decision.decide_report(uuid, &Report::Begin(Box::new(begin)))?;
            Ok(())
        }),
        Turn::Settle { domain, failed } => decide(*domain, &mut |decision| {
            let state = decision.state();
            let Some(job) = state.open_jobs().find(|(of, _)| *of == uuid(*domain)) else {
                return Ok(());
            };
            let outcome = JobOutcome {
                job: job.1.id,
                seen: Seen::default(),
                settled_by: SettledBy::Later,
                agent: format!("agent {}", number % 4).into(),
            };
            let report = if *failed {
                Report::Fail(outcome)
            } else {
                Report::End {
                    outcome,
                    then: None,
                }
            };
            decision.decide_report(uuid(*domain), &report)?;
            Ok(())
        }),
        Turn::Settings { exclusive } => {
            let change = SettingsChange {
                policy: Some(Policy {
                    exclusive: *exclusive,
                    ..Policy::NONE
                }),
                ..SettingsChange::default()
            };
            let request = Request::of_settings(&provenance, change);
            let changed = log.decide(request, &mut |decision| {
                decision.decide_settings(change);
                Ok::<_, EngineError>(())
            });
            changed.unwrap();
        }
        // That there is nothing to save, or that the store keeps no images, is not what is looked at here.
        Turn::Image => drop(log.make_image()),
        Turn::Archive => {
            if let Some(archive) = archive {
                let _ = log.archive(&provenance, archive);
            }
        }
    }
}

/// Compares all answers with those of a replay of the whole log.
fn compare(log: &Log) {
    let Ok(full) = log.history(None) else {
        return;
    };
    let begin = full.view().clone();
    let full: Vec<Step> = full.map(|step| step.expect("the log is sound")).collect();
    let end = full
        .last()
        .map_or(begin.head(), |step| Some(step.entry.head));
    watched(log, &full);
    for domain in 0..DOMAINS {
        let domain = uuid(domain);
        let wanted: Vec<&Step> = full
            .iter()
            .filter(|step| step.entry.domain == Some(domain))
            .collect();
        let found = log.history_of(domain).expect("there is a store");
        let found: Vec<Step> = found.map(|step| step.expect("the log is sound")).collect();
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!(found.entry, wanted.entry);
            for (found, wanted) in [
                (&found.before, &wanted.before),
                (&found.after, &wanted.after),
            ] {
                same_domain(found, wanted, domain);
            }
        }
        steps_of(log, &full, domain);
        let views = std::iter::once(&begin).chain(full.iter().map(|step| &step.after));
        for wanted in views {
            if let Some(head) = wanted.head() {
                same_domain(&log.view_of(domain, head.seq).unwrap(), wanted, domain);
            }
        }
    }
    let last = end.map_or(0, |end| end.seq.get());
    for wanted in &full {
        for more in [0, 3] {
            few_steps(log, &full, wanted.entry.head.seq, more);
        }
    }
    // Behind the end there is nothing, and what comes before the beginning is left out.
    let behind = Seq::new(last + 1).unwrap();
    assert_eq!(log.steps(behind, behind).unwrap().count(), 0);
    few_steps(log, &full, Seq::FIRST, last);
    let names = (0..DOMAINS).map(|domain| format!("vm{domain}"));
    for name in names.chain(["any".to_owned(), "nobody".to_owned()]) {
        let views = std::iter::once(&begin).chain(full.iter().map(|step| &step.after));
        let mut wanted: Vec<DomainUuid> = views
            .filter(|view| view.head().is_some())
            .filter_map(|view| Some(view.state().domain_by_name(&name)?.uuid()))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = log.domains_called(&name).unwrap();
        found.sort_unstable();
        assert_eq!(found, wanted, "{name}");
    }
    entries(log, &full);
    assert_eq!(log.locate(i64::MAX).unwrap(), end);
    match begin.head() {
        Some(start) => {
            assert!(log.locate(0).unwrap_err().to_string().contains("archive"));
            assert!(
                log.entry(start.seq)
                    .unwrap_err()
                    .to_string()
                    .contains("archive")
            );
            if let Some(before) = Seq::new(start.seq.get() - 1) {
                let error = log.view_of(uuid(0), before).unwrap_err();
                assert!(error.to_string().contains("archive"), "{error}");
            }
        }
        None => assert_eq!(log.locate(0).unwrap(), None),
    }
    let next = Seq::after(end.map(|end| end.seq));
    assert_eq!(log.entry(next).unwrap(), None);
}

/// The steps of a domain between two records are those of a replay, and differ as the states there do.
#[track_caller]
fn steps_of(log: &Log, full: &[Step], domain: DomainUuid) {
    for (at, first) in full.iter().enumerate().step_by(5) {
        let last = (at + at % 7).min(full.len() - 1);
        let wanted = full[at..=last].iter();
        let wanted: Vec<&Step> = wanted
            .filter(|step| step.entry.domain == Some(domain))
            .collect();
        let (from, to) = (first.entry.head.seq, full[last].entry.head.seq);
        let found = log.steps_of(domain, from, to).unwrap();
        let found: Vec<Step> = found.map(|step| step.expect("the log is sound")).collect();
        assert_eq!(found.len(), wanted.len(), "{from} to {to}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found.entry, wanted.entry);
            same_domain(&found.before, &wanted.before, domain);
            same_domain(&found.after, &wanted.after, domain);
        }
        let told = log.steps_of(domain, from, to).unwrap();
        same_told(told.watched(Teller::default()), wanted.iter().copied());
    }
}

/// Each entry, its time and what is found by its time are those of a replay.
#[track_caller]
fn entries(log: &Log, full: &[Step]) {
    for Step { entry, after, .. } in full {
        assert_eq!(
            log.recorded_at(entry.head.seq).unwrap(),
            Some(entry.recorded)
        );
        let found: Option<Entry> = log.entry(entry.head.seq).unwrap();
        assert_eq!(found.as_ref(), Some(entry));
        let last = full
            .iter()
            .rev()
            .find(|step| step.entry.recorded <= entry.recorded);
        let last = last.map(|step| step.entry.head);
        assert_eq!(log.locate(entry.recorded).unwrap(), last);
        let before = full
            .iter()
            .rev()
            .find(|step| step.entry.recorded < entry.recorded);
        if let Some(before) = before {
            assert_eq!(
                log.locate(entry.recorded - 1).unwrap(),
                Some(before.entry.head)
            );
        }
        if last == Some(entry.head) {
            assert_eq!(log.view_as_of(entry.recorded).unwrap(), *after);
        }
    }
}

/// Replaying a log gives the same changes as its steps one by one, also up to a record.
#[track_caller]
fn watched(log: &Log, full: &[Step]) {
    let history = || log.history(None).unwrap();
    same_told(history().watched(Teller::default()), full.iter());
    for (at, step) in full.iter().enumerate().step_by(7) {
        let told = history().up_to(step.entry.head.seq);
        same_told(told.watched(Teller::default()), full[..=at].iter());
        assert_eq!(history().up_to(step.entry.head.seq).count(), at + 1);
    }
}

#[track_caller]
fn same_told<'a>(
    found: impl Iterator<Item = Result<Told, EngineError>>,
    wanted: impl Iterator<Item = &'a Step>,
) {
    let found = found.map(|told| told.expect("the log is sound"));
    let found: Vec<Told> = found.collect();
    let wanted: Vec<Told> = wanted.map(Told::of).collect();
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.into_iter().zip(wanted) {
        assert_eq!(found.entry, wanted.entry);
        assert_eq!(found.domain, wanted.domain);
        assert_eq!(found.consequences, wanted.consequences);
    }
}

/// Compares what a few steps say, read by themselves, with what they say in a replay of the whole log.
#[track_caller]
fn few_steps(log: &Log, full: &[Step], from: Seq, more: u64) {
    let to = Seq::new(from.get() + more).unwrap();
    let wanted: Vec<&Step> = full
        .iter()
        .filter(|step| (from..=to).contains(&step.entry.head.seq))
        .collect();
    let found = log.steps(from, to).unwrap();
    let found: Vec<Step> = found.map(|step| step.expect("the log is sound")).collect();
    assert_eq!(found.len(), wanted.len(), "{from} to {to}");
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.entry, wanted.entry);
        let (of, whole) = (Told::of(found), Told::of(wanted));
        assert_eq!(of.domain, whole.domain);
        assert_eq!(of.consequences, whole.consequences);
        for (found, wanted) in [
            (&found.before, &wanted.before),
            (&found.after, &wanted.after),
        ] {
            assert_eq!(found.head(), wanted.head());
            assert_eq!(found.state().settings(), wanted.state().settings());
            if let Some(domain) = whole.entry.domain {
                same_domain(found, wanted, domain);
            }
        }
    }
}

#[track_caller]
fn same_domain(found: &momentlog::View, wanted: &momentlog::View, domain: DomainUuid) {
    let (of, whole) = (found.state(), wanted.state());
    assert_eq!(found.head(), wanted.head());
    assert!(of.only_domains().is_some_and(|only| only.contains(&domain)));
    assert_eq!(of.domain(domain), whole.domain(domain));
    assert_eq!(of.check(), Ok(()));
    assert_eq!(of.settings(), whole.settings());
    assert_eq!(of.policy_of_new(domain), whole.policy_of_new(domain));
    assert_eq!(found.revision(domain), wanted.revision(domain));
    assert!(of.budget() >= whole.budget());
}

fn run(turns: &[Turn], profile: Profile, store: Box<dyn Store>, archive: Option<&dyn Disk>) {
    let clock = Arc::new(ManualClock::at_second(1));
    let options = Options {
        clock: clock.clone(),
        profile,
        ..Options::default()
    };
    let log = Log::over(store, options);
    for (number, turn) in turns.iter().enumerate() {
        clock.set_second(100 + i64::try_from(number / 2).unwrap());
        play(&log, number, turn, archive);
        if matches!(turn, Turn::Archive) {
            compare(&log);
        }
    }
    compare(&log);
    log.release();
    compare(&log);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn questions_about_one_domain_are_answered_as_by_replay_of_files(
        turns in turns(),
        own in any::<bool>(),
    ) {
        let disk = SimDisk::new("store");
        let archive = disk.beside("archive");
        let store = FileStore::with_limits(Arc::new(disk), LIMITS);
        let profile = if own { Profile::Own } else { Profile::LibvirtTest };
        run(&turns, profile, Box::new(store), Some(&archive));
    }

    #[test]
    fn questions_about_one_domain_are_answered_as_by_replay_of_other_stores(turns in turns()) {
        run(&turns, Profile::Own, Box::new(MemoryStore::new()), None);
        run(&turns, Profile::Own, Box::new(SharedStore::new()), None);
    }
}
