//! The calls that are recorded, and what is read of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog::Call;
use momentlog::core::{DomainUuid, MomentKind, MomentName};
use momentlog::xml::{Carry, RecentDomain, read_checkpoint_redefine, read_snapshot_redefine};

use super::NO_UUID;
use super::alters::Alters;
use super::upstream::text;
use crate::frame::{Frame, Header, REMOTE, VERSION};
use crate::proto::{Shape, Value, decode};
use crate::xdr::Reader;

/// The program of libvirt's calls that only QEMU has.
const QEMU: u32 = 0x2000_8087;

/// The flag of a creation that gives a moment another definition, or makes one that libvirt has lost.
const REDEFINE: u32 = 1;

/// What a call is about: its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Domain,
    /// A moment of either kind.
    Moment,
    /// A domain that its XML defines.
    Xml,
}

/// A row of the table.
struct Row {
    number: i32,
    about: About,
    /// Whether its last argument is a word of flags.
    has_flags: bool,
    /// Whether its second argument is a text that no listing shows afterwards.
    has_document: bool,
}

const fn row(number: i32, about: About, has_flags: bool) -> Row {
    Row {
        number,
        about,
        has_flags,
        has_document: false,
    }
}

const SNAPSHOT_CREATE: i32 = 185;
const SNAPSHOT_DELETE: i32 = 193;
const RENAME: i32 = 358;
const CHECKPOINT_CREATE: i32 = 411;
const CHECKPOINT_DELETE: i32 = 417;

/// What changes domains and moments, and what moments lie on, by number.
const CALLS: &[Row] = &[
    row(9, About::Domain, false),
    row(10, About::Xml, true),
    row(11, About::Xml, false),
    row(12, About::Domain, false),
    row(13, About::Domain, false),
    row(33, About::Domain, false),
    row(35, About::Domain, false),
    row(161, About::Domain, true),
    row(164, About::Domain, false),
    row(174, About::Domain, true),
    row(SNAPSHOT_CREATE, About::Domain, true),
    row(192, About::Moment, true),
    row(SNAPSHOT_DELETE, About::Moment, true),
    row(196, About::Domain, true),
    row(231, About::Domain, true),
    row(234, About::Domain, true),
    row(237, About::Domain, true),
    row(240, About::Domain, true),
    row(251, About::Domain, true),
    row(258, About::Domain, true),
    row(266, About::Domain, true),
    row(290, About::Domain, true),
    row(345, About::Domain, true),
    row(350, About::Xml, true),
    row(RENAME, About::Domain, true),
    row(392, About::Domain, true),
    row(CHECKPOINT_CREATE, About::Domain, true),
    row(CHECKPOINT_DELETE, About::Moment, true),
    BACKUP_BEGIN,
    row(442, About::Domain, true),
];

const BACKUP_BEGIN: Row = Row {
    has_document: true,
    ..row(421, About::Domain, true)
};

/// QEMU's monitor can do anything.
const MONITOR_COMMAND: Row = Row {
    has_document: true,
    ..row(1, About::Domain, true)
};

/// What is read of a call that is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RecordedCall {
    pub(super) call: Call,
    pub(super) flags: u32,
    pub(super) subject: Subject,
    pub(super) document: Option<Arc<str>>,
    /// What it may change of moments that keep their names.
    pub(super) alters: Alters,
}

/// Which domain a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Domain(DomainUuid),
    /// The one that this XML defines.
    Xml(String),
    /// It cannot be read.
    Unknown,
}

fn find(call: &Header) -> Option<(&'static Row, Call)> {
    if (call.program, call.version, call.procedure) == (QEMU, VERSION, MONITOR_COMMAND.number) {
        return Some((&MONITOR_COMMAND, Call::MONITOR_COMMAND));
    }
    if (call.program, call.version) != (REMOTE, VERSION) {
        return None;
    }
    let found = CALLS.binary_search_by_key(&call.procedure, |row| row.number);
    let row = &CALLS[found.ok()?];
    Some((row, Call(u16::try_from(row.number).ok()?)))
}

