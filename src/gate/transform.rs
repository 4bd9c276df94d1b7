//! A response body changed on its way through: its coding undone, its page looked at or added to, a coding applied.
//!
//! Pure and bounded: octets in, octets out, no socket and no clock. Whatever it does not understand passes as it came.

mod decode;
mod encode;
pub mod fields;

use crate::config::Levels;
use crate::gate::compress::Place;
use crate::gate::footer::page::Page;
use crate::gate::reject::Reject;
use decode::Decoder;
use encode::Encoder;
use std::io;

/// Octets of a coded body that are kept until something of it was given on: what is not what it says passes as it came.
const MAX_KEPT_BYTES: usize = 64 * 1024;

/// A content coding that is understood (RFC 9110, 8.4.1; RFC 7932; RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// None.
    Identity,
    /// gzip
    Gzip,
    /// br
    Brotli,
    /// zstd
    Zstd,
}

impl Coding {
    /// By its name in `Content-Encoding`.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match () {
            () if is("identity") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("br") => Some(Self::Brotli),
            () if is("zstd") => Some(Self::Zstd),
            () => None,
        }
    }

    /// Its name in `Content-Encoding`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// What becomes of the octets themselves.
enum Passing {
    /// They go on as they came; what is decoded is only looked at.
    AsTheyCame,
    /// They go on as the encoder gives them.
    Encoded(Encoder),
}

/// One body's transformation.
pub struct Transform {
    /// `None`: it was not what it said, or is over; octets pass as they came.
    decoder: Option<Decoder>,
    page: Option<Page>,
    passing: Passing,
    decoded: Vec<u8>,
    staged: Vec<u8>,
    out: Vec<u8>,
    /// Octets at the front of `out` that are used up.
    used: usize,
    /// What came so far, while nothing of it was given on.
    kept: Option<Vec<u8>>,
    /// The encoder holds octets that its reader may wait for.
    is_unflushed: bool,
    has_ended: bool,
    /// Among those that are compressed at once.
    place: Option<Place>,
}

impl std::fmt::Debug for Transform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transform")
            .field("out", &self.data().len())
            .field("has_ended", &self.has_ended)
            .finish()
    }
}

impl Transform {
    /// Looks at a body that is coded so; its octets pass as they come.
    ///
    /// # Errors
    /// Out of memory for the coding.
    pub fn look(coding: Coding, page: Page) -> io::Result<Self> {
        Ok(Self::new(Decoder::new(coding)?, Some(page), Passing::AsTheyCame, None))
    }

    /// Makes a body coded `to` of one coded `from`, through the page.
    ///
    /// # Errors
    /// Out of memory for a coding.
    pub fn change(from: Coding, page: Option<Page>, to: Coding) -> io::Result<Self> {
        Self::coded(from, page, (to, Levels::default()))
    }

    /// The same, as hard as the operator wants it.
    ///
    /// # Errors
    /// Out of memory for a coding.
    pub fn coded(from: Coding, page: Option<Page>, (to, levels): (Coding, Levels)) -> io::Result<Self> {
        let passing = Passing::Encoded(Encoder::new(to, levels)?);
        // Only where the coding stays may what came stand for what was to be given.
        let kept = (from == to && from != Coding::Identity).then(Vec::new);
        Ok(Self::new(Decoder::new(from)?, page, passing, kept))
    }

    fn new(decoder: Decoder, page: Option<Page>, passing: Passing, kept: Option<Vec<u8>>) -> Self {
        Self {
            decoder: Some(decoder),
            page,
            passing,
            decoded: Vec::new(),
            staged: Vec::new(),
            out: Vec::new(),
            used: 0,
            kept,
            is_unflushed: false,
            has_ended: false,
            place: None,
        }
    }

    /// Holds a place until it is dropped.
    #[must_use]
    pub fn holding(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// What is ready.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.out[self.used..]
    }

    /// Uses up octets from the front of `data`.
    pub fn consume(&mut self, octets: usize) {
        self.used += octets.min(self.data().len());
        if self.used == self.out.len() {
            self.out.clear();
            self.used = 0;
        }
    }

