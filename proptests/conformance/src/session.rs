//! Making the recorded calls.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use momentlog::core::{DomainUuid, MomentName, Policy, Profile};
use momentlog::{
    Checkpoint, CheckpointCreateFlags, CheckpointDeleteFlags, CheckpointListFlags,
    CheckpointXmlFlags, Connection, Domain, Error, ManualClock, Options, RevertFlags, Snapshot,
    SnapshotCreateFlags, SnapshotDeleteFlags, SnapshotListFlags, SnapshotXmlFlags, UndefineFlags,
};
use serde_json::{Map, Value, json};

use crate::Report;
use crate::compare::compare;
use crate::trace::{Call, TraceError, read};

/// What momentlog answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Ok(Value),
    Error(Error),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Ok(value) => value.fmt(f),
            Answer::Error(error) => write!(f, "{error:?}"),
        }
    }
}

/// How a trace is played.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The store, which must be new.
    pub uri: String,
    /// After how many calls the store is closed and opened again; at the end its log is replayed, too.
    pub reopen_every: Option<usize>,
    /// Whether checkpoints must form a chain, which libvirt does not ask for.
    pub chain: bool,
}

impl Stage {
    /// libvirt's test driver, in memory.
    pub fn test_driver() -> Stage {
        Stage {
            uri: "test:///default".to_owned(),
            reopen_every: None,
            chain: false,
        }
    }
}

/// Plays a trace. `name` is what divergences are reported under.
///
/// # Errors
///
/// [`TraceError`] if the text is not a trace, or the store cannot be opened.
///
/// # Panics
///
/// If an invariant of the state breaks, or a domain does not meet its policy.
pub fn play_on(name: &str, trace: &str, stage: &Stage) -> Result<Report, TraceError> {
    let (header, calls) = read(trace)?;
    let clock = Arc::new(ManualClock::default());
    clock.set_second(header.clock_base);
    let options = Options {
        clock: clock.clone(),
        profile: Profile::LibvirtTest,
        ..Options::default()
    };
    let unusable = |error: Error| TraceError {
        line: 0,
        why: error.to_string(),
    };
    let open = || Connection::open_with(&stage.uri, options.clone()).map_err(unusable);
    let mut session = Session {
        connection: open()?,
        handles: HashMap::new(),
        last: HashMap::new(),
    };
    if stage.reopen_every.is_some() || stage.chain {
        // The built-in domain is there once the store is; its rules are part of the stage.
        let view = session.connection.view();
        let built_in = view
            .state()
            .domain_by_name("test")
            .expect("the profile has a built-in domain");
        let policy = Policy {
            chain: stage.chain,
            ..built_in.policy()
        };
        session
            .connection
            .set_policy(built_in.uuid(), policy)
            .map_err(unusable)?;
    }
    let mut report = Report::default();
    for (index, call) in calls.iter().enumerate() {
        clock.set_second(call.now.unwrap_or(header.clock_base + call.n));
        if stage
            .reopen_every
            .is_some_and(|every| index % every == every - 1)
        {
            session.connection.release();
            session.connection = open()?;
            session.connection.refresh().map_err(unusable)?;
        }
        let answer = match session.answer(call) {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(error),
        };
        report.calls += 1;
        let after = call.state.as_ref().and_then(|_| session.state(call));
        let view = session.connection.view();
        assert_eq!(view.state().check(), Ok(()), "{name} call {}", call.n);
        assert_eq!(
            view.state().check_policy(),
            Ok(()),
            "{name} call {}",
            call.n
        );
        if stage.chain {
            session.ask_for_chains();
        }
        if !compare(name, call, &answer, after.as_ref(), &mut report) {
            // The rest of the trace builds on what libvirt did here.
            report.calls += calls.len() - index - 1;
            break;
        }
    }
    if stage.reopen_every.is_some() {
        let live = session.connection.view();
        session.connection.release();
        let replayed = open()?.refresh().map_err(unusable)?;
        assert!(
            replayed.state() == live.state(),
            "{name}: the log replays to another state"
        );
    }
    Ok(report)
}

