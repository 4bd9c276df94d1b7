//! Health, metrics, status and verdict look-up on the admin address. Reads; changes nothing but a held update and which upstreams
//! are used.

mod addresses;
pub mod answer;
mod console;
mod metrics;
mod sessions;
mod traffic;
mod upstreams;
mod warnings;

pub use addresses::Addresses;

use crate::cache::FilingCache;
use crate::config::{self, CertificateId, ClientRole, Origin, Protocol, Role};
use crate::domain::HostForm;
use crate::follow::{FollowStats, HeldUpdate, Word};
use crate::gate::judge;
use crate::gate::worker::Shared;
use crate::inquiry::Registries;
use crate::serve::{self, CallerCertificate, Guard, Shown};
use crate::telemetry::{
    AuditState, Counters, LookupCounts, Reload, ServedState, SpanCounts, SyslogCounts, Tail,
};
use crate::verdict::{Question, Region, Scenario};
use crate::warnings::{WarningSink, WarningState};
use answer::VerdictAnswer;
use arc_swap::ArcSwap;
use axum::extract::{Query, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use serde_json::json;
use sessions::Sessions;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use traffic::Traffic;

/// The admin API.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

/// What is counted beside the data path.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Hosts that are watched over.
    pub served: Arc<ServedState>,
    /// Look-ups of site owners.
    pub lookups: Arc<LookupCounts>,
    /// What comes up, and who is told.
    pub warnings: Arc<WarningState>,
    /// Who tells; nobody where nobody is to be told.
    pub sink: Option<WarningSink>,
    /// Lines for the syslog collector.
    pub syslog: Arc<SyslogCounts>,
    /// Spans for the collector of traces.
    pub spans: Arc<SpanCounts>,
}

struct Inner {
    shared: Arc<Shared>,
    /// The config that the process began with.
    begun: Origin,
    counters: Arc<Counters>,
    stats: Arc<FollowStats>,
    addresses: Arc<ArcSwap<Addresses>>,
    guard: Guard,
    /// What each of the guard's tokens is for.
    roles: Vec<Role>,
    /// What certificates are for.
    client_roles: Vec<ClientRole>,
    started: Instant,
    sessions: Sessions,
    traffic: Traffic,
    tail: Arc<Tail>,
    told: Told,
    registries: Option<Registries>,
}

impl Admin {
    /// Over these; the config's tokens are asked for where there are any.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        stats: Arc<FollowStats>,
        addresses: Arc<ArcSwap<Addresses>>,
        config: Option<&config::Admin>,
    ) -> Self {
        let unnamed = config.and_then(|it| it.token.as_deref()).map(|it| (serve::hash(it), Role::Operator));
        let named = config.into_iter().flat_map(|it| &it.tokens).map(|it| (it.hash, it.role));
        let (hashes, roles) = unnamed.into_iter().chain(named).unzip();
        Self(Arc::new(Inner {
            begun: shared.rules.load().origin.clone(),
            shared,
            counters,
            stats,
            addresses,
            guard: Guard::of(hashes),
            roles,
            client_roles: config.map(|it| it.client_roles.clone()).unwrap_or_default(),
            started: Instant::now(),
            sessions: Sessions::new(config.is_some_and(|it| it.tls.is_some())),
            traffic: Traffic::default(),
            tail: Arc::default(),
            told: Told::default(),
            registries: None,
        }))
    }

    /// With the access log's last lines, whom to ask about other gates, and what is counted beside the data path.
    #[must_use]
    pub fn showing(mut self, tail: Arc<Tail>, registries: Registries, told: Told) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.tail = tail;
            inner.registries = Some(registries);
            inner.told = told;
        }
        self
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(
        self,
        door: (TcpListener, Option<Arc<serve::Tls>>),
        stopping: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let guarded = Router::new()
            .merge(console::routes())
            .route("/metrics", get(metrics))
            .route("/v1/status", get(status))
            .route("/v1/config", get(config))
            .route("/v1/verdict", get(verdict))
            .route("/v1/upstreams", get(upstreams::list))
            .route("/v1/upstreams/{*upstream}", post(upstreams::say))
            .route("/v1/footers", get(footers))
            .merge(warnings::routes())
            .route("/v1/held/apply", post(apply_held))
            .route("/v1/held/refuse", post(refuse_held))
            .route("/v1/held/release", post(released))
            .route_layer(middleware::from_fn_with_state(self.clone(), authorize));
        let watching = tokio::spawn(traffic::watch(self.clone()));
        let router = Router::new()
            .merge(console::open_routes())
            .route("/healthz", get(async || "ok\n"))
            .route("/readyz", get(readyz))
            .merge(guarded)
            .fallback(async || {
                problem(
                    StatusCode::NOT_FOUND,
                    "no such resource; there are /healthz, /readyz, /metrics, /v1/status, /v1/config, /v1/verdict, /v1/upstreams, /v1/footers, /v1/warnings",
                )
            })
            .with_state(self);
        let served = serve::run(door, router, stopping).await;
        watching.abort();
        served
    }

    /// What whoever asks may do, by the token that it shows, or where it shows none, by its certificate.
    fn role(&self, request: &Request) -> Result<Role, Shown> {
        let shows_token = self.0.guard.is_set() && request.headers().contains_key(header::AUTHORIZATION);
        if !self.0.client_roles.is_empty() && !shows_token {
            let certificate = request.extensions().get::<CallerCertificate>();
            let role = certificate.and_then(|certificate| role_of(certificate, &self.0.client_roles));
            return role.ok_or(Shown::Wrong);
        }
        // Where none is asked for, everybody may do everything.
        self.0.guard.whose(request).map(|at| self.0.roles.get(at).copied().unwrap_or(Role::Operator))
    }

    fn cache(&self) -> &FilingCache {
        &self.0.shared.cache
    }

    /// Why the gate has no filings that it may rely on; `None` when it has.
    fn unready(&self) -> Option<&'static str> {
        if self.0.shared.life.is_draining() {
            return Some("draining: this process ends once its requests are done");
        }
        let status = self.cache().status();
        if status.position.epoch == 0 {
            return Some("never synced: no filing data yet");
        }
        status.is_stale.then_some("filing data is older than enforcement.stale_after allows")
    }
}

