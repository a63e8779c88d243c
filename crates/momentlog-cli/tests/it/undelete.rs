//! Putting back what was deleted.

use super::*;

fn tree(program: &Program) -> String {
    let words = ["-q", "checkpoint-list", "web01", "--tree"];
    program.run(&words).out
}

#[test]
fn a_checkpoint_comes_back_between_its_parent_and_its_child() {
    let program = Program::with_domain();
    let made = program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-create-as web01 c3; \
         checkpoint-create-as web01 c4",
    ]);
    assert_eq!(made.status, 0, "{}", made.err);
    program.run(&["checkpoint-delete web01 c2"]);
    let before = tree(&program);
    program.run(&["checkpoint-delete web01 c3"]);
    let dry = program.run(&["-q", "checkpoint-undelete", "web01", "c3", "--dry-run"]);
    assert_eq!((dry.err.as_str(), dry.status), ("", 0));
    assert!(
        dry.out
            .contains("\n  checkpoint c3 created below c1\n  checkpoint c4 moved below c3\n"),
        "{}",
        dry.out
    );
    let back = program.run(&[
        "checkpoint-undelete",
        "web01",
        "c3",
        "--reason",
        "was needed",
    ]);
    assert_eq!((back.err.as_str(), back.status), ("", 0));
    assert!(
        back.out.starts_with(
            "Deletion in record 8 taken back by record 9\n\
             It brings back a record, not data."
        ),
        "{}",
        back.out
    );
    assert_eq!(tree(&program), before);
    // c3 came back, and is the child that c2 had.
    let late = program.run(&["checkpoint-undelete web01 c2"]);
    assert_eq!((late.err.as_str(), late.status), ("", 0));
    let below = program.run(&["-q", "checkpoint-parent", "web01", "c3"]).out;
    assert_eq!(below.trim(), "c2");
    let life = program.run(&["-q", "why", "web01", "c3"]).out;
    assert!(life.contains("deleted in 8, restored as #5"), "{life}");
    let log = program.run(&["-q", "log", "-n", "1", "--oneline"]).out;
    assert!(log.contains("; takes back record "), "{log}");
}

#[test]
fn a_chain_that_went_on_without_a_moved_child_is_no_place_to_come_back_to() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-delete web01 c2; \
         checkpoint-create-as web01 c3",
    ]);
    let late = program.run(&["checkpoint-undelete web01 c2"]);
    assert_eq!(late.status, 1, "{}", late.out);
    assert!(late.err.contains("do not form one chain"), "{}", late.err);
}

#[test]
fn a_subtree_comes_back_as_a_whole_with_its_current_checkpoint() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-create-as web01 c3",
    ]);
    let before = tree(&program);
    program.run(&["checkpoint-delete web01 c2 --children"]);
    assert_ne!(tree(&program), before);
    let back = program.run(&["--format", "json", "checkpoint-undelete", "web01", "c2"]);
    assert_eq!((back.err.as_str(), back.status), ("", 0));
    assert_eq!(tree(&program), before);
    // A new one hangs below the one that is current again.
    program.run(&["checkpoint-create-as web01 c4"]);
    let parent = program.run(&["-q", "checkpoint-parent", "web01", "c4"]).out;
    assert_eq!(parent.trim(), "c3");
}

#[test]
fn what_cannot_come_back_is_refused_and_a_new_name_helps() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-delete web01 c1; checkpoint-create-as web01 c1",
    ]);
    let taken = program.run(&["checkpoint-undelete web01 c1"]);
    assert_eq!(taken.status, 1);
    let why = "domain moment c1 already exists";
    assert!(taken.err.contains(why), "{}", taken.err);
    let none = program.run(&["checkpoint-undelete web01 c9"]);
    assert_eq!(
        none.err,
        "error: no record deleted a checkpoint 'c9' of domain 'web01'\n"
    );
    // A deletion that took nothing has nothing to give back, and leaves no record.
    program.run(&["checkpoint-delete web01 c1 --children-only"]);
    let nothing = program.run(&["checkpoint-undelete web01 c1 --record 6"]);
    assert_eq!(nothing.status, 1, "{nothing:?}");
    let why = "record 6 deletes no moment of domain 'web01'";
    assert!(nothing.err.contains(why), "{}", nothing.err);
    let wrong = program.run(&["checkpoint-undelete web01 c1 --record 3"]);
    let why = "record 3 deletes no moment of domain 'web01'";
    assert!(wrong.err.contains(why), "{}", wrong.err);
    program.run(&["policy web01 chain=off"]);
    let renamed = program.run(&["checkpoint-undelete web01 c1 --as c1-first"]);
    assert_eq!((renamed.err.as_str(), renamed.status), ("", 0));
    let names = program
        .run(&["-q", "checkpoint-list", "web01", "--name"])
        .out;
    assert_eq!(names, "c1\nc1-first\n");
}

