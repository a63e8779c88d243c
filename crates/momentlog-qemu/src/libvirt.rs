//! Guests that libvirt manages, as libvirt tells of them.
//!
//! libvirt must stay alone on the monitor of its guests, so it is asked itself: by `virsh`, which this program runs as a
//! child, over a connection that may change nothing. Each word goes to `virsh` as one argument with its option in front, so
//! that no name is taken for an option or for another command.

use std::fmt;
use std::io;
use std::process::Command;
use std::str::FromStr as _;
use std::time::Duration;

use momentlog::core::DomainUuid;
use momentlog::driver::{Listed, ManagedGuest};
use momentlog::xml::{RecentDomain, XmlError, read_checkpoint_redefine, read_checkpoint_sizes};

use crate::child::{self, ChildError, Printed};

/// How long one call of `virsh` may take.
const WAIT: Duration = Duration::from_secs(30);

/// Most bytes that one call of `virsh` may print.
const ANSWER_LEN_MAX: usize = 16 << 20;

/// How much of what `virsh` says of a failure an error keeps.
const SAID_LEN_MAX: usize = 1024;

/// Answers what `virsh` would.
pub trait Ask: fmt::Debug + Send + Sync {
    /// Returns what `virsh` prints for one command.
    ///
    /// # Errors
    ///
    /// See [`LibvirtError`].
    fn ask(&self, words: &[&str]) -> Result<String, LibvirtError>;
}

/// Why libvirt could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LibvirtError {
    /// `virsh` is not there, or cannot be run.
    #[error("cannot run virsh")]
    Run {
        /// Why.
        source: io::Error,
    },
    /// It has ended with an error: there is no connection, or no such domain.
    #[error("{said}")]
    Refused {
        /// What it said, at most 1024 bytes.
        said: String,
    },
    /// It had not ended in time, and was killed: the daemon does not answer.
    #[error("virsh has not answered within {wait:?} and was killed")]
    Slow {
        /// How long it was waited for.
        wait: Duration,
    },
    /// It printed more than it may, and was killed.
    #[error("virsh has printed more than {len_max} bytes and was killed")]
    Long {
        /// Most bytes that it may print.
        len_max: usize,
    },
    /// A signal has ended it.
    #[error("virsh was ended by signal {signal}")]
    Signalled {
        /// Which.
        signal: i32,
    },
    /// It printed something else than what it was asked for.
    #[error("the answer of virsh {command} makes no sense: {why}")]
    Senseless {
        /// The command.
        command: String,
        /// Why not.
        why: String,
    },
    /// The XML of a checkpoint is none.
    #[error("the XML of libvirt's checkpoint '{checkpoint}' makes no sense")]
    Xml {
        /// Its name.
        checkpoint: String,
        /// Why not.
        source: Box<XmlError>,
    },
}

/// The program `virsh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virsh {
    /// The program.
    pub program: String,
    /// Which libvirt it asks, as a URI.
    pub uri: String,
    /// How long one command may take.
    pub wait: Duration,
    /// Most bytes that it may print for one command.
    pub answer_len_max: usize,
}

impl Virsh {
    /// Returns the `virsh` that is in the path, with 30 seconds and 16 MiB for a command.
    pub fn at(uri: &str) -> Virsh {
        Virsh {
            program: "virsh".into(),
            uri: uri.into(),
            wait: WAIT,
            answer_len_max: ANSWER_LEN_MAX,
        }
    }
}

impl Ask for Virsh {
    fn ask(&self, words: &[&str]) -> Result<String, LibvirtError> {
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--connect={}", self.uri))
            .args(["--readonly", "--quiet"])
            .args(words);
        let printed = child::run(&mut command, self.wait, self.answer_len_max);
        let Printed { status, out, err } = printed.map_err(|error| match error {
            ChildError::Io(source) => LibvirtError::Run { source },
            ChildError::Slow => LibvirtError::Slow { wait: self.wait },
            ChildError::Long => LibvirtError::Long {
                len_max: self.answer_len_max,
            },
            ChildError::Signalled(signal) => LibvirtError::Signalled { signal },
        })?;
        if !status.success() {
            return Err(LibvirtError::Refused { said: said(&err) });
        }
        String::from_utf8(out).map_err(|_| LibvirtError::Senseless {
            command: words.first().copied().unwrap_or_default().to_owned(),
            why: "it is not UTF-8".into(),
        })
    }
}

