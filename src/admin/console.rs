//! The console: what operators see in a browser. Server-rendered, in Chinese and English; every value is escaped by the
//! templates, whatever name a stranger asked for.
//!
//! Knows nothing that the JSON API does not say as well; changes nothing but a held update.

mod facts;
mod pages;

use super::{Admin, problem, say};
use crate::follow::Word;
use crate::serve::Shown;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use facts::{Host, Since};
use minijinja::{Environment, context};
use std::sync::LazyLock;
use std::time::Instant;

/// The pages load their own style and script, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Octets of a log-in form.
const MAX_FORM: usize = 4096;

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    for (name, source) in [
        ("layout.html", include_str!("console/layout.html")),
        ("overview.html", include_str!("console/overview.html")),
        ("look_up.html", include_str!("console/look_up.html")),
        ("blocked.html", include_str!("console/blocked.html")),
        ("lists.html", include_str!("console/lists.html")),
        ("fleet.html", include_str!("console/fleet.html")),
        ("due.html", include_str!("console/due.html")),
        ("log.html", include_str!("console/log.html")),
        ("login.html", include_str!("console/login.html")),
    ] {
        templates.add_template(name, source).expect("the console's templates are tested");
    }
    crate::bilingual::teach(&mut templates);
    templates.add_filter("in_query", |text: String| {
        let is_plain = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet);
        text.bytes().fold(String::new(), |mut query, octet| {
            match is_plain(octet) {
                true => query.push(char::from(octet)),
                false => query += &format!("%{octet:02X}"),
            }
            query
        })
    });
    templates
});

/// Pages and data that need the operator's token.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/", get(pages::overview))
        .route("/console/look-up", get(pages::look_up))
        .route("/console/blocked", get(pages::blocked))
        .route("/console/lists", get(pages::lists))
        .route("/console/fleet", get(pages::fleet))
        .route("/console/due", get(pages::due))
        .route("/console/log", get(pages::log))
        .route("/console/held/apply", post(async |State(admin)| held(&admin, Word::Apply)))
        .route("/console/held/refuse", post(async |State(admin)| held(&admin, Word::Refuse)))
        .route("/v1/blocked", get(async |State(admin): State<Admin>| axum::Json(facts::blocked(&admin, 0))))
        .route("/v1/traffic", get(async |State(admin): State<Admin>| axum::Json(admin.0.traffic.shown())))
        .route("/v1/lists", get(async |State(admin): State<Admin>| axum::Json(facts::lists(&admin))))
        .route(
            "/v1/certificates",
            get(async |State(admin): State<Admin>| axum::Json(facts::certificates(&admin))),
        )
        .route("/v1/scenarios", get(scenarios))
        .route("/v1/log", get(log_lines))
        .route("/logout", post(logout))
}

/// What is open to everybody: style, script, and the way in.
pub(super) fn open_routes() -> Router<Admin> {
    let style = ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("console/console.css"));
    let script =
        ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("console/console.js"));
    Router::new()
        .route("/console/console.css", get(async move || style))
        .route("/console/console.js", get(async move || script))
        .route("/login", post(enter))
}

async fn scenarios(State(admin): State<Admin>, Query(host): Query<Host>) -> Response {
    match facts::scenarios(&admin, &host.host) {
        Some(table) => axum::Json(table).into_response(),
        None => problem(StatusCode::BAD_REQUEST, "`host` is neither a domain name nor an address"),
    }
}

async fn log_lines(State(admin): State<Admin>, Query(since): Query<Since>) -> Response {
    axum::Json(facts::log_lines(&admin, &since)).into_response()
}

fn held(admin: &Admin, word: Word) -> Response {
    let said = say(admin, word, "");
    if said.status() == StatusCode::ACCEPTED {
        return (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response();
    }
    said
}

/// Whether whoever asks reads pages.
pub(super) fn is_for_people(request: &Request) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    request.method() == axum::http::Method::GET && accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// The page that asks for the token.
pub(super) fn login(fields: &HeaderMap) -> Response {
    let lang = language(fields, None);
    let page = page("login.html", lang, "", context! {});
    (StatusCode::UNAUTHORIZED, page).into_response()
}

async fn enter(State(admin): State<Admin>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(form) = axum::body::to_bytes(body, MAX_FORM).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "a log-in form is smaller");
    };
    let token = form_value(&form, "token").unwrap_or_default();
    // The token is judged where every other is, and wrong ones count.
    let Ok(value) = format!("Bearer {token}").parse() else {
        return problem(StatusCode::UNAUTHORIZED, "that is no token");
    };
    parts.headers.insert(header::AUTHORIZATION, value);
    match admin.role(&Request::from_parts(parts, axum::body::Body::empty())) {
        Ok(role) => match admin.0.sessions.begin(role, Instant::now()) {
            Ok(cookie) => {
                let fields = [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)];
                (StatusCode::SEE_OTHER, fields).into_response()
            }
            Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the system has no randomness to give"),
        },
        Err(Shown::TooOften) => {
            problem(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from there; wait a minute")
        }
        Err(_) => problem(StatusCode::UNAUTHORIZED, "that is not the admin token"),
    }
}

async fn logout(State(admin): State<Admin>, fields: HeaderMap) -> Response {
    let cookie = admin.0.sessions.end(&fields);
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)])
        .into_response()
}

/// A value of an `application/x-www-form-urlencoded` body.
fn form_value(form: &[u8], name: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("http://form/?{}", std::str::from_utf8(form).ok()?)).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// `zh` or `en`: as asked for, else as the browser prefers, else Chinese.
fn language(fields: &HeaderMap, asked: Option<&str>) -> &'static str {
    match asked {
        Some("en") => "en",
        Some("zh") => "zh",
        _ => {
            let accepted = fields.get(header::ACCEPT_LANGUAGE).map(header::HeaderValue::as_bytes);
            match crate::block_page::negotiate(None, accepted).1 {
                crate::block_page::Language::Chinese => "zh",
                crate::block_page::Language::English => "en",
            }
        }
    }
}

/// A whole page: a template's words within the frame that all share. `here` is its path, for the menu.
fn page(template: &str, lang: &str, here: &str, content: minijinja::Value) -> Response {
    let render = |name: &str, values: minijinja::Value| TEMPLATES.get_template(name)?.render(values);
    let whole = render(template, context! { lang, ..content }).and_then(|body| {
        let body = minijinja::Value::from_safe_string(body);
        render("layout.html", context! { lang, here, body, version => env!("CARGO_PKG_VERSION") })
    });
    match whole {
        Ok(html) => {
            let fields = [
                (header::CONTENT_TYPE, "text/html; charset=utf-8"),
                (header::CONTENT_SECURITY_POLICY, POLICY),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (fields, html).into_response()
        }
        Err(error) => {
            tracing::error!("console: {template}: {error:#}");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made; the log says why")
        }
    }
}
