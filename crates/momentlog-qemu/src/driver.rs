//! The driver: how a domain's guest is entered.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use momentlog::ErrorCode;
use momentlog::core::{DiskEffect, Job};
use momentlog::driver::{Absent, Driver, Fault, Guest, Session, Sight, Tops};

use crate::monitor::{EnterError, Hypervisor};
use crate::qmp::QmpSockets;
use crate::session::QemuSession;

/// The driver of running QEMU guests.
#[derive(Clone, Debug)]
pub struct Qemu {
    hypervisor: Arc<dyn Hypervisor>,
}

impl Default for Qemu {
    fn default() -> Qemu {
        Qemu::over(Arc::new(QmpSockets::default()))
    }
}

impl Qemu {
    /// The driver's name, in URIs and attachments.
    pub const NAME: &'static str = "qemu";

    /// Returns a driver of guests that are reached otherwise than by sockets of this host.
    pub fn over(hypervisor: Arc<dyn Hypervisor>) -> Qemu {
        Qemu { hypervisor }
    }
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        Qemu::NAME
    }

    fn enter(&self, guest: &Guest, wait: Duration) -> Result<Box<dyn Session>, Absent> {
        let socket = Path::new(&*guest.attachment.socket);
        let entered = self.hypervisor.enter(socket, wait);
        let monitor = entered.map_err(|error| {
            let text = error.to_string();
            match error {
                EnterError::Missing { .. } => Absent::Ended(text),
                EnterError::Dead { .. } => Absent::Killed(text),
                EnterError::Held { .. } => Absent::Held(text),
                EnterError::NotQmp { .. } | EnterError::Io { .. } => {
                    Absent::Fault(Fault::refused(ErrorCode::SystemError, text))
                }
            }
        })?;
        let mut session = QemuSession::new(self.hypervisor.clone(), monitor, guest);
        session.check_guest()?;
        Ok(Box::new(session))
    }

    fn look_off(&self, guest: &Guest, tops: &Tops) -> Result<Sight, Fault> {
        crate::off::look(self.hypervisor.as_ref(), guest, tops)
    }

    fn remove_bitmaps_off(&self, guest: &Guest, effects: &[DiskEffect]) -> Result<(), Fault> {
        crate::off::remove_bitmaps(self.hypervisor.as_ref(), guest, effects)
    }

    fn remove_files(&self, job: &Job) {
        for file in &job.files {
            let _ = self.hypervisor.remove_file(Path::new(&*file.path));
        }
    }
}
