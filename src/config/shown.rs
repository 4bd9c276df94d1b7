//! The config in force as it may be shown: what the file says, the defaults of what it leaves out, and no secret.
//!
//! Written as a config would be: what is shown, parsed again, is the same config (but for what is hidden).

use super::secrets::{is_secret_name, normal};
use super::{Algorithm, Config, ConfigSource, DEFAULT_MIN_LENGTH, DEFAULT_STREAMS, DEFAULT_TYPES, Levels};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::SystemTime;

/// What stands for a secret.
pub const HIDDEN: &str = "(hidden)";
/// A word in the name of a header field that is set or added and holds a secret.
const SECRET_FIELD: &str = "cookie";
/// Sections whose URLs are secrets themselves: whoever knows one may write there.
const SECRET_URLS: [&str; 2] = ["webhook", "alert"];
/// What a reload leaves as it was when the process began.
const UNTIL_RESTART: [&str; 11] = [
    "workers",
    "registry",
    "cache",
    "syslog",
    "otlp",
    "audit",
    "webhook",
    "webhooks",
    "admin",
    "lookup",
    "development",
];

/// Where a config came from, and what it said.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Where it was read.
    pub source: ConfigSource,
    /// SHA-256 of its text, in hexadecimal.
    pub digest: String,
    /// Since when it is in force.
    pub since: SystemTime,
    provider: String,
    text: Arc<str>,
}

impl Origin {
    /// Of a config that comes into force now.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self {
            source: config.source.clone(),
            digest: config.digest.clone(),
            since: SystemTime::now(),
            provider: config.provider.clone(),
            text: Arc::clone(&config.text),
        }
    }

    /// All there is to say of it; of what a reload does not change, that is what the process began with.
    #[must_use]
    pub fn shown(&self, begun: &Self) -> Value {
        let (mut now, mut then) = (self.config(), begun.config());
        let mut waiting = Vec::new();
        for key in UNTIL_RESTART {
            let (new, old) = (now.get(key), then.remove(key));
            if new == old.as_ref() {
                continue;
            }
            waiting.push(key);
            match old {
                Some(old) => now.insert(key.to_owned(), old),
                None => now.remove(key),
            };
        }
        json!({
            "source": self.source.to_string(),
            "sha256": self.digest,
            "since": jiff::Timestamp::try_from(self.since).ok().map(|at| at.to_string()),
            "waiting_for_a_restart": waiting,
            "config": now,
        })
    }

    /// The config alone.
    #[must_use]
    pub fn config(&self) -> Map<String, Value> {
        let mut root = filled(&self.text, &self.provider);
        hide(&mut root, Hiding::default());
        root
    }
}

/// What the text says and leaves out.
fn filled(text: &str, provider: &str) -> Map<String, Value> {
    // It was parsed before; an empty table is what stands for what can't be.
    let table: toml::Table = toml::from_str(text).unwrap_or_default();
    let mut root: Map<String, Value> = table.into_iter().map(|(key, value)| (key, of_toml(value))).collect();
    fill(&mut root, of_root(provider));
    for (key, defaults) in of_sections() {
        if let Some(section) = root.get_mut(key).and_then(Value::as_object_mut) {
            fill(section, defaults);
        }
    }
    if let Some(embedded) = root.get_mut("registry").and_then(|it| it.get_mut("embedded"))
        && let Some(embedded) = embedded.as_object_mut()
    {
        fill(embedded, json!({ "address": "127.0.0.1:7070", "database": "sqlite:data/registry.db" }));
    }
    if let Some(compression) = root.get_mut("compression").and_then(Value::as_object_mut) {
        fill(compression, of_compression());
    }
    for listener in tables(&mut root, "listener") {
        fill(listener, of_listener());
    }
    for site in tables(&mut root, "site") {
        of_site(site);
    }
    if let Some(site) = root.get_mut("default_site").and_then(Value::as_object_mut) {
        of_site(site);
    }
    root
}

fn of_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(is) => is.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(of_toml).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, of_toml(value))).collect(),
    }
}

/// The tables of `[[key]]`.
fn tables<'a>(
    root: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = root.get_mut(key).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Adds what is not there.
fn fill(table: &mut Map<String, Value>, defaults: Value) {
    let Value::Object(defaults) = defaults else { return };
    for (key, default) in defaults {
        match table.get_mut(&key) {
            None => {
                table.insert(key, default);
            }
            Some(Value::Object(inner)) if default.is_object() => fill(inner, default),
            Some(_) => {}
        }
    }
}

fn of_root(provider: &str) -> Value {
    json!({
        "workers": 0,
        "reload_on_change": false,
        "trace": false,
        "tls": { "directory": "certs", "min_version": "1.2" },
        "dns": { "family": "both", "min_ttl": "5s", "max_ttl": "10m", "timeout": "2s" },
        "cache": { "directory": "data", "hold_flips_above": 0.05 },
        "enforcement": {
            "mode": "enforce",
            "status": 451,
            "blocked_by": format!("urn:beian-gate:provider:{provider}"),
            "stale_after": "24h",
            "when_stale": "serve",
            "when_never_synced": "block",
            "tls_blocked": "page",
            "acme_passthrough": false,
        },
        "limits": {
            "connections": 100_000,
            "connections_per_client": 1024,
            "connections_per_second": 0,
            "client_prefix_v4": 32,
            "client_prefix_v6": 64,
            "requests_per_connection": 0,
            "requests_per_second": 0,
            "header_bytes": "32 KiB",
            "headers": 100,
            "header_timeout": "10s",
            "body_timeout": "30s",
            "idle_timeout": "75s",
            "drain_timeout": "30s",
            "min_rate": "240 B",
        },
        "log": { "access": "stdout", "format": "json" },
    })
}

