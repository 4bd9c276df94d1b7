//! A file of many rows: aside first, checked there, swapped in by one transaction.
//!
//! Until the swap nothing of it is to be seen, and the registry reads, writes and feeds as ever. Writers wait for the swap alone.

use super::{Events, ImportError, Imported, Phase, RefusedRow, Rows, Terms};
use crate::registry::model::Who;
use crate::registry::store::{self, Author, Differences, Stage, Swapped, now_ms};
use crate::registry::{Registry, StoreError};
use futures_util::StreamExt;
use std::sync::Arc;

/// What became of rows that were aside.
enum Outcome {
    Swapped(Swapped, Stage),
    /// Nothing is swapped in, for this.
    Refused(ImportError, Stage),
}

/// Imports what is aside and what `rows` still brings.
pub(super) async fn import(
    (registry, who): (&Registry, &Who),
    mut stage: Stage,
    mut rows: Rows,
    terms: Terms,
    events: Events,
) -> Result<Imported, ImportError> {
    while let Some((run, mark)) = rows.next().await {
        stage.push(run, mark.as_ref()).await?;
    }
    // What is aside stays there: the same file may come again, and whole.
    rows.end().await?;
    events.phase(Phase::Checking).await;
    let refused = stage.check(terms.is_whole).await?;
    if refused > 0 && (terms.is_strict || stage.left_over() == 0) {
        return refuse(ImportError::Refused(refused), stage, &events).await;
    }
    events.phase(Phase::Comparing).await;
    let found = stage.differences(terms.is_whole).await?;
    if let Some(error) = refusal(&stage, &found, terms) {
        return refuse(error, stage, &events).await;
    }
    if terms.is_dry_run {
        let imported = stage.would_be(&found).await?.into();
        events.left_out(imported, Vec::new()).await;
        name_refused(stage, &events).await?;
        return Ok(imported);
    }
    // Runs to its end even if the caller goes away, for a commit that the feed does not learn of would leave
    // followers wrong.
    let events = Arc::new(events);
    let swap = swap((registry.clone(), who.clone()), stage, found, terms, events.clone());
    let swapped = tokio::spawn(swap).await;
    match swapped.map_err(|error| StoreError::Corrupt(format!("a swap did not finish: {error}")))?? {
        Outcome::Swapped(swapped, stage) => {
            let imported = swapped.into();
            events.left_out(imported, Vec::new()).await;
            name_refused(stage, &events).await?;
            Ok(imported)
        }
        Outcome::Refused(error, stage) => refuse(error, stage, &events).await,
    }
}

impl From<Swapped> for Imported {
    fn from(swapped: Swapped) -> Self {
        let Swapped { created, updated, unchanged, deleted, refused, .. } = swapped;
        Self { created, updated, unchanged, deleted, refused }
    }
}

/// Why rows that were held against the content can't be swapped in.
fn refusal(stage: &Stage, found: &Differences, terms: Terms) -> Option<ImportError> {
    let refused = stage.refused_so_far() + found.refused;
    if found.forgets > 0 {
        return Some(ImportError::Forgets(refused));
    }
    let is_nothing_left = refused > 0 && stage.left_over() == found.refused;
    (is_nothing_left || (terms.is_strict && refused > 0)).then_some(ImportError::Refused(refused))
}

async fn refuse(error: ImportError, stage: Stage, events: &Events) -> Result<Imported, ImportError> {
    name_refused(stage, events).await?;
    Err(error)
}

/// Names the rows that are refused, and ends what is aside.
async fn name_refused(mut stage: Stage, events: &Events) -> Result<(), StoreError> {
    let mut rows = stage.refused();
    while let Some(row) = rows.next().await {
        let store::RefusedRow { line, domain, rule, detail, detail_zh } = row?;
        events.refused(RefusedRow { line, domain, rule, detail, detail_zh }).await;
    }
    drop(rows);
    stage.close().await
}

async fn swap(
    (registry, who): (Registry, Who),
    mut stage: Stage,
    mut found: Differences,
    terms: Terms,
    events: Arc<Events>,
) -> Result<Outcome, StoreError> {
    let mut writer = registry.store.writer_at_last().await?;
    events.phase(Phase::Swapping).await;
    let at_ms = now_ms();
    let author = Author { who: &who, at_ms };
    let limits = store::Terms { author, most_fed: registry.most_fed };
    let swapped = loop {
        match stage.swap(&found, limits).await {
            Ok(Some(swapped)) => break swapped,
            // Someone wrote since; now that the writer is ours, nobody else will.
            Ok(None) => found = stage.differences(terms.is_whole).await?,
            Err(error) => {
                // Whether a commit that failed was one is for the database to say.
                drop(writer);
                registry.doubt().await;
                return Err(error);
            }
        }
        if let Some(error) = refusal(&stage, &found, terms) {
            return Ok(Outcome::Refused(error, stage));
        }
    };
    match &swapped.fed {
        _ if registry.store.is_shared() => {}
        Some(changes) => registry.publish(&mut writer, changes, &swapped.meta, at_ms).await?,
        None => registry.forget_views(),
    }
    drop(writer);
    registry.hear_log().await;
    events.phase(Phase::Settling).await;
    stage.settle().await?;
    Ok(Outcome::Swapped(swapped, stage))
}
