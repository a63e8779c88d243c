//! Attaching a domain to its hypervisor, and comparing the two.

use std::sync::Arc;

use momentlog_core::{
    Action, Attachment, BeginJob, Command, DiskEffect, Domain as DomainState, EffectKind, Extent,
    Job, JobKind, JobLength, MomentKind, MomentName, Refusal, Report, RunState,
};
use momentlog_engine::{Call, Decision};
use momentlog_xml::read_checkpoint;

use super::Domain;
use super::bitmap_history::BitmapHistory;
use super::driven::{begun, new_job, refuse_look_only};
use super::effects::Effects;
use super::entered::Entered;
use crate::driver::{
    Guest, Listing, ManagedGuest, Reconciled, Sight, Step, Tracked, compare, compare_listed, plan,
};
use crate::error::{Error, ErrorCode, ErrorDomain, Result};
use crate::recordable;

impl Domain {
    /// Attaches the domain to its hypervisor: from now on its checkpoints, backups and snapshots are made there as well.
    ///
    /// The guest may be off. If it runs, it is entered, so that the wrong guest is refused; its run state is recorded.
    /// With `look_only` nothing is ever changed there, as another program manages the guest.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::NoDomain`];
    /// [`ErrorCode::OperationUnsupported`] if no driver of this connection has this name, or libvirt manages the guest;
    /// [`ErrorCode::OperationTimeout`] if another program has it; [`ErrorCode::OperationInvalid`] if its uuid is another.
    pub fn attach(&self, driver: &str, socket: &str, look_only: bool) -> Result<()> {
        self.connection
            .deny_read_only("attach", ErrorDomain::Domain)?;
        let attachment = Attachment {
            driver: driver.into(),
            socket: socket.into(),
            look_only,
        };
        let driver = self.connection.driver_of(&attachment)?;
        let guest = self.guest_at(&attachment)?;
        let mut reports = vec![Report::Attach(attachment)];
        let wait = self.connection.lock_wait();
        let entered = Entered::enter(&driver, &guest, wait, &|| self.connection.log.release())?;
        let (state, reason) = entered.power;
        if self.with(|domain| Ok(domain.power().state))? != state {
            reports.push(Report::Observe { state, reason });
        }
        let arguments = [&*guest.attachment.driver, socket];
        let request = self.request((Call::ATTACH, u32::from(look_only)), &arguments);
        self.record(request, &reports).map(|_| ())
    }

    /// The guest of this domain, wherever its hypervisor is asked.
    fn guest_at(&self, attachment: &Attachment) -> Result<Guest> {
        Ok(Guest {
            def: self.with(|domain| Ok(domain.def().clone()))?,
            log: self.connection.log.log_id().ok_or_else(|| {
                let detail = "a store without records has nothing to attach";
                Error::new(ErrorCode::OperationInvalid, ErrorDomain::Test, detail)
            })?,
            uuid: self.uuid,
            attachment: Arc::new(attachment.clone()),
        })
    }

    /// Detaches the domain from its hypervisor, of which nothing is changed: its bitmaps stay.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationDenied`] on a read-only connection; [`ErrorCode::NoDomain`];
    /// [`ErrorCode::OperationInvalid`] if it is not attached; [`ErrorCode::OperationTimeout`] while a job is open.
    pub fn detach(&self) -> Result<()> {
        self.connection
            .deny_read_only("detach", ErrorDomain::Domain)?;
        let request = self.request((Call::DETACH, 0), &[]);
        self.record(request, &[Report::Detach]).map(|_| ())
    }

    /// Where the hypervisor of the domain is asked; `None` if it is not attached.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`].
    pub fn attachment(&self) -> Result<Option<Arc<Attachment>>> {
        self.with(|domain| Ok(domain.attachment().cloned()))
    }

