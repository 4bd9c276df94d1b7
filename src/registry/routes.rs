//! Every route of the registry on one page, with what all of them share: token, request ids, errors.

use super::model::Who;
use super::problem::Problem;
use super::roles;
use super::{
    Registry, batch, books_api, due_api, feed_api, filings, followers, history_api, idempotency, import,
    openapi, order_api, sites_api,
};
use crate::config::{FilingRules, Role, Token};
use crate::serve::{self, Guard, Shown};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;
use tracing::Instrument as _;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest problem, in octets: those that list findings are a few KiB.
const MAX_PROBLEM_BYTES: usize = 1 << 20;
/// The longest request id that is taken from a caller.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// How the registry serves.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What callers of `/v1` must bring as a bearer token; needed off loopback.
    pub token: Option<String>,
    /// Tokens with a name and a role.
    pub tokens: Vec<Token>,
    /// Whose registry it is: the access provider that orders are handed in at.
    pub provider: String,
    /// What orders are held against.
    pub rules: FilingRules,
    /// In the clear without it.
    pub tls: Option<Arc<serve::Tls>>,
}

/// What handlers work with.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) registry: Registry,
    pub(super) shutdown: watch::Receiver<bool>,
    guard: Arc<Guard>,
    /// Whose each of the guard's tokens is.
    callers: Arc<[(Arc<str>, Role)]>,
    /// Who calls where no token is asked for.
    unnamed: Arc<str>,
    requests: Arc<Requests>,
    pub(super) provider: Arc<str>,
    pub(super) rules: FilingRules,
}

/// A request's id, for whoever answers it.
#[derive(Debug, Clone)]
struct RequestId(Arc<str>);

#[derive(Debug)]
struct Requests {
    run: u64,
    count: AtomicU64,
}

/// Every path with its methods; the OpenAPI document is tested against it.
#[cfg(test)]
pub(super) const ROUTES: &[(&str, &[&str])] = &[
    ("/v1/filings", &["get"]),
    ("/v1/filings:batch", &["post"]),
    ("/v1/filings:import", &["post"]),
    ("/v1/filings/{domain}", &["get", "put", "delete"]),
    ("/v1/filings/{domain}/in-force", &["get"]),
    ("/v1/filings/{domain}/history", &["get"]),
    ("/v1/orders", &["get", "post"]),
    ("/v1/orders/{id}", &["get"]),
    ("/v1/orders/{id}/{step}", &["post"]),
    ("/v1/changes", &["get"]),
    ("/v1/due", &["get"]),
    ("/v1/subjects", &["get", "post"]),
    ("/v1/subjects/{id}", &["get", "put"]),
    ("/v1/sites", &["get"]),
    ("/v1/sites/{number}", &["get", "put"]),
    ("/v1/service-codes", &["get", "post"]),
    ("/v1/service-codes/{code}", &["get"]),
    ("/v1/servers", &["get"]),
    ("/v1/servers/{id}", &["get", "put"]),
    ("/v1/accounts", &["get"]),
    ("/v1/accounts/{id}", &["get"]),
    ("/v1/feed/snapshot", &["get"]),
    ("/v1/feed/changes", &["get"]),
    ("/v1/feed/repair", &["post"]),
    ("/v1/feed/acknowledgements", &["post"]),
    ("/v1/feed/followers", &["get"]),
    ("/openapi.json", &["get"]),
    ("/healthz", &["get"]),
];

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/filings", get(filings::list))
        .route("/v1/filings:batch", post(batch::post))
        .route("/v1/filings:import", post(import::post))
        .route("/v1/filings/{domain}", get(filings::get).put(filings::put).delete(filings::delete))
        .route("/v1/filings/{domain}/in-force", get(followers::in_force))
        .route("/v1/filings/{domain}/history", get(history_api::get))
        .route("/v1/orders", get(order_api::list).post(order_api::open))
        .route("/v1/orders/{id}", get(order_api::get))
        .route("/v1/orders/{id}/{step}", post(order_api::step))
        .route("/v1/changes", get(history_api::list))
        .route("/v1/due", get(due_api::get))
        .route("/v1/subjects", get(books_api::subjects).post(books_api::open_subject))
        .route("/v1/subjects/{id}", get(books_api::subject).put(books_api::put_subject))
        .route("/v1/sites", get(sites_api::list))
        .route("/v1/sites/{number}", get(sites_api::get).put(sites_api::put))
        .route("/v1/service-codes", get(books_api::codes).post(books_api::issue_code))
        .route("/v1/service-codes/{code}", get(books_api::code))
        .route("/v1/servers", get(books_api::servers))
        .route("/v1/servers/{id}", get(books_api::server).put(books_api::put_server))
        .route("/v1/accounts", get(books_api::accounts))
        .route("/v1/accounts/{id}", get(books_api::account))
        .route("/v1/feed/snapshot", get(feed_api::snapshot))
        .route("/v1/feed/changes", get(feed_api::changes))
        .route("/v1/feed/repair", post(feed_api::repair))
        .route("/v1/feed/acknowledgements", post(followers::acknowledge))
        .route("/v1/feed/followers", get(followers::list))
        .route("/openapi.json", get(openapi::get))
        .route("/healthz", get(healthz))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(api.clone(), idempotency::once))
        .layer(middleware::from_fn(without_nul))
        .layer(middleware::from_fn_with_state(api.clone(), authorise))
        .layer(middleware::from_fn_with_state(api.clone(), with_request_id))
        .with_state(api)
}

