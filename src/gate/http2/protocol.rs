//! The connection's side of HTTP/2 (RFC 9113): what each frame of a client's means, and what is said to it. Pure: octets
//! come in, octets for the client go into a buffer, streams that begin are handed over.
//!
//! Knows no verdict and no upstream; what a request means is for its stream's future to find.

mod blocks;
mod control;
mod resets;
mod sending;

use super::floods::Floods;
use super::flow::{Flow, Sent};
use super::frame::{self, Code, FrameHead};
use super::head::Wrong;
use super::hpack::{Decoder, Encoder};
use crate::config::Limits;
use crate::gate::buffer::WriteBuffer;
use crate::gate::request::RequestHead;
use blocks::Block;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

/// Streams that a client may have open at once.
const MAX_STREAMS: usize = 100;
/// Octets that a client may send on a stream before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection.
const CONNECTION_WINDOW: u32 = 384 * 1024;
/// Either window, until it is said to be another.
const FIRST_WINDOW: u32 = 65_535;
/// The most that a window may be.
const MAX_WINDOW: i64 = frame::MASK as i64;
/// Heads that a connection keeps the storage of.
const MAX_SPARE_HEADS: usize = 8;
/// Streams that a client resets before anything was done about them, in one turn (rapid reset).
const MAX_STILLBORN: usize = 20;
/// Streams that we reset for errors of the client's in a stretch of time before the connection ends.
const MAX_LOCAL_RESETS: u64 = 256;
/// Streams beyond those that it may open, before a client has said that it knows how many those are.
const MAX_EARLY_REFUSALS: usize = 2 * MAX_STREAMS;
/// Streams of which it is remembered that we have reset them: what was on its way is let pass.
const MAX_REMEMBERED_RESETS: usize = MAX_STREAMS;
/// A stream that begins.
#[derive(Debug)]
pub struct Born {
    pub(super) flow: Rc<Flow>,
    pub(super) head: RequestHead,
    /// What is wrong with the head.
    pub(super) read: Result<(), Wrong>,
}

impl Born {
    /// Its number.
    #[must_use]
    pub fn stream(&self) -> u32 {
        self.flow.id
    }

    /// What is asked, where it is a request.
    #[must_use]
    pub fn request(&self) -> Option<&RequestHead> {
        self.read.is_ok().then_some(&self.head)
    }
}

/// How far the connection's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// The client was told; what it sent before it heard of it is served.
    Announced,
    /// What it sends now is not.
    Final,
}

/// What one connection's frames have come to.
#[derive(Debug)]
pub struct Protocol {
    decoder: Decoder,
    encoder: Encoder,
    /// What requests' heads are held to.
    header_bytes: usize,
    header_fields: usize,
    floods: Floods,
    /// Open streams, in the order of their numbers.
    flows: Vec<Rc<Flow>>,
    /// The last stream that the client has opened.
    last_stream: u32,
    /// Those of them that may have been served: what `GOAWAY` names.
    last_served: u32,
    has_preface: bool,
    has_settings: bool,
    /// Frames that were taken, and how many had been when the open field block began.
    frames: u64,
    block_since: u64,
    /// The client knows how many streams it may open.
    is_acknowledged: bool,
    block: Option<Block>,
    send_window: i64,
    first_send_window: i64,
    max_frame_bytes: usize,
    receive_window: u32,
    unsaid: u32,
    /// Streams that wait for their turn to send.
    queue: VecDeque<Rc<Flow>>,
    /// Octets of answers that streams hold because they can't be sent.
    held: usize,
    stillborn: usize,
    early_refusals: usize,
    now: Instant,
    remembered: VecDeque<u32>,
    pub(super) leaving: Leaving,
    /// Storage that ended streams leave to the next.
    heads: Vec<RequestHead>,
}

