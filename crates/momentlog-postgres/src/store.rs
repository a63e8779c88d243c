//! The store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use momentlog_store::{
    Draft, FRAME_LEN_MAX, Head, LogId, Outline, Record, Retention, Seq, Store, StoreError,
};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::error::CONFLICT;
use crate::link::{ANSWER, Link, Worker};
use crate::record::{By, Page, Standing};
use crate::{Address, PostgresError, news, record, schema};

/// A log in a database. Any number of handles read it, and one at a time has the turn to append.
///
/// A handle remembers the last record that it has read or appended. If the log no longer holds that, because a standby
/// that was behind was promoted or a backup was restored, every call is [`StoreError::Replaced`] from then on.
#[derive(Debug)]
pub struct PostgresStore {
    pub(crate) worker: Worker,
    pub(crate) address: Address,
    log: Option<LogId>,
    /// The end of the log, as it was seen last.
    pub(crate) head: Option<Head>,
    /// The record behind which the log begins, if those up to it were archived.
    pub(crate) start: Option<Head>,
    /// The last record that was ever seen here.
    seen: Option<Head>,
    has_turn: bool,
    /// Whether others had appended when it had its last turn.
    others_append: bool,
    /// What was read with the turn, behind the record before.
    ahead: Option<(Seq, Page)>,
    /// What was seen and what was found, once the log was no longer its continuation.
    replaced: Option<(Option<Head>, Option<Head>)>,
}

/// What became of an append of which the answer was lost.
enum Settled {
    Written,
    Conflict(Option<Standing>),
}

impl PostgresStore {
    /// Returns the log at an address. Nothing is connected before the first call.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Lost`] if the system gives no thread.
    pub fn open(address: Address) -> Result<PostgresStore, PostgresError> {
        Ok(PostgresStore {
            worker: Worker::start(address.clone())?,
            address,
            log: None,
            head: None,
            start: None,
            seen: None,
            has_turn: false,
            others_append: false,
            ahead: None,
            replaced: None,
        })
    }

    /// Makes or updates the schema of the database, the roles `momentlog_writer` and `momentlog_reader`, and the log, as far as
    /// they are not there. It needs an owner of the database who may create roles.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]: what the server refuses. Each migration is there as a whole, or not at all.
    pub fn init(address: Address) -> Result<(), PostgresError> {
        Worker::start(address)?.run(|runtime, link| {
            runtime.block_on(async {
                let client = link.connect_any().await?;
                schema::apply(&client, link.address().log()).await
            })
        })
    }

