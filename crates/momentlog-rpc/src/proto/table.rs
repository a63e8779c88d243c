//! The procedures and events of the remote program that momentlog knows.

use super::Access::{Read, ReadUnless, Write};
use super::Shape::{
    Chars, Domain, Domains, Int, Ints, Model, Moment, Moments, OptDomain, OptText, Params, Stats,
    Text, Texts, UInt, ULong, Uuid,
};
use super::{Event, LIST_COUNT_MAX, Procedure, Tier};

/// Most ways to authenticate.
const AUTH_COUNT_MAX: usize = 20;

/// Most messages of a domain.
const MESSAGES_COUNT_MAX: usize = 2048;

/// Most parameters of a domain's scheduler.
const SCHEDULER_COUNT_MAX: usize = 16;

/// Most statistics of a job.
const JOB_COUNT_MAX: usize = 64;

/// Most mount points of a guest.
const MOUNTPOINTS_COUNT_MAX: usize = 256;

/// Longest name of a security model, in characters.
const MODEL_LEN_MAX: usize = 257;

/// Longest security label, in characters.
const LABEL_LEN_MAX: usize = 4097;

/// `VIR_DOMAIN_XML_SECURE` and `VIR_DOMAIN_XML_MIGRATABLE`.
const SECRETS: u32 = 1 << 0 | 1 << 3;

/// The flag of secrets in the XML of a moment.
const SECURE: u32 = 1 << 0;

macro_rules! procedures {
    ($($tier:ident { $($number:literal $name:ident($($argument:expr),*) -> ($($answer:expr),*) $access:expr;)* })*) => {
        [$($(Procedure {
            number: $number,
            name: stringify!($name),
            arguments: &[$($argument),*],
            answer: &[$($answer),*],
            access: $access,
            tier: Tier::$tier,
        }),*),*]
    };
}

