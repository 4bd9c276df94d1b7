//! What passes beneath hyper: heads of frames are counted as they go by (attacks, section 7).
//!
//! h2 has no limit on frames that cost their sender next to nothing: SETTINGS, PING, PRIORITY, `WINDOW_UPDATE`,
//! `RST_STREAM` of streams that were taken, frames of kinds that nobody knows. Here each kind has one for a stretch
//! of time, larger where the client is being answered; who goes beyond it is asked to calm down (`GOAWAY`) and the
//! connection ends. Looks at nine octets of each frame and at the forms of field blocks, and copies none of the rest
//! but trailers: they are held back until it is known that they name no pseudo-field (attacks, section 5). Those
//! that do lose the flag that ends their stream: to that h2 answers with the reset that is wanted.

use super::walk::{Block, CONTINUATION, END_STREAM, HEAD_BYTES, HEADERS, Next, Walk};
use crate::gate::watch::{Clock, WatchGuard};
use bytes::{Bytes, BytesMut};
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a field block may have beyond twice the decoded size that is allowed: a frame of padding.
const BLOCK_SLACK_BYTES: u64 = 16 * 1024;
/// How long a client that was asked to calm down may take to hear it.
const CALM_TIME: Duration = Duration::from_secs(1);
/// Octets given to h2 until it must have noticed.
const MAX_CALM_BYTES: usize = 64 * 1024;
/// Octets of trailers read at once.
const TRAILER_READ_BYTES: usize = 1024;
/// Where the flags are in a frame's head.
const FLAGS: usize = 4;

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
    trailers: Option<Box<Trailers>>,
    /// Octets that were read with trailers and come after them.
    early: Bytes,
}

/// Trailers that h2 has not got yet.
#[derive(Debug)]
struct Trailers {
    octets: BytesMut,
    /// Octets of them that were gone over.
    walked: usize,
    /// Octets to be given to h2: none until all have come.
    whole: usize,
}

