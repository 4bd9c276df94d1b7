//! The exchanges that bring a state: a snapshot, its changes, and a repair of what differs.

use super::hold::Bounds;
use super::stats::count;
use super::stream::{Ask, Failure, Frames, Rest, open};
use super::{Follower, Partial, now};
use crate::cache::{Assembly, Batch, Effect, FilingCache, Refusal, Repaired, Table, Taken};
use crate::feed::{Digest, Entry, EpochKey, Frame, Position, RANGES, Summary, range_of};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The most filings that a repair may bring; where more differ, a snapshot does better.
const MAX_REPAIR_ENTRIES: usize = 4 << 20;
/// A batch of more entries is applied by another thread. Few enough that these cost less than a millisecond.
const MAX_INLINE_ENTRIES: usize = if cfg!(test) { 8 } else { 512 };

impl Follower {
    /// Takes the whole state, and shows it if it adds up. What a cut leaves is gone on with next time.
    pub(super) async fn snapshot(&mut self) -> Result<(), Failure> {
        let taken = self.assemble().await;
        let may_go_on = taken.as_ref().err().is_some_and(Failure::is_cut)
            && self.partial.as_ref().is_some_and(|partial| partial.etag.is_some());
        if !may_go_on {
            self.partial = None;
        }
        let table = taken?;
        let (position, filings) = (table.position(), table.count());
        let (cache, bounds, now) = (Arc::clone(&self.cache), self.bounds.clone(), now());
        let shown =
            tokio::task::spawn_blocking(move || cache.supersede(table, |effect| bounds.permits(effect, now)));
        // A panic in there would be a bug; it is a failed snapshot here.
        let effect = match shown.await.map_err(|_| Failure::Ranges)? {
            Err(Refusal::Held(effect)) if self.cache.waiting().is_some() => {
                self.stats.count_refused(super::Refused::Held);
                self.tell_held(effect);
                return Ok(());
            }
            shown => shown?,
        };
        self.applied(effect, now);
        count(&self.stats.snapshots);
        self.saver.want(true);
        self.in_force.notify_one();
        tracing::info!(
            filings,
            epoch = position.epoch,
            seq = position.seq,
            "took a snapshot of the registry"
        );
        Ok(())
    }

    async fn assemble(&mut self) -> Result<Table, Failure> {
        let begun = self.partial.as_ref().filter(|partial| partial.whole > 0);
        let rest = begun.and_then(|it| Some(Rest { from: it.whole, etag: it.etag.clone()? }));
        let mut frames = open(&*self.registry, Ask::Snapshot(rest), &self.pace).await?;
        let mut partial = match self.partial.take() {
            Some(partial) if frames.from > 0 => {
                count(&self.stats.resumed_snapshots);
                partial
            }
            _ => {
                let assembly = Assembly::new(&self.provider);
                Partial { assembly, whole: 0, etag: frames.etag.clone() }
            }
        };
        loop {
            let next = self.frame(&mut frames, self.pace.snapshot_frame).await;
            let frame = match next.and_then(|frame| frame.ok_or(Failure::Truncated)) {
                Ok(frame) => frame,
                Err(failure) => {
                    self.partial = Some(partial);
                    return Err(failure);
                }
            };
            if let Some((table, _)) = partial.assembly.take(frame)? {
                return Ok(table);
            }
            partial.whole = frames.whole;
        }
    }

