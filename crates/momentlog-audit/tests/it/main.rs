//! The questions of an auditor, asked of logs in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod points;
mod questions;
