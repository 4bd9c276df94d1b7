//! The registry as its callers meet it: a real database, real HTTP over loopback.

#![allow(clippy::duplicate_mod, reason = "the same tests run on every database")]

mod on_postgres;
mod on_sqlite;
#[path = "../../tests/it/world/postgres.rs"]
#[allow(unreachable_pub, dead_code, reason = "the same server as for tests of the whole product")]
mod server;

use super::{
    Event, Format, ImportError, Imported, Options, RefusedRow, Registry, Source, Terms, Wanting, import,
    running_at,
};
use crate::config::Database;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use tokio::sync::{mpsc, watch};

/// Which database a test runs on.
trait Kind: Sized {
    /// How often a property is tried: each file has a database of its own.
    const CASES: u32;
    /// A place for a new one.
    fn home() -> Home;
}

/// A database, and a directory for files.
struct Home {
    directory: tempfile::TempDir,
    database: Database,
}

impl Home {
    fn files(&self) -> PathBuf {
        self.directory.path().join("new")
    }
}

struct Sqlite;

impl Kind for Sqlite {
    const CASES: u32 = 48;

    fn home() -> Home {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(directory.path().join("new/registry.db"));
        Home { directory, database }
    }
}

struct Postgres;

impl Kind for Postgres {
    const CASES: u32 = 12;

    /// In a server that all tests share; where there is none, one of SQLite.
    fn home() -> Home {
        static SERVER: LazyLock<Option<server::Postgres>> = LazyLock::new(server::Postgres::start);
        let Some(server) = &*SERVER else { return Sqlite::home() };
        let directory = tempfile::tempdir().unwrap();
        let files = directory.path().join("new/registry.db.feed");
        let text = format!(
            "[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = {:?}\ndirectory = {files:?}\n",
            server.database()
        );
        let config = crate::config::Config::parse(&text, "test").unwrap();
        Home { directory, database: config.require_embedded_registry().unwrap().database.clone() }
    }
}

/// A registry that serves, and a client of it.
struct World<K> {
    home: Home,
    kind: PhantomData<K>,
    registry: Registry,
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    client: reqwest::Client,
    token: Option<&'static str>,
}

const HERE: &str = "example-cloud";
const ELSEWHERE: &str = "other-cloud";

impl<K: Kind> World<K> {
    const CASES: u32 = K::CASES;

    fn home() -> Home {
        K::home()
    }

    async fn start() -> Self {
        Self::start_in(Self::home(), None).await
    }

    async fn start_in(home: Home, token: Option<&'static str>) -> Self {
        let options = Options { token: token.map(Into::into), ..Options::default() };
        Self { token, ..Self::start_with(home, options).await }
    }

    async fn start_with(home: Home, options: Options) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::open(&home.database, Some(address)).await.unwrap();
        let (shutdown, stopped) = watch::channel(false);
        let options = Options { provider: HERE.to_owned(), ..options };
        let server = tokio::spawn({
            let registry = registry.clone();
            async move { registry.serve(listener, options, stopped).await }
        });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { home, kind: PhantomData, registry, address, shutdown, server, client, token: None }
    }

    async fn restart(self) -> Self {
        let Self { home, registry, shutdown, server, client, token, .. } = self;
        drop(client);
        shutdown.send_replace(true);
        server.await.unwrap().unwrap();
        drop(registry);
        Self::start_in(home, token).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        match self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> (StatusCode, Value) {
        let answered = answer(self.request(method.clone(), path).body(body).send().await.unwrap()).await;
        documented(&method, path, answered.0);
        answered
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, "").await
    }

    async fn put(&self, domain: &str, body: &Value) -> (StatusCode, Value) {
        self.send(Method::PUT, &format!("/v1/filings/{domain}"), body.to_string()).await
    }

    async fn put_ok(&self, domain: &str, body: &Value) -> Value {
        let (status, answer) = self.put(domain, body).await;
        assert!(status.is_success(), "{domain}: {status} {answer}");
        answer
    }

    async fn delete(&self, domain: &str, query: &str) -> StatusCode {
        self.send(Method::DELETE, &format!("/v1/filings/{domain}{query}"), "").await.0
    }

    async fn status(&self, domain: &str) -> String {
        let (code, answer) = self.get(&format!("/v1/filings/{domain}?provider={HERE}")).await;
        let status = answer["status"].as_str().map(str::to_owned);
        if code == StatusCode::OK { status.unwrap() } else { "unfiled".to_owned() }
    }

    async fn change_count(&self) -> i64 {
        self.registry.store.change_count().await
    }
}

/// No route gives a status that `/openapi.json` does not say.
#[track_caller]
fn documented(method: &Method, path: &str, status: StatusCode) {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(super::openapi::DOCUMENT).unwrap());
    let path = path.split('?').next().unwrap_or_default();
    let is_of = |template: &&String| {
        let is_same = path.split('/').zip(template.split('/')).all(|(a, b)| b.starts_with('{') || a == b);
        is_same && path.split('/').count() == template.split('/').count()
    };
    let Some(template) = DOCUMENT["paths"].as_object().unwrap().keys().find(is_of) else { return };
    let operation = &DOCUMENT["paths"][template][method.as_str().to_ascii_lowercase()];
    let said = &operation["responses"][status.as_str()];
    assert!(operation.is_null() || !said.is_null(), "{method} {template} gives {status}, which is not said");
}

/// Drives an import to its end, with the rows that it refuses.
async fn heard<F: Future<Output = Result<Imported, ImportError>>>(
    work: impl FnOnce(mpsc::Sender<Event>) -> F,
) -> (Result<Imported, ImportError>, Vec<RefusedRow>) {
    let (sender, mut events) = mpsc::channel(1);
    let hear = async {
        let mut refused = Vec::new();
        while let Some(event) = events.recv().await {
            if let Event::Refused(row) = event {
                refused.push(row);
            }
        }
        refused
    };
    tokio::join!(work(sender), hear)
}

fn source(text: &str, format: Format) -> Source {
    Source::of(std::io::Cursor::new(text.to_owned()), format)
}

const JOINING: Terms = Terms { is_whole: false, is_strict: false, is_dry_run: false };
const STRICT: Terms = Terms { is_strict: true, ..JOINING };

async fn take(registry: &Registry, text: &str, format: Format, is_whole: bool) -> Imported {
    let terms = Terms { is_whole, ..STRICT };
    let (imported, refused) = heard(|events| import(registry, source(text, format), terms, events)).await;
    imported.unwrap_or_else(|error| panic!("{error}: {refused:?}"))
}

async fn answer(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let is_problem =
        response.headers().get("content-type").is_some_and(|it| it == "application/problem+json");
    assert_eq!(is_problem, status.is_client_error() || status.is_server_error());
    let text = response.text().await.unwrap();
    let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if is_problem {
        assert_eq!(answer["request_id"], id);
    }
    (status, answer)
}

fn number(subject: u32, site: u32) -> String {
    format!("京ICP备{subject:08}号-{site}")
}

fn filed(subject: u32, access: &[(&str, &str)]) -> Value {
    let access: serde_json::Map<_, _> =
        access.iter().map(|(provider, state)| ((*provider).to_owned(), json!(state))).collect();
    json!({ "number": number(subject, 1), "access": access })
}

fn connected(subject: u32) -> Value {
    filed(subject, &[(HERE, "active")])
}
