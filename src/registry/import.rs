//! Filings from and to files: CSV and NDJSON, plain or `.zst`. Rows that a rule refuses are left out, or refuse the file.
//!
//! A small file is one transaction, fed to followers change by change. A larger one is set aside row by row while it is
//! read, checked there, and swapped in at once as a new epoch: memory does not grow with it. What is exported is what an
//! import reads back.

mod bulk;
mod export;
mod files;
mod looked_up;
mod maps;
mod receive;
mod rows;
mod tables;
mod via;
mod wanting;

pub use export::{export, export_to};
pub use files::Source;
pub(super) use receive::post;
pub use rows::RefusedRow;
pub use via::{At, import_via};
pub use wanting::Wanting;

use super::batch::{self, Done, Mode, Read};
use super::model::Outcome;
use super::model::Who;
use super::routes::ended;
use super::store::Mark;
use super::{Registry, StoreError};
use rows::Handed;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long what an import set aside waits to be gone on with.
const LEFT_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How often that is looked at.
const SWEPT_EVERY: Duration = Duration::from_secs(3600);

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
    /// Lines of a name and its number, as nginx and HAProxy read them.
    Map,
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
    /// Rows that were left out.
    #[serde(default)]
    pub refused: u64,
}

/// How a file is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Its rows are the whole content: what is not among them is forgotten.
    pub is_whole: bool,
    /// One refused row refuses the file.
    pub is_strict: bool,
    /// Nothing is written: what would become of the rows is said.
    pub is_dry_run: bool,
}

/// Why nothing was imported, or not everything exported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// So many rows break rules; each was an event.
    #[error("{0} rows were refused, so nothing was imported")]
    Refused(u64),
    /// Of so many refused rows some are about filings that the file would forget, being the whole content.
    #[error(
        "of {0} refused rows some are about filings that --replace would forget, so nothing was imported: put those right"
    )]
    Forgets(u64),
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
    /// A row is refused.
    Refused(RefusedRow),
    /// Rows were imported; those that were left out follow.
    Done(Imported),
    /// So many rows were set aside by an import of the same file that was cut off: this one goes on after them.
    Resumed(u64),
}

/// Imports rows into an open registry. Waits for whoever takes `events`.
///
/// # Errors
/// Nothing was imported then: `Refused` where no row is left, or one is refused and the terms are strict; `Forgets` where
/// the rows would be the whole content without filings that they mean to keep.
pub async fn import(
    registry: &Registry,
    source: Source,
    terms: Terms,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    let who = Who { why: source.why.clone(), ..Who::named("import") };
    import_as(registry, who, source, terms, events).await
}

/// `import`, with another author in the change log.
pub(super) async fn import_as(
    registry: &Registry,
    who: Who,
    source: Source,
    terms: Terms,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    let events = Events(events);
    let (left, marks) = registry.store.left_aside().await?.unzip();
    let mut rows = Rows::read(source, marks.unwrap_or_default());
    if let Some(mut stage) = left {
        if let Some(mark) = rows.from().await {
            stage.go_on_after(&mark).await?;
            events.resumed(mark.rows).await;
            return bulk::import((registry, &who), stage, rows, terms, events).await;
        }
        stage.leave().await?;
    }
    let mut first = Vec::new();
    let (mut count, mut is_over) = (0, false);
    while count <= registry.most_fed && !is_over {
        match rows.next().await {
            Some(run) => {
                count += run.0.len();
                first.push(run);
            }
            None => is_over = true,
        }
    }
    if count > registry.most_fed
        || (terms.is_whole && registry.store.has_more_than(registry.most_fed).await?)
    {
        let mut stage = registry.store.stage().await?;
        for (run, mark) in first {
            stage.push(run, mark.as_ref()).await?;
        }
        return bulk::import((registry, &who), stage, rows, terms, events).await;
    }
    rows.end().await?;
    let first = first.into_iter().flat_map(|(rows, _)| rows).collect();
    at_once((registry, &who), first, terms, &events).await
}

/// Removes what imports left that were cut off and that nobody goes on with; ends where the registry does.
pub(super) async fn sweep(registry: &Registry, shutdown: watch::Receiver<bool>) {
    loop {
        // Not at once: whoever restarted a registry may be about to go on with an import.
        tokio::select! {
            () = tokio::time::sleep(SWEPT_EVERY) => {}
            () = ended(shutdown.clone()) => return,
        }
        match registry.store.sweep(LEFT_FOR).await {
            Ok(true) => {
                tracing::info!("what an import left that was cut off is removed: nobody went on with it");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "what an import left stays");
            }
        }
    }
}

/// Imports rows as one transaction, in memory.
async fn at_once(
    (registry, who): (&Registry, &Who),
    first: Vec<Read>,
    terms: Terms,
    events: &Events,
) -> Result<Imported, ImportError> {
    let rows = rows::checked(first, terms.is_whole);
    if terms.is_strict && rows.iter().any(|it| it.edit.is_err()) {
        return events.refuse(rows.into_iter().filter_map(RefusedRow::of_read).collect()).await;
    }
    events.phase(Phase::Swapping).await;
    let done = batch::run((registry, who), rows, Mode::of(terms), terms.is_dry_run).await?;
    let is_undone = !done.is_empty() && done.iter().all(|it| it.outcome.is_err());
    let (mut imported, mut refused, mut forgets) = (Imported::default(), Vec::new(), false);
    for Done { line, domain, outcome } in done {
        match outcome {
            Ok(outcome) => imported.add(outcome),
            Err(refusal) if refusal.rule == batch::BATCH_REFUSED => forgets = true,
            Err(refusal) => refused.push(RefusedRow::new(line, domain, refusal)),
        }
    }
    imported.refused = refused.len() as u64;
    if !is_undone {
        events.left_out(imported, refused).await;
        return Ok(imported);
    }
    match events.refuse(refused).await {
        Err(ImportError::Refused(rows)) if forgets && !terms.is_strict => Err(ImportError::Forgets(rows)),
        other => other,
    }
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
    runs: mpsc::Receiver<Handed>,
    reading: JoinHandle<Result<(), ImportError>>,
}

impl Rows {
    fn read(source: Source, known: Vec<Mark>) -> Self {
        let (sender, runs) = mpsc::channel(RUNS_AHEAD);
        let reading = tokio::task::spawn_blocking(move || {
            rows::read(source, known, |handed| {
                matches!(&handed, Handed::Rows(rows, _) if rows.is_empty())
                    || sender.blocking_send(handed).is_ok()
            })
        });
        Self { runs, reading }
    }

    /// After which mark rows begin, where marks were known; `None` where the file is another one.
    async fn from(&mut self) -> Option<Mark> {
        match self.runs.recv().await {
            Some(Handed::From(mark)) => mark,
            Some(Handed::Rows(..)) | None => None,
        }
    }

    /// The next ones; `None` at the end, good or bad.
    async fn next(&mut self) -> Option<(Vec<Read>, Option<Mark>)> {
        loop {
            match self.runs.recv().await? {
                Handed::Rows(rows, mark) => return Some((rows, mark)),
                Handed::From(_) => {}
            }
        }
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

    async fn resumed(&self, rows: u64) {
        let _ = self.0.send(Event::Resumed(rows)).await;
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

    /// Says what was imported, where something was left out, and what that was.
    async fn left_out(&self, imported: Imported, rows: Vec<RefusedRow>) {
        if imported.refused > 0 {
            let _ = self.0.send(Event::Done(imported)).await;
        }
        for row in rows {
            self.refused(row).await;
        }
    }
}
