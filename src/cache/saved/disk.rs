//! What the saved state asks of a disk, so that tests can have one that fails, or that loses power.
//!
//! Writing goes through here; reading takes files as they are. Names are those of files in the directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Only the owner: the files hold the epoch's key.
pub(super) const FILE_MODE: u32 = 0o600;

/// A directory that files are written in.
pub(super) trait Disk: Send + Sync {
    /// A new file; one that has the name is replaced.
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>>;
    /// An existing file of that many octets, to be written to at its end.
    fn append(&self, name: &str, length: u64) -> io::Result<Box<dyn Output>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The names of what is there.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes sure of names that were made, changed or removed.
    fn sync_names(&self) -> io::Result<()>;
}

/// A file that is being written.
pub(super) trait Output: Send {
    fn write(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Makes sure of what was written.
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of this machine.
pub(super) struct Directory(pub(super) PathBuf);

impl Disk for Directory {
    fn create(&self, name: &str) -> io::Result<Box<dyn Output>> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let options = OpenOptions::new().create_new(true).write(true).mode(FILE_MODE).open(path);
        options.map(|file| Box::new(file) as Box<dyn Output>)
    }

    fn append(&self, name: &str, length: u64) -> io::Result<Box<dyn Output>> {
        let file = OpenOptions::new().append(true).open(self.0.join(name))?;
        if file.metadata()?.len() != length {
            return Err(io::Error::other("it changed since it was read"));
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // Names that aren't text are nobody's here.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Output for File {
    fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.write_all(octets)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
