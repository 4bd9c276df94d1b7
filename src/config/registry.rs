//! `[registry]`: where filings come from, and where they are kept.

use std::net::SocketAddr;
use std::path::PathBuf;

/// `[registry]`
#[derive(Debug, Clone)]
pub enum Registry {
    /// Runs elsewhere and is followed.
    Remote {
        /// `http` or `https`, without a slash at its end.
        url: String,
        /// Bearer token.
        token: Option<String>,
        /// PEM file with the authorities to trust instead of the system's.
        ca_file: Option<PathBuf>,
    },
    /// Runs in this process.
    Embedded(EmbeddedRegistry),
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
}

/// Where a registry keeps filings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// This file.
    Sqlite(PathBuf),
}
