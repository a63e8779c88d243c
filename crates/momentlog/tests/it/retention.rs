//! Images, archives, tickets, and threads that share a sync.

use std::path::Path;
use std::sync::{Arc, Mutex};

use momentlog::core::{Action, Command, CreateCheckpoint, Extent, MomentKind, MomentName};
use momentlog::store::{
    Draft, FileStore, Head, LogId, Receipt, Record, Seq, Store, StoreError, Verdict,
};
use momentlog::{CheckpointListFlags, ImageFault, Options, Provenance};

use super::*;

fn create(domain: &Domain, name: &str) -> Command {
    Command {
        domain: domain.uuid(),
        action: Action::CreateCheckpoint(CreateCheckpoint {
            name: MomentName::new(name),
            description: Some("nightly".into()),
            now: 5,
            disks: Vec::new(),
        }),
    }
}

/// Files of a store or archive whose names end so, sorted.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(ending))
        .collect();
    found.sort();
    found
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn names(domain: &Domain) -> Vec<String> {
    let listed = domain.list_all_checkpoints(CheckpointListFlags::NONE);
    let name = |checkpoint: &momentlog::Checkpoint| checkpoint.name().to_string();
    listed.unwrap().iter().map(name).collect()
}

fn verify(scratch: &Scratch, archive: Option<&Path>) -> momentlog::Verification {
    momentlog::verify(&scratch.path(), archive, None, &mut |_| {}).unwrap()
}

/// A store of five records, all of them in the archive, and the bridge after them.
fn archived() -> (Scratch, PathBuf, Receipt) {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let asked = Provenance {
        request_id: Some("r1".into()),
        ..store.provenance().clone()
    };
    store
        .with_provenance(asked)
        .execute(&create(&domain, "a"))
        .unwrap();
    checkpoint(&domain, "b").unwrap();
    checkpoint(&domain, "c").unwrap();
    let receipt = store.receipt().unwrap().unwrap();
    let to = scratch.dir.path().join("archive");
    let done = store.archive(&to).unwrap();
    assert_eq!(
        (done.first.get(), done.last.seq.get(), done.bridge.seq.get()),
        (1, 5, 6)
    );
    (scratch, to, receipt)
}

#[test]
fn a_store_opened_from_an_image_is_the_same() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    assert_eq!(store.make_image().unwrap().seq.get(), 3);
    checkpoint(&domain, "b").unwrap();
    let view = store.view();
    store.release();
    let again = scratch.open();
    assert_eq!(again.refresh().unwrap().state(), view.state());
    assert_eq!(again.view().head(), view.head());
    let found = verify(&scratch, None);
    assert_eq!(
        (found.verdict(), found.images_sound),
        (Verdict::Unanchored, 1)
    );
    // Deleting it changes nothing but time.
    for image in files(&scratch.path(), ".img") {
        std::fs::remove_file(image).unwrap();
    }
    assert_eq!(scratch.open().refresh().unwrap().state(), view.state());
}

#[test]
fn an_image_that_is_damaged_or_of_another_log_is_passed_over() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    store.make_image().unwrap();
    let view = store.view();
    store.release();
    let image = files(&scratch.path(), ".img").remove(0);
    let whole = std::fs::read(&image).unwrap();
    for bit in 0..8 * whole.len() {
        edit(&image, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let found = scratch.open().refresh().unwrap();
        assert_eq!(found.state(), view.state(), "bit {bit}");
        std::fs::write(&image, &whole).unwrap();
    }
    let other = Scratch::new();
    let (theirs, domain) = other.with_domain();
    checkpoint(&domain, "z").unwrap();
    theirs.make_image().unwrap();
    std::fs::copy(files(&other.path(), ".img").remove(0), &image).unwrap();
    assert_eq!(scratch.open().refresh().unwrap().state(), view.state());
}

#[test]
fn a_full_disk_makes_no_image_and_loses_nothing() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    // A directory in the way of the image is as good as no space.
    std::fs::create_dir(scratch.path().join("00000000000000000003.img")).unwrap();
    assert_eq!(told(store.make_image()).0, 38);
    checkpoint(&domain, "b").unwrap();
    assert_eq!(names(&domain), ["a", "b"]);
}

