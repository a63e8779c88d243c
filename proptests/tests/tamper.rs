//! A small log changed in every way: all of it is found, and where.
#![expect(clippy::print_stdout, reason = "the counts are the result")]

use momentlog_proptests::tamper_everywhere;

#[test]
fn every_change_of_a_small_log_is_found() {
    let tampered = tamper_everywhere();
    println!("{tampered:?}");
    assert!(
        tampered.flips > 10_000 && tampered.cuts > 10_000,
        "{tampered:?}"
    );
    assert_eq!(tampered.flips_found, tampered.flips, "{tampered:?}");
    assert_eq!(tampered.cuts_found, tampered.cuts, "{tampered:?}");
    assert_eq!(tampered.records_found, tampered.records, "{tampered:?}");
}
