//! Pictures of any history.

use momentlog_proptests::{ops, picture};
use proptest::prelude::*;

/// Pieces that mean something to HTML, XML, JSON, a script or the eye.
const PIECES: [&str; 29] = [
    "</script>",
    "<script>",
    "</style",
    "</title>",
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[",
    "&lt;",
    "&",
    "\"",
    "'",
    "\\",
    "\\u003c",
    "__proto__",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}",
    "\u{feff}",
    "\n",
    "\t",
    "\0",
    "\u{7f}",
    "\u{ffff}",
    "%data%",
    "{}",
    "-1",
    "c1",
    "constructor",
];

fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(&PIECES[..]).prop_map(str::to_owned);
    let piece = prop_oneof![known, any::<String>()];
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

#[test]
fn pieces_of_other_languages_stay_names() {
    let texts = PIECES.map(str::to_owned);
    // NUL and U+FFFF are in no name: the clock names the first of the two, and the second one is refused.
    assert_eq!(picture(&[], &texts), PIECES.len() - 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_names_say_stays_text(ops in ops(30), texts in prop::collection::vec(text(), 0..8)) {
        picture(&ops, &texts);
    }
}
