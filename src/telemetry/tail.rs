//! The last lines of the access log, for whoever watches.

use super::tee::each_line;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines that are kept.
const MAX_LINES: usize = 500;

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Box<str>>,
    /// How many lines there were before the first that is kept.
    before: u64,
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
        let all = kept.before + kept.lines.len() as u64;
        let new = usize::try_from(all.saturating_sub(after)).unwrap_or(usize::MAX);
        let skipped = kept.lines.len().saturating_sub(new.min(limit));
        (kept.lines.iter().skip(skipped).cloned().collect(), all)
    }

    /// Keeps whole lines.
    pub fn keep(&self, lines: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for line in each_line(lines) {
            if kept.lines.len() >= MAX_LINES {
                kept.lines.pop_front();
                kept.before += 1;
            }
            kept.lines.push_back(String::from_utf8_lossy(line).into());
        }
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
        assert_eq!(out.out.iter().filter(|octet| **octet == b'\n').count(), MAX_LINES + 10);
    }
}
