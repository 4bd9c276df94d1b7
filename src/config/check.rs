//! What `config check` looks at beyond the text: files, certificates, names, directories.
//!
//! Finds and reports; changes nothing, binds nothing, and leaves printing to the caller.

mod doors;
mod trust;

use super::certificates::{self, Pair};
use super::{AccessLog, Config, Database, Protocol, Registry, Upstream};
use crate::verdict::Policy;
use jiff::Timestamp;
use jiff::civil::Date;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// An end of validity nearer than this is worth a word.
const SOON_DAYS: i64 = 30;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It runs, but someone should look.
    Warning,
    /// It would not run, or not do what the config says.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// The key that it is about.
    pub place: &'static str,
    /// What was found, and where that is not well, what would be.
    pub message: String,
}

fn finding(level: Level, place: &'static str, message: String) -> Finding {
    Finding { level, place, message }
}

/// What the names of upstreams stand for, or why that can't be told.
pub type Resolved = HashMap<String, Result<Vec<IpAddr>, String>>;

/// Looks at everything that `run` would rely on.
pub fn findings(config: &Config, now: Timestamp, today: Date, resolved: &Resolved) -> Vec<Finding> {
    let mut findings = certificates(config, now);
    findings.extend(trust::trust(config, now));
    findings.extend(upstreams(config, resolved));
    findings.extend(registry(config));
    findings.extend(calendar(config, today));
    findings.extend(directories(config));
    findings.extend(block_page(config));
    findings.extend(site_pages(config));
    findings.extend(lists(config, today));
    findings.extend(doors::doors(config, now));
    findings
}

fn certificates(config: &Config, now: Timestamp) -> Vec<Finding> {
    let is_https = config.listeners.iter().any(|listener| listener.protocol == Protocol::Https);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let (pairs, errors) = certificates::pairs(&config.tls);
    let mut findings: Vec<Finding> =
        errors.iter().map(|error| finding(Level::Error, "tls", error.to_string())).collect();
    findings.extend(pairs.iter().map(|pair| certificate(pair, &provider, now)));
    let will_make = config.development.as_ref().filter(|development| !development.certificates.is_empty());
    if let Some(development) = will_make {
        let names = development.certificates.join(", ");
        findings.push(finding(
            Level::Ok,
            "development.certificates",
            format!("made at start where missing: {names}"),
        ));
    } else if is_https && pairs.is_empty() && errors.is_empty() {
        let message = format!(
            "an https listener needs a certificate; put NAME.crt and NAME.key into {}",
            config.tls.directory.display()
        );
        findings.push(finding(Level::Error, "tls", message));
    }
    if let Some(wanted) = &config.tls.default_certificate
        && !pairs.iter().any(|pair| pair.name == *wanted)
        && !(will_make.is_some() && wanted == "development")
    {
        let names: Vec<_> = pairs.iter().map(|pair| pair.name.as_str()).collect();
        let message = format!("there is no pair named {wanted:?}; there are: {}", names.join(", "));
        findings.push(finding(Level::Error, "tls.default_certificate", message));
    }
    findings
}

fn certificate(pair: &Pair, provider: &rustls::crypto::CryptoProvider, now: Timestamp) -> Finding {
    let loaded = match pair.load(provider) {
        Ok(loaded) => loaded,
        Err(error) => return finding(Level::Error, "tls", error.to_string()),
    };
    let until = Timestamp::from_second(loaded.not_after)
        .map_or_else(|_| "for ever".to_owned(), |end| end.to_string());
    let days_left = (loaded.not_after - now.as_second()).div_euclid(86_400);
    let (level, remark) = match days_left {
        ..0 => (Level::Error, "has expired; renew it"),
        0..SOON_DAYS => (Level::Warning, "expires soon; renew it"),
        _ if loaded.names.is_empty() && loaded.addresses.is_empty() => {
            (Level::Warning, "names no host (subject alternative names), so no client will be shown it")
        }
        _ => (Level::Ok, "is good"),
    };
    let addresses = loaded.addresses.iter().map(ToString::to_string);
    let names: Vec<String> = loaded.names.iter().cloned().chain(addresses).collect();
    finding(
        level,
        "tls",
        format!("{} {remark}; for {}; until {until}", pair.cert.display(), names.join(", ")),
    )
}