#[test]
fn an_archived_log_goes_on_and_keeps_its_proof() {
    let (scratch, to, receipt) = archived();
    assert_eq!(files(&to, ".seg").len(), 1);
    let store = scratch.open();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    assert_eq!(names(&domain), ["a", "b", "c"]);
    checkpoint(&domain, "d").unwrap();
    store.release();

    let alone = verify(&scratch, None);
    assert_eq!(alone.verdict(), Verdict::Unanchored, "{alone:?}");
    assert_eq!(alone.log.start.unwrap().seq.get(), 5);
    assert_eq!((alone.log.records, alone.counts), (2, (1, 0, 4)));
    let whole = verify(&scratch, Some(&to));
    assert_eq!(whole.verdict(), Verdict::Unanchored, "{whole:?}");
    assert_eq!((whole.log.start, whole.log.records), (None, 7));
    assert_eq!(whole.images_sound, 1);
    // The receipt of the last archived record anchors without the archive, an older one with it.
    let against = |archive: Option<&Path>, receipt: Receipt| {
        momentlog::verify(&scratch.path(), archive, Some(receipt), &mut |_| {}).unwrap()
    };
    assert_eq!(against(None, receipt).verdict(), Verdict::Anchored);
    let older = Receipt {
        head: {
            let mut head = None;
            let disk = momentlog::store::RealDisk::new(&to);
            let mut archive = FileStore::new(disk);
            archive
                .read(None, &mut |record| {
                    head = head.or(Some(record.head()));
                    Ok(())
                })
                .unwrap();
            head.unwrap()
        },
        ..receipt
    };
    let unknown = against(None, older);
    assert_eq!(unknown.verdict(), Verdict::Unanchored);
    assert!(unknown.log.receipt_archived);
    assert_eq!(against(Some(&to), older).verdict(), Verdict::Anchored);
}

#[test]
fn a_request_that_was_archived_gets_its_first_answer() {
    let (scratch, _, _) = archived();
    let store = scratch.open();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    let asked = Provenance {
        request_id: Some("r1".into()),
        ..store.provenance().clone()
    };
    let again = store
        .with_provenance(asked.clone())
        .execute(&create(&domain, "a"))
        .unwrap();
    assert_eq!((again.seq.get(), again.repeated), (3, true));
    assert_eq!(again.events.len(), 1);
    let other = store.with_provenance(asked).execute(&create(&domain, "z"));
    assert_eq!(told(other).0, 8);
    // Also after the next archiving.
    store.archive(&scratch.dir.path().join("archive")).unwrap();
    store.release();
    let asked = Provenance {
        request_id: Some("r1".into()),
        ..store.provenance().clone()
    };
    let again = scratch
        .open()
        .with_provenance(asked)
        .execute(&create(&domain, "a"))
        .unwrap();
    assert_eq!((again.seq.get(), again.repeated), (3, true));
}

#[test]
fn a_domain_that_an_archived_request_removed_is_looked_up_by_name_uuid_and_id_alike() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let asking = store.with_provenance(Provenance {
        request_id: Some("gone".into()),
        ..store.provenance().clone()
    });
    let undefine = |found: Result<Domain, Error>| found?.undefine(momentlog::UndefineFlags::NONE);
    undefine(asking.lookup_domain_by_name("vm")).unwrap();
    store.archive(&scratch.dir.path().join("archive")).unwrap();
    let head = store.refresh().unwrap().head();
    let lookups = |store: &Connection| {
        [
            store.lookup_domain_by_name("vm"),
            store.lookup_domain_by_uuid(domain.uuid()),
            store.lookup_domain_by_id(7),
        ]
    };
    for found in lookups(&asking) {
        assert_eq!(found.as_ref().unwrap().uuid(), domain.uuid());
        undefine(found).unwrap();
    }
    assert_eq!(store.refresh().unwrap().head(), head);
    // Another uuid is not that of the request, and without the request it is gone.
    let other = momentlog::core::DomainUuid::from_entropy([7; 16]);
    assert_eq!(told(asking.lookup_domain_by_uuid(other)).0, 42);
    for found in lookups(&store) {
        assert_eq!(told(found).0, 42);
    }
}

