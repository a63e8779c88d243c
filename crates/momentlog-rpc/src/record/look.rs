//! What libvirtd lists of a domain, as the log would have it.
//!
//! Names are listed in one call; a definition is a call for each moment. So only those are read that the log cannot know
//! ([`Alters`]), and with them their parents: a moment of the log hangs where the log has it, as long as its parent is listed.
//!
//! Secrets are never asked for: libvirtd leaves passwords out of XML unless it is asked for them.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog::core::{
    CheckpointDef, CurrentSeen, Domain, DomainDef, DomainSeen, DomainUuid, Memory, MomentKind,
    MomentList, MomentName, MomentSeen, MomentsSeen, Power, RunState, SnapshotDef, SnapshotState,
};
use momentlog::xml::{
    Carry, RecentDomain, read_checkpoint_redefine, read_domain, read_snapshot_redefine,
};

use super::alters::Alters;
use super::upstream::{LookError, Upstream, text};
use crate::proto::{DomainRef, MomentRef, Value};

/// `VIR_ERR_NO_SUPPORT`: the driver has no such call.
pub(super) const NO_SUPPORT: i32 = 3;

/// `VIR_ERR_NO_DOMAIN`.
const NO_DOMAIN: i32 = 42;

/// `VIR_ERR_NO_DOMAIN_SNAPSHOT`.
pub(super) const NO_SNAPSHOT: i32 = 72;

/// `VIR_ERR_NO_DOMAIN_CHECKPOINT`.
const NO_CHECKPOINT: i32 = 103;

/// `VIR_DOMAIN_XML_INACTIVE`.
const INACTIVE: u32 = 2;

/// `VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN`.
const CHECKPOINT_WITHOUT_DOMAIN: u32 = 2;

/// How often a look begins again because something was gone when it was asked for.
const LOOKS_MAX: usize = 8;

/// Returns the domains that libvirtd lists.
pub(super) fn domains(upstream: &mut Upstream) -> Result<Vec<DomainUuid>, LookError> {
    let answer = upstream.ask(273, &[Value::Int(1), Value::UInt(0)])?;
    let mut values = answer.values()?;
    match values.swap_remove(0) {
        Value::Domains(domains) => Ok(domains
            .iter()
            .map(|domain| DomainUuid::from_bytes(domain.uuid))
            .collect()),
        other => Err(unknown(&other)),
    }
}

/// Returns the domain that has a name, if there is one.
pub(super) fn named(upstream: &mut Upstream, name: &str) -> Result<Option<DomainUuid>, LookError> {
    let answer = match upstream.ask(23, &[Value::Text(name.as_bytes().into())]) {
        Err(error) if error.code() == Some(NO_DOMAIN) => return Ok(None),
        answer => answer?,
    };
    match answer.values()?.swap_remove(0) {
        Value::Domain(domain) => Ok(Some(DomainUuid::from_bytes(domain.uuid))),
        other => Err(unknown(&other)),
    }
}

/// Returns a domain as libvirtd lists it; `None` if it does not. What cannot have changed of its moments is as `known`, the
/// log's domain.
pub(super) fn domain(
    upstream: &mut Upstream,
    uuid: DomainUuid,
    known: Option<&Domain>,
    alters: &Alters,
) -> Result<Option<Box<DomainSeen>>, LookError> {
    let known = known.and_then(|domain| Some((domain, alters.of(domain)?)));
    let mut looks = 0;
    loop {
        looks += 1;
        match Look::at(upstream, uuid, known.as_ref()) {
            Err(error) if error.code() == Some(NO_DOMAIN) => return Ok(None),
            // Another program has deleted it in between.
            Err(LookError::Refused {
                code: NO_SNAPSHOT | NO_CHECKPOINT,
                ..
            }) if looks < LOOKS_MAX => {}
            seen => return seen.map(|seen| Some(Box::new(seen))),
        }
    }
}

/// A look at one domain.
struct Look<'a> {
    upstream: &'a mut Upstream,
    uuid: DomainUuid,
    domain: DomainRef<'static>,
    recent: RecentDomain,
    /// The log's domain, and the moments that may have changed since.
    known: Option<&'a Known<'a>>,
}

type Known<'a> = (&'a Domain, BTreeSet<(MomentKind, MomentName)>);

impl<'a> Look<'a> {
    fn at(
        upstream: &'a mut Upstream,
        uuid: DomainUuid,
        known: Option<&'a Known<'a>>,
    ) -> Result<DomainSeen, LookError> {
        let answer = upstream.ask(24, &[Value::Uuid(*uuid.as_bytes())])?;
        let Value::Domain(found) = answer.values()?.swap_remove(0) else {
            return Err(LookError::Unknown("a look-up answers no domain".into()));
        };
        let domain = DomainRef {
            name: found.name.into_owned().into(),
            ..found
        };
        let mut look = Look {
            upstream,
            uuid,
            domain,
            recent: RecentDomain::default(),
            known,
        };
        look.see()
    }

