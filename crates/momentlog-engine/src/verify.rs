//! Verification of a whole store: the chain, what its records mean, and what was made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use momentlog_core::{BrokenState, DomainUuid, PolicyBreach, Profile};
use momentlog_store::{
    Disk, FileStore, Head, RealDisk, Receipt, Record, Rejoined, Retention, Seq, Store, StoreError,
    Verdict, VerifyReport,
};
use sha2::{Digest as _, Sha256};

use crate::entry::Entry;
use crate::error::EngineError;
use crate::image;
use crate::ledger::{Ledger, ReplayError};
use crate::log::{replay, start as log_start};

/// What verification found.
#[derive(Debug)]
pub struct Verification {
    /// What the log's bytes say.
    pub log: VerifyReport,
    /// The first record that cannot be replayed.
    pub replay: Option<ReplayError>,
    /// The first invariant that the state breaks.
    pub broken: Option<BrokenState>,
    /// The first domain that does not meet its own policy.
    pub breach: Option<(DomainUuid, PolicyBreach)>,
    /// What is wrong with the images and bridges, in the order of the log.
    pub images: Vec<ImageFault>,
    /// How many images are what the log makes of the records up to theirs.
    pub images_sound: usize,
    /// How many files of images are passed over, because they are damaged or the log does not hold their record.
    pub images_ignored: usize,
    /// How many domains, snapshots and checkpoints the state has.
    pub counts: (usize, usize, usize),
    /// How many jobs are open: a driver has begun them and not recorded what came of them. That is no fault.
    pub jobs_open: usize,
}

/// What is wrong with an image, or with a bridge that names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageFault {
    /// It holds another state than the records give.
    #[error("the image of record {0} is not what the log gives")]
    Differs(Seq),
    /// The log begins with it, and it is not there or cannot be read.
    #[error("the image of record {0}, with which the log begins, is not there or cannot be read")]
    Missing(Seq),
    /// It is not the image that the bridge names.
    #[error("the image of record {0} is not the one that the bridge after it names")]
    NotBridged(Seq),
    /// The log begins in its middle, and nothing in it says that the records before were archived.
    #[error(
        "the log begins behind record {0}, and no bridge says that the records before were archived"
    )]
    NoBridge(Seq),
}

impl Verification {
    /// The verdict: the log's, or damaged if its records or images make no sense.
    pub fn verdict(&self) -> Verdict {
        if self.replay.is_some() || self.broken.is_some() || !self.images.is_empty() {
            Verdict::Damaged
        } else {
            self.log.verdict
        }
    }
}

/// Verifies the store in a directory from its bytes alone, together with its archive if that is given, and changes
/// nothing. Images are compared with what the log gives, and never used in its place, except for records that were
/// archived and are not given. `progress` is called after each record, with its seq.
///
/// # Errors
///
/// [`EngineError::Store`] if there is no store, it is from a newer version, or the disk says so. Damage is no
/// error here: it is the report.
pub fn verify(
    path: &Path,
    archive: Option<&Path>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, EngineError> {
    let disk = |path: &Path| -> Arc<dyn Disk> { Arc::new(RealDisk::new(path)) };
    verify_disk(disk(path), archive.map(disk), receipt, progress)
}

/// As [`verify`], on any disk.
///
/// # Errors
///
/// As there.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the caller hands its disks over, as it does to a store"
)]
pub fn verify_disk(
    disk: Arc<dyn Disk>,
    archive: Option<Arc<dyn Disk>>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, EngineError> {
    /// How often it begins again because another process has archived or removed what was being read.
    const OVERTAKEN_MAX: usize = 16;
    if let Some(archive) = &archive {
        let path = archive.path().into();
        archive.check().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => StoreError::NoArchive { path },
            _ => StoreError::Io {
                doing: "open",
                path,
                source,
            },
        })?;
    }
    let mut overtaken = 0;
    loop {
        let before = layout(&disk);
        let found = verify_once(disk.clone(), archive.clone(), receipt, progress);
        let is_sound = found
            .as_ref()
            .is_ok_and(|found| found.verdict() <= Verdict::TornTail && found.images_ignored == 0);
        // What is missing may have been moved to an archive since.
        if is_sound || overtaken == OVERTAKEN_MAX || layout(&disk) == before {
            return found;
        }
        overtaken += 1;
    }
}

/// What changes when records are archived, or images removed: where the log begins, and of what there are images.
fn layout(disk: &Arc<dyn Disk>) -> (Option<Head>, Vec<Seq>) {
    let mut store = FileStore::over(disk.clone());
    (
        store.start().unwrap_or_default(),
        store.images().unwrap_or_default(),
    )
}

