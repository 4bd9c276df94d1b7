//! What passes beneath hyper: heads of frames are counted as they go by (attacks, section 7).
//!
//! h2 has no limit on frames that cost their sender next to nothing: SETTINGS, PING, PRIORITY, `WINDOW_UPDATE`,
//! `RST_STREAM` of streams that were taken, frames of kinds that nobody knows. Here each kind has one for a stretch
//! of time, larger where the client is being answered; who goes beyond it is asked to calm down (`GOAWAY`) and the
//! connection ends. Looks at nine octets of each frame, copies none of the rest, and knows nothing of HPACK.

use crate::gate::watch::{Clock, WatchGuard};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Octets of a frame's head (RFC 9113, 4.1).
const HEAD_BYTES: usize = 9;
/// Octets of the connection preface, which is no frame.
const PREFACE_BYTES: u32 = 24;
/// Frames are counted for this long, then anew.
const STRETCH: Duration = Duration::from_secs(10);
/// CONTINUATION frames of one field block.
const MAX_CONTINUATIONS: u32 = 64;
/// What a field block may have beyond twice the decoded size that is allowed: a frame of padding.
const BLOCK_SLACK_BYTES: u64 = 16 * 1024;
/// How long a client that was asked to calm down may take to hear it.
const CALM_TIME: Duration = Duration::from_secs(1);
/// Octets given to h2 until it must have noticed.
const MAX_CALM_BYTES: usize = 64 * 1024;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

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

/// What the connection is told of its frames.
#[derive(Debug)]
pub(super) struct Beneath {
    /// The deadline of a field block that has begun, or of a client that was asked to calm down.
    pub(super) watch: WatchGuard,
    clock: Rc<Clock>,
    header_timeout: Duration,
    max_block_bytes: u64,
    is_flooded: Cell<bool>,
}

impl Beneath {
    /// A connection begins: its preface and first frame are due.
    pub(super) fn new(clock: &Rc<Clock>, header_timeout: Duration, header_bytes: u32) -> Rc<Self> {
        let watch = clock.watch();
        watch.within(header_timeout);
        let max_block_bytes = u64::from(header_bytes) * 2 + BLOCK_SLACK_BYTES;
        let clock = Rc::clone(clock);
        Rc::new(Self { watch, clock, header_timeout, max_block_bytes, is_flooded: Cell::new(false) })
    }

    /// Whether the client sent more than it may.
    pub(super) fn is_flooded(&self) -> bool {
        self.is_flooded.get()
    }
}

/// A flood.
#[derive(Debug, PartialEq, Eq)]
struct Flood;

/// Frames as they go by.
#[derive(Debug)]
struct Walk {
    /// Octets of the current frame still to come.
    left: u32,
    kind: u8,
    /// A field block that has begun and has not ended.
    block: Option<Block>,
    /// Field blocks that have begun.
    blocks: u64,
    counts: [u64; Counted::ALL],
    since: Instant,
    /// Octets written to the client in this stretch.
    written: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Block {
    stream: [u8; 4],
    octets: u64,
    continuations: u32,
}

impl Walk {
    fn new(now: Instant) -> Self {
        Self {
            left: PREFACE_BYTES,
            kind: HEADERS,
            block: None,
            blocks: 1,
            counts: [0; Counted::ALL],
            since: now,
            written: 0,
        }
    }

    /// The field block that the next octets are of, by its number; the preface counts as the first. 0: none.
    fn current_block(&self) -> u64 {
        let is_in_one =
            self.block.is_some() || (self.left > 0 && matches!(self.kind, HEADERS | CONTINUATION));
        if is_in_one { self.blocks } else { 0 }
    }

    /// Goes over octets: gives how many are of frames whose heads are whole and in order.
    fn pass(&mut self, octets: &[u8], beneath: &Beneath) -> (usize, Result<(), Flood>) {
        let mut at = 0;
        loop {
            let rest = octets.len() - at;
            if self.left as usize >= rest {
                self.left -= u32::try_from(rest).unwrap_or(self.left);
                return (octets.len(), Ok(()));
            }
            at += self.left as usize;
            self.left = 0;
            let Some(head) = octets[at..].first_chunk::<HEAD_BYTES>() else { return (at, Ok(())) };
            if let Err(flood) = self.frame(head, beneath) {
                return (at, Err(flood));
            }
            at += HEAD_BYTES;
        }
    }

