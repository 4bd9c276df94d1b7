//! The ClientHello, read before TLS begins: which name is asked for (RFC 8446, 4.1.2; RFC 6066, 3).
//!
//! Put together from whatever records and segments it is cut into. What does not parse is an error, never a
//! hello without a name.

use crate::domain::{DomainName, HostForm};

/// The most octets that a hello may take, records included: a handshake message of 64 KiB in records of any size
/// from 64 octets on.
pub const MAX_HELLO_BYTES: usize = 72 * 1024;
const RECORD_HEADER: usize = 5;
const MAX_RECORD: usize = 16 * 1024;
const MAX_MESSAGE: usize = 64 * 1024;
const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
/// Signatures of ECDSA keys that we make: with P-256, P-384 and P-521, and Ed25519 (RFC 8446, 4.2.3).
const ECDSA_SIGNATURES: [u16; 4] = [0x0403, 0x0503, 0x0603, 0x0807];
/// Suites that go with any key (TLS 1.3), and those of TLS 1.2 that go with such keys.
const TLS13_SUITES: u16 = 0x1300;
const ECDSA_SUITES: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
/// Cipher suites with ChaCha20-Poly1305 (RFC 8446, B.4; RFC 7905).
const CHACHA: [[u8; 2]; 3] = [[0x13, 0x03], [0xcc, 0xa8], [0xcc, 0xa9]];

/// Fatal alerts that the gate sends itself (RFC 8446, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// The hello does not follow the protocol.
    DecodeError = 50,
    /// The octets are no TLS handshake.
    UnexpectedMessage = 10,
    /// A second hello that is not the first one's.
    IllegalParameter = 47,
    /// Nothing is served under the name.
    UnrecognizedName = 112,
}

impl Alert {
    /// The alert as a record.
    #[must_use]
    pub fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self as u8]
    }
}

/// What a hello says that matters before the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name asked for; `None` where there is no such extension.
    pub server_name: Option<DomainName>,
    /// Whether a certificate with an ECDSA key will do; one with an RSA key is taken to always do.
    pub takes_ecdsa: bool,
    /// Octets of the records that it came in: with the last of them it ends.
    pub octets: usize,
    /// The client would rather have ChaCha20, as those do that have no AES in hardware.
    pub prefers_chacha: bool,
}

/// Puts a hello together as its octets arrive: each record is looked at once.
#[derive(Debug, Default)]
pub struct HelloReader {
    message: Vec<u8>,
    /// Octets of whole records that are in `message`.
    used: usize,
}

impl HelloReader {
    /// Looks at everything read so far, `octets`; `None` until the hello is whole.
    ///
    /// # Errors
    /// The alert to send.
    pub fn read(&mut self, octets: &[u8]) -> Result<Option<Hello>, Alert> {
        loop {
            if let Some(length) = message_length(&self.message)?
                && self.message.len() >= length
            {
                let mut hello = body(&self.message[4..length])?;
                // Another message behind it, in its last record, is one that nobody would look at.
                if self.message.len() > length {
                    return Err(Alert::UnexpectedMessage);
                }
                hello.octets = self.used;
                return Ok(Some(hello));
            }
            let rest = octets.get(self.used..).unwrap_or_default();
            match next_record(rest)? {
                Some(record) => {
                    self.message.extend_from_slice(record.content);
                    self.used += rest.len() - record.rest.len();
                }
                None if octets.len() >= MAX_HELLO_BYTES => return Err(Alert::DecodeError),
                None => return Ok(None),
            }
        }
    }
}

/// Looks for a whole ClientHello at the start of `octets`; `None` until more arrive.
///
/// # Errors
/// The alert to send.
pub fn parse(octets: &[u8]) -> Result<Option<Hello>, Alert> {
    HelloReader::default().read(octets)
}

/// A record's content, and what follows it.
struct Record<'a> {
    content: &'a [u8],
    rest: &'a [u8],
}

/// The next record; `None` while it is incomplete.
fn next_record(octets: &[u8]) -> Result<Option<Record<'_>>, Alert> {
    if octets.first().is_some_and(|kind| *kind != HANDSHAKE_RECORD)
        || octets.get(1).is_some_and(|major| *major != 3)
    {
        return Err(Alert::UnexpectedMessage);
    }
    let Some(header) = octets.first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length == 0 || length > MAX_RECORD {
        return Err(Alert::DecodeError);
    }
    Ok(octets[RECORD_HEADER..].split_at_checked(length).map(|(content, rest)| Record { content, rest }))
}

/// The message's whole length once its head is there.
fn message_length(message: &[u8]) -> Result<Option<usize>, Alert> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Alert::UnexpectedMessage);
    }
    let Some(head) = message.first_chunk::<4>() else { return Ok(None) };
    let length = 4 + (usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]));
    if length > MAX_MESSAGE { Err(Alert::DecodeError) } else { Ok(Some(length)) }
}

