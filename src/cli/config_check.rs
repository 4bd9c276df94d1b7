//! `config check`: what was found, the scenario table in force, and whether `run` would run.

use super::{BAD_CONFIG, table, today};
use crate::config::Config;
use crate::config::check::{Finding, Level, findings};
use crate::gate::names;
use crate::verdict::Policy;
use std::io::Write;
use std::process::ExitCode;

pub(super) fn run(config: &Config) -> anyhow::Result<ExitCode> {
    config.require_gate()?;
    let found = names::look_up_all(&config.dns, &config.upstream_names(), &Default::default());
    let addresses = |found: names::Found| found.addresses.to_vec();
    let resolved = found.into_iter().map(|(name, found)| (name, found.map(addresses))).collect();
    let mut findings = findings(config, jiff::Timestamp::now(), today(), &resolved);
    if findings.iter().all(|finding| finding.level != Level::Error)
        && let Err(error) = crate::app::check(config)
    {
        findings.push(Finding { level: Level::Error, place: "run", message: format!("{error:#}") });
    }
    let mut out = std::io::stdout().lock();
    let word = |level| match level {
        Level::Ok => "ok",
        Level::Warning => "warning",
        Level::Error => "error",
    };
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| [word(finding.level), finding.place, finding.message.as_str()])
        .collect();
    table::write(&mut out, &rows)?;
    writeln!(out, "\nscenarios in force 场景要求:")?;
    for row in Policy::new(config.enforcement.policy.clone()).table() {
        writeln!(out, "  {row}")?;
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (errors, warnings) = (count(Level::Error), count(Level::Warning));
    writeln!(out, "\n{}: {errors} errors, {warnings} warnings", config.source)?;
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD_CONFIG) })
}