    /// Whether everything came and was used up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.has_ended && self.data().is_empty()
    }

    /// Whether everything came.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes some of `input`; gives how much.
    ///
    /// # Errors
    /// The body is not what it said, and part of it was given on already.
    pub fn push(&mut self, input: &[u8]) -> Result<usize, Reject> {
        let Some(decoder) = &mut self.decoder else {
            self.out.extend_from_slice(input);
            return Ok(input.len());
        };
        self.decoded.clear();
        let taken = match decoder.step(input, &mut self.decoded) {
            // A step that does nothing would be taken for ever.
            Ok(0) if self.decoded.is_empty() && !input.is_empty() => return self.give_up(input),
            Ok(taken) => taken,
            Err(_) => return self.give_up(input),
        };
        self.keep(&input[..taken]);
        self.pass_on(&input[..taken])?;
        Ok(taken)
    }

    fn keep(&mut self, taken: &[u8]) {
        let Some(kept) = &mut self.kept else { return };
        if kept.len() + taken.len() > MAX_KEPT_BYTES {
            self.kept = None;
        } else {
            kept.extend_from_slice(taken);
        }
    }

    /// Passes on what was decoded of `taken`.
    fn pass_on(&mut self, taken: &[u8]) -> Result<(), Reject> {
        let Self { page, decoded, staged, passing, out, .. } = self;
        staged.clear();
        let pieces: &[u8] = match page {
            Some(page) => {
                page.feed(decoded, staged);
                staged
            }
            None => decoded,
        };
        match passing {
            Passing::AsTheyCame => out.extend_from_slice(taken),
            Passing::Encoded(encoder) => {
                encoder.write(pieces, out).map_err(|_| broken())?;
                self.is_unflushed |= !pieces.is_empty();
            }
        }
        if !self.out.is_empty() {
            self.kept = None;
        }
        Ok(())
    }

    /// It is not what it said: passes as it came from here on, where that can be.
    fn give_up(&mut self, input: &[u8]) -> Result<usize, Reject> {
        if let Some(page) = &mut self.page {
            page.give_up();
        }
        match (&self.passing, self.kept.take()) {
            (Passing::AsTheyCame, _) => {}
            (Passing::Encoded(_), Some(kept)) => {
                self.out.extend_from_slice(&kept);
                self.passing = Passing::AsTheyCame;
            }
            (Passing::Encoded(_), None) => return Err(broken()),
        }
        self.decoder = None;
        self.out.extend_from_slice(input);
        Ok(input.len())
    }

    /// Gives what is held although more may come: its reader may wait for it.
    ///
    /// # Errors
    /// The encoder's.
    pub fn flush(&mut self) -> Result<(), Reject> {
        self.unfold()?;
        if let Passing::Encoded(encoder) = &mut self.passing
            && std::mem::take(&mut self.is_unflushed)
        {
            encoder.flush(&mut self.out).map_err(|_| broken())?;
            self.kept = None;
        }
        Ok(())
    }

    /// Passes on some of what the decoder still has of what it took. Says whether there was any.
    fn unfold(&mut self) -> Result<bool, Reject> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        self.decoded.clear();
        if decoder.step(&[], &mut self.decoded).is_err() {
            return self.give_up(&[]).map(|_| false);
        }
        self.pass_on(&[]).map(|()| !self.decoded.is_empty())
    }

    /// The body is over; to be called until `has_ended`, with what is ready used up in between.
    ///
    /// # Errors
    /// It broke off within its coding, and part of it was given on already.
    pub fn end(&mut self) -> Result<(), Reject> {
        if self.has_ended || self.unfold()? {
            return Ok(());
        }
        if let Some(mut decoder) = self.decoder.take() {
            self.decoded.clear();
            if decoder.finish(&mut self.decoded).is_err() {
                self.give_up(&[])?;
            } else {
                self.pass_on(&[])?;
                self.end_page()?;
            }
        }
        self.has_ended = true;
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), Reject> {
        self.staged.clear();
        if let Some(page) = &mut self.page {
            page.end(&mut self.staged);
        }
        if let Passing::Encoded(encoder) = &mut self.passing {
            let coded =
                encoder.write(&self.staged, &mut self.out).and_then(|()| encoder.finish(&mut self.out));
            coded.map_err(|_| broken())?;
        }
        Ok(())
    }
}

fn broken() -> Reject {
    Reject::UpstreamError("its response is not in the content coding that it names")
}

#[cfg(test)]
mod tests;
