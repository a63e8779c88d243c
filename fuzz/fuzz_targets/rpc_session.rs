#![no_main]
//! Any bytes of a client of libvirt's protocol.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| momentlog_proptests::untrusted::rpc_session(bytes));
