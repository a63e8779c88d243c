//! Following: a connection of its own that hears of appends by `LISTEN`.
//!
//! A notification only wakes: what there is to read is found by reading. Writers send it after their commit, as a transaction
//! of its own, because one that notifies waits for all others of the server that do; and only while somebody listens, who
//! holds a shared lock meanwhile.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio_postgres::Client;

use crate::link::{ANSWER, Link, PAUSE, PAUSE_MAX, start};
use crate::{Address, PostgresError};

/// How long a notification to oneself may take, and how often it is asked whether anybody still follows.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(250);

/// What is done with a notification.
pub(crate) struct News {
    has_arrived: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl News {
    pub(crate) fn arrive(&self) {
        self.has_arrived.store(true, Ordering::Release);
        (self.wake)();
    }
}

/// Begins to listen on a thread of its own, which ends with what is returned: whether notifications arrive at present.
pub(crate) fn listen(
    address: Address,
    wake: Box<dyn Fn() + Send + Sync>,
) -> Option<Arc<AtomicBool>> {
    let listens = Arc::new(AtomicBool::new(false));
    let followed = Arc::downgrade(&listens);
    let news = Arc::new(News {
        has_arrived: AtomicBool::new(false),
        wake,
    });
    let work = move |runtime: &Runtime| keep_listening(runtime, &address, &news, &followed);
    match start("postgres news", work) {
        Ok(()) => Some(listens),
        Err(error) => {
            tracing::warn!(%error, "followers look at the database again and again");
            None
        }
    }
}

fn keep_listening(
    runtime: &Runtime,
    address: &Address,
    news: &Arc<News>,
    followed: &Weak<AtomicBool>,
) {
    let says = |listens| {
        if let Some(flag) = followed.upgrade() {
            flag.store(listens, Ordering::Release);
            (news.wake)();
        }
    };
    let mut pause = PAUSE;
    let mut has_warned = false;
    while followed.strong_count() > 0 {
        let mut link = Link::new(address.clone(), Some(news.clone()));
        match runtime.block_on(begin(&mut link, news)) {
            Ok(true) => {
                pause = PAUSE;
                says(true);
                while followed.strong_count() > 0 && link.is_open() {
                    runtime.block_on(async { tokio::time::sleep(LOOK).await });
                }
                says(false);
            }
            Ok(false) => {
                tracing::warn!(
                    place = %address,
                    "no notification arrives here, as behind a pool that shares connections between transactions: \
                     followers look at the database every 20 ms"
                );
                return;
            }
            Err(error) if error.is_lost() => {
                runtime.block_on(async { tokio::time::sleep(pause).await });
                pause = (pause * 2).min(PAUSE_MAX);
            }
            Err(error) => {
                if !std::mem::replace(&mut has_warned, true) {
                    tracing::warn!(place = %address, %error, "cannot listen at present: followers look at the database every 20 ms");
                }
                runtime.block_on(async { tokio::time::sleep(PAUSE_MAX).await });
            }
        }
    }
}

/// Begins to listen, and returns whether a notification from another connection arrives.
async fn begin(link: &mut Link, news: &News) -> Result<bool, PostgresError> {
    let (channel, lock) = channel(link.address().log());
    let listen = format!("LISTEN {channel}");
    // Only where this session is no other client's: a pool would hand the lock on with it.
    let follow = format!("SELECT pg_advisory_lock_shared({LOCKS}, {lock})");
    let notify = format!("NOTIFY {channel}");
    let say = async |link: &mut Link, sql: &str| {
        let said = async |client: &Client| Ok(client.batch_execute(sql).await?);
        link.once(ANSWER, said).await
    };
    say(link, &listen).await?;
    news.has_arrived.store(false, Ordering::Release);
    say(&mut Link::new(link.address().clone(), None), &notify).await?;
    let arrives = async {
        while !news.has_arrived.load(Ordering::Acquire) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let arrives = tokio::time::timeout(HEARD_WITHIN, arrives).await.is_ok();
    if arrives {
        say(link, &follow).await?;
    }
    Ok(arrives)
}

/// The locks that listeners share.
const LOCKS: i32 = 1_836_016_749;

/// The channel of a log and the number of its lock.
fn channel(log: &str) -> (String, i32) {
    let digest = Sha256::digest(log);
    let mut channel = "momentlog_".to_owned();
    for byte in &digest[..16] {
        let _ = write!(channel, "{byte:02x}");
    }
    let lock = i32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    (channel, lock)
}

/// What tells the followers of a log that something was appended, if there are any. That it is lost in a crash does no harm.
pub(crate) fn tell(log: &str) -> String {
    let (channel, lock) = channel(log);
    format!(
        "BEGIN; SET LOCAL synchronous_commit = off; \
         SELECT pg_notify('{channel}', '') WHERE NOT pg_try_advisory_xact_lock({LOCKS}, {lock}); COMMIT"
    )
}