struct Session {
    connection: Connection,
    /// The uuid that each name's handle stands for.
    handles: HashMap<String, DomainUuid>,
    /// The state last written under each name.
    last: HashMap<String, Value>,
}

impl Session {
    /// Sets the chain policy on every domain that does not have it yet. All of them are new, so they meet it.
    fn ask_for_chains(&self) {
        for domain in self
            .connection
            .view()
            .state()
            .domains()
            .filter(|domain| !domain.policy().chain)
        {
            let policy = Policy {
                chain: true,
                ..domain.policy()
            };
            self.connection
                .set_policy(domain.uuid(), policy)
                .expect("a new domain meets any policy");
        }
    }

    /// Makes the call. A connection for reading only answers as the other one, but for changes and secrets.
    fn answer(&mut self, call: &Call) -> Result<Value, Error> {
        let xml = call.xml.as_deref().unwrap_or_default();
        let connection = if call.readonly {
            self.connection.read_only()
        } else {
            self.connection.clone()
        };
        match call.function.as_str() {
            "virDomainDefineXML" => {
                let domain = connection.define_domain_xml(xml)?;
                return Ok(self.defined(call, &domain));
            }
            "virDomainCreateXML" => {
                let domain = connection.create_domain_xml(xml)?;
                return Ok(self.defined(call, &domain));
            }
            "virDomainLookupByName" => {
                let domain =
                    connection.lookup_domain_by_name(call.domain.as_deref().unwrap_or_default())?;
                return Ok(json!({"domain": domain.name(), "uuid": domain.uuid().to_string()}));
            }
            _ => {}
        }
        let domain = self.domain(call, &connection);
        let name = call.moment.as_deref().unwrap_or_default();
        if call.function.contains("Checkpoint") {
            return checkpoint_call(call, &domain, name, xml);
        }
        if call.function.contains("Snapshot") {
            return snapshot_call(call, &domain, name, xml);
        }
        let done = |()| json!(0);
        match call.function.as_str() {
            "virDomainCreate" => domain.start().map(done),
            "virDomainSuspend" => domain.suspend().map(done),
            "virDomainResume" => domain.resume().map(done),
            "virDomainDestroy" => domain.destroy().map(done),
            "virDomainShutdown" => domain.shutdown().map(done),
            "virDomainUndefine" => domain.undefine(UndefineFlags::NONE).map(done),
            "virDomainUndefineFlags" => domain
                .undefine(UndefineFlags::from_bits_retain(call.flags))
                .map(done),
            "virDomainGetState" => domain
                .state()
                .map(|(state, reason)| json!([state.number(), reason])),
            "virDomainIsActive" => domain.is_active().map(|is| json!(u8::from(is))),
            "virDomainIsPersistent" => domain.is_persistent().map(|is| json!(u8::from(is))),
            other => Ok(json!({"unknown call": other})),
        }
    }

    fn defined(&mut self, call: &Call, domain: &Domain) -> Value {
        if !call.keep_handles {
            self.handles.insert(domain.name().to_owned(), domain.uuid());
        }
        json!({"domain": domain.name(), "uuid": domain.uuid().to_string()})
    }

    /// The handle that the trace's name stands for.
    fn domain(&mut self, call: &Call, connection: &Connection) -> Domain {
        let name = call.domain.clone().unwrap_or_default();
        let view = connection.view();
        let uuid = *self.handles.entry(name.clone()).or_insert_with(|| {
            view.state().domain_by_name(&name).map_or(
                DomainUuid::from_bytes([0; 16]),
                momentlog::core::Domain::uuid,
            )
        });
        connection.domain_handle(uuid, &name)
    }

