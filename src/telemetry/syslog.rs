//! Lines sent to a syslog collector: RFC 5424 over UDP (RFC 5426), TCP (RFC 6587, by octet counts) or a Unix socket.
//!
//! Sent by a thread of its own. Whoever has a line hands it over and goes on; what finds no room, or nobody to take it,
//! is counted. Knows lines and how urgent they are, not what they say.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Lines that may wait for the sender.
const MAX_WAITING: usize = 8192;
/// Octets of a message; RFC 5426 asks for 2,048 at least, and most collectors take 8 KiB.
const MAX_MESSAGE_BYTES: usize = 8192;
/// How long a collector is given to take a connection, and a message.
const CONNECT_TIME: Duration = Duration::from_secs(2);
const WRITE_TIME: Duration = Duration::from_secs(2);
/// How long a collector that can't be reached is left alone: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where a collector listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTarget {
    /// A message is a datagram.
    Udp(String),
    /// A message follows its length.
    Tcp(String),
    /// A message is a datagram, mostly to `/dev/log`.
    Unix(PathBuf),
}

/// How urgent a line is (RFC 5424, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something fails.
    Error = 3,
    /// Someone should look.
    Warning = 4,
    /// As it should be.
    Info = 6,
}

/// Who says it, in every message.
#[derive(Debug, Clone)]
pub struct SyslogName {
    /// Facility, 0 to 23 (RFC 5424, table 1).
    pub facility: u8,
    /// This machine.
    pub host: String,
    /// This program.
    pub app: String,
}

/// What became of lines.
#[derive(Debug, Default)]
pub struct SyslogCounts {
    /// Handed to the collector.
    pub sent: AtomicU64,
    /// Lost: there was no room, or no collector.
    pub dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line { severity: Severity, kind: &'static str, text: Box<[u8]> },
    End,
}

/// Where lines are handed over.
#[derive(Debug, Clone)]
pub struct Syslog {
    to: SyncSender<Message>,
    counts: Arc<SyslogCounts>,
}

/// The sender's thread.
#[derive(Debug)]
pub struct SyslogThread {
    to: SyncSender<Message>,
    ended: Receiver<()>,
}

impl SyslogThread {
    /// Sends what waits, for so long at most.
    pub fn finish(self, within: Duration) {
        let until = Instant::now() + within;
        // Where there is no room the collector takes nothing, and nothing more is to be had.
        if self.to.try_send(Message::End).is_ok() {
            let left = until.saturating_duration_since(Instant::now());
            let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(left);
        }
    }
}

impl Syslog {
    /// Starts the sender.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(
        target: SyslogTarget,
        name: &SyslogName,
        counts: Arc<SyslogCounts>,
    ) -> io::Result<(Self, SyslogThread)> {
        let (to, from) = sync_channel(MAX_WAITING);
        let (tell, ended) = sync_channel(1);
        let sender = Sender {
            target,
            prefix: format!("{} {} {}", bare(&name.host, 255), bare(&name.app, 48), std::process::id()),
            facility: name.facility,
            counts: Arc::clone(&counts),
            link: None,
            buffer: Vec::new(),
            pause: FIRST_PAUSE,
            not_before: Instant::now(),
            is_failing: false,
        };
        std::thread::Builder::new().name("syslog".into()).spawn(move || {
            sender.run(&from);
            // Nobody may wait for it.
            let _ = tell.send(());
        })?;
        Ok((Self { to: to.clone(), counts }, SyslogThread { to, ended }))
    }

