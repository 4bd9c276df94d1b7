//! The audit log: every change of verdict and every blocked domain, as JSON lines that each hold the hash of the one
//! before.
//!
//! Written by a thread of its own. Whoever has something to record hands it over and goes on; what finds
//! no room is counted, and the count is recorded. While the disk takes nothing, lines wait, as many as there is room
//! for. Knows what is recorded, not why it happened.

mod chain;
mod ledger;
mod summed;
mod verify;

pub use chain::{LineHash, Link};
pub use ledger::{Found, Rotation, read_head, rotated};
pub use verify::{Break, Broken, Checked, Verifier, first_seq};

use super::Turned;
use jiff::Timestamp;
use ledger::Ledger;
use serde::Serialize;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use summed::Summed;

/// Records that may wait for the writer.
const MAX_WAITING: usize = 8192;
/// Lines that wait while the disk takes none; they hold less than a kilobyte each as a rule.
const MAX_UNWRITTEN: usize = 8192;
/// Records that are taken before lines are written.
const MAX_BATCH: usize = 1024;
/// How often the writer looks whether a minute is over or the disk takes lines again.
const LOOK: Duration = Duration::from_millis(500);
/// How long the last lines are tried at the end.
const LAST_TRIES: Duration = Duration::from_secs(2);

/// A change of what a host is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerdictChange {
    /// The host.
    pub host: String,
    /// As which product.
    pub scenario: &'static str,
    /// Where.
    pub region: &'static str,
    /// What it was told before; nothing where this is the first judgement of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<&'static str>,
    /// What it is told now.
    pub verdict: &'static str,
    /// Whether it is served in spite of that: `monitor`, or `grace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub served: Option<&'static str>,
    /// The number that the verdict rests on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// The filing's status here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// The filed name, or the operator's entry, that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Why, in Chinese.
    pub because_zh: &'static str,
    /// Why, in English.
    pub because: &'static str,
    /// What the registry said last: epoch and number.
    pub position: [u64; 2],
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// A gate began to record.
    Begin {
        /// Of the gate.
        version: &'static str,
        /// Whose it is.
        provider: String,
        /// What it is called.
        gate: String,
        /// Of its process.
        pid: u32,
        /// SHA-256 of its config file.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<String>,
        /// Octets of a line that a crash had cut.
        #[serde(skip_serializing_if = "is_zero")]
        torn_bytes: u64,
        /// Lines that the head knew of and the log did not hold.
        #[serde(skip_serializing_if = "is_zero")]
        missing_lines: u64,
    },
    /// It ended as it should.
    End,
    /// A host is told something else.
    Verdict(VerdictChange),
    /// No verdict rests on filings any more, or does again: staleness, or nothing was ever synced.
    Filings {
        /// Whether they may be relied on.
        reliable: bool,
        /// Hosts that are known here.
        hosts: usize,
    },
    /// A domain is turned away, for the first time since long.
    Blocked {
        /// The registrable domain, or the address.
        domain: String,
        /// Why.
        verdict: &'static str,
        /// Where it came in.
        listener: String,
    },
    /// A domain was turned away again.
    BlockedAgain {
        /// The registrable domain, or the address.
        domain: String,
        /// Why.
        verdict: &'static str,
        /// Where it came in.
        listener: String,
        /// How often since the line before about it.
        requests: u64,
    },
    /// Further domains were turned away, more than are told apart.
    BlockedOthers {
        /// How often.
        requests: u64,
    },
    /// The config in force is another, or was to be.
    Reload {
        /// SHA-256 of its file.
        #[serde(skip_serializing_if = "Option::is_none")]
        config: Option<String>,
        /// Why the old one stays in force.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    /// An update of the filings waits for an operator, or no longer does.
    Held {
        /// `waiting`, `refused`, `over`
        state: &'static str,
        /// Filings that it would newly block.
        newly_blocked: u64,
        /// Of so many.
        of: u64,
    },
    /// Records found no room.
    Dropped {
        /// How many.
        records: u64,
    },
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Debug)]
enum Item {
    Event(i64, AuditEvent),
    Turned { turned: Turned, requests: u64 },
    Unnamed(u64),
    End,
}

/// What the log came to so far, for metrics and status.
#[derive(Debug, Default)]
pub struct AuditState {
    /// Lines written by this process.
    pub lines: AtomicU64,
    /// Records that found no room.
    pub dropped: AtomicU64,
    /// Times that the disk took nothing.
    pub write_errors: AtomicU64,
    /// Lines that wait for the disk.
    pub unwritten: AtomicU64,
    head: Mutex<Option<Link>>,
    error: Mutex<Option<String>>,
}

