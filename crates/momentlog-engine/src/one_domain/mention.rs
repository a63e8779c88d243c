//! Which records of a domain create or redefine moments, from their outlines alone.

use momentlog_core::{DomainUuid, MomentId};
use momentlog_store::Seq;

use super::fault;
use crate::codec::Outline;
use crate::error::EngineError;
use crate::log::Log;
use crate::lookup::Lookup;

/// What the outline of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mention<'a> {
    /// It creates a moment.
    Created {
        /// The moment.
        id: MomentId,
        /// Its name.
        name: &'a str,
    },
    /// It redefines a moment.
    Redefined(MomentId),
    /// It takes another record back.
    TakesBack(Seq),
}

impl Log {
    /// Returns the records of a domain of which `is` holds for anything that they mention, in order. Records are scanned and
    /// not replayed, and nothing is known of those that were archived.
    ///
    /// # Errors
    ///
    /// As [`history_of`](Self::history_of) and its items.
    pub fn records_where(
        &self,
        domain: DomainUuid,
        is: &(dyn Fn(Mention<'_>) -> bool + Sync),
    ) -> Result<Vec<Seq>, EngineError> {
        let begin = self.place_at(None)?.ledger;
        let mut lookup = Lookup::over(self, Some(&begin))?;
        lookup.find_all(begin.view.head, &|outline| {
            let seq = outline.seq;
            let facts = Outline::read(seq, outline.facts).map_err(|why| fault(seq, why))?;
            let mut found = Vec::new();
            if facts.domain == Some(domain) {
                let mut is_meant = false;
                let mentions = facts.mentions(&mut |mention| is_meant |= is(mention));
                mentions.map_err(|why| fault(seq, why))?;
                found.extend(is_meant.then_some(seq));
            }
            Ok(found)
        })
    }
}
