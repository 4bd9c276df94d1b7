//! The connection's side of HTTP/2 (RFC 9113): what each frame of a client's means, and what is said to it. Pure: octets
//! come in, octets for the client go into a buffer, streams that begin are handed over.
//!
//! Knows no verdict and no upstream; what a request means is for its stream's future to find.

mod blocks;
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
/// Streams that we reset for errors of the client's before the connection ends.
const MAX_LOCAL_RESETS: usize = 256;
/// Streams of which it is remembered that we have reset them: what was on its way is let pass.
const MAX_REMEMBERED_RESETS: usize = MAX_STREAMS;
/// What the PING says that goes with the announcement of the end.
const LEAVING: [u8; 8] = *b"leaving.";

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441, 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// A stream that begins.
#[derive(Debug)]
pub struct Born {
    pub(super) flow: Rc<Flow>,
    pub(super) head: RequestHead,
    /// What is wrong with the head.
    pub(super) read: Result<(), Wrong>,
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
    pub(super) held: usize,
    stillborn: usize,
    local_resets: usize,
    remembered: VecDeque<u32>,
    pub(super) leaving: Leaving,
    /// Storage that ended streams leave to the next.
    heads: Vec<RequestHead>,
}

impl Protocol {
    /// A connection begins: says what it is held to.
    #[must_use]
    pub fn new(limits: &Limits, now: Instant, out: &mut WriteBuffer) -> Self {
        let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
        let settings = [
            (MAX_CONCURRENT_STREAMS, u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX)),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (MAX_HEADER_LIST_SIZE, header_bytes),
            (ENABLE_CONNECT_PROTOCOL, 1),
        ];
        let settings = settings.map(|(name, value)| {
            let ([a, b], [c, d, e, f]) = (name.to_be_bytes(), value.to_be_bytes());
            [a, b, c, d, e, f]
        });
        frame::put(out, (frame::SETTINGS, 0, 0), settings.as_flattened());
        frame::put(out, (frame::WINDOW_UPDATE, 0, 0), &(CONNECTION_WINDOW - FIRST_WINDOW).to_be_bytes());
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
            local_resets: 0,
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
        let Some(flow) = self.flow(head.stream).filter(|flow| flow.reset.get().is_none()) else {
            self.give_back(octets, out);
            return self.closed(head.stream, out);
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
        flow.receive(data);
        let padding = head.length - data.len();
        flow.unused.set(flow.unused.get() + padding);
        self.used(&flow, padding, out);
        if is_end {
            flow.end(None);
        }
        Ok(())
    }

    /// A frame for a stream that is not there: of one that we have reset it was on its way.
    fn closed(&mut self, stream: u32, out: &mut WriteBuffer) -> Result<(), Code> {
        if self.remembered.contains(&stream) {
            return Ok(());
        }
        self.reset_stream(stream, Code::StreamClosed, out);
        self.count_reset()
    }

    fn count_reset(&mut self) -> Result<(), Code> {
        self.local_resets += 1;
        if self.local_resets > MAX_LOCAL_RESETS { Err(Code::Calm) } else { Ok(()) }
    }

    /// Resets a stream for an error of the client's.
    fn fault(&mut self, flow: &Flow, code: Code, out: &mut WriteBuffer) -> Result<(), Code> {
        self.reset(flow, code, out);
        flow.go();
        self.count_reset()
    }

    /// Resets a stream whose head was no request.
    pub(super) fn refuse(&mut self, flow: &Flow, out: &mut WriteBuffer) {
        self.reset(flow, Code::Protocol, out);
        self.local_resets += 1;
    }

    /// Resets a stream, unless it is over.
    pub(super) fn reset(&mut self, flow: &Flow, code: Code, out: &mut WriteBuffer) {
        if flow.is_gone() || flow.reset.get().is_some() {
            return;
        }
        flow.reset.set(Some(code));
        self.reset_stream(flow.id, code, out);
    }

    /// Says that a stream is reset: what is still on its way for it is let pass.
    fn reset_stream(&mut self, stream: u32, code: Code, out: &mut WriteBuffer) {
        frame::put(out, (frame::RST_STREAM, 0, stream), &(code as u32).to_be_bytes());
        if self.remembered.len() >= MAX_REMEMBERED_RESETS {
            self.remembered.pop_front();
        }
        self.remembered.push_back(stream);
    }