fn upstreams(config: &Config, resolved: &Resolved) -> Vec<Finding> {
    // Each once, however many sites share it.
    let mut places: BTreeMap<(&str, u16), (&'static str, &Upstream)> = BTreeMap::new();
    for (upstream, place) in config.upstreams() {
        places.entry((&upstream.host, upstream.port)).or_insert((place, upstream));
    }
    places.into_values().map(|(place, upstream)| found(place, upstream, resolved)).collect()
}

fn found(place: &'static str, upstream: &Upstream, resolved: &Resolved) -> Finding {
    match resolved.get(&upstream.host) {
        None => finding(Level::Ok, place, format!("{upstream} is {}", upstream.host)),
        Some(Ok(addresses)) => {
            let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            finding(Level::Ok, place, format!("{upstream} is {}", list.join(", ")))
        }
        Some(Err(reason)) => {
            finding(Level::Error, place, format!("{upstream}: the name does not resolve: {reason}"))
        }
    }
}

fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect();
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

fn registry(config: &Config) -> Vec<Finding> {
    match &config.registry {
        Some(Registry::Remote { urls, trust, .. }) => {
            let mut findings: Vec<_> = urls.iter().map(|url| remote(url)).collect();
            findings.extend(trust.ca_file.as_deref().map(authorities));
            findings
        }
        Some(Registry::Embedded(embedded)) => match (&embedded.sample, embedded.sample_text) {
            (Some(path), None) if !path.is_file() => vec![finding(
                Level::Error,
                "registry.embedded.sample",
                format!("{} is no file; name one or leave the key out", path.display()),
            )],
            _ => Vec::new(),
        },
        None => Vec::new(),
    }
}

/// Clocks of orders go wrong by days in a year of which no holiday is known: said before that year begins.
fn calendar(config: &Config, today: Date) -> Option<Finding> {
    let Some(Registry::Embedded(embedded)) = &config.registry else { return None };
    let missing = embedded.rules.calendar.first_missing(today);
    let is_soon = embedded.rules.calendar.missing_soon(today).is_some();
    let level = if is_soon { Level::Warning } else { Level::Ok };
    let message = format!(
        "the working calendar has no {missing}: what is due then counts weekends alone; add [{missing}] to a copy of \
         config/working-days.toml once the State Council has published it"
    );
    Some(finding(level, "registry.embedded.working_days", message))
}

/// The registry may be away when a gate starts, so this warns only.
fn remote(url: &str) -> Finding {
    let uri: http::Uri = url.parse().unwrap_or_default();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_clear = uri.scheme_str() == Some("http");
    match addresses(host, uri.port_u16().unwrap_or(if is_clear { 80 } else { 443 })) {
        Err(reason) => finding(Level::Warning, "registry.url", format!("{host} does not resolve: {reason}")),
        Ok(addresses) if is_clear && !addresses.iter().all(|address| address.ip().is_loopback()) => finding(
            Level::Warning,
            "registry.url",
            format!("{url} is not encrypted, so filings can be forged on the way"),
        ),
        Ok(_) => finding(Level::Ok, "registry.url", format!("{url} resolves")),
    }
}

fn authorities(path: &Path) -> Finding {
    match certificates::read_chain(path) {
        Ok(chain) => finding(
            Level::Ok,
            "registry.ca_file",
            format!("{} has {} authorities", path.display(), chain.len()),
        ),
        Err(error) => finding(Level::Error, "registry.ca_file", error.to_string()),
    }
}

fn directories(config: &Config) -> Vec<Finding> {
    let mut wanted: Vec<(&'static str, PathBuf)> = vec![("cache.directory", config.cache.directory.clone())];
    if let Some(Registry::Embedded(embedded)) = &config.registry {
        match &embedded.database {
            Database::Sqlite(path) => wanted.push(("registry.embedded.database", parent(path))),
            Database::Postgres { directory, .. } => {
                wanted.push(("registry.embedded.directory", parent(directory)));
            }
        }
    }
    if let AccessLog::File(path) = &config.log.access {
        wanted.push(("log.access", parent(path)));
    }
    if config.development.as_ref().is_some_and(|development| !development.certificates.is_empty()) {
        wanted.push(("tls.directory", config.tls.directory.clone()));
    }
    wanted.into_iter().map(|(place, directory)| writable(place, &directory)).collect()
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Whether files can be made in `directory`, or it can be made itself.
fn writable(place: &'static str, directory: &Path) -> Finding {
    let existing =
        directory.ancestors().find(|ancestor| ancestor.exists()).filter(|path| !path.as_os_str().is_empty());
    let existing = existing.unwrap_or_else(|| Path::new("."));
    if !existing.is_dir() {
        return finding(Level::Error, place, format!("{} is no directory", existing.display()));
    }
    let needed = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    match rustix::fs::access(existing, needed) {
        Ok(()) if existing == directory => {
            finding(Level::Ok, place, format!("{} is writable", directory.display()))
        }
        Ok(()) => finding(Level::Ok, place, format!("{} can be made", directory.display())),
        Err(error) => {
            finding(Level::Error, place, format!("{} can't be written to: {error}", existing.display()))
        }
    }
}

fn block_page(config: &Config) -> Option<Finding> {
    let directory = config.block_page.directory.as_deref()?;
    Some(match config.block_page.pages() {
        Ok(_) => finding(
            Level::Ok,
            "block_page.directory",
            format!("the templates of {} are good", directory.display()),
        ),
        Err(error) => finding(Level::Error, "block_page.directory", error.to_string()),
    })
}

fn site_pages(config: &Config) -> impl Iterator<Item = Finding> {
    let own = config.sites.iter().filter_map(|site| site.target.block_page.as_ref());
    let bad = own.filter_map(|own| own.clone().over(&config.block_page).pages().err());
    bad.map(|error| finding(Level::Error, "site.block_page.directory", error.to_string()))
}

fn lists(config: &Config, today: Date) -> Vec<Finding> {
    let parts = &config.enforcement.policy;
    let policy = Policy::new(parts.clone());
    let expired = policy.expired(today).map(|entry| {
        let until = entry.until.map(|until| until.to_string()).unwrap_or_default();
        finding(
            Level::Warning,
            "enforcement",
            format!("{} ended with {until}; drop or renew it", entry.pattern),
        )
    });
    let mut findings: Vec<_> = expired.collect();
    let lists =
        [("enforcement.exceptions", &parts.exceptions), ("enforcement.block_list", &parts.block_list)];
    for (place, entries) in lists {
        let bare = entries.iter().filter(|entry| entry.reason.is_empty() || entry.owner.is_empty());
        findings.extend(bare.map(|entry| {
            let message = format!(
                "{} has no reason or owner; say why it is there and who answers for it",
                entry.pattern
            );
            finding(Level::Warning, place, message)
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<Finding> {
        let config = Config::parse(text, "f.toml").unwrap();
        let unknown = |name: String| (name, Err("nobody knows it".to_owned()));
        let resolved = config.upstream_names().into_iter().map(unknown).collect();
        findings(&config, Timestamp::now(), jiff::civil::date(2026, 6, 1), &resolved)
    }

    /// A pair named `own` for a.example.com.
    fn make(directory: &Path) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        std::fs::write(directory.join("own.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(directory.join("own.key"), key.serialize_pem()).unwrap();
    }

    #[track_caller]
    fn has(findings: &[Finding], level: Level, place: &str, part: &str) {
        let is_it = |it: &Finding| it.level == level && it.place == place && it.message.contains(part);
        assert!(findings.iter().any(is_it), "{level:?} {place} {part}: {findings:#?}");
    }

    #[test]
    fn certificates_are_read() {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n[tls]\ndirectory = \"{}\"\ndefault_certificate = \"x\"\n",
            directory.path().display()
        );
        let findings = found(&text);
        has(&findings, Level::Ok, "tls", "own.crt is good; for a.example.com; until 2");
        has(&findings, Level::Error, "tls.default_certificate", "no pair named \"x\"; there are: own");

        let key = directory.path().join("own.key");
        std::fs::write(&key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        has(&found(&text), Level::Error, "tls", "this is not the key of ");
        std::fs::write(&key, "nothing").unwrap();
        has(&found(&text), Level::Error, "tls", "this is no private key in PEM");
        std::fs::remove_file(&key).unwrap();
        has(&found(&text), Level::Error, "tls", "own.key beside it");
        std::fs::remove_file(directory.path().join("own.crt")).unwrap();
        has(&found(&text), Level::Error, "tls", "an https listener needs a certificate");
    }

    #[test]
    fn ends_of_validity_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        make(directory.path());
        let pair = Pair {
            name: "own".to_owned(),
            cert: directory.path().join("own.crt"),
            key: directory.path().join("own.key"),
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let end = pair.load(&provider).unwrap().not_after;
        for (days, level) in [(-1, Level::Error), (1, Level::Warning), (40, Level::Ok)] {
            let now = Timestamp::from_second(end - days * 86_400).unwrap();
            assert_eq!(certificate(&pair, &provider, now).level, level, "{days}");
        }
    }

    #[test]
    fn names_files_and_lists() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let file = file.display();
        let findings = found(&format!(
            "[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [\"http://127.0.0.1:1\", \"http://no-such-host.invalid\"]\n\
             [registry.embedded]\nsample = \"no/such.csv\"\n[cache]\ndirectory = \"{file}/x\"\n[log]\naccess = \"access.log\"\n\
             [block_page]\ndirectory = \"config/block-page\"\n\
             [enforcement]\nexceptions = [{{ host = \"b.example.com\", until = \"2026-05-31\", reason = \"r\", owner = \"o\" }}, {{ host = \"c.example.com\" }}]\n"
        ));
        has(&findings, Level::Ok, "site.upstreams", "http://127.0.0.1:1 is 127.0.0.1");
        has(
            &findings,
            Level::Error,
            "site.upstreams",
            "http://no-such-host.invalid:80: the name does not resolve",
        );
        has(&findings, Level::Error, "registry.embedded.sample", "no/such.csv is no file");
        has(&findings, Level::Error, "cache.directory", "is no directory");
        has(&findings, Level::Ok, "log.access", ". is writable");
        has(&findings, Level::Ok, "block_page.directory", "are good");
        has(&findings, Level::Warning, "enforcement", "b.example.com ended with 2026-05-31");
        has(&findings, Level::Warning, "enforcement.exceptions", "c.example.com has no reason or owner");
    }

    #[test]
    fn registries_elsewhere() {
        let findings = found("[registry]\nurl = \"http://192.0.2.1\"\nca_file = \"no/such.pem\"\n");
        has(&findings, Level::Warning, "registry.url", "is not encrypted");
        has(&findings, Level::Error, "registry.ca_file", "no/such.pem: ");
    }

    #[test]
    fn the_first_year_without_holidays_is_named_before_it_begins() {
        let text = "[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:x.db\"\n";
        let config = Config::parse(text, "test").unwrap();
        for (month, level) in [(6, Level::Ok), (11, Level::Warning)] {
            let finding = calendar(&config, jiff::civil::date(2026, month, 26)).unwrap();
            assert_eq!(finding.level, level, "{month}");
            assert!(finding.message.contains("[2027]"), "{}", finding.message);
        }
    }
}