#[test]
fn what_came_back_under_another_id_is_what_it_was() {
    let program = Program::with_domain();
    let does = |script: &str| {
        let ran = program.run(&[script]);
        assert_eq!((ran.err.as_str(), ran.status), ("", 0), "{script}");
    };
    does(
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-create-as web01 c3; \
         checkpoint-create-as web01 c4",
    );
    let before = tree(&program);
    // c4 moves below c2, goes, and comes back there: it is the child that c3 had.
    does("checkpoint-delete web01 c3; checkpoint-delete web01 c4");
    does("checkpoint-undelete web01 c4; checkpoint-undelete web01 c3");
    assert_eq!(tree(&program), before);
    // c2 goes and comes back while c3 is away: it is the parent that c3 had. Twice, so that a return returns.
    does("checkpoint-delete web01 c3");
    does("checkpoint-delete web01 c2; checkpoint-undelete web01 c2");
    does("checkpoint-delete web01 c2; checkpoint-undelete web01 c2");
    does("checkpoint-undelete web01 c3");
    assert_eq!(tree(&program), before);
    // One that came back under another name is the only one on both sides.
    does("checkpoint-delete web01 c3");
    does("checkpoint-delete web01 c4; checkpoint-undelete web01 c4 --as last");
    does("checkpoint-undelete web01 c3");
    assert_eq!(tree(&program), before.replace("c4", "last"));
    // A new one of the same name is another one.
    does("policy web01 chain=off; checkpoint-delete web01 c3; checkpoint-delete web01 last");
    does("checkpoint-create-as web01 last");
    does("checkpoint-undelete web01 c3");
    let below = program
        .run(&["-q", "checkpoint-parent", "web01", "last"])
        .out;
    assert_eq!(below.trim(), "c2");
}

#[test]
fn a_deletion_in_an_archive_is_taken_back_with_it() {
    let program = Program::with_domain();
    program.run(&[
        "checkpoint-create-as web01 c1; checkpoint-create-as web01 c2; checkpoint-create-as web01 c3; \
         checkpoint-create-as web01 c4",
    ]);
    let before = tree(&program);
    program.run(&["checkpoint-delete web01 c2; checkpoint-delete web01 c3"]);
    let moved = program.run(&["archive", "cold"]);
    assert_eq!(moved.status, 0, "{}", moved.err);
    let refused = program.run(&["checkpoint-undelete web01 c3 --record 8"]);
    assert_eq!(refused.status, 1);
    assert!(
        refused
            .err
            .ends_with("error: name the directory of the archive with --archive DIR\n"),
        "{}",
        refused.err
    );
    let unknown = program.run(&["checkpoint-undelete web01 c3"]);
    let why = "error: no record that is here deleted a checkpoint 'c3' of domain 'web01'\n";
    assert!(unknown.err.starts_with(why), "{}", unknown.err);
    let other = Program::with_domain();
    other.run(&["archive", "cold"]);
    let cold = other.dir.path().join("cold");
    let wrong = program.run(&[
        "checkpoint-undelete",
        "web01",
        "c3",
        "--record",
        "8",
        "--archive",
        cold.to_str().unwrap(),
    ]);
    assert_eq!(
        wrong.err,
        "error: invalid argument: the archive is of another log\n"
    );
    let words = ["checkpoint-undelete", "web01", "c3", "--archive", "cold"];
    let dry = program.run(&[&words[..], &["--dry-run"]].concat());
    assert!(dry.out.contains("checkpoint c4 moved below c3"), "{dry:?}");
    let back = program.run(&words);
    assert_eq!((back.err.as_str(), back.status), ("", 0));
    // The other one is in the archive, and c3, its child, came back here.
    let back = program.run(&["checkpoint-undelete web01 c2 --archive cold"]);
    assert_eq!((back.err.as_str(), back.status), ("", 0));
    assert_eq!(tree(&program), before);
}
