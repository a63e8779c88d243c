//! Images, from which a log is opened sooner, and archives, which let it begin later.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use momentlog_core::MomentId;
use momentlog_store::{Disk, Head, ImageWriter, Retention, Seq, Store, StoreError};
use sha2::{Digest as _, Sha256};

use super::admission::validate;
use super::commit::Salts;
use super::{Decider, Log, chain};
use crate::call::Call;
use crate::codec::{Asked, Content, Facts};
use crate::entry::Bridge;
use crate::environment::Provenance;
use crate::error::{BadProvenance, EngineError};
use crate::image;
use crate::ledger::Ledger;

/// An image is made every `IMAGE_EVERY` records.
const IMAGE_EVERY: u64 = 500_000;

/// How many records a closed store has at least after its last image, before another is worth its time.
const IMAGE_ON_CLOSE: u64 = 1_000;

/// What a store without images is asked for in vain.
const KEEP_IMAGES: &str = "keep images";

/// What an archiving did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The first record that was moved.
    pub first: Seq,
    /// The last one.
    pub last: Head,
    /// The record that stands for them from now on.
    pub bridge: Head,
}

/// Makes images on a thread of its own, one at a time. Releasing the store and archiving wait for it: an image that is
/// written after them could replace the one with which the log begins.
#[derive(Debug, Default)]
pub(super) struct Imaging(Mutex<Option<JoinHandle<()>>>);

impl Imaging {
    /// Waits for the image that is being made, if there is one.
    pub(super) fn finish(&self) {
        let mut thread = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the thread that made an image has panicked");
        }
    }

    /// Begins an image; what it becomes arrives at the receiver.
    fn begin(&self, ledger: Ledger, writer: ImageWriter) -> Result<Receiver<Made>, EngineError> {
        self.finish();
        let (sender, made) = channel();
        let work = move || {
            let made = write_image(&ledger, writer);
            note(&made);
            let _ = sender.send(made);
        };
        let begun = thread::Builder::new().name("image".into()).spawn(work);
        let begun = begun.map_err(|source| EngineError::System {
            doing: "start a thread that makes an image",
            source: Arc::new(source),
        })?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        Ok(made)
    }
}

/// The record that an image is of.
type Made = Result<Head, EngineError>;

fn write_image(ledger: &Ledger, writer: ImageWriter) -> Made {
    let nothing = EngineError::Nothing("nothing yet that an image could save");
    let body = image::encode(ledger).ok_or(nothing)?;
    Ok(writer(&body)?)
}

impl Log {
    /// Makes an image of the log as it is now, from which it is opened sooner, and returns the record that it is of.
    /// Writers go on meanwhile.
    ///
    /// # Errors
    ///
    /// [`EngineError::Nothing`] if there is nothing to save; what the store says, which may keep no images.
    pub fn make_image(&self) -> Result<Head, EngineError> {
        // Before the lock, so that no writer waits for an image that is being made.
        self.imaging.finish();
        let made = {
            let arrival = self.arrive();
            let mut decider = self.enter_alone();
            if !self.is_exclusive() {
                self.catch_up(&mut decider)?;
                decider = self.acquire(decider, &arrival)?;
            }
            self.drain(&mut decider)?;
            let (ledger, writer) = self.begin_image(&decider)?;
            self.imaging.begin(ledger, writer)?
        };
        made.recv().unwrap_or_else(|_| {
            Err(EngineError::System {
                doing: "make an image",
                source: Arc::new(io::Error::other("its thread has panicked")),
            })
        })
    }

    /// Notes that an image is made, and returns what it is made from and what writes it.
    fn begin_image(&self, decider: &Decider) -> Result<(Ledger, ImageWriter), EngineError> {
        // One that cannot be made is not tried again with every record.
        let newest = decider.ledger.seq.map_or(0, Seq::get);
        self.image.store(newest, Ordering::Relaxed);
        let writer = retention(self.store().as_mut(), KEEP_IMAGES)?.image_writer()?;
        Ok((decider.ledger.clone(), writer))
    }

    /// Makes an image every `IMAGE_EVERY` records, beside the writers. If it fails, the next opening takes longer.
    pub(super) fn make_image_if_due(&self, newest: Seq) {
        let is_due = || {
            let last = self.image.load(Ordering::Relaxed);
            newest.get() >= last.saturating_add(IMAGE_EVERY)
        };
        if !is_due() {
            return;
        }
        let mut decider = self.enter();
        // Only one of the threads that saw it makes it.
        if is_due() && self.is_exclusive() && self.drain(&mut decider).is_ok() {
            let begun = self.begin_image(&decider);
            if let Err(error) =
                begun.and_then(|(ledger, writer)| self.imaging.begin(ledger, writer))
            {
                note(&Err(error));
            }
        }
    }