    /// Asks the database, again over a new connection if the one that there was is lost. An error in a transaction ends the
    /// turn with it.
    pub(crate) fn ask<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        ask: impl AsyncFn(&Client, &str) -> Result<T, PostgresError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check_replaced()?;
        let has_turn = self.has_turn;
        let (answer, kept) = self.worker.run(move |runtime, link| {
            let log = link.address().log().to_owned();
            runtime.block_on(async {
                if has_turn {
                    match link
                        .here(ANSWER, async |client| ask(client, &log).await)
                        .await
                    {
                        Err(error) if error.is_lost() => {}
                        Err(error) => {
                            roll_back(link).await;
                            return (Err(error), false);
                        }
                        answer => return (answer, true),
                    }
                }
                let answer = link.again(ANSWER, async |client| ask(client, &log).await);
                (answer.await, false)
            })
        });
        self.has_turn = kept;
        answer.map_err(|error| error.while_doing(doing, self.address.place()))
    }

    fn check_replaced(&self) -> Result<(), StoreError> {
        match self.replaced {
            Some((had, found)) => Err(self.replaced(had, found)),
            None => Ok(()),
        }
    }

    fn replaced(&self, had: Option<Head>, found: Option<Head>) -> StoreError {
        StoreError::Replaced {
            path: self.address.place(),
            had,
            found,
        }
    }

    /// Takes over where the log ends, unless it is no continuation of what was seen.
    fn take_over(&mut self, standing: Option<Standing>) -> Result<(), StoreError> {
        let is_continued = match (&standing, self.seen) {
            (_, None) => true,
            (Some(standing), Some(seen)) => {
                let stands = match standing.start {
                    // What was archived since cannot be compared.
                    Some(start) if start.seq > seen.seq => Some(seen.digest),
                    Some(start) if start.seq == seen.seq => Some(start.digest),
                    _ => standing.asked,
                };
                standing.log == self.log && stands == Some(seen.digest)
            }
            (None, Some(_)) => false,
        };
        if !is_continued {
            let found = standing.and_then(|standing| standing.head);
            self.release();
            self.replaced = Some((self.seen, found));
            return Err(self.replaced(self.seen, found));
        }
        let Some(standing) = standing else {
            let path = self.address.place();
            return Err(StoreError::Missing { path });
        };
        self.log = standing.log;
        self.start = standing.start;
        self.set_head(standing.head);
        Ok(())
    }

    fn set_head(&mut self, head: Option<Head>) {
        self.head = head;
        if head.map(|head| head.seq) > self.seen.map(|seen| seen.seq) {
            self.seen = head;
        }
    }

    /// Looks where the log ends, unless this handle has the turn and knows it.
    pub(crate) fn look(&mut self) -> Result<(), StoreError> {
        if self.has_turn {
            return Ok(());
        }
        let about = self.seen.map(|seen| seen.seq);
        let standing = self.ask("read", async move |client, log| {
            record::look(client, log, about).await
        })?;
        self.take_over(standing)
    }

    /// Appends records, by one of the functions of the database, and settles what became of it.
    pub(crate) fn send(
        &mut self,
        by: By,
        log: LogId,
        expected: Option<Head>,
        records: Arc<[Record]>,
    ) -> Result<(), StoreError> {
        let has_turn = std::mem::take(&mut self.has_turn);
        self.ahead = None;
        let last = records.last().map(Record::head);
        let settled = self.worker.run(move |runtime, link| {
            link.writes = true;
            let settled = runtime.block_on(append(link, by, log, expected, &records, has_turn));
            link.in_turn = false;
            // What became of one that is unknown may stand on this server alone.
            link.is_checked &= !matches!(settled, Err((_, Sent::Yes)));
            if matches!(settled, Ok(Settled::Written)) {
                link.appended();
            }
            settled
        });
        let place = self.address.place();
        match settled {
            Ok(Settled::Written) => {
                self.log = Some(log);
                self.set_head(last);
                Ok(())
            }
            Ok(Settled::Conflict(None)) => Err(StoreError::Missing { path: place }),
            Ok(Settled::Conflict(Some(standing))) => {
                let found = standing.head;
                // Where the caller expects what this handle has seen, it may be another log by now.
                if self.seen == expected {
                    self.take_over(Some(standing))?;
                }
                Err(StoreError::Conflict { expected, found })
            }
            Err((error, Sent::Yes)) => Err(StoreError::Unknown {
                doing: "commit to",
                path: place,
                source: Box::new(error),
            }),
            Err((error, Sent::No)) => Err(error.while_doing("write to", place)),
        }
    }

    /// What holds the turn that was waited for.
    fn locked(&mut self) -> StoreError {
        const HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 1836016748 \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
            AND objid = (SELECT number FROM momentlog.logs WHERE name = $1)::oid";
        let pid = self.ask("read", async |client, log| {
            let rows = client.query_typed(HOLDER, &[(&log, Type::TEXT)]).await?;
            let pid: Option<i32> = rows.first().map(|row| row.try_get(0)).transpose()?;
            Ok(pid)
        });
        StoreError::Locked {
            path: self.address.place(),
            pid: match pid {
                Ok(Some(pid)) => pid.to_string(),
                _ => "(gone by now)".into(),
            },
            host: "the database server".into(),
        }
    }
}

impl Store for PostgresStore {
    fn log_id(&self) -> Option<LogId> {
        self.log
    }

    fn head(&self) -> Option<Head> {
        self.head
    }

    fn append(
        &mut self,
        log: LogId,
        expected: Option<Head>,
        drafts: Vec<Draft>,
    ) -> Result<Vec<Record>, StoreError> {
        self.check_replaced()?;
        if let Some(length) = drafts
            .iter()
            .map(Draft::frame_len)
            .find(|length| *length > FRAME_LEN_MAX)
        {
            return Err(StoreError::TooLarge { length });
        }
        if self.has_turn || drafts.is_empty() {
            self.look()?;
            let found = self.head;
            if found != expected {
                return Err(StoreError::Conflict { expected, found });
            }
        }
        if drafts.is_empty() {
            return Ok(Vec::new());
        }
        let log = self.log.unwrap_or(log);
        let mut last = expected;
        let records = drafts.into_iter().map(|draft| {
            let record = Record::new(log, last, None, draft);
            last = Some(record.head());
            record
        });
        let records: Arc<[Record]> = records.collect();
        self.send(By::Append, log, expected, records.clone())?;
        Ok(records.to_vec())
    }

