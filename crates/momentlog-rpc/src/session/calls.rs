//! The calls that the library makes: from the values of a message to its arguments, and back from its answer.

use std::borrow::Cow;

use momentlog::core::{DomainUuid, MomentName};
use momentlog::procedure::{Answer as Made, Takes};
use momentlog::{Checkpoint, Domain, JobInfo, JobState, Snapshot};

use super::{Answer, Opened};
use crate::failure::Failure;
use crate::proto::{DomainRef, LIST_COUNT_MAX, MomentRef, Param, Params, Procedure, Shape, Value};
use crate::xdr::Text;

/// The procedures whose text is a name; that of the others is XML.
const LOOKUPS: [i32; 3] = [23, 189, 415];

/// `virDomainGetJobStats`, whose reply has names for what `virDomainGetJobInfo` has places for.
const JOB_STATS: i32 = 298;

/// `VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP`.
const BLOCK_JOB_BACKUP: i32 = 5;

impl Opened {
    /// Makes a call of the library.
    pub(super) fn call(
        &self,
        takes: Takes,
        procedure: &Procedure,
        arguments: &[Value<'_>],
    ) -> Answer {
        let connection = &self.connection;
        let is_lookup = LOOKUPS.contains(&procedure.number);
        let mut wanted = None;
        let mut about = None;
        let mut domain = |domain: &DomainRef<'_>| about.insert(self.domain(domain)).clone();
        let made = match (takes, arguments) {
            (Takes::Id(make), [Value::Int(id)]) => {
                make(connection, u32::try_from(*id).unwrap_or(u32::MAX))
            }
            (Takes::Uuid(make), [Value::Uuid(uuid)]) => {
                make(connection, DomainUuid::from_bytes(*uuid))
            }
            (Takes::Text(make), [Value::Text(text)]) => make(connection, &said(is_lookup, text)?),
            (Takes::TextFlags(make), [Value::Text(text), Value::UInt(flags)]) => {
                make(connection, &said(is_lookup, text)?, *flags)
            }
            (Takes::List(make), [Value::Int(need), Value::UInt(flags)]) => {
                wanted = Some(*need);
                make(connection, *flags)
            }
            (Takes::Domain(make), [Value::Domain(of)]) => make(&domain(of)),
            (Takes::DomainFlags(make), [Value::Domain(of), Value::UInt(flags)]) => {
                make(&domain(of), *flags)
            }
            (
                Takes::DomainTextFlags(make),
                [Value::Domain(of), Value::Text(text), Value::UInt(flags)],
            ) => make(&domain(of), &said(is_lookup, text)?, *flags),
            (Takes::DomainSwitch(make), [Value::Domain(of), Value::Int(on)]) => {
                make(&domain(of), *on != 0)
            }
            (
                Takes::DomainTextFlags(make),
                [Value::Domain(of), Value::OptText(text), Value::UInt(flags)],
            ) => {
                let text = text.as_ref().map(name).unwrap_or_default();
                make(&domain(of), &text, *flags)
            }
            (
                Takes::DomainNamesFlags(_)
                | Takes::DomainTextsFlags(_)
                | Takes::DomainMetadata(_)
                | Takes::DomainSetMetadata(_),
                _,
            ) => {
                return self.call_with_texts(takes, procedure, arguments);
            }
            (
                Takes::DomainList(make),
                [Value::Domain(of), Value::Int(need), Value::UInt(flags)],
            ) => {
                wanted = Some(*need);
                make(&domain(of), *flags)
            }
            (Takes::SnapshotFlags(make), [Value::Moment(of), Value::UInt(flags)]) => {
                make(&self.snapshot(of)?, *flags)
            }
            (
                Takes::SnapshotList(make),
                [Value::Moment(of), Value::Int(need), Value::UInt(flags)],
            ) => {
                wanted = Some(*need);
                make(&self.snapshot(of)?, *flags)
            }
            (Takes::CheckpointFlags(make), [Value::Moment(of), Value::UInt(flags)]) => {
                make(&self.checkpoint(of)?, *flags)
            }
            (
                Takes::CheckpointList(make),
                [Value::Moment(of), Value::Int(need), Value::UInt(flags)],
            ) => {
                wanted = Some(*need);
                make(&self.checkpoint(of)?, *flags)
            }
            _ => return Err(Failure::unknown_procedure(procedure.number)),
        };
        // A number that no answer may have is an error, even where the answer would be empty.
        if procedure.answer == [Shape::Texts(LIST_COUNT_MAX)] {
            count("maxnames", wanted.unwrap_or_default())?;
        }
        match (made?, about) {
            // The guest has a number now.
            (Made::Done, Some(domain)) if procedure.answer == [Shape::Domain] => {
                Ok(vec![Value::Domain(self.domain_ref(&domain))])
            }
            (Made::Job(job), _) if procedure.number == JOB_STATS => Ok(stats_of(job.as_ref())),
            (Made::Done, _) if procedure.answer == [Shape::Int] => Ok(vec![Value::Int(0)]),
            (made, _) => Ok(self.reply(made, wanted.unwrap_or_default())),
        }
    }

    /// Makes a call that takes a domain and texts, each of which may be missing.
    fn call_with_texts(
        &self,
        takes: Takes,
        procedure: &Procedure,
        arguments: &[Value<'_>],
    ) -> Answer {
        let made = match (takes, arguments) {
            (
                Takes::DomainNamesFlags(make),
                [Value::Domain(of), Value::Texts(names), Value::UInt(flags)],
            ) => {
                let names: Vec<_> = names.iter().map(name).collect();
                let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
                make(&self.domain(of), &names, *flags)
            }
            (
                Takes::DomainTextsFlags(make),
                [
                    Value::Domain(of),
                    Value::Text(one),
                    Value::OptText(other),
                    Value::UInt(flags),
                ],
            ) => {
                let one = optional(Some(one))?.unwrap_or_default();
                make(&self.domain(of), one, optional(other.as_ref())?, *flags)
            }
            (
                Takes::DomainMetadata(make),
                [
                    Value::Domain(of),
                    Value::Int(kind),
                    Value::OptText(uri),
                    Value::UInt(flags),
                ],
            ) => make(&self.domain(of), *kind, optional(uri.as_ref())?, *flags),
            (
                Takes::DomainSetMetadata(make),
                [
                    Value::Domain(of),
                    Value::Int(kind),
                    Value::OptText(text),
                    Value::OptText(key),
                    Value::OptText(uri),
                    Value::UInt(flags),
                ],
            ) => {
                let [text, key, uri] = [text, key, uri].map(|text| optional(text.as_ref()));
                make(&self.domain(of), *kind, [text?, key?, uri?], *flags)
            }
            _ => return Err(Failure::unknown_procedure(procedure.number)),
        };
        Ok(self.reply(made?, 0))
    }

    /// The answer of the library as a reply carries it. Of a list, `wanted` says how much of it: none at 0, or no more
    /// names than that.
    fn reply(&self, made: Made, wanted: i32) -> Vec<Value<'static>> {
        let int = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        let all = wanted != 0;
        let moments = |count: usize, moments: Vec<MomentRef<'static>>| {
            vec![Value::Moments(moments), Value::Int(int(count))]
        };
        match made {
            Made::Done => vec![],
            Made::Is(is) => vec![Value::Int(is.into())],
            Made::Count(count) => vec![Value::Int(int(count))],
            Made::State((state, reason)) => {
                vec![Value::Int(state.number().into()), Value::Int(reason.into())]
            }
            Made::Job(job) => info_of(job.as_ref()),
            Made::BlockJob(job) => {
                let (done, total) = job.map_or((0, 0), |job| (job.done, job.total));
                let found = job.is_some();
                vec![
                    Value::Int(found.into()),
                    Value::Int(if found { BLOCK_JOB_BACKUP } else { 0 }),
                    // No limit.
                    Value::ULong(0),
                    Value::ULong(done),
                    Value::ULong(total),
                ]
            }
            Made::Text(text) => vec![Value::Text(text.into_bytes().into())],
            Made::Size(kib) => vec![Value::ULong(kib)],
            Made::Info(info) => vec![
                Value::UInt(info.state.number().into()),
                Value::ULong(info.max_memory_kib),
                Value::ULong(info.memory_kib),
                Value::UInt(info.vcpus),
                // No processor time is known.
                Value::ULong(0),
            ],
            Made::Domain(domain) => vec![Value::Domain(self.domain_ref(&domain))],
            Made::Domains(domains) => {
                let count = u32::try_from(domains.len()).unwrap_or(u32::MAX);
                let listed = domains.iter().take_while(|_| all);
                let listed = listed.map(|domain| self.domain_ref(domain)).collect();
                vec![Value::Domains(listed), Value::UInt(count)]
            }
            Made::Snapshot(snapshot) => {
                let domain = self.domain_ref(snapshot.domain());
                vec![Value::Moment(moment_ref(snapshot.name(), &domain))]
            }
            Made::Checkpoint(checkpoint) => {
                let domain = self.domain_ref(checkpoint.domain());
                vec![Value::Moment(moment_ref(checkpoint.name(), &domain))]
            }
            Made::Snapshots(snapshots) => {
                let domain = snapshots.first().map(|one| self.domain_ref(one.domain()));
                let named = domain.iter().filter(|_| all).flat_map(|domain| {
                    let named = |one: &Snapshot| moment_ref(one.name(), domain);
                    snapshots.iter().map(named)
                });
                moments(snapshots.len(), named.collect())
            }
            Made::Checkpoints(checkpoints) => {
                let domain = checkpoints.first().map(|one| self.domain_ref(one.domain()));
                let named = domain.iter().filter(|_| all).flat_map(|domain| {
                    let named = |one: &Checkpoint| moment_ref(one.name(), domain);
                    checkpoints.iter().map(named)
                });
                moments(checkpoints.len(), named.collect())
            }
            Made::Names(names) => {
                let fitting = names.iter().take(usize::try_from(wanted).unwrap_or(0));
                let texts = fitting.map(|name| Cow::from(name.as_str().as_bytes().to_vec()));
                vec![Value::Texts(texts.collect())]
            }
        }
    }

