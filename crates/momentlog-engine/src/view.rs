//! The state at one point of the log.

use std::fmt;

use momentlog_core::{Domain, DomainUuid, Profile, Refusal, State};
use momentlog_store::{Head, Seq};

use crate::environment::Revision;

/// The state at one point of the log. It never changes, so a reader keeps it for as long as it likes.
#[derive(Clone, PartialEq)]
pub struct View {
    pub(crate) head: Option<Head>,
    pub(crate) state: State,
    pub(crate) revisions: im::OrdMap<DomainUuid, Seq>,
}

/// Short: where it is, and how much there is.
impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("head", &self.head)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl View {
    /// The view of a log without records: what its first record will make is there already.
    pub(crate) fn empty(profile: Profile) -> View {
        let mut state = State::new(profile);
        for event in profile.built_in() {
            state
                .advance(&event)
                .expect("the built-in domain fits an empty state");
        }
        View {
            head: None,
            state,
            revisions: im::OrdMap::new(),
        }
    }

    /// The last record that the view includes.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// The domains and their moments.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The revision of a domain, which may be gone.
    pub fn revision(&self, domain: DomainUuid) -> Revision {
        Revision::of(self.revisions.get(&domain).copied())
    }

    /// The domain of this uuid.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoDomain`].
    pub fn domain(&self, uuid: DomainUuid) -> Result<&Domain, Refusal> {
        self.state.domain(uuid).ok_or(Refusal::NoDomain { uuid })
    }
}
