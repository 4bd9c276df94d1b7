//! Keeps the files up with the cache: appends to the journal, and begins a new checkpoint when it has to.
//!
//! A checkpoint is written aside while changes go on into a new journal, which also continues the old one. So
//! until the new pair is whole, the old checkpoint leads to the newest state as well; and the one before stays.

use super::checkpoint::Writing;
use super::disk::Disk;
use super::journal::{self, Journal};
use super::record::{Head, Tail, is_same};
use super::restore::Restored;
use super::{FILE, FILE_ASIDE, FILE_OLD};
use crate::cache::FilingCache;
use crate::cache::pending::Taken;
use crate::cache::table::PARTS;
use crate::feed::Summary;
use std::io;
use std::time::{Duration, Instant};

/// A journal is followed by a new checkpoint when it is longer than this part of the checkpoint…
const JOURNAL_SHARE: u64 = 8;
/// … and than this. As much more has to come before a checkpoint that failed is tried again.
pub(super) const MIN_JOURNAL_BYTES: u64 = 4 << 20;
/// How often changes are saved while a checkpoint is written.
const KEEP_UP: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_millis(250) };

/// What is known of the files.
#[derive(Default)]
pub(super) struct Writer {
    /// What can be appended to; none after an error, and before the first checkpoint.
    journal: Option<Journal>,
    /// Octets in the journals since the checkpoint, and in the checkpoint.
    journal_bytes: u64,
    checkpoint_bytes: u64,
    /// Until the journals are this long, no checkpoint is tried again.
    retry_at_bytes: u64,
    /// The numbers of the checkpoints in `FILE` and `FILE_OLD`, where they are known.
    newest: Option<u64>,
    older: Option<u64>,
    /// Journals that can't be read to their end: to be put aside once they aren't needed.
    damaged: Vec<u64>,
}

/// Why nothing was saved.
#[derive(Debug)]
pub(super) enum Failure {
    Io {
        doing: &'static str,
        file: String,
        source: io::Error,
    },
    /// Another table came while this one was written, or changes came faster than they could be.
    Superseded,
}

fn failed(doing: &'static str, file: &str) -> impl FnOnce(io::Error) -> Failure {
    let file = file.to_owned();
    move |source| Failure::Io { doing, file, source }
}

impl Writer {
    /// Goes on from what was read. Without a journal that can be appended to, the next save is a checkpoint.
    pub(super) fn resume(&mut self, disk: &dyn Disk, read: &Restored, is_older: bool) {
        let number = read.checkpoint.map(|(number, _)| number);
        (self.newest, self.older) = if is_older { (None, number) } else { (number, None) };
        self.checkpoint_bytes = read.checkpoint.map_or(0, |(_, length)| length);
        self.journal_bytes = read.journal_bytes;
        self.damaged = read.damaged.iter().map(|&(number, _)| number).collect();
        // The process before may have ended with the pair's names in the system's memory only: what is appended to
        // a journal that a power cut takes back would be lost with it.
        let end = read.end.filter(|end| end.is_clean && !is_older && disk.sync_names().is_ok());
        self.journal = end.and_then(|end| Journal::resume(disk, &end, read.table.key(), read.last).ok());
    }

    /// As though that much more had been appended.
    #[cfg(test)]
    pub(super) fn lengthen(&mut self, octets: u64) {
        self.journal_bytes += octets + 1;
    }

    /// Makes sure of what `cache` holds; says what that is.
    pub(super) fn save(
        &mut self,
        disk: &dyn Disk,
        provider: &str,
        cache: &FilingCache,
    ) -> Result<Option<Summary>, Failure> {
        let Some(taken) = cache.take_changes() else { return Ok(None) };
        let (key, begin) = (taken.key.clone(), taken.now);
        // It comes back only if nothing was wrong.
        self.journal = match self.journal.take() {
            Some(journal) if journal.is_continued_by(&taken) => Some(self.append(journal, taken)?),
            _ => None,
        };
        let longest = MIN_JOURNAL_BYTES.max(self.checkpoint_bytes / JOURNAL_SHARE).max(self.retry_at_bytes);
        if self.journal.is_some() && self.journal_bytes <= longest {
            return Ok(Some(begin));
        }
        let head = Head { number: self.next_number(disk)?, provider: provider.into(), key, begin };
        self.checkpoint(disk, cache, &head).map(Some)
    }

    fn append(&mut self, mut journal: Journal, taken: Taken) -> Result<Journal, Failure> {
        let before = journal.length;
        journal.append(taken).map_err(failed("append to", &journal::name(journal.number)))?;
        self.journal_bytes += journal.length - before;
        Ok(journal)
    }

