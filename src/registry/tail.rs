//! The change log of a database that other processes write to as well, followed so that views are in step with it.
//!
//! Whoever wrote, this process learns of it in one way: notified or by the clock, it reads how far the log is, and
//! what it does not have yet. A notification only wakes; one that is lost costs a moment. Positions are given in the
//! order of commits, so what the log holds up to its position is whole.

use super::Registry;
use super::hold::{commits, log_after};
use super::store::{self, Meta, StoreError};
use super::view::Collision;
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How often the log is looked at where nothing wakes.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Before a database that is away is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How long a look may take before the connection is taken for lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far views are.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// `None` before the first look.
    at: Option<Meta>,
}

impl Registry {
    /// Follows the log until `shutdown` says true, where other processes write to it too.
    pub(super) async fn follow_log(&self, mut shutdown: watch::Receiver<bool>) {
        if !self.store.is_shared() {
            return;
        }
        tokio::select! {
            // An error means that nobody is left to say so.
            _ = shutdown.wait_for(|is_over| *is_over) => {}
            () = self.follow_forever() => {}
        }
    }

    async fn follow_forever(&self) {
        let mut listener = None;
        loop {
            if listener.is_none() {
                listener = self.store.listener().await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the database notifies nobody here for now; it is asked instead");
                    None
                });
            }
            let is_well = self.hear_log().await;
            match &mut listener {
                Some(awaited) if is_well => {
                    if woken(awaited).await.is_err() {
                        listener = None;
                        tokio::time::sleep(RETRY).await;
                    }
                }
                _ => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Brings views as far as the log is, where others write it too; says whether that is known now.
    pub(super) async fn hear_log(&self) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let mut tail = self.tail.lock().await;
        match timeout(PATIENCE, self.hear(&mut tail)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the change log can't be followed");
            }
            Err(_) => tracing::error!("the change log can't be followed: the database does not answer"),
        }
        false
    }

    /// The same, for whoever holds the tail; gives where views are then.
    pub(super) async fn hear(&self, tail: &mut Tail) -> Result<Meta, StoreError> {
        let mut reader = self.store.reader().await?;
        let mut meta = store::read_meta(&mut reader.session()).await?;
        let is_same = |it: &&Meta| it.epoch == meta.epoch && it.key == meta.key && it.seq <= meta.seq;
        let Some(mut at) = tail.at.as_ref().filter(is_same).cloned() else {
            // Another history: or the first look, when there is no view yet.
            self.forget_views_of_others(&meta);
            return Ok(self.arrive(tail, meta));
        };
        while at.seq < meta.seq && !self.feed.is_idle() {
            let Some(rows) = log_after(&mut reader.session(), at.seq, meta.seq).await? else {
                tracing::warn!(
                    after = at.seq,
                    "the change log has a gap: the feed begins anew from the database"
                );
                self.forget_views();
                break;
            };
            // Where this breaks off nobody knows how far views are: they go.
            tail.at = None;
            for (at_ms, changes) in commits(rows) {
                at.seq = changes.last().map_or(at.seq, |it| it.seq);
                if let Err(Collision) = self.show(&changes, &at, at_ms).await {
                    drop(reader);
                    let mut writer = self.store.writer().await?;
                    self.begin_epoch(&mut writer, at.epoch).await?;
                    meta = store::read_meta(&mut writer.session()).await?;
                    return Ok(self.arrive(tail, meta));
                }
            }
            tail.at = Some(at.clone());
        }
        Ok(self.arrive(tail, meta))
    }

    fn arrive(&self, tail: &mut Tail, meta: Meta) -> Meta {
        tail.at = Some(meta.clone());
        self.feed.vouch();
        meta
    }

    fn forget_views_of_others(&self, meta: &Meta) {
        self.feed.reset();
        if let Some(Err(error)) = self.feed.directory.as_ref().map(|it| it.keep_epoch(meta.epoch)) {
            // What is left is not used: it is of another epoch, or read whole before it is trusted.
            tracing::warn!(%error, "old snapshots are left");
        }
    }

    /// After a write of which nobody knows whether it came to be: the database says.
    pub(super) async fn doubt(&self) {
        if self.store.is_shared() {
            self.hear_log().await;
        } else {
            self.feed.reset();
        }
    }
}

/// Waits for a commit, or as long as one may go unheard.
async fn woken(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    match timeout(LOOK_AGAIN, listener.try_recv()).await {
        // Nothing came, or something did.
        Err(_) | Ok(Ok(Some(_))) => {}
        // The connection was lost; it is made anew by the next wait.
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(error)) => return Err(error),
    }
    // Commits that came together are heard together.
    while listener.next_buffered().is_some() {}
    Ok(())
}
