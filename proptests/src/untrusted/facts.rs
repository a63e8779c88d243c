//! Records that were never decided, in a log whose chain is whole.

use std::sync::Arc;

use arbitrary::Arbitrary;
use momentlog::core::{Action, Command};
use momentlog::store::{Draft, MemoryStore, Store, Text};
use momentlog::{Connection, ManualClock};

use super::{LOG, draft};
use crate::suite::{UUID, connection, domain_def};

/// Facts whose layout is that of `docs/format.md`, so that what is in them is reached.
#[derive(Clone, Debug, Arbitrary)]
pub struct MadeUpFacts {
    /// The record kind.
    pub kind: u8,
    /// Whether it is about the domain of the suites.
    pub domain: bool,
    /// The record before about it.
    pub previous: u8,
    /// The agent, a text.
    pub agent: (u8, u8),
    /// The record that it takes back.
    pub undoes: u8,
    /// The reason, a text of the record if the first number is 0.
    pub reason: Option<(u8, u8)>,
    /// The request id.
    pub request: Option<u8>,
    /// The events.
    pub events: Vec<MadeUpEvent>,
    /// The texts.
    pub texts: Vec<Vec<u8>>,
    /// Bytes in place of all that.
    pub instead: Option<Vec<u8>>,
}

/// An event whose layout is that of `docs/format.md`.
#[derive(Clone, Debug, Arbitrary)]
pub struct MadeUpEvent {
    /// Which kind there is, modulo how many there are.
    pub kind: u8,
    /// The moment.
    pub id: u8,
    /// Its parent.
    pub parent: u8,
    /// A body of that kind, where the layout is known; its numbers and names are taken from here.
    pub seed: [u8; 6],
    /// Bytes in place of it.
    pub body: Option<Vec<u8>>,
}

const KINDS: [u16; 23] = [
    0x0101, 0x0102, 0x0103, 0x0104, 0x0105, 0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0206, 0x0301,
    0x0302, 0x0303, 0x0304, 0x0305, 0x0401, 0x0402, 0x0403, 0x0406, 0x0501, 0x0502, 0x0601,
];

/// Genesis, a command about a domain, a bridge, and a command about the store; mostly commands.
const RECORD_KINDS: [u16; 7] = [1, 2, 3, 5, 2, 2, 2];

impl MadeUpFacts {
    fn to_bytes(&self) -> Vec<u8> {
        if let Some(instead) = &self.instead {
            return instead.clone();
        }
        let kind = RECORD_KINDS[self.kind as usize % RECORD_KINDS.len()];
        let is_command = matches!(kind, 2 | 5);
        let mut provenance = Vec::new();
        if kind == 1 {
            provenance.push(self.kind % 3);
            put_str(&mut provenance, "suite");
        } else {
            put_str(&mut provenance, "suite");
            let (seq, index) = self.agent;
            put_text_ref(&mut provenance, seq, index);
            provenance.extend(u16::from(self.kind).to_le_bytes());
            provenance.extend(u32::from(self.previous).to_le_bytes());
            match self.reason {
                Some((seq, index)) => {
                    provenance.push(1);
                    put_text_ref(&mut provenance, seq, index);
                }
                None => provenance.push(0),
            }
            match self.request {
                Some(id) if is_command => {
                    provenance.push(1);
                    put_str(&mut provenance, &format!("r{id}"));
                    provenance.extend([id; 32]);
                }
                _ => provenance.push(0),
            }
            provenance.extend(u64::from(self.undoes).to_le_bytes());
        }
        let mut bytes = Vec::new();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        let events = u32::try_from(self.events.len()).expect("a fuzzer's input is short");
        bytes.extend(if is_command { events } else { 0 }.to_le_bytes());
        bytes.extend(0_i64.to_le_bytes());
        bytes.extend(if self.domain && kind == 2 {
            *UUID.as_bytes()
        } else {
            [0; 16]
        });
        bytes.extend(u64::from(self.previous).to_le_bytes());
        put_len(&mut bytes, provenance.len());
        bytes.extend([0; 4]);
        bytes.extend(provenance);
        if is_command {
            for event in &self.events {
                event.put(&mut bytes);
            }
        }
        bytes
    }
}

