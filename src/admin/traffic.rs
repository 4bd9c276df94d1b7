//! Requests by verdict over the last hour: the counters, looked at now and then.

use super::Admin;
use crate::gate::record::Outcome;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between two looks.
const STEP: Duration = Duration::from_secs(10);
/// Looks that are kept: an hour.
const MAX_LOOKS: usize = 361;
const LOOKS_A_MINUTE: usize = 6;

/// What the counters said, oldest first.
#[derive(Debug, Default)]
pub(super) struct Traffic(Mutex<VecDeque<Look>>);

/// Unix seconds, and requests so far by `Outcome::index`.
#[derive(Debug)]
struct Look {
    at: i64,
    counts: Vec<u64>,
}

/// Looks at the counters for as long as the admin API serves.
pub(super) async fn watch(admin: Admin) {
    let mut steps = tokio::time::interval(STEP);
    loop {
        steps.tick().await;
        let totals = admin.0.counters.totals();
        let counts = (0..Outcome::names().len()).map(|nth| totals.outcomes.get(&nth).copied().unwrap_or(0));
        let mut looks = admin.0.traffic.0.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MAX_LOOKS {
            looks.pop_front();
        }
        looks.push_back(Look { at: jiff::Timestamp::now().as_second(), counts: counts.collect() });
    }
}

/// Requests in one step, by what became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// Unix seconds of its end.
    pub(super) at: i64,
    pub(super) forwarded: u64,
    pub(super) blocked: u64,
    pub(super) other: u64,
}

/// Requests of the last hour that one thing became of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OfVerdict {
    pub(super) verdict: &'static str,
    pub(super) requests: u64,
    /// By the minute, oldest first.
    pub(super) minutes: Vec<u64>,
}

impl Traffic {
    /// The steps of the last hour, oldest first.
    pub(super) fn steps(&self) -> Vec<Step> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kinds: Vec<_> = Outcome::names().into_iter().map(Kind::of).collect();
        let step = |(before, after): (&Look, &Look)| {
            let sum = |kind: Kind| {
                let of_kind = kinds
                    .iter()
                    .zip(before.counts.iter().zip(&after.counts))
                    .filter(|(one, _)| **one == kind);
                of_kind.map(|(_, (before, after))| after.saturating_sub(*before)).sum()
            };
            Step {
                at: after.at,
                forwarded: sum(Kind::Forwarded),
                blocked: sum(Kind::Blocked),
                other: sum(Kind::Other),
            }
        };
        looks.iter().zip(looks.iter().skip(1)).map(step).collect()
    }

    /// Requests of the last hour by verdict, the most frequent first; those that there were none of are left out.
    pub(super) fn by_verdict(&self) -> Vec<OfVerdict> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Minutes are counted back from the last look; what is left over before them is one that is not whole.
        let mut ends: Vec<&Look> = looks.iter().rev().step_by(LOOKS_A_MINUTE).collect();
        if looks.len().checked_sub(1).is_some_and(|steps| !steps.is_multiple_of(LOOKS_A_MINUTE)) {
            ends.extend(looks.front());
        }
        ends.reverse();
        let of = |(nth, verdict): (usize, &'static str)| {
            let count = |look: &Look| look.counts.get(nth).copied().unwrap_or(0);
            let minutes: Vec<_> =
                ends.windows(2).map(|pair| count(pair[1]).saturating_sub(count(pair[0]))).collect();
            OfVerdict { verdict, requests: minutes.iter().sum(), minutes }
        };
        let mut named: Vec<_> = Outcome::names().into_iter().enumerate().map(of).collect();
        named.retain(|it| it.requests > 0);
        named.sort_by_key(|it| (std::cmp::Reverse(it.requests), it.verdict));
        named
    }

    /// The same as JSON.
    pub(super) fn shown(&self) -> Value {
        let steps = self.steps();
        let steps: Vec<_> = steps
            .iter()
            .map(|it| json!({ "at": it.at, "forwarded": it.forwarded, "blocked": it.blocked, "other": it.other }))
            .collect();
        json!({ "step_s": STEP.as_secs(), "steps": steps, "verdicts": self.by_verdict() })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forwarded,
    Blocked,
    Other,
}

impl Kind {
    fn of(name: &'static str) -> Self {
        match name.parse::<crate::verdict::Verdict>() {
            Ok(verdict) if verdict.is_forwarded() => Self::Forwarded,
            Ok(verdict) if verdict.is_blocked() => Self::Blocked,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_differences() {
        let traffic = Traffic::default();
        let mut counts = vec![0; Outcome::names().len()];
        let blocked = Outcome::names().iter().position(|name| *name == "unfiled").unwrap();
        for at in 0..9 {
            traffic.0.lock().unwrap().push_back(Look { at, counts: counts.clone() });
            counts[0] += 5;
            counts[blocked] += 2;
            *counts.last_mut().unwrap() += 1;
        }
        let expected = |at| Step { at, forwarded: 5, blocked: 2, other: 1 };
        assert_eq!(traffic.steps()[..2], [expected(1), expected(2)]);
        let found = traffic.by_verdict();
        let of = |verdict, minutes: [u64; 2]| OfVerdict {
            verdict,
            requests: minutes.iter().sum(),
            minutes: minutes.to_vec(),
        };
        assert_eq!(found[..2], [of(Outcome::names()[0], [10, 30]), of("unfiled", [4, 12])]);
        assert_eq!(Traffic::default().by_verdict(), []);
    }
}
