//! The access log: lines by our own serializer, into per-worker buffers, written by a thread of its own.
//!
//! A writer that is behind loses lines, and every lost line is counted.

mod escape;
mod line;

pub use line::{AccessLine, LogField, LogLayout, LogStyle, TlsLine};

use arc_swap::{ArcSwapOption, Guard};
use line::{Stamp, write_line};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// A worker hands its buffer over when it is this full.
const HAND_OVER_BYTES: usize = 32 * 1024;
/// Octets that a fresh buffer has room for: with the line that makes it full.
const BUFFER_BYTES: usize = HAND_OVER_BYTES + 4096;
/// Buffers that may wait for the writer.
const MAX_WAITING: usize = 1024;
/// Written buffers that are kept for workers to fill again.
const MAX_SPARE: usize = 16;

/// Buffers that were written, for workers to fill again: they are in the memory that a processor knows.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// Where workers hand their buffers over.
#[derive(Debug, Clone)]
pub struct AccessLogSink {
    to: SyncSender<Vec<u8>>,
    layout: Arc<LogLayout>,
    /// Lines that could not be written and that no worker has counted yet.
    failed_lines: Arc<AtomicU64>,
    spare: Spare,
}

/// The sink that workers hand over to; another one takes its place while they run.
#[derive(Debug, Default)]
pub struct AccessLogSwitch(ArcSwapOption<AccessLogSink>);

impl AccessLogSwitch {
    /// From each worker's next turn on lines go there; `None`: nowhere. What workers hold goes to the one before.
    pub fn turn(&self, to: Option<AccessLogSink>) {
        self.0.store(to.map(Arc::new));
    }
}

/// The other end: run it on a thread of its own.
#[derive(Debug)]
pub struct AccessLogWriter {
    from: Receiver<Vec<u8>>,
    failed_lines: Arc<AtomicU64>,
    spare: Spare,
}

impl AccessLogWriter {
    /// A sink for lines that say so, and its writer.
    #[must_use]
    pub fn new(layout: LogLayout) -> (AccessLogSink, Self) {
        let (to, from) = sync_channel(MAX_WAITING);
        let failed_lines = Arc::<AtomicU64>::default();
        let spare = Spare::default();
        let (failed, spares) = (Arc::clone(&failed_lines), Arc::clone(&spare));
        let sink = AccessLogSink { to, layout: Arc::new(layout), failed_lines: failed, spare: spares };
        (sink, Self { from, failed_lines, spare })
    }

    /// Opens the file for appending, and anew whenever `reopen` is asked for: a rotated file is let go.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path, reopen: &Reopen) -> io::Result<LogFile> {
        let seen = reopen.asked();
        Ok(LogFile { path: path.to_owned(), file: append(path)?, reopen: reopen.clone(), seen })
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
            self.give_back(lines);
        }
    }

    fn give_back(&self, mut lines: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = (HAND_OVER_BYTES..=2 * BUFFER_BYTES).contains(&lines.capacity());
        if is_whole && spare.len() < MAX_SPARE {
            lines.clear();
            spare.push(lines);
        }
    }
}

/// Asks for the log's file to be opened anew before the next lines.
#[derive(Debug, Clone, Default)]
pub struct Reopen(Arc<AtomicU64>);

impl Reopen {
    /// Asks.
    pub fn ask(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was asked for.
    fn asked(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The log's file, found again by its name when it was rotated.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    reopen: Reopen,
    /// How often that had been asked when it was last looked at.
    seen: u64,
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        let asked = self.reopen.asked();
        if std::mem::replace(&mut self.seen, asked) != asked {
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
    switch: Arc<AccessLogSwitch>,
    sink: Option<Arc<AccessLogSink>>,
    lines: Vec<u8>,
    count: u64,
    stamp: Stamp,
}

impl LogBuffer {
    /// Lines go where the switch leads; where that is nowhere, nothing is spent on them.
    #[must_use]
    pub fn new(switch: Arc<AccessLogSwitch>) -> Self {
        let sink = switch.0.load_full();
        Self { switch, sink, lines: Vec::new(), count: 0, stamp: Stamp::default() }
    }

    /// Looks where the switch leads by now; gives how many lines were lost.
    #[must_use]
    pub fn follow(&mut self) -> u64 {
        let now = self.switch.0.load();
        if now.as_ref().map(Arc::as_ptr) == self.sink.as_ref().map(Arc::as_ptr) {
            return 0;
        }
        let now = Guard::into_inner(now);
        let lost = self.hand_over();
        self.sink = now;
        lost
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
        // A buffer that is full goes as it is. Of a few lines a copy does: a thousand may wait for the writer.
        let lines = if self.lines.len() < HAND_OVER_BYTES / 2 {
            let copy = self.lines.as_slice().to_vec();
            self.lines.clear();
            copy
        } else {
            let spare = sink.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            std::mem::replace(&mut self.lines, spare.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES)))
        };
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
        let switch = Arc::<AccessLogSwitch>::default();
        switch.turn(Some(sink));
        let mut buffer = LogBuffer::new(switch);
        let line = AccessLine::of_test("a");
        assert_eq!(buffer.add(&line) + buffer.add(&line), 0);
        assert_eq!(buffer.hand_over(), 2);
    }

    /// A writer that is stuck: what waits for it is what was written, not the room that was there for more.
    #[test]
    fn few_lines_wait_in_little_room() {
        let (sink, writer) =
            AccessLogWriter::new(LogLayout { style: LogStyle::Json, fields: vec![LogField::Host] });
        let switch = Arc::<AccessLogSwitch>::default();
        switch.turn(Some(sink));
        let mut buffer = LogBuffer::new(switch);
        let line = AccessLine::of_test("a");
        for lines in [1, 3, HAND_OVER_BYTES] {
            for _ in 0..lines {
                assert_eq!(buffer.add(&line), 0);
            }
            assert_eq!(buffer.hand_over(), 0);
            while let Ok(waiting) = writer.from.try_recv() {
                assert!(
                    waiting.capacity() <= 2 * waiting.len() + 4096,
                    "{} of {}",
                    waiting.len(),
                    waiting.capacity()
                );
                assert!(waiting.ends_with(b"\n"));
            }
        }
    }

    #[test]
    fn what_was_gathered_goes_where_it_was_meant_to() {
        let layout = |fields| LogLayout { style: LogStyle::Json, fields };
        let (one, first) = AccessLogWriter::new(layout(vec![LogField::Host]));
        let (two, second) = AccessLogWriter::new(layout(vec![LogField::Status]));
        let switch = Arc::<AccessLogSwitch>::default();
        let mut buffer = LogBuffer::new(Arc::clone(&switch));
        assert!(!buffer.is_on());
        for sink in [Some(one), Some(two), None] {
            switch.turn(sink);
            assert_eq!(buffer.follow() + buffer.follow(), 0);
            if buffer.is_on() {
                assert_eq!(buffer.add(&AccessLine::of_test("a")), 0);
            }
        }
        let written = |writer: AccessLogWriter| {
            let mut text = Vec::new();
            writer.run(&mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(written(first), "{\"host\":\"a\"}\n");
        assert!(written(second).starts_with("{\"status\":"));
    }
}
