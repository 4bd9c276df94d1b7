//! What streams send, and how much of it their client takes: frames, windows and turns (RFC 9113, 5.2 and 6.9).

use super::{CONNECTION_WINDOW, MAX_WINDOW, Protocol, STREAM_WINDOW};
use crate::gate::buffer::WriteBuffer;
use crate::gate::http2::flow::{Flow, Sent};
use crate::gate::http2::frame::{self, Code, FrameHead};
use crate::gate::http2::hpack::Encoder;
use std::rc::Rc;

/// Octets gathered before they are written: two full TLS records, and what the last frame has beyond them.
pub(super) const GATHER_BYTES: usize = 32 * 1024;
/// Octets that wait to be written, from which on nothing more is read from the client.
pub(super) const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Octets that a connection may hold for pieces of a size to be taken from an upstream, and that size.
const ROOMS: [(usize, usize); 2] = [(64 * 1024, 16 * 1024), (96 * 1024, 4 * 1024)];
/// Octets that a piece may have in any case.
const LEAST_ROOM_BYTES: usize = 1024;

impl Protocol {
    /// Whether so much waits to be written that no more is to be read.
    pub(in crate::gate::http2) fn is_full(out: &WriteBuffer) -> bool {
        out.len() >= MAX_WAITING_BYTES
    }

    /// Octets that the next piece of an answer may have. Pieces get smaller as a connection holds more: a client that
    /// reads nothing costs a bounded sum, however many streams it opens.
    pub(in crate::gate::http2) fn room(&self) -> usize {
        ROOMS.iter().find(|(below, _)| self.held < *below).map_or(LEAST_ROOM_BYTES, |(_, octets)| *octets)
    }

    /// A stream holds so many octets now of what its client does not take; `noted` is what it held before.
    pub(in crate::gate::http2) fn hold(&mut self, noted: &mut usize, octets: usize) {
        self.held = (self.held + octets).saturating_sub(*noted);
        *noted = octets;
    }

    /// Writes an answer's head, or trailers.
    pub(in crate::gate::http2) fn send_fields(
        &mut self,
        flow: &Flow,
        is_end: bool,
        out: &mut WriteBuffer,
        fields: impl FnOnce(&mut Encoder, &mut WriteBuffer),
    ) {
        if flow.is_over() {
            return;
        }
        let begin = out.len();
        out.put(&[0; frame::HEAD_BYTES]);
        self.encoder.begin(out);
        fields(&mut self.encoder, out);
        let length = out.len() - begin - frame::HEAD_BYTES;
        let flags = if is_end { frame::END_STREAM } else { 0 };
        if length <= self.max_frame_bytes {
            let flags = flags | frame::END_HEADERS;
            let head = FrameHead { length, kind: frame::HEADERS, flags, stream: flow.id };
            out.overwrite(begin, &head.octets());
        } else {
            self.split(begin, flags, flow.id, out);
        }
        flow.sent.set(if is_end { Sent::End } else { Sent::Head });
    }

    /// Tells a client that waits for it to send its body (RFC 9110, 15.2.1).
    pub(in crate::gate::http2) fn go_on(&mut self, flow: &Flow, out: &mut WriteBuffer) {
        if flow.sent.get() == Sent::Nothing {
            self.send_fields(flow, false, out, |encoder, out| encoder.status(100, out));
            flow.sent.set(Sent::Nothing);
        }
    }

    /// A block that is longer than a frame goes in pieces.
    fn split(&self, begin: usize, flags: u8, stream: u32, out: &mut WriteBuffer) {
        let block = out.data()[begin + frame::HEAD_BYTES..].to_vec();
        out.truncate(begin);
        let last = block.len().div_ceil(self.max_frame_bytes) - 1;
        for (index, piece) in block.chunks(self.max_frame_bytes).enumerate() {
            let (kind, flags) = if index == 0 { (frame::HEADERS, flags) } else { (frame::CONTINUATION, 0) };
            let flags = flags | if index == last { frame::END_HEADERS } else { 0 };
            frame::put(out, (kind, flags, stream), piece);
        }
    }

    /// Writes octets of an answer, as many as one frame, the windows and the buffer have room for: 0 where the stream has
    /// to wait, until it is woken.
    pub(in crate::gate::http2) fn send_data(
        &mut self,
        flow: &Rc<Flow>,
        data: &[u8],
        out: &mut WriteBuffer,
    ) -> usize {
        if flow.is_over() || flow.is_queued.get() {
            return 0;
        }
        let Ok(window @ 1..) = usize::try_from(flow.send_window.get()) else { return 0 };
        let all = usize::try_from(self.send_window).unwrap_or(0);
        // Where there is room for some of a frame there is for all of it: pieces of frames cost as much.
        if all == 0 || out.len() >= GATHER_BYTES {
            self.wait(flow);
            return 0;
        }
        let octets = data.len().min(window).min(all).min(self.max_frame_bytes);
        frame::put(out, (frame::DATA, 0, flow.id), &data[..octets]);
        let moved = i64::try_from(octets).unwrap_or(i64::MAX);
        flow.send_window.set(flow.send_window.get() - moved);
        self.send_window -= moved;
        // Others wait: one frame each.
        if octets < data.len() && !self.queue.is_empty() {
            self.wait(flow);
        }
        octets
    }

