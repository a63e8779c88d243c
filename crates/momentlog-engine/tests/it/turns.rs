//! Threads that wait for another process.

use std::sync::Barrier;
use std::time::Duration;

use momentlog_store::{FileStore, RealDisk};

use super::*;

#[test]
fn threads_that_have_waited_for_another_process_share_what_one_of_them_got() {
    const THREADS: usize = 8;
    let scratch = tempfile::tempdir().unwrap();
    let store = || Box::new(FileStore::new(RealDisk::new(scratch.path().join("store"))));
    let holder = log_over(store());
    let options = Options {
        lock_wait: Duration::from_mins(1),
        ..Options::default()
    };
    let waiting = Log::over(store(), options);
    let begin = Barrier::new(THREADS + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (waiting, begin) = (&waiting, &begin);
            scope.spawn(move || {
                begin.wait();
                for each in 0..20 {
                    execute(waiting, checkpoint(&format!("{thread}-{each}")));
                }
            });
        }
        begin.wait();
        // Some of them have found the lock held by then.
        for each in 0..100 {
            execute(&holder, checkpoint(&format!("held-{each}")));
        }
        holder.release();
    });
    let view = holder.refresh().unwrap();
    let domain = view.state().domain(DOMAIN).unwrap();
    assert_eq!(domain.checkpoints().len(), THREADS * 20 + 100);
}