fn verify_once(
    disk: Arc<dyn Disk>,
    archive: Option<Arc<dyn Disk>>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, EngineError> {
    let images = Box::new(FileStore::over(disk.clone()));
    let mut store = match archive {
        Some(archive) => FileStore::over(Arc::new(Rejoined::new(disk, archive))),
        None => FileStore::over(disk),
    };
    verify_with(&mut store, Some(images), receipt, progress)
}

/// Verifies the log in any store, and its images if the store keeps some and gives another handle to read them with. What
/// only files can have, such as a torn tail, is looked for by [`verify_disk`].
///
/// # Errors
///
/// As [`verify`], and what the store cannot read.
pub fn verify_store(
    store: &mut dyn Store,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, EngineError> {
    let images = store.reader();
    verify_with(store, images, receipt, progress)
}

fn verify_with(
    store: &mut dyn Store,
    mut image_reader: Option<Box<dyn Store>>,
    receipt: Option<Receipt>,
    progress: &mut dyn FnMut(u64),
) -> Result<Verification, EngineError> {
    let retention = image_reader.as_mut().and_then(|store| store.retention());
    let (images, images_ignored) = match retention {
        Some(retention) => images_of(retention)?,
        None => (Images::new(), 0),
    };
    let mut replayer = Replayer {
        ledger: Ledger::new(Profile::Own),
        images,
        image_reader,
        replay: None,
        faults: Vec::new(),
        sound: 0,
        start: None,
        answers: BTreeMap::new(),
    };
    // What cannot be read of the start is part of the log's report.
    if let Ok(Some(start)) = log_start(store) {
        replayer.start = Some(start.seq);
        match replayer.load(start.seq) {
            Some(ledger) => replayer.ledger = ledger,
            None => replayer.faults.push(ImageFault::Missing(start.seq)),
        }
    }
    let read = replay::in_lots(
        |record| replayer.take(record),
        |each| {
            momentlog_store::verify(store, receipt, &mut |record| {
                progress(record.seq.get());
                each(record);
            })
        },
    );
    let log = read.map_err(|source| EngineError::System {
        doing: "start a thread that replays",
        source: Arc::new(source),
    })??;
    let state = replayer.ledger.view().state();
    let domains: Vec<_> = state.domains().collect();
    let jobs_open = state.open_jobs().count();
    let counts = (
        domains.len(),
        domains.iter().map(|domain| domain.snapshots().len()).sum(),
        domains
            .iter()
            .map(|domain| domain.checkpoints().len())
            .sum(),
    );
    Ok(Verification {
        log,
        broken: state.check().err(),
        breach: state.check_policy().err(),
        counts,
        jobs_open,
        replay: replayer.replay,
        images: replayer.faults,
        images_sound: replayer.sound,
        images_ignored,
    })
}

/// Images by their record: the digest of the body.
type Images = BTreeMap<Seq, [u8; 32]>;

/// Returns all images that the store would open, and how many it would not.
fn images_of(store: &mut dyn Retention) -> Result<(Images, usize), EngineError> {
    let kept = match store.images() {
        Ok(kept) => kept.len(),
        Err(StoreError::Missing { .. }) => return Ok((Images::new(), 0)),
        Err(error) => return Err(error.into()),
    };
    let mut images = Images::new();
    let mut most = None;
    loop {
        let (head, body) = match store.latest_image(most) {
            Ok(Some(image)) => image,
            Ok(None) | Err(StoreError::Missing { .. } | StoreError::Damaged { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        images.insert(head.seq, Sha256::digest(&body).into());
        most = Seq::new(head.seq.get() - 1);
        if most.is_none() {
            break;
        }
    }
    let ignored = kept.saturating_sub(images.len());
    Ok((images, ignored))
}

/// Replays the records that verify, and compares images on the way.
struct Replayer {
    ledger: Ledger,
    images: Images,
    /// Reads images: each when its record is reached, so that no more than one is in memory.
    image_reader: Option<Box<dyn Store>>,
    replay: Option<ReplayError>,
    faults: Vec<ImageFault>,
    sound: usize,
    /// The record behind which the log begins.
    start: Option<Seq>,
    /// Facts of the records whose request ids are remembered.
    answers: BTreeMap<Seq, Arc<[u8]>>,
}

impl Replayer {
    /// Reads the image of a record; `None` if it cannot be read.
    fn load(&mut self, seq: Seq) -> Option<Ledger> {
        self.images.get(&seq)?;
        let retention = self.image_reader.as_mut()?.retention()?;
        let (head, body) = retention.latest_image(Some(seq)).ok().flatten()?;
        let ledger = image::decode(head, &body).ok()?;
        (head.seq == seq).then_some(ledger)
    }

    fn take(&mut self, record: &Record) {
        let can_replay = self.replay.is_none() && self.ledger.seq == Seq::new(record.seq.get() - 1);
        if !can_replay {
            return;
        }
        match self.ledger.replay(record) {
            Ok(entry) => {
                self.note_answer(&entry, record);
                self.compare(&entry);
            }
            Err(error) => self.replay = Some(error),
        }
    }

    /// Remembers the facts of a record with a request id, as an archiving would. Behind a bridge, images must have them.
    fn note_answer(&mut self, entry: &Entry, record: &Record) {
        if entry.request_id.is_some() {
            self.answers.insert(record.seq, record.facts.clone().into());
        }
        let requests = &self.ledger.requests;
        if entry.bridge.is_some() || self.answers.len() > 2 * requests.len() + 1_024 {
            let remembered: BTreeSet<Seq> =
                requests.iter().map(|(_, request)| request.seq).collect();
            self.answers.retain(|seq, _| remembered.contains(seq));
        }
        if entry.bridge.is_some() {
            let archived = std::mem::take(&mut self.answers);
            self.ledger.answers.extend(archived);
        }
    }

    fn compare(&mut self, entry: &Entry) {
        let seq = entry.head.seq;
        let before = Seq::new(seq.get() - 1);
        if let Some(bridge) = &entry.bridge {
            let last = bridge.last.seq;
            if let Some(digest) = self.images.get(&last)
                && *digest != bridge.image
            {
                self.faults.push(ImageFault::NotBridged(last));
            }
        } else if let Some(start) = self.start.filter(|start| Some(*start) == before) {
            self.faults.push(ImageFault::NoBridge(start));
        }
        if !self.images.contains_key(&seq) {
            return;
        }
        let held = self.load(seq);
        let agrees = held.is_some_and(|held| {
            held.agrees_with(&self.ledger) && self.ledger.answers_agree(&held, &self.answers)
        });
        if agrees {
            self.sound += 1;
        } else {
            self.faults.push(ImageFault::Differs(seq));
        }
    }
}
