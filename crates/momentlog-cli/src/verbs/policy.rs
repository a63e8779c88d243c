//! The verb `policy`: the rules of a domain, and the settings of the store.

use momentlog::core::{Policy, Rule, SettingsChange};
use momentlog_audit::json::PolicyDoc;
use momentlog_audit::window_text;

use super::{Verb, domain_doc, the_domain};
use crate::failure::{Answer, Failure};
use crate::grammar::{Invocation, Spec, flag, only_named, word, words};
use crate::layout::{escaped, info as line};
use crate::session::Session;

/// The verbs of rules and settings.
pub static VERBS: &[Verb] = &[Verb {
    spec: Spec::new(
        "policy",
        "show the rules of a domain, or of new domains (--default), or set some \
                 (NAME=on or NAME=off)",
        &[
            word("domain", "domain name, id or uuid"),
            flag("default", "the settings of the store, for new domains"),
            only_named(
                "request-window",
                "how long request ids are remembered: seconds, or a number with m, h or \
                 d; 0 for ever",
            ),
            words("rule", "NAME=on or NAME=off"),
        ],
    )
    .changing()
    .or_reading(),
    run: policy,
}];

pub fn policy(session: &mut Session, invocation: &Invocation) -> Answer {
    if invocation.has("default") {
        return default_policy(session, invocation);
    }
    if invocation.get("request-window").is_some() {
        let message = "--request-window is the store's: it needs --default";
        return Err(Failure::new(message.to_owned()));
    }
    let domain = the_domain(session, invocation)?;
    let policy = domain.policy()?;
    let given = invocation.all("rule");
    if given.is_empty() {
        show_rules(session, policy, &[]);
        session.document(&PolicyDoc::of_domain(domain_doc(&domain), policy));
        return Ok(0);
    }
    let policy = changed(policy, given)?;
    domain.connection().set_policy(domain.uuid(), policy)?;
    session.say(&format!(
        "Policy of domain '{}' set\n",
        escaped(domain.name())
    ));
    Ok(0)
}

/// The settings of the store: the policy of new domains, and how long request ids are remembered.
fn default_policy(session: &mut Session, invocation: &Invocation) -> Answer {
    let connection = session.connection_for(invocation)?;
    let settings = connection.settings()?;
    // The first bare word would be the domain.
    let first = invocation.get("domain").map(str::to_owned);
    let given: Vec<String> = first
        .into_iter()
        .chain(invocation.all("rule").iter().cloned())
        .collect();
    let window = invocation.get("request-window").map(seconds).transpose()?;
    if given.is_empty() && window.is_none() {
        let (policy, window) = (settings.policy, settings.request_window_s);
        show_rules(session, policy, &[("request window", window_text(window))]);
        session.document(&PolicyDoc::of_store(policy, window));
        return Ok(0);
    }
    let policy = changed(settings.policy, &given)?;
    connection.set_settings(SettingsChange {
        policy: (!given.is_empty()).then_some(policy),
        request_window_s: window,
    })?;
    session.say("Settings of the store set\n");
    Ok(0)
}

/// Returns the policy with the rules that were given as `NAME=on` or `NAME=off`.
fn changed(mut policy: Policy, given: &[String]) -> Result<Policy, Failure> {
    for rule in given {
        let invalid = || {
            let known = Rule::ALL.map(Rule::name).join(", ");
            Failure::new(format!(
                "'{}' is no rule: {known}, each =on or =off",
                escaped(rule)
            ))
        };
        let (name, value) = rule.split_once('=').ok_or_else(invalid)?;
        let on = match value {
            "on" => true,
            "off" => false,
            _ => return Err(invalid()),
        };
        policy = policy.with(Rule::from_name(name).ok_or_else(invalid)?, on);
    }
    Ok(policy)
}

/// Reads a span of time: a number of seconds, or of minutes, hours or days with `m`, `h` or `d` behind it.
fn seconds(text: &str) -> Result<u32, Failure> {
    let (number, unit) = match text.as_bytes().last() {
        Some(b'm') => (&text[..text.len() - 1], 60),
        Some(b'h') => (&text[..text.len() - 1], 60 * 60),
        Some(b'd') => (&text[..text.len() - 1], 24 * 60 * 60),
        _ => (text, 1_u32),
    };
    let number: Option<u32> = number.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| {
            Failure::new(format!(
                "'{}' is no span of time: seconds, or a number with m, h or d, up to 49710d; 0 for ever",
                escaped(text)
            ))
        })
}

/// Prints rules, and what the store sets besides: names, and words for the values.
fn show_rules(session: &mut Session, policy: Policy, more: &[(&str, String)]) {
    let on = |is: bool| if is { "on" } else { "off" };
    let text = Rule::ALL.map(|rule| line(rule.name(), on(policy.has(rule))));
    let mut text = text.concat();
    for (name, words) in more {
        text += &line(name, words);
    }
    session.print(&text);
}
