//! Playing ops against a store and the model.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog::core::{
    Change, Domain, DomainDef, DomainUuid, Extent, JobId, JobLength, MomentId, MomentList, Profile,
    Scope,
};
use momentlog::store::Store;
use momentlog::xml::read_domain;
use momentlog::{Connection, ManualClock, Options};

use crate::model::{Model, Reason};
use crate::op::Op;

/// The one domain of the suites.
pub(crate) const UUID: DomainUuid = DomainUuid::from_bytes([0x5a; 16]);

/// The definition of the one domain.
pub fn domain_def() -> Arc<DomainDef> {
    domain_def_of("vm", UUID)
}

/// The definition of a domain: two disks, of which one is read-only.
pub fn domain_def_of(name: &str, uuid: DomainUuid) -> Arc<DomainDef> {
    let disk = |target: &str, readonly: &str| {
        format!(
            "<disk type='file'><source file='/images/{target}.qcow2'/><target dev='{target}'/>{readonly}</disk>"
        )
    };
    let disks = disk("vda", "") + &disk("vdb", "<readonly/>");
    let xml = format!(
        "<domain type='test'><name>{name}</name><memory>1048576</memory><os><type>hvm</type></os>\
         <devices>{disks}</devices></domain>"
    );
    Arc::new(read_domain(&xml, || uuid).expect("the domain is one"))
}

/// Returns a connection over a store, with a clock that the suite sets.
pub fn connection(store: Box<dyn Store>, clock: Arc<ManualClock>) -> Connection {
    Connection::over(
        store,
        Options {
            clock,
            profile: Profile::Own,
            ..Options::default()
        },
    )
}

/// Plays ops on a new store, which must be empty, and checks everything after each.
///
/// # Panics
///
/// If any invariant breaks, or store and model disagree; the message holds the ops so far.
pub fn run(ops: &[Op], store: Box<dyn Store>) {
    let clock = Arc::new(ManualClock::default());
    let connection = connection(store, clock.clone());
    let mut model = Model::new(Profile::Own);
    // The moments that are held, by id and tag, as the events of the answers say.
    let mut held = BTreeSet::new();
    for (step, op) in ops.iter().enumerate() {
        // Two ops in three share their second with the one before, so that nameless moments meet.
        let now = 100 + i64::try_from(step / 3).expect("a sequence is short");
        clock.set_second(now);
        let so_far = &ops[..=step];
        let before = connection.view();
        let wanted = model.apply(op, now);
        let asked = op.asked(now, before.state().domain(UUID));
        let answer = asked.of(&connection, UUID);
        for event in answer.iter().flat_map(|outcome| &outcome.events) {
            match &event.change {
                Change::HoldAdded { id, tag, .. } => _ = held.insert((*id, tag.clone())),
                Change::HoldRemoved { id, tag } => _ = held.remove(&(*id, tag.clone())),
                _ => {}
            }
        }
        let got = answer.map(|_| ()).map_err(|error| {
            Reason::of_error(&error).unwrap_or_else(|| panic!("{error}: {so_far:?}"))
        });
        assert_eq!(got, wanted, "{so_far:?}");
        let after = connection.view();
        let state = after.state();
        assert_eq!(state.check(), Ok(()), "{so_far:?}");
        for (id, _) in &held {
            let domain = state.domain(UUID);
            let is_there = domain.is_some_and(|domain| {
                domain.snapshots().get(*id).is_some() || domain.checkpoints().get(*id).is_some()
            });
            assert!(is_there, "the held moment {id} is gone: {so_far:?}");
        }
        if model.keeps_rules() {
            assert_eq!(state.check_policy(), Ok(()), "{so_far:?}");
        }
        assert_eq!(
            state.domain(UUID).map_or("no domain".to_owned(), describe),
            model.describe(),
            "{so_far:?}"
        );
        let next_job = state.next_job().map(JobId::get);
        assert_eq!(next_job, Some(model.begun() + 1), "{so_far:?}");
        if got.is_err() {
            assert_eq!(
                after.head(),
                before.head(),
                "a refused command was recorded: {so_far:?}"
            );
            assert_eq!(
                state,
                before.state(),
                "a refused command changed the state: {so_far:?}"
            );
        } else {
            assert_ne!(
                after.head(),
                before.head(),
                "an accepted command was not recorded: {so_far:?}"
            );
        }
    }
    let live = connection.view();
    if let Some(head) = live.head() {
        let replayed = connection.view_at(head.seq).expect("the log can be read");
        assert_eq!(replayed.head(), Some(head), "{ops:?}");
        assert_eq!(
            replayed.state(),
            live.state(),
            "replay gives another state: {ops:?}"
        );
    }
}

