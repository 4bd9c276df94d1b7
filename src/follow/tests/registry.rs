//! A registry on loopback that first answers from a script, then honestly.

use super::{PROVIDER, at, filed, octets, snapshot_frames, summary};
use crate::cache::Table;
use crate::feed::{Frame, Position};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

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
        let state = State { script: script.into(), table, last: None, authorization: None };
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

    /// Files a name: one change.
    pub(super) fn file(&self, name: &str) {
        let mut state = self.state.lock().unwrap();
        let (after, entry) = (state.table.position(), filed(name));
        state.table.set(&entry);
        state.table.set_position(at(after.epoch, after.seq + 1));
        let frame = Frame::Batch { after, entries: vec![entry], summary: summary(&state.table) };
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
    assert!(target.contains(&format!("provider={PROVIDER}")), "{target}");
    let scripted = {
        let mut state = state.lock().unwrap();
        let line = head.lines().find_map(|line| line.strip_prefix("authorization: "));
        state.authorization = line.map(Into::into);
        let is_next = state.script.front().is_some_and(|next| target.contains(next.what));
        if is_next { state.script.pop_front() } else { None }
    };
    match scripted {
        Some(answer) => play(stream, answer).await,
        None => honest(stream, &target, state).await,
    }
}

async fn play(mut stream: TcpStream, answer: Answer) -> std::io::Result<()> {
    if answer.then != Then::Silence {
        write_head(&mut stream, answer.status).await?;
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

async fn honest(mut stream: TcpStream, target: &str, state: &Mutex<State>) -> std::io::Result<()> {
    if target.contains("/v1/feed/snapshot") {
        let frames = snapshot_frames(&state.lock().unwrap().table);
        write_head(&mut stream, 200).await?;
        stream.write_all(&octets(&frames)).await?;
        return stream.shutdown().await;
    }
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
                write_head(&mut stream, 410).await?;
            }
            return stream.shutdown().await;
        };
        if !is_begun {
            write_head(&mut stream, 200).await?;
            is_begun = true;
        }
        position = next;
        stream.write_all(&frame.to_bytes()).await?;
    }
}

async fn write_head(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} Status\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}