    /// The domain that a message means: by its uuid alone.
    pub(super) fn domain(&self, of: &DomainRef<'_>) -> Domain {
        let uuid = DomainUuid::from_bytes(of.uuid);
        self.connection.domain_handle(uuid, &name(&of.name))
    }

    /// A domain as messages name it, with the number that it has now.
    pub(super) fn domain_ref(&self, domain: &Domain) -> DomainRef<'static> {
        let view = self.connection.view();
        let id = view
            .state()
            .domain(domain.uuid())
            .and_then(|domain| domain.power().id);
        DomainRef {
            name: domain.name().as_bytes().to_vec().into(),
            uuid: *domain.uuid().as_bytes(),
            id: id.map_or(-1, |id| i32::try_from(id).unwrap_or(i32::MAX)),
        }
    }

    fn snapshot(&self, of: &MomentRef<'_>) -> Result<Snapshot, Failure> {
        let domain = self.domain(&of.domain);
        let name = name(&of.name);
        match MomentName::new(&name) {
            Some(name) => Ok(domain.snapshot_handle(name)),
            // It says that there is none.
            None => Ok(domain.snapshot_lookup_by_name(&name)?),
        }
    }

    fn checkpoint(&self, of: &MomentRef<'_>) -> Result<Checkpoint, Failure> {
        let domain = self.domain(&of.domain);
        let name = name(&of.name);
        match MomentName::new(&name) {
            Some(name) => Ok(domain.checkpoint_handle(name)),
            None => Ok(domain.checkpoint_lookup_by_name(&name)?),
        }
    }
}

