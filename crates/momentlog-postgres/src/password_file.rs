//! Passwords of `~/.pgpass`, as libpq reads them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::address::SOCKET_DIRECTORY;

/// What is read of the file at most.
const LEN_MAX: u64 = 1 << 20;

/// The password of the file that `PGPASSFILE` names, or of `~/.pgpass`, for where `config` connects to. Of several hosts, all
/// must have the same one.
pub(crate) fn password(config: &Config) -> Option<String> {
    let path = std::env::var_os("PGPASSFILE")
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".pgpass")))?;
    let text = read(&path)?;
    let own = whoami::username().unwrap_or_default();
    let user = config.get_user().unwrap_or(&own);
    let database = config.get_dbname().unwrap_or(user);
    let ports = config.get_ports();
    let mut hosts: Vec<String> = config.get_hosts().iter().map(name).collect();
    if hosts.is_empty() {
        hosts.extend(config.get_hostaddrs().iter().map(ToString::to_string));
    }
    let passwords = hosts.iter().enumerate().map(|(at, host)| {
        let port = ports.get(at).or(ports.first()).unwrap_or(&5432);
        find(&text, [host, &port.to_string(), database, user])
    });
    let mut passwords: Vec<Option<String>> = passwords.collect();
    passwords.dedup();
    match passwords.as_slice() {
        [] => None,
        [password] => password.clone(),
        _ => {
            tracing::warn!(path = %path.display(), "ignored passwords that differ from host to host");
            None
        }
    }
}

/// A host as the file names it.
fn name(host: &Host) -> String {
    match host {
        Host::Unix(directory) if directory == Path::new(SOCKET_DIRECTORY) => "localhost".into(),
        Host::Unix(directory) => directory.to_str().unwrap_or("").into(),
        Host::Tcp(host) => host.clone(),
    }
}

/// Reads the file, unless others may read it as well.
fn read(path: &Path) -> Option<String> {
    // Opening a pipe would wait for who writes to it.
    let found = path.metadata().ok()?;
    if !found.is_file() {
        tracing::warn!(path = %path.display(), "ignored a password file that is no plain file");
        return None;
    }
    if found.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "ignored a password file that others may read: its mode must be 0600");
        return None;
    }
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(LEN_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The password of the first line whose other fields are these: host, port, database and user.
fn find(text: &str, wanted: [&str; 4]) -> Option<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let mut rest = line;
            for wanted in wanted {
                let (field, behind) = field(rest);
                let is_any = rest.starts_with("*:");
                rest = behind?;
                if !is_any && field != wanted {
                    return None;
                }
            }
            Some(field(rest).0).filter(|password| !password.is_empty())
        })
}

/// The field up to the next colon, and what is behind that. A backslash takes the next character as it is;
/// at the end it stands for itself.
fn field(text: &str) -> (String, Option<&str>) {
    let mut field = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, Some(&text[at + 1..])),
            '\\' => field.push(characters.next().map_or('\\', |(_, next)| next)),
            _ => field.push(character),
        }
    }
    (field, None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let text = "# db:5432:fleet:agent:of a comment\n\
            \n\
            db:5432:fleet\n\
            db:5433:fleet:agent:other port\n\
            a\\:b:*:*:agent:with\\:colon and \\\\:not of it\n\
            db:5432:*:agent:secret\n\
            *:*:*:*:of all\n";
        for (wanted, password) in [
            (["db", "5432", "fleet", "agent"], "secret"),
            (["db", "5433", "fleet", "agent"], "other port"),
            (["a:b", "1", "x", "agent"], "with:colon and \\"),
            (["db", "5432", "fleet", "auditor"], "of all"),
        ] {
            assert_eq!(find(text, wanted).as_deref(), Some(password), "{wanted:?}");
        }
        assert_eq!(
            find("db:5432:fleet:agent:", ["db", "5432", "fleet", "agent"]),
            None
        );
        assert_eq!(
            find("*:*:*:*:secret\\", ["db", "1", "d", "u"]).as_deref(),
            Some("secret\\")
        );
        // A star of a name is no star.
        assert_eq!(find("\\*:1:d:u:p", ["db", "1", "d", "u"]), None);
        assert_eq!(
            find("\\*:1:d:u:p", ["*", "1", "d", "u"]).as_deref(),
            Some("p")
        );
    }

    #[test]
    fn a_file_that_others_may_read_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:secret\n").unwrap();
        for (mode, is_read) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_some(), is_read, "{mode:o}");
        }
        assert_eq!(read(dir.path()), None);
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        assert_eq!(read(&pipe), None);
        assert_eq!(read(&dir.path().join("missing")), None);
    }
}
