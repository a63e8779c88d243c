//! Options of virsh that concern the host: its consoles, files, caches and guest agents.
//!
//! A store of one's own takes them without effect, as there is nothing on the host to do. On the profile of libvirt's test
//! driver they are refused as that driver refuses their flags.

use std::sync::Arc;

use momentlog::core::Profile;
use momentlog::{Connection, Domain, Provenance};

use crate::failure::{Failure, complain};
use crate::grammar::Invocation;

/// One call of libvirt, with the options that become its flags.
pub struct Call {
    /// What the test driver calls it in its refusal.
    function: &'static str,
    flags: &'static [(&'static str, u32)],
}

/// `virDomainCreateWithFlags`. virsh takes `--force-boot` itself where there is no saved guest.
pub const START: Call = Call {
    function: "testDomainCreateWithFlags",
    flags: &[
        ("paused", 1),
        ("autodestroy", 2),
        ("bypass-cache", 4),
        ("reset-nvram", 32),
    ],
};

/// `virDomainCreateXML`.
pub const CREATE: Call = Call {
    function: "testDomainCreateXML",
    flags: &[("paused", 1), ("autodestroy", 2), ("reset-nvram", 32)],
};

/// `virDomainDestroyFlags`. The test driver takes `--graceful`.
pub const DESTROY: Call = Call {
    function: "testDomainDestroyFlags",
    flags: &[("remove-logs", 2)],
};

/// `virDomainGetXMLDesc`. The test driver takes `--migratable`.
pub const DUMP: Call = Call {
    function: "testDomainGetXMLDesc",
    flags: &[("update-cpu", 4)],
};

impl Call {
    /// Refuses the options that the store's driver refuses; the message is the library's.
    ///
    /// # Errors
    ///
    /// The refusal of the test driver; or that nothing here could end a guest when its connection does.
    pub fn vet(&self, connection: &Connection, invocation: &Invocation) -> Result<(), String> {
        let given = self.flags.iter().filter(|(name, _)| invocation.has(name));
        let flags = given.fold(0, |flags, (_, bit)| flags | bit);
        refuse(connection, flags, self.function)?;
        if invocation.verb.takes("autodestroy") && invocation.has("autodestroy") {
            return Err(
                "unsupported option --autodestroy: a record outlives the connection that made it"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

fn refuse(connection: &Connection, flags: u32, function: &str) -> Result<(), String> {
    let is_test = connection.view().state().profile() == Profile::LibvirtTest;
    if is_test && flags != 0 {
        return Err(format!(
            "unsupported flags (0x{flags:x}) in function {function}"
        ));
    }
    Ok(())
}

/// Refuses ways of shutting down that do not exist.
///
/// # Errors
///
/// virsh's words for it.
pub fn vet_modes(invocation: &Invocation) -> Result<u32, Failure> {
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
    Ok(flags)
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

/// Refuses the modes of a shutdown where the test driver does.
///
/// # Errors
///
/// Its refusal.
pub fn refuse_modes(connection: &Connection, flags: u32) -> Result<(), String> {
    refuse(connection, flags, "testDomainShutdownFlags")
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
