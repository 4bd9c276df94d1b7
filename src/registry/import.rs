//! Filings from and to files: CSV and NDJSON, plain or `.zst`, all rows or none.
//!
//! Every row is checked before the first is written. What is exported is what an import reads back.

mod export;
mod files;
mod rows;

pub use export::{export, export_to};
pub use rows::{RefusedRow, Rows};

use super::batch::{self, Mode, Read, ResultLine};
use super::model::{Action, Line, Outcome};
use super::{Registry, StoreError};
use std::net::SocketAddr;
use std::path::PathBuf;

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

/// What an import did, in rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// These rows break rules.
    #[error("{} rows were refused, so nothing was imported", .0.len())]
    Refused(Vec<RefusedRow>),
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

/// Imports rows into an open registry; `replace` makes them its whole content.
///
/// # Errors
/// `Refused` where a row is refused: nothing was imported then.
pub async fn import(registry: &Registry, rows: Rows, replace: bool) -> Result<Imported, ImportError> {
    import_as(registry, "import", rows, replace).await
}

/// `import`, with another author in the change log.
pub(super) async fn import_as(
    registry: &Registry,
    who: &str,
    rows: Rows,
    replace: bool,
) -> Result<Imported, ImportError> {
    let mode = if replace { Mode::Replace } else { Mode::Atomic };
    let read = |(line, edit): (u64, super::model::Edit)| Read {
        line,
        domain: edit.domain.to_string(),
        edit: Ok(edit),
    };
    let lines: Vec<_> = rows.edits.into_iter().map(read).collect();
    let (mut imported, mut refused) = (Imported::default(), Vec::new());
    for done in batch::run(registry, who, lines, mode).await? {
        match done.outcome {
            Ok(outcome) => imported.add(outcome),
            Err(refusal) if refusal.rule == batch::BATCH_REFUSED => {}
            Err(refusal) => refused.push(RefusedRow::new(done.line, done.domain, refusal)),
        }
    }
    if refused.is_empty() { Ok(imported) } else { Err(ImportError::Refused(refused)) }
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

/// Imports rows through the registry that is running for the database, so that its followers learn of it.
///
/// # Errors
/// As `import`, and where the registry can't be reached.
pub async fn import_via(
    address: SocketAddr,
    token: Option<&str>,
    rows: Rows,
    replace: bool,
) -> Result<Imported, ImportError> {
    let remote = |problem: String| ImportError::Remote { address, problem };
    let (body, numbers) = as_ndjson(rows)?;
    let client = reqwest::Client::builder().no_proxy().build().map_err(|error| remote(error.to_string()))?;
    let url = format!("http://{address}/v1/filings:batch?atomic=true&replace={replace}");
    let mut request = client.post(url).header("content-type", "application/x-ndjson").body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.map_err(|error| remote(error.to_string()))?;
    let status = response.status();
    let is_result = response.headers().get("content-type").is_some_and(|it| it == "application/x-ndjson");
    let answer = response.bytes().await.map_err(|error| remote(error.to_string()))?;
    if !is_result {
        return Err(remote(format!("{status} {}", String::from_utf8_lossy(&answer))));
    }
    let (mut imported, mut refused) = (Imported::default(), Vec::new());
    for line in answer.split(|octet| *octet == b'\n').filter(|it| !it.is_empty()) {
        let result: ResultLine = serde_json::from_slice(line).map_err(|error| remote(error.to_string()))?;
        match (Outcome::parse(&result.status), result.rule.as_deref()) {
            (Some(outcome), _) => imported.add(outcome),
            (None, Some(batch::BATCH_REFUSED)) => {}
            (None, _) => refused.push(RefusedRow::of_result(result, &numbers)),
        }
    }
    if refused.is_empty() && status.is_success() { Ok(imported) } else { Err(ImportError::Refused(refused)) }
}

/// The rows as a batch's body, and the file's line of each of its lines.
fn as_ndjson(rows: Rows) -> Result<(Vec<u8>, Vec<u64>), ImportError> {
    let (mut body, mut numbers) = (Vec::new(), Vec::with_capacity(rows.edits.len()));
    for (number, edit) in rows.edits {
        let deletion = Line { domain: edit.domain.to_string(), delete: true, ..Line::default() };
        let line = match edit.action {
            Action::Put(document) => Line::of(&edit.domain, &document),
            Action::Deregister => deletion,
            Action::Purge => Line { purge: true, ..deletion },
        };
        serde_json::to_writer(&mut body, &line).map_err(|error| ImportError::File(error.to_string()))?;
        body.push(b'\n');
        numbers.push(number);
    }
    Ok((body, numbers))
}
