//! Requests to the gate at a fixed rate over one kept connection, and what each costs the gate.

use super::process::cpu_of_workers;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A kept connection.
pub(crate) struct Wire {
    gate: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn connect(gate: SocketAddr) -> Self {
        let stream = TcpStream::connect(gate).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { gate, stream, buffer: Vec::new() }
    }

    /// The status that a host is answered with; `None` where the connection ended instead, as a change may have it.
    pub(crate) fn status(&mut self, host: &str) -> Option<u16> {
        let status = self.ask(host);
        if status.is_none() {
            *self = Self::connect(self.gate);
        }
        status
    }

    fn ask(&mut self, host: &str) -> Option<u16> {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept: text/plain\r\n\r\n");
        self.stream.write_all(request.as_bytes()).ok()?;
        self.buffer.clear();
        loop {
            if let Some(end) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end]).ok()?.to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1)?.split("\r\n").next()?;
                if self.buffer.len() >= end + 4 + length.parse::<usize>().ok()? {
                    return head.split(' ').nth(1)?.parse().ok();
                }
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) | Err(_) => return None,
                Ok(got) => self.buffer.extend_from_slice(&piece[..got]),
            }
        }
    }
}

/// A thread that asks; its latencies are taken by windows.
pub(crate) struct Load {
    latencies: Arc<Mutex<Vec<Duration>>>,
    is_over: Arc<AtomicBool>,
    gate_pid: u32,
}

/// What a window saw.
pub(crate) struct Window {
    latencies: Vec<Duration>,
    cpu: Duration,
}

impl Load {
    pub(crate) fn start(gate: SocketAddr, gate_pid: u32, host: String, rate: u64) -> Self {
        let load = Self { latencies: Arc::default(), is_over: Arc::default(), gate_pid };
        let (latencies, is_over) = (Arc::clone(&load.latencies), Arc::clone(&load.is_over));
        std::thread::spawn(move || {
            let (mut wire, start) = (Wire::connect(gate), Instant::now());
            let pause = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap();
            for number in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // From when it was due: who waits behind a slow answer is counted as waiting.
                let due = start + pause * number;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                wire.status(&host);
                latencies.lock().unwrap().push(due.elapsed());
            }
        });
        load
    }

    /// What it sees while something goes on, and what that comes to.
    pub(crate) async fn window<T>(&self, during: impl Future<Output = T>) -> (Window, T) {
        self.latencies.lock().unwrap().clear();
        let before = cpu_of_workers(self.gate_pid);
        let value = during.await;
        let latencies = std::mem::take(&mut *self.latencies.lock().unwrap());
        (Window { latencies, cpu: cpu_of_workers(self.gate_pid) - before }, value)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl Window {
    pub(crate) fn print(mut self, what: &str) {
        self.latencies.sort_unstable();
        let count = self.latencies.len().max(1);
        let at = |share: usize| self.latencies.get((count - 1) * share / 100).copied().unwrap_or_default();
        println!(
            "{what}: {count} requests, p50 {:.1?}, p99 {:.1?}, max {:.1?}; {:.1?} CPU of the worker each",
            at(50),
            at(99),
            at(100),
            self.cpu / u32::try_from(count).unwrap()
        );
    }
}
