#![no_main]
//! Any bytes as a message of libvirt's protocol.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| momentlog_proptests::untrusted::rpc_frame(bytes));
