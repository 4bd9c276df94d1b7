//! What one request came to: gathered on the way, told to log and counters once, at its end.

use crate::block_page::Reason;
use crate::domain::HostForm;
use crate::filing::FilingNumber;
use crate::gate::client::Client;
use crate::gate::doors::Doors;
use crate::gate::ended::{self, By, Phase};
use crate::gate::reject::Reject;
use crate::gate::request::{Known, RequestHead};
use crate::gate::trace::{self, Trace};
use crate::gate::worker::Own;
use crate::telemetry::{AccessLine, LogBuffer, LogField, Span, TlsLine, TurnedAway, WorkerCounters};
use crate::verdict::{Decision, Verdict};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How a request ended, by the name that logs and metrics give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Forwarded under this verdict.
    Forwarded(Verdict),
    /// Answered by the gate.
    Own(Reason),
    /// A health check.
    Health,
    /// The client went away first.
    ClientGone,
}

impl Outcome {
    /// Names of all outcomes, in the order of `index`.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let forwarded =
            Verdict::ALL.into_iter().filter(|verdict| verdict.is_forwarded()).map(Verdict::as_str);
        let own = Reason::ALL.into_iter().map(Reason::as_str);
        forwarded.chain(own).chain(["health", "client_gone"]).collect()
    }

    /// Its place among `names`.
    #[must_use]
    pub fn index(self) -> usize {
        let own_from = 3;
        match self {
            Self::Forwarded(Verdict::Exempt) => 1,
            Self::Forwarded(Verdict::Unverified) => 2,
            Self::Forwarded(Verdict::Allow) => 0,
            // Monitor mode forwards what would be blocked: counted as what was decided.
            Self::Forwarded(decided) => {
                Self::Own(Reason::try_from(decided).unwrap_or(Reason::Unavailable)).index()
            }
            Self::Own(reason) => own_from + Reason::ALL.iter().position(|it| *it == reason).unwrap_or(0),
            Self::Health => own_from + Reason::ALL.len(),
            Self::ClientGone => own_from + Reason::ALL.len() + 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Forwarded(verdict) => verdict.as_str(),
            Self::Own(reason) => reason.as_str(),
            Self::Health => "health",
            Self::ClientGone => "client_gone",
        }
    }
}

/// How long a request waited, where it did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waits {
    /// For the rest of its head, once that had begun (HTTP/1).
    pub head_us: Option<u32>,
    /// For a place at an upstream.
    pub queue_us: Option<u32>,
    /// For connections to upstreams.
    pub connect_us: Option<u32>,
}

impl Waits {
    /// Adds what has passed since then; an hour is the most.
    pub fn add(wait: &mut Option<u32>, since: Instant) {
        let us = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
        *wait = Some(wait.unwrap_or(0).saturating_add(us));
    }
}

/// One request's facts.
#[derive(Debug)]
pub struct Record {
    started: Instant,
    /// The name that it was judged by.
    pub host: Option<HostForm>,
    /// How it ended.
    pub outcome: Outcome,
    /// The number that the decision rests on.
    pub number: Option<FilingNumber>,
    /// Octets at the host's end that are the filed name; 0 where no filing covers it.
    filed_len: u8,
    /// Whether an order for access here is under review.
    pub access_under_review: bool,
    /// The operator's own words on a block.
    pub operator_reason: Option<Box<str>>,
    /// What monitor mode or an ACME challenge was let through in spite of.
    pub would_block: Option<Verdict>,
    /// Names this request in the gate's own answer and in the log.
    pub verdict_id: u64,
    /// Status code that the client got.
    pub status: u16,
    /// For the log only.
    pub detail: Option<&'static str>,
    /// Where it went.
    pub upstream: Option<Own<str>>,
    upstream_time: Option<Duration>,
    /// The trace that was begun for it.
    pub trace: Option<Trace>,
    /// Where its site is counted apart.
    pub meter: Option<u16>,
    /// What it waited for.
    pub waits: Waits,
    /// How far it has come.
    pub phase: Phase,
    /// Who ended it, where that was not its end.
    pub ended_by: Option<By>,
    /// Octets of request body taken.
    pub bytes_in: u64,
    /// Octets of response body given.
    pub bytes_out: u64,
}

