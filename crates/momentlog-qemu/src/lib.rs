//! A running QEMU, asked over its QMP socket.

mod monitor;

pub use monitor::{AskError, EnterError, Hypervisor, Monitor, Request};
