//! Content codings applied, piece by piece, with an end to each piece where its reader waits for it. Pure.

use super::Coding;
use crate::config::Levels;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{self, Write as _};

/// What each looks back on: 256 KiB (gzip: 32).
const WINDOW_LOG: u32 = 18;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Applies one content coding.
pub(super) enum Encoder {
    Identity,
    Gzip(Box<GzEncoder<Vec<u8>>>),
    /// `None` once it is over.
    Brotli(Option<Box<brotli::CompressorWriter<Vec<u8>>>>),
    Zstd(Option<Box<zstd::stream::write::Encoder<'static, Vec<u8>>>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding, levels: Levels) -> io::Result<Self> {
        Ok(match coding {
            Coding::Identity => Self::Identity,
            Coding::Gzip => {
                Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::new(levels.gzip.into()))))
            }
            Coding::Brotli => Self::Brotli(Some(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                levels.brotli.into(),
                WINDOW_LOG,
            )))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), levels.zstd.into())?;
                encoder.window_log(WINDOW_LOG)?;
                Self::Zstd(Some(Box::new(encoder)))
            }
        })
    }

    /// Encodes `input`; `out` gets what is ready.
    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Identity => out.extend_from_slice(input),
            Self::Gzip(encoder) => {
                encoder.write_all(input)?;
                out.append(encoder.get_mut());
            }
            Self::Brotli(Some(encoder)) => {
                encoder.write_all(input)?;
                out.append(encoder.get_mut());
            }
            Self::Zstd(Some(encoder)) => {
                encoder.write_all(input)?;
                out.append(encoder.get_mut());
            }
            Self::Brotli(None) | Self::Zstd(None) => {}
        }
        Ok(())
    }

    /// Makes what was written readable so far.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => {
                encoder.flush()?;
                out.append(encoder.get_mut());
            }
            Self::Brotli(Some(encoder)) => {
                encoder.flush()?;
                out.append(encoder.get_mut());
            }
            Self::Zstd(Some(encoder)) => {
                encoder.flush()?;
                out.append(encoder.get_mut());
            }
            Self::Identity | Self::Brotli(None) | Self::Zstd(None) => {}
        }
        Ok(())
    }

    /// Nothing more will be written.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Identity => {}
            Self::Gzip(encoder) => {
                encoder.try_finish()?;
                out.append(encoder.get_mut());
            }
            Self::Brotli(encoder) => {
                if let Some(encoder) = encoder.take() {
                    out.append(&mut encoder.into_inner());
                }
            }
            Self::Zstd(encoder) => {
                if let Some(encoder) = encoder.take() {
                    out.append(&mut encoder.finish()?);
                }
            }
        }
        Ok(())
    }
}
