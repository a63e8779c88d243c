//! The vector of `docs/format/images.txt` holds images to the page; what no image may hold is refused.

use momentlog_core::{Change, Event, MomentChange, Profile};
use momentlog_store::{Digest, Head, LogId, Record, Seq};

use crate::codec::tests::{id, name, uuid};
use crate::codec::{Content, DecodeError, Dictionary, Facts, asked_by};
use crate::image;
use crate::ledger::Ledger;

const IMAGES: &str = include_str!("../../../../docs/format/images.txt");
const IMAGES_3: &str = include_str!("../../../../docs/format/images-3.txt");
const IMAGES_2: &str = include_str!("../../../../docs/format/images-2.txt");

/// Reads the lines of one key of a page of vectors.
fn image_field(text: &str, key: &str) -> Vec<u8> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let hex = lines.filter(|(name, _)| *name == key);
    hex.flat_map(|(_, hex)| {
        hex.split(' ')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
    })
    .collect()
}

#[test]
fn the_image_of_the_page_decodes_to_its_meaning_and_encodes_to_the_same() {
    let body = &image_field(IMAGES, "body")[..];
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest(std::array::from_fn(|index| {
            u8::try_from(96 + index).unwrap()
        })),
    };
    let ledger = image::decode(head, body).unwrap();
    let state = ledger.view().state();
    assert_eq!(state.check(), Ok(()));
    assert_eq!(state.budget().steps(), 16_777_216 + 3 * 256);
    let domain = state.domain_by_name("vm").unwrap();
    assert_eq!(domain.uuid(), uuid());
    let names: Vec<_> = domain
        .checkpoints()
        .walk(momentlog_core::Scope::All)
        .map(|moment| (moment.name.as_str(), moment.def.description.as_deref()))
        .collect();
    assert_eq!(names, [("monday", Some("nightly")), ("tuesday", None)]);
    assert_eq!(
        domain.checkpoints().current().unwrap().name.as_str(),
        "tuesday"
    );
    assert_eq!(ledger.requests.get("r1").unwrap().seq.get(), 3);
    assert_eq!(&*ledger.answers[&Seq::new(3).unwrap()], [1, 2, 3, 4]);
    let holds: Vec<_> = domain.holds().of(id(1)).collect();
    assert_eq!(holds.len(), 1);
    assert_eq!(state.open_jobs().count(), 1);
    assert_eq!(state.settings().request_window_s, 86_400);
    assert!(!state.policy_of_new(uuid()).chain);
    assert_eq!(image::encode(&ledger).unwrap(), body);
    let body = image::encode(&ledger).unwrap();
    let again = image::decode(head, &body).unwrap();
    assert!(again.agrees_with(&ledger));
    assert_eq!(image::encode(&again).unwrap(), body);
}

#[test]
fn the_second_image_of_the_page_decodes_to_its_meaning_and_encodes_to_the_same() {
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    let body = image_field(IMAGES_2, "body");
    let ledger = image::decode(head, &body).unwrap();
    let domain = ledger.view().state().domain_by_name("vm").unwrap();
    let attachment = domain.attachment().unwrap();
    assert_eq!(
        (&*attachment.driver, &*attachment.socket),
        ("qemu", "/run/vm.qmp")
    );
    assert!(!attachment.look_only);
    let open: Vec<_> = ledger.requests.open().collect();
    assert_eq!(open, [(momentlog_core::JobId::FIRST, "r1")]);
    assert_eq!(image::encode(&ledger).unwrap(), body);
}

#[test]
fn the_third_image_of_the_page_says_which_domain_starts_with_its_host() {
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    let body = image_field(IMAGES_3, "body");
    let ledger = image::decode(head, &body).unwrap();
    let domain = ledger.view().state().domain_by_name("vm").unwrap();
    assert!(domain.autostart() && domain.attachment().is_some());
    assert_eq!(image::encode(&ledger).unwrap(), body);
    let second = image::decode(head, &image_field(IMAGES_2, "body")).unwrap();
    let domain = second.view().state().domain_by_name("vm").unwrap();
    assert!(!domain.autostart());
    // One that is named twice, and one that is not there.
    let at = body
        .windows(8)
        .position(|bytes| bytes == b"/vm.qmp\0")
        .unwrap()
        + 8;
    let twice = [&body[..at], &[2], &body[at + 1..at + 24], &body[at + 8..]].concat();
    let refused = image::decode(head, &twice).map(|_| ());
    let wrong = image::ImageError::Decode(DecodeError::Body("autostart"));
    assert_eq!(refused, Err(wrong.clone()));
    let mut other = body.clone();
    other[at + 8] ^= 1;
    assert_eq!(image::decode(head, &other).map(|_| ()), Err(wrong));
}

