//! Verbs that tie domains to their hypervisors: where one is asked, and what it and the log do not agree on.

mod listing;
mod report;

use momentlog::core::{Attachment, DomainUuid};
use momentlog::driver::{DiskFinding, DiskState, Listing, Reconciled, Step};
use momentlog::{Domain, DomainListFlags};
use momentlog_qemu::{Libvirt, Qemu};

use super::domain::state_word;
use super::{Verb, absolute, the_domain};
use crate::failure::{Answer, Failure, with_reasons};
use crate::grammar::{Invocation, Spec, flag, needed, only_named, word};
use crate::layout::{Table, escaped, info as line, time};
use crate::session::{Format, Session};

/// The verbs of attached domains.
pub static VERBS: &[Verb] = &[
    Verb {
        spec: Spec::new(
            "attach",
            "attach a domain to the QEMU that runs it: its checkpoints and backups are made there",
            &[
                needed("domain", "domain name, id or uuid"),
                needed(
                    "socket",
                    "QEMU's QMP socket, which only momentlog uses; a relative path is taken \
                     from the working directory",
                ),
                flag("look-only", "change nothing in QEMU: another program manages it"),
            ],
        )
        .changing(),
        run: attach,
    },
    Verb {
        spec: Spec::new(
            "detach",
            "detach a domain from its QEMU, where nothing is changed: its bitmaps stay",
            &[needed("domain", "domain name, id or uuid")],
        )
        .changing(),
        run: detach,
    },
    Verb {
        spec: Spec::new(
            "reconcile",
            "show where log and QEMU differ: exit status 0 if nowhere, 3 if they do, 1 if one could \
             not be looked at",
            &[
                word(
                    "domain",
                    "domain name, id or uuid; by default all that are attached, or that the libvirt \
                     of --libvirt has",
                ),
                flag("repair", "take the steps of the plan"),
                only_named(
                    "libvirt",
                    "URI of a libvirt whose checkpoints are compared, too; nothing is changed there",
                ),
            ],
        )
        .changing()
        .of_now(),
        run: reconcile,
    },
];

pub fn attach(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let socket = absolute(invocation.need("socket"))?;
    let attachment = Attachment {
        driver: Qemu::NAME.into(),
        socket: socket.into(),
        look_only: invocation.has("look-only"),
    };
    domain.attach(&attachment.driver, &attachment.socket, attachment.look_only)?;
    let now = session
        .connection
        .domain_handle(domain.uuid(), domain.name());
    let state = state_word(now.power()?.state);
    let how = if attachment.look_only {
        " to look only"
    } else {
        ""
    };
    session.say(&format!(
        "Domain '{}' attached to {} at {}{how}; it is {state}\n",
        escaped(domain.name()),
        attachment.driver,
        escaped(&attachment.socket)
    ));
    Ok(0)
}

pub fn detach(session: &mut Session, invocation: &Invocation) -> Answer {
    let domain = the_domain(session, invocation)?;
    let attachment = domain.attachment()?;
    domain.detach()?;
    let Some(attachment) = attachment else {
        return Ok(0);
    };
    session.say(&format!(
        "Domain '{}' detached from {} at {}\n",
        escaped(domain.name()),
        attachment.driver,
        escaped(&attachment.socket)
    ));
    Ok(0)
}

/// What became of one domain.
struct Looked {
    domain: String,
    uuid: DomainUuid,
    /// The steps that were taken.
    repaired: Vec<Step>,
    /// What was found, at last; none if it is not attached, or could not be looked at.
    found: Option<Reconciled>,
    /// What libvirt lists; none if it was not to be asked, or could not be.
    listing: Option<Listing>,
    /// What went wrong.
    faults: Vec<String>,
    /// Whether all could be looked at that was to be.
    is_whole: bool,
}

/// A libvirt that is compared as well.
struct Managing<'a> {
    uri: &'a str,
    libvirt: Libvirt,
}

