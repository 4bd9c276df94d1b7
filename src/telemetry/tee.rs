//! A writer of lines that shows them to somebody else as well.

use std::io::{self, Write};

/// The lines that stand in octets, the empty ones left out.
pub fn each_line(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = octets;
    let next = move || {
        let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        let is_over = rest.is_empty();
        rest = rest.get(end + 1..).unwrap_or_default();
        (!is_over).then_some(line)
    };
    std::iter::from_fn(next).filter(|line| !line.is_empty())
}

/// Writes on, and shows `also` what is written first. Each write is of whole lines.
#[derive(Debug)]
pub struct Tee<W, F> {
    pub(super) out: W,
    also: F,
}

impl<W: Write, F: FnMut(&[u8])> Tee<W, F> {
    /// Over a writer.
    pub fn new(out: W, also: F) -> Self {
        Self { out, also }
    }
}

impl<W: Write, F: FnMut(&[u8])> Write for Tee<W, F> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.write_all(lines)?;
        Ok(lines.len())
    }

    fn write_all(&mut self, lines: &[u8]) -> io::Result<()> {
        (self.also)(lines);
        self.out.write_all(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
