//! Title, description and metadata of a domain, each in the definition of the guest and in that of the next start.

use std::sync::Arc;

use momentlog_core::{Action, Domain as DomainState, DomainDef};
use momentlog_engine::Call;
use momentlog_xml::{
    MetadataChange, domain_description, domain_metadata, domain_title, set_domain_metadata,
};

use crate::domain::Domain;
use crate::error::{Error, ErrorCode, ErrorDomain, Result, exclusive};
use crate::flags::AffectFlags;
use crate::recordable;

/// What of a domain is asked for, numbered as `virDomainMetadataType`. Calls refuse a number that has no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetadataKind(pub i32);

impl MetadataKind {
    /// The description.
    pub const DESCRIPTION: MetadataKind = MetadataKind(0);
    /// The title.
    pub const TITLE: MetadataKind = MetadataKind(1);
    /// The element of a namespace, which a program keeps there for itself.
    pub const ELEMENT: MetadataKind = MetadataKind(2);

    fn unknown(self) -> Error {
        let detail = format!("unknown metadata type '{}'", self.0);
        Error::new(ErrorCode::InvalidArg, ErrorDomain::Domain, detail)
    }
}

/// The definitions that are meant.
struct Meant {
    live: bool,
    config: bool,
}

impl Meant {
    /// Returns which definitions flags mean.
    fn of(domain: &DomainState, flags: AffectFlags) -> Result<Meant> {
        let is_active = domain.power().is_active();
        let invalid = |why| Error::new(ErrorCode::OperationInvalid, ErrorDomain::Domain, why);
        let none = flags == AffectFlags::NONE;
        let live = flags.contains(AffectFlags::LIVE) || none && is_active;
        let config = flags.contains(AffectFlags::CONFIG) || none && !is_active;
        if live && !is_active {
            return Err(invalid("domain is not running"));
        }
        if config && !domain.is_persistent() {
            let why = "transient domains do not have any persistent config";
            return Err(invalid(why));
        }
        Ok(Meant { live, config })
    }
}

impl Domain {
    /// Returns the domain's title, its description, or the element of the namespace `uri`, without that namespace. Only an
    /// element has a `uri`. Follows `virDomainGetMetadata`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomainMetadata`] if there is none; [`ErrorCode::InvalidArg`] for a `uri` too many or too few, a kind and
    /// flags that are not known, and both flags; [`ErrorCode::NoDomain`]; [`ErrorCode::OperationInvalid`] if the domain has
    /// no such definition.
    pub fn metadata(
        &self,
        kind: MetadataKind,
        uri: Option<&str>,
        flags: AffectFlags,
    ) -> Result<String> {
        const FUNCTION: &str = "virDomainGetMetadata";
        if flags.contains(AffectFlags::LIVE | AffectFlags::CONFIG) {
            let prefix = "VIR_DOMAIN_AFFECT_";
            return Err(exclusive(ErrorDomain::Domain, prefix, "LIVE", "CONFIG"));
        }
        vet(FUNCTION, "uri", uri, needed(kind))?;
        let called = self.connection.facts().called(FUNCTION);
        flags.refuse_all_but(AffectFlags::ALL, &called)?;
        self.with(|domain| {
            if needed(kind).is_none() {
                return Err(kind.unknown());
            }
            let def = if Meant::of(domain, flags)?.live {
                domain.def()
            } else {
                domain.inactive_def()
            };
            let found = match kind {
                MetadataKind::DESCRIPTION => domain_description(def),
                MetadataKind::TITLE => domain_title(def),
                _ => domain_metadata(def, uri.unwrap_or_default()),
            };
            found.ok_or_else(|| {
                let detail = "Requested metadata element is not present";
                Error::new(ErrorCode::NoDomainMetadata, ErrorDomain::Domain, detail)
            })
        })
    }

    /// Sets the domain's title, its description, or the element of the namespace `uri`, which gets the prefix `key`; none
    /// removes it. Only an element has a `uri` and a `key`. It is recorded as another definition of the domain. Follows
    /// `virDomainSetMetadata`.
    ///
    /// # Errors
    ///
    /// As [`metadata`](Self::metadata), but that both flags may be set; [`ErrorCode::InvalidArg`] for a title of several
    /// lines; [`ErrorCode::XmlDetail`] if the element is no XML; [`ErrorCode::InternalError`] for a `key` that is no prefix,
    /// or that the element declares itself.
    pub fn set_metadata(
        &self,
        kind: MetadataKind,
        metadata: Option<&str>,
        key: Option<&str>,
        uri: Option<&str>,
        flags: AffectFlags,
    ) -> Result<()> {
        let function = self.changing(Call::SET_METADATA)?;
        if kind == MetadataKind::TITLE && metadata.is_some_and(|title| title.contains('\n')) {
            let message = "metadata title can't contain newlines";
            return Err(Error::argument(ErrorDomain::Domain, message.to_owned()));
        }
        vet(function, "uri", uri, needed(kind))?;
        let needs_key = needed(kind).filter(|is_needed| !is_needed || metadata.is_some());
        vet(function, "key", key, needs_key)?;
        let called = self.connection.facts().called(function);
        flags.refuse_all_but(AffectFlags::ALL, &called)?;
        let text = metadata.unwrap_or_default();
        let change = match kind {
            MetadataKind::DESCRIPTION => Some(MetadataChange::Description(text)),
            MetadataKind::TITLE => Some(MetadataChange::Title(text)),
            MetadataKind::ELEMENT => Some(MetadataChange::Element {
                uri: uri.unwrap_or_default(),
                new: key.zip(metadata),
            }),
            _ => None,
        };
        let number = kind.0.to_string();
        let given = [metadata, key, uri]
            .map(|text| text.map_or_else(String::new, |text| format!("={text}")));
        let [metadata, key, uri] = &given;
        let request = self.request(
            (Call::SET_METADATA, flags.bits()),
            &[&number, metadata, key, uri],
        );
        let decided = self.connection.decide(request, &mut |decision| {
            let domain = self.of(decision.view())?;
            let meant = Meant::of(domain, flags)?;
            let change = change.ok_or_else(|| kind.unknown())?;
            let changed = |def: &DomainDef| -> Result<Arc<DomainDef>> {
                Ok(set_domain_metadata(def, change)?.into())
            };
            let mut actions = Vec::new();
            if meant.live {
                actions.push(Action::DefineLive(changed(domain.def())?));
            }
            if meant.config {
                actions.push(Action::Define(changed(domain.inactive_def())?));
            }
            for action in actions {
                recordable::decide(decision, &self.command(action))?;
            }
            Ok(())
        });
        decided
            .map(|_| ())
            .map_err(|error: Error| self.connection.told(error))
    }
}

/// Whether what an element alone has is needed for a kind, or must not be there; libvirt does not look at it for a kind that
/// it does not know.
fn needed(kind: MetadataKind) -> Option<bool> {
    match kind {
        MetadataKind::ELEMENT => Some(true),
        MetadataKind::DESCRIPTION | MetadataKind::TITLE => Some(false),
        _ => None,
    }
}

fn vet(function: &str, name: &str, given: Option<&str>, needed: Option<bool>) -> Result<()> {
    let must = match (needed, given) {
        (Some(false), Some(_)) => "must be NULL",
        (Some(true), None) => "must not be NULL",
        // Of an empty key libvirt says that it is no prefix, and an empty namespace is none.
        (Some(true), Some("")) if name == "uri" => "must not be empty",
        _ => return Ok(()),
    };
    let message = format!("{name} in {function} {must}");
    Err(Error::argument(ErrorDomain::Domain, message))
}
