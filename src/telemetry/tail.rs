//! The last lines of the access log, for whoever watches.

use super::tee::each_line;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines that are kept.
const MAX_LINES: usize = 500;

/// Lines as they were written, and how many they are: they are told apart when somebody asks for them.
#[derive(Debug)]
struct Block {
    octets: Vec<u8>,
    lines: usize,
}

#[derive(Debug, Default)]
struct Kept {
    blocks: VecDeque<Block>,
    /// Lines in them.
    lines: usize,
    /// How many lines there were in all.
    all: u64,
}

impl Kept {
    /// Lets go what is not among the last lines when so many more have come; gives the storage of one.
    fn let_go(&mut self, more: usize) -> Option<Vec<u8>> {
        let mut storage = None;
        while let Some(first) = self.blocks.front()
            && self.lines - first.lines + more >= MAX_LINES
        {
            self.lines -= first.lines;
            storage = self.blocks.pop_front().map(|block| block.octets);
        }
        storage
    }
}

/// The last lines.
#[derive(Debug, Default)]
pub struct Tail(Mutex<Kept>);

impl Tail {
    /// The lines after the first `after` of all, at most `limit` of them and the latest ones, and how many there were
    /// in all.
    #[must_use]
    pub fn after(&self, after: u64, limit: usize) -> (Vec<Box<str>>, u64) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = usize::try_from(kept.all.saturating_sub(after)).unwrap_or(usize::MAX);
        let skipped = kept.lines.saturating_sub(new.min(limit).min(MAX_LINES));
        let lines = kept.blocks.iter().flat_map(|block| each_line(&block.octets)).skip(skipped);
        (lines.map(|line| String::from_utf8_lossy(line).into()).collect(), kept.all)
    }

    /// Keeps whole lines.
    pub fn keep(&self, lines: &[u8]) {
        let more = each_line(lines).count();
        if more == 0 {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Storage that is much too large would stay so for as long as the block is kept.
        let storage = kept.let_go(more).filter(|storage| storage.capacity() <= 2 * lines.len());
        let mut octets = storage.unwrap_or_default();
        octets.clear();
        octets.extend_from_slice(lines);
        kept.blocks.push_back(Block { octets, lines: more });
        (kept.lines, kept.all) = (kept.lines + more, kept.all + more as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tee::Tee;
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_kept() {
        let tail = Tail::default();
        let mut out = Tee::new(Vec::new(), |lines: &[u8]| tail.keep(lines));
        for number in 0..MAX_LINES + 10 {
            out.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        let all = (MAX_LINES + 10) as u64;
        let (lines, seen) = tail.after(0, usize::MAX);
        assert_eq!((lines.len(), seen, &*lines[0]), (MAX_LINES, all, "10"));
        assert_eq!(tail.after(all - 2, usize::MAX).0.len(), 2);
        assert_eq!(&*tail.after(0, 1).0[0], (all - 1).to_string());
        assert_eq!(tail.after(all + 5, 10), (vec![], all));
        tail.keep(b"\n");
        tail.keep(b"a\nb\n\xff\n");
        let (lines, seen) = tail.after(all - 1, usize::MAX);
        let last = (all - 1).to_string();
        assert_eq!(lines, [&*last, "a", "b", "\u{fffd}"].map(Box::from));
        assert_eq!((seen, tail.after(0, usize::MAX).0.len()), (all + 3, MAX_LINES));
        // Many at once.
        tail.keep("c\n".repeat(2 * MAX_LINES).as_bytes());
        let (lines, _) = tail.after(0, usize::MAX);
        assert!(lines.len() == MAX_LINES && lines.iter().all(|line| &**line == "c"));
        assert_eq!(out.out.iter().filter(|octet| **octet == b'\n').count(), MAX_LINES + 10);
    }
}