    fn read(
        &mut self,
        after: Option<Head>,
        each: &mut dyn FnMut(Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.check_replaced()?;
        if self.has_turn && after == self.head {
            return Ok(());
        }
        if after.is_none() || after != self.seen {
            self.look()?;
        }
        let mut had = after;
        loop {
            let from = had.map_or(Seq::FIRST, |had| had.seq);
            let page = match self.ahead.take() {
                Some((at, page)) if at == from => Some(page),
                _ => self.ask("read", async move |client, log| {
                    record::page(client, log, from).await
                })?,
            };
            let Some(Page {
                log,
                start,
                records,
                is_last,
            }) = page
            else {
                // It was there when it was looked at.
                return self.take_over(None);
            };
            self.start = start;
            if let Some(start) = start
                && had.map(|had| had.seq) < Some(start.seq)
            {
                let path = self.address.place();
                return Err(StoreError::Archived { path, start });
            }
            if let (Some(had), Some(start)) = (had, start)
                && had.seq == start.seq
                && had != start
            {
                return Err(StoreError::Forked { at: had.seq });
            }
            let mut records = records.into_iter();
            if let Some(had) = had
                && start != Some(had)
            {
                let stands = records.next().filter(|record| record.seq == had.seq);
                if stands.as_ref().map(Record::head) != Some(had)
                    || self.log.is_some_and(|known| log != Some(known))
                {
                    self.look()?;
                    return Err(match stands {
                        Some(_) => StoreError::Forked { at: had.seq },
                        None => {
                            let end = self.head;
                            StoreError::Truncated { had, end }
                        }
                    });
                }
            }
            self.log = log.or(self.log);
            let mut given = had;
            for record in records {
                let end = Some(record.head());
                each(record)?;
                given = end;
                self.set_head(end);
            }
            if is_last {
                return Ok(());
            }
            had = given;
        }
    }

    fn last_where(
        &mut self,
        holds: &mut dyn FnMut(&Outline<'_>) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        self.look()?;
        let mut last = None;
        let below = self.start.map_or(0, |start| start.seq.get());
        let (mut below, mut above) = (below, self.head.map_or(0, |head| head.seq.get()) + 1);
        while below + 1 < above {
            let middle = below + (above - below) / 2;
            let seq = Seq::new(middle).expect("it is above 0");
            let Some(record) = self.record(seq)? else {
                return Err(StoreError::Truncated {
                    had: self.head.expect("a log that was searched has a head"),
                    end: None,
                });
            };
            let read = || Ok(record.clone());
            if holds(&Outline::new(seq, &record.facts, &read)) {
                below = middle;
                last = Some(record);
            } else {
                above = middle;
            }
        }
        Ok(last)
    }

    fn record(&mut self, seq: Seq) -> Result<Option<Record>, StoreError> {
        let found = self.ask("read", async move |client, log| {
            record::one(client, log, seq).await
        })?;
        Ok(found.map(|(log, record)| {
            self.log = log.or(self.log);
            record
        }))
    }

    fn acquire(&mut self, wait: Duration) -> Result<(), StoreError> {
        self.check_replaced()?;
        if self.has_turn {
            return Ok(());
        }
        let about = self.seen.map(|seen| seen.seq);
        let ahead = about.filter(|_| self.others_append);
        let had = self.head;
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let taken = self.worker.run(move |runtime, link| {
            let log = link.address().log().to_owned();
            let limit = wait.saturating_add(ANSWER);
            link.writes = true;
            runtime.block_on(async {
                let taken = link.again(limit, async |client| {
                    record::take_turn(client, &log, wait_ms, about, ahead).await
                });
                let taken = taken.await;
                link.in_turn = matches!(taken, Ok(Some(_)));
                if !link.in_turn {
                    roll_back(link).await;
                }
                taken
            })
        });
        match taken {
            Ok(taken) => {
                self.has_turn = taken.is_some();
                let (standing, page) = taken.unzip();
                self.ahead = ahead.zip(page.flatten());
                self.take_over(standing)?;
                self.others_append = self.head != had;
                Ok(())
            }
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err(self.locked()),
            Err(error) => Err(error.while_doing("write to", self.address.place())),
        }
    }

    fn confirm(&mut self) -> Result<(), StoreError> {
        // What a transaction waits for at its end, it has to wait for beside the turn.
        let mut beside = if self.has_turn { self.reader() } else { None };
        if let Some(beside) = &mut beside {
            return beside.confirm();
        }
        let confirmed = self.ask("confirm", async |client, _| {
            schema::await_standbys(client).await
        });
        confirmed.map_err(|error| match error {
            StoreError::Backend {
                doing,
                place: path,
                source,
            } => StoreError::Unknown {
                doing,
                path,
                source,
            },
            error => error,
        })
    }

    fn release(&mut self) {
        self.ahead = None;
        if std::mem::take(&mut self.has_turn) {
            self.worker
                .run(|runtime, link| runtime.block_on(roll_back(link)));
        }
    }

    fn is_exclusive(&self) -> bool {
        self.has_turn
    }

    fn stays_writer(&self) -> bool {
        false
    }

    fn reader(&self) -> Option<Box<dyn Store>> {
        let mut reader = PostgresStore::open(self.address.clone()).ok()?;
        reader.log = self.log;
        reader.head = self.head;
        reader.start = self.start;
        reader.seen = self.seen;
        reader.replaced = self.replaced;
        Some(Box::new(reader))
    }

    fn watch(&mut self, news: Box<dyn Fn() + Send + Sync>) -> Option<Arc<AtomicBool>> {
        news::listen(self.address.clone(), news)
    }

    fn retention(&mut self) -> Option<&mut dyn Retention> {
        Some(self)
    }
}

/// Ends a transaction without a trace.
async fn roll_back(link: &mut Link) {
    link.in_turn = false;
    link.writes = false;
    // A connection that is gone has ended its transaction.
    let _ = link
        .here(ANSWER, async |client| {
            Ok(client.batch_execute("ROLLBACK").await?)
        })
        .await;
}

/// Whether the server may have been sent an append.
enum Sent {
    Yes,
    No,
}

/// Appends records. An answer that is lost is settled by sending the same append again: it succeeds, or it is a conflict and
/// the record stands there. Looking alone could be overtaken by the first attempt.
async fn append(
    link: &mut Link,
    by: By,
    log: LogId,
    expected: Option<Head>,
    records: &[Record],
    has_turn: bool,
) -> Result<Settled, (PostgresError, Sent)> {
    let name = link.address().log().to_owned();
    let name = name.as_str();
    let mut sent = Sent::No;
    let mut has_turn = has_turn;
    if !(has_turn && link.is_open()) {
        has_turn = false;
        let ready = link.again(ANSWER, async |_| Ok(())).await;
        ready.map_err(|error| (error, Sent::No))?;
    }
    let first = link
        .here(by.limit(), async |client| {
            record::append(client, by, name, log, expected, records, has_turn).await
        })
        .await;
    let answer = match first {
        Err(error) if error.is_lost() => {
            sent = Sent::Yes;
            link.again(by.limit(), async |client| {
                record::append(client, by, name, log, expected, records, false).await
            })
            .await
        }
        answer => answer,
    };
    let error = match answer {
        Ok(()) => return Ok(Settled::Written),
        Err(error) if error.is(CONFLICT) => error,
        Err(error) => return Err((error, sent)),
    };
    let last = records.last().map(Record::head);
    let about = match sent {
        Sent::Yes => last,
        Sent::No => expected,
    };
    let about_seq = about.map(|about| about.seq);
    let found = link
        .again(ANSWER, async |client| {
            record::look(client, name, about_seq).await
        })
        .await;
    match found {
        Ok(Some(standing))
            if matches!(sent, Sent::Yes)
                && standing.asked.is_some()
                && standing.asked == last.map(|last| last.digest) =>
        {
            let awaited = link.again(ANSWER, schema::await_standbys).await;
            awaited.map_err(|error| (error, sent))?;
            Ok(Settled::Written)
        }
        Ok(mut standing) => {
            if matches!(sent, Sent::Yes) {
                // What the caller compares is the record that it has expected.
                let expected_seq = expected.map(|expected| expected.seq);
                let look = link.again(ANSWER, async |client| {
                    record::look(client, name, expected_seq).await
                });
                standing = look.await.map_err(|error| (error, Sent::No))?;
            }
            Ok(Settled::Conflict(standing))
        }
        Err(_) => Err((error, sent)),
    }
}
