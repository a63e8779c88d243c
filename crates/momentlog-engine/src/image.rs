//! The stored form of a ledger: everything that the records up to one have made, for opening without reading them.
//!
//! `docs/format.md` lists its parts. They are written and read one by one, so neither needs a second copy of it all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use momentlog_core::image::{Counters, DomainParts, ListRow, Skeleton};
use momentlog_core::{
    Attachment, Broken, BrokenState, Budget, Domain, DomainUuid, Holds, JobId, MomentId,
    MomentList, MomentName, OpenJob, OpenJobs, Power, State,
};
use momentlog_store::{Head, Seq};
use serde::{Deserialize, Serialize};

use crate::codec::body::{
    self, StoredPolicy, StoredPower, TextRef, decode_first, encode_body, profile_from, profile_of,
};
use crate::codec::encode::Encoder;
use crate::codec::job::{Attached, HoldAdded, JobBegun, StoredSettings, hold_from, stored_hold};
use crate::codec::{DecodeError, Dictionary, length, u32_at, u64_at};
use crate::ledger::Ledger;
use crate::requests::Remembered;
use crate::view::View;

/// The first version of this layout: without attachments, and without requests that began open jobs.
const WITHOUT_ATTACHMENTS: u32 = 1;

/// The version of this layout that has them. An image is written in the first version that can say all that it holds.
const WITH_ATTACHMENTS: u32 = 2;

/// The version that also says which domains start with their host.
const WITH_AUTOSTART: u32 = 3;

/// Bytes of one moment besides its name, and where in them its parts are.
const ROW_LEN: usize = 32;
const ID: usize = 0;
const CREATED: usize = 8;
const PARENT: usize = 16;
const NEXT: usize = 20;
const DEFINITION: usize = 24;
const NAME_LEN: usize = 28;

/// Moments of a list that is worth a second thread.
const LONG: u64 = 10_000;

/// Why an image is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// A part that means nothing to this version.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Parts that are each sound and do not make a sound state.
    #[error(transparent)]
    Broken(#[from] BrokenState),
    /// An image of a newer version.
    #[error("its version {0} is not known to this version")]
    Version(u32),
    /// Bytes behind the last part.
    #[error("bytes follow its end")]
    Trailing,
}

#[derive(Serialize, Deserialize)]
struct Start {
    version: u32,
    recorded: i64,
    profile: u8,
    next_moment: u64,
    next_domain: u32,
    work: u64,
    texts: u64,
    domains: u64,
    definitions: u64,
    revisions: u64,
    requests: u64,
    answers: u64,
}

/// What follows the start.
#[derive(Serialize, Deserialize)]
struct StoreParts {
    next_job: u64,
    settings: StoredSettings,
    policies: u64,
}

#[derive(Serialize, Deserialize)]
struct StoredDomain<'a> {
    uuid: [u8; 16],
    name: &'a str,
    #[serde(borrow)]
    def: body::Domain<'a>,
    #[serde(borrow)]
    next_def: Option<body::Domain<'a>>,
    persistent: bool,
    power: StoredPower,
    policy: StoredPolicy,
    current_snapshot: u64,
    snapshots: u64,
    current_checkpoint: u64,
    checkpoints: u64,
    jobs: u64,
    holds: u64,
}

