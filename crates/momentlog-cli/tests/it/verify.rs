//! What `verify` says of a receipt.

use super::*;

/// Returns the receipt of a store as it is now.
fn receipt(program: &Program) -> String {
    program.run(&["-q", "receipt"]).out.trim().to_owned()
}

#[test]
fn an_anchor_says_up_to_which_record_it_proves() {
    let program = Program::with_domain();
    let receipt = receipt(&program);
    let anchored = |expected: &str, unproven: u64| {
        let ran = program.run(&["verify", &receipt]);
        assert_eq!(ran.status, 0);
        assert!(
            ran.out.starts_with("Verdict:        anchored\n"),
            "{}",
            ran.out
        );
        assert!(
            ran.out.contains(&format!("\nAnchored:       {expected}\n")),
            "{}",
            ran.out
        );
        let ran = program.run(&["--format", "json", "verify", &receipt]);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (&report["anchored_to"], &report["unproven"]),
            (&2.into(), &unproven.into())
        );
    };
    anchored("up to record 2; it is the last", 0);
    program.run(&["checkpoint-create-as web01 a"]);
    anchored("up to record 2; 1 record behind it is not proven", 1);
    program.run(&["checkpoint-create-as web01 b"]);
    anchored("up to record 2; 2 records behind it are not proven", 2);
    let plain = program.run(&["verify"]);
    assert!(!plain.out.contains("Anchored:"), "{}", plain.out);
}

#[test]
fn a_receipt_that_only_the_archive_could_prove_is_not_called_proven() {
    let program = Program::with_domain();
    let first = receipt(&program);
    program.run(&[
        "checkpoint-create-as web01 a; archive cold; checkpoint-create-as web01 b; archive cold",
    ]);
    let ran = program.run(&["verify", &first]);
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(
        ran.out
            .starts_with("Verdict:        consistent, unanchored\n"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("of a record that was archived: not compared, give --archive\n"),
        "{}",
        ran.out
    );
    let ran = program.run(&["--format", "json", "verify", &first]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, &report["status"]), (3, &3.into()));
    assert_eq!(report["anchored_to"], serde_json::Value::Null);
    let whole = program.run(&["verify", &first, "--archive", "cold"]);
    assert_eq!(whole.status, 0, "{whole:?}");
    let newer = receipt(&program);
    assert_eq!(program.run(&["verify", &newer]).status, 0);
}

#[test]
fn a_receipt_of_another_log_names_both_logs() {
    let (program, other) = (Program::with_domain(), Program::with_domain());
    program.run(&["checkpoint-create-as web01 a"]);
    let foreign = receipt(&other);
    let id = |receipt: &str| {
        receipt
            .split(' ')
            .find(|word| word.len() == 32)
            .unwrap()
            .to_owned()
    };
    let ran = program.run(&["verify", &foreign]);
    assert_eq!(ran.status, 6, "{ran:?}");
    for log in [id(&foreign), id(&receipt(&program))] {
        let fault = ran.out.lines().find(|line| line.starts_with("Fault:"));
        assert!(fault.unwrap().contains(&log), "{log}: {}", ran.out);
    }
}