/// Of sections that do something by being there.
fn of_sections() -> [(&'static str, Value); 5] {
    [
        ("admin", json!({ "address": "127.0.0.1:9090" })),
        (
            "audit",
            json!({
                "file": "data/audit.log",
                "rotate_bytes": "100 MiB",
                "rotate_after": "7d",
                "keep": 0,
                "hosts": 100_000,
            }),
        ),
        ("lookup", json!({ "per_minute": 10, "burst": 10 })),
        (
            "syslog",
            json!({ "facility": "local0", "access": true, "events": "info", "app_name": "beian-gate" }),
        ),
        ("otlp", json!({ "sample": 1.0, "service": "beian-gate", "timeout": "5s" })),
    ]
}

/// Of the section for all; a site's leaves to it what it does not say.
fn of_compression() -> Value {
    let levels = Levels::default();
    json!({
        "enabled": true,
        "types": DEFAULT_TYPES,
        "min_length": DEFAULT_MIN_LENGTH,
        "algorithms": Algorithm::ALL.map(Algorithm::as_str),
        "level": { "gzip": levels.gzip, "br": levels.brotli, "zstd": levels.zstd },
        "streams": DEFAULT_STREAMS,
    })
}

fn of_listener() -> Value {
    json!({ "protocol": "http", "scenario": "web", "region": "mainland", "proxy_protocol": "off" })
}

fn of_site(site: &mut Map<String, Value>) {
    fill(site, json!({ "origin_here": false }));
    of_target(site);
    if site.contains_key("upstreams") {
        fill(site, json!({ "timeouts": { "connect": "5s", "response": "60s", "idle": "60s" } }));
    }
    let timeouts = site.get("timeouts").cloned();
    for route in tables(site, "route") {
        of_target(route);
        if let (Some(timeouts), true) = (&timeouts, route.contains_key("upstreams")) {
            fill(route, json!({ "timeouts": timeouts }));
        }
    }
}

/// Of what goes to upstreams, a site or a route.
fn of_target(target: &mut Map<String, Value>) {
    let Some(upstreams) = target.get("upstreams") else { return };
    let urls: Vec<&str> = upstreams
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it.as_str().or_else(|| it.get("url")?.as_str()))
        .collect();
    // Before "://", or before "+unix:".
    let is_any = |scheme: &str| urls.iter().any(|url| url.starts_with(scheme));
    let (has_tls, is_tcp) = (is_any("https"), is_any("tcp"));
    fill(
        target,
        json!({
            "balance": "p2c",
            "panic_below": 0,
            "slow_start": "0s",
            "proxy_protocol": "off",
            "ejection": { "failures": 5, "server_errors": 0, "time": "10s", "max_time": "5m" },
            "retries": { "most": 2, "budget": 0.2, "per_second": 10 },
        }),
    );
    if !is_tcp {
        fill(target, json!({ "keep": { "idle": 128, "idle_timeout": "50s" } }));
    }
    if has_tls {
        fill(target, json!({ "tls": { "verify": true, "alpn": ["http/1.1"] } }));
    }
    if let Some(breaker) = target.get_mut("breaker").and_then(Value::as_object_mut) {
        fill(breaker, json!({ "pending": 1024, "pending_timeout": "1s" }));
    }
    if let Some(health) = target.get_mut("health").and_then(Value::as_object_mut) {
        fill(health, json!({ "type": if is_tcp { "tcp" } else { "http" }, "healthy": 2, "unhealthy": 3 }));
        if health.get("type").is_some_and(|kind| kind == "http") {
            fill(health, json!({ "path": "/", "status": "200-399" }));
        }
    }
}

/// What is secret where.
#[derive(Debug, Clone, Copy, Default)]
struct Hiding {
    /// URLs are.
    urls: bool,
    /// Keys are names of header fields.
    fields: bool,
}

/// Hides secrets, however deep they stand.
fn hide(table: &mut Map<String, Value>, within: Hiding) {
    for (key, value) in table {
        let name = normal(key);
        let is_path = ["-file", "-keys", "-directory"].iter().any(|end| name.ends_with(end));
        let is_secret = is_secret_name(&name) || (within.fields && name.contains(SECRET_FIELD));
        if is_secret && !is_path {
            hide_all(value);
            continue;
        }
        let urls = within.urls || SECRET_URLS.iter().any(|word| name.contains(word));
        hide_value(value, Hiding { urls, fields: matches!(&*name, "set" | "add") });
    }
}

