//! The thread of warnings as others hold it: where events are handed over, and who has the queue.

use super::sender::Sender;
use super::state::WarningState;
use super::{Item, MAX_WAITING, WarningSink};
use crate::config::Webhooks;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long a hand-over waits until the queue is free.
const RELEASE_TIME: Duration = Duration::from_secs(5);

/// Whom to tell, for whom, and where the queue is.
#[derive(Debug)]
pub struct Warnings {
    /// Receivers and settings.
    pub config: Webhooks,
    /// Our id as an access provider.
    pub provider: String,
    /// What this gate, or the registry, is called.
    pub gate: String,
    /// Holds the queue.
    pub directory: PathBuf,
    /// What is counted.
    pub state: Arc<WarningState>,
}

/// What the thread is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Run,
    /// The queue is another process's.
    Release,
    End,
}

/// The thread's ends of what it is told by and what it says.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) from: mpsc::Receiver<Item>,
    pub(super) told: watch::Receiver<Order>,
    /// Whether it has the queue.
    pub(super) says: watch::Sender<bool>,
}

/// The thread, and where warnings are handed over.
#[derive(Debug)]
pub struct WarningThread {
    sink: WarningSink,
    orders: watch::Sender<Order>,
    has_queue: watch::Receiver<bool>,
    thread: JoinHandle<()>,
}

impl WarningThread {
    /// Starts the thread, which takes the queue as soon as it is free.
    ///
    /// # Errors
    /// Certificates that can't be used, or the system lends no thread.
    pub fn start(warnings: Warnings) -> io::Result<Self> {
        let (to, from) = mpsc::channel(MAX_WAITING);
        let (orders, told) = watch::channel(Order::Run);
        let (says, has_queue) = watch::channel(false);
        let sink = WarningSink { to, state: Arc::clone(&warnings.state) };
        let sender = Sender::new(warnings, Ends { from, told, says })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("webhooks".into())
            .spawn(move || runtime.block_on(sender.run()))?;
        Ok(Self { sink, orders, has_queue, thread })
    }

    /// Where warnings are handed over.
    #[must_use]
    pub fn sink(&self) -> WarningSink {
        self.sink.clone()
    }

    /// Leaves the queue to another process; what is handed over from here on waits.
    pub async fn release(&self) {
        self.orders.send_replace(Order::Release);
        let mut has_queue = self.has_queue.clone();
        let left = has_queue.wait_for(|has_queue| !has_queue);
        if tokio::time::timeout(RELEASE_TIME, left).await.is_err() {
            tracing::warn!("the queue of webhooks was not left in time");
        }
    }

    /// Takes the queue back once it is free.
    pub fn retake(&self) {
        self.orders.send_replace(Order::Run);
    }

    /// Writes what is left, and waits until that is done; it is sent by the next process.
    pub fn finish(self) {
        self.orders.send_replace(Order::End);
        if self.thread.join().is_err() {
            tracing::error!("the thread of webhooks panicked");
        }
    }
}
