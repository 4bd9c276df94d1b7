//! `Idempotency-Key`: a write that is sent again, since nobody knows whether the first one arrived, is done once.
//!
//! The key is the caller's own; with it the first answer is kept for a day, and given again to the same request. What
//! is read here is one request's body, so batches and imports, which have no bound that fits in memory, take no key.

use super::Registry;
use super::model::Who;
use super::problem::Problem;
use super::routes::Api;
use super::store::{StoreError, now_ms};
use aws_lc_rs::digest::{SHA256, digest};
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer is the first one's.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key, in octets.
const MAX_KEY_BYTES: usize = 128;
/// The longest body of a request with a key, and of its answer, in octets.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long an answer is kept, in milliseconds.
const KEPT_MS: i64 = 24 * 3_600_000;
/// A request that has no answer after so long lost the process that worked on it, in milliseconds.
const ABANDONED_MS: i64 = 60_000;

/// An answer that was kept.
struct Kept {
    status: u16,
    kind: String,
    etag: Option<String>,
    body: Vec<u8>,
}

/// What a key means.
enum Found {
    /// The request is new, and is to be done.
    New,
    /// It was done.
    Done(Kept),
    /// It is being done.
    UnderWay,
    /// The key was another request's.
    Reused,
}

/// Does a request with a key once.
pub(super) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    let is_write = matches!(*request.method(), Method::PUT | Method::POST | Method::DELETE | Method::PATCH);
    let key = request.headers().get(KEY).filter(|_| is_write).cloned();
    match key {
        Some(key) => {
            with_key(&api.registry, &key, request, next).await.unwrap_or_else(Problem::into_response)
        }
        None => next.run(request).await,
    }
}

async fn with_key(
    registry: &Registry,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = key.to_str().ok().filter(|it| (1..=MAX_KEY_BYTES).contains(&it.len())).ok_or_else(|| {
        Problem::bad_request(
            "invalid_idempotency_key",
            format!("an idempotency key has 1 to {MAX_KEY_BYTES} visible ASCII characters"),
            "幂等键应为 1 至 128 个可见 ASCII 字符",
        )
    })?;
    let path = request.uri().path();
    if path.ends_with(":batch") || path.ends_with(":import") || path.starts_with("/v1/feed/") {
        return Err(Problem::bad_request(
            "idempotency_key_not_taken",
            "batches, imports and the feed take no idempotency key: their lines can be sent again as they are",
            "批量、导入和同步接口不支持幂等键，可直接重发",
        ));
    }
    let who = request.extensions().get::<Who>().map_or("", |it| &it.name).to_owned();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| too_large())?;
    let place = Place { who, key: key.to_owned() };
    let fingerprint = fingerprint(&parts.method, &parts.uri.to_string(), &body);
    match registry.reserve(&place, &fingerprint).await? {
        Found::New => {}
        Found::Done(kept) => return Ok(kept.into_response()),
        Found::UnderWay => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "request_under_way",
                "the request with this idempotency key is being worked on: ask again",
                "使用该幂等键的请求正在处理，请稍后重试",
            ));
        }
        Found::Reused => {
            return Err(Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "this idempotency key was another request's: use a new one for a new request",
                "该幂等键已用于另一请求，请为新请求使用新的幂等键",
            ));
        }
    }
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(registry, &place, answer).await
}

