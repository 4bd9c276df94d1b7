//! `config check` and `config show`.

use super::{ConfigFile, config_check};
use crate::config::Origin;
use clap::Subcommand;
use std::io::Write;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate everything that `run` would, certificates and upstream names included
    Check(ConfigFile),
    /// Print the config as JSON: what the file says, the defaults of what it leaves out, and no secret
    Show(ConfigFile),
}

pub(super) fn run(command: &ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(file) => config_check::run(&file.load()?),
        ConfigCommand::Show(file) => {
            let config = file.load()?;
            let origin = Origin::new(&config);
            let shown = serde_json::json!({
                "source": config.source.to_string(),
                "sha256": config.digest,
                "config": origin.config(),
            });
            writeln!(std::io::stdout().lock(), "{shown:#}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
