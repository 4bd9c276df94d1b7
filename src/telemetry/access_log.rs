//! The access log: lines by our own serializer, into per-worker buffers, written by a thread of its own.
//!
//! A writer that is behind loses lines, and every lost line is counted.

mod line;

pub use line::{AccessLine, LogField, LogLayout, LogStyle, TlsLine};

use line::{Stamp, write_line};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

/// A worker hands its buffer over when it is this full.
const HAND_OVER_BYTES: usize = 32 * 1024;
/// Buffers that may wait for the writer.
const MAX_WAITING: usize = 1024;

/// Where workers hand their buffers over.
#[derive(Debug, Clone)]
pub struct AccessLogSink {
    to: SyncSender<Vec<u8>>,
    layout: Arc<LogLayout>,
    /// Lines that could not be written and that no worker has counted yet.
    failed_lines: Arc<AtomicU64>,
}

/// The other end: run it on a thread of its own.
#[derive(Debug)]
pub struct AccessLogWriter {
    from: Receiver<Vec<u8>>,
    failed_lines: Arc<AtomicU64>,
}

impl AccessLogWriter {
    /// A sink for lines that say so, and its writer.
    #[must_use]
    pub fn new(layout: LogLayout) -> (AccessLogSink, Self) {
        let (to, from) = sync_channel(MAX_WAITING);
        let failed_lines = Arc::<AtomicU64>::default();
        let sink = AccessLogSink { to, layout: Arc::new(layout), failed_lines: Arc::clone(&failed_lines) };
        (sink, Self { from, failed_lines })
    }

    /// Opens the file for appending, and anew whenever `reopen` is asked for: a rotated file is let go.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, reopen: &Reopen) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_owned(), file: append(path)?, reopen: reopen.clone() })
    }

    /// Writes until every sink is gone. Says when writing begins to fail, and when it goes on.
    pub fn run(self, mut out: impl Write) {
        let mut is_failing = false;
        while let Ok(lines) = self.from.recv() {
            // What failed may have left a part of a line behind.
            let begun = if is_failing { out.write_all(b"\n") } else { Ok(()) };
            match begun.and_then(|()| out.write_all(&lines)).and_then(|()| out.flush()) {
                Ok(()) => {
                    if std::mem::take(&mut is_failing) {
                        tracing::info!("the access log is written again");
                    }
                }
                Err(error) => {
                    let lost = memchr::memchr_iter(b'\n', &lines).count() as u64;
                    self.failed_lines.fetch_add(lost, Ordering::Relaxed);
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!(%error, "the access log can't be written; its lines are lost and counted");
                    }
                }
            }
        }
    }
}

/// Asks for the log's file to be opened anew before the next lines.
#[derive(Debug, Clone, Default)]
pub struct Reopen(Arc<AtomicBool>);

impl Reopen {
    /// Asks.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The log's file, found again by its name when it was rotated.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    reopen: Reopen,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        if self.reopen.0.swap(false, Ordering::Relaxed) {
            match append(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => {
                    tracing::error!(%error, "the access log can't be opened anew; going on with the old file");
                }
            }
        }
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// One worker's lines that were not handed over yet.
#[derive(Debug)]
pub struct LogBuffer {
    sink: Option<AccessLogSink>,
    lines: Vec<u8>,
    count: u64,
    stamp: Stamp,
}

impl LogBuffer {
    /// `None`: nothing is logged, and nothing is spent on it.
    #[must_use]
    pub fn new(sink: Option<AccessLogSink>) -> Self {
        Self { sink, lines: Vec::new(), count: 0, stamp: Stamp::default() }
    }

    /// Whether lines are wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Whether lines say so.
    #[must_use]
    pub fn wants(&self, field: LogField) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.layout.wants(field))
    }

    /// Adds a line; gives how many lines were lost by handing over.
    #[must_use]
    pub fn add(&mut self, line: &AccessLine<'_>) -> u64 {
        let Some(sink) = &self.sink else { return 0 };
        write_line(&mut self.lines, &mut self.stamp, &sink.layout, line);
        self.count += 1;
        if self.lines.len() >= HAND_OVER_BYTES { self.hand_over() } else { 0 }
    }

    /// Hands over what there is; gives how many lines were lost.
    #[must_use]
    pub fn hand_over(&mut self) -> u64 {
        let Some(sink) = &self.sink else { return 0 };
        let failed = match sink.failed_lines.load(Ordering::Relaxed) {
            0 => 0,
            _ => sink.failed_lines.swap(0, Ordering::Relaxed),
        };
        if self.count == 0 {
            return failed;
        }
        let lines = std::mem::replace(&mut self.lines, Vec::with_capacity(HAND_OVER_BYTES + 4096));
        let count = std::mem::take(&mut self.count);
        match sink.to.try_send(lines) {
            Ok(()) => failed,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => failed + count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_writer_cannot_take_is_counted() {
        let (sink, writer) =
            AccessLogWriter::new(LogLayout { style: LogStyle::Json, fields: vec![LogField::Host] });
        drop(writer);
        let mut buffer = LogBuffer::new(Some(sink));
        let line = AccessLine::of_test("a");
        assert_eq!(buffer.add(&line) + buffer.add(&line), 0);
        assert_eq!(buffer.hand_over(), 2);
    }
}
