//! What is decided, and what becomes of it.

use momentlog_core::{MomentKind, MomentName, Refusal};
use momentlog_engine::{BadProvenance, Call, Decision, EngineError, Request};

use super::*;

fn request(provenance: &Provenance) -> Request<'_> {
    Request::of_call(provenance, (Call::EXECUTE, 0), Some(DOMAIN), &[])
}

fn delete(name: &str) -> Action {
    Action::Delete {
        kind: MomentKind::Checkpoint,
        name: MomentName::new(name).unwrap(),
        extent: momentlog_core::Extent::One,
    }
}

#[test]
fn commands_of_one_request_become_one_record_and_see_those_before_them() {
    let log = log();
    let who = Provenance::default();
    let outcome = log.decide(request(&who), &mut |decision| {
        for name in ["a", "b"] {
            decision.decide(&command(checkpoint(name)))?;
        }
        let domain = decision.state().domain(DOMAIN).unwrap();
        assert_eq!(domain.checkpoints().len(), 2);
        Ok::<_, EngineError>(())
    });
    let outcome = outcome.unwrap();
    assert_eq!(outcome.created().unwrap().as_str(), "a");
    assert_eq!(log.view().head().unwrap().seq, outcome.seq);
    let entries = log.entries(None).unwrap();
    assert_eq!(entries.last().unwrap().events, outcome.events);
}

#[test]
fn a_refusal_leaves_nothing_of_its_request() {
    let log = log();
    let before = log.view();
    let who = Provenance::default();
    let refused = log.decide(request(&who), &mut |decision| {
        decision.decide(&command(checkpoint("a")))?;
        decision.decide(&command(checkpoint("a")))?;
        Ok::<_, EngineError>(())
    });
    assert!(matches!(
        refused,
        Err(EngineError::Refused(Refusal::NameTaken { .. }))
    ));
    assert_eq!(*log.view(), *before);
    assert_eq!(log.entries(None).unwrap().len(), 3);
}

#[test]
fn a_decision_on_a_view_says_what_would_come_of_it() {
    let log = log();
    execute(&log, checkpoint("a"));
    let view = log.view();
    let mut decision = Decision::on(&view);
    assert_eq!(decision.decide(&command(delete("a"))).unwrap().len(), 1);
    let domain = decision.state().domain(DOMAIN).unwrap();
    assert!(domain.checkpoints().is_empty());
    assert_eq!(log.view(), view);
}

#[test]
fn a_batch_takes_all_or_nothing_and_no_request_id() {
    let log = log();
    let who = Provenance::default();
    let names = ["a", "b", "a"];
    let mut decide = |decision: &mut Decision<'_>, index: usize| {
        decision.decide(&command(checkpoint(names[index])))?;
        Ok::<_, EngineError>(())
    };
    let three = [request(&who); 3];
    assert!(log.decide_all(&three, &mut decide).is_err());
    assert_eq!(log.entries(None).unwrap().len(), 3);
    let outcomes = log.decide_all(&three[..2], &mut decide).unwrap();
    assert_eq!(outcomes.len(), 2);

    let once = Provenance {
        request_id: Some("r1".into()),
        ..Provenance::default()
    };
    let refused = log.decide_all(&[request(&once); 2], &mut decide);
    assert!(matches!(
        refused,
        Err(EngineError::Provenance(BadProvenance::Batch))
    ));
}
