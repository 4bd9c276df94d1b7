//! hyper's request → `RequestHead`, strictly (RFC 9113, 8; attacks, section 5). Pure.

use super::tunnel;
use crate::config::Limits;
use crate::domain::Authority;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, Field, Known, RequestHead, Version};
use http::request::Parts;
use http::{Method, header};

/// Reads a request's head into `head`.
///
/// # Errors
/// `MalformedRequest`, `MethodRefused` or `HeadTooLarge`; what is wrong with the authority alone is left for
/// the walk to find.
pub(super) fn read(
    parts: &Parts,
    is_ended: bool,
    limits: &Limits,
    head: &mut RequestHead,
) -> Result<(), Reject> {
    head.version = Version::Http2;
    head.keep_alive = true;
    head.method = head.append(parts.method.as_str().as_bytes());
    let is_tunnel = tunnel::is_asked_for(parts);
    if matches!(parts.method, Method::CONNECT | Method::TRACE) && !is_tunnel {
        return Err(Reject::MethodRefused);
    }
    if parts.headers.len() > limits.headers {
        return Err(Reject::HeadTooLarge);
    }
    let path = parts.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
    if !(path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS)) {
        return Err(Reject::MalformedRequest(":path is neither a path nor `*`"));
    }
    if !path.bytes().all(|octet| octet.is_ascii_graphic()) || path.contains('#') {
        return Err(Reject::MalformedRequest(":path has octets that no path has"));
    }
    // Without `:authority` the URI has no place for a scheme: hyper has checked that one was there.
    if parts.uri.authority().is_some() && !matches!(parts.uri.scheme_str(), Some("http" | "https")) {
        return Err(Reject::MalformedRequest(":scheme is neither http nor https"));
    }
    head.target = head.append(path.as_bytes());
    head.path = head.target;
    for (name, value) in &parts.headers {
        check_value(value.as_bytes())?;
        if is_tunnel && tunnel::is_left_out(name.as_str()) {
            continue;
        }
        // As a line, so that it goes on as one.
        let name = head.append(name.as_str().as_bytes());
        head.append(b": ");
        let value = head.append(value.as_bytes());
        head.append(b"\r\n");
        head.fields.push(Field::new(&head.text, name, value));
    }
    if head.values(Known::TransferEncoding).next().is_some()
        || head.values(Known::Connection).next().is_some()
    {
        return Err(Reject::MalformedRequest("a field that HTTP/2 does not have"));
    }
    head.body = body_length(parts, is_ended)?;
    head.authority = Some(authority(parts, head));
    if is_tunnel { tunnel::ask(head) } else { Ok(()) }
}

/// HTTP/1.1 upstreams must read it alike.
fn check_value(value: &[u8]) -> Result<(), Reject> {
    let is_bad = |octet: &u8| matches!(octet, 0..=8 | 10..=31 | 127);
    if value.iter().any(is_bad) {
        Err(Reject::MalformedRequest("a control octet in a field"))
    } else {
        Ok(())
    }
}

fn body_length(parts: &Parts, is_ended: bool) -> Result<BodyLength, Reject> {
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => None,
        (Some(value), None) if !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit) => Some(
            value
                .to_str()
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or(Reject::MalformedRequest("content-length"))?,
        ),
        _ => return Err(Reject::MalformedRequest("content-length is not one plain number")),
    };
    match (is_ended, length) {
        (true, None | Some(0)) | (false, Some(0)) => Ok(BodyLength::None),
        (true, Some(_)) => Err(Reject::MalformedRequest("a content-length without a body")),
        (false, Some(octets)) => Ok(BodyLength::Exactly(octets)),
        (false, None) => Ok(BodyLength::Unknown),
    }
}

/// `:authority`, else one `host`; where both are there they must name the same.
fn authority(parts: &Parts, head: &mut RequestHead) -> Result<Authority, Reject> {
    let parse = |octets: &[u8]| Authority::from_wire(octets).map_err(|_| Reject::MalformedHost);
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, _) => None,
        (Some(host), None) => Some(parse(host.as_bytes())?),
        (Some(_), Some(_)) => return Err(Reject::MalformedHost),
    };
    let pseudo = match parts.uri.authority() {
        Some(authority) => {
            let octets = head.append(authority.as_str().as_bytes());
            Some(head.host(octets)?)
        }
        None => None,
    };
    match (pseudo, host) {
        (Some(pseudo), Some(host)) if pseudo.host != host.host => Err(Reject::MalformedHost),
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        (None, None) => Err(Reject::MalformedHost),
    }
}
