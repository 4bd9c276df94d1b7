//! How views come to be held and stay in step: from a base that was kept or is made, and the change log since.
//!
//! Nothing here holds up writers longer than it takes to look up a commit's new names, and to catch up with
//! the last few changes before a view is held.

use super::base::{Base, BaseError, BaseWriter, Directory, Head, Sorter};
use super::changes::{MAX_VIEWS, TooMany};
use super::model::Change;
use super::store::{self, Meta, Run, Session, StoreError, Stretch, Writer, now_ms};
use super::view::{Collision, MAX_KEPT_CHANGES, View, seen};
use super::{KEY_TRIES, Registry};
use crate::feed::{MAX_BATCH_ENTRIES, Position, RANGES, Summary};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a request waits for a view that is being made; the making goes on without it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Runs of documents between who reads them and who sorts them.
const QUEUED_RUNS: usize = 4;
/// Changes that are read from the log at once.
const LOG_ROWS: usize = 10_000;

/// What became of a wish for a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    Held,
    TooMany,
    BeingMade,
}

/// Why a view can't be had from a base.
#[derive(Debug)]
enum Unfit {
    /// Another epoch, or a change log that does not reach back to it.
    Base,
    /// The key of this epoch must go.
    Collision(u64),
    Store(StoreError),
}

impl<E: Into<StoreError>> From<E> for Unfit {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl From<BaseError> for StoreError {
    fn from(error: BaseError) -> Self {
        Self::Feed(error.to_string())
    }
}

impl Registry {
    /// Makes sure that the provider's view is held.
    pub(super) async fn hold_view(&self, provider: &str) -> Result<Hold, StoreError> {
        if self.feed.has(provider) {
            return Ok(Hold::Held);
        }
        let (registry, provider) = (self.clone(), Box::<str>::from(provider));
        let task = tokio::spawn(async move { registry.make_view(&provider).await });
        match tokio::time::timeout(PATIENCE, task).await {
            Ok(made) => made.map_err(|error| StoreError::Feed(error.to_string()))?,
            Err(_) => Ok(Hold::BeingMade),
        }
    }

    async fn make_view(&self, provider: &str) -> Result<Hold, StoreError> {
        let directory = self.feed.directory.as_ref().ok_or(StoreError::ReadOnly)?;
        let _building = self.feed.building.lock().await;
        if self.feed.has(provider) {
            return Ok(Hold::Held);
        }
        if !self.feed.has_room() {
            return Ok(Hold::TooMany);
        }
        let mut kept = kept_base(directory, provider).await?;
        for _ in 0..KEY_TRIES {
            let made = match kept.take() {
                Some(base) => Ok(base),
                None => self.make_base(directory, provider).await,
            };
            let held = match made {
                Ok(base) => self.hold_from(base).await,
                Err(unfit) => Err(unfit),
            };
            match held {
                Ok(hold) => {
                    directory.prune(&self.feed.providers(), MAX_VIEWS)?;
                    return Ok(hold);
                }
                Err(Unfit::Base) => {}
                Err(Unfit::Collision(epoch)) => {
                    let mut writer = self.store.writer().await?;
                    self.begin_epoch(&mut writer, epoch).await?;
                }
                Err(Unfit::Store(error)) => return Err(error),
            }
        }
        Err(StoreError::Feed("no base could be made: names collide, or too much changes".to_owned()))
    }

    /// Holds a view of this base, caught up with the log.
    async fn hold_from(&self, base: Base) -> Result<Hold, Unfit> {
        let provider = base.head().provider.clone();
        let (key, from) = (base.head().key.clone(), base.head().summary.position);
        let is_same = |meta: &Meta| {
            meta.epoch == from.epoch
                && meta.key == key
                && meta.seq.checked_sub(from.seq).is_some_and(|it| it <= MAX_KEPT_CHANGES as u64)
        };
        let mut view = View::new(Arc::new(base));
        let mut reader = self.store.reading().await?;
        let meta = store::read_meta(&mut reader.session()).await?;
        if !is_same(&meta) {
            return Err(Unfit::Base);
        }
        view = catch_up(&mut reader.session(), view, &meta).await?;
        drop(reader);
        if self.store.is_shared() {
            // Whoever holds the tail decides how far views are.
            let mut tail = self.tail.lock().await;
            let meta = self.hear(&mut tail).await?;
            if !is_same(&meta) {
                return Err(Unfit::Base);
            }
            view = catch_up(&mut self.store.reader().await?.session(), view, &meta).await?;
            return Ok(self.held(&provider, view));
        }
        let mut writer = self.store.writer().await?;
        let meta = store::read_meta(&mut writer.session()).await?;
        if !is_same(&meta) {
            return Err(Unfit::Base);
        }
        view = catch_up(&mut writer.session(), view, &meta).await?;
        Ok(self.held(&provider, view))
    }

