//! How much of its streams' answers a connection holds, and how much more a stream may take.
//!
//! h2 bounds what one stream has buffered, not what all of them have. Here the pieces that upstreams are read in
//! get smaller as a connection holds more: a client that reads nothing costs a bounded sum, however many streams
//! it opens, and no stream ever waits for another.

use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::rc::Rc;

/// Octets that a connection may hold for pieces of a size to be taken, and that size, the largest first. Few sizes, for
/// the allocator keeps each apart; none is larger than a frame.
const SIZES: [(usize, usize); 2] = [(64 * 1024, 16 * 1024), (96 * 1024, 4 * 1024)];
/// Octets that a piece may have in any case. A stream has two pieces at most: one in h2, one that waits for it.
const LEAST_BYTES: usize = 1024;

/// Octets of answers that a connection holds.
#[derive(Debug, Default)]
pub(super) struct Held(Cell<usize>);

impl Held {
    /// Octets that the next piece may have.
    pub(super) fn room(&self) -> usize {
        let held = self.0.get();
        SIZES.iter().find(|(below, _)| held < *below).map_or(LEAST_BYTES, |(_, octets)| *octets)
    }

    /// Holds a piece until it is dropped: sent, or its stream is over.
    pub(super) fn hold(self: &Rc<Self>, octets: &[u8]) -> Piece {
        self.0.set(self.0.get() + octets.len());
        Piece { data: Bytes::copy_from_slice(octets), held: Some((Rc::clone(self), octets.len())) }
    }
}

/// A piece of an answer.
#[derive(Debug)]
pub(super) struct Piece {
    data: Bytes,
    held: Option<(Rc<Held>, usize)>,
}

impl From<Bytes> for Piece {
    /// Octets that are in memory anyhow.
    fn from(data: Bytes) -> Self {
        Self { data, held: None }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, octets: usize) {
        self.data.advance(octets);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some((held, octets)) = &self.held {
            held.0.set(held.0.get().saturating_sub(*octets));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_sum_however_many_streams() {
        let held = Rc::new(Held::default());
        let [(_, most), (shared, step)] = SIZES;
        assert_eq!(held.room(), most);
        let pieces: Vec<_> = (0..2 * 100).map(|_| held.hold(&vec![0; held.room()])).collect();
        assert_eq!(held.room(), LEAST_BYTES);
        assert!(held.0.get() <= shared + step + 2 * 100 * LEAST_BYTES, "{held:?}");
        drop(pieces);
        assert_eq!((held.0.get(), held.room()), (0, most));
    }
}