/// A domain that no record holds yet is held by the first that has it, also after an image was tried.
#[test]
fn an_image_that_cannot_be_made_leaves_nothing_behind() {
    // As behind the record that begins a log.
    let begun = || Ledger {
        seq: Some(Seq::FIRST),
        ..Ledger::new(Profile::LibvirtTest)
    };
    let mut ledger = begun();
    assert_eq!(image::encode(&ledger), None);
    assert!(ledger.agrees_with(&begun()));
    let built_in = ledger.view().state().domains().next().unwrap();
    let (domain, def) = (built_in.uuid(), built_in.def().clone());
    let defined = Change::DomainDefined {
        def,
        policy: Profile::LibvirtTest.policy(),
        live: false,
    };
    let facts = Facts {
        recorded: 0,
        domain: Some(domain),
        previous: None,
        content: Content::Command {
            asked: asked_by("ann"),
            events: vec![Event {
                domain: Some(domain),
                change: defined,
            }],
        },
    };
    let seq = Seq::after(ledger.seq);
    let draft = ledger.dictionary.encode(seq, &facts, &mut || [0; 32]);
    let previous = Head {
        seq: Seq::FIRST,
        digest: Digest::ZERO,
    };
    let record = Record::new(LogId([0; 16]), Some(previous), None, draft);
    assert_eq!(Dictionary::default().decode(&record), Ok(facts));
}

#[test]
fn an_image_with_two_moments_of_one_name_is_refused() {
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    let mut body = image_field(IMAGES, "body");
    let names = body
        .windows(13)
        .position(|bytes| bytes == b"mondaytuesday")
        .unwrap();
    // The length of the second name, that of both, and what the second is now.
    body[names - 12] = 6;
    body[names - 8] = 12;
    body.splice(names + 6..names + 13, *b"monday");
    let refused = image::decode(head, &body).map(|_| ());
    let twice = momentlog_core::Broken::Name(id(2)).into();
    assert_eq!(refused, Err(image::ImageError::Broken(twice)));
}

/// The lengths of the names and that of all of them together tell where each ends.
#[test]
fn an_image_whose_names_do_not_add_up_is_refused() {
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    let body = image_field(IMAGES, "body");
    let names = body
        .windows(13)
        .position(|bytes| bytes == b"mondaytuesday")
        .unwrap();
    let refused = |second: u8, all: u8, names_are: &[u8]| {
        let mut body = body.clone();
        body[names - 12] = second;
        body[names - 8] = all;
        body.splice(names..names + 13, names_are.iter().copied());
        image::decode(head, &body).map(|_| ())
    };
    let wrong = |why| Err(image::ImageError::Decode(why));
    assert_eq!(refused(7, 13, b"mondaytuesday"), Ok(()));
    for (second, all, names) in [
        (6, 13, &b"mondaytuesday"[..]),
        (8, 13, b"mondaytuesday"),
        (7, 14, b"mondaytuesday!"),
        (7, 12, b"mondaytuesda"),
    ] {
        let expected = wrong(DecodeError::Length("names"));
        assert_eq!(refused(second, all, names), expected, "{second} {all}");
    }
    let expected = wrong(DecodeError::Body("name of a moment"));
    assert_eq!(refused(0, 6, b"monday"), expected);
}

/// All names together may be longer than any one text.
#[test]
fn an_image_of_long_names_is_read() {
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    let mut ledger = image::decode(head, &image_field(IMAGES, "body")).unwrap();
    let def = {
        let state = ledger.view().state();
        let monday = state.domain(uuid()).unwrap().checkpoints().get(id(1));
        monday.unwrap().def.clone()
    };
    for number in 3..6 {
        let change = Change::Checkpoint(MomentChange::Created {
            id: id(number),
            parent: None,
            name: name(&number.to_string().repeat(24 << 20)),
            created: 5,
            def: def.clone(),
            current: false,
        });
        let event = Event {
            domain: Some(uuid()),
            change,
        };
        ledger.view.state.advance(&event).unwrap();
    }
    let body = image::encode(&ledger).unwrap();
    assert!(body.len() > 72 << 20);
    let again = image::decode(head, &body).unwrap();
    assert!(again.view().state() == ledger.view().state());
}

#[test]
fn an_image_cut_anywhere_or_with_more_behind_it_is_refused() {
    let body = &image_field(IMAGES, "body")[..];
    let head = Head {
        seq: Seq::new(4).unwrap(),
        digest: Digest::ZERO,
    };
    for length in 0..body.len() {
        assert!(image::decode(head, &body[..length]).is_err(), "{length}");
    }
    let longer = [body, &[0]].concat();
    assert!(image::decode(head, &longer).is_err());
    let newer = [&9_u32.to_le_bytes(), &body[4..]].concat();
    let refused = image::decode(head, &newer).map(|_| ());
    assert_eq!(refused, Err(image::ImageError::Version(9)));
}
