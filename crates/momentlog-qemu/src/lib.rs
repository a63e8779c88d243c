//! A running QEMU, asked over its QMP socket.
//!
//! [`QmpSockets`] leads to the monitor of a guest, which one client has alone until it drops it; [`Monitor`] sends requests
//! and returns what they return. Whatever a monitor does, an answer or an error comes within a bounded time. A guest that libvirt
//! manages is only looked at, by [`Libvirt`].

mod child;
mod deadline;
mod driver;
mod graph;
mod libvirt;
mod monitor;
mod names;
mod off;
mod qemu_img;
mod qmp;
mod session;

pub use driver::Qemu;
pub use libvirt::{Ask, Libvirt, LibvirtError, Virsh};
pub use monitor::{AskError, EnterError, Hypervisor, Monitor, Request};
pub use qmp::{QemuVersion, QmpMonitor, QmpSockets};
