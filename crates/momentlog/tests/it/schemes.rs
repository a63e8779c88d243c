//! Kinds of stores that a program brings, under URI schemes of their own.

use momentlog::store::{MemoryStore, Store, StoreError, Where};
use momentlog::{ErrorCode, Opener, Options};

use super::*;

fn in_memory(uri: &str) -> std::result::Result<Box<dyn Store>, StoreError> {
    if uri == "table:here" {
        return Ok(Box::new(MemoryStore::new()));
    }
    Err(StoreError::Backend {
        doing: "connect to",
        place: Where::other(uri),
        source: "no such table".into(),
    })
}

#[test]
fn a_program_opens_stores_of_its_own_schemes() {
    let openers = [Opener {
        scheme: "table",
        open: &in_memory,
    }];
    let open = |uri: &str| Connection::open_among(uri, Options::default(), &openers);
    let store = open("table:here").unwrap();
    let domain = store.define_domain_xml(DOMAIN).unwrap();
    checkpoint(&domain, "a").unwrap();
    assert_eq!(store.entries(None).unwrap().len(), 3);

    let error = open("table:elsewhere").unwrap_err();
    assert_eq!(error.code(), ErrorCode::SystemError);
    assert!(
        error
            .message()
            .ends_with("cannot connect to table:elsewhere: no such table"),
        "{error}"
    );
    assert!(matches!(error.store(), Some(StoreError::Backend { .. })));
    // The built-in schemes are as they were, and others are refused as they were.
    open("test:///default").unwrap();
    let unknown = |opened: Result<Connection, Error>| {
        let error = opened.unwrap_err();
        (error.code(), error.message().to_owned())
    };
    assert_eq!(
        unknown(open("tables:here")),
        unknown(Connection::open("tables:here"))
    );
    assert_eq!(unknown(open("table")), unknown(Connection::open("table")));
}