fn role_of(certificate: &CallerCertificate, roles: &[ClientRole]) -> Option<Role> {
    let is_meant = |role: &&ClientRole| match &role.certificate {
        CertificateId::Sha256(sha256) => *sha256 == certificate.sha256,
        CertificateId::Subject(subject) => *subject == certificate.subject,
    };
    // Commands on this machine show the API's own.
    if certificate.is_own { Some(Role::Operator) } else { roles.iter().find(is_meant).map(|it| it.role) }
}

async fn authorize(State(admin): State<Admin>, mut request: Request, next: Next) -> Response {
    let role = match admin.0.sessions.role(request.headers(), Instant::now()) {
        Some(role) => Ok(role),
        None => admin.role(&request),
    };
    let mut response = match role {
        Ok(role) if may(role, &request) => {
            request.extensions_mut().insert(role);
            return next.run(request).await;
        }
        Ok(_) => return problem(StatusCode::FORBIDDEN, "whoever has the role `reader` changes nothing"),
        Err(Shown::TooOften) => {
            problem(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens came from there; wait a minute")
        }
        Err(_) if !admin.0.guard.is_set() => {
            return problem(
                StatusCode::FORBIDDEN,
                "this certificate has no role here (`admin.tls.client_roles`)",
            );
        }
        Err(_) if console::is_for_people(&request) => console::login(request, &admin),
        Err(_) => problem(StatusCode::UNAUTHORIZED, "bring the admin token: `Authorization: Bearer TOKEN`"),
    };
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

fn may(role: Role, request: &Request) -> bool {
    role == Role::Operator
        || matches!(*request.method(), Method::GET | Method::HEAD)
        || request.uri().path() == "/logout"
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.unready() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = metrics::render(&admin.0.shared, &admin.0.counters, &admin.0.stats, &admin.0.told);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status(State(admin): State<Admin>) -> Json<serde_json::Value> {
    let (status, addresses) = (admin.cache().status(), admin.0.addresses.load());
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let protocol = |protocol: Protocol| match protocol {
        Protocol::Http => "http",
        Protocol::Https => "https",
        Protocol::TlsPassthrough => "tls_passthrough",
    };
    let tcp = addresses.listeners.iter().map(|(kind, address)| (*kind, address.to_string()));
    let listeners: Vec<_> = tcp
        .chain(addresses.locals.iter().cloned())
        .map(|(kind, address)| json!({ "protocol": protocol(kind), "address": address }))
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "reload": admin.0.shared.life.last_reload().as_ref().map(reload),
        "uptime_s": admin.0.started.elapsed().as_secs(),
        "ready": admin.unready().is_none(),
        "reason": admin.unready(),
        "epoch": status.position.epoch,
        "seq": status.position.seq,
        "filings": status.filings,
        "synced_at": status.synced_at.and_then(|at| jiff::Timestamp::from_second(at).ok()).map(|at| at.to_string()),
        "age_ms": u64::try_from(status.age.as_millis()).unwrap_or(u64::MAX),
        "lag_ms": status.lag_ms,
        "digest": status.digest.to_string(),
        "table_bytes": status.memory_bytes,
        "saved": admin.0.stats.saved(),
        "registry_connected": admin.0.stats.is_connected(),
        "registry_error": admin.0.stats.last_error(),
        "held": admin.0.stats.held().map(held),
        "audit": admin.0.shared.audit.as_ref().map(|audit| audit_state(audit.state())),
        "warnings": admin.0.told.warnings.shown(),
        "connections": admin.0.shared.admission.open(),
        "listeners": listeners,
        "registry": text(addresses.registry),
        "admin": text(addresses.admin),
        "demo_upstream": text(addresses.demo_upstream),
        "lookup": text(addresses.lookup),
    }))
}

