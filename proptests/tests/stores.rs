//! Every kind of store keeps the contract, and the suite finds those that do not.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use momentlog::store::{
    Digest, Disk, Draft, FileStore, Head, ImageWriter, Limits, LogId, MemoryStore, Outline,
    RealDisk, Receipt, Record, Retention, Seq, Store, StoreError, Verdict,
};
use momentlog::{CheckpointCreateFlags, Connection, Options, Verification, verify_store};
use momentlog_proptests::{NewStore, SharedStore, SimDisk, StoreFault, check_store, store_suite};

#[path = "../../examples/embed-your-own-store.rs"]
mod embed_your_own_store;

/// Segments so short that the suite fills several.
const LIMITS: Limits = Limits {
    segment_len_first: 1024,
    segment_len_max: 4096,
    fill_len_max: 512,
};

/// Returns what opens a store of files on a disk in memory, as often as it is asked.
fn files() -> impl Fn() -> FileStore {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new("store"));
    move || FileStore::with_limits(disk.clone(), LIMITS)
}

#[test]
fn a_store_in_memory_keeps_the_contract() {
    store_suite(&mut || NewStore::alone(MemoryStore::new()));
}

#[test]
fn a_store_that_is_never_exclusive_keeps_the_contract() {
    store_suite(&mut || {
        let store = SharedStore::new();
        NewStore::shared(move || store.clone())
    });
}

#[test]
fn a_store_of_files_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let mut stores = 0;
    store_suite(&mut || {
        stores += 1;
        let path = scratch.path().join(stores.to_string());
        NewStore::shared(move || FileStore::new(RealDisk::new(&path)))
    });
}

#[test]
fn a_store_on_the_simulated_disk_keeps_the_contract() {
    store_suite(&mut || NewStore::shared(files()));
}

#[test]
fn the_store_of_the_example_keeps_the_contract() {
    store_suite(&mut || {
        let table = embed_your_own_store::Table::default();
        NewStore::shared(move || table.clone())
    });
}

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    IgnoresAfter,
    IgnoresExpected,
    OtherLogIdEachTime,
    SwallowsErrors,
    CallsOnAfterAnError,
    KeepsOnlyTheFirstImage,
    LosesImages,
    NewestImageWhateverIsAsked,
    EmptyFacts,
    LosesTexts,
    Reversed,
    GivesOutTheFirstOnly,
    DropsTheLast,
    StaleHead,
    KeepsNothing,
    AppendsTwice,
    LyingDigest,
    ConflictThatWrote,
    ClaimsTheLock,
    NeverReleases,
    AnotherReader,
    ScanIgnoresAfter,
    ScanDropsTheLast,
    ScanCannotBeBrokenOff,
    FindsTheOneBefore,
}

/// A store of files with a fault.
#[derive(Debug)]
struct Broken {
    inner: FileStore,
    fault: Fault,
    asked: AtomicU8,
    stale: Option<Head>,
}

impl Broken {
    fn new(inner: FileStore, fault: Fault) -> Broken {
        Broken {
            inner,
            fault,
            asked: AtomicU8::new(0),
            stale: None,
        }
    }
}

impl Store for Broken {
    fn log_id(&self) -> Option<LogId> {
        let log = self.inner.log_id()?;
        Some(match self.fault {
            Fault::OtherLogIdEachTime => LogId([self.asked.fetch_add(1, Ordering::Relaxed); 16]),
            _ => log,
        })
    }

