//! The config of a world, by parts that a test may change.

use super::{F, G, OWN, UNIT, UNIT_CANCELLED, access, connected};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub struct Setup {
    directory: PathBuf,
    pub upstream: SocketAddr,
    pub embedded: bool,
    pub wait_ready: bool,
    workers: usize,
    first: String,
    /// Put into the registry at start: the last one must be seen by the gate before a test begins.
    pub filings: Vec<(String, Value)>,
    http: String,
    listeners: String,
    site: String,
    tls: String,
    registry: String,
    log: String,
    admin: String,
    more: String,
}

/// What `admin.token` holds.
pub const ADMIN_TOKEN: &str = "a-token-of-visible-characters";

impl Setup {
    pub fn new(directory: &Path, upstream: SocketAddr) -> Self {
        let filings = vec![
            (G.to_owned(), connected("京ICP备20000002号-1")),
            (OWN.to_owned(), connected("京ICP备20000003号-1")),
            ("town.gov.cn".to_owned(), connected("京ICP备20000004号-1")),
            (UNIT.to_owned(), connected("京ICP备20000005号-1")),
            (UNIT_CANCELLED.to_owned(), access("京ICP备20000006号-1", "cancelled")),
            (F.to_owned(), connected("京ICP备20000001号-1")),
        ];
        Self {
            directory: directory.to_owned(),
            upstream,
            embedded: true,
            wait_ready: true,
            workers: 1,
            first: String::new(),
            filings,
            http: String::new(),
            listeners: String::new(),
            site: String::new(),
            tls: String::new(),
            registry: "[registry.embedded]\naddress = \"127.0.0.1:0\"\ndatabase = \"sqlite:registry.db\"\n"
                .into(),
            log: "[log]\naccess = \"access.log\"\n".into(),
            admin: String::new(),
            more: String::new(),
        }
    }

    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Lines before all sections.
    pub fn first(mut self, lines: &str) -> Self {
        self.first += &line(lines);
        self
    }

    /// Lines for the plain listener.
    pub fn http(mut self, lines: &str) -> Self {
        self.http += &line(lines);
        self
    }

    /// A further listener on port 0.
    pub fn listener(mut self, protocol: &str, lines: &str) -> Self {
        self.listeners +=
            &format!("[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\n{}", line(lines));
        self
    }

    /// Lines for the site of F, G, U and the rest.
    pub fn site(mut self, lines: &str) -> Self {
        self.site += &line(lines);
        self
    }

    /// Lines for `[tls]`.
    pub fn tls(mut self, lines: &str) -> Self {
        self.tls += &line(lines);
        self
    }

    /// Another place for the access log.
    pub fn log(mut self, path: &str) -> Self {
        self.log = format!("[log]\naccess = \"{path}\"\n");
        self
    }

    /// Lines for `[log]`.
    pub fn log_lines(mut self, lines: &str) -> Self {
        self.log += &line(lines);
        self
    }

    /// Lines for `[admin]`; `admin.token` is there.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin += &line(lines);
        self
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whole tables.
    pub fn toml(mut self, tables: &str) -> Self {
        self.more += &line(tables);
        self
    }

    /// A further site to the same upstream.
    pub fn site_for(self, hosts: &str, lines: &str) -> Self {
        let upstream = self.upstream;
        self.toml(&format!("[[site]]\nhosts = [{hosts}]\nupstreams = [\"http://{upstream}\"]\n{lines}"))
    }

    /// A filing that is in the registry from the start.
    pub fn filing(mut self, domain: &str, document: Value) -> Self {
        self.filings.insert(0, (domain.to_owned(), document));
        self
    }

    /// Lines for `[registry.embedded]`, or for `[registry]` where another is followed.
    pub fn registry(mut self, lines: &str) -> Self {
        self.registry += &line(lines);
        self
    }

    /// Follows a registry elsewhere.
    pub fn follow(mut self, url: &str) -> Self {
        self.embedded = false;
        self.registry = format!("[registry]\nurl = \"{url}\"\n");
        self
    }

    /// Follows one of several registries: URLs, each in quotes.
    pub fn follow_each(mut self, urls: &str) -> Self {
        self.embedded = false;
        self.registry = format!("[registry]\nurl = [{urls}]\n");
        self
    }

    /// Starts without waiting for filings.
    pub fn unready(mut self) -> Self {
        self.wait_ready = false;
        self
    }

    pub fn write(&self) -> PathBuf {
        let path = self.directory.join("gate.toml");
        std::fs::write(&path, self.text()).unwrap();
        std::fs::write(self.directory.join("admin.token"), ADMIN_TOKEN).unwrap();
        path
    }

    pub fn text(&self) -> String {
        let Self { upstream, workers, first, http, listeners, site, tls, registry, log, admin, more, .. } =
            self;
        // U has a site as well: only the filing may stop it.
        format!(
            r#"provider = "example-cloud"
workers = {workers}
{first}

[[listener]]
address = "127.0.0.1:0"
protocol = "http"
{http}
[[listener]]
address = "127.0.0.1:0"
protocol = "https"

{listeners}
[tls]
directory = "certs"
{tls}
[[site]]
hosts = [
  "filed.cn", "*.filed.cn", "also-filed.cn", "own-cert.cn", "*.town.gov.cn",
  "unfiled.cn", "*.unfiled.cn", "unfiled-cert.cn",
]
upstreams = ["http://{upstream}"]
{site}
{registry}
[cache]
directory = "state"

{log}
[admin]
address = "127.0.0.1:0"
{admin}
{more}"#
        )
    }
}

fn line(lines: &str) -> String {
    format!("{}\n", lines.trim_end())
}
