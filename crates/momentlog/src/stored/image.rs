//! The stored form of a ledger: everything that the records up to one have made, for opening without reading them.
//!
//! `docs/format.md` lists its parts. They are written and read one by one, so neither needs a second copy of it all.

use std::sync::Arc;

use momentlog_core::{
    Broken, CheckpointDef, Counters, Domain, DomainParts, DomainUuid, Moment, MomentId, MomentList,
    MomentName, Power, Scope, SnapshotDef, State,
};
use momentlog_store::{Head, Seq};
use serde::{Deserialize, Serialize};

use super::body::{
    self, StoredPolicy, StoredPower, TextRef, decode_first, encode_body, profile_from, profile_of,
};
use super::encode::Encoder;
use super::{DecodeError, Dictionary};
use crate::ledger::{Ledger, View};

/// The version of this layout.
const VERSION: u32 = 1;

/// Why an image is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ImageError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("its version {0} is not known to this version")]
    Version(u32),
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
}

#[derive(Serialize, Deserialize)]
struct StoredMoment<'a, D> {
    id: u64,
    parent: u64,
    name: &'a str,
    def: D,
}

/// Returns the image of a ledger; `None` if something in it is not recorded yet, as in a log of one record.
pub(crate) fn encode(ledger: &mut Ledger) -> Option<Vec<u8>> {
    // The definitions are told once more, in the order in which they are used here.
    let definitions = std::mem::take(&mut ledger.dictionary.domains);
    let encoded = encode_parts(ledger, &definitions);
    ledger.dictionary.domains = definitions;
    encoded
}

fn encode_parts(
    ledger: &mut Ledger,
    definitions: &std::collections::HashMap<TextRef, Arc<momentlog_core::DomainDef>>,
) -> Option<Vec<u8>> {
    let seq = Seq::after(ledger.seq);
    let state = &ledger.view.state;
    let counters = state.counters();
    let mut texts: Vec<_> = ledger.dictionary.by_place.clone().into_iter().collect();
    texts.sort_unstable_by_key(|(place, _)| (place.seq, place.index));
    let mut out = encode_body(&Start {
        version: VERSION,
        recorded: ledger.recorded,
        profile: profile_of(counters.profile),
        next_moment: counters.next_moment.map_or(0, MomentId::get),
        next_domain: counters.next_domain,
        work: counters.work,
        texts: texts.len() as u64,
        domains: state.domains().count() as u64,
        definitions: definitions.len() as u64,
        revisions: ledger.view.revisions.len() as u64,
        requests: ledger.requests.len() as u64,
        answers: ledger.answers.len() as u64,
    });
    for (place, text) in &texts {
        out.extend(encode_body(&(place, &**text)));
    }
    let mut encoder = Encoder {
        dictionary: &mut ledger.dictionary,
        seq,
        texts: Vec::new(),
    };
    for domain in state.domains() {
        out.extend(encode_body(&StoredDomain {
            uuid: *domain.uuid().as_bytes(),
            name: domain.name(),
            def: encoder.domain(domain.def()),
            next_def: domain.next_def().map(|def| encoder.domain(def)),
            persistent: domain.is_persistent(),
            power: domain.power().into(),
            policy: domain.policy().into(),
            current_snapshot: domain.snapshots().current_id().map_or(0, MomentId::get),
            snapshots: domain.snapshots().len() as u64,
            current_checkpoint: domain.checkpoints().current_id().map_or(0, MomentId::get),
            checkpoints: domain.checkpoints().len() as u64,
        }));
        let mut put = |moment: &Moment<SnapshotDef>, parent| {
            out.extend(stored(moment, parent, encoder.snapshot(&moment.def)));
        };
        each(domain.snapshots(), &mut put);
        let mut put = |moment: &Moment<CheckpointDef>, parent| {
            out.extend(stored(moment, parent, encoder.checkpoint(&moment.def)));
        };
        each(domain.checkpoints(), &mut put);
    }
    let unrecorded = encoder.texts;
    if !unrecorded.is_empty() {
        for text in &unrecorded {
            ledger.dictionary.by_text.remove(text);
        }
        ledger
            .dictionary
            .by_place
            .retain(|place, _| place.seq != seq.get());
        return None;
    }
    let mut definitions: Vec<_> = definitions.iter().collect();
    definitions.sort_unstable_by_key(|(place, _)| (place.seq, place.index));
    for (place, def) in definitions {
        out.extend(encode_body(&(place, body::DomainFacts::of(def))));
    }
    for (domain, seq) in &ledger.view.revisions {
        out.extend(encode_body(&(domain.as_bytes(), seq.get())));
    }
    let mut requests: Vec<_> = ledger.requests.iter().collect();
    requests.sort_unstable_by_key(|(_, (seq, _))| *seq);
    for (id, (seq, digest)) in requests {
        out.extend(encode_body(&(&**id, seq.get(), digest)));
    }
    for (seq, facts) in &ledger.answers {
        out.extend(encode_body(&(seq.get(), &facts[..])));
    }
    Some(out)
}