    fn see(&mut self) -> Result<DomainSeen, LookError> {
        let power = self.power()?;
        let persistent = self.word(151)? != 0;
        let autostart = persistent && self.word(15)? != 0;
        let (def, next_def) = match (power.is_active(), persistent) {
            (true, true) => (self.definition(0)?, Some(self.definition(INACTIVE)?)),
            (true, false) => (self.definition(0)?, None),
            (false, _) => (self.definition(INACTIVE)?, None),
        };
        let snapshots = MomentsSeen {
            moments: self.snapshots()?,
            current: CurrentSeen::Is(self.current_snapshot()?),
        };
        let checkpoints = MomentsSeen {
            moments: self.checkpoints()?,
            current: CurrentSeen::Unseen,
        };
        Ok(DomainSeen {
            def,
            next_def,
            persistent,
            autostart,
            power,
            snapshots,
            checkpoints,
        })
    }

    fn the_domain(&self) -> Value<'static> {
        Value::Domain(self.domain.clone())
    }

    fn power(&mut self) -> Result<Power, LookError> {
        let answer = self
            .upstream
            .ask(212, &[self.the_domain(), Value::UInt(0)])?;
        let values = answer.values()?;
        let [Value::Int(state), Value::Int(reason)] = values[..] else {
            return Err(LookError::Unknown("a run state is no two numbers".into()));
        };
        if self.domain.id < 0 {
            return Ok(Power {
                reason: u8::try_from(reason).unwrap_or(0),
                ..Power::OFF
            });
        }
        let state = u8::try_from(state).ok().and_then(RunState::from_number);
        Ok(Power {
            // A state without a name is that of a guest that is there.
            state: state
                .filter(|state| *state != RunState::Shutoff)
                .unwrap_or(RunState::Running),
            reason: u8::try_from(reason).unwrap_or(0),
            id: u32::try_from(self.domain.id).ok(),
        })
    }

    /// The answer of a call that takes the domain and answers a number.
    fn word(&mut self, procedure: i32) -> Result<i32, LookError> {
        let answer = self.upstream.ask(procedure, &[self.the_domain()])?;
        match answer.values()?.swap_remove(0) {
            Value::Int(word) => Ok(word),
            other => Err(unknown(&other)),
        }
    }

    fn definition(&mut self, flags: u32) -> Result<Arc<DomainDef>, LookError> {
        let xml = self.text(14, self.the_domain(), flags)?;
        let uuid = self.uuid;
        let def = read_domain(&xml, || uuid).or_else(|error| {
            let name = text(&self.domain.name);
            tracing::debug!("the definition of domain '{name}' is not kept: {error}");
            read_domain(&short_definition(&name, uuid), || uuid)
        });
        match def {
            Ok(def) if def.uuid == uuid => Ok(Arc::new(def)),
            Ok(_) => Err(LookError::Unknown("a definition has another uuid".into())),
            Err(error) => Err(LookError::Unknown(error.to_string())),
        }
    }

    fn text(&mut self, procedure: i32, of: Value<'_>, flags: u32) -> Result<String, LookError> {
        let answer = self.upstream.ask(procedure, &[of, Value::UInt(flags)])?;
        match answer.values()?.swap_remove(0) {
            Value::Text(xml) => Ok(text(&xml)),
            other => Err(unknown(&other)),
        }
    }

    /// The names of the moments that a list has.
    fn names(&mut self, procedure: i32) -> Result<BTreeSet<MomentName>, LookError> {
        let arguments = [self.the_domain(), Value::Int(1), Value::UInt(0)];
        let answer = match self.upstream.ask(procedure, &arguments) {
            Err(error) if error.code() == Some(NO_SUPPORT) => return Ok(BTreeSet::new()),
            answer => answer?,
        };
        let Value::Moments(moments) = answer.values()?.swap_remove(0) else {
            return Err(LookError::Unknown("a list is no list of moments".into()));
        };
        let named = |moment: &MomentRef<'_>| {
            let name = text(&moment.name);
            let named = MomentName::new(&name);
            named.ok_or_else(|| LookError::Unknown(format!("a moment is called '{name}'")))
        };
        moments.iter().map(named).collect()
    }

    /// Returns a listed moment as the log has it, if nothing of it can have changed.
    fn kept<D>(
        &self,
        kind: MomentKind,
        list: fn(&Domain) -> &MomentList<D>,
        listed: &BTreeSet<MomentName>,
        name: &MomentName,
    ) -> Option<MomentSeen<D>> {
        let (domain, altered) = self.known?;
        let list = list(domain);
        let found = list.find(name.as_str())?;
        let parent = list.parent(found.id).map(|parent| parent.name);
        let is_kept = parent.is_none_or(|parent| listed.contains(parent))
            && !altered.contains(&(kind, name.clone()));
        is_kept.then(|| MomentSeen {
            name: name.clone(),
            parent: parent.cloned(),
            created: found.created,
            def: found.def.clone(),
        })
    }

    fn moment(&self, name: &MomentName) -> Value<'static> {
        Value::Moment(MomentRef {
            name: name.as_str().as_bytes().to_vec().into(),
            domain: self.domain.clone(),
        })
    }

    fn snapshots(&mut self) -> Result<Vec<MomentSeen<SnapshotDef>>, LookError> {
        let mut seen = Vec::new();
        let names = self.names(274)?;
        for name in &names {
            if let Some(kept) = self.kept(MomentKind::Snapshot, Domain::snapshots, &names, name) {
                seen.push(kept);
                continue;
            }
            let xml = self.text(186, self.moment(name), 0)?;
            let uuid = self.uuid;
            let everything = Carry::Everything;
            let read = read_snapshot_redefine(&xml, false, everything, &self.recent, || uuid);
            seen.push(match read {
                Ok(read) => MomentSeen {
                    name: name.clone(),
                    parent: read.parent,
                    created: read.created,
                    def: Arc::new(read.def),
                },
                Err(error) => {
                    tracing::debug!("the definition of snapshot '{name}' is not kept: {error}");
                    MomentSeen {
                        parent: self.parent(244, name, NO_SNAPSHOT)?,
                        name: name.clone(),
                        created: 0,
                        def: Arc::new(unread_snapshot()),
                    }
                }
            });
        }
        Ok(seen)
    }

    fn current_snapshot(&mut self) -> Result<Option<MomentName>, LookError> {
        let asked = self.upstream.ask(191, &[self.the_domain(), Value::UInt(0)]);
        let answer = match asked {
            Err(LookError::Refused {
                code: NO_SNAPSHOT | NO_SUPPORT,
                ..
            }) => return Ok(None),
            answer => answer?,
        };
        match answer.values()?.swap_remove(0) {
            Value::Moment(moment) => Ok(MomentName::new(&text(&moment.name))),
            other => Err(unknown(&other)),
        }
    }

    fn checkpoints(&mut self) -> Result<Vec<MomentSeen<CheckpointDef>>, LookError> {
        let mut seen = Vec::new();
        let names = self.names(413)?;
        for name in &names {
            let kept = self.kept(MomentKind::Checkpoint, Domain::checkpoints, &names, name);
            if let Some(kept) = kept {
                seen.push(kept);
                continue;
            }
            let uuid = self.uuid;
            let mut read = None;
            for flags in [0, CHECKPOINT_WITHOUT_DOMAIN] {
                let xml = self.text(412, self.moment(name), flags)?;
                match read_checkpoint_redefine(&xml, &self.recent, || uuid) {
                    Ok(found) => {
                        read = Some(found);
                        break;
                    }
                    Err(error) => tracing::debug!(
                        "the definition of checkpoint '{name}' is not kept: {error}"
                    ),
                }
            }
            seen.push(match read {
                Some(read) => MomentSeen {
                    name: name.clone(),
                    parent: read.parent,
                    created: read.created,
                    def: Arc::new(read.def),
                },
                None => MomentSeen {
                    parent: self.parent(416, name, NO_CHECKPOINT)?,
                    name: name.clone(),
                    created: 0,
                    def: Arc::new(CheckpointDef {
                        description: None,
                        disks: Vec::new(),
                        domain: None,
                    }),
                },
            });
        }
        Ok(seen)
    }

    /// The parent of a moment, as its own call answers it.
    fn parent(
        &mut self,
        procedure: i32,
        name: &MomentName,
        none: i32,
    ) -> Result<Option<MomentName>, LookError> {
        let asked = self
            .upstream
            .ask(procedure, &[self.moment(name), Value::UInt(0)]);
        let answer = match asked {
            Err(error) if error.code() == Some(none) => return Ok(None),
            answer => answer?,
        };
        match answer.values()?.swap_remove(0) {
            Value::Moment(moment) => Ok(MomentName::new(&text(&moment.name))),
            other => Err(unknown(&other)),
        }
    }
}

/// What is kept of a domain whose XML is not understood: its name.
fn short_definition(name: &str, uuid: DomainUuid) -> String {
    let mut escaped = String::new();
    for char in name.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            char => escaped.push(char),
        }
    }
    format!(
        "<domain type='qemu'><name>{escaped}</name><uuid>{uuid}</uuid><os><type>hvm</type></os></domain>"
    )
}

/// What is kept of a snapshot whose XML is not understood.
fn unread_snapshot() -> SnapshotDef {
    SnapshotDef {
        description: None,
        state: SnapshotState::Run(RunState::Shutoff),
        memory: Memory::No,
        disks: Vec::new(),
        domain: None,
        inactive_domain: None,
        revert_disks: None,
        extra: None,
    }
}

fn unknown(value: &Value<'_>) -> LookError {
    LookError::Unknown(format!("{value:?}"))
}
