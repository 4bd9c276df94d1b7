//! Whole requests, over real sockets: a worker on this thread, its client and its upstream on others. Everything that the
//! worker's thread does counts, its runtime too.

use crate::parts::{REQUEST, RESPONSE, filings};
use crate::{TIMES, WARM, boundary, collected};
use arc_swap::ArcSwap;
use beian_gate::config::Config;
use beian_gate::gate::client::{Client, Listener};
use beian_gate::gate::http1;
use beian_gate::gate::listen::Admission;
use beian_gate::gate::rules::Rules;
use beian_gate::gate::stream::{Channel, Stream};
use beian_gate::gate::worker::{Shared, Worker};
use beian_gate::telemetry::{AuditEvent, AuditThread, Rotation, served_names};
use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long anything may take: a failure, not a figure.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// One way of asking.
struct Way {
    part: &'static str,
    /// What is sent first.
    greeting: &'static [u8],
    /// The request of this number.
    request: fn(u32) -> Vec<u8>,
    /// Reads one answer whole.
    answer: fn(&mut TcpStream),
    /// With `[audit]`: hosts that are served and domains that are turned away are noted.
    is_audited: bool,
}

const HTTP1: Way = Way {
    part: "http1",
    greeting: b"",
    request: |_| REQUEST.to_vec(),
    answer: http1_answer,
    is_audited: false,
};

const WAYS: [Way; 5] = [
    HTTP1,
    Way { part: "http1_blocked", request: |_| blocked(), ..HTTP1 },
    Way { part: "http2", greeting: HTTP2_GREETING, request: http2_request, answer: http2_answer, ..HTTP1 },
    Way { part: "http1_audited", is_audited: true, ..HTTP1 },
    Way { part: "http1_blocked_audited", request: |_| blocked(), is_audited: true, ..HTTP1 },
];

fn blocked() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: www.example.net\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n".to_vec()
}

/// Counted as `parts::all` counts.
pub(crate) fn all(counts: &mut Vec<(&'static str, u64)>) {
    for way in WAYS {
        let mut allocations = 0;
        let part = way.part;
        collected(&mut || allocations = run(&way));
        counts.push((part, allocations));
    }
}

/// Gives the allocations of the requests that count.
fn run(way: &Way) -> u64 {
    let upstream = upstream();
    let directory = tempfile::tempdir().expect("a directory");
    let audit = way.is_audited.then(|| audit(directory.path()));
    // What is noted waits for a watcher who never comes.
    let (served, _watched) = served_names();
    let shared = Shared {
        audit: audit.as_ref().map(AuditThread::sink),
        served: way.is_audited.then_some(served),
        ..shared(upstream)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let runtime = runtime.expect("a runtime");
    let front = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (stage, address) = (AtomicUsize::new(0), front.local_addr().expect("its address"));
    std::thread::scope(|scope| {
        scope.spawn(|| ask(way, address, &stage));
        let (tcp, peer) = front.accept().expect("a client");
        tcp.set_nonblocking(true).expect("a socket");
        tcp.set_nodelay(true).expect("a socket");
        runtime.block_on(async {
            let counters = Arc::default();
            let worker = Worker::new(Arc::new(shared), counters, (Arc::default(), None));
            let tcp = tokio::net::TcpStream::from_std(tcp).expect("a socket");
            let client = Client::new(peer, None, Arc::new(listener(address)));
            let mut served = pin!(http1::serve(
                Rc::clone(&worker),
                http1::Waiting::new(&worker, Box::new(client), Channel::new(Stream::Tcp(tcp)))
            ));
            let (mut seen, mut allocations) = (0, 0);
            // The client asks for a stage before what it sends next: the first thing done of that is a poll.
            poll_fn(|cx| {
                let now = stage.load(Ordering::Acquire);
                if now != seen {
                    (seen, allocations) = (now, boundary());
                }
                served.as_mut().poll(cx)
            })
            .await;
            assert_eq!(seen, 2, "the client gave up");
            allocations
        })
    })
}

fn audit(directory: &Path) -> AuditThread {
    let rotation = Rotation { bytes: 1 << 30, age: PATIENCE, keep: 0 };
    AuditThread::start(&directory.join("audit.log"), rotation, |_| AuditEvent::End).expect("an audit log")
}

fn ask(way: &Way, address: SocketAddr, stage: &AtomicUsize) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(way.greeting).expect("it is written");
    let mut number = 0;
    let mut several = |times: usize| {
        for _ in 0..times {
            stream.write_all(&(way.request)(number)).expect("it is written");
            (way.answer)(&mut stream);
            number += 1;
        }
    };
    several(WARM);
    stage.store(1, Ordering::Release);
    several(TIMES);
    stage.store(2, Ordering::Release);
    several(1);
}

/// Answers everything with the same, to the end of the process.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let (mut held, mut octets) = (Vec::new(), [0; 4096]);
                let answer = [RESPONSE, b"sixteen octets.\n"].concat();
                while let Ok(read @ 1..) = stream.read(&mut octets) {
                    held.extend_from_slice(&octets[..read]);
                    if held.ends_with(b"\r\n\r\n") {
                        held.clear();
                        stream.write_all(&answer).expect("it is written");
                    }
                }
            });
        }
    });
    address
}