#[test]
fn what_was_archived_is_not_told_without_the_archive() {
    let (scratch, _, _) = archived();
    let store = scratch.open();
    let (code, _, message) = told(store.view_at(Seq::new(3).unwrap()).map(|_| ()));
    assert_eq!(code, 38);
    assert!(message.contains("records up to 5 were moved to an archive"));
    assert_eq!(
        store
            .view_at(Seq::new(5).unwrap())
            .unwrap()
            .state()
            .domains()
            .count(),
        1
    );
    let entries = store.entries(None).unwrap();
    assert_eq!(entries.len(), 1);
    let bridge = entries[0].bridge.as_ref().unwrap();
    assert_eq!(bridge.last.seq.get(), 5);
    assert!(bridge.archive.as_deref().unwrap().ends_with("archive"));
}

#[test]
fn a_reader_that_was_behind_goes_on_from_the_image() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let reader = Connection::open_read_only(&scratch.uri()).unwrap();
    let seen = reader.lookup_domain_by_name("vm").unwrap();
    checkpoint(&domain, "a").unwrap();
    checkpoint(&domain, "b").unwrap();
    store.archive(&scratch.dir.path().join("archive")).unwrap();
    checkpoint(&domain, "c").unwrap();
    assert_eq!(names(&seen), ["a", "b", "c"]);
}

#[test]
fn a_beginning_that_was_taken_away_and_not_archived_is_told() {
    let (scratch, _, _) = archived();
    let store = scratch.open();
    let domain = store.lookup_domain_by_name("vm").unwrap();
    for index in 0..3 {
        checkpoint(&domain, &format!("more{index}")).unwrap();
    }
    store.archive(&scratch.dir.path().join("archive")).unwrap();
    checkpoint(&domain, "last").unwrap();
    store.release();
    let base = files(&scratch.path(), ".img").remove(0);
    let image = std::fs::read(&base).unwrap();
    std::fs::remove_file(&base).unwrap();
    let found = verify(&scratch, None);
    assert_eq!(found.verdict(), Verdict::Damaged);
    assert!(
        matches!(found.images[..], [ImageFault::Missing(_)]),
        "{found:?}"
    );
    assert_eq!(told(scratch.open().refresh().map(|_| ())).0, 38);
    std::fs::write(&base, &image).unwrap();
    assert_eq!(verify(&scratch, None).verdict(), Verdict::Unanchored);
    // With its archive beside it, a log needs no image.
    std::fs::remove_file(&base).unwrap();
    let whole = verify(&scratch, Some(&scratch.dir.path().join("archive")));
    assert_eq!(whole.verdict(), Verdict::Unanchored, "{whole:?}");
    std::fs::write(&base, &image).unwrap();
    // Every bit of the file that says where the log begins.
    let start = scratch.path().join("start");
    let bytes = std::fs::read(&start).unwrap();
    for bit in 0..8 * bytes.len() {
        edit(&start, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        assert_eq!(verify(&scratch, None).verdict(), Verdict::Damaged, "{bit}");
        std::fs::write(&start, &bytes).unwrap();
    }
}

#[test]
fn an_archive_goes_neither_into_a_store_nor_over_another_log() {
    let (scratch, to, _) = archived();
    let store = scratch.open();
    let (code, _, message) = told(store.archive(&scratch.path()));
    assert_eq!(code, 38);
    assert!(message.contains("it is the store itself"), "{message}");
    let other = Scratch::new();
    let (theirs, _) = other.with_domain();
    let (code, _, message) = told(theirs.archive(&scratch.path()));
    assert_eq!(code, 38);
    assert!(message.contains("an archive goes elsewhere"), "{message}");
    let (code, _, message) = told(theirs.archive(&to));
    assert_eq!(code, 38);
    assert!(
        message.contains("it is the archive of another log"),
        "{message}"
    );
    std::fs::remove_file(to.join("archive")).unwrap();
    let (code, _, message) = told(theirs.archive(&to));
    assert_eq!(code, 38);
    assert!(
        message.contains("another file of that name is there"),
        "{message}"
    );
    assert_eq!(verify(&other, None).verdict(), Verdict::Unanchored);
    assert_eq!(verify(&scratch, Some(&to)).verdict(), Verdict::Unanchored);
}

#[test]
fn what_is_submitted_is_answered_when_it_is_waited_for() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let first = store.submit(&create(&domain, "a")).unwrap();
    let twice = store.submit(&create(&domain, "a")).unwrap();
    let second = store.submit(&create(&domain, "b")).unwrap();
    // Nothing of it is durable, so it is not published.
    assert_eq!(store.view().head().unwrap().seq.get(), 2);
    assert_eq!(names(&domain), [""; 0]);
    assert_eq!(second.wait().unwrap().seq.get(), 4);
    assert_eq!(store.view().head().unwrap().seq.get(), 4);
    assert_eq!(first.wait().unwrap().seq.get(), 3);
    assert_eq!(told(twice.wait()).0, 9);
    assert_eq!(names(&domain), ["a", "b"]);
}