    /// Moves all records up to now to the archive in `to`, and begins the log with an image and a bridge record. Until all
    /// is copied and synced, the log is whole here, so that it may be asked again.
    ///
    /// # Errors
    ///
    /// [`EngineError::Provenance`] for provenance that only a command has; [`EngineError::Nothing`] if there is nothing to
    /// move; what the store says, which may have no archive.
    pub fn archive(&self, provenance: &Provenance, to: &dyn Disk) -> Result<Archived, EngineError> {
        validate(provenance)?;
        if provenance.request_id.is_some()
            || provenance.expected_revision.is_some()
            || provenance.undoes.is_some()
        {
            return Err(BadProvenance::Archiving.into());
        }
        let arrival = self.arrive();
        let mut decider = self.enter_alone();
        if !self.is_exclusive() {
            self.catch_up(&mut decider)?;
            decider = self.acquire(decider, &arrival)?;
        }
        self.drain(&mut decider)?;
        self.imaging.finish();
        // Until all is done, the ledger is not what the log makes of it.
        decider.stale = true;
        let mut store = self.store();
        let (Some(last), Some(log)) = (store.head(), store.log_id()) else {
            return Err(EngineError::Nothing("no record yet"));
        };
        let start = start(store.as_mut())?;
        // The truth goes away, so what stands for it is made from the truth once more, and not from memory.
        let mut ledger = self.ledger_in(store.as_mut(), None)?;
        let mut fault = None;
        let from = ledger.view.head;
        chain::read(store.as_mut(), &self.known, from, &mut |record| {
            if fault.is_none() {
                match ledger.replay(&record) {
                    Ok(entry) if entry.request_id.is_some() => {
                        ledger.answers.insert(record.seq, record.facts.into());
                    }
                    Ok(_) => {}
                    Err(error) => fault = Some(error),
                }
            }
            Ok(())
        })?;
        if let Some(error) = fault {
            return Err(error.into());
        }
        if ledger.view.state != decider.ledger.view.state {
            return Err(EngineError::Differs);
        }
        let nothing = EngineError::Nothing("nothing yet that could be archived");
        let body = image::encode(&ledger).ok_or(nothing)?;
        // It stands for what goes away, so it is read before anything moves.
        image::decode(last, &body)?;
        retention(store.as_mut(), KEEP_IMAGES)?.image_writer()?(&body)?;
        let first = Seq::after(start.map(|start| start.seq));
        let bridge = Bridge {
            first,
            last,
            image: Sha256::digest(&body).into(),
            archive: Some(to.path().to_string_lossy())
                .filter(|path| !path.is_empty())
                .map(|path| path.as_ref().into()),
        };
        let seq = Seq::after(Some(last.seq));
        let facts = Facts {
            recorded: self.options.clock.now().max(ledger.recorded),
            domain: None,
            previous: None,
            content: Content::Bridge {
                asked: Asked {
                    actor: provenance.actor.clone(),
                    agent: provenance.agent.clone(),
                    call: Call::ARCHIVE,
                    flags: 0,
                    reason: provenance.reason.clone().filter(|text| !text.is_empty()),
                    request: None,
                    undoes: None,
                },
                bridge,
            },
        };
        let mut salts = Salts::new(self);
        let draft = ledger.dictionary.encode(seq, &facts, &mut || salts.next());
        salts.check()?;
        let record = retention(store.as_mut(), "archive records")?.archive(last, draft, to)?;
        drop(store);
        ledger.settle(seq, facts);
        ledger.view.head = Some(record.head());
        decider.ledger = ledger;
        decider.stale = false;
        self.image.store(last.seq.get(), Ordering::Relaxed);
        decider.log = Some(log);
        self.published.publish(decider.ledger.view.clone());
        Ok(Archived {
            first,
            last,
            bridge: record.head(),
        })
    }

    /// Makes an image when the store is closed, if reading the records since the last one again would cost more.
    pub(super) fn make_image_if_worth_it(&self, decider: &Decider) {
        let seq = decider.ledger.seq.map_or(0, Seq::get);
        let since = seq.saturating_sub(self.image.load(Ordering::Relaxed));
        let counters = decider.ledger.view.state.counters();
        let moments = counters.next_moment.map_or(0, MomentId::get);
        if since >= IMAGE_ON_CLOSE.max(moments / 4) {
            let begun = self.begin_image(decider);
            note(&begun.and_then(|(ledger, writer)| write_image(&ledger, writer)));
        }
    }
}

/// The record after which a log begins here; `None` for a whole log.
pub(crate) fn start(store: &mut dyn Store) -> Result<Option<Head>, StoreError> {
    store.retention().map_or(Ok(None), Retention::start)
}

/// Returns what a store keeps beside its records.
fn retention<'a>(
    store: &'a mut dyn Store,
    doing: &'static str,
) -> Result<&'a mut dyn Retention, StoreError> {
    store.retention().ok_or(StoreError::Unsupported { doing })
}

/// Returns the ledger of the newest image at or before `most` that agrees with the log and can be read.
pub(super) fn load(
    store: &mut dyn Store,
    mut most: Option<Seq>,
) -> Result<Option<Ledger>, StoreError> {
    let Some(retention) = store.retention() else {
        return Ok(None);
    };
    while let Some((head, body)) = retention.latest_image(most)? {
        match image::decode(head, &body) {
            Ok(ledger) => return Ok(Some(ledger)),
            Err(why) => tracing::warn!(seq = %head.seq, %why, "ignored an image"),
        }
        most = Seq::new(head.seq.get() - 1);
        if most.is_none() {
            break;
        }
    }
    Ok(None)
}

fn note(made: &Made) {
    if let Err(error) = made {
        tracing::warn!(%error, "no image was made");
    }
}
