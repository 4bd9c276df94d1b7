//! All filings for the feed, without what no gate needs, many to an answer.
//!
//! An answer's row costs a turn of two threads, so a row carries thousands of filings as one text. Those with a site
//! come by site, in the order in which accesses lie, so that neither tree is read at random. All that is SQLite's;
//! PostgreSQL sends rows as they come.

use super::StoreError;
use super::rows::{Decoder, deciding_columns};
use super::session::Session;
use crate::registry::model::Document;
use futures_util::TryStreamExt;
use sqlx::SqliteConnection;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Documents in a run.
const RUN: i64 = 4096;
/// What ends a field and a filing in an answer: no name, number or JSON holds them as they are.
const FIELD_END: char = '\u{1f}';
const FILING_END: char = '\u{1e}';

/// After a site, a state and a name: those that have a site.
const WITH_SITE: &str = "SELECT group_concat(domain || char(31) || state || char(31) || site || char(31) || access, \
    char(30)) FROM (SELECT d.domain, d.state, d.site, \
        (SELECT json_group_object(a.provider, a.state) FROM accesses a WHERE a.site = d.site) AS access \
        FROM domains d INDEXED BY domains_by_site WHERE d.site IS NOT NULL AND \
        (d.site, d.state, d.domain) > (?1, ?2, ?3) ORDER BY d.site, d.state, d.domain LIMIT ?4)";
/// After a name: the others. The first two values are not asked for.
const WITHOUT_SITE: &str = "SELECT group_concat(domain || char(31) || state || char(31) || coalesce(former_number, '') \
    || char(31) || coalesce(own_access, ''), char(30)) FROM (SELECT domain, state, former_number, own_access \
        FROM domains WHERE site IS NULL AND ?1 IS NOT NULL AND ?2 IS NOT NULL AND domain > ?3 ORDER BY domain LIMIT ?4)";

/// A part of a scan.
pub(in crate::registry) enum Run {
    Documents(Vec<(Arc<str>, Document)>),
    /// Nothing is missing.
    End,
}

/// Sends every document, by runs, then the end; ends early where nobody listens any more.
pub(in crate::registry) async fn scan_runs(
    session: Session<'_>,
    to: mpsc::Sender<Run>,
) -> Result<(), StoreError> {
    match session {
        Session::Sqlite(connection) => scan_texts(connection, to).await,
        Session::Postgres(_) => scan_rows(session, to).await,
    }
}

async fn scan_rows(session: Session<'_>, to: mpsc::Sender<Run>) -> Result<(), StoreError> {
    let sql = deciding_columns(session.dialect());
    let mut rows = session.stream(sql, &[]);
    let most = usize::try_from(RUN).unwrap_or_default();
    let (mut decoder, mut run) = (Decoder::default(), Vec::with_capacity(most));
    while let Some(row) = rows.try_next().await? {
        run.push(decoder.decode_deciding(&row)?);
        if run.len() < most {
            continue;
        }
        let run = std::mem::replace(&mut run, Vec::with_capacity(most));
        if to.send(Run::Documents(run)).await.is_err() {
            // Whoever stopped listening says why.
            return Ok(());
        }
    }
    let _ = to.send(Run::Documents(run)).await;
    let _ = to.send(Run::End).await;
    Ok(())
}

async fn scan_texts(connection: &mut SqliteConnection, to: mpsc::Sender<Run>) -> Result<(), StoreError> {
    let mut decoder = Decoder::default();
    for sql in [WITH_SITE, WITHOUT_SITE] {
        let mut last = [const { String::new() }; 3];
        loop {
            let [site, state, domain] = &last;
            let query = sqlx::query_scalar(sql).bind(site).bind(state).bind(domain).bind(RUN);
            let Some(text) = query.fetch_one(&mut *connection).await? else { break };
            let text: String = text;
            let mut run = Vec::with_capacity(usize::try_from(RUN).unwrap_or_default());
            for filing in text.split(FILING_END) {
                let fields = fields_of(filing)?;
                run.push(decoder.decode_fields(fields)?);
            }
            let [domain, state, number, _] = fields_of(text.rsplit(FILING_END).next().unwrap_or_default())?;
            last = [number, state, domain].map(str::to_owned);
            if to.send(Run::Documents(run)).await.is_err() {
                // Whoever stopped listening says why.
                return Ok(());
            }
        }
    }
    let _ = to.send(Run::End).await;
    Ok(())
}

fn fields_of(filing: &str) -> Result<[&str; 4], StoreError> {
    let mut fields = filing.split(FIELD_END);
    let found = std::array::from_fn(|_| fields.next());
    match found {
        [Some(domain), Some(state), Some(number), Some(access)] if fields.next().is_none() => {
            Ok([domain, state, number, access])
        }
        _ => Err(StoreError::Corrupt("a filing holds a control character".to_owned())),
    }
}
