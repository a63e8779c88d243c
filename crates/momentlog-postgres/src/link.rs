//! One connection on a thread of its own: made when it is needed, and made again when it was lost.
//!
//! Callers block until the thread answers. They may do so inside an asynchronous program, where driving a runtime of our
//! own would panic.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;
use tokio_postgres::Client;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Address, PostgresError, schema};

/// How long an answer may take. A wait for the turn comes on top of it.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// How long a server that was reached before may stay away.
const AWAY: Duration = Duration::from_secs(20);

/// The first and the longest pause between attempts to reach it.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&Runtime, &mut Link) + Send>;

/// The thread. It ends, and its connection with it, when this is dropped.
#[derive(Debug)]
pub(crate) struct Worker(Sender<Job>);

impl Worker {
    /// Starts the thread. Nothing is connected before the first job.
    pub(crate) fn start(address: Address) -> Result<Worker, PostgresError> {
        let lost = |error: std::io::Error| PostgresError::Lost(Box::new(error));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(lost)?;
        let (sender, jobs) = channel::<Job>();
        let work = move || {
            let mut link = Link {
                address,
                client: None,
                was_reached: false,
            };
            while let Ok(job) = jobs.recv() {
                job(&runtime, &mut link);
            }
        };
        std::thread::Builder::new()
            .name("postgres".into())
            .spawn(work)
            .map_err(lost)?;
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

/// The connection, as the thread has it.
pub(crate) struct Link {
    address: Address,
    client: Option<Client>,
    was_reached: bool,
}

impl Link {
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
        let answer = within(limit, ask(&client)).await;
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
                tokio::spawn(connection);
                client
            })
        } else {
            let connected = config.connect(self.tls()?).await;
            connected.map(|(client, connection)| {
                tokio::spawn(connection);
                client
            })
        };
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

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(PostgresError::Silent(limit.as_secs())),
    }
}