    fn head(&self) -> Option<Head> {
        match self.fault {
            Fault::StaleHead => self.stale,
            _ => self.inner.head(),
        }
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        mut drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.stale = self.inner.head();
        let end = self.inner.head();
        match self.fault {
            Fault::IgnoresExpected => self.inner.append(log, end, drafts),
            Fault::KeepsNothing if end == expected => {
                let mut last = expected;
                let records = drafts.into_iter().map(|draft| {
                    let record = Record::new(log, last, None, draft);
                    last = Some(record.head());
                    record
                });
                Ok(records.collect())
            }
            Fault::AppendsTwice if end == expected => {
                let length = drafts.len();
                drafts.extend(drafts.clone());
                let mut records = self.inner.append(log, expected, drafts)?;
                records.truncate(length);
                Ok(records)
            }
            Fault::LyingDigest => {
                let mut records = self.inner.append(log, expected, drafts)?;
                for record in &mut records {
                    record.digest = Digest([1; 32]);
                }
                Ok(records)
            }
            Fault::ConflictThatWrote if end != expected => {
                self.inner.append(log, end, drafts)?;
                let found = end;
                Err(StoreError::Conflict { expected, found })
            }
            _ => self.inner.append(log, expected, drafts),
        }
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let after = after.filter(|_| self.fault != Fault::IgnoresAfter);
        let mut records = Vec::new();
        self.inner.read(after, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        match self.fault {
            Fault::DropsTheLast => drop(records.pop()),
            Fault::GivesOutTheFirstOnly => records.truncate(1),
            Fault::Reversed => records.reverse(),
            _ => {}
        }
        let mut answer = Ok(());
        for mut record in records {
            match self.fault {
                Fault::EmptyFacts => record.facts.clear(),
                Fault::LosesTexts => record.texts.clear(),
                _ => {}
            }
            match each(record) {
                Err(_) if self.fault == Fault::SwallowsErrors => return Ok(()),
                Err(error) if self.fault == Fault::CallsOnAfterAnError => answer = Err(error),
                answer => answer?,
            }
        }
        answer
    }

    fn scan(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(&Outline<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let after = after.filter(|_| self.fault != Fault::ScanIgnoresAfter);
        let (fault, end) = (self.fault, self.inner.head());
        self.inner.scan(after, &mut |outline| match fault {
            Fault::ScanDropsTheLast if Some(outline.seq) == end.map(|end| end.seq) => {
                ControlFlow::Continue(())
            }
            Fault::ScanCannotBeBrokenOff => {
                let _ = each(outline);
                ControlFlow::Continue(())
            }
            _ => each(outline),
        })
    }

    fn last_where(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        let last = self.inner.last_where(holds)?;
        match (self.fault, last) {
            (Fault::FindsTheOneBefore, Some(last)) => match Seq::new(last.seq.get() - 1) {
                Some(before) => self.inner.record(before),
                None => Ok(None),
            },
            (_, last) => Ok(last),
        }
    }

    fn verifies(&self) -> bool {
        true
    }

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        match (self.fault, self.inner.acquire(wait)) {
            (Fault::ClaimsTheLock, Err(StoreError::Locked { .. })) => Ok(()),
            (_, acquired) => acquired,
        }
    }

    fn release(&mut self) {
        if self.fault != Fault::NeverReleases {
            self.inner.release();
        }
    }

    fn is_exclusive(&self) -> bool {
        self.fault == Fault::ClaimsTheLock || self.inner.is_exclusive()
    }

    fn reader(&self) -> Option<Box<dyn Store>> {
        match self.fault {
            Fault::AnotherReader => Some(Box::new(MemoryStore::new())),
            _ => self.inner.reader(),
        }
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        Some(self)
    }
}

impl Retention for Broken {
    fn start(&mut self) -> Result<Option<Head>, StoreError> {
        self.inner.start()
    }

    fn latest_image(&mut self, most: Option<Seq>) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        match self.fault {
            Fault::LosesImages => Ok(None),
            Fault::NewestImageWhateverIsAsked => self.inner.latest_image(None),
            _ => self.inner.latest_image(most),
        }
    }

    fn images(&mut self) -> Result<Vec<Seq>, StoreError> {
        self.inner.images()
    }

    fn image_writer(&mut self) -> Result<ImageWriter, StoreError> {
        let writer = self.inner.image_writer()?;
        match (self.fault, self.inner.head()) {
            (Fault::KeepsOnlyTheFirstImage, Some(head))
                if self.inner.latest_image(None)?.is_some() =>
            {
                Ok(Box::new(move |_| Ok(head)))
            }
            _ => Ok(writer),
        }
    }

    fn archive(
        &mut self,
        expected: Head,
        bridge: Draft,
        to: &dyn Disk,
    ) -> Result<Record, StoreError> {
        self.inner.archive(expected, bridge, to)
    }
}

/// Checks that the suite finds a fault, and names the rule in these words.
#[track_caller]
fn finds(fault: Fault, rule: &str) {
    let found = check_store(&mut || {
        let open = files();
        NewStore::shared(move || Broken::new(open(), fault))
    });
    let breach = found.expect_err("the fault is not found");
    assert!(breach.rule.contains(rule), "{breach}");
}

#[test]
fn the_suite_finds_a_store_that_ignores_where_reading_begins() {
    finds(
        Fault::IgnoresAfter,
        "the records after the one that is named",
    );
}

#[test]
fn the_suite_finds_a_store_that_ignores_what_is_expected() {
    finds(
        Fault::IgnoresExpected,
        "does not expect the end of the log is a conflict",
    );
}

#[test]
fn the_suite_finds_a_store_with_another_id_each_time() {
    finds(
        Fault::OtherLogIdEachTime,
        "gives the log its id, which never changes",
    );
}

#[test]
fn the_suite_finds_a_store_that_only_claims_to_be_exclusive() {
    finds(Fault::ClaimsTheLock, "exclusive");
}

#[test]
fn the_suite_finds_a_store_that_swallows_what_its_reader_says() {
    finds(
        Fault::SwallowsErrors,
        "returns what the caller's closure returns",
    );
    finds(Fault::CallsOnAfterAnError, "calls it no more");
}