/// Whether a call is recorded.
pub(super) fn is_recorded(call: &Header) -> bool {
    find(call).is_some()
}

impl RecordedCall {
    /// Reads a call; `None` if it is not recorded. What cannot be read of it is left out: libvirtd will refuse it.
    pub(super) fn read(frame: &Frame) -> Option<RecordedCall> {
        let (row, call) = find(&frame.header)?;
        let flags = match frame.payload.last_chunk() {
            Some(word) if row.has_flags => u32::from_be_bytes(*word),
            _ => 0,
        };
        let mut reader = Reader::new(&frame.payload);
        let shape = match row.about {
            About::Domain => Shape::Domain,
            About::Moment => Shape::Moment,
            About::Xml => Shape::Text,
        };
        let mut read = |shape| {
            let read = decode(&[shape], &mut reader).ok();
            read.and_then(|mut values| values.pop())
        };
        let mut alters = Alters::Nothing;
        let subject = match read(shape) {
            Some(Value::Domain(domain)) => Subject::Domain(DomainUuid::from_bytes(domain.uuid)),
            Some(Value::Moment(moment)) => {
                alters = deletion(row.number, &text(&moment.name));
                Subject::Domain(DomainUuid::from_bytes(moment.domain.uuid))
            }
            Some(Value::Text(xml)) => Subject::Xml(String::from_utf8_lossy(&xml).into_owned()),
            _ => Subject::Unknown,
        };
        match row.number {
            SNAPSHOT_CREATE | CHECKPOINT_CREATE if flags & REDEFINE != 0 => {
                alters = match read(Shape::Text) {
                    Some(Value::Text(xml)) => redefinition(row.number, &text(&xml)),
                    _ => Alters::All,
                };
            }
            // What snapshots have of their domain may have its name.
            RENAME => alters = Alters::All,
            _ => {}
        }
        let document = match row.has_document.then(|| read(Shape::Text)).flatten() {
            Some(Value::Text(text)) => {
                let text = String::from_utf8_lossy(&text);
                (!text.is_empty()).then(|| Arc::from(text))
            }
            _ => None,
        };
        Some(RecordedCall {
            call,
            flags,
            subject,
            document,
            alters,
        })
    }
}

/// What a call alters that is about a moment.
fn deletion(number: i32, name: &str) -> Alters {
    let kind = match number {
        SNAPSHOT_DELETE => MomentKind::Snapshot,
        CHECKPOINT_DELETE => MomentKind::Checkpoint,
        // To revert changes the definitions of snapshots that have files of their own.
        _ => return Alters::All,
    };
    let name = MomentName::new(name);
    name.map_or(Alters::All, |name| Alters::Below(kind, name))
}