    fn frame(&mut self, head: &[u8; HEAD_BYTES], beneath: &Beneath) -> Result<(), Flood> {
        let octets = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let [kind, flags, stream @ ..] = [head[3], head[4], head[5], head[6], head[7], head[8]];
        if let Some(block) = &mut self.block {
            block.continuations += 1;
            block.octets += u64::from(octets);
            if block.continuations > MAX_CONTINUATIONS || block.octets > beneath.max_block_bytes {
                return Err(Flood);
            }
            // Whatever else comes within a block is an error to h2.
            if flags & END_HEADERS != 0 {
                self.block = None;
            }
        } else if kind == HEADERS {
            self.blocks += 1;
            self.block = (flags & END_HEADERS == 0).then_some(Block {
                stream,
                octets: octets.into(),
                continuations: 0,
            });
        } else if let Some(counted) = Counted::of(kind, flags, octets) {
            self.count(counted, beneath.clock.now())?;
        }
        (self.left, self.kind) = (octets, kind);
        Ok(())
    }

    fn count(&mut self, counted: Counted, now: Instant) -> Result<(), Flood> {
        if now.saturating_duration_since(self.since) >= STRETCH {
            (self.counts, self.since, self.written) = ([0; Counted::ALL], now, 0);
        }
        let count = &mut self.counts[counted as usize];
        *count += 1;
        let (always, octets_for_one) = counted.allowance();
        let earned = self.written.checked_div(octets_for_one).unwrap_or(0);
        if *count > always + earned { Err(Flood) } else { Ok(()) }
    }
}

/// A stream whose incoming octets are HTTP/2 frames.
#[derive(Debug)]
pub(super) struct Frames<S> {
    io: S,
    beneath: Rc<Beneath>,
    walk: Walk,
    /// A head of which a part has come: h2 gets heads whole, so that it can be stopped between two frames.
    head: [u8; HEAD_BYTES],
    /// Octets of `head` that are there.
    held: usize,
    /// Octets of `head` that h2 has, once it is whole.
    given: usize,
    /// The field block that the deadline is of.
    stamped: u64,
    /// Octets of what makes h2 say `ENHANCE_YOUR_CALM` that were given to it.
    calming: usize,
}

impl<S> Frames<S> {
    pub(super) fn new(io: S, beneath: Rc<Beneath>) -> Self {
        let walk = Walk::new(beneath.clock.now());
        Self { io, beneath, walk, head: [0; HEAD_BYTES], held: 0, given: 0, stamped: 1, calming: 0 }
    }

    /// Stamps the deadline of a field block where one has begun, takes it back where it has ended.
    fn stamp(&mut self) {
        let current = self.walk.current_block();
        if current == self.stamped || self.beneath.is_flooded() {
            return;
        }
        self.stamped = current;
        if current == 0 {
            self.beneath.watch.unbounded();
        } else {
            self.beneath.watch.within(self.beneath.header_timeout);
        }
    }

    fn flooded(&mut self) {
        self.beneath.is_flooded.set(true);
        self.beneath.watch.within(CALM_TIME);
    }

    /// Gives h2 a field block of ever more empty CONTINUATION frames in place of what the client sent: to that it
    /// answers with the `GOAWAY` that is wanted, after what it has begun to write.
    fn calm(&mut self, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.calming >= MAX_CALM_BYTES {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let open = self.walk.block;
        let stream = open.map_or([0, 0, 0, 1], |block| block.stream);
        while into.remaining() > 0 && self.calming < MAX_CALM_BYTES {
            let is_first = self.calming < HEAD_BYTES && open.is_none();
            let octet = match self.calming % HEAD_BYTES {
                3 if is_first => HEADERS,
                3 => CONTINUATION,
                at @ 5.. => stream[at - 5],
                _ => 0,
            };
            into.put_slice(&[octet]);
            self.calming += 1;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives h2 what it has not got of a head that is whole.
    fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        if self.held < HEAD_BYTES {
            return false;
        }
        let octets = into.remaining().min(HEAD_BYTES - self.given);
        into.put_slice(&self.head[self.given..self.given + octets]);
        self.given += octets;
        if self.given == HEAD_BYTES {
            (self.held, self.given) = (0, 0);
        }
        true
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    /// Reads the rest of a head that came in parts; `false` at the end of the stream.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.held < HEAD_BYTES {
            let mut rest = ReadBuf::new(&mut self.head[self.held..]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut rest))?;
            match rest.filled().len() {
                0 => return Poll::Ready(Ok(false)),
                octets => self.held += octets,
            }
        }
        if self.walk.frame(&self.head, &self.beneath).is_err() {
            self.flooded();
        }
        self.stamp();
        Poll::Ready(Ok(true))
    }

