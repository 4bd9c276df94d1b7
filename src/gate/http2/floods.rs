//! Frames that cost their sender next to nothing: each kind has a limit for a stretch of time, larger where the client is
//! being answered (attacks, section 7). Pure.

use super::frame::{self, FrameHead};
use std::time::{Duration, Instant};

/// Frames are counted for this long, then anew.
const STRETCH: Duration = Duration::from_secs(10);

/// A kind of frame that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    EmptyData,
    Priority,
    Reset,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    Unknown,
}

impl Counted {
    const ALL: usize = 8;

    fn of(head: FrameHead) -> Option<Self> {
        Some(match head.kind {
            frame::DATA if head.length == 0 && !head.has(frame::END_STREAM) => Self::EmptyData,
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION => return None,
            frame::PRIORITY => Self::Priority,
            frame::RST_STREAM => Self::Reset,
            frame::SETTINGS => Self::Settings,
            frame::PING => Self::Ping,
            frame::GOAWAY => Self::GoAway,
            frame::WINDOW_UPDATE => Self::WindowUpdate,
            _ => Self::Unknown,
        })
    }

    /// Frames in a stretch, whatever happens; and the octets written to the client that allow one more (0: none do).
    /// An honest client sends a PING for each round trip of a download, a `WINDOW_UPDATE` or two for each frame of
    /// it, and one reset for what it no longer wants.
    fn allowance(self) -> (u64, u64) {
        match self {
            Self::EmptyData | Self::Settings => (100, 0),
            Self::GoAway => (10, 0),
            Self::Priority | Self::Unknown => (1_000, 0),
            Self::Reset => (1_000, 1_024),
            Self::Ping => (2_000, 64),
            Self::WindowUpdate => (10_000, 64),
        }
    }
}

/// Frames of one connection in this stretch, of a client or an upstream.
#[derive(Debug)]
pub struct Floods {
    counts: [u64; Counted::ALL],
    since: Instant,
    /// Octets written to their sender.
    written: u64,
    /// Streams that were reset for errors of the client's.
    resets: u64,
}

impl Floods {
    /// None were seen yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { counts: [0; Counted::ALL], since: now, written: 0, resets: 0 }
    }

    /// Octets were written to who sends the frames.
    pub fn wrote(&mut self, octets: usize) {
        self.written += octets as u64;
    }

    fn renew(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= STRETCH {
            *self = Self::new(now);
        }
    }

    /// Counts a stream that is reset for an error of the client's; gives how many there were.
    pub(super) fn resets(&mut self, now: Instant) -> u64 {
        self.renew(now);
        self.resets += 1;
        self.resets
    }

    /// Whether more than so many were.
    pub(super) fn is_over(&self, most: u64) -> bool {
        self.resets > most
    }

    /// Counts a frame; `true`: it is one too many.
    pub fn is_too_many(&mut self, head: FrameHead, now: Instant) -> bool {
        let Some(counted) = Counted::of(head) else { return false };
        self.renew(now);
        let count = &mut self.counts[counted as usize];
        *count += 1;
        let (always, octets_for_one) = counted.allowance();
        let earned = self.written.checked_div(octets_for_one).unwrap_or(0);
        *count > always + earned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that pass, of so many.
    #[track_caller]
    fn check((kind, length): (u8, usize), written: usize, expected: u64) {
        let begin = Instant::now();
        let mut floods = Floods::new(begin);
        floods.wrote(written);
        let head = FrameHead { length, kind, flags: 0, stream: 0 };
        let passed = |floods: &mut Floods, now| {
            (0..20_000).take_while(|_| !floods.is_too_many(head, now)).count() as u64
        };
        assert_eq!(passed(&mut floods, begin), expected, "kind {kind}");
        // What was earned is counted anew as well.
        assert!(passed(&mut floods, begin + STRETCH) <= expected, "kind {kind}");
        assert!(floods.is_too_many(head, begin + STRETCH) || expected == 20_000);
    }

    #[test]
    fn each_kind_has_its_own() {
        check((frame::DATA, 0), 0, 100);
        check((frame::DATA, 1), 0, 20_000);
        check((frame::HEADERS, 0), 0, 20_000);
        check((frame::SETTINGS, 6), 1 << 20, 100);
        check((frame::GOAWAY, 8), 1 << 20, 10);
        check((frame::PRIORITY, 5), 0, 1_000);
        check((0xfa, 0), 0, 1_000);
        check((frame::RST_STREAM, 4), 100 * 1024, 1_100);
        check((frame::PING, 8), 64_000, 3_000);
        check((frame::WINDOW_UPDATE, 4), 64, 10_001);
    }
}
