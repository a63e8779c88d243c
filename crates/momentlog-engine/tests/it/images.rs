//! Images, beside those who write.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use momentlog_core::{Memory, Redefine, RunState, SnapshotDef, SnapshotState};
use momentlog_engine::{ImageFault, verify};
use momentlog_store::{
    Disk, Draft, FileStore, Head, ImageWriter, LogId, RealDisk, Record, Retention, Seq, StoreError,
};

use super::*;

/// A store whose images are written once the test allows it.
#[derive(Debug)]
struct Slow {
    inner: MemoryStore,
    begun: Sender<Head>,
    go: Option<Receiver<()>>,
    released: Sender<()>,
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

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.inner.acquire(wait)
    }

    fn release(&mut self) {
        let _ = self.released.send(());
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        Some(self)
    }
}

impl Retention for Slow {
    fn start(&mut self) -> Result<Option<Head>, StoreError> {
        Ok(None)
    }

    fn latest_image(&mut self, _: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        Ok(None)
    }

    fn images(&mut self) -> Result<Vec<Seq>, StoreError> {
        Ok(Vec::new())
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

    fn archive(&mut self, _: Head, _: Draft, _: &dyn Disk) -> Result<Record, StoreError> {
        Err(StoreError::Unsupported {
            doing: "archive records",
        })
    }
}

/// A log over such a store; what says of which record an image is begun; what allows it; what says that the store was
/// released.
fn slow() -> (Log, Receiver<Head>, Sender<()>, Receiver<()>) {
    let (begun, has_begun) = channel();
    let (go, may_go) = channel();
    let (released, was_released) = channel();
    let log = log_over(Box::new(Slow {
        inner: MemoryStore::new(),
        begun,
        go: Some(may_go),
        released,
    }));
    (log, has_begun, go, was_released)
}

#[test]
fn writers_go_on_while_an_image_is_made() {
    let (log, has_begun, go, _was_released) = slow();
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

/// Otherwise another process could archive meanwhile, and the image would replace the one with which the log begins.
#[test]
fn the_store_is_not_released_before_the_image_is_written() {
    let (log, has_begun, go, was_released) = slow();
    std::thread::scope(|scope| {
        let made = scope.spawn(|| log.make_image());
        has_begun.recv().unwrap();
        scope.spawn(|| log.release());
        assert!(
            was_released
                .recv_timeout(Duration::from_millis(200))
                .is_err()
        );
        go.send(()).unwrap();
        made.join().unwrap().unwrap();
        was_released.recv().unwrap();
    });
}

#[test]
fn an_image_with_a_forged_answer_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (store, archive) = (dir.path().join("store"), dir.path().join("archive"));
    let log = log_over(Box::new(FileStore::new(RealDisk::new(&store))));
    let once = Provenance {
        request_id: Some("r1".into()),
        ..Provenance::default()
    };
    log.execute(&once, &command(checkpoint("a"))).unwrap();
    log.archive(&Provenance::default(), &RealDisk::new(&archive))
        .unwrap();
    execute(&log, checkpoint("b"));
    let image = log.make_image().unwrap();
    drop(log);
    let faults = |archive| {
        let found = verify(&store, archive, None, &mut |_| {}).unwrap();
        (found.images_sound, found.images)
    };
    assert_eq!(faults(None).1, []);
    assert_eq!(faults(Some(&*archive)).1, []);

    // The answer stands at the end of the body, before its checksum.
    let path = store.join(format!("{:020}.img", image.seq.get()));
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 4;
    bytes[end - 1] ^= 1;
    let checksum = crc32c::crc32c(&bytes[96..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    for archive in [None, Some(&*archive)] {
        assert_eq!(faults(archive).1, [ImageFault::Differs(image.seq)]);
    }
}

/// Definitions that are equal byte for byte differ where the XML of a domain meant something else when they were made.
#[test]
fn an_image_tells_equal_texts_apart_that_have_meant_different_things() {
    let dir = tempfile::tempdir().unwrap();
    let files = || FileStore::new(RealDisk::new(dir.path().join("store")));
    let log = log_over(Box::new(files()));
    let memory = [1, 2, 1, 2, 2, 1, 1, 2];
    for (number, memory_kib) in memory.into_iter().enumerate() {
        let def = DomainDef {
            name: "vm".into(),
            uuid: DOMAIN,
            memory_kib,
            disks: Vec::new(),
            xml: "<domain/>\n".into(),
        };
        execute(
            &log,
            Action::RedefineSnapshot(Redefine {
                name: MomentName::new(&format!("s{number}")).unwrap(),
                parent: None,
                created: 1_700_000_000,
                def: SnapshotDef {
                    description: None,
                    state: SnapshotState::Run(RunState::Shutoff),
                    memory: Memory::No,
                    disks: Vec::new(),
                    domain: Some(Arc::new(def)),
                    inactive_domain: None,
                    revert_disks: None,
                    extra: None,
                },
                current: false,
            }),
        );
    }
    log.make_image().unwrap();
    let opened = Log::over(Box::new(files()), Options::default());
    let view = opened.refresh().unwrap();
    let snapshots = view.domain(DOMAIN).unwrap().snapshots();
    for (number, memory_kib) in memory.into_iter().enumerate() {
        let def = &snapshots.find(&format!("s{number}")).unwrap().def;
        assert_eq!(def.domain.as_ref().unwrap().memory_kib, memory_kib);
    }
    assert_eq!(*view, *log.view());
    log.release();
    let found = verify(&dir.path().join("store"), None, None, &mut |_| {}).unwrap();
    assert_eq!(found.images, []);
}
