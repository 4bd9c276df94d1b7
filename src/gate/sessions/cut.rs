//! Ends what is being served once it may no longer be: judges again whom a change concerns.
//!
//! A filing that changed concerns the sessions under its fingerprint. What fingerprints can't tell (other
//! rules, another day, another epoch, staleness, more changes than are remembered) concerns everybody; then all
//! are judged. Either way it goes by slices, between which requests have their turn. Nothing slips through: a session
//! is noted in the same step in which it is judged, without a wait in between, and a look first reads what has
//! changed, then puts the noted into the index, then judges.

use crate::cache::{Seen, Since};
use crate::config::Mode;
use crate::feed::Fingerprint;
use crate::gate::judge;
use crate::gate::rules::Rules;
use crate::gate::watch::{Live, TICK};
use crate::gate::worker::Worker;
use jiff::civil::Date;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

/// Sessions that are judged before requests have their turn: well under a millisecond.
const SLICE: usize = 1024;
/// The least between two looks, however many changes stream in; also what a stream that is cut has for answering.
const PAUSE: Duration = Duration::from_millis(10);

/// Up to where everything that is served has been judged.
#[derive(Debug, Default)]
struct Judged {
    seen: Seen,
    is_stale: bool,
    /// Held, so that no others can come to lie at the same address.
    rules: Option<Arc<Rules>>,
    today: Option<Date>,
    /// Of one look; kept for their room.
    changed: Vec<Fingerprint>,
    concerned: Vec<usize>,
}

/// Looks whenever filings change, and every tick; for as long as the worker lives.
pub async fn run(worker: &Worker) {
    let mut judged = Judged::default();
    loop {
        // Before the look: a change during it ends the wait.
        let mut next = pin!(worker.shared.cache.changed().next());
        next.as_mut().enable();
        judged.look(worker).await;
        sleep(PAUSE).await;
        // Whichever it was, it is time to look again.
        let _ = timeout(TICK, next).await;
    }
}

impl Judged {
    async fn look(&mut self, worker: &Worker) {
        let since = worker.shared.cache.changed().read(&mut self.seen, &mut self.changed);
        let is_everybody = self.take_state(worker);
        index_noted(worker);
        if is_everybody || since == Since::Anything {
            return everybody(worker, since).await;
        }
        self.concerned.clear();
        worker.clock.under(&self.changed, &mut self.concerned);
        // What is open now under a number of these may be another by then: asking it does no harm.
        for slice in self.concerned.chunks(SLICE) {
            judge_again(worker, slice.iter().copied());
            yield_now().await;
        }
    }

    /// Whether something changed that no fingerprint tells. What is current is judged by from here on.
    fn take_state(&mut self, worker: &Worker) -> bool {
        let rules = worker.rules();
        let (is_stale, today) = (worker.filings().is_stale(), Some(worker.today()));
        let is_same = self.rules.as_ref().is_some_and(|known| Arc::ptr_eq(known, &rules))
            && (self.is_stale, self.today) == (is_stale, today);
        (self.rules, self.is_stale, self.today) = (Some(Arc::clone(&rules)), is_stale, today);
        !is_same
    }
}

/// Judges all that is served. Under another epoch's key the index is made anew on the way.
async fn everybody(worker: &Worker, since: Since) {
    let mut from = 0;
    while from < worker.clock.ceiling() {
        let slice = from..from + SLICE;
        if since == Since::Anything {
            let filings = worker.filings();
            slice.clone().for_each(|session| worker.clock.index(session, &filings));
        }
        judge_again(worker, slice.clone());
        from = slice.end;
        yield_now().await;
    }
}

fn index_noted(worker: &Worker) {
    let filings = worker.filings();
    while let Some(session) = worker.clock.take_noted() {
        worker.clock.index(session, &filings);
    }
}

fn judge_again(worker: &Worker, sessions: impl Iterator<Item = usize>) {
    let (rules, filings, today) = (worker.rules(), worker.filings(), worker.today());
    let may_go_on = |live: &Live| {
        let site = judge::site(&rules, &live.host);
        let door = rules.doors.at(live.whose.place);
        let decision = judge::decide(&rules, door.defaults(), (&live.host, site), &filings, today);
        let is_let_through = decision.verdict.is_forwarded()
            || judge::mode(&rules, site) == Mode::Monitor
            || (rules.acme_passthrough && live.is_acme_challenge);
        is_let_through && judge::admits(door, &live.whose, site)
    };
    let cut = sessions.filter(|session| worker.clock.cut(*session, may_go_on)).count();
    worker.counters.several(|c| &c.cut, cut.try_into().unwrap_or(u64::MAX));
}
