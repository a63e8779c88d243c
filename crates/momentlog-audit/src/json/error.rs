//! `momentlog.error/1`: why a command failed.

use serde::Serialize;

/// Why a command failed, as libvirt numbers it where it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorDoc {
    schema: &'static str,
    /// libvirt's `virErrorNumber`; none if the program itself found the fault.
    pub code: Option<u32>,
    /// The name of that number.
    pub name: Option<&'static str>,
    /// libvirt's `virErrorDomain`.
    pub domain: Option<u32>,
    /// What happened, in words.
    pub message: String,
    /// What can be done about it: a command.
    pub hint: Option<String>,
    /// The file that the fault is in.
    pub path: Option<String>,
    /// The line of the fault in that file or document, from 1.
    pub line: Option<u64>,
    /// The column of the fault, from 1.
    pub column: Option<u64>,
    /// The records that the command made before it failed, by their numbers.
    pub records: Vec<u64>,
}

impl ErrorDoc {
    /// Returns the document of a fault in words, to be filled in.
    pub fn of(message: impl Into<String>) -> ErrorDoc {
        ErrorDoc {
            schema: "momentlog.error/1",
            message: message.into(),
            ..ErrorDoc::default()
        }
    }
}
