//! A request for a WebSocket, said as HTTP/2 says it (RFC 8441) and answered as HTTP/1.1 would: whoever asked need not
//! know what the upstream speaks.

use super::Call;
use crate::gate::endpoint::Lease;
use crate::gate::http1::head::ResponseHead;
use crate::gate::request::{Known, RequestHead};
use crate::gate::stream::{Channel, Lane, Stream};
use crate::gate::trunk::Ticket;
use crate::gate::websocket;
use h2::ext::Protocol;
use http::{Method, Request};

/// What keeps a tunnel's server in use, and its connection open, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    _lease: Lease,
    _ticket: Option<Ticket>,
}

impl From<Lease> for Hold {
    /// Over a connection of its own.
    fn from(lease: Lease) -> Self {
        Self { _lease: lease, _ticket: None }
    }
}

/// Makes a request's head one that asks for a tunnel.
pub(super) fn ask(head: &mut Request<()>) {
    *head.method_mut() = Method::CONNECT;
    head.extensions_mut().insert(Protocol::from_static("websocket"));
}

/// Whether a field has no meaning where a stream is asked for: the length of what has none, and a key.
pub(super) fn is_left_out(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(websocket::KEY) || Known::of(name) == Known::ContentLength
}

/// Makes the answer by which the tunnel is open what a switch of protocols would have said.
pub(super) fn switch(head: &mut ResponseHead, request: &RequestHead) {
    let accept = websocket::accept(request.named(websocket::KEY).unwrap_or_default());
    // What an upstream says of a key it was never told is not for the client.
    let text = std::mem::take(&mut head.text);
    head.fields.retain(|field| !field.name.of(&text).eq_ignore_ascii_case(websocket::ACCEPT));
    head.text = text;
    head.status = 101;
    head.add(b"upgrade", b"websocket");
    head.add(websocket::ACCEPT, accept.as_bytes());
}

impl Call {
    /// The stream, for a tunnel; `None` where it has none to give.
    #[must_use]
    pub fn into_tunnel(self) -> Option<(Channel, Hold)> {
        let lane = Lane::new(self.request?, self.response?);
        let hold = Hold { _lease: self.lease, _ticket: Some(self.ticket) };
        Some((Channel::new(Stream::Lane(Box::new(lane))), hold))
    }
}