/// Whether an event of this kind is about a moment, and whether it names a parent or the current moment.
fn ids_of(kind: u16) -> (bool, bool) {
    match (kind & 0xff00, kind & 0xff) {
        (0x0200 | 0x0300, 1 | 2 | 4) => (true, true),
        (0x0200 | 0x0300, 5) => (false, true),
        (0x0200 | 0x0300 | 0x0500, _) | (0x0400, 6) => (true, false),
        _ => (false, false),
    }
}

/// An id where the kind has none, which few of the numbers stand for.
fn foreign(number: u8) -> u8 {
    number.saturating_sub(250)
}

impl MadeUpEvent {
    fn put(&self, out: &mut Vec<u8>) {
        let kind = KINDS[self.kind as usize % KINDS.len()];
        let body = self.body.clone().unwrap_or_else(|| self.made_up_body(kind));
        out.extend(kind.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        let (has_moment, has_parent) = ids_of(kind);
        let id = |number: u8, has_it: bool| if has_it { number } else { foreign(number) };
        out.extend(u64::from(id(self.id, has_moment)).to_le_bytes());
        out.extend(u64::from(id(self.parent, has_parent)).to_le_bytes());
        put_len(out, body.len());
        out.extend([0; 4]);
        out.extend(body);
    }

    #[expect(
        clippy::many_single_char_names,
        reason = "bytes that stand for whatever the body needs"
    )]
    fn made_up_body(&self, kind: u16) -> Vec<u8> {
        let [a, b, c, d, e, f] = self.seed;
        let mut body = Vec::new();
        let power = |body: &mut Vec<u8>| body.extend([a % 9, b, 0]);
        match kind {
            0x0101 => {
                put_domain(&mut body, a, b, c % 2 == 0);
                put_policy(&mut body, d | 0b1_1000);
                body.push(0);
            }
            0x0102 | 0x0206 => power(&mut body),
            0x0105 => put_policy(&mut body, a),
            0x0201 | 0x0202 | 0x0301 | 0x0302 => {
                body.push(a & 1);
                if kind & 0xff == 1 {
                    put_str(&mut body, &format!("m{}", b % 16));
                }
                body.extend(100_i64.to_le_bytes());
                if kind < 0x0300 {
                    body.extend([c % 9, 0, 0]);
                }
                body.push(0);
                put_len64(&mut body, 0);
                let with_domain = d % 2 == 0;
                body.push(u8::from(with_domain));
                if with_domain {
                    put_domain(&mut body, e, f, a % 4 == 0);
                }
                if kind < 0x0300 {
                    // No inactive domain, no disks to revert to, and no other XML.
                    body.extend([0, 0, 0]);
                }
            }
            0x0401 => {
                body.extend(u64::from(a % 8).to_le_bytes());
                body.extend(u16::from(b % 8).to_le_bytes());
                body.push(c % 4);
                body.extend([d, 0, e, 0, 0, 0, 0, 0]);
                // An effect, a file, a deletion, and a checkpoint to be made.
                put_len64(&mut body, 1);
                put_str(&mut body, "vda");
                body.push(d % 6);
                put_str(&mut body, "/a");
                put_str(&mut body, "node");
                body.extend([0, e & 1, 0]);
                put_len64(&mut body, 1);
                put_str(&mut body, "vda");
                put_str(&mut body, "/o");
                put_len64(&mut body, usize::from(e % 2));
                if e % 2 == 1 {
                    body.extend(u64::from(f % 8).to_le_bytes());
                    body.push(a % 4);
                    put_len64(&mut body, 1);
                    body.extend(u64::from(f % 8).to_le_bytes());
                    body.extend(u64::from(b % 3).to_le_bytes());
                }
                put_len64(&mut body, 0);
                put_len64(&mut body, usize::from(f % 2));
                if f % 2 == 1 {
                    body.extend(u64::from(e % 8).to_le_bytes());
                    body.push(a & 1);
                    put_str(&mut body, "made");
                    body.extend(100_i64.to_le_bytes());
                    body.push(0);
                    put_len64(&mut body, 0);
                    body.push(0);
                }
            }
            0x0402 | 0x0403 => {
                body.extend(u64::from(a % 8).to_le_bytes());
                body.push(b % 4);
                put_text_ref(&mut body, c % 8, d % 2);
                put_len64(&mut body, 1);
                put_str(&mut body, "vda");
                put_str(&mut body, "gone");
            }
            0x0406 => put_seen(&mut body, a % 3, b, c),
            0x0501 => {
                put_str(&mut body, &"t".repeat(usize::from(a % 3)));
                body.extend(100_i64.to_le_bytes());
                put_str(&mut body, "suite");
            }
            0x0502 => put_str(&mut body, &"t".repeat(usize::from(a % 3))),
            0x0601 => {
                put_policy(&mut body, a);
                body.extend(u32::from(f).to_le_bytes());
            }
            0x0203 | 0x0303 => {
                body.push(a % 4);
                let runs = u64::from(b % 3);
                body.extend(runs.to_le_bytes());
                for run in 0..runs {
                    body.extend((u64::from(c) + 4 * run).to_le_bytes());
                    body.extend((u64::from(d % 3)).to_le_bytes());
                }
                body.extend(u64::from(e % 4).to_le_bytes());
                body.extend(u64::from(f).to_le_bytes());
            }
            _ => {}
        }
        body
    }
}

