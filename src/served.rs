//! The hosts that are served here: how each is judged, and every change of that, as it comes into force and whether or not
//! anybody asks.
//!
//! Knows the hosts that sites name and those that workers served lately, boundedly; a gate holds filings by fingerprint, so
//! of other names it could tell nothing. Judges as requests are judged, on the control thread, those that a
//! change concerns.

mod book;

use crate::cache::{Seen, Since};
use crate::domain::HostForm;
use crate::feed::Fingerprint;
use crate::follow::{FollowStats, HeldUpdate};
use crate::gate::client::Defaults;
use crate::gate::judge;
use crate::gate::rules::Rules;
use crate::gate::worker::Shared;
use crate::telemetry::{AuditEvent, AuditSink, ServedName, ServedState, VerdictChange};
use crate::verdict::{self, Verdict};
use crate::warnings::WarningSink;
use book::{Book, Standing};
use jiff::civil::Date;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::yield_now;

/// Between two looks where nothing is told to have changed.
const LOOK: Duration = Duration::from_secs(1);
/// Hosts that are judged before others on the control thread have their turn.
const SLICE: usize = 512;
/// Hosts that are taken in before changes are looked at again.
const MAX_TAKEN: usize = 1024;

/// Watches over the hosts that are served here.
#[derive(Debug)]
pub struct Watcher {
    /// What workers share.
    pub shared: Arc<Shared>,
    /// Updates that wait.
    pub stats: Arc<FollowStats>,
    /// Hosts that workers served.
    pub from: Receiver<ServedName>,
    /// Whom changes are told.
    pub audit: Option<AuditSink>,
    /// And who warns of them.
    pub warnings: Option<WarningSink>,
    /// How many are known.
    pub state: Arc<ServedState>,
    /// Hosts that are known at most.
    pub most: usize,
}

/// Up to where all that is known has been judged.
#[derive(Debug, Default)]
struct Judged {
    seen: Seen,
    rules: Option<Arc<Rules>>,
    today: Option<Date>,
    /// Whether filings could be relied on.
    is_reliable: Option<bool>,
    held: Option<HeldUpdate>,
    changed: Vec<Fingerprint>,
}

