//! What the feed reads: all filings without what no gate needs, and the change log.

use super::StoreError;
use super::rows::Decoder;
use crate::registry::model::{Change, Document, PutBody};
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection};
use std::sync::Arc;
use tokio::sync::mpsc;

/// As `rows::COLUMNS`, without what is known about a filing beside what decides.
const COLUMNS: &str = "SELECT d.domain, d.state, COALESCE(d.site, d.former_number), \
    COALESCE(d.own_access, \
        (SELECT json_group_object(a.provider, a.state) FROM accesses a WHERE a.site = d.site)) \
    FROM domains d";
/// Documents in a run.
const RUN: usize = 1024;

/// A part of a scan.
pub(in crate::registry) enum Run {
    Documents(Vec<(Arc<str>, Document)>),
    /// Nothing is missing.
    End,
}

/// Sends every document, by runs, then the end; ends early where nobody listens any more.
pub(in crate::registry) async fn scan_runs(
    connection: &mut SqliteConnection,
    to: mpsc::Sender<Run>,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(COLUMNS).fetch(connection);
    let (mut decoder, mut run) = (Decoder::default(), Vec::with_capacity(RUN));
    while let Some(row) = rows.try_next().await? {
        run.push(decoder.decode_deciding(&row)?);
        if run.len() < RUN {
            continue;
        }
        let run = std::mem::replace(&mut run, Vec::with_capacity(RUN));
        if to.send(Run::Documents(run)).await.is_err() {
            // Whoever stopped listening says why.
            return Ok(());
        }
    }
    let _ = to.send(Run::Documents(run)).await;
    let _ = to.send(Run::End).await;
    Ok(())
}

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
