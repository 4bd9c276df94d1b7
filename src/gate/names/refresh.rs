//! Names looked up again while the gate runs, on the control thread.

use super::{Found, MAX_LOOK_UPS, Resolver, Unresolved};
use crate::gate::route::standing::count;
use crate::gate::rules::Rules;
use crate::gate::worker::Shared;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often it is looked whose answer is too old.
const TICK: Duration = Duration::from_millis(50);

/// Where a name stands.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    is_asked: bool,
    /// The last look-up failed: said once.
    has_failed: bool,
}

/// What a look-up came to.
type Answer = (String, Result<Found, Unresolved>);

/// What is looked up for the rules in force.
struct Refresh {
    rules: Arc<Rules>,
    resolver: Option<Resolver>,
    due: HashMap<String, Due>,
    asked: JoinSet<Answer>,
}

/// Looks names up whenever their answers are too old, until told to stop.
pub async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut refresh = Refresh::new(shared.rules.load_full(), &HashMap::new());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(answer) = refresh.asked.join_next() => {
                if let Ok((name, found)) = answer {
                    refresh.answered(&shared, &name, found);
                }
            }
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let rules = shared.rules.load();
        if !Arc::ptr_eq(&rules, &refresh.rules) {
            refresh = Refresh::new(Arc::clone(&rules), &refresh.due);
            // A change that came between the making of the rules and now.
            rules.apply(&shared.endpoints, |_| true);
        }
        refresh.ask(&shared);
    }
}

impl Refresh {
    fn new(rules: Arc<Rules>, before: &HashMap<String, Due>) -> Self {
        let names = rules.names();
        let resolver =
            if names.is_empty() { None } else { Resolver::new(&rules.dns).inspect_err(|why| say(why)).ok() };
        let now = Instant::now();
        let due = |name: String| {
            let has_failed = before.get(&name).is_some_and(|due| due.has_failed);
            let at = now + rules.valid_for(&name);
            (name, Due { at, is_asked: false, has_failed })
        };
        let due = names.into_iter().map(due).collect();
        Self { rules, resolver, due, asked: JoinSet::new() }
    }

    /// Asks for what is due, as far as there is room.
    fn ask(&mut self, shared: &Shared) {
        let Some(resolver) = &self.resolver else { return };
        let now = Instant::now();
        for (name, due) in self.due.iter_mut().filter(|(_, due)| !due.is_asked && due.at <= now) {
            if self.asked.len() >= MAX_LOOK_UPS {
                break;
            }
            due.is_asked = true;
            let (resolver, name) = (resolver.clone(), name.clone());
            let last: Arc<[IpAddr]> = shared.endpoints.addresses.last(&name).unwrap_or_default();
            self.asked.spawn(async move {
                let found = resolver.look_up(&name, &last).await;
                (name, found)
            });
        }
    }

    fn answered(&mut self, shared: &Shared, name: &str, found: Result<Found, Unresolved>) {
        let addresses = &shared.endpoints.addresses;
        count(&addresses.lookups);
        let Some(due) = self.due.get_mut(name) else { return };
        due.is_asked = false;
        let failure = match found {
            Ok(found) => {
                due.at = Instant::now() + found.valid_for;
                if addresses.found(name, &found.addresses) {
                    count(&addresses.changes);
                    tracing::info!("upstream {name} is now {:?}", found.addresses);
                    self.rules.apply(&shared.endpoints, |changed| changed == name);
                }
                found.failure
            }
            Err(why) => {
                due.at = Instant::now() + self.rules.dns.min_ttl;
                Some(why)
            }
        };
        let had_failed = std::mem::replace(&mut due.has_failed, failure.is_some());
        if let Some(why) = failure {
            count(&addresses.failures);
            if !had_failed {
                tracing::warn!("upstream {name} does not resolve, its last addresses hold on: {why}");
            }
        }
    }
}

fn say(why: &str) {
    tracing::error!("the names of upstreams are not looked up again: {why}");
}
