//! The public look-up page: a site's owner enters one domain and reads what the gate says of it and what to do next.
//!
//! For owners whose HTTPS shows nothing but a TLS error: no page can be shown there. One name a request, so many
//! requests of a client, and no word that the block page would not say to whoever asks for the domain. Knows verdicts and
//! the block page's words; refuses to know lists, upstreams and other names.

use crate::block_page::{Language, Media, PageWords, Reason, negotiate};
use crate::config::{ClientWidth, Lookup};
use crate::domain::HostForm;
use crate::gate::client::Defaults;
use crate::gate::judge;
use crate::gate::rate::ClientRates;
use crate::gate::worker::Shared;
use crate::serve::{self, Caller};
use crate::telemetry::LookupCounts;
use crate::verdict::{self, Verdict};
use axum::Router;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ipnet::IpNet;
use minijinja::{Environment, context};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The page loads its own style, sends its own form, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; \
     frame-ancestors 'none'; base-uri 'none'";
/// Octets of a name as people write it: more than any name has, in any form.
const MAX_NAME_BYTES: usize = 1024;

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates
        .add_template("page.html", include_str!("lookup/page.html"))
        .expect("the look-up page's template is tested");
    crate::bilingual::teach(&mut templates);
    templates
});

/// The page, over what the gate knows.
#[derive(Clone)]
pub struct LookupPage(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    rates: ClientRates,
    counts: Arc<LookupCounts>,
    /// Between two requests of a client in the long run.
    every: Duration,
    burst: u32,
    trusted_peers: Vec<IpNet>,
}

impl LookupPage {
    /// As configured.
    #[must_use]
    pub fn new(config: &Lookup, shared: Arc<Shared>, counts: Arc<LookupCounts>) -> Self {
        Self(Arc::new(Inner {
            shared,
            rates: ClientRates::default(),
            counts,
            every: Duration::from_secs(60) / config.per_minute.max(1),
            burst: config.burst,
            trusted_peers: config.trusted_peers.clone(),
        }))
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(self, socket: TcpListener, stopping: watch::Receiver<bool>) -> std::io::Result<()> {
        let style = ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("lookup/page.css"));
        let router = Router::new()
            .route("/", get(page))
            .route("/style.css", get(async move || style))
            .fallback(async || (StatusCode::NOT_FOUND, "there is one page here: /\n"))
            .with_state(self);
        serve::run_for_all(socket, router, stopping).await
    }

    /// Who asks: the peer, or whom a trusted peer names last.
    fn client(&self, peer: IpAddr, fields: &HeaderMap) -> IpAddr {
        let is_trusted = |address: IpAddr| {
            let address = address.to_canonical();
            self.0.trusted_peers.iter().any(|net| net.contains(&address))
        };
        if !is_trusted(peer) {
            return peer;
        }
        let named = fields.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
        let mut named: Vec<_> = named.flat_map(|list| list.split(',')).map(str::trim).collect();
        while let Some(Ok(address)) = named.pop().map(str::parse::<IpAddr>) {
            if !is_trusted(address) {
                return address;
            }
        }
        peer
    }

    fn judge(&self, host: &HostForm) -> Judged {
        let rules = self.0.shared.rules.load();
        let site = judge::site(&rules, host);
        let defaults = Defaults { scenario: rules.default_scenario, region: rules.default_region };
        let filings = self.0.shared.cache.at(Instant::now());
        let today = verdict::day(jiff::Timestamp::now());
        let decision = judge::decide(&rules, defaults, (host, site), &filings, today);
        let record = decision.covering.as_ref().map(|covering| &covering.record);
        Judged {
            verdict: decision.verdict,
            number: decision.number().map(ToString::to_string),
            is_under_review: record.is_some_and(|record| record.access_under_review),
            domain: host
                .name()
                .map_or_else(|| host.to_string(), |name| shown(name.as_str(), &name.to_unicode())),
        }
    }
}

/// The Unicode form with the ASCII form beside it where they differ, so that look-alikes show.
fn shown(ascii: &str, unicode: &str) -> String {
    if ascii == unicode { ascii.to_owned() } else { format!("{unicode} ({ascii})") }
}

struct Judged {
    verdict: Verdict,
    number: Option<String>,
    is_under_review: bool,
    domain: String,
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    domain: String,
    lang: Option<String>,
}

