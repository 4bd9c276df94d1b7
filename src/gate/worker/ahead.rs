//! Connections to upstreams that are opened before anybody asks for them: `[site.keep] ahead`.
//!
//! A server that is not used (its check failed, it is ejected or drained) gets none.

use crate::gate::endpoint::Endpoint;
use crate::gate::exchange::Exchange;
use crate::gate::worker::Worker;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked at whether there are as many as there should be.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// How long one may take to be opened.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Connections that are opened at once; the rest is for the next look.
const MAX_AT_ONCE: usize = 32;

/// Opens what is missing, for as long as the worker lives.
pub(super) async fn run(worker: &Worker) {
    let mut interval = tokio::time::interval(LOOK_TIME);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if worker.clock.is_draining() || !worker.rules().opens_ahead {
            continue;
        }
        let missing = missing(worker);
        stream::iter(missing).for_each_concurrent(MAX_AT_ONCE, |endpoint| open(worker, endpoint)).await;
    }
}

/// An endpoint for each connection that it lacks.
fn missing(worker: &Worker) -> Vec<Arc<Endpoint>> {
    let now_ms = worker.now_ms();
    let endpoints = worker.rules().endpoints.load_full();
    let lacking =
        endpoints.iter().filter(|endpoint| is_kept_for(endpoint) && endpoint.standing.is_well(now_ms));
    let each = lacking.flat_map(|endpoint| {
        let lacks = endpoint.way.keep.ahead.saturating_sub(worker.pool.idle(endpoint));
        std::iter::repeat_n(endpoint, lacks)
    });
    each.take(MAX_AT_ONCE).cloned().collect()
}

/// Whether connections of HTTP/1.1 are kept for it at all. Where their number is limited, requests come first.
fn is_kept_for(endpoint: &Endpoint) -> bool {
    endpoint.way.keep.ahead > 0
        && endpoint.way.proxy_header.is_none()
        && endpoint.breaker.is_none()
        && !endpoint.is_tcp()
        && !endpoint.may_speak_http2()
}

async fn open(worker: &Worker, endpoint: Arc<Endpoint>) {
    // One that can't be reached shows when it is asked, and in its checks.
    if let Ok(Ok(channel)) = tokio::time::timeout(CONNECT_TIME, endpoint.connect(None)).await {
        worker.pool.put(Box::new(Exchange::ahead(channel, &endpoint)), worker.clock.now());
    }
}