fn put_len(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a fuzzer's input is short");
    out.extend(length.to_le_bytes());
}

fn put_len64(out: &mut Vec<u8>, length: usize) {
    out.extend((length as u64).to_le_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_len64(out, text.len());
    out.extend(text.as_bytes());
}

/// A list of rules: those of the bits that are set, one of which is no rule.
fn put_policy(out: &mut Vec<u8>, bits: u8) {
    let rules: Vec<u16> = (0..6_u16)
        .filter(|bit| bits >> bit & 1 == 1)
        .map(|bit| bit + 1)
        .collect();
    put_len64(out, rules.len());
    for rule in rules {
        out.extend(rule.to_le_bytes());
    }
}

/// Up to two disks, also the same, with their states, one of which is none.
fn put_seen(out: &mut Vec<u8>, count: u8, disk: u8, state: u8) {
    put_len64(out, count.into());
    for number in 0..count {
        put_str(out, ["vda", "vdb"][usize::from(disk % 2)]);
        out.push((state % 9 + number) % 9);
    }
}

fn put_text_ref(out: &mut Vec<u8>, seq: u8, index: u8) {
    out.extend(u64::from(seq).to_le_bytes());
    out.extend(u32::from(index).to_le_bytes());
}

fn put_domain(out: &mut Vec<u8>, seq: u8, index: u8, facts: bool) {
    put_text_ref(out, seq % 8, index % 2);
    out.push(u8::from(facts));
    if facts {
        put_str(out, "vm");
        out.extend(UUID.as_bytes());
        out.extend(1024_u64.to_le_bytes());
        put_len64(out, 0);
    }
}

/// Replays a log whose chain is whole, but whose facts and texts are made up.
///
/// # Panics
///
/// If replay panics, or gives a state that breaks an invariant.
pub fn facts(made_up: &[MadeUpFacts]) {
    let mut store = MemoryStore::new();
    for made_up in made_up {
        let texts = made_up.texts.iter().map(|text| Text::Plain {
            salt: [0; 32],
            bytes: text.clone(),
        });
        let draft = Draft {
            facts: made_up.to_bytes(),
            texts: texts.collect(),
        };
        let head = store.head();
        store
            .append(LOG, head, vec![draft])
            .expect("memory takes everything");
    }
    let connection: Connection = connection(Box::new(store), Arc::new(ManualClock::default()));
    if let Ok(view) = connection.refresh() {
        assert_eq!(view.state().check(), Ok(()));
        // The log can go on also after a state that no command leads to.
        let command = Command {
            domain: UUID,
            action: Action::Define(domain_def()),
        };
        let _ = connection.execute(&command);
        assert_eq!(connection.view().state().check(), Ok(()));
    }
}

/// Returns the records of a log of at most `length` bytes that was made to cost as much as it can: a chain of snapshots,
/// and then one in its middle moved up and down, over and over, which climbs half of the chain each time.
pub fn costly_log(length: usize) -> Vec<Draft> {
    let event = |out: &mut Vec<u8>, kind: u16, id: u64, parent: u64, body: &[u8]| {
        out.extend(kind.to_le_bytes());
        out.extend(1_u16.to_le_bytes());
        out.extend(id.to_le_bytes());
        out.extend(parent.to_le_bytes());
        put_len(out, body.len());
        out.extend([0; 4]);
        out.extend(body);
    };
    let mut genesis = MadeUpFacts {
        kind: 7,
        domain: false,
        previous: 0,
        agent: (0, 0),
        undoes: 0,
        reason: None,
        request: None,
        events: Vec::new(),
        texts: Vec::new(),
        instead: None,
    };
    let first = genesis.to_bytes();
    genesis.kind = 1;
    genesis.domain = true;
    let mut facts = genesis.to_bytes();
    let mut domain = Vec::new();
    put_domain(&mut domain, 0, 0, true);
    put_policy(&mut domain, 0b11001);
    domain.push(0);
    event(&mut facts, 0x0101, 0, 0, &domain);
    let mut count = 1_u64;
    let mut moments = 0;
    while facts.len() < length / 2 {
        moments += 1;
        let mut body = vec![1];
        put_str(&mut body, &format!("m{moments}"));
        body.extend(100_i64.to_le_bytes());
        body.extend([5, 0, 0, 0]);
        put_len64(&mut body, 0);
        body.extend([0, 0, 0, 0]);
        event(&mut facts, 0x0201, moments, moments - 1, &body);
        count += 1;
    }
    let middle = moments / 2;
    while facts.len() + 28 < length {
        let parent = middle - 1 - count % 2;
        event(&mut facts, 0x0204, middle, parent, &[]);
        count += 1;
    }
    let count = u32::try_from(count).expect("a log of a test is short");
    facts[4..8].copy_from_slice(&count.to_le_bytes());
    let plain = |facts: Vec<u8>| draft(&facts, b"<domain/>");
    vec![plain(first), plain(facts)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(kind: u8, events: Vec<MadeUpEvent>) -> MadeUpFacts {
        MadeUpFacts {
            kind,
            domain: true,
            previous: 0,
            agent: (0, 0),
            undoes: 0,
            reason: None,
            request: None,
            events,
            texts: vec![b"<domain/>".to_vec()],
            instead: None,
        }
    }

    /// Otherwise the suite would try nothing but bodies that are malformed.
    #[test]
    fn a_made_up_body_of_every_kind_is_one_that_the_page_describes() {
        for (kind, number) in (0..).zip(KINDS) {
            let event = MadeUpEvent {
                kind,
                id: 1,
                parent: 0,
                seed: [1, 1, 1, 1, 1, 1],
                body: None,
            };
            let record = if number == 0x0601 { 3 } else { 1 };
            let mut store = MemoryStore::new();
            for made_up in [made_up(7, Vec::new()), made_up(record, vec![event])] {
                let draft = Draft {
                    facts: made_up.to_bytes(),
                    texts: vec![Text::Plain {
                        salt: [0; 32],
                        bytes: b"<domain/>".to_vec(),
                    }],
                };
                let head = store.head();
                store.append(LOG, head, vec![draft]).expect("there is room");
            }
            let connection = connection(Box::new(store), Arc::new(ManualClock::default()));
            let told = connection.refresh().map_err(|error| error.to_string());
            let is_read = match &told {
                Ok(_) => true,
                // It has been read, and does not fit: there is no such domain or text.
                Err(told) => told.contains("is not there"),
            };
            assert!(is_read, "{number:#06x}: {told:?}");
        }
    }
}