#[test]
fn what_is_submitted_and_forgotten_is_written_on_close() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    for index in 0..3000 {
        drop(
            store
                .submit(&create(&domain, &format!("c{index}")))
                .unwrap(),
        );
    }
    drop((store, domain));
    let again = scratch.open();
    let domain = again.lookup_domain_by_name("vm").unwrap();
    assert_eq!(names(&domain).len(), 3000);
    // It was worth an image as well.
    assert_eq!(files(&scratch.path(), ".img").len(), 1);
}

#[test]
fn threads_that_append_together_share_a_sync_and_lose_nothing() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let scratch = Scratch::new();
    let store = Connection::open_with(
        &scratch.uri(),
        Options {
            provenance: Provenance {
                actor: "threads".into(),
                ..Provenance::default()
            },
            ..Options::default()
        },
    )
    .unwrap();
    let store = Arc::new(store);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                let xml = DOMAIN
                    .replace("<name>vm<", &format!("<name>vm{thread}<"))
                    .replace("8e4b21", &format!("8e4b{:02}", 30 + thread));
                let domain = store.define_domain_xml(&xml).unwrap();
                for index in 0..EACH {
                    checkpoint(&domain, &format!("c{index}")).unwrap();
                    assert_eq!(names(&domain).len(), index + 1);
                    // Refused on what is durable, in whatever order the threads come.
                    assert_eq!(told(checkpoint(&domain, &format!("c{index}"))).0, 9);
                }
            });
        }
    });
    let records = store.view().head().unwrap().seq.get();
    assert_eq!(records, (1 + THREADS * (EACH + 1)) as u64);
    store.release();
    let found = verify(&scratch, None);
    assert_eq!(found.verdict(), Verdict::Unanchored, "{found:?}");
    assert_eq!(found.counts, (THREADS, 0, THREADS * EACH));
}

/// A table that several processes append to, as a database would be: it is never anybody's alone.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Arc<Mutex<Vec<Record>>>,
    seen: Option<Head>,
}

impl Store for Table {
    fn log_id(&self) -> Option<LogId> {
        self.seen.map(|_| LogId([8; 16]))
    }

    fn head(&self) -> Option<Head> {
        self.seen
    }

    fn append(
        &mut self,
        _: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        let mut rows = self.rows.lock().unwrap();
        let found = rows.last().map(Record::head);
        if found != expected {
            return Err(StoreError::Conflict { expected, found });
        }
        let first = rows.len();
        for draft in drafts {
            let head = rows.last().map(Record::head);
            rows.push(Record::new(LogId([8; 16]), head, None, draft));
        }
        self.seen = rows.last().map(Record::head);
        Ok(rows[first..].to_vec())
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let from = after.map_or(0, |head| head.seq.get());
        let rows = self.rows.lock().unwrap().clone();
        self.seen = rows.last().map(Record::head);
        rows.into_iter()
            .filter(|row| row.seq.get() > from)
            .try_for_each(each)
    }

    fn acquire(&mut self, _: std::time::Duration) -> Result<(), StoreError> {
        Ok(())
    }

    fn release(&mut self) {}

    fn is_exclusive(&self) -> bool {
        false
    }
}