#[test]
fn the_suite_finds_a_store_that_keeps_only_the_first_image() {
    finds(
        Fault::KeepsOnlyTheFirstImage,
        "the newest image is given out",
    );
    finds(Fault::LosesImages, "the newest image is given out");
    finds(
        Fault::NewestImageWhateverIsAsked,
        "at or before the record that is named",
    );
}

#[test]
fn the_suite_finds_a_store_whose_records_have_empty_facts() {
    finds(Fault::EmptyFacts, "given out as it was appended");
    finds(Fault::LosesTexts, "given out as it was appended");
}

#[test]
fn the_suite_finds_a_store_that_loses_or_moves_records() {
    for fault in [
        Fault::Reversed,
        Fault::GivesOutTheFirstOnly,
        Fault::DropsTheLast,
    ] {
        finds(fault, "given out as it was appended");
    }
}

#[test]
fn the_suite_finds_a_store_that_appends_something_else() {
    finds(Fault::KeepsNothing, "head is the last record");
    finds(Fault::StaleHead, "head is the last record");
    finds(Fault::AppendsTwice, "head is the last record");
    finds(
        Fault::LyingDigest,
        "append returns one record for each draft",
    );
    finds(Fault::ConflictThatWrote, "nothing was appended");
}

#[test]
fn the_suite_finds_a_store_that_is_never_released() {
    finds(Fault::NeverReleases, "released");
}

#[test]
fn the_suite_finds_a_store_that_is_scanned_or_searched_badly() {
    finds(Fault::ScanIgnoresAfter, "a scan gives out the records");
    finds(Fault::ScanDropsTheLast, "a scan gives out the records");
    finds(Fault::ScanCannotBeBrokenOff, "a scan that is broken off");
    finds(Fault::FindsTheOneBefore, "the last record for which");
}

#[test]
fn the_suite_finds_a_reader_of_another_store() {
    finds(
        Fault::AnotherReader,
        "the records after the one that is named",
    );
}

/// Makes a domain with two checkpoints in a store, and an image of it where the store keeps images.
fn filled(store: Box<dyn Store>) -> Result<Receipt, momentlog::Error> {
    const DOMAIN: &str = "<domain type='test'><name>vm</name><memory>1</memory>\
        <os><type>hvm</type></os><devices><disk type='file'><source file='/a.qcow2'/>\
        <target dev='vda'/></disk></devices></domain>";
    let connection = Connection::over(store, Options::default());
    let domain = connection.define_domain_xml(DOMAIN)?;
    domain.start()?;
    for name in ["a", "b"] {
        let xml = format!("<domaincheckpoint><name>{name}</name></domaincheckpoint>");
        domain.checkpoint_create_xml(&xml, CheckpointCreateFlags::default())?;
    }
    // Not every store keeps images.
    let _ = connection.make_image();
    Ok(connection.receipt()?.expect("there are records"))
}

fn verified(store: &mut dyn Store, receipt: Option<Receipt>) -> Verification {
    verify_store(store, receipt, &mut |_| {}).expect("what is damaged is no error")
}

#[test]
fn a_log_in_any_store_is_verified() {
    let shared = SharedStore::new();
    let open = files();
    let table = embed_your_own_store::Table::default();
    let stores: [[Box<dyn Store>; 2]; 3] = [
        [Box::new(shared.clone()), Box::new(shared)],
        [Box::new(open()), Box::new(open())],
        [Box::new(table.clone()), Box::new(table)],
    ];
    for ([store, mut other], images) in stores.into_iter().zip([0, 1, 0]) {
        let receipt = filled(store).unwrap();
        let alone = verified(other.as_mut(), None);
        assert_eq!(alone.verdict(), Verdict::Unanchored, "{alone:?}");
        assert_eq!(alone.counts, (1, 0, 2));
        assert_eq!(alone.images_sound, images);
        assert_eq!(alone.log.head, Some(receipt.head));
        let anchored = verified(other.as_mut(), Some(receipt));
        assert_eq!(anchored.verdict(), Verdict::Anchored);
        let mut of_another = receipt;
        of_another.head.digest = Digest([1; 32]);
        let found = verified(other.as_mut(), Some(of_another));
        assert_eq!(found.verdict(), Verdict::Forked);
    }
}

#[test]
fn verification_finds_a_store_that_gives_out_something_else() {
    let store = SharedStore::new();
    let receipt = filled(Box::new(store.clone())).unwrap();
    for (fault, verdict) in [
        (StoreFault::EmptyFacts, Verdict::Damaged),
        (StoreFault::OtherLogId, Verdict::Damaged),
        (StoreFault::DropsTheLast, Verdict::Truncated),
    ] {
        let found = verified(&mut store.with_fault(fault), Some(receipt));
        assert_eq!(found.verdict(), verdict, "{fault:?}: {found:?}");
    }
}
