//! A client that sends exactly the bytes it is given, and reads HTTP/1.1 responses strictly.

use super::DEADLINE;
use serde_json::Value;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

/// A connection that may be clear or TLS.
pub trait Duplex: Read + Write + Send {
    /// Says that nothing more will be sent.
    fn half_close(&mut self);
}

impl Duplex for TcpStream {
    fn half_close(&mut self) {
        let _ = self.shutdown(Shutdown::Write);
    }
}

impl Duplex for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn half_close(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
        let _ = self.sock.shutdown(Shutdown::Write);
    }
}

pub struct Wire {
    io: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Ended in order after these bytes, which are no whole response.
    Closed(String),
    /// Reset or a TLS error, as the system words it.
    Broken(String),
    /// Nothing more within the deadline.
    Silent(String),
    /// No HTTP/1.1 response.
    Garbled(String),
}

#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The verdict that the gate gives for its own answer.
    pub fn verdict(&self) -> &str {
        self.header("beian-verdict").unwrap_or("")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body: String = self.text().chars().take(300).collect();
        write!(f, "{} {:?} {body:?}", self.status, self.headers)
    }
}

impl Wire {
    pub fn clear(address: SocketAddr) -> Self {
        Self::over(Box::new(tcp(address)))
    }

    pub fn over(io: Box<dyn Duplex>) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Sends; a peer that has closed already shows when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        if self.io.write_all(bytes.as_ref()).is_ok() {
            let _ = self.io.flush();
        }
        self
    }

    pub fn half_close(&mut self) {
        self.io.half_close();
    }

    /// The next final response to anything but HEAD; interim ones are skipped.
    pub fn response(&mut self) -> Result<Response, Lost> {
        self.response_to("GET")
    }

    pub fn response_to(&mut self, method: &str) -> Result<Response, Lost> {
        loop {
            let mut response = self.head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                continue;
            }
            let bodyless = method == "HEAD" || matches!(response.status, 101 | 204 | 304);
            if !bodyless {
                response.body = self.body(&response)?;
            }
            return Ok(response);
        }
    }

    /// The next response head, interim ones included.
    pub fn head(&mut self) -> Result<Response, Lost> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        parse_head(&head).ok_or_else(|| Lost::Garbled(String::from_utf8_lossy(&head).into_owned()))
    }

    fn body(&mut self, response: &Response) -> Result<Vec<u8>, Lost> {
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        let Some(length) = response.header("content-length") else {
            let (bytes, _) = self.rest();
            return Ok(bytes);
        };
        let length: usize = length.parse().map_err(|_| Lost::Garbled(format!("{response:?}")))?;
        self.exactly(length)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Lost> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or("");
            let size = usize::from_str_radix(size, 16).map_err(|_| Lost::Garbled(line.clone()))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            let end = self.line()?;
            if !end.is_empty() {
                return Err(Lost::Garbled(end));
            }
        }
    }

    /// One line, without its CRLF.
    pub fn line(&mut self) -> Result<String, Lost> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill()?;
        }
    }

    pub fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Lost> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Everything until the other side ends, and how it ended. What goes on and on counts as silence.
    pub fn rest(&mut self) -> (Vec<u8>, Lost) {
        let since = Instant::now();
        let lost = loop {
            if let Err(lost) = self.fill() {
                break lost;
            }
            if since.elapsed() > DEADLINE {
                break Lost::Silent("endless".to_owned());
            }
        };
        (std::mem::take(&mut self.buffer), lost)
    }

    /// Reads some more.
    fn fill(&mut self) -> Result<(), Lost> {
        let mut chunk = [0; 64 * 1024];
        loop {
            let so_far = || String::from_utf8_lossy(&self.buffer).into_owned();
            match self.io.read(&mut chunk) {
                Ok(0) => return Err(Lost::Closed(so_far())),
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(Lost::Silent(so_far()));
                }
                // A TLS peer that ends without close_notify.
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(Lost::Closed(so_far())),
                Err(e) => return Err(Lost::Broken(e.to_string())),
            }
        }
    }
}

/// A socket whose reads and writes have a deadline.
pub fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn parse_head(head: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.strip_suffix("\r\n\r\n")?.split("\r\n");
    let status_line = lines.next()?.strip_prefix("HTTP/1.1 ")?;
    let status = status_line.get(..3)?.parse().ok()?;
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let strict = !name.is_empty() && name.bytes().all(is_token) && !value.contains(['\r', '\n', '\0']);
        strict.then(|| headers.push((name.to_owned(), value.trim().to_owned())))?;
    }
    Some(Response { status, headers, body: Vec::new() })
}

pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// One request to a plain HTTP/1.1 server (admin, registry).
#[track_caller]
pub fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Response {
    try_ask(address, method, path, body).unwrap_or_else(|| panic!("{method} {address}{path}: no answer"))
}

pub fn try_ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<Response> {
    try_ask_with(address, (method, path), "", body)
}

/// With further fields, each ended by a line break.
pub fn try_ask_with(
    address: SocketAddr,
    (method, path): (&str, &str),
    fields: &str,
    body: &str,
) -> Option<Response> {
    let mut wire = Wire::over(Box::new(TcpStream::connect(address).ok().inspect(|stream| {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
    })?));
    let length = body.len();
    let kind = if path.contains(":batch") { "application/x-ndjson" } else { "application/json" };
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n{fields}\r\n{body}"
    ));
    wire.response_to(method).ok()
}