/// Walks the hello's body: cipher suites, and the extensions that matter here.
fn body(body: &[u8]) -> Result<Hello, Alert> {
    let mut body = Cursor(body);
    body.take(2 + 32)?;
    body.vector8()?;
    let suites = body.vector16()?;
    // What nobody knows (RFC 8701) may stand first.
    let mut known = suites.as_chunks::<2>().0.iter().filter(|one| one[0] & 0x0f != 0x0a || one[0] != one[1]);
    let prefers_chacha = known.next().is_some_and(|suite| CHACHA.contains(suite));
    body.vector8()?;
    if body.0.is_empty() {
        return Ok(Hello { server_name: None, takes_ecdsa: false, octets: 0, prefers_chacha });
    }
    let mut extensions = Cursor(body.vector16()?);
    if !body.0.is_empty() {
        return Err(Alert::DecodeError);
    }
    let (mut found, mut signatures) = (None, &[][..]);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME && found.replace(one_name(content)?).is_some() {
            return Err(Alert::DecodeError);
        }
        if kind == SIGNATURE_ALGORITHMS {
            signatures = Cursor(content).vector16()?;
        }
    }
    let has_suite = has(suites, |suite| suite & 0xff00 == TLS13_SUITES || ECDSA_SUITES.contains(&suite));
    let takes_ecdsa = has_suite && has(signatures, |one| ECDSA_SIGNATURES.contains(&one));
    Ok(Hello { server_name: found, takes_ecdsa, octets: 0, prefers_chacha })
}

/// Whether one of a list of 16-bit numbers is such.
fn has(list: &[u8], is_such: impl Fn(u16) -> bool) -> bool {
    list.chunks_exact(2).any(|octets| is_such(u16::from_be_bytes([octets[0], octets[1]])))
}

/// Exactly one host name, and a name: an address or anything malformed can't be served.
fn one_name(content: &[u8]) -> Result<DomainName, Alert> {
    let mut content = Cursor(content);
    let mut list = Cursor(content.vector16()?);
    let kind = list.take(1)?;
    let name = list.vector16()?;
    if kind != [0] || !list.0.is_empty() || !content.0.is_empty() {
        return Err(Alert::DecodeError);
    }
    match HostForm::from_wire(name) {
        Ok(HostForm::Name(name)) => Ok(name),
        Ok(HostForm::Ip(_)) | Err(_) => Err(Alert::UnrecognizedName),
    }
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, octets: usize) -> Result<&'a [u8], Alert> {
        let (taken, rest) = self.0.split_at_checked(octets).ok_or(Alert::DecodeError)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number16(&mut self) -> Result<u16, Alert> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], Alert> {
        let length = usize::from(self.take(1)?[0]);
        self.take(length)
    }

    fn vector16(&mut self) -> Result<&'a [u8], Alert> {
        let length = usize::from(self.number16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(names: &[&[u8]]) -> Vec<u8> {
        let list: Vec<u8> = names
            .iter()
            .flat_map(|n| [&[0][..], &u16::try_from(n.len()).unwrap().to_be_bytes(), n].concat())
            .collect();
        let with_length =
            |octets: &[u8]| [&u16::try_from(octets.len()).unwrap().to_be_bytes()[..], octets].concat();
        let extension = [&[0, 0][..], &with_length(&with_length(&list))].concat();
        let body =
            [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &with_length(&extension)].concat();
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1][..], &length[1..], &body].concat()
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        message
            .chunks(size)
            .flat_map(|c| [&[22, 3, 1][..], &u16::try_from(c.len()).unwrap().to_be_bytes(), c].concat())
            .collect()
    }

    #[track_caller]
    fn check(names: &[&[u8]], expected: Result<&str, Alert>) {
        let parsed = parse(&records(&hello(names), 16_000));
        let name = parsed.map(|hello| hello.unwrap().server_name.unwrap().to_string());
        assert_eq!(name, expected.map(ToOwned::to_owned));
    }

    #[test]
    fn names() {
        check(&[b"a.example"], Ok("a.example"));
        check(&[b"A.EXAMPLE"], Ok("a.example"));
        check(&[b"a.example."], Ok("a.example"));
        check(&[b"192.0.2.1"], Err(Alert::UnrecognizedName));
        check(&[b"a\0.example"], Err(Alert::UnrecognizedName));
        check(&[b""], Err(Alert::UnrecognizedName));
        check(&[b"a.example", b"b.example"], Err(Alert::DecodeError));
    }

    #[test]
    fn any_cut_is_read_alike() {
        let message = hello(&[b"a.example"]);
        for size in [1, 2, 3, 7, 64, 1000] {
            let wire = records(&message, size);
            let mut reader = HelloReader::default();
            for end in 0..wire.len() {
                assert_eq!(reader.read(&wire[..end]), Ok(None), "size {size}, end {end}");
            }
            assert_eq!(reader.read(&wire), parse(&wire));
            assert!(parse(&wire).unwrap().is_some());
        }
    }

    #[test]
    fn what_is_no_hello_is_told_at_once() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(Alert::UnexpectedMessage));
        assert_eq!(parse(&[0x80, 0x2e, 1, 0, 2]), Err(Alert::UnexpectedMessage), "SSLv2");
        assert_eq!(parse(&[22, 3, 1, 0, 0]), Err(Alert::DecodeError));
        assert_eq!(parse(&[22, 3, 1, 0, 4, 2, 0, 0, 1]), Err(Alert::UnexpectedMessage));
        let cut = hello(&[b"a.example"]);
        let two = [&cut[..], &cut].concat();
        assert_eq!(parse(&records(&two, 16_000)), Err(Alert::UnexpectedMessage), "two in one record");
        assert_eq!(parse(&records(&two, cut.len())).map(|hello| hello.unwrap().octets), Ok(cut.len() + 5));
        let mut lies = cut.clone();
        lies[3] -= 1;
        assert_eq!(parse(&records(&lies, 16_000)), Err(Alert::DecodeError), "a length that lies");
    }

    proptest::proptest! {
        #[test]
        fn any_octets_never_panic(octets in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&octets);
            let _ = parse(&records(&[&[1, 0, 0, u8::try_from(octets.len()).unwrap()][..], &octets].concat(), 50));
        }
    }
}
