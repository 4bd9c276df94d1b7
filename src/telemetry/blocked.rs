//! Which domains are turned away, and how often: each worker notes its own, the sum of all is asked for by operators.
//!
//! Bounded in every direction: whoever asks for a million made-up names finds room for some thousands.

use super::AuditSink;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError, TryLockError};

/// Domains that one worker notes between two hand-overs; requests for further ones are counted without their name.
const MAX_NOTED: usize = 4096;
/// Domains that are remembered in all.
const MAX_DOMAINS: usize = 20_000;
/// Hours that are told apart.
pub const HOURS: usize = 24;
const HOUR_S: i64 = 3600;

/// Who was turned away, why, and where it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// The filed name, the registrable domain where none is filed, the address, or the host that the operator blocks.
    pub domain: Box<str>,
    /// The verdict's name.
    pub verdict: &'static str,
    /// The listener.
    pub listener: SocketAddr,
}

/// The same, as a request has it: nothing is allocated to look for what is noted already.
#[derive(Debug, Clone, Copy)]
pub struct TurnedAway<'a> {
    /// As in `Turned`.
    pub domain: &'a str,
    /// As in `Turned`.
    pub verdict: &'static str,
    /// As in `Turned`.
    pub listener: SocketAddr,
}

/// What both are found by.
trait Key {
    fn parts(&self) -> (&str, &'static str, SocketAddr);
}

impl Key for Turned {
    fn parts(&self) -> (&str, &'static str, SocketAddr) {
        (&self.domain, self.verdict, self.listener)
    }
}

impl Key for TurnedAway<'_> {
    fn parts(&self) -> (&str, &'static str, SocketAddr) {
        (self.domain, self.verdict, self.listener)
    }
}

// By the domain alone: it is turned away for few reasons, and at few listeners.
impl Hash for Turned {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.domain.hash(state);
    }
}

impl Hash for dyn Key + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().0.hash(state);
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Key + '_ {}

impl<'a> Borrow<dyn Key + 'a> for Turned {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

/// One worker's notes since it last handed them over.
#[derive(Debug, Default)]
pub struct BlockedNotes {
    noted: HashMap<Turned, u32>,
    unnamed: u64,
}

impl BlockedNotes {
    /// One more request was turned away. The audit log hears of a domain at once, and of further requests
    /// when the notes are handed over.
    pub fn note(&mut self, turned: TurnedAway<'_>, audit: Option<&AuditSink>) {
        if let Some(count) = self.noted.get_mut(&turned as &dyn Key) {
            *count = count.saturating_add(1);
        } else if self.noted.len() < MAX_NOTED {
            let TurnedAway { domain, verdict, listener } = turned;
            let turned = Turned { domain: domain.into(), verdict, listener };
            if let Some(audit) = audit {
                audit.turned_away(turned.clone(), 1);
            }
            self.noted.insert(turned, 1);
        } else {
            self.unnamed += 1;
        }
    }

