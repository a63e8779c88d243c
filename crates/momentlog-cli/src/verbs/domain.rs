//! Verbs of domains.

use momentlog::core::{Power, RunState};
use momentlog::{Domain, DomainListFlags, DomainXmlFlags, Error, UndefineFlags};

use super::{Ways, read_file, the_domain, the_domain_by};
use crate::grammar::{Answer, Invocation};
use crate::layout::{Table, info as line};
use crate::session::{Failure, Session};

pub fn define(session: &mut Session, invocation: &Invocation) -> Answer {
    let file = invocation.need("file");
    let connection = session.connection_for(invocation)?;
    let failed = Failure::under(format!("Failed to define domain from {file}"));
    let domain = connection
        .define_domain_xml(&read_file(file)?)
        .map_err(failed)?;
    session.say(&format!("Domain '{}' defined from {file}\n", domain.name()));
    Ok(0)
}

pub fn create(session: &mut Session, invocation: &Invocation) -> Answer {
    let file = invocation.need("file");
    let connection = session.connection_for(invocation)?;
    let failed = Failure::under(format!("Failed to create domain from {file}"));
    let domain = connection
        .create_domain_xml(&read_file(file)?)
        .map_err(failed)?;
    session.say(&format!("Domain '{}' created from {file}\n", domain.name()));
    Ok(0)
}

pub fn undefine(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let name = domain.name().to_owned();
    let with_snapshots = invocation.has("snapshots-metadata");
    let flags = UndefineFlags::NONE.with(UndefineFlags::SNAPSHOTS_METADATA, with_snapshots);
    if invocation.has("checkpoints-metadata") {
        // The driver refuses the flag, and virsh then does by hand what it can. An active domain keeps its moments.
        let count = if domain.is_active()? {
            0
        } else {
            domain.snapshot_num_raw(0)?
        };
        if count > 0 && !with_snapshots {
            return Err(Failure::new(format!(
                "Refusing to undefine while {count} snapshots exist"
            )));
        }
        if count > 0 {
            return Err(Failure::new(format!(
                "Unable to remove metadata of {count} snapshots"
            )));
        }
        domain
            .undefine(UndefineFlags::NONE)
            .map_err(Failure::under(format!(
                "Failed to undefine domain '{name}'"
            )))?;
    } else {
        domain.undefine(flags).map_err(Failure::under(format!(
            "Failed to undefine domain '{name}'"
        )))?;
    }
    session.say(&format!("Domain '{name}' has been undefined\n"));
    Ok(0)
}

pub fn start(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    if domain.is_active()? {
        return Err(Failure::new("Domain is already active"));
    }
    change(session, &domain, "start", "started", Domain::start)
}

pub fn destroy(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    change(session, &domain, "destroy", "destroyed", Domain::destroy)
}

pub fn suspend(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    change(session, &domain, "suspend", "suspended", Domain::suspend)
}

pub fn resume(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    change(session, &domain, "resume", "resumed", Domain::resume)
}

pub fn shutdown(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    change(
        session,
        &domain,
        "shutdown",
        "is being shutdown",
        Domain::shutdown,
    )
}

fn change(
    session: &mut Session,
    domain: &Domain,
    verb: &str,
    done: &str,
    act: impl Fn(&Domain) -> Result<(), Error>,
) -> Answer {
    let name = domain.name();
    act(domain).map_err(Failure::under(format!("Failed to {verb} domain '{name}'")))?;
    session.say(&format!("Domain '{name}' {done}\n"));
    Ok(0)
}

pub fn list(session: &mut Session, invocation: &Invocation) -> Answer {
    use DomainListFlags as Flags;
    let has = |name: &str| invocation.has(name);
    let flags = Flags::NONE
        .with(Flags::ACTIVE, has("all") || !has("inactive"))
        .with(Flags::INACTIVE, has("all") || has("inactive"))
        .with(Flags::HAS_SNAPSHOT, has("with-snapshot"))
        .with(Flags::NO_SNAPSHOT, has("without-snapshot"))
        .with(Flags::HAS_CHECKPOINT, has("with-checkpoint"))
        .with(Flags::NO_CHECKPOINT, has("without-checkpoint"));
    let domains = session.connection.list_all_domains(flags)?;
    let mut table = Table::new(&["Id", "Name", "State"]);
    for domain in domains {
        let power = domain.power()?;
        let id = power.id.map_or("-".to_owned(), |id| id.to_string());
        if has("uuid") || has("name") || has("id") {
            let fields = [
                (has("uuid"), domain.uuid().to_string()),
                (has("name"), domain.name().to_owned()),
            ];
            let fields = fields.into_iter().chain([(has("id"), id)]);
            let shown: Vec<String> = fields
                .filter(|(wanted, _)| *wanted)
                .map(|(_, text)| text)
                .collect();
            session.print(&format!("{}\n", shown.join(" ")));
        } else {
            table.row(vec![
                id,
                domain.name().to_owned(),
                state_word(power.state).to_owned(),
            ]);
        }
    }
    if !(has("uuid") || has("name") || has("id")) {
        let text = table.render(session.quiet);
        session.print(&text);
    }
    Ok(0)
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
    Ok(0)
}

pub fn info(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let power = domain.power()?;
    let view = session.connection.view();
    let memory = view
        .state()
        .domain(domain.uuid())
        .map_or(0, |domain| domain.def().memory_kib);
    let text = [
        line("Id", power.id.map_or("-".to_owned(), |id| id.to_string())),
        line("Name", domain.name()),
        line("UUID", domain.uuid()),
        line("State", state_word(power.state)),
        line("Max memory", format!("{memory} KiB")),
        line(
            "Persistent",
            if domain.is_persistent()? { "yes" } else { "no" },
        ),
    ];
    session.print(&text.concat());
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
    Ok(0)
}

pub fn dumpxml(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let flags = DomainXmlFlags::NONE
        .with(DomainXmlFlags::SECURE, invocation.has("security-info"))
        .with(DomainXmlFlags::INACTIVE, invocation.has("inactive"));
    let xml = domain.xml_desc(flags)?;
    session.print(&xml);
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
    for [kind, device, target, source] in domain.disks(invocation.has("inactive"))? {
        table.row(if details {
            vec![kind, device, target, source]
        } else {
            vec![target, source]
        });
    }
    let text = table.render(session.quiet);
    session.print(&text);
    Ok(0)
}

fn state_word(state: RunState) -> &'static str {
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
