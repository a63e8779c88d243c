//! What a store as a whole is set to, by recorded events.

use crate::{Change, Event, Policy, Profile, State};

/// The settings of a store. Its profile gives the first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The policy of new domains that were never given one of their own.
    pub policy: Policy,
    /// For how many seconds of recorded time request ids are remembered; 0 for ever.
    pub request_window_s: u32,
}

/// A change of a store's settings; what is none stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// Another policy of new domains.
    pub policy: Option<Policy>,
    /// Another window of request ids, in seconds; 0 for ever.
    pub request_window_s: Option<u32>,
}

/// 30 days.
const REQUEST_WINDOW_S: u32 = 30 * 24 * 60 * 60;

impl Profile {
    /// The settings of a new store.
    ///
    /// Both profiles remember request ids for 30 days: libvirt knows no request ids, so that its test driver has nothing
    /// to say about them.
    pub fn settings(self) -> Settings {
        Settings {
            policy: self.policy(),
            request_window_s: REQUEST_WINDOW_S,
        }
    }
}

impl State {
    /// Returns the events that a change of the store's settings causes, and changes nothing. Nothing speaks against one:
    /// domains that are there keep their policies.
    pub fn decide_settings(&self, change: SettingsChange) -> Vec<Event> {
        let before = self.settings();
        let settings = Settings {
            policy: change.policy.unwrap_or(before.policy),
            request_window_s: change.request_window_s.unwrap_or(before.request_window_s),
        };
        vec![Event {
            domain: None,
            change: Change::SettingsSet(settings),
        }]
    }
}
