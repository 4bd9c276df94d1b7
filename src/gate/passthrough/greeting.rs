//! The beginning of a TLS connection that is passed through, as far as names are told in the clear.
//!
//! A server may ask for a second ClientHello (HelloRetryRequest; RFC 8446, 4.1.4), and many a server goes by the name
//! in that one. So the client's records are gone over until the server has said that it asks for none, and every
//! further hello must name what the first one did: it is held back until it is whole. Until then a client has no other
//! handshake message to send, and no other kind of record than TLS has: whatever else comes is refused unread, for what
//! a server makes of it is the server's secret.

use crate::domain::DomainName;
use crate::gate::buffer::BUFFER_BYTES;
use crate::gate::hello::{self, Alert, Hello, HelloReader};
use crate::gate::stream::Channel;
use crate::gate::tunnel;
use crate::gate::watch::Watch;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

const RECORD_HEADER: usize = 5;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Heartbeats: the last type that there is.
const LAST_TYPE: u8 = 24;
/// The first octet of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Octets of a ServerHello up to the end of its random.
const ANSWER_BEGIN: usize = 38;
/// Octets of a server's that are looked through for its answer.
const MAX_ANSWER_BYTES: usize = 4096;
/// The random that makes a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Why a connection ends before it was a tunnel.
#[derive(Debug)]
pub(super) enum Ended {
    /// A further hello that names something else, or nothing.
    Refused(Alert),
    /// Closed, cut, or silent for too long.
    Over,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Over
    }
}

/// Carries octets both ways until no further hello may come. The first is in the client's input still. Gives the
/// octets from the client.
///
/// # Errors
/// `Ended`.
pub(super) async fn run(
    client: &mut Channel,
    upstream: &mut Channel,
    hello: &Hello,
    watch: &Watch,
) -> Result<u64, Ended> {
    let Some(name) = hello.server_name else { return Err(Ended::Refused(Alert::UnrecognizedName)) };
    let mut greeting = Greeting::new(name, hello.octets);
    watch.within(tunnel::IDLE_TIMEOUT);
    poll_fn(|cx| {
        if watch.check(cx).is_err() {
            return Poll::Ready(Err(Ended::Over));
        }
        greeting.poll(cx, client, upstream)
    })
    .await?;
    Ok(greeting.moved)
}

/// What a server has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// Too little to tell.
    Nothing,
    /// That it wants another hello, or nothing that could be made out.
    Again,
    /// Anything else.
    Answer,
}

/// How far a connection's beginning has come.
#[derive(Debug)]
pub struct Greeting {
    name: DomainName,
    /// Octets of the client's current record still to come.
    skip: usize,
    /// A further hello that has begun.
    again: Option<HelloReader>,
    /// No further hello may come.
    is_over: bool,
    said: Said,
    moved: u64,
}

impl Greeting {
    /// Behind a first hello of so many octets that asks for this name.
    #[must_use]
    pub fn new(name: DomainName, octets: usize) -> Self {
        Self { name, skip: octets, again: None, is_over: false, said: Said::Nothing, moved: 0 }
    }

    /// Whether what comes now needs no look any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Looks at all that the server has said so far.
    pub fn hear(&mut self, octets: &[u8]) {
        if self.said == Said::Nothing {
            self.said = said(octets);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Channel,
        upstream: &mut Channel,
    ) -> Poll<Result<(), Ended>> {
        loop {
            let octets = self.pass(client.input.data()).map_err(Ended::Refused)?;
            upstream.output.put(&client.input.data()[..octets]);
            client.input.consume(octets);
            self.moved += octets as u64;
            let is_stuck = upstream.poll_flush(cx)?.is_pending();
            if self.is_over {
                return Poll::Ready(Ok(()));
            }
            let answered = self.poll_answer(cx, client, upstream)?;
            if let Poll::Ready(true) = answered {
                // Half a hello goes nowhere.
                return Poll::Ready(if self.again.is_none() { Ok(()) } else { Err(Ended::Over) });
            }
            if is_stuck {
                ready!(answered);
                continue;
            }
            match client.poll_fill(cx, hello::MAX_HELLO_BYTES)? {
                Poll::Ready(0) if self.again.is_some() => return Poll::Ready(Err(Ended::Over)),
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Pending if answered.is_pending() => return Poll::Pending,
                _ => {}
            }
        }
    }

    /// Reads what the server says, and passes on what asks for a hello; `true` where nothing more is to be learnt.
    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut Channel,
        upstream: &mut Channel,
    ) -> Poll<Result<bool, Ended>> {
        self.hear(upstream.input.data());
        match self.said {
            Said::Answer => return Poll::Ready(Ok(true)),
            Said::Again => {
                client.output.put(upstream.input.data());
                let octets = upstream.input.data().len();
                upstream.input.consume(octets);
                ready!(client.poll_flush(cx))?;
            }
            Said::Nothing => {}
        }
        let octets = ready!(upstream.poll_fill(cx, BUFFER_BYTES))?;
        Poll::Ready(Ok(octets == 0))
    }