/// Calls `put` with every moment and its parent, in the order from which the list can be restored.
fn each<D>(list: &MomentList<D>, put: &mut dyn FnMut(&Moment<D>, u64)) {
    for moment in list.walk(Scope::All) {
        let parent = list.parent(moment.id).map_or(0, |parent| parent.id.get());
        put(moment, parent);
    }
}

fn stored<D, S: Serialize>(moment: &Moment<D>, parent: u64, def: S) -> Vec<u8> {
    encode_body(&StoredMoment {
        id: moment.id.get(),
        parent,
        name: moment.name.as_str(),
        def,
    })
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
    if version != VERSION {
        return Err(ImageError::Version(version));
    }
    let start: Start = decode_first(rest, "image")?;
    let mut dictionary = Dictionary::default();
    for _ in 0..start.texts {
        let (place, text): (TextRef, &str) = decode_first(rest, "text")?;
        dictionary.learn(text.into(), place);
    }
    // No text is in a record after this one.
    let seq = Seq::after(Some(head.seq));
    let mut domains = Vec::new();
    for _ in 0..start.domains {
        domains.push(decode_domain(rest, seq, &mut dictionary)?);
    }
    let state = State::restore(
        Counters {
            profile: profile_from(start.profile)?,
            next_moment: MomentId::new(start.next_moment),
            next_domain: start.next_domain,
            work: start.work,
        },
        domains,
    )?;
    dictionary.domains.clear();
    for _ in 0..start.definitions {
        let (place, facts): (TextRef, body::DomainFacts<'_>) = decode_first(rest, "domain")?;
        let xml = dictionary.text(seq, place)?;
        let def = Arc::new(facts.into_def(xml)?);
        dictionary.domains.insert(place, def);
    }
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
        ..Ledger::new(profile_from(start.profile)?)
    };
    for _ in 0..start.requests {
        let (id, at, digest): (&str, u64, [u8; 32]) = decode_first(rest, "request")?;
        ledger.requests.insert(id.into(), (seq_from(at)?, digest));
    }
    for _ in 0..start.answers {
        let (at, facts): (u64, &[u8]) = decode_first(rest, "answer")?;
        ledger.answers.insert(seq_from(at)?, facts.into());
    }
    if rest.is_empty() {
        Ok(ledger)
    } else {
        Err(ImageError::Trailing)
    }
}

fn decode_domain(
    rest: &mut &[u8],
    seq: Seq,
    dictionary: &mut Dictionary,
) -> Result<Domain, ImageError> {
    let stored: StoredDomain<'_> = decode_first(rest, "domain")?;
    let def = dictionary.domain(seq, stored.def)?;
    let next_def = stored
        .next_def
        .map(|def| dictionary.domain(seq, def))
        .transpose()?;
    let snapshots = decode_list(rest, stored.snapshots, stored.current_snapshot, |def| {
        dictionary.snapshot(seq, def)
    })?;
    let checkpoints = decode_list(rest, stored.checkpoints, stored.current_checkpoint, |def| {
        dictionary.checkpoint(seq, def)
    })?;
    Ok(DomainParts {
        uuid: DomainUuid::from_bytes(stored.uuid),
        name: stored.name.into(),
        def,
        next_def,
        persistent: stored.persistent,
        power: Power::try_from(stored.power)?,
        policy: stored.policy.into(),
        snapshots,
        checkpoints,
    }
    .into())
}

fn decode_list<'a, S: Deserialize<'a>, D>(
    rest: &mut &'a [u8],
    count: u64,
    current: u64,
    mut def: impl FnMut(S) -> Result<D, DecodeError>,
) -> Result<MomentList<D>, ImageError> {
    let mut failed = None;
    let moments = (0..count).map_while(|_| match decode_moment(rest, &mut def) {
        Ok(moment) => Some(moment),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    let list = MomentList::restore(moments, MomentId::new(current));
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(list?),
    }
}

fn decode_moment<'a, S: Deserialize<'a>, D>(
    rest: &mut &'a [u8],
    def: &mut impl FnMut(S) -> Result<D, DecodeError>,
) -> Result<(Moment<D>, Option<MomentId>), DecodeError> {
    let stored: StoredMoment<'_, S> = decode_first(rest, "moment")?;
    let moment = Moment {
        id: MomentId::new(stored.id).ok_or(DecodeError::Word {
            what: "moment id",
            value: 0,
        })?,
        name: MomentName::new(stored.name).ok_or(DecodeError::Body("name of a moment"))?,
        def: def(stored.def)?,
    };
    Ok((moment, MomentId::new(stored.parent)))
}

fn seq_from(value: u64) -> Result<Seq, DecodeError> {
    let what = "seq";
    Seq::new(value).ok_or(DecodeError::Word { what, value })
}
