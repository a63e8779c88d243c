//! The typed calls of a connection: commands without XML, the history of the log, and its maintenance.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use momentlog_core::{
    Action, Command, Domain, DomainUuid, Hold, HoldTag, MomentKind, MomentName, Policy, Report,
    Settings, SettingsChange,
};
use momentlog_engine::{
    Archived, Call, Entry, Mention, Outcome, Pending, Provenance, Request, Step, View,
};
use momentlog_store::{Disk, Head, LogId, RealDisk, Receipt, Seq, StoreError};

use super::Connection;
use super::history::{DomainHistory, History, Subscription};
#[cfg(doc)]
use crate::error::ErrorCode;
use crate::error::{Error, ErrorDomain, Result};
use crate::recordable;

impl Connection {
    /// Executes a typed command, for embedders without XML.
    ///
    /// # Errors
    ///
    /// The [`Refusal`](momentlog_core::Refusal), as libvirt tells it (and [`Error::refusal`] returns it); what the store says.
    pub fn execute(&self, command: &Command) -> Result<Outcome> {
        self.execute_as((Call::EXECUTE, 0), command)
    }

    /// As [`execute`](Self::execute), for a call that is made of a typed command.
    pub(crate) fn execute_as(&self, call: (Call, u32), command: &Command) -> Result<Outcome> {
        self.deny_read_only("execute", ErrorDomain::Domain)?;
        let request = Request::of_command(&self.provenance, call, command);
        self.decide(request, &mut |decision| {
            recordable::decide_typed(decision, command)
        })
    }

    /// Records what a driver reports of a domain, for programs that ask a hypervisor themselves. None is asked here.
    ///
    /// A request id belongs to a job that is begun for an action: asked once more, the job is not begun twice, and a job
    /// that failed frees it. Other reports take no note of it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; the [`Refusal`](momentlog_core::Refusal), as for
    /// [`execute`](Self::execute); what the store says.
    pub fn report(&self, domain: DomainUuid, report: &Report) -> Result<Outcome> {
        self.deny_read_only("report", ErrorDomain::Domain)?;
        let (call, action) = match report {
            Report::Attach(_) => (Call::ATTACH, None),
            Report::Detach => (Call::DETACH, None),
            Report::Observe { .. } | Report::See { .. } | Report::SeeDomain(_) => {
                (Call::OBSERVE, None)
            }
            Report::Begin(begin) => (Call::EXECUTE, begin.action.clone()),
            Report::End { .. } | Report::Fail(_) => (Call::SETTLE, None),
        };
        let command = action.map(|action| Command { domain, action });
        let without_id = Provenance {
            request_id: None,
            ..self.provenance().clone()
        };
        let request = match &command {
            Some(command) => Request::of_command(&self.provenance, (call, 0), command),
            None => Request::of_call(&without_id, (call, 0), Some(domain), &[]),
        };
        self.decide(request, &mut |decision| {
            decision.decide_report(domain, report)?;
            match &command {
                Some(command) => recordable::check(decision, command),
                None => Ok(()),
            }
        })
    }

    /// Hands in a typed command without waiting until it is durable; [`Submitted::wait`] does that and gives the answer.
    /// What is handed in together shares a sync.
    ///
    /// # Errors
    ///
    /// What the store says before anything is written. A refusal comes with the answer: it may rest on commands that are
    /// not durable yet.
    pub fn submit(&self, command: &Command) -> Result<Submitted> {
        self.deny_read_only("submit", ErrorDomain::Domain)?;
        let request = Request::of_command(&self.provenance, (Call::EXECUTE, 0), command);
        let pending = self.log.submit(&[request], &mut |decision, _| {
            recordable::decide_typed(decision, command)
        })?;
        Ok(Submitted {
            connection: self.clone(),
            pending,
        })
    }

