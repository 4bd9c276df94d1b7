//! Read and write buffers that are given back while a connection waits.
//!
//! Each worker thread keeps a few spare ones; an idle connection holds none.

use std::cell::RefCell;

/// Octets of a standard buffer.
pub const BUFFER_BYTES: usize = 32 * 1024;
/// Octets that a write buffer begins with: a head and a small body.
const OUT_BYTES: usize = 4 * 1024;
/// The most octets that a spare write buffer keeps: what is gathered before a write, and a head.
const MAX_OUT_BYTES: usize = 128 * 1024;
/// Spare buffers of each kind kept per worker.
const MAX_SPARE: usize = 64;
/// Spare write buffers that have grown, of them.
const MAX_SPARE_LARGE: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SPARE_LARGE_OUT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
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

/// Those that have grown are few and apart: a head would keep one from who needs it.
fn give_back_out(storage: Vec<u8>) {
    if storage.len() > MAX_OUT_BYTES {
        return;
    }
    let is_small = storage.len() <= OUT_BYTES;
    let (pool, most) = if is_small { (&SPARE_OUT, MAX_SPARE) } else { (&SPARE_LARGE_OUT, MAX_SPARE_LARGE) };
    pool.with_borrow_mut(|spare| {
        if spare.len() < most {
            spare.push(storage);
        }
    });
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
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            // What was made to fit octets that are used by now is too small for others.
            if self.storage.len() < BUFFER_BYTES {
                self.storage = take_spare();
            }
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

    /// Gives back what storage is not needed: the rest may lie here for long.
    pub fn fit(&mut self) {
        if self.is_empty() {
            return self.release();
        }
        if self.data().len() <= self.storage.len() / 2 {
            let rest: Box<[u8]> = self.data().into();
            (self.start, self.end) = (0, rest.len());
            give_back(std::mem::replace(&mut self.storage, rest));
        }
    }

    fn make_room(&mut self, capacity: usize) {
        if self.start > 0 {
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.storage.len() < capacity {
            let mut larger = match (self.storage.len() * 2).max(BUFFER_BYTES).min(capacity) {
                BUFFER_BYTES => take_spare(),
                octets => vec![0; octets].into(),
            };
            larger[..self.end].copy_from_slice(&self.storage[..self.end]);
            give_back(std::mem::replace(&mut self.storage, larger));
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
    /// As long as its room: what is put is copied and nothing else.
    storage: Vec<u8>,
    /// Octets at the front that are written.
    start: usize,
    end: usize,
}

impl WriteBuffer {
    /// What is still to be written.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.storage[self.start..self.end]
    }

    /// Whether all is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Octets still to be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Adds octets. Inlined, so that putting a few known ones is a store or two.
    #[inline(always)]
    pub fn put(&mut self, octets: &[u8]) {
        if self.storage.len() - self.end < octets.len() {
            self.make_room(octets.len());
        }
        let end = self.end + octets.len();
        self.storage[self.end..end].copy_from_slice(octets);
        self.end = end;
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, octets: usize) {
        if self.storage.is_empty() {
            self.storage = SPARE_OUT.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; OUT_BYTES]);
        } else if self.start > 0 {
            // What is written makes room.
            self.storage.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let needed = self.end + octets;
        if needed > self.storage.len() {
            self.grow(needed);
        }
    }

    fn grow(&mut self, needed: usize) {
        let spare = SPARE_LARGE_OUT.with_borrow_mut(|spare| {
            spare.iter().rposition(|one| one.len() >= needed).map(|at| spare.swap_remove(at))
        });
        let Some(mut larger) = spare else { return self.storage.resize(needed.next_power_of_two(), 0) };
        larger[..self.end].copy_from_slice(&self.storage[..self.end]);
        give_back_out(std::mem::replace(&mut self.storage, larger));
    }

    /// Puts other octets in place of some that are still to be written, from the `at`-th on.
    pub fn overwrite(&mut self, at: usize, octets: &[u8]) {
        let at = self.start + at;
        self.storage[at..at + octets.len()].copy_from_slice(octets);
    }

    /// Takes back all but so many of the octets that are still to be written.
    pub fn truncate(&mut self, octets: usize) {
        self.end = self.end.min(self.start + octets);
    }

    /// Counts octets as written.
    pub fn written(&mut self, octets: usize) {
        self.start += octets.min(self.len());
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Gives the storage back if nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() && !self.storage.is_empty() {
            (self.start, self.end) = (0, 0);
            give_back_out(std::mem::take(&mut self.storage));
        }
    }
}

impl Drop for WriteBuffer {
    fn drop(&mut self) {
        let left = self.len();
        self.written(left);
        self.release();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut ReadBuffer, octets: &[u8]) {
        buffer.space(BUFFER_BYTES)[..octets.len()].copy_from_slice(octets);
        buffer.filled(octets.len());
    }

    #[test]
    fn what_fits_grows_again() {
        let mut buffer = ReadBuffer::default();
        fill(&mut buffer, b"hello, world");
        buffer.consume(7);
        buffer.fit();
        assert_eq!((buffer.data(), buffer.storage.len()), (&b"world"[..], 5));
        fill(&mut buffer, b" again");
        assert_eq!((buffer.data(), buffer.storage.len()), (&b"world again"[..], BUFFER_BYTES));
        buffer.consume(6);
        buffer.fit();
        buffer.consume(5);
        assert_eq!(buffer.space(BUFFER_BYTES).len(), BUFFER_BYTES);
        buffer.fit();
        assert!(buffer.storage.is_empty());
    }
}
