//! The saved state: the last good filings in a file, for a start without the registry.
//!
//! The file is a snapshot in the feed's frames, its summary's time being when this gate last knew the state to
//! be current. It is written aside, synced and renamed, so there is always the old one or the new one. It is
//! taken only if its every frame, its count and its digest are right; else it is put aside, never deleted.

use super::{Assembly, AssemblyError, Copied, Table};
use crate::feed::{Frame, FrameError, FrameReader, MAX_SNAPSHOT_FRAME_ENTRIES, Summary};
use bytes::BytesMut;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

const FILE: &str = "filings.state";
const FILE_ASIDE: &str = "filings.state.new";
const LOCK: &str = "lock";
/// Only the owner: the file holds the epoch's key.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
const READ_BYTES: usize = 1 << 20;

/// A data directory that belongs to this process.
#[derive(Debug)]
pub struct SavedState {
    directory: PathBuf,
    /// Held open for the lock on it; none while the directory can't be written to.
    lock: Mutex<Option<File>>,
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
}

/// What is wrong with a saved state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Cut short, or not even begun.
    #[error("it is incomplete")]
    Truncated,
    /// Something after the end.
    #[error("octets follow its end")]
    TooLong,
    /// Bits changed, or another format.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Whole frames that make no state of ours.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
}

fn moved(to: Option<&Path>) -> String {
    to.map(|to| format!("; put aside as {}", to.display())).unwrap_or_default()
}

/// Reads the state saved in `directory` for `provider`, with the Unix milliseconds at which it was last known
/// to be current; none where none was saved. Takes no lock and changes nothing.
///
/// # Errors
/// `Damaged` or `Io`.
pub fn read(directory: &Path, provider: &str) -> Result<Option<(Table, i64)>, SavedError> {
    let path = directory.join(FILE);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SavedError::Io { doing: "open", path, source }),
    };
    let (mut reader, mut assembly) = (FrameReader::default(), Assembly::new(provider));
    let (mut buffer, mut found) = (vec![0; READ_BYTES], None);
    loop {
        let length = match file.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(SavedError::Io { doing: "read", path, source }),
        };
        if length == 0 {
            break;
        }
        reader.push(&buffer[..length]);
        if let Err(reason) = take_frames(&mut reader, &mut assembly, &mut found) {
            return Err(SavedError::Damaged { path, reason, moved_to: None });
        }
    }
    let reason = match found {
        Some((table, summary)) if reader.finish().is_ok() => return Ok(Some((table, summary.at_ms))),
        Some(_) => Damage::TooLong,
        None => Damage::Truncated,
    };
    Err(SavedError::Damaged { path, reason, moved_to: None })
}

fn take_frames(
    reader: &mut FrameReader,
    assembly: &mut Assembly,
    found: &mut Option<(Table, Summary)>,
) -> Result<(), Damage> {
    while let Some(frame) = reader.next_frame()? {
        if found.is_some() {
            return Err(Damage::TooLong);
        }
        *found = assembly.take(frame)?;
    }
    Ok(())
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
        Ok(Self { directory: directory.to_owned(), lock: Mutex::new(lock) })
    }

    /// `read`, and puts a damaged file aside as `*.bad`.
    ///
    /// # Errors
    /// `Damaged` or `Io`: start without.
    pub fn load(&self, provider: &str) -> Result<Option<(Table, i64)>, SavedError> {
        match read(&self.directory, provider) {
            Err(SavedError::Damaged { path, reason, .. }) => {
                let bad = self.free_bad_path();
                let moved_to = fs::rename(&path, &bad).is_ok().then_some(bad);
                Err(SavedError::Damaged { path, reason, moved_to })
            }
            result => result,
        }
    }

    /// Replaces what is saved. Blocks on the disk.
    ///
    /// # Errors
    /// `Io` or `Locked`: what was saved before is still there.
    pub fn save(&self, provider: &str, state: &Copied, synced_at_ms: i64) -> Result<(), SavedError> {
        // Held to the end: one save at a time.
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = Some(lock(&self.directory)?);
        }
        let (path, aside) = (self.directory.join(FILE), self.directory.join(FILE_ASIDE));
        let written = write(&aside, provider, state, synced_at_ms)
            .map_err(|source| SavedError::Io { doing: "write", path: aside.clone(), source })
            .and_then(|()| {
                fs::rename(&aside, &path).map_err(|source| SavedError::Io { doing: "replace", path, source })
            });
        if written.is_err() {
            // It may be what fills the disk; and it is no state.
            let _ = fs::remove_file(&aside);
            return written;
        }
        let path = self.directory.clone();
        File::open(&path).and_then(|directory| directory.sync_all()).map_err(|source| SavedError::Io {
            doing: "sync",
            path,
            source,
        })
    }

    fn free_bad_path(&self) -> PathBuf {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |it| it.as_secs());
        let names = (seconds..).map(|number| self.directory.join(format!("{FILE}.{number}.bad")));
        let mut free = names.filter(|path| !path.exists());
        free.next().unwrap_or_else(|| self.directory.join(format!("{FILE}.bad")))
    }
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

fn write(path: &Path, provider: &str, state: &Copied, synced_at_ms: i64) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path)?;
    let mut octets = BytesMut::new();
    let summary =
        Summary { position: state.position, count: state.count, digest: state.digest, at_ms: synced_at_ms };
    Frame::Snapshot { provider: provider.into(), key: state.key().clone(), summary }.encode(&mut octets);
    for run in state.runs(MAX_SNAPSHOT_FRAME_ENTRIES) {
        Frame::Entries(run).encode(&mut octets);
        file.write_all(&octets)?;
        octets.clear();
    }
    Frame::End.encode(&mut octets);
    file.write_all(&octets)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