    /// Begins a new pair. If that fails, a journal that can still be appended to stays in use.
    fn checkpoint(&mut self, disk: &dyn Disk, cache: &FilingCache, head: &Head) -> Result<Summary, Failure> {
        let name = journal::name(head.number);
        let begun = Journal::create(disk, head).map_err(failed("begin", &name));
        let is_linked = begun.is_ok() && self.journal.is_some();
        let result = begun.and_then(|journal| {
            self.journal = Some(journal);
            self.write(disk, cache, head)
        });
        match result {
            Ok((bytes, last)) => {
                self.checkpoint_bytes = bytes;
                self.journal_bytes = self.journal.as_ref().map_or(0, |journal| journal.length);
                self.retry_at_bytes = 0;
                self.older = self.newest.or(self.older);
                self.newest = Some(head.number);
                if let Err(error) = disk.sync_names() {
                    // The new pair is there, but nobody knows for how long: the next save makes another.
                    self.journal = None;
                    return Err(failed("sync the directory of", FILE)(error));
                }
                self.clean(disk);
                Ok(last)
            }
            Err(failure) => {
                // It may be what fills the disk; and it is no state.
                let _ = disk.remove(FILE_ASIDE);
                if !is_linked {
                    // Nothing that was saved leads to it. Where it was not even made, the one before stays.
                    let _ = disk.remove(&name);
                    self.journal = self.journal.take().filter(|journal| journal.number != head.number);
                }
                self.retry_at_bytes = self.journal_bytes + MIN_JOURNAL_BYTES;
                Err(failure)
            }
        }
    }

    fn write(
        &mut self,
        disk: &dyn Disk,
        cache: &FilingCache,
        head: &Head,
    ) -> Result<(u64, Summary), Failure> {
        let mut writing = Writing::begin(disk, FILE_ASIDE, head).map_err(failed("begin", FILE_ASIDE))?;
        let mut since = Instant::now();
        for index in 0..PARTS {
            writing.part(cache, index).map_err(failed("write", FILE_ASIDE))?;
            if since.elapsed() >= KEEP_UP {
                self.keep_up(cache)?;
                since = Instant::now();
            }
        }
        // Whatever was copied is at most as new as this.
        let (journal_bytes, end) = self.keep_up(cache)?;
        let tail = Tail { end, journal_bytes, filings: writing.filings() };
        let bytes = writing.end(&tail).map_err(failed("write", FILE_ASIDE))?;
        // Where what is at `FILE` is known to be no good, the older one stays what it is.
        if self.newest.is_some() || self.older.is_none() {
            match disk.rename(FILE, FILE_OLD) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("rename", FILE)(error));
                }
                _ => {}
            }
        }
        disk.rename(FILE_ASIDE, FILE).map_err(failed("rename", FILE_ASIDE))?;
        Ok((bytes, end))
    }

    /// Saves what changed since; says how long the journal's records are now, and to what they lead.
    fn keep_up(&mut self, cache: &FilingCache) -> Result<(u64, Summary), Failure> {
        let (Some(taken), Some(journal)) = (cache.take_changes(), self.journal.take()) else {
            return Err(Failure::Superseded);
        };
        if !journal.is_continued_by(&taken) {
            return Err(Failure::Superseded);
        }
        let now = taken.now;
        let is_news = !taken.records.is_empty() || !is_same(&journal.last, &now);
        let journal = if is_news { self.append(journal, taken)? } else { journal };
        let bytes = journal.record_bytes();
        self.journal = Some(journal);
        Ok((bytes, now))
    }

    fn next_number(&self, disk: &dyn Disk) -> Result<u64, Failure> {
        let names = disk.names().map_err(failed("list the directory of", FILE))?;
        let taken = names.iter().filter_map(|name| journal::number(name));
        let most = taken.chain(self.newest).chain(self.older).max();
        Ok(most.map_or(1, |most| most.saturating_add(1)))
    }

    /// Puts journals aside that are damaged, and removes those that no checkpoint needs. What stays is tried
    /// again after the next one.
    fn clean(&mut self, disk: &dyn Disk) {
        let newest = self.newest.unwrap_or_default();
        for number in self.damaged.drain(..).filter(|&number| number < newest) {
            let name = journal::name(number);
            let _ = disk.rename(&name, &super::bad_name(&name));
        }
        let Some(older) = self.older else { return };
        for name in disk.names().unwrap_or_default() {
            if journal::number(&name).is_some_and(|number| number < older) {
                let _ = disk.remove(&name);
            }
        }
    }
}
