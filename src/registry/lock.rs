//! One registry process per database: a locked file beside it that says where the registry serves.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a lock that is held is tried again: someone may only be looking whether it is held.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Held as long as a process may write to the database.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another process has it.
    #[error("held by a registry at {}", .0.map_or_else(|| "no address".to_owned(), |it| it.to_string()))]
    Held(Option<SocketAddr>),
    /// The file can't be made or opened.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The lock file of a database.
pub(super) fn path_beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

impl Lock {
    /// Takes the lock and says where the registry serves, if it does.
    pub(super) fn take(database: &Path, serving_at: Option<SocketAddr>) -> Result<Self, LockError> {
        let path = path_beside(database);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut tries = 1;
        while !try_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)? {
            if tries == TRIES {
                return Err(LockError::Held(address_in(&mut file)));
            }
            tries += 1;
            std::thread::sleep(PAUSE);
        }
        file.set_len(0)?;
        if let Some(address) = serving_at {
            file.write_all(format!("{address}\n").as_bytes())?;
        }
        Ok(Self { _file: file })
    }
}

/// Where the registry that holds the database serves; `None` where none does.
pub(super) fn running_at(database: &Path) -> Option<SocketAddr> {
    let mut file = File::open(path_beside(database)).ok()?;
    match try_lock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        Ok(false) => address_in(&mut file),
        Ok(true) | Err(_) => None,
    }
}

fn try_lock(file: &File, operation: rustix::fs::FlockOperation) -> std::io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn address_in(file: &mut File) -> Option<SocketAddr> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(128).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_a_free_one_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("registry.db");
        assert_eq!(running_at(&database), None);
        let address = "127.0.0.1:7070".parse().unwrap();
        let lock = Lock::take(&database, Some(address)).unwrap();
        assert_eq!(running_at(&database), Some(address));
        assert!(matches!(Lock::take(&database, None), Err(LockError::Held(Some(_)))));
        drop(lock);
        assert_eq!(running_at(&database), None);
        let _silent = Lock::take(&database, None).unwrap();
        assert_eq!(running_at(&database), None);
    }
}