    /// Enters the guest of an attached domain, settles what calls before have left open, and records what is seen of its run
    /// state.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OperationInvalid`] if the domain is not attached; [`ErrorCode::OperationTimeout`] if another
    /// program has the guest; what the hypervisor says.
    pub fn look(&self) -> Result<RunState> {
        self.connection
            .deny_read_only("look", ErrorDomain::Domain)?;
        self.enter_attached()?;
        self.with(|domain| Ok(domain.power().state))
    }

    fn enter_attached(&self) -> Result<Entered> {
        let guest = self.guest()?;
        let name = self.name.clone();
        let guest = guest.ok_or(Refusal::NotAttached { name })?;
        self.enter(&guest, self.connection.lock_wait())
    }

    /// Returns what making a checkpoint of this XML would do to the images of an attached domain, after the hypervisor was
    /// asked whether it would; nothing is made and nothing recorded of it.
    ///
    /// # Errors
    ///
    /// As [`checkpoint_create_xml`](Self::checkpoint_create_xml), and as [`look`](Self::look).
    pub fn checkpoint_plan(&self, xml: &str) -> Result<Vec<DiskEffect>> {
        self.try_to_plan(xml)
            .map_err(|error| self.connection.told(error))
    }

    fn try_to_plan(&self, xml: &str) -> Result<Vec<DiskEffect>> {
        self.connection
            .deny_read_only("plan", ErrorDomain::Domain)?;
        let request = read_checkpoint(xml)?;
        let mut entered = self.enter_attached()?;
        let command = Command {
            domain: self.uuid,
            action: Action::CreateCheckpoint(self.new_checkpoint(request)),
        };
        let view = self.connection.log.view();
        let mut decision = Decision::on(&view);
        let call = (Call::CHECKPOINT_CREATE_XML, 0);
        let effects = Effects::of(&mut decision, &command, call, entered.sight.as_ref())?;
        recordable::check(&decision, &command)?;
        let on_disks = effects.map_or_else(Vec::new, |effects| effects.on_disks);
        if let Some(session) = &mut entered.session {
            session.rehearse(&on_disks)?;
        }
        Ok(on_disks)
    }

