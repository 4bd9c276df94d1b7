//! What an upstream sends on an HTTP/2 connection, seen as frames before anybody reads them: those that cost it next to
//! nothing are counted, and one too many ends the connection. What they say is for others.

use super::State;
use crate::gate::exchange::MAX_INTERIM;
use crate::gate::http2::floods::Floods;
use crate::gate::http2::frame::{self, FrameHead, HEAD_BYTES};
use crate::gate::stream::Stream;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames that begin a response or its trailers, for each stream: interim answers and one too many of them, the final
/// one, trailers.
const MAX_HEADS_OF_STREAM: u64 = MAX_INTERIM as u64 + 3;
/// The kind of the error by which a flood ends its connection.
pub(super) const FLOODED: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// A connection's octets.
#[derive(Debug)]
pub(super) struct Guard {
    stream: Stream,
    state: Rc<State>,
    frames: Frames,
}

impl Guard {
    pub(super) fn new(stream: Stream, state: &Rc<State>) -> Self {
        Self { stream, state: Rc::clone(state), frames: Frames::new(Instant::now()) }
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        let now = Instant::now();
        let Self { state, frames, .. } = &mut *self;
        state.heard.set(now);
        let seen = frames.read(&into.filled()[before..], state.begun.get(), now)?;
        if seen.has_settings {
            state.has_settings.set(true);
        }
        if seen.is_leaving {
            state.is_over.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, octets))?;
        self.frames.floods.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What went by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// Settings, whole.
    has_settings: bool,
    /// The upstream takes no more streams here.
    is_leaving: bool,
}

/// Where in its frames what was read ends.
#[derive(Debug)]
struct Frames {
    floods: Floods,
    /// Of a frame's head, what has come.
    head: [u8; HEAD_BYTES],
    head_octets: usize,
    /// Octets of the frame's payload that are still to come.
    left: usize,
    is_settings: bool,
    /// Frames with the begin of a response, or trailers.
    heads: u64,
}

impl Frames {
    fn new(now: Instant) -> Self {
        Self {
            floods: Floods::new(now),
            head: [0; HEAD_BYTES],
            head_octets: 0,
            left: 0,
            is_settings: false,
            heads: 0,
        }
    }

    /// Goes on through octets on a connection on which so many streams were begun.
    fn read(&mut self, mut octets: &[u8], begun: u64, now: Instant) -> io::Result<Seen> {
        let mut seen = Seen::default();
        loop {
            if self.head_octets == HEAD_BYTES {
                let payload = self.left.min(octets.len());
                (self.left, octets) = (self.left - payload, &octets[payload..]);
                if self.left > 0 {
                    return Ok(seen);
                }
                seen.has_settings |= self.is_settings;
                self.head_octets = 0;
            }
            let taken = octets.len().min(HEAD_BYTES - self.head_octets);
            self.head[self.head_octets..][..taken].copy_from_slice(&octets[..taken]);
            (self.head_octets, octets) = (self.head_octets + taken, &octets[taken..]);
            let Some(head) = FrameHead::read(&self.head[..self.head_octets]) else {
                return Ok(seen);
            };
            seen.is_leaving |= head.kind == frame::GOAWAY;
            self.left = head.length;
            self.is_settings = head.kind == frame::SETTINGS && !head.has(frame::ACK);
            self.heads += u64::from(head.kind == frame::HEADERS);
            if self.heads > begun * MAX_HEADS_OF_STREAM || self.floods.is_too_many(head, now) {
                return Err(io::Error::new(FLOODED, "frames that say nothing, without end"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead { length: payload.len(), kind, flags, stream: 1 };
        [&head.octets()[..], payload].concat()
    }

    /// How many of a frame pass, and whether settings were seen, wherever reads are cut.
    #[track_caller]
    fn check(frame: &[u8], count: usize, begun: u64, expected: (usize, bool)) {
        for step in [1, 7, 9, 10, 1 << 20] {
            let now = Instant::now();
            let (mut frames, mut has_settings) = (Frames::new(now), false);
            let all = frame.repeat(count);
            let mut passed = 0;
            for piece in all.chunks(step) {
                match frames.read(piece, begun, now) {
                    Ok(seen) => has_settings |= seen.has_settings,
                    Err(_) => break,
                }
                passed += piece.len();
            }
            // A piece may hold more than one frame, of which the last was too many.
            let (whole, most) = (passed / frame.len(), expected.0);
            assert!(whole == most || (whole < most && step > frame.len()), "{whole} in steps of {step}");
            assert!(has_settings == expected.1 || step > frame.len(), "steps of {step}");
        }
    }

    #[test]
    fn frames_are_counted_wherever_reads_are_cut() {
        check(&octets(frame::DATA, 0, b"something"), 5_000, 1, (5_000, false));
        check(&octets(frame::DATA, 0, b""), 5_000, 1, (100, false));
        check(&octets(frame::SETTINGS, 0, &[0; 6]), 5_000, 0, (100, true));
        check(&octets(frame::SETTINGS, frame::ACK, &[]), 50, 0, (50, false));
        check(&octets(frame::PING, 0, &[0; 8]), 5_000, 0, (2_000, false));
        check(&octets(frame::HEADERS, frame::END_HEADERS, b"x"), 100, 2, (22, false));
        check(&octets(0xee, 0, &[1; 300]), 5_000, 0, (1_000, false));
    }

    #[test]
    fn settings_have_come_when_they_are_whole() {
        let (now, settings) = (Instant::now(), octets(frame::SETTINGS, 0, &[0; 12]));
        for cut in 1..settings.len() {
            let mut frames = Frames::new(now);
            assert_eq!(frames.read(&settings[..cut], 0, now).unwrap(), Seen::default(), "{cut}");
            assert!(frames.read(&settings[cut..], 0, now).unwrap().has_settings, "{cut}");
        }
        let empty = octets(frame::SETTINGS, 0, &[]);
        assert!(Frames::new(now).read(&empty, 0, now).unwrap().has_settings, "empty ones");
    }

    #[test]
    fn leaving_is_seen() {
        let (now, leaving) = (Instant::now(), octets(frame::GOAWAY, 0, &[0; 8]));
        assert!(Frames::new(now).read(&leaving, 0, now).unwrap().is_leaving);
        assert!(!Frames::new(now).read(&leaving[..8], 0, now).unwrap().is_leaving);
    }
}
