//! The body decoder: which octets of a stream are body, and where it ends (RFC 9112, 7.1).
//!
//! Pure and strict: chunk sizes are plain hex of bounded length, extensions are looked at for what could
//! hide in them and dropped, trailers are read; what may be passed on of them is for others to say.

use super::framing::Framing;
use crate::gate::request::BodyLength;

/// The most hex digits of a chunk size.
const MAX_SIZE_DIGITS: u32 = 15;
/// The most octets of one chunk's extensions.
const MAX_EXTENSION_BYTES: u32 = 1024;
/// The most octets of a trailer section.
const MAX_TRAILER_BYTES: u32 = 8 * 1024;

/// What is wrong with a body; the message is finished and so is its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the chunked body is malformed: {0}")]
pub struct BodyError(pub &'static str);

/// Reads one body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum State {
    #[default]
    Done,
    Length(u64),
    UntilClose,
    Size {
        size: u64,
        digits: u32,
    },
    Extension {
        size: u64,
        left: u32,
    },
    SizeLf {
        size: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line; `left` octets may still follow in the section.
    Trailer {
        left: u32,
    },
    TrailerName {
        left: u32,
    },
    TrailerValue {
        left: u32,
    },
    TrailerLf {
        left: u32,
        is_last: bool,
    },
}

/// What a step found at the start of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many octets of framing, to be dropped.
    Skip(usize),
    /// So many octets of body.
    Data(usize),
    /// More input is needed.
    NeedInput,
    /// The body is whole; the input begins with what follows it.
    Done,
}