impl AuditState {
    /// The last line that was written.
    #[must_use]
    pub fn head(&self) -> Option<Link> {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the disk takes nothing, while it does not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_error(&self, error: Option<String>) {
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

/// Where records are handed over.
#[derive(Debug, Clone)]
pub struct AuditSink {
    to: SyncSender<Item>,
    state: Arc<AuditState>,
}

impl AuditSink {
    /// Records an event that happens now.
    pub fn tell(&self, event: AuditEvent) {
        self.send(Item::Event(Timestamp::now().as_millisecond(), event), 1);
    }

    /// Records that a domain was turned away so often.
    pub fn turned_away(&self, turned: Turned, requests: u64) {
        self.send(Item::Turned { turned, requests }, 1);
    }

    /// Records that others were.
    pub fn others_turned_away(&self, requests: u64) {
        self.send(Item::Unnamed(requests), 1);
    }

    /// What the log came to so far.
    #[must_use]
    pub fn state(&self) -> &AuditState {
        &self.state
    }

    fn send(&self, item: Item, records: u64) {
        if self.to.try_send(item).is_err() {
            self.state.dropped.fetch_add(records, Ordering::Relaxed);
        }
    }
}

/// The writer's thread.
#[derive(Debug)]
pub struct AuditThread {
    sink: AuditSink,
    thread: JoinHandle<()>,
}

impl AuditThread {
    /// Opens the log and starts to write; what was found at its end goes into the first record, which `begin` makes.
    ///
    /// # Errors
    /// The system's, or that the file is no audit log.
    pub fn start(
        path: &Path,
        rotation: Rotation,
        begin: impl FnOnce(Found) -> AuditEvent,
    ) -> io::Result<Self> {
        let mut ledger = Ledger::open(path, rotation)?;
        let (to, from) = sync_channel(MAX_WAITING);
        let state = Arc::<AuditState>::default();
        let sink = AuditSink { to, state: Arc::clone(&state) };
        sink.tell(begin(ledger.take_found()));
        let writer = Writer { from, state, ledger, summed: Summed::default(), lines: Vec::new(), told: 0 };
        let thread = std::thread::Builder::new().name("audit-log".into()).spawn(move || writer.run())?;
        Ok(Self { sink, thread })
    }

    /// Where records are handed over.
    #[must_use]
    pub fn sink(&self) -> AuditSink {
        self.sink.clone()
    }

    /// Records the end, and waits until all that was handed over is written, or can't be.
    pub fn finish(self) {
        // Waits for room: the writer takes what there is, whatever the disk does.
        if self.sink.to.send(Item::End).is_ok() && self.thread.join().is_err() {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

struct Writer {
    from: Receiver<Item>,
    state: Arc<AuditState>,
    ledger: Ledger,
    summed: Summed,
    /// Unix milliseconds and JSON of what is not written yet.
    lines: Vec<(i64, String)>,
    /// How many dropped records are recorded.
    told: u64,
}

impl Writer {
    fn run(mut self) {
        let mut is_over = false;
        while !is_over {
            is_over = self.gather();
            let now = Timestamp::now();
            let sums = if is_over { self.summed.all() } else { self.summed.due(now.as_second()) };
            for event in sums {
                self.note(now.as_millisecond(), &event);
            }
            if is_over {
                self.note(now.as_millisecond(), &AuditEvent::End);
            }
            self.write(now);
        }
        let since = Instant::now();
        while !self.lines.is_empty() && since.elapsed() < LAST_TRIES {
            std::thread::sleep(LAST_TRIES / 40);
            self.write(Timestamp::now());
        }
        if !self.lines.is_empty() {
            tracing::error!("the audit log ends without its last {} lines", self.lines.len());
        }
    }

    /// Takes what waits, a batch at most; says whether it was the last.
    fn gather(&mut self) -> bool {
        let mut next = self.from.recv_timeout(LOOK);
        for _ in 0..MAX_BATCH {
            match next {
                Ok(Item::End) | Err(RecvTimeoutError::Disconnected) => return true,
                Ok(Item::Event(at_ms, event)) => self.note(at_ms, &event),
                Ok(Item::Unnamed(requests)) => self.summed.others(requests),
                Ok(Item::Turned { turned, requests }) => {
                    let now = Timestamp::now();
                    if let Some(event) = self.summed.add(turned, requests, now.as_second()) {
                        self.note(now.as_millisecond(), &event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return false,
            }
            next = self.from.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        false
    }

    fn note(&mut self, at_ms: i64, event: &AuditEvent) {
        match serde_json::to_string(event) {
            Ok(text) if self.lines.len() < MAX_UNWRITTEN && text.len() < chain::MAX_LINE_BYTES / 2 => {
                self.lines.push((at_ms, text));
            }
            _ => _ = self.state.dropped.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn write(&mut self, now: Timestamp) {
        let dropped = self.state.dropped.load(Ordering::Relaxed);
        let has_new = dropped > self.told && self.lines.len() < MAX_UNWRITTEN;
        if has_new {
            self.note(now.as_millisecond(), &AuditEvent::Dropped { records: dropped - self.told });
            self.told = dropped;
        }
        if !self.lines.is_empty() {
            match self.ledger.add(&self.lines, now) {
                Ok(added) => {
                    if let Some(full) = added.rotated {
                        tracing::info!(
                            "the audit log goes on in a new file; the full one is {}",
                            full.display()
                        );
                    }
                    if let Some(error) = added.head_error {
                        tracing::warn!(%error, "the audit log's head can't be written");
                    }
                    self.written();
                }
                // Another process is writing.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => self.failed(&error),
            }
        }
        self.state.unwritten.store(self.lines.len() as u64, Ordering::Relaxed);
    }

    fn written(&mut self) {
        self.state.lines.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        self.lines.clear();
        *self.state.head.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.ledger.end());
        if self.state.error().is_some() {
            tracing::info!("the audit log is written again");
            self.state.set_error(None);
        }
    }

    fn failed(&self, error: &io::Error) {
        self.state.write_errors.fetch_add(1, Ordering::Relaxed);
        if self.state.error().is_none() {
            tracing::error!(
                %error,
                "the audit log can't be written; up to {MAX_UNWRITTEN} lines wait, further ones are dropped and counted"
            );
        }
        self.state.set_error(Some(error.to_string()));
    }
}

#[cfg(test)]
mod tests;
