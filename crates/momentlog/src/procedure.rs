//! libvirt's remote procedures, and which call of this crate each of them is: one table, for a caller that is asked by a number
//! (a socket) or by the name of libvirt's function (a recording).
//!
//! ```
//! use momentlog::Connection;
//! use momentlog::procedure::{Answer, Procedure, Takes};
//!
//! let store = Connection::open("test:///default")?;
//! let lookup = Procedure::by_number(23).expect("virDomainLookupByName");
//! let Takes::Text(call) = lookup.takes() else { panic!("{lookup:?}") };
//! let Answer::Domain(domain) = call(&store, "test")? else { panic!("it finds a domain") };
//!
//! let list = Procedure::by_name("virDomainListAllSnapshots").expect("a procedure");
//! let Takes::DomainList(call) = list.takes() else { panic!("{list:?}") };
//! assert!(matches!(call(&domain, 0)?, Answer::Snapshots(found) if found.is_empty()));
//! let error = call(&domain, 0x1000).unwrap_err();
//! assert!(error.message().ends_with("unsupported flags (0x1000) in function virDomainListAllSnapshots"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A name that libvirt's client answers by itself, such as `virDomainSnapshotGetName`, is no procedure.

use momentlog_core::{DomainUuid, MomentName, RunState};

use crate::checkpoint::Checkpoint;
use crate::connection::Connection;
use crate::domain::{BlockJobInfo, Domain, DomainInfo, JobInfo, MetadataKind};
use crate::error::{Result, refuse_bits};
use crate::flags::{Flags, UndefineFlags};
use crate::snapshot::Snapshot;

/// One of libvirt's remote procedures that this crate answers.
#[derive(Clone, Copy, Debug)]
pub struct Procedure {
    number: u16,
    name: &'static str,
    takes: Takes,
}

impl Procedure {
    /// All of them, by number.
    pub const ALL: &'static [Procedure] = TABLE;

    /// Returns the procedure of this number, if this crate answers it.
    pub fn by_number(number: u16) -> Option<&'static Procedure> {
        let found = TABLE.binary_search_by_key(&number, |procedure| procedure.number);
        found.ok().map(|index| &TABLE[index])
    }

    /// Returns the procedure of libvirt's function of this name, if this crate answers it.
    pub fn by_name(name: &str) -> Option<&'static Procedure> {
        TABLE.iter().find(|procedure| procedure.name == name)
    }

    /// The number in libvirt's remote protocol. It is that of [`Call`](crate::Call) where the call is recorded.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The name of libvirt's function.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it takes, with the call to make.
    pub fn takes(&self) -> Takes {
        self.takes
    }
}

/// Three texts, each of which may be missing.
pub type ThreeTexts<'a> = [Option<&'a str>; 3];

