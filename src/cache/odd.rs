//! The side table of odd filing numbers: texts by index, appended by one writer, read without locks.
//!
//! Texts stay until the whole table is replaced; the writer gives equal texts one index, so a filing that
//! goes back and forth adds nothing.

use std::sync::OnceLock;

/// Texts in the first chunk; each further one is as large as all before it.
const FIRST_CHUNK: usize = 64;
const CHUNKS: usize = 40;

/// An append-only list that never moves what it holds.
#[derive(Debug)]
pub(super) struct OddTexts {
    chunks: [OnceLock<Chunk>; CHUNKS],
}

#[derive(Debug)]
struct Chunk(Box<[OnceLock<Box<str>>]>);

impl Default for OddTexts {
    fn default() -> Self {
        Self { chunks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl OddTexts {
    /// The text at `index`.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        let (chunk, at) = place(index);
        self.chunks.get(chunk)?.get()?.0.get(at)?.get().map(AsRef::as_ref)
    }

    /// Puts the text at `index`, which must be the next one.
    pub(super) fn append(&self, index: usize, text: &str) {
        let (chunk, at) = place(index);
        let size = if chunk == 0 { FIRST_CHUNK } else { FIRST_CHUNK << (chunk - 1) };
        let chunk = self.chunks[chunk].get_or_init(|| Chunk((0..size).map(|_| OnceLock::new()).collect()));
        // Only the one writer appends, and an index only once: the cell is empty.
        let _ = chunk.0[at].set(text.into());
    }
}

fn place(index: usize) -> (usize, usize) {
    match (index / FIRST_CHUNK).checked_ilog2() {
        None => (0, index),
        Some(doublings) => {
            let chunk = usize::try_from(doublings).unwrap_or(CHUNKS);
            (chunk + 1, index - (FIRST_CHUNK << chunk))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_keeps_its_text() {
        let texts = OddTexts::default();
        assert_eq!(texts.text(0), None);
        for index in 0..1000 {
            texts.append(index, &format!("沪ICP证{index}号"));
        }
        for index in 0..1000 {
            assert_eq!(texts.text(index), Some(&*format!("沪ICP证{index}号")));
        }
        assert_eq!(texts.text(1000), None);
    }
}
