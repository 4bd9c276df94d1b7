//! Read and write buffers that are given back while a connection waits.
//!
//! Each worker thread keeps a few spare ones; an idle connection holds none.

use bytes::BytesMut;
use std::cell::RefCell;

/// Octets of a standard buffer.
pub const BUFFER_BYTES: usize = 32 * 1024;
/// Spare buffers kept per worker.
const MAX_SPARE: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn take_spare() -> Box<[u8]> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER_BYTES].into())
}

fn give_back(storage: Box<[u8]>) {
    if storage.len() == BUFFER_BYTES {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE {
                spare.push(storage);
            }
        });
    }
}

/// Octets that were read and not yet used.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    storage: Box<[u8]>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    /// What is there.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Uses up octets from the front.
    pub fn consume(&mut self, octets: usize) {
        self.start = (self.start + octets).min(self.end);
    }

    /// Where octets may be read to; never empty unless `capacity` octets are already held.
    pub fn space(&mut self, capacity: usize) -> &mut [u8] {
        if self.storage.is_empty() {
            self.storage = take_spare();
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.storage.len() {
            self.make_room(capacity);
        }
        &mut self.storage[self.end..]
    }

    /// Counts octets that were read into `space`.
    pub fn filled(&mut self, octets: usize) {
        self.end = (self.end + octets).min(self.storage.len());
    }

    /// Puts octets that were read elsewhere in front of what will be read.
    pub fn preload(&mut self, octets: &[u8]) {
        if self.storage.len() < octets.len().max(BUFFER_BYTES) {
            self.storage = vec![0; octets.len().max(BUFFER_BYTES)].into();
        }
        self.storage[..octets.len()].copy_from_slice(octets);
        (self.start, self.end) = (0, octets.len());
    }

    /// Gives the storage back if nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.storage.is_empty() {
            give_back(std::mem::take(&mut self.storage));
            (self.start, self.end) = (0, 0);
        }
    }

    fn make_room(&mut self, capacity: usize) {
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.storage.len() < capacity {
            let mut larger = vec![0; (self.storage.len() * 2).min(capacity)];
            larger[..self.end].copy_from_slice(&self.storage[..self.end]);
            give_back(std::mem::replace(&mut self.storage, larger.into()));
        }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if !self.storage.is_empty() {
            give_back(std::mem::take(&mut self.storage));
        }
    }
}

/// Octets on their way out.
#[derive(Debug, Default)]
pub struct WriteBuffer {
    data: BytesMut,
}

impl WriteBuffer {
    /// What is still to be written.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Octets still to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Adds octets.
    pub fn put(&mut self, octets: &[u8]) {
        self.data.extend_from_slice(octets);
    }

    /// Counts octets as written.
    pub fn written(&mut self, octets: usize) {
        let octets = octets.min(self.data.len());
        bytes::Buf::advance(&mut self.data, octets);
        if self.data.is_empty() {
            // A drained BytesMut keeps its front gap: start over.
            self.data.clear();
        }
    }

    /// Gives large storage back.
    pub fn release(&mut self) {
        if self.data.is_empty() {
            self.data = BytesMut::new();
        }
    }
}

impl std::io::Write for WriteBuffer {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.put(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
