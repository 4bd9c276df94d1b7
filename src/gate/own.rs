//! The gate's own answers: `Reject` → status, fields, page. Both protocols write what this gives.

use crate::block_page::{self, PageFacts};
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{Known, RequestHead};
use crate::gate::rules::Rules;
use bytes::Bytes;
use std::time::SystemTime;

/// Seconds after which a client may try again what failed for lack of data or room.
const RETRY_AFTER: &str = "5";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// The pages have inline styles and links, and load nothing.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

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
    let number = record.number.as_ref().map(ToString::to_string);
    let host = record.host_text();
    let page = rules.pages.render(
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
    let mut fields = vec![
        ("beian-verdict", Bytes::from_static(reason.as_str().as_bytes())),
        ("beian-verdict-id", Bytes::from(id)),
        ("content-type", Bytes::from_static(page.content_type.as_bytes())),
        ("content-language", Bytes::from_static(page.content_language.as_bytes())),
        ("cache-control", Bytes::from_static(b"no-store")),
        ("vary", Bytes::from_static(b"accept, accept-language")),
        ("content-security-policy", Bytes::from_static(CONTENT_SECURITY_POLICY.as_bytes())),
        ("x-content-type-options", Bytes::from_static(b"nosniff")),
        ("date", Bytes::from(http_date())),
    ];
    match reject {
        Reject::Blocked(_) => fields.push(("link", Bytes::copy_from_slice(rules.blocked_by.as_bytes()))),
        Reject::MethodRefused => fields.push(("allow", Bytes::from_static(METHODS.as_bytes()))),
        Reject::Unavailable | Reject::Overloaded => {
            fields.push(("retry-after", Bytes::from_static(RETRY_AFTER.as_bytes())))
        }
        _ => {}
    }
    Some(OwnResponse { status, fields, body: page.body })
}

/// The time as HTTP writes it (RFC 9110, 5.6.7).
fn http_date() -> String {
    jiff::Timestamp::try_from(SystemTime::now())
        .unwrap_or_default()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}