/// The config in force, without its secrets.
async fn config(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(admin.0.shared.rules.load().origin.shown(&admin.0.begun))
}

async fn footers(State(admin): State<Admin>) -> Json<serde_json::Value> {
    Json(json!({ "sites": admin.0.shared.footers.summaries() }))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    host: String,
    scenario: Option<Scenario>,
    region: Option<Region>,
}

async fn verdict(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Json<VerdictAnswer> {
    Json(answer_for(&admin, &asked))
}

fn answer_for(admin: &Admin, asked: &Asked) -> VerdictAnswer {
    let Ok(host) = HostForm::from_user(&asked.host) else {
        return VerdictAnswer::malformed(&asked.host, "gate");
    };
    let rules = admin.0.shared.rules.load();
    let site = judge::site(&rules, &host);
    let question = Question {
        host: &host,
        scenario: asked.scenario.or(site.and_then(|it| it.scenario)).unwrap_or(rules.default_scenario),
        region: asked.region.or(site.and_then(|it| it.region)).unwrap_or(rules.default_region),
        origin_here: site.is_some_and(|it| it.target.origin_here),
        today: crate::verdict::day(jiff::Timestamp::now()),
    };
    let decision = crate::verdict::decide(&question, &rules.policy, &admin.cache().at(Instant::now()));
    VerdictAnswer::new(&asked.host, &question, &decision, "gate", admin.cache().synced_at())
}

/// The last reload as `/v1/status` shows it.
fn reload(reload: &Reload) -> serde_json::Value {
    json!({
        "at": jiff::Timestamp::try_from(reload.at).ok().map(|at| at.to_string()),
        "is_in_force": reload.error.is_none(),
        "error": reload.error,
    })
}

/// The audit log as `/v1/status` shows it: its last line is worth noting elsewhere (`audit verify --head`).
fn audit_state(state: &AuditState) -> serde_json::Value {
    let head = state.head();
    json!({
        "seq": head.map(|head| head.seq),
        "head": head.map(|head| head.hash.to_string()),
        "error": state.error(),
    })
}

/// A held update as `/v1/status` shows it.
fn held(held: HeldUpdate) -> serde_json::Value {
    json!({
        "state": if held.is_refused { "refused" } else { "waiting" },
        "newly_blocked": held.effect.newly_blocked,
        "of": held.effect.of,
        "changes": held.changes,
        "enforced_ahead": held.ahead,
        "epoch": held.position.map(|position| position.epoch),
        "seq": held.position.map(|position| position.seq),
        "since": jiff::Timestamp::try_from(held.since).ok().map(|at| at.to_string()),
    })
}

async fn apply_held(State(admin): State<Admin>) -> Response {
    say(&admin, Word::Apply, "to be applied\n")
}

async fn refuse_held(State(admin): State<Admin>) -> Response {
    say(&admin, Word::Refuse, "refused\n")
}

fn say(admin: &Admin, word: Word, answer: &'static str) -> Response {
    if admin.0.stats.say(word) {
        (StatusCode::ACCEPTED, answer).into_response()
    } else {
        problem(StatusCode::CONFLICT, "no update is held")
    }
}

async fn released() -> Response {
    problem(StatusCode::GONE, "this is `POST /v1/held/apply` now; the other word is `POST /v1/held/refuse`")
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({ "type": "about:blank", "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
