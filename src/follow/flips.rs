//! Whether an update may be applied without an operator's word, by how many filings it would newly block.

use crate::cache::Effect;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Fewer than this are never held.
const LEAST_FLIPS: u64 = 1_000;
/// Updates this close together are one: a large change set comes in many batches.
const WINDOW: Duration = Duration::from_secs(60);

/// What recent updates blocked.
#[derive(Debug, Clone)]
pub(super) struct Flips {
    /// The share of all filings that may be newly blocked.
    share: f64,
    /// Fewer than this are never held.
    pub(super) least: u64,
    recent: VecDeque<(Instant, u64)>,
}

impl Flips {
    pub(super) fn new(share: f64) -> Self {
        Self { share, least: LEAST_FLIPS, recent: VecDeque::new() }
    }

    /// Whether this and what came just before it stay within bounds.
    pub(super) fn permits(&self, effect: Effect, now: Instant) -> bool {
        let recent = self.recent.iter().filter(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        let before: u64 = recent.map(|(_, flips)| flips).sum();
        let flips = before.saturating_add(effect.newly_blocked);
        // What was blocked just before may be gone from the total.
        let of = effect.of.saturating_add(before);
        effect.newly_blocked == 0 || flips < self.least || share(flips, of) <= self.share
    }

    /// Remembers an update that was applied.
    pub(super) fn add(&mut self, effect: Effect, now: Instant) {
        self.recent.retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        if effect.newly_blocked > 0 {
            self.recent.push_back((now, effect.newly_blocked));
        }
    }

    /// Starts anew: an operator has agreed to what came so far.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
    }
}

fn share(flips: u64, of: u64) -> f64 {
    // Exact to a share of 2^-53.
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    let share = flips as f64 / of.max(1) as f64;
    share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: &[u64], newly_blocked: u64, of: u64, expected: bool) {
        let now = Instant::now();
        let mut flips = Flips::new(0.05);
        for &newly_blocked in before {
            flips.add(Effect { newly_blocked, of }, now);
        }
        assert_eq!(
            flips.permits(Effect { newly_blocked, of }, now),
            expected,
            "{before:?} {newly_blocked} {of}"
        );
        let later = now + WINDOW;
        assert_eq!(
            flips.permits(Effect { newly_blocked, of }, later),
            Flips::new(0.05).permits(Effect { newly_blocked, of }, later)
        );
    }

    #[test]
    fn many_at_once_or_close_together_need_a_word() {
        check(&[], 999, 999, true);
        check(&[], 1_000, 10_000, false);
        check(&[], 1_000, 20_000, true);
        check(&[], 1_001, 20_000, false);
        check(&[500, 499], 1, 1_000, false);
        check(&[500, 499], 0, 1_000, true);
        check(&[10_000; 6], 10_000, 1_000_000, false);
        check(&[], 10_000, 1_000_000, true);
    }
}
