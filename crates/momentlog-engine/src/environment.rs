//! What the engine takes from the outside: time, randomness, and who asks.

use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use momentlog_core::Profile;
use momentlog_store::Seq;

/// Tells the time.
pub trait Clock: Debug + Send + Sync {
    /// Returns the time, in microseconds since 1970.
    fn now(&self) -> i64;
}

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        }
    }
}

/// A clock that stands where it was set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Returns a clock at this second since 1970.
    pub fn at_second(second: i64) -> ManualClock {
        let clock = ManualClock::default();
        clock.set_second(second);
        clock
    }

    /// Sets the clock to this second since 1970.
    pub fn set_second(&self, second: i64) {
        self.0
            .store(second.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Gives random bytes.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    ///
    /// What the source of randomness says.
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()>;
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(bytes).map_err(std::io::Error::other)
    }
}

/// Longest name of an actor, in bytes.
pub const ACTOR_LEN_MAX: usize = 256;

/// Longest name of an agent, in bytes.
pub const AGENT_LEN_MAX: usize = 1024;

/// Who asks, why, and under which conditions. Every handle carries it, and every record keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Who is said to ask, in 1 to [`ACTOR_LEN_MAX`] bytes; by default the user and host of this process.
    pub actor: Arc<str>,
    /// Who really asks, in 1 to [`AGENT_LEN_MAX`] bytes: by default `user@host program momentlog/version` of this process.
    /// It is an erasable text.
    pub agent: Arc<str>,
    /// Why, for people; an erasable text.
    pub reason: Option<Arc<str>>,
    /// The key of this request, in 1 to 64 bytes: asked again with the same command, it gets the first answer.
    ///
    /// It is remembered as long as [`Settings::request_window_s`](momentlog_core::Settings::request_window_s) says, which
    /// is 30 days unless the store is set otherwise: the first record that is later than its record by more than that
    /// makes the store forget it, in every process and on every replay alike. Asked after that, it is a new request.
    pub request_id: Option<Arc<str>>,
    /// The revision that the domain must have; otherwise the command is refused.
    pub expected_revision: Option<Revision>,
    /// The record that this one takes back, for those who read the log; it must be there.
    pub undoes: Option<Seq>,
}

impl Default for Provenance {
    fn default() -> Provenance {
        static PROCESS: OnceLock<[Arc<str>; 2]> = OnceLock::new();
        let [actor, agent] = PROCESS.get_or_init(|| {
            let user = process_user();
            let agent = format!(
                "{user} {} momentlog/{}",
                process_program(),
                env!("CARGO_PKG_VERSION")
            );
            [within(&user, ACTOR_LEN_MAX), within(&agent, AGENT_LEN_MAX)]
        });
        Provenance {
            actor: actor.clone(),
            agent: agent.clone(),
            reason: None,
            request_id: None,
            expected_revision: None,
            undoes: None,
        }
    }
}

/// Returns the user and host of this process, as `user@host`.
pub fn process_user() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    at_host(&user)
}

/// Returns the name of this host, if it has one.
pub fn process_host() -> Option<String> {
    whoami::hostname().ok()
}

/// `user@host`, as far as the host has a name.
fn at_host(user: &str) -> String {
    match process_host() {
        Some(host) => format!("{user}@{host}"),
        None => user.to_owned(),
    }
}

/// A process of this host that asks through another one, as over a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its number, if that is known.
    pub pid: Option<u32>,
    /// The name of its user, if there is one.
    pub user: Option<String>,
    /// Its program, if that is known.
    pub program: Option<String>,
}

impl Peer {
    /// Returns who asks: as actor the user and host, as agent also program, process, user and group by their numbers, and
    /// this process, which says so. Both are cut to what a record takes.
    pub fn provenance(&self) -> Provenance {
        let own = Provenance::default();
        let user = self.user.clone();
        let user = at_host(&user.unwrap_or_else(|| format!("uid {}", self.uid)));
        let program = self.program.as_deref().unwrap_or("unknown");
        let pid = self.pid.map_or("unknown".to_owned(), |pid| pid.to_string());
        let agent = format!(
            "{user} {program} (pid {pid}, uid {}, gid {}) through {}",
            self.uid, self.gid, own.agent
        );
        Provenance {
            actor: within(&user, ACTOR_LEN_MAX),
            agent: within(&agent, AGENT_LEN_MAX),
            ..own
        }
    }
}

fn process_program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&path).file_name().unwrap_or_default();
    let name = name.to_string_lossy();
    if name.is_empty() {
        "unknown".to_owned()
    } else {
        name.into_owned()
    }
}

/// The front of a text, cut between characters.
fn within(text: &str, bytes: usize) -> Arc<str> {
    text[..text.floor_char_boundary(bytes)].into()
}

/// Revision of a domain: the seq of the last record about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Revision {
    /// There is no record about the domain.
    None,
    /// The last record about it.
    At(Seq),
}

/// `none`, or the number of the record.
impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revision::None => f.write_str("none"),
            Revision::At(seq) => fmt::Display::fmt(seq, f),
        }
    }
}

impl Revision {
    pub(crate) fn of(seq: Option<Seq>) -> Revision {
        seq.map_or(Revision::None, Revision::At)
    }
}

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether changes are refused.
    pub read_only: bool,
    /// Who asks, unless a handle says otherwise.
    pub provenance: Provenance,
    /// The profile of a store that the first change creates.
    pub profile: Profile,
    /// How long the first change waits for another writer.
    pub lock_wait: Duration,
    /// Whether that is shared by all changes up to [`Log::release`](crate::Log::release), as for the commands
    /// of one script: once it is used up, none of them waits. Otherwise each waits as long.
    pub lock_wait_shared: bool,
    /// How long a writer of a directory that is asked for nothing keeps the lock; then other processes get in, as a rule within
    /// a quarter of a second, and once the image is made that closing would make. With [`Duration::MAX`] it keeps it until it is released.
    pub hold_lock: Duration,
    /// Whether a directory that this process has open already is not opened once more: its connections then share one
    /// engine, and never wait for each other's lock.
    pub shared: bool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for ids, salts and uuids.
    pub entropy: Arc<dyn Entropy>,
}

impl Options {
    /// Whether a log that was opened with these can be used where it would be opened with the others. Provenance, and
    /// whether changes are refused, are a caller's own.
    pub(crate) fn opens_as(&self, other: &Options) -> bool {
        self.profile == other.profile
            && self.lock_wait == other.lock_wait
            && self.lock_wait_shared == other.lock_wait_shared
            && self.hold_lock == other.hold_lock
            && Arc::ptr_eq(&self.clock, &other.clock)
            && Arc::ptr_eq(&self.entropy, &other.entropy)
    }
}

impl Default for Options {
    fn default() -> Options {
        // The same ones each time, so that it can be seen that two logs have them.
        static CLOCK: OnceLock<Arc<dyn Clock>> = OnceLock::new();
        static ENTROPY: OnceLock<Arc<dyn Entropy>> = OnceLock::new();
        Options {
            read_only: false,
            provenance: Provenance::default(),
            profile: Profile::Own,
            lock_wait: Duration::from_secs(10),
            lock_wait_shared: false,
            hold_lock: Duration::from_secs(1),
            shared: true,
            clock: CLOCK.get_or_init(|| Arc::new(SystemClock)).clone(),
            entropy: ENTROPY.get_or_init(|| Arc::new(SystemEntropy)).clone(),
        }
    }
}
