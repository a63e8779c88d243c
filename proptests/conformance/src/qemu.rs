//! Plays recordings of libvirt's qemu driver against momentlog on a real QEMU.
//!
//! Each trace has a directory of its own with its images. QEMU is started as the recording had it, with two monitors: one
//! that momentlog has to itself, and one for the guest's writes and for looking at bitmaps.

mod guest;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use momentlog::core::{Action, Command, MomentKind, MomentName, Policy, SettingsChange};
use momentlog::procedure::{Answer as Answered, Procedure, Takes};
use momentlog::{
    BackupBeginFlags, BackupXmlFlags, CheckpointCreateFlags, CheckpointListFlags, Connection,
    Domain, Error, ManualClock, Options, SnapshotCreateFlags, SnapshotListFlags, UndefineFlags,
};
use momentlog_qemu::Qemu;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Report;
use crate::compare::{Divergence, Level};
use crate::session::Answer;
use crate::trace::{RecordedError, TraceError};
use guest::Guest;

/// The first line of a recording.
#[derive(Debug, Deserialize)]
struct Header {
    format: String,
    clock_base: i64,
    profile: String,
    disk_size: u64,
}

/// One recorded call with its answer.
#[derive(Debug, Deserialize)]
struct Call {
    n: i64,
    #[serde(rename = "call")]
    function: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    moment: Option<String>,
    #[serde(default)]
    xml: Option<String>,
    #[serde(default)]
    checkpoint_xml: Option<String>,
    #[serde(default)]
    flags: u32,
    #[serde(default)]
    disk: Option<String>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    length: u64,
    #[serde(default)]
    pattern: u8,
    #[serde(default)]
    store: Option<String>,
    result: Option<Value>,
    error: Option<RecordedError>,
    state: Option<Value>,
}

/// A difference that the design wants: a rule about calls, never about a trace or a number.
struct Improvement {
    rule: &'static str,
    applies: fn(&Call, &Answer) -> bool,
}

/// All of them.
const IMPROVED: [Improvement; 2] = [
    Improvement {
        rule: "libvirt's daemon died in this call, so that it is not known what it would have answered",
        applies: |call, _| {
            let error = call.error.as_ref();
            error.is_some_and(|error| error.code == 38 && error.domain == 7)
        },
    },
    Improvement {
        rule: "a deletion that is refused because a bitmap is gone changes nothing; libvirt has moved children or deleted some",
        applies: |call, answer| {
            let is_deletion =
                call.function == "Delete" && call.kind.as_deref() == Some("checkpoint");
            let has_changed = call.state.as_ref().is_some_and(|state| state != "same");
            let is_missing = |error: &Error| error.message().contains("not found in backing chain");
            is_deletion
                && has_changed
                && matches!(answer, Answer::Error(error) if is_missing(error))
        },
    },
];

/// Plays a recording of libvirt's qemu driver. Its images lie in `dir`, which must be empty.
///
/// # Errors
///
/// [`TraceError`] if the text is not such a recording, or QEMU cannot be used.
pub fn play_qemu(name: &str, trace: &str, dir: &Path) -> Result<Report, TraceError> {
    let malformed = |line: usize, why: String| TraceError { line, why };
    let mut lines = trace.lines().enumerate();
    let (_, first) = lines
        .next()
        .ok_or_else(|| malformed(1, "the file is empty".to_owned()))?;
    let header: Header =
        serde_json::from_str(first).map_err(|error| malformed(1, error.to_string()))?;
    if header.format != "momentlog-oracle-qemu" {
        return Err(malformed(
            1,
            format!("format '{}' is not known", header.format),
        ));
    }
    let mut session = Session::begin(&header, dir).map_err(|why| malformed(0, why))?;
    let mut report = Report::default();
    let mut last = Value::Null;
    for (line, text) in lines {
        let call: Call =
            serde_json::from_str(text).map_err(|error| malformed(line + 1, error.to_string()))?;
        session.clock.set_second(header.clock_base + call.n);
        let answer = session
            .make(&call)
            .map_err(|why| malformed(line + 1, why))?;
        report.calls += 1;
        if let Some(recorded) = &call.state
            && recorded != "same"
        {
            last = recorded.clone();
        }
        if let Some(found) = IMPROVED
            .iter()
            .find(|found| (found.applies)(&call, &answer))
        {
            *report.improved.entry(found.rule).or_default() += 1;
            if !session.follow(&last) {
                return Ok(report);
            }
        }
        let state = match &call.state {
            Some(_) => Some(session.state().map_err(|why| malformed(line + 1, why))?),
            None => None,
        };
        compare(
            name,
            &call,
            &answer,
            state.as_ref().map(|found| (&last, found)),
            &mut report,
        );
    }
    Ok(report)
}

