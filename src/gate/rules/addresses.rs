//! The addresses of upstreams that have names, looked up when rules are made.

use super::RulesError;
use crate::config::Config;
use crate::gate::endpoint::Endpoints;
use crate::gate::names::{self, Found};
use std::collections::HashMap;
use std::time::Duration;

/// Looks up what the config names; where that fails and there is an older answer, that one holds on. Gives for how
/// long each answer holds.
pub(super) fn look_up(
    config: &Config,
    endpoints: &Endpoints,
) -> Result<HashMap<String, Duration>, RulesError> {
    let names = config.upstream_names();
    let mut valid_for = HashMap::new();
    for (name, found) in names::look_up_all(&config.dns, &names, &endpoints.addresses) {
        match found {
            Ok(Found { addresses, valid_for: time, .. }) => {
                endpoints.addresses.found(&name, &addresses);
                valid_for.insert(name, time);
            }
            Err(why) if endpoints.addresses.last(&name).is_some() => {
                tracing::warn!("upstream {name} does not resolve, its last addresses hold on: {why}");
            }
            Err(why) => return Err(RulesError::Unresolved(name, why)),
        }
    }
    endpoints.addresses.keep(&names);
    Ok(valid_for)
}
