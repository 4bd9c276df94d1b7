//! Field blocks: what begins a stream, or ends a request as trailers (RFC 9113, 8.1).

use super::{Born, Leaving, MAX_EARLY_REFUSALS, MAX_LOCAL_RESETS, MAX_STREAMS, Protocol, STREAM_WINDOW};
use crate::gate::buffer::WriteBuffer;
use crate::gate::http2::flow::Flow;
use crate::gate::http2::frame::{self, Code, FrameHead};
use crate::gate::http2::head::{Request, Trailers};
use crate::gate::http2::hpack::Malformed;
use crate::gate::trailers;
use std::rc::Rc;

/// CONTINUATION frames of one field block.
const MAX_CONTINUATIONS: u32 = 64;
/// What a field block may have beyond twice the decoded size that is allowed: a frame of padding.
const BLOCK_SLACK_BYTES: usize = 16 * 1024;
/// Octets of a priority in a HEADERS frame.
const PRIORITY_BYTES: usize = 5;

/// A field block of which pieces are still to come.
#[derive(Debug)]
pub(super) struct Block {
    begin: Begin,
    octets: Vec<u8>,
    continuations: u32,
}

impl Block {
    pub(super) fn goes_on(&self, head: FrameHead) -> bool {
        head.kind == frame::CONTINUATION && head.stream == self.begin.stream
    }
}

/// What a HEADERS frame says beside its fields.
#[derive(Debug, Clone, Copy)]
struct Begin {
    stream: u32,
    is_end: bool,
    /// It depends on itself (RFC 7540, 5.3.1).
    is_circular: bool,
}

impl Protocol {
    pub(super) fn headers(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<(), Code> {
        if head.stream.is_multiple_of(2) {
            return Err(Code::Protocol);
        }
        let mut octets = frame::unpadded(head, payload).ok_or(Code::Protocol)?;
        let mut is_circular = false;
        if head.has(frame::HAS_PRIORITY) {
            let (priority, rest) = octets.split_at_checked(PRIORITY_BYTES).ok_or(Code::Protocol)?;
            let on = priority.first_chunk().map(|on| u32::from_be_bytes(*on) & frame::MASK);
            (octets, is_circular) = (rest, on == Some(head.stream));
        }
        let begin = Begin { stream: head.stream, is_end: head.has(frame::END_STREAM), is_circular };
        if head.has(frame::END_HEADERS) {
            return self.whole(begin, octets, out, born);
        }
        self.block_since = self.frames;
        self.block = Some(Block { begin, octets: octets.to_vec(), continuations: 0 });
        Ok(())
    }

    pub(super) fn continuation(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<(), Code> {
        let most = self.header_bytes.saturating_mul(2).saturating_add(BLOCK_SLACK_BYTES);
        let Some(block) = &mut self.block else { return Err(Code::Protocol) };
        block.continuations += 1;
        if block.continuations > MAX_CONTINUATIONS || block.octets.len() + payload.len() > most {
            return Err(Code::Calm);
        }
        block.octets.extend_from_slice(payload);
        if !head.has(frame::END_HEADERS) {
            return Ok(());
        }
        let Some(block) = self.block.take() else { return Err(Code::Protocol) };
        self.whole(block.begin, &block.octets, out, born)
    }

    /// A field block is there.
    fn whole(
        &mut self,
        begin: Begin,
        block: &[u8],
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<(), Code> {
        if begin.stream > self.last_stream {
            self.last_stream = begin.stream;
            return self.request(begin, block, out, born);
        }
        let fields = self.trailers(block)?;
        let Some(flow) = self.live(begin.stream) else {
            // Trailers that were on their way.
            let was_reset = begin.is_end && self.was_reset(begin.stream, true);
            return if was_reset { Ok(()) } else { Err(Code::StreamClosed) };
        };
        if flow.is_ended.get() {
            return self.fault(&flow, Code::StreamClosed, out);
        }
        let is_short = matches!(flow.left.get(), Some(1..));
        match fields {
            Some(fields) if begin.is_end && !begin.is_circular && !is_short => {
                flow.end(trailers::of_section(&fields));
                Ok(())
            }
            _ => self.fault(&flow, Code::Protocol, out),
        }
    }

    fn request(
        &mut self,
        begin: Begin,
        block: &[u8],
        out: &mut WriteBuffer,
        born: &mut Vec<Born>,
    ) -> Result<(), Code> {
        if self.floods.is_over(MAX_LOCAL_RESETS) {
            return Err(Code::Calm);
        }
        let mut head = self.heads.pop().unwrap_or_default();
        head.reset();
        let limits = (self.header_bytes, self.header_fields);
        let mut request = Request::new(&mut head, limits);
        if self.decoder.read(block, &mut request).is_err() {
            return Err(if request.is_flood() { Code::Calm } else { Code::Compression });
        }
        let read = request.end(begin.is_end);
        if self.leaving == Leaving::Final {
            self.keep(head);
            return self.count_reset();
        }
        if begin.is_circular || self.flows.len() >= MAX_STREAMS {
            self.keep(head);
            let code = if begin.is_circular { Code::Protocol } else { Code::Refused };
            self.reset_stream(begin.stream, code, out);
            // Until it knows how many it may open, nobody is to blame for some more.
            self.early_refusals += 1;
            let is_early = !self.is_acknowledged && self.early_refusals <= MAX_EARLY_REFUSALS;
            return if is_early { Ok(()) } else { self.count_reset() };
        }
        self.last_served = begin.stream;
        let flow = Rc::new(Flow::new(begin.stream, self.first_send_window, STREAM_WINDOW));
        flow.is_ended.set(begin.is_end);
        // What comes on a tunnel is no body.
        if read.is_ok() && head.upgrade.is_none() {
            flow.expect(head.body);
        }
        self.flows.push(Rc::clone(&flow));
        born.push(Born { flow, head, read });
        Ok(())
    }

    /// Reads fields that begin no stream; `None`: they can be no trailers.
    fn trailers(&mut self, block: &[u8]) -> Result<Option<Vec<u8>>, Code> {
        let mut trailers = Trailers::new(self.header_bytes);
        match self.decoder.read(block, &mut trailers) {
            Ok(()) => Ok(trailers.end()),
            Err(Malformed) if trailers.is_flood() => Err(Code::Calm),
            Err(Malformed) => Err(Code::Compression),
        }
    }
}