/// What a procedure is called on and with, in the order of the protocol, and the call that it makes.
///
/// The word of flags is the last argument, and every bit of it reaches the call. In the protocol a list also takes, before
/// its flags, how much of it is wanted; the calls here answer all of it.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// The number of a running domain.
    Id(fn(&Connection, u32) -> Result<Answer>),
    /// The uuid of a domain.
    Uuid(fn(&Connection, DomainUuid) -> Result<Answer>),
    /// A domain's name, or XML.
    Text(fn(&Connection, &str) -> Result<Answer>),
    /// XML, and flags.
    TextFlags(fn(&Connection, &str, u32) -> Result<Answer>),
    /// Flags, for a list.
    List(fn(&Connection, u32) -> Result<Answer>),
    /// A domain.
    Domain(fn(&Domain) -> Result<Answer>),
    /// A domain, and whether something is on.
    DomainSwitch(fn(&Domain, bool) -> Result<Answer>),
    /// A domain and flags.
    DomainFlags(fn(&Domain, u32) -> Result<Answer>),
    /// A domain, a name or XML, and flags.
    DomainTextFlags(fn(&Domain, &str, u32) -> Result<Answer>),
    /// A domain, XML, other XML or none, and flags.
    DomainTextsFlags(fn(&Domain, &str, Option<&str>, u32) -> Result<Answer>),
    /// A domain, texts, and flags.
    DomainNamesFlags(fn(&Domain, &[&str], u32) -> Result<Answer>),
    /// A domain, what is asked for, a namespace or none, and flags.
    DomainMetadata(fn(&Domain, i32, Option<&str>, u32) -> Result<Answer>),
    /// A domain, what is set, three texts or none (the new one, the prefix and the namespace of an element), and flags.
    DomainSetMetadata(fn(&Domain, i32, ThreeTexts<'_>, u32) -> Result<Answer>),
    /// A domain and flags, for a list.
    DomainList(fn(&Domain, u32) -> Result<Answer>),
    /// A snapshot and flags.
    SnapshotFlags(fn(&Snapshot, u32) -> Result<Answer>),
    /// A snapshot and flags, for a list.
    SnapshotList(fn(&Snapshot, u32) -> Result<Answer>),
    /// A checkpoint and flags.
    CheckpointFlags(fn(&Checkpoint, u32) -> Result<Answer>),
    /// A checkpoint and flags, for a list.
    CheckpointList(fn(&Checkpoint, u32) -> Result<Answer>),
}

/// Declares what procedures answer, each from the type that the call returns.
macro_rules! answers {
    ($($(#[$doc:meta])* $answer:ident($type:ty),)*) => {
        /// What a procedure answers.
        #[derive(Clone, Debug)]
        pub enum Answer {
            /// It is done.
            Done,
            $($(#[$doc])* $answer($type),)*
        }

        impl From<()> for Answer {
            fn from((): ()) -> Answer {
                Answer::Done
            }
        }

        $(impl From<$type> for Answer {
            fn from(answer: $type) -> Answer {
                Answer::$answer(answer)
            }
        })*
    };
}

answers! {
    /// Yes or no.
    Is(bool),
    /// A number.
    Count(usize),
    /// A size in KiB.
    Size(u64),
    /// The state, memory and processors of a guest.
    Info(DomainInfo),
    /// Run state and reason, as libvirt numbers it.
    State((RunState, u8)),
    /// The job of a domain, if there is one.
    Job(Option<JobInfo>),
    /// The copy of a disk, if there is one.
    BlockJob(Option<BlockJobInfo>),
    /// XML, or another text.
    Text(String),
    /// A domain.
    Domain(Domain),
    /// Domains, in the order of the listing.
    Domains(Vec<Domain>),
    /// A snapshot.
    Snapshot(Snapshot),
    /// Snapshots, in the order of the listing.
    Snapshots(Vec<Snapshot>),
    /// A checkpoint.
    Checkpoint(Checkpoint),
    /// Checkpoints, in the order of the listing.
    Checkpoints(Vec<Checkpoint>),
    /// Names of moments, in the order of the listing.
    Names(Vec<MomentName>),
}

/// Makes the table. A call marked `(no)` knows no flag, and refuses any bit before it is made.
macro_rules! table {
    (@ $name:literal $takes:ident (no) |$($argument:ident),*| $call:expr) => {
        Takes::$takes(|$($argument,)* flags| {
            refuse_bits(flags, $name)?;
            $call.map(Answer::from)
        })
    };
    (@ $name:literal $takes:ident |$($argument:ident),*| $call:expr) => {
        Takes::$takes(|$($argument),*| $call.map(Answer::from))
    };
    ($($number:literal $name:literal $takes:ident $(($no:ident))? |$($argument:ident),*| $call:expr;)*) => {
        const TABLE: &[Procedure] = &[$(Procedure {
            number: $number,
            name: $name,
            takes: table!(@ $name $takes $(($no))? |$($argument),*| $call),
        }),*];
    };
}

table! {
    9   "virDomainCreate" Domain |domain| domain.start();
    10  "virDomainCreateXML" TextFlags |connection, xml, flags| connection.create_domain_xml_flags(xml, typed(flags));
    11  "virDomainDefineXML" Text |connection, xml| connection.define_domain_xml(xml);
    12  "virDomainDestroy" Domain |domain| domain.destroy();
    14  "virDomainGetXMLDesc" DomainFlags |domain, flags| domain.xml_desc(typed(flags));
    15  "virDomainGetAutostart" Domain |domain| domain.autostart();
    16  "virDomainGetInfo" Domain |domain| domain.info();
    17  "virDomainGetMaxMemory" Domain |domain| domain.max_memory();
    19  "virDomainGetOSType" Domain |domain| domain.os_type();
    22  "virDomainLookupByID" Id |connection, id| connection.lookup_domain_by_id(id);
    23  "virDomainLookupByName" Text |connection, name| connection.lookup_domain_by_name(name);
    24  "virDomainLookupByUUID" Uuid |connection, uuid| connection.lookup_domain_by_uuid(uuid);
    27  "virDomainReboot" DomainFlags |domain, flags| domain.reboot(typed(flags));
    28  "virDomainResume" Domain |domain| domain.resume();
    29  "virDomainSetAutostart" DomainSwitch |domain, on| domain.set_autostart(on);
    33  "virDomainShutdown" Domain |domain| domain.shutdown();
    34  "virDomainSuspend" Domain |domain| domain.suspend();
    35  "virDomainUndefine" Domain |domain| domain.undefine(UndefineFlags::NONE);
    150 "virDomainIsActive" Domain |domain| domain.is_active();
    151 "virDomainIsPersistent" Domain |domain| domain.is_persistent();
    163 "virDomainGetJobInfo" Domain |domain| domain.running_job();
    164 "virDomainAbortJob" Domain |domain| domain.abort_job();
    183 "virDomainHasManagedSaveImage" DomainFlags(no) |domain| domain.has_managed_save_image();
    185 "virDomainSnapshotCreateXML" DomainTextFlags |domain, xml, flags| domain.snapshot_create_xml(xml, typed(flags));
    186 "virDomainSnapshotGetXMLDesc" SnapshotFlags |snapshot, flags| snapshot.xml_desc(typed(flags));
    187 "virDomainSnapshotNum" DomainFlags |domain, flags| domain.snapshot_num(typed(flags));
    188 "virDomainSnapshotListNames" DomainList |domain, flags| domain.snapshot_list_names(typed(flags));
    189 "virDomainSnapshotLookupByName" DomainTextFlags(no) |domain, name| domain.snapshot_lookup_by_name(name);
    190 "virDomainHasCurrentSnapshot" DomainFlags(no) |domain| domain.has_current_snapshot();
    191 "virDomainSnapshotCurrent" DomainFlags(no) |domain| domain.snapshot_current();
    192 "virDomainRevertToSnapshot" SnapshotFlags |snapshot, flags| snapshot.revert(typed(flags));
    193 "virDomainSnapshotDelete" SnapshotFlags |snapshot, flags| snapshot.delete(typed(flags));
    196 "virDomainCreateWithFlags" DomainFlags |domain, flags| domain.start_with_flags(typed(flags));
    202 "virDomainIsUpdated" Domain |domain| domain.is_updated();
    212 "virDomainGetState" DomainFlags(no) |domain| domain.state();
    231 "virDomainUndefineFlags" DomainFlags |domain, flags| domain.undefine(typed(flags));
    234 "virDomainDestroyFlags" DomainFlags |domain, flags| domain.destroy_flags(typed(flags));
    238 "virDomainGetBlockJobInfo" DomainTextFlags |domain, disk, flags| domain.block_job_info(disk, typed(flags));
    244 "virDomainSnapshotGetParent" SnapshotFlags(no) |snapshot| snapshot.parent_unless_root();
    245 "virDomainReset" DomainFlags(no) |domain| domain.reset();
    246 "virDomainSnapshotNumChildren" SnapshotFlags |snapshot, flags| snapshot.num_children(typed(flags));
    247 "virDomainSnapshotListChildrenNames" SnapshotList |snapshot, flags| snapshot.list_children_names(typed(flags));
    258 "virDomainShutdownFlags" DomainFlags |domain, flags| domain.shutdown_flags(typed(flags));
    264 "virDomainSetMetadata" DomainSetMetadata |domain, kind, texts, flags| set_metadata(domain, kind, texts, flags);
    265 "virDomainGetMetadata" DomainMetadata |domain, kind, uri, flags| domain.metadata(MetadataKind(kind), uri, typed(flags));
    271 "virDomainSnapshotIsCurrent" SnapshotFlags(no) |snapshot| snapshot.is_current();
    272 "virDomainSnapshotHasMetadata" SnapshotFlags(no) |snapshot| snapshot.has_metadata();
    273 "virConnectListAllDomains" List |connection, flags| connection.list_all_domains(typed(flags));
    274 "virDomainListAllSnapshots" DomainList |domain, flags| domain.list_all_snapshots(typed(flags));
    275 "virDomainSnapshotListAllChildren" SnapshotList |snapshot, flags| snapshot.list_all_children(typed(flags));
    298 "virDomainGetJobStats" DomainFlags |domain, flags| domain.job_stats(typed(flags));
    335 "virDomainFSFreeze" DomainNamesFlags |domain, mountpoints, flags| domain.fs_freeze(mountpoints, typed(flags));
    336 "virDomainFSThaw" DomainNamesFlags |domain, mountpoints, flags| domain.fs_thaw(mountpoints, typed(flags));
    350 "virDomainDefineXMLFlags" TextFlags |connection, xml, flags| connection.define_domain_xml_flags(xml, typed(flags));
    358 "virDomainRename" DomainTextFlags |domain, name, flags| domain.rename(name, typed(flags));
    411 "virDomainCheckpointCreateXML" DomainTextFlags |domain, xml, flags| domain.checkpoint_create_xml(xml, typed(flags));
    412 "virDomainCheckpointGetXMLDesc" CheckpointFlags |checkpoint, flags| checkpoint.xml_desc(typed(flags));
    413 "virDomainListAllCheckpoints" DomainList |domain, flags| domain.list_all_checkpoints(typed(flags));
    414 "virDomainCheckpointListAllChildren" CheckpointList |checkpoint, flags| checkpoint.list_all_children(typed(flags));
    415 "virDomainCheckpointLookupByName" DomainTextFlags(no) |domain, name| domain.checkpoint_lookup_by_name(name);
    416 "virDomainCheckpointGetParent" CheckpointFlags(no) |checkpoint| checkpoint.parent_unless_root();
    417 "virDomainCheckpointDelete" CheckpointFlags |checkpoint, flags| checkpoint.delete(typed(flags));
    421 "virDomainBackupBegin" DomainTextsFlags |domain, xml, checkpoint, flags| domain.backup_begin(xml, checkpoint, typed(flags));
    422 "virDomainBackupGetXMLDesc" DomainFlags |domain, flags| domain.backup_xml_desc(typed(flags));
}

fn set_metadata(
    domain: &Domain,
    kind: i32,
    [text, key, uri]: ThreeTexts<'_>,
    flags: u32,
) -> Result<()> {
    domain.set_metadata(MetadataKind(kind), text, key, uri, typed(flags))
}

/// A word of flags as those of the call, unknown ones included.
fn typed<F: Flags>(word: u32) -> F {
    F::from_bits_retain(word)
}

#[cfg(test)]
mod tests {
    use momentlog_engine::Call;

    use super::*;

    #[test]
    fn the_procedures_are_those_of_the_page() {
        let page = include_str!("../../../docs/libvirt.md");
        let (_, section) = page.split_once("### Procedures").unwrap();
        let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
        let listed: Vec<(u16, &str)> = rows
            .skip(1)
            .map_while(|line| line.strip_prefix("| ")?.split_once(" | "))
            .map(|(number, name)| {
                let (name, _) = name.split_once(' ').unwrap();
                (number.parse().unwrap(), name.trim_matches('`'))
            })
            .collect();
        let named = Procedure::ALL.iter();
        let named: Vec<_> = named.map(|one| (one.number(), one.name())).collect();
        assert_eq!(named, listed);
        assert!(named.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn every_call_of_libvirt_that_is_recorded_is_a_procedure_of_its_number_and_name() {
        // What only a proxy records.
        let forwarded = [13, 161, 174, 237, 240, 251, 266, 290, 345, 392, 442];
        for number in forwarded {
            assert!(Procedure::by_number(number).is_none(), "{number}");
            assert!(Call(number).name().is_some(), "{number}");
        }
        let calls = Call::ALL.iter().filter(|call| {
            (1..0x8000).contains(&call.number()) && !forwarded.contains(&call.number())
        });
        for call in calls {
            let procedure = Procedure::by_number(call.number()).unwrap();
            assert_eq!(Some(procedure.name()), call.name());
            assert_eq!(
                Procedure::by_name(procedure.name()).unwrap().number(),
                call.number()
            );
        }
        assert!(Procedure::by_number(1).is_none());
        assert!(Procedure::by_name("virDomainSnapshotGetName").is_none());
    }
}