    /// Goes over the client's octets: gives how many may go on, and wants the others again, with more behind them.
    ///
    /// # Errors
    /// The alert to send: none of them may go on.
    pub fn pass(&mut self, octets: &[u8]) -> Result<usize, Alert> {
        let mut at = 0;
        while !self.is_over {
            let some = self.skip.min(octets.len() - at);
            (at, self.skip) = (at + some, self.skip - some);
            let rest = &octets[at..];
            if let Some(reader) = &mut self.again {
                let Some(hello) = reader.read(rest)? else { return Ok(at) };
                if hello.server_name != Some(self.name) {
                    return Err(Alert::IllegalParameter);
                }
                at += hello.octets;
                self.again = None;
                self.is_over = self.said == Said::Again;
                continue;
            }
            match record(rest) {
                Record::Unknown => return Ok(at),
                Record::Wrong => return Err(Alert::UnexpectedMessage),
                Record::Hello => self.again = Some(HelloReader::default()),
                Record::Other(octets) => self.skip = octets,
            }
        }
        Ok(octets.len())
    }
}

/// What a client's octets begin with.
#[derive(Debug, PartialEq, Eq)]
enum Record {
    /// Too few to tell.
    Unknown,
    /// A ClientHello, or the first piece of one.
    Hello,
    /// Another record, of so many octets.
    Other(usize),
    /// Nothing that a client has to say at this point.
    Wrong,
}

fn record(octets: &[u8]) -> Record {
    match octets.first() {
        None => return Record::Unknown,
        Some(CHANGE_CIPHER_SPEC..=LAST_TYPE) => {}
        Some(_) => return Record::Wrong,
    }
    let Some(header) = octets.first_chunk::<RECORD_HEADER>() else { return Record::Unknown };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if header[0] != HANDSHAKE {
        return Record::Other(RECORD_HEADER + length);
    }
    // Whatever version it claims: servers don't all look.
    match octets.get(RECORD_HEADER) {
        _ if length == 0 => Record::Wrong,
        None => Record::Unknown,
        Some(&CLIENT_HELLO) => Record::Hello,
        Some(_) => Record::Wrong,
    }
}

