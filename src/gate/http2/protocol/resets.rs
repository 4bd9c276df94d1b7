//! Streams that end before their time, by either side (RFC 9113, 5.4.2 and 6.4), and how many of them are borne.

use super::{Leaving, MAX_LOCAL_RESETS, MAX_REMEMBERED_RESETS, MAX_STILLBORN, Protocol};
use crate::gate::buffer::WriteBuffer;
use crate::gate::http2::flow::Flow;
use crate::gate::http2::frame::{self, Code, FrameHead};

impl Protocol {
    /// A frame for a stream that is not there: of one that we have reset it was on its way.
    pub(super) fn closed(&mut self, head: FrameHead, out: &mut WriteBuffer) -> Result<(), Code> {
        let is_too_late = self.leaving == Leaving::Final && head.stream > self.last_served;
        if is_too_late || self.was_reset(head.stream, head.has(frame::END_STREAM)) {
            return Ok(());
        }
        self.reset_stream(head.stream, Code::StreamClosed, out);
        self.count_reset()
    }

    /// Whether we have reset a stream of late; with its end that is forgotten.
    pub(super) fn was_reset(&mut self, stream: u32, is_end: bool) -> bool {
        let Some(at) = self.remembered.iter().position(|one| *one == stream) else { return false };
        if is_end {
            self.remembered.remove(at);
        }
        true
    }

    pub(super) fn count_reset(&mut self) -> Result<(), Code> {
        if self.floods.resets(self.now) > MAX_LOCAL_RESETS { Err(Code::Calm) } else { Ok(()) }
    }

    /// Resets a stream for an error of the client's.
    pub(super) fn fault(&mut self, flow: &Flow, code: Code, out: &mut WriteBuffer) -> Result<(), Code> {
        flow.is_at_fault.set(true);
        self.reset(flow, code, out);
        self.let_go(flow);
        self.count_reset()
    }

    /// A stream is over before its future is, which hears of it at once.
    pub(super) fn let_go(&mut self, flow: &Flow) {
        flow.go();
        self.remove(flow);
    }

    pub(super) fn remove(&mut self, flow: &Flow) {
        if flow.is_queued.replace(false) {
            self.queue.retain(|one| one.id != flow.id);
        }
        if let Ok(at) = self.flows.binary_search_by_key(&flow.id, |flow| flow.id) {
            self.flows.remove(at);
        }
    }

    /// Resets a stream whose head was no request.
    pub(in crate::gate::http2) fn refuse(&mut self, flow: &Flow, out: &mut WriteBuffer) {
        self.reset(flow, Code::Protocol, out);
        // Whether these were too many is asked with the next.
        self.floods.resets(self.now);
    }

    /// Resets a stream, unless it is over.
    pub(in crate::gate::http2) fn reset(&mut self, flow: &Flow, code: Code, out: &mut WriteBuffer) {
        if flow.is_gone() || flow.reset.get().is_some() {
            return;
        }
        flow.reset.set(Some(code));
        self.reset_stream(flow.id, code, out);
    }

    /// Says that a stream is reset: what is still on its way for it is let pass.
    pub(super) fn reset_stream(&mut self, stream: u32, code: Code, out: &mut WriteBuffer) {
        frame::put(out, (frame::RST_STREAM, 0, stream), &(code as u32).to_be_bytes());
        if self.remembered.len() >= MAX_REMEMBERED_RESETS {
            self.remembered.pop_front();
        }
        self.remembered.push_back(stream);
    }

    pub(super) fn reset_by_client(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Code> {
        frame::number(payload).ok_or(Code::FrameSize)?;
        if head.stream == 0 || head.stream > self.last_stream {
            return Err(Code::Protocol);
        }
        if let Some(flow) = self.flow(head.stream) {
            if !flow.has_begun() {
                self.stillborn += 1;
            }
            self.let_go(&flow);
        }
        if self.stillborn > MAX_STILLBORN { Err(Code::Calm) } else { Ok(()) }
    }

    /// Streams have run since: those that were reset before that are gone.
    pub(in crate::gate::http2) fn ran(&mut self) {
        self.stillborn = 0;
    }
}
