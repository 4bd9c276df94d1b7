//! ClientHello messages by hand, and ways to cut them.

use super::{certs, wire};
use rustls::ClientConfig;
use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

pub const SERVER_NAME: u16 = 0;

/// A ClientHello in its parts.
#[derive(Clone)]
pub struct Hello {
    /// Version, random, session, ciphers, compression.
    head: Vec<u8>,
    pub extensions: Vec<(u16, Vec<u8>)>,
}

/// The first thing that a server says to a hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Hello,
    Alert(u8),
    Closed,
    Other(u8),
}

impl Hello {
    /// As rustls would send it.
    pub fn of(config: ClientConfig, sni: Option<&str>) -> Self {
        let mut bytes = Vec::new();
        certs::client(config, sni).write_tls(&mut bytes).unwrap();
        // Record header 5, handshake header 4.
        let body = &bytes[9..];
        let mut at = 2 + 32;
        at += 1 + usize::from(body[at]);
        at += 2 + be16(&body[at..]);
        at += 1 + usize::from(body[at]);
        let head = body[..at].to_vec();
        let mut rest = &body[at + 2..];
        let mut extensions = Vec::new();
        while !rest.is_empty() {
            let (kind, length) = (be16(rest), be16(&rest[2..]));
            extensions.push((u16::try_from(kind).unwrap(), rest[4..4 + length].to_vec()));
            rest = &rest[4 + length..];
        }
        Self { head, extensions }
    }

    pub fn with(mut self, kind: u16, value: Vec<u8>) -> Self {
        self.extensions.insert(0, (kind, value));
        self
    }

    /// Puts these raw names (type, octets) in place of the SNI.
    pub fn names(mut self, names: &[(u8, &[u8])]) -> Self {
        self.extensions.retain(|(kind, _)| *kind != SERVER_NAME);
        self.with(SERVER_NAME, server_names(names))
    }

    /// Claims that version in its head.
    pub fn version(mut self, version: [u8; 2]) -> Self {
        self.head[..2].copy_from_slice(&version);
        self
    }

    /// The handshake message.
    pub fn message(&self) -> Vec<u8> {
        let mut extensions = Vec::new();
        for (kind, value) in &self.extensions {
            extensions.extend(kind.to_be_bytes());
            extensions.extend(len16(value));
            extensions.extend(value);
        }
        let mut body = self.head.clone();
        body.extend(len16(&extensions));
        body.extend(extensions);
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[1], &length[1..], &body].concat()
    }

    /// In records of at most that many octets.
    pub fn records(&self, most: usize) -> Vec<u8> {
        records(&self.message(), most)
    }
}

pub fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend(len16(name));
        list.extend(*name);
    }
    [len16(&list).to_vec(), list].concat()
}

pub fn records(message: &[u8], most: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1], &len16(part)[..], part].concat();
    message.chunks(most).flat_map(record).collect()
}

fn be16(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn len16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_be_bytes()
}

/// What a server says to these bytes. Nothing more is sent after them.
pub fn answer(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = wire::tcp(address);
    let _ = stream.write_all(bytes);
    let mut record = [0; 5];
    if stream.read_exact(&mut record).is_err() {
        return Answer::Closed;
    }
    let mut body = vec![0; be16(&record[3..])];
    match (record[0], stream.read_exact(&mut body)) {
        (22, Ok(())) => Answer::Hello,
        (21, Ok(())) => Answer::Alert(body[1]),
        (other, _) => Answer::Other(other),
    }
}

/// How the first flight is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// One octet per TLS record.
    Records,
    /// One octet per TCP segment.
    Segments,
}

/// A stream that cuts the first thing that is written.
pub struct Cutting {
    pub stream: TcpStream,
    pub cut: Option<Cut>,
}

impl Read for Cutting {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Cutting {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self.cut.take() {
            Some(Cut::Records) => self.stream.write_all(&records(&bytes[5..], 1))?,
            Some(Cut::Segments) => {
                for byte in bytes {
                    self.stream.write_all(&[*byte])?;
                }
            }
            None => self.stream.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}
