#![no_main]
//! Any bytes of two ends that a relay of libvirt's protocol lies between.

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| momentlog_proptests::untrusted::rpc_relay(bytes));