    /// Adds the notes to what is known of all workers, at `now_s` (Unix seconds). While somebody looks at that they are
    /// kept for the next time: a worker waits for nobody.
    pub fn hand_over(&mut self, to: &Blocked, now_s: i64, audit: Option<&AuditSink>) {
        let mut known = match to.0.try_lock() {
            Ok(known) => known,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if let Some(audit) = audit {
            for (turned, count) in self.noted.iter().filter(|(_, count)| **count > 1) {
                audit.turned_away(turned.clone(), u64::from(count - 1));
            }
            if self.unnamed > 0 {
                audit.others_turned_away(self.unnamed);
            }
        }
        if !self.noted.is_empty() {
            known.take(self.noted.drain(), std::mem::take(&mut self.unnamed), now_s);
        }
    }
}

/// What is known of one domain that is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedDomain {
    /// Who, why, where.
    pub turned: Turned,
    /// Requests since the gate started, or since the domain was last forgotten.
    pub requests: u64,
    /// Requests in each of the last hours, the present one last.
    pub hours: [u32; HOURS],
    /// Unix seconds.
    pub first_s: i64,
    /// Unix seconds.
    pub last_s: i64,
}

#[derive(Debug, Default)]
struct Known {
    domains: HashMap<Turned, Times>,
    unnamed: u64,
}

#[derive(Debug)]
struct Times {
    requests: u64,
    hours: [u32; HOURS],
    /// The hour (since 1970) that the last of `hours` counts.
    hour: i64,
    first_s: i64,
    last_s: i64,
}

/// What all workers have noted.
#[derive(Debug, Default)]
pub struct Blocked(Mutex<Known>);

impl Known {
    fn take(&mut self, noted: impl Iterator<Item = (Turned, u32)>, unnamed: u64, now_s: i64) {
        self.unnamed += unnamed;
        for (turned, count) in noted {
            if self.domains.len() >= MAX_DOMAINS && !self.domains.contains_key(&turned) {
                forget(&mut self.domains);
            }
            let times = self.domains.entry(turned).or_insert(Times {
                requests: 0,
                hours: [0; HOURS],
                hour: now_s.div_euclid(HOUR_S),
                first_s: now_s,
                last_s: now_s,
            });
            times.turn_to(now_s);
            times.last_s = times.last_s.max(now_s);
            times.requests += u64::from(count);
            times.hours[HOURS - 1] = times.hours[HOURS - 1].saturating_add(count);
        }
    }
}

impl Blocked {
    /// The domains that were asked for most often in the last hours, and the number of requests that found no room.
    #[must_use]
    pub fn top(&self, limit: usize, now_s: i64) -> (Vec<BlockedDomain>, u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for times in known.domains.values_mut() {
            times.turn_to(now_s);
        }
        let mut ranked: Vec<_> = known.domains.iter().collect();
        let recent = |times: &Times| times.hours.iter().map(|&count| u64::from(count)).sum::<u64>();
        ranked.sort_unstable_by(|(one, a), (other, b)| {
            (recent(b), &one.domain).cmp(&(recent(a), &other.domain))
        });
        let shown = ranked.into_iter().take(limit).map(|(turned, times)| BlockedDomain {
            turned: turned.clone(),
            requests: times.requests,
            hours: times.hours,
            first_s: times.first_s,
            last_s: times.last_s,
        });
        (shown.collect(), known.unnamed)
    }
}

impl Times {
    /// Moves the hours so that the last one is that of `now_s`. A clock that goes back moves nothing.
    fn turn_to(&mut self, now_s: i64) {
        let hour = now_s.div_euclid(HOUR_S);
        let passed = usize::try_from(hour.saturating_sub(self.hour)).unwrap_or(0).min(HOURS);
        self.hours.rotate_left(passed % HOURS);
        self.hours[HOURS - passed..].fill(0);
        self.hour = self.hour.max(hour);
    }
}

/// Makes room: those that were seen longest ago go, half of all.
fn forget(domains: &mut HashMap<Turned, Times>) {
    let mut seen: Vec<_> = domains.values().map(|times| times.last_s).collect();
    let middle = seen.len() / 2;
    let (_, &mut median, _) = seen.select_nth_unstable(middle);
    let mut left = MAX_DOMAINS / 2;
    domains.retain(|_, times| {
        let stays = times.last_s >= median && left > 0;
        left -= usize::from(stays);
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(domain: &str) -> TurnedAway<'_> {
        TurnedAway { domain, verdict: "unfiled", listener: "127.0.0.1:80".parse().unwrap() }
    }

    fn note(blocked: &Blocked, domain: &str, times: u32, now_s: i64) {
        let mut notes = BlockedNotes::default();
        for _ in 0..times {
            notes.note(turned(domain), None);
        }
        notes.hand_over(blocked, now_s, None);
    }

    #[test]
    fn who_looks_keeps_no_worker_waiting() {
        let (blocked, mut notes) = (Blocked::default(), BlockedNotes::default());
        notes.note(turned("a.cn"), None);
        let looked_at = blocked.0.lock().unwrap();
        notes.hand_over(&blocked, 0, None);
        assert!(looked_at.domains.is_empty());
        drop(looked_at);
        notes.note(turned("a.cn"), None);
        notes.hand_over(&blocked, 0, None);
        assert_eq!(blocked.top(1, 0).0[0].requests, 2);
    }

    #[test]
    fn hours_pass() {
        let blocked = Blocked::default();
        note(&blocked, "a.cn", 3, 0);
        note(&blocked, "b.cn", 2, HOUR_S);
        note(&blocked, "a.cn", 1, 2 * HOUR_S);
        note(&blocked, "a.cn", 1, HOUR_S);
        let hours = |nth: usize, now_s| {
            let (top, _) = blocked.top(10, now_s);
            (top[nth].turned.domain.to_string(), top[nth].requests, top[nth].hours[HOURS - 3..].to_vec())
        };
        assert_eq!(hours(0, 2 * HOUR_S + 5), ("a.cn".to_owned(), 5, vec![3, 0, 2]));
        assert_eq!(hours(1, 2 * HOUR_S + 5), ("b.cn".to_owned(), 2, vec![0, 2, 0]));
        assert_eq!(hours(0, 25 * HOUR_S).2, [0, 0, 0], "a day later only the number of all is left");
        assert_eq!(blocked.top(1, 26 * HOUR_S).0.len(), 1);
    }

    #[test]
    fn made_up_names_find_no_more_room_than_there_is() {
        let blocked = Blocked::default();
        let mut notes = BlockedNotes::default();
        for number in 0..3 * MAX_DOMAINS {
            notes.note(turned(&format!("{number}.cn")), None);
            if number % 4000 == 0 {
                notes.hand_over(&blocked, i64::try_from(number).unwrap(), None);
            }
        }
        for number in 0..2 * MAX_NOTED {
            notes.note(turned(&format!("{number}.com")), None);
        }
        notes.hand_over(&blocked, 1 << 20, None);
        assert_eq!(notes.noted.len(), 0);
        let (top, unnamed) = blocked.top(usize::MAX, 1 << 20);
        assert!(top.len() <= MAX_DOMAINS && unnamed >= MAX_NOTED as u64, "{} {unnamed}", top.len());
        assert!(top.iter().any(|one| one.last_s == 1 << 20), "the latest are remembered");
    }
}
