//! The codec over all of the table: what it writes it reads, and what it reads exactly it writes.

use momentlog_rpc::frame::{Frame, Header, Kind, MESSAGE_LEN_MAX, Status};
use momentlog_rpc::proto::{
    Access, DomainRef, Event, LIST_COUNT_MAX, MomentRef, Param, Procedure, RemoteError, Shape,
    Stats, Value, decode, encode,
};
use momentlog_rpc::xdr::{EncodeError, Reader, TEXT_LEN_MAX, Text};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = Text<'static>> {
    vec(any::<u8>(), 0..12).prop_map(Text::from)
}

fn domain() -> impl Strategy<Value = DomainRef<'static>> {
    (text(), any::<[u8; 16]>(), any::<i32>()).prop_map(|(name, uuid, id)| DomainRef {
        name,
        uuid,
        id,
    })
}

fn moment() -> impl Strategy<Value = MomentRef<'static>> {
    (text(), domain()).prop_map(|(name, domain)| MomentRef { name, domain })
}

fn param() -> impl Strategy<Value = Param<'static>> {
    prop_oneof![
        any::<i32>().prop_map(Param::Int),
        any::<u32>().prop_map(Param::UInt),
        any::<i64>().prop_map(Param::LLong),
        any::<u64>().prop_map(Param::ULLong),
        (-1e9..1e9).prop_map(Param::Double),
        any::<i32>().prop_map(Param::Boolean),
        text().prop_map(Param::String),
    ]
}

fn stats() -> impl Strategy<Value = Stats<'static>> {
    (domain(), vec((text(), param()), 0..4)).prop_map(|(domain, params)| Stats { domain, params })
}

fn value(shape: Shape) -> BoxedStrategy<Value<'static>> {
    match shape {
        Shape::Int => any::<i32>().prop_map(Value::Int).boxed(),
        Shape::UInt => any::<u32>().prop_map(Value::UInt).boxed(),
        Shape::ULong => any::<u64>().prop_map(Value::ULong).boxed(),
        Shape::Text => text().prop_map(Value::Text).boxed(),
        Shape::OptText => option::of(text()).prop_map(Value::OptText).boxed(),
        Shape::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        Shape::Domain => domain().prop_map(Value::Domain).boxed(),
        Shape::OptDomain => option::of(domain()).prop_map(Value::OptDomain).boxed(),
        Shape::Moment => moment().prop_map(Value::Moment).boxed(),
        Shape::Ints(max) => vec(any::<i32>(), 0..max.min(5))
            .prop_map(Value::Ints)
            .boxed(),
        Shape::Texts(max) => vec(text(), 0..max.min(5)).prop_map(Value::Texts).boxed(),
        Shape::Chars(max) => vec(any::<u8>(), 0..max.min(5))
            .prop_map(Value::Chars)
            .boxed(),
        Shape::Domains => vec(domain(), 0..5).prop_map(Value::Domains).boxed(),
        Shape::Moments => vec(moment(), 0..5).prop_map(Value::Moments).boxed(),
        Shape::Model => any::<[u8; 32]>().prop_map(Value::Model).boxed(),
        Shape::Stats => vec(stats(), 0..4).prop_map(Value::Stats).boxed(),
        Shape::Params(max) => vec((text(), param()), 0..max.min(5))
            .prop_map(Value::Params)
            .boxed(),
    }
}

fn fields() -> impl Strategy<Value = &'static [Shape]> {
    let calls = Procedure::ALL
        .iter()
        .flat_map(|one| [one.arguments, one.answer]);
    let all: Vec<_> = calls
        .chain(Event::ALL.iter().map(|one| one.fields))
        .collect();
    prop::sample::select(all)
}

fn filled() -> impl Strategy<Value = (&'static [Shape], Vec<Value<'static>>)> {
    fields().prop_flat_map(|shapes| {
        let values: Vec<_> = shapes.iter().map(|shape| value(*shape)).collect();
        (Just(shapes), values)
    })
}

fn header() -> impl Strategy<Value = Header> {
    let word = any::<u32>;
    let words = (word(), word(), any::<i32>(), 0..8_u32, word(), 0..4_u32);
    words.prop_map(
        |(program, version, procedure, kind, serial, status)| Header {
            program,
            version,
            procedure,
            kind: Kind(kind),
            serial,
            status: Status(status),
        },
    )
}

