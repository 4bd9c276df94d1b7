//! The fields of a response whose body is changed: what they said of the old octets goes, or is weakened. Pure.
//!
//! Sources: RFC 9110, 7.7 (no-transform), 8.8.1 (validators), 14.3 (Accept-Ranges); RFC 9530 (digests).

use super::Coding;
use crate::gate::http1::framing::Framing;
use crate::gate::http1::head::ResponseHead;
use crate::gate::request::{Field, Known, RequestHead, Span, list_elements};

/// Fields that speak of the octets that the upstream sent.
const OF_THE_OCTETS: [&str; 6] =
    ["content-md5", "digest", "content-digest", "repr-digest", "accept-ranges", "last-modified"];

/// The values of a field, in order.
pub fn values<'h>(head: &'h ResponseHead, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    head.fields
        .iter()
        .filter(move |field| field.name.of(&head.text).eq_ignore_ascii_case(name.as_bytes()))
        .map(|field| field.value.of(&head.text))
}

/// The only value of a field that must not come twice.
#[must_use]
pub fn only<'h>(head: &'h ResponseHead, name: &'h str) -> Option<&'h [u8]> {
    let mut values = values(head, name);
    values.next().filter(|_| values.next().is_none())
}

/// Takes a field out.
pub fn remove(head: &mut ResponseHead, name: &str) {
    let text = &head.text;
    head.fields.retain(|field| !field.name.of(text).eq_ignore_ascii_case(name.as_bytes()));
}

/// Adds a field at the end.
pub fn append(head: &mut ResponseHead, name: &str, value: &[u8]) {
    let start = head.text.len();
    let spans = Span::new(start, name.len()).zip(Span::new(start + name.len() + 2, value.len()));
    let Some((name_span, value_span)) = spans else { return };
    for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.text.extend_from_slice(piece);
    }
    head.fields.push(Field::new(&head.text, name_span, value_span));
}

/// Whether nobody between is to change the body.
pub fn has_no_transform<'v>(mut cache_control: impl Iterator<Item = &'v [u8]>) -> bool {
    cache_control.any(|value| list_elements(value).any(|one| one.eq_ignore_ascii_case(b"no-transform")))
}

/// Whether a body may become another: nobody forbids it, nobody signed it, and it is the whole one.
#[must_use]
pub fn may_change(request: &RequestHead, response: &ResponseHead) -> bool {
    let of_request = request
        .fields
        .iter()
        .filter(|field| {
            field.known == Known::Other && field.name.of(&request.text).eq_ignore_ascii_case(b"cache-control")
        })
        .map(|field| field.value.of(&request.text));
    let has = |name| values(response, name).next().is_some();
    response.framing != Framing::Length(0)
        && !has_no_transform(of_request)
        && !has_no_transform(values(response, "cache-control"))
        && !has("content-range")
        && !has("signature-input")
}

/// The same page goes on in a content coding: other octets, of unknown length.
pub fn of_coded_body(head: &mut ResponseHead, coding: Coding) {
    if matches!(head.framing, Framing::Length(_)) {
        head.framing = Framing::Chunked;
    }
    for name in OF_THE_OCTETS.into_iter().filter(|name| *name != "last-modified") {
        remove(head, name);
    }
    remove(head, "content-encoding");
    append(head, "content-encoding", coding.as_str().as_bytes());
    weaken_etag(head);
}

/// The body will be other octets than the upstream's: of unknown length, the same page still, and no more than that.
pub fn of_changed_body(head: &mut ResponseHead) {
    if matches!(head.framing, Framing::Length(_)) {
        head.framing = Framing::Chunked;
    }
    for name in OF_THE_OCTETS {
        remove(head, name);
    }
    weaken_etag(head);
}

/// A strong validator would promise octets.
pub fn weaken_etag(head: &mut ResponseHead) {
    let Some(tag) = only(head, "etag") else { return remove(head, "etag") };
    if tag.starts_with(b"W/") {
        return;
    }
    let weak = [b"W/", tag].concat();
    remove(head, "etag");
    if weak.starts_with(b"W/\"") {
        append(head, "etag", &weak);
    }
}

/// Says that the answer depends on a field of the request.
pub fn vary(head: &mut ResponseHead, on: &str) {
    let is_said = values(head, "vary")
        .flat_map(list_elements)
        .any(|one| one == b"*" || one.eq_ignore_ascii_case(on.as_bytes()));
    if !is_said {
        append(head, "vary", on.as_bytes());
    }
}