    /// Reads, and keeps back the part of a head that the octets end with.
    fn poll_frames(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = into.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, into))?;
        let octets = &into.filled()[start..];
        let (passed, result) = self.walk.pass(octets, &self.beneath);
        if result.is_err() {
            self.flooded();
        } else if passed < octets.len() {
            self.held = octets.len() - passed;
            self.head[..self.held].copy_from_slice(&octets[passed..]);
        }
        into.set_filled(start + passed);
        self.stamp();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.beneath.is_flooded() {
                return this.calm(into);
            }
            if this.give(into) {
                return Poll::Ready(Ok(()));
            }
            if this.held > 0 {
                if !ready!(this.poll_head(cx))? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let start = into.filled().len();
            ready!(this.poll_frames(cx, into))?;
            // Nothing to give is no end while a head or a flood is under way.
            if into.filled().len() > start || (this.held == 0 && !this.beneath.is_flooded()) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, octets))?;
        this.walk.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, octets))?;
        this.walk.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// What h2 gets to read of these octets, `step` at a time.
    fn read(octets: &[u8], step: usize) -> (Vec<u8>, bool) {
        let clock = Clock::new();
        let beneath = Beneath::new(&clock, Duration::from_secs(1), 1024);
        let mut builder = steps(octets, step);
        let mut frames = Frames::new(&mut builder, Rc::clone(&beneath));
        let mut got = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut space = vec![0; step];
            while let Ok(1..) = frames.read(&mut space).await.inspect(|n| got.extend(&space[..*n])) {}
        });
        (got, beneath.is_flooded())
    }

    /// Octets that come `step` at a time.
    fn steps(octets: &[u8], step: usize) -> Steps {
        Steps { octets: octets.to_vec(), at: 0, step }
    }

    #[derive(Debug)]
    struct Steps {
        octets: Vec<u8>,
        at: usize,
        step: usize,
    }

    impl AsyncRead for Steps {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let octets = self.step.min(into.remaining()).min(self.octets.len() - self.at);
            into.put_slice(&self.octets[self.at..self.at + octets]);
            self.at += octets;
            Poll::Ready(Ok(()))
        }
    }

    const STEPS: [usize; 6] = [1, 2, 8, 9, 10, 70_000];
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn what_is_in_order_passes_as_it_came() {
        let frames = [
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, 0, 1, b"block"),
            frame(CONTINUATION, END_HEADERS, 1, &[7; 3000]),
            frame(0, 0, 1, &[1; 10_000]),
            frame(0, END_STREAM, 1, b""),
            frame(8, 0, 0, &[0, 0, 0, 1]),
            frame(0x10, 0, 0, b"u=1"),
        ];
        let octets = [PREFACE, &frames.concat()].concat();
        for step in STEPS {
            let (got, is_flooded) = read(&octets, step);
            assert!(got == octets && !is_flooded, "in steps of {step}");
        }
    }

    #[test]
    fn floods_are_stopped_between_two_frames() {
        let rows: [(&[u8], usize); 8] = [
            (&frame(0, 0, 1, b""), 100),
            (&frame(2, 0, 1, &[0; 5]), 1_000),
            (&frame(3, 0, 1, &[0; 4]), 1_000),
            (&frame(4, 1, 0, b""), 100),
            (&frame(6, 0, 0, &[0; 8]), 2_000),
            (&frame(7, 0, 0, &[0; 8]), 10),
            (&frame(8, 0, 0, &[0, 0, 0, 1]), 10_000),
            (&frame(0xfa, 0, 7, b""), 1_000),
        ];
        for (one, limit) in rows {
            for step in STEPS {
                let octets = [PREFACE, &one.repeat(limit + 1)].concat();
                let (got, is_flooded) = read(&octets, step);
                let whole = PREFACE.len() + one.len() * limit;
                assert!(is_flooded && got.starts_with(&octets[..whole]), "kind {} by {step}", one[3]);
                let calm = [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, 0, 1, b"")].concat();
                assert_eq!(got[whole..][..calm.len()], calm, "kind {} by {step}", one[3]);
                let (_, is_flooded) = read(&octets[..octets.len() - 1], step);
                assert_eq!(is_flooded, one.len() > HEAD_BYTES, "a frame short of it: kind {}", one[3]);
            }
        }
    }

    #[test]
    fn field_blocks_have_an_end() {
        let begin = frame(HEADERS, 0, 3, b"x");
        for (piece, limit) in [(vec![], 64), (vec![0; 6_000], 3)] {
            let more = frame(CONTINUATION, 0, 3, &piece);
            let octets = [PREFACE, &begin, &more.repeat(limit + 1)].concat();
            let (got, is_flooded) = read(&octets, 70_000);
            let whole = octets.len() - more.len();
            assert!(is_flooded && got.starts_with(&octets[..whole]));
            assert_eq!(got[whole..][..HEAD_BYTES], frame(CONTINUATION, 0, 3, b""), "the block goes on");
        }
    }
}
