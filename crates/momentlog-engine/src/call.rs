//! Numbers of calls, as records keep them.

use std::fmt;

/// What was called: the number that a record keeps of it.
///
/// libvirt's calls have the numbers of its remote procedures, those of momentlog begin at 0x8000, and 0 is unknown.
/// Numbers are never reused; a number that this version has no name for is kept and shown as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call(pub u16);

/// Declares the calls once: constant, number, name.
macro_rules! calls {
    ($($(#[$doc:meta])* $call:ident = $number:literal $name:literal,)*) => {
        impl Call {
            $($(#[$doc])* pub const $call: Call = Call($number);)*

            /// All calls that this version has names for, by number.
            pub const ALL: &[Call] = &[$(Call::$call),*];

            /// The name of the call; `None` if this version has none for it.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

calls! {
    /// It is not known what was called.
    UNKNOWN = 0 "unknown",
    /// A domain is started.
    CREATE = 9 "virDomainCreate",
    /// A domain is started from its XML.
    CREATE_XML = 10 "virDomainCreateXML",
    /// A domain is defined.
    DEFINE_XML = 11 "virDomainDefineXML",
    /// A guest is stopped.
    DESTROY = 12 "virDomainDestroy",
    /// A device is detached.
    DETACH_DEVICE = 13 "virDomainDetachDevice",
    /// A guest is rebooted.
    REBOOT = 27 "virDomainReboot",
    /// A guest is resumed.
    RESUME = 28 "virDomainResume",
    /// It is set whether a domain starts with its host.
    SET_AUTOSTART = 29 "virDomainSetAutostart",
    /// A guest is asked to shut down.
    SHUTDOWN = 33 "virDomainShutdown",
    /// A guest is paused.
    SUSPEND = 34 "virDomainSuspend",
    /// A definition is given up, without flags.
    UNDEFINE = 35 "virDomainUndefine",
    /// A device is detached, with flags.
    DETACH_DEVICE_FLAGS = 161 "virDomainDetachDeviceFlags",
    /// The job of a domain is aborted.
    ABORT_JOB = 164 "virDomainAbortJob",
    /// A device is changed.
    UPDATE_DEVICE_FLAGS = 174 "virDomainUpdateDeviceFlags",
    /// A snapshot is made or put back.
    SNAPSHOT_CREATE_XML = 185 "virDomainSnapshotCreateXML",
    /// A guest goes back to a snapshot.
    REVERT_TO_SNAPSHOT = 192 "virDomainRevertToSnapshot",
    /// Snapshots are deleted.
    SNAPSHOT_DELETE = 193 "virDomainSnapshotDelete",
    /// A domain is started, with flags.
    CREATE_WITH_FLAGS = 196 "virDomainCreateWithFlags",
    /// A definition is given up, with flags.
    UNDEFINE_FLAGS = 231 "virDomainUndefineFlags",
    /// A guest is stopped, with flags.
    DESTROY_FLAGS = 234 "virDomainDestroyFlags",
    /// A job of a disk is ended.
    BLOCK_JOB_ABORT = 237 "virDomainBlockJobAbort",
    /// What a disk lies on is copied into its image.
    BLOCK_PULL = 240 "virDomainBlockPull",
    /// A guest is reset.
    RESET = 245 "virDomainReset",
    /// A disk gets another size.
    BLOCK_RESIZE = 251 "virDomainBlockResize",
    /// A guest is asked to shut down, with flags.
    SHUTDOWN_FLAGS = 258 "virDomainShutdownFlags",
    /// The title, the description or the metadata of a domain is set.
    SET_METADATA = 264 "virDomainSetMetadata",
    /// A disk is laid on another image.
    BLOCK_REBASE = 266 "virDomainBlockRebase",
    /// An image of a disk is merged into the one below.
    BLOCK_COMMIT = 290 "virDomainBlockCommit",
    /// A disk is copied.
    BLOCK_COPY = 345 "virDomainBlockCopy",
    /// A domain is defined, with flags.
    DEFINE_XML_FLAGS = 350 "virDomainDefineXMLFlags",
    /// A domain gets another name.
    RENAME = 358 "virDomainRename",
    /// A device is detached, by its alias.
    DETACH_DEVICE_ALIAS = 392 "virDomainDetachDeviceAlias",
    /// A checkpoint is made or put back.
    CHECKPOINT_CREATE_XML = 411 "virDomainCheckpointCreateXML",
    /// Checkpoints are deleted.
    CHECKPOINT_DELETE = 417 "virDomainCheckpointDelete",
    /// A backup is begun.
    BACKUP_BEGIN = 421 "virDomainBackupBegin",
    /// The job of a domain is aborted, with flags.
    ABORT_JOB_FLAGS = 442 "virDomainAbortJobFlags",
    /// momentlog itself gives a new store its built-in domain.
    BUILT_IN = 0x8000 "built-in domain",
    /// A typed command.
    EXECUTE = 0x8001 "execute",
    /// The rules of a domain are set.
    SET_POLICY = 0x8002 "set policy",
    /// The store is set.
    SET_SETTINGS = 0x8003 "set settings",
    /// Records are moved to an archive.
    ARCHIVE = 0x8004 "archive",
    /// Moments are put back from a folder of their XML.
    RESTORE_MOMENTS = 0x8005 "restore moments",
    /// A domain is attached to its hypervisor.
    ATTACH = 0x8006 "attach",
    /// A domain is detached from its hypervisor.
    DETACH = 0x8007 "detach",
    /// What was seen of a hypervisor is recorded.
    OBSERVE = 0x8008 "observe",
    /// An open job is settled.
    SETTLE = 0x8009 "settle",
    /// What differs between the log and a hypervisor is put right.
    RECONCILE = 0x800a "reconcile",
    /// A moment is held.
    HOLD = 0x800b "hold",
    /// A hold is released.
    RELEASE = 0x800c "release",
    /// What a deletion took is put back.
    UNDELETE = 0x800d "undelete",
    /// The monitor of a hypervisor is given a command by another program.
    MONITOR_COMMAND = 0x800e "monitor command",
}

impl Call {
    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// Its name, or else its number in hex.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "call {:#06x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_are_those_of_the_page() {
        let page = include_str!("../../../docs/format.md");
        let (_, table) = page.split_once("### Calls").unwrap();
        let mut listed = Vec::new();
        for line in table
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
        {
            let Some(row) = line.strip_prefix("| ") else {
                break;
            };
            let (number, rest) = row.split_once(" | ").unwrap();
            let number = match number.strip_prefix("0x") {
                Some(hex) => u16::from_str_radix(hex, 16),
                None => number.parse(),
            };
            let name = rest.trim_end_matches(" |").split(':').next().unwrap();
            listed.push((Call(number.unwrap()), name));
        }
        let named: Vec<_> = Call::ALL
            .iter()
            .map(|call| (*call, call.name().unwrap()))
            .collect();
        assert_eq!(named, listed);
        assert_eq!(Call(7).to_string(), "call 0x0007");
    }
}