/// What a trace is played on.
struct Session {
    clock: Arc<ManualClock>,
    connection: Connection,
    guest: Guest,
    domain: Option<Domain>,
}

impl Session {
    fn begin(header: &Header, dir: &Path) -> Result<Session, String> {
        let clock = Arc::new(ManualClock::default());
        clock.set_second(header.clock_base);
        let options = Options {
            clock: clock.clone(),
            lock_wait: Duration::from_millis(300),
            ..Options::default()
        };
        let uri = format!("momentlog://{}", dir.join("store").display());
        let connection = Connection::open_with(&uri, options).map_err(said)?;
        let connection = connection.with_drivers([Arc::new(Qemu::default()) as Arc<_>]);
        // As libvirt has it: snapshots beside checkpoints, and any tree of checkpoints.
        let change = SettingsChange {
            policy: Some(Policy {
                suffix: true,
                overlays: true,
                ..Policy::NONE
            }),
            ..SettingsChange::default()
        };
        connection.set_settings(change).map_err(said)?;
        Ok(Session {
            clock,
            connection,
            guest: Guest::new(dir, &header.profile, header.disk_size)?,
            domain: None,
        })
    }

    fn domain(&self) -> Result<&Domain, String> {
        self.domain
            .as_ref()
            .ok_or_else(|| "no domain was defined".to_owned())
    }

    /// Makes one call; an error of the library is an answer, and one of the player's own an error.
    fn make(&mut self, call: &Call) -> Result<Answer, String> {
        let answered = self.try_to_make(call)?;
        Ok(match answered {
            Ok(value) => Answer::Ok(value),
            Err(error) => Answer::Error(error),
        })
    }

    fn try_to_make(&mut self, call: &Call) -> Result<Result<Value, Error>, String> {
        let zero = |done: Result<(), Error>| Ok(done.map(|()| json!(0)));
        let xml = self.guest.here(call.xml.as_deref().unwrap_or_default());
        match call.function.as_str() {
            "DefineXML" => {
                let defined = self.connection.define_domain_xml(&xml).map_err(said)?;
                let socket = self.guest.socket();
                defined.attach(Qemu::NAME, &socket, false).map_err(said)?;
                self.domain = Some(defined);
                Ok(Ok(json!(0)))
            }
            "Create" => {
                self.guest.start()?;
                zero(self.domain()?.look().map(|_| ()))
            }
            "Destroy" => {
                let done = self.domain()?.destroy();
                if done.is_ok() {
                    self.guest.stop()?;
                }
                zero(done)
            }
            "Kill" => {
                self.guest.kill()?;
                zero(self.domain()?.look().map(|_| ()))
            }
            "Undefine" => zero(
                self.domain()?
                    .undefine(UndefineFlags::from_bits_retain(call.flags)),
            ),
            "Write" => {
                let disk = call.disk.as_deref().unwrap_or_default();
                self.guest
                    .write(disk, call.offset, call.length, call.pattern)?;
                Ok(Ok(json!(0)))
            }
            "CreateXML" => Ok(self
                .create(call, &xml)?
                .map(|name| json!({ "moment": name }))),
            "Delete" | "XMLDesc" | "Parent" => self.of_moment(call),
            "List" => Ok(self.list(call)?.map(|names| json!({ "names": names }))),
            "BackupBegin" => self.backup(call, &xml),
            "BackupXML" => {
                let flags = BackupXmlFlags::from_bits_retain(call.flags);
                let found = self.domain()?.backup_xml_desc(flags);
                Ok(found.map(|xml| json!({ "xml": self.guest.there(&xml) })))
            }
            "AbortJob" => zero(self.domain()?.abort_job()),
            "NbdMap" => {
                let disk = call.disk.as_deref().unwrap_or_default();
                let store = self.guest.here(call.store.as_deref().unwrap_or_default());
                Ok(Ok(guest::dirty_over_nbd(disk, &store)?))
            }
            other => Err(format!("call '{other}' is not known")),
        }
    }

