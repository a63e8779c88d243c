//! Making the recorded calls.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use momentlog::core::{DomainUuid, MomentName, Policy, Profile};
use momentlog::procedure::{self, Procedure, Takes};
use momentlog::{
    CheckpointListFlags, Connection, Domain, Error, ManualClock, Options, SnapshotListFlags,
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
    play_over(name, trace, stage, &|options| {
        Connection::open_with(&stage.uri, options)
    })
}

/// As [`play_on`], over whatever store `open` opens in place of the stage's.
///
/// # Errors
///
/// As [`play_on`].
///
/// # Panics
///
/// As [`play_on`].
pub fn play_over(
    name: &str,
    trace: &str,
    stage: &Stage,
    open: &dyn Fn(Options) -> momentlog::Result<Connection>,
) -> Result<Report, TraceError> {
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
    let open = || open(options.clone()).map_err(unusable);
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

    /// Makes the call and returns its answer as the recorder wrote it.
    fn answer(&mut self, call: &Call) -> Result<Value, Error> {
        let made = Procedure::by_name(&call.function)
            .and_then(|procedure| self.make(procedure.takes(), call));
        match made {
            Some(answer) => Ok(self.recorded(call, answer?)),
            // libvirt's client knows the name of its handle.
            None if call.function.ends_with("GetName") => Ok(json!(call.moment)),
            None => Ok(json!({"unknown call": call.function})),
        }
    }

    /// Makes the call, if recordings have what it takes. A connection for reading only answers as the other one, but for
    /// changes and secrets.
    fn make(&mut self, takes: Takes, call: &Call) -> Option<Result<procedure::Answer, Error>> {
        let flags = call.flags;
        let xml_or = |name: &Option<String>| {
            let text = call.xml.as_ref().or(name.as_ref());
            text.cloned().unwrap_or_default()
        };
        let connection = if call.readonly {
            self.connection.read_only()
        } else {
            self.connection.clone()
        };
        let mut domain = || self.domain(call, &connection);
        let moment = moment_name(call.moment.as_deref().unwrap_or_default());
        Some(match takes {
            Takes::Id(_)
            | Takes::Uuid(_)
            | Takes::DomainSwitch(_)
            | Takes::DomainNamesFlags(_)
            | Takes::DomainMetadata(_)
            | Takes::DomainSetMetadata(_)
            | Takes::DomainTextsFlags(_) => {
                return None;
            }
            Takes::Text(make) => make(&connection, &xml_or(&call.domain)),
            Takes::TextFlags(make) => make(&connection, &xml_or(&call.domain), flags),
            Takes::List(make) => make(&connection, flags),
            Takes::Domain(make) => make(&domain()),
            Takes::DomainFlags(make) | Takes::DomainList(make) => make(&domain(), flags),
            Takes::DomainTextFlags(make) => make(&domain(), &xml_or(&call.moment), flags),
            Takes::SnapshotFlags(make) | Takes::SnapshotList(make) => {
                make(&domain().snapshot_handle(moment), flags)
            }
            Takes::CheckpointFlags(make) | Takes::CheckpointList(make) => {
                make(&domain().checkpoint_handle(moment), flags)
            }
        })
    }

    /// The answer as the recorder wrote it. A domain that was defined is what its name stands for from now on.
    fn recorded(&mut self, call: &Call, answer: procedure::Answer) -> Value {
        use procedure::Answer as Made;
        let is_topological = |bit: u32| call.flags & bit != 0;
        match answer {
            Made::Done => json!(0),
            Made::Is(is) => json!(u8::from(is)),
            Made::Count(count) => json!(count),
            Made::State((state, reason)) => json!([state.number(), reason]),
            Made::Text(xml) => stripped(&xml),
            Made::Size(kib) => json!(kib),
            // No recording asks for a job.
            Made::Job(_) | Made::BlockJob(_) => json!({"unknown call": call.function}),
            Made::Info(info) => json!([
                info.state.number(),
                info.max_memory_kib,
                info.memory_kib,
                info.vcpus
            ]),
            Made::Domain(domain) => {
                if call.xml.is_some() && !call.keep_handles {
                    self.handles.insert(domain.name().to_owned(), domain.uuid());
                }
                json!({"domain": domain.name(), "uuid": domain.uuid().to_string()})
            }
            Made::Domains(domains) => list(call, domains.iter().map(Domain::name), false),
            Made::Snapshot(snapshot) => json!({"moment": snapshot.name().as_str()}),
            Made::Snapshots(snapshots) => {
                let names = snapshots.iter().map(|snapshot| snapshot.name().as_str());
                list(
                    call,
                    names,
                    is_topological(SnapshotListFlags::TOPOLOGICAL.bits()),
                )
            }
            Made::Checkpoint(checkpoint) => json!({"moment": checkpoint.name().as_str()}),
            Made::Checkpoints(checkpoints) => {
                let names = checkpoints
                    .iter()
                    .map(|checkpoint| checkpoint.name().as_str());
                list(
                    call,
                    names,
                    is_topological(CheckpointListFlags::TOPOLOGICAL.bits()),
                )
            }
            Made::Names(names) => {
                let names = names.iter().map(MomentName::as_str);
                list(
                    call,
                    names,
                    is_topological(SnapshotListFlags::TOPOLOGICAL.bits()),
                )
            }
        }
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

/// The name that a recorded handle has; no handle ever had an empty one.
fn moment_name(name: &str) -> MomentName {
    MomentName::new(name).unwrap_or_else(|| MomentName::new("(none)").expect("the text is a name"))
}

/// A list as the recorder wrote it.
fn list<'a>(call: &Call, names: impl Iterator<Item = &'a str>, topological: bool) -> Value {
    let names: Vec<&str> = names.collect();
    let count = names.len();
    if call.count_only {
        return json!({"count": count});
    }
    if let Some(max) = call.maxnames {
        return json!({"count": count, "filled": count.min(max)});
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
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
