//! Whether a log's chain holds, and where it breaks.

use super::chain::{LineHash, Link, MAX_LINE_BYTES, Place};
use jiff::Timestamp;
use std::fmt;
use std::io::{self, BufRead, Read as _};

/// Where and how the chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The line in its file, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: Broken,
}

/// How a chain breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It is no line of an audit log.
    NoLine,
    /// It does not follow the line before: lines are missing, or were put elsewhere.
    Sequence {
        /// The number that must stand there.
        expected: u64,
        /// The one that does.
        got: u64,
    },
    /// It holds another hash than that of the line before: that line was changed after it was written.
    Changed {
        /// The number of the line that was changed.
        seq: u64,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine => write!(f, "no line of an audit log / 不是审计日志的行"),
            Self::Sequence { expected, got } if got > expected => write!(
                f,
                "lines {expected} to {} are missing / 第 {expected} 至 {} 条记录缺失",
                got - 1,
                got - 1
            ),
            Self::Sequence { expected, got } => write!(
                f,
                "line {got} stands where {expected} belongs / 此处应为第 {expected} 条，实为第 {got} 条"
            ),
            Self::Changed { seq } => write!(
                f,
                "line {seq}, the one before, was changed after it was written: its hash is not the one noted here / 第 {seq} 条记录在写入后被改动"
            ),
        }
    }
}

/// What was read of one file whose chain holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Numbers of the first and last line; `None` for an empty file.
    pub seqs: Option<(u64, u64)>,
    /// Their times.
    pub times: Option<(Timestamp, Timestamp)>,
    /// Octets of a last line that a crash cut, or that is being written.
    pub torn_bytes: u64,
}

/// Follows a chain from file to file.
#[derive(Debug, Default)]
pub struct Verifier {
    /// The last line so far; `None` before the first file.
    end: Option<Link>,
    wanted: Option<LineHash>,
    is_wanted_seen: bool,
}

