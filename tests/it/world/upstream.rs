//! The judge: an upstream that records every byte per connection, and answers by script.
//!
//! It reads requests as strictly as one can and notes whatever another server might read in another way.

use super::{DEADLINE, wait, wire::find};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    record: Mutex<Record>,
    /// Path prefix → script; the latest that fits wins.
    scripts: Mutex<Vec<(String, Script)>>,
}

#[derive(Default)]
struct Record {
    /// Raw bytes per connection.
    connections: Vec<Vec<u8>>,
    /// How many of them have ended.
    ended: usize,
    requests: Vec<Request>,
    /// What two parsers could read in two ways.
    doubts: Vec<String>,
}

/// A request as the upstream saw it.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Its body came to its end.
    pub complete: bool,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(one, _)| one.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    pub fn host(&self) -> &str {
        self.header("host").unwrap_or("")
    }
}

/// What becomes of the connection after a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Keep,
    Close,
}

pub type Script = Arc<dyn Fn(&mut Exchange<'_>) -> Then + Send + Sync>;

impl Shared {
    fn script(&self, target: &str) -> Option<Script> {
        let scripts = self.scripts.lock().unwrap();
        let (_, script) = scripts.iter().rev().find(|(prefix, _)| target.starts_with(prefix.as_str()))?;
        Some(Arc::clone(script))
    }
}

impl Upstream {
    pub fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    }

    pub fn at(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Ok(Self { address, shared })
    }

    /// Answers requests whose target starts with `prefix` by a script.
    pub fn on(&self, prefix: &str, script: impl Fn(&mut Exchange<'_>) -> Then + Send + Sync + 'static) {
        self.shared.scripts.lock().unwrap().push((prefix.to_owned(), Arc::new(script)));
    }

    /// Switches to WebSocket on this path, and sends back what comes.
    pub fn echoes(&self, path: &str) {
        self.on(path, |exchange| {
            exchange.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            while let Some(bytes) = exchange.raw() {
                exchange.send(bytes);
            }
            Then::Close
        });
    }

    /// Answers on this path without end, a chunk at a time, until the gate goes away.
    pub fn drips(&self, path: &str) {
        self.on(path, |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while exchange.send("5\r\nhello\r\n") {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Then::Close
        });
    }

    /// Never answers: reads until the gate goes away.
    pub fn hangs(&self, prefix: &str) {
        self.on(prefix, |exchange| {
            while exchange.raw().is_some() {}
            Then::Close
        });
    }

    /// Answers with these raw bytes, then keeps or closes the connection.
    pub fn answers(&self, prefix: &str, bytes: impl Into<Vec<u8>>, then: Then) {
        let bytes = bytes.into();
        self.on(prefix, move |exchange| {
            exchange.body();
            exchange.send(&bytes);
            then
        });
    }

    /// The whole requests so far, in order of their ends.
    pub fn requests(&self) -> Vec<Request> {
        let record = self.shared.record.lock().unwrap();
        record.requests.iter().filter(|request| request.complete).cloned().collect()
    }

    /// All requests whose head arrived.
    pub fn heads(&self) -> Vec<Request> {
        self.shared.record.lock().unwrap().requests.clone()
    }

    /// The one request with that target.
    #[track_caller]
    pub fn request(&self, target: &str) -> Request {
        let mut found = self.requests();
        found.retain(|request| request.target == target);
        assert_eq!(found.len(), 1, "requests for {target}: {found:?}");
        found.remove(0)
    }

    pub fn connections(&self) -> usize {
        self.shared.record.lock().unwrap().connections.len()
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        let record = self.shared.record.lock().unwrap();
        record.connections.len() - record.ended
    }

    /// Everything that ever arrived.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.record.lock().unwrap().connections.concat()
    }

    pub fn doubts(&self) -> Vec<String> {
        self.shared.record.lock().unwrap().doubts.clone()
    }

    /// Nothing for any other host ever arrived, and nothing that could be read in two ways.
    #[track_caller]
    pub fn assert_only(&self, hosts: &[&str]) {
        let foreign: Vec<_> = self.heads().into_iter().filter(|one| !hosts.contains(&one.host())).collect();
        assert!(foreign.is_empty(), "arrived, but must not: {foreign:?}");
        assert_eq!(self.doubts(), Vec::<String>::new(), "ambiguous to an upstream");
    }

    /// Waits until a head with that target has arrived.
    #[track_caller]
    pub fn arrived(&self, target: &str) -> Request {
        wait(&format!("{target} to arrive"), || self.heads().into_iter().find(|one| one.target == target))
    }
}

/// One request and the connection it came on.
pub struct Exchange<'a> {
    pub request: Request,
    io: &'a mut Io,
    left: Left,
}

/// What is left of a request's body.
enum Left {
    Octets(usize),
    Chunks,
    Nothing,
    Broken,
}

