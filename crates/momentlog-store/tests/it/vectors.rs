//! The worked examples of `docs/format/` hold the code to the page.

use super::*;
use momentlog_store::{Place, Seq, decode_frame};

/// Reads a vector: `#` comments, then `key value` lines, where hex may go over several lines of the same key.
fn vector(name: &str) -> Vec<(String, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs/format")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (key, hex) = line.split_once(' ').unwrap();
        let hex: String = hex.split_whitespace().collect();
        let bytes = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        match fields.last_mut() {
            Some((last, value)) if last == key => value.extend(bytes),
            _ => fields.push((key.to_owned(), bytes.collect())),
        }
    }
    fields
}

fn field<'a>(fields: &'a [(String, Vec<u8>)], key: &str) -> &'a [u8] {
    &fields.iter().find(|(name, _)| name == key).unwrap().1
}

#[test]
fn two_frames_decode_to_what_the_page_says() {
    let fields = vector("frames.txt");
    let segment = field(&fields, "segment");
    let place = |offset| Place {
        log: LogId(*b"0123456789abcdef"),
        segment: Seq::FIRST,
        offset,
    };
    let (first, length) = decode_frame(segment, place(0)).unwrap();
    assert_eq!(first.facts, field(&fields, "facts-1"));
    assert_eq!(first.digest.0, field(&fields, "digest-1"));
    assert_eq!(first.texts, []);
    let (second, rest) = decode_frame(&segment[length..], place(length as u64)).unwrap();
    assert_eq!(second.facts, field(&fields, "facts-2"));
    assert_eq!(second.digest.0, field(&fields, "digest-2"));
    assert_eq!(second.durable, Some(Seq::FIRST));
    assert_eq!(second.previous, first.digest);
    let salt: [u8; 32] = field(&fields, "salt-2").try_into().unwrap();
    assert_eq!(
        second.texts,
        [Text::Plain {
            salt,
            bytes: field(&fields, "text-2").to_vec()
        }]
    );
    assert_eq!(
        second.texts[0].commitment().0,
        field(&fields, "commitment-2")
    );
    assert_eq!(length + rest, segment.len());
}

#[test]
fn writing_the_same_records_gives_the_bytes_of_the_page() {
    let fields = vector("frames.txt");
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let log = LogId(*b"0123456789abcdef");
    let mut store = open(&dir);
    store.acquire(Duration::ZERO).unwrap();
    let first = store
        .append(
            log,
            None,
            vec![Draft {
                facts: field(&fields, "facts-1").to_vec(),
                texts: vec![],
            }],
        )
        .unwrap();
    let salt = field(&fields, "salt-2").try_into().unwrap();
    let text = Text::Plain {
        salt,
        bytes: field(&fields, "text-2").to_vec(),
    };
    let second = Draft {
        facts: field(&fields, "facts-2").to_vec(),
        texts: vec![text],
    };
    store
        .append(log, Some(first[0].head()), vec![second])
        .unwrap();
    drop(store);
    assert_eq!(
        std::fs::read(&segments(&dir)[0]).unwrap(),
        field(&fields, "segment")
    );
    assert_eq!(
        std::fs::read(dir.join("head")).unwrap(),
        field(&fields, "head")
    );
}
