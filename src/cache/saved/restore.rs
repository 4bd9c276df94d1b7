//! From files to a table: a checkpoint, then the journals that lead on from it.
//!
//! Whatever is wrong with a checkpoint makes it useless as a whole; a journal is used as far as it goes. The
//! digest over all of the table is compared after every record, so nothing is used that no registry said.

use super::checkpoint::{Checkpoint, Unreadable};
use super::journal::{self, End, Next, Reading};
use super::record::{Damage, Head, Kind, is_same, take_entries, take_summary};
use super::version_1;
use crate::cache::Table;
use crate::feed::{Entry, Summary};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// A state that was saved.
pub(super) struct Restored {
    pub(super) table: Table,
    /// What it is, and when it was last known to be current.
    pub(super) last: Summary,
    /// The checkpoint's number and length; none of a file of version 1.
    pub(super) checkpoint: Option<(u64, u64)>,
    /// The last journal that was used.
    pub(super) end: Option<End>,
    /// Octets in the journals that were used.
    pub(super) journal_bytes: u64,
    /// Journals that can't be used to their end, and why; torn ones aside.
    pub(super) damaged: Vec<(u64, Damage)>,
}

/// A record of a journal: its number, and where the record ends.
type Place = (u64, u64);

/// Reads the checkpoint at `path` and what follows it; none where there is no such file.
pub(super) fn restore(path: &Path, provider: &str) -> Result<Option<Restored>, Unreadable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let directory = path.parent().map(Path::to_owned).unwrap_or_default();
    let newest = journals(&directory).ok().and_then(|mut numbers| numbers.pop());
    let expected = newest.and_then(|it| journal::filings_at_end(&directory.join(journal::name(it))));
    let attempt = |stop| {
        let restored = match Checkpoint::read(&file, provider, expected.unwrap_or_default()) {
            Err(Unreadable::Version1) => return version_1::read(&file, provider).map(Ok),
            result => result?,
        };
        Replay::new(restored, directory.clone(), stop).run()
    };
    match attempt(None)? {
        Ok(restored) => Ok(Some(restored)),
        // That record is not what it says: everything before it is.
        Err(place) => match attempt(Some(place))? {
            Ok(restored) => Ok(Some(restored)),
            Err(_) => Err(Damage::Digest.into()),
        },
    }
}

