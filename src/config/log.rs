//! `[log]`: where the access log goes, and what its lines say.

use crate::telemetry::LogLayout;
use std::path::PathBuf;

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Where it goes.
    pub access: AccessLog,
    /// What its lines say, and how.
    pub layout: LogLayout,
}

/// Where the access log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// None is written.
    Off,
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}