    /// Compares the log with the hypervisor of an attached domain, or with its images if the guest is off.
    ///
    /// What is seen of a checkpoint's bitmaps and is not what the log last knew is recorded, so that the log says since when a
    /// bitmap is bad. The log knows a bitmap to be good by the record that made it, by a finished backup since its checkpoint,
    /// and by what was recorded so; the newest of these is [`DiskFinding::last_ok`](crate::driver::DiskFinding::last_ok).
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look). That images cannot be looked at is no error: what they hold is unknown then.
    pub fn reconcile(&self) -> Result<Reconciled> {
        self.connection
            .deny_read_only("reconcile", ErrorDomain::Domain)?;
        let entered = self.enter_attached()?;
        let history = self.bitmap_history()?;
        let sight = self.sight_of(&entered)?;
        let mut found = self.compare(&entered, sight.as_ref(), &history)?;
        let news = history.news(&found);
        if !news.is_empty() {
            self.report(Call::OBSERVE, &news)?;
        }
        self.add_last_ok(&history, &mut found)?;
        Ok(found)
    }

    /// Compares the log with what libvirt tells of the domain, which need not be attached. Nothing is changed, neither there
    /// nor in the log. If the guest is off, `driver` looks at its images.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::NoDomain`]; [`ErrorCode::OperationUnsupported`] if no driver of this connection has this name. That images
    /// cannot be looked at is no error: whether checkpoints are valid is unknown then.
    pub fn compare_with_libvirt(&self, driver: &str, told: &ManagedGuest) -> Result<Listing> {
        self.connection.log.refresh()?;
        let mut sight = None;
        if !told.running {
            let attachment = Attachment {
                driver: driver.into(),
                socket: "".into(),
                look_only: true,
            };
            let driver = self.connection.driver_of(&attachment)?;
            sight = self.sight_of_images(&*driver, &self.guest_at(&attachment)?)?;
        }
        self.with(|domain| Ok(compare_listed(domain, told, sight.as_ref())))
    }

    fn compare(
        &self,
        entered: &Entered,
        sight: Option<&Sight>,
        history: &BitmapHistory,
    ) -> Result<Reconciled> {
        let log = entered.guest.log;
        let running = entered.session.is_some();
        self.with(|domain| Ok(compare(domain, log, sight, running, &history.had)))
    }

    /// Takes one step of a plan that [`reconcile`](Self::reconcile) has made. What has changed since is found by looking
    /// once more, and the step is not taken if it is no longer one.
    ///
    /// # Errors
    ///
    /// As [`look`](Self::look); [`ErrorCode::OperationInvalid`] if the guest is off and its images cannot be looked at, or the
    /// step is not one any more.
    pub fn repair(&self, step: &Step) -> Result<()> {
        self.connection
            .deny_read_only("repair", ErrorDomain::Domain)?;
        let mut entered = self.enter_attached()?;
        let sight = self.sight_of(&entered)?.ok_or(Refusal::Inactive)?;
        let history = self.bitmap_history()?;
        let found = self.compare(&entered, Some(&sight), &history)?;
        if !found.plan.contains(step) {
            let detail = "what was to be repaired is not there any more";
            return Err(Error::new(
                ErrorCode::OperationInvalid,
                ErrorDomain::Test,
                detail,
            ));
        }
        let (effects, action) = match step {
            Step::RemoveBitmap(found) => {
                let layer = sight
                    .disk(&found.disk)
                    .and_then(|disk| disk.layers.iter().find(|layer| layer.is(&found.image)));
                let layer = layer.ok_or(Refusal::Inactive)?;
                let mut effect = plan::on(&found.disk, layer);
                effect.kind = EffectKind::BitmapRemoved;
                effect.bitmap = Some(found.bitmap.clone());
                effect.bitmap_was_there = true;
                (vec![effect], None)
            }
            Step::DropCheckpoint { checkpoint, .. } => {
                let tracked = self.with(|domain| Ok(tracked_by(domain, checkpoint)))?;
                let effects = plan::leftovers(&sight, &tracked);
                let action = Action::Delete {
                    kind: MomentKind::Checkpoint,
                    name: checkpoint.clone(),
                    extent: Extent::One,
                };
                (effects, Some(action))
            }
        };
        refuse_look_only(&entered.guest)?;
        self.repair_in(&mut entered, step, effects, action)
    }

    fn repair_in(
        &self,
        entered: &mut Entered,
        step: &Step,
        effects: Vec<momentlog_core::DiskEffect>,
        action: Option<Action>,
    ) -> Result<()> {
        // Each step of a plan is a request of its own.
        let (image, what) = match step {
            Step::RemoveBitmap(found) => (&*found.image, &*found.bitmap),
            Step::DropCheckpoint { checkpoint, .. } => ("", checkpoint.as_str()),
        };
        let request = self.request((Call::RECONCILE, 0), &[image, what]);
        if effects.is_empty()
            && let Some(action) = action
        {
            // No bitmap is left: the record alone goes.
            let command = Command {
                domain: self.uuid,
                action,
            };
            self.connection.decide(request, &mut |decision| {
                decision.decide(&command)?;
                Ok::<(), Error>(())
            })?;
            return Ok(());
        }
        let job = Job {
            effects,
            run: entered.run(),
            ..new_job(JobKind::Repair, JobLength::Short, (Call::RECONCILE, 0))
        };
        let begin = Report::Begin(Box::new(BeginJob { job, action }));
        let outcome = self.record(request, &[begin])?;
        match begun(&outcome.events) {
            Some((id, job)) if !outcome.repeated => self.perform(entered, id, &job),
            _ => Ok(()),
        }
    }
}

fn tracked_by(domain: &DomainState, checkpoint: &MomentName) -> Vec<Tracked> {
    let found = domain.checkpoints().find(checkpoint.as_str());
    found.map_or_else(Vec::new, |moment| Tracked::of(moment.name, moment.def))
}