pub(crate) fn describe(domain: &Domain) -> String {
    format!(
        "persistent {} autostart {} {:?} {:?} snapshots {} checkpoints {} holds {:?} {}",
        domain.is_persistent(),
        domain.autostart(),
        domain.power().state,
        domain.policy(),
        list(domain.snapshots()),
        list(domain.checkpoints()),
        holds(domain),
        driven(domain),
    )
}

/// What is held, each by its list, name and tag.
fn holds(domain: &Domain) -> BTreeSet<(bool, String, String)> {
    let held = domain.holds().iter().map(|(id, tag, _)| {
        let snapshot = domain.snapshots().get(id).map(|moment| moment.name.clone());
        let of = snapshot.is_some();
        let checkpoint = || name_of(domain.checkpoints(), Some(id));
        let name = snapshot.map_or_else(checkpoint, |name| name.to_string());
        (of, name, tag.to_string())
    });
    held.collect()
}

/// Where a domain is attached, and what the ends of its open jobs will do.
fn driven(domain: &Domain) -> String {
    let attached = domain.attachment();
    let attached = attached.map(|attached| (attached.socket.to_string(), attached.look_only));
    let job = |length| {
        let open = domain.jobs().get(length)?;
        let snapshots = open.job.snapshots.iter();
        let snapshots = snapshots.map(|made| {
            let parent = name_of(domain.snapshots(), made.parent);
            format!("makes snapshot {}<{parent}", made.name)
        });
        let checkpoints = open.job.checkpoints.iter();
        let checkpoints = checkpoints.map(|made| {
            let parent = name_of(domain.checkpoints(), made.parent);
            format!("makes checkpoint {}<{parent}", made.name)
        });
        let deletions = open.job.deletions.iter().map(|deletion| {
            let extent = match deletion.extent {
                Extent::One => 0,
                Extent::Subtree => 1,
                Extent::ChildrenOnly => 2,
            };
            match domain.snapshots().get(deletion.id) {
                Some(snapshot) => format!("deletes snapshot {} {extent}", snapshot.name),
                None => {
                    let name = name_of(domain.checkpoints(), Some(deletion.id));
                    format!("deletes checkpoint {name} {extent}")
                }
            }
        });
        Some(
            snapshots
                .chain(checkpoints)
                .chain(deletions)
                .collect::<Vec<_>>(),
        )
    };
    let [short, long] = [JobLength::Short, JobLength::Long].map(job);
    format!("attached {attached:?} jobs {short:?} {long:?}")
}

/// The name of a moment; `-` for none.
fn name_of<D>(list: &MomentList<D>, id: Option<MomentId>) -> String {
    id.map_or("-".to_owned(), |id| match list.get(id) {
        Some(moment) => moment.name.to_string(),
        None => "(gone)".to_owned(),
    })
}

fn list<D>(list: &MomentList<D>) -> String {
    let words = list.walk(Scope::All).map(|moment| {
        let parent = list
            .parent(moment.id)
            .map_or("-".to_owned(), |parent| parent.name.to_string());
        format!("{}<{parent}", moment.name)
    });
    let current = list.current().map(|moment| moment.name.to_string());
    format!(
        "[{}] current {current:?}",
        words.collect::<Vec<_>>().join(" ")
    )
}
