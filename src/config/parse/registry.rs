//! `[registry]`: the registry that the gate follows, or the one that runs in this process.

use super::api::{api_tls, refuse_open};
use super::{listen_address, optional, token, tokens};
use crate::config::raw::{Section, Value};
use crate::config::registry::PostgresUrl;
use crate::config::{Database, EmbeddedRegistry, FilingLimits, FilingRules, Registry, Trust, WorkingDays};
use std::path::PathBuf;
use std::sync::Arc;

/// The registry, and what this gate is called towards it.
pub(super) fn registry(mut section: Section<'_>) -> (Option<Registry>, Option<String>) {
    let gate = section.value("gate").and_then(|value| value.parse(gate_name));
    let url = section.value("url");
    let token_file = section.value("token_file");
    let trust = trust(&mut section);
    let embedded = section.section("embedded");
    let registry = match (&url, embedded) {
        (Some(url), None) => base_urls(url).map(|urls| Registry::Remote {
            urls,
            token: token_file.as_ref().and_then(token),
            trust,
        }),
        (None, Some(embedded)) => embedded_registry(embedded, token_file).map(Registry::Embedded),
        (Some(url), Some(embedded)) => {
            url.refuse_key(
                "follow a registry (url) or run one ([registry.embedded]), not both; leave one out",
            );
            let _ = embedded_registry(embedded, token_file);
            None
        }
        (None, None) => {
            section.refuse(
                "name the registry to follow, url = \"https://registry.example:7443\", \
                 or run one in this process with [registry.embedded]",
            );
            None
        }
    };
    section.finish();
    (registry, gate)
}

/// Whom to believe as the registry, and what to show it.
fn trust(section: &mut Section<'_>) -> Trust {
    let ca_file = optional(section, "ca_file", Value::path);
    let (cert, key) = (section.value("client_cert"), section.value("client_key"));
    if let (Some(alone), None) | (None, Some(alone)) = (&cert, &key) {
        alone.refuse_key("client_cert and client_key go together");
    }
    let shown = cert.and_then(|value| value.path()).zip(key.and_then(|value| value.path()));
    Trust { ca_file, shown, exactly: None }
}

/// As the feed takes it in acknowledgements.
fn gate_name(text: &str) -> Result<String, String> {
    let is_good = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'.');
    if (1..=64).contains(&text.len()) && text.bytes().all(is_good) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} can't name a gate; use 1 to 64 letters, digits, `-`, `_` or `.`, like \"gate-1\""))
}

/// A `token_file` of `[registry]` holds for an embedded registry too, where that has none of its own.
fn embedded_registry(mut section: Section<'_>, outer_token: Option<Value<'_>>) -> Option<EmbeddedRegistry> {
    let address = section.value("address");
    let token_file = section.value("token_file").or(outer_token);
    let database = match section.value("database") {
        Some(value) => value.parse(database),
        None => Some(Database::Sqlite(PathBuf::from("data/registry.db"))),
    };
    let directory = section.value("directory");
    let database = with_directory(database, directory.as_ref());
    let sample = optional(&mut section, "sample", Value::path);
    let listen = listen_address(address.as_ref(), "127.0.0.1:7070");
    let tokens_file = section.value("tokens_file");
    let tls = section.section("tls").map(api_tls);
    let is_guarded = token_file.is_some() || tokens_file.is_some();
    refuse_open(address.as_ref(), listen, (is_guarded, tls.as_ref()), "config/registry.token");
    let token = token_file.as_ref().and_then(token);
    let tokens = tokens_file.as_ref().map(tokens::tokens).unwrap_or_default();
    let rules = filing_rules(&mut section);
    section.finish();
    let (address, database) = (listen?, database?);
    let tls = tls.flatten();
    Some(EmbeddedRegistry { address, database, sample, sample_text: None, token, tokens, tls, rules })
}

/// What orders are held against: the built-in data, or the operator's.
fn filing_rules(section: &mut Section<'_>) -> FilingRules {
    let mut rules = FilingRules::default();
    if let Some(limits) = section.value("rules").and_then(|it| data(&it, FilingLimits::parse)) {
        rules.limits = Arc::new(limits);
    }
    if let Some(days) = section.value("working_days").and_then(|it| data(&it, WorkingDays::parse)) {
        rules.calendar = Arc::new(days);
    }
    rules
}

fn data<T>(value: &Value<'_>, parse: fn(&str) -> Result<T, String>) -> Option<T> {
    let path = value.path()?;
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    match read.and_then(|text| parse(&text)) {
        Ok(parsed) => Some(parsed),
        Err(problem) => {
            value.refuse(format!(
                "can't use {}: {problem}; leave the key out for the built-in data",
                path.display()
            ));
            None
        }
    }
}

/// One URL, or a list of those that are for one database.
fn base_urls(value: &Value<'_>) -> Option<Vec<String>> {
    if !value.is_list() {
        return Some(vec![value.parse(base_url)?]);
    }
    let urls: Vec<_> = value.items().iter().filter_map(|it| it.parse(base_url)).collect();
    if value.items().is_empty() {
        value.refuse("the list is empty; write one like [\"https://registry-1.example:7443\", \"https://registry-2.example:7443\"]");
    }
    Some(urls)
}

/// `https://registry.example:7443`, kept without a slash at its end.
fn base_url(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is not the URL of a registry; write one like \"https://registry.example:7443\"");
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if !is_http || uri.host().is_none_or(str::is_empty) || uri.query().is_some() || has_user {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Where the files are that followers are served from: beside a file, or as the config says.
fn with_directory(database: Option<Database>, directory: Option<&Value<'_>>) -> Option<Database> {
    match (database?, directory) {
        (Database::Postgres { url, .. }, Some(value)) => {
            Some(Database::Postgres { url, directory: value.path()? })
        }
        (sqlite @ Database::Sqlite(_), Some(value)) => {
            value.refuse_key(
                "it is for a postgres:// database; a sqlite: one has its files beside it, leave it out",
            );
            Some(sqlite)
        }
        (database, None) => Some(database),
    }
}

/// `sqlite:data/registry.db`, `postgres://beian@db.example/beian`
fn database(text: &str) -> Result<Database, String> {
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        return postgres(text);
    }
    let path = text.strip_prefix("sqlite:").map(|path| path.strip_prefix("//").unwrap_or(path));
    match path {
        Some(path) if !path.is_empty() && !path.contains(['?', '#']) && path != ":memory:" => {
            Ok(Database::Sqlite(PathBuf::from(path)))
        }
        _ => Err(format!(
            "{text:?} is not a database; write one like \"sqlite:data/registry.db\" or \"postgres://beian@db.example/beian\""
        )),
    }
}

fn postgres(text: &str) -> Result<Database, String> {
    let parsed: Result<sqlx::postgres::PgConnectOptions, _> = text.parse();
    // The text is not repeated: it may hold a password.
    let wrong = |why: &str| {
        format!(
            "not the URL of a PostgreSQL database ({why}); write one like \"postgres://beian@db.example/beian\", or \
             \"postgres:///beian?host=/run/postgresql\" for a Unix socket"
        )
    };
    match parsed {
        Ok(options) if options.get_database().is_none_or(str::is_empty) => Err(wrong("it names no database")),
        Ok(_) => {
            let directory = PathBuf::from("data/registry.feed");
            Ok(Database::Postgres { url: PostgresUrl(text.to_owned()), directory })
        }
        Err(error) => Err(wrong(&error.to_string())),
    }
}