    /// Takes changes after `held` until something is wrong.
    pub(super) async fn changes(&mut self, held: Position) -> Result<Infallible, Failure> {
        let mut frames = open(&*self.registry, Ask::Changes(held), &self.pace).await?;
        let began = tokio::time::Instant::now();
        // Where the stream begins says what was held there, not that it is current.
        let mut is_first_current = std::mem::take(&mut self.trusts_first);
        let mut is_first = true;
        loop {
            let next = self.frame(&mut frames, self.pace.silence).await?;
            let now = now();
            match next.ok_or(Failure::Ended)? {
                Frame::Batch { after, entries, summary } => {
                    self.take_batch(Changes { after, entries, summary }, now).await?;
                }
                Frame::Heartbeat(summary) if is_first && !std::mem::take(&mut is_first_current) => {
                    self.cache.agree(&summary)?;
                }
                Frame::Heartbeat(summary) => self.take_heartbeat(&summary, now)?,
                Frame::Snapshot { .. } | Frame::Entries(_) | Frame::End | Frame::Ranges { .. } => {
                    return Err(Failure::Order);
                }
            }
            self.trusts_first |= !is_first;
            is_first = false;
            (self.partial, self.failed_repairs) = (None, 0);
            self.in_force.notify_one();
            self.stats.set_connected(true);
            self.stats.set_error(None);
            if began.elapsed() >= self.pace.stable_after {
                self.backoff.reset();
            }
        }
    }

