//! Errors as `application/problem+json` (RFC 9457): every refusal and failure of the API, in one place.

use super::rules::Refusal;
use super::rules::limits::{Finding, Weight};
use super::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// When a call that found the registry busy may come again, in seconds.
const RETRY_AFTER_S: &str = "10";
/// When one that showed too many wrong tokens may, in seconds.
const RETRY_AFTER_FAILURES_S: &str = "60";

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// A rule refuses it (422).
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Rules refuse an order (422): the first is the one that is named, and all are listed.
    #[error("{0:?}")]
    Found(Vec<Finding>),
    /// The caller's fault in another way.
    #[error("{0:?}")]
    Status(StatusCode, Refusal),
    /// Ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Problem {
    pub(super) fn new(status: StatusCode, rule: &'static str, detail: impl Into<String>, zh: &str) -> Self {
        Self::Status(status, Refusal::new(rule, detail, zh))
    }

    pub(super) fn not_found(detail: impl Into<String>, zh: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail, zh)
    }

    pub(super) fn bad_request(rule: &'static str, detail: impl Into<String>, zh: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, rule, detail, zh)
    }
}

/// `refusals`, `needs` and `notes`: what every rule said.
pub(super) fn by_weight(found: &[Finding]) -> serde_json::Map<String, serde_json::Value> {
    let of = |weight| -> serde_json::Value {
        let these = found.iter().filter(|it| it.weight == weight);
        these.map(|it| super::life::said(&it.refusal)).collect()
    };
    let names = [("refusals", Weight::Refused), ("needs", Weight::Needed), ("notes", Weight::Noted)];
    names.into_iter().map(|(name, weight)| (name.to_owned(), of(weight))).collect()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut listed = None;
        let (status, refusal) = match self {
            Self::Found(found) => {
                listed = Some(by_weight(&found));
                let first = found.into_iter().next().map(|it| it.refusal);
                let refusal =
                    first.unwrap_or_else(|| Refusal::new("refused", "a rule refuses it", "不符合规则"));
                (StatusCode::UNPROCESSABLE_ENTITY, refusal)
            }
            Self::Refused(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, refusal),
            Self::Status(status, refusal) => (status, refusal),
            Self::Store(StoreError::ReadOnly) => {
                (StatusCode::CONFLICT, Refusal::new("read_only", "this registry only reads", "此注册库只读"))
            }
            Self::Store(error @ StoreError::Busy(_)) => {
                let refusal = Refusal::new("busy", error.to_string(), "注册库正在处理其他写入，请稍后重试");
                (StatusCode::SERVICE_UNAVAILABLE, refusal)
            }
            Self::Store(error) if error.is_disk_full() => {
                tracing::error!(
                    "the disk of the registry database is full: nothing is written until there is room"
                );
                let refusal = Refusal::new(
                    "disk_full",
                    "the disk of the registry's database is full; nothing was changed",
                    "注册库所在磁盘已满，未作任何更改",
                );
                (StatusCode::SERVICE_UNAVAILABLE, refusal)
            }
            Self::Store(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the registry database failed");
                let refusal = Refusal::new(
                    "store_failed",
                    "the registry's database failed; nothing is known to be changed",
                    "注册库数据库出错",
                );
                (StatusCode::SERVICE_UNAVAILABLE, refusal)
            }
        };
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_S),
            StatusCode::TOO_MANY_REQUESTS => Some(RETRY_AFTER_FAILURES_S),
            _ => None,
        };
        let mut body = serde_json::json!({
            "type": format!("urn:beian-gate:problem:{}", refusal.rule),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "rule": refusal.rule,
            "detail": refusal.detail,
            "detail_zh": refusal.detail_zh,
        });
        if let (Some(body), Some(listed)) = (body.as_object_mut(), listed) {
            body.extend(listed);
        }
        let mut response = (status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(retry_after) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
