//! From a target to a response head: which server, over which connection, and what follows where that fails.

mod tunnel;

use super::Worker;
use crate::gate::body::BodySource;
use crate::gate::breaker::Place;
use crate::gate::call::Call;
use crate::gate::client::Client;
use crate::gate::ended::Phase;
use crate::gate::endpoint::{self, Endpoint};
use crate::gate::exchange::{Exchange, Failure};
use crate::gate::forward::Forward;
use crate::gate::headers::Onward;
use crate::gate::pace::Pace;
use crate::gate::record::{Record, Waits};
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::route::choose::{Ask, MAX_TRIES};
use crate::gate::route::standing;
use crate::gate::route::{Members, Target};
use crate::gate::trace::Trace;
use crate::gate::trunk::{NO_TUNNEL, Reached};
use crate::gate::watch::{Expired, Serving, Watch};
use crate::gate::{Incoming, affinity, grpc, judge};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a client that sends nothing more is taken to wait for its answer: some say so when their request is
/// out, but most are gone.
const HUNG_UP_GRACE: Duration = Duration::from_secs(5);

impl Worker {
    /// The time on the clock of upstreams' standing.
    pub fn now_ms(&self) -> u64 {
        self.shared.endpoints.millis(self.clock.now())
    }

    /// The server of the target that is next for this client, and its place.
    ///
    /// # Errors
    /// `UpstreamError` where there is none left.
    pub fn pick<'m>(
        &self,
        (target, members): (&Target, &'m Members<'_>),
        (client, head): (&Client, Option<&RequestHead>),
        tries: &Tries,
    ) -> Result<(usize, &'m Arc<Endpoint>), Reject> {
        let only = if tries.len == 0 { members.only() } else { None };
        let index = only.or_else(|| {
            let ask = Ask {
                key: affinity::key(&target.choice, client, head),
                sticky: affinity::bound_to(&target.choice, head),
                random: self.next_number(),
                now_ms: self.now_ms(),
                tried: tries.tried(),
            };
            target.pick(members, &ask)
        });
        let index = index.ok_or(Reject::UpstreamError("every upstream is taken out of use"))?;
        Ok((index, &members[index].endpoint))
    }

    /// A server failed before anything was sent to it: notes that, and lets another be tried.
    ///
    /// # Errors
    /// The failure itself, where there is no other or enough were tried.
    pub fn try_next(
        &self,
        (target, members): (&Target, &Members<'_>),
        index: usize,
        reject: Reject,
        tries: &mut Tries,
    ) -> Result<(), Reject> {
        let endpoint = &members[index].endpoint;
        if !matches!(reject, Reject::UpstreamError(_) | Reject::UpstreamTimeout) {
            return Err(reject);
        }
        if reject != NO_TUNNEL {
            endpoint.standing.failed(&endpoint.way, self.now_ms());
        }
        tries.add(index);
        if self.may_retry((target, members), index, tries) { Ok(()) } else { Err(reject) }
    }

    /// Whether number and budget allow that another server is tried after this one, which is counted then.
    fn may_retry(&self, (target, members): (&Target, &Members<'_>), index: usize, tries: &Tries) -> bool {
        let (counts, retries) = (members[index].endpoint.standing.counts(), &target.choice.retries);
        // Alone there is nobody to ask.
        if tries.len > retries.most || members.len() <= tries.len {
            return false;
        }
        let total = members.iter().map(|member| member.endpoint.standing.total()).sum();
        let is_allowed = target.budget.take(retries, total, self.now_ms());
        standing::count(if is_allowed { &counts.retries } else { &counts.retries_denied });
        is_allowed
    }

    /// Whom to ask after an answer with a status that the site wants tried elsewhere.
    fn after_answer<'m>(
        &self,
        (target, members): (&Target, &'m Members<'_>),
        (client, head): (&Client, &RequestHead),
        (index, status): (usize, u16),
        tries: &mut Tries,
    ) -> Option<(usize, &'m Arc<Endpoint>)> {
        if !target.choice.retries.statuses.contains(&status) || !head.is_replayable() {
            return None;
        }
        tries.add(index);
        let next = self.pick((target, members), (client, Some(head)), tries).ok()?;
        self.may_retry((target, members), index, tries).then_some(next)
    }

    /// Sends the request to one of the target's endpoints and waits for the response head.
    ///
    /// # Errors
    /// `UpstreamError`, `UpstreamTimeout`, or the client's own failing.
    pub async fn exchange(
        &self,
        client: &Client,
        request: Incoming<'_, impl BodySource>,
        target: &Target,
        record: &mut Record,
    ) -> Result<Forward, Reject> {
        request.watch.serve(record.host.as_ref().map(|host| Serving {
            host,
            defaults: client.listener.defaults(),
            is_acme_challenge: judge::is_acme_challenge(request.head),
        }));
        let mut tries = Tries::default();
        let members = self.members(target);
        let site = (target, &members);
        record.phase = Phase::Connect;
        let (mut index, mut endpoint) = self.pick(site, (client, Some(request.head)), &tries)?;
        let mut may_be_kept = true;
        loop {
            let way = (endpoint, client);
            let place = Self::place(endpoint, &mut *request.body, request.watch, record).await?;
            let kept = if may_be_kept { self.pool.take(endpoint, self.clock.now()) } else { None };
            let mut exchange = match kept {
                Some(mut exchange) => {
                    exchange.renew();
                    Forward::from(exchange)
                }
                None => {
                    let wanted = (request.head, may_be_kept);
                    match Box::pin(self.reach(way, target, (request.watch, record), wanted)).await {
                        Ok(exchange) => exchange,
                        Err(reject) => {
                            self.try_next(site, index, reject.clone(), &mut tries)?;
                            let next = self.pick(site, (client, Some(request.head)), &tries);
                            ((index, endpoint), may_be_kept) = (next.map_err(|_| reject)?, true);
                            continue;
                        }
                    }
                }
            };
            if place.is_some() {
                exchange.lease_mut().hold(place);
            }
            let begun = self.begin((&mut exchange, request.head), (client, target), record);
            let answered = match begun {
                Ok(()) => {
                    let waits = (request.watch, target);
                    self.response_head(&mut exchange, request.head, &mut *request.body, waits).await
                }
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(()) => {
                    let status = exchange.head().status;
                    let after = self.note_answer(endpoint, status, record);
                    let ask = (client, request.head);
                    if let Some(next) = self.after_answer(site, ask, (index, status), &mut tries) {
                        ((index, endpoint), may_be_kept) = (next, true);
                        continue;
                    }
                    record.answered(status, after);
                    let member = &members[index];
                    if let Some(cookie) = affinity::binding(&target.choice, member, client, request.head) {
                        exchange.add_field(b"set-cookie", cookie.as_bytes());
                    }
                    return Ok(exchange);
                }
                // Nothing of a response was seen on a connection that had been kept: it may have been closed
                // before the request arrived. What is safe to send twice is, once, over a fresh connection.
                Err(Failure::Stale) if request.head.is_replayable() => may_be_kept = false,
                Err(Failure::Stale) => return Err(Reject::UpstreamError("closed a kept connection")),
                Err(Failure::Reject(reject)) => {
                    self.blame(endpoint, Err(&reject));
                    return Err(reject);
                }
            }
        }
    }

    /// The request goes on its way.
    fn begin(
        &self,
        (exchange, head): (&mut Forward, &RequestHead),
        (client, target): (&Client, &Target),
        record: &mut Record,
    ) -> Result<(), Failure> {
        record.phase = Phase::Head;
        exchange.limit_body(target.body_bytes);
        if self.log.borrow().is_on() || self.spans.is_some() {
            record.upstream = Some(self.label(exchange.endpoint()));
        }
        exchange.begin(head, &self.onward(client, target, &record.host_octets(), record.trace.as_ref()))
    }

    /// A place among the exchanges that a server bears; `None` where it has no limit.
    async fn place(
        endpoint: &Endpoint,
        body: &mut impl BodySource,
        watch: &Watch,
        record: &mut Record,
    ) -> Result<Option<Place>, Reject> {
        let Some(breaker) = &endpoint.breaker else { return Ok(None) };
        record.phase = Phase::Queue;
        let since = Instant::now();
        // In a box: most servers have none, and need no room for it.
        let place = Box::pin(breaker.request(watch, |cx| body.poll_gone(cx))).await;
        Waits::add(&mut record.waits.queue_us, since);
        place
    }

    /// A place for an exchange where none is kept: on a connection that others share, or on a fresh one.
    async fn reach(
        &self,
        (endpoint, client): (&Arc<Endpoint>, &Client),
        target: &Target,
        (watch, record): (&Watch, &mut Record),
        (head, may_be_shared): (&RequestHead, bool),
    ) -> Result<Forward, Reject> {
        let is_for_tunnel = endpoint.may_speak_http2() && head.asks_for_websocket();
        if may_be_shared
            && endpoint.may_speak_http2()
            && !is_for_tunnel
            && let Some(ticket) = self.trunks.take(endpoint)
        {
            return Ok(Call::new(ticket, endpoint).into());
        }
        let since = Instant::now();
        let way = (endpoint, client);
        let reached = match is_for_tunnel {
            true => self.reach_for_tunnel(way, target.timeouts.connect, watch).await,
            false => self.connect(way, target, watch, &mut record.phase).await,
        };
        Waits::add(&mut record.waits.connect_us, since);
        reached
    }

    async fn connect(
        &self,
        (endpoint, client): (&Arc<Endpoint>, &Client),
        target: &Target,
        watch: &Watch,
        phase: &mut Phase,
    ) -> Result<Forward, Reject> {
        if !endpoint.may_speak_http2() {
            let place = match &endpoint.breaker {
                Some(breaker) => {
                    *phase = Phase::Queue;
                    breaker.connection(watch).await?
                }
                None => None,
            };
            *phase = Phase::Connect;
            let connecting = endpoint.connect_within(target.timeouts.connect, watch, Some(client.speaker()));
            let channel = connecting.await?;
            let mut exchange = Box::new(Exchange::new(channel, endpoint));
            exchange.lease_mut().hold_connection(place);
            return Ok(exchange.into());
        }
        *phase = Phase::Connect;
        watch.within(target.timeouts.connect);
        let mut reaching = pin!(self.trunks.reach(endpoint));
        let reached = watch.bound(|cx| reaching.as_mut().poll(cx)).await.map_err(endpoint::late)??;
        Ok(match reached {
            Reached::Trunk(ticket) => Call::new(ticket, endpoint).into(),
            Reached::Channel(channel) => Box::new(Exchange::new(*channel, endpoint)).into(),
        })
    }

    /// Tells standing and counters that a server has answered; gives how long after the request that was.
    fn note_answer(&self, endpoint: &Endpoint, status: u16, record: &Record) -> Duration {
        self.blame(endpoint, Ok(status));
        let (after, took_us) = record.since_sent();
        self.counters.answer((&endpoint.meter, &endpoint.label), (status, took_us));
        after
    }

    /// Tells an endpoint's standing what came of an exchange.
    fn blame(&self, endpoint: &Endpoint, outcome: Result<u16, &Reject>) {
        match outcome {
            Ok(status) if status < 500 && endpoint.standing.is_blameless() => {}
            Ok(status) => endpoint.standing.answered(status, &endpoint.way, self.now_ms()),
            Err(Reject::UpstreamError(_) | Reject::UpstreamTimeout) => {
                endpoint.standing.failed(&endpoint.way, self.now_ms());
            }
            Err(_) => {}
        }
    }

    /// What an upstream of the target is told of a request.
    fn onward<'a>(
        &'a self,
        client: &'a Client,
        target: &'a Target,
        host: &'a [u8],
        trace: Option<&'a Trace>,
    ) -> Onward<'a> {
        let rules = target.treatment.as_ref().and_then(|treatment| treatment.request.as_ref());
        let shown =
            client.tls.as_ref().and_then(|tls| tls.shown.as_ref()).filter(|_| target.tells_certificate);
        let certificate = shown.map(|shown| &*shown.lines);
        Onward { rules, certificate, trace, ..client.onward(host, &self.shared.via) }
    }

    async fn response_head(
        &self,
        exchange: &mut Forward,
        head: &RequestHead,
        body: &mut impl BodySource,
        (watch, target): (&Watch, &Target),
    ) -> Result<(), Failure> {
        let (body_timeout, mut pace) = {
            let limits = &self.rules().limits;
            // What comes message by message has no pace.
            let has_none = head.body == BodyLength::None || head.is_grpc();
            let rate = if has_none { 0 } else { limits.min_rate };
            (limits.body_timeout, Pace::new(rate, limits.body_timeout))
        };
        let deadline = grpc::timeout(head).map(|time| self.clock.now() + time);
        let left = |deadline: Instant| deadline.saturating_duration_since(self.clock.now());
        let within = |limit: Duration| watch.within(deadline.map_or(limit, |it| left(it).min(limit)));
        within(target.timeouts.response);
        let (mut seen, mut has_hung_up) = (0, false);
        poll_fn(|cx| {
            if let Err(expired) = watch.check(cx) {
                if expired == Expired::Cut {
                    return std::task::Poll::Ready(Err(Reject::Cut.into()));
                }
                if has_hung_up {
                    return std::task::Poll::Ready(Err(Reject::ClientGone.into()));
                }
                // The client's own deadline is nobody's fault.
                let is_over = deadline.is_some_and(|it| left(it).is_zero());
                let late = if is_over || exchange.waits_for_client() {
                    Reject::RequestTimeout
                } else {
                    Reject::UpstreamTimeout
                };
                return std::task::Poll::Ready(Err(late.into()));
            }
            let polled = exchange.poll_head(cx, head, body);
            if polled.is_pending() && exchange.body_octets() != seen {
                seen = exchange.body_octets();
                if !pace.keeps(self.clock.now(), exchange.waits_for_client(), seen) {
                    return std::task::Poll::Ready(Err(Reject::RequestTimeout.into()));
                }
                within(if exchange.waits_for_client() { body_timeout } else { target.timeouts.response });
            }
            if !has_hung_up && body.has_hung_up() {
                has_hung_up = true;
                watch.within(HUNG_UP_GRACE.min(target.timeouts.response));
                let _ = watch.check(cx);
            }
            polled
        })
        .await
    }
}

/// Servers that a request has tried in vain.
#[derive(Debug, Default)]
pub struct Tries {
    indexes: [usize; MAX_TRIES],
    len: usize,
}

impl Tries {
    fn tried(&self) -> &[usize] {
        &self.indexes[..self.len]
    }

    fn add(&mut self, index: usize) {
        if let Some(place) = self.indexes.get_mut(self.len) {
            *place = index;
            self.len += 1;
        }
    }
}
