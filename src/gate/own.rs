//! The gate's own answers: `Reject` → status, fields, page. Both protocols write what this gives.

use crate::block_page::{self, Media, Page, PageFacts, Reason};
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{Known, RequestHead};
use crate::gate::rules::Rules;
use bytes::Bytes;
use std::cell::Cell;
use std::time::SystemTime;

/// Seconds after which a client may try again what failed for lack of data or room.
const RETRY_AFTER: &str = "5";
/// Fields of an answer, at most.
const MAX_FIELDS: usize = 12;
/// Fields that hold for the gate's own page, and for no other.
const OF_THE_PAGE: [&str; 3] = ["content-type", "content-language", "content-security-policy"];
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// One answer, ready for either protocol.
#[derive(Debug)]
pub struct OwnResponse {
    /// Status code.
    pub status: u16,
    /// Fields: lower-case names.
    pub fields: Vec<(&'static str, Bytes)>,
    /// Body.
    pub body: Bytes,
}

/// The answer to a health check.
#[must_use]
pub fn healthy() -> OwnResponse {
    let fields = vec![
        ("content-type", Bytes::from_static(b"text/plain")),
        ("cache-control", Bytes::from_static(b"no-store")),
    ];
    OwnResponse { status: 200, fields, body: Bytes::from_static(b"ok\n") }
}

/// The answer to a refused request; `None` where nobody is there to be told.
#[must_use]
pub fn respond(
    reject: &Reject,
    rules: &Rules,
    synced_at: Option<i64>,
    head: &RequestHead,
    record: &mut Record,
) -> Option<OwnResponse> {
    let reason = reject.reason()?;
    let status = reject.status(rules.blocked_status);
    record.status = status;
    let id = format!("{:016x}", record.verdict_id);
    let (media, language) =
        block_page::negotiate(head.values(Known::Accept).next(), head.values(Known::AcceptLanguage).next());
    let media = if is_grpc_call(head) { Media::Grpc } else { media };
    let number = record.number.as_ref().map(ToString::to_string);
    let host = record.host_text();
    let pages = rules.pages(record.host.as_ref());
    let page = pages.render(
        &PageFacts {
            reason,
            status,
            domain: Some(&*host).filter(|host| !host.is_empty()),
            number: number.as_deref(),
            verdict_id: &id,
            synced_at,
            access_under_review: record.access_under_review,
            operator_reason: record.operator_reason.as_deref(),
        },
        media,
        language,
    );
    let mut fields = Vec::with_capacity(MAX_FIELDS);
    fields.extend([
        ("beian-verdict", Bytes::from_static(reason.as_str().as_bytes())),
        ("beian-verdict-id", Bytes::from(id)),
        ("content-type", Bytes::from_static(page.content_type.as_bytes())),
        ("content-language", Bytes::from_static(page.content_language.as_bytes())),
        ("cache-control", Bytes::from_static(b"no-store")),
        ("vary", Bytes::from_static(b"accept, accept-language")),
        ("content-security-policy", Bytes::copy_from_slice(pages.content_security_policy().as_bytes())),
        ("x-content-type-options", Bytes::from_static(b"nosniff")),
        ("date", Bytes::copy_from_slice(&http_date())),
    ]);
    match reject {
        Reject::Blocked(_) => fields.push(("link", Bytes::copy_from_slice(rules.blocked_by.as_bytes()))),
        Reject::Redirect(redirection) => fields.push(("location", redirection.location.clone())),
        Reject::MethodRefused => fields.push(("allow", Bytes::from_static(METHODS.as_bytes()))),
        Reject::Unavailable | Reject::Overloaded | Reject::Shed | Reject::RateLimited | Reject::Cut => {
            fields.push(("retry-after", Bytes::from_static(RETRY_AFTER.as_bytes())))
        }
        _ => {}
    }
    if media == Media::Grpc {
        record.status = 200;
        return Some(grpc(reason, fields, &page));
    }
    let own = rules.error_pages(record.host.as_ref(), head.path());
    if let Some((content_type, body)) = own.and_then(|own| own.of(status, media)) {
        // What was said of the gate's own page.
        fields.retain(|(name, _)| !OF_THE_PAGE.contains(name));
        fields.push(("content-type", Bytes::from_static(content_type.as_bytes())));
        return Some(OwnResponse { status, fields, body });
    }
    Some(OwnResponse { status, fields, body: page.body })
}

/// Whether the request is a gRPC call, which says so in what it sends rather than in what it accepts.
fn is_grpc_call(head: &RequestHead) -> bool {
    let mut types = head.fields.iter().map(|field| head.field(field));
    types.any(|(name, value)| name.eq_ignore_ascii_case(b"content-type") && block_page::is_grpc(value))
}

/// A gRPC status without a message: 200, and all there is to say in the fields ("Trailers-Only" in gRPC's
/// description of itself over HTTP/2). Other codes would be turned into words of the client's own.
fn grpc(reason: Reason, mut fields: Vec<(&'static str, Bytes)>, page: &Page) -> OwnResponse {
    fields.push(("grpc-status", Bytes::from_static(grpc_status(reason).as_bytes())));
    fields.push(("grpc-message", Bytes::from(percent_encoded(&page.body))));
    OwnResponse { status: 200, fields, body: Bytes::new() }
}

/// The code that tells a client what it may do about it (google.rpc.Code).
fn grpc_status(reason: Reason) -> &'static str {
    const INVALID_ARGUMENT: &str = "3";
    const DEADLINE_EXCEEDED: &str = "4";
    const PERMISSION_DENIED: &str = "7";
    const RESOURCE_EXHAUSTED: &str = "8";
    const UNIMPLEMENTED: &str = "12";
    const UNAVAILABLE: &str = "14";
    match reason {
        _ if reason.is_blocked() => PERMISSION_DENIED,
        Reason::MalformedHost | Reason::MalformedRequest => INVALID_ARGUMENT,
        Reason::RequestTimeout | Reason::UpstreamTimeout => DEADLINE_EXCEEDED,
        Reason::TooLarge | Reason::RateLimited => RESOURCE_EXHAUSTED,
        Reason::NoSite | Reason::MethodRefused => UNIMPLEMENTED,
        _ => UNAVAILABLE,
    }
}

/// A status message as gRPC writes it: printable ASCII as it is, `%` and all else escaped.
fn percent_encoded(words: &[u8]) -> String {
    let mut text = String::with_capacity(words.len() * 3);
    for &octet in words {
        if matches!(octet, b' '..=b'~') && octet != b'%' {
            text.push(char::from(octet));
        } else {
            text.push('%');
            for nibble in [octet >> 4, octet & 15] {
                text.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
    text
}

/// Octets of a date.
const DATE_BYTES: usize = 29;

thread_local! {
    /// The second that was written last, and how.
    static DATE: Cell<(i64, [u8; DATE_BYTES])> = const { Cell::new((i64::MIN, [b' '; DATE_BYTES])) };
}

/// The time as HTTP writes it (RFC 9110, 5.6.7): written anew once a second.
fn http_date() -> [u8; DATE_BYTES] {
    let now = jiff::Timestamp::try_from(SystemTime::now()).unwrap_or_default();
    let (second, date) = DATE.get();
    if second == now.as_second() {
        return date;
    }
    let text = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let date = text.as_bytes().try_into().unwrap_or(date);
    DATE.set((now.as_second(), date));
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_http_writes_them() {
        let date = http_date();
        let parsed =
            jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S GMT", std::str::from_utf8(&date).unwrap());
        assert!(parsed.is_ok(), "{date:?}");
    }

    #[test]
    fn grpc_words_survive_the_field() {
        assert_eq!(percent_encoded(b"plain words, 100 %"), "plain words, 100 %25");
        assert_eq!(percent_encoded("域名\r\n".as_bytes()), "%E5%9F%9F%E5%90%8D%0D%0A");
    }
}
