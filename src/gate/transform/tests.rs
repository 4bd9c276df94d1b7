//! Codings in any cut, and bodies that are not what they say.

use super::*;
use std::io::{Read as _, Write as _};

const CODINGS: [Coding; 4] = [Coding::Identity, Coding::Gzip, Coding::Brotli, Coding::Zstd];

fn encoded(body: &[u8], coding: Coding) -> Vec<u8> {
    let mut encoder = Encoder::new(coding, Levels::default()).unwrap();
    let mut out = Vec::new();
    encoder.write(body, &mut out).unwrap();
    encoder.finish(&mut out).unwrap();
    out
}

/// By other means than those under test.
fn decoded(body: &[u8], coding: Coding) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Identity => out = body.to_vec(),
        Coding::Gzip => drop(flate2::read::MultiGzDecoder::new(body).read_to_end(&mut out).unwrap()),
        Coding::Brotli => drop(brotli::Decompressor::new(body, 4096).read_to_end(&mut out).unwrap()),
        Coding::Zstd => out = zstd::stream::decode_all(body).unwrap(),
    }
    out
}

/// Everything that comes out, and the most that stood ready at once.
fn run(mut transform: Transform, body: &[u8], piece: usize) -> (Result<(), Reject>, Vec<u8>, usize) {
    let (mut out, mut most) = (Vec::new(), 0);
    let mut take = |transform: &mut Transform| {
        most = most.max(transform.data().len());
        out.extend_from_slice(transform.data());
        transform.consume(usize::MAX);
    };
    for mut piece in body.chunks(piece) {
        while !piece.is_empty() {
            match transform.push(piece) {
                Ok(taken) => piece = &piece[taken..],
                Err(reject) => return (Err(reject), out, most),
            }
            take(&mut transform);
        }
    }
    while !transform.has_ended() {
        if let Err(reject) = transform.end() {
            return (Err(reject), out, most);
        }
        take(&mut transform);
    }
    assert!(transform.is_done());
    (Ok(()), out, most)
}

#[test]
fn every_coding_into_every_other() {
    let body: Vec<u8> = (0..200_000_u32).flat_map(|i| (i / 7).to_string().into_bytes()).collect();
    for from in CODINGS {
        let coded = encoded(&body, from);
        for to in CODINGS {
            for piece in [1000, 31, coded.len()] {
                let (ended, out, _) = run(Transform::change(from, None, to).unwrap(), &coded, piece);
                assert_eq!(ended, Ok(()));
                assert!(decoded(&out, to) == body, "{from:?} to {to:?} by {piece}");
            }
        }
    }
}

#[test]
fn a_small_input_unfolds_in_bounded_steps() {
    let bomb = vec![0; 64 << 20];
    for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
        let coded = encoded(&bomb, coding);
        let (ended, out, most) =
            run(Transform::change(coding, None, Coding::Identity).unwrap(), &coded, coded.len());
        assert_eq!((ended, out.len()), (Ok(()), bomb.len()));
        assert!(most <= 256 << 10, "{coding:?}: {most} octets at once");
    }
}

#[test]
fn what_is_not_what_it_says_passes_as_it_came() {
    for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
        let plain = b"<html><body>not coded at all</body></html>".repeat(10);
        let (ended, out, _) = run(Transform::change(coding, None, coding).unwrap(), &plain, 64);
        assert_eq!(ended, Ok(()), "{coding:?}");
        assert!(out == plain, "{coding:?}");
        // Cut short before anything was given on.
        let short = &encoded(b"a page", coding)[..5];
        let (ended, out, _) = run(Transform::change(coding, None, coding).unwrap(), short, 64);
        assert_eq!((ended, out.as_slice()), (Ok(()), short), "{coding:?}");
        // Where another coding was promised there is no way back.
        let (ended, _, _) = run(Transform::change(coding, None, Coding::Identity).unwrap(), short, 64);
        assert!(ended.is_err(), "{coding:?}");
    }
}

#[test]
fn a_reader_who_waits_gets_what_there_is() {
    for to in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
        let mut transform = Transform::change(Coding::Identity, None, to).unwrap();
        transform.push(b"the first words").unwrap();
        transform.flush().unwrap();
        let so_far = transform.data().to_vec();
        let mut read = [0; 15];
        match to {
            Coding::Gzip => flate2::read::GzDecoder::new(&so_far[..]).read_exact(&mut read).unwrap(),
            Coding::Brotli => brotli::Decompressor::new(&so_far[..], 4096).read_exact(&mut read).unwrap(),
            _ => zstd::stream::read::Decoder::new(&so_far[..]).unwrap().read_exact(&mut read).unwrap(),
        }
        assert_eq!(&read, b"the first words", "{to:?}");
    }
}

#[test]
fn members_of_gzip_are_one_body() {
    let mut both = encoded(b"one ", Coding::Gzip);
    both.write_all(&encoded(b"two", Coding::Gzip)).unwrap();
    let (ended, out, _) = run(Transform::change(Coding::Gzip, None, Coding::Identity).unwrap(), &both, 3);
    assert_eq!((ended, out.as_slice()), (Ok(()), &b"one two"[..]));
}