impl Watcher {
    /// Watches until told to stop.
    pub async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let shared = Arc::clone(&self.shared);
        let (mut book, mut judged) = (Book::new(self.most), Judged::default());
        loop {
            // Before the look: a change during it ends the wait.
            let mut next = pin!(shared.cache.changed().next());
            next.as_mut().enable();
            self.look(&mut book, &mut judged).await;
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => return,
                Some(name) = self.from.recv() => self.take(&mut book, name),
                _ = tokio::time::timeout(LOOK, next) => {}
            }
        }
    }

    fn take(&mut self, book: &mut Book, first: ServedName) {
        let mut name = Some(first);
        for _ in 0..MAX_TAKEN {
            let Some(ServedName { host, scenario, region }) = name else { break };
            if let Ok(host) = HostForm::from_user(&host)
                && let Some(place) = book.add(host, Defaults { scenario, region }, Instant::now())
            {
                self.begin(book, place);
            }
            name = self.from.try_recv().ok();
        }
        self.count(book);
    }

    fn count(&self, book: &Book) {
        self.state.hosts.store(book.len() as u64, Ordering::Relaxed);
        self.state.unwatched.store(book.unwatched(), Ordering::Relaxed);
    }

    /// Judges a host that is new here.
    fn begin(&self, book: &mut Book, place: usize) {
        let filings = self.shared.cache.at(Instant::now());
        book.index(place, &filings);
        if filings.is_synced() && !filings.is_stale() {
            let rules = self.shared.rules.load_full();
            self.judge(book, [place].into_iter(), &rules);
        }
    }

    async fn look(&self, book: &mut Book, judged: &mut Judged) {
        let since = self.shared.cache.changed().read(&mut judged.seen, &mut judged.changed);
        let rules = self.shared.rules.load_full();
        let is_other = judged.rules.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &rules));
        if is_other {
            self.take_configured(book, &rules);
            judged.rules = Some(Arc::clone(&rules));
        }
        self.tell_held(judged);
        let today = Some(verdict::day(jiff::Timestamp::now()));
        let is_another_day = std::mem::replace(&mut judged.today, today) != today;
        let (is_reliable, was_reliable) = (self.is_reliable(), judged.is_reliable);
        judged.is_reliable = Some(is_reliable);
        if was_reliable.unwrap_or(false) != is_reliable {
            self.tell(AuditEvent::Filings { reliable: is_reliable, hosts: book.len() });
        }
        let is_everybody = since == Since::Anything || is_other || is_another_day;
        if since == Since::Anything {
            let filings = self.shared.cache.at(Instant::now());
            book.places().for_each(|place| book.index(place, &filings));
        }
        if !is_reliable {
            return;
        }
        if is_everybody || was_reliable != Some(true) {
            let places: Vec<_> = book.places().collect();
            for slice in places.chunks(SLICE) {
                self.judge(book, slice.iter().copied(), &rules);
                yield_now().await;
            }
        } else {
            let concerned = book.under(&judged.changed);
            for slice in concerned.chunks(SLICE) {
                self.judge(book, slice.iter().copied(), &rules);
                yield_now().await;
            }
        }
        book.forget_unseen(Instant::now());
        self.count(book);
    }

    /// Takes in the hosts that sites name.
    fn take_configured(&self, book: &mut Book, rules: &Rules) {
        let defaults = Defaults { scenario: rules.default_scenario, region: rules.default_region };
        for host in rules.routes.exact_hosts() {
            if let Ok(host) = HostForm::from_user(&host)
                && let Some(place) = book.add_configured(host, defaults)
            {
                book.index(place, &self.shared.cache.at(Instant::now()));
            }
        }
    }

    /// Whether verdicts rest on filings now.
    fn is_reliable(&self) -> bool {
        let filings = self.shared.cache.at(Instant::now());
        filings.is_synced() && !filings.is_stale()
    }

    fn tell_held(&self, judged: &mut Judged) {
        let held = self.stats.held();
        let event = |state, of: HeldUpdate| AuditEvent::Held {
            state,
            newly_blocked: of.effect.newly_blocked,
            of: of.effect.of,
        };
        let same = |it: Option<HeldUpdate>| it.map(|it| (it.effect, it.is_refused));
        if same(held) == same(judged.held) {
            return;
        }
        match (held, judged.held) {
            (Some(held), _) => self.tell(event(if held.is_refused { "refused" } else { "waiting" }, held)),
            (None, Some(before)) => self.tell(event("over", before)),
            (None, None) => {}
        }
        judged.held = held;
    }

    /// Judges these anew, and tells of each that is judged otherwise than before.
    fn judge(&self, book: &mut Book, places: impl Iterator<Item = usize>, rules: &Rules) {
        let position = self.shared.cache.status().position;
        let today = verdict::day(jiff::Timestamp::now());
        let filings = self.shared.cache.at(Instant::now());
        for place in places {
            let Some(known) = book.get_mut(place) else { continue };
            let site = judge::site(rules, &known.host);
            let decision = judge::decide(rules, known.defaults, (&known.host, site), &filings, today);
            if decision.verdict == Verdict::Unavailable {
                continue;
            }
            let standing = Standing { verdict: decision.verdict, number: decision.number().cloned() };
            if known.standing.as_ref() == Some(&standing) {
                continue;
            }
            let was = known.standing.replace(standing).map(|was| was.verdict.as_str());
            let product = judge::product(known.defaults, site);
            let (because_zh, because) = decision.because();
            let covering = decision.covering.as_ref().zip(known.host.name());
            let is_monitored =
                !decision.verdict.is_forwarded() && judge::mode(rules, site) == crate::config::Mode::Monitor;
            self.tell(AuditEvent::Verdict(VerdictChange {
                host: known.host.to_string(),
                scenario: product.scenario.as_str(),
                region: product.region.as_str(),
                was,
                verdict: decision.verdict.as_str(),
                served: is_monitored.then_some("monitor"),
                number: decision.number().map(ToString::to_string),
                status: covering.map(|(covering, _)| covering.record.status.as_str()),
                decided_by: match (covering, decision.entry) {
                    (Some((covering, name)), _) => Some(covering.filed_name(name).to_owned()),
                    (None, entry) => entry.map(|entry| entry.pattern.to_string()),
                },
                because_zh,
                because,
                position: [position.epoch, position.seq],
            }));
        }
    }

    fn tell(&self, event: AuditEvent) {
        if let Some(warnings) = &self.warnings {
            warnings.happened(&event);
        }
        if let Some(audit) = &self.audit {
            audit.tell(event);
        }
    }
}
