//! One connection on a thread of its own: made when it is needed, and made again when it was lost.
//!
//! Callers block until the thread answers. They may do so inside an asynchronous program, where driving a runtime of our
//! own would panic.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, Client, Connection};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::news::{self, News};
use crate::{Address, PostgresError, schema};

/// How long an answer may take. A wait for the turn comes on top of it.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// How long a server that was reached before may stay away.
const AWAY: Duration = Duration::from_secs(20);

/// How often followers are notified of appends at most.
const TELL_EVERY: Duration = Duration::from_millis(2);

/// The first and the longest pause between attempts to reach it.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&Runtime, &mut Link) + Send>;

/// The thread. It ends, and its connection with it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker(Sender<Job>);

impl Worker {
    /// Starts the thread. Nothing is connected before the first job.
    pub(crate) fn start(address: Address) -> Result<Worker, PostgresError> {
        let (sender, jobs) = channel::<Job>();
        start("postgres", move |runtime| {
            let mut link = Link::new(address, None);
            loop {
                // Followers are notified of an append between two jobs.
                let job = match link.tell_at() {
                    Some(at) => jobs.recv_timeout(at.saturating_duration_since(Instant::now())),
                    None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match job {
                    Ok(job) => {
                        link.writes = false;
                        job(runtime, &mut link);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        if link.tell_at().is_some() {
                            runtime.block_on(link.tell());
                        }
                        return;
                    }
                }
                if link.tell_at().is_some_and(|at| at <= Instant::now()) {
                    runtime.block_on(link.tell());
                }
            }
        })?;
        Ok(Worker(sender))
    }

    /// Runs a job on the thread, and returns its answer.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Runtime, &mut Link) -> T + Send + 'static,
    ) -> T {
        let (sender, answer) = channel();
        let job: Job = Box::new(move |runtime, link| {
            // Whoever asked waits for it.
            let _ = sender.send(job(runtime, link));
        });
        self.0.send(job).expect("the thread ends with its worker");
        answer
            .recv()
            .expect("a job answers, or panics for a bug of ours")
    }
}

/// Starts a thread with a runtime of its own.
pub(crate) fn start(
    name: &str,
    work: impl FnOnce(&Runtime) + Send + 'static,
) -> Result<(), PostgresError> {
    let lost = |error: std::io::Error| PostgresError::Lost(Box::new(error));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(lost)?;
    std::thread::Builder::new()
        .name(name.into())
        .spawn(move || work(&runtime))
        .map_err(lost)?;
    Ok(())
}

/// The connection, as the thread has it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own about the connection"
)]
pub(crate) struct Link {
    address: Address,
    client: Option<Client>,
    was_reached: bool,
    /// What a notification is passed on to.
    news: Option<Arc<News>>,
    /// Whether the job that runs appends, or takes the turn for that.
    pub(crate) writes: bool,
    /// Whether the server at the other end of this connection may be written: see [`schema::check_durable`].
    pub(crate) is_checked: bool,
    /// Whether a transaction is open that has the turn.
    pub(crate) in_turn: bool,
    /// When followers are notified of an append of which they were not notified yet.
    tell: Option<Instant>,
    /// When they were notified last.
    told: Option<Instant>,
}

impl Link {
    /// Returns a link that is not connected yet.
    pub(crate) fn new(address: Address, news: Option<Arc<News>>) -> Link {
        Link {
            address,
            client: None,
            was_reached: false,
            news,
            writes: false,
            is_checked: false,
            in_turn: false,
            tell: None,
            told: None,
        }
    }

    /// Notes that followers are to be notified of an append.
    pub(crate) fn appended(&mut self) {
        let now = Instant::now();
        let next = self.told.map_or(now, |told| now.max(told + TELL_EVERY));
        self.tell.get_or_insert(next);
    }

    /// When followers are to be notified; none while that would become part of a turn.
    fn tell_at(&self) -> Option<Instant> {
        self.tell.filter(|_| !self.in_turn)
    }

