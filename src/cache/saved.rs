//! The saved state: the last good filings in files, for a start without the registry.
//!
//! A checkpoint holds a whole table, a journal what happened since it was begun; docs/feed.md has the format and
//! what is written, synced and renamed in which order, so that there is always the old state or a newer one. What
//! is read is taken only if every checksum, the count and the digest are right; else it is put aside, never deleted.

mod checkpoint;
mod disk;
mod journal;
mod record;
mod restore;
mod version_1;
mod writer;

pub use record::Damage;

use super::{FilingCache, Table};
use crate::feed::{Entry, Position, Summary};
use checkpoint::Unreadable;
use disk::{Directory, Disk, FILE_MODE};
use record::{Entries, Kind};
use restore::{Restored, restore};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use writer::{Failure, Writer};

/// The newest checkpoint, the one before it, and one that is being written.
const FILE: &str = "filings.state";
const FILE_OLD: &str = "filings.state.old";
const FILE_ASIDE: &str = "filings.state.new";
const LOCK: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
/// How often files are read again that a writer replaced meanwhile.
const READ_TRIES: usize = 5;
/// How often a checkpoint is begun again because another table came.
const SAVE_TRIES: usize = 3;

/// A data directory that belongs to this process.
pub struct SavedState {
    directory: PathBuf,
    disk: Box<dyn Disk>,
    held: Mutex<Hold>,
}

#[derive(Default)]
struct Hold {
    /// Held open for the lock on it; none while the directory can't be written to.
    lock: Option<File>,
    writer: Writer,
}

/// What was saved.
#[derive(Debug)]
pub struct Loaded {
    /// The state, and the Unix milliseconds at which it was last known to be current.
    pub found: Option<(Table, i64)>,
    /// What can't be used. Where there is a state all the same, it may be an older one.
    pub refused: Vec<SavedError>,
}

/// What is wrong with a data directory or the state in it.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// Another process has it.
    #[error("{} is locked by another process; stop that one or set another `cache.directory`", path.display())]
    Locked {
        /** The lock file. */
        path: PathBuf,
    },
    /// The file is not a whole state of ours.
    #[error("{} can't be used: {reason}{}", path.display(), moved(moved_to.as_deref()))]
    Damaged {
        /** The file. */
        path: PathBuf,
        /** What is wrong with it. */
        reason: Damage,
        /** Where it was put aside. */
        moved_to: Option<PathBuf>,
    },
    /// The system said no.
    #[error("can't {doing} {}", path.display())]
    Io {
        /** A verb. */
        doing: &'static str,
        /** On what. */
        path: PathBuf,
        /** Why. */
        #[source]
        source: io::Error,
    },
    /// What is held was replaced, or changed too fast, whenever it was being written.
    #[error("filings changed faster than they could be written to {}", path.display())]
    Superseded {
        /** The directory. */
        path: PathBuf,
    },
}

fn moved(to: Option<&Path>) -> String {
    to.map(|to| format!("; put aside as {}", to.display())).unwrap_or_default()
}

/// Reads the state saved in `directory` for `provider`, with the Unix milliseconds at which it was last known
/// to be current; none where none was saved. Takes no lock, changes nothing, and may be called while a gate saves.
///
/// # Errors
/// `Damaged` or `Io`.
pub fn read(directory: &Path, provider: &str) -> Result<Option<(Table, i64)>, SavedError> {
    let mut tries = 0;
    loop {
        let before = identity(directory);
        let read = read_once(directory, provider);
        tries += 1;
        // A checkpoint that was replaced meanwhile may have lost its journal.
        if tries == READ_TRIES || identity(directory) == before {
            return read;
        }
    }
}

