//! TLS passed through: judged by SNI, then octets both ways, the ClientHello first.

pub mod greeting;

use crate::config::{Mode, TlsBlocked};
use crate::domain::HostForm;
use crate::gate::accept;
use crate::gate::client::Client;
use crate::gate::ended::{By, Phase};
use crate::gate::endpoint::{Endpoint, Lease};
use crate::gate::hello::Alert;
use crate::gate::proxy_header::Speaker;
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::RequestHead;
use crate::gate::route::Target;
use crate::gate::stream::Channel;
use crate::gate::watch::{Serving, Watch};
use crate::gate::worker::{Tries, Worker};
use crate::gate::{judge, tunnel};
use greeting::Ended;
use std::rc::Rc;
use std::sync::Arc;

/// Serves a connection to its end.
pub async fn serve(worker: Rc<Worker>, client: Box<Client>, mut channel: Channel, watch: &Watch) {
    let mut record = Record::begin(worker.next_number());
    let outcome = tunnel(&worker, &client, &mut channel, watch, &mut record).await;
    let ending = outcome.err().map(|(reject, ending)| {
        record.reject(&reject);
        ending
    });
    // The client may take its time over the end; what became of it is known.
    worker.tell(&record, &client, &RequestHead::default());
    match ending {
        Some(Ending::Alert(code)) => accept::alert(&mut channel, watch, code).await,
        Some(Ending::Reset) => accept::reset(&channel),
        Some(Ending::Close) | None => {}
    }
}

enum Ending {
    Alert(Alert),
    Reset,
    Close,
}

async fn tunnel(
    worker: &Worker,
    client: &Client,
    channel: &mut Channel,
    watch: &Watch,
    record: &mut Record,
) -> Result<(), (Reject, Ending)> {
    let hello = accept::client_hello(channel, watch).await.map_err(|alert| match alert {
        Some(alert) => (Reject::MalformedHost, Ending::Alert(alert)),
        None => (Reject::ClientGone, Ending::Close),
    })?;
    let blocked = match worker.rules().tls_blocked {
        TlsBlocked::Reset => || Ending::Reset,
        TlsBlocked::Page | TlsBlocked::Alert => || Ending::Alert(Alert::UnrecognizedName),
    };
    let name = hello.server_name.ok_or_else(|| (Reject::MalformedHost, blocked()))?;
    let host = HostForm::Name(name);
    record.host = Some(host.clone());
    let target = judge_name(worker, client, &host, record).map_err(|reject| match reject {
        Reject::Shed | Reject::Denied => (reject, Ending::Close),
        reject => (reject, blocked()),
    })?;
    let whose = client.whose(&RequestHead::default(), &worker.rules().doors);
    watch.serve(Some(Serving { host: &host, whose, is_acme_challenge: false }));
    let (mut upstream, lease) =
        connect(worker, client, &target, watch, record).await.map_err(|reject| (reject, Ending::Close))?;
    match greeting::run(channel, &mut upstream, &hello, watch).await {
        Ok(octets) => record.bytes_in = octets,
        Err(Ended::Refused(alert)) => return Err((Reject::Misdirected, Ending::Alert(alert))),
        Err(Ended::Over) => return Ok(()),
    }
    record.phase = Phase::Tunnel;
    let (up, down) = tunnel::run(channel, upstream, watch).await;
    record.ended_by = watch.is_cut().then_some(By::Cut);
    record.bytes_in += up;
    record.bytes_out = down;
    drop(lease);
    Ok(())
}

/// Connects to a server of the target; where that fails to another, for nothing was sent yet.
async fn connect(
    worker: &Worker,
    client: &Client,
    target: &Target,
    watch: &Watch,
    record: &mut Record,
) -> Result<(Channel, Lease), Reject> {
    let name = record.host.as_ref().and_then(HostForm::name).map(|name| name.as_str().to_owned());
    let speaker = Speaker { authority: name.as_deref(), ..client.speaker() };
    let (mut tries, members) = (Tries::default(), worker.members(target));
    record.phase = Phase::Connect;
    loop {
        let (index, endpoint): (_, &Arc<Endpoint>) =
            worker.pick((target, &members), (client, None), &tries)?;
        record.upstream = Some(worker.label(endpoint));
        let mut lease = Lease::new(endpoint);
        if let Some(breaker) = &endpoint.breaker {
            lease.hold(breaker.request(watch, |_| Ok(())).await?);
            lease.hold_connection(breaker.connection(watch).await?);
        }
        match endpoint.connect_within(target.timeouts.connect, watch, Some(speaker)).await {
            Ok(channel) => {
                endpoint.standing.answered(200, &endpoint.way, worker.now_ms());
                return Ok((channel, lease));
            }
            Err(reject) => worker.try_next((target, &members), index, reject, &mut tries)?,
        }
    }
}

fn judge_name(
    worker: &Worker,
    client: &Client,
    host: &HostForm,
    record: &mut Record,
) -> Result<Arc<Target>, Reject> {
    let rules = worker.rules();
    let is_tcp =
        |target: &Target| target.servers.now().first().is_some_and(|member| member.endpoint.is_tcp());
    let site = judge::site(&rules, host);
    record.meter = site.and_then(|site| worker.counters.meter_of(&site.meter));
    let defaults = rules.doors.of(&client.listener).defaults();
    let decision = judge::decide(&rules, defaults, (host, site), &worker.filings(), worker.today());
    record.decided(&decision);
    if !decision.verdict.is_forwarded() {
        if judge::mode(&rules, site) == Mode::Enforce {
            return Err(if decision.verdict.is_blocked() {
                Reject::Blocked(decision.verdict)
            } else {
                Reject::Unavailable
            });
        }
        record.would_block = Some(decision.verdict);
    }
    if worker.overload.is_over() {
        return Err(Reject::Shed);
    }
    judge::networks(&rules, client, site, &RequestHead::default())?;
    let own = site.map(|site| &site.target).filter(|target| is_tcp(target));
    own.or_else(|| rules.passthrough.get(&client.listener.key)).cloned().ok_or(Reject::NoSite)
}
