//! WebSocket over HTTP/2 (RFC 8441): a stream that becomes a tunnel. Its upstream is asked as HTTP/1.1 asks, by an
//! `Upgrade`, with a key of the gate's own; what that is in the upstream's words is `call`'s.

use super::connection::Connection;
use super::flow::Flow;
use super::protocol::Protocol;
use crate::gate::Answer;
use crate::gate::ended::{By, Phase};
use crate::gate::forward::Forward;
use crate::gate::headers;
use crate::gate::http1::head::ResponseHead;
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{Field, RequestHead};
use crate::gate::stream::{Channel, Stream};
use crate::gate::tunnel;
use crate::gate::watch::Watch;
use crate::gate::websocket::{self, ACCEPT, KEY};
use bytes::{Buf as _, Bytes};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether a `:protocol` is one that we know.
pub(super) fn is_known(protocol: &[u8]) -> bool {
    protocol == b"websocket"
}

/// Whether a field is of no use in HTTP/2 (RFC 8441, 5.1): the gate has a key of its own.
pub(super) fn is_left_out(name: &[u8]) -> bool {
    name == KEY
}

/// Makes a request one that HTTP/1.1 knows.
///
/// # Errors
/// `UpstreamError`: the system has no randomness to give.
pub(super) fn ask(head: &mut RequestHead) -> Result<(), Reject> {
    let key = websocket::key().map_err(|_| Reject::UpstreamError("no key for a WebSocket"))?;
    head.method = head.append(b"GET");
    head.upgrade = Some(head.append(b"websocket"));
    let name = head.append(KEY);
    head.append(b": ");
    let value = head.append(key.as_bytes());
    head.append(b"\r\n");
    head.fields.push(Field::new(&head.text, name, value));
    Ok(())
}

/// What became of a request for a tunnel: an answer by which one would be open, where none is, is the upstream's fault.
pub(super) fn checked(answer: Answer, watch: &Watch, head: &RequestHead, record: &mut Record) -> Answer {
    let Answer::Forward(exchange, _) = &answer else { return answer };
    let wrong = if head.upgrade.is_some() { check(head, exchange).err() } else { None };
    match wrong {
        None => answer,
        Some(reject) => {
            watch.serve(None);
            record.reject(&reject);
            Answer::Own(reject)
        }
    }
}

fn check(request: &RequestHead, exchange: &Forward) -> Result<(), Reject> {
    let response = exchange.head();
    if !exchange.is_switched() {
        return match response.status {
            200..300 => Err(Reject::UpstreamError("it answered without a tunnel")),
            _ => Ok(()),
        };
    }
    let key = request.named(KEY).unwrap_or_default();
    let expected = websocket::accept(key);
    match named(response, ACCEPT) {
        Some(accept) if accept == expected.as_bytes() => Ok(()),
        _ => Err(Reject::UpstreamError("it switched by another key")),
    }
}

fn named<'a>(response: &'a ResponseHead, name: &[u8]) -> Option<&'a [u8]> {
    let is_it = |field: &&Field| field.name.of(&response.text).eq_ignore_ascii_case(name);
    response.fields.iter().find(is_it).map(|field| field.value.of(&response.text))
}

/// Says that the tunnel is open, and carries octets until either side ends it.
pub(super) async fn run(
    (connection, flow): (&Rc<Connection>, &Rc<Flow>),
    exchange: Forward,
    watch: &Watch,
    record: &mut Record,
) {
    connection.with(|protocol, out| {
        protocol.send_fields(flow, false, out, |encoder, out| {
            encoder.status(200, out);
            for (name, value) in headers::response_fields(exchange.head()) {
                if !name.eq_ignore_ascii_case(ACCEPT) {
                    encoder.put(name, value, out);
                }
            }
        });
    });
    record.status = 200;
    record.phase = Phase::Tunnel;
    // Until the end the server is in use.
    let Some((upstream, _hold)) = exchange.into_tunnel() else { return };
    let carried = Rc::new(Carried::default());
    let duplex = Duplex {
        connection: Rc::clone(connection),
        flow: Rc::clone(flow),
        current: Bytes::new(),
        held: 0,
        carried: Rc::clone(&carried),
    };
    let mut client = Channel::new(Stream::Http2(Box::new(duplex)));
    // However it ends: a client may reset it at any time.
    let mut told = Told { record, carried, ended_by: Some(By::Client) };
    Box::pin(tunnel::run(&mut client, upstream, watch)).await;
    told.ended_by = watch.is_cut().then_some(By::Cut);
}

/// Octets that a tunnel has carried from its client and to it.
#[derive(Debug, Default)]
struct Carried {
    up: Cell<u64>,
    down: Cell<u64>,
}

/// Tells the record of a tunnel's end.
struct Told<'a> {
    record: &'a mut Record,
    carried: Rc<Carried>,
    ended_by: Option<By>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        (self.record.bytes_in, self.record.bytes_out) = (self.carried.up.get(), self.carried.down.get());
        self.record.ended_by = self.ended_by;
    }
}

/// A stream's octets, both ways. To be polled by the stream's future only.
pub struct Duplex {
    connection: Rc<Connection>,
    flow: Rc<Flow>,
    current: Bytes,
    /// Octets that the client does not take at the moment.
    held: usize,
    carried: Rc<Carried>,
}

impl Duplex {
    /// Octets that the client's connection has room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.connection.with(|protocol, _| protocol.room())
    }

    /// Notes how much of what it was given waits.
    fn hold(&mut self, octets: usize) {
        self.connection.with(|protocol, _| protocol.hold(&mut self.held, octets));
    }
}

impl Drop for Duplex {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Duplex").field("flow", &self.flow).finish_non_exhaustive()
    }
}

impl AsyncRead for Duplex {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.current.is_empty() {
            this.current = this.flow.take();
        }
        if this.current.is_empty() {
            return if this.flow.is_whole() { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let octets = this.current.len().min(into.remaining());
        into.put_slice(&this.current[..octets]);
        this.current.advance(octets);
        if this.current.is_empty() {
            this.current = Bytes::new();
        }
        this.carried.up.set(this.carried.up.get() + octets as u64);
        this.connection.with(|protocol, out| protocol.used(&this.flow, octets, out));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.flow.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let sent = this.connection.send(&this.flow, octets, false);
        this.hold(octets.len() - sent);
        if sent == 0 && !octets.is_empty() {
            return Poll::Pending;
        }
        this.carried.down.set(this.carried.down.get() + sent as u64);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection writes once all its streams have run.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.with(|_, out| Protocol::end_stream(&self.flow, out));
        Poll::Ready(Ok(()))
    }
}
