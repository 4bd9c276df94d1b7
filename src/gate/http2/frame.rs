//! Frames of HTTP/2 as octets (RFC 9113, 4 and 6): heads, kinds, flags and error codes. Pure.

use crate::gate::buffer::WriteBuffer;

/// Octets of a frame's head.
pub const HEAD_BYTES: usize = 9;
/// Octets of payload that a client may send in a frame: the least that the protocol allows, which is not raised.
pub(super) const MAX_FRAME_BYTES: usize = 16 * 1024;
/// The same, as far as a peer may set it.
pub(super) const LARGEST_FRAME_BYTES: u32 = (1 << 24) - 1;
/// A stream's number, and a window's increment, have 31 bits.
pub(super) const MASK: u32 = u32::MAX >> 1;
/// How a client begins, before its first frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Octets of a body.
pub const DATA: u8 = 0;
/// The begin of a message, or its trailers.
pub const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
/// What a side wants.
pub const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
/// Whether the other side is there.
pub const PING: u8 = 6;
/// The end of a connection.
pub const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// Of DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Of DATA and HEADERS.
pub(super) const PADDED: u8 = 8;
/// Of HEADERS: a priority comes first.
pub(super) const HAS_PRIORITY: u8 = 32;

/// Why a stream or a connection ends (RFC 9113, 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// It is over.
    NoError = 0,
    /// Something that the protocol does not allow.
    Protocol = 1,
    /// It can't be gone on with here.
    Internal = 2,
    /// More octets than the window had room for.
    FlowControl = 3,
    /// A frame for what is closed.
    StreamClosed = 5,
    /// A frame of a wrong size.
    FrameSize = 6,
    /// Nothing was done about it.
    Refused = 7,
    /// A field block that makes no sense.
    Compression = 9,
    /// The peer does too much.
    Calm = 11,
}

/// A frame's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Octets of payload.
    pub length: usize,
    /// What it is.
    pub kind: u8,
    /// What is said of it.
    pub flags: u8,
    /// The stream; 0: the connection.
    pub stream: u32,
}

impl FrameHead {
    /// From the first octets of a frame; `None`: there are too few.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = octets.first_chunk::<HEAD_BYTES>()?;
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        Some(Self { length, kind: *kind, flags: *flags, stream: u32::from_be_bytes(*stream) & MASK })
    }

    /// Its octets. Lengths beyond 24 bits there are none of here.
    #[must_use]
    pub fn octets(self) -> [u8; HEAD_BYTES] {
        let [.., a, b, c] = (self.length as u64).to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Whether a flag is set.
    #[must_use]
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame.
pub(super) fn put(out: &mut WriteBuffer, (kind, flags, stream): (u8, u8, u32), payload: &[u8]) {
    out.put(&FrameHead { length: payload.len(), kind, flags, stream }.octets());
    out.put(payload);
}

/// What of a DATA or HEADERS frame's payload is no padding; `None`: there is more padding than payload.
pub(super) fn unpadded(head: FrameHead, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// A number of 32 bits, as most small frames are one; `None`: the payload is something else.
pub(super) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_as_written() {
        let head = FrameHead { length: 0x01_02_03, kind: 7, flags: 0x25, stream: MASK };
        assert_eq!(FrameHead::read(&head.octets()), Some(head));
        assert_eq!(FrameHead::read(&[0, 0, 4, 8, 0, 0x80, 0, 0, 1]).map(|head| head.stream), Some(1));
        assert_eq!(FrameHead::read(&[0; 8]), None);
    }

    #[test]
    fn padding() {
        let head = FrameHead { length: 0, kind: DATA, flags: PADDED, stream: 1 };
        assert_eq!(unpadded(head, &[2, b'a', 0, 0]), Some(&b"a"[..]));
        assert_eq!(unpadded(head, &[0]), Some(&b""[..]));
        assert_eq!(unpadded(head, &[1]), None);
        assert_eq!(unpadded(head, &[]), None);
        assert_eq!(unpadded(FrameHead { flags: 0, ..head }, &[9]), Some(&[9][..]));
    }
}