impl Record {
    /// Of a request that has just been read, under a number of its own.
    #[must_use]
    pub fn begin(verdict_id: u64) -> Self {
        Self {
            started: Instant::now(),
            host: None,
            outcome: Outcome::ClientGone,
            number: None,
            filed_len: 0,
            access_under_review: false,
            operator_reason: None,
            would_block: None,
            verdict_id,
            status: 0,
            detail: None,
            upstream: None,
            upstream_time: None,
            trace: None,
            meter: None,
            waits: Waits::default(),
            phase: Phase::Request,
            ended_by: None,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// The verdict has fallen.
    pub fn decided(&mut self, decision: &Decision<'_>) {
        self.outcome = Outcome::Forwarded(decision.verdict);
        self.number = decision.number().cloned();
        self.filed_len = decision.covering.as_ref().map_or(0, |covering| covering.filed_len);
        self.access_under_review =
            decision.covering.as_ref().is_some_and(|covering| covering.record.access_under_review);
        if decision.verdict == Verdict::OperatorBlock {
            self.operator_reason = decision.entry.map(|entry| entry.reason.as_str().into());
        }
    }

    /// How long it has taken so far, what it waited for on its way to the upstream left out, in microseconds.
    #[must_use]
    pub fn since_sent(&self) -> (Duration, u64) {
        let taken = self.started.elapsed();
        let waited =
            u64::from(self.waits.queue_us.unwrap_or(0)) + u64::from(self.waits.connect_us.unwrap_or(0));
        (taken, u64::try_from(taken.as_micros()).unwrap_or(u64::MAX).saturating_sub(waited))
    }

    /// The upstream's head has arrived, so long after the request's.
    pub fn answered(&mut self, status: u16, after: Duration) {
        self.status = status;
        self.upstream_time = Some(after);
        self.phase = Phase::Data;
    }

    /// The request is refused.
    pub fn reject(&mut self, reject: &Reject) {
        self.outcome = reject.reason().map_or(Outcome::ClientGone, Outcome::Own);
        self.detail = reject.detail();
        self.ended_by = Some(By::of(reject));
    }

    /// The host as text; empty where there was none.
    #[must_use]
    pub fn host_text(&self) -> Cow<'_, str> {
        match &self.host {
            Some(HostForm::Name(name)) => name.as_str().into(),
            Some(ip @ HostForm::Ip(_)) => ip.to_string().into(),
            None => "".into(),
        }
    }

    /// Tells `note` who was turned away, or would have been but for monitor mode; by the name that
    /// is filed, the host that the operator's list names, or the registrable domain.
    pub fn turned(&self, client: &Client, note: impl FnOnce(TurnedAway<'_>)) {
        let verdict = match (self.outcome, self.would_block) {
            (_, Some(verdict)) => verdict.as_str(),
            (Outcome::Own(reason), None) if reason.is_blocked() => reason.as_str(),
            _ => return,
        };
        let listener = client.listener.address;
        match &self.host {
            Some(HostForm::Name(name)) => {
                let whole = name.as_str();
                // The operator's list names hosts, and units have filings of their own: what is above may be in order.
                let domain = match usize::from(self.filed_len) {
                    _ if verdict == Verdict::OperatorBlock.as_str() => whole,
                    0 => name.registrable().unwrap_or(whole),
                    filed => &whole[whole.len().saturating_sub(filed)..],
                };
                note(TurnedAway { domain, verdict, listener });
            }
            Some(ip @ HostForm::Ip(_)) => note(TurnedAway { domain: &ip.to_string(), verdict, listener }),
            None => {}
        }
    }

    /// Whether it was forwarded because it may be.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.would_block.is_none()
            && matches!(self.outcome, Outcome::Forwarded(verdict) if verdict.is_forwarded())
    }

    /// The same as octets, without looking at a name again.
    #[must_use]
    pub fn host_octets(&self) -> Cow<'_, [u8]> {
        match &self.host {
            Some(HostForm::Name(name)) => name.as_bytes().into(),
            _ => self.host_text().into_owned().into_bytes().into(),
        }
    }

