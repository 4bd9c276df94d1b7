//! The turns of a worker's reactor, counted by the runtime's own hook: asking which it is costs a load.
//!
//! Each worker is a thread with a runtime of its own, so a turn is the thread's. A look at the reactor between two
//! batches of tasks that are ready is no turn: how long one takes is not bounded, so no time is told by it.

use std::cell::Cell;

thread_local! {
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// The runtime has asked the kernel for news: to be called after each wait.
pub fn begin() {
    TURN.set(TURN.get() + 1);
}

/// How many turns have begun; 0 on a thread whose runtime does not count them.
#[must_use]
pub fn current() -> u64 {
    TURN.get()
}
