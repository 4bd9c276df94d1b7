//! Worker threads: started together, drained together.

use super::listeners::{Group, Layout};
use crate::gate::accept;
use crate::gate::client::Listener;
use crate::gate::listen::Source;
use crate::gate::worker::{Shared, Worker};
use crate::telemetry::{AccessLogSwitch, Counters, SpanSink, WorkerCounters};
use anyhow::{Context, Result};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task;

/// How often a draining worker looks whether its last connection has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// How workers are to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    /// How long connections that wait for a next request may still send one.
    pub(super) linger: Duration,
}

/// What workers listen to.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    pub(super) layout: watch::Receiver<Arc<Layout>>,
    pub(super) drain: watch::Receiver<Option<Drain>>,
    /// For what is in flight when draining.
    pub(super) drain_timeout: Duration,
}

/// The workers of this process.
#[derive(Debug)]
pub(super) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many threads; returns when all of them accept.
    pub(super) fn start(
        count: usize,
        shared: &Arc<Shared>,
        counters: &Counters,
        (log, spans): (&Arc<AccessLogSwitch>, Option<SpanSink>),
        orders: &Orders,
    ) -> Result<Self> {
        let mut threads = Vec::new();
        let (tell, accepting) = mpsc::channel();
        for number in 0..count {
            let seat = Seat {
                number,
                count,
                shared: Arc::clone(shared),
                counters: counters.worker(),
                log: Arc::clone(log),
                spans: spans.clone(),
                orders: orders.clone(),
                accepting: Vec::new(),
            };
            let tell = tell.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(thread.spawn(move || seat.work(&tell))?);
        }
        // The spans' exporter ends when the last of these is gone.
        drop((spans, tell));
        for _ in 0..count {
            accepting.recv().context("a worker ended at its start")?.context("a worker can't start")?;
        }
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
    number: usize,
    count: usize,
    shared: Arc<Shared>,
    counters: Arc<WorkerCounters>,
    log: Arc<AccessLogSwitch>,
    spans: Option<SpanSink>,
    orders: Orders,
    accepting: Vec<Accepting>,
}

/// The tasks that accept for one listener.
struct Accepting {
    listener: Arc<Listener>,
    group: Arc<Group>,
    tasks: Vec<task::JoinHandle<()>>,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Seat {
    fn work(self, tell: &mpsc::Sender<std::io::Result<()>>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(self.serve(tell)),
            // Nobody waits for it where another worker failed first.
            Err(error) => drop(tell.send(Err(error))),
        }
    }

    async fn serve(mut self, tell: &mpsc::Sender<std::io::Result<()>>) {
        let (log, spans) = (Arc::clone(&self.log), self.spans.take());
        let worker = Worker::new(Arc::clone(&self.shared), Arc::clone(&self.counters), (log, spans));
        let ticking = task::spawn_local({
            let worker = Rc::clone(&worker);
            async move { worker.run().await }
        });
        let settled = self.settle(&worker);
        let is_settled = settled.is_ok();
        let _ = tell.send(settled);
        if !is_settled {
            return;
        }
        let drain = self.until_told_to_drain(&worker).await;
        self.accepting.clear();
        worker.clock.drain(drain.linger.min(self.orders.drain_timeout));
        let drained = async {
            while worker.clock.watched() > 0 {
                tokio::time::sleep(DRAIN_POLL).await;
            }
        };
        if tokio::time::timeout(self.orders.drain_timeout, drained).await.is_err() {
            tracing::warn!(connections = worker.clock.watched(), "drain timeout: closing what is still open");
        }
        ticking.abort();
        worker.hand_over_all();
    }

    /// Follows the layout until the end is near.
    async fn until_told_to_drain(&mut self, worker: &Rc<Worker>) -> Drain {
        let mut drain = self.orders.drain.clone();
        loop {
            tokio::select! {
                // An error means that nobody is left to tell: the same.
                told = drain.wait_for(Option::is_some) => {
                    let told = told.ok().and_then(|told| *told);
                    return told.unwrap_or(Drain { linger: Duration::ZERO });
                }
                Ok(()) = self.orders.layout.changed() => {
                    if let Err(error) = self.settle(worker) {
                        tracing::error!(%error, "a worker can't listen");
                    }
                }
            }
        }
    }

    /// Accepts on what the layout holds: ends what it no longer does, begins what is new.
    fn settle(&mut self, worker: &Rc<Worker>) -> std::io::Result<()> {
        let layout = Arc::clone(&self.orders.layout.borrow_and_update());
        let is_same = |accepting: &Accepting, listener: &Arc<Listener>, group: &Arc<Group>| {
            Arc::ptr_eq(&accepting.listener, listener) && Arc::ptr_eq(&accepting.group, group)
        };
        self.accepting.retain(|it| layout.bound.iter().any(|one| is_same(it, &one.listener, &one.group)));
        for one in &layout.bound {
            if self.accepting.iter().any(|it| is_same(it, &one.listener, &one.group)) {
                continue;
            }
            let (listener, group) = (Arc::clone(&one.listener), Arc::clone(&one.group));
            let mut accepting = Accepting { listener, group, tasks: Vec::new() };
            for socket in one.group.for_worker(self.number, self.count)? {
                let source = Source::new(socket, one.group.is_local)?;
                let (worker, listener) = (Rc::clone(worker), Arc::clone(&one.listener));
                accepting.tasks.push(task::spawn_local(accept::run(worker, listener, source)));
            }
            self.accepting.push(accepting);
        }
        Ok(())
    }
}