/// Serves until `shutdown` says true.
pub(super) async fn serve(
    registry: Registry,
    listener: std::net::TcpListener,
    options: Options,
    shutdown: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let tls = options.tls.clone();
    let api = api(registry, options, shutdown.clone())?;
    serve::run((listener, tls), router(api), shutdown).await
}

fn api(registry: Registry, options: Options, shutdown: watch::Receiver<bool>) -> std::io::Result<Api> {
    let mut run = [0; 4];
    getrandom::fill(&mut run).map_err(std::io::Error::other)?;
    let requests = Requests { run: u64::from(u32::from_le_bytes(run)), count: AtomicU64::new(0) };
    let (provider, rules) = (options.provider.as_str().into(), options.rules.clone());
    let shows_certificates = options.tls.as_ref().is_some_and(|tls| tls.asks_for_certificates());
    let (guard, callers) = guard(options);
    Ok(Api {
        registry,
        shutdown,
        guard: Arc::new(guard),
        callers,
        unnamed: if shows_certificates { "certificate" } else { "loopback" }.into(),
        requests: Arc::new(requests),
        provider,
        rules,
    })
}

/// Answers one request within the caller's own task.
#[cfg(test)]
pub(super) async fn answer(registry: Registry, options: Options, request: Request) -> Response {
    let (_shutdown, stopped) = watch::channel(false);
    let mut router = router(api(registry, options, stopped).expect("there is randomness"));
    let Ok(response) = tower_service::Service::call(&mut router, request).await;
    response
}

/// Returns once `shutdown` says true, or nobody is left to say so.
pub(super) async fn ended(mut shutdown: watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|is_over| *is_over).await;
}

async fn authorise(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let name = if api.guard.is_set() && request.uri().path().starts_with("/v1") {
        match api.guard.whose(&request).map(|at| api.callers.get(at)) {
            Ok(Some((name, role))) if roles::may(*role, request.method(), request.uri().path()) => {
                name.clone()
            }
            Ok(Some((_, role))) => return forbidden(*role, &request).into_response(),
            Ok(None) => return unauthorised(Shown::Wrong).into_response(),
            Err(refused) => return unauthorised(refused).into_response(),
        }
    } else {
        api.unnamed.clone()
    };
    let request_id = request.extensions().get::<RequestId>().map(|it| it.0.clone());
    request.extensions_mut().insert(Who { name, request: request_id, why: None });
    next.run(request).await
}