/// What a look-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// Nothing was asked yet.
    Asking,
    /// It may be served here.
    Allowed,
    /// No filing is needed.
    Exempt,
    /// It is not served, and the block page's words say why.
    Blocked,
    /// What was entered is no name.
    Malformed,
    /// The client asked too often.
    TooOften,
}

impl Outcome {
    fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooOften => StatusCode::TOO_MANY_REQUESTS,
            Self::Asking | Self::Allowed | Self::Exempt | Self::Blocked => StatusCode::OK,
        }
    }
}

async fn page(
    State(page): State<LookupPage>,
    Extension(Caller(peer)): Extension<Caller>,
    Query(asked): Query<Asked>,
    fields: HeaderMap,
) -> Response {
    let language = language(&fields, asked.lang.as_deref());
    let entered = asked.domain.trim();
    let answer = |outcome, judged| answer(&page, language, entered, outcome, judged);
    if entered.is_empty() {
        return answer(Outcome::Asking, None);
    }
    let counts = &page.0.counts;
    let client = ClientWidth::default().of(page.client(peer, &fields));
    if !page.0.rates.admits_every(client, page.0.every, page.0.burst, Instant::now()) {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        let mut refused = answer(Outcome::TooOften, None);
        let wait = page.0.every.as_secs().max(1);
        refused.headers_mut().insert(header::RETRY_AFTER, wait.into());
        return refused;
    }
    counts.answered.fetch_add(1, Ordering::Relaxed);
    let host = bare(entered).filter(|_| entered.len() <= MAX_NAME_BYTES).map(HostForm::from_user);
    let Some(Ok(host)) = host else { return answer(Outcome::Malformed, None) };
    let judged = page.judge(&host);
    let outcome = match judged.verdict {
        Verdict::Exempt => Outcome::Exempt,
        verdict if verdict.is_forwarded() => Outcome::Allowed,
        _ => Outcome::Blocked,
    };
    answer(outcome, Some(&judged))
}

/// What people paste: the host of a URL, or a name.
fn bare(entered: &str) -> Option<&str> {
    let rest = entered.split_once("://").map_or(entered, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty() && !host.contains(['@', ',', ' ']))
}

fn language(fields: &HeaderMap, asked: Option<&str>) -> Language {
    match asked {
        Some("en") => Language::English,
        Some("zh") => Language::Chinese,
        _ => negotiate(None, fields.get(header::ACCEPT_LANGUAGE).map(header::HeaderValue::as_bytes)).1,
    }
}

fn answer(
    page: &LookupPage,
    language: Language,
    entered: &str,
    outcome: Outcome,
    judged: Option<&Judged>,
) -> Response {
    let rules = page.0.shared.rules.load();
    let reason = judged.and_then(|it| Reason::try_from(it.verdict).ok()).unwrap_or(Reason::NoSite);
    let is_under_review = judged.is_some_and(|it| it.is_under_review);
    let words: PageWords<'_> = rules.pages.words(reason, is_under_review, language);
    let synced_at = page.0.shared.cache.synced_at().filter(|_| judged.is_some());
    let content = context! {
        lang => if language == Language::English { "en" } else { "zh" },
        tag => language.tag(),
        entered => entered.chars().take(MAX_NAME_BYTES).collect::<String>(),
        outcome => minijinja::value::Serde(&outcome),
        domain => judged.map(|it| it.domain.as_str()),
        number => judged.and_then(|it| it.number.as_deref()),
        verdict => judged.map(|it| it.verdict.as_str()),
        synced_at => synced_at.and_then(crate::bilingual::beijing),
        words => minijinja::value::Serde(&words),
    };
    let fields = [
        (header::CONTENT_TYPE, Media::Html.content_type()),
        (header::CONTENT_LANGUAGE, language.tag()),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-language"),
    ];
    match TEMPLATES.get_template("page.html").and_then(|template| template.render(content)) {
        Ok(html) => (outcome.status(), fields, html).into_response(),
        Err(error) => {
            tracing::error!("look-up page: {error:#}");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste() {
        #[track_caller]
        fn check(entered: &str, expected: Option<&str>) {
            assert_eq!(bare(entered), expected, "{entered}");
        }
        check("example.com", Some("example.com"));
        check("https://www.example.com/path?x#y", Some("www.example.com"));
        check("例子.中国", Some("例子.中国"));
        check("a.cn,b.cn", None);
        check("a.cn b.cn", None);
        check("https://user@a.cn/", None);
        check("///", None);
    }
}