/// What `virsh` says of a failure, on one line.
fn said(err: &[u8]) -> String {
    let text = String::from_utf8_lossy(err);
    let lines = text.lines().map(|line| line.trim_start_matches("error: "));
    let lines: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).collect();
    let mut said = lines.join(": ");
    said.truncate(said.floor_char_boundary(SAID_LEN_MAX));
    if said.is_empty() {
        said.push_str("virsh has failed without a word");
    }
    said
}

/// A libvirt that is only looked at.
#[derive(Debug)]
pub struct Libvirt {
    virsh: Box<dyn Ask>,
}

impl Libvirt {
    /// Returns the libvirt at this URI.
    pub fn at(uri: &str) -> Libvirt {
        Libvirt::over(Box::new(Virsh::at(uri)))
    }

    /// Returns a libvirt that is asked otherwise than by running `virsh`.
    pub fn over(virsh: Box<dyn Ask>) -> Libvirt {
        Libvirt { virsh }
    }

    /// Returns the uuids of all domains that it has.
    ///
    /// # Errors
    ///
    /// See [`LibvirtError`].
    pub fn domains(&self) -> Result<Vec<DomainUuid>, LibvirtError> {
        let uuids = self.virsh.ask(&["list", "--all", "--uuid"])?;
        let uuids = lines(&uuids).map(|line| {
            DomainUuid::from_str(line.trim()).map_err(|_| LibvirtError::Senseless {
                command: "list".into(),
                why: format!("'{line}' is no uuid"),
            })
        });
        uuids.collect()
    }

    /// Looks at a domain and its checkpoints. Of a guest that runs, the look has the sizes of disks with valid bitmaps.
    ///
    /// # Errors
    ///
    /// See [`LibvirtError`]; [`LibvirtError::Refused`] also if it does not have the domain, or a checkpoint was deleted
    /// meanwhile.
    pub fn look(&self, domain: DomainUuid) -> Result<ManagedGuest, LibvirtError> {
        let of_domain = format!("--domain={domain}");
        // It prints the number of a domain that runs, in all languages.
        let id = self.virsh.ask(&["domid", &of_domain])?;
        let running = match id.trim() {
            "-" => false,
            id if id.parse::<u32>().is_ok() => true,
            id => {
                return Err(LibvirtError::Senseless {
                    command: "domid".into(),
                    why: format!("'{id}' is no number"),
                });
            }
        };
        let names = self.virsh.ask(&["checkpoint-list", &of_domain, "--name"])?;
        let checkpoints = lines(&names).map(|name| self.checkpoint(&of_domain, name, running));
        Ok(ManagedGuest {
            running,
            checkpoints: checkpoints.collect::<Result<_, _>>()?,
        })
    }

    fn checkpoint(
        &self,
        of_domain: &str,
        name: &str,
        running: bool,
    ) -> Result<Listed, LibvirtError> {
        let of_checkpoint = format!("--checkpointname={name}");
        let mut words = vec![
            "checkpoint-dumpxml",
            of_domain,
            &of_checkpoint,
            "--no-domain",
        ];
        words.extend(running.then_some("--size"));
        let xml = self.virsh.ask(&words)?;
        let senseless = |error| LibvirtError::Xml {
            checkpoint: name.to_owned(),
            source: Box::new(error),
        };
        let no_domain = || DomainUuid::from_bytes([0; 16]);
        let found = read_checkpoint_redefine(&xml, &RecentDomain::default(), no_domain)
            .map_err(senseless)?;
        // A name with a line break would be taken for two.
        if found.name.as_str() != name {
            return Err(LibvirtError::Senseless {
                command: "checkpoint-dumpxml".into(),
                why: format!("it is about '{}' and not '{name}'", found.name),
            });
        }
        Ok(Listed {
            sizes: read_checkpoint_sizes(&xml).map_err(senseless)?,
            name: found.name,
            parent: found.parent,
            def: found.def,
        })
    }
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty())
}