impl Verifier {
    /// Also looks for a line with this hash.
    #[must_use]
    pub fn looking_for(wanted: Option<LineHash>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// The last line that was read.
    #[must_use]
    pub fn end(&self) -> Option<Link> {
        self.end
    }

    /// Whether the line that was looked for was among those read.
    #[must_use]
    pub fn has_found(&self) -> bool {
        self.wanted.is_none() || self.is_wanted_seen
    }

    /// Reads the next file; `each` sees every line that is in its place.
    ///
    /// # Errors
    /// The system's, or where the chain breaks.
    pub fn file(
        &mut self,
        mut lines: impl BufRead,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<Result<Checked, Break>> {
        let mut checked = Checked { seqs: None, times: None, torn_bytes: 0 };
        let mut line = Vec::new();
        for number in 1_u64.. {
            line.clear();
            let read = (&mut lines).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            if line.pop() != Some(b'\n') {
                if read < MAX_LINE_BYTES {
                    checked.torn_bytes = read as u64;
                    break;
                }
                return Ok(Err(Break { line: number, what: Broken::NoLine }));
            }
            match self.line(&line) {
                Ok(place) => {
                    each(&line);
                    let (first, began) =
                        checked.seqs.zip(checked.times).map_or((place.seq, place.time), |(s, t)| (s.0, t.0));
                    checked.seqs = Some((first, place.seq));
                    checked.times = Some((began, place.time));
                }
                Err(what) => return Ok(Err(Break { line: number, what })),
            }
        }
        Ok(Ok(checked))
    }

    fn line(&mut self, line: &[u8]) -> Result<Place, Broken> {
        let place = Place::of(line).ok_or(Broken::NoLine)?;
        let prev = place.prev().ok_or(Broken::NoLine)?;
        // Without what came before, the first line is taken at its word.
        let before = self.end.unwrap_or(Link { seq: place.seq.saturating_sub(1), hash: prev });
        let expected = before.seq + 1;
        if place.seq != expected {
            return Err(Broken::Sequence { expected, got: place.seq });
        }
        if prev != before.hash || (place.seq == 1 && prev != LineHash::NONE) {
            return Err(Broken::Changed { seq: before.seq });
        }
        let hash = LineHash::of(line);
        self.is_wanted_seen |= self.wanted == Some(hash);
        self.end = Some(Link { seq: place.seq, hash });
        Ok(place)
    }
}

/// The number of a file's first line, to put files in order; `None` for an empty file.
///
/// # Errors
/// The system's.
pub fn first_seq(mut lines: impl BufRead) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    (&mut lines).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line)?;
    Ok(Place::of(line.trim_ascii_end()).map(|place| place.seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(events: usize) -> Vec<Vec<u8>> {
        let (mut link, mut out) = (Link::START, Vec::new());
        (0..events).for_each(|nth| link.add(0, &format!(r#"{{"event":"end","nth":{nth}}}"#), &mut out));
        out.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// Numbers of the first and last line, and octets that are cut off.
    type Whole = (Option<(u64, u64)>, u64);

    #[track_caller]
    fn check(lines: &[Vec<u8>], expected: Result<Whole, (u64, Broken)>) {
        let checked = Verifier::default().file(&lines.concat()[..], |_| {}).unwrap();
        let seen = checked.map(|it| (it.seqs, it.torn_bytes)).map_err(|it| (it.line, it.what));
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_was_done_to_a_chain_is_seen() {
        let lines = chain(5);
        check(&lines, Ok((Some((1, 5)), 0)));
        check(&[], Ok((None, 0)));
        check(&lines[2..], Ok((Some((3, 5)), 0)));
        let mut torn = lines.clone();
        torn[4].truncate(20);
        check(&torn, Ok((Some((1, 4)), 20)));
        let mut changed = lines.clone();
        changed[2] = String::from_utf8(changed[2].clone()).unwrap().replace("nth\":2", "nth\":7").into();
        check(&changed, Err((4, Broken::Changed { seq: 3 })));
        let mut gone = lines.clone();
        gone.drain(1..3);
        check(&gone, Err((2, Broken::Sequence { expected: 2, got: 4 })));
        let mut swapped = lines.clone();
        swapped.swap(1, 2);
        check(&swapped, Err((2, Broken::Sequence { expected: 2, got: 3 })));
        let mut twice = lines.clone();
        twice.insert(1, lines[0].clone());
        check(&twice, Err((2, Broken::Sequence { expected: 2, got: 1 })));
        let mut foreign = lines.clone();
        foreign[0] = b"{}\n".to_vec();
        check(&foreign, Err((1, Broken::NoLine)));
        let mut begun_anew = lines;
        begun_anew[0] = String::from_utf8(begun_anew[0].clone()).unwrap().replacen("00", "11", 1).into();
        assert!(Verifier::default().file(&begun_anew.concat()[..], |_| {}).unwrap().is_err());
    }

    #[test]
    fn a_chain_goes_on_from_file_to_file() {
        let lines = chain(6);
        let mut verifier = Verifier::looking_for(Some(LineHash::of(lines[4].trim_ascii_end())));
        assert!(verifier.file(&lines[..3].concat()[..], |_| {}).unwrap().is_ok());
        assert!(!verifier.has_found());
        assert!(verifier.file(&lines[3..].concat()[..], |_| {}).unwrap().is_ok());
        assert!(verifier.has_found());
        assert_eq!(verifier.end().map(|end| end.seq), Some(6));
        let mut gap = Verifier::default();
        assert!(gap.file(&lines[..2].concat()[..], |_| {}).unwrap().is_ok());
        let broken = gap.file(&lines[3..].concat()[..], |_| {}).unwrap();
        assert_eq!(broken.unwrap_err().what, Broken::Sequence { expected: 3, got: 4 });
        assert_eq!(first_seq(&lines[3][..]).unwrap(), Some(4));
    }
}