    fn wait(&mut self, flow: &Rc<Flow>) {
        if !flow.is_queued.replace(true) {
            self.queue.push_back(Rc::clone(flow));
        }
    }

    /// Whether there is room for an answer's fields; else the stream waits for its turn.
    pub(in crate::gate::http2) fn may_send_fields(&mut self, flow: &Rc<Flow>, out: &WriteBuffer) -> bool {
        let may = out.len() < GATHER_BYTES;
        flow.has_fields.set(!may);
        if !may {
            self.wait(flow);
        }
        may
    }

    /// Lets streams go on that wait for room: as many as there is room for. `true`: there were some.
    pub(in crate::gate::http2) fn next_turns(&mut self, out: &WriteBuffer) -> bool {
        let room = GATHER_BYTES.saturating_sub(out.len()).div_ceil(frame::MAX_FRAME_BYTES);
        if self.send_window <= 0 {
            return self.next_fields();
        }
        for turn in 0..room {
            let Some(flow) = self.queue.pop_front() else { return turn > 0 };
            flow.is_queued.set(false);
            flow.wake();
        }
        room > 0
    }

    /// As `next_turns`, of those that no window holds back.
    fn next_fields(&mut self) -> bool {
        let before = self.queue.len();
        self.queue.retain(|flow| {
            let goes_on = flow.has_fields.get();
            if goes_on {
                flow.is_queued.set(false);
                flow.wake();
            }
            !goes_on
        });
        self.queue.len() < before
    }

    /// Ends a stream with the frame that was just written for it, which the buffer ends in.
    pub(in crate::gate::http2) fn end_with_last(flow: &Flow, octets: usize, out: &mut WriteBuffer) {
        let begin = out.len() - octets - frame::HEAD_BYTES;
        let head = FrameHead { length: octets, kind: frame::DATA, flags: frame::END_STREAM, stream: flow.id };
        out.overwrite(begin, &head.octets());
        flow.sent.set(Sent::End);
    }

    /// Ends a stream by a frame of its own.
    pub(in crate::gate::http2) fn end_stream(flow: &Flow, out: &mut WriteBuffer) {
        if !flow.is_over() {
            frame::put(out, (frame::DATA, frame::END_STREAM, flow.id), &[]);
            flow.sent.set(Sent::End);
        }
    }

    /// Octets of a request's body were passed on: the client may send as many more.
    pub(in crate::gate::http2) fn used(&mut self, flow: &Flow, octets: usize, out: &mut WriteBuffer) {
        if octets == 0 {
            return;
        }
        flow.unused.set(flow.unused.get().saturating_sub(octets));
        let octets = u32::try_from(octets).unwrap_or(0);
        self.give_back(octets, out);
        let unsaid = flow.unsaid.get() + octets;
        flow.unsaid.set(unsaid);
        if unsaid >= STREAM_WINDOW / 2 && !flow.is_ended.get() && !flow.is_over() {
            flow.unsaid.set(0);
            flow.receive_window.set(flow.receive_window.get() + unsaid);
            frame::put(out, (frame::WINDOW_UPDATE, 0, flow.id), &unsaid.to_be_bytes());
        }
    }

    /// The same of the connection's window alone.
    pub(super) fn give_back(&mut self, octets: u32, out: &mut WriteBuffer) {
        self.unsaid += octets;
        // What is left of the window is held by streams that are stuck: others need what there is.
        if self.unsaid > 0 && (self.unsaid >= CONNECTION_WINDOW / 2 || self.unsaid >= self.receive_window) {
            self.receive_window += self.unsaid;
            frame::put(out, (frame::WINDOW_UPDATE, 0, 0), &self.unsaid.to_be_bytes());
            self.unsaid = 0;
        }
    }

    pub(super) fn window_update(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), Code> {
        let more = i64::from(frame::number(payload).ok_or(Code::FrameSize)? & frame::MASK);
        if head.stream == 0 {
            let window = self.send_window + more;
            if more == 0 {
                return Err(Code::Protocol);
            }
            if window > MAX_WINDOW {
                return Err(Code::FlowControl);
            }
            self.send_window = window;
            return Ok(());
        }
        if head.stream > self.last_stream {
            return Err(Code::Protocol);
        }
        // Of a stream that is over it was on its way.
        let Some(flow) = self.live(head.stream) else { return Ok(()) };
        let window = flow.send_window.get() + more;
        if more == 0 {
            return self.fault(&flow, Code::Protocol, out);
        }
        if window > MAX_WINDOW {
            return self.fault(&flow, Code::FlowControl, out);
        }
        let was_shut = flow.send_window.replace(window) <= 0;
        if was_shut {
            flow.wake();
        }
        Ok(())
    }
}
