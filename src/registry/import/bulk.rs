//! A file of many rows: aside first, checked there, swapped in by one transaction.
//!
//! Until the swap nothing of it is to be seen, and the registry reads, writes and feeds as ever. Writers wait for the swap alone.

use super::{Events, ImportError, Imported, Phase, RefusedRow, Rows};
use crate::registry::batch::Read;
use crate::registry::store::{self, Author, Differences, Stage, Swapped, Terms, now_ms};
use crate::registry::{Registry, StoreError};
use futures_util::StreamExt;
use std::sync::Arc;

/// What became of rows that were aside.
enum Outcome {
    Swapped(Swapped),
    /// So many can't be done.
    Refused(u64, Stage),
}

/// Imports `first` and what `rows` still brings.
pub(super) async fn import(
    registry: &Registry,
    who: &str,
    first: Vec<Read>,
    mut rows: Rows,
    is_whole: bool,
    events: Events,
) -> Result<Imported, ImportError> {
    let Some(mut stage) = registry.store.stage().await? else {
        return super::at_once(registry, who, first, rows, is_whole, &events).await;
    };
    stage.push(first).await?;
    while let Some(run) = rows.next().await {
        stage.push(run).await?;
    }
    rows.end().await?;
    events.phase(Phase::Checking).await;
    let refused = stage.check().await?;
    if refused > 0 {
        return refuse(stage, refused, &events).await;
    }
    events.phase(Phase::Comparing).await;
    let found = stage.differences(is_whole).await?;
    if found.refused > 0 {
        return refuse(stage, found.refused, &events).await;
    }
    // Runs to its end even if the caller goes away, for a commit that the feed does not learn of would leave
    // followers wrong.
    let events = Arc::new(events);
    let swap = swap(registry.clone(), who.to_owned(), stage, found, is_whole, events.clone());
    let swapped = tokio::spawn(swap).await;
    match swapped.map_err(|error| StoreError::Corrupt(format!("a swap did not finish: {error}")))?? {
        Outcome::Swapped(Swapped { created, updated, unchanged, deleted, .. }) => {
            Ok(Imported { created, updated, unchanged, deleted })
        }
        Outcome::Refused(count, stage) => refuse(stage, count, &events).await,
    }
}

async fn refuse(mut stage: Stage, count: u64, events: &Events) -> Result<Imported, ImportError> {
    let mut rows = stage.refused();
    while let Some(row) = rows.next().await {
        let store::RefusedRow { line, domain, rule, detail, detail_zh } = row?;
        events.refused(RefusedRow { line, domain, rule, detail, detail_zh }).await;
    }
    drop(rows);
    stage.close().await?;
    Err(ImportError::Refused(count))
}

async fn swap(
    registry: Registry,
    who: String,
    mut stage: Stage,
    mut found: Differences,
    is_whole: bool,
    events: Arc<Events>,
) -> Result<Outcome, StoreError> {
    let mut writer = registry.store.writer_at_last().await?;
    events.phase(Phase::Swapping).await;
    let at_ms = now_ms();
    let author = Author { who: &who, at_ms };
    let terms = Terms { author, most_fed: registry.most_fed };
    let swapped = loop {
        match stage.swap(&found, terms).await {
            Ok(Some(swapped)) => break swapped,
            // Someone wrote since; now that the writer is ours, nobody else will.
            Ok(None) => found = stage.differences(is_whole).await?,
            Err(error) => {
                // Whether a commit that failed was one is for the database to say.
                drop(writer);
                registry.doubt().await;
                return Err(error);
            }
        }
        if found.refused > 0 {
            return Ok(Outcome::Refused(found.refused, stage));
        }
    };
    match &swapped.fed {
        Some(changes) => registry.publish(&mut writer, changes, &swapped.meta, at_ms).await?,
        None => registry.forget_views(),
    }
    drop(writer);
    events.phase(Phase::Settling).await;
    stage.settle().await?;
    stage.close().await?;
    Ok(Outcome::Swapped(swapped))
}
