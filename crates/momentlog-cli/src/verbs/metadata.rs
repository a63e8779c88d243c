//! The verbs of a domain's title, description and metadata.

use momentlog::{AffectFlags, Domain, ErrorCode, MetadataKind, Result};
use momentlog_audit::json::TextDoc;

use super::edit::Edited;
use super::{Verb, domain_doc, exclusive, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, OptionSpec, Spec, flag, needed, word, words};
use crate::layout::escaped;
use crate::session::Session;

const DOMAIN: OptionSpec = needed("domain", "domain name, id or uuid");
const LIVE: OptionSpec = flag("live", "modify/get running state");
const CONFIG: OptionSpec = flag("config", "modify/get persistent configuration");
const CURRENT: OptionSpec = flag("current", "modify/get current state configuration");

/// The verbs.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "desc",
            "show or set a domain's description or title",
            &[
                DOMAIN,
                LIVE,
                CONFIG,
                CURRENT,
                flag("title", "modify/get the title instead of description"),
                flag("edit", "open an editor to modify the description"),
                words("new-desc", "message"),
            ],
        )
        .changing()
        .or_reading(),
        run: describe,
    },
    Verb {
        spec: Spec::new(
            "metadata",
            "show or set a domain's own XML of a namespace",
            &[
                DOMAIN,
                needed("uri", "URI of the namespace"),
                LIVE,
                CONFIG,
                CURRENT,
                flag("edit", "use an editor to change the metadata"),
                word("key", "key to be used as a namespace identifier"),
                word("set", "new metadata to set"),
                flag("remove", "remove the metadata corresponding to an uri"),
            ],
        )
        .changing()
        .or_reading(),
        run: metadata,
    },
];

pub fn describe(session: &mut Session, invocation: &Invocation) -> Answer {
    let flags = affected(invocation)?;
    let domain = the_domain(session, invocation)?;
    let (kind, what) = if invocation.has("title") {
        (MetadataKind::TITLE, "title")
    } else {
        (MetadataKind::DESCRIPTION, "description")
    };
    let there = text_of(&domain, kind, flags)?;
    let given = invocation.all("new-desc");
    let given = (!given.is_empty()).then(|| given.join(" "));
    let wanted = if invocation.has("edit") {
        let edited = Edited::of(given.unwrap_or_else(|| there.clone()))?;
        let mut text = edited.text().to_owned();
        if kind == MetadataKind::TITLE && text.ends_with('\n') {
            text.pop();
        }
        edited.discard();
        if text == there {
            session.say(&format!("Domain {what} not changed\n"));
            return Ok(0);
        }
        text
    } else if let Some(given) = given {
        given
    } else {
        let name = escaped(domain.name());
        match &*there {
            "" => session.say(&format!("No {what} for domain: {name}")),
            text => session.print(text),
        }
        session.document(&TextDoc::of("text", &there).of_domain(domain_doc(&domain)));
        return Ok(0);
    };
    domain
        .set_metadata(kind, Some(&wanted), None, None, flags)
        .map_err(Failure::under(format!("Failed to set new domain {what}")))?;
    // The line ends with virsh's empty one.
    session.say(&format!("Domain {what} updated successfully"));
    Ok(0)
}

pub fn metadata(session: &mut Session, invocation: &Invocation) -> Answer {
    let flags = affected(invocation)?;
    for (one, other) in [("edit", "set"), ("remove", "set"), ("remove", "edit")] {
        exclusive(invocation, one, other)?;
    }
    let domain = the_domain(session, invocation)?;
    let uri = Some(invocation.need("uri"));
    let key = invocation.get("key");
    let set = |element: Option<&str>, key: Option<&str>| {
        domain.set_metadata(MetadataKind::ELEMENT, element, key, uri, flags)
    };
    let read = || domain.metadata(MetadataKind::ELEMENT, uri, flags);
    if invocation.has("remove") {
        set(None, key)?;
        session.say("Metadata removed\n");
        return Ok(0);
    }
    let given = invocation.get("set");
    if key.is_none() && (given.is_some() || invocation.has("edit")) {
        let why = "namespace key is required when modifying metadata";
        return Err(Failure::new(why));
    }
    if invocation.has("edit") {
        let edited = Edited::of(or_empty(read())?)?;
        if !edited.is_changed() {
            edited.discard();
            session.say("Metadata not changed");
            return Ok(0);
        }
        if let Err(error) = set(Some(edited.text()), key) {
            return Err(edited.kept(error.into()));
        }
        edited.discard();
    } else if let Some(given) = given {
        set(Some(given), key)?;
    } else {
        let element = read()?;
        session.print(&format!("{element}\n"));
        session.document(&TextDoc::of("xml", &element).of_domain(domain_doc(&domain)));
        return Ok(0);
    }
    session.say("Metadata modified\n");
    Ok(0)
}

/// Returns which definitions the options mean.
fn affected(invocation: &Invocation) -> std::result::Result<AffectFlags, Failure> {
    exclusive(invocation, "current", "live")?;
    exclusive(invocation, "current", "config")?;
    Ok(AffectFlags::NONE
        .with(AffectFlags::LIVE, invocation.has("live"))
        .with(AffectFlags::CONFIG, invocation.has("config")))
}

/// Returns a title or a description, which is empty where there is none. What virsh cannot ask for, such as that of both
/// definitions, it reads in the XML of one.
fn text_of(domain: &Domain, kind: MetadataKind, flags: AffectFlags) -> Result<String> {
    or_empty(domain.metadata(kind, None, flags))
        .or_else(|_| or_empty(domain.metadata(kind, None, flags.without(AffectFlags::LIVE))))
}

fn or_empty(found: Result<String>) -> Result<String> {
    match found {
        Err(error) if error.code() == ErrorCode::NoDomainMetadata => Ok(String::new()),
        found => found,
    }
}
