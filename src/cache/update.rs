//! What a registry says of the filings, what that would do, and why it may be refused. Knows no table.

use crate::feed::{Entry, Position, Summary};

/// Changes, as a registry sends them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The position that they follow.
    pub after: Position,
    /// The changes, in order.
    pub entries: &'a [Entry],
    /// What the state is then.
    pub summary: Summary,
}

/// Ranges of the fingerprints as a registry holds them, for a cache whose digests differ there.
#[derive(Debug, Clone, Copy)]
pub struct Repaired<'a> {
    /// Which ranges (`feed::range_of`).
    pub ranges: &'a [usize],
    /// All that they hold: each in one of the ranges, none twice, none a deletion.
    pub entries: &'a [Entry],
    /// What the whole state is then.
    pub summary: Summary,
}

/// What an update would do to traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// Filings that it would newly block for some product (or all).
    pub newly_blocked: u64,
    /// Filings held before it.
    pub of: u64,
}

/// What became of a batch that was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is in force, with all that waited before it.
    Applied(/** What that did. */ Effect),
    /// It waits for an operator behind what did before; only this much of it is in force.
    Waits(/** Single cancellations. */ Effect),
}

/// Why an update was not taken. Nothing of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Changes need a state to change.
    #[error("no state is held that changes could apply to")]
    NeverSynced,
    /// Another history.
    #[error("epoch {got} does not match the held epoch {held}")]
    Epoch {
        /** Of the update. */
        got: u64,
        /** Ours. */
        held: u64,
    },
    /// A gap, a duplicate, or a step back.
    #[error("position {got} does not follow the held position {held}")]
    Position {
        /** Of the update. */
        got: u64,
        /** Ours. */
        held: u64,
    },
    /// The state would not be, or is not, what the registry says it is.
    #[error("count or digest differs from the registry's")]
    Digest,
    /// Too much at once: an operator has to agree.
    #[error("{} of {} filings would be newly blocked; held for an operator", .0.newly_blocked, .0.of)]
    Held(Effect),
}

/// Whether `got` is of the same history as `ours`, and not before it.
pub(super) fn check_forward(ours: Position, got: Position) -> Result<(), Refusal> {
    if got.epoch != ours.epoch {
        return Err(Refusal::Epoch { got: got.epoch, held: ours.epoch });
    }
    if got.seq < ours.seq {
        return Err(Refusal::Position { got: got.seq, held: ours.seq });
    }
    Ok(())
}

/// Whether the batch leads on from `ours`.
pub(super) fn check_next(ours: Position, batch: &Batch<'_>) -> Result<(), Refusal> {
    let next = batch.summary.position;
    for position in [batch.after, next] {
        if position.epoch != ours.epoch {
            return Err(Refusal::Epoch { got: position.epoch, held: ours.epoch });
        }
    }
    if batch.after.seq != ours.seq {
        return Err(Refusal::Position { got: batch.after.seq, held: ours.seq });
    }
    if next.seq <= ours.seq {
        return Err(Refusal::Position { got: next.seq, held: ours.seq });
    }
    Ok(())
}