pub fn reconcile(session: &mut Session, invocation: &Invocation) -> Answer {
    if invocation.has("request-id") {
        return Err(Failure::new(
            "reconcile takes no request id: it is safe to ask again",
        ));
    }
    let managing = invocation.get("libvirt").map(|uri| Managing {
        uri,
        libvirt: Libvirt::at(uri),
    });
    let domains = match invocation.get("domain") {
        Some(_) => vec![the_domain(session, invocation)?],
        None => to_be_looked_at(session, invocation, managing.as_ref())?,
    };
    let repair = invocation.has("repair");
    let looked: Vec<Looked> = domains
        .iter()
        .map(|domain| look(domain, repair, managing.as_ref()))
        .collect();
    if session.format == Format::Json {
        let document = report::document(&looked, managing.as_ref());
        session.document(&document);
    } else if looked.is_empty() {
        session.say(match managing {
            None => "No domain is attached\n",
            Some(_) => "No domain is attached, and libvirt has none of them\n",
        });
    } else {
        for (place, domain) in looked.iter().enumerate() {
            if place > 0 {
                session.print("\n");
            }
            show(session, domain, managing.as_ref());
        }
    }
    session.flush();
    for domain in &looked {
        let name = escaped(&domain.domain);
        for fault in &domain.faults {
            Failure::new(format!("domain '{name}': {fault}")).show(session.format);
        }
    }
    Ok(status(&looked))
}

/// The domains that are attached, and those that libvirt has.
fn to_be_looked_at(
    session: &Session,
    invocation: &Invocation,
    managing: Option<&Managing<'_>>,
) -> Result<Vec<Domain>, Failure> {
    let connection = session.connection_for(invocation)?;
    let managed = match managing {
        None => Vec::new(),
        Some(managing) => managing.libvirt.domains().map_err(|error| {
            let uri = managing.uri;
            let why = with_reasons(&error);
            Failure::new(escaped(&format!("cannot ask libvirt at {uri}: {why}")))
        })?,
    };
    let mut found = Vec::new();
    for domain in connection.list_all_domains(DomainListFlags::NONE)? {
        if domain.attachment()?.is_some() || managed.contains(&domain.uuid()) {
            found.push(domain);
        }
    }
    Ok(found)
}

fn look(domain: &Domain, repair: bool, managing: Option<&Managing<'_>>) -> Looked {
    let mut looked = Looked {
        domain: domain.name().to_owned(),
        uuid: domain.uuid(),
        repaired: Vec::new(),
        found: None,
        listing: None,
        faults: Vec::new(),
        is_whole: true,
    };
    // A domain that libvirt manages need not be attached.
    let is_attached = domain
        .attachment()
        .is_ok_and(|attachment| attachment.is_some());
    if is_attached || managing.is_none() {
        look_at_hypervisor(domain, repair, &mut looked);
    }
    if let Some(managing) = managing {
        look_at_libvirt(domain, managing, &mut looked);
    }
    looked
}

/// Looks at the hypervisor of a domain, and takes the steps of the plan if it is to be repaired, up to the first that fails.
fn look_at_hypervisor(domain: &Domain, repair: bool, looked: &mut Looked) {
    let mut reconciled = domain.reconcile();
    if let (Ok(found), true) = (&reconciled, repair) {
        for step in found.plan.clone() {
            if let Err(error) = domain.repair(&step) {
                looked.faults.push(format!(
                    "cannot {}: {}",
                    escaped(&in_words(&step)),
                    error.message()
                ));
                break;
            }
            looked.repaired.push(step);
        }
        if !found.plan.is_empty() {
            reconciled = domain.reconcile();
        }
    }
    match reconciled {
        Ok(found) => {
            let mut disks = found.checkpoints.iter().flat_map(|finding| &finding.disks);
            looked.is_whole &= disks.all(|disk| disk.state != DiskState::Unknown);
            looked.found = Some(found);
        }
        Err(error) => {
            looked.is_whole = false;
            looked.faults.push(error.message().to_owned());
        }
    }
}

