//! Why XML was refused: where, and which rule it breaks.

use std::fmt;

use crate::excerpt::printable;

/// Which document was read; libvirt names it in its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// `<domainsnapshot>`.
    Snapshot,
    /// `<domaincheckpoint>`.
    Checkpoint,
    /// `<domain>`.
    Domain,
    /// `<domainbackup>`.
    Backup,
    /// A program's element for a domain's `<metadata>`, whatever it is called.
    Metadata,
}

impl DocumentKind {
    /// The name of the root element.
    pub fn root(self) -> &'static str {
        match self {
            DocumentKind::Snapshot => "domainsnapshot",
            DocumentKind::Checkpoint => "domaincheckpoint",
            DocumentKind::Domain => "domain",
            DocumentKind::Backup => "domainbackup",
            DocumentKind::Metadata => "metadata",
        }
    }

    /// What libvirt calls the document in errors of its parser.
    pub fn parser_name(self) -> &'static str {
        match self {
            DocumentKind::Snapshot => "domain_snapshot",
            DocumentKind::Checkpoint => "domain_checkpoint",
            DocumentKind::Domain => "domain_definition",
            DocumentKind::Backup => "domain_backup",
            DocumentKind::Metadata => "metadata_xml",
        }
    }
}

/// A place in a text, both counted from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// Returns the place of the byte at `offset` of `text`.
    pub(crate) fn of(text: &str, offset: usize) -> Position {
        let mut offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Position {
            line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// XML that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XmlError {
    /// What was being read.
    pub document: DocumentKind,
    /// Where.
    pub position: Position,
    /// The line of the text there, cut to a length that can be shown; passwords and cookies are hidden, and characters that
    /// drive a terminal are escaped.
    pub excerpt: String,
    /// How many characters of the excerpt come before the place.
    pub before: usize,
    /// Which rule is broken.
    pub rule: Rule,
}

/// The rule that XML breaks. `Display` is libvirt's detail where libvirt's text is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// The text is no well-formed XML, or over a limit.
    #[error("{0}")]
    WellFormed(String),
    /// The root is another element.
    #[error("expecting root element of '{expected}', not '{found}'")]
    Root {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A prefix that an element of a domain's metadata cannot have.
    #[error("failed to {0} a new XML namespace")]
    Prefix(&'static str),
    /// The schema does not take it.
    #[error("{0}")]
    Schema(String),
    /// An attribute's value is none of its words.
    #[error("Invalid value for attribute '{attribute}' in element '{element}': '{value}'.")]
    Word {
        /// The element.
        element: &'static str,
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
    },
    /// An attribute is missing.
    #[error("Missing required attribute '{attribute}' in element '{element}'")]
    Required {
        /// The element.
        element: &'static str,
        /// The attribute.
        attribute: &'static str,
    },
    /// What a moment says makes no sense.
    #[error(transparent)]
    Moment(#[from] MomentRule),
    /// What the source of a disk says makes no sense.
    #[error(transparent)]
    Source(#[from] SourceRule),
    /// What a domain says makes no sense.
    #[error(transparent)]
    Domain(#[from] DomainRule),
    /// What a backup says makes no sense.
    #[error(transparent)]
    Backup(#[from] BackupRule),
}

/// Rules of snapshots and checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MomentRule {
    /// A redefine needs a name.
    #[error("a redefined {0} must have a name")]
    NameMissing(&'static str),
    /// A redefine needs a time, as a number.
    #[error("missing creationTime from existing {0}")]
    TimeMissing(&'static str),
    /// A redefined snapshot needs a state.
    #[error("missing state from existing snapshot")]
    StateMissing,
    /// The state is none that a snapshot can have.
    #[error("Invalid state '{0}' in domain snapshot XML")]
    State(String),
    /// Whether a saved snapshot was current is 0 or 1.
    #[error("'{0}' in 'active' is neither 0 nor 1")]
    Active(String),
    /// No other program can keep the memory.
    #[error("'manual' memory snapshot mode not supported")]
    MemoryManual,
    /// Only external memory has a file.
    #[error("memory filename '{0}' requires external snapshot")]
    MemoryFile(String),
    /// External memory needs a file.
    #[error("external memory snapshots require a filename")]
    MemoryFileMissing,
    /// There is no memory in this state.
    #[error("memory state cannot be saved with offline or disk-only snapshot")]
    MemoryOffline,
    /// The file's path is relative.
    #[error("memory snapshot file path ({0}) must be absolute")]
    MemoryPath(String),
    /// A disk needs a name.
    #[error("missing name from disk snapshot element")]
    DiskName,
    /// A type that no overlay can have.
    #[error("unsupported disk snapshot type '{0}'")]
    DiskType(String),
    /// An image format that libvirt does not know.
    #[error("unknown disk snapshot driver '{0}'")]
    DiskDriver(String),
    /// The overlay's path is relative.
    #[error("disk snapshot image path '{0}' must be absolute")]
    DiskPath(String),
    /// What goes around the domains is too long, or has too many elements.
    #[error(
        "what goes around the domain takes more than {} bytes",
        crate::XML_AROUND_LEN_MAX
    )]
    TooLarge,
}

/// Rules of a disk's `<source>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceRule {
    /// Only the `nbd` protocol works without a name.
    #[error("missing name for disk source")]
    NameMissing,
    /// The name of a gluster disk is `VOLUME/IMAGE`.
    #[error("can't split path '{0}' into pool name and image name")]
    VolumePath(String),
    /// The transport is none that libvirt knows.
    #[error("unknown protocol transport type '{0}'")]
    Transport(String),
    /// A unix transport needs a socket.
    #[error("missing socket for unix transport")]
    SocketMissing,
    /// Only a unix transport has a socket.
    #[error("transport '{0}' does not support socket attribute")]
    SocketOf(String),
    /// A host needs a name.
    #[error("missing name for host")]
    HostMissing,
    /// The port is not a number.
    #[error("failed to parse port number '{0}'")]
    Port(String),
    /// The port is more than 65,535.
    #[error("port '{0}' out of range")]
    PortRange(String),
    /// The encryption has no format.
    #[error("unknown volume encryption format")]
    EncryptionMissing,
    /// The encryption's format is none that libvirt knows.
    #[error("unknown volume encryption format type {0}")]
    Encryption(String),
    /// The secret has no type.
    #[error("unknown volume encryption secret type")]
    SecretMissing,
    /// The secret's type is none that libvirt knows.
    #[error("unknown volume encryption secret type {0}")]
    Secret(String),
    /// Authentication needs a user.
    #[error("missing username for auth")]
    AuthUser,
}

/// Rules of domains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DomainRule {
    /// There is no name.
    #[error("missing name information")]
    NameMissing,
    /// The name could not be a file's.
    #[error("name {0} cannot contain '/'")]
    NameSlash(String),
    /// The uuid is none.
    #[error("malformed uuid element")]
    Uuid,
    /// There is no `type` attribute.
    #[error("Missing required attribute 'type' in element 'domain'")]
    TypeMissing,
    /// The `type` attribute is none that libvirt knows.
    #[error("invalid domain type {0}")]
    Type(String),
    /// There is no `<os><type>`.
    #[error("an os <type> must be specified")]
    OsType,
    /// The memory is no number, or of an unknown unit.
    #[error("malformed or missing memory information")]
    Memory,
    /// The domain is too long as it is written in a moment, or has too many elements.
    #[error(
        "the domain takes more than {} bytes or {} elements in the document of a moment",
        crate::XML_LEN_MAX,
        crate::XML_ELEMENTS_MAX
    )]
    TooLarge,
    /// More disks than a domain may have here.
    #[error("a domain has at most {max} disks", max = crate::DISKS_MAX)]
    DisksTooMany,
    /// A disk has no target.
    #[error("missing target information for disk source '{0}'")]
    DiskTarget(String),
    /// A target that tells no place on a bus, and no address that does.
    #[error("Unknown disk name '{0}' and no address specified")]
    DiskName(Box<str>),
    /// Two disks have one target.
    #[error("target '{target}' duplicated for disk sources '{first}' and '{second}'")]
    DiskTwice {
        /// The target.
        target: Box<str>,
        /// Source of the first.
        first: Box<str>,
        /// Source of the second.
        second: Box<str>,
    },
}

/// Rules of backups.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupRule {
    /// The mode is none that libvirt knows.
    #[error("unknown backup mode '{0}'")]
    Mode(String),
    /// The path of the server's socket is relative.
    #[error("backup socket path '{0}' must be absolute")]
    SocketPath(String),
    /// A type that no target and no scratch space can have.
    #[error("unknown storage source type '{0}'")]
    DestinationKind(String),
    /// An image format that libvirt does not know.
    #[error("unknown storage source format '{0}'")]
    DestinationFormat(String),
    /// What is written cannot be encrypted here: there are no secrets.
    #[error("encryption of what is copied from disk '{0}' is not supported")]
    Encryption(String),
    /// A security model has two labels.
    #[error("seclabel for model {0} is already provided")]
    LabelTwice(String),
    /// The backup is too long as it is written, or has too many elements.
    #[error("the backup takes more than {} bytes", crate::XML_AROUND_LEN_MAX)]
    TooLarge,
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column } = self.position;
        match &self.rule {
            Rule::WellFormed(rule) => {
                let document = self.document.parser_name();
                let rule = printable(rule);
                let dashes = "-".repeat(self.before);
                write!(
                    f,
                    "({document}):{line}: {rule}\n{}\n{dashes}^",
                    self.excerpt
                )
            }
            Rule::Schema(rule) => {
                write!(f, "line {line}, column {column}: {}", printable(rule))
            }
            rule => rule.fmt(f),
        }
    }
}

impl std::error::Error for XmlError {}
