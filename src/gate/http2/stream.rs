//! One stream: a request and its answer.

use super::answer::{self, Download};
use super::connection::Connection;
use super::flow::Flow;
use super::head::Wrong;
use super::protocol::Born;
use super::tunnel;
use super::upload::Upload;
use crate::gate::body::BodySource as _;
use crate::gate::record::{Outcome, Record};
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::watch::Watch;
use crate::gate::worker::Worker;
use crate::gate::{Answer, Incoming, grpc, handle, own};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Serves a stream to its end, or until its client is gone.
#[allow(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps room for its arguments twice, as long as it runs"
)]
pub(super) fn run(connection: Rc<Connection>, born: Born) -> impl Future<Output = ()> {
    let Born { flow, head, read } = born;
    connection.begin();
    let record = Record::begin(connection.worker.next_number());
    let mut told = Told { flow, connection, record, head };
    async move {
        let flow = Rc::clone(&told.flow);
        let mut serving = pin!(serve(&mut told, read));
        poll_fn(|cx| {
            if flow.is_gone() {
                return Poll::Ready(());
            }
            flow.runs(cx);
            serving.as_mut().poll(cx)
        })
        .await;
    }
}

/// A stream that is open, and what log and counters will be told of it, however it ends.
struct Told {
    flow: Rc<Flow>,
    connection: Rc<Connection>,
    record: Record,
    head: RequestHead,
}

impl Drop for Told {
    fn drop(&mut self) {
        // A stream that its client resets is dropped wherever it waits: no response has come to it yet.
        if self.flow.is_at_fault.get() {
            self.record.reject(&Reject::MalformedRequest("what came behind its head"));
        } else if self.record.status == 0 && matches!(self.record.outcome, Outcome::Forwarded(_)) {
            self.record.reject(&Reject::ClientGone);
        }
        self.connection.worker.tell(&self.record, &self.connection.client, &self.head);
        let head = std::mem::take(&mut self.head);
        self.connection.with(|protocol, _| protocol.keep(head));
        self.connection.close(&self.flow);
    }
}

async fn serve(told: &mut Told, read: Result<(), Wrong>) {
    let Told { flow, connection, record, head } = told;
    let (flow, connection) = (&*flow, &*connection);
    let worker = &connection.worker;
    let watch = worker.clock.watch();
    let mut upload = Upload::new(Rc::clone(connection), Rc::clone(flow), head.expects_continue);
    let deadline = grpc::timeout(head).map(|time| worker.clock.now() + time);
    let whole = match read {
        Ok(()) if head.body == BodyLength::None && head.upgrade.is_none() => {
            nothing_more(worker, &mut upload, &watch).await
        }
        Ok(()) => Ok(()),
        Err(Wrong::Reject(reject)) => Err(reject),
        Err(Wrong::Malformed(why)) => {
            record.reject(&Reject::MalformedRequest(why));
            return connection.with(|protocol, out| protocol.refuse(flow, out));
        }
    };
    let answer = match whole {
        Ok(()) => {
            let request = Incoming { head, body: &mut upload, watch: &watch };
            // In a box it is gone once there is an answer, which may wait for its client for long.
            Box::pin(handle(worker, &connection.client, request, record)).await
        }
        Err(reject) => {
            record.reject(&reject);
            Answer::Own(reject)
        }
    };
    match tunnel::checked(answer, &watch, head, record) {
        Answer::Forward(exchange, _) if exchange.is_switched() => {
            tunnel::run((connection, flow), exchange, &watch, record).await;
        }
        Answer::Forward(exchange, target) => {
            let (idle_timeout, pace) = (target.timeouts.idle, worker.pace());
            drop(target);
            let times = (idle_timeout, deadline);
            Download::new((connection, flow), exchange, upload, (&watch, times, pace), record).run().await;
        }
        Answer::Healthy => {
            (record.outcome, record.status) = (Outcome::Health, 200);
            answer::own((connection, flow), &watch, |_| Some(own::healthy()), (head, record)).await;
        }
        Answer::Own(reject) => {
            // Those of the moment, however long the page waits.
            let (rules, synced_at) = (worker.rules(), worker.shared.cache.synced_at());
            let make = |record: &mut Record| own::respond(&reject, &rules, synced_at, head, record);
            answer::own((connection, flow), &watch, make, (head, record)).await;
        }
    }
}

/// Waits for the end of a stream that has no body: what it may still send is no part of a request.
async fn nothing_more(worker: &Worker, upload: &mut Upload, watch: &Watch) -> Result<(), Reject> {
    if upload.is_ended() {
        return Ok(());
    }
    watch.within(worker.rules().limits.body_timeout);
    match watch.bound(|cx| upload.poll_data(cx)).await {
        Ok(Ok(false)) => Ok(()),
        Ok(Ok(true) | Err(_)) => Err(Reject::MalformedRequest("a body where there is none")),
        Err(_) => Err(Reject::RequestTimeout),
    }
}
