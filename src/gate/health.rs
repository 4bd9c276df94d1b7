//! Active checks: one prober for all workers, on a thread of its own. What it finds is in each endpoint's standing.
//!
//! A check is a connection of its own, closed afterwards: it tells whether new connections are served.

use crate::config::{Health, HealthKind};
use crate::gate::endpoint::Endpoint;
use crate::gate::exchange::MAX_INTERIM;
use crate::gate::http1::head::{self, HeadLimits, ResponseHead};
use crate::gate::reject::Reject;
use crate::gate::route::standing::Checked;
use crate::gate::stream::Stream;
use crate::gate::trunk;
use crate::gate::worker::Shared;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::task;

const USER_AGENT: &str = "beian-gate-check";
/// How often the prober looks whose check is due.
const TICK: Duration = Duration::from_millis(50);
/// Checks under way at once.
const MAX_CHECKS: usize = 64;
/// Of an answer's head; its body is not read.
const LIMITS: HeadLimits = HeadLimits { bytes: 16 * 1024, fields: 100 };

/// Checks whatever the rules in force want checked, until told to stop. To be called on a thread of its own that
/// belongs to a runtime: connections belong to one thread.
pub fn run(shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
    let probing = task::LocalSet::new();
    Handle::current().block_on(probing.run_until(probe_all(shared, stopping)));
}

async fn probe_all(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(MAX_CHECKS));
    let mut due: HashMap<usize, Instant> = HashMap::new();
    let mut known = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        let now = Instant::now();
        let endpoints = shared.rules.load().endpoints.load_full();
        if known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &endpoints)) {
            let slots: HashSet<usize> = endpoints.iter().map(|endpoint| endpoint.slot).collect();
            due.retain(|slot, _| slots.contains(slot));
            known = Some(Arc::clone(&endpoints));
        }
        let checked = endpoints.iter().filter_map(|one| Some((one, one.way.health.as_ref()?)));
        for (endpoint, health) in checked {
            if due.get(&endpoint.slot).is_some_and(|at| *at > now) {
                continue;
            }
            // Without a place it stays due.
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { break };
            due.insert(
                endpoint.slot,
                now + spread(health.interval, endpoint.slot, !due.contains_key(&endpoint.slot)),
            );
            let (shared, endpoint) = (Arc::clone(&shared), Arc::clone(endpoint));
            task::spawn_local(async move {
                check(&shared, &endpoint).await;
                drop(place);
            });
        }
    }
}

/// Until the next check. After the first one by a part of it that differs from server to server: checks of many
/// servers should not come all at once.
fn spread(interval: Duration, slot: usize, is_first: bool) -> Duration {
    if !is_first {
        return interval;
    }
    let part = u32::try_from(slot.wrapping_mul(0x9e37) % 256).unwrap_or(0);
    interval - interval * part / 512
}

async fn check(shared: &Shared, endpoint: &Endpoint) {
    let Some(health) = &endpoint.way.health else { return };
    let outcome = tokio::time::timeout(health.timeout, probe(endpoint, health)).await;
    let outcome = outcome.unwrap_or(Err("no answer in time"));
    let now_ms = shared.endpoints.millis(Instant::now());
    let before = endpoint.standing.checked();
    if endpoint.standing.check_ended(outcome.is_ok(), (health.healthy, health.unhealthy), now_ms) {
        match outcome {
            Ok(()) if before == Checked::Unknown => {}
            Ok(()) => tracing::info!("upstream {} is well again", endpoint.label),
            Err(why) => tracing::warn!("upstream {} is not used: its check says: {why}", endpoint.label),
        }
    }
}

async fn probe(endpoint: &Endpoint, health: &Health) -> Result<(), &'static str> {
    let channel = endpoint.connect(None).await.map_err(|reject| match reject {
        Reject::UpstreamError(why) => why,
        _ => "no connection",
    })?;
    match health.kind {
        HealthKind::Tcp => Ok(()),
        HealthKind::Http => {
            let status = if endpoint.speaks_http2(&channel.stream) {
                ask_http2(endpoint, health, channel.stream).await?
            } else {
                ask_http1(endpoint, health, channel.stream).await?
            };
            let is_good = health.statuses.iter().any(|good| good.contains(&status));
            if is_good { Ok(()) } else { Err("a status that is not among the good ones") }
        }
    }
}

/// The Host of a check.
fn host(endpoint: &Endpoint, health: &Health) -> String {
    health.host.clone().unwrap_or_else(|| match &endpoint.upstream {
        upstream if upstream.host.contains(':') && !upstream.is_local() => format!("[{}]", upstream.host),
        upstream => upstream.server_name().to_owned(),
    })
}

async fn ask_http2(endpoint: &Endpoint, health: &Health, stream: Stream) -> Result<u16, &'static str> {
    let scheme = if endpoint.link.load().tls.is_some() { "https" } else { "http" };
    let request = http::Request::get(format!("{scheme}://{}{}", host(endpoint, health), health.path))
        .header("user-agent", USER_AGENT)
        .body(())
        .map_err(|_| "HTTP/2 has no words for the check's path")?;
    trunk::ask_once(stream, request).await
}

async fn ask_http1(endpoint: &Endpoint, health: &Health, mut stream: Stream) -> Result<u16, &'static str> {
    let broken = |_| "the connection broke";
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nuser-agent: {USER_AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n",
        health.path,
        host(endpoint, health)
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let (mut answer, mut response) = (Vec::with_capacity(1024), ResponseHead::default());
    let mut heads = 0;
    while response.status < 200 {
        let found = head::find_end(&answer, 0, LIMITS).map_err(|_| "its answer is malformed")?;
        if let Some(end) = found {
            head::parse_response(&answer[..end], LIMITS, &mut response)?;
            answer.drain(..end);
            heads += 1;
            if heads > MAX_INTERIM && response.status < 200 {
                return Err("too many interim responses");
            }
        } else if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            return Err("closed before its answer was whole");
        }
    }
    Ok(response.status)
}
