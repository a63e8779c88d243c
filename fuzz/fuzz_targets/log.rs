#![no_main]
//! Any bytes as the first segment of a log.

use std::sync::LazyLock;

static SCRATCH: LazyLock<tempfile::TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a scratch directory can be made"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| momentlog_proptests::untrusted::log(
    bytes,
    SCRATCH.path()
));