/// A job as `virDomainJobInfo` has it: its type, milliseconds that it has run and that it will still run, and bytes in all,
/// done and left, of everything, of memory and of files. Of a pull backup libvirt knows no bytes there.
fn info_of(job: Option<&JobInfo>) -> Vec<Value<'static>> {
    let kind = job.map_or(0, |job| job.state.number());
    let elapsed = job.map_or(0, |job| job.elapsed_ms);
    let bytes = job.filter(|job| !job.pull).and_then(|job| job.bytes);
    let (done, total) = bytes.unwrap_or_default();
    let sizes = [total, done, total.saturating_sub(done)];
    let numbers = [[elapsed, 0].as_slice(), &sizes, &[0; 3], &sizes].concat();
    let mut values = vec![Value::Int(kind.into())];
    values.extend(numbers.into_iter().map(Value::ULong));
    values
}

/// A job as `virDomainGetJobStats` has it: its type, and what is known of it by name.
fn stats_of(job: Option<&JobInfo>) -> Vec<Value<'static>> {
    let Some(job) = job else {
        return vec![Value::Int(0), Value::Params(vec![])];
    };
    let mut params: Params<'static> = Vec::new();
    let mut put = |name: &'static str, param| params.push((name.as_bytes().into(), param));
    put("operation", Param::Int(JobInfo::OPERATION.into()));
    put("time_elapsed", Param::ULLong(job.elapsed_ms));
    match (job.bytes, job.pull) {
        (None, _) => {}
        (Some((used, total)), true) => {
            put("disk_temp_used", Param::ULLong(used));
            put("disk_temp_total", Param::ULLong(total));
        }
        (Some((done, total)), false) => {
            put("disk_total", Param::ULLong(total));
            put("disk_processed", Param::ULLong(done));
            put("disk_remaining", Param::ULLong(total.saturating_sub(done)));
        }
    }
    if job.state != JobState::Unbounded {
        let success = job.state == JobState::Completed;
        put("success", Param::Boolean(success.into()));
    }
    if let Some(error) = &job.error {
        put("errmsg", Param::String(error.as_bytes().to_vec().into()));
    }
    vec![Value::Int(job.state.number().into()), Value::Params(params)]
}