impl Exchange<'_> {
    /// Reads the body to its end.
    pub fn body(&mut self) -> Vec<u8> {
        while self.some_body().is_some() {}
        self.request.body.clone()
    }

    /// The next octets of the body; none at its end.
    pub fn some_body(&mut self) -> Option<Vec<u8>> {
        let some = match self.left {
            Left::Nothing | Left::Broken => return None,
            Left::Octets(0) => self.end(),
            Left::Octets(left) => {
                self.io.some(left).inspect(|some| self.left = Left::Octets(left - some.len()))
            }
            Left::Chunks => self.chunk(),
        };
        match some {
            Some(some) if !some.is_empty() => {
                self.request.body.extend_from_slice(&some);
                Some(some)
            }
            Some(_) => None,
            None => {
                self.left = Left::Broken;
                None
            }
        }
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.io.line()?;
        if !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            self.io.doubt(format!("chunk size line {line:?}"));
        }
        let size = usize::from_str_radix(&line, 16).ok()?;
        if size == 0 {
            loop {
                let trailer = self.io.line()?;
                if trailer.is_empty() {
                    return self.end();
                }
                self.request.headers.push(("trailer-line".to_owned(), trailer));
            }
        }
        let some = self.io.exactly(size)?;
        self.io.line()?.is_empty().then_some(some)
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        self.left = Left::Nothing;
        self.io.complete(&self.request);
        Some(Vec::new())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.io.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// A whole response.
    pub fn answer(&mut self, status: &str, body: impl AsRef<[u8]>) -> Then {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send(head);
        if self.request.method != "HEAD" {
            self.send(body);
        }
        Then::Keep
    }

    /// Whatever comes next on the connection; none once it has ended.
    pub fn raw(&mut self) -> Option<Vec<u8>> {
        self.io.some(usize::MAX)
    }
}

struct Io {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    /// Of the request that is being read.
    index: usize,
    shared: Arc<Shared>,
}

fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    let number = {
        let mut record = shared.record.lock().unwrap();
        record.connections.push(Vec::new());
        record.connections.len() - 1
    };
    let mut io = Io { stream, buffer: Vec::new(), number, index: 0, shared: Arc::clone(shared) };
    while let Some((request, left)) = io.request() {
        let script = shared.script(&request.target);
        let mut exchange = Exchange { request, io: &mut io, left };
        let then = match script {
            Some(script) => script(&mut exchange),
            None => default(&mut exchange),
        };
        exchange.body();
        if then == Then::Close || matches!(exchange.left, Left::Broken) {
            break;
        }
    }
    let _ = io.stream.shutdown(Shutdown::Both);
    shared.record.lock().unwrap().ended += 1;
}

fn default(exchange: &mut Exchange<'_>) -> Then {
    exchange.body();
    if matches!(exchange.left, Left::Broken) {
        return Then::Close;
    }
    let body = format!("{} {}", exchange.request.method, exchange.request.target);
    exchange.answer("200 OK", body)
}

impl Io {
    fn request(&mut self) -> Option<(Request, Left)> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let request = parse(&head, self.number);
        for doubt in doubts(&head, &request) {
            self.doubt(format!("{doubt}: {head:?}"));
        }
        let left = if request.header("transfer-encoding").is_some() {
            Left::Chunks
        } else {
            Left::Octets(request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0))
        };
        let mut record = self.shared.record.lock().unwrap();
        self.index = record.requests.len();
        record.requests.push(request.clone());
        drop(record);
        if matches!(left, Left::Octets(0)) {
            self.complete(&request);
            return Some((request, Left::Nothing));
        }
        Some((request, left))
    }

    fn complete(&self, request: &Request) {
        let mut record = self.shared.record.lock().unwrap();
        record.requests[self.index] = Request { complete: true, ..request.clone() };
    }

    fn doubt(&self, doubt: String) {
        self.shared.record.lock().unwrap().doubts.push(doubt);
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 64 * 1024];
        let read = self.stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
        self.shared.record.lock().unwrap().connections[self.number].extend_from_slice(&chunk[..read]);
        self.buffer.extend_from_slice(&chunk[..read]);
        Some(())
    }

    fn some(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        let take = most.min(self.buffer.len());
        Some(self.buffer.drain(..take).collect())
    }

    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Some(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            self.fill()?;
        }
    }
}

fn parse(head: &str, connection: usize) -> Request {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let mut word = || words.next().unwrap_or("").to_owned();
    let (method, target) = (word(), word());
    let pair = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
    };
    Request { connection, method, target, headers: lines.map(pair).collect(), ..Request::default() }
}

/// What an upstream less strict than this one might read in another way.
fn doubts(head: &str, request: &Request) -> Vec<&'static str> {
    let bare = head.replace("\r\n", "");
    let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
    let checks = [
        ("not one Host", request.all("host").len() != 1),
        (
            "length and coding",
            request.header("content-length").is_some() && !request.all("transfer-encoding").is_empty(),
        ),
        ("two lengths", request.all("content-length").len() > 1),
        (
            "odd length",
            request
                .all("content-length")
                .iter()
                .any(|v| v.is_empty() || !v.bytes().all(|b| b.is_ascii_digit())),
        ),
        (
            "odd coding",
            request.all("transfer-encoding").iter().any(|value| !value.eq_ignore_ascii_case("chunked")),
        ),
        ("two codings", request.all("transfer-encoding").len() > 1),
        ("control octet", bare.contains(['\r', '\n', '\0'])),
        ("odd header name", names.iter().any(|name| name.is_empty() || !name.bytes().all(is_token))),
        ("odd target", !request.target.starts_with('/') && request.target != "*"),
        ("odd request line", !head.split("\r\n").next().is_some_and(|line| line.ends_with(" HTTP/1.1"))),
        ("CONNECT", request.method == "CONNECT"),
    ];
    checks.into_iter().filter(|(_, doubtful)| *doubtful).map(|(what, _)| what).collect()
}