/// What a server's first octets say.
fn said(octets: &[u8]) -> Said {
    let mut content = Vec::with_capacity(ANSWER_BEGIN);
    let mut rest = octets;
    while content.len() < ANSWER_BEGIN {
        let undecided = if octets.len() < MAX_ANSWER_BYTES { Said::Nothing } else { Said::Again };
        let Some((header, after)) = rest.split_first_chunk::<RECORD_HEADER>() else {
            let may_be = matches!(rest.first(), None | Some(CHANGE_CIPHER_SPEC..=HANDSHAKE));
            return if may_be { undecided } else { Said::Answer };
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        let piece = &after[..length.min(after.len())];
        match header[0] {
            HANDSHAKE => content.extend_from_slice(piece),
            // A warning may come first.
            CHANGE_CIPHER_SPEC | ALERT => {}
            _ => return Said::Answer,
        }
        let is_begun = content.first().is_none_or(|kind| *kind == 2);
        if !is_begun {
            return Said::Answer;
        }
        if piece.len() < length && content.len() < ANSWER_BEGIN {
            return undecided;
        }
        rest = &after[piece.len()..];
    }
    if content[ANSWER_BEGIN - RETRY_RANDOM.len()..ANSWER_BEGIN] == RETRY_RANDOM {
        Said::Again
    } else {
        Said::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3][..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    }

    #[track_caller]
    fn check_said(octets: &[u8], expected: Said) {
        assert_eq!(said(octets), expected, "{octets:02x?}");
        for end in 0..octets.len() {
            assert!([Said::Nothing, expected].contains(&said(&octets[..end])), "cut at {end}: {octets:02x?}");
        }
    }

    #[test]
    fn servers() {
        let hello = |random: &[u8]| [&[2, 0, 0, 90, 3, 3], random, &[0; 60]].concat();
        let (plain, retry) = (hello(&[7; 32]), hello(&RETRY_RANDOM));
        check_said(&record_of(HANDSHAKE, &plain), Said::Answer);
        check_said(&record_of(HANDSHAKE, &retry), Said::Again);
        for size in [1, 5, 37] {
            let cut: Vec<u8> = retry.chunks(size).flat_map(|piece| record_of(HANDSHAKE, piece)).collect();
            check_said(&cut, Said::Again);
        }
        check_said(&[record_of(ALERT, &[1, 112]), record_of(HANDSHAKE, &retry)].concat(), Said::Again);
        check_said(&record_of(ALERT, &[2, 40]), Said::Nothing);
        check_said(b"HTTP/1.1 400 Bad Request\r\n\r\n", Said::Answer);
        check_said(&record_of(HANDSHAKE, &[1, 0, 0, 90, 3, 3]), Said::Answer);
        assert_eq!(said(&record_of(HANDSHAKE, &[]).repeat(1000)), Said::Again);
    }

    #[test]
    fn clients() {
        let hello = [1, 0, 0, 90, 3, 3, 7, 7];
        for (content, expected) in [
            (&hello[..], Record::Hello),
            (&hello[..1], Record::Hello),
            (&hello[..5], Record::Hello),
            (&[1, 0, 0, 90, 3, 1], Record::Hello),
            (&[1, 0, 0, 90, 2, 0], Record::Hello),
            (&[1, 255, 0, 90, 4, 3], Record::Hello),
            (&[16, 0, 0, 90, 3, 3], Record::Wrong),
            (&[0, 0, 0, 0, 1, 0], Record::Wrong),
            (&[], Record::Wrong),
        ] {
            assert_eq!(record(&record_of(HANDSHAKE, content)), expected, "{content:?}");
        }
        assert_eq!(record(&record_of(23, &hello)), Record::Other(13));
        assert_eq!(record(&record_of(HANDSHAKE, &hello)[..5]), Record::Unknown);
        assert_eq!(record(b""), Record::Unknown);
        assert_eq!(record(b"GET"), Record::Wrong);
        assert_eq!(record(&[0x80, 46, 1, 3, 1]), Record::Wrong, "a hello of SSL 2.0");
        assert_eq!(record(&record_of(25, &hello)), Record::Wrong, "a kind of record that nobody knows");
    }

    /// A hello that asks for the name, in records of at most that many octets.
    fn hello_of(name: &str, version: [u8; 2], most: usize) -> Vec<u8> {
        let with16 = |part: &[u8]| [&u16::try_from(part.len()).unwrap().to_be_bytes()[..], part].concat();
        let list = with16(&[&[0][..], &with16(name.as_bytes())].concat());
        let extensions = with16(&[&[0, 0][..], &with16(&list)].concat());
        let body = [&version[..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0], &extensions].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        let message = [&[CLIENT_HELLO][..], &length[1..], &body].concat();
        message.chunks(most).flat_map(|piece| record_of(HANDSHAKE, piece)).collect()
    }

    /// What goes on of a client's octets that come in pieces, the first hello left out.
    fn passed(octets: &[u8], sizes: &[usize], said: Said) -> Vec<u8> {
        let name = DomainName::from_wire(b"filed.cn").unwrap();
        let mut greeting = Greeting { said, ..Greeting::new(name, 0) };
        let (mut held, mut passed, mut rest) = (Vec::new(), Vec::new(), octets);
        for size in sizes.iter().copied().chain([octets.len()]) {
            let piece = rest.split_off(..size.min(rest.len())).unwrap();
            held.extend_from_slice(piece);
            let Ok(octets) = greeting.pass(&held) else { break };
            if greeting.is_over {
                // What comes now is answered by nobody's certificate but the name's.
                passed.append(&mut held);
                break;
            }
            passed.extend(held.drain(..octets));
        }
        passed
    }

    /// The names that a server finds which looks at nothing but the kinds of records and messages.
    fn names_in(mut octets: &[u8]) -> Vec<Option<String>> {
        let mut messages = Vec::new();
        while let Some((header, rest)) = octets.split_first_chunk::<RECORD_HEADER>() {
            let length = usize::from(u16::from_be_bytes([header[3], header[4]])).min(rest.len());
            if header[0] == HANDSHAKE {
                messages.extend_from_slice(&rest[..length]);
            }
            octets = &rest[length..];
        }
        let (mut names, mut rest) = (Vec::new(), &messages[..]);
        while let Some(head) = rest.first_chunk::<4>() {
            let length = 4 + (usize::from(head[2]) << 8 | usize::from(head[3]));
            let message = rest.split_off(..length.min(rest.len())).unwrap();
            let hello = hello::parse(&record_of(HANDSHAKE, message)).ok().flatten();
            names.push(hello.and_then(|hello| hello.server_name).map(|name| name.as_str().to_owned()));
        }
        names
    }

    proptest::proptest! {
        #[test]
        fn whatever_goes_on_names_the_first_hello_s_name(
            parts in proptest::collection::vec((0..5_u8, 1..80_usize, 18..27_u8, proptest::num::u16::ANY), 1..6),
            sizes in proptest::collection::vec(1..60_usize, 0..12),
            is_asked in proptest::bool::ANY,
        ) {
            let octets: Vec<u8> = parts.iter().flat_map(|(what, most, kind, any)| match what {
                0 | 1 => hello_of("filed.cn", any.to_be_bytes(), *most),
                2 => hello_of("unfiled.cn", any.to_be_bytes(), *most),
                3 => record_of(*kind, &any.to_be_bytes()),
                _ => record_of(*kind, &hello_of("unfiled.cn", [3, 3], 200)[RECORD_HEADER..]),
            }).collect();
            let said = if is_asked { Said::Again } else { Said::Nothing };
            let mut names = names_in(&passed(&octets, &sizes, said));
            // A server asks once: behind a hello that it asked for there is no other.
            names.truncate(if is_asked { 1 } else { usize::MAX });
            proptest::prop_assert!(names.iter().all(|name| name.as_deref() == Some("filed.cn")), "{names:?}");
        }

        #[test]
        fn any_octets_never_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (said(&octets), record(&octets));
            let _ = (said(&record_of(HANDSHAKE, &octets)), record(&record_of(HANDSHAKE, &octets)));
        }
    }
}
