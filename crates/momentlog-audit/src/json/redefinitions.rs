//! `momentlog.redefinitions/1`: what gives another libvirt the moments of a domain.

use serde::Serialize;

use super::DomainDoc;

/// What gives another libvirt the moments of a domain, as it was written to a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedefinitionsDoc {
    schema: &'static str,
    /// The domain.
    pub domain: DomainDoc,
    /// `snapshot` or `checkpoint`.
    pub kind: &'static str,
    /// The record as of which it is.
    pub as_of: Option<u64>,
    /// The directory, as it was given.
    pub directory: String,
    /// The file of commands in it.
    pub script: &'static str,
    /// The name of the current moment.
    pub current: Option<String>,
    /// Names of the snapshots whose domain was erased: libvirt refuses them.
    pub erased: Vec<String>,
    /// The steps, in their order.
    pub steps: Vec<RedefinitionDoc>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RedefinitionDoc {
    /// `redefine`, `placeholder` or `delete_placeholder`.
    #[serde(rename = "do")]
    pub what: &'static str,
    /// The name of the moment.
    pub name: String,
    /// The name of its parent.
    pub parent: Option<String>,
    /// Whether it is redefined with CURRENT.
    pub current: bool,
    /// The file of its XML.
    pub file: Option<String>,
}

impl RedefinitionsDoc {
    /// Returns the document of no steps, to be filled in.
    pub fn new(domain: DomainDoc, kind: &'static str, script: &'static str) -> RedefinitionsDoc {
        RedefinitionsDoc {
            schema: "momentlog.redefinitions/1",
            domain,
            kind,
            as_of: None,
            directory: String::new(),
            script,
            current: None,
            erased: Vec::new(),
            steps: Vec::new(),
        }
    }
}
