//! From a target to a response head: which server, over which connection, and what follows where that fails.

mod answer;
mod tries;
mod tunnel;

pub use tries::Tries;

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
use crate::gate::record::{Record, Waits};
use crate::gate::reject::Reject;
use crate::gate::request::RequestHead;
use crate::gate::route::choose::Ask;
use crate::gate::route::standing;
use crate::gate::route::{Members, Target};
use crate::gate::trace::Trace;
use crate::gate::trunk::{NO_TUNNEL, Reached};
use crate::gate::watch::{Serving, Watch};
use crate::gate::{Incoming, affinity, judge};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A server that leaves a request unanswered where it is asked over a fresh connection as well.
const UNANSWERED: Reject = Reject::UpstreamError("took the request on no connection");

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
        let only = if tries.tried().is_empty() { members.only() } else { None };
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
        let tried = tries.tried().len();
        if tried > retries.most || members.len() <= tried {
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
            whose: client.whose(request.head, &self.rules().doors),
            is_acme_challenge: judge::is_acme_challenge(request.head),
        }));
        let mut tries = Tries::default();
        let members = self.members(target);
        let site = (target, &members);
        let ask = (client, request.head);
        record.phase = Phase::Connect;
        let (mut index, mut endpoint) = self.pick(site, (client, Some(request.head)), &tries)?;
        loop {
            if tries.are_begun() {
                poll_fn(|cx| Poll::Ready(request.body.poll_gone(cx))).await?;
            }
            let place = Self::place(endpoint, &mut *request.body, request.watch, record).await?;
            let found = self.over_which((endpoint, client), target, (&request, record), &tries).await;
            let mut exchange = match found {
                Ok(exchange) => exchange,
                Err(reject) => {
                    (index, endpoint) = self.after_failure(site, ask, (index, reject), &mut tries)?;
                    continue;
                }
            };
            if place.is_some() {
                exchange.lease_mut().hold(place);
            }
            let begun = self.begin((&mut exchange, request.head), (client, target), record);
            let answered = match begun {
                Ok(()) => {
                    let asked = (request.head, &mut *request.body);
                    self.response_head(&mut exchange, asked, (request.watch, target), &mut tries).await
                }
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(()) => {
                    let status = exchange.head().status;
                    let after = self.note_answer(endpoint, status, record);
                    if let Some(next) = self.after_answer(site, ask, (index, status), &mut tries) {
                        (index, endpoint) = next;
                        continue;
                    }
                    record.answered(status, after);
                    let member = &members[index];
                    if let Some(cookie) = affinity::binding(&target.choice, member, client, request.head) {
                        exchange.add_field(b"set-cookie", cookie.as_bytes());
                    }
                    return Ok(exchange);
                }
                // The request may have arrived on a connection of which nothing more was seen.
                Err(Failure::Stale) if !request.head.is_replayable() => {
                    return Err(Reject::UpstreamError("closed a kept connection"));
                }
                // It is sent again: once to this server, over a fresh connection, then to another.
                Err(Failure::Stale | Failure::Unseen) => {
                    if !tries.once_more(Instant::now()) {
                        (index, endpoint) = self.after_failure(site, ask, (index, UNANSWERED), &mut tries)?;
                    }
                }
                Err(Failure::Reject(reject)) => {
                    self.blame(endpoint, Err(&reject));
                    return Err(reject);
                }
            }
        }
    }

    /// Another server, after one failed before it had looked at the request.
    fn after_failure<'m>(
        &self,
        site: (&Target, &'m Members<'_>),
        (client, head): (&Client, &RequestHead),
        (index, reject): (usize, Reject),
        tries: &mut Tries,
    ) -> Result<(usize, &'m Arc<Endpoint>), Reject> {
        self.try_next(site, index, reject.clone(), tries)?;
        self.pick(site, (client, Some(head)), tries).map_err(|_| reject)
    }

    /// A connection for the request: one that was kept, where that may do, or a fresh one.
    async fn over_which(
        &self,
        way: (&Arc<Endpoint>, &Client),
        target: &Target,
        (request, record): (&Incoming<'_, impl BodySource>, &mut Record),
        tries: &Tries,
    ) -> Result<Forward, Reject> {
        let fresh_since = tries.fresh_since();
        let kept = if fresh_since.is_none() { self.pool.take(way.0, self.clock.now()) } else { None };
        if let Some(mut exchange) = kept {
            exchange.renew();
            return Ok(Forward::from(exchange));
        }
        Box::pin(self.reach(way, target, (request.watch, record), (request.head, fresh_since))).await
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
        (head, fresh_since): (&RequestHead, Option<Instant>),
    ) -> Result<Forward, Reject> {
        let is_for_tunnel = endpoint.may_speak_http2() && head.asks_for_websocket();
        if endpoint.may_speak_http2()
            && !is_for_tunnel
            && let Some(ticket) = self.trunks.take(endpoint, fresh_since)
        {
            return Ok(Call::new(ticket, endpoint).into());
        }
        let since = Instant::now();
        let way = (endpoint, client);
        let reached = match is_for_tunnel {
            true => self.reach_for_tunnel(way, target.timeouts.connect, watch, fresh_since).await,
            false => self.connect(way, target, (watch, &mut record.phase), fresh_since).await,
        };
        Waits::add(&mut record.waits.connect_us, since);
        reached
    }

    async fn connect(
        &self,
        (endpoint, client): (&Arc<Endpoint>, &Client),
        target: &Target,
        (watch, phase): (&Watch, &mut Phase),
        fresh_since: Option<Instant>,
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
        let mut reaching = pin!(self.trunks.reach(endpoint, fresh_since));
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
        Onward { rules, certificate, trace, ..client.onward(host, &self.shared.via, &self.rules().doors) }
    }
}