/// Returns the image of a ledger; `None` if something in it is not recorded yet, as in a log of one record.
pub(crate) fn encode(ledger: &Ledger) -> Option<Vec<u8>> {
    // Definitions are written once more, in the order in which they are used here: what the copy learns is in no record.
    let mut dictionary = ledger.dictionary.clone();
    let definitions = std::mem::take(&mut dictionary.domains);
    dictionary.written = None;
    let seq = Seq::after(ledger.seq);
    let state = &ledger.view.state;
    let counters = state.counters();
    let mut texts: Vec<_> = ledger.dictionary.by_place.iter().collect();
    texts.sort_unstable_by_key(|(place, _)| (place.seq, place.index));
    let attachments: Vec<_> = state
        .domains()
        .filter_map(|domain| Some((domain.uuid(), domain.attachment()?)))
        .collect();
    let open = ledger.requests.open();
    let autostarted = state.domains().filter(|domain| domain.autostart());
    let autostarted: Vec<_> = autostarted.map(Domain::uuid).collect();
    let version = if !autostarted.is_empty() {
        WITH_AUTOSTART
    } else if attachments.is_empty() && open.len() == 0 {
        WITHOUT_ATTACHMENTS
    } else {
        WITH_ATTACHMENTS
    };
    let mut out = encode_body(&Start {
        version,
        recorded: ledger.recorded,
        profile: profile_of(counters.profile),
        next_moment: counters.next_moment.map_or(0, MomentId::get),
        next_domain: counters.next_domain,
        work: counters.budget.steps(),
        texts: texts.len() as u64,
        domains: state.domains().count() as u64,
        definitions: definitions.len() as u64,
        revisions: ledger.view.revisions.len() as u64,
        requests: ledger.requests.len() as u64,
        answers: ledger.answers.len() as u64,
    });
    out.extend(encode_body(&StoreParts {
        next_job: counters.next_job.map_or(0, JobId::get),
        settings: counters.settings.into(),
        policies: state.policies().len() as u64,
    }));
    for (place, text) in &texts {
        out.extend(encode_body(&(place, &***text)));
    }
    if version >= WITH_ATTACHMENTS {
        out.extend((attachments.len() as u64).to_le_bytes());
        for (uuid, attachment) in attachments {
            out.extend(encode_body(&(uuid.as_bytes(), Attached::of(attachment))));
        }
    }
    if version >= WITH_AUTOSTART {
        out.extend((autostarted.len() as u64).to_le_bytes());
        for uuid in autostarted {
            out.extend(uuid.as_bytes());
        }
    }
    let mut encoder = Encoder {
        dictionary: &mut dictionary,
        seq,
        texts: Vec::new(),
    };
    for domain in state.domains() {
        put_domain(domain, &mut encoder, &mut out);
    }
    if !encoder.texts.is_empty() {
        return None;
    }
    let mut definitions: Vec<_> = definitions.iter().collect();
    definitions.sort_unstable_by_key(|(place, _)| (place.seq, place.index));
    for (place, def) in definitions {
        out.extend(encode_body(&(place, body::DomainFacts::of(def))));
    }
    for (domain, policy) in state.policies() {
        out.extend(encode_body(&(
            domain.as_bytes(),
            StoredPolicy::from(policy),
        )));
    }
    for (domain, seq) in &ledger.view.revisions {
        out.extend(encode_body(&(domain.as_bytes(), seq.get())));
    }
    for (id, request) in ledger.requests.iter() {
        let Remembered {
            seq,
            recorded,
            digest,
        } = request;
        out.extend(encode_body(&(id, seq.get(), digest, recorded)));
    }
    for (seq, facts) in &ledger.answers {
        out.extend(encode_body(&(seq.get(), &facts[..])));
    }
    if version >= WITH_ATTACHMENTS {
        out.extend((open.len() as u64).to_le_bytes());
        for (job, id) in open {
            out.extend(encode_body(&(job.get(), id)));
        }
    }
    Some(out)
}

/// Writes a domain with its lists, open jobs and holds.
fn put_domain(domain: &Domain, encoder: &mut Encoder<'_>, out: &mut Vec<u8>) {
    let (snapshots, current_snapshot) = domain.snapshots().to_rows();
    let (checkpoints, current_checkpoint) = domain.checkpoints().to_rows();
    out.extend(encode_body(&StoredDomain {
        uuid: *domain.uuid().as_bytes(),
        name: domain.name(),
        def: encoder.domain(domain.def()),
        next_def: domain.next_def().map(|def| encoder.domain(def)),
        persistent: domain.is_persistent(),
        power: domain.power().into(),
        policy: domain.policy().into(),
        current_snapshot: place(current_snapshot).into(),
        snapshots: domain.snapshots().len() as u64,
        current_checkpoint: place(current_checkpoint).into(),
        checkpoints: domain.checkpoints().len() as u64,
        jobs: domain.jobs().iter().count() as u64,
        holds: domain.holds().len() as u64,
    }));
    put_list(snapshots, out, |def| {
        let bytes = encode_body(&encoder.snapshot(def));
        (encoder.dictionary.meanings, bytes)
    });
    put_list(checkpoints, out, |def| {
        let bytes = encode_body(&encoder.checkpoint(def));
        (encoder.dictionary.meanings, bytes)
    });
    for open in domain.jobs().iter() {
        out.extend(encode_body(&encoder.job(open.id, &open.job)));
    }
    for (id, tag, hold) in domain.holds().iter() {
        out.extend(encode_body(&(id.get(), stored_hold(tag, hold))));
    }
}

/// A position in a list, counted from 1; 0 if there is none.
fn place(position: Option<u32>) -> u32 {
    position.map_or(0, |position| position + 1)
}