fn config(address: SocketAddr) -> Config {
    let text = format!(
        "provider = \"bench\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
         [default_site]\nupstreams = [\"http://{address}\"]\n\
         [registry]\nurl = \"http://127.0.0.1:9\"\n[log]\naccess = \"off\"\n"
    );
    Config::parse(&text, "bench.toml").expect("a config")
}

fn listener(address: SocketAddr) -> Listener {
    Listener::new(("http".to_owned(), 0), &config(address).listeners[0], address)
}

fn shared(upstream: SocketAddr) -> Shared {
    let config = config(upstream);
    let (endpoints, footers) = (Arc::default(), Arc::default());
    let rules = Rules::new(&config, &endpoints, &Default::default(), &footers).expect("rules");
    Shared {
        rules: ArcSwap::from_pointee(rules),
        certificates: ArcSwap::default(),
        cache: Arc::new(filings()),
        admission: Admission::new(config.limits.connections, config.limits.connections_per_client),
        via: "gate".to_owned(),
        life: Arc::default(),
        endpoints,
        blocked: Default::default(),
        footers,
        rates: Default::default(),
        connection_rates: Default::default(),
        descriptors: Default::default(),
        reopen: Default::default(),
        audit: None,
        served: None,
    }
}

fn http1_answer(stream: &mut TcpStream) {
    let (mut head, mut octet) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet).expect("an answer");
        head.push(octet[0]);
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let (_, length) = head.split_once("content-length: ").expect("a length");
    let (length, _) = length.split_once('\r').expect("its line");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
}

/// The preface, empty settings, and a window for all that will come.
const HTTP2_GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \x00\x00\x00\x04\x00\x00\x00\x00\x00\
    \x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x10\x00\x00";

/// `GET / http www.example.com`, and that is all.
fn http2_request(number: u32) -> Vec<u8> {
    let host = b"www.example.com";
    let mut block = vec![0x82, 0x84, 0x86, 0x01, u8::try_from(host.len()).expect("short")];
    block.extend_from_slice(host);
    let mut frame = vec![0, 0, u8::try_from(block.len()).expect("short"), 1, 0x05];
    frame.extend_from_slice(&(number * 2 + 1).to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

/// Reads frames until one ends a stream.
fn http2_answer(stream: &mut TcpStream) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).expect("its payload");
        assert!(matches!(kind, 0 | 1 | 4 | 6 | 8), "a frame of kind {kind}: {payload:?}");
        if kind <= 1 && flags & 1 == 1 {
            return;
        }
    }
}
