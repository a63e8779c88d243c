//! Images, from which a log is opened sooner, and archives, which let it begin later.

use std::sync::atomic::Ordering;

use momentlog_store::{Disk, Head, Seq};
use sha2::{Digest as _, Sha256};

use super::decide::vet;
use super::record::Salts;
use super::{Engine, Inner, chain, unreadable};
use crate::call::Call;
use crate::environment::Provenance;
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::ledger::Bridge;
use crate::stored::{Asked, Content, Facts, image};

/// After how many records an image is made.
const IMAGE_EVERY: u64 = 500_000;

/// How many records a closed store has at least after its last image, before another is worth its time.
const IMAGE_ON_CLOSE: u64 = 1_000;

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

impl Engine {
    /// Makes an image of the log as it is now.
    pub(crate) fn make_image(&self) -> Result<Head> {
        let mut inner = self.lock();
        if !self.is_exclusive() {
            self.catch_up(&mut inner)?;
            self.begin(&mut inner)?;
        }
        self.drain(&mut inner)?;
        self.image_of(&mut inner)
    }

    fn image_of(&self, inner: &mut Inner) -> Result<Head> {
        let body = image::encode(&mut inner.ledger).ok_or_else(|| {
            let detail = "the log has nothing yet that an image could save";
            Error::new(ErrorCode::OperationInvalid, ErrorDomain::Test, detail)
        })?;
        let made = self.store().put_image(&body);
        // One that cannot be made is not tried again with every record.
        let newest = inner.ledger.seq.map_or(0, Seq::get);
        self.image.store(newest, Ordering::Relaxed);
        Ok(made?)
    }

    /// Makes an image after every so many records. That it fails costs the next one who opens the store time, not data.
    pub(super) fn make_image_if_due(&self, newest: Seq) {
        let is_due = || {
            let last = self.image.load(Ordering::Relaxed);
            newest.get() >= last.saturating_add(IMAGE_EVERY)
        };
        if !is_due() {
            return;
        }
        let mut inner = self.lock();
        // Only one of the threads that saw it makes it.
        if is_due() && self.is_exclusive() && self.drain(&mut inner).is_ok() {
            note(self.image_of(&mut inner));
        }
    }

    /// Moves all records up to now to the archive in `to`, and begins the log with an image and a bridge record.
    pub(crate) fn archive(&self, provenance: &Provenance, to: &dyn Disk) -> Result<Archived> {
        vet(provenance)?;
        if provenance.request_id.is_some()
            || provenance.expected_revision.is_some()
            || provenance.undoes.is_some()
        {
            let message =
                "archiving takes no request id and no revision, and undoes nothing".to_owned();
            return Err(Error::argument(ErrorDomain::Domain, message));
        }
        let mut inner = self.lock();
        if !self.is_exclusive() {
            self.catch_up(&mut inner)?;
            self.begin(&mut inner)?;
        }
        self.drain(&mut inner)?;
        // Until all is done, the ledger is not what the log makes of it.
        inner.stale = true;
        let mut store = self.store();
        let (Some(last), Some(log)) = (store.head(), store.log_id()) else {
            let detail = "the log has no record yet";
            return Err(Error::new(
                ErrorCode::OperationInvalid,
                ErrorDomain::Test,
                detail,
            ));
        };
        let start = store.start()?;
        // The truth goes away, so what stands for it is made from the truth once more, and not from memory.
        let mut ledger = self.ledger_at(store.as_mut(), None)?;
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
            return Err(unreadable(&error));
        }
        if ledger.view.state != inner.ledger.view.state {
            let detail = "the log does not give the state that is in memory";
            return Err(Error::new(
                ErrorCode::InternalError,
                ErrorDomain::Test,
                detail,
            ));
        }
        let body = image::encode(&mut ledger).ok_or_else(|| {
            let detail = "the log has nothing yet that could be archived";
            Error::new(ErrorCode::OperationInvalid, ErrorDomain::Test, detail)
        })?;
        store.put_image(&body)?;
        let bridge = Bridge {
            first: Seq::after(start.map(|start| start.seq)),
            last,
            image: Sha256::digest(&body).into(),
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
        let record = store.archive(last, draft, to)?;
        drop(store);
        ledger.settle(seq, facts);
        ledger.view.head = Some(record.head());
        inner.ledger = ledger;
        inner.stale = false;
        self.image.store(last.seq.get(), Ordering::Relaxed);
        inner.log = Some(log);
        self.publish(inner.ledger.view.clone());
        Ok(Archived {
            first: bridge.first,
            last,
            bridge: record.head(),
        })
    }

    /// Makes an image when the store is closed, if reading the records since the last one again would cost more.
    pub(super) fn make_image_if_worth_it(&self, inner: &mut Inner) {
        let seq = inner.ledger.seq.map_or(0, Seq::get);
        let since = seq.saturating_sub(self.image.load(Ordering::Relaxed));
        let counters = inner.ledger.view.state.counters();
        let moments = counters
            .next_moment
            .map_or(0, momentlog_core::MomentId::get);
        if since >= IMAGE_ON_CLOSE.max(moments / 4) {
            note(self.image_of(inner));
        }
    }
}

fn note(made: Result<Head>) {
    if let Err(error) = made {
        tracing::warn!(%error, "no image was made");
    }
}