/// Writes a list: each definition once, then a row for each moment, then all names. `encode` returns the bytes of a
/// definition, and how often until then the XML of a domain was given another meaning: equal bytes are equal only between two
/// such times.
fn put_list<D>(
    moments: impl Iterator<Item = ListRow<D>>,
    out: &mut Vec<u8>,
    mut encode: impl FnMut(&D) -> (u64, Vec<u8>),
) {
    let mut by_bytes: HashMap<(u64, Vec<u8>), u32> = HashMap::new();
    let mut by_pointer: HashMap<*const D, u32> = HashMap::new();
    let mut definitions = Vec::new();
    let mut rows = Vec::new();
    let mut names = String::new();
    for moment in moments {
        // Definitions that are shared need no second look.
        let def = *by_pointer
            .entry(Arc::as_ptr(&moment.def))
            .or_insert_with(|| {
                let bytes = encode(&moment.def);
                let next = length(by_bytes.len());
                *by_bytes.entry(bytes).or_insert_with_key(|(_, bytes)| {
                    definitions.extend_from_slice(bytes);
                    next
                })
            });
        rows.extend(moment.id.get().to_le_bytes());
        rows.extend(moment.created.to_le_bytes());
        rows.extend(place(moment.parent).to_le_bytes());
        rows.extend(place(moment.next).to_le_bytes());
        rows.extend(def.to_le_bytes());
        rows.extend(length(moment.name.as_str().len()).to_le_bytes());
        names.push_str(moment.name.as_str());
    }
    out.extend((by_bytes.len() as u64).to_le_bytes());
    out.extend(definitions);
    out.extend(rows);
    out.extend((names.len() as u64).to_le_bytes());
    out.extend(names.as_bytes());
}

