//! The format of recordings.

use serde::Deserialize;
use serde_json::Value;

/// Why a text is not a trace.
#[derive(Debug)]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for TraceError {}

/// The first line.
#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) clock_base: i64,
}

/// One recorded call with its answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Call {
    pub(crate) n: i64,
    #[serde(rename = "call")]
    pub(crate) function: String,
    pub(crate) domain: Option<String>,
    pub(crate) moment: Option<String>,
    pub(crate) xml: Option<String>,
    #[serde(default)]
    pub(crate) flags: u32,
    #[serde(default)]
    pub(crate) readonly: bool,
    #[serde(default)]
    pub(crate) count_only: bool,
    pub(crate) maxnames: Option<usize>,
    #[serde(default)]
    pub(crate) keep_handles: bool,
    pub(crate) now: Option<i64>,
    pub(crate) result: Option<Value>,
    pub(crate) error: Option<RecordedError>,
    pub(crate) state: Option<Value>,
}

/// A recorded error.
#[derive(Debug, Deserialize)]
pub(crate) struct RecordedError {
    pub(crate) code: u32,
    pub(crate) domain: u32,
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) text: String,
}

/// Reads header and calls.
pub(crate) fn read(text: &str) -> Result<(Header, Vec<Call>), TraceError> {
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let malformed = |line: usize, why: String| TraceError {
        line: line + 1,
        why,
    };
    let (line, first) = lines
        .next()
        .ok_or_else(|| malformed(0, "the file is empty".to_owned()))?;
    let header: Header =
        serde_json::from_str(first).map_err(|error| malformed(line, error.to_string()))?;
    if header.format != "momentlog-oracle-trace" {
        return Err(malformed(
            line,
            format!("format '{}' is not known", header.format.escape_debug()),
        ));
    }
    let mut calls = Vec::new();
    for (line, text) in lines {
        let value: Value =
            serde_json::from_str(text).map_err(|error| malformed(line, error.to_string()))?;
        if value.get("note").is_none() {
            let call: Call = serde_json::from_value(value)
                .map_err(|error| malformed(line, error.to_string()))?;
            calls.push(call);
        }
    }
    Ok((header, calls))
}
