//! The embedded domain that was read last.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use momentlog_core::DomainDef;

/// The embedded domain that was read last, with its text.
///
/// Moments of one guest that are redefined one after another mostly embed the same domain, byte for byte. Such a text is
/// passed over, and the definition comes from here; what is read is the same as without.
#[derive(Default)]
pub struct RecentDomain {
    last: Mutex<Option<Arc<Known>>>,
}

/// Without the text, which may hold passwords.
impl fmt::Debug for RecentDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecentDomain").finish_non_exhaustive()
    }
}

/// A `<domain>` that was read inside the root of a document.
#[derive(Debug)]
pub(crate) struct Known {
    /// From the `<` of its start to the `>` of its end.
    pub(crate) text: String,
    /// Where in `text` its end begins.
    pub(crate) end_tag: usize,
    /// How many elements it consists of.
    pub(crate) elements: usize,
    /// Whether the schema takes it.
    pub(crate) validated: bool,
    pub(crate) def: Arc<DomainDef>,
}

/// Where a document holds what could be [`Known`].
#[derive(Clone, Debug)]
pub(crate) struct Embedded {
    /// The index of its node.
    pub(crate) index: usize,
    /// Its bytes in the text.
    pub(crate) range: Range<usize>,
    /// Where in the text its end begins.
    pub(crate) end_tag: usize,
    /// How many elements it consists of.
    pub(crate) elements: usize,
}

impl RecentDomain {
    /// Returns what was read last, if the schema takes it or need not.
    pub(crate) fn get(&self, validate: bool) -> Option<Arc<Known>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.clone().filter(|last| last.validated || !validate)
    }

    /// Keeps what was read from this part of `text`.
    pub(crate) fn set(&self, text: &str, at: &Embedded, validated: bool, def: &Arc<DomainDef>) {
        let known = Known {
            text: text[at.range.clone()].to_owned(),
            end_tag: at.end_tag - at.range.start,
            elements: at.elements,
            validated,
            def: def.clone(),
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(known));
    }
}