    /// Who ended it and when, as the log writes it.
    fn ended(&self) -> &'static str {
        let by = self.ended_by.or(match self.outcome {
            Outcome::ClientGone => Some(By::Client),
            Outcome::Health => Some(By::Local),
            _ => None,
        });
        ended::code(by, self.phase)
    }

    /// Tells counters and log, once.
    pub fn tell(
        &self,
        (client, doors): (&Client, &Doors),
        head: &RequestHead,
        counters: &WorkerCounters,
        log: &mut LogBuffer,
    ) {
        let duration_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let outcome = self.outcome.index();
        let listener = counters.listener_of(&client.listener.meter, || client.listener.label());
        counters.request((listener, outcome), duration_us, self.bytes_in, self.bytes_out);
        if let Some(site) = self.meter {
            counters.site(site, (outcome, self.status, duration_us), (self.bytes_in, self.bytes_out));
        }
        if self.would_block.is_some() {
            counters.one(|c| &c.would_block);
        }
        if !log.is_on() {
            return;
        }
        let lost = self.log((client, doors), head, duration_us, log);
        counters.several(|c| &c.log_dropped, lost);
    }

    /// What its trace shows of it, where that is recorded.
    #[must_use]
    pub fn span(&self, (client, doors): (&Client, &Doors), head: &RequestHead) -> Option<Span> {
        let trace = self.trace.filter(Trace::is_sampled)?;
        let duration = self.started.elapsed();
        let caller = client.caller(head, doors).unwrap_or(client.address.ip());
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Some(Span {
            trace: trace.id,
            span: trace.span,
            parent: trace.parent,
            begun: SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH),
            duration,
            method: text(head.method()),
            path: text(head.path()),
            is_tls: client.tls.is_some(),
            host: self.host_text().into_owned(),
            status: self.status,
            http: head.version.as_str(),
            client: caller.to_canonical().to_string(),
            verdict: self.outcome.name(),
            verdict_id: self.verdict_id,
            ended: self.ended(),
            upstream: self.upstream.as_deref().map(Arc::clone),
        })
    }

    /// Writes the log's line; gives how many lines were lost.
    fn log(
        &self,
        (client, doors): (&Client, &Doors),
        head: &RequestHead,
        duration_us: u64,
        log: &mut LogBuffer,
    ) -> u64 {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let tls = client.tls.as_ref().map(|tls| TlsLine {
            version: tls.version,
            cipher: tls.cipher,
            sni: tls.sni.as_ref().map(crate::domain::DomainName::as_str),
        });
        // Whoever speaks for nobody else is the caller.
        let is_told = log.wants(LogField::Caller) && client.is_trusted(doors);
        let caller = is_told.then(|| client.caller(head, doors)).flatten();
        let trace_id = || self.trace.map(|trace| trace.id).or_else(|| trace::given(head));
        log.add(&AccessLine {
            at_ms: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
            client: client.address,
            caller: caller.filter(|caller| *caller != client.address.ip().to_canonical()),
            listener: client.listener.address,
            listener_path: client.listener.local.as_deref(),
            http: head.version.as_str(),
            tls,
            method: head.method(),
            host: &self.host_octets(),
            target: head.target.of(&head.text),
            referer: if log.wants(LogField::Referer) { head.named(b"referer") } else { None },
            user_agent: head.values(Known::UserAgent).next(),
            status: self.status,
            verdict: self.outcome.name(),
            verdict_id: self.verdict_id,
            number: self.number.as_ref(),
            is_let_through: self.would_block.is_some(),
            detail: self.detail,
            upstream: self.upstream.as_ref().map(|label| &***label),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            duration_us,
            upstream_us: self.upstream_time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
            head_us: self.waits.head_us.map(u64::from),
            queue_us: self.waits.queue_us.map(u64::from),
            connect_us: self.waits.connect_us.map(u64::from),
            ended: self.ended(),
            trace_id: if log.wants(LogField::TraceId) { trace_id() } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_name_and_place() {
        let names = Outcome::names();
        let forwarded = Verdict::ALL.into_iter().filter(|v| v.is_forwarded()).map(Outcome::Forwarded);
        let own = Reason::ALL.into_iter().map(Outcome::Own);
        for outcome in forwarded.chain(own).chain([Outcome::Health, Outcome::ClientGone]) {
            assert_eq!(names[outcome.index()], outcome.name());
        }
    }
}
