//! What the library says of a log's past is what its bytes say.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "how much was asked")]

use std::path::Path;

use momentlog_proptests::{Answered, compare_answers, write_answers};

/// How many stores, of how many records, and of how many pairs of points is asked: `MOMENTLOG_MODEL=100,2000,200`, say.
fn effort() -> [usize; 3] {
    let Ok(text) = std::env::var("MOMENTLOG_MODEL") else {
        return [3, 400, 50];
    };
    let numbers = text.split(',').map(|number| number.parse().unwrap());
    numbers.collect::<Vec<usize>>().try_into().unwrap()
}

#[test]
fn a_model_that_reads_the_bytes_gives_the_same_answers() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format/audit.py");
    let dir = tempfile::tempdir().unwrap();
    let [stores, records, pairs] = effort();
    let mut all = Answered::default();
    for seed in 1..=stores as u64 {
        let dir = dir.path().join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        let answered = write_answers(&dir, seed, records, pairs);
        assert!(answered.moments > 50, "{answered:?}");
        if let Err(differences) = compare_answers(&model, &dir) {
            panic!("seed {seed}: {differences}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        all.moments += answered.moments;
        all.pairs += answered.pairs;
        all.bytes += answered.bytes;
    }
    println!("{all:?}");
}
