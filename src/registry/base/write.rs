//! Writes a base, entry after entry in order; it has its name once it is whole and on disk.

use super::{Base, BaseError, Directory, ENDING, Head, Index, NEW_ENDING};
use crate::feed::{Entry, Fingerprint, Frame, MAX_SNAPSHOT_FRAME_ENTRIES, range_of};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// A frame ends with the range that brings it to this many entries: enough that a frame's own octets don't
/// count, and few enough that reading one range reads little else.
const FRAME_ENTRIES: usize = 2048;

/// A base that is being written.
#[derive(Debug)]
pub(in crate::registry) struct BaseWriter {
    head: Head,
    file: File,
    directory: Directory,
    path: PathBuf,
    index: Index,
    pending: Vec<Entry>,
    last: Fingerprint,
    offset: u64,
}

impl BaseWriter {
    /// Begins the file of this state.
    pub(in crate::registry) fn create(directory: &Directory, head: Head) -> Result<Self, BaseError> {
        let path = directory.path_of(&head.provider, NEW_ENDING);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| BaseError::Io { path: path.clone(), source })?;
        let mut writer = Self {
            file,
            directory: directory.clone(),
            path,
            index: Index::new(),
            pending: Vec::with_capacity(FRAME_ENTRIES),
            last: Fingerprint(0),
            offset: 0,
            head,
        };
        let head = writer.head.frame();
        writer.put(&head)?;
        Ok(writer)
    }

    fn io(&self, source: std::io::Error) -> BaseError {
        BaseError::Io { path: self.path.clone(), source }
    }

    fn put(&mut self, frame: &Frame) -> Result<u32, BaseError> {
        let octets = frame.to_bytes();
        self.file.write_all(&octets).map_err(|source| self.io(source))?;
        self.offset += octets.len() as u64;
        Ok(u32::try_from(octets.len()).expect("a frame is far below 4 GiB"))
    }

    /// Takes the next entry, whose fingerprint is above the last one's.
    pub(in crate::registry) fn push(&mut self, entry: Entry) -> Result<(), BaseError> {
        if entry.fingerprint <= self.last {
            return Err(BaseError::Collision);
        }
        let is_full = self.pending.len() >= FRAME_ENTRIES
            && range_of(entry.fingerprint) != range_of(self.last)
            || self.pending.len() == MAX_SNAPSHOT_FRAME_ENTRIES;
        if is_full {
            self.end_frame()?;
        }
        self.last = entry.fingerprint;
        self.pending.push(entry);
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), BaseError> {
        let entries = std::mem::replace(&mut self.pending, Vec::with_capacity(FRAME_ENTRIES));
        if entries.is_empty() {
            return Ok(());
        }
        let (offset, frame) = (self.offset, Frame::Entries(entries));
        let length = self.put(&frame)?;
        if let Frame::Entries(entries) = &frame {
            self.index.take(&self.head.key, entries, offset, length);
        }
        Ok(())
    }

    /// Ends the file, and gives it its name in place of the one before.
    pub(in crate::registry) fn finish(mut self) -> Result<Base, BaseError> {
        self.end_frame()?;
        self.put(&Frame::End)?;
        if !self.index.adds_up_to(&self.head.summary) {
            return Err(BaseError::Damaged { path: self.path, problem: "does not add up" });
        }
        self.file.sync_all().map_err(|source| self.io(source))?;
        let path = self.directory.path_of(&self.head.provider, ENDING);
        std::fs::rename(&self.path, &path).map_err(|source| self.io(source))?;
        let directory = File::open(&self.directory.0).map_err(|source| self.io(source))?;
        directory.sync_all().map_err(|source| self.io(source))?;
        Ok(Base::whole(self.head, self.file, path, self.index, self.offset))
    }
}
