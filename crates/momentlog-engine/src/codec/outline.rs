//! What the facts of a record say by themselves: without its texts, and without the records before it.

use std::fmt;
use std::marker::PhantomData;

use momentlog_core::{DomainUuid, MomentId};
use momentlog_store::Seq;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};

use super::body::{self, DomainFacts, TextRef, decode_body, decode_first};
use super::job::JobBegun;
use super::{
    DecodeError, KIND_BRIDGE, KIND_COMMAND, KIND_GENESIS, KIND_STORE, LAYOUT_VERSION, at, kind,
    split, u16_at, u32_at, u64_at,
};
use crate::one_domain::Mention;

/// The fixed part of facts, and what follows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outline<'a> {
    pub(super) kind: u16,
    /// Microseconds since 1970.
    pub(crate) recorded: i64,
    pub(crate) domain: Option<DomainUuid>,
    /// The record before about the same domain.
    pub(crate) previous: Option<Seq>,
    /// How many events there are.
    pub(crate) events: u32,
    pub(super) provenance: &'a [u8],
    pub(super) rest: &'a [u8],
}

impl<'a> Outline<'a> {
    /// Reads the fixed part of the facts of the record `seq`.
    pub(crate) fn read(seq: Seq, facts: &'a [u8]) -> Result<Outline<'a>, DecodeError> {
        let head = facts
            .get(..at::FACTS_LEN)
            .ok_or(DecodeError::Length("head of the facts"))?;
        let kind = u16_at(head, at::KIND);
        let version = u16_at(head, at::VERSION);
        let known = [KIND_GENESIS, KIND_COMMAND, KIND_BRIDGE, KIND_STORE];
        if !known.contains(&kind) || version != LAYOUT_VERSION {
            return Err(DecodeError::RecordKind { kind, version });
        }
        if (kind == KIND_GENESIS) != (seq == Seq::FIRST) {
            return Err(DecodeError::OutOfPlace(seq));
        }
        let uuid: [u8; 16] = head[at::DOMAIN..at::PREVIOUS].try_into().expect("16 bytes");
        // The kind tells, for a domain may have the uuid of zeros.
        let domain = (kind == KIND_COMMAND).then(|| DomainUuid::from_bytes(uuid));
        if domain.is_none() && uuid != [0; 16] {
            return Err(DecodeError::OutOfPlace(seq));
        }
        let events = u32_at(head, at::EVENTS);
        let is_command = [KIND_COMMAND, KIND_STORE].contains(&kind);
        if u32_at(head, at::ZERO) != 0 || !is_command && events != 0 {
            return Err(DecodeError::Length("head of the facts"));
        }
        let (provenance, rest) = split(
            &facts[at::FACTS_LEN..],
            u32_at(head, at::PROVENANCE_LEN),
            "provenance",
        )?;
        if rest.len() / at::EVENT_LEN < events as usize {
            return Err(DecodeError::Length("head of an event"));
        }
        Ok(Outline {
            kind,
            recorded: u64_at(head, at::RECORDED).cast_signed(),
            domain,
            previous: Seq::new(u64_at(head, at::PREVIOUS)),
            events,
            provenance,
            rest,
        })
    }

    /// Whether an event removes its domain.
    pub(crate) fn removes(&self) -> Result<bool, DecodeError> {
        let mut removes = false;
        self.events(&mut |kind, _, _| {
            removes |= kind == kind::DOMAIN_REMOVED;
            Ok(())
        })?;
        Ok(removes)
    }

    /// Calls `each` with all that the record `seq` says of what the XML at a place means from then on, in order.
    pub(crate) fn meanings(
        &self,
        seq: Seq,
        each: &mut dyn FnMut(TextRef, DomainFacts<'a>),
    ) -> Result<(), DecodeError> {
        let mut note = |domain: Option<body::Domain<'a>>| {
            if let Some(body::Domain {
                xml,
                facts: Some(facts),
            }) = domain
            {
                each(xml.seen_from(seq), facts);
            }
        };
        self.events(&mut |kind, _, mut body| {
            match kind {
                // The body of a renaming is the domain that the other begins with.
                kind::DOMAIN_DEFINED | kind::DOMAIN_RENAMED => {
                    note(Some(decode_first(&mut body, "domain")?));
                }
                kind::SNAPSHOT_CREATED | kind::SNAPSHOT_REDEFINED => {
                    skip_head(kind == kind::SNAPSHOT_CREATED, &mut body)?;
                    let def: body::Snapshot<'a, Skipped<body::StoredSnapshotDisk<'a>>> =
                        decode_body(body, "definition of a snapshot")?;
                    note(def.domain);
                    note(def.inactive_domain);
                }
                kind::CHECKPOINT_CREATED | kind::CHECKPOINT_REDEFINED => {
                    skip_head(kind == kind::CHECKPOINT_CREATED, &mut body)?;
                    let def: body::Checkpoint<'a, Skipped<body::StoredCheckpointDisk<'a>>> =
                        decode_body(body, "definition of a checkpoint")?;
                    note(def.domain);
                }
                kind::JOB_BEGUN => {
                    let job: JobBegun<'a> = decode_body(body, "job")?;
                    job.domains().for_each(|domain| note(Some(domain)));
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Calls `each` with what it says of moments that it creates or redefines, and with the record that it takes back.
    pub(crate) fn mentions(&self, each: &mut dyn FnMut(Mention<'a>)) -> Result<(), DecodeError> {
        let provenance: body::Provenance<'a> = decode_body(self.provenance, "provenance")?;
        if let Some(undone) = Seq::new(provenance.undoes) {
            each(Mention::TakesBack(undone));
        }
        self.events(&mut |kind, moment, mut body| {
            match (kind, moment) {
                (kind::SNAPSHOT_CREATED | kind::CHECKPOINT_CREATED, Some(id)) => {
                    let body::Created { name, .. } = decode_first(&mut body, "creation")?;
                    each(Mention::Created { id, name });
                }
                (kind::SNAPSHOT_REDEFINED | kind::CHECKPOINT_REDEFINED, Some(id)) => {
                    each(Mention::Redefined(id));
                }
                _ => {}
            }
            Ok(())
        })
    }

    /// Calls `each` with the kind, the moment and the body of each event.
    fn events(
        &self,
        each: &mut dyn FnMut(u16, Option<MomentId>, &'a [u8]) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let mut rest = self.rest;
        for _ in 0..self.events {
            let head = rest
                .get(..at::EVENT_LEN)
                .ok_or(DecodeError::Length("head of an event"))?;
            let body;
            (body, rest) = split(
                &rest[at::EVENT_LEN..],
                u32_at(head, at::EVENT_BODY_LEN),
                "event",
            )?;
            let moment = MomentId::new(u64_at(head, at::EVENT_MOMENT));
            each(u16_at(head, at::EVENT_KIND), moment, body)?;
        }
        Ok(())
    }
}

/// Moves past what the body of a new or redefined moment begins with.
fn skip_head(created: bool, body: &mut &[u8]) -> Result<(), DecodeError> {
    if created {
        decode_first::<body::Created<'_>>(body, "creation").map(|_| ())
    } else {
        decode_first::<body::Redefined>(body, "redefinition").map(|_| ())
    }
}

/// A sequence whose items are read and not kept.
pub(crate) struct Skipped<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Skipped<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Skipped<T>, D::Error> {
        struct Skip<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Skip<T> {
            type Value = Skipped<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Skipped<T>, A::Error> {
                while seq.next_element::<T>()?.is_some() {}
                Ok(Skipped(PhantomData))
            }
        }

        deserializer.deserialize_seq(Skip(PhantomData))
    }
}
