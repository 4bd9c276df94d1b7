//! HTTP/2 by hand: frames of any content, header fields as literals that no encoder would send.

use super::wire::{Lost, Wire};
use std::collections::BTreeMap;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PRIORITY: u8 = 32;

pub struct H2 {
    wire: Wire,
    outcomes: BTreeMap<u32, Outcome>,
    /// How streams came to their ends: with a status where they are whole.
    ends: BTreeMap<u32, Outcome>,
    /// What came of each stream's body.
    data: BTreeMap<u32, Vec<u8>>,
    /// The connection's end, once it was seen.
    ended: Option<Outcome>,
    /// It was told, without an error, to go when its streams are done.
    is_told_to_go: bool,
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Lost(Lost),
}

impl H2 {
    /// Preface, settings without a dynamic table (so that a status can be read), a wide window.
    pub fn start(wire: Wire) -> Self {
        let mut h2 = Self {
            wire,
            outcomes: BTreeMap::new(),
            ends: BTreeMap::new(),
            data: BTreeMap::new(),
            ended: None,
            is_told_to_go: false,
        };
        h2.wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        h2.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        h2.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        h2
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.frames(kind, flags, stream, payload, 1);
    }

    /// The same frame so many times, at once.
    pub fn frames(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], count: usize) {
        self.wire.send(octets(kind, flags, stream, payload).repeat(count));
    }

    /// The first octets of a frame.
    pub fn begin(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], length: usize) {
        self.wire.send(&octets(kind, flags, stream, payload)[..length]);
    }

    /// A request without a body.
    pub fn request(&mut self, stream: u32, fields: &[(Vec<u8>, Vec<u8>)]) {
        self.frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(fields));
    }

    /// Reads on until the stream has a final status, was reset, or the connection is over.
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        self.until(|h2| h2.outcomes.get(&stream).cloned())
    }

    /// Reads on until the stream is over: whole, which its status stands for, or reset.
    pub fn end(&mut self, stream: u32) -> Outcome {
        self.until(|h2| h2.ends.get(&stream).cloned())
    }

    /// Whether more of the stream's body comes, and not its end.
    pub fn more(&mut self, stream: u32) -> bool {
        let before = self.body(stream).len();
        let next = self.until(|h2| {
            let is_more = h2.body(stream).len() > before;
            h2.ends.get(&stream).cloned().or_else(|| is_more.then_some(Outcome::Status(200)))
        });
        next == Outcome::Status(200) && !self.ends.contains_key(&stream)
    }

    /// What has come of the stream's body.
    pub fn body(&self, stream: u32) -> &[u8] {
        self.data.get(&stream).map_or(&[], Vec::as_slice)
    }

    /// Reads on until the other side says that it takes no more streams.
    #[track_caller]
    pub fn told_to_go(&mut self) {
        let told = self.until(|h2| h2.is_told_to_go.then_some(Outcome::GoAway(0)));
        assert_eq!(told, Outcome::GoAway(0));
    }

    fn until(&mut self, found: impl Fn(&Self) -> Option<Outcome>) -> Outcome {
        loop {
            if let Some(outcome) = found(self) {
                return outcome;
            }
            if let Some(ended) = &self.ended {
                return ended.clone();
            }
            if let Err(lost) = self.read() {
                self.ended = Some(Outcome::Lost(lost));
            }
        }
    }

    fn read(&mut self) -> Result<(), Lost> {
        let head = self.wire.exactly(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.wire.exactly(length as usize)?;
        let number =
            |at: usize| u32::from_be_bytes([payload[at], payload[at + 1], payload[at + 2], payload[at + 3]]);
        match head[3] {
            SETTINGS if head[4] & 1 == 0 => self.frame(SETTINGS, 1, 0, &[]),
            DATA => self.data.entry(stream).or_default().extend(payload),
            PING if head[4] & 1 == 0 => self.frame(PING, 1, 0, &payload),
            HEADERS => {
                if let Some(status) = status(&payload).filter(|status| *status >= 200) {
                    self.outcomes.entry(stream).or_insert(Outcome::Status(status));
                }
            }
            RST_STREAM => {
                let reset = Outcome::Reset(number(0));
                self.outcomes.entry(stream).or_insert_with(|| reset.clone());
                self.ends.entry(stream).or_insert(reset);
            }
            GOAWAY if number(4) == 0 => self.is_told_to_go = true,
            GOAWAY => self.ended = Some(Outcome::GoAway(number(4))),
            _ => {}
        }
        if matches!(head[3], DATA | HEADERS)
            && head[4] & END_STREAM != 0
            && let Some(outcome) = self.outcomes.get(&stream)
        {
            self.ends.entry(stream).or_insert_with(|| outcome.clone());
        }
        Ok(())
    }
}

pub fn octets(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals that are never indexed and not compressed.
pub fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0x10);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    let Some(mut rest) = text.len().checked_sub(127) else {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text);
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(0x80 | u8::try_from(rest % 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
    block.extend(text);
}

/// The status of a response's header block, whose first field it is.
fn status(mut block: &[u8]) -> Option<u16> {
    // Table size updates come first.
    while block.first()? & 0xe0 == 0x20 {
        block = &block[1..];
    }
    let first = *block.first()?;
    if let Some(index) = first.checked_sub(0x88) {
        return [200, 204, 206, 304, 400, 404, 500].get(usize::from(index)).copied();
    }
    let is_status = matches!(first, 0x48 | 0x08 | 0x18);
    let length = *block.get(1)?;
    let value = block.get(2..2 + usize::from(length & 0x7f))?;
    let text = if length & 0x80 == 0 { value.to_vec() } else { digits(value) };
    is_status.then(|| String::from_utf8(text).ok()?.parse().ok())?
}

/// Huffman-coded digits (RFC 7541, appendix B).
fn digits(bytes: &[u8]) -> Vec<u8> {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0_u8, |sum, bit| sum << 1 | bit);
    let mut text = Vec::new();
    let mut at = 0;
    while let Some(five) = bits.get(at..at + 5).map(value) {
        if five <= 2 {
            text.push(b'0' + five);
            at += 5;
            continue;
        }
        match bits.get(at..at + 6).map(value) {
            Some(six @ 0b01_1001..=0b01_1111) => text.push(b'3' + six - 0b01_1001),
            _ => break,
        }
        at += 6;
    }
    text
}
