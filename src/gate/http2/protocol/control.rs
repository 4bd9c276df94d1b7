//! Frames about the connection: settings, pings, priorities, and its end (RFC 9113, 6).

use super::{CONNECTION_WINDOW, FIRST_WINDOW, Leaving, MAX_STREAMS, MAX_WINDOW, Protocol, STREAM_WINDOW};
use crate::config::Limits;
use crate::gate::buffer::WriteBuffer;
use crate::gate::http2::frame::{self, Code, FrameHead};

/// What the PING says that goes with the announcement of the end.
pub(super) const LEAVING: [u8; 8] = *b"leaving.";

const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441, 3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Says what a client is held to.
pub(super) fn say_settings(limits: &Limits, out: &mut WriteBuffer) {
    let settings = [
        (MAX_CONCURRENT_STREAMS, u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX)),
        (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (MAX_HEADER_LIST_SIZE, u32::try_from(limits.header_bytes).unwrap_or(u32::MAX)),
        (ENABLE_CONNECT_PROTOCOL, 1),
    ];
    let settings = settings.map(|(name, value)| {
        let ([a, b], [c, d, e, f]) = (name.to_be_bytes(), value.to_be_bytes());
        [a, b, c, d, e, f]
    });
    frame::put(out, (frame::SETTINGS, 0, 0), settings.as_flattened());
    frame::put(out, (frame::WINDOW_UPDATE, 0, 0), &(CONNECTION_WINDOW - FIRST_WINDOW).to_be_bytes());
}

impl Protocol {
    pub(super) fn priority(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), Code> {
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

    pub(super) fn settings(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), Code> {
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
        let before = self.first_send_window;
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            self.setting(u16::from_be_bytes([*a, *b]), value)?;
        }
        self.widen(self.first_send_window - before)?;
        frame::put(out, (frame::SETTINGS, frame::ACK, 0), &[]);
        Ok(())
    }

    fn setting(&mut self, name: u16, value: u32) -> Result<(), Code> {
        match name {
            HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
            ENABLE_PUSH | ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Code::Protocol),
            INITIAL_WINDOW_SIZE if i64::from(value) > MAX_WINDOW => return Err(Code::FlowControl),
            INITIAL_WINDOW_SIZE => self.first_send_window = value.into(),
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

    /// Gives open streams so much more window, or less: once for a frame, however often it names one.
    fn widen(&self, more: i64) -> Result<(), Code> {
        if more == 0 {
            return Ok(());
        }
        for flow in &self.flows {
            let window = flow.send_window.get() + more;
            if window > MAX_WINDOW {
                return Err(Code::FlowControl);
            }
            flow.send_window.set(window);
            flow.wake();
        }
        Ok(())
    }

    pub(super) fn ping(
        &mut self,
        head: FrameHead,
        payload: &[u8],
        out: &mut WriteBuffer,
    ) -> Result<(), Code> {
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
    pub(in crate::gate::http2) fn announce(&mut self, out: &mut WriteBuffer) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Announced;
            self.say_goaway(frame::MASK, Code::NoError, out);
            frame::put(out, (frame::PING, 0, 0), &LEAVING);
        }
    }

    /// What the client sends from now on is not served.
    pub(in crate::gate::http2) fn leave(&mut self, out: &mut WriteBuffer) {
        self.leaving = Leaving::Final;
        self.say_goaway(self.last_served, Code::NoError, out);
    }

    /// Says why the connection ends.
    pub(in crate::gate::http2) fn end(&mut self, code: Code, out: &mut WriteBuffer) {
        self.say_goaway(self.last_served, code, out);
        self.flows.iter().for_each(|flow| flow.go());
    }

    fn say_goaway(&self, last: u32, code: Code, out: &mut WriteBuffer) {
        let payload = [last.to_be_bytes(), (code as u32).to_be_bytes()];
        frame::put(out, (frame::GOAWAY, 0, 0), payload.as_flattened());
    }
}
