//! One worker: a thread with its own runtime, upstream pool, counters and log buffer. On the request path it
//! shares nothing but the rules and the filing table, both read-only to it.

use crate::cache::{FilingCache, View};
use crate::gate::Incoming;
use crate::gate::affinity;
use crate::gate::body::BodySource;
use crate::gate::client::Client;
use crate::gate::endpoint::{Endpoint, Endpoints};
use crate::gate::exchange::{Exchange, Failure};
use crate::gate::judge;
use crate::gate::listen::Admission;
use crate::gate::pace::Pace;
use crate::gate::pool::Pool;
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::route::Target;
use crate::gate::route::choose::{Ask, MAX_TRIES};
use crate::gate::rules::Rules;
use crate::gate::sessions::cut;
use crate::gate::tls::CertificateStore;
use crate::gate::watch::{Clock, Expired, Serving, TICK, Watch};
use crate::telemetry::{
    AccessLogSink, Blocked, BlockedNotes, FooterReports, Life, LogBuffer, WorkerCounters,
};
use crate::verdict;
use arc_swap::ArcSwap;
use jiff::civil::Date;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Servers of a site that one request may try to connect to.
const MAX_CONNECT_TRIES: usize = 3;
const _: () = assert!(MAX_CONNECT_TRIES <= MAX_TRIES);
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
    /// Upstreams.
    pub endpoints: Arc<Endpoints>,
    /// What became of this process so far.
    pub life: Arc<Life>,
    /// Which domains are turned away.
    pub blocked: Blocked,
    /// What was seen at the foot of pages.
    pub footers: Arc<FooterReports>,
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
    blocked: RefCell<BlockedNotes>,
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
            blocked: RefCell::default(),
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
                let now_s = jiff::Timestamp::now().as_second();
                self.blocked.borrow_mut().hand_over(&self.shared.blocked, now_s);
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

    /// The time on the clock of upstreams' standing.
    pub fn now_ms(&self) -> u64 {
        self.shared.endpoints.millis(self.clock.now())
    }

    /// The server of the target that is next for this client, and its place.
    ///
    /// # Errors
    /// `UpstreamError` where there is none left.
    pub fn pick<'t>(
        &self,
        target: &'t Target,
        (client, head): (&Client, Option<&RequestHead>),
        tries: &Tries,
    ) -> Result<(usize, &'t Arc<Endpoint>), Reject> {
        let only = if tries.len == 0 { target.only() } else { None };
        let index = only.or_else(|| {
            target.pick(&Ask {
                key: affinity::key(&target.choice, client, head),
                sticky: None,
                random: self.next_number(),
                now_ms: self.now_ms(),
                tried: tries.tried(),
            })
        });
        let index = index.ok_or(Reject::UpstreamError("every upstream is taken out of use"))?;
        Ok((index, &target.members[index].endpoint))
    }

    /// A server failed before anything was sent to it: notes that, and lets another be tried.
    ///
    /// # Errors
    /// The failure itself, where there is no other or enough were tried.
    pub fn try_next(
        &self,
        index: usize,
        endpoint: &Endpoint,
        reject: Reject,
        tries: &mut Tries,
    ) -> Result<(), Reject> {
        if !matches!(reject, Reject::UpstreamError(_) | Reject::UpstreamTimeout) {
            return Err(reject);
        }
        endpoint.standing.failed(&endpoint.way, self.now_ms());
        tries.add(index);
        if tries.len < MAX_CONNECT_TRIES { Ok(()) } else { Err(reject) }
    }

    /// Tells log and counters of a finished request.
    pub fn tell(&self, record: &Record, client: &Client, head: &RequestHead) {
        record.tell(client, head, &self.counters, &mut self.log.borrow_mut());
        if let Some(turned) = record.turned(client) {
            self.blocked.borrow_mut().note(turned);
        }
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
        let mut tries = Tries::default();
        let (mut index, mut endpoint) = self.pick(target, (client, Some(request.head)), &tries)?;
        let mut may_be_kept = true;
        loop {
            let kept = if may_be_kept { self.pool.take(endpoint, self.clock.now()) } else { None };
            let mut exchange = match kept {
                Some(mut exchange) => {
                    exchange.renew();
                    exchange
                }
                None => match Box::pin(endpoint.connect_within(target.timeouts.connect, request.watch)).await
                {
                    Ok(channel) => Box::new(Exchange::new(channel, endpoint)),
                    Err(reject) => {
                        self.try_next(index, endpoint, reject.clone(), &mut tries)?;
                        let next = self.pick(target, (client, Some(request.head)), &tries);
                        (index, endpoint) = next.map_err(|_| reject)?;
                        may_be_kept = true;
                        continue;
                    }
                },
            };
            if self.log.borrow().is_on() {
                record.upstream = Some(Arc::clone(&endpoint.label));
            }
            exchange.begin(request.head, &client.onward(&record.host_text(), &self.shared.via));
            match self
                .response_head(&mut exchange, request.head, &mut *request.body, (request.watch, target))
                .await
            {
                Ok(()) => {
                    self.blame(endpoint, Ok(exchange.head.status));
                    record.answered(exchange.head.status);
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

fn today() -> Date {
    verdict::day(jiff::Timestamp::now())
}
