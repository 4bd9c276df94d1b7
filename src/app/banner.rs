//! What `run` prints at start: what is running where, and in the development set-up five commands to try.

use crate::admin::Addresses;
use crate::config::{Config, Protocol};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

/// Prints it.
pub(super) fn show(config: &Config, addresses: &Addresses) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "beian-gate {} is running ({})", env!("CARGO_PKG_VERSION"), config.source)?;
    for (what, url) in addresses.urls() {
        writeln!(out, "  {what:<11}{url}")?;
    }
    if config.development.is_some() {
        for line in suggestions(addresses, &config.tls.directory) {
            writeln!(out, "{line}")?;
        }
    }
    out.flush()
}

fn suggestions(addresses: &Addresses, certificates: &Path) -> Vec<String> {
    let of = |protocol: Protocol| {
        addresses.listeners.iter().find(|(it, _)| *it == protocol).map(|(_, address)| *address)
    };
    let (Some(http), Some(https), Some(registry)) =
        (of(Protocol::Http), of(Protocol::Https), addresses.registry)
    else {
        return Vec::new();
    };
    let ca = certificates.join("dev-ca.pem");
    let over_tls = |host: &str, at: SocketAddr| {
        format!(
            "--cacert {} --resolve {host}:{}:{} https://{host}:{}",
            ca.display(),
            at.port(),
            at.ip(),
            at.port()
        )
    };
    vec![
        "try, in another terminal:".into(),
        "  # filed and connected here: forwarded to the demo upstream".into(),
        format!("  curl -i http://{http}/hello -H 'Host: www.example.com'"),
        "  # unfiled: 451 and the block page".into(),
        format!("  curl -i http://{http}/ -H 'Host: unknown-example.cn'"),
        "  # over HTTPS and HTTP/2: access cancelled, as problem+json in English".into(),
        format!(
            "  curl -i {}/ -H 'Accept: application/problem+json' -H 'Accept-Language: en'",
            over_tls("moved-example.cn", https)
        ),
        "  # file the unfiled name: the second command is forwarded from now on".into(),
        format!(
            "  curl -X PUT http://{registry}/v1/filings/unknown-example.cn -H 'Content-Type: application/json' \\\n       -d '{{\"number\": \"京ICP备2026000001号-1\", \"access\": {{\"example-cloud\": \"active\"}}}}'"
        ),
        "  # and end its access here: 451 again, within 100 ms".into(),
        format!(
            "  curl -X PUT http://{registry}/v1/filings/unknown-example.cn -H 'Content-Type: application/json' \\\n       -d '{{\"number\": \"京ICP备2026000001号-1\", \"access\": {{\"example-cloud\": \"cancelled\"}}}}'"
        ),
    ]
}