fn hide_value(value: &mut Value, within: Hiding) {
    match value {
        Value::String(text) => hide_url(text, within.urls),
        Value::Array(items) => items.iter_mut().for_each(|item| hide_value(item, within)),
        Value::Object(table) => hide(table, within),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Hides what a secret's key holds.
fn hide_all(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide_all),
        Value::Object(table) => table.values_mut().for_each(hide_all),
        other => *other = HIDDEN.into(),
    }
}

/// Takes out of a URL what whoever reads it could use: a password, and the parameters that may hold one. The name of a
/// database's user is none; a user of HTTP without a password is one himself.
fn hide_url(text: &mut String, all: bool) {
    let Some((scheme, rest)) = text.split_once("://") else { return };
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let is_http = scheme.starts_with("http");
    let shown = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{HIDDEN}@{host}"),
            None if is_http => format!("{HIDDEN}@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    let path = match path.split_once('?') {
        _ if all && path.len() > 1 => format!("/{HIDDEN}"),
        Some((path, query)) if is_http || is_secret_name(&normal(query)) => format!("{path}?{HIDDEN}"),
        _ => path.to_owned(),
    };
    *text = format!("{scheme}://{shown}{path}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As TOML, tables inline.
    fn toml(value: &Value) -> String {
        match value {
            Value::Object(table) => {
                let pairs: Vec<_> =
                    table.iter().map(|(key, value)| format!("{key:?} = {}", toml(value))).collect();
                format!("{{ {} }}", pairs.join(", "))
            }
            Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
            other => other.to_string(),
        }
    }

    /// A config without what tells its text from another.
    fn bare(text: &str) -> String {
        let config = Config::parse(text, "f.toml").unwrap_or_else(|error| panic!("{error}\n{text}"));
        // Sites inherit key by key; what it comes to is what counts.
        let compression = crate::config::Compression::new(None, config.compression.as_ref());
        let bare = Config { digest: String::new(), text: "".into(), compression: None, ..config };
        format!("{bare:#?}{compression:#?}")
    }

    /// What is shown is the config that it is shown of: no default is another one than the parser's.
    #[test]
    fn what_is_shown_is_the_same_config() {
        let page = include_str!("../../docs/configuration.md");
        let mut examples: Vec<&str> =
            page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(examples.len() > 20);
        examples.push("");
        // What an example names has to be there.
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "0123456789abcdef").unwrap();
        for text in examples {
            let text = &text.replace("config/webhook.secret", secret.path().to_str().unwrap());
            let provider = Config::parse(text, "f.toml").unwrap().provider;
            let root = filled(text, &provider);
            let again: String =
                root.iter().map(|(key, value)| format!("{key} = {}\n", toml(value))).collect();
            assert_eq!(bare(text), bare(&again), "{text}\n{again}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let text = r#"
            provider = "p"
            [registry.embedded]
            database = "postgres://me:hunter2@db/filings?password=hunter2"
            token_file = "config/registry.token"
            [[site]]
            hosts = ["a.cn"]
            upstreams = ["http://10.0.0.1:80"]
            sticky = { cookie = "route" }
            [site.request_headers]
            set = { Authorization = "Bearer hunter2", Cookie = "a=hunter2", x-env = "prod", x_api-key = "hunter2" }
            add = { x-token = ["hunter2", "hunter2"] }
            [otlp]
            endpoint = "https://hunter2@collector.example/v1/traces?key=hunter2"
            [webhook]
            url = "https://hooks.example/services/hunter2"
            secret = "hunter2"
        "#;
        let origin = Origin {
            source: ConfigSource::BuiltIn,
            digest: String::new(),
            since: SystemTime::UNIX_EPOCH,
            provider: "p".into(),
            text: text.into(),
        };
        let shown = origin.shown(&origin);
        let all = shown.to_string();
        assert!(!all.contains("hunter2"), "{all}");
        let config = &shown["config"];
        assert_eq!(config["registry"]["embedded"]["database"], "postgres://me:(hidden)@db/filings?(hidden)");
        assert_eq!(config["registry"]["embedded"]["token_file"], "config/registry.token");
        assert_eq!(config["site"][0]["request_headers"]["set"]["x-env"], "prod");
        assert_eq!(config["site"][0]["upstreams"][0], "http://10.0.0.1:80");
        assert_eq!(config["site"][0]["sticky"]["cookie"], "route");
        let endpoint = "https://(hidden)@collector.example/v1/traces?(hidden)";
        assert_eq!(config["otlp"]["endpoint"], endpoint);
        assert_eq!(config["webhook"]["url"], "https://hooks.example/(hidden)");
        assert_eq!(shown["since"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_waits_for_a_restart_is_said() {
        let origin = |text: &str| Origin::new(&Config::parse(text, "f.toml").unwrap());
        let shown = origin("workers = 3\ntrace = true\n").shown(&origin("workers = 2\n[admin]\n"));
        assert_eq!(shown["waiting_for_a_restart"], json!(["workers", "admin"]));
        assert_eq!((&shown["config"]["workers"], &shown["config"]["trace"]), (&json!(2), &json!(true)));
        assert_eq!(shown["config"]["admin"]["address"], "127.0.0.1:9090");
    }
}