    /// The state as the recorder wrote it: `"absent"`, `"same"`, or all of it.
    fn state(&mut self, call: &Call) -> Option<Value> {
        let name = call.domain.as_deref()?;
        let view = self.connection.view();
        let uuid = *self.handles.get(name)?;
        let state = view.state().domain(uuid).map_or(json!("absent"), described);
        if self.last.get(name) == Some(&state) {
            return Some(json!("same"));
        }
        self.last.insert(name.to_owned(), state.clone());
        Some(state)
    }
}

fn described(domain: &momentlog::core::Domain) -> Value {
    let power = domain.power();
    json!({
        "power": [power.state.number(), power.reason],
        "persistent": u8::from(domain.is_persistent()),
        "snapshots": {
            "parents": parents(domain.snapshots()),
            "current": domain.snapshots().current().map(|moment| moment.name.to_string()),
        },
        "checkpoints": {"parents": parents(domain.checkpoints())},
    })
}

fn parents<D>(list: &momentlog::core::MomentList<D>) -> Value {
    let parent = |id| {
        list.parent(id)
            .map_or(Value::Null, |parent| json!(parent.name.as_str()))
    };
    let pairs = list
        .walk(momentlog::core::Scope::All)
        .map(|moment| (moment.name.to_string(), parent(moment.id)));
    Value::Object(pairs.collect::<Map<_, _>>())
}

fn snapshot_call(call: &Call, domain: &Domain, name: &str, xml: &str) -> Result<Value, Error> {
    let flags = call.flags;
    let made = |snapshot: Snapshot| json!({"moment": snapshot.name().as_str()});
    let flag = |is: bool| json!(u8::from(is));
    let listed = |snapshots: Vec<Snapshot>| {
        let names: Vec<String> = snapshots
            .iter()
            .map(|snapshot| snapshot.name().to_string())
            .collect();
        list(
            call,
            &names,
            flags & SnapshotListFlags::TOPOLOGICAL.bits() != 0,
        )
    };
    let named = |names: Vec<MomentName>| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        list(
            call,
            &names,
            flags & SnapshotListFlags::TOPOLOGICAL.bits() != 0,
        )
    };
    let snapshot = || domain.snapshot_handle(moment_name(name));
    match call.function.as_str() {
        "virDomainSnapshotCreateXML" => domain
            .snapshot_create_xml(xml, SnapshotCreateFlags::from_bits_retain(flags))
            .map(made),
        "virDomainListAllSnapshots" => domain
            .list_all_snapshots(SnapshotListFlags::from_bits_retain(flags))
            .map(listed),
        "virDomainSnapshotNum" => domain
            .snapshot_num(SnapshotListFlags::from_bits_retain(flags))
            .map(|count| json!(count)),
        "virDomainSnapshotListNames" => domain
            .snapshot_list_names(SnapshotListFlags::from_bits_retain(flags))
            .map(named),
        "virDomainSnapshotLookupByName" => {
            domain.snapshot_lookup_by_name_raw(name, flags).map(made)
        }
        "virDomainHasCurrentSnapshot" => domain.has_current_snapshot_raw(flags).map(flag),
        "virDomainSnapshotCurrent" => domain.snapshot_current_raw(flags).map(made),
        "virDomainSnapshotGetName" => Ok(json!(name)),
        "virDomainSnapshotGetParent" => snapshot().parent_raw(flags).map(made),
        "virDomainSnapshotIsCurrent" => snapshot().is_current_raw(flags).map(flag),
        "virDomainSnapshotHasMetadata" => snapshot().has_metadata_raw(flags).map(flag),
        "virDomainSnapshotListAllChildren" => snapshot()
            .list_all_children(SnapshotListFlags::from_bits_retain(flags))
            .map(listed),
        "virDomainSnapshotNumChildren" => snapshot()
            .num_children(SnapshotListFlags::from_bits_retain(flags))
            .map(|count| json!(count)),
        "virDomainSnapshotListChildrenNames" => snapshot()
            .list_children_names(SnapshotListFlags::from_bits_retain(flags))
            .map(named),
        "virDomainSnapshotGetXMLDesc" => snapshot()
            .xml_desc(SnapshotXmlFlags::from_bits_retain(flags))
            .map(|xml| stripped(&xml)),
        "virDomainRevertToSnapshot" => snapshot()
            .revert(RevertFlags::from_bits_retain(flags))
            .map(|()| json!(0)),
        "virDomainSnapshotDelete" => snapshot()
            .delete(SnapshotDeleteFlags::from_bits_retain(flags))
            .map(|()| json!(0)),
        other => Ok(json!({"unknown call": other})),
    }
}

