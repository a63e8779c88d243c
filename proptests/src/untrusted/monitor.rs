//! What must hold for any replies of a hypervisor.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use momentlog::core::{
    Attachment, DiskEffect, DomainDef, DomainDisk, EffectKind, HypervisorRun, Job, JobId, JobKind,
    JobLength, SourceKind,
};
use momentlog::driver::{Driver as _, Guest, Tops, copy_name};
use momentlog::store::LogId;
use momentlog_qemu::{AskError, EnterError, Hypervisor, Monitor, Qemu, Request};
use serde_json::Value;

use crate::suite::UUID;

/// A file that is not there.
const NEW: &str = "/images/new";

/// Gives the same replies to whatever is asked, one after the other.
#[derive(Clone, Debug)]
struct Replies(Arc<Mutex<VecDeque<Value>>>);

impl Hypervisor for Replies {
    fn enter(&self, _: &Path, _: Duration) -> Result<Box<dyn Monitor>, EnterError> {
        Ok(Box::new(self.clone()))
    }

    fn create_file(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn is_there(&self, path: &Path) -> bool {
        path != Path::new(NEW)
    }

    fn sync_files(&self, _: &[&Path]) -> std::io::Result<()> {
        Ok(())
    }

    fn remove_file(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }

    fn image_info(&self, _: &Path, _: Option<&str>) -> Result<Value, String> {
        self.next().ok_or_else(|| "it is not there".to_owned())
    }

    fn holds_data(&self, _: &Path) -> Result<bool, String> {
        Ok(self.next().is_some())
    }

    fn remove_stored_bitmap(&self, _: &Path, _: &str) -> Result<(), String> {
        Err("it is refused".to_owned())
    }
}

impl Replies {
    fn next(&self) -> Option<Value> {
        let mut replies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        replies.pop_front()
    }
}

impl Monitor for Replies {
    fn run(&self) -> Option<HypervisorRun> {
        None
    }

    fn ask(&mut self, request: &Request) -> Result<Value, AskError> {
        let execute = request.execute.clone().into_owned();
        match self.next() {
            None => Err(AskError::Closed { execute }),
            Some(Value::String(desc)) => Err(AskError::Refused {
                class: "GenericError".to_owned(),
                desc,
            }),
            Some(reply) => Ok(reply),
        }
    }
}

/// Gives a driver any JSON as the replies of a hypervisor, one document a line: an error or an answer comes, and no panic.
/// A line that is a text stands for a refusal.
pub fn monitor(text: &str) {
    let replies: VecDeque<Value> = text
        .lines()
        .map_while(|line| serde_json::from_str(line).ok())
        .take(200)
        .collect();
    for kind in JobKind::ALL {
        let driver = Qemu::over(Arc::new(Replies(Arc::new(Mutex::new(replies.clone())))));
        let guest = guest();
        let tops = Tops {
            known: [("vda".into(), vec!["/images/old".into()])].into(),
            doubtful: [("vda".into(), "/images/over".into())].into(),
        };
        let _ = driver.look_off(&guest, &tops);
        let _ = driver.remove_bitmaps_off(&guest, &job(kind).effects);
        let driver = Qemu::over(Arc::new(Replies(Arc::new(Mutex::new(replies.clone())))));
        let Ok(mut session) = driver.enter(&guest, Duration::ZERO) else {
            continue;
        };
        let job = job(kind);
        let _ = session.see();
        let _ = session.perform(JobId::FIRST, &job);
        let _ = session.measure("c1");
        let _ = session.complete(&job);
        let _ = session.finish(&job);
        let _ = session.sweep(&[]);
    }
}

fn guest() -> Guest {
    let disk = |target: &str| DomainDisk {
        target: target.into(),
        kind: SourceKind::File,
        source: Some(format!("/images/{target}.qcow2").into()),
        empty: false,
        format: Some("qcow2".into()),
        readonly: false,
        snapshot: None,
    };
    Guest {
        log: LogId([1; 16]),
        uuid: UUID,
        def: Arc::new(DomainDef {
            name: "vm".into(),
            uuid: UUID,
            memory_kib: 8192,
            disks: vec![disk("vda"), disk("vdb")],
            xml: "".into(),
        }),
        attachment: Arc::new(Attachment {
            driver: Qemu::NAME.into(),
            socket: "/run/vm.qmp".into(),
            look_only: false,
        }),
    }
}

fn job(kind: JobKind) -> Job {
    let effect = |effect, bitmap: String| DiskEffect {
        disk: "vda".into(),
        kind: effect,
        image: "/images/vda.qcow2".into(),
        node: "vda".into(),
        bitmap: Some(bitmap.into()),
        bitmap_was_there: false,
        file: Some(NEW.into()),
    };
    let copy = copy_name(LogId([1; 16]), JobId::FIRST, "vda");
    let document = "<domainbackup><disks><disk name='vda' type='file'><target file='/images/new'/></disk></disks></domainbackup>";
    Job {
        kind,
        length: JobLength::Short,
        call: 0,
        flags: 0,
        document: (kind == JobKind::Backup).then(|| document.into()),
        snapshots: vec![],
        checkpoints: vec![],
        deletions: vec![],
        effects: EffectKind::ALL
            .into_iter()
            .map(|kind| match kind {
                EffectKind::Copied => effect(kind, copy.clone()),
                _ => effect(kind, "c1".to_owned()),
            })
            .collect(),
        files: vec![],
        run: None,
    }
}
