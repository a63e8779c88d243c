//! TLS: what is encrypted, and whose certificates are trusted.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use momentlog_postgres::{Address, PostgresStore};
use momentlog_proptests::PostgresServer;
use momentlog_store::{Store as _, StoreError};

use super::{LOG, draft, server};

/// A server that listens on two addresses of this host, and has a certificate for the first of them. Who is not at its socket
/// must use TLS.
struct Encrypted {
    server: PostgresServer,
    addresses: [String; 2],
    files: tempfile::TempDir,
}

impl Encrypted {
    fn new() -> Option<Encrypted> {
        let mut server = server("PostgreSQL behind TLS")?;
        // Each test process has addresses of its own, so that the port is free.
        let [.., high, low] = std::process::id().to_be_bytes();
        let addresses = [1, 2].map(|last| format!("127.{high}.{low}.{last}"));
        let files = tempfile::tempdir().unwrap();
        let dir = files.path();
        for authority in ["ours", "theirs"] {
            openssl(
                dir,
                &format!(
                    "req -x509 {KEY} -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
                ),
            );
        }
        openssl(
            dir,
            &format!("req {KEY} -subj /CN=server -keyout server.key -out server.csr"),
        );
        fs::write(
            dir.join("names"),
            format!("subjectAltName=IP:{}\n", addresses[0]),
        )
        .unwrap();
        openssl(
            dir,
            "x509 -req -in server.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 -extfile names -out server.crt",
        );
        let owner = fs::metadata(server.data()).unwrap();
        for name in ["server.key", "server.crt"] {
            let path = server.data().join(name);
            fs::copy(dir.join(name), &path).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let listen = addresses.join(",");
        server.configure(&format!("ssl = on\nlisten_addresses = '{listen}'\n"));
        let who = "local all all trust\nhostssl all all 127.0.0.0/8 trust\n";
        fs::write(server.data().join("pg_hba.conf"), who).unwrap();
        server.stop();
        server.start_again();
        Some(Encrypted {
            server,
            addresses,
            files,
        })
    }

    /// The log at an address, for a client that trusts an authority.
    fn open(&self, address: &str, trusted: &str, mode: &str) -> PostgresStore {
        let file = self.files.path().join(trusted);
        let uri = format!(
            "postgres://agent@{address}/postgres?sslmode={mode}&sslrootcert={}",
            file.display()
        );
        PostgresStore::open(Address::parse(&uri).unwrap()).unwrap()
    }
}

/// What makes a key that no password protects.
const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";

fn openssl(dir: &Path, words: &str) {
    let made = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(dir)
        .output()
        .expect("PostgreSQL brings openssl");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// The errors below one of the store.
fn causes(error: &StoreError) -> String {
    let below = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let below: Vec<String> = below.map(ToString::to_string).collect();
    below.join(": ")
}

#[test]
fn a_server_is_trusted_by_its_certificate_and_the_name_in_it() {
    let Some(encrypted) = Encrypted::new() else {
        return;
    };
    let [named, other] = &encrypted.addresses;
    for mode in ["require", "prefer"] {
        let mut store = encrypted.open(named, "ours.pem", mode);
        store.acquire(std::time::Duration::from_secs(10)).unwrap();
        let end = store.head();
        store.append(LOG, end, vec![draft(mode)]).unwrap();
        let sql = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'agent' AND ssl";
        assert_ne!(encrypted.server.psql("admin", sql).unwrap(), "0");
    }
    for (address, trusted, mode, why) in [
        (named, "theirs.pem", "require", "certificate"),
        (named, "theirs.pem", "prefer", "certificate"),
        (
            other,
            "ours.pem",
            "require",
            "certificate not valid for name",
        ),
        (named, "ours.pem", "disable", "no encryption"),
        (
            named,
            "missing.pem",
            "require",
            "cannot read the certificates",
        ),
    ] {
        let mut store = encrypted.open(address, trusted, mode);
        let read = store.read(None, &mut |_| Ok(()));
        let error = read.expect_err(&format!("{address} {trusted} {mode}"));
        let causes = causes(&error);
        assert!(causes.contains(why), "{trusted} {mode}: {causes}");
    }
}