impl Protocol {
    /// A connection begins: says what it is held to.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant, out: &mut WriteBuffer) -> Self {
        control::say_settings(limits, out);
        Self {
            decoder: Decoder::default(),
            encoder: Encoder::default(),
            header_bytes: limits.header_bytes,
            header_fields: limits.headers,
            floods: Floods::new(now),
            flows: Vec::new(),
            last_stream: 0,
            last_served: 0,
            has_preface: false,
            has_settings: false,
            frames: 0,
            block_since: 0,
            is_acknowledged: false,
            block: None,
            send_window: FIRST_WINDOW.into(),
            first_send_window: FIRST_WINDOW.into(),
            max_frame_bytes: frame::MAX_FRAME_BYTES,
            receive_window: CONNECTION_WINDOW,
            unsaid: 0,
            queue: VecDeque::new(),
            held: 0,
            stillborn: 0,
            early_refusals: 0,
            now,
            remembered: VecDeque::new(),
            leaving: Leaving::No,
            heads: Vec::new(),
        }
    }

    /// Takes the frame that `input` begins with, or the preface; gives how many octets it has, 0 where it is not whole.
    ///
    /// # Errors
    /// The connection is to end, for that reason.
    pub fn take(
        &mut self,
        input: &[u8],
        now: Instant,
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<usize, Code> {
        if !self.has_preface {
            let octets = input.len().min(frame::PREFACE.len());
            if input[..octets] != frame::PREFACE[..octets] {
                return Err(Code::Protocol);
            }
            self.has_preface = octets == frame::PREFACE.len();
            return Ok(if self.has_preface { octets } else { 0 });
        }
        let Some(head) = FrameHead::read(input) else { return Ok(0) };
        if head.length > frame::MAX_FRAME_BYTES {
            return Err(Code::FrameSize);
        }
        let end = frame::HEAD_BYTES + head.length;
        let Some(payload) = input.get(frame::HEAD_BYTES..end) else { return Ok(0) };
        self.now = now;
        if self.floods.is_too_many(head, now) {
            return Err(Code::Calm);
        }
        self.frames += 1;
        self.frame(head, payload, out, born)?;
        Ok(end)
    }

    /// What the client is due to finish within the time for heads, by a number of its own: the preface and the first
    /// settings, a field block that has begun, a frame of which `input` has a part (bodies have deadlines of their
    /// own). 0: nothing.
    #[must_use]
    pub fn due(&self, input: &[u8]) -> u64 {
        match input.get(3) {
            _ if !self.has_settings => 1,
            _ if self.block.is_some() => self.block_since,
            _ if input.is_empty() => 0,
            Some(&frame::DATA) => 0,
            _ => self.frames + 1,
        }
    }

    fn frame(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<(), Code> {
        // Settings come first (RFC 9113, 3.4), and nothing comes between the pieces of a field block (6.10).
        let is_first = !self.has_settings && (head.kind != frame::SETTINGS || head.has(frame::ACK));
        let is_amid = self.block.as_ref().is_some_and(|block| !block.goes_on(head));
        if is_first || is_amid || (self.block.is_none() && head.kind == frame::CONTINUATION) {
            return Err(Code::Protocol);
        }
        match head.kind {
            frame::DATA => self.data(head, payload, out),
            frame::HEADERS => self.headers(head, payload, out, born),
            frame::CONTINUATION => self.continuation(head, payload, out, born),
            frame::PRIORITY => self.priority(head, payload, out),
            frame::RST_STREAM => self.reset_by_client(head, payload),
            frame::SETTINGS => self.settings(head, payload, out),
            frame::PUSH_PROMISE => Err(Code::Protocol),
            frame::PING => self.ping(head, payload, out),
            frame::GOAWAY if head.stream != 0 => Err(Code::Protocol),
            frame::GOAWAY if head.length < 8 => Err(Code::FrameSize),
            frame::WINDOW_UPDATE => self.window_update(head, payload, out),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: FrameHead, payload: &[u8], out: &mut WriteBuffer) -> Result<(), Code> {
        let octets = u32::try_from(head.length).map_err(|_| Code::FrameSize)?;
        if head.stream == 0 || head.stream > self.last_stream {
            return Err(Code::Protocol);
        }
        let data = frame::unpadded(head, payload).ok_or(Code::Protocol)?;
        self.receive_window = self.receive_window.checked_sub(octets).ok_or(Code::FlowControl)?;
        let Some(flow) = self.live(head.stream) else {
            self.give_back(octets, out);
            return self.closed(head, out);
        };
        if flow.is_ended.get() {
            self.give_back(octets, out);
            return self.fault(&flow, Code::StreamClosed, out);
        }
        let Some(window) = flow.receive_window.get().checked_sub(octets) else {
            self.give_back(octets, out);
            return self.fault(&flow, Code::FlowControl, out);
        };
        flow.receive_window.set(window);
        let is_end = head.has(frame::END_STREAM);
        let left = flow.left.get().map(|left| left.checked_sub(data.len() as u64));
        let is_other_length = matches!(left, Some(None)) || is_end && matches!(left, Some(Some(1..)));
        if is_other_length {
            self.give_back(octets, out);
            return self.fault(&flow, Code::Protocol, out);
        }
        flow.left.set(left.flatten());
        // Nothing but padding costs as much as nothing at all.
        let is_empty = data.is_empty() && head.length > 0 && !head.has(frame::END_STREAM);
        if is_empty && self.floods.is_too_many(FrameHead { length: 0, ..head }, self.now) {
            return Err(Code::Calm);
        }
        flow.receive(data);
        let padding = head.length - data.len();
        flow.unused.set(flow.unused.get() + padding);
        self.used(&flow, padding, out);
        if is_end {
            flow.end(None);
        }
        Ok(())
    }

    /// Octets were written to the client.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.floods.wrote(octets);
    }

    fn flow(&self, id: u32) -> Option<Rc<Flow>> {
        let at = self.flows.binary_search_by_key(&id, |flow| flow.id).ok()?;
        Some(Rc::clone(&self.flows[at]))
    }

    /// A stream that we have not reset.
    fn live(&self, id: u32) -> Option<Rc<Flow>> {
        self.flow(id).filter(|flow| flow.reset.get().is_none())
    }

    /// Open streams.
    pub(super) fn streams(&self) -> usize {
        self.flows.len()
    }

    /// A stream's future is over: what it has not said is said here.
    pub(super) fn close(&mut self, flow: &Flow, out: &mut WriteBuffer) {
        if flow.sent.get() != Sent::End {
            self.reset(flow, Code::Internal, out);
        } else if !flow.is_ended.get() {
            // Its answer is whole, and the rest of the request is not wanted (RFC 9113, 8.1).
            self.reset(flow, Code::NoError, out);
        }
        let unused = u32::try_from(flow.unused.replace(0)).unwrap_or(u32::MAX);
        self.give_back(unused, out);
        flow.forget();
        self.remove(flow);
    }

    /// Takes back the storage of a head. A connection without streams holds none.
    pub(super) fn keep(&mut self, mut head: RequestHead) {
        if self.flows.len() <= 1 {
            self.heads.truncate(1);
            self.heads.iter_mut().for_each(RequestHead::release);
            head.release();
        }
        if self.heads.len() < MAX_SPARE_HEADS {
            self.heads.push(head);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::control::{ENABLE_PUSH, INITIAL_WINDOW_SIZE, LEAVING, MAX_FRAME_SIZE};
    use super::*;

    const GET: &[u8] = b"\x82\x86\x84\x41\x08filed.cn";
    const POST: &[u8] = b"\x83\x86\x84\x41\x08filed.cn";

    /// A frame as it is sent.
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        [&FrameHead { length: payload.len(), kind, flags, stream }.octets()[..], payload].concat()
    }

    fn get(stream: u32) -> Vec<u8> {
        frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, stream, GET)
    }

    fn post(stream: u32) -> Vec<u8> {
        frame(frame::HEADERS, frame::END_HEADERS, stream, POST)
    }

    fn setting(name: u16, value: u32) -> Vec<u8> {
        let payload = [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        frame(frame::SETTINGS, 0, 0, &payload)
    }

    /// A connection whose client has said its settings.
    struct Peer {
        protocol: Protocol,
        out: WriteBuffer,
        born: Vec<Born>,
        now: Instant,
    }

    impl Peer {
        fn new() -> Self {
            let (now, mut out) = (Instant::now(), WriteBuffer::default());
            let protocol = Protocol::new(&Limits::default(), now, &mut out);
            let mut peer = Self { protocol, out, born: Vec::new(), now };
            let begin = [frame::PREFACE, &frame(frame::SETTINGS, 0, 0, &[])].concat();
            assert_eq!(peer.take(&begin), Ok(begin.len()));
            peer.said();
            peer
        }

        /// Takes all that is whole; gives how much that was.
        fn take(&mut self, octets: &[u8]) -> Result<usize, Code> {
            let mut at = 0;
            loop {
                match self.protocol.take(&octets[at..], self.now, &mut self.out, &mut self.born)? {
                    0 => return Ok(at),
                    some => at += some,
                }
            }
        }

        /// Frames that were said since the last time: kind, stream, and the payload's first number.
        fn said(&mut self) -> Vec<(u8, u32, u32)> {
            let (mut said, mut octets) = (Vec::new(), self.out.data());
            while let Some(head) = FrameHead::read(octets) {
                let payload = &octets[frame::HEAD_BYTES..][..head.length];
                let number = payload.first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
                said.push((head.kind, head.stream, number));
                octets = &octets[frame::HEAD_BYTES + head.length..];
            }
            self.out.written(self.out.len());
            said
        }
    }

    /// What frames come to after the settings: how the connection ends, if it does, else the streams that were reset.
    #[track_caller]
    fn check(name: &str, frames: &[Vec<u8>], expected: Result<&[(u32, Code)], Code>) {
        let mut peer = Peer::new();
        let octets = frames.concat();
        let taken = peer.take(&octets);
        let resets = peer.said().into_iter().filter(|(kind, ..)| *kind == frame::RST_STREAM);
        let resets: Vec<_> = resets.map(|(_, stream, code)| (stream, code)).collect();
        let expected = expected.map(|resets| {
            (octets.len(), resets.iter().map(|(stream, code)| (*stream, *code as u32)).collect())
        });
        assert_eq!(taken.map(|taken| (taken, resets)), expected, "{name}");
    }

    #[test]
    fn what_is_in_order() {
        check("requests", &[get(1), get(3), get(101)], Ok(&[]));
        let end = frame(frame::DATA, frame::END_STREAM, 1, b"");
        check("a body", &[post(1), frame(frame::DATA, 0, 1, b"x"), end.clone()], Ok(&[]));
        let trailers = frame(frame::HEADERS, frame::END_HEADERS | frame::END_STREAM, 1, b"\x00\x01x\x01y");
        check("trailers", &[post(1), frame(frame::DATA, 0, 1, b"x"), trailers], Ok(&[]));
        let pieces = [
            frame(frame::HEADERS, frame::END_STREAM, 1, &GET[..1]),
            frame(frame::CONTINUATION, 0, 1, &GET[1..2]),
            frame(frame::CONTINUATION, frame::END_HEADERS, 1, &GET[2..]),
        ];
        check("a block in pieces", &pieces, Ok(&[]));
        check("a kind that nobody knows", &[frame(0xfa, 0xff, 7, b"x"), get(1)], Ok(&[]));
        check("a reset", &[get(1), frame(frame::RST_STREAM, 0, 1, &[0; 4]), get(3)], Ok(&[]));
        check(
            "a late window",
            &[
                get(1),
                frame(frame::RST_STREAM, 0, 1, &[0; 4]),
                frame(frame::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            ],
            Ok(&[]),
        );
    }

    #[test]
    fn what_ends_the_connection() {
        let is = |name: &str, bad: Vec<u8>, code: Code| check(name, &[get(1), bad], Err(code));
        is("DATA for nobody", frame(frame::DATA, 0, 0, b"x"), Code::Protocol);
        is("DATA for the future", frame(frame::DATA, 0, 3, b"x"), Code::Protocol);
        is("padding without end", frame(frame::DATA, frame::PADDED, 1, &[9, 0]), Code::Protocol);
        is("a stream of ours", get(2), Code::Protocol);
        is("a stream that is none", get(0), Code::Protocol);
        is("no block", frame(frame::HEADERS, frame::END_HEADERS, 3, b"\xff"), Code::Compression);
        is("a priority cut short", frame(frame::HEADERS, 4 | frame::HAS_PRIORITY, 3, b"\0"), Code::Protocol);
        is("CONTINUATION alone", frame(frame::CONTINUATION, 4, 3, GET), Code::Protocol);
        let begun = frame(frame::HEADERS, 0, 3, GET);
        is("another amid a block", [begun.clone(), get(5)].concat(), Code::Protocol);
        is(
            "another's piece",
            [begun.clone(), frame(frame::CONTINUATION, 4, 5, b"")].concat(),
            Code::Protocol,
        );
        is(
            "pieces without end",
            [begun, frame(frame::CONTINUATION, 0, 3, b"").repeat(65)].concat(),
            Code::Calm,
        );
        is("a promise", frame(frame::PUSH_PROMISE, 4, 1, &[0; 8]), Code::Protocol);
        is("a reset of nobody", frame(frame::RST_STREAM, 0, 0, &[0; 4]), Code::Protocol);
        is("a reset of the future", frame(frame::RST_STREAM, 0, 3, &[0; 4]), Code::Protocol);
        is("a short reset", frame(frame::RST_STREAM, 0, 1, &[0; 3]), Code::FrameSize);
        is("settings of a stream", frame(frame::SETTINGS, 0, 1, &[]), Code::Protocol);
        is("settings cut short", frame(frame::SETTINGS, 0, 0, &[0; 5]), Code::FrameSize);
        is("settings that acknowledge", frame(frame::SETTINGS, frame::ACK, 0, &[0; 6]), Code::FrameSize);
        is("ENABLE_PUSH", setting(ENABLE_PUSH, 2), Code::Protocol);
        is("INITIAL_WINDOW_SIZE", setting(INITIAL_WINDOW_SIZE, 1 << 31), Code::FlowControl);
        is("MAX_FRAME_SIZE", setting(MAX_FRAME_SIZE, 16_383), Code::Protocol);
        is("MAX_FRAME_SIZE beyond", setting(MAX_FRAME_SIZE, 1 << 24), Code::Protocol);
        is("a PING of a stream", frame(frame::PING, 0, 1, &[0; 8]), Code::Protocol);
        is("a short PING", frame(frame::PING, 0, 0, &[0; 7]), Code::FrameSize);
        is("GOAWAY of a stream", frame(frame::GOAWAY, 0, 1, &[0; 8]), Code::Protocol);
        is("a short GOAWAY", frame(frame::GOAWAY, 0, 0, &[0; 7]), Code::FrameSize);
        is("no window", frame(frame::WINDOW_UPDATE, 0, 0, &[0; 4]), Code::Protocol);
        is("too much window", frame(frame::WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]), Code::FlowControl);
        is("a short window", frame(frame::WINDOW_UPDATE, 0, 0, &[0; 3]), Code::FrameSize);
        is("a window of the future", frame(frame::WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]), Code::Protocol);
        is("a frame too large", frame(0xfa, 0, 0, &[0; frame::MAX_FRAME_BYTES + 1]), Code::FrameSize);
        let again = frame(frame::RST_STREAM, 0, 1, &[0; 4]);
        is("a closed stream again", [again, get(1)].concat(), Code::StreamClosed);
    }

    #[test]
    fn what_ends_a_stream() {
        let is =
            |name: &str, bad: Vec<u8>, code: Code| check(name, &[post(1), bad, get(3)], Ok(&[(1, code)]));
        is("no window", frame(frame::WINDOW_UPDATE, 0, 1, &[0; 4]), Code::Protocol);
        is("too much window", frame(frame::WINDOW_UPDATE, 0, 1, &[0x7f, 255, 255, 255]), Code::FlowControl);
        is("trailers amid", frame(frame::HEADERS, frame::END_HEADERS, 1, b"\x00\x01x\x01y"), Code::Protocol);
        is("pseudo-fields behind", frame(frame::HEADERS, 5, 1, b"\x82"), Code::Protocol);
        is("itself before itself", frame(frame::PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), Code::Protocol);
        is("a short priority", frame(frame::PRIORITY, 0, 1, &[0; 4]), Code::FrameSize);
        let end = frame(frame::DATA, frame::END_STREAM, 1, b"");
        is("DATA behind the end", [end, frame(frame::DATA, 0, 1, b"x")].concat(), Code::StreamClosed);
        let gone = frame(frame::RST_STREAM, 0, 1, &[0; 4]);
        is("DATA behind a reset", [gone, frame(frame::DATA, 0, 1, b"x")].concat(), Code::StreamClosed);
        // Of what is reset already nothing more is said, and its octets are given back.
        let twice = frame(frame::WINDOW_UPDATE, 0, 1, &[0; 4]).repeat(2);
        is("twice", [twice, frame(frame::DATA, 0, 1, b"x")].concat(), Code::Protocol);
    }

    #[test]
    fn a_length_that_is_another() {
        let five = [POST, b"\x0f\x0d\x015"].concat();
        let head = frame(frame::HEADERS, frame::END_HEADERS, 1, &five);
        let data = |flags: u8, data: &[u8]| frame(frame::DATA, flags, 1, data);
        let bad = Ok(&[(1, Code::Protocol)][..]);
        check("as it says", &[head.clone(), data(0, b"he"), data(1, b"llo")], Ok(&[]));
        check("too much", &[head.clone(), data(0, b"hello!")], bad);
        check("too little", &[head.clone(), data(1, b"hell")], bad);
        check("none", &[head.clone(), data(1, b"")], bad);
        check("trailers too early", &[head, data(0, b"hell"), frame(frame::HEADERS, 5, 1, b"")], bad);
    }

    #[test]
    fn settings_come_first() {
        for first in [get(1), frame(frame::SETTINGS, frame::ACK, 0, &[]), frame(frame::PING, 0, 0, &[0; 8])] {
            let (now, mut out) = (Instant::now(), WriteBuffer::default());
            let mut protocol = Protocol::new(&Limits::default(), now, &mut out);
            let taken = protocol.take(frame::PREFACE, now, &mut out, &mut Vec::new());
            assert_eq!(taken, Ok(frame::PREFACE.len()));
            assert_eq!(protocol.take(&first, now, &mut out, &mut Vec::new()), Err(Code::Protocol));
        }
        let (now, mut out) = (Instant::now(), WriteBuffer::default());
        let mut protocol = Protocol::new(&Limits::default(), now, &mut out);
        assert_eq!(protocol.take(b"PRI", now, &mut out, &mut Vec::new()), Ok(0));
        assert_eq!(protocol.take(b"PRI * HTTP/1.1\r\n", now, &mut out, &mut Vec::new()), Err(Code::Protocol));
    }

    #[test]
    fn streams_are_bounded() {
        let mut peer = Peer::new();
        let last = u32::try_from(2 * MAX_STREAMS + 1).unwrap();
        let all: Vec<_> = (1..=last).step_by(2).map(get).collect();
        assert!(peer.take(&all.concat()).is_ok());
        assert_eq!(peer.born.len(), MAX_STREAMS);
        assert_eq!(peer.said(), [(frame::RST_STREAM, last, Code::Refused as u32)]);
        // One that is over makes room.
        peer.protocol.close(&peer.born[0].flow.clone(), &mut peer.out);
        assert!(peer.take(&get(last + 2)).is_ok());
        assert_eq!(peer.born.len(), MAX_STREAMS + 1);
    }

    #[test]
    fn rapid_resets() {
        let mut peer = Peer::new();
        let pair = |stream: u32| [get(stream), frame(frame::RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
        let pairs: Vec<_> = (0..=u32::try_from(MAX_STILLBORN).unwrap()).map(|n| pair(2 * n + 1)).collect();
        assert_eq!(peer.take(&pairs.concat()), Err(Code::Calm));
    }

    #[test]
    fn the_end_is_announced() {
        let mut peer = Peer::new();
        assert!(peer.take(&get(1)).is_ok());
        peer.protocol.announce(&mut peer.out);
        assert_eq!(peer.said().iter().map(|said| said.0).collect::<Vec<_>>(), [frame::GOAWAY, frame::PING]);
        // What was on its way is served, until the client has heard of it.
        assert!(peer.take(&[get(3), frame(frame::PING, frame::ACK, 0, &LEAVING), get(5)].concat()).is_ok());
        assert_eq!(peer.born.len(), 2);
        assert_eq!((peer.said(), peer.protocol.leaving), (vec![(frame::GOAWAY, 0, 3)], Leaving::Final));
    }

    #[test]
    fn what_is_due() {
        let mut peer = Peer::new();
        assert_eq!(peer.protocol.due(b""), 0);
        let block = frame(frame::HEADERS, 0, 1, GET);
        let (in_part, body) = (peer.protocol.due(&block[..9]), peer.protocol.due(&frame(0, 0, 1, b"x")[..9]));
        assert!(in_part > 0 && body == 0);
        assert!(peer.take(&block).is_ok());
        let piece = frame(frame::CONTINUATION, 0, 1, b"");
        let begun = peer.protocol.due(b"");
        assert_eq!((begun, peer.protocol.due(&piece[..5])), (in_part, in_part), "a block has one deadline");
        assert!(peer.take(&piece).is_ok());
        assert_eq!(peer.protocol.due(b""), begun);
    }

    /// Answers go as far as both windows let them, in turns, and on when there is more.
    #[test]
    fn windows() {
        let mut peer = Peer::new();
        assert!(peer.take(&[setting(INITIAL_WINDOW_SIZE, 50_000), get(1), get(3)].concat()).is_ok());
        let flows: Vec<_> = peer.born.iter().map(|born| Rc::clone(&born.flow)).collect();
        let data = vec![0; 100_000];
        let mut sent = [0, 0];
        let mut turn = |peer: &mut Peer| {
            for (flow, sent) in flows.iter().zip(&mut sent) {
                while let octets @ 1.. = peer.protocol.send_data(flow, &data, &mut peer.out) {
                    assert!(octets <= frame::MAX_FRAME_BYTES);
                    *sent += octets;
                }
            }
            assert!(
                peer.out.len() <= sending::GATHER_BYTES + frame::MAX_FRAME_BYTES + 100,
                "{}",
                peer.out.len()
            );
            peer.said();
            peer.protocol.next_turns(&peer.out);
            sent
        };
        for _ in 0..20 {
            turn(&mut peer);
        }
        let all = turn(&mut peer);
        assert_eq!(all[0] + all[1], FIRST_WINDOW as usize, "{all:?}");
        assert!(all.iter().all(|octets| (15_000..=50_000).contains(octets)), "{all:?}");
        assert!(peer.take(&frame(frame::WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes())).is_ok());
        for _ in 0..20 {
            peer.protocol.next_turns(&peer.out);
            turn(&mut peer);
        }
        assert_eq!(turn(&mut peer), [50_000, 50_000]);
        // A window that shrinks below nothing opens only after it has been made good.
        assert!(peer.take(&setting(INITIAL_WINDOW_SIZE, 10_000)).is_ok());
        assert!(peer.take(&frame(frame::WINDOW_UPDATE, 0, 1, &40_001_u32.to_be_bytes())).is_ok());
        assert_eq!(turn(&mut peer), [50_001, 50_000]);
    }

    /// A body that is passed on makes room for more; what is beyond the window is too much.
    #[test]
    fn windows_of_the_client() {
        let mut peer = Peer::new();
        assert!(peer.take(&post(1)).is_ok());
        let flow = Rc::clone(&peer.born[0].flow);
        let piece = frame(frame::DATA, 0, 1, &[7; frame::MAX_FRAME_BYTES]);
        for _ in 0..100 {
            assert!(peer.take(&piece).is_ok());
            assert_eq!(flow.take().len(), frame::MAX_FRAME_BYTES);
            peer.protocol.used(&flow, frame::MAX_FRAME_BYTES, &mut peer.out);
        }
        let said = peer.said();
        assert!(said.len() < 30 && said.iter().all(|said| said.0 == frame::WINDOW_UPDATE), "{said:?}");
        assert!(peer.take(&piece.repeat(8)).is_ok());
        let most = STREAM_WINDOW as usize / frame::MAX_FRAME_BYTES;
        assert!(peer.take(&piece.repeat(most)).is_ok());
        assert!(peer.said().contains(&(frame::RST_STREAM, 1, Code::FlowControl as u32)));
        peer.protocol.close(&flow, &mut peer.out);
        // On other streams the connection's window is what counts.
        assert!(peer.take(&[post(3), post(5)].concat()).is_ok());
        let of = |stream: u32| frame(frame::DATA, 0, stream, &[7; frame::MAX_FRAME_BYTES]);
        assert!(peer.take(&of(3).repeat(12)).is_ok());
        assert_eq!(peer.take(&of(5).repeat(16)), Err(Code::FlowControl));
    }

    /// What waits for a window that never opens is let go with its stream.
    #[test]
    fn nothing_waits_for_ever() {
        let mut peer = Peer::new();
        for stream in (1..200).step_by(2) {
            assert!(peer.take(&post(stream)).is_ok());
            let flow = Rc::clone(&peer.born[0].flow);
            while peer.protocol.send_data(&flow, &[0; 20_000], &mut peer.out) > 0 {
                peer.said();
            }
            assert!(peer.take(&frame(frame::DATA, 0, stream, &[7; 10_000])).is_ok());
            assert!(peer.take(&frame(frame::RST_STREAM, 0, stream, &[0; 4])).is_ok());
            peer.protocol.ran();
            peer.protocol.close(&flow, &mut peer.out);
            assert!(peer.protocol.queue.is_empty() && peer.protocol.flows.is_empty());
            peer.born.clear();
            assert_eq!(Rc::strong_count(&flow), 1);
            assert!(flow.take().is_empty());
        }
    }

    /// A stream that nobody reads from takes its own share of the connection's window, and no more.
    #[test]
    fn a_stuck_body_leaves_room_for_others() {
        let mut peer = Peer::new();
        assert!(peer.take(&[post(1), post(3)].concat()).is_ok());
        let piece = |stream: u32| frame(frame::DATA, 0, stream, &[7; frame::MAX_FRAME_BYTES]);
        assert!(peer.take(&piece(1).repeat(STREAM_WINDOW as usize / frame::MAX_FRAME_BYTES)).is_ok());
        let other = Rc::clone(&peer.born[1].flow);
        for _ in 0..100 {
            assert_eq!(peer.take(&piece(3)), Ok(frame::HEAD_BYTES + frame::MAX_FRAME_BYTES));
            peer.protocol.used(&other, other.take().len(), &mut peer.out);
        }
    }

    /// What is passed on is given back, however little of it is left.
    #[test]
    fn one_octet_holds_no_more() {
        let flow = Flow::new(1, 0, STREAM_WINDOW);
        flow.left.set(Some(0));
        (0..10).for_each(|_| flow.receive(&[7; 10_000]));
        let mut taken = 0;
        while let octets @ 1.. = flow.take().len() {
            assert!(octets <= frame::MAX_FRAME_BYTES);
            taken += octets;
        }
        assert_eq!(taken, 99_999);
        flow.end(None);
        assert_eq!((flow.take().len(), flow.is_whole()), (1, true));
    }

    #[test]
    fn heads_that_are_no_requests_are_counted() {
        let mut peer = Peer::new();
        let mut refused = 0;
        for stream in (1..2_000).step_by(2) {
            if peer.take(&frame(frame::HEADERS, 5, stream, b"\x82")) == Err(Code::Calm) {
                break;
            }
            let born = peer.born.pop().unwrap();
            assert!(born.request().is_none());
            peer.protocol.refuse(&born.flow, &mut peer.out);
            peer.protocol.close(&born.flow, &mut peer.out);
            refused += 1;
        }
        assert_eq!(refused, MAX_LOCAL_RESETS + 1);
    }

    /// Fields of answers wait for room like octets do, but for no window.
    #[test]
    fn fields_wait_for_room() {
        let mut peer = Peer::new();
        assert!(peer.take(&[get(1), get(3)].concat()).is_ok());
        let [one, two] = [0, 1].map(|at| Rc::clone(&peer.born[at].flow));
        peer.protocol.send_window = 0;
        assert_eq!(peer.protocol.send_data(&one, b"x", &mut peer.out), 0);
        peer.out.put(&[0; sending::GATHER_BYTES]);
        assert!(!peer.protocol.may_send_fields(&two, &peer.out));
        peer.out.written(sending::GATHER_BYTES);
        assert!(peer.protocol.next_turns(&peer.out) && !two.is_queued.get() && one.is_queued.get());
        assert!(peer.protocol.may_send_fields(&two, &peer.out));
        assert!(!peer.protocol.next_turns(&peer.out));
    }

    proptest::proptest! {
        #[test]
        fn any_frames_never_panic(frames in proptest::collection::vec(
            (0..11_u8, proptest::num::u8::ANY, 0..8_u32,
                proptest::collection::vec(proptest::num::u8::ANY, 0..40)), 0..40)
        ) {
            let mut peer = Peer::new();
            for (kind, flags, stream, payload) in frames {
                let of_head = [GET, &payload].concat();
                let payload = if kind == frame::HEADERS { &of_head } else { &payload };
                if peer.take(&frame(kind, flags, stream, payload)).is_err() {
                    break;
                }
                proptest::prop_assert!(peer.protocol.flows.is_sorted_by_key(|flow| flow.id));
                if payload.len() == 7 && let Some(born) = peer.born.pop() {
                    peer.protocol.close(&born.flow, &mut peer.out);
                }
            }
        }
    }
}
