//! Where the access log goes.

use crate::config::{AccessLog, Log};
use crate::telemetry::{AccessLogSink, AccessLogWriter, Reopen, Tail, TailWriter};
use anyhow::{Context, Result};
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where workers hand their lines over, and the thread that writes them; neither where there is no log.
pub(super) fn access_log(
    log: &Log,
    tail: Arc<Tail>,
    reopen: &Reopen,
) -> Result<(Option<AccessLogSink>, Option<JoinHandle<()>>)> {
    let out: Box<dyn std::io::Write + Send> = match &log.access {
        AccessLog::Off => return Ok((None, None)),
        AccessLog::File(path) => Box::new(AccessLogWriter::open(path, reopen).with_context(|| {
            format!(
                "log.access: can't append to {}; give a path that the gate's user may write",
                path.display()
            )
        })?),
        AccessLog::Stdout => Box::new(std::io::stdout()),
    };
    let (sink, writer) = AccessLogWriter::new(log.layout.clone());
    let thread = std::thread::Builder::new()
        .name("access-log".into())
        .spawn(move || writer.run(TailWriter::new(out, tail)))?;
    Ok((Some(sink), Some(thread)))
}
