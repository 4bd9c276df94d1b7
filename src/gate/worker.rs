//! One worker: a thread with its own runtime, upstream pool, counters and log buffer. On the request path it
//! shares nothing but the rules and the filing table, both read-only to it.

mod ahead;
mod mine;
mod onward;

pub use mine::Own;
pub use onward::Tries;

use crate::cache::{FilingCache, View};
use crate::gate::client::{Client, Defaults};
use crate::gate::endpoint::{Endpoint, Endpoints};
use crate::gate::headers;
use crate::gate::listen::Admission;
use crate::gate::overload::{Descriptors, Load, Overload};
use crate::gate::pace::Pace;
use crate::gate::pool::Pool;
use crate::gate::rate::ClientRates;
use crate::gate::record::Record;
use crate::gate::request::{RequestHead, Version};
use crate::gate::route::{Members, Target};
use crate::gate::rules::Rules;
use crate::gate::sessions::cut;
use crate::gate::tls::CertificateStore;
use crate::gate::trace::Trace;
use crate::gate::trunk::Trunks;
use crate::gate::watch::{Clock, TICK};
use crate::telemetry::{
    AccessLogSwitch, AuditSink, Blocked, BlockedNotes, FooterReports, Life, LogBuffer, NameNotes, Reopen,
    ServedNamesSink, SpanSink, WorkerCounters,
};
use crate::verdict;
use arc_swap::ArcSwap;
use jiff::civil::Date;
use mine::Mine;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// What each client asked for lately.
    pub rates: ClientRates,
    /// How often each client connected lately.
    pub connection_rates: ClientRates,
    /// The process's open descriptors.
    pub descriptors: Descriptors,
    /// Asks for the access log's file to be opened anew.
    pub reopen: Reopen,
    /// Where blocked domains are recorded, if they are.
    pub audit: Option<AuditSink>,
    /// Where hosts that were served are noted, if they are.
    pub served: Option<ServedNamesSink>,
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
    /// HTTP/2 connections to upstreams.
    pub trunks: Trunks,
    /// Whether there is too much to do.
    pub overload: Overload,
    /// Counters.
    pub counters: Arc<WorkerCounters>,
    mine: Mine,
    /// What HTTP/2 responses say of their way; `None` for a name that no field can hold.
    vias: [String; 3],
    log: RefCell<LogBuffer>,
    spans: Option<SpanSink>,
    blocked: RefCell<BlockedNotes>,
    names: Option<RefCell<NameNotes>>,
    /// HTTP/1 connections that wait with all that serving them takes.
    pub ready: Cell<usize>,
    today: Cell<Date>,
    random: Cell<u64>,
}

