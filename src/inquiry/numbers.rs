//! Public-security numbers of the sites whose pages are looked at, asked of the registry.

use super::Registries;
use crate::filing::PublicSecurityNumber;
use crate::telemetry::KnownNumbers;
use std::time::Duration;
use tokio::sync::watch;

/// Between two rounds: what is wanted meanwhile is asked for together.
const PAUSE: Duration = Duration::from_secs(1);
/// The same where the registry gave no answer.
const LONG_PAUSE: Duration = Duration::from_secs(60);
/// Questions of a round that may go without an answer before the others wait for the next.
const MAX_FAILURES: usize = 3;

/// Learns what is wanted until told to stop. Where the registry does not say, any well-formed number goes on to do.
pub async fn learn_numbers(
    known: &KnownNumbers,
    registries: &Registries,
    mut stopping: watch::Receiver<bool>,
) {
    let mut is_told = false;
    loop {
        let wanted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            wanted = known.wanted() => wanted,
        };
        let mut failures = 0;
        for (filing, host) in wanted {
            match registries.filing(&host).await {
                // Where another filing covers the host by now, this is not about the one that was asked for.
                Ok(said) if said["number"] == filing => {
                    let number = said["public_security_number"].as_str();
                    known.learn(filing, number.and_then(|it| PublicSecurityNumber::parse(it).ok()));
                }
                Ok(_) => {}
                Err(error) => {
                    failures += 1;
                    if !is_told {
                        is_told = true;
                        tracing::warn!(%error, "the registry does not say which public-security numbers pages must show: any will do");
                    }
                    if failures >= MAX_FAILURES {
                        break;
                    }
                }
            }
        }
        is_told &= failures > 0;
        let pause = if failures > 0 { LONG_PAUSE } else { PAUSE };
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
