//! The domains of a connection: listed, found, defined and started.

use std::fmt;
use std::sync::Arc;

use momentlog_core::{
    Action, Command, Domain as DomainState, DomainDef, DomainUuid, Refusal, RunState, State,
    StateChange,
};
use momentlog_engine::Call;
use momentlog_xml::read_domain;

use super::Connection;
use crate::domain::Domain;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::flags::{DefineFlags, DomainListFlags, StartFlags};
use crate::recordable;

impl Connection {
    /// Returns all domains that pass the filter: active ones by id, then inactive ones by name.
    /// Follows `virConnectListAllDomains`; all flags of a group are as good as none.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read;
    /// [`ErrorCode::InvalidArg`] for bits that mean nothing here.
    pub fn list_all_domains(&self, flags: DomainListFlags) -> Result<Vec<Domain>> {
        let function = self.facts().called("virConnectListAllDomains");
        flags.refuse_all_but(DomainListFlags::ALL, &function)?;
        let view = self.read()?;
        let domains = view.state().domains();
        let mut found: Vec<_> = domains.filter(|domain| is_listed(domain, flags)).collect();
        found.sort_by_key(|domain| domain.power().id.unwrap_or(u32::MAX));
        Ok(found
            .into_iter()
            .map(|domain| Domain::new(self, domain.uuid(), domain.name()))
            .collect())
    }

    /// Returns the domain of this name. Follows `virDomainLookupByName`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_name(&self, name: &str) -> Result<Domain> {
        self.lookup(name, None, |state| state.domain_by_name(name))?
            .ok_or_else(no_domain)
    }

    /// Returns the domain of this uuid. Follows `virDomainLookupByUUID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_uuid(&self, uuid: DomainUuid) -> Result<Domain> {
        self.lookup(uuid, Some(uuid), |state| state.domain(uuid))?
            .ok_or_else(|| Error::from(Refusal::NoDomain { uuid }))
    }

    /// Returns the running domain of this number. Follows `virDomainLookupByID`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn lookup_domain_by_id(&self, id: u32) -> Result<Domain> {
        let is = |domain: &&DomainState| domain.power().id == Some(id);
        self.lookup(id, None, |state| state.domains().find(is))?
            .ok_or_else(no_domain)
    }

    /// Returns the domain that this connection's request was about, if its record was archived: what was there before it
    /// cannot be read any more, and what is looked up for it is taken to have been there. Whether the same is asked is
    /// for the engine to say.
    pub(crate) fn archived_request(&self) -> Result<Option<DomainUuid>> {
        match &self.provenance.request_id {
            Some(id) => Ok(self.log.archived_request(id)?),
            None => Ok(None),
        }
    }

    /// Returns the domain that `find` finds, or else the one that the archived record of this connection's request is
    /// about: that one may have removed it. Its handle is then called `said`, as its name is not known any more. `uuid` is
    /// what the domain's uuid has to be, if the caller gave one.
    fn lookup(
        &self,
        said: impl fmt::Display,
        uuid: Option<DomainUuid>,
        find: impl for<'a> Fn(&'a State) -> Option<&'a DomainState>,
    ) -> Result<Option<Domain>> {
        let found = self.find(|view| {
            let domain = find(view.state())?;
            Some(Domain::new(self, domain.uuid(), domain.name()))
        })?;
        if found.is_some() {
            return Ok(found);
        }
        let archived = self.archived_request()?;
        Ok(archived
            .filter(|archived| uuid.is_none_or(|uuid| uuid == *archived))
            .map(|archived| self.domain_handle(archived, &said.to_string())))
    }

    /// Defines a domain persistently, or changes its definition. Follows `virDomainDefineXML`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; what is wrong with the XML;
    /// [`ErrorCode::OperationFailed`] if name or uuid are another domain's.
    pub fn define_domain_xml(&self, xml: &str) -> Result<Domain> {
        self.define_by((Call::DEFINE_XML, DefineFlags::NONE), xml)
    }

    /// As [`define_domain_xml`](Self::define_domain_xml). Follows `virDomainDefineXMLFlags`.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for bits that mean nothing.
    pub fn define_domain_xml_flags(&self, xml: &str, flags: DefineFlags) -> Result<Domain> {
        self.define_by((Call::DEFINE_XML_FLAGS, flags), xml)
    }

    fn define_by(&self, (call, flags): (Call, DefineFlags), xml: &str) -> Result<Domain> {
        let function = call.name().unwrap_or_default();
        self.deny_read_only(function, ErrorDomain::Domain)?;
        flags.refuse_all_but(DefineFlags::ALL, &self.facts().called(function))?;
        self.domain_xml((call, flags.bits()), xml, |def| {
            // What is created without being defined has no file, and may have it.
            if def.name.contains('\n') {
                let detail = "invalid char in name: \n";
                return Err(Error::new(ErrorCode::XmlDetail, ErrorDomain::Xml, detail));
            }
            Ok(vec![Action::Define(def)])
        })
    }

    /// Starts a domain from its XML; it is transient, unless it is defined already. Follows `virDomainCreateXML` without
    /// flags.
    ///
    /// # Errors
    ///
    /// As [`define_domain_xml`](Self::define_domain_xml); [`ErrorCode::OperationInvalid`] if it is active.
    pub fn create_domain_xml(&self, xml: &str) -> Result<Domain> {
        self.create_domain_xml_flags(xml, StartFlags::NONE)
    }

    /// As [`create_domain_xml`](Self::create_domain_xml), with flags. Follows `virDomainCreateXML`.
    ///
    /// # Errors
    ///
    /// As there; [`ErrorCode::InvalidArg`] for flags that the store's driver does not take.
    pub fn create_domain_xml_flags(&self, xml: &str, flags: StartFlags) -> Result<Domain> {
        const CALL: Call = Call::CREATE_XML;
        let function = CALL.name().unwrap_or_default();
        self.deny_read_only(function, ErrorDomain::Domain)?;
        let facts = self.facts();
        facts.vet_start(flags, facts.create, function)?;
        self.domain_xml((CALL, flags.bits()), xml, |def| {
            let mut actions = vec![Action::CreateLive(def)];
            if flags.contains(StartFlags::PAUSED) {
                actions.push(Action::ChangeState(StateChange::Suspend));
            }
            Ok(actions)
        })
    }

    /// Records actions that are made of a domain's XML, as one record.
    fn domain_xml(
        &self,
        call: (Call, u32),
        xml: &str,
        actions: impl Fn(Arc<DomainDef>) -> Result<Vec<Action>>,
    ) -> Result<Domain> {
        let def = Arc::new(self.read_xml(|_, fresh| read_domain(xml, fresh))??);
        let actions = actions(def.clone())?.into_iter();
        let domain = def.uuid;
        let commands: Vec<_> = actions.map(|action| Command { domain, action }).collect();
        // Not the uuid: a domain without one gets another each time.
        let request = self.request(call, None, &[xml.as_bytes()]);
        let outcome = self.decide(request.about(def.uuid), &mut |decision| {
            let mut commands = commands.iter();
            commands.try_for_each(|command| recordable::decide(decision, command))
        })?;
        // An answer that was given before is about the uuid of that time.
        let defined = outcome.events.iter().find_map(|event| event.domain);
        Ok(Domain::new(self, defined.unwrap_or(def.uuid), &def.name))
    }
}

