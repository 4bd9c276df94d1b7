//! Where the access log, the gate's own log and spans go.

use super::whereabouts;
use crate::admin::Told;
use crate::config::{AccessLog, Config, Log};
use crate::telemetry::{
    AccessLogSink, AccessLogWriter, Reopen, SpanCounts, SpanExporter, SpanSink, Syslog, SyslogCounts,
    SyslogEvents, SyslogLines, SyslogName, SyslogThread, Tail, TailWriter,
};
use anyhow::{Context, Result};
use std::io::Write;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How long what waits for a syslog collector is sent at the end.
const SYSLOG_END_TIME: Duration = Duration::from_secs(2);

/// The logs' threads.
pub(super) struct Logs {
    /// Where workers hand their lines over; nowhere where there is no log.
    pub(super) sink: Option<AccessLogSink>,
    thread: Option<JoinHandle<()>>,
    syslog: Option<SyslogThread>,
    counts: Arc<SyslogCounts>,
}

impl Logs {
    pub(super) fn start(config: &Config, tail: &Arc<Tail>, reopen: &Reopen) -> Result<Self> {
        let counts = Arc::<SyslogCounts>::default();
        let (mut of_access, mut syslog) = (None, None);
        if let Some(section) = &config.syslog {
            let name = SyslogName {
                facility: section.facility,
                host: whereabouts::host_name(),
                app: section.app_name.clone(),
            };
            let (to, thread) = Syslog::start(section.target.clone(), &name, Arc::clone(&counts))?;
            if let Some(least) = section.events {
                SyslogEvents::begin(least, to.clone());
            }
            (of_access, syslog) = (section.access.then_some(to), Some(thread));
        }
        let (sink, thread) = access_log(&config.log, Arc::clone(tail), reopen, of_access)?;
        Ok(Self { sink, thread, syslog, counts })
    }

    /// With what became of lines and spans.
    pub(super) fn told(&self, spans: &Spans, told: Told) -> Told {
        Told { syslog: Arc::clone(&self.counts), spans: Arc::clone(&spans.counts), ..told }
    }

    /// Once nobody writes any more.
    pub(super) fn finish(self) {
        drop(self.sink);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
        if let Some(thread) = self.syslog {
            thread.finish(SYSLOG_END_TIME);
        }
    }
}

/// Where workers hand their lines over, and the thread that writes them; neither where there is no log.
fn access_log(
    log: &Log,
    tail: Arc<Tail>,
    reopen: &Reopen,
    syslog: Option<Syslog>,
) -> Result<(Option<AccessLogSink>, Option<JoinHandle<()>>)> {
    let out: Box<dyn Write + Send> = match &log.access {
        AccessLog::Off if syslog.is_none() => return Ok((None, None)),
        AccessLog::Off => Box::new(std::io::sink()),
        AccessLog::File(path) => Box::new(AccessLogWriter::open(path, reopen).with_context(|| {
            format!(
                "log.access: can't append to {}; give a path that the gate's user may write",
                path.display()
            )
        })?),
        AccessLog::Stdout => Box::new(std::io::stdout()),
    };
    let out: Box<dyn Write + Send> = match syslog {
        Some(syslog) => Box::new(SyslogLines::new(out, syslog)),
        None => out,
    };
    let (sink, writer) = AccessLogWriter::new(log.layout.clone());
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || writer.run(TailWriter::new(out, tail)))?;
    Ok((Some(sink), Some(thread)))
}

/// Where spans go.
pub(super) struct Spans {
    /// Where workers hand theirs over; nowhere where nobody asked for them.
    pub(super) sink: Option<SpanSink>,
    /// To be run.
    pub(super) exporter: Option<SpanExporter>,
    counts: Arc<SpanCounts>,
}

impl Spans {
    pub(super) fn start(config: &Config) -> Result<Self> {
        let counts = Arc::<SpanCounts>::default();
        let Some(options) = &config.otlp else { return Ok(Self { sink: None, exporter: None, counts }) };
        let (sink, exporter) =
            SpanSink::new(options.clone(), Arc::clone(&counts)).context("otlp.endpoint")?;
        Ok(Self { sink: Some(sink), exporter: Some(exporter), counts })
    }
}