/// Returns the ledger that an image of the record `head` holds.
///
/// # Errors
///
/// What of the image makes no sense; it is input.
pub(crate) fn decode(head: Head, bytes: &[u8]) -> Result<Ledger, ImageError> {
    let mut rest = bytes;
    let rest = &mut rest;
    // The version is read before what follows it, which another version may have otherwise.
    let version: u32 = decode_first(&mut &bytes[..], "image")?;
    if !(WITHOUT_ATTACHMENTS..=WITH_AUTOSTART).contains(&version) {
        return Err(ImageError::Version(version));
    }
    let start: Start = decode_first(rest, "image")?;
    let profile = profile_from(start.profile)?;
    let parts: StoreParts = decode_first(rest, "image")?;
    let mut dictionary = Dictionary::default();
    for _ in 0..start.texts {
        let (place, text): (TextRef, &str) = decode_first(rest, "text")?;
        dictionary.learn(text.into(), place);
    }
    let mut attachments = decode_attachments(version, rest)?;
    let mut autostarted = decode_autostarted(version, rest)?;
    // No text is in a record after this one.
    let seq = Seq::after(Some(head.seq));
    let mut domains = Vec::new();
    for _ in 0..start.domains {
        domains.push(decode_domain(
            rest,
            seq,
            &mut dictionary,
            &mut attachments,
            &mut autostarted,
        )?);
    }
    if !attachments.is_empty() {
        return Err(DecodeError::Body("attachment").into());
    }
    if !autostarted.is_empty() {
        return Err(DecodeError::Body("autostart").into());
    }
    dictionary.domains.clear();
    for _ in 0..start.definitions {
        let (place, facts): (TextRef, body::DomainFacts<'_>) = decode_first(rest, "domain")?;
        let xml = dictionary.text(seq, place)?;
        let def = Arc::new(facts.into_def(xml)?);
        dictionary.domains.insert(place, def);
    }
    let mut policies = Vec::new();
    for _ in 0..parts.policies {
        let (domain, policy): ([u8; 16], StoredPolicy) = decode_first(rest, "policy")?;
        policies.push((DomainUuid::from_bytes(domain), policy.try_into()?));
    }
    let state = State::restore(
        Counters {
            profile,
            settings: parts.settings.try_into()?,
            next_moment: MomentId::new(start.next_moment),
            next_domain: start.next_domain,
            next_job: JobId::new(parts.next_job),
            budget: Budget::of(start.work),
        },
        policies,
        domains,
    )?;
    let mut revisions = im::OrdMap::new();
    for _ in 0..start.revisions {
        let (domain, at): ([u8; 16], u64) = decode_first(rest, "revision")?;
        revisions.insert(DomainUuid::from_bytes(domain), seq_from(at)?);
    }
    let mut ledger = Ledger {
        seq: Some(head.seq),
        view: View {
            head: Some(head),
            state,
            revisions,
        },
        dictionary,
        recorded: start.recorded,
        ..Ledger::new(profile)
    };
    for _ in 0..start.requests {
        let (id, at, digest, recorded): (&str, u64, [u8; 32], i64) = decode_first(rest, "request")?;
        let seq = seq_from(at)?;
        let request = Remembered {
            seq,
            recorded,
            digest,
        };
        ledger.requests.remember(id.into(), request);
    }
    for _ in 0..start.answers {
        let (at, facts): (u64, &[u8]) = decode_first(rest, "answer")?;
        ledger.answers.insert(seq_from(at)?, facts.into());
    }
    decode_open_requests(version, rest, &mut ledger)?;
    if rest.is_empty() {
        Ok(ledger)
    } else {
        Err(ImageError::Trailing)
    }
}

/// Reads where the hypervisors of domains are asked, by uuid.
fn decode_attachments(
    version: u32,
    rest: &mut &[u8],
) -> Result<BTreeMap<[u8; 16], Attachment>, ImageError> {
    let mut attachments = BTreeMap::new();
    if version >= WITH_ATTACHMENTS {
        let count: u64 = decode_first(rest, "attachments")?;
        for _ in 0..count {
            let (domain, attached): ([u8; 16], Attached<'_>) = decode_first(rest, "attachment")?;
            attachments.insert(domain, attached.into_attachment()?);
        }
    }
    Ok(attachments)
}

/// Reads which domains start with their host.
fn decode_autostarted(version: u32, rest: &mut &[u8]) -> Result<BTreeSet<[u8; 16]>, ImageError> {
    let mut autostarted = BTreeSet::new();
    if version >= WITH_AUTOSTART {
        let count: u64 = decode_first(rest, "autostarted domains")?;
        for _ in 0..count {
            let uuid: [u8; 16] = decode_first(rest, "autostarted domain")?;
            if !autostarted.insert(uuid) {
                return Err(DecodeError::Body("autostart").into());
            }
        }
    }
    Ok(autostarted)
}

/// Reads which requests began the open jobs.
fn decode_open_requests(
    version: u32,
    rest: &mut &[u8],
    ledger: &mut Ledger,
) -> Result<(), ImageError> {
    if version < WITH_ATTACHMENTS {
        return Ok(());
    }
    let count: u64 = decode_first(rest, "requests of jobs")?;
    for _ in 0..count {
        let (job, id): (u64, &str) = decode_first(rest, "request of a job")?;
        let job = JobId::new(job).filter(|job| {
            let mut open = ledger.view.state.open_jobs();
            open.any(|(_, open)| open.id == *job)
        });
        let job = job.ok_or(DecodeError::Body("request of a job"))?;
        ledger.requests.begin(job, id.into());
    }
    Ok(())
}

fn decode_domain(
    rest: &mut &[u8],
    seq: Seq,
    dictionary: &mut Dictionary,
    attachments: &mut BTreeMap<[u8; 16], Attachment>,
    autostarted: &mut BTreeSet<[u8; 16]>,
) -> Result<Domain, ImageError> {
    let stored: StoredDomain<'_> = decode_first(rest, "domain")?;
    let def = dictionary.domain(seq, stored.def)?;
    let next_def = stored
        .next_def
        .map(|def| dictionary.domain(seq, def))
        .transpose()?;
    let snapshot = |rest: &mut &[u8]| {
        let stored = decode_first(rest, "definition of a snapshot")?;
        dictionary.snapshot(seq, stored)
    };
    let snapshots = decode_list(rest, stored.snapshots, stored.current_snapshot, snapshot)?;
    let checkpoint = |rest: &mut &[u8]| {
        let stored = decode_first(rest, "definition of a checkpoint")?;
        dictionary.checkpoint(seq, stored)
    };
    let checkpoints = decode_list(
        rest,
        stored.checkpoints,
        stored.current_checkpoint,
        checkpoint,
    )?;
    let mut jobs = OpenJobs::default();
    for _ in 0..stored.jobs {
        let begun: JobBegun<'_> = decode_first(rest, "job")?;
        let (id, job) = dictionary.job(seq, begun)?;
        let job = job.into();
        jobs.add(OpenJob { id, job })
            .map_err(BrokenState::JobTwice)?;
    }
    let mut holds = Holds::default();
    for _ in 0..stored.holds {
        let (id, hold): (u64, HoldAdded<'_>) = decode_first(rest, "hold")?;
        let (id, (tag, hold)) = (moment_id(id)?, hold_from(&hold)?);
        if !holds.add(id, tag, hold) {
            return Err(BrokenState::Hold(id).into());
        }
    }
    Ok(DomainParts {
        uuid: DomainUuid::from_bytes(stored.uuid),
        name: stored.name.into(),
        def,
        next_def,
        persistent: stored.persistent,
        autostart: autostarted.remove(&stored.uuid),
        power: Power::try_from(stored.power)?,
        policy: stored.policy.try_into()?,
        snapshots,
        checkpoints,
        holds,
        jobs,
        attachment: attachments.remove(&stored.uuid).map(Arc::new),
    }
    .into())
}

/// Reads a list of either kind; `decode` reads one definition.
fn decode_list<D: PartialEq + Send + Sync>(
    rest: &mut &[u8],
    count: u64,
    current: u64,
    decode: impl FnMut(&mut &[u8]) -> Result<D, DecodeError>,
) -> Result<MomentList<D>, ImageError> {
    let definitions = decode_definitions(rest, decode)?;
    let rows = count
        .checked_mul(ROW_LEN as u64)
        .and_then(|bytes| take(rest, bytes));
    let rows = rows.ok_or(DecodeError::Length("list"))?;
    let bytes: u64 = decode_first(rest, "names")?;
    let names = take(rest, bytes).ok_or(DecodeError::Length("names"))?;
    let names = std::str::from_utf8(names).map_err(|_| DecodeError::Utf8)?;
    let current = match current.checked_sub(1).map(u32::try_from) {
        None => None,
        Some(Ok(position)) if u64::from(position) < count => Some(position),
        Some(_) => return Err(BrokenState::List(Broken::Current).into()),
    };
    let skeleton = || {
        let mut names = names;
        Skeleton::new(rows.chunks_exact(ROW_LEN).map_while(|row| {
            // Names that end too early are found where the moments are read.
            let name = take_name(row, &mut names)?;
            let position = |at| u32_at(row, at).checked_sub(1);
            Some((position(PARENT), position(NEXT), name))
        }))
    };
    let mut failed = None;
    let mut left = names;
    let moments = rows.chunks_exact(ROW_LEN).map_while(|row| {
        let moment = decode_row(row, &mut left, &definitions);
        moment.map_err(|error| failed = Some(error)).ok()
    });
    // A second thread looks at the other half of a long list.
    let list = std::thread::scope(|scope| {
        let thread = (count >= LONG)
            .then(|| std::thread::Builder::new().spawn_scoped(scope, skeleton))
            .and_then(Result::ok);
        MomentList::restore_with(moments, current, || match thread {
            Some(thread) => thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => skeleton(),
        })
    });
    if let Some(error) = failed {
        return Err(error.into());
    }
    if !left.is_empty() {
        return Err(DecodeError::Length("names").into());
    }
    Ok(list.map_err(BrokenState::from)?)
}

/// Splits off the first `bytes` bytes, if there are enough.
fn take<'a>(rest: &mut &'a [u8], bytes: u64) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
    *rest = after;
    Some(taken)
}

fn decode_definitions<D>(
    rest: &mut &[u8],
    mut decode: impl FnMut(&mut &[u8]) -> Result<D, DecodeError>,
) -> Result<Vec<Arc<D>>, DecodeError> {
    let count: u64 = decode_first(rest, "definitions")?;
    let mut definitions = Vec::new();
    for _ in 0..count {
        definitions.push(Arc::new(decode(rest)?));
    }
    Ok(definitions)
}

/// Reads one row, and takes its name from the front of `names`.
fn decode_row<D>(
    row: &[u8],
    names: &mut &str,
    definitions: &[Arc<D>],
) -> Result<(MomentId, MomentName, i64, Arc<D>), DecodeError> {
    let name = take_name(row, names).ok_or(DecodeError::Length("names"))?;
    let name = MomentName::new(name).ok_or(DecodeError::Body("name of a moment"))?;
    let def = definitions.get(u32_at(row, DEFINITION) as usize);
    let def = def.ok_or(DecodeError::Body("definition of a moment"))?;
    let (id, created) = (u64_at(row, ID), u64_at(row, CREATED).cast_signed());
    Ok((moment_id(id)?, name, created, def.clone()))
}

/// Takes the name of a row from the front of those that are left, if there is as much.
fn take_name<'a>(row: &[u8], names: &mut &'a str) -> Option<&'a str> {
    let (name, left) = names.split_at_checked(u32_at(row, NAME_LEN) as usize)?;
    *names = left;
    Some(name)
}

fn moment_id(number: u64) -> Result<MomentId, DecodeError> {
    MomentId::new(number).ok_or(DecodeError::Word {
        what: "moment id",
        value: 0,
    })
}

fn seq_from(value: u64) -> Result<Seq, DecodeError> {
    let what = "seq";
    Seq::new(value).ok_or(DecodeError::Word { what, value })
}

#[cfg(test)]
mod tests;
