//! `[registry]`: where filings come from, and where they are kept.

use super::{ApiTls, FilingRules};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[registry]`
#[derive(Debug, Clone)]
pub enum Registry {
    /// Runs elsewhere and is followed.
    Remote {
        /// Registries of one database, `http` or `https`, without a slash at the end.
        urls: Vec<String>,
        /// Bearer token.
        token: Option<String>,
        /// Whom to believe, and what to show.
        trust: Trust,
    },
    /// Runs in this process.
    Embedded(EmbeddedRegistry),
}

/// TLS towards an API: whom to believe, and who we say we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate file, key file; read again for every handshake.
    pub shown: Option<(PathBuf, PathBuf)>,
    /// The one certificate to believe, whatever name it holds: this machine's own, by its file.
    pub exactly: Option<PathBuf>,
}

impl Trust {
    /// Towards an API of this machine, whose files we can read: its own certificate is believed, and shown where one
    /// is asked for.
    #[must_use]
    pub fn in_own(tls: &ApiTls) -> Self {
        let shown = tls.clients.as_ref().map(|_| (tls.cert.clone(), tls.key.clone()));
        Self { ca_file: None, shown, exactly: Some(tls.cert.clone()) }
    }
}

/// `[registry.embedded]`
#[derive(Debug, Clone)]
pub struct EmbeddedRegistry {
    /// Port 0 is any free port.
    pub address: SocketAddr,
    /// Where it keeps filings.
    pub database: Database,
    /// Loaded when the database is empty.
    pub sample: Option<PathBuf>,
    /// The text of `sample`, where the config came out of the binary.
    pub sample_text: Option<&'static str>,
    /// Needed off loopback.
    pub token: Option<String>,
    /// Further ones, each with its role.
    pub tokens: Vec<Token>,
    /// In the clear without it.
    pub tls: Option<ApiTls>,
    /// What orders are held against.
    pub rules: FilingRules,
}

/// A caller's token, as its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What the change log calls who shows it.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// SHA-256 of it.
    pub hash: [u8; 32],
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Reader,
    /// Reads, and moves orders on.
    Reviewer,
    /// Everything.
    Operator,
    /// Follows the feed, and nothing else.
    Gate,
}

impl Role {
    /// By its name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "reader" => Self::Reader,
            "reviewer" => Self::Reviewer,
            "operator" => Self::Operator,
            "gate" => Self::Gate,
            _ => return None,
        })
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::named(name).ok_or_else(|| "a role is reader, reviewer, operator or gate".to_owned())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Reader => "reader",
            Self::Reviewer => "reviewer",
            Self::Operator => "operator",
            Self::Gate => "gate",
        })
    }
}

/// Where a registry keeps filings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// This file.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server, which several registries may share.
    Postgres {
        /// Where.
        url: PostgresUrl,
        /// What followers are served from: a directory of this process.
        directory: PathBuf,
    },
}

/// `postgres://user:password@host:port/database`, or with `?host=/directory/of/a/socket`. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(pub(in crate::config) String);

impl PostgresUrl {
    /// All of it, the password too.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("postgres", ""));
        // Parameters may hold one as well.
        let rest = rest.split('?').next().unwrap_or_default();
        let shown = rest.rsplit_once('@').map_or_else(
            || rest.to_owned(),
            |(user, host)| format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        );
        write!(to, "{scheme}://{shown}")
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}