    fn create(&self, call: &Call, xml: &str) -> Result<Result<String, Error>, String> {
        let domain = self.domain()?;
        Ok(if call.kind.as_deref() == Some("snapshot") {
            let flags = SnapshotCreateFlags::from_bits_retain(call.flags);
            let made = domain.snapshot_create_xml(xml, flags);
            made.map(|made| made.name().to_string())
        } else {
            let flags = CheckpointCreateFlags::from_bits_retain(call.flags);
            let made = domain.checkpoint_create_xml(xml, flags);
            made.map(|made| made.name().to_string())
        })
    }

    fn of_moment(&self, call: &Call) -> Result<Result<Value, Error>, String> {
        let domain = self.domain()?;
        let name = call.moment.as_deref().unwrap_or_default();
        let is_snapshot = call.kind.as_deref() == Some("snapshot");
        let kind = if is_snapshot {
            "Snapshot"
        } else {
            "Checkpoint"
        };
        let verb = match call.function.as_str() {
            "Delete" => "Delete",
            "XMLDesc" => "GetXMLDesc",
            _ => "GetParent",
        };
        let function = format!("virDomain{kind}{verb}");
        let procedure = Procedure::by_name(&function).ok_or_else(|| function.clone())?;
        let answered = match procedure.takes() {
            Takes::SnapshotFlags(made) => domain
                .snapshot_lookup_by_name(name)
                .and_then(|found| made(&found, call.flags)),
            Takes::CheckpointFlags(made) => domain
                .checkpoint_lookup_by_name(name)
                .and_then(|found| made(&found, call.flags)),
            other => return Err(format!("{function} takes {other:?}")),
        };
        Ok(answered.map(|answer| match answer {
            Answered::Text(xml) => self.stripped(&xml),
            Answered::Snapshot(found) => json!({ "moment": found.name().as_str() }),
            Answered::Checkpoint(found) => json!({ "moment": found.name().as_str() }),
            _ => json!(0),
        }))
    }

    /// A moment's XML without the domain that it embeds, and whether it embeds one.
    fn stripped(&self, xml: &str) -> Value {
        let mut kept = String::new();
        let mut inside = None;
        let mut has_domain = false;
        for line in xml.split_inclusive('\n') {
            if let Some(end) = inside {
                if line.trim_end() == end {
                    inside = None;
                }
                continue;
            }
            let word = line.strip_prefix("  <").unwrap_or_default();
            let end = if word.starts_with("domain ") || word.starts_with("domain>") {
                "  </domain>"
            } else if word.starts_with("inactiveDomain") {
                "  </inactiveDomain>"
            } else {
                kept.push_str(line);
                continue;
            };
            has_domain = true;
            inside = Some(end);
        }
        json!({ "xml_stripped": self.guest.there(&kept), "domain": has_domain })
    }

    fn list(&self, call: &Call) -> Result<Result<Vec<String>, Error>, String> {
        let domain = self.domain()?;
        let names = if call.kind.as_deref() == Some("snapshot") {
            let flags = SnapshotListFlags::from_bits_retain(call.flags);
            let found = domain.list_all_snapshots(flags);
            found.map(|found| found.iter().map(|found| found.name().to_string()).collect())
        } else {
            let flags = CheckpointListFlags::from_bits_retain(call.flags);
            let found = domain.list_all_checkpoints(flags);
            found.map(|found| found.iter().map(|found| found.name().to_string()).collect())
        };
        Ok(names.map(|mut names: Vec<String>| {
            names.sort_unstable();
            names
        }))
    }

    fn backup(&mut self, call: &Call, xml: &str) -> Result<Result<Value, Error>, String> {
        let checkpoint = call
            .checkpoint_xml
            .as_deref()
            .map(|xml| self.guest.here(xml));
        let flags = BackupBeginFlags::from_bits_retain(call.flags);
        let domain = self.domain()?;
        if let Err(error) = domain.backup_begin(xml, checkpoint.as_deref(), flags) {
            return Ok(Err(error));
        }
        if xml.contains("mode='pull'") {
            return Ok(Ok(json!(0)));
        }
        while domain.job_info().map_err(said)?.is_some() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut copied = serde_json::Map::new();
        let mut targets: Vec<&str> = xml.split("<target file='").skip(1).collect();
        targets.sort_unstable();
        for target in targets {
            let path = target.split('\'').next().unwrap_or_default();
            copied.insert(self.guest.there(path), guest::extents(path)?);
        }
        Ok(Ok(json!({ "copied": copied })))
    }

