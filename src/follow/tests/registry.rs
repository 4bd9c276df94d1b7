//! A registry on loopback that first answers from a script, then honestly.

use super::{Entry, PROVIDER, at, filed, octets, snapshot_frames, summary};
use crate::cache::Table;
use crate::feed::{Digest, Frame, FrameReader, Position};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Of every snapshot.
const ETAG: &str = "\"file\"";

/// A scripted answer to the next request for `what`.
pub(super) struct Answer {
    what: &'static str,
    status: u16,
    octets: Vec<u8>,
    then: Then,
}

/// What follows the octets.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Then {
    /// The connection closes.
    End,
    /// Nothing, for as long as the client stays.
    Hold,
    /// The octets come one by one, and far too slowly.
    Trickle,
    /// Not even a head.
    Silence,
}

impl Answer {
    pub(super) fn octets(what: &'static str, octets: Vec<u8>, then: Then) -> Self {
        Self { what, status: 200, octets, then }
    }

    pub(super) fn status(what: &'static str, status: u16) -> Self {
        Self { what, status, octets: Vec::new(), then: Then::End }
    }

    pub(super) fn silence(what: &'static str) -> Self {
        Self { what, status: 200, octets: Vec::new(), then: Then::Silence }
    }
}

struct State {
    script: VecDeque<Answer>,
    table: Table,
    /// The last change: the position before it, and its frame.
    last: Option<(Position, Frame)>,
    authorization: Option<String>,
    /// What came as acknowledgements.
    acknowledged: Vec<serde_json::Value>,
    /// The `range` of each request for a snapshot.
    ranges: Vec<Option<String>>,
}

pub(super) struct FakeRegistry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl FakeRegistry {
    pub(super) async fn start(script: Vec<Answer>, table: Table) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = State {
            script: script.into(),
            table,
            last: None,
            authorization: None,
            acknowledged: Vec::new(),
            ranges: Vec::new(),
        };
        let registry = Self { address, state: Arc::new(Mutex::new(state)), task: Mutex::default() };
        registry.accept(listener);
        registry
    }

    pub(super) async fn start_again(&self) {
        self.accept(TcpListener::bind(self.address).await.unwrap());
    }

    pub(super) async fn stop(&self) {
        let task = self.task.lock().unwrap().take().unwrap();
        task.abort();
        let _ = task.await;
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(super) fn faults_left(&self) -> usize {
        self.state.lock().unwrap().script.len()
    }

    pub(super) fn authorization(&self) -> Option<String> {
        self.state.lock().unwrap().authorization.clone()
    }

    pub(super) fn acknowledged(&self) -> Vec<serde_json::Value> {
        self.state.lock().unwrap().acknowledged.clone()
    }

    pub(super) fn ranges(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().ranges.clone()
    }

    /// Files a name: one change.
    pub(super) fn file(&self, name: &str) {
        self.change(vec![filed(name)]);
    }

    /// One batch of changes.
    pub(super) fn change(&self, entries: Vec<Entry>) {
        let mut state = self.state.lock().unwrap();
        let after = state.table.position();
        for entry in &entries {
            state.table.set(entry);
        }
        state.table.set_position(at(after.epoch, after.seq + 1));
        let frame = Frame::Batch { after, entries, summary: summary(&state.table) };
        state.last = Some((after, frame));
    }

    /// Remembers the change that led to the state.
    pub(super) fn keep(&self, after: Position, frame: Frame) {
        self.state.lock().unwrap().last = Some((after, frame));
    }

    /// Replaces the state; no change leads there.
    pub(super) fn replace(&self, table: Table) {
        let mut state = self.state.lock().unwrap();
        (state.table, state.last) = (table, None);
    }

    fn accept(&self, listener: TcpListener) {
        let state = Arc::clone(&self.state);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                // An error is a client that left.
                connections.spawn(async move { answer(stream, &state).await.ok() });
            }
        });
        *self.task.lock().unwrap() = Some(task);
    }
}

async fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let mut body = vec![0; header(&head, "content-length").map_or(0, |it| it.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    if target.ends_with("/v1/feed/acknowledgements") {
        state.lock().unwrap().acknowledged.push(serde_json::from_slice(&body).unwrap());
        write_head(&mut stream, 204, "").await?;
        return stream.shutdown().await;
    }
    assert!(target.contains(&format!("provider={PROVIDER}")), "{target}");
    let scripted = {
        let mut state = state.lock().unwrap();
        state.authorization = header(&head, "authorization").map(Into::into);
        if target.contains("/v1/feed/snapshot") {
            state.ranges.push(header(&head, "range").map(Into::into));
        }
        let is_next = state.script.front().is_some_and(|next| target.contains(next.what));
        if is_next { state.script.pop_front() } else { None }
    };
    match scripted {
        Some(answer) => play(stream, answer).await,
        None if target.contains("/v1/feed/snapshot") => snapshot(stream, &head, state).await,
        None if target.contains("/v1/feed/repair") => repair(stream, &body, state).await,
        None => changes(stream, &target, state).await,
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn snapshot(mut stream: TcpStream, head: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let whole = octets(&snapshot_frames(&state.lock().unwrap().table));
    let from = header(head, "range").filter(|_| header(head, "if-range") == Some(ETAG));
    let from = from.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match from {
        Some(from) => {
            let range = format!("content-range: bytes {from}-{}/{}\r\n", whole.len() - 1, whole.len());
            write_head(&mut stream, 206, &range).await?;
        }
        None => write_head(&mut stream, 200, "").await?,
    }
    stream.write_all(&whole[from.unwrap_or(0)..]).await?;
    stream.shutdown().await
}

/// All ranges that differ, as the table has them.
async fn repair(mut stream: TcpStream, body: &[u8], state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = FrameReader::default();
    reader.push(body);
    let Some(Frame::Ranges { summary: theirs, ranges }) = reader.next_frame().unwrap() else {
        panic!("no ranges")
    };
    let mut held = vec![Digest::default(); crate::feed::RANGES];
    ranges.iter().for_each(|(range, digest)| held[usize::from(*range)] = *digest);
    let frames = {
        let table = &state.lock().unwrap().table;
        let digests = table.range_digests().iter().enumerate();
        let ours: Vec<_> = digests.filter(|(range, digest)| held[*range] != **digest).collect();
        let entries = ours.iter().flat_map(|(range, _)| table.entries_in(*range)).collect();
        let ranges = ours.iter().map(|(range, digest)| (u16::try_from(*range).unwrap(), **digest)).collect();
        let is_same_epoch = table.position().epoch == theirs.position.epoch;
        let head = Frame::Ranges { summary: summary(table), ranges };
        is_same_epoch.then_some([head, Frame::Entries(entries), Frame::End])
    };
    match frames {
        Some(frames) => {
            write_head(&mut stream, 200, "").await?;
            stream.write_all(&octets(&frames)).await?;
        }
        None => write_head(&mut stream, 410, "").await?,
    }
    stream.shutdown().await
}

async fn play(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    if answer.then != Then::Silence {
        write_head(&mut stream, answer.status, "").await?;
    }
    if answer.then == Then::Trickle {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        for octet in &answer.octets {
            ticks.tick().await;
            stream.write_all(&[*octet]).await?;
        }
    }
    stream.write_all(&answer.octets).await?;
    if answer.then != Then::End {
        // Until the client has had enough.
        stream.read_u8().await?;
    }
    stream.shutdown().await
}

async fn changes(mut stream: TcpStream, target: &str, state: &Mutex<State>) -> std::io::Result<()> {
    let number = |name| {
        let (_, rest) = target.split_once(name).unwrap();
        rest.split('&').next().unwrap().parse::<u64>().unwrap()
    };
    let mut position = at(number("epoch="), number("after="));
    let mut is_begun = false;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let frame = {
            let state = state.lock().unwrap();
            let summary = summary(&state.table);
            match &state.last {
                _ if summary.position == position => Some((Frame::Heartbeat(summary), position)),
                Some((after, frame)) if *after == position => Some((frame.clone(), summary.position)),
                _ => None,
            }
        };
        let Some((frame, next)) = frame else {
            if !is_begun {
                write_head(&mut stream, 410, "").await?;
            }
            return stream.shutdown().await;
        };
        if !is_begun {
            write_head(&mut stream, 200, "").await?;
            is_begun = true;
        }
        position = next;
        stream.write_all(&frame.to_bytes()).await?;
    }
}

async fn write_head(stream: &mut TcpStream, status: u16, more: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} Status\r\nlocation: http://127.0.0.1:1/\r\netag: {ETAG}\r\n{more}connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await
}
