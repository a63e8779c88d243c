//! One process does all of its work between two calls of another.

use momentlog_proptests::overtaken::{Work, overtake_everywhere};

#[test]
fn nobody_sees_damage_or_loses_anything_while_another_process_works() {
    let mut runs = 0;
    for ours in Work::ALL {
        for theirs in Work::CHANGES {
            for warm in [false, true] {
                runs += overtake_everywhere(ours, theirs, warm);
            }
        }
    }
    assert!(runs > 1_000, "{runs}");
}
