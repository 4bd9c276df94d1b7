//! Whether a client keeps pace: takes its answer, or sends its body, fast enough while the gate waits for nobody
//! else. Pauses are for deadlines; this is for octets that drip. Pure.

use std::time::{Duration, Instant};

/// One transfer's pace, in one direction.
#[derive(Debug)]
pub struct Pace {
    /// Octets a second; 0: any.
    rate: u64,
    /// Waiting is added up for so long, then judged.
    stretch: Duration,
    since: Option<Instant>,
    waited: Duration,
    moved: u64,
}

impl Pace {
    /// Begins; `rate` is in octets a second, over `stretch` of waiting.
    #[must_use]
    pub fn new(rate: usize, stretch: Duration) -> Self {
        Self { rate: rate as u64, stretch, since: None, waited: Duration::ZERO, moved: 0 }
    }

    /// After each step: whether it is the client that is waited for from now on, and how many octets have moved
    /// in all. `false`: it was waited for a whole stretch in which too few came.
    pub fn keeps(&mut self, now: Instant, is_waiting: bool, moved: u64) -> bool {
        let since = if is_waiting { self.since.replace(now) } else { self.since.take() };
        self.waited += since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if self.waited < self.stretch {
            return true;
        }
        let enough = self.rate.saturating_mul(self.waited.as_millis().try_into().unwrap_or(u64::MAX)) / 1000;
        let came = moved.saturating_sub(self.moved);
        (self.waited, self.moved) = (Duration::ZERO, moved);
        came >= enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of (seconds, waiting, octets in all) → how many of them keep pace.
    #[track_caller]
    fn check(steps: &[(u64, bool, u64)], good: usize) {
        let begin = Instant::now();
        let mut pace = Pace::new(100, Duration::from_secs(10));
        let kept = steps.iter().take_while(|(seconds, is_waiting, moved)| {
            pace.keeps(begin + Duration::from_secs(*seconds), *is_waiting, *moved)
        });
        assert_eq!(kept.count(), good, "{steps:?}");
    }

    #[test]
    fn only_waiting_counts() {
        check(&[(0, true, 0), (5, true, 10), (9, true, 20), (10, true, 30)], 3);
        check(&[(0, true, 0), (5, true, 500), (10, true, 1000), (20, true, 1999)], 3);
        check(&[(0, true, 0), (5, true, 500), (10, true, 1000), (20, true, 2000)], 4);
        // A step may be longer than the stretch.
        check(&[(0, true, 0), (5, true, 900), (50, true, 1000)], 2);
        // An hour in which the other side had nothing to say.
        check(&[(0, false, 0), (3600, true, 1), (3601, false, 2), (7200, true, 3), (7208, true, 4)], 5);
        check(&[(0, false, 0), (3600, true, 1), (3601, false, 2), (7200, true, 3), (7209, true, 4)], 4);
    }
}
