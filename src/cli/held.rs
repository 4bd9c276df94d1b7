//! `held`: the update that waits for an operator's word at the running gate, and that word.

use super::{FAILED, HeldArguments, HeldWord, block_on};
use crate::app::whereabouts;
use crate::config::{Admin, Config};
use anyhow::{Context, bail};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

/// A gate on this machine or the next answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn run(arguments: &HeldArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    let admin = config.admin.as_ref().context("the config has no [admin] to ask the gate at")?;
    let address = gate_address(&config, admin).context("no gate runs with this data directory")?;
    block_on(async {
        match arguments.word {
            None => show(address, admin).await,
            Some(word) => say(address, admin, word).await,
        }
    })
}

async fn show(address: SocketAddr, admin: &Admin) -> anyhow::Result<ExitCode> {
    let response = ask(reqwest::Method::GET, address, "/v1/status", admin).await?;
    let status: serde_json::Value = response.error_for_status()?.json().await?;
    let mut out = std::io::stdout().lock();
    let Some(held) = status["held"].as_object() else {
        writeln!(out, "no update is held")?;
        return Ok(ExitCode::SUCCESS);
    };
    for (key, value) in held {
        writeln!(out, "{key:<15} {}", value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn say(address: SocketAddr, admin: &Admin, word: HeldWord) -> anyhow::Result<ExitCode> {
    let (path, done) = match word {
        HeldWord::Apply => ("/v1/held/apply", "the held update comes into force"),
        HeldWord::Refuse => ("/v1/held/refuse", "the held update is refused; the old filings keep serving"),
    };
    let response = ask(reqwest::Method::POST, address, path, admin).await?;
    match response.status() {
        reqwest::StatusCode::CONFLICT => {
            writeln!(std::io::stderr(), "no update is held")?;
            Ok(ExitCode::from(FAILED))
        }
        status if status.is_success() => {
            writeln!(std::io::stdout(), "{done}")?;
            Ok(ExitCode::SUCCESS)
        }
        status => bail!("the gate at {address} answered {status}"),
    }
}

async fn ask(
    method: reqwest::Method,
    address: SocketAddr,
    path: &str,
    admin: &Admin,
) -> anyhow::Result<reqwest::Response> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let mut request = client.request(method, format!("http://{address}{path}"));
    if let Some(token) = &admin.token {
        request = request.bearer_auth(token);
    }
    request.send().await.with_context(|| format!("the gate at {address} does not answer"))
}

/// Where the gate says that it is, else where the config puts it; loopback where that is every interface.
pub(super) fn gate_address(config: &Config, admin: &Admin) -> Option<SocketAddr> {
    let mut address = match admin.address.port() {
        0 => whereabouts::find(&config.cache.directory)?,
        _ => admin.address,
    };
    if address.ip().is_unspecified() {
        let is_v4 = address.is_ipv4();
        address.set_ip(if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Some(address)
}
