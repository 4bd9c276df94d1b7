//! Filings from and to files: CSV and NDJSON, plain or `.zst`, all rows or none.
//!
//! A small file is one atomic batch, fed to followers change by change. A larger one is set aside row by row while it is
//! read, checked there, and swapped in at once as a new epoch: memory does not grow with it. What is exported is what an
//! import reads back.

mod bulk;
mod export;
mod files;
mod receive;
mod rows;
mod via;

pub use export::{export, export_to};
pub use files::Source;
pub(super) use receive::post;
pub use rows::RefusedRow;
pub use via::import_via;

use super::batch::{self, Mode, Read};
use super::model::Outcome;
use super::{Registry, StoreError};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Runs of rows that are read ahead of those that are being set aside.
const RUNS_AHEAD: usize = 16;

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// What an import did, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Imported {
    /// Names that are new.
    pub created: u64,
    /// Names whose document is another one now.
    pub updated: u64,
    /// Names that were so already.
    pub unchanged: u64,
    /// Names that were deleted.
    pub deleted: u64,
}

/// Why nothing was imported, or not everything exported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// So many rows break rules; each was an event.
    #[error("{0} rows were refused, so nothing was imported")]
    Refused(u64),
    /// The file as a whole is not what it should be.
    #[error("{0}")]
    File(String),
    /// The file can't be read or written.
    #[error("can't read or write {}", path.display())]
    Io {
        /** The file. */
        path: PathBuf,
        /** Why. */
        source: std::io::Error,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The running registry did not take it.
    #[error("the registry at {address} did not take the import: {problem}")]
    Remote {
        /** Where it serves. */
        address: SocketAddr,
        /** What it said. */
        problem: String,
    },
}

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are read, and each is checked by the rules.
    Reading,
    /// Rows are held against each other.
    Checking,
    /// Rows are held against what is filed.
    Comparing,
    /// What differs is written; other writes wait.
    Swapping,
    /// What was written moves to its place in the database's file.
    Settling,
}

/// What an import says while it runs.
#[derive(Debug)]
pub enum Event {
    /// The next phase begins.
    Phase(Phase),
    /// A row is refused, so nothing will be imported.
    Refused(RefusedRow),
}

/// Imports rows into an open registry; `is_whole` makes them its whole content. Waits for whoever takes `events`.
///
/// # Errors
/// `Refused` where a row is refused: nothing was imported then.
pub async fn import(
    registry: &Registry,
    source: Source,
    is_whole: bool,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    import_as(registry, "import", source, is_whole, events).await
}

/// `import`, with another author in the change log.
pub(super) async fn import_as(
    registry: &Registry,
    who: &str,
    source: Source,
    is_whole: bool,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    let mut rows = Rows::read(source);
    let mut first = Vec::new();
    while first.len() <= registry.most_fed
        && let Some(run) = rows.next().await
    {
        first.extend(run);
    }
    let events = Events(events);
    if first.len() > registry.most_fed {
        return bulk::import(registry, who, first, rows, is_whole, events).await;
    }
    at_once(registry, who, first, rows, is_whole, &events).await
}

/// Imports rows as one batch, in memory.
async fn at_once(
    registry: &Registry,
    who: &str,
    mut first: Vec<Read>,
    mut rows: Rows,
    is_whole: bool,
    events: &Events,
) -> Result<Imported, ImportError> {
    while let Some(run) = rows.next().await {
        first.extend(run);
    }
    rows.end().await?;
    match rows::checked(first) {
        Ok(rows) => apply(registry, who, rows, is_whole, events).await,
        Err(refused) => events.refuse(refused).await,
    }
}

/// Imports a few rows as one batch.
async fn apply(
    registry: &Registry,
    who: &str,
    rows: Vec<Read>,
    is_whole: bool,
    events: &Events,
) -> Result<Imported, ImportError> {
    events.phase(Phase::Swapping).await;
    let mode = if is_whole { Mode::Replace } else { Mode::Atomic };
    let (mut imported, mut refused) = (Imported::default(), Vec::new());
    for done in batch::run(registry, who, rows, mode).await? {
        match done.outcome {
            Ok(outcome) => imported.add(outcome),
            Err(refusal) if refusal.rule == batch::BATCH_REFUSED => {}
            Err(refusal) => refused.push(RefusedRow::new(done.line, done.domain, refusal)),
        }
    }
    if refused.is_empty() { Ok(imported) } else { events.refuse(refused).await }
}

impl Imported {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Created => self.created += 1,
            Outcome::Updated => self.updated += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Deleted => self.deleted += 1,
        }
    }
}

/// Rows as a thread of their own reads and checks them.
struct Rows {
    runs: mpsc::Receiver<Vec<Read>>,
    reading: JoinHandle<Result<(), ImportError>>,
}

impl Rows {
    fn read(source: Source) -> Self {
        let (sender, runs) = mpsc::channel(RUNS_AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            rows::read(source, |run| run.is_empty() || sender.blocking_send(run).is_ok())
        });
        Self { runs, reading }
    }

    /// The next ones; `None` at the end, good or bad.
    async fn next(&mut self) -> Option<Vec<Read>> {
        self.runs.recv().await
    }

    /// Whether the end was a good one.
    async fn end(self) -> Result<(), ImportError> {
        let ended = self.reading.await;
        ended.map_err(|error| ImportError::File(format!("the import was not read to its end: {error}")))?
    }
}

/// Where events go; whether anyone takes them is not the import's concern.
#[derive(Debug)]
struct Events(mpsc::Sender<Event>);

impl Events {
    async fn phase(&self, phase: Phase) {
        let _ = self.0.send(Event::Phase(phase)).await;
    }

    async fn refused(&self, row: RefusedRow) {
        let _ = self.0.send(Event::Refused(row)).await;
    }

    async fn refuse(&self, rows: Vec<RefusedRow>) -> Result<Imported, ImportError> {
        let count = rows.len() as u64;
        for row in rows {
            self.refused(row).await;
        }
        Err(ImportError::Refused(count))
    }
}