    async fn take_batch(&mut self, changes: Changes, now: Instant) -> Result<(), Failure> {
        let changes = Arc::new(changes);
        let batch = &changes.batch();
        match self.apply(&changes, now).await? {
            Ok(Taken::Applied(effect)) => {
                self.applied(effect, now);
                self.saver.want(false);
            }
            Ok(Taken::Waits(single)) => {
                self.enforced_ahead(single, now);
                self.tell_held(single);
            }
            Err(Refusal::Held(effect)) if self.cache.waiting().is_none() => {
                self.cache.hold(batch, now)?;
                self.stats.count_refused(super::Refused::Held);
                self.tell_held(effect);
                return Ok(());
            }
            Err(refusal) => return Err(refusal.into()),
        }
        count(&self.stats.batches);
        self.stats.changes.fetch_add(batch.entries.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Verifies and applies changes; many of them away from whoever else is served here.
    async fn apply(&self, changes: &Arc<Changes>, now: Instant) -> Result<Result<Taken, Refusal>, Failure> {
        if changes.entries.len() <= MAX_INLINE_ENTRIES {
            let bounds = &self.bounds;
            return Ok(self.cache.apply(&changes.batch(), now, |effect| bounds.permits(effect, now)));
        }
        let (cache, bounds, changes) = (Arc::clone(&self.cache), self.bounds.clone(), Arc::clone(changes));
        let apply = move || cache.apply(&changes.batch(), now, |effect| bounds.permits(effect, now));
        // A panic in there would be a bug; it is a failed stream here.
        tokio::task::spawn_blocking(apply).await.map_err(|_| Failure::Ended)
    }

    fn take_heartbeat(&mut self, summary: &Summary, now: Instant) -> Result<(), Failure> {
        self.cache.confirm(summary, now)?;
        count(&self.stats.heartbeats);
        self.caught_up(now);
        Ok(())
    }

    /// Asks what differs from the ranges that are held, and puts that right if it adds up.
    pub(super) async fn repair(&mut self) -> Result<(), Failure> {
        let (Some((summary, digests)), Some(key)) = (self.cache.ranges(), self.cache.key()) else {
            return Err(Refusal::NeverSynced.into());
        };
        // What arrives is at least as new as this moment.
        let asked_at = now();
        let ranges = (0_u16..).zip(digests).filter(|(_, digest)| *digest != Digest::default()).collect();
        let body = Frame::Ranges { summary, ranges }.to_bytes();
        let mut frames = open(&*self.registry, Ask::Repair(body), &self.pace).await?;
        let answer = self.differences(&mut frames).await?;
        let ranges = u64::try_from(answer.ranges.len()).unwrap_or(u64::MAX);
        let (cache, bounds) = (Arc::clone(&self.cache), self.bounds.clone());
        let done = tokio::task::spawn_blocking(move || answer.put_right(&cache, &key, &bounds, asked_at));
        // A panic in there would be a bug; it is a failed repair here.
        match done.await.map_err(|_| Failure::Ranges)?? {
            Ok(effect) => {
                self.applied(effect, asked_at);
                self.saver.want(true);
                count(&self.stats.repairs);
                self.stats.repaired_ranges.fetch_add(ranges, Ordering::Relaxed);
                self.in_force.notify_one();
                tracing::info!(ranges, "repaired what differed from the registry");
            }
            Err(effect) => {
                self.stats.count_refused(super::Refused::Held);
                self.tell_held(effect);
            }
        }
        Ok(())
    }

    async fn differences(&mut self, frames: &mut Frames) -> Result<Answer, Failure> {
        let frame = self.frame(frames, self.pace.snapshot_frame).await?;
        let Some(Frame::Ranges { summary, ranges }) = frame else {
            return Err(Failure::Order);
        };
        let most = usize::try_from(summary.count).unwrap_or(usize::MAX).min(MAX_REPAIR_ENTRIES);
        let mut entries = Vec::new();
        loop {
            match self.frame(frames, self.pace.snapshot_frame).await?.ok_or(Failure::Truncated)? {
                Frame::Entries(more) if entries.len() + more.len() <= most => entries.extend(more),
                Frame::End => return Ok(Answer { summary, ranges, entries }),
                Frame::Entries(_) => return Err(Failure::Ranges),
                _ => return Err(Failure::Order),
            }
        }
    }

    /// The next frame, with an ear for the operator meanwhile.
    async fn frame(&mut self, frames: &mut Frames, patience: Duration) -> Result<Option<Frame>, Failure> {
        let stats = Arc::clone(&self.stats);
        // One deadline, however often the operator speaks.
        let next = timeout(patience, frames.next(self.pace.silence));
        tokio::pin!(next);
        loop {
            tokio::select! {
                biased;
                word = stats.word() => self.obey(word),
                next = &mut next => return next.map_err(|_| Failure::Silent(patience))?,
            }
        }
    }
}

/// A batch as it came.
struct Changes {
    after: Position,
    entries: Vec<Entry>,
    summary: Summary,
}

impl Changes {
    fn batch(&self) -> Batch<'_> {
        Batch { after: self.after, entries: &self.entries, summary: self.summary }
    }
}

/// A registry's answer to the ranges that are held.
struct Answer {
    summary: Summary,
    /// Which differ, and what they add up to.
    ranges: Vec<(u16, Digest)>,
    /// All that is in them.
    entries: Vec<Entry>,
}

impl Answer {
    /// Verifies each range, then the whole, then applies; where an operator has to agree it waits, and what it
    /// would do is given instead.
    fn put_right(
        &self,
        cache: &FilingCache,
        key: &EpochKey,
        bounds: &Bounds,
        asked_at: Instant,
    ) -> Result<Result<Effect, Effect>, Failure> {
        if !self.adds_up(key) {
            return Err(Failure::Ranges);
        }
        let ranges: Vec<_> = self.ranges.iter().map(|(range, _)| usize::from(*range)).collect();
        let repaired = Repaired { ranges: &ranges, entries: &self.entries, summary: self.summary };
        match cache.repair(&repaired, asked_at, |effect| bounds.permits(effect, asked_at)) {
            Ok(effect) => Ok(Ok(effect)),
            Err(Refusal::Held(effect)) => {
                cache.hold_repair(&repaired, asked_at)?;
                Ok(Err(effect))
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn adds_up(&self, key: &EpochKey) -> bool {
        let mut sums: HashMap<usize, Digest> =
            self.ranges.iter().map(|(range, _)| (usize::from(*range), Digest::default())).collect();
        for entry in &self.entries {
            match sums.get_mut(&range_of(entry.fingerprint)) {
                Some(sum) => sum.add(key.entry_element(entry)),
                None => return false,
            }
        }
        let is_right = |(range, digest): &(u16, Digest)| sums.get(&usize::from(*range)) == Some(digest);
        self.ranges.len() <= RANGES && self.ranges.iter().all(is_right)
    }
}
