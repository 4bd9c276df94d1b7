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
    let duplex = Duplex { connection: Rc::clone(connection), flow: Rc::clone(flow), current: Bytes::new() };
    let mut client = Channel::new(Stream::Http2(Box::new(duplex)));
    let carried = Box::pin(tunnel::run(&mut client, upstream, watch)).await;
    (record.bytes_in, record.bytes_out) = carried;
    record.ended_by = watch.is_cut().then_some(By::Cut);
}

/// A stream's octets, both ways. To be polled by the stream's future only.
pub struct Duplex {
    connection: Rc<Connection>,
    flow: Rc<Flow>,
    current: Bytes,
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
        this.connection.with(|protocol, out| protocol.used(&this.flow, octets, out));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        if self.flow.is_over() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match self.connection.send(&self.flow, octets, false) {
            0 if !octets.is_empty() => Poll::Pending,
            some => Poll::Ready(Ok(some)),
        }
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