    /// Executes many typed commands under one sync: all of them are accepted, or none. Each sees what those before have
    /// done. If the machine stops before they are durable, the first few of them may be recorded.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), for the first one that is refused.
    pub fn execute_all(&self, commands: &[Command]) -> Result<Vec<Outcome>> {
        self.deny_read_only("execute_all", ErrorDomain::Domain)?;
        let call = (Call::EXECUTE, 0);
        let requests: Vec<_> = commands
            .iter()
            .map(|command| Request::of_command(&self.provenance, call, command))
            .collect();
        let outcomes = self.log.decide_all(&requests, &mut |decision, index| {
            recordable::decide_typed(decision, &commands[index])
        })?;
        self.note(&outcomes);
        Ok(outcomes)
    }

    /// Sets the rules that a domain follows; recorded as one event, and refused if the domain does not meet them.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::OperationUnsupported`] if the domain does not meet the policy.
    pub fn set_policy(&self, domain: DomainUuid, policy: Policy) -> Result<Outcome> {
        let action = Action::SetPolicy(policy);
        self.execute_as((Call::SET_POLICY, 0), &Command { domain, action })
    }

    /// Holds a moment under a tag, from now on and in the name of this connection's actor: until it is
    /// [released](Self::release_hold) it is neither deleted, alone or with others or with its domain, nor redefined, nor hung
    /// elsewhere as asked. When its parent is deleted it moves up. A guard rail, no access control: anybody may release it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::NoDomainSnapshot`], [`ErrorCode::NoDomainCheckpoint`];
    /// [`ErrorCode::OperationInvalid`] if it is held under this tag.
    pub fn hold(
        &self,
        domain: DomainUuid,
        kind: MomentKind,
        name: &MomentName,
        tag: &HoldTag,
    ) -> Result<Outcome> {
        let action = Action::Hold {
            kind,
            name: name.clone(),
            tag: tag.clone(),
            hold: Hold {
                since: self.now().div_euclid(1_000_000),
                by: self.provenance.actor.clone(),
            },
        };
        self.execute_as((Call::HOLD, 0), &Command { domain, action })
    }

    /// Releases a hold.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::NoDomainSnapshot`], [`ErrorCode::NoDomainCheckpoint`];
    /// [`ErrorCode::OperationInvalid`] if it is not held under this tag.
    pub fn release_hold(
        &self,
        domain: DomainUuid,
        kind: MomentKind,
        name: &MomentName,
        tag: &HoldTag,
    ) -> Result<Outcome> {
        let action = Action::Release {
            kind,
            name: name.clone(),
            tag: tag.clone(),
        };
        self.execute_as((Call::RELEASE, 0), &Command { domain, action })
    }

