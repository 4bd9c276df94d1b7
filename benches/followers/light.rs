//! A follower that keeps nothing but its position: it costs the machine little, and the registry as much as any.

use super::{PROVIDER, until};
use beian_gate::feed::{Frame, FrameReader, Summary};
use reqwest::Client;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Positions that are remembered with when they were reached.
const MAX_REMEMBERED: usize = 256;

/// One that runs.
pub(crate) struct Light {
    reached: Arc<Mutex<VecDeque<(u64, Instant)>>>,
}

impl Light {
    /// Begins at the snapshot's position, of which it reads no more than the first frame.
    pub(crate) async fn start(client: Client, registry: String, number: u64) -> Self {
        let url = format!("{registry}/v1/feed/snapshot?provider={PROVIDER}");
        let mut frames =
            Frames { response: client.get(url).send().await.unwrap(), reader: FrameReader::default() };
        let Some(Frame::Snapshot { summary, .. }) = frames.next().await else { panic!("no snapshot") };
        let light = Self { reached: Arc::default() };
        let (newest, wanted) = tokio::sync::watch::channel(summary);
        tokio::spawn(acknowledge(client.clone(), registry.clone(), number, wanted));
        let reached = Arc::clone(&light.reached);
        tokio::spawn(async move {
            let position = summary.position;
            let url = format!(
                "{registry}/v1/feed/changes?provider={PROVIDER}&epoch={}&after={}",
                position.epoch, position.seq
            );
            let mut frames =
                Frames { response: client.get(url).send().await.unwrap(), reader: FrameReader::default() };
            while let Some(frame) = frames.next().await {
                let (Frame::Batch { summary, .. } | Frame::Heartbeat(summary)) = frame else {
                    panic!("{frame:?}")
                };
                let mut reached = reached.lock().unwrap();
                if reached.back().is_none_or(|(seq, _)| *seq < summary.position.seq) {
                    reached.push_back((summary.position.seq, Instant::now()));
                    newest.send_replace(summary);
                }
                if reached.len() > MAX_REMEMBERED {
                    reached.pop_front();
                }
            }
        });
        light
    }

    /// When it had this change.
    pub(crate) async fn reached(&self, seq: u64) -> Instant {
        let at = || self.reached.lock().unwrap().iter().find(|(it, _)| *it >= seq).map(|(_, at)| *at);
        until(async || at().is_some()).await;
        at().unwrap()
    }
}

/// The newest position, one at a time.
async fn acknowledge(
    client: Client,
    registry: String,
    number: u64,
    mut newest: tokio::sync::watch::Receiver<Summary>,
) {
    while newest.changed().await.is_ok() {
        let summary = *newest.borrow_and_update();
        let body = json!({
            "provider": PROVIDER, "gate": format!("light-{number}"), "epoch": summary.position.epoch,
            "seq": summary.position.seq, "digest": summary.digest.to_string(), "lag_ms": 0,
        });
        let sent = client.post(format!("{registry}/v1/feed/acknowledgements")).json(&body).send().await;
        assert!(sent.unwrap().status().is_success());
    }
}

struct Frames {
    response: reqwest::Response,
    reader: FrameReader,
}

impl Frames {
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.reader.next_frame().unwrap() {
                return Some(frame);
            }
            // The registry's end ends it as well.
            self.reader.push(&self.response.chunk().await.ok()??);
        }
    }
}