impl BodyDecoder {
    /// For a request body.
    #[must_use]
    pub fn for_request(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None | BodyLength::Exactly(0) => State::Done,
            BodyLength::Exactly(octets) => State::Length(octets),
            BodyLength::Unknown => State::Size { size: 0, digits: 0 },
        };
        Self { state }
    }

    /// For a response body.
    #[must_use]
    pub fn for_response(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(octets) => State::Length(octets),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether the body is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether what comes next belongs to the trailer section: a step skips it by itself.
    #[must_use]
    pub fn is_in_trailers(&self) -> bool {
        matches!(
            self.state,
            State::Trailer { .. }
                | State::TrailerName { .. }
                | State::TrailerValue { .. }
                | State::TrailerLf { .. }
        )
    }

    /// Whether the stream may end here (a body that ends with its connection).
    #[must_use]
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Octets of body that are surely next, where there is no framing among them.
    #[must_use]
    pub fn plain_octets(&self) -> u64 {
        match self.state {
            State::Length(left) => left,
            _ => 0,
        }
    }

    /// `octets` of the `plain_octets` were used up unseen.
    pub fn skip(&mut self, octets: u64) {
        if let State::Length(left) = self.state {
            let left = left.saturating_sub(octets);
            self.state = if left == 0 { State::Done } else { State::Length(left) };
        }
    }

    /// Looks at the start of `input`; what it reports as `Skip` or `Data` is used up and must not be shown again.
    ///
    /// # Errors
    /// `BodyError`, for good.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        if self.state == State::Done {
            return Ok(Step::Done);
        }
        if input.is_empty() {
            return Ok(Step::NeedInput);
        }
        match self.state {
            State::UntilClose => return Ok(Step::Data(input.len())),
            State::Length(left) => {
                let (taken, left) = split_off(left, input.len());
                self.state = if left == 0 { State::Done } else { State::Length(left) };
                return Ok(Step::Data(taken));
            }
            State::Data(left) => {
                let (taken, left) = split_off(left, input.len());
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                return Ok(Step::Data(taken));
            }
            _ => {}
        }
        let (mut used, in_trailers) = (0, self.is_in_trailers());
        while used < input.len()
            && !matches!(self.state, State::Done | State::Data(_))
            && in_trailers == self.is_in_trailers()
        {
            self.state = self.framing_octet(input[used])?;
            used += 1;
        }
        Ok(Step::Skip(used))
    }

    fn framing_octet(&self, octet: u8) -> Result<State, BodyError> {
        let bad = |why| Err(BodyError(why));
        Ok(match (&self.state, octet) {
            (State::Size { digits: MAX_SIZE_DIGITS, .. }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                return bad("a chunk size has too many digits");
            }
            (State::Size { size, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(octet).to_digit(16).map_or(0, u64::from);
                State::Size { size: size * 16 + digit, digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return bad("a chunk has no size"),
            (State::Size { size, .. } | State::Extension { size, .. }, b'\r') => {
                State::SizeLf { size: *size }
            }
            (State::Size { size, .. }, b';') => State::Extension { size: *size, left: MAX_EXTENSION_BYTES },
            (State::Size { .. }, _) => return bad("a chunk size is not plain hex"),
            (State::Extension { left: 0, .. }, _) => return bad("chunk extensions are too long"),
            (State::Extension { size, left }, b'\t' | b' '..=b'~') => {
                State::Extension { size: *size, left: left - 1 }
            }
            (State::Extension { .. }, _) => return bad("a control octet in a chunk extension"),
            (State::SizeLf { size: 0 }, b'\n') => State::Trailer { left: MAX_TRAILER_BYTES },
            (State::SizeLf { size }, b'\n') => State::Data(*size),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
            (State::DataCr | State::DataLf, _) => return bad("a chunk is longer than its size"),
            (State::Trailer { left }, b'\r') => State::TrailerLf { left: *left, is_last: true },
            (State::TrailerValue { left }, b'\r') => State::TrailerLf { left: *left, is_last: false },
            (
                State::Trailer { left: 0 } | State::TrailerName { left: 0 } | State::TrailerValue { left: 0 },
                _,
            ) => {
                return bad("the trailer section is too long");
            }
            (State::Trailer { left } | State::TrailerName { left }, _) if is_token(octet) => {
                State::TrailerName { left: left - 1 }
            }
            (State::TrailerName { left }, b':') => State::TrailerValue { left: left - 1 },
            (State::TrailerValue { left }, b'\t' | b' '..=b'~' | 0x80..) => {
                State::TrailerValue { left: left - 1 }
            }
            (State::Trailer { .. } | State::TrailerName { .. }, _) => {
                return bad("a trailer without a plain name");
            }
            (State::TrailerValue { .. }, _) => return bad("a control octet in a trailer"),
            (State::TrailerLf { is_last: true, .. }, b'\n') => State::Done,
            (State::TrailerLf { left, .. }, b'\n') => State::Trailer { left: *left },
            (State::SizeLf { .. } | State::TrailerLf { .. }, _) => return bad("a bare CR"),
            (State::Done | State::Length(_) | State::UntilClose | State::Data(_), _) => {
                return bad("no framing here");
            }
        })
    }
}

/// RFC 9110, 5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// How much of `left` octets lies in `available`, and what is left then.
fn split_off(left: u64, available: usize) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    (taken, left - taken as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, expected: Result<(&str, usize), BodyError>) {
        let mut decoder = BodyDecoder::for_request(BodyLength::Unknown);
        let (mut body, mut rest) = (Vec::new(), stream.as_bytes());
        let end = loop {
            match decoder.step(rest) {
                Ok(Step::Skip(octets)) => rest = &rest[octets..],
                Ok(Step::Data(octets)) => {
                    body.extend_from_slice(&rest[..octets]);
                    rest = &rest[octets..];
                }
                Ok(Step::Done) => break Ok((String::from_utf8(body).unwrap(), rest.len())),
                Ok(Step::NeedInput) => panic!("{stream:?} has no end"),
                Err(error) => break Err(error),
            }
        };
        assert_eq!(end, expected.map(|(body, rest)| (body.to_owned(), rest)), "{stream:?}");
    }

    #[test]
    fn trailers_are_fields() {
        let bad = Err(BodyError("a trailer without a plain name"));
        check("5\r\nhello\r\n0\r\n\r\nGET", Ok(("hello", 3)));
        check("5\r\nhello\r\n0\r\nT: v\r\nU:\r\n\r\nGET", Ok(("hello", 3)));
        check("0\r\nT:\u{e9}\t:\r\n\r\n", Ok(("", 0)));
        check("0\r\nT5 v\r\n\r\n", bad);
        check("0\r\nGET / HTTP/1.1\r\n\r\n", bad);
        check("0\r\nT\r\n\r\n", bad);
        check("0\r\n: v\r\n\r\n", bad);
        check("0\r\nT : v\r\n\r\n", bad);
        check("0\r\n T: v\r\n\r\n", bad);
        check("0\r\nT: v\r\n w\r\n\r\n", bad);
        check("0\r\nT: \0\r\n\r\n", Err(BodyError("a control octet in a trailer")));
        check("0\r\nT: v\rw\r\n\r\n", Err(BodyError("a bare CR")));
    }
}
