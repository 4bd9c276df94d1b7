//! Threads whose work can wait for requests: they run at a lower priority.
//!
//! What is asked to run there is long and rare (a whole state, a large batch, a save, an embedded registry). The
//! kernel lets a worker that has something to do go first, and gives them what is left, a tenth at least.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Builder;

/// As nice(2) has it: about a tenth of a core where workers want all of it.
const NICENESS: i32 = 10;

/// What a thread with much to do leaves the processor for, time and again. A lower priority alone would not do: a
/// kernel that does not preempt lets it have the processor until the next tick, and that is milliseconds.
const REST: Duration = Duration::from_micros(100);

/// Lets others have the processor for a moment.
pub(super) fn rest() {
    std::thread::sleep(REST);
}

/// Gives the calling thread, and those that it starts, the lower priority.
pub(super) fn step_aside() {
    // Linux has a priority for each thread. Where it can't be lowered, all goes on as well as it did.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Lets what the runtime's one worker hands over to others (`spawn_blocking`) run aside.
pub(super) fn blocking_aside(builder: &mut Builder, worker: &'static str) {
    let is_worker_named = AtomicBool::new(false);
    builder.thread_name_fn(move || {
        let is_first = !is_worker_named.swap(true, Ordering::Relaxed);
        if is_first { worker.to_owned() } else { format!("{worker}-aside") }
    });
    builder.on_thread_start(move || {
        if std::thread::current().name() != Some(worker) {
            step_aside();
        }
    });
}
