//! Looking at once when libvirt's files of moments, or its events of domains, say that something may have changed.
//!
//! Neither is trusted: each leads to a look. Where either was lost, all domains are looked at.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use momentlog::core::{DomainUuid, MomentKind, MomentName};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::alters::Alters;
use super::look;
use super::upstream::Upstream;
use super::{Shared, Unseen};
use files::{Changed, Files};

/// How long until a domain is looked at whose call is on its way.
const BUSY_WAIT: Duration = Duration::from_millis(200);

/// How long until what has failed is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
#[derive(Debug)]
pub(crate) struct Watching {
    /// Its other end is hung up on.
    _stop: UnixStream,
}

/// Begins to watch, in a thread of its own. A driver other than QEMU's is not watched: a connection would keep the state of
/// libvirt's test driver.
pub(super) fn watch(shared: Arc<Shared>) -> io::Result<Option<Watching>> {
    let (scheme, path) = shared.uri.split_once("://").unwrap_or_default();
    if scheme.split('+').next() != Some("qemu") {
        return Ok(None);
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let dir = match path.split_once('/') {
        Some((_, "system")) => Some(PathBuf::from("/var/lib/libvirt/qemu")),
        Some((_, "session")) => session_dir(),
        _ => None,
    };
    let (stop, stopped) = UnixStream::pair()?;
    let mut watcher = Watcher {
        shared,
        files: Source::new(),
        dir,
        events: Source::new(),
        due: Due::default(),
    };
    watcher.open();
    // What was opened now has lost nothing: all that is there is looked at when the proxy starts.
    watcher.due.all = false;
    let thread = thread::Builder::new().name("watcher".to_owned());
    thread.spawn(move || watcher.run(&stopped))?;
    Ok(Some(Watching { _stop: stop }))
}

/// Where libvirt keeps what it has of a user's domains.
fn session_dir() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    let config = set("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(set("HOME")?).join(".config")));
    Some(config?.join("libvirt/qemu"))
}

/// What says that something may have changed.
#[derive(Debug)]
struct Source<T> {
    /// None if it cannot be opened.
    open: Option<T>,
    /// Whether a warning says so already.
    has_warned: bool,
}

/// What is to be looked at.
#[derive(Debug, Default)]
struct Due {
    all: bool,
    /// Domains, with the moments that may have changed; none if each may have.
    domains: BTreeMap<DomainUuid, Option<BTreeSet<(MomentKind, MomentName)>>>,
}

struct Watcher {
    shared: Arc<Shared>,
    files: Source<Files>,
    /// Where libvirt keeps them; none if that is not known.
    dir: Option<PathBuf>,
    events: Source<Upstream>,
    due: Due,
}

impl<T> Source<T> {
    fn new() -> Source<T> {
        Source {
            open: None,
            has_warned: false,
        }
    }

    /// Opens it if it is not. Returns whether it was opened now: what happened before is not known then.
    fn open<E: std::fmt::Display>(
        &mut self,
        what: &str,
        open: impl FnOnce() -> Result<T, E>,
    ) -> bool {
        if self.open.is_some() {
            return false;
        }
        match open() {
            Ok(opened) => {
                self.open = Some(opened);
                self.has_warned = false;
                true
            }
            Err(error) => {
                if !self.has_warned {
                    tracing::warn!("{what} cannot be watched: {error}");
                }
                self.has_warned = true;
                false
            }
        }
    }
}

impl Due {
    fn domain(&mut self, uuid: DomainUuid) {
        let moments = self.domains.entry(uuid);
        moments.or_insert_with(|| Some(BTreeSet::new()));
    }

    /// Adds a moment; none for each moment of the domain.
    fn moment(&mut self, uuid: DomainUuid, moment: Option<(MomentKind, MomentName)>) {
        self.domain(uuid);
        let moments = self.domains.get_mut(&uuid);
        if let Some(moments) = moments {
            match (moments.as_mut(), moment) {
                (Some(moments), Some(moment)) => {
                    moments.insert(moment);
                }
                _ => *moments = None,
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && self.domains.is_empty()
    }
}

impl Watcher {
    fn run(mut self, stopped: &UnixStream) {
        loop {
            self.open();
            self.take_events();
            let failed = !self.due.is_empty() && !self.look();
            self.take_events();
            let is_whole =
                self.events.open.is_some() && (self.dir.is_none() || self.files.open.is_some());
            let wait = if failed || !is_whole || !self.is_taken_over() {
                Some(RETRY_WAIT)
            } else {
                (!self.due.is_empty()).then_some(BUSY_WAIT)
            };
            if self.wait(stopped, wait) {
                return;
            }
            self.due.all |= self.events.open.is_some() && !self.is_taken_over();
        }
    }

    /// Whether a look at all has succeeded: the first one may have failed.
    fn is_taken_over(&self) -> bool {
        self.shared.is_taken_over.load(Ordering::Acquire)
    }

    /// Opens what is not open.
    fn open(&mut self) {
        let shared = &self.shared;
        let connected = self.events.open("what libvirtd says of domains", || {
            let mut upstream = shared.connect()?;
            upstream.listen()?;
            Ok::<_, super::LookError>(upstream)
        });
        let dir = self.dir.as_ref();
        let watched = dir.is_some_and(|dir| {
            let what = format!("'{}'", dir.display());
            self.files.open(&what, || Files::open(dir))
        });
        self.due.all |= connected || watched;
    }

    /// Waits until something may have changed, or for so long. Returns whether the watch is over.
    fn wait(&mut self, stopped: &UnixStream, wait: Option<Duration>) -> bool {
        let mut fds = vec![PollFd::new(stopped, PollFlags::IN)];
        let files = self.files.open.as_ref().map(|files| {
            fds.push(PollFd::new(files, PollFlags::IN));
            fds.len() - 1
        });
        let events = self.events.open.as_ref().map(|events| {
            fds.push(PollFd::new(events, PollFlags::IN));
            fds.len() - 1
        });
        let wait = wait.and_then(|wait| Timespec::try_from(wait).ok());
        // A signal is no more than a short wait.
        let _ = poll(&mut fds, wait.as_ref());
        let is_ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        let (over, files, events) = (is_ready(Some(0)), is_ready(files), is_ready(events));
        drop(fds);
        if files {
            self.read_files();
        }
        if events
            && let Some(upstream) = &mut self.events.open
            && let Err(error) = upstream.hear()
        {
            tracing::debug!("libvirtd hangs up on the watcher: {error}");
            self.events.open = None;
        }
        over
    }

    fn read_files(&mut self) {
        let Some(files) = &mut self.files.open else {
            return;
        };
        let changes = match files.read() {
            Ok(changes) => changes,
            Err(error) => {
                // They are watched again, and then all is looked at.
                tracing::debug!("changes of libvirt's files were lost: {error}");
                self.files.open = None;
                return;
            }
        };
        for Changed { domain, moment } in changes {
            let Some(upstream) = &mut self.events.open else {
                // All is looked at when it is there again.
                return;
            };
            match look::named(upstream, &domain) {
                Ok(Some(uuid)) => self.due.moment(uuid, moment),
                // Its end is an event.
                Ok(None) => {}
                Err(error) if error.is_of_connection() => self.events.open = None,
                Err(error) => tracing::warn!("domain '{domain}' is not looked at: {error}"),
            }
        }
    }

    /// Looks at what is due. What cannot be looked at now stays due. Returns whether nothing failed.
    fn look(&mut self) -> bool {
        if self.due.all {
            let taken_over = match self.shared.take_over() {
                Ok(taken_over) => taken_over,
                Err(error) => {
                    tracing::debug!("what libvirtd lists is not recorded yet: {error}");
                    return false;
                }
            };
            if let Some(error) = taken_over.failed {
                tracing::warn!("what libvirtd lists is not all recorded: {error}");
            }
            self.due.all = false;
            self.due.domains.clear();
            // The looks of the calls that are on their way there do not read all.
            for uuid in taken_over.busy {
                self.due.moment(uuid, None);
            }
        }
        let mut is_whole = true;
        for (uuid, moments) in std::mem::take(&mut self.due.domains) {
            let Some(upstream) = &mut self.events.open else {
                return false;
            };
            let Some(_turns) = self.shared.try_take(uuid) else {
                self.due.domains.insert(uuid, moments);
                continue;
            };
            let alters = moments.clone().map_or(Alters::All, Alters::Moments);
            match self.shared.align(upstream, uuid, &alters) {
                Ok(()) => {}
                Err(error) if !error.may_pass() => {
                    tracing::warn!("what domain {uuid} is now is not recorded: {error}");
                }
                Err(error) => {
                    tracing::debug!("what domain {uuid} is now is not recorded yet: {error}");
                    if let Unseen::Look(_) = error {
                        self.events.open = None;
                    }
                    self.due.domains.insert(uuid, moments);
                    is_whole = false;
                }
            }
        }
        is_whole
    }

    /// Has the domains looked at that libvirtd has told of, also while it was asked.
    fn take_events(&mut self) {
        if let Some(upstream) = &mut self.events.open {
            for uuid in upstream.changed() {
                self.due.domain(uuid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::fake::{Libvirtd, VM};
    use crate::record::turns::Key;

    fn watcher(shared: &Arc<Shared>) -> Watcher {
        Watcher {
            shared: shared.clone(),
            files: Source::new(),
            dir: None,
            events: Source::new(),
            due: Due::default(),
        }
    }

    #[test]
    fn a_domain_whose_call_is_on_its_way_stays_due_with_all_of_it() {
        let libvirtd = Libvirtd::new();
        libvirtd.list("s", "", "");
        libvirtd.log.look().unwrap();
        let shared = libvirtd.shared();
        let mut watcher = watcher(&shared);
        watcher.events.open = Some(shared.connect().unwrap());
        watcher.due.all = true;
        let turn = shared.turns.take(Key::Domain(VM));
        libvirtd.list("s", "another way", "");
        assert!(watcher.look());
        assert_eq!(watcher.due.domains, BTreeMap::from([(VM, None)]));
        drop(turn);
        let count = libvirtd.entries().len();
        assert!(watcher.look());
        assert!(watcher.due.is_empty());
        assert_eq!(libvirtd.entries().len(), count + 1);
    }

    #[test]
    fn a_first_look_that_failed_is_tried_again() {
        let libvirtd = Libvirtd::new();
        let shared = libvirtd.shared();
        let mut watcher = watcher(&shared);
        // As after the first look, which was made elsewhere and failed.
        watcher.open();
        watcher.due.all = false;
        let (stop, stopped) = UnixStream::pair().unwrap();
        let running = thread::spawn(move || watcher.run(&stopped));
        let deadline = std::time::Instant::now() + Duration::from_mins(1);
        while !shared.is_taken_over.load(Ordering::Acquire) {
            assert!(std::time::Instant::now() < deadline, "nothing is looked at");
            thread::sleep(BUSY_WAIT);
        }
        drop(stop);
        running.join().unwrap();
    }
}
