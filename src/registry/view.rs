//! One provider's view of all filings: entries, what they add up to, and the latest batches of changes.
//!
//! Values only: knows no lock, no clock, no socket and no database. What it keeps of the past is bounded
//! by `MAX_KEPT_ENTRIES`.

use super::model::{Change, Document};
use crate::feed::{Digest, Entry, EpochKey, Fingerprint, Frame, MAX_BATCH_ENTRIES, Position, Summary};
use crate::filing::PackedRecord;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// The most changes that a view keeps for followers who come back.
const MAX_KEPT_ENTRIES: usize = 200_000;

/// Two names with one fingerprint: the epoch's key must go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Collision;

/// A position that a view can't continue from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotKept;

/// What a provider sees.
#[derive(Debug)]
pub(super) struct View {
    provider: Box<str>,
    key: EpochKey,
    entries: HashMap<Fingerprint, (PackedRecord, Option<Box<str>>)>,
    digest: Digest,
    position: Position,
    kept: VecDeque<Batch>,
    kept_entries: usize,
    /// Positions before this one are not kept.
    floor: u64,
}

#[derive(Debug)]
struct Batch {
    /// The state before it.
    before: Summary,
    /// The last change in it.
    end: u64,
    frame: Bytes,
    entries: usize,
}

/// What is to be sent to a follower at some position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) octets: Bytes,
    /// Where the follower is then.
    pub(super) seq: u64,
}

impl View {
    /// An empty view; `insert` fills it as of `position`.
    pub(super) fn new(provider: &str, key: EpochKey, position: Position) -> Self {
        Self {
            provider: provider.into(),
            key,
            entries: HashMap::new(),
            digest: Digest::default(),
            position,
            kept: VecDeque::new(),
            kept_entries: 0,
            floor: position.seq,
        }
    }

    /// Adds a filing while the view is being filled.
    pub(super) fn insert(&mut self, domain: &str, document: &Document) -> Result<(), Collision> {
        let Some(entry) = self.entry(domain, Some(document)) else { return Ok(()) };
        if self.entries.contains_key(&entry.fingerprint) {
            return Err(Collision);
        }
        self.put(&entry);
        Ok(())
    }

    /// Follows a commit whose last change leaves the log at `end`; true where this provider sees a difference.
    pub(super) fn apply(&mut self, changes: &[Change], end: Position, at_ms: i64) -> Result<bool, Collision> {
        let mut has_changed = false;
        let mut before = self.summary(at_ms);
        let mut batch = Vec::new();
        for change in changes {
            let Some(entry) = self.entry(&change.domain, change.after.as_ref()) else { continue };
            let known = self.entries.get(&entry.fingerprint);
            if change.before.is_none() && change.after.is_some() && known.is_some() {
                return Err(Collision);
            }
            let is_same = match known {
                Some((record, odd)) => *record == entry.record && *odd == entry.odd,
                None => entry.is_delete(),
            };
            if is_same {
                continue;
            }
            if batch.len() == MAX_BATCH_ENTRIES {
                // Everything before this change is in the batch.
                self.position.seq = change.seq - 1;
                self.keep(before, std::mem::take(&mut batch), at_ms);
                before = self.summary(at_ms);
            }
            self.put(&entry);
            batch.push(entry);
            has_changed = true;
        }
        self.position = end;
        if !batch.is_empty() {
            self.keep(before, batch, at_ms);
        }
        Ok(has_changed)
    }

    /// What this provider sees of a document; `None` where what is stored is no valid filing.
    fn entry(&self, domain: &str, document: Option<&Document>) -> Option<Entry> {
        let fingerprint = self.key.fingerprint(domain);
        let Some(document) = document else {
            return Some(Entry { fingerprint, record: PackedRecord(0), odd: None });
        };
        let Some(filing) = document.filing(domain) else {
            tracing::error!(domain, "a stored filing is not valid and is left out of the feed");
            return None;
        };
        let (record, odd) = filing.seen_from(&self.provider).pack();
        Some(Entry { fingerprint, record, odd })
    }

    fn put(&mut self, entry: &Entry) {
        let was = if entry.is_delete() {
            self.entries.remove(&entry.fingerprint)
        } else {
            self.digest.add(self.key.entry_element(entry));
            self.entries.insert(entry.fingerprint, (entry.record, entry.odd.clone()))
        };
        if let Some((record, odd)) = was {
            self.digest.remove(self.key.element(entry.fingerprint, record, odd.as_deref()));
        }
    }

    fn keep(&mut self, before: Summary, entries: Vec<Entry>, at_ms: i64) {
        let count = entries.len();
        let frame = Frame::Batch { after: before.position, entries, summary: self.summary(at_ms) };
        self.kept.push_back(Batch {
            before,
            end: self.position.seq,
            frame: frame.to_bytes(),
            entries: count,
        });
        self.kept_entries += count;
        while self.kept_entries > MAX_KEPT_ENTRIES {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.kept_entries -= oldest.entries;
            self.floor = oldest.end;
        }
    }

    /// What the view is now.
    pub(super) fn summary(&self, at_ms: i64) -> Summary {
        let count = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Summary { position: self.position, count, digest: self.digest, at_ms }
    }

    /// What a follower at `position` must hold.
    ///
    /// # Errors
    /// Where the view can't continue from there: another epoch, the future, forgotten, or within a batch.
    pub(super) fn summary_at(&self, position: Position, at_ms: i64) -> Result<Summary, NotKept> {
        let seq = position.seq;
        if position.epoch != self.position.epoch || seq > self.position.seq || seq < self.floor {
            return Err(NotKept);
        }
        let now = self.summary(at_ms);
        match self.next_after(seq) {
            Some(batch) if batch.before.position.seq >= seq => {
                Ok(Summary { position, at_ms, ..batch.before })
            }
            Some(_) => Err(NotKept),
            None => Ok(Summary { position, ..now }),
        }
    }

    /// The first batch that ends after `seq`.
    fn next_after(&self, seq: u64) -> Option<&Batch> {
        self.kept.get(self.kept.partition_point(|it| it.end <= seq))
    }

    /// What to send next to a follower at `seq`; `None` where it has everything.
    ///
    /// # Errors
    /// Where what follows `seq` is no longer kept.
    pub(super) fn step_after(&self, seq: u64, at_ms: i64) -> Result<Option<Step>, NotKept> {
        if seq < self.floor {
            return Err(NotKept);
        }
        let Some(batch) = self.next_after(seq) else { return Ok(None) };
        let mut octets = bytes::BytesMut::new();
        if batch.before.position.seq != seq {
            // Commits in between that this provider sees nothing of: the follower is told to move on.
            Frame::Heartbeat(Summary { at_ms, ..batch.before }).encode(&mut octets);
        }
        octets.extend_from_slice(&batch.frame);
        Ok(Some(Step { octets: octets.freeze(), seq: batch.end }))
    }

    /// All entries by fingerprint, with what they add up to.
    pub(super) fn snapshot(&self, at_ms: i64) -> (Frame, Vec<Entry>) {
        let entry = |(fingerprint, (record, odd)): (&Fingerprint, &(PackedRecord, Option<Box<str>>))| Entry {
            fingerprint: *fingerprint,
            record: *record,
            odd: odd.clone(),
        };
        let mut entries: Vec<_> = self.entries.iter().map(entry).collect();
        entries.sort_unstable_by_key(|it| it.fingerprint);
        let head = Frame::Snapshot {
            provider: self.provider.clone(),
            key: self.key.clone(),
            summary: self.summary(at_ms),
        };
        (head, entries)
    }
}
