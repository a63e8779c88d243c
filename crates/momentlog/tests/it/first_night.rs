//! The programs that people copy, run on a store where nothing was backed up yet.

#[path = "../../../../examples/nightly-backup.rs"]
#[expect(dead_code, reason = "its `main` opens a store of its own")]
mod nightly_backup;
#[expect(clippy::print_stdout, reason = "it is a program")]
mod program;

use super::*;

#[test]
fn the_readmes_program_runs_on_its_first_night_and_on_the_next() {
    let readme = include_str!("../../../../README.md");
    let shown = include_str!("first_night/program.rs")
        .replace("pub(super) fn main(uri: &str)", "fn main()")
        .replace("open(uri)", "open(\"momentlog:///var/lib/backup/moments\")");
    assert!(readme.contains(&shown), "the README shows another program");

    let scratch = Scratch::new();
    let store = scratch.open();
    let web01 = include_str!("../../../../examples/web01.xml");
    store.define_domain_xml(web01).unwrap();
    store.release();
    for _ in 0..2 {
        program::main(&scratch.uri()).unwrap();
    }
}

#[test]
fn the_nightly_backup_runs_from_its_first_night_on() {
    nightly_backup::five_nights(&Scratch::new().open()).unwrap();
}
