//! One process does all of its work between two calls of another.

use momentlog_proptests::overtaken::{
    Before, Put, Work, copy_everywhere, overtake_everywhere, put_back_everywhere, undo_everywhere,
};

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

#[test]
fn nothing_is_acknowledged_and_lost_when_another_store_is_put_in_place() {
    let mut runs = 0;
    let looks = [Work::Refresh, Work::Entries, Work::Retry];
    for ours in Work::CHANGES.into_iter().chain(looks) {
        for before in [Before::Cold, Before::Warm, Before::Torn] {
            for put in [
                Put::Earlier,
                Put::Fork,
                Put::EarlierInPlace,
                Put::ForkInPlace,
            ] {
                runs += put_back_everywhere(ours, before, put);
            }
        }
    }
    assert!(runs > 1_000, "{runs}");
}

#[test]
fn nothing_is_acknowledged_and_lost_when_the_files_are_overwritten_in_the_middle_of_an_append() {
    for warm in [false, true] {
        let calls = undo_everywhere(warm);
        assert!(calls > 5, "{calls}");
    }
}

#[test]
fn a_store_that_is_copied_head_first_while_it_is_written_is_a_store() {
    let runs = copy_everywhere(Work::Append) + copy_everywhere(Work::Image);
    assert!(runs > 10, "{runs}");
}