fn look_at_libvirt(domain: &Domain, managing: &Managing<'_>, looked: &mut Looked) {
    let told = managing
        .libvirt
        .look(domain.uuid())
        .map_err(|error| escaped(&format!("cannot ask libvirt: {}", with_reasons(&error))));
    let listing = told.and_then(|told| {
        let compared = domain.compare_with_libvirt(Qemu::NAME, &told);
        compared.map_err(|error| error.message().to_owned())
    });
    match listing {
        Ok(listing) => {
            looked.is_whole &= listing.is_whole();
            looked.listing = Some(listing);
        }
        Err(fault) => {
            looked.is_whole = false;
            looked.faults.push(fault);
        }
    }
}

/// 1 if a domain could not be looked at, else 3 if there are differences, else 0.
fn status(looked: &[Looked]) -> u8 {
    let agrees = |domain: &Looked| {
        domain.found.as_ref().is_none_or(Reconciled::agrees)
            && domain.listing.as_ref().is_none_or(Listing::agrees)
    };
    match (
        looked.iter().all(|domain| domain.is_whole),
        looked.iter().all(agrees),
    ) {
        (false, _) => 1,
        (true, false) => 3,
        (true, true) => 0,
    }
}

fn show(session: &mut Session, looked: &Looked, managing: Option<&Managing<'_>>) {
    session.print(&line("Domain", escaped(&looked.domain)));
    let running = match (&looked.found, &looked.listing) {
        (Some(found), _) => Some(found.running),
        (None, listing) => listing.as_ref().map(|listing| listing.running),
    };
    let state = match running {
        None => "cannot be looked at",
        Some(true) => "running",
        Some(false) => "shut off",
    };
    session.print(&line("State", state));
    if let Some(found) = &looked.found {
        show_found(session, looked, found);
    }
    if let (Some(managing), Some(listing)) = (managing, &looked.listing) {
        listing::show(session, managing.uri, looked.uuid, listing);
    }
}

fn show_found(session: &mut Session, looked: &Looked, found: &Reconciled) {
    for step in &looked.repaired {
        session.print(&line("Repaired", escaped(&in_words(step))));
    }
    if !found.checkpoints.is_empty() {
        session.print("\n");
        let mut table = Table::new(&["Checkpoint", "Disk", "State", "Bitmap", "Bytes", "Last ok"]);
        for finding in &found.checkpoints {
            for disk in &finding.disks {
                table.row(vec![
                    finding.checkpoint.to_string(),
                    disk.disk.to_string(),
                    disk.state.as_str().to_owned(),
                    disk.bitmap.to_string(),
                    disk.bytes.map_or("-".to_owned(), |bytes| bytes.to_string()),
                    last_ok(disk),
                ]);
            }
        }
        session.print_table(&table);
    }
    if !found.unrecorded.is_empty() {
        session.print("\n");
        let mut table = Table::new(&["Unrecorded bitmap", "Kind", "Disk", "Image"]);
        for bitmap in &found.unrecorded {
            table.row(vec![
                bitmap.bitmap.to_string(),
                bitmap.kind.as_str().to_owned(),
                bitmap.disk.to_string(),
                bitmap.image.to_string(),
            ]);
        }
        session.print_table(&table);
    }
    if !found.jobs.is_empty() || !found.plan.is_empty() {
        session.print("\n");
    }
    for job in &found.jobs {
        session.print(&line("Open job", job));
    }
    for (number, step) in (1..).zip(&found.plan) {
        let step = escaped(&in_words(step));
        session.print(&line(&format!("Step {number}"), step));
    }
}

/// When a bitmap was last known to be good.
fn last_ok(disk: &DiskFinding) -> String {
    match (disk.state, disk.last_ok) {
        (DiskState::Ok, _) => "now".to_owned(),
        (_, Some(microsecond)) => time(microsecond.div_euclid(1_000_000)),
        (_, None) => "-".to_owned(),
    }
}

/// A step, as what is to be done.
fn in_words(step: &Step) -> String {
    match step {
        Step::RemoveBitmap(found) => format!(
            "remove the {} bitmap {} of {} from {}",
            found.kind.as_str(),
            found.bitmap,
            found.disk,
            found.image
        ),
        Step::DropCheckpoint { checkpoint, why } => {
            format!("drop checkpoint {checkpoint}, which is {why}")
        }
    }
}
