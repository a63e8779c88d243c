//! Images, beside those who write.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use momentlog_store::{Draft, Head, ImageWriter, LogId, Record, StoreError};

use super::*;

/// A store whose images are only written once it is told to.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    begun: Sender<Head>,
    go: Option<Receiver<()>>,
}

impl Store for Slow {
    fn log_id(&self) -> Option<LogId> {
        self.inner.log_id()
    }

    fn head(&self) -> Option<Head> {
        self.inner.head()
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.inner.append(log, expected, drafts)
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.inner.read(after, each)
    }

    fn begin(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.inner.begin(wait)
    }

    fn end(&mut self) {}

    fn is_writer(&self) -> bool {
        true
    }

    fn image_writer(&mut self) -> Result<ImageWriter, StoreError> {
        let head = self.inner.head().unwrap();
        let begun = self.begun.clone();
        let go = self.go.take().unwrap();
        Ok(Box::new(move |_| {
            begun.send(head).unwrap();
            let waited = go.recv_timeout(Duration::from_mins(1));
            assert!(waited.is_ok(), "the writer waits for the image");
            Ok(head)
        }))
    }
}

#[test]
fn writers_go_on_while_an_image_is_made() {
    let (begun, has_begun) = channel();
    let (go, may_go) = channel();
    let log = log_over(Box::new(Slow {
        inner: MemoryStore::new(),
        begun,
        go: Some(may_go),
    }));
    execute(&log, checkpoint("a"));
    let of = log.view().head().unwrap();
    std::thread::scope(|scope| {
        let made = scope.spawn(|| log.make_image());
        assert_eq!(has_begun.recv().unwrap(), of);
        assert_eq!(execute(&log, checkpoint("b")), 5);
        assert_eq!(log.entries(None).unwrap().len(), 5);
        go.send(()).unwrap();
        assert_eq!(made.join().unwrap().unwrap(), of);
    });
}
