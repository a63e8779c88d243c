//! The questions of an auditor, asked of logs in memory.

mod points;
