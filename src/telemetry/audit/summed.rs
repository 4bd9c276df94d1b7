//! Blocked domains as the audit log tells of them: the first time at once, then how often, once a minute.

use super::AuditEvent;
use crate::telemetry::Turned;
use std::collections::HashMap;

/// Between two sums.
const SUM_S: i64 = 60;
/// A domain that was not asked for as long is told of as for the first time.
const FORGET_S: i64 = 3600;
/// Domains that are told apart.
const MAX_DOMAINS: usize = 20_000;
/// Domains that are told of for the first time within one minute; made-up names shall not fill the disk.
const MAX_FIRST: usize = 6000;

#[derive(Debug)]
struct Sum {
    requests: u64,
    last_s: i64,
}

/// What was not told yet.
#[derive(Debug, Default)]
pub(super) struct Summed {
    domains: HashMap<Turned, Sum>,
    others: u64,
    first: usize,
    /// When the sums were told last.
    since_s: Option<i64>,
}

impl Summed {
    /// A domain was turned away so often; the record, where it is the first time.
    pub(super) fn add(&mut self, turned: Turned, requests: u64, now_s: i64) -> Option<AuditEvent> {
        self.since_s.get_or_insert(now_s);
        if let Some(sum) = self.domains.get_mut(&turned) {
            sum.requests += requests;
            sum.last_s = now_s;
            return None;
        }
        if self.domains.len() >= MAX_DOMAINS || self.first >= MAX_FIRST {
            self.others += requests;
            return None;
        }
        self.first += 1;
        let event = AuditEvent::Blocked {
            domain: turned.domain.to_string(),
            verdict: turned.verdict,
            listener: turned.listener.to_string(),
        };
        self.domains.insert(turned, Sum { requests: requests.saturating_sub(1), last_s: now_s });
        Some(event)
    }

    /// Others were, so often.
    pub(super) fn others(&mut self, requests: u64) {
        self.others += requests;
    }

    /// The sums, where a minute is over.
    pub(super) fn due(&mut self, now_s: i64) -> Vec<AuditEvent> {
        let since_s = *self.since_s.get_or_insert(now_s);
        // A clock that was put back begins anew.
        if (0..SUM_S).contains(&(now_s - since_s)) {
            return Vec::new();
        }
        self.since_s = Some(now_s);
        let sums = self.all();
        self.domains.retain(|_, sum| now_s - sum.last_s < FORGET_S);
        sums
    }

    /// The sums.
    pub(super) fn all(&mut self) -> Vec<AuditEvent> {
        self.first = 0;
        let again = self.domains.iter_mut().filter(|(_, sum)| sum.requests > 0);
        let mut events: Vec<_> = again
            .map(|(turned, sum)| AuditEvent::BlockedAgain {
                domain: turned.domain.to_string(),
                verdict: turned.verdict,
                listener: turned.listener.to_string(),
                requests: std::mem::take(&mut sum.requests),
            })
            .collect();
        if self.others > 0 {
            events.push(AuditEvent::BlockedOthers { requests: std::mem::take(&mut self.others) });
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(domain: &str) -> Turned {
        Turned { domain: domain.into(), verdict: "unfiled", listener: "127.0.0.1:80".parse().unwrap() }
    }

    fn requests(events: &[AuditEvent]) -> Vec<u64> {
        let mut requests: Vec<_> = events
            .iter()
            .map(|event| match event {
                AuditEvent::BlockedAgain { requests, .. } | AuditEvent::BlockedOthers { requests } => {
                    *requests
                }
                other => panic!("{other:?}"),
            })
            .collect();
        requests.sort_unstable();
        requests
    }

    #[test]
    fn first_at_once_then_by_the_minute() {
        let mut summed = Summed::default();
        assert!(matches!(summed.add(turned("a.cn"), 3, 0), Some(AuditEvent::Blocked { .. })));
        assert_eq!(summed.add(turned("a.cn"), 2, 10), None);
        assert!(summed.add(turned("b.cn"), 1, 20).is_some());
        assert_eq!(summed.due(59), []);
        assert_eq!(requests(&summed.due(60)), [4], "of a.cn; b.cn was told of already");
        assert_eq!(summed.due(120), []);
        summed.add(turned("b.cn"), 7, 130);
        assert_eq!(requests(&summed.due(180)), [7]);
        assert_eq!(summed.due(180 + FORGET_S), []);
        assert!(summed.add(turned("b.cn"), 1, 200 + FORGET_S).is_some(), "after an hour it is news");
    }

    #[test]
    fn made_up_names_do_not_fill_the_disk() {
        let mut summed = Summed::default();
        let told =
            (0..2 * MAX_DOMAINS).filter_map(|nth| summed.add(turned(&format!("{nth}.cn")), 1, 0)).count();
        assert_eq!(told, MAX_FIRST);
        summed.others(5);
        assert_eq!(requests(&summed.all()), [(2 * MAX_DOMAINS - MAX_FIRST + 5) as u64]);
        assert!(summed.domains.len() <= MAX_DOMAINS);
    }
}