    fn priority(&mut self, head: FrameHead, payload: &[u8], out: &mut WriteBuffer) -> Result<(), Code> {
        if head.stream == 0 {
            return Err(Code::Protocol);
        }
        let code = match payload.first_chunk() {
            Some(on) if payload.len() == 5 && u32::from_be_bytes(*on) & frame::MASK != head.stream => {
                return Ok(());
            }
            Some(_) if payload.len() == 5 => Code::Protocol,
            _ => Code::FrameSize,
        };
        match self.flow(head.stream) {
            Some(flow) => self.fault(&flow, code, out),
            // Of a stream that is idle or over nobody waits for anything.
            None if head.stream > self.last_stream => Err(code),
            None => Ok(()),
        }
    }

    fn reset_by_client(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        frame::number(payload).ok_or(Code::FrameSize)?;
        if head.stream == 0 || head.stream > self.last_stream {
            return Err(Code::Protocol);
        }
        if let Some(flow) = self.flow(head.stream) {
            if !flow.has_begun() {
                self.stillborn += 1;
            }
            flow.go();
        }
        if self.stillborn > MAX_STILLBORN { Err(Code::Calm) } else { Ok(()) }
    }

    /// Streams have run since: those that were reset before that are gone.
    pub(super) fn ran(&mut self) {
        self.stillborn = 0;
    }

    fn settings(&mut self, head: FrameHead, payload: &[u8], out: &mut WriteBuffer) -> Result<(), Code> {
        if head.stream != 0 {
            return Err(Code::Protocol);
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() || (head.has(frame::ACK) && !payload.is_empty()) {
            return Err(Code::FrameSize);
        }
        self.has_settings = true;
        if head.has(frame::ACK) {
            self.is_acknowledged = true;
            return Ok(());
        }
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            self.setting(u16::from_be_bytes([*a, *b]), value)?;
        }
        frame::put(out, (frame::SETTINGS, frame::ACK, 0), &[]);
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Code> {
        match name {
            HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Code::Protocol),
            INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => return Err(Code::FlowControl),
            INITIAL_WINDOW_SIZE => {
                let more = i64::from(value) - self.first_send_window;
                self.first_send_window = value.into();
                for flow in &self.flows {
                    let window = flow.send_window.get() + more;
                    if window > MAX_WINDOW {
                        return Err(Code::FlowControl);
                    }
                    flow.send_window.set(window);
                    flow.wake();
                }
            }
            MAX_FRAME_SIZE => {
                if !(16_384..=frame::LARGEST_FRAME_BYTES).contains(&value) {
                    return Err(Code::Protocol);
                }
                self.max_frame_bytes = (value as usize).min(frame::MAX_FRAME_BYTES);
            }
            _ => {}
        }
        Ok(())
    }

    fn ping(&mut self, head: FrameHead, payload: &[u8], out: &mut WriteBuffer) -> Result<(), Code> {
        if head.stream != 0 {
            return Err(Code::Protocol);
        }
        if payload.len() != 8 {
            return Err(Code::FrameSize);
        }
        if !head.has(frame::ACK) {
            frame::put(out, (frame::PING, frame::ACK, 0), payload);
        } else if *payload == LEAVING && self.leaving == Leaving::Announced {
            self.leave(out);
        }
        Ok(())
    }

    /// Tells the client to send what is still to come over another connection. What it has sent by now is served.
    pub(super) fn announce(&mut self, out: &mut WriteBuffer) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            self.say_goaway(frame::MASK, Code::NoError, out);
            frame::put(out, (frame::PING, 0, 0), &LEAVING);
        }
    }

    fn leave(&mut self, out: &mut WriteBuffer) {
        self.leaving = Leaving::Final;
        self.say_goaway(self.last_served, Code::NoError, out);
    }

    /// Says why the connection ends.
    pub(super) fn end(&mut self, code: Code, out: &mut WriteBuffer) {
        self.say_goaway(self.last_served, code, out);
        self.flows.iter().for_each(|flow| flow.go());
    }

    fn say_goaway(&self, last: u32, code: Code, out: &mut WriteBuffer) {
        let payload = [last.to_be_bytes(), (code as u32).to_be_bytes()];
        frame::put(out, (frame::GOAWAY, 0, 0), payload.as_flattened());
    }

    /// Octets were written to the client.
    pub(super) fn wrote(&mut self, octets: usize) {
        self.floods.wrote(octets);
    }

    fn flow(&self, id: u32) -> Option<Rc<Flow>> {
        let at = self.flows.binary_search_by_key(&id, |flow| flow.id).ok()?;
        Some(Rc::clone(&self.flows[at])).filter(|flow| !flow.is_gone())
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
        if let Ok(at) = self.flows.binary_search_by_key(&flow.id, |flow| flow.id) {
            self.flows.remove(at);
        }
    }

    /// Takes back the storage of a head.
    pub(super) fn keep(&mut self, head: RequestHead) {
        if self.heads.len() < MAX_SPARE_HEADS {
            self.heads.push(head);
        }
    }
}
