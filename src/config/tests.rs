//! Configs as people get them wrong, each with the first line of what they are told.

use super::*;
use crate::verdict::{Region, Scenario};
use std::path::Path;
use std::time::Duration;

mod door;
mod webhooks;

const REST: &str = "provider = \"p\"\n[registry.embedded]\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "f.toml")
}

/// `text` is wrong in exactly these ways.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let error = parse(text).expect_err("the config is wrong");
    let headlines: Vec<_> = error.problems().iter().map(Problem::headline).collect();
    assert_eq!(headlines, expected);
}

/// `text` is fine.
#[track_caller]
fn good(text: &str) -> Config {
    match parse(text) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_shipped_config_runs_on_loopback() {
    let config = Config::load(None).unwrap();
    assert_eq!(config.source, ConfigSource::File(DEFAULT_PATH.into()));
    config.require_gate().unwrap();
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:8080", "127.0.0.1:8443"]);
    let registry = config.require_embedded_registry().unwrap();
    assert_eq!(registry.address.to_string(), "127.0.0.1:7070");
    assert_eq!(registry.database, Database::Sqlite("data/registry.db".into()));
    assert_eq!(config.admin.unwrap().address.to_string(), "127.0.0.1:9090");
    let development = config.development.unwrap();
    assert_eq!(development.upstream.unwrap().to_string(), "127.0.0.1:8081");
    assert!(development.certificates.contains(&"xn--fsqu00a.xn--fiqs8s".to_owned()));
}

#[test]
fn what_the_shipped_config_shows_commented_out_parses_too() {
    let shipped = std::fs::read_to_string(DEFAULT_PATH).unwrap();
    let keys = shipped.lines().filter_map(|line| line.strip_prefix("# "));
    for line in keys.filter(|line| line.contains(" = ")) {
        assert!(line.parse::<toml::Table>().is_ok(), "{line}");
    }
}

#[test]
fn the_built_in_config_brings_its_sample() {
    let config = Config::shipped().unwrap();
    assert_eq!(config.source, ConfigSource::BuiltIn);
    let sample = config.require_embedded_registry().unwrap().sample_text.unwrap();
    assert!(sample.starts_with("domain,number,access"));
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = Config::load(Some(Path::new("no/such.toml"))).unwrap_err();
    assert!(error.to_string().starts_with("no/such.toml: can't read the config file: "), "{error}");
}

/// The contract's example, all of it, with real values where it has dots.
fn contract_example(directory: &Path) -> String {
    let token = directory.join("token");
    std::fs::write(&token, " s3cret\n").unwrap();
    include_str!("tests/contract.toml").replace("TOKEN", token.to_str().unwrap())
}

#[test]
fn every_key_of_the_contract_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let text = contract_example(directory.path());
    let config = good(&text);
    config.require_gate().unwrap();
    assert_eq!(config.listeners[0].health_path.as_deref(), Some("/healthz"));
    assert_eq!(config.listeners[0].trusted_peers, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(config.listeners[0].proxy_protocol, ProxyProtocol::Optional);
    assert_eq!(config.listeners[2].upstreams[0].port, 443);
    assert_eq!(config.tls.certificates, [("a.crt".into(), "a.key".into())]);
    assert_eq!(config.tls.default_certificate.as_deref(), Some("NAME"));
    let site = &config.sites[0];
    assert_eq!(
        site.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["example.com", "*.example.com"]
    );
    assert_eq!((site.scenario, site.region), (Some(Scenario::Web), Some(Region::Mainland)));
    assert!(site.target.origin_here);
    assert_eq!(site.target.mode, Some(Mode::Monitor));
    assert_eq!(site.target.timeouts.connect, Duration::from_secs(1));
    let Some(Registry::Remote { urls, token, .. }) = &config.registry else { panic!("remote") };
    assert_eq!((urls[0].as_str(), token.as_deref()), ("https://registry.example:7443", Some("s3cret")));
    assert_eq!(config.gate, None);
    let enforcement = &config.enforcement;
    assert_eq!(enforcement.blocked_by, "https://example.com/filing");
    assert_eq!(enforcement.stale_after, Duration::from_hours(24));
    let policy = &enforcement.policy;
    assert_eq!((policy.ip_filings.len(), policy.exceptions.len(), policy.block_list.len()), (1, 2, 1));
    assert_eq!(policy.exceptions[0].until, Some(jiff::civil::date(2027, 1, 1)));
    assert_eq!(policy.scenarios[0].1.mainland, Some(crate::verdict::Requirement::Number));
    assert_eq!(config.limits.header_bytes, 32 << 10);
    assert_eq!(config.log.access, AccessLog::Stdout);
    assert_eq!(config.block_page.directory.as_deref(), Some(Path::new("pages")));
    assert_eq!(config.admin.unwrap().token.as_deref(), Some("s3cret"));
}

#[test]
fn what_is_left_out_is_as_the_contract_shows() {
    let config = good(&format!("{REST}[[listener]]\naddress = \"127.0.0.1:0\"\n"));
    let listener = &config.listeners[0];
    assert_eq!((listener.protocol, listener.scenario), (Protocol::Http, Scenario::Web));
    assert_eq!((listener.region, listener.proxy_protocol), (Region::Mainland, ProxyProtocol::Off));
    assert_eq!(config.tls.directory, Path::new("certs"));
    assert_eq!(config.cache.directory, Path::new("data"));
    assert!((config.cache.hold_flips_above - 0.05).abs() < 1e-9);
    let enforcement = &config.enforcement;
    assert_eq!((enforcement.mode, enforcement.status), (Mode::Enforce, 451));
    assert_eq!(enforcement.blocked_by, "urn:beian-gate:provider:p");
    assert_eq!(enforcement.when_never_synced, WhenNeverSynced::Block);
    assert_eq!(config.limits.connections_per_client, 1024);
    assert_eq!(config.log.access, AccessLog::Stdout);
    assert!(config.admin.is_none() && config.development.is_none() && config.default_site.is_none());
}

#[test]
fn words_that_are_none() {
    check(
        &format!("{REST}[[listener]]\naddress = \"127.0.0.1:80\"\nprotocol = \"htp\"\n"),
        &[
            "f.toml:5:12: listener.protocol: \"htp\" is not a protocol; use \"http\", \"https\" or \"tls_passthrough\"",
        ],
    );
    check(
        "[enforcement]\nmode = \"on\"\nstatus = 404\n[log]\naccess = \"\"\n",
        &[
            "f.toml:2:8: enforcement.mode: \"on\" is not a mode; use \"enforce\" or \"monitor\"",
            "f.toml:3:10: enforcement.status: 404 is not a status for blocked names; use 451 or 403",
            "f.toml:5:10: log.access: a path is missing between the quotes",
        ],
    );
    check(
        "[scenario.cnd]\n[scenario.cdn]\nrequires = \"all\"\n[scenario.web]\naccess_cancelled = \"allow\"\n",
        &[
            "f.toml:1:11: scenario.cnd: \"cnd\" is not a scenario; use one of web, shop, site_builder, mail, oss, cdn, waf, ddos",
            "f.toml:3:12: scenario.cdn.requires: \"all\" is not a requirement; use \"none\", \"number\" or \"number_and_access\"",
            "f.toml:5:20: scenario.web.access_cancelled: web blocks a cancelled access always; leave the key out",
        ],
    );
}

#[test]
fn keys_that_nobody_knows() {
    check(
        "[[listener]]\nadress = \"127.0.0.1:80\"\n",
        &[
            "f.toml:1:1: listener: \"address\" is missing; write it like address = \"0.0.0.0:80\"",
            "f.toml:2:1: listener.adress: unknown key; did you mean \"address\"? known here: address, allow, alpn, \
             backlog, deny, group, health_path, ipv6_only, mode, owner, protocol, proxy_protocol, redirect_to_https, \
             region, scenario, tcp_keepalive, tcp_user_timeout, trusted_peers, upstreams",
        ],
    );
    check(
        "[cash]\n[cache]\ncolour = 1\n",
        &[
            "f.toml:1:2: cash: unknown key; did you mean \"cache\"? known here: admin, audit, block_page, cache, compression, default_site, \
             development, dns, enforcement, error_pages, footer, limits, listener, log, lookup, otlp, overload, provider, registry, \
             reload_on_change, scenario, site, syslog, tls, trace, webhook, webhooks, workers",
            "f.toml:3:1: cache.colour: unknown key; known here: directory, hold_flips_above",
        ],
    );
}

#[test]
fn values_of_the_wrong_kind() {
    check(
        "workers = \"two\"\nprovider = 7\nlistener = \"x\"\n[limits]\nidle_timeout = 10\nheaders = -1\nheader_bytes = \"1 KB\"\n",
        &[
            "f.toml:1:11: workers: this must be a whole number, not a string",
            "f.toml:2:12: provider: this must be a string in quotes, not a number",
            "f.toml:3:12: listener: this must be a list in brackets, not a string",
            "f.toml:5:16: limits.idle_timeout: a duration needs a unit, in quotes; write one like \"10s\", \"500ms\", \"30m\" or \"24h\"",
            "f.toml:6:11: limits.headers: -1 is out of range; use 1 to 10000",
            "f.toml:7:16: limits.header_bytes: \"1 KB\" is not a size; write one like \"32 KiB\", \"1 MiB\" or \"65536\"",
        ],
    );
    check(
        "[cache]\nhold_flips_above = 1.5\n[limits]\nheader_timeout = \"0s\"\ndrain_timeout = \"0s\"\n[admin]\naddress = \"localhost:9090\"\n",
        &[
            "f.toml:2:20: cache.hold_flips_above: 1.5 is out of range; use 0 to 1",
            "f.toml:4:18: limits.header_timeout: a duration of zero lets nothing through; use at least \"1ms\"",
            "f.toml:7:11: admin.address: \"localhost:9090\" is not an address with a port; write one like \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::]:443\"",
        ],
    );
    check(
        "provider = \"exa mple\"\n",
        &[
            "f.toml:1:12: provider: \"exa mple\" is not a provider id; use 1 to 64 letters, digits, \"-\", \"_\" or \".\", like \"example-cloud\"",
        ],
    );
}

#[test]
fn text_that_is_no_toml() {
    let error = parse("provider = \n[cache\n").unwrap_err();
    let first = error.problems()[0].headline();
    assert!(first.starts_with("f.toml:1:"), "{first}");
    assert!(first.contains("this is no TOML: "), "{first}");
}

#[test]
fn sites_that_go_nowhere() {
    check(
        "[[site]]\nhosts = []\nupstreams = []\n[[site]]\nhosts = [\"a.example.com:80\"]\n[default_site]\nupstreams = [\"tcp://10.0.0.1:1\"]\n",
        &[
            "f.toml:2:9: site.hosts: a site needs a host; write one like [\"example.com\", \"*.example.com\"]",
            "f.toml:3:13: site.upstreams: a site needs an upstream; write one like [\"http://10.0.0.1:8080\"]",
            "f.toml:4:1: site: \"upstreams\" is missing; write it like upstreams = [\"http://10.0.0.1:8080\"]",
            "f.toml:5:10: site.hosts: \"a.example.com:80\" has a port; write the host alone, like \"example.com\"",
            "f.toml:7:13: default_site.upstreams: the default site serves HTTP; name tcp upstreams in the tls_passthrough [[listener]]",
        ],
    );
    check(
        "[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [\"http://10.0.0.1\", \"tcp://10.0.0.1:1\", \"10.0.0.2\", \"ftp://a\", \"tcp://a\"]\n",
        &[
            "f.toml:3:33: site.upstreams: the upstreams of one site are all tcp (TLS passes through unopened) or all http, https or h2c; use one [[site]] for each",
            "f.toml:3:53: site.upstreams: \"10.0.0.2\" has no scheme; write an upstream like \"http://10.0.0.1:8080\" (http, https, h2c or tcp)",
            "f.toml:3:65: site.upstreams: \"ftp\" is not an upstream scheme; use \"http\", \"https\", \"h2c\" or \"tcp\"",
            "f.toml:3:76: site.upstreams: \"tcp://a\" needs a port, like \"tcp://10.0.0.9:443\"",
        ],
    );
}

#[test]
fn the_same_thing_twice() {
    check(
        "[[site]]\nhosts = [\"A.example.com\"]\nupstreams = [\"http://a\"]\n[[site]]\nhosts = [\"*.example.com\", \"a.example.com.\"]\nupstreams = [\"http://a\"]\n",
        &["f.toml:5:27: site.hosts: \"a.example.com\" is named already; a host belongs to one site"],
    );
    check(
        "[[listener]]\naddress = \"127.0.0.1:80\"\n[[listener]]\naddress = \"127.0.0.1:80\"\n\
         [registry.embedded]\naddress = \"127.0.0.1:9090\"\n[admin]\naddress = \"127.0.0.1:9090\"\n",
        &[
            "f.toml:4:11: listener.address: 127.0.0.1:80 is listened on already; use another port",
            "f.toml:8:11: admin.address: 127.0.0.1:9090 is the address of a registry already; use another port",
        ],
    );
    good(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n",
    );
}

#[test]
fn passthrough_and_http_do_not_mix() {
    let site =
        |upstream: &str| format!("[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [\"{upstream}\"]\n");
    let listener = |rest: &str| format!("[[listener]]\naddress = \"127.0.0.1:80\"\n{rest}\n");
    let passthrough = "protocol = \"tls_passthrough\"";
    check(
        &(listener("") + &site("tcp://a:1")),
        &[
            "f.toml:6:13: site.upstreams: tcp upstreams need a [[listener]] with protocol = \"tls_passthrough\"; for HTTP write \"http://…\"",
        ],
    );
    check(
        &(listener(&format!("{passthrough}\nupstreams = [\"tcp://a:1\"]")) + &site("http://a")),
        &[
            "f.toml:7:13: site.upstreams: a tls_passthrough listener needs tcp upstreams, like \"tcp://10.0.0.9:443\", and there is no other",
        ],
    );
    check(
        &listener(passthrough),
        &[
            "f.toml:2:11: listener.address: this tls_passthrough listener has nowhere to go; add upstreams = [\"tcp://10.0.0.9:443\"]",
        ],
    );
    check(
        &listener("upstreams = [\"tcp://a:1\"]"),
        &[
            "f.toml:3:1: listener.upstreams: only a tls_passthrough listener has upstreams; name them in a [[site]]",
        ],
    );
    check(
        &listener(&format!("{passthrough}\nupstreams = [\"http://a\"]")),
        &[
            "f.toml:4:14: listener.upstreams: a tls_passthrough listener forwards octets; write its upstream like \"tcp://10.0.0.9:443\"",
        ],
    );
    good(&(listener(passthrough) + &site("tcp://a:1")));
}

#[test]
fn lists_with_slips() {
    check(
        "[enforcement]\nip_filings = [{ address = \"a.b\", number = \"京ICP备1\" }]\nexceptions = [{ host = \"a..b\" }, { until = \"2027-01-01\" }]\n\
         block_list = [{ host = \"a.example.com\", until = \"2027-13-01\", why = \"\" }]\n",
        &[
            "f.toml:2:27: enforcement.ip_filings.address: \"a.b\" is not an address or network; write one like \"10.0.0.0/8\" or \"192.0.2.1\"",
            "f.toml:2:43: enforcement.ip_filings.number: `京ICP备1` is no filing number; one looks like 京ICP备12345678号-1",
            "f.toml:3:24: enforcement.exceptions.host: \"a..b\" is not a host: a name has no empty label: labels are parted by single dots; write one like \"example.com\" or \"*.example.com\"",
            "f.toml:3:34: enforcement.exceptions: \"host\" is missing; write it like host = \"example.com\" (or *.host, an address, a CIDR)",
            "f.toml:4:49: enforcement.block_list.until: \"2027-13-01\" is not a date; write one like \"2027-01-01\"",
            "f.toml:4:63: enforcement.block_list.why: unknown key; known here: host, owner, reason, until",
        ],
    );
    good("[enforcement]\nblock_list = [{ host = \"a.example.com\", until = 2027-01-01 }]\n");
}

#[test]
fn registries_that_can_not_be() {
    check(
        "[registry]\nurl = \"https://r\"\n[registry.embedded]\n",
        &[
            "f.toml:2:1: registry.url: follow a registry (url) or run one ([registry.embedded]), not both; leave one out",
        ],
    );
    check(
        "[registry]\nurl = \"https://r\"\ngate = \"gate 1\"\n",
        &[
            "f.toml:3:8: registry.gate: \"gate 1\" can't name a gate; use 1 to 64 letters, digits, `-`, `_` or `.`, like \"gate-1\"",
        ],
    );
    check(
        "[registry]\n",
        &[
            "f.toml:1:2: registry: name the registry to follow, url = \"https://registry.example:7443\", or run one in this process with [registry.embedded]",
        ],
    );
    check(
        "[registry]\nurl = \"registry.example:7443\"\n",
        &[
            "f.toml:2:7: registry.url: \"registry.example:7443\" is not the URL of a registry; write one like \"https://registry.example:7443\"",
        ],
    );
    check(
        "[registry.embedded]\ndatabase = \"postgres://user:secret@localhost\"\n",
        &[
            "f.toml:2:12: registry.embedded.database: not the URL of a PostgreSQL database (it names no database); write one like \"postgres://beian@db.example/beian\", or \"postgres:///beian?host=/run/postgresql\" for a Unix socket",
        ],
    );
    check(
        "[registry.embedded]\ndatabase = \"registry.db\"\n",
        &[
            "f.toml:2:12: registry.embedded.database: \"registry.db\" is not a database; write one like \"sqlite:data/registry.db\" or \"postgres://beian@db.example/beian\"",
        ],
    );
}

#[test]
fn open_doors_need_a_token() {
    check(
        "[registry.embedded]\naddress = \"0.0.0.0:7070\"\n[admin]\naddress = \"192.0.2.1:9090\"\n",
        &[
            "f.toml:2:11: registry.embedded.address: 0.0.0.0:7070 is not on loopback, so callers must show a token or a certificate; add token_file = \"config/registry.token\", or tls with client_ca_file, or listen on 127.0.0.1",
            "f.toml:4:11: admin.address: 192.0.2.1:9090 is not on loopback, so callers must show a token or a certificate; add token_file = \"config/admin.token\", or tls with client_ca_file, or listen on 127.0.0.1",
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    let text = format!("[admin]\naddress = \"0.0.0.0:9090\"\ntoken_file = \"{}\"\n", token.display());
    let headline = |text: &str| parse(text).unwrap_err().problems()[0].headline();
    assert!(headline(&text).starts_with("f.toml:3:14: admin.token_file: can't read the token in "));
    std::fs::write(&token, "\n").unwrap();
    assert!(
        headline(&text).ends_with("must hold one token, made of visible ASCII characters without spaces")
    );
    std::fs::write(&token, "abc\n").unwrap();
    assert_eq!(good(&text).admin.unwrap().token.as_deref(), Some("abc"));
}

#[test]
fn footer_modes() {
    let site = "[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [\"http://a\"]\n";
    check(
        &format!("{site}[site.footer]\nmode = \"add\"\n"),
        &["f.toml:5:8: site.footer.mode: \"add\" is not a footer mode; use \"off\", \"check\" or \"inject\""],
    );
    for mode in ["off", "check", "inject"] {
        good(&format!("{site}[site.footer]\nmode = \"{mode}\"\n"));
    }
}

#[test]
fn development_stays_at_home() {
    check(
        "[[listener]]\naddress = \"0.0.0.0:80\"\n[development]\ncertificates = [\"192.0.2.1\"]\nupstream = \"0.0.0.0:8081\"\n",
        &[
            "f.toml:2:11: listener.address: 0.0.0.0:80 is not on loopback, and [development] is for loopback only; leave that section out",
            "f.toml:4:17: development.certificates: \"192.0.2.1\" is an address; development certificates are for names",
            "f.toml:5:12: development.upstream: 0.0.0.0:8081 is not on loopback; the demo upstream listens there only",
        ],
    );
}

#[test]
fn proxy_headers_need_peers() {
    check(
        "[[listener]]\naddress = \"0.0.0.0:80\"\nproxy_protocol = \"required\"\nhealth_path = \"healthz\"\n",
        &[
            "f.toml:3:18: listener.proxy_protocol: PROXY headers are taken from trusted peers only; add trusted_peers = [\"10.0.0.0/8\"]",
            "f.toml:4:15: listener.health_path: \"healthz\" is not a path; write one like \"/healthz\"",
        ],
    );
}

#[test]
fn a_gate_needs_more_than_a_registry_does() {
    let config = good("[registry.embedded]\n");
    config.require_embedded_registry().unwrap();
    assert_eq!(
        config.require_gate().unwrap_err().to_string(),
        "f.toml:1:1: provider: our id as an access provider is missing; add provider = \"example-cloud\"\n\n\
         f.toml:1:1: listener: there is none; add [[listener]] with address = \"0.0.0.0:80\"",
    );
    let config = good("provider = \"p\"\n");
    let error = config.require_embedded_registry().unwrap_err().to_string();
    assert!(error.starts_with("f.toml:1:1: registry.embedded: "), "{error}");
}

#[test]
fn an_error_shows_the_line() {
    let error = parse("[[listener]]\naddress = \"127.0.0.1:80\"\nprotocol = \"htp\"\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "f.toml:3:12: listener.protocol: \"htp\" is not a protocol; use \"http\", \"https\" or \"tls_passthrough\"\n  |\n\
         3 | protocol = \"htp\"\n  |            ^^^^^",
    );
}

fn with_site(lines: &str) -> String {
    format!("[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [\"http://a\"]\n{lines}")
}

#[test]
fn health_and_ejection() {
    let config = good(&with_site("[site.health]\n"));
    let health = config.sites[0].target.way.health.clone().unwrap();
    assert_eq!((health.path.as_str(), health.interval), ("/", Duration::from_secs(5)));
    assert_eq!((health.healthy, health.unhealthy, &health.statuses[..]), (2, 3, &[200..=399][..]));
    let lines = "[site.health]\ninterval = \"1s\"\nstatus = [204, \"300-302\"]\npath = \"/a?b\"\n[site.ejection]\ntime = \"1h\"\n";
    let way = good(&with_site(lines)).sites[0].target.way.clone();
    let health = way.health.as_ref().unwrap();
    assert_eq!((health.timeout, &health.statuses[..]), (Duration::from_secs(1), &[204..=204, 300..=302][..]));
    assert_eq!(way.ejection.max_time, Duration::from_secs(3600), "no shorter than the first time");
    check(
        &with_site(
            "[site.health]\ntype = \"tcp\"\npath = \"/\"\nstatus = [\"2xx\"]\nhealthy = 0\nintervall = \"1s\"\n",
        ),
        &[
            "f.toml:6:1: site.health.path: a check by tcp asks for nothing; leave it out, or use type = \"http\"",
            "f.toml:7:1: site.health.status: a check by tcp asks for nothing; leave it out, or use type = \"http\"",
            "f.toml:7:11: site.health.status: \"2xx\" is no status; write 200 or \"200-399\"",
            "f.toml:8:11: site.health.healthy: 0 is out of range; use 1 to 1000",
            "f.toml:9:1: site.health.intervall: unknown key; did you mean \"interval\"? known here: healthy, host, interval, path, status, timeout, type, unhealthy",
        ],
    );
}

#[test]
fn servers_of_a_site() {
    let site =
        |upstreams: &str| format!("[[site]]\nhosts = [\"a.example.com\"]\nupstreams = [{upstreams}]\n");
    let config = good(&site("\"http://a\", { url = \"http://b\", weight = 3, backup = true }, \"http://a\""));
    let servers = &config.sites[0].target.upstreams;
    assert_eq!((servers.len(), servers[0].weight, servers[1].weight), (2, 2, 3), "named twice, two shares");
    assert!(servers[1].is_backup && !servers[0].is_backup);
    check(
        &site("{ url = \"http://a\", weight = 0 }, { weight = 1 }, { url = \"b\" }"),
        &[
            "f.toml:3:43: site.upstreams.weight: 0 is out of range; use 1 to 1000",
            "f.toml:3:48: site.upstreams: \"url\" is missing; write it like { url = \"http://10.0.0.1:8080\" }",
            "f.toml:3:72: site.upstreams.url: \"b\" has no scheme; write an upstream like \"http://10.0.0.1:8080\" (http, https, h2c or tcp)",
        ],
    );
    check(
        &site("{ url = \"http://a\", backup = true }"),
        &[
            "f.toml:3:13: site.upstreams: all upstreams are backups; leave backup out for at least one, like http://a:80",
        ],
    );
    check(
        &with_site("hash_on = \"cookie\"\npanic_below = 2\n"),
        &[
            "f.toml:4:1: site.hash_on: hash_on goes with balance = \"hash\"; set that, or leave this out",
            "f.toml:4:11: site.hash_on: \"cookie\" is nothing to hash on; use \"client\", \"path\", \"header:NAME\" or \"cookie:NAME\"",
            "f.toml:5:15: site.panic_below: 2 is out of range; use 0 to 1",
        ],
    );
}

#[test]
fn fields_that_messages_get_and_lose() {
    let rules = good(&with_site(
        "[site.request_headers]\nremove = [\"X-A\"]\nset = { x-b = \"1\", X-C = [\"2\", \"3\"] }\nadd = { x-d = \"\" }\n",
    ));
    let rules = &rules.sites[0].target.treatment.request_headers;
    assert_eq!(rules.dropped.len(), 3);
    assert_eq!(rules.added.len(), 4);
    check(
        &with_site(
            "[site.request_headers]\nset = { host = \"a\", x-forwarded-for = \"b\" }\n\
             add = { content-length = \"1\", \"x y\" = \"c\", x_y = \"d\", x-z = \"e\\r\\nf\" }\n\
             [site.response_headers]\nremove = [\"beian-verdict\", \"Transfer-Encoding\"]\nsett = {}\n",
        ),
        &[
            "f.toml:5:9: site.request_headers.set.host: host says where a message goes, ends or comes from: the gate writes it; leave it out",
            "f.toml:5:21: site.request_headers.set.x-forwarded-for: x-forwarded-for says where a message goes, ends or comes from: the gate writes it; leave it out",
            "f.toml:6:9: site.request_headers.add.content-length: content-length says where a message goes, ends or comes from: the gate writes it; leave it out",
            "f.toml:6:31: site.request_headers.add.x y: \"x y\" is no name of a field; use letters, digits and \"-\", like \"x-environment\"",
            "f.toml:6:44: site.request_headers.add.x_y: \"x_y\" has an underscore, which many take for a dash; write \"x-y\"",
            "f.toml:6:61: site.request_headers.add.x-z: \"***\" is no value of a field; use visible ASCII characters and spaces between them, at most 4096 octets",
            "f.toml:8:11: site.response_headers.remove: beian-verdict says where a message goes, ends or comes from: the gate writes it; leave it out",
            "f.toml:8:28: site.response_headers.remove: transfer-encoding says where a message goes, ends or comes from: the gate writes it; leave it out",
            "f.toml:9:1: site.response_headers.sett: unknown key; did you mean \"set\"? known here: add, remove, set",
        ],
    );
}

#[test]
fn redirects_and_error_pages_with_slips() {
    let redirect = |inner: &str| format!("[[site]]\nhosts = [\"a.example.com\"]\nredirect = {{ {inner} }}\n");
    good(&redirect("to = \"https://b.example.com/x?y\", path = \"replace\""));
    let rows = [
        ("to = \"b.example.com\"", "is neither an http(s) URL nor a path"),
        ("to = \"//b.example.com\"", "is neither an http(s) URL nor a path"),
        ("to = \"/x\"", "with the path kept leads back"),
        ("to = \"https://b.example.com?x\"", "has a query or fragment"),
        ("to = \"https://:80/\"", "names no host"),
        ("to = \"https://b.example.com/ä\"", "has characters that no URL has"),
        ("to = \"https://b.example.com\", status = 304", "304 is no redirect to one place"),
        ("to = \"https://b.example.com\", path = \"rest\"", "a site has no prefix to leave out"),
        ("status = 301", "\"to\" is missing"),
    ];
    for (inner, part) in rows {
        let error = parse(&redirect(inner)).unwrap_err().to_string();
        assert!(error.contains(part) && error.starts_with("f.toml:3:"), "{inner}: {error}");
    }
    let both = redirect("to = \"https://b.example.com\"") + "upstreams = [\"http://a\"]\n";
    check(
        &both,
        &[
            "f.toml:4:1: site.upstreams: what is redirected reaches no upstream; leave this or the redirect out",
        ],
    );
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (page, picture, large) =
        (file("a.html", b"x"), file("a.png", b"x"), file("b.html", &vec![b'x'; 256 * 1024 + 1]));
    let rows = [
        (format!("451 = \"{page}\""), "what blocked names are told is in [block_page]"),
        (format!("200 = \"{page}\""), "the gate itself never answers so"),
        (format!("502 = \"{picture}\""), "use .html, .json, .txt or .xml"),
        (format!("502 = \"{large}\""), "and a page at most 262144"),
        (format!("502 = [\"{page}\", \"{page}\"]"), "a page of that kind for 502 already"),
        ("502 = \"no/such.html\"".to_owned(), "can't use no/such.html"),
    ];
    for (line, part) in rows {
        let error = parse(&format!("[error_pages]\n{line}\n")).unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
    }
}