fn error() -> impl Strategy<Value = RemoteError<'static>> {
    let texts = (option::of(text()), option::of(text()), option::of(text()));
    let network = option::of((text(), any::<[u8; 16]>()));
    let message = option::of(text());
    (
        any::<[i32; 5]>(),
        message,
        option::of(domain()),
        texts,
        network,
    )
        .prop_map(
            |([code, domain, level, one, other], message, about, texts, network)| RemoteError {
                code,
                domain,
                message,
                level,
                about,
                texts: texts.into(),
                numbers: [one, other],
                network,
            },
        )
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same((shapes, values) in filled()) {
        let payload = encode(shapes, &values).unwrap();
        let mut reader = Reader::new(&payload);
        prop_assert_eq!(decode(shapes, &mut reader).unwrap(), values);
        prop_assert!(reader.is_exact());
    }

    #[test]
    fn a_payload_that_is_cut_is_refused((shapes, values) in filled(), at in any::<prop::sample::Index>()) {
        let payload = encode(shapes, &values).unwrap();
        prop_assume!(!payload.is_empty());
        let cut = &payload[..at.index(payload.len())];
        prop_assert!(decode(shapes, &mut Reader::new(cut)).is_err());
    }

    #[test]
    fn any_bytes_that_are_read_exactly_are_written_again(shapes in fields(), bytes in vec(0..3_u8, 0..160)) {
        let mut reader = Reader::new(&bytes);
        if let Ok(values) = decode(shapes, &mut reader) {
            let written = encode(shapes, &values).unwrap();
            if reader.is_exact() {
                prop_assert_eq!(&written, &bytes);
            }
            prop_assert_eq!(decode(shapes, &mut Reader::new(&written)).unwrap(), values);
        }
    }

    #[test]
    fn every_frame_is_read_as_it_was_written(header in header(), payload in vec(any::<u8>(), 0..300)) {
        let frame = Frame { header, payload };
        let bytes = frame.to_bytes();
        let read = Frame::read(&mut &bytes[..], MESSAGE_LEN_MAX).unwrap();
        prop_assert_eq!(read, Some(frame));
    }

    #[test]
    fn every_error_is_read_as_it_was_written(error in error()) {
        let payload = error.encode().unwrap();
        let mut reader = Reader::new(&payload);
        prop_assert_eq!(RemoteError::decode(&mut reader).unwrap(), error);
        prop_assert!(reader.is_exact());
    }
}

#[test]
fn the_bounds_of_lists_and_texts_are_told_before_a_client_fails_to_read_them() {
    let list = Procedure::by_number(413).unwrap();
    let moment = MomentRef {
        name: b"c1".into(),
        domain: DomainRef {
            name: b"vm".into(),
            uuid: [0; 16],
            id: -1,
        },
    };
    let answer = |count: usize| {
        let moments = Value::Moments(vec![moment.clone(); count]);
        encode(list.answer, &[moments, Value::Int(0)])
    };
    assert!(answer(LIST_COUNT_MAX).is_ok());
    let error = answer(LIST_COUNT_MAX + 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "16385 entries are too many for one reply: the limit is 16384"
    );

    let xml = Procedure::by_number(412).unwrap();
    let answer = |len: usize| encode(xml.answer, &[Value::Text(vec![b'x'; len].into())]);
    assert!(answer(TEXT_LEN_MAX).is_ok());
    let error = answer(TEXT_LEN_MAX + 1).unwrap_err();
    assert!(matches!(error, EncodeError::TextTooLong { .. }));

    let long = vec![Text::from(vec![b'x'; TEXT_LEN_MAX]); 9];
    let names = Procedure::by_number(188).unwrap();
    let error = encode(names.answer, &[Value::Texts(long)]).unwrap_err();
    assert!(matches!(error, EncodeError::MessageTooLong { .. }));
}

#[test]
fn values_of_another_procedure_are_not_encoded() {
    let lookup = Procedure::by_number(23).unwrap();
    for values in [
        &[][..],
        &[Value::Int(1)],
        &[Value::Text(b"a".into()), Value::Int(1)],
    ] {
        assert_eq!(encode(lookup.arguments, values), Err(EncodeError::Shape));
    }
}

#[test]
fn the_table_has_each_number_once_and_flags_where_it_looks_for_them() {
    let numbers: Vec<i32> = Procedure::ALL.iter().map(|one| one.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next));
    for procedure in Procedure::ALL {
        if let Access::ReadUnless(_) = procedure.access {
            assert_eq!(
                procedure.arguments.last(),
                Some(&Shape::UInt),
                "{procedure:?}"
            );
        }
    }
}

#[test]
fn every_procedure_of_the_library_is_in_the_table() {
    for procedure in momentlog::procedure::Procedure::ALL {
        let number = procedure.number().into();
        assert!(Procedure::by_number(number).is_some(), "{procedure:?}");
    }
}
