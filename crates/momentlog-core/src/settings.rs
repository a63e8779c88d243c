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

/// One change of a store's settings; the others stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsChange {
    /// Another policy of new domains.
    Policy(Policy),
    /// Another window of request ids, in seconds; 0 for ever.
    RequestWindow(u32),
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
        let mut settings = self.settings();
        match change {
            SettingsChange::Policy(policy) => settings.policy = policy,
            SettingsChange::RequestWindow(seconds) => settings.request_window_s = seconds,
        }
        vec![Event {
            domain: None,
            change: Change::SettingsSet(settings),
        }]
    }
}
