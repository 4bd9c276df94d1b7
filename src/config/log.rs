//! `[log]` and `[syslog]`: where logs go, and what the access log's lines say.

use crate::telemetry::{LogLayout, Severity, SyslogTarget};
use std::path::PathBuf;

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// `[syslog]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// The collector.
    pub target: SyslogTarget,
    /// 0 to 23.
    pub facility: u8,
    /// Whether the access log's lines go there as well.
    pub access: bool,
    /// Events of the gate's own log that go there: those as urgent as this, and more; `None`: none.
    pub events: Option<Severity>,
    /// What the gate is called there.
    pub app_name: String,
}