    /// Notifies followers of an append, if there are any. What they do not hear, they find when they look.
    async fn tell(&mut self) {
        self.tell = None;
        self.told = Some(Instant::now());
        let tell = news::tell(self.address.log());
        let told = self.here(ANSWER, async |client| {
            Ok(client.batch_execute(&tell).await?)
        });
        if let Err(error) = told.await {
            tracing::debug!(%error, "followers were not notified of an append");
        }
    }

    /// Does `ask` over the connection, which is made first if it is needed, within `limit`. What is lost is asked again over a
    /// new connection, as long as a server that was reached before stays away for no longer than [`AWAY`].
    pub(crate) async fn again<T>(
        &mut self,
        limit: Duration,
        ask: impl AsyncFn(&Client) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        let end = Instant::now() + AWAY;
        let mut pause = PAUSE;
        loop {
            match self.once(limit, &ask).await {
                Err(error)
                    if error.is_lost() && self.was_reached && Instant::now() + pause < end =>
                {
                    tracing::debug!(%error, "asking the database again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                answer => return answer,
            }
        }
    }

    /// As [`again`](Self::again), a single time.
    pub(crate) async fn once<T>(
        &mut self,
        limit: Duration,
        ask: impl AsyncFn(&Client) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => within(ANSWER, self.connect()).await?,
        };
        let allows_unsafe = self.address.allows_unsafe;
        let must_check = self.writes && !self.is_checked;
        let answer = within(limit, async {
            if must_check {
                schema::check_durable(&client, allows_unsafe).await?;
                self.is_checked = true;
            }
            ask(&client).await
        })
        .await;
        if !answer.as_ref().is_err_and(PostgresError::is_lost) {
            self.client = Some(client);
        }
        answer
    }

    /// Does `ask` over the connection as it is; an error if it is gone, and a new one would not do.
    pub(crate) async fn here<T>(
        &mut self,
        limit: Duration,
        ask: impl AsyncFn(&Client) -> Result<T, PostgresError>,
    ) -> Result<T, PostgresError> {
        if !self.is_open() {
            self.client = None;
            return Err(PostgresError::Lost("the connection was ended".into()));
        }
        self.once(limit, ask).await
    }

    /// Whether there is a connection that was not ended, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.client
            .as_ref()
            .is_some_and(|client| !client.is_closed())
    }

    async fn connect(&mut self) -> Result<Client, PostgresError> {
        let client = self.connect_any().await?;
        schema::check(&client).await?;
        Ok(client)
    }

    /// Connects to a server, whatever its schema.
    pub(crate) async fn connect_any(&mut self) -> Result<Client, PostgresError> {
        let config = &self.address.config;
        let connected = if config.get_ssl_mode() == SslMode::Disable {
            let connected = config.connect(tokio_postgres::NoTls).await;
            connected.map(|(client, connection)| {
                tokio::spawn(drive(connection, self.news.clone()));
                client
            })
        } else {
            let connected = config.connect(self.tls()?).await;
            connected.map(|(client, connection)| {
                tokio::spawn(drive(connection, self.news.clone()));
                client
            })
        };
        self.in_turn = false;
        // It may be another server.
        self.is_checked = false;
        // A server that says something, or hangs up, is there.
        self.was_reached |= match &connected {
            Ok(_) => true,
            Err(error) => error.code().is_some() || error.is_closed(),
        };
        Ok(connected?)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, PostgresError> {
        let mut roots = RootCertStore::empty();
        match &self.address.certificates {
            Some(file) => {
                let read = CertificateDer::pem_file_iter(file)
                    .map_err(|error| PostgresError::Certificates(Box::new(error)))?;
                for certificate in read {
                    let certificate = certificate
                        .map_err(|error| PostgresError::Certificates(Box::new(error)))?;
                    roots
                        .add(certificate)
                        .map_err(|error| PostgresError::Certificates(Box::new(error)))?;
                }
            }
            // A system without certificates trusts no server.
            None => {
                let _ =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| PostgresError::Certificates(Box::new(error)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

/// Drives a connection until it ends, and passes on the notifications that arrive.
async fn drive<S, T>(mut connection: Connection<S, T>, news: Option<Arc<News>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let (AsyncMessage::Notification(_), Some(news)) = (message, &news) {
            news.arrive();
        }
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(PostgresError::Silent(limit.as_secs())),
    }
}