impl<S> Frames<S> {
    pub(super) fn new(io: S, beneath: Rc<Beneath>) -> Self {
        let walk = Walk::new(beneath.clock.now(), beneath.max_block_bytes);
        Self {
            io,
            beneath,
            walk,
            head: [0; HEAD_BYTES],
            held: 0,
            given: 0,
            stamped: 1,
            calming: 0,
            trailers: None,
            early: Bytes::new(),
        }
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
        let stream = open.map_or([0, 0, 0, 1], |Block { stream, .. }| stream);
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

    /// Trailers begin with these octets.
    fn hold(&mut self, octets: &[u8]) {
        self.trailers =
            Some(Box::new(Trailers { octets: BytesMut::from(octets), walked: HEAD_BYTES, whole: 0 }));
    }

    /// Gives h2 what it has not got of trailers that are whole.
    fn give_trailers(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let Some(trailers) = self.trailers.as_mut().filter(|trailers| trailers.whole > 0) else {
            return false;
        };
        let octets = into.remaining().min(trailers.whole);
        into.put_slice(&trailers.octets.split_to(octets));
        trailers.whole -= octets;
        if trailers.whole == 0 {
            let after = std::mem::take(&mut trailers.octets).freeze();
            self.early =
                if self.early.is_empty() { after } else { [after, self.early.clone()].concat().into() };
            self.trailers = None;
        }
        true
    }

    /// Goes over what has come of trailers; `true` once nothing more is to be waited for.
    fn walk_trailers(&mut self) -> bool {
        let Some(trailers) = &mut self.trailers else { return true };
        let now = self.beneath.clock.now();
        let (passed, next, is_whole) = self.walk.pass_block(&trailers.octets[trailers.walked..], now);
        trailers.walked += passed;
        if next == Next::Flood {
            // h2 has seen nothing of the block.
            (self.trailers, self.walk.block) = (None, None);
            self.flooded();
            return true;
        }
        if is_whole {
            if self.walk.has_pseudo() {
                trailers.octets[FLAGS] &= !END_STREAM;
            }
            trailers.whole = trailers.walked;
        }
        self.stamp();
        is_whole
    }
}

impl<S: AsyncRead + Unpin> Frames<S> {
    fn poll_io(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, into);
        }
        let octets = self.early.len().min(into.remaining());
        into.put_slice(&self.early.split_to(octets));
        Poll::Ready(Ok(()))
    }

    /// Reads trailers to their end; `false` at the end of the stream.
    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while !self.walk_trailers() {
            let mut space = [0; TRAILER_READ_BYTES];
            let mut read = ReadBuf::new(&mut space);
            ready!(self.poll_io(cx, &mut read))?;
            let Some(trailers) = self.trailers.as_mut().filter(|_| !read.filled().is_empty()) else {
                return Poll::Ready(Ok(false));
            };
            trailers.octets.extend_from_slice(read.filled());
        }
        Poll::Ready(Ok(true))
    }

    /// Reads the rest of a head that came in parts; `false` at the end of the stream.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.held < HEAD_BYTES {
            let mut head = self.head;
            let mut rest = ReadBuf::new(&mut head[self.held..]);
            ready!(self.poll_io(cx, &mut rest))?;
            match rest.filled().len() {
                0 => return Poll::Ready(Ok(false)),
                octets => self.held += octets,
            }
            self.head = head;
        }
        match self.walk.frame(&self.head, self.beneath.clock.now()) {
            Next::Pass => {}
            Next::Flood => self.flooded(),
            Next::Trailers => {
                self.held = 0;
                self.hold(&self.head.clone());
            }
        }
        self.stamp();
        Poll::Ready(Ok(true))
    }

    /// Reads, and keeps back the part of a head that the octets end with.
    fn poll_frames(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = into.filled().len();
        ready!(self.poll_io(cx, into))?;
        let octets = &into.filled()[start..];
        let (passed, next) = self.walk.pass(octets, self.beneath.clock.now());
        match next {
            Next::Flood => self.flooded(),
            Next::Trailers => self.hold(&octets[passed..]),
            Next::Pass => {
                self.held = octets.len() - passed;
                self.head[..self.held].copy_from_slice(&octets[passed..]);
            }
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
            if this.give(into) || this.give_trailers(into) {
                return Poll::Ready(Ok(()));
            }
            if this.held > 0 || this.trailers.is_some() {
                let goes_on = if this.held > 0 { this.poll_head(cx) } else { this.poll_trailers(cx) };
                if !ready!(goes_on)? {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let start = into.filled().len();
            ready!(this.poll_frames(cx, into))?;
            // Nothing to give is no end while a head, trailers or a flood are under way.
            let is_under_way = this.held > 0 || this.trailers.is_some() || this.beneath.is_flooded();
            if into.filled().len() > start || !is_under_way {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, octets))?;
        this.walk.wrote(written);
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
        this.walk.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::END_HEADERS;
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

    #[test]
    fn trailers_that_name_pseudo_fields_end_no_stream() {
        let begin = frame(HEADERS, END_HEADERS, 3, b"\x41\x01F\x40\x01x\x01y");
        let data = frame(0, 0, 3, b"\x82\x82\x82");
        let next = frame(HEADERS, END_HEADERS | END_STREAM, 5, b"\x82");
        let padded = |octets: &[u8]| [&[3][..], &[0, 0, 0, 0, 9], octets, &[0x82; 3]].concat();
        let rows: [(&[u8], &[u8], bool); 6] = [
            (b"\x00\x01t\x01v", b"", true),
            (b"\xbe", b"\xbe", true),
            (b"\x82", b"", false),
            (b"\xbe", b"\xbf", false),
            (b"\x00\x05:pat", b"h\x00", false),
            (b"\x00\x05", b"", false),
        ];
        for (first, second, ends) in rows {
            let trailers = |flag: u8| {
                [
                    frame(HEADERS, flag | 8 | 32, 3, &padded(first)),
                    frame(CONTINUATION, END_HEADERS, 3, second),
                ]
                .concat()
            };
            let (sent, wanted) = (trailers(END_STREAM), trailers(if ends { END_STREAM } else { 0 }));
            let octets = [PREFACE, &begin, &data, &sent, &next].concat();
            let expected = [PREFACE, &begin, &data, &wanted, &next].concat();
            for step in STEPS {
                let (got, is_flooded) = read(&octets, step);
                assert!(got == expected && !is_flooded, "{first:02x?} {second:02x?} in steps of {step}");
            }
        }
        let long = frame(HEADERS, END_STREAM, 3, &[0x82; 100]);
        let octets = [PREFACE, &begin, &long, &frame(CONTINUATION, 0, 3, b"").repeat(70)].concat();
        let (got, is_flooded) = read(&octets, 70_000);
        let whole = [PREFACE, &begin].concat();
        assert!(is_flooded && got.starts_with(&whole));
        assert_eq!(got[whole.len()..][..HEAD_BYTES], frame(HEADERS, 0, 1, b""), "h2 has seen no block");
    }
}
