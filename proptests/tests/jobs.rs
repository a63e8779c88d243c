//! What a job was begun for can always be recorded, whatever happens to other domains and to the rules meanwhile.

use std::sync::Arc;

use momentlog::core::{
    Action, BeginJob, Command, DomainUuid, Job, JobKind, JobLength, JobOutcome, Policy, Profile,
    Report, Rule, Seen, SettledBy, State,
};
use momentlog_proptests::{Op, domain_def, domain_def_of, ops};
use proptest::prelude::*;

const OTHER: DomainUuid = DomainUuid::from_bytes([9; 16]);

/// What happens while a job is open.
#[derive(Clone, Debug)]
enum Meanwhile {
    /// A command about the domain itself; most are refused.
    Own(Op),
    /// A command about another domain.
    Other(Op),
    /// Other rules for the domain.
    Rules(u8),
}

fn meanwhile() -> impl Strategy<Value = Vec<Meanwhile>> {
    let op = || ops(1).prop_map(|ops| ops.into_iter().next().unwrap_or(Op::Define));
    let one = prop_oneof![
        op().prop_map(Meanwhile::Own),
        op().prop_map(Meanwhile::Other),
        any::<u8>().prop_map(Meanwhile::Rules),
    ];
    proptest::collection::vec(one, 0..12)
}

fn rules(bits: u8) -> Policy {
    let numbered = Rule::ALL.into_iter().enumerate();
    numbered.fold(Policy::NONE, |policy, (number, rule)| {
        policy.with(rule, bits >> number & 1 == 1)
    })
}

/// Takes a command if it is accepted, and checks what it has made.
fn try_command(state: &mut State, domain: DomainUuid, action: Action) {
    if let Ok(events) = state.decide(&Command { domain, action }) {
        for event in events {
            state.advance(&event).expect("a decided event fits");
        }
    }
    assert_eq!(state.check(), Ok(()));
}

/// Takes the command of an op; what a driver reports is left to the test.
fn try_op(state: &mut State, domain: DomainUuid, op: &Op, now: i64) {
    if let Some(action) = op.action(now, state.domain(domain)) {
        try_command(state, domain, action);
    }
}

fn job(length: JobLength) -> Job {
    Job {
        kind: JobKind::CreateCheckpoint,
        length,
        call: 411,
        flags: 0,
        document: None,
        snapshots: vec![],
        checkpoints: vec![],
        deletions: vec![],
        effects: vec![],
        files: vec![],
        run: None,
    }
}

proptest! {
    #[test]
    fn the_outcome_of_a_job_is_never_refused(
        before in ops(20),
        begun in ops(6),
        meanwhile in meanwhile(),
        long_too in any::<bool>(),
    ) {
        let own = domain_def().uuid;
        let mut state = State::new(Profile::Own);
        try_command(&mut state, OTHER, Action::Define(domain_def_of("other", OTHER)));
        try_command(&mut state, own, Action::Define(domain_def()));
        for op in &before {
            try_op(&mut state, own, op, 100);
        }
        for op in &begun {
            let action = op.action(200, state.domain(own));
            let begin = |length| {
                let action = action.clone();
                Report::Begin(Box::new(BeginJob { job: job(length), action }))
            };
            let Ok(events) = state.decide_report(own, &begin(JobLength::Short)) else {
                continue;
            };
            for event in &events {
                state.advance(event).expect("a begun job fits");
            }
            let id = state.open_jobs().last().expect("it is open").1.id;
            for what in &meanwhile {
                match what {
                    Meanwhile::Own(op) => {
                        try_op(&mut state, own, op, 300);
                    }
                    Meanwhile::Other(op) => {
                        try_op(&mut state, OTHER, op, 300);
                    }
                    Meanwhile::Rules(bits) => {
                        try_command(&mut state, own, Action::SetPolicy(rules(*bits)));
                    }
                }
            }
            let outcome = JobOutcome {
                job: id,
                seen: Seen::default(),
                settled_by: SettledBy::Later,
                agent: "a test".into(),
            };
            let failed = state.decide_report(own, &Report::Fail(outcome.clone()));
            prop_assert!(failed.is_ok(), "{failed:?}");
            let then = long_too.then(|| Arc::new(job(JobLength::Long)));
            let then = then.filter(|_| state.domain(own).is_some_and(|domain| {
                domain.jobs().get(JobLength::Long).is_none()
            }));
            let ended = state.decide_report(own, &Report::End { outcome, then });
            prop_assert!(ended.is_ok(), "{ended:?}");
            for event in ended.expect("it is not refused") {
                state.advance(&event).expect("an outcome fits");
            }
            prop_assert_eq!(state.check(), Ok(()));
        }
    }
}
