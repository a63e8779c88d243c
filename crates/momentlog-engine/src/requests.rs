//! Ids of requests that are remembered, and for how long.

use std::sync::Arc;

use momentlog_core::{JobId, Settings};
use momentlog_store::Seq;

/// The record that a request id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) seq: Seq,
    /// When it was recorded, in microseconds since 1970.
    pub(crate) recorded: i64,
    /// Digest of what was asked.
    pub(crate) digest: [u8; 32],
}

/// Remembered ids by id, as far as the store's window reaches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    by_id: im::HashMap<Arc<str>, Remembered>,
    /// All of them in the order of the log, and so by their times; also those that were recorded once more since.
    order: im::Vector<(Seq, Arc<str>)>,
    /// The ids of the requests that began the open jobs.
    jobs: im::OrdMap<JobId, Arc<str>>,
}

impl PartialEq for Requests {
    fn eq(&self, other: &Requests) -> bool {
        self.by_id == other.by_id && self.jobs == other.jobs
    }
}

impl Requests {
    /// Returns what a request id stands for, if it is remembered.
    pub(crate) fn get(&self, id: &str) -> Option<Remembered> {
        self.by_id.get(id).copied()
    }

    /// Number of ids that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns the ids in the order of the log.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Remembered)> {
        self.order.iter().filter_map(|(seq, id)| {
            let request = self.by_id.get(id)?;
            (request.seq == *seq).then_some((&**id, *request))
        })
    }

    /// Remembers an id. Requests come in the order of the log. Returns the record that it stood for until now.
    pub(crate) fn remember(&mut self, id: Arc<str>, request: Remembered) -> Option<Seq> {
        self.order.push_back((request.seq, id.clone()));
        let before = self.by_id.insert(id, request);
        before.map(|before| before.seq)
    }

    /// Takes note that a request began a job.
    pub(crate) fn begin(&mut self, job: JobId, id: Arc<str>) {
        self.jobs.insert(job, id);
    }

    /// Takes note that a job ended. If it failed, what was asked was not done, and its id is free: returns the record that it
    /// stood for.
    pub(crate) fn settle(&mut self, job: JobId, failed: bool) -> Option<Seq> {
        let id = self.jobs.remove(&job).filter(|_| failed)?;
        self.by_id.remove(&id).map(|request| request.seq)
    }

    /// Returns the requests that began the open jobs.
    pub(crate) fn open(&self) -> impl ExactSizeIterator<Item = (JobId, &str)> {
        self.jobs.iter().map(|(job, id)| (*job, &**id))
    }

    /// Forgets what the window does not reach any more from a record of the time `now`, and calls `each` with the records
    /// that were forgotten. It is a function of what was recorded alone, so that every process forgets the same.
    pub(crate) fn forget(&mut self, settings: Settings, now: i64, mut each: impl FnMut(Seq)) {
        if settings.request_window_s == 0 {
            return;
        }
        let window = i64::from(settings.request_window_s) * 1_000_000;
        let first_kept = now.saturating_sub(window);
        while let Some((seq, id)) = self.order.front() {
            match self.by_id.get(id) {
                Some(request) if request.seq == *seq => {
                    if request.recorded >= first_kept {
                        break;
                    }
                    each(*seq);
                    self.by_id.remove(id);
                }
                // It was recorded once more since.
                _ => {}
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use momentlog_core::{Change, Event, Profile};

    use super::*;
    use crate::codec::{Asked, Content, Facts, RequestKey, asked_by};
    use crate::image;
    use crate::ledger::Ledger;

    const DAY: i64 = 24 * 60 * 60 * 1_000_000;

    fn begun() -> Ledger {
        Ledger::new(Profile::Own)
    }

    /// A record of the time `recorded` under a request id, or that sets the window.
    fn settle(ledger: &mut Ledger, recorded: i64, id: Option<&str>, window_s: Option<u32>) {
        let events: Vec<Event> = window_s
            .map(|seconds| Event {
                domain: None,
                change: Change::SettingsSet(Settings {
                    request_window_s: seconds,
                    ..ledger.view.state.settings()
                }),
            })
            .into_iter()
            .collect();
        for event in &events {
            ledger.view.state.advance(event).unwrap();
        }
        let request = id.map(|id| RequestKey {
            id: id.into(),
            digest: [5; 32],
        });
        let facts = Facts {
            recorded,
            domain: None,
            previous: None,
            content: Content::Command {
                asked: Asked {
                    request,
                    ..asked_by("ann")
                },
                events,
            },
        };
        let seq = Seq::after(ledger.seq);
        ledger.settle(seq, facts);
        ledger.view.head = Some(momentlog_store::Head {
            seq,
            digest: momentlog_store::Digest::ZERO,
        });
    }

    fn ids(ledger: &Ledger) -> Vec<&str> {
        ledger.requests.iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn an_id_is_forgotten_by_the_first_record_that_its_window_does_not_reach() {
        let mut ledger = begun();
        settle(&mut ledger, 0, Some("a"), None);
        settle(&mut ledger, 30 * DAY, Some("b"), None);
        assert_eq!(ids(&ledger), ["a", "b"]);
        settle(&mut ledger, 30 * DAY + 1, None, None);
        assert_eq!(ids(&ledger), ["b"]);
        assert_eq!(ledger.requests.get("a"), None);
    }

    #[test]
    fn a_window_of_0_forgets_nothing_and_a_shorter_one_forgets_at_once() {
        let mut ledger = begun();
        settle(&mut ledger, 0, Some("a"), Some(0));
        settle(&mut ledger, 9_000 * DAY, Some("b"), None);
        assert_eq!(ids(&ledger), ["a", "b"]);
        settle(&mut ledger, 9_000 * DAY + 1, None, Some(1));
        assert_eq!(ids(&ledger), ["b"]);
    }

    #[test]
    fn an_id_that_was_recorded_once_more_counts_from_then() {
        let mut ledger = begun();
        settle(&mut ledger, 0, Some("a"), None);
        ledger.answers.insert(Seq::FIRST, [1_u8][..].into());
        settle(&mut ledger, 20 * DAY, Some("a"), None);
        assert!(ledger.answers.is_empty());
        settle(&mut ledger, 40 * DAY, Some("b"), None);
        assert_eq!(ids(&ledger), ["a", "b"]);
        assert_eq!(ledger.requests.get("a").unwrap().seq.get(), 2);
        settle(&mut ledger, 51 * DAY, None, None);
        assert_eq!(ids(&ledger), ["b"]);
    }

    #[test]
    fn times_at_the_ends_of_their_range_are_no_fault() {
        let mut ledger = begun();
        settle(&mut ledger, i64::MIN, Some("a"), Some(u32::MAX));
        settle(&mut ledger, i64::MAX, Some("b"), None);
        assert_eq!(ids(&ledger), ["b"]);
    }

    #[test]
    fn old_ids_and_their_answers_are_in_no_image() {
        let mut ledger = begun();
        for number in 0..300_000_i64 {
            settle(&mut ledger, number, Some(&format!("r{number}")), None);
        }
        for seq in [1, 7, 300_000] {
            let seq = Seq::new(seq).unwrap();
            ledger.answers.insert(seq, [1_u8][..].into());
        }
        assert_eq!(ledger.requests.len(), 300_000);
        let all = image::encode(&ledger).unwrap().len();
        // The first record of which nearly all are out of reach.
        settle(&mut ledger, 30 * DAY + 299_998, Some("new"), None);
        assert_eq!(ids(&ledger), ["r299998", "r299999", "new"]);
        assert_eq!(ledger.answers.len(), 1);
        assert_eq!(ledger.requests.order.len(), 3);
        let body = image::encode(&ledger).unwrap();
        assert!(
            body.len() < 500 && body.len() < all / 10_000,
            "{}",
            body.len()
        );
        let again = image::decode(ledger.view.head.unwrap(), &body).unwrap();
        assert!(again.agrees_with(&ledger));
        assert_eq!(ids(&again), ids(&ledger));
        // What is decided from the image forgets as what was replayed.
        let mut both = [ledger, again];
        for ledger in &mut both {
            settle(ledger, 30 * DAY + 299_999, None, None);
        }
        assert!(both[0].agrees_with(&both[1]));
        assert_eq!(ids(&both[0]), ["r299999", "new"]);
    }
}