    /// Holds a view that is as far as the others, and whose caller keeps them from going further meanwhile.
    fn held(&self, provider: &str, view: View) -> Hold {
        match self.feed.hold(provider, view, now_ms()) {
            Ok(()) => Hold::Held,
            Err(TooMany) => Hold::TooMany,
        }
    }

    /// Writes a base of what is stored, from one consistent read.
    async fn make_base(&self, directory: &Directory, provider: &str) -> Result<Base, Unfit> {
        let mut reader = self.store.reading().await?;
        let Meta { epoch, key, seq } = store::read_meta(&mut reader.session()).await?;
        let summary = Summary { position: Position { epoch, seq }, at_ms: now_ms(), ..Summary::default() };
        let head = Head { provider: provider.into(), key, summary };
        let (send, runs) = mpsc::channel(QUEUED_RUNS);
        let directory = directory.clone();
        let written = tokio::task::spawn_blocking(move || write_sorted(&directory, head, runs));
        let scanned = store::scan_runs(reader.session(), send).await;
        let written = written.await.map_err(|error| StoreError::Feed(error.to_string()))?;
        scanned?;
        written.map_err(|error| Unfit::of(error, epoch))
    }

    /// Tells the feed of a commit; a collision begins a new epoch.
    pub(super) async fn publish(
        &self,
        writer: &mut Writer<'_>,
        changes: &[Change],
        meta: &Meta,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        match self.show(changes, meta, at_ms).await {
            Ok(()) => Ok(()),
            Err(Collision) => self.begin_epoch(writer, meta.epoch).await,
        }
    }

    /// Shows a commit to every view. On a collision the epoch's key must go.
    pub(super) async fn show(&self, changes: &[Change], meta: &Meta, at_ms: i64) -> Result<(), Collision> {
        let taken = match self.feed.new_names(changes) {
            Some((base, names)) if !names.is_empty() => blocking(move || base.has_any(names)).await,
            _ => Ok(false),
        };
        match taken {
            Ok(true) => return Err(Collision),
            Ok(false) => self.feed.publish(changes, meta, at_ms)?,
            Err(error) => {
                // A view that may miss a collision is not to be had.
                tracing::error!(%error, "the feed begins anew from the database");
                self.forget_views();
            }
        }
        self.renew_bases();
        Ok(())
    }

    /// Begins a new epoch where a follower is further than the database: that was put back to an earlier state, and
    /// positions after it mean two things now. Once in a while at most, whatever followers say.
    pub(super) async fn renew_if_put_back(&self, theirs: Position) -> Result<(), StoreError> {
        let is_behind = |meta: &Meta| meta.epoch == theirs.epoch && meta.seq < theirs.seq;
        let ours = store::read_meta(&mut self.store.reader().await?.session()).await?;
        if !is_behind(&ours) || !self.feed.may_renew() {
            return Ok(());
        }
        let mut writer = self.store.writer().await?;
        let ours = store::read_meta(&mut writer.session()).await?;
        if is_behind(&ours) {
            tracing::warn!(
                seq = ours.seq,
                follower_seq = theirs.seq,
                "a gate is ahead of the database, which was put back to an earlier state: a new epoch of the feed \
                 begins, and gates take snapshots"
            );
            self.begin_epoch(&mut writer, theirs.epoch).await?;
        }
        Ok(())
    }

    /// Ends epoch `from`, where it has not ended yet: every view, and what it was made of, goes.
    pub(super) async fn begin_epoch(&self, writer: &mut Writer<'_>, from: u64) -> Result<(), StoreError> {
        self.feed.reset();
        store::new_epoch(&mut writer.session(), Some(from)).await?;
        self.forget_bases();
        Ok(())
    }

    /// Drops every view, and what it was made of.
    pub(super) fn forget_views(&self) {
        self.feed.reset();
        self.forget_bases();
    }

    fn forget_bases(&self) {
        if let Some(Err(error)) = self.feed.directory.as_ref().map(|it| it.prune(&[], 0)) {
            // What is left is not used: it is of another epoch, or read whole before it is trusted.
            tracing::warn!(%error, "old snapshots are left");
        }
    }