/// The numbers of the journals in a directory, in order.
pub(super) fn journals(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(journal::number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A checkpoint that journals are applied to.
struct Replay {
    head: Head,
    /// The state at which the checkpoint adds up, and where the records of its own journal reach it.
    whole: Summary,
    whole_at: u64,
    is_whole: bool,
    directory: PathBuf,
    stop: Option<Place>,
    restored: Restored,
}

/// Why a journal is not read on.
enum Stop {
    Damaged(Damage),
    /// The table is not what this record says.
    Mismatch(Place),
}

impl Replay {
    fn new(checkpoint: Checkpoint, directory: PathBuf, stop: Option<Place>) -> Self {
        let Checkpoint { head, tail, table, length } = checkpoint;
        let restored = Restored {
            table,
            last: head.begin,
            checkpoint: Some((head.number, length)),
            end: None,
            journal_bytes: 0,
            damaged: Vec::new(),
        };
        Self {
            whole: tail.end,
            whole_at: tail.journal_bytes,
            is_whole: false,
            head,
            directory,
            stop,
            restored,
        }
    }

    fn run(mut self) -> Result<Result<Restored, Place>, Unreadable> {
        if self.whole_at == 0 {
            // Nothing changed while it was written.
            if !is_same(&self.whole, &self.head.begin) || !self.adds_up(&self.whole) {
                return Err(Damage::Digest.into());
            }
            self.is_whole = true;
            self.restored.last = self.whole;
        }
        let first = self.head.number;
        for number in journals(&self.directory)?.into_iter().filter(|&number| number >= first) {
            match self.journal(number) {
                Ok(()) => {}
                Err(Stop::Mismatch(place)) if self.is_whole => return Ok(Err(place)),
                Err(Stop::Mismatch(_)) => return Err(Damage::Digest.into()),
                Err(Stop::Damaged(damage)) => self.restored.damaged.push((number, damage)),
            }
            if !self.is_whole {
                return Err(Damage::Journal.into());
            }
        }
        if !self.is_whole {
            return Err(Damage::Journal.into());
        }
        Ok(Ok(self.restored))
    }

    fn adds_up(&self, to: &Summary) -> bool {
        (self.restored.table.count(), self.restored.table.digest()) == (to.count, to.digest)
    }

    /// Applies a journal, if it follows the state reached so far. One that doesn't is of another history.
    fn journal(&mut self, number: u64) -> Result<(), Stop> {
        let unreadable = |_: io::Error| Stop::Damaged(Damage::Truncated);
        let mut reading = Reading::open(&self.directory.join(journal::name(number))).map_err(unreadable)?;
        let head = match reading.next().map_err(unreadable)? {
            Next::Record(Kind::Journal, payload) => Head::take(payload).map_err(Stop::Damaged)?,
            Next::Record(..) => return Err(Stop::Damaged(Damage::Malformed("no head"))),
            Next::Damaged(damage) => return Err(Stop::Damaged(damage)),
            Next::End | Next::Torn => return Ok(()),
        };
        let is_ours =
            (head.number, &head.provider, &head.key) == (number, &self.head.provider, &self.head.key);
        if !is_ours || !is_same(&head.begin, &self.restored.last) {
            return Ok(());
        }
        let head_bytes = reading.offset();
        let mut end = End { number, length: head_bytes, is_clean: false };
        let result = loop {
            match reading.next() {
                Ok(Next::Record(kind, payload)) => {
                    let length = end.length + record_bytes(payload);
                    if let Err(stop) = self.record(kind, payload, (number, length), length - head_bytes) {
                        break Err(stop);
                    }
                    end.length = length;
                }
                Ok(Next::End) => {
                    end.is_clean = true;
                    break Ok(());
                }
                Ok(Next::Torn) => break Ok(()),
                Ok(Next::Damaged(damage)) => break Err(Stop::Damaged(damage)),
                Err(error) => break Err(unreadable(error)),
            }
        };
        self.restored.journal_bytes += end.length;
        self.restored.end = Some(end);
        result
    }

    /// Applies a record that ends at `place`, `record_bytes` after its journal's head, and compares.
    fn record(&mut self, kind: Kind, payload: &[u8], place: Place, record_bytes: u64) -> Result<(), Stop> {
        if self.stop == Some(place) {
            return Err(Stop::Damaged(Damage::Digest));
        }
        if let Err(damage) = self.apply(kind, payload) {
            return Err(self.unless_half_applied(damage, place));
        }
        let is_end = place.0 == self.head.number && record_bytes == self.whole_at;
        if is_end && !is_same(&self.restored.last, &self.whole) {
            return Err(Stop::Mismatch(place));
        }
        self.is_whole |= is_end && self.adds_up(&self.whole);
        let is_checked = is_end || self.is_whole;
        if is_checked && !self.adds_up(&self.restored.last) { Err(Stop::Mismatch(place)) } else { Ok(()) }
    }

    /// A record that is refused may have been applied in part: then the state before it has to be read anew.
    fn unless_half_applied(&self, damage: Damage, place: Place) -> Stop {
        if self.is_whole && !self.adds_up(&self.restored.last) {
            Stop::Mismatch(place)
        } else {
            Stop::Damaged(damage)
        }
    }

    fn apply(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Damage> {
        let mut from = payload;
        let summary = take_summary(&mut from)?;
        let (got, last) = (summary.position, self.restored.last.position);
        if got.epoch != last.epoch || got.seq < last.seq {
            return Err(Damage::Malformed("a position that does not follow"));
        }
        let table = &mut self.restored.table;
        match kind {
            Kind::Batch => {
                let mut entries = Vec::new();
                take_entries(from, |fingerprint, record, odd| {
                    entries.push(Entry { fingerprint, record, odd: odd.map(Into::into) });
                    Ok(())
                })?;
                table.set_all(&entries);
            }
            Kind::Mark if from.is_empty() => {}
            _ => return Err(Damage::Malformed("a record that has no place in a journal")),
        }
        table.set_position(got);
        self.restored.last = summary;
        Ok(())
    }
}

/// Octets of the whole record with this payload.
fn record_bytes(payload: &[u8]) -> u64 {
    u64::try_from(payload.len() + super::record::ENVELOPE_BYTES).unwrap_or(u64::MAX)
}