    /// Hands a line over; `kind` tells collectors what it is (MSGID).
    pub fn send(&self, severity: Severity, kind: &'static str, text: &[u8]) {
        let text = text[..text.len().min(MAX_MESSAGE_BYTES)].into();
        if self.to.try_send(Message::Line { severity, kind, text }).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What a header field may hold (RFC 5424, 6.2): visible ASCII, `-` for nothing.
fn bare(text: &str, most: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(most).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A way to the collector.
#[derive(Debug)]
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Unix(UnixDatagram),
}

impl Link {
    fn open(target: &SyslogTarget) -> io::Result<Self> {
        match target {
            SyslogTarget::Udp(host) => first_of(host, |address| {
                let any: SocketAddr =
                    if address.is_ipv4() { ([0_u8; 4], 0).into() } else { ([0_u8; 16], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(address)?;
                Ok(Self::Udp(socket))
            }),
            SyslogTarget::Tcp(host) => first_of(host, |address| {
                let stream = TcpStream::connect_timeout(&address, CONNECT_TIME)?;
                stream.set_write_timeout(Some(WRITE_TIME))?;
                Ok(Self::Tcp(stream))
            }),
            SyslogTarget::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                socket.set_write_timeout(Some(WRITE_TIME))?;
                Ok(Self::Unix(socket))
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(message).map(drop),
            Self::Unix(socket) => socket.send(message).map(drop),
            Self::Tcp(stream) => {
                let mut framed = Vec::with_capacity(message.len() + 8);
                write!(framed, "{} ", message.len())?;
                framed.extend_from_slice(message);
                stream.write_all(&framed)
            }
        }
    }
}

/// The first address of `HOST:PORT` that can be reached.
fn first_of(host: &str, open: impl Fn(SocketAddr) -> io::Result<Link>) -> io::Result<Link> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in host.to_socket_addrs()? {
        match open(address) {
            Ok(link) => return Ok(link),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

struct Sender {
    target: SyslogTarget,
    /// HOSTNAME APP-NAME PROCID
    prefix: String,
    facility: u8,
    counts: Arc<SyslogCounts>,
    link: Option<Link>,
    buffer: Vec<u8>,
    pause: Duration,
    not_before: Instant,
    is_failing: bool,
}

impl Sender {
    fn run(mut self, from: &Receiver<Message>) {
        while let Ok(Message::Line { severity, kind, text }) = from.recv() {
            let counter = match self.deliver(severity, kind, &text) {
                Ok(true) => &self.counts.sent,
                Ok(false) => &self.counts.dropped,
                Err(error) => {
                    self.failed(&error);
                    &self.counts.dropped
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `false`: the collector is left alone for a while.
    fn deliver(&mut self, severity: Severity, kind: &str, text: &[u8]) -> io::Result<bool> {
        if self.link.is_none() && Instant::now() < self.not_before {
            return Ok(false);
        }
        self.write(severity, kind, text);
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(Link::open(&self.target)?),
        };
        link.send(&self.buffer)?;
        if std::mem::take(&mut self.is_failing) {
            self.pause = FIRST_PAUSE;
            tracing::info!("the syslog collector is reached again");
        }
        Ok(true)
    }

    fn failed(&mut self, error: &io::Error) {
        self.link = None;
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, target = ?self.target, "the syslog collector can't be reached; lines are lost and counted");
        }
    }

    /// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID - MSG` (RFC 5424, 6).
    fn write(&mut self, severity: Severity, kind: &str, text: &[u8]) {
        let priority = self.facility * 8 + severity as u8;
        let at = jiff::Timestamp::now();
        self.buffer.clear();
        // Writing to memory can't fail.
        let _ = write!(self.buffer, "<{priority}>1 {at:.6} {} {kind} - ", self.prefix);
        let room = MAX_MESSAGE_BYTES.saturating_sub(self.buffer.len());
        let text = String::from_utf8_lossy(&text[..text.len().min(room)]);
        self.buffer.extend(text.bytes().map(|octet| if octet.is_ascii_control() { b' ' } else { octet }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_of_rfc_5424() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        collector.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let counts = Arc::<SyslogCounts>::default();
        let name = SyslogName { facility: 16, host: "a host".into(), app: "gate".into() };
        let target = SyslogTarget::Udp(collector.local_addr().unwrap().to_string());
        let (syslog, thread) = Syslog::start(target, &name, Arc::clone(&counts)).unwrap();
        syslog.send(Severity::Warning, "event", "一\n二".as_bytes());
        syslog.send(Severity::Info, "access", &[b'x'; 2 * MAX_MESSAGE_BYTES]);
        let mut buffer = vec![0; 65536];
        let mut received = || {
            let octets = collector.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..octets].to_vec()).unwrap()
        };
        let first = received();
        let parts: Vec<_> = first.splitn(8, ' ').collect();
        let pid = std::process::id().to_string();
        assert_eq!((parts[0], parts[2], parts[3], parts[4]), ("<132>1", "ahost", "gate", &*pid), "{first}");
        assert_eq!((parts[5], parts[6], parts[7]), ("event", "-", "一 二"), "{first}");
        assert!(parts[1].parse::<jiff::Timestamp>().is_ok() && parts[1].ends_with('Z'), "{first}");
        let second = received();
        assert!(second.starts_with("<134>1 ") && second.len() == MAX_MESSAGE_BYTES, "{}", second.len());
        thread.finish(Duration::from_secs(60));
        assert_eq!((counts.sent.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed)), (2, 0));
        // Nobody takes them any more, once the thread has let go of its end of the queue.
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while counts.dropped.load(Ordering::Relaxed) == 0 {
            assert!(std::time::Instant::now() < until, "late messages are counted as dropped");
            syslog.send(Severity::Info, "event", b"late");
        }
    }

    #[test]
    fn what_no_collector_takes_is_counted() {
        let counts = Arc::<SyslogCounts>::default();
        let name = SyslogName { facility: 1, host: String::new(), app: String::new() };
        let target = SyslogTarget::Unix("/nonexistent/log".into());
        let (syslog, thread) = Syslog::start(target, &name, Arc::clone(&counts)).unwrap();
        (0..5).for_each(|_| syslog.send(Severity::Error, "event", b"x"));
        thread.finish(Duration::from_secs(60));
        assert_eq!((counts.sent.load(Ordering::Relaxed), counts.dropped.load(Ordering::Relaxed)), (0, 5));
    }
}
