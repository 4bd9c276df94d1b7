//! WebSocket over HTTP/2 (RFC 8441): a stream that becomes a tunnel. Its upstream is asked as HTTP/1.1 asks, by an
//! `Upgrade`, with a key of the gate's own; what that is in the upstream's words is `call`'s.

use super::answer::AnswerBody;
use super::{Told, status};
use crate::gate::Answer;
use crate::gate::ended::{By, Phase};
use crate::gate::forward::Forward;
use crate::gate::headers;
use crate::gate::http1::head::ResponseHead;
use crate::gate::reject::Reject;
use crate::gate::request::{Field, RequestHead};
use crate::gate::stream::{Channel, Stream};
use crate::gate::tunnel;
use crate::gate::watch::{Watch, WatchGuard};
use crate::gate::websocket::{self, ACCEPT, KEY};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::task;

/// Whether a request asks for a tunnel that we know.
pub(super) fn is_asked_for(parts: &Parts) -> bool {
    parts.method == Method::CONNECT
        && parts.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == "websocket")
}

/// Whether a field is of no use in HTTP/2 (RFC 8441, 5.1): the gate has a key of its own.
pub(super) fn is_left_out(name: &str) -> bool {
    name.as_bytes() == KEY
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
pub(super) fn checked(answer: Answer, is_asked_for: bool, watch: &Watch, told: &mut Told) -> Answer {
    let Answer::Forward(exchange, _) = &answer else { return answer };
    let wrong = if is_asked_for { check(&told.head, exchange).err() } else { None };
    match wrong {
        None => answer,
        Some(reject) => {
            watch.serve(None);
            told.record.reject(&reject);
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

/// Says that the tunnel is open, and carries octets on a task of its own until either side ends it.
pub(super) fn open(
    mut told: Box<Told>,
    watch: WatchGuard,
    exchange: Forward,
    upgrade: OnUpgrade,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Ready(Bytes::new()));
    for (name, value) in headers::response_fields(exchange.head()) {
        // Both were held against RFC 9110's characters when the head was parsed.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
            && name.as_str().as_bytes() != ACCEPT
        {
            response.headers_mut().append(name, value);
        }
    }
    *response.status_mut() = status(200);
    told.record.status = 200;
    told.record.phase = Phase::Tunnel;
    let Some((upstream, hold)) = exchange.into_tunnel() else { return response };
    task::spawn_local(async move {
        // Until the end the server is in use, and the stream is open.
        let (_hold, mut told) = (hold, told);
        let Ok(upgraded) = upgrade.await else {
            return told.record.reject(&Reject::ClientGone);
        };
        let mut client = Channel::new(Stream::Http2(Box::new(TokioIo::new(upgraded))));
        let carried = tunnel::run(&mut client, upstream, &watch).await;
        (told.record.bytes_in, told.record.bytes_out) = carried;
        told.record.ended_by = watch.is_cut().then_some(By::Cut);
    });
    response
}
