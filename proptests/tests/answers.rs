//! What the library says of a log's past is what its bytes say.

use std::path::Path;

use momentlog_proptests::{compare_answers, write_answers};

#[test]
fn a_model_that_reads_the_bytes_gives_the_same_answers() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/format/audit.py");
    let dir = tempfile::tempdir().unwrap();
    for seed in 1..=3 {
        let dir = dir.path().join(seed.to_string());
        std::fs::create_dir(&dir).unwrap();
        let answered = write_answers(&dir, seed, 400, 50);
        assert!(answered.moments > 50, "{answered:?}");
        if let Err(differences) = compare_answers(&model, &dir) {
            panic!("seed {seed}: {differences}");
        }
    }
}
