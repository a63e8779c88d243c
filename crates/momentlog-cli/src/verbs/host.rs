//! Options of virsh that concern the host: its consoles, files, caches and guest agents.
//!
//! A store of one's own takes them without effect, as there is nothing on the host to do. The library refuses those that the
//! store's driver does not take.

use std::sync::Arc;

use momentlog::core::Profile;
use momentlog::{Domain, Provenance, ShutdownFlags, StartFlags};

use crate::failure::{Failure, complain};
use crate::grammar::Invocation;

/// The flags of a start. virsh takes `--force-boot` itself where there is no saved guest.
pub fn start_flags(invocation: &Invocation) -> StartFlags {
    [
        ("paused", StartFlags::PAUSED),
        ("autodestroy", StartFlags::AUTODESTROY),
        ("bypass-cache", StartFlags::BYPASS_CACHE),
        ("validate", StartFlags::VALIDATE),
        ("reset-nvram", StartFlags::RESET_NVRAM),
    ]
    .into_iter()
    .filter(|(option, _)| invocation.verb.takes(option) && invocation.has(option))
    .fold(StartFlags::NONE, |flags, (_, flag)| flags | flag)
}

/// The flags of a shutdown.
///
/// # Errors
///
/// virsh's words for a way of shutting down that does not exist.
pub fn shutdown_flags(invocation: &Invocation) -> Result<ShutdownFlags, Failure> {
    const MODES: [&str; 5] = ["acpi", "agent", "initctl", "signal", "paravirt"];
    let mut flags = 0;
    for mode in invocation
        .get("mode")
        .into_iter()
        .flat_map(|modes| modes.split(','))
    {
        let known = MODES.iter().position(|known| *known == mode);
        let bit = known.ok_or_else(|| {
            Failure::new(format!(
                "Unknown mode {mode} value, expecting 'acpi', 'agent', 'initctl', 'signal', or 'paravirt'"
            ))
        })?;
        flags |= 1 << bit;
    }
    Ok(ShutdownFlags::from_bits_retain(flags))
}

/// Looks for the disks whose storage is to be removed with the domain, as virsh does. Returns whether the record keeps that
/// it was asked; on the profile of libvirt's test driver, which knows no such storage, virsh says so and goes on.
///
/// # Errors
///
/// virsh's words for a domain that runs, and for a disk that it does not have.
pub fn vet_storage(domain: &Domain, invocation: &Invocation) -> Result<bool, Failure> {
    if domain.is_active()? {
        let why = "Storage volume deletion is supported only on stopped domains";
        return Err(Failure::new(why));
    }
    let mut disks = domain.disks(true)?;
    if let Some(wanted) = invocation.get("storage") {
        let named =
            |[_, _, target, source]: &[String; 4], name: &str| target == name || source == name;
        for name in wanted.split(',') {
            if !disks.iter().any(|disk| named(disk, name)) {
                return Err(Failure::new(format!(
                    "Volume '{name}' was not found in domain's definition.\n"
                )));
            }
        }
        disks.retain(|disk| wanted.split(',').any(|name| named(disk, name)));
    }
    if domain.connection().view().state().profile() == Profile::Own {
        return Ok(true);
    }
    for [_, _, target, source] in disks.iter().filter(|[_, _, _, source]| source != "-") {
        complain(&[format!(
            "Storage volume '{target}'({source}) is not managed by libvirt. Remove it manually.\n"
        )]);
    }
    Ok(false)
}

/// Refuses file descriptors that are no numbers. A guest that is only recorded gets none.
///
/// # Errors
///
/// virsh's words for it.
pub fn vet_fds(invocation: &Invocation) -> Result<(), Failure> {
    let given = invocation.get("pass-fds").into_iter();
    let mut wrong = given
        .flat_map(|fds| fds.split(','))
        .filter(|fd| fd.parse::<u32>().is_err());
    match wrong.next() {
        None => Ok(()),
        Some(fd) => Err(Failure::new(format!("Unable to parse FD number '{fd}'"))),
    }
}

/// Returns the same domain for a second record of one command: under a request id that follows from the command's.
pub fn again(domain: &Domain, what: &str) -> Domain {
    let connection = domain.connection();
    let base = connection.provenance().clone();
    let request_id = base.request_id.as_deref();
    let request_id = request_id.map(|id| Arc::from(format!("{id} ({what})")));
    connection
        .with_provenance(Provenance {
            request_id,
            expected_revision: None,
            ..base
        })
        .domain_handle(domain.uuid(), domain.name())
}
