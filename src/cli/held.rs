//! `held`: the update that waits for an operator's word at the running gate, and that word.

use super::gate::Gate;
use super::{FAILED, HeldArguments, HeldWord, block_on};
use anyhow::{Context, bail};
use reqwest::Method;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn run(arguments: &HeldArguments) -> anyhow::Result<ExitCode> {
    let config = arguments.config.load()?;
    config.admin.as_ref().context("the config has no [admin] to ask the gate at")?;
    let gate = Gate::of(&config)?.context("no gate runs with this data directory")?;
    block_on(async {
        match arguments.word {
            None => show(&gate).await,
            Some(word) => say(&gate, word).await,
        }
    })
}

async fn show(gate: &Gate) -> anyhow::Result<ExitCode> {
    let response = ask(gate, Method::GET, "/v1/status").await?;
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

async fn say(gate: &Gate, word: HeldWord) -> anyhow::Result<ExitCode> {
    let (path, done) = match word {
        HeldWord::Apply => ("/v1/held/apply", "the held update comes into force"),
        HeldWord::Refuse => ("/v1/held/refuse", "the held update is refused; the old filings keep serving"),
    };
    let response = ask(gate, Method::POST, path).await?;
    match response.status() {
        reqwest::StatusCode::CONFLICT => {
            writeln!(std::io::stderr(), "no update is held")?;
            Ok(ExitCode::from(FAILED))
        }
        status if status.is_success() => {
            writeln!(std::io::stdout(), "{done}")?;
            Ok(ExitCode::SUCCESS)
        }
        status => bail!("the gate at {} answered {status}", gate.address),
    }
}

async fn ask(gate: &Gate, method: Method, path: &str) -> anyhow::Result<reqwest::Response> {
    let request = gate.request(method, path, &[])?;
    request.send().await.with_context(|| format!("the gate at {} does not answer", gate.address))
}
