//! One worker: a thread with its own runtime, upstream pool, counters and log buffer. On the request path it
//! shares nothing but the rules and the filing table, both read-only to it.

use crate::cache::{FilingCache, View};
use crate::gate::Incoming;
use crate::gate::body::BodySource;
use crate::gate::client::Client;
use crate::gate::exchange::{Exchange, Failure};
use crate::gate::judge;
use crate::gate::listen::Admission;
use crate::gate::pace::Pace;
use crate::gate::pool::{self, Endpoint, Pool};
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::route::Target;
use crate::gate::rules::Rules;
use crate::gate::sessions::cut;
use crate::gate::stream::Channel;
use crate::gate::tls::CertificateStore;
use crate::gate::watch::{Clock, Expired, Serving, TICK, Watch};
use crate::telemetry::{AccessLogSink, LogBuffer, WorkerCounters};
use crate::verdict;
use arc_swap::ArcSwap;
use jiff::civil::Date;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Endpoints of a site that one request may try to connect to.
const MAX_CONNECT_TRIES: usize = 3;
/// How long a client that sends nothing more is taken to wait for its answer: some say so when their request is
/// out, but most are gone.
const HUNG_UP_GRACE: Duration = Duration::from_secs(5);
/// Ticks between looks through the idle upstream connections.
const SWEEP_TICKS: u64 = 20;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// What a reload swaps.
    pub rules: ArcSwap<Rules>,
    /// Certificates.
    pub certificates: ArcSwap<CertificateStore>,
    /// Filings.
    pub cache: Arc<FilingCache>,
    /// Who may still connect.
    pub admission: Arc<Admission>,
    /// This gate's name in Via.
    pub via: String,
    /// Tells clients apart for `balance = "hash"`, the same on every worker.
    pub hash: RandomState,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// What all share.
    pub shared: Arc<Shared>,
    /// Deadlines.
    pub clock: Rc<Clock>,
    /// Idle upstream connections.
    pub pool: Pool,
    /// Counters.
    pub counters: Arc<WorkerCounters>,
    log: RefCell<LogBuffer>,
    today: Cell<Date>,
    random: Cell<u64>,
}

impl Worker {
    /// A worker that will run on this thread.
    #[must_use]
    pub fn new(shared: Arc<Shared>, counters: Arc<WorkerCounters>, log: Option<AccessLogSink>) -> Rc<Self> {
        Rc::new(Self {
            shared,
            clock: Clock::new(),
            pool: Pool::default(),
            counters,
            log: RefCell::new(LogBuffer::new(log)),
            today: Cell::new(today()),
            random: Cell::new(RandomState::new().hash_one(0)),
        })
    }

    /// Keeps time, and ends what may no longer be served; for as long as the worker lives.
    pub async fn run(&self) {
        tokio::join!(self.tick(), cut::run(self));
    }

    /// Moves the clock, hands the log over, sweeps the pool.
    async fn tick(&self) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for ticks in 0_u64.. {
            interval.tick().await;
            let now = Instant::now();
            self.clock.tick(now);
            self.hand_over_log();
            if ticks % SWEEP_TICKS == 0 {
                self.today.set(today());
                self.pool.sweep(now);
            }
        }
    }

    /// Hands over what the log holds.
    pub fn hand_over_log(&self) {
        let lost = self.log.borrow_mut().hand_over();
        self.counters.several(|c| &c.log_dropped, lost);
    }

    /// The rules in force.
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.shared.rules.load()
    }

    /// The filings in force.
    pub fn filings(&self) -> View<'_> {
        self.shared.cache.at(self.clock.now())
    }

    /// The pace that a client must keep in taking an answer.
    pub fn pace(&self) -> Pace {
        let limits = &self.rules().limits;
        Pace::new(limits.min_rate, limits.body_timeout)
    }

    /// Today in UTC+8.
    pub fn today(&self) -> Date {
        self.today.get()
    }

    /// A number that looks random; never 0. Also the id of a verdict.
    pub fn next_number(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).max(1)
    }

    /// The endpoint of the target that is next for this client.
    pub fn pick<'t>(&self, target: &'t Target, client: &Client) -> &'t Arc<Endpoint> {
        match &target.endpoints[..] {
            [only] => only,
            _ => target.pick(self.shared.hash.hash_one(client.address.ip()), self.next_number()),
        }
    }

    /// Tells log and counters of a finished request.
    pub fn tell(&self, record: &Record, client: &Client, head: &RequestHead) {
        record.tell(client, head, &self.counters, &mut self.log.borrow_mut());
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
    ) -> Result<Box<Exchange>, Reject> {
        request.watch.serve(record.host.as_ref().map(|host| Serving {
            host,
            defaults: client.listener.defaults(),
            is_acme_challenge: judge::is_acme_challenge(request.head),
        }));
        let endpoint = self.pick(target, client);
        let mut kept = self.pool.take(endpoint, self.clock.now());
        loop {
            let mut exchange = match kept.take() {
                Some(mut exchange) => {
                    exchange.renew(endpoint);
                    exchange
                }
                None => {
                    let connecting = Box::pin(self.connect(target, endpoint, request.watch));
                    let (channel, endpoint) = connecting.await?;
                    Box::new(Exchange::new(channel, &endpoint))
                }
            };
            if self.log.borrow().is_on() {
                record.upstream = Some(Arc::clone(&exchange.endpoint().label));
            }
            exchange.begin(request.head, &client.onward(&record.host_text(), &self.shared.via));
            match self
                .response_head(&mut exchange, request.head, &mut *request.body, (request.watch, target))
                .await
            {
                Ok(()) => {
                    record.answered(exchange.head.status);
                    return Ok(exchange);
                }
                // Nothing of a response was seen on a connection that had been kept: it may have been closed
                // before the request arrived. What is safe to send twice is, once, over a fresh connection.
                Err(Failure::Stale) if request.head.is_replayable() => {}
                Err(Failure::Stale) => return Err(Reject::UpstreamError("closed a kept connection")),
                Err(Failure::Reject(reject)) => return Err(reject),
            }
        }
    }

    async fn response_head(
        &self,
        exchange: &mut Exchange,
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
        watch.within(target.timeouts.response);
        let (mut seen, mut has_hung_up) = (0, false);
        poll_fn(|cx| {
            if let Err(expired) = watch.check(cx) {
                if expired == Expired::Cut {
                    return std::task::Poll::Ready(Err(Reject::Cut.into()));
                }
                if has_hung_up {
                    return std::task::Poll::Ready(Err(Reject::ClientGone.into()));
                }
                let late = if exchange.waits_for_client() {
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
                watch.within(if exchange.waits_for_client() {
                    body_timeout
                } else {
                    target.timeouts.response
                });
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

    /// Connects to `first`, or to another endpoint of the target where that fails: nothing was sent yet.
    async fn connect(
        &self,
        target: &Target,
        first: &Arc<Endpoint>,
        watch: &Watch,
    ) -> Result<(Channel, Arc<Endpoint>), Reject> {
        let start = target.endpoints.iter().position(|it| Arc::ptr_eq(it, first)).unwrap_or(0);
        let others =
            target.endpoints.iter().cycle().skip(start).take(target.endpoints.len().min(MAX_CONNECT_TRIES));
        let mut failure = Reject::UpstreamError("no endpoint");
        for endpoint in others {
            match pool::connect_within(endpoint, target.timeouts.connect, watch).await {
                Ok(channel) => return Ok((channel, Arc::clone(endpoint))),
                Err(reject) => failure = reject,
            }
        }
        Err(failure)
    }
}

fn today() -> Date {
    verdict::day(jiff::Timestamp::now())
}
