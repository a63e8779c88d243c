//! The calls that are recorded, and what is read of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use momentlog::Call;
use momentlog::core::{DomainUuid, MomentKind, MomentName};
use momentlog::xml::{
    Carry, RecentDomain, read_checkpoint, read_checkpoint_redefine, read_snapshot,
    read_snapshot_redefine,
};

use super::NO_UUID;
use super::alters::Alters;
use super::upstream::text;
use crate::frame::{Frame, Header, REMOTE, VERSION};
use crate::proto::Shape::{self, Domain, Moment, OptText, Params, Text, UInt, ULong};
use crate::proto::{Value, decode};
use crate::xdr::Reader;

/// The program of libvirt's calls that only QEMU has.
const QEMU: u32 = 0x2000_8087;

/// The flag of a creation that gives a moment another definition, or makes one that libvirt has lost.
const REDEFINE: u32 = 1;

/// A row of the table.
struct Row {
    number: i32,
    /// The first is what the call is about: a domain, a moment of either kind, or the XML of a domain.
    arguments: &'static [Shape],
    /// Whether its second argument is a text that no listing shows afterwards.
    has_document: bool,
    /// Whether it ends what another call may wait for.
    ends_others: bool,
}

const fn row(number: i32, arguments: &'static [Shape]) -> Row {
    Row {
        number,
        arguments,
        has_document: false,
        ends_others: false,
    }
}

/// A row of a call that ends what another one may wait for.
const fn ending(number: i32, arguments: &'static [Shape]) -> Row {
    Row {
        ends_others: true,
        ..row(number, arguments)
    }
}

const SNAPSHOT_CREATE: i32 = 185;
const SNAPSHOT_DELETE: i32 = 193;
const RENAME: i32 = 358;
const CHECKPOINT_CREATE: i32 = 411;
const CHECKPOINT_DELETE: i32 = 417;

/// Most parameters of a copy.
const COPY_COUNT_MAX: usize = 16;

/// What changes domains and moments, and what moments lie on, by number.
const CALLS: &[Row] = &[
    row(9, &[Domain]),
    row(10, &[Text, UInt]),
    row(11, &[Text]),
    ending(12, &[Domain]),
    row(13, &[Domain, Text]),
    row(33, &[Domain]),
    row(35, &[Domain]),
    row(161, &[Domain, Text, UInt]),
    ending(164, &[Domain]),
    row(174, &[Domain, Text, UInt]),
    row(SNAPSHOT_CREATE, &[Domain, Text, UInt]),
    row(192, &[Moment, UInt]),
    row(SNAPSHOT_DELETE, &[Moment, UInt]),
    row(196, &[Domain, UInt]),
    row(231, &[Domain, UInt]),
    ending(234, &[Domain, UInt]),
    row(237, &[Domain, Text, UInt]),
    row(240, &[Domain, Text, ULong, UInt]),
    row(251, &[Domain, Text, ULong, UInt]),
    row(258, &[Domain, UInt]),
    row(266, &[Domain, Text, OptText, ULong, UInt]),
    row(290, &[Domain, Text, OptText, OptText, ULong, UInt]),
    row(345, &[Domain, Text, Text, Params(COPY_COUNT_MAX), UInt]),
    row(350, &[Text, UInt]),
    row(RENAME, &[Domain, OptText, UInt]),
    row(392, &[Domain, Text, UInt]),
    row(CHECKPOINT_CREATE, &[Domain, Text, UInt]),
    row(CHECKPOINT_DELETE, &[Moment, UInt]),
    BACKUP_BEGIN,
    ending(442, &[Domain, UInt]),
];

const BACKUP_BEGIN: Row = Row {
    has_document: true,
    ..row(421, &[Domain, Text, OptText, UInt])
};

