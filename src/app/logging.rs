//! Where the access log, the gate's own log and spans go.

use super::whereabouts;
use crate::admin::Told;
use crate::config::{AccessLog, Config, Log};
use crate::telemetry::{
    AccessLogSink, AccessLogSwitch, AccessLogWriter, Reopen, Severity, SpanCounts, SpanExporter, SpanSink,
    Syslog, SyslogCounts, SyslogEvents, SyslogName, SyslogThread, Tail, Tee, each_line,
};
use anyhow::{Context, Result};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long what waits for a syslog collector is sent at the end.
const SYSLOG_END_TIME: Duration = Duration::from_secs(2);

/// The logs' threads.
pub(super) struct Logs {
    /// Where workers hand their lines over, and how that becomes another place.
    pub(super) access: Arc<AccessLogs>,
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
        let access = Arc::new(AccessLogs {
            switch: Arc::default(),
            in_force: Mutex::default(),
            tail: Arc::clone(tail),
            reopen: reopen.clone(),
            syslog: of_access,
        });
        if let Some(opened) = access.open(&config.log)? {
            access.turn_to(opened);
        }
        Ok(Self { access, syslog, counts })
    }

    /// With what became of lines and spans.
    pub(super) fn told(&self, spans: &Spans, told: Told) -> Told {
        Told { syslog: Arc::clone(&self.counts), spans: Arc::clone(&spans.counts), ..told }
    }

    /// Once nobody writes any more.
    pub(super) fn finish(self) {
        self.access.finish();
        drop(self.access);
        if let Some(thread) = self.syslog {
            thread.finish(SYSLOG_END_TIME);
        }
    }
}

/// The access log, which a reload may turn elsewhere.
pub(super) struct AccessLogs {
    /// What workers follow.
    pub(super) switch: Arc<AccessLogSwitch>,
    in_force: Mutex<InForce>,
    tail: Arc<Tail>,
    reopen: Reopen,
    /// Where lines go as well.
    syslog: Option<Syslog>,
}

#[derive(Default)]
struct InForce {
    /// `None`: nothing yet.
    log: Option<Log>,
    /// Each ends once nobody hands over to it any more.
    threads: Vec<JoinHandle<()>>,
}

/// A log that is ready to be written.
pub(super) struct OpenedLog {
    log: Log,
    /// Neither where nobody wants lines.
    written: Option<(AccessLogSink, JoinHandle<()>)>,
}

impl AccessLogs {
    /// Opens what a config asks for; `None` where that is in force.
    ///
    /// # Errors
    /// What keeps it from being written; all stays as it was.
    pub(super) fn open(&self, log: &Log) -> Result<Option<OpenedLog>> {
        if self.in_force().log.as_ref() == Some(log) {
            return Ok(None);
        }
        let out: Box<dyn Write + Send> = match &log.access {
            AccessLog::Off if self.syslog.is_none() => {
                return Ok(Some(OpenedLog { log: log.clone(), written: None }));
            }
            AccessLog::Off => Box::new(std::io::sink()),
            AccessLog::File(path) => {
                Box::new(AccessLogWriter::open(path, &self.reopen).with_context(|| {
                    format!(
                        "log.access: can't append to {}; give a path that the gate's user may write",
                        path.display()
                    )
                })?)
            }
            AccessLog::Stdout => Box::new(std::io::stdout()),
        };
        let out: Box<dyn Write + Send> = match &self.syslog {
            Some(syslog) => {
                let syslog = syslog.clone();
                let send = move |lines: &[u8]| {
                    each_line(lines).for_each(|line| syslog.send(Severity::Info, "access", line));
                };
                Box::new(Tee::new(out, send))
            }
            None => out,
        };
        let (sink, writer) = AccessLogWriter::new(log.layout.clone());
        let tail = Arc::clone(&self.tail);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(Tee::new(out, move |lines: &[u8]| tail.keep(lines))))?;
        Ok(Some(OpenedLog { log: log.clone(), written: Some((sink, thread)) }))
    }

    /// From now on lines go there.
    pub(super) fn turn_to(&self, OpenedLog { log, written }: OpenedLog) {
        let mut in_force = self.in_force();
        let (sink, thread) = written.unzip();
        self.switch.turn(sink);
        in_force.log = Some(log);
        in_force.threads.retain(|thread| !thread.is_finished());
        in_force.threads.extend(thread);
    }

    fn in_force(&self) -> MutexGuard<'_, InForce> {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self) {
        self.switch.turn(None);
        let threads = std::mem::take(&mut self.in_force().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
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
