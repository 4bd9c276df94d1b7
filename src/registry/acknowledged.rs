//! What gates said that they enforce: per provider and gate the newest position, and when it was heard.
//!
//! Knows no clock and no socket. In memory only: gates say it again within a second or two of a restart.

use crate::feed::{Digest, Position};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The most gates that are remembered; the one unheard for longest makes room.
const MAX_GATES: usize = 10_000;
/// A gate that was not heard of for longer is not waited for.
const HEARD_WITHIN: Duration = Duration::from_secs(60);

/// A gate's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acknowledged {
    pub(super) position: Position,
    pub(super) digest: Digest,
    pub(super) lag_ms: u64,
    pub(super) heard: Instant,
}

/// Who said it, in the order in which they are listed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Gate {
    pub(super) provider: Box<str>,
    pub(super) name: Box<str>,
}

/// All gates that were heard of.
#[derive(Debug, Default)]
pub(super) struct Gates(HashMap<Gate, Acknowledged>);

impl Gates {
    /// Takes a gate's word in place of its last one.
    pub(super) fn hear(&mut self, gate: Gate, said: Acknowledged) {
        if self.0.len() >= MAX_GATES && !self.0.contains_key(&gate) {
            let oldest = self.0.iter().min_by_key(|(_, it)| it.heard).map(|(gate, _)| gate.clone());
            oldest.and_then(|it| self.0.remove(&it));
        }
        self.0.insert(gate, said);
    }

    /// Gates of the provider, or all, sorted.
    pub(super) fn list(&self, provider: Option<&str>) -> Vec<(Gate, Acknowledged)> {
        let is_wanted = |gate: &Gate| provider.is_none_or(|it| *gate.provider == *it);
        let wanted = self.0.iter().filter(|(gate, _)| is_wanted(gate));
        let mut list: Vec<_> = wanted.map(|(gate, said)| (gate.clone(), *said)).collect();
        list.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        list
    }
}

impl Acknowledged {
    /// Whether the gate still counts.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) <= HEARD_WITHIN
    }

    /// Whether the change `seq` of this epoch is in force there.
    pub(super) fn has(&self, epoch: u64, seq: u64) -> bool {
        self.position.epoch == epoch && self.position.seq >= seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_unheard_for_longest_makes_room() {
        let (mut gates, start) = (Gates::default(), Instant::now());
        let gate = |n: usize| Gate { provider: "p".into(), name: n.to_string().into() };
        let said = |n: usize| Acknowledged {
            position: Position { epoch: 1, seq: n as u64 },
            digest: Digest::default(),
            lag_ms: 0,
            heard: start + Duration::from_secs(n as u64),
        };
        for n in 0..MAX_GATES {
            gates.hear(gate(n), said(n));
        }
        gates.hear(gate(0), said(MAX_GATES));
        gates.hear(gate(MAX_GATES), said(MAX_GATES));
        let list = gates.list(Some("p"));
        assert_eq!(list.len(), MAX_GATES);
        assert!(list.iter().all(|(it, _)| *it != gate(1)) && list[0].0 == gate(0));
        assert!(gates.list(Some("other")).is_empty());
    }
}