    /// Makes the checkpoints of the log those of a recorded state, after an answer that differs on purpose. Returns whether
    /// they are: a parent that is not listed itself cannot be.
    fn follow(&self, recorded: &Value) -> bool {
        let parents = recorded.pointer("/checkpoints/parents");
        let (Some(parents), Some(domain)) = (parents.and_then(Value::as_object), &self.domain)
        else {
            return false;
        };
        let is_listed = |parent: &Value| {
            parent
                .as_str()
                .is_none_or(|parent| parents.contains_key(parent))
        };
        if !parents.values().all(is_listed) {
            return false;
        }
        let Ok(listed) = domain.list_all_checkpoints(CheckpointListFlags::NONE) else {
            return false;
        };
        if listed.len() != parents.len() {
            return false;
        }
        listed.iter().all(|found| {
            let parent = parents.get(found.name().as_str()).and_then(Value::as_str);
            let action = Action::Reparent {
                kind: MomentKind::Checkpoint,
                name: found.name().clone(),
                parent: parent.and_then(MomentName::new),
            };
            let command = Command {
                domain: domain.uuid(),
                action,
            };
            let is_there = found
                .parent()
                .is_ok_and(|found| found.as_ref().map(|found| found.name().as_str()) == parent);
            is_there || self.connection.execute(&command).is_ok()
        })
    }

    fn state(&mut self) -> Result<Value, String> {
        state::of(self.domain.as_ref(), &mut self.guest)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn said(error: Error) -> String {
    error.to_string()
}

fn compare(
    trace: &str,
    call: &Call,
    answer: &Answer,
    state: Option<(&Value, &Value)>,
    report: &mut Report,
) {
    let mut check = |level: Level, wanted: String, got: String| {
        *report.compared.entry(level).or_default() += 1;
        if wanted != got {
            report.divergences.push(Divergence {
                trace: trace.to_owned(),
                call: call.n,
                function: call.function.clone(),
                level,
                wanted,
                got,
            });
        }
    };
    let numbers = |code: u32, domain: u32| format!("code {code}, domain {domain}");
    match (&call.error, answer) {
        (Some(wanted), Answer::Error(got)) => {
            check(Level::Outcome, "error".to_owned(), "error".to_owned());
            let found = numbers(got.code().number(), got.domain().number());
            check(Level::Code, numbers(wanted.code, wanted.domain), found);
            // The validator's own words are libxml2's.
            let own = |text: &str| {
                let cut = text.split_once("Unable to validate doc");
                cut.map_or(text, |(front, _)| front).to_owned()
            };
            if wanted.code == 92 {
                check(Level::Message, own(&wanted.message), own(&wanted.message));
            } else {
                check(
                    Level::Message,
                    wanted.message.clone(),
                    got.message().to_owned(),
                );
            }
        }
        (Some(wanted), got) => {
            let wanted = format!(
                "error {}/{} {:?}",
                wanted.code, wanted.domain, wanted.message
            );
            check(Level::Outcome, wanted, got.to_string());
        }
        (None, Answer::Error(got)) => {
            let numbers = numbers(got.code().number(), got.domain().number());
            let wanted = call
                .result
                .as_ref()
                .map(Value::to_string)
                .unwrap_or_default();
            check(
                Level::Outcome,
                wanted,
                format!("error {numbers} {:?}", got.message()),
            );
        }
        (None, Answer::Ok(got)) => {
            check(Level::Outcome, "result".to_owned(), "result".to_owned());
            let wanted = call.result.clone().unwrap_or_default();
            let level = if wanted.get("xml").is_some() || wanted.get("xml_stripped").is_some() {
                Level::Xml
            } else {
                Level::Result
            };
            // The number of an image counts what libvirt's process has opened so far.
            check(
                level,
                without_indices(&wanted.to_string()),
                without_indices(&got.to_string()),
            );
        }
    }
    if let Some((wanted, got)) = state {
        check(Level::State, wanted.to_string(), got.to_string());
    }
}

fn without_indices(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((front, back)) = rest.split_once(" index='") {
        out.push_str(front);
        rest = back.split_once('\'').map_or("", |(_, rest)| rest);
    }
    out + rest
}