/// What a redefinition alters: the moment that its XML names.
fn redefinition(number: i32, xml: &str) -> Alters {
    let recent = RecentDomain::default();
    let named = if number == SNAPSHOT_CREATE {
        let read = read_snapshot_redefine(xml, false, Carry::Everything, &recent, || NO_UUID);
        read.map(|read| (MomentKind::Snapshot, read.name))
    } else {
        let read = read_checkpoint_redefine(xml, &recent, || NO_UUID);
        read.map(|read| (MomentKind::Checkpoint, read.name))
    };
    named.map_or(Alters::All, |named| {
        Alters::Moments(BTreeSet::from([named]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::{DomainRef, MomentRef, Procedure, encode};

    fn domain() -> DomainRef<'static> {
        DomainRef {
            name: b"vm".into(),
            uuid: [7; 16],
            id: -1,
        }
    }

    fn call(number: i32, payload: Vec<u8>) -> Frame {
        Frame {
            header: Header::call(number, 1),
            payload,
        }
    }

    #[test]
    fn the_table_is_by_number_and_of_calls_that_records_have_names_for() {
        assert!(CALLS.is_sorted_by_key(|row| row.number));
        for row in CALLS {
            let number = u16::try_from(row.number).unwrap();
            assert!(Call(number).name().is_some(), "{number}");
            // What the server's table has of it as well is the same.
            let Some(procedure) = Procedure::by_number(row.number) else {
                continue;
            };
            let first = match row.about {
                About::Domain => Shape::Domain,
                About::Moment => Shape::Moment,
                About::Xml => Shape::Text,
            };
            assert_eq!(procedure.arguments[0], first, "{number}");
            let last = procedure.arguments.last();
            assert_eq!(last == Some(&Shape::UInt), row.has_flags, "{number}");
        }
    }

    #[test]
    fn a_call_is_read_with_its_domain_its_flags_and_what_no_listing_shows() {
        let moment = MomentRef {
            name: b"c1".into(),
            domain: domain(),
        };
        let delete = Procedure::by_number(417).unwrap();
        let values = [Value::Moment(moment), Value::UInt(2)];
        let payload = encode(delete.arguments, &values).unwrap();
        let read = RecordedCall::read(&call(417, payload)).unwrap();
        assert_eq!((read.call, read.flags), (Call::CHECKPOINT_DELETE, 2));
        let uuid = DomainUuid::from_bytes([7; 16]);
        assert_eq!(read.subject, Subject::Domain(uuid));

        let shapes = [Shape::Domain, Shape::Text, Shape::UInt];
        let command = Value::Text(b"query-status".into());
        let payload = encode(&shapes, &[Value::Domain(domain()), command, Value::UInt(1)]);
        let mut monitor = call(1, payload.unwrap());
        monitor.header.program = QEMU;
        let read = RecordedCall::read(&monitor).unwrap();
        assert_eq!((read.call, read.flags), (Call::MONITOR_COMMAND, 1));
        assert_eq!(read.document.as_deref(), Some("query-status"));
    }

    #[test]
    fn a_call_says_which_moments_it_may_change_that_keep_their_names() {
        let name = |name| MomentName::new(name).unwrap();
        let about = |number, flags| {
            let moment = MomentRef {
                name: b"c1".into(),
                domain: domain(),
            };
            let values = [Value::Moment(moment), Value::UInt(flags)];
            let payload = encode(&[Shape::Moment, Shape::UInt], &values).unwrap();
            RecordedCall::read(&call(number, payload)).unwrap().alters
        };
        let below = |kind| Alters::Below(kind, name("c1"));
        assert_eq!(about(SNAPSHOT_DELETE, 1), below(MomentKind::Snapshot));
        assert_eq!(about(CHECKPOINT_DELETE, 0), below(MomentKind::Checkpoint));
        assert_eq!(about(192, 0), Alters::All);

        let create = |number, xml: &[u8], flags| {
            let xml = Value::Text(xml.into());
            let values = [Value::Domain(domain()), xml, Value::UInt(flags)];
            let shapes = [Shape::Domain, Shape::Text, Shape::UInt];
            let payload = encode(&shapes, &values).unwrap();
            RecordedCall::read(&call(number, payload)).unwrap().alters
        };
        let xml =
            b"<domaincheckpoint><name>c2</name><creationTime>1</creationTime></domaincheckpoint>";
        assert_eq!(create(CHECKPOINT_CREATE, xml, 0), Alters::Nothing);
        let named = BTreeSet::from([(MomentKind::Checkpoint, name("c2"))]);
        assert_eq!(
            create(CHECKPOINT_CREATE, xml, REDEFINE),
            Alters::Moments(named)
        );
        // libvirtd may read what is not read here.
        assert_eq!(create(SNAPSHOT_CREATE, b"<", REDEFINE), Alters::All);
    }

    #[test]
    fn what_cannot_be_read_is_recorded_without_a_domain_and_reading_calls_are_not() {
        let read = RecordedCall::read(&call(193, vec![0, 0])).unwrap();
        assert_eq!((read.subject, read.flags), (Subject::Unknown, 0));
        assert_eq!(RecordedCall::read(&call(273, vec![])), None);
        assert_eq!(RecordedCall::read(&call(9_999, vec![])), None);
    }
}
