//! Frames of HTTP/2 as they go by: each kind has a limit for a stretch of time, larger where the client is being
//! answered, and field blocks have an end. Pure: gives what to do about them, and does nothing.

use super::hpack::Blocks;
use std::time::{Duration, Instant};

/// Octets of a frame's head (RFC 9113, 4.1).
pub(super) const HEAD_BYTES: usize = 9;
/// Octets of the connection preface, which is no frame.
const PREFACE_BYTES: u32 = 24;
/// Frames are counted for this long, then anew.
const STRETCH: Duration = Duration::from_secs(10);
/// CONTINUATION frames of one field block.
const MAX_CONTINUATIONS: u32 = 64;
/// Octets of a priority in a HEADERS frame.
const PRIORITY_BYTES: usize = 5;

/// A stream's number has 31 bits.
const STREAM_MASK: u32 = u32::MAX >> 1;

pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;
pub(super) const HEADERS: u8 = 1;
pub(super) const CONTINUATION: u8 = 9;

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

    fn of(kind: u8, flags: u8, octets: u32) -> Option<Self> {
        Some(match kind {
            0 if octets == 0 && flags & END_STREAM == 0 => Self::EmptyData,
            // PUSH_PROMISE (5) is an error to h2.
            0 | HEADERS | 5 | CONTINUATION => return None,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
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

/// What is to be done about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing.
    Pass,
    /// It begins a stream's trailers: they are to be looked at as a whole.
    Trailers,
    /// It is one too many.
    Flood,
}

/// Frames as they go by.
#[derive(Debug)]
pub(super) struct Walk {
    /// Octets of the current frame still to come.
    left: u32,
    kind: u8,
    /// A field block that has begun and has not ended.
    pub(super) block: Option<Block>,
    max_block_bytes: u64,
    /// Field blocks that have begun.
    blocks: u64,
    /// The last stream that a HEADERS frame was for.
    last_stream: u32,
    fragment: Fragment,
    fields: Blocks,
    counts: [u64; Counted::ALL],
    since: Instant,
    /// Octets written to the client in this stretch.
    written: u64,
}

/// A field block that has begun.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Block {
    pub(super) stream: [u8; 4],
    octets: u64,
    continuations: u32,
}

/// What of a frame's payload is field block.
#[derive(Debug, Default, Clone, Copy)]
struct Fragment {
    /// The length of the padding comes first.
    is_padded: bool,
    /// Octets between that and the block.
    before: usize,
    /// Octets of the block, and of padding while its length is not known.
    left: usize,
}

impl Walk {
    pub(super) fn new(now: Instant, max_block_bytes: u64) -> Self {
        Self {
            left: PREFACE_BYTES,
            kind: HEADERS,
            block: None,
            max_block_bytes,
            blocks: 1,
            last_stream: 0,
            fragment: Fragment::default(),
            fields: Blocks::default(),
            counts: [0; Counted::ALL],
            since: now,
            written: 0,
        }
    }

    /// The field block that the next octets are of, by its number; the preface counts as the first. 0: none.
    pub(super) fn current_block(&self) -> u64 {
        let is_in_one =
            self.block.is_some() || (self.left > 0 && matches!(self.kind, HEADERS | CONTINUATION));
        if is_in_one { self.blocks } else { 0 }
    }

    /// Whether the field block that has just ended names a pseudo-field, or makes no sense.
    pub(super) fn has_pseudo(&self) -> bool {
        self.fields.has_pseudo()
    }

    /// Octets were written to the client.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.written += octets as u64;
    }

    /// Goes over octets: gives how many are of frames whose heads are whole and in order, and what is to be done
    /// about the frame after them.
    pub(super) fn pass(&mut self, octets: &[u8], now: Instant) -> (usize, Next) {
        let mut at = 0;
        loop {
            at += self.payload(&octets[at..]);
            let Some(head) = octets[at..].first_chunk::<HEAD_BYTES>() else { return (at, Next::Pass) };
            let next = self.frame(head, now);
            if next != Next::Pass {
                return (at, next);
            }
            at += HEAD_BYTES;
        }
    }

    /// Goes over the rest of a field block whose first head was gone over: as `pass`; `true` once it has ended.
    pub(super) fn pass_block(&mut self, octets: &[u8], now: Instant) -> (usize, Next, bool) {
        let mut at = 0;
        loop {
            at += self.payload(&octets[at..]);
            if self.left == 0 && self.block.is_none() {
                return (at, Next::Pass, true);
            }
            let head = octets[at..].first_chunk::<HEAD_BYTES>().filter(|_| self.left == 0);
            let Some(head) = head else { return (at, Next::Pass, false) };
            if self.frame(head, now) == Next::Flood {
                return (at, Next::Flood, false);
            }
            at += HEAD_BYTES;
        }
    }

    /// Goes over what there is of the current frame's payload.
    fn payload(&mut self, octets: &[u8]) -> usize {
        let some = octets.len().min(self.left as usize);
        self.left -= u32::try_from(some).unwrap_or(self.left);
        if self.fragment.left > 0 {
            self.fragment(&octets[..some]);
        }
        some
    }

    fn fragment(&mut self, mut octets: &[u8]) {
        let fragment = &mut self.fragment;
        if fragment.is_padded
            && let Some((&padding, rest)) = octets.split_first()
        {
            octets = rest;
            fragment.is_padded = false;
            // Padding that leaves nothing is an error to h2.
            fragment.left = fragment.left.saturating_sub(padding.into());
        }
        let before = fragment.before.min(octets.len());
        fragment.before -= before;
        let octets = &octets[before..];
        let some = octets.len().min(fragment.left);
        fragment.left -= some;
        self.fields.walk(&octets[..some]);
    }

    /// Takes a frame's head.
    pub(super) fn frame(&mut self, head: &[u8; HEAD_BYTES], now: Instant) -> Next {
        let octets = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let [kind, flags, stream @ ..] = [head[3], head[4], head[5], head[6], head[7], head[8]];
        let mut next = Next::Pass;
        self.fragment = Fragment::default();
        if let Some(block) = &mut self.block {
            block.continuations += 1;
            block.octets += u64::from(octets);
            if block.continuations > MAX_CONTINUATIONS || block.octets > self.max_block_bytes {
                return Next::Flood;
            }
            self.fragment.left = octets as usize;
            // Whatever else comes within a block is an error to h2.
            if flags & END_HEADERS != 0 {
                self.block = None;
            }
        } else if kind == HEADERS {
            if u64::from(octets) > self.max_block_bytes {
                return Next::Flood;
            }
            next = self.begin_block(octets, flags, stream);
        } else if let Some(counted) = Counted::of(kind, flags, octets)
            && self.is_too_many(counted, now)
        {
            return Next::Flood;
        }
        (self.left, self.kind) = (octets, kind);
        next
    }

    fn begin_block(&mut self, octets: u32, flags: u8, stream: [u8; 4]) -> Next {
        self.blocks += 1;
        self.fields.begin();
        let is_padded = flags & PADDED != 0;
        let before = if flags & PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
        let left = (octets as usize).saturating_sub(before + usize::from(is_padded));
        self.fragment = Fragment { is_padded, before, left };
        let is_whole = flags & END_HEADERS != 0;
        self.block = (!is_whole).then_some(Block { stream, octets: octets.into(), continuations: 0 });
        let number = u32::from_be_bytes(stream) & STREAM_MASK;
        if number <= self.last_stream {
            return Next::Trailers;
        }
        self.last_stream = number;
        Next::Pass
    }

    fn is_too_many(&mut self, counted: Counted, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= STRETCH {
            (self.counts, self.since, self.written) = ([0; Counted::ALL], now, 0);
        }
        let count = &mut self.counts[counted as usize];
        *count += 1;
        let (always, octets_for_one) = counted.allowance();
        let earned = self.written.checked_div(octets_for_one).unwrap_or(0);
        *count > always + earned
    }
}
