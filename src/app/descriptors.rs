//! Counts the process's open descriptors for workers that refuse new work where there are too many.

use crate::gate::worker::Shared;
use rustix::process::{Resource, getrlimit};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often: each count reads a directory.
const PERIOD: Duration = Duration::from_millis(500);

/// Counts until told to stop, wherever the rules in force ask for it.
pub(super) async fn run(shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    loop {
        if shared.rules.load().limits.overload.descriptors.is_some() {
            let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
            let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            shared.descriptors.counted(open, usize::try_from(most).unwrap_or(usize::MAX));
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            // An error means that nobody is left to tell: the same.
            _ = stopping.wait_for(|is_over| *is_over) => return,
        }
    }
}
