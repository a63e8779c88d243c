//! Crashes between the log and the hypervisor, at every request and at every change of the log.
#![expect(clippy::print_stdout, reason = "the counts are the result")]

use momentlog_proptests::{Driven, drive_everywhere, one_of_each_driven, some_driven};

#[test]
fn log_and_hypervisor_agree_or_what_differs_is_named_wherever_one_of_them_dies() {
    let tally = drive_everywhere(&one_of_each_driven());
    assert!(
        tally.points > 1000 && tally.kept > 1000 && tally.backups > 500 && tally.repaired > 50,
        "{tally:?}"
    );
    println!("{tally:?}");
}

#[test]
fn log_and_hypervisor_agree_or_what_differs_is_named_after_other_workloads() {
    let mut tally = Driven::default();
    for seed in 1..=4 {
        tally += drive_everywhere(&some_driven(seed, 5));
    }
    assert!(tally.points > 2000 && tally.kept > 1000, "{tally:?}");
    println!("{tally:?}");
}
