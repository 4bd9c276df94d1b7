//! Worker threads: started together, drained together.

use crate::config;
use crate::gate::accept;
use crate::gate::client::Listener;
use crate::gate::listen;
use crate::gate::worker::{Shared, Worker};
use crate::telemetry::{AccessLogSink, Counters, WorkerCounters};
use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often a draining worker looks whether its last connection has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Listening sockets: for each worker one per listener.
#[derive(Debug)]
pub(super) struct Sockets {
    listeners: Vec<Arc<Listener>>,
    by_worker: Vec<Vec<TcpListener>>,
}

impl Sockets {
    /// The listeners, in the order of the config, with the addresses that they got.
    pub(super) fn listeners(&self) -> &[Arc<Listener>] {
        &self.listeners
    }
}

/// Binds every listener for every worker, or nothing.
pub(super) fn bind_all(configured: &[config::Listener], workers: usize) -> Result<Sockets> {
    let mut sockets =
        Sockets { listeners: Vec::new(), by_worker: (0..workers).map(|_| Vec::new()).collect() };
    for (index, listener) in configured.iter().enumerate() {
        let bound = listen::bind(listener.address, workers)
            .with_context(|| cannot_listen(listener.address, &format!("listener {}", index + 1)))?;
        let address = bound.first().context("a worker at least")?.local_addr()?;
        sockets.listeners.push(Arc::new(Listener::new(index, listener, address)));
        for (worker, socket) in sockets.by_worker.iter_mut().zip(bound) {
            worker.push(socket);
        }
    }
    Ok(sockets)
}

/// What to say where an address can't be had.
pub(super) fn cannot_listen(address: SocketAddr, key: &str) -> String {
    format!(
        "{key}: can't listen on {address}; stop what holds it, or give another address (port 0 takes a free one)"
    )
}

/// The workers of this process.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a thread for each worker.
    pub(super) fn start(
        Sockets { listeners, by_worker }: Sockets,
        shared: &Arc<Shared>,
        counters: &Counters,
        log: Option<AccessLogSink>,
        stopping: &watch::Receiver<bool>,
        drain_timeout: Duration,
    ) -> Result<Self> {
        let mut threads = Vec::new();
        for (number, own) in by_worker.into_iter().enumerate() {
            let seat = Seat {
                sockets: listeners.iter().cloned().zip(own).collect(),
                shared: Arc::clone(shared),
                counters: counters.worker(),
                log: log.clone(),
                stopping: stopping.clone(),
                drain_timeout,
            };
            threads.push(
                std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || seat.work())?,
            );
        }
        // The log's writer ends when the last of these is gone.
        drop(log);
        Ok(Self { threads })
    }

    /// Waits until all have drained.
    pub(super) fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// What a worker thread starts with.
struct Seat {
    sockets: Vec<(Arc<Listener>, TcpListener)>,
    shared: Arc<Shared>,
    counters: Arc<WorkerCounters>,
    log: Option<AccessLogSink>,
    stopping: watch::Receiver<bool>,
    drain_timeout: Duration,
}

impl Seat {
    fn work(self) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve()),
            Err(error) => tracing::error!(%error, "a worker can't start"),
        }
    }

    async fn serve(mut self) {
        let worker = Worker::new(self.shared, self.counters, self.log);
        let ticking = tokio::task::spawn_local({
            let worker = std::rc::Rc::clone(&worker);
            async move { worker.run().await }
        });
        let mut accepting = Vec::new();
        for (listener, socket) in self.sockets {
            match tokio::net::TcpListener::from_std(socket) {
                Ok(socket) => accepting.push(tokio::task::spawn_local(accept::run(
                    std::rc::Rc::clone(&worker),
                    listener,
                    socket,
                ))),
                Err(error) => tracing::error!(%error, "a worker can't listen"),
            }
        }
        // An error means that nobody is left to tell: the same.
        let _ = self.stopping.wait_for(|stopping| *stopping).await;
        for task in accepting {
            task.abort();
        }
        worker.clock.drain();
        let drained = async {
            while worker.clock.watched() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(self.drain_timeout, drained).await.is_err() {
            tracing::warn!(connections = worker.clock.watched(), "drain timeout: closing what is still open");
        }
        ticking.abort();
        worker.hand_over_log();
    }
}