impl Worker {
    /// A worker that will run on this thread.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        counters: Arc<WorkerCounters>,
        (log, spans): (Arc<AccessLogSwitch>, Option<SpanSink>),
    ) -> Rc<Self> {
        Rc::new(Self {
            mine: Mine::new(&shared),
            names: shared.served.clone().map(|sink| RefCell::new(NameNotes::new(sink))),
            vias: headers::response_vias(&shared.via),
            shared,
            clock: Clock::new(),
            pool: Pool::default(),
            trunks: Trunks::default(),
            overload: Overload::default(),
            counters,
            log: RefCell::new(LogBuffer::new(log)),
            spans,
            blocked: RefCell::default(),
            ready: Cell::new(0),
            today: Cell::new(today()),
            random: Cell::new(RandomState::new().hash_one(0)),
        })
    }

    /// Keeps time, and ends what may no longer be served; for as long as the worker lives.
    pub async fn run(&self) {
        tokio::join!(self.tick(), cut::run(self), ahead::run(self));
    }

    /// Moves the clock, hands the log over, sweeps the pool.
    async fn tick(&self) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for ticks in 0_u64.. {
            let meant = interval.tick().await.into_std();
            let now = Instant::now();
            self.clock.tick(now);
            self.look_at_load(now.saturating_duration_since(meant));
            self.hand_over_log();
            self.pool.make_room();
            self.pool.let_go(now, self.overload.is_over());
            if ticks % SWEEP_TICKS == 0 {
                let now_s = jiff::Timestamp::now().as_second();
                self.hand_over_notes(now_s, now);
                self.today.set(today());
                self.pool.sweep(now);
                self.trunks.sweep(now);
            }
        }
    }

    fn look_at_load(&self, lag: Duration) {
        let admission = &self.shared.admission;
        let load = Load {
            connections: admission.open(),
            most_connections: admission.most(),
            descriptors: &self.shared.descriptors,
            lag,
        };
        if self.overload.look(&self.rules().limits.overload, &load) {
            match self.overload.is_over() {
                true => self.counters.one(|c| &c.shedding),
                false => self.counters.one_less(|c| &c.shedding),
            }
        }
    }

    /// Hands over all that was gathered, at the end.
    pub fn hand_over_all(&self) {
        self.hand_over_log();
        self.hand_over_notes(jiff::Timestamp::now().as_second(), Instant::now());
    }

    fn hand_over_notes(&self, now_s: i64, now: Instant) {
        self.blocked.borrow_mut().hand_over(&self.shared.blocked, now_s, self.shared.audit.as_ref());
        if let Some(names) = &self.names {
            names.borrow_mut().tick(now);
        }
    }

    /// Hands over what the log holds, and looks where it goes from here on.
    fn hand_over_log(&self) {
        let mut log = self.log.borrow_mut();
        let lost = log.hand_over() + log.follow();
        self.counters.several(|c| &c.log_dropped, lost);
    }

    /// The rules in force, as this worker's own.
    pub fn rules(&self) -> Own<Rules> {
        self.mine.rules()
    }

    /// A target of theirs as this worker's own: requests that go there count it here, not where all workers write.
    pub fn own(&self, target: &Arc<Target>) -> Own<Target> {
        self.mine.target(target)
    }

    /// The servers of a target, as they are now, likewise.
    pub fn members<'t>(&self, target: &'t Target) -> Members<'t> {
        self.mine.members(target)
    }

    /// What an endpoint is called in the log, likewise.
    pub fn label(&self, endpoint: &Endpoint) -> Own<str> {
        self.mine.label(endpoint)
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

    /// The Via of a response to HTTP/2 that an upstream sent in such a version.
    pub fn via(&self, version: Version) -> &str {
        let place = match version {
            Version::Http10 => 0,
            Version::Http11 => 1,
            Version::Http2 => 2,
        };
        &self.vias[place]
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

    /// The trace that a request gets from the gate; `None`: it has what it came with, or needs none.
    pub fn trace(&self, rules: &Rules, head: &RequestHead) -> Option<Trace> {
        match &self.spans {
            Some(spans) => Some(Trace::joined(head, || self.next_number(), |number| spans.samples(number))),
            None if rules.trace => Trace::unless_given(head, || self.next_number()),
            None => None,
        }
    }

    /// Tells log and counters of a finished request.
    pub fn tell(&self, record: &Record, client: &Client, head: &RequestHead) {
        let rules = self.rules();
        record.tell((client, &rules.doors), head, &self.counters, &mut self.log.borrow_mut());
        if let Some(spans) = &self.spans
            && let Some(span) = record.span((client, &rules.doors), head)
        {
            spans.send(span);
        }
        record.turned(client, |turned| self.blocked.borrow_mut().note(turned, self.shared.audit.as_ref()));
        if let Some(names) = &self.names
            && record.is_served()
        {
            let Defaults { scenario, region } = rules.doors.of(&client.listener).defaults();
            names.borrow_mut().note(&record.host_text(), scenario, region);
        }
    }
}

fn today() -> Date {
    verdict::day(jiff::Timestamp::now())
}