fn moment_ref(name: &MomentName, domain: &DomainRef<'static>) -> MomentRef<'static> {
    MomentRef {
        name: name.as_str().as_bytes().to_vec().into(),
        domain: domain.clone(),
    }
}

/// How many of something a client can take.
pub(super) fn count(name: &str, count: i32) -> Result<usize, Failure> {
    let bounded = usize::try_from(count).ok();
    let bounded = bounded.filter(|count| *count <= LIST_COUNT_MAX);
    bounded.ok_or_else(|| Failure::count(name, count))
}

/// A name for a look-up, or XML.
fn said<'a>(is_lookup: bool, text: &'a Text<'_>) -> Result<Cow<'a, str>, Failure> {
    if is_lookup {
        return Ok(name(text));
    }
    let text = std::str::from_utf8(text).map_err(|_| Failure::not_utf8())?;
    Ok(text.into())
}

/// A text that goes into a definition, or none.
fn optional<'a>(text: Option<&'a Text<'_>>) -> Result<Option<&'a str>, Failure> {
    let text = text.map(|text| std::str::from_utf8(text));
    text.transpose().map_err(|_| Failure::not_utf8())
}

/// A name. One that is not UTF-8 becomes one that nothing has: no name has a NUL.
pub(super) fn name<'a>(text: &'a Text<'_>) -> Cow<'a, str> {
    match std::str::from_utf8(text) {
        Ok(text) => text.into(),
        Err(_) => format!("{}\0", String::from_utf8_lossy(text)).into(),
    }
}
