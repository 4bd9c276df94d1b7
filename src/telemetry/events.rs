//! The gate's own log for a syslog collector: events as lines, beside those on standard error.

use super::syslog::{Severity, Syslog};
use std::fmt::{Debug, Write};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Where events go, once that is known: the log is set up before the config is read.
static TO: OnceLock<(Severity, Syslog)> = OnceLock::new();

/// Sends events to syslog as soon as there is one.
#[derive(Debug, Clone, Copy)]
pub struct SyslogEvents;

impl SyslogEvents {
    /// From here on events that are at least so urgent go there. The first call holds.
    pub fn begin(least: Severity, syslog: Syslog) {
        let _ = TO.set((least, syslog));
    }
}

impl<S: Subscriber> Layer<S> for SyslogEvents {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some((least, syslog)) = TO.get() else { return };
        let severity = match *event.metadata().level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            _ => Severity::Info,
        };
        // The more urgent, the smaller.
        if severity > *least {
            return;
        }
        let mut line = Line(format!("{}:", event.metadata().target()));
        event.record(&mut line);
        syslog.send(severity, "event", line.0.as_bytes());
    }
}

/// `target: message key=value …`
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
