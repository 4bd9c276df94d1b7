//! Which of a site's servers is next.
//!
//! Those that may be used are found first: well and wanted; else the backups; else, rather than nobody, whoever is
//! wanted. Among them the way of balancing chooses by weight. Nothing here allocates.

use super::standing::{Standing, Wish};
use crate::config::{Balance, Choice, MAX_SERVERS};
use crate::gate::endpoint::Endpoint;
use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Servers that one request may try.
pub const MAX_TRIES: usize = 8;

/// A server of a site.
#[derive(Debug)]
pub struct Member {
    /// Which.
    pub endpoint: Arc<Endpoint>,
    /// Its share against the others'.
    pub weight: u32,
    /// Used only while none of the others can be.
    pub is_backup: bool,
    /// Names it in sticky cookies and among hashes: the same in every process.
    pub id: u64,
}

impl Member {
    /// A server of a site.
    #[must_use]
    pub fn new(endpoint: Arc<Endpoint>, weight: u32, is_backup: bool) -> Self {
        let id = if endpoint.upstream.is_name() {
            hash(format!("{} {}", endpoint.label, endpoint.address.ip()).as_bytes())
        } else {
            hash(endpoint.label.as_bytes())
        };
        Self { endpoint, weight, is_backup, id }
    }

    fn standing(&self) -> &Standing {
        &self.endpoint.standing
    }

    /// Its weight now, a hundred times.
    fn share(&self, now_ms: u64) -> u64 {
        let percent = self.standing().share(self.endpoint.way.slow_start, now_ms);
        u64::from(self.weight) * percent
    }
}

/// A hash that is the same on every gate. Whoever can choose what is hashed can choose the server, and no more.
#[must_use]
pub fn hash(octets: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(octets);
    hasher.finish()
}

/// What one choice goes by.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The hash of what `hash_on` says.
    pub key: u64,
    /// The server that a cookie names.
    pub sticky: Option<u64>,
    /// Any number.
    pub random: u64,
    /// The time.
    pub now_ms: u64,
    /// Servers that this request has tried in vain.
    pub tried: &'a [usize],
}

/// The servers that are chosen among: indexes, in order.
struct Among {
    indexes: [u16; MAX_SERVERS],
    len: usize,
}

impl Among {
    fn of(members: &[Member], is_one: impl Fn(usize, &Member) -> bool) -> Self {
        let mut among = Self { indexes: [0; MAX_SERVERS], len: 0 };
        for (index, member) in members.iter().enumerate().take(MAX_SERVERS) {
            if is_one(index, member) {
                among.indexes[among.len] = u16::try_from(index).unwrap_or(0);
                among.len += 1;
            }
        }
        among
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.indexes[..self.len].iter().map(|index| usize::from(*index))
    }

    fn nth(&self, nth: usize) -> usize {
        usize::from(self.indexes[nth % self.len.max(1)])
    }
}

/// Chooses; `None` where the operator has taken all out, or all were tried. `turn` counts for round robin.
#[must_use]
pub fn choose(members: &[Member], choice: &Choice, turn: &AtomicUsize, ask: &Ask<'_>) -> Option<usize> {
    if let Some(bound) = ask.sticky.and_then(|id| bound_by_cookie(members, id, ask)) {
        return Some(bound);
    }
    let among = among(members, choice.panic_below, ask);
    match among.len {
        0 => None,
        1 => Some(among.nth(0)),
        _ => Some(match choice.balance {
            Balance::RoundRobin => in_turn(members, &among, turn, ask.now_ms),
            Balance::Hash => by_hash(members, &among, ask),
            Balance::LeastConnections => {
                // Of equals not always the first.
                let start = usize::try_from(ask.random % among.len as u64).unwrap_or(0);
                least_busy(members, (0..among.len).map(|nth| among.nth(start + nth)), ask.now_ms)
            }
            Balance::P2c => {
                let total = total(members, &among, ask.now_ms);
                let one = at(members, among.iter(), ask.random % total, ask.now_ms);
                let left = total.saturating_sub(members[one].share(ask.now_ms)).max(1);
                let others = among.iter().filter(|index| *index != one);
                let other = at(members, others, (ask.random >> 32) % left, ask.now_ms);
                least_busy(members, [one, other].into_iter(), ask.now_ms)
            }
        }),
    }
}