/// Keeps an answer, unless it is of a fault that may pass.
async fn keep(registry: &Registry, place: &Place, answer: Response) -> Result<Response, Problem> {
    let (parts, body) = answer.into_parts();
    let body = match axum::body::to_bytes(body, MAX_BODY_BYTES).await {
        Ok(body) => body,
        Err(_) => return Err(too_large()),
    };
    let text =
        |name| parts.headers.get(name).and_then(|it: &HeaderValue| it.to_str().ok()).map(str::to_owned);
    let may_pass = parts.status.is_server_error() || parts.status == StatusCode::TOO_MANY_REQUESTS;
    let kept = if may_pass {
        registry.release(place).await
    } else {
        let kind = text(header::CONTENT_TYPE).unwrap_or_default();
        let status = parts.status.as_u16();
        let kept = Kept { status, kind, etag: text(header::ETAG), body: body.to_vec() };
        registry.keep(place, kept).await
    };
    if let Err(error) = kept {
        // The write is done, whatever becomes of its key.
        tracing::warn!(error = &error as &dyn std::error::Error, "an idempotency key's answer is not kept");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

/// Whose key.
struct Place {
    who: String,
    key: String,
}

fn fingerprint(method: &Method, uri: &str, body: &Bytes) -> Vec<u8> {
    let mut octets = format!("{method} {uri}\n").into_bytes();
    octets.extend_from_slice(body);
    digest(&SHA256, &octets).as_ref().to_vec()
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        format!("a request with an idempotency key has at most {MAX_BODY_BYTES} octets"),
        "请求内容过大",
    )
}

impl Kept {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, self.body).into_response();
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_TYPE);
        for (name, value) in [(header::CONTENT_TYPE, Some(self.kind)), (header::ETAG, self.etag)] {
            let value = value.filter(|it| !it.is_empty()).and_then(|it| HeaderValue::try_from(it).ok());
            value.map(|it| headers.insert(name, it));
        }
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

impl Registry {
    /// Takes a key for a request, or says what became of the one that has it.
    async fn reserve(&self, place: &Place, fingerprint: &[u8]) -> Result<Found, StoreError> {
        let (who, key, now) = (place.who.as_str().into(), place.key.as_str().into(), now_ms());
        let mut writer = self.store.writer().await?;
        let mut session = writer.session();
        session.run("DELETE FROM idempotency WHERE at_ms < $1", &[(now - KEPT_MS).into()]).await?;
        let abandoned =
            "DELETE FROM idempotency WHERE who = $1 AND key = $2 AND status IS NULL AND at_ms < $3";
        let values = [who, key, (now - ABANDONED_MS).into()];
        session.run(abandoned, &values).await?;
        let [who, key, _] = values;
        let take = "INSERT INTO idempotency (who, key, at_ms, request) VALUES ($1, $2, $3, $4) \
                    ON CONFLICT (who, key) DO NOTHING";
        let values = [who.clone(), key.clone(), now.into(), fingerprint.to_vec().into()];
        if session.run(take, &values).await? == 1 {
            return Ok(Found::New);
        }
        let look = "SELECT request, coalesce(status, 0), coalesce(kind, ''), etag, coalesce(body, request) \
                    FROM idempotency WHERE who = $1 AND key = $2";
        let Some(row) = session.row(look, &[who, key]).await? else { return Ok(Found::UnderWay) };
        if row.octets(0)? != fingerprint {
            return Ok(Found::Reused);
        }
        Ok(match u16::try_from(row.integer(1)?) {
            Ok(status) if status > 0 => Found::Done(Kept {
                status,
                kind: row.some_text(2)?.to_owned(),
                etag: row.text(3)?.map(str::to_owned),
                body: row.octets(4)?.to_vec(),
            }),
            _ => Found::UnderWay,
        })
    }

    async fn keep(&self, place: &Place, kept: Kept) -> Result<(), StoreError> {
        let sql =
            "UPDATE idempotency SET status = $3, kind = $4, etag = $5, body = $6 WHERE who = $1 AND key = $2";
        let Kept { status, kind, etag, body } = kept;
        let (who, key) = (place.who.as_str().into(), place.key.as_str().into());
        let values = [who, key, i64::from(status).into(), kind.into(), etag.into(), body.into()];
        self.store.writer().await?.session().run(sql, &values).await?;
        Ok(())
    }

    async fn release(&self, place: &Place) -> Result<(), StoreError> {
        let values = [place.who.as_str().into(), place.key.as_str().into()];
        let sql = "DELETE FROM idempotency WHERE who = $1 AND key = $2";
        self.store.writer().await?.session().run(sql, &values).await?;
        Ok(())
    }
}
