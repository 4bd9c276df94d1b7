//! Content codings undone, piece by piece: what one step may give is bounded, whatever a small input unfolds to. Pure.

use super::Coding;
use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::write::MultiGzDecoder;
use std::io::{self, Write as _};
use zstd::stream::raw::{self, DParameter, InBuffer, Operation as _, OutBuffer};

/// Octets that one step gives at most (gzip: twice that).
const STEP_BYTES: usize = 32 * 1024;
/// The largest window of a zstd stream: what RFC 9659 allows on the web, 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Undoes one content coding.
pub(super) enum Decoder {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    has_ended: bool,
}

pub(super) struct Zstd {
    decoder: raw::Decoder<'static>,
    /// The last frame is whole.
    is_whole: bool,
}

impl Decoder {
    pub(super) fn new(coding: Coding) -> io::Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            Coding::Brotli => {
                let alloc = StandardAlloc::default;
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                Self::Brotli(Box::new(Brotli { state, has_ended: false }))
            }
            Coding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Self::Zstd(Box::new(Zstd { decoder, is_whole: false }))
            }
        })
    }

    /// Decodes some of `input` onto `out`; gives how much of it was used, which is all of it once `out` gets nothing.
    ///
    /// # Errors
    /// It is not what it was said to be.
    pub(super) fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Identity => {
                let some = &input[..input.len().min(STEP_BYTES)];
                out.extend_from_slice(some);
                Ok(some.len())
            }
            Self::Gzip(decoder) => {
                let used = decoder.write(input)?;
                decoder.flush()?;
                out.append(decoder.get_mut());
                Ok(used)
            }
            Self::Brotli(decoder) => decoder.step(input, out),
            Self::Zstd(decoder) => decoder.step(input, out),
        }
    }

    /// The input is over: gives what is left.
    ///
    /// # Errors
    /// It broke off.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let is_whole = match self {
            Self::Identity => true,
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                out.append(decoder.get_mut());
                true
            }
            Self::Brotli(decoder) => decoder.has_ended,
            Self::Zstd(decoder) => decoder.is_whole,
        };
        if is_whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// Lends `out` room for a step, and takes back what was not used.
fn with_room<T>(out: &mut Vec<u8>, decode: impl FnOnce(&mut [u8], &mut usize) -> T) -> T {
    let before = out.len();
    out.resize(before + STEP_BYTES, 0);
    let mut written = 0;
    let result = decode(&mut out[before..], &mut written);
    out.truncate(before + written);
    result
}

impl Brotli {
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        if self.has_ended {
            // Nothing may follow, and nothing of it is the page's.
            return Ok(input.len());
        }
        let (mut left, mut used, mut total) = (input.len(), 0, 0);
        let result = with_room(out, |room, written| {
            let mut free = room.len();
            BrotliDecompressStream(
                &mut left,
                &mut used,
                input,
                &mut free,
                written,
                room,
                &mut total,
                &mut self.state,
            )
        });
        match result {
            BrotliResult::ResultSuccess => self.has_ended = true,
            BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(used)
    }
}

impl Zstd {
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        with_room(out, |room, written| {
            let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(room));
            let hint = self.decoder.run(&mut from, &mut to)?;
            *written = to.pos();
            if from.pos() > 0 || *written > 0 {
                self.is_whole = hint == 0;
            }
            Ok(from.pos())
        })
    }
}