/// Whether a listing shows a domain: in each group of flags, one that is set fits it, or none is set.
fn is_listed(domain: &DomainState, flags: DomainListFlags) -> bool {
    use DomainListFlags as Flags;
    let state = match domain.power().state {
        RunState::Running => Flags::RUNNING,
        RunState::Paused => Flags::PAUSED,
        RunState::Shutoff => Flags::SHUTOFF,
        _ => Flags::OTHER,
    };
    let pair = |yes, no, is| (if is { yes } else { no }, yes | no);
    let groups = [
        pair(Flags::ACTIVE, Flags::INACTIVE, domain.power().is_active()),
        pair(Flags::PERSISTENT, Flags::TRANSIENT, domain.is_persistent()),
        (
            state,
            Flags::RUNNING | Flags::PAUSED | Flags::SHUTOFF | Flags::OTHER,
        ),
        pair(Flags::MANAGED_SAVE, Flags::NO_MANAGED_SAVE, false),
        pair(Flags::AUTOSTART, Flags::NO_AUTOSTART, domain.autostart()),
        pair(
            Flags::HAS_SNAPSHOT,
            Flags::NO_SNAPSHOT,
            !domain.snapshots().is_empty(),
        ),
        pair(
            Flags::HAS_CHECKPOINT,
            Flags::NO_CHECKPOINT,
            !domain.checkpoints().is_empty(),
        ),
    ];
    let mut groups = groups.into_iter();
    groups.all(|(own, group)| flags.contains(own) || !flags.intersects(group))
}

fn no_domain() -> Error {
    // libvirt's test driver gives this one no detail, and then no colon.
    let mut error = Error::new(ErrorCode::NoDomain, ErrorDomain::Test, "");
    error.set_message("Domain not found");
    error
}
