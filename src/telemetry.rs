//! What the gate tells of its work: counters, the access log and the audit log. Used by everyone, uses nobody.
//!
//! On the request path nothing is shared: each worker has its own counters and its own log buffer;
//! adding up and writing happen elsewhere.

mod access_log;
mod audit;
mod blocked;
mod counters;
mod events;
mod footers;
mod life;
mod meters;
mod names;
mod otlp;
mod syslog;
mod tail;
mod tee;

pub use access_log::{
    AccessLine, AccessLogSink, AccessLogSwitch, AccessLogWriter, LogBuffer, LogField, LogFile, LogLayout,
    LogStyle, Reopen, TlsLine,
};
pub use audit::{
    AuditEvent, AuditSink, AuditState, AuditThread, Break, Broken, Checked, Found, LineHash, Link, Rotation,
    VerdictChange, Verifier, first_seq, read_head, rotated,
};
pub use blocked::{Blocked, BlockedDomain, BlockedNotes, HOURS, Turned, TurnedAway};
pub use counters::{Counters, DURATION_BOUNDS_MS, LookupCounts, Totals, WorkerCounters};
pub use events::SyslogEvents;
pub use footers::{FooterReport, FooterReports, FooterSighting, FooterSummary, KnownNumbers, LackingPage};
pub use life::{Life, Reload};
pub use meters::upstreams::{STATUS_CLASSES, UpstreamTotals};
pub use meters::{ListenerTotals, MAX_SITES, Meter, SiteTotals};
pub use names::{NameNotes, ServedName, ServedNamesSink, ServedState, served_names};
pub use otlp::{OtlpOptions, Span, SpanCounts, SpanExporter, SpanSink};
pub use syslog::{Severity, Syslog, SyslogCounts, SyslogName, SyslogTarget, SyslogThread};
pub use tail::Tail;
pub use tee::{Tee, each_line};