fn read_once(directory: &Path, provider: &str) -> Result<Option<(Table, i64)>, SavedError> {
    let mut refused = None;
    for file in [FILE, FILE_OLD] {
        match restore_at(directory.join(file), provider) {
            Ok(Some(read)) => return Ok(Some((read.table, read.last.at_ms))),
            Ok(None) => {}
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Which checkpoint is there.
fn identity(directory: &Path) -> Option<(u64, i64, i64)> {
    let metadata = fs::metadata(directory.join(FILE)).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

fn restore_at(path: PathBuf, provider: &str) -> Result<Option<Restored>, SavedError> {
    restore(&path, provider).map_err(|unreadable| match unreadable {
        Unreadable::Damage(reason) => SavedError::Damaged { path, reason, moved_to: None },
        Unreadable::Io(source) => SavedError::Io { doing: "read", path, source },
        Unreadable::Version1 => SavedError::Damaged { path, reason: Damage::Version, moved_to: None },
    })
}

/// Appends a journal's record of these changes; its checksum is put in when it is written.
pub(in crate::cache) fn put_batch(out: &mut Vec<u8>, entries: &[Entry], after: &Summary) {
    record::put(out, Kind::Batch, |out| {
        record::put_summary(out, after);
        let mut writing = Entries::default();
        writing.begin(out);
        for entry in entries {
            writing.put(out, entry.fingerprint, entry.record, entry.odd.as_deref());
        }
        writing.end(out);
    });
}

impl SavedState {
    /// Takes the directory for this process, making it if need be. A directory that can't be written to is
    /// taken without a lock: what is saved there can still be read.
    ///
    /// # Errors
    /// `Locked`.
    pub fn open(directory: &Path) -> Result<Self, SavedError> {
        let lock = match lock(directory) {
            Ok(lock) => Some(lock),
            Err(error @ SavedError::Locked { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "filings can't be saved");
                None
            }
        };
        let disk = Box::new(Directory(directory.to_owned()));
        let held = Mutex::new(Hold { lock, writer: Writer::default() });
        Ok(Self { directory: directory.to_owned(), disk, held })
    }

    /// Reads the newest state that can be used, puts what is damaged aside as `*.bad`, and goes on from there:
    /// publish what is found before the first `save`.
    pub fn load(&self, provider: &str) -> Loaded {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut loaded = Loaded { found: None, refused: Vec::new() };
        for (file, is_older) in [(FILE, false), (FILE_OLD, true)] {
            match restore_at(self.directory.join(file), provider) {
                Ok(None) => {}
                Err(error) => loaded.refused.push(put_aside(error)),
                Ok(Some(read)) => {
                    held.writer.resume(&*self.disk, &read, is_older);
                    loaded.refused.extend(read.damaged.into_iter().map(|(number, reason)| {
                        let path = self.directory.join(journal::name(number));
                        SavedError::Damaged { path, reason, moved_to: None }
                    }));
                    loaded.found = Some((read.table, read.last.at_ms));
                    break;
                }
            }
        }
        loaded
    }

    /// Makes sure of what `cache` holds; says which position that is, and when it was last known to be current
    /// (Unix milliseconds), or none where nothing is held. Blocks on the disk, and never a change to the cache.
    ///
    /// # Errors
    /// `Io`, `Locked` or `Superseded`: what was saved before is still there, and the next call tries again.
    pub fn save(&self, provider: &str, cache: &FilingCache) -> Result<Option<(Position, i64)>, SavedError> {
        // Held to the end: one save at a time.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.lock.is_none() {
            held.lock = Some(lock(&self.directory)?);
        }
        for _ in 0..SAVE_TRIES {
            match held.writer.save(&*self.disk, provider, cache) {
                Ok(saved) => return Ok(saved.map(|saved| (saved.position, saved.at_ms))),
                Err(Failure::Superseded) => {}
                Err(Failure::Io { doing, file, source }) => {
                    return Err(SavedError::Io { doing, path: self.directory.join(file), source });
                }
            }
        }
        Err(SavedError::Superseded { path: self.directory.clone() })
    }
}

impl SavedState {
    /// Leaves the directory to another process. No `save` until it is taken back.
    pub fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Hold::default();
    }

    /// Takes the directory back: whatever another process left there, the next `save` writes all anew.
    ///
    /// # Errors
    /// `Locked` or `Io`.
    pub fn retake(&self) -> Result<(), SavedError> {
        let lock = lock(&self.directory)?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) =
            Hold { lock: Some(lock), writer: Writer::default() };
        Ok(())
    }
}

impl std::fmt::Debug for SavedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SavedState").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Puts the file aside that the error is about.
fn put_aside(error: SavedError) -> SavedError {
    let SavedError::Damaged { path, reason, moved_to: None } = error else { return error };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(FILE);
    let bad = path.with_file_name(bad_name(name));
    let moved_to = (!bad.exists() && fs::rename(&path, &bad).is_ok()).then_some(bad);
    SavedError::Damaged { path, reason, moved_to }
}

/// What a damaged file is called from now on.
fn bad_name(name: &str) -> String {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{name}.{}.bad", since_1970.as_micros())
}

fn lock(directory: &Path) -> Result<File, SavedError> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    made.map_err(|source| SavedError::Io { doing: "create", path: directory.to_owned(), source })?;
    let path = directory.join(LOCK);
    let opened = OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(source) => return Err(SavedError::Io { doing: "open", path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SavedError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(SavedError::Io { doing: "lock", path, source }),
    }
}

#[cfg(test)]
mod tests;