    /// The settings of the store, or those that its first change will give it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn settings(&self) -> Result<Settings> {
        match self.read() {
            Ok(view) => Ok(view.state().settings()),
            Err(error) if error.store().is_some_and(is_missing) => {
                Ok(self.view().state().settings())
            }
            Err(error) => Err(error),
        }
    }

    /// Changes settings of the store; recorded as one event. Domains that are there keep their policies.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::InvalidArg`] if the provenance expects a
    /// revision, which only domains have; what the store says.
    pub fn set_settings(&self, change: SettingsChange) -> Result<Outcome> {
        self.deny_read_only("set_settings", ErrorDomain::Domain)?;
        let request = Request::of_settings(&self.provenance, change);
        self.decide(request, &mut |decision| {
            decision.decide_settings(change);
            Ok(())
        })
    }

    /// Returns the newest state that this process knows, without looking at the store: at first that of when it was opened.
    ///
    /// The writer's process always knows the newest; elsewhere, [`refresh`](Self::refresh) reads on.
    pub fn view(&self) -> Arc<View> {
        self.as_of.clone().unwrap_or_else(|| self.log.view())
    }

    /// Reads what other processes have appended, and returns the state after that.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read.
    pub fn refresh(&self) -> Result<Arc<View>> {
        match self.point() {
            Some(view) => Ok(view.clone()),
            None => Ok(self.log.refresh()?),
        }
    }

    /// Returns the state as of a record: the end of the log if that is before it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read.
    pub fn view_at(&self, seq: Seq) -> Result<View> {
        match self.point() {
            Some(view) if self.is_beyond(seq) => Ok(View::clone(view)),
            _ => Ok(self.log.view_at(seq)?),
        }
    }

    /// Returns the state as of a time, in microseconds since 1970: after the last record of that time or before it. Before
    /// the first record it is that of an empty store.
    ///
    /// # Errors
    ///
    /// As [`view_at`](Self::view_at); [`Error::store`] is `Archived` if the record of that time may be in an archive.
    pub fn view_as_of(&self, time: i64) -> Result<View> {
        let view = self.log.view_as_of(time)?;
        Ok(match (self.point(), view.head()) {
            (Some(point), Some(head)) if self.is_beyond(head.seq) => View::clone(point),
            _ => view,
        })
    }

    /// Returns one entry of the log; `None` if the log ends before it. It costs what the records that it refers to cost.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries).
    pub fn entry(&self, seq: Seq) -> Result<Option<Entry>> {
        if self.is_beyond(seq) {
            return Ok(None);
        }
        Ok(self.log.entry(seq)?)
    }

    /// Returns when a record was recorded, in microseconds since 1970; `None` if the log ends before it.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read: [`Error::store`] is `Archived` if the record is
    /// in an archive.
    pub fn recorded_at(&self, seq: Seq) -> Result<Option<i64>> {
        if self.is_beyond(seq) {
            return Ok(None);
        }
        Ok(self.log.recorded_at(seq)?)
    }

    /// Whether a record lies behind the point at which the connection answers.
    fn is_beyond(&self, seq: Seq) -> bool {
        let point = self.point().and_then(|view| view.head());
        point.is_some_and(|head| seq > head.seq)
    }

    /// The last record that the connection knows, if it answers as of a point.
    fn last_known(&self) -> Option<Seq> {
        self.point()?.head().map(|head| head.seq)
    }

    /// Returns the domains that have or had a name, in the order in which records first say it. Records in an archive are
    /// not looked at.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries).
    pub fn domains_called(&self, name: &str) -> Result<Vec<DomainUuid>> {
        Ok(self.log.domains_called(name)?)
    }

    /// Returns the steps of one domain, in order: from its first record that is not archived, also if it is gone by now. Only
    /// its own records are replayed, so that the views around a step are of that domain alone: no other is in them, and no
    /// command is decided on them.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history); what comes up while it is read is an item.
    pub fn history_of(&self, domain: DomainUuid) -> Result<DomainHistory<'_>> {
        Ok(DomainHistory(match self.last_known() {
            Some(last) => self.log.steps_of(domain, Seq::FIRST, last)?,
            None => self.log.history_of(domain)?,
        }))
    }

    /// Returns the records of a domain of which `is` holds for anything that they mention, in order: those that create or
    /// redefine a moment, or take another record back. Nothing is replayed, and nothing is known of archived records.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries).
    pub fn records_where(
        &self,
        domain: DomainUuid,
        is: &(dyn Fn(Mention<'_>) -> bool + Sync),
    ) -> Result<Vec<Seq>> {
        let mut found = self.log.records_where(domain, is)?;
        found.retain(|seq| !self.is_beyond(*seq));
        Ok(found)
    }

    /// Returns the steps of one domain around what may have begun and ended: from the first record of which `may_begin` holds
    /// for anything that it mentions, as long as `is_there` says so of the domain or another such record comes. They are
    /// all steps of the domain if records were archived, or if it is gone.
    ///
    /// # Errors
    ///
    /// As [`history_of`](Self::history_of).
    pub fn steps_about<'c, F: Fn(&Domain) -> bool>(
        &'c self,
        domain: DomainUuid,
        may_begin: &(dyn Fn(Mention<'_>) -> bool + Sync),
        is_there: F,
    ) -> Result<impl Iterator<Item = Result<Step>> + use<'c, F>> {
        let view = self.read()?;
        let is_whole = self.log.history(None)?.view().head().is_none();
        let is_known = is_whole && view.state().domain(domain).is_some();
        let (from, last) = if is_known {
            let begin = self.records_where(domain, may_begin)?;
            (begin.first().copied(), begin.last().copied())
        } else {
            (Some(Seq::FIRST), None)
        };
        let steps = match (from, view.head()) {
            (Some(from), Some(end)) => Some(self.steps_of(domain, from, end.seq)?),
            _ => None,
        };
        let mut has_ended = false;
        Ok(steps.into_iter().flatten().take_while(move |step| {
            let goes_on = !has_ended;
            if let (Ok(step), Some(last)) = (step, last) {
                let domain = step.after.state().domain(domain);
                has_ended = step.entry.head.seq >= last && !domain.is_some_and(&is_there);
            }
            goes_on
        }))
    }

    /// Returns the steps of one domain from a record to another, as [`history_of`](Self::history_of) does: from the first one
    /// that is not archived if that is later.
    ///
    /// # Errors
    ///
    /// As [`history_of`](Self::history_of).
    pub fn steps_of(&self, domain: DomainUuid, from: Seq, to: Seq) -> Result<DomainHistory<'_>> {
        let to = self.last_known().map_or(to, |last| to.min(last));
        Ok(DomainHistory(self.log.steps_of(domain, from, to)?))
    }

    /// Returns the steps from a record to another, in order: from the first one that is not archived if that is later. Only
    /// records of the domains that they are about are replayed, so that the views around a step are of these domains alone:
    /// no other is in them, and no command is decided on them. For few steps: a [`history`](Self::history) of many costs
    /// less.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history); what comes up while it is read is an item.
    pub fn steps(&self, from: Seq, to: Seq) -> Result<DomainHistory<'_>> {
        let to = self.last_known().map_or(to, |last| to.min(last));
        Ok(DomainHistory(self.log.steps(from, to)?))
    }

    /// Returns the state of one domain as of a record: the end of the log if that is before it. Other domains are not in it.
    ///
    /// # Errors
    ///
    /// As [`view_at`](Self::view_at).
    pub fn view_of_domain(&self, domain: DomainUuid, seq: Seq) -> Result<View> {
        let seq = self.last_known().map_or(seq, |last| seq.min(last));
        Ok(self.log.view_of(domain, seq)?)
    }

    /// Returns the entries of the log behind the record `after`, from the first one that is not archived if that is
    /// `None`.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read. [`Error::store`] tells more: `Forked` if
    /// another record stands where `after` does, `Truncated` if the log ends before it, `Archived` if records behind it
    /// were moved to an archive, `Replaced` if another store stands where this one was.
    pub fn entries(&self, after: Option<Head>) -> Result<Vec<Entry>> {
        let mut entries = self.log.entries(after)?;
        entries.retain(|entry| !self.is_beyond(entry.head.seq));
        Ok(entries)
    }

    /// Checks that the log continues the one that a receipt is of, from its record to the end, and returns the receipt of
    /// that end: for an auditor who has verified all that comes before.
    ///
    /// # Errors
    ///
    /// As [`entries`](Self::entries); `Forked` also if the receipt is of another log.
    pub fn verify_since(&self, receipt: Receipt) -> Result<Receipt> {
        Ok(self.log.verify_since(receipt)?)
    }

    /// Returns the history behind the record `after`, from the first record that is not archived if that is `None`: each
    /// entry with the states around it. It reads in batches and holds no lock in between, so that the connection can be
    /// used meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if there is no store, or it cannot be read, as for [`entries`](Self::entries). What
    /// comes up later is an item: an error after all entries before it ends the history, but for `Archived`, behind which
    /// it goes on with the bridge.
    pub fn history(&self, after: Option<Head>) -> Result<History<'_>> {
        Ok(self.as_known(self.log.history(after)?))
    }

    /// Returns the history from a record on; from the first one that is not archived if that is later.
    ///
    /// # Errors
    ///
    /// As [`history`](Self::history).
    pub fn history_from(&self, seq: Seq) -> Result<History<'_>> {
        Ok(self.as_known(self.log.history_from(seq)?))
    }

    /// A history that ends where this connection's log does.
    fn as_known<'a>(&self, history: momentlog_engine::History<'a>) -> History<'a> {
        History(match self.last_known() {
            Some(last) => history.up_to(last),
            None => history,
        })
    }

    /// Returns a subscription to the entries behind the record `after`.
    pub fn subscribe(&self, after: Option<Head>) -> Subscription {
        Subscription(self.log.subscribe(after))
    }

    /// The log's id; `None` as long as there is no record.
    pub fn log_id(&self) -> Option<LogId> {
        self.log.log_id()
    }

    /// Returns a receipt of the log as it is now, for `verify`; `None` as long as there is no record.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::SystemError`] if the store cannot be read.
    pub fn receipt(&self) -> Result<Option<Receipt>> {
        let point = self.point().and_then(|view| view.head());
        match point.zip(self.log_id()) {
            Some((head, log)) => Ok(Some(Receipt { log, head })),
            None => Ok(self.log.receipt()?),
        }
    }

    /// Says what is wrong with a log that is damaged: what comes before can be read, and nothing is written past it.
    /// As of the last call that looked at the store.
    pub fn damage(&self) -> Option<Arc<str>> {
        self.log.damage()
    }

    /// Makes an image of the log as it is now, from which it is opened sooner, and returns the record that it is of.
    /// Images are also made on close and every 500,000 records; losing one costs nothing but time.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::OperationInvalid`] if there is nothing to
    /// save; [`ErrorCode::SystemError`] if the store keeps no images, or the disk is full.
    pub fn make_image(&self) -> Result<Head> {
        self.deny_read_only("make_image", ErrorDomain::Domain)?;
        Ok(self.log.make_image()?)
    }

    /// Moves all records up to now to the directory `to`, which is made, or holds earlier ones of this log. From then on
    /// the log begins with an image and a bridge record that names what was moved.
    ///
    /// Interrupted, it may be asked again: until all is copied and synced, the log is whole here.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::OperationInvalid`] if there is nothing to
    /// move; [`ErrorCode::SystemError`] if the store has no archive, `to` holds something else, or the disk says so.
    pub fn archive(&self, to: &Path) -> Result<Archived> {
        self.archive_to(&RealDisk::new(to))
    }

    /// As [`archive`](Self::archive), to any disk.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn archive_to(&self, to: &dyn Disk) -> Result<Archived> {
        self.deny_read_only("archive", ErrorDomain::Domain)?;
        Ok(self.log.archive(&self.provenance, to)?)
    }

    /// Waits until everything that was submitted is durable.
    ///
    /// # Errors
    ///
    /// What the store says of a write that failed.
    pub fn flush(&self) -> Result<()> {
        Ok(self.log.flush()?)
    }

    /// Waits until everything that was submitted is durable, and lets other processes write: for all clones of the
    /// connection, which can be used again. Dropping the last clone does the same, and cannot say whether it failed.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    pub fn close(self) -> Result<()> {
        Ok(self.log.close()?)
    }

    /// Lets other processes write until the next change here, which waits for them in turn.
    pub fn release(&self) {
        self.log.release();
    }
}

/// A command that was submitted. Dropping it takes nothing back.
#[must_use = "the command is not durable before `wait` says so"]
pub struct Submitted {
    connection: Connection,
    pending: Pending<Error>,
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl Submitted {
    /// Waits until the command, and all that its answer rests on, is durable, and returns the answer.
    ///
    /// # Errors
    ///
    /// As [`Connection::execute`].
    pub fn wait(self) -> Result<Outcome> {
        Ok(self.connection.log.answer(self.pending)?.remove(0))
    }
}

fn is_missing(error: &StoreError) -> bool {
    matches!(error, StoreError::Missing { .. })
}