/// A server that is being drained keeps those who are bound to it; one that is ill does not.
fn bound_by_cookie(members: &[Member], id: u64, ask: &Ask<'_>) -> Option<usize> {
    let index = members.iter().position(|member| member.id == id)?;
    let standing = members[index].standing();
    let is_good = standing.wish() != Wish::Down && standing.is_well(ask.now_ms);
    (is_good && !ask.tried.contains(&index)).then_some(index)
}

fn among(members: &[Member], panic_below: f64, ask: &Ask<'_>) -> Among {
    let is_fresh = |index: usize| !ask.tried.contains(&index);
    let is_wanted = |member: &Member| member.standing().wish() == Wish::Up;
    let well = Among::of(members, |index, member| {
        is_fresh(index) && !member.is_backup && is_wanted(member) && member.standing().is_well(ask.now_ms)
    });
    if panic_below > 0.0 && ask.tried.is_empty() {
        let wanted = Among::of(members, |_, member| !member.is_backup && is_wanted(member));
        if (well.len as f64) < panic_below * wanted.len as f64 {
            return wanted;
        }
    }
    if well.len > 0 {
        return with_room(members, well);
    }
    let backups = Among::of(members, |index, member| {
        is_fresh(index) && member.is_backup && is_wanted(member) && member.standing().is_well(ask.now_ms)
    });
    if backups.len > 0 {
        return backups;
    }
    // All are ill: what is tried at least may turn out to be well.
    let any = Among::of(members, |index, member| is_fresh(index) && !member.is_backup && is_wanted(member));
    if any.len > 0 {
        return any;
    }
    Among::of(members, |index, member| is_fresh(index) && is_wanted(member))
}

/// Those of them that have room, where any has.
fn with_room(members: &[Member], among: Among) -> Among {
    let is_full = |index: usize| members[index].endpoint.breaker.as_ref().is_some_and(|it| it.is_full());
    if !among.iter().any(is_full) {
        return among;
    }
    let free = Among::of(members, |index, _| among.iter().any(|one| one == index) && !is_full(index));
    if free.len > 0 { free } else { among }
}

fn total(members: &[Member], among: &Among, now_ms: u64) -> u64 {
    among.iter().map(|index| members[index].share(now_ms)).sum::<u64>().max(1)
}

/// The server that has the `point`th of all shares.
fn at(members: &[Member], among: impl Iterator<Item = usize>, mut point: u64, now_ms: u64) -> usize {
    let mut last = 0;
    for index in among {
        let share = members[index].share(now_ms);
        if point < share {
            return index;
        }
        (point, last) = (point - share, index);
    }
    last
}

/// As many turns to each as it has weight, well mixed: the points of a sequence that leaves no gaps.
fn in_turn(members: &[Member], among: &Among, turn: &AtomicUsize, now_ms: u64) -> usize {
    let turn = turn.fetch_add(1, Ordering::Relaxed);
    let first = members[among.nth(0)].share(now_ms);
    if among.iter().all(|index| members[index].share(now_ms) == first) {
        return among.nth(turn);
    }
    let total = total(members, among, now_ms);
    // Multiples of the golden ratio, modulo one, fall everywhere equally often (Weyl).
    let fraction = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let point = (u128::from(fraction) * u128::from(total)) >> 64;
    at(members, among.iter(), u64::try_from(point).unwrap_or(0), now_ms)
}

/// Rendezvous hashing by weight: who leaves or comes moves only what is its own.
fn by_hash(members: &[Member], among: &Among, ask: &Ask<'_>) -> usize {
    let score = |index: usize| {
        let member = &members[index];
        let mut hasher = SipHasher13::new_with_keys(member.id, ask.key);
        hasher.write_u64(ask.key);
        // In (0, 1): 53 bits are what a float holds.
        let uniform = ((hasher.finish() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -f64::from(member.weight) / uniform.ln()
    };
    let best = among.iter().map(|index| (score(index), index)).max_by(|one, other| one.0.total_cmp(&other.0));
    best.map_or(among.nth(0), |(_, index)| index)
}

fn least_busy(members: &[Member], among: impl Iterator<Item = usize>, now_ms: u64) -> usize {
    // a/b < c/d, without dividing.
    let load = |index: usize| (members[index].standing().active() + 1, members[index].share(now_ms).max(1));
    let least = among.min_by(|one, other| {
        let ((one, of_one), (other, of_other)) = (load(*one), load(*other));
        one.saturating_mul(of_other).cmp(&other.saturating_mul(of_one))
    });
    least.unwrap_or(0)
}

#[cfg(test)]
mod tests;
