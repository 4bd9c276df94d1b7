//! Requests by verdict over the last hour: the counters, looked at now and then.

use super::Admin;
use crate::gate::record::Outcome;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between two looks.
const STEP: Duration = Duration::from_secs(10);
/// Looks that are kept: an hour.
const MAX_LOOKS: usize = 361;

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
    pub(super) fn by_verdict(&self) -> Vec<(&'static str, u64)> {
        let looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (looks.front(), looks.back()) else { return Vec::new() };
        let counts =
            first.counts.iter().zip(&last.counts).map(|(before, after)| after.saturating_sub(*before));
        let mut named: Vec<_> =
            Outcome::names().into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        named.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
        named
    }

    /// The same as JSON.
    pub(super) fn shown(&self) -> Value {
        let steps = self.steps();
        let steps: Vec<_> = steps
            .iter()
            .map(|it| json!({ "at": it.at, "forwarded": it.forwarded, "blocked": it.blocked, "other": it.other }))
            .collect();
        let verdicts: Vec<_> = self
            .by_verdict()
            .into_iter()
            .map(|(verdict, requests)| json!({ "verdict": verdict, "requests": requests }))
            .collect();
        json!({ "step_s": STEP.as_secs(), "steps": steps, "verdicts": verdicts })
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
        for at in 0..3 {
            traffic.0.lock().unwrap().push_back(Look { at, counts: counts.clone() });
            counts[0] += 5;
            counts[blocked] += 2;
            *counts.last_mut().unwrap() += 1;
        }
        let expected = |at| Step { at, forwarded: 5, blocked: 2, other: 1 };
        assert_eq!(traffic.steps(), [expected(1), expected(2)]);
        assert_eq!(traffic.by_verdict()[..2], [(Outcome::names()[0], 10), ("unfiled", 4)]);
    }
}