    /// Makes new bases of those that have grown old, aside; at most one is being made at a time.
    fn renew_bases(&self) {
        let Some(directory) = self.feed.directory.clone().filter(|_| self.feed.has_old_base()) else {
            return;
        };
        let Ok(building) = self.feed.building.clone().try_lock_owned() else { return };
        let feed = self.feed.clone();
        tokio::spawn(async move {
            let _building = building;
            while let Some((head, layers)) = feed.next_old_base(now_ms()) {
                let directory = directory.clone();
                let written = blocking(move || {
                    let mut writer = BaseWriter::create(&directory, head)?;
                    layers.sorted().each(0..RANGES, |entry| writer.push(entry))?;
                    writer.finish()
                });
                match written.await {
                    Ok(base) => feed.rebase(base),
                    Err(error) => return tracing::error!(%error, "no new snapshot could be made"),
                }
            }
        });
    }
}

impl Unfit {
    fn of(error: BaseError, epoch: u64) -> Self {
        match error {
            BaseError::Collision => Self::Collision(epoch),
            other => Self::Store(other.into()),
        }
    }
}

/// Does what blocks, away from whoever must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BaseError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| StoreError::Feed(error.to_string()))??)
}

/// The base that an earlier run left; one that is damaged is as good as none.
async fn kept_base(directory: &Directory, provider: &str) -> Result<Option<Base>, StoreError> {
    let (directory, provider) = (directory.clone(), Box::<str>::from(provider));
    blocking(move || match Base::open(&directory, &provider) {
        Err(BaseError::Damaged { path, problem }) => {
            tracing::warn!(path = %path.display(), problem, "a snapshot is damaged and made anew");
            Ok(None)
        }
        other => other,
    })
    .await
}

/// Sorts documents as they come, and writes them as a base.
pub(super) fn write_sorted(
    directory: &Directory,
    mut head: Head,
    mut runs: mpsc::Receiver<Run>,
) -> Result<Base, BaseError> {
    let mut sorter = Sorter::new(directory, &head.provider, head.key.clone());
    // Without its end a scan broke off, and must not become a base.
    while let Run::Documents(run) = runs.blocking_recv().ok_or(BaseError::BrokeOff)? {
        for (domain, document) in run {
            let entry = seen(&head.provider, head.key.fingerprint(&domain), &domain, Some(&document));
            if !entry.is_delete() {
                sorter.push(&entry)?;
            }
        }
    }
    (head.summary.count, head.summary.digest) = (sorter.count, sorter.digest);
    let mut writer = BaseWriter::create(directory, head)?;
    sorter.sorted(|entry| writer.push(entry))?;
    writer.finish()
}

/// Applies what the log has after the view's position, up to `meta`.
async fn catch_up(log: &mut Session<'_>, mut view: View, meta: &Meta) -> Result<View, Unfit> {
    while view.position().seq < meta.seq {
        let rows = log_after(log, view.position().seq, meta.seq).await?.ok_or(Unfit::Base)?;
        let applied = tokio::task::spawn_blocking(move || apply(view, rows)).await;
        let applied = applied.map_err(|error| StoreError::Feed(error.to_string()))?;
        view = applied.map_err(|error| Unfit::of(error, meta.epoch))?;
    }
    Ok(view)
}

/// The next rows of the log, at most up to `to`; `None` where one is missing.
pub(super) async fn log_after(
    log: &mut Session<'_>,
    after: u64,
    to: u64,
) -> Result<Option<Vec<(i64, Change)>>, StoreError> {
    let rows = store::changes_in(log, Stretch { after, to, most: LOG_ROWS }).await?;
    let is_whole = rows.iter().zip(after + 1..).all(|((_, it), seq)| it.seq == seq);
    Ok(Some(rows).filter(|rows| !rows.is_empty() && is_whole))
}

/// Rows of the log by commit, each with its time.
///
/// A commit's changes have one time, and a name but once. Two commits that look like one are no harm.
pub(super) fn commits(rows: Vec<(i64, Change)>) -> impl Iterator<Item = (i64, Vec<Change>)> {
    let mut rows = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let (at_ms, first) = rows.next()?;
        let mut names = HashSet::from([first.domain.clone()]);
        let mut changes = vec![first];
        while let Some((_, change)) = rows.next_if(|(at, it)| {
            *at == at_ms && changes.len() < MAX_BATCH_ENTRIES && !names.contains(&it.domain)
        }) {
            names.insert(change.domain.clone());
            changes.push(change);
        }
        Some((at_ms, changes))
    })
}

fn apply(mut view: View, rows: Vec<(i64, Change)>) -> Result<View, BaseError> {
    for (at_ms, changes) in commits(rows) {
        let (base, new) = view.new_names(&changes);
        if base.has_any(new)? {
            return Err(BaseError::Collision);
        }
        let end = Position { seq: changes.last().map_or(0, |it| it.seq), ..view.position() };
        view.apply(&changes, end, at_ms).map_err(|Collision| BaseError::Collision)?;
    }
    Ok(view)
}
