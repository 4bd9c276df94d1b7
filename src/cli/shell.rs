//! `completions` and `man`: what the command line says of itself, for shells and for `man`.

use super::Arguments;
use anyhow::Context;
use clap::CommandFactory;
use std::path::Path;
use std::process::ExitCode;

const NAME: &str = "beian-gate";

pub(super) fn completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), NAME, &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(directory: &Path) -> anyhow::Result<ExitCode> {
    let failed = || format!("can't write man pages to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).with_context(failed)?;
    Ok(ExitCode::SUCCESS)
}
