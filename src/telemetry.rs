//! What the gate tells of its work: counters and the access log. Used by everyone, uses nobody.
//!
//! On the request path nothing is shared: each worker has its own counters and its own log buffer;
//! adding up and writing happen elsewhere.

mod access_log;
mod blocked;
mod counters;
mod footers;
mod life;
mod tail;

pub use access_log::{AccessLine, AccessLogSink, AccessLogWriter, LogBuffer, LogFile, Reopen, TlsLine};
pub use blocked::{Blocked, BlockedDomain, BlockedNotes, HOURS, Turned};
pub use counters::{Counters, DURATION_BOUNDS_MS, Totals, WorkerCounters};
pub use footers::{FooterReport, FooterReports, FooterSighting, FooterSummary, LackingPage};
pub use life::{Life, Reload};
pub use tail::{Tail, TailWriter};
