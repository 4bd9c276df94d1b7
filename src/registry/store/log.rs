//! The change log, as the feed reads it.

use super::StoreError;
use super::session::{Row, Session};
use crate::registry::model::{Change, Document, PutBody};

/// A stretch of the log.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Stretch {
    /// Changes after this one …
    pub(in crate::registry) after: u64,
    /// … up to and with this one,
    pub(in crate::registry) to: u64,
    /// but no more than so many.
    pub(in crate::registry) most: usize,
}

/// The first changes of a stretch, each with when it was committed.
pub(in crate::registry) async fn changes_in(
    session: &mut Session<'_>,
    stretch: Stretch,
) -> Result<Vec<(i64, Change)>, StoreError> {
    let sql = "SELECT seq, at_ms, domain, before, after FROM changes WHERE seq > $1 AND seq <= $2 \
               ORDER BY seq LIMIT $3";
    let most = i64::try_from(stretch.most).unwrap_or(i64::MAX);
    let values = [stretch.after.cast_signed().into(), stretch.to.cast_signed().into(), most.into()];
    session.rows(sql, &values).await?.iter().map(change).collect()
}

fn change(row: &Row) -> Result<(i64, Change), StoreError> {
    let seq = row.integer(0)?.cast_unsigned();
    let domain = row.some_text(2)?.into();
    let (before, after) = (document(row.text(3)?)?, document(row.text(4)?)?);
    Ok((row.integer(1)?, Change { seq, domain, before, after }))
}

fn document(json: Option<&str>) -> Result<Option<Document>, StoreError> {
    let Some(json) = json else { return Ok(None) };
    let body: PutBody = serde_json::from_str(json)
        .map_err(|error| StoreError::Corrupt(format!("a document in the change log: {error}")))?;
    Ok(Some(Document::as_logged(body)))
}