/// QEMU's monitor can do anything.
const MONITOR_COMMAND: Row = Row {
    has_document: true,
    ..row(1, &[Domain, Text, UInt])
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
    /// Whether it ends what another call may wait for, and so cannot wait for that call.
    pub(super) ends_others: bool,
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
        let mut reader = Reader::new(&frame.payload);
        let mut values = Vec::new();
        for shape in row.arguments {
            let Ok(value) = decode(&[*shape], &mut reader) else {
                break;
            };
            values.extend(value);
        }
        let is_whole = values.len() == row.arguments.len() && reader.is_exact();
        let flags = match (values.len() == row.arguments.len(), values.last()) {
            (true, Some(Value::UInt(flags))) => *flags,
            _ => 0,
        };
        let subject = match values.first() {
            Some(Value::Domain(domain)) => Subject::Domain(DomainUuid::from_bytes(domain.uuid)),
            Some(Value::Moment(moment)) => {
                Subject::Domain(DomainUuid::from_bytes(moment.domain.uuid))
            }
            Some(Value::Text(xml)) => Subject::Xml(text(xml)),
            _ => Subject::Unknown,
        };
        // libvirtd may read what is not read here.
        let alters = if is_whole {
            alters(row.number, flags, &values)
        } else {
            Alters::All
        };
        let document = match values.get(1) {
            Some(Value::Text(document)) if row.has_document && !document.is_empty() => {
                Some(Arc::from(text(document)))
            }
            _ => None,
        };
        Some(RecordedCall {
            call,
            flags,
            subject,
            document,
            alters,
            ends_others: row.ends_others,
        })
    }
}

/// What a call with these arguments alters.
fn alters(number: i32, flags: u32, values: &[Value<'_>]) -> Alters {
    match (number, values) {
        (_, [Value::Moment(moment), ..]) => deletion(number, &text(&moment.name)),
        (SNAPSHOT_CREATE | CHECKPOINT_CREATE, [_, Value::Text(xml), ..]) => {
            creation(number, flags, &text(xml))
        }
        // What snapshots have of their domain may have its name.
        (RENAME, _) => Alters::All,
        _ => Alters::Nothing,
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

/// What a creation alters: the moment that its XML names. One that is new may have the name of one that another way deletes
/// meanwhile.
fn creation(number: i32, flags: u32, xml: &str) -> Alters {
    let recent = RecentDomain::default();
    let everything = Carry::Everything;
    let (kind, named) = match (number, flags & REDEFINE != 0) {
        (SNAPSHOT_CREATE, true) => {
            let read = read_snapshot_redefine(xml, false, everything, &recent, || NO_UUID);
            (MomentKind::Snapshot, read.map(|read| Some(read.name)))
        }
        (SNAPSHOT_CREATE, false) => {
            let read = read_snapshot(xml, false, everything);
            (MomentKind::Snapshot, read.map(|read| read.name))
        }
        (_, true) => {
            let read = read_checkpoint_redefine(xml, &recent, || NO_UUID);
            (MomentKind::Checkpoint, read.map(|read| Some(read.name)))
        }
        (_, false) => {
            let read = read_checkpoint(xml);
            (MomentKind::Checkpoint, read.map(|read| read.name))
        }
    };
    match named {
        Ok(Some(name)) => Alters::Moments(BTreeSet::from([(kind, name)])),
        Ok(None) => Alters::Nothing,
        Err(_) => Alters::All,
    }
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
            assert_eq!(procedure.arguments, row.arguments, "{number}");
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
        let named = Alters::Moments(BTreeSet::from([(MomentKind::Checkpoint, name("c2"))]));
        for flags in [0, REDEFINE] {
            assert_eq!(create(CHECKPOINT_CREATE, xml, flags), named);
        }
        let unnamed = b"<domainsnapshot/>";
        assert_eq!(create(SNAPSHOT_CREATE, unnamed, 0), Alters::Nothing);
        // libvirtd may read what is not read here.
        assert_eq!(create(SNAPSHOT_CREATE, b"<", REDEFINE), Alters::All);
    }

    #[test]
    fn flags_stand_where_the_arguments_have_them_whatever_comes_behind() {
        let xml = Value::Text(b"<domainsnapshot><name>s</name></domainsnapshot>".into());
        let values = [Value::Domain(domain()), xml, Value::UInt(REDEFINE)];
        let mut payload = encode(&[Domain, Text, UInt], &values).unwrap();
        payload.extend([0; 4]);
        let read = RecordedCall::read(&call(SNAPSHOT_CREATE, payload)).unwrap();
        assert_eq!((read.flags, read.alters), (REDEFINE, Alters::All));
        assert_eq!(
            read.subject,
            Subject::Domain(DomainUuid::from_bytes([7; 16]))
        );
    }

    #[test]
    fn what_cannot_be_read_is_recorded_without_a_domain_and_reading_calls_are_not() {
        let read = RecordedCall::read(&call(193, vec![0, 0])).unwrap();
        assert_eq!((read.subject, read.flags), (Subject::Unknown, 0));
        assert_eq!(RecordedCall::read(&call(273, vec![])), None);
        assert_eq!(RecordedCall::read(&call(9_999, vec![])), None);
    }
}
