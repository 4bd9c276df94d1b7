//! The way to an upstream that may speak HTTP/2, for a request that asks for a WebSocket: as a stream where the upstream
//! opens such (RFC 8441), over an HTTP/1.1 connection of its own where it may be spoken to so.

use super::Worker;
use crate::gate::call::Call;
use crate::gate::client::Client;
use crate::gate::endpoint::{self, Endpoint};
use crate::gate::exchange::Exchange;
use crate::gate::forward::Forward;
use crate::gate::reject::Reject;
use crate::gate::trunk::{NO_TUNNEL, Reached};
use crate::gate::watch::Watch;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Worker {
    pub(super) async fn reach_for_tunnel(
        &self,
        (endpoint, client): (&Arc<Endpoint>, &Client),
        limit: Duration,
        watch: &Watch,
        fresh_since: Option<Instant>,
    ) -> Result<Forward, Reject> {
        watch.within(limit);
        let mut reaching = pin!(self.trunks.reach(endpoint, fresh_since));
        let reached = watch.bound(|cx| reaching.as_mut().poll(cx)).await.map_err(endpoint::late)??;
        let ticket = match reached {
            Reached::Trunk(ticket) => ticket,
            Reached::Channel(channel) => return Ok(Box::new(Exchange::new(*channel, endpoint)).into()),
        };
        if ticket.takes_tunnels() {
            return Ok(Call::new(ticket, endpoint).into());
        }
        if !endpoint.may_speak_http1() {
            return Err(NO_TUNNEL);
        }
        let mut connecting = pin!(endpoint.connect_http1(Some(client.speaker())));
        let channel = watch.bound(|cx| connecting.as_mut().poll(cx)).await.map_err(endpoint::late)??;
        Ok(Box::new(Exchange::new(channel, endpoint)).into())
    }
}
