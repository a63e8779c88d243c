//! The locks that [`crate::commit_queue`] waits on; its tests put those of a scheduler in their place.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
