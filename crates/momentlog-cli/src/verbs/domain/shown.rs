//! What is shown of a domain.

use momentlog::core::{Power, RunState};
use momentlog::{Domain, DomainXmlFlags};
use momentlog_audit::json::{DisksDoc, DomainsDoc, TextDoc};

use crate::failure::Answer;
use crate::grammar::Invocation;
use crate::layout::{Table, info as line};
use crate::session::Session;
use crate::verbs::{Ways, domain_doc, the_domain, the_domain_by};

/// Adds the document of domains.
pub fn document<'a>(session: &mut Session, domains: impl IntoIterator<Item = &'a Domain>) {
    let view = session.connection.view();
    let uuids = domains.into_iter().map(Domain::uuid);
    session.document(&DomainsDoc::of(&view, uuids));
}

pub fn state(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let power = domain.power()?;
    let word = state_word(power.state);
    if invocation.has("reason") {
        session.print(&format!("{word} ({})\n", reason_word(power)));
    } else {
        session.print(&format!("{word}\n"));
    }
    document(session, [&domain]);
    Ok(0)
}

pub fn info(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let power = domain.power()?;
    let info = domain.info()?;
    let word = |yes: bool, [one, other]: [&'static str; 2]| if yes { one } else { other };
    let text = [
        line("Id", power.id.map_or("-".to_owned(), |id| id.to_string())),
        line("Name", domain.name()),
        line("UUID", domain.uuid()),
        line("OS Type", domain.os_type()?),
        line("State", state_word(power.state)),
        line("CPU(s)", info.vcpus),
        line("Max memory", format!("{} KiB", info.max_memory_kib)),
        line("Used memory", format!("{} KiB", info.memory_kib)),
        line("Persistent", word(domain.is_persistent()?, ["yes", "no"])),
        line(
            "Autostart",
            word(domain.autostart()?, ["enable", "disable"]),
        ),
        line(
            "Managed save",
            word(domain.has_managed_save_image()?, ["yes", "no"]),
        ),
    ];
    session.print(&text.concat());
    document(session, [&domain]);
    Ok(0)
}

pub fn id(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain_by(
        session,
        invocation,
        Ways {
            id: false,
            ..Ways::ALL
        },
    )?;
    let id = domain.id()?.map_or("-".to_owned(), |id| id.to_string());
    session.print(&format!("{id}\n"));
    document(session, [&domain]);
    Ok(0)
}

pub fn name(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain_by(
        session,
        invocation,
        Ways {
            name: false,
            ..Ways::ALL
        },
    )?;
    session.print(&format!("{}\n", domain.name()));
    document(session, [&domain]);
    Ok(0)
}

pub fn uuid(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain_by(
        session,
        invocation,
        Ways {
            uuid: false,
            ..Ways::ALL
        },
    )?;
    session.print(&format!("{}\n", domain.uuid()));
    document(session, [&domain]);
    Ok(0)
}

pub fn dumpxml(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let flags = DomainXmlFlags::NONE
        .with(DomainXmlFlags::SECURE, invocation.has("security-info"))
        .with(DomainXmlFlags::INACTIVE, invocation.has("inactive"))
        .with(DomainXmlFlags::UPDATE_CPU, invocation.has("update-cpu"))
        .with(DomainXmlFlags::MIGRATABLE, invocation.has("migratable"));
    let xml = domain.xml_desc(flags)?;
    session.print(&xml);
    session.document(&TextDoc::of("xml", &xml).of_domain(domain_doc(&domain)));
    Ok(0)
}

pub fn block_list(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let details = invocation.has("details");
    let header: &[&str] = if details {
        &["Type", "Device", "Target", "Source"]
    } else {
        &["Target", "Source"]
    };
    let mut table = Table::new(header);
    let disks = domain.disks(invocation.has("inactive"))?;
    session.document(&DisksDoc::of(domain_doc(&domain), disks.clone()));
    for [kind, device, target, source] in disks {
        table.row(if details {
            vec![kind, device, target, source]
        } else {
            vec![target, source]
        });
    }
    session.print_table(&table);
    Ok(0)
}

pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Blocked => "idle",
        RunState::Paused => "paused",
        RunState::Shutdown => "in shutdown",
        RunState::Shutoff => "shut off",
        RunState::Crashed => "crashed",
        RunState::PmSuspended => "pmsuspended",
    }
}

fn reason_word(power: Power) -> &'static str {
    match (power.state, power.reason) {
        (RunState::Running, 1) => "booted",
        (RunState::Running, 5) => "unpaused",
        (RunState::Paused, 1) => "user",
        (RunState::Shutoff, 1) => "shutdown",
        (RunState::Shutoff, 2) => "destroyed",
        (RunState::Running, 4) | (RunState::Paused | RunState::Shutoff, 7) => "from snapshot",
        _ => "unknown",
    }
}
