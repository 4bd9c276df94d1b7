//! Feed frames: any octets are refused or read, however they are cut, and what is read is written back alike.
//!
//! The first octet says what the rest is: octets of a stream, one frame's kind and payload (length and checksum are
//! put right, so that the payload is looked at), or the entries within a compressed frame.

#![no_main]

use beian_gate::feed::{Frame, FrameError, FrameReader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    match mode % 3 {
        0 => check(rest),
        1 => check(&framed(rest)),
        _ => {
            let packed = zstd::bulk::compress(rest, 1).expect("compressing in memory can't fail");
            let length = u32::try_from(rest.len()).expect("inputs are short").to_le_bytes();
            check(&framed(&[&b"E"[..], &length, &packed].concat()));
        }
    }
});

fn framed(content: &[u8]) -> Vec<u8> {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let length = u32::try_from(content.len() + 8).expect("inputs are short").to_le_bytes();
    [&length[..], content, &sum.as_ref()[..8]].concat()
}

fn check(wire: &[u8]) {
    let whole = read(wire, wire.len().max(1));
    assert_eq!(whole, read(wire, 1), "however it is cut");
    for frame in &whole.0 {
        assert_eq!(read(&frame.to_bytes(), 7), (vec![frame.clone()], Ok(())));
    }
}

fn read(wire: &[u8], step: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut reader, mut frames) = (FrameReader::default(), Vec::new());
    for piece in wire.chunks(step) {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, reader.finish())
}
