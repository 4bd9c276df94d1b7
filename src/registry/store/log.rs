//! The change log, as the feed reads it.

use super::StoreError;
use crate::registry::model::{Change, Document, PutBody};
use sqlx::{Row, SqliteConnection};

/// The first changes after `seq`, each with when it was committed.
pub(in crate::registry) async fn changes_after(
    connection: &mut SqliteConnection,
    seq: u64,
    most: usize,
) -> Result<Vec<(i64, Change)>, StoreError> {
    let sql = "SELECT seq, at_ms, domain, before, after FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = sqlx::query(sql).bind(seq.cast_signed()).bind(most).fetch_all(connection).await?;
    let document = |json: Option<&str>| -> Result<Option<Document>, StoreError> {
        let Some(json) = json else { return Ok(None) };
        let body: PutBody = serde_json::from_str(json)
            .map_err(|error| StoreError::Corrupt(format!("the change log: {error}")))?;
        Ok(Some(Document::as_logged(body)))
    };
    let change = |row: &sqlx::sqlite::SqliteRow| -> Result<(i64, Change), StoreError> {
        let seq = row.try_get::<i64, _>(0)?.cast_unsigned();
        let domain = row.try_get::<&str, _>(2)?.into();
        let (before, after) = (document(row.try_get(3)?)?, document(row.try_get(4)?)?);
        Ok((row.try_get(1)?, Change { seq, domain, before, after }))
    };
    rows.iter().map(change).collect()
}
