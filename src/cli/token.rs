//! `token`: a new token, and the line of a `tokens_file` that knows it by its hash.

use super::TokenArguments;
use crate::hexadecimal::hexadecimal;
use crate::serve;
use anyhow::{Context as _, bail};
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

/// Octets of randomness in a token.
const TOKEN_BYTES: usize = 32;
/// The longest token that is read, in octets.
const MAX_TOKEN_BYTES: u64 = 4096;

pub(super) fn run(arguments: &TokenArguments) -> anyhow::Result<ExitCode> {
    let token = if arguments.stdin { given()? } else { random()? };
    let mut out = std::io::stdout().lock();
    if !arguments.stdin {
        // Apart from the line, so that this can be appended to the file and the token still be read.
        writeln!(std::io::stderr(), "{token}")?;
    }
    writeln!(out, "{} {} {}", arguments.name, arguments.role, hexadecimal(&serve::hash(&token)))?;
    Ok(ExitCode::SUCCESS)
}

fn given() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().take(MAX_TOKEN_BYTES).read_to_string(&mut text).context("standard input")?;
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|char| char.is_ascii_graphic()) {
        bail!("standard input must hold one token, made of visible ASCII characters without spaces");
    }
    Ok(token.to_owned())
}

fn random() -> anyhow::Result<String> {
    let mut octets = [0; TOKEN_BYTES];
    getrandom::fill(&mut octets)?;
    Ok(hexadecimal(&octets))
}