fn checkpoint_call(call: &Call, domain: &Domain, name: &str, xml: &str) -> Result<Value, Error> {
    let flags = call.flags;
    let made = |checkpoint: Checkpoint| json!({"moment": checkpoint.name().as_str()});
    let listed = |checkpoints: Vec<Checkpoint>| {
        let names: Vec<String> = checkpoints
            .iter()
            .map(|checkpoint| checkpoint.name().to_string())
            .collect();
        list(
            call,
            &names,
            flags & CheckpointListFlags::TOPOLOGICAL.bits() != 0,
        )
    };
    let checkpoint = || domain.checkpoint_handle(moment_name(name));
    match call.function.as_str() {
        "virDomainCheckpointCreateXML" => domain
            .checkpoint_create_xml(xml, CheckpointCreateFlags::from_bits_retain(flags))
            .map(made),
        "virDomainListAllCheckpoints" => domain
            .list_all_checkpoints(CheckpointListFlags::from_bits_retain(flags))
            .map(listed),
        "virDomainCheckpointLookupByName" => {
            domain.checkpoint_lookup_by_name_raw(name, flags).map(made)
        }
        "virDomainCheckpointGetName" => Ok(json!(name)),
        "virDomainCheckpointGetParent" => checkpoint().parent_raw(flags).map(made),
        "virDomainCheckpointListAllChildren" => checkpoint()
            .list_all_children(CheckpointListFlags::from_bits_retain(flags))
            .map(listed),
        "virDomainCheckpointGetXMLDesc" => checkpoint()
            .xml_desc(CheckpointXmlFlags::from_bits_retain(flags))
            .map(|xml| stripped(&xml)),
        "virDomainCheckpointDelete" => checkpoint()
            .delete(CheckpointDeleteFlags::from_bits_retain(flags))
            .map(|()| json!(0)),
        other => Ok(json!({"unknown call": other})),
    }
}

/// The name that a recorded handle has; no handle ever had an empty one.
fn moment_name(name: &str) -> MomentName {
    MomentName::new(name).unwrap_or_else(|| MomentName::new("(none)").expect("the text is a name"))
}

/// A list as the recorder wrote it.
fn list(call: &Call, names: &[String], topological: bool) -> Value {
    let count = names.len();
    if call.count_only {
        return json!({"count": count});
    }
    if let Some(max) = call.maxnames {
        return json!({"count": count, "filled": count.min(max)});
    }
    let mut sorted = names.to_vec();
    sorted.sort();
    let mut value = json!({"count": count, "names": sorted});
    if topological {
        value["raw"] = json!(names);
    }
    value
}

/// XML as the recorder wrote it: without the embedded domains, and whether there was one.
fn stripped(xml: &str) -> Value {
    let mut kept = String::new();
    let mut domain = false;
    let mut within: Option<String> = None;
    for line in xml.split_inclusive('\n') {
        if let Some(end) = &within {
            if line.trim_end_matches('\n') == end {
                within = None;
            }
            continue;
        }
        let starts = |name: &str| {
            line.starts_with(&format!("  <{name}>")) || line.starts_with(&format!("  <{name} "))
        };
        match ["domain", "inactiveDomain"]
            .into_iter()
            .find(|name| starts(name))
        {
            Some(name) => {
                domain = true;
                within = Some(format!("  </{name}>"));
            }
            None => kept.push_str(line),
        }
    }
    json!({"xml_stripped": kept, "domain": domain})
}
