//! The console: what operators see in a browser. Server-rendered, in Chinese and English; every value is escaped by the
//! templates, whatever name a stranger asked for.
//!
//! Knows nothing that the JSON API does not say as well; changes nothing but a held update, and sends events
//! to webhooks. Offers nothing that whoever looks may not do.

mod facts;
mod pages;
mod viewer;
mod words;

use super::{Admin, problem, say};
use crate::follow::Word;
use crate::serve::Shown;
use crate::warnings::WarningSink;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use facts::{Host, Since};
use minijinja::{Environment, context};
use std::sync::LazyLock;
use std::time::Instant;
use viewer::Viewer;

/// The pages load their own style and script, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// Octets of a log-in form.
const MAX_FORM: usize = 4096;
/// What is said to whoever shows no right token, and the log-in page has in both languages.
const WRONG: &str = "that is not the admin token";
const TOO_OFTEN: &str = "too many wrong tokens came from there; wait a minute";

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
    words::teach(&mut templates);
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
        .route("/console/held/apply", post(async |viewer, State(admin)| held(&viewer, &admin, Word::Apply)))
        .route("/console/held/refuse", post(async |viewer, State(admin)| held(&viewer, &admin, Word::Refuse)))
        .route(
            "/console/warnings/test",
            post(async |viewer, State(admin)| tell(&viewer, &admin, WarningSink::test)),
        )
        .route(
            "/console/warnings/resend",
            post(async |viewer, State(admin)| tell(&viewer, &admin, WarningSink::resend)),
        )
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

fn held(viewer: &Viewer, admin: &Admin, word: Word) -> Response {
    then(say(admin, word, ""), &viewer.home())
}

fn tell(viewer: &Viewer, admin: &Admin, word: fn(&WarningSink)) -> Response {
    then(super::warnings::say(admin, word, ""), &format!("/console/due?lang={}", viewer.lang))
}

/// On to a page, where what was asked for is under way.
fn then(said: Response, page: &str) -> Response {
    if said.status() == StatusCode::ACCEPTED {
        return (StatusCode::SEE_OTHER, [(header::LOCATION, page)]).into_response();
    }
    said
}

/// Whether whoever asks reads pages.
pub(super) fn is_for_people(request: &Request) -> bool {
    request.method() == Method::GET && reads_pages(request.headers())
}

fn reads_pages(fields: &HeaderMap) -> bool {
    let accepts = fields.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepts.is_some_and(|accept| accept.contains("text/html"))
}

/// The page that asks for the token.
pub(super) fn login(request: Request, admin: &Admin) -> Response {
    // Who is not let in is told nothing, not even what was asked.
    let viewer = Viewer { query: Vec::new(), ..Viewer::of(&request.into_parts().0, admin) };
    let page = page("login.html", &viewer, "", context! {});
    (StatusCode::UNAUTHORIZED, page).into_response()
}

async fn enter(State(admin): State<Admin>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(form) = axum::body::to_bytes(body, MAX_FORM).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "a log-in form is smaller");
    };
    let viewer = Viewer::of(&parts, &admin);
    let is_for_people = reads_pages(&parts.headers);
    let refused = |status: StatusCode, why: &'static str| match is_for_people {
        true => (status, page("login.html", &viewer, "", context! { why })).into_response(),
        false => problem(status, why),
    };
    let token = form_value(&form, "token").unwrap_or_default();
    // The token is judged where every other is, and wrong ones count.
    let Ok(value) = format!("Bearer {}", token.trim()).parse() else {
        return refused(StatusCode::UNAUTHORIZED, WRONG);
    };
    parts.headers.insert(header::AUTHORIZATION, value);
    match admin.role(&Request::from_parts(parts, axum::body::Body::empty())) {
        Ok(role) => match admin.0.sessions.begin(role, Instant::now()) {
            Ok(cookie) => {
                let fields = [(header::LOCATION, viewer.home()), (header::SET_COOKIE, cookie)];
                (StatusCode::SEE_OTHER, fields).into_response()
            }
            Err(_) => problem(StatusCode::SERVICE_UNAVAILABLE, "the system has no randomness to give"),
        },
        Err(Shown::TooOften) => refused(StatusCode::TOO_MANY_REQUESTS, TOO_OFTEN),
        Err(_) => refused(StatusCode::UNAUTHORIZED, WRONG),
    }
}

async fn logout(viewer: Viewer, State(admin): State<Admin>, fields: HeaderMap) -> Response {
    let cookie = admin.0.sessions.end(&fields);
    (StatusCode::SEE_OTHER, [(header::LOCATION, viewer.home()), (header::SET_COOKIE, cookie)]).into_response()
}

/// A value of an `application/x-www-form-urlencoded` body.
fn form_value(form: &[u8], name: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("http://form/?{}", std::str::from_utf8(form).ok()?)).ok()?;
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// A whole page: a template's words within the frame that all share. `here` is its path, for the menu.
fn page(template: &str, viewer: &Viewer, here: &str, content: minijinja::Value) -> Response {
    let render = |name: &str, values: minijinja::Value| TEMPLATES.get_template(name)?.render(values);
    let (lang, may_change) = (viewer.lang, viewer.may_change);
    let whole = render(template, context! { lang, may_change, ..content }).and_then(|body| {
        let body = minijinja::Value::from_safe_string(body);
        let (query, is_logged_in) = (&viewer.query, viewer.is_logged_in);
        let version = env!("CARGO_PKG_VERSION");
        render("layout.html", context! { lang, here, body, query, is_logged_in, version })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn held_page(lang: &str, may_change: bool) -> String {
        let held = serde_json::json!({
            "state": "waiting", "newly_blocked": 12_345, "of": 10_000_000, "since": "2026-11-26T01:55:11Z",
        });
        let status = serde_json::json!({
            "ready": false, "reason": "never synced: no filing data yet", "held": held, "filings": 10_000_000,
            "epoch": 1, "seq": 2, "synced_at": null, "age_ms": 0, "lag_ms": 0, "connections": 0, "digest": "0",
            "registry_connected": true, "registry_error": null,
        });
        let chart = serde_json::json!({ "width": 1, "height": 1, "areas": ["", "", ""], "peak": 0 });
        let values = context! { lang, may_change, status => minijinja::value::Serde(status), chart => minijinja::value::Serde(chart) };
        TEMPLATES.get_template("overview.html").unwrap().render(values).unwrap()
    }

    #[test]
    fn a_word_on_what_is_held_is_asked_of_operators() {
        for lang in ["zh", "en"] {
            let (operator, reader) = (held_page(lang, true), held_page(lang, false));
            assert!(operator.contains("/console/held/apply") && operator.contains("/console/held/refuse"));
            assert!(!reader.contains("<form") && reader.contains("operator"), "{reader}");
            assert!(reader.contains("12,345") && reader.contains("10,000,000"), "{reader}");
        }
        assert!(held_page("zh", false).contains("等待决定") && held_page("zh", false).contains("尚未同步过"));
    }
}
