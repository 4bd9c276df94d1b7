//! The body decoder gives the same octets, the same end and the same error however its input is cut.
//!
//! Input: framing (1), length (2, little-endian), number of cuts (1), that many cuts (1 each), the stream.

#![no_main]

use beian_gate::gate::http1::body::{BodyDecoder, BodyError, Step};
use beian_gate::gate::http1::framing::Framing;
use beian_gate::gate::request::BodyLength;
use libfuzzer_sys::fuzz_target;

#[derive(Debug, PartialEq)]
struct Decoded {
    body: Vec<u8>,
    /// Octets after the body, where it ended.
    rest: Option<usize>,
    may_end: bool,
    error: Option<BodyError>,
}

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, low, high, cuts], rest)) = input.split_first_chunk() else { return };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(cuts)) else { return };
    let decoder = decoder(kind, u64::from(u16::from_le_bytes([low, high])));

    let whole = decode(decoder.clone(), &[stream]);
    let cut = decode(decoder.clone(), &pieces(stream, cuts));
    assert_eq!(whole, cut);
    let octets: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(whole, decode(decoder, &octets));
});

fn decoder(kind: u8, length: u64) -> BodyDecoder {
    match kind % 6 {
        0 => BodyDecoder::for_request(BodyLength::Unknown),
        1 => BodyDecoder::for_request(BodyLength::Exactly(length)),
        2 => BodyDecoder::for_request(BodyLength::None),
        3 => BodyDecoder::for_response(Framing::Chunked),
        4 => BodyDecoder::for_response(Framing::Length(length)),
        _ => BodyDecoder::for_response(Framing::UntilClose),
    }
}

fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, rest) = stream.split_at(usize::from(*cut).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

/// Drives the decoder as a connection does: what a step leaves unused is shown again with what comes next.
fn decode(mut decoder: BodyDecoder, pieces: &[&[u8]]) -> Decoded {
    let (mut held, mut body) = (Vec::new(), Vec::new());
    let mut left: usize = pieces.iter().map(|piece| piece.len()).sum();
    let mut error = None;
    'pieces: for piece in pieces {
        held.extend_from_slice(piece);
        left -= piece.len();
        loop {
            match decoder.step(&held) {
                Ok(Step::Skip(octets)) => {
                    assert!((1..=held.len()).contains(&octets), "a step makes headway within its input");
                    held.drain(..octets);
                }
                Ok(Step::Data(octets)) => {
                    assert!((1..=held.len()).contains(&octets), "a step makes headway within its input");
                    body.extend(held.drain(..octets));
                }
                Ok(Step::NeedInput) => {
                    assert!(held.is_empty(), "nothing is left unused");
                    break;
                }
                Ok(Step::Done) => break 'pieces,
                Err(found) => {
                    error = Some(found);
                    break 'pieces;
                }
            }
        }
    }
    let is_done = decoder.is_done() && error.is_none();
    let may_end = decoder.may_end() && error.is_none();
    Decoded { body, rest: is_done.then_some(held.len() + left), may_end, error }
}
