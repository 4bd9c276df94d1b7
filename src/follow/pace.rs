//! How patient a follower is, and how it waits before it tries again.

use std::time::Duration;

/// The first wait before another try; doubles with each failure in a row.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// The longest silence in a stream: heartbeats come every second.
const SILENCE: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(5);
/// Until a response begins: a registry may have to build our view first.
const RESPONSE: Duration = Duration::from_secs(30);
/// The longest that one frame of a snapshot may take, however it trickles in.
const SNAPSHOT_FRAME: Duration = Duration::from_secs(60);
/// A connection that verified something this long after it began was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// How often a held update is looked at anew: the registry may have taken it back.
const HELD_RETRY: Duration = Duration::from_secs(30);
/// Changes are saved at most this often.
const SAVE: Duration = Duration::from_millis(500);
/// How often a state that did not change is saved, for the time at which it was last known to be current.
const SAVE_UNCHANGED: Duration = Duration::from_secs(600);
/// Until an acknowledgement is taken.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);
/// Before one that failed is sent anew, by then of the newest position.
const ACKNOWLEDGE_RETRY: Duration = Duration::from_secs(1);
/// Between two, however fast positions come.
const BETWEEN_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(10);
/// How often the same position is said again: a registry forgets gates that it did not hear of for a minute.
const SAY_AGAIN: Duration = Duration::from_secs(20);

/// All the waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) first_retry: Duration,
    pub(super) longest_retry: Duration,
    pub(super) silence: Duration,
    pub(super) connect: Duration,
    pub(super) response: Duration,
    pub(super) snapshot_frame: Duration,
    pub(super) stable_after: Duration,
    pub(super) held_retry: Duration,
    pub(super) save: Duration,
    pub(super) save_unchanged: Duration,
    pub(super) acknowledge: Duration,
    pub(super) acknowledge_retry: Duration,
    pub(super) between_acknowledgements: Duration,
    pub(super) say_again: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_retry: FIRST_RETRY,
            longest_retry: LONGEST_RETRY,
            silence: SILENCE,
            connect: CONNECT,
            response: RESPONSE,
            snapshot_frame: SNAPSHOT_FRAME,
            stable_after: STABLE_AFTER,
            held_retry: HELD_RETRY,
            save: SAVE,
            save_unchanged: SAVE_UNCHANGED,
            acknowledge: ACKNOWLEDGE,
            acknowledge_retry: ACKNOWLEDGE_RETRY,
            between_acknowledgements: BETWEEN_ACKNOWLEDGEMENTS,
            say_again: SAY_AGAIN,
        }
    }
}

/// Failures in a row, and the wait that they call for.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    /// Where the share comes from instead of the system's randomness.
    #[cfg(test)]
    pub(super) fixed_share: Option<f64>,
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait: between half of what the failures so far call for and all of it, so that the gates of a
    /// fleet don't come back all at once.
    pub(super) fn next(&mut self, pace: &Pace) -> Duration {
        let doubled = pace.first_retry.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let most = doubled.min(pace.longest_retry);
        #[cfg(test)]
        if let Some(share) = self.fixed_share {
            return most.mul_f64(0.5 + share / 2.0);
        }
        let mut random = [0; 4];
        // Without randomness all of it is waited.
        let share = match getrandom::fill(&mut random) {
            Ok(()) => f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX),
            Err(_) => 1.0,
        };
        most.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_quick_to_bounded_and_start_over() {
        let (pace, mut backoff) = (Pace::default(), Backoff::default());
        let mut most = FIRST_RETRY;
        for _ in 0..40 {
            let wait = backoff.next(&pace);
            assert!((most / 2..=most).contains(&wait), "{wait:?} of {most:?}");
            most = (most * 2).min(LONGEST_RETRY);
        }
        backoff.reset();
        assert!(backoff.next(&pace) <= FIRST_RETRY);
    }
}
