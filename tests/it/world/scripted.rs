//! An HTTP/2 upstream of hand-made frames: a script gets each request's stream and writes what it likes, on a thread of
//! its own, while what the gate sends is read on.

use super::h2::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Octets of HTTP/2's connection preface.
const PREFACE: usize = 24;

pub struct Scripted {
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: AtomicUsize,
    resets: AtomicUsize,
    /// Of bodies.
    octets: AtomicUsize,
    /// Octets that the gate's side has taken.
    sent: AtomicUsize,
}

/// One connection of the gate's.
#[derive(Clone)]
pub struct Peer {
    stream: Arc<TcpStream>,
    /// Frames are written whole.
    writing: Arc<Mutex<()>>,
    counts: Arc<Counts>,
}

impl Peer {
    /// Whether somebody still takes it.
    pub fn send(&self, octets: &[u8]) -> bool {
        let _writing = self.writing.lock().unwrap();
        let is_taken = (&*self.stream).write_all(octets).is_ok();
        self.counts.sent.fetch_add(if is_taken { octets.len() } else { 0 }, Ordering::SeqCst);
        is_taken
    }

    /// The same again and again, for as long as somebody takes it.
    pub fn flood(&self, octets: &[u8]) {
        let many = octets.repeat((16 * 1024 / octets.len()).max(1));
        while self.send(&many) {}
    }

    /// One octet after the other, slowly.
    pub fn drip(&self, octets: &[u8]) {
        for octet in octets {
            if !self.send(&[*octet]) {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    }

    pub fn frame(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let _ = self.send(&h2::octets(kind, flags, stream, payload));
    }

    /// A head that nothing follows.
    pub fn answer(&self, stream: u32, status: &str) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&[(":status", status)]));
    }

    /// A head that more follows.
    pub fn head(&self, stream: u32, pairs: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS, stream, &fields(pairs));
    }

    pub fn reset(&self, stream: u32, code: u32) {
        self.frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    }

    /// `last`: the last stream that is looked at.
    pub fn go_away(&self, last: u32, code: u32) {
        self.frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    }

    /// Tells connections apart.
    pub fn name(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    pub fn close(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    h2::octets(kind, flags, stream, payload)
}

/// A header block of fields as they stand here.
pub fn fields(pairs: &[(&str, &str)]) -> Vec<u8> {
    let octets = |text: &str| text.as_bytes().to_vec();
    h2::block(&pairs.iter().map(|(name, value)| (octets(name), octets(value))).collect::<Vec<_>>())
}

impl Scripted {
    /// The script is called for each request, with its stream.
    pub fn start(script: impl Fn(&Peer, u32) + Send + Sync + 'static) -> Self {
        Self::greeting(h2::octets(SETTINGS, 0, 0, &[]), script)
    }

    /// One that begins with other octets than empty settings.
    pub fn greeting(greeting: Vec<u8>, script: impl Fn(&Peer, u32) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counts) = (listener.local_addr().unwrap(), Arc::<Counts>::default());
        let (of_thread, script) = (Arc::clone(&counts), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (counts, script) = (Arc::clone(&of_thread), Arc::clone(&script));
                let peer =
                    Peer { stream: Arc::new(stream), writing: Arc::default(), counts: Arc::clone(&counts) };
                counts.connections.fetch_add(1, Ordering::SeqCst);
                counts.open.fetch_add(1, Ordering::SeqCst);
                let greeting = greeting.clone();
                std::thread::spawn(move || {
                    let _ = serve(&peer, &greeting, &counts, &script);
                    peer.close();
                    counts.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, counts }
    }

    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Octets of frames that the gate's side has taken.
    pub fn sent(&self) -> usize {
        self.counts.sent.load(Ordering::SeqCst)
    }

    /// Connections that the gate has not closed.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// Octets of requests' bodies that have come.
    pub fn octets(&self) -> usize {
        self.counts.octets.load(Ordering::SeqCst)
    }

    /// Streams that the gate has reset.
    pub fn resets(&self) -> usize {
        self.counts.resets.load(Ordering::SeqCst)
    }
}

fn serve(
    peer: &Peer,
    greeting: &[u8],
    counts: &Counts,
    script: &Arc<impl Fn(&Peer, u32) + Send + Sync + 'static>,
) -> std::io::Result<()> {
    let mut stream = &*peer.stream;
    stream.read_exact(&mut [0; PREFACE])?;
    peer.send(greeting);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let is_answer = head[4] & 1 != 0;
        match head[3] {
            SETTINGS if !is_answer => peer.frame(SETTINGS, 1, 0, &[]),
            PING if !is_answer => peer.frame(PING, 1, 0, &payload),
            DATA => _ = counts.octets.fetch_add(payload.len(), Ordering::SeqCst),
            RST_STREAM => _ = counts.resets.fetch_add(1, Ordering::SeqCst),
            HEADERS => {
                counts.requests.fetch_add(1, Ordering::SeqCst);
                let (peer, script) = (peer.clone(), Arc::clone(script));
                let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                std::thread::spawn(move || script(&peer, id));
            }
            _ => {}
        }
    }
}