pub(super) const PROCEDURES: &[Procedure] = &sorted(procedures! {
    Connection {
        1   CONNECT_OPEN(OptText, UInt) -> () Read;
        2   CONNECT_CLOSE() -> () Read;
        3   CONNECT_GET_TYPE() -> (Text) Read;
        4   CONNECT_GET_VERSION() -> (ULong) Read;
        6   NODE_GET_INFO() -> (Model, ULong, Int, Int, Int, Int, Int, Int) Read;
        7   CONNECT_GET_CAPABILITIES() -> (Text) Read;
        59  CONNECT_GET_HOSTNAME() -> (Text) Read;
        60  CONNECT_SUPPORTS_FEATURE(Int) -> (Int) Read;
        66  AUTH_LIST() -> (Ints(AUTH_COUNT_MAX)) Read;
        110 CONNECT_GET_URI() -> (Text) Read;
        149 CONNECT_IS_SECURE() -> (Int) Read;
        157 CONNECT_GET_LIB_VERSION() -> (ULong) Read;
        360 CONNECT_REGISTER_CLOSE_CALLBACK() -> () Read;
        361 CONNECT_UNREGISTER_CLOSE_CALLBACK() -> () Read;
    }
    Domains {
        9   DOMAIN_CREATE(Domain) -> () Write;
        10  DOMAIN_CREATE_XML(Text, UInt) -> (Domain) Write;
        11  DOMAIN_DEFINE_XML(Text) -> (Domain) Write;
        12  DOMAIN_DESTROY(Domain) -> () Write;
        14  DOMAIN_GET_XML_DESC(Domain, UInt) -> (Text) ReadUnless(SECRETS);
        15  DOMAIN_GET_AUTOSTART(Domain) -> (Int) Read;
        16  DOMAIN_GET_INFO(Domain) -> (UInt, ULong, ULong, UInt, ULong) Read;
        17  DOMAIN_GET_MAX_MEMORY(Domain) -> (ULong) Read;
        19  DOMAIN_GET_OS_TYPE(Domain) -> (Text) Read;
        21  CONNECT_LIST_DEFINED_DOMAINS(Int) -> (Texts(LIST_COUNT_MAX)) Read;
        22  DOMAIN_LOOKUP_BY_ID(Int) -> (Domain) Read;
        23  DOMAIN_LOOKUP_BY_NAME(Text) -> (Domain) Read;
        24  DOMAIN_LOOKUP_BY_UUID(Uuid) -> (Domain) Read;
        25  CONNECT_NUM_OF_DEFINED_DOMAINS() -> (Int) Read;
        27  DOMAIN_REBOOT(Domain, UInt) -> () Write;
        28  DOMAIN_RESUME(Domain) -> () Write;
        29  DOMAIN_SET_AUTOSTART(Domain, Int) -> () Write;
        33  DOMAIN_SHUTDOWN(Domain) -> () Write;
        34  DOMAIN_SUSPEND(Domain) -> () Write;
        35  DOMAIN_UNDEFINE(Domain) -> () Write;
        37  CONNECT_LIST_DOMAINS(Int) -> (Ints(LIST_COUNT_MAX)) Read;
        51  CONNECT_NUM_OF_DOMAINS() -> (Int) Read;
        150 DOMAIN_IS_ACTIVE(Domain) -> (Int) Read;
        151 DOMAIN_IS_PERSISTENT(Domain) -> (Int) Read;
        183 DOMAIN_HAS_MANAGED_SAVE_IMAGE(Domain, UInt) -> (Int) Read;
        196 DOMAIN_CREATE_WITH_FLAGS(Domain, UInt) -> (Domain) Write;
        202 DOMAIN_IS_UPDATED(Domain) -> (Int) Read;
        212 DOMAIN_GET_STATE(Domain, UInt) -> (Int, Int) Read;
        231 DOMAIN_UNDEFINE_FLAGS(Domain, UInt) -> () Write;
        234 DOMAIN_DESTROY_FLAGS(Domain, UInt) -> () Write;
        245 DOMAIN_RESET(Domain, UInt) -> () Write;
        258 DOMAIN_SHUTDOWN_FLAGS(Domain, UInt) -> () Write;
        273 CONNECT_LIST_ALL_DOMAINS(Int, UInt) -> (Domains, UInt) Read;
        350 DOMAIN_DEFINE_XML_FLAGS(Text, UInt) -> (Domain) Write;
    }
    Checkpoints {
        411 DOMAIN_CHECKPOINT_CREATE_XML(Domain, Text, UInt) -> (Moment) Write;
        412 DOMAIN_CHECKPOINT_GET_XML_DESC(Moment, UInt) -> (Text) ReadUnless(SECURE);
        413 DOMAIN_LIST_ALL_CHECKPOINTS(Domain, Int, UInt) -> (Moments, Int) Read;
        414 DOMAIN_CHECKPOINT_LIST_ALL_CHILDREN(Moment, Int, UInt) -> (Moments, Int) Read;
        415 DOMAIN_CHECKPOINT_LOOKUP_BY_NAME(Domain, Text, UInt) -> (Moment) Read;
        416 DOMAIN_CHECKPOINT_GET_PARENT(Moment, UInt) -> (Moment) Read;
        417 DOMAIN_CHECKPOINT_DELETE(Moment, UInt) -> () Write;
    }
    Snapshots {
        185 DOMAIN_SNAPSHOT_CREATE_XML(Domain, Text, UInt) -> (Moment) Write;
        186 DOMAIN_SNAPSHOT_GET_XML_DESC(Moment, UInt) -> (Text) ReadUnless(SECURE);
        187 DOMAIN_SNAPSHOT_NUM(Domain, UInt) -> (Int) Read;
        188 DOMAIN_SNAPSHOT_LIST_NAMES(Domain, Int, UInt) -> (Texts(LIST_COUNT_MAX)) Read;
        189 DOMAIN_SNAPSHOT_LOOKUP_BY_NAME(Domain, Text, UInt) -> (Moment) Read;
        190 DOMAIN_HAS_CURRENT_SNAPSHOT(Domain, UInt) -> (Int) Read;
        191 DOMAIN_SNAPSHOT_CURRENT(Domain, UInt) -> (Moment) Read;
        192 DOMAIN_REVERT_TO_SNAPSHOT(Moment, UInt) -> () Write;
        193 DOMAIN_SNAPSHOT_DELETE(Moment, UInt) -> () Write;
        244 DOMAIN_SNAPSHOT_GET_PARENT(Moment, UInt) -> (Moment) Read;
        246 DOMAIN_SNAPSHOT_NUM_CHILDREN(Moment, UInt) -> (Int) Read;
        247 DOMAIN_SNAPSHOT_LIST_CHILDREN_NAMES(Moment, Int, UInt) -> (Texts(LIST_COUNT_MAX)) Read;
        271 DOMAIN_SNAPSHOT_IS_CURRENT(Moment, UInt) -> (Int) Read;
        272 DOMAIN_SNAPSHOT_HAS_METADATA(Moment, UInt) -> (Int) Read;
        274 DOMAIN_LIST_ALL_SNAPSHOTS(Domain, Int, UInt) -> (Moments, Int) Read;
        275 DOMAIN_SNAPSHOT_LIST_ALL_CHILDREN(Moment, Int, UInt) -> (Moments, Int) Read;
    }
    Events {
        105 CONNECT_DOMAIN_EVENT_REGISTER() -> (Int) Read;
        106 CONNECT_DOMAIN_EVENT_DEREGISTER() -> (Int) Read;
        167 CONNECT_DOMAIN_EVENT_REGISTER_ANY(Int) -> () Read;
        168 CONNECT_DOMAIN_EVENT_DEREGISTER_ANY(Int) -> () Read;
        316 CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY(Int, OptDomain) -> (Int) Read;
        317 CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY(Int) -> () Read;
    }
    Details {
        5   CONNECT_GET_MAX_VCPUS(OptText) -> (Int) Read;
        56  DOMAIN_GET_SCHEDULER_TYPE(Domain) -> (Text, Int) Read;
        57  DOMAIN_GET_SCHEDULER_PARAMETERS(Domain, Int) -> (Params(SCHEDULER_COUNT_MAX)) Read;
        58  DOMAIN_SET_SCHEDULER_PARAMETERS(Domain, Params(SCHEDULER_COUNT_MAX)) -> () Write;
        121 DOMAIN_GET_SECURITY_LABEL(Domain) -> (Chars(LABEL_LEN_MAX), Int) Read;
        122 NODE_GET_SECURITY_MODEL() -> (Chars(MODEL_LEN_MAX), Chars(MODEL_LEN_MAX)) Read;
        203 CONNECT_GET_SYSINFO(UInt) -> (Text) Read;
        211 DOMAIN_SCREENSHOT(Domain, UInt, UInt) -> (OptText) Write;
        264 DOMAIN_SET_METADATA(Domain, Int, OptText, OptText, OptText, UInt) -> () Write;
        265 DOMAIN_GET_METADATA(Domain, Int, OptText, UInt) -> (Text) Read;
        342 CONNECT_GET_DOMAIN_CAPABILITIES(OptText, OptText, OptText, OptText, UInt) -> (Text) Read;
        344 CONNECT_GET_ALL_DOMAIN_STATS(Domains, UInt, UInt) -> (Stats) Read;
        358 DOMAIN_RENAME(Domain, OptText, UInt) -> (Int) Write;
        426 DOMAIN_GET_MESSAGES(Domain, UInt) -> (Texts(MESSAGES_COUNT_MAX)) Read;
        449 DOMAIN_GET_AUTOSTART_ONCE(Domain) -> (Int) Read;
    }
    Backups {
        163 DOMAIN_GET_JOB_INFO(Domain) -> (Int, ULong, ULong, ULong, ULong, ULong, ULong, ULong, ULong, ULong, ULong, ULong) Read;
        164 DOMAIN_ABORT_JOB(Domain) -> () Write;
        238 DOMAIN_GET_BLOCK_JOB_INFO(Domain, Text, UInt) -> (Int, Int, ULong, ULong, ULong) Read;
        298 DOMAIN_GET_JOB_STATS(Domain, UInt) -> (Int, Params(JOB_COUNT_MAX)) Read;
        335 DOMAIN_FSFREEZE(Domain, Texts(MOUNTPOINTS_COUNT_MAX), UInt) -> (Int) Write;
        336 DOMAIN_FSTHAW(Domain, Texts(MOUNTPOINTS_COUNT_MAX), UInt) -> (Int) Write;
        421 DOMAIN_BACKUP_BEGIN(Domain, Text, OptText, UInt) -> () Write;
        422 DOMAIN_BACKUP_GET_XML_DESC(Domain, UInt) -> (Text) Read;
    }
});

pub(super) const EVENTS: &[Event] = &[
    Event {
        number: 107,
        name: "DOMAIN_EVENT_LIFECYCLE",
        fields: &[Domain, Int, Int],
    },
    Event {
        number: 318,
        name: "DOMAIN_EVENT_CALLBACK_LIFECYCLE",
        fields: &[Int, Domain, Int, Int],
    },
    Event {
        number: 362,
        name: "CONNECT_EVENT_CONNECTION_CLOSED",
        fields: &[Int],
    },
];

/// Returns the rows by number: above, they stand by what they are about.
const fn sorted<const N: usize>(mut rows: [Procedure; N]) -> [Procedure; N] {
    let mut at = 1;
    while at < N {
        let mut to = at;
        while to > 0 && rows[to - 1].number > rows[to].number {
            let lower = rows[to];
            rows[to] = rows[to - 1];
            rows[to - 1] = lower;
            to -= 1;
        }
        at += 1;
    }
    rows
}
