//! Flags of calls: typed, with libvirt's bits.

/// Any of the sets.
pub(crate) trait Flags {
    fn from_bits_retain(bits: u32) -> Self;
}

/// Defines a set of flags: a word of libvirt's bits, of which some may have no name here.
macro_rules! flags {
    ($(#[$meta:meta])* $type:ident { $($(#[$flag_meta:meta])* $flag:ident = $bits:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $type(u32);

        impl $type {
            /// No flag.
            pub const NONE: $type = $type(0);
            $($(#[$flag_meta])* pub const $flag: $type = $type($bits);)*
            /// Every flag that has a name here.
            pub const ALL: $type = $type(0 $(| $bits)*);

            /// The word of bits.
            pub fn bits(self) -> u32 {
                self.0
            }

            /// Returns the flags with these bits, or `None` if one of them has no name here.
            pub fn from_bits(bits: u32) -> Option<$type> {
                (bits & !$type::ALL.0 == 0).then_some($type(bits))
            }

            /// Returns the flags with these bits, unknown ones included: a call refuses those where libvirt does, after
            /// read-only and flags that exclude each other.
            pub const fn from_bits_retain(bits: u32) -> $type {
                $type(bits)
            }

            /// Refuses flags but `known`'s; libvirt names only the others.
            pub(crate) fn refuse_all_but(self, known: $type, function: &str) -> crate::Result<()> {
                crate::error::refuse_bits(self.0 & !known.0, function)
            }

            /// Returns these flags and `other`'s, in constants, too.
            #[must_use]
            pub const fn union(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }

            /// Whether all of `other`'s flags are set.
            #[must_use]
            pub fn contains(self, other: $type) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other`'s flags is set.
            #[must_use]
            pub fn intersects(self, other: $type) -> bool {
                self.0 & other.0 != 0
            }

            /// Returns these flags but for `other`'s.
            #[must_use]
            pub fn without(self, other: $type) -> $type {
                $type(self.0 & !other.0)
            }

            /// Returns these flags, and `other` if `set` says so.
            #[must_use]
            pub fn with(self, other: $type, set: bool) -> $type {
                if set { $type(self.0 | other.0) } else { self }
            }
        }

        impl Flags for $type {
            fn from_bits_retain(bits: u32) -> $type {
                $type(bits)
            }
        }

        impl std::ops::BitOr for $type {
            type Output = $type;

            fn bitor(self, other: $type) -> $type {
                $type(self.0 | other.0)
            }
        }
    };
}

flags! {
    /// `virDomainSnapshotCreateFlags`.
    SnapshotCreateFlags {
        /// Put a record back, or change it.
        REDEFINE = 1,
        /// With `REDEFINE`: make it current.
        CURRENT = 2,
        /// Refused: a log is metadata.
        NO_METADATA = 4,
        /// Shut the guest off afterwards.
        HALT = 8,
        /// Keep the disks alone, in overlays. `test:///default` refuses it.
        DISK_ONLY = 16,
        /// The overlays are there already. It concerns the host, and the record keeps that it was asked;
        /// `test:///default` refuses it.
        REUSE_EXT = 32,
        /// The guest's file systems are quiet meanwhile. It concerns the host, and the record keeps that it was asked;
        /// a store of one's own wants `DISK_ONLY` with it.
        QUIESCE = 64,
        /// All disks, or none. It concerns the host, and the record keeps that it was asked.
        ATOMIC = 128,
        /// The guest runs on meanwhile. It concerns the host, and the record keeps that it was asked; a store of one's
        /// own wants an external memory file with it.
        LIVE = 256,
        /// Check the XML against the schema.
        VALIDATE = 512,
    }
}

flags! {
    /// `virDomainSnapshotXMLFlags`.
    SnapshotXmlFlags {
        /// Show secrets, too.
        SECURE = 1,
    }
}

flags! {
    /// `virDomainSnapshotListFlags`. The first bit reads two ways.
    SnapshotListFlags {
        /// Listing a domain: only snapshots without a parent.
        ROOTS = 1,
        /// Listing a snapshot's children: everything below it.
        DESCENDANTS = 1,
        /// Only snapshots with metadata, which all have.
        METADATA = 2,
        /// Only snapshots without children.
        LEAVES = 4,
        /// Only snapshots with children.
        NO_LEAVES = 8,
        /// Only snapshots without metadata, which none is.
        NO_METADATA = 16,
        /// Only snapshots of a guest that was off.
        INACTIVE = 32,
        /// Only snapshots of a guest that was active.
        ACTIVE = 64,
        /// Only snapshots of disks alone.
        DISK_ONLY = 128,
        /// Only snapshots inside the disks' images.
        INTERNAL = 256,
        /// Only snapshots with a file of their own.
        EXTERNAL = 512,
        /// Parents before children; every list here is in that order.
        TOPOLOGICAL = 1024,
    }
}

flags! {
    /// `virDomainSnapshotRevertFlags`.
    RevertFlags {
        /// Run the guest afterwards.
        RUNNING = 1,
        /// Pause the guest afterwards.
        PAUSED = 2,
        /// Taken; nothing here is risky.
        FORCE = 4,
        /// Begin with fresh firmware variables. It concerns the host, and the record keeps that it was asked;
        /// `test:///default` refuses it.
        RESET_NVRAM = 8,
    }
}

flags! {
    /// `virDomainSnapshotDeleteFlags`.
    SnapshotDeleteFlags {
        /// Delete everything below, too.
        CHILDREN = 1,
        /// Delete the record alone; nothing else is kept here. `test:///default` refuses it.
        METADATA_ONLY = 2,
        /// Delete everything below, and keep the snapshot.
        CHILDREN_ONLY = 4,
    }
}

flags! {
    /// `virDomainCheckpointCreateFlags`.
    CheckpointCreateFlags {
        /// Put a record back, or change it.
        REDEFINE = 1,
        /// Taken without effect.
        QUIESCE = 2,
        /// With `REDEFINE`: the bitmaps are to be there, too. It concerns the host, where nothing is looked at here;
        /// the record keeps that it was asked. `test:///default` refuses it.
        REDEFINE_VALIDATE = 4,
    }
}

flags! {
    /// `virDomainCheckpointXMLFlags`.
    CheckpointXmlFlags {
        /// Show secrets, too.
        SECURE = 1,
        /// Leave the domain out.
        NO_DOMAIN = 2,
        /// Measure the disks: needs an active domain, and shows no size here.
        SIZE = 4,
    }
}

flags! {
    /// `virDomainCheckpointListFlags`. The first bit reads two ways.
    CheckpointListFlags {
        /// Listing a domain: only checkpoints without a parent.
        ROOTS = 1,
        /// Listing a checkpoint's children: everything below it.
        DESCENDANTS = 1,
        /// Parents before children; every list here is in that order.
        TOPOLOGICAL = 2,
        /// Only checkpoints without children.
        LEAVES = 4,
        /// Only checkpoints with children.
        NO_LEAVES = 8,
    }
}

flags! {
    /// `virDomainCheckpointDeleteFlags`.
    CheckpointDeleteFlags {
        /// Delete everything below, too.
        CHILDREN = 1,
        /// Delete the record alone; nothing else is kept here.
        METADATA_ONLY = 2,
        /// Delete everything below, and keep the checkpoint.
        CHILDREN_ONLY = 4,
    }
}

flags! {
    /// `virDomainBackupBeginFlags`.
    BackupBeginFlags {
        /// The files that are written to are there already.
        REUSE_EXTERNAL = 1,
    }
}

flags! {
    /// The flags of `virDomainBackupGetXMLDesc`, which has none.
    BackupXmlFlags {}
}

flags! {
    /// `virDomainGetJobStatsFlags`.
    JobStatsFlags {
        /// The job that has ended last.
        COMPLETED = 1,
        /// What is known of it stays: here it always does.
        KEEP_COMPLETED = 2,
    }
}

flags! {
    /// `virDomainBlockJobInfoFlags`.
    BlockJobInfoFlags {
        /// The limit of a job's speed in bytes. Backups have no limit.
        BANDWIDTH_BYTES = 1,
    }
}

flags! {
    /// The flags of `virDomainFSFreeze`, which has none.
    FsFreezeFlags {}
}

flags! {
    /// The flags of `virDomainFSThaw`, which has none.
    FsThawFlags {}
}

flags! {
    /// `virDomainUndefineFlagsValues`. What concerns the host has no effect here, and the record keeps that it was asked.
    UndefineFlags {
        /// The guest's saved state goes, too.
        MANAGED_SAVE = 1,
        /// The snapshots of an inactive domain may go with it.
        SNAPSHOTS_METADATA = 2,
        /// The firmware's variables go, too. `test:///default` refuses it.
        NVRAM = 4,
        /// The firmware's variables stay. `test:///default` refuses it.
        KEEP_NVRAM = 8,
        /// The checkpoints may go with it, as they do anyway. `test:///default` refuses it.
        CHECKPOINTS_METADATA = 16,
        /// The state of the guest's TPM goes, too. `test:///default` refuses it.
        TPM = 32,
        /// The state of the guest's TPM stays. `test:///default` refuses it.
        KEEP_TPM = 64,
        /// The caller removes the disks' storage as well. momentlog's own bit: virsh does that by itself, and libvirt has
        /// no flag for it. `test:///default` refuses it.
        STORAGE = 0x8000_0000,
    }
}

flags! {
    /// `virDomainDefineFlags`.
    DefineFlags {
        /// Check the XML against the schema. Taken without effect: what is not read is kept.
        VALIDATE = 1,
    }
}

flags! {
    /// `virDomainCreateFlags`. What concerns the host has no effect here, and the record keeps that it was asked.
    StartFlags {
        /// Leave the guest paused. `test:///default` refuses it.
        PAUSED = 1,
        /// End the guest when its connection ends. Refused: a record outlives the connection that made it.
        AUTODESTROY = 2,
        /// Keep the saved guest out of the caches of the host. `test:///default` refuses it.
        BYPASS_CACHE = 4,
        /// Forget the saved guest. `test:///default` refuses it.
        FORCE_BOOT = 8,
        /// Check the XML against the schema. Taken without effect, and only where there is XML.
        VALIDATE = 16,
        /// Begin with fresh firmware variables. `test:///default` refuses it.
        RESET_NVRAM = 32,
    }
}

flags! {
    /// `virDomainDestroyFlagsValues`. They concern the host, and the record keeps that it was asked.
    DestroyFlags {
        /// Never by force.
        GRACEFUL = 1,
        /// Remove the guest's logs. `test:///default` refuses it.
        REMOVE_LOGS = 2,
    }
}

flags! {
    /// `virDomainShutdownFlagValues`: how the guest is asked. The record keeps it; `test:///default` refuses all of them.
    ShutdownFlags {
        /// By the power button.
        ACPI = 1,
        /// By the guest agent.
        AGENT = 2,
        /// By the init process.
        INITCTL = 4,
        /// By a signal.
        SIGNAL = 8,
        /// By the paravirtual bus.
        PARAVIRT = 16,
    }
}

flags! {
    /// The flags of `virDomainRename`, which has none.
    RenameFlags {}
}

flags! {
    /// `virDomainModificationImpact`: which definition is meant. Neither means that of the guest if it is active, else that
    /// of the next start.
    AffectFlags {
        /// That of the guest, which must be active.
        LIVE = 1,
        /// That of the next start.
        CONFIG = 2,
    }
}

flags! {
    /// `virDomainXMLFlags`.
    DomainXmlFlags {
        /// Show secrets, too.
        SECURE = 1,
        /// The definition of the next start.
        INACTIVE = 2,
        /// Fill in the host's CPU. Taken without effect; `test:///default` refuses it.
        UPDATE_CPU = 4,
        /// For a migration, which sees secrets. Taken without another effect.
        MIGRATABLE = 8,
    }
}

flags! {
    /// `virConnectListAllDomainsFlags`.
    DomainListFlags {
        /// Only active domains.
        ACTIVE = 1,
        /// Only inactive domains.
        INACTIVE = 2,
        /// Only domains that outlive their guest.
        PERSISTENT = 4,
        /// Only domains that do not.
        TRANSIENT = 8,
        /// Only domains whose guest runs.
        RUNNING = 16,
        /// Only domains whose guest is paused.
        PAUSED = 32,
        /// Only domains whose guest is off.
        SHUTOFF = 64,
        /// Only domains whose guest is in another state.
        OTHER = 128,
        /// Only domains with a saved guest, which none has.
        MANAGED_SAVE = 256,
        /// Only domains without a saved guest.
        NO_MANAGED_SAVE = 512,
        /// Only domains that start with their host.
        AUTOSTART = 1024,
        /// Only domains that do not.
        NO_AUTOSTART = 2048,
        /// Only domains with snapshots.
        HAS_SNAPSHOT = 4096,
        /// Only domains without snapshots.
        NO_SNAPSHOT = 8192,
        /// Only domains with checkpoints.
        HAS_CHECKPOINT = 16384,
        /// Only domains without checkpoints.
        NO_CHECKPOINT = 32768,
    }
}