/// A text with a NUL in it is nothing that a database could hold or find, and PostgreSQL takes it for a fault.
async fn without_nul(request: Request, next: Next) -> Response {
    let is_free = |text: &str| !text.contains("%00");
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let rule = match (is_free(path), is_free(query)) {
        (true, true) => return next.run(request).await,
        (false, _) => "invalid_path",
        (true, false) => "invalid_query",
    };
    Problem::bad_request(rule, "a NUL (%00) is part of no name and no id", "不能包含空字符（%00）")
        .into_response()
}

/// Whose each token is: its name and role.
type Callers = Arc<[(Arc<str>, Role)]>;

/// What is asked for, and whose each token is: the one without a name first.
fn guard(options: Options) -> (Guard, Callers) {
    let unnamed = options.token.iter().map(|token| (serve::hash(token), "token".into(), Role::Operator));
    let named = options.tokens.into_iter().map(|it| (it.hash, it.name.into(), it.role));
    let (hashes, callers) = unnamed.chain(named).map(|(hash, name, role)| (hash, (name, role))).unzip();
    let callers: Vec<_> = callers;
    (Guard::of(hashes), callers.into())
}

fn forbidden(role: Role, request: &Request) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "role_not_allowed",
        format!("a token of role `{role}` may not {} {}", request.method(), request.uri().path()),
        "该令牌的角色无权执行此操作",
    )
}

fn unauthorised(shown: Shown) -> Problem {
    if shown == Shown::TooOften {
        return Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_failures",
            "too many wrong tokens came from there; wait a minute",
            "来自该地址的错误令牌过多，请一分钟后再试",
        );
    }
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "this registry needs `authorization: Bearer TOKEN`, with its token",
        "此注册库要求携带正确的 `authorization: Bearer` 令牌",
    )
}

async fn with_request_id(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let is_good = |id: &&HeaderValue| {
        let octets = id.as_bytes();
        (1..=MAX_REQUEST_ID_BYTES).contains(&octets.len()) && octets.iter().all(u8::is_ascii_graphic)
    };
    let id = match request.headers().get(REQUEST_ID).filter(is_good) {
        Some(id) => id.clone(),
        None => api.requests.next(),
    };
    let text = id.to_str().unwrap_or_default();
    let span = tracing::info_span!("request", id = text);
    request.extensions_mut().insert(RequestId(text.into()));
    let mut response = named(next.run(request).instrument(span).await, &id).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A problem that says which request it is of; other answers as they are.
async fn named(response: Response, id: &HeaderValue) -> Response {
    let is_problem =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|it| it == "application/problem+json");
    if !is_problem {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let octets = axum::body::to_bytes(body, MAX_PROBLEM_BYTES).await.unwrap_or_default();
    let Ok(serde_json::Value::Object(mut problem)) = serde_json::from_slice(&octets) else {
        return Response::from_parts(parts, octets.into());
    };
    problem.insert("request_id".to_owned(), id.to_str().unwrap_or_default().into());
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, serde_json::Value::Object(problem).to_string().into())
}

impl Requests {
    fn next(&self) -> HeaderValue {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{:08x}-{count:08x}", self.run))
            .expect("hexadecimal digits are a value")
    }
}

async fn healthz() -> impl IntoResponse {
    axum::Json(serde_json::json!({ "status": "ok" }))
}

async fn no_such_path(request: Request) -> Problem {
    Problem::not_found(
        format!("there is no `{}` here; see /openapi.json", request.uri().path()),
        "没有此路径",
    )
}

async fn no_such_method(request: Request) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("`{}` does not take {}; see /openapi.json", request.uri().path(), request.method()),
        "此路径不支持该方法",
    )
}
