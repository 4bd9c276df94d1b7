//! The data path: `handle` is all of it, on one screen.
//!
//! Listener → (PROXY header) → TLS or ClientHello → HTTP → **name → site → filing → verdict → upstream** →
//! headers → exchange → headers back. HTTP and HTTPS, HTTP/1.1 and HTTP/2 share this path: what differs is how a
//! request head and a body arrive and leave (`http1`, `http2`).

pub mod accept;
pub mod affinity;
pub mod body;
pub mod breaker;
pub mod buffer;
pub mod call;
pub mod client;
pub mod compress;
pub mod doors;
pub mod ended;
pub mod endpoint;
pub mod error_pages;
pub mod exchange;
pub mod field_rules;
pub mod footer;
pub mod forward;
pub mod grpc;
pub mod headers;
pub mod health;
pub mod hello;
pub mod http1;
pub mod http2;
pub mod judge;
pub mod lifetime;
pub mod linger;
pub mod listen;
pub mod local;
pub mod names;
pub mod overload;
pub mod own;
pub mod pace;
pub mod passthrough;
pub mod pool;
pub mod proxy_header;
pub mod rate;
pub mod record;
pub mod redirect;
pub mod reject;
pub mod request;
pub mod route;
pub mod rules;
pub mod sessions;
pub mod splice;
pub mod stream;
pub mod tickets;
pub mod tls;
pub mod to_https;
pub mod trace;
pub mod trailers;
pub mod transform;
pub mod treat;
pub mod trunk;
pub mod tunnel;
pub mod watch;
pub mod websocket;
pub mod worker;

use body::BodySource;
use client::Client;
use forward::Forward;
use record::Record;
use reject::Reject;
use request::RequestHead;
use route::Target;
use watch::Watch;
use worker::{Own, Worker};

/// A request as it arrives: its head, its body, and the deadline that its connection is under.
#[derive(Debug)]
pub struct Incoming<'a, B> {
    /// The head.
    pub head: &'a RequestHead,
    /// The body.
    pub body: &'a mut B,
    /// The deadline.
    pub watch: &'a Watch,
}

/// What a request comes to.
#[derive(Debug)]
pub enum Answer {
    /// The upstream's response: its head is read, its body under way.
    Forward(Forward, Own<Target>),
    /// The gate answers itself.
    Own(Reject),
    /// The listener's health path.
    Healthy,
}

/// Takes one request to its answer. `record` gathers what the log and the counters will say of it.
pub async fn handle(
    worker: &Worker,
    client: &Client,
    request: Incoming<'_, impl BodySource>,
    record: &mut Record,
) -> Answer {
    let (head, watch) = (request.head, request.watch);
    let walked = match judge(worker, client, head, record) {
        Ok(None) => return Answer::Healthy,
        Ok(Some(target)) => worker.exchange(client, request, &target, record).await.map(|mut exchange| {
            if let Some(treatment) = &target.treatment {
                treatment.response(head, &mut exchange, (&*record, &*worker.counters));
            }
            (exchange, target)
        }),
        Err(reject) => Err(reject),
    };
    match walked {
        Ok((exchange, target)) => Answer::Forward(exchange, target),
        Err(reject) => {
            watch.serve(None);
            let reject = unless_cut(reject, worker, client, head, record);
            record.reject(&reject);
            Answer::Own(reject)
        }
    }
}

/// What a request is told whose name stopped being allowed before its answer began: what is true of the name by now.
/// Where that is nothing (it is allowed again), the request may be sent again.
fn unless_cut(
    reject: Reject,
    worker: &Worker,
    client: &Client,
    head: &RequestHead,
    record: &mut Record,
) -> Reject {
    match reject {
        Reject::Cut => judge(worker, client, head, record).err().unwrap_or(reject),
        other => other,
    }
}

/// name → site → filing → verdict: where the request may go, if anywhere. `None`: it asks for the health path, which
/// is answered without a verdict.
fn judge(
    worker: &Worker,
    client: &Client,
    head: &RequestHead,
    record: &mut Record,
) -> Result<Option<Own<Target>>, Reject> {
    let rules = worker.rules();
    let door = rules.doors.of(&client.listener);
    if door.is_health_check(head) {
        return Ok(None);
    }
    let filings = worker.filings();
    if record.trace.is_none() {
        record.trace = worker.trace(&rules, head);
    }
    let host = judge::name(head, &worker.shared.via, record)?;
    judge::connection(client, host, &filings)?;
    let site = judge::site(&rules, host);
    record.meter = site.and_then(|site| worker.counters.meter_of(&site.meter));
    let decision = judge::decide(&rules, door.defaults(), (host, site), &filings, worker.today());
    let target = judge::pass(&rules, &decision, site, head, record)?;
    judge::limits(worker, client, (&rules, site, target), head)?;
    if decision.verdict.is_forwarded() {
        let in_clear = site.and_then(|site| site.in_clear).unwrap_or(door.in_clear);
        to_https::check(client, (head, &rules.doors), host, in_clear)?;
    }
    judge::certificate(client, site)?;
    judge::here(target, head)?;
    Ok(Some(worker.own(target)))
}