#[test]
fn a_store_that_others_write_as_well_is_decided_anew_when_they_come_first() {
    const EACH: usize = 40;
    let table = Table::default();
    let open = || Connection::over(Box::new(table.clone()), Options::default());
    let domain = open().define_domain_xml(DOMAIN).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = open();
            let uuid = domain.uuid();
            scope.spawn(move || {
                let domain = store.lookup_domain_by_uuid(uuid).unwrap();
                for index in 0..EACH {
                    checkpoint(&domain, &format!("t{thread}-{index}")).unwrap();
                }
            });
        }
    });
    let all = open();
    assert_eq!(
        names(&all.lookup_domain_by_name("vm").unwrap()).len(),
        4 * EACH
    );
    assert_eq!(all.refresh().unwrap().state().check_policy(), Ok(()));
    assert_eq!(told(all.make_image()).0, 38);
}

#[test]
fn an_image_is_made_every_half_million_records() {
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let delete = Command {
        domain: domain.uuid(),
        action: Action::Delete {
            kind: MomentKind::Checkpoint,
            name: MomentName::new("a").unwrap(),
            extent: Extent::One,
        },
    };
    let pair = [create(&domain, "a"), delete];
    let batch: Vec<Command> = pair.into_iter().cycle().take(10_000).collect();
    for _ in 0..49 {
        store.execute_all(&batch).unwrap();
    }
    assert_eq!(files(&scratch.path(), ".img").len(), 0);
    store.execute_all(&batch).unwrap();
    // It is made beside the writers, and a release waits for it.
    store.release();
    let images = files(&scratch.path(), ".img");
    assert_eq!(images.len(), 1, "{images:?}");
    assert!(
        images[0].ends_with("00000000000000500002.img"),
        "{images:?}"
    );
}

#[test]
fn a_retry_by_name_gets_its_first_answer_from_an_archive() {
    use momentlog::{CheckpointDeleteFlags, Provenance, UndefineFlags};
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    checkpoint(&domain, "a").unwrap();
    let under = |id: &str| {
        store.with_provenance(Provenance {
            actor: "backup".into(),
            request_id: Some(id.into()),
            ..Provenance::default()
        })
    };
    let delete = |name: &str| {
        let connection = under("delete").for_retry()?;
        let domain = connection.lookup_domain_by_name("vm")?;
        let checkpoint = domain.checkpoint_lookup_by_name(name)?;
        checkpoint.delete(CheckpointDeleteFlags::NONE)
    };
    let undefine = || {
        let domain = under("undefine").lookup_domain_by_name("vm")?;
        domain.undefine(UndefineFlags::NONE)
    };
    delete("a").unwrap();
    undefine().unwrap();
    let cold = tempfile::tempdir().unwrap();
    store.archive(&cold.path().join("cold")).unwrap();
    let head = store.refresh().unwrap().head();
    delete("a").unwrap();
    undefine().unwrap();
    assert_eq!(store.refresh().unwrap().head(), head);
    let other = told(delete("b"));
    assert!(
        other.2.contains("was used for another command"),
        "{other:?}"
    );
    assert_eq!(told(under("new").lookup_domain_by_name("vm")).0, 42);
}

#[test]
fn an_archived_request_is_answered_also_from_an_image_of_a_process_that_did_not_archive() {
    use momentlog::Provenance;
    let scratch = Scratch::new();
    let (store, domain) = scratch.with_domain();
    let once = Provenance {
        request_id: Some("r1".into()),
        ..Provenance::default()
    };
    checkpoint(&domain.with_provenance(once.clone()), "a").unwrap();
    store.release();
    // It has read all of the log before another process moves it away.
    let other = scratch.open();
    store
        .archive(&scratch.path().with_extension("cold"))
        .unwrap();
    store.release();
    let theirs = other.lookup_domain_by_name("vm").unwrap();
    checkpoint(&theirs, "b").unwrap();
    other.make_image().unwrap();
    drop((other, theirs, store, domain));

    let again = scratch.open().lookup_domain_by_name("vm").unwrap();
    let repeated = again.with_provenance(once);
    checkpoint(&repeated, "a").unwrap();
    let found = momentlog::verify(&scratch.path(), None, None, &mut |_| {}).unwrap();
    assert_eq!(found.images, []);
}
