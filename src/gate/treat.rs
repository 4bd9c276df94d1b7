//! What a site does to requests and responses on their way through, beyond forwarding them.

use crate::config::{self, Levels};
use crate::gate::compress::{Compressions, Compressor, Place};
use crate::gate::field_rules::FieldRules;
use crate::gate::footer::{Footers, Plan};
use crate::gate::forward::Forward;
use crate::gate::record::Record;
use crate::gate::request::RequestHead;
use crate::gate::transform::{Coding, Transform, fields};
use crate::telemetry::WorkerCounters;
use std::io;
use std::sync::Arc;

/// A site's treatment of what passes.
#[derive(Debug)]
pub struct Treatment {
    footers: Option<Arc<Footers>>,
    compressor: Option<Arc<Compressor>>,
    /// What requests lose and get.
    pub request: Option<FieldRules>,
    response: Option<FieldRules>,
}

impl Treatment {
    /// `None` where everything passes as it is: then nothing is spent on it.
    #[must_use]
    pub fn new(
        from: &config::Treatment,
        footers: Option<&Arc<Footers>>,
        compressions: &Compressions,
    ) -> Option<Arc<Self>> {
        let request = FieldRules::new(&from.request_headers);
        let response = FieldRules::new(&from.response_headers);
        let compressor = compressions.of(from.compression.as_ref());
        let is_any = footers.is_some() || compressor.is_some() || request.is_some() || response.is_some();
        is_any.then(|| Arc::new(Self { footers: footers.cloned(), compressor, request, response }))
    }

    /// A response's head has come; its body will be read through what is set up here.
    pub fn response(
        &self,
        request: &RequestHead,
        exchange: &mut Forward,
        (record, counters): (&Record, &WorkerCounters),
    ) {
        if exchange.is_switched() {
            return;
        }
        let plan = self.footers.as_ref().and_then(|footers| footers.plan(request, exchange.head(), record));
        let coded = self.compressor.as_ref().and_then(|compressor| {
            let choice = compressor.choose(request, exchange.head_mut());
            choice.counted(counters).map(|(coding, place)| (coding, compressor.levels(), place))
        });
        let is_done = match (plan, coded) {
            (None, None) => Ok(()),
            (plan, Some(coded)) => compressed(request, exchange, plan, coded),
            (Some(plan), None) => changed(exchange, plan),
        };
        // A coding that can't be set up is a page that passes as it came.
        if let Err(error) = is_done {
            tracing::warn!(%error, "no room to change a response");
        }
        if let Some(rules) = &self.response {
            rules.apply(exchange.head_mut());
        }
    }
}

/// A page that is looked at or added to, in the coding that it came in.
fn changed(exchange: &mut Forward, plan: Plan) -> io::Result<()> {
    let Plan { page, coding, may_change } = plan;
    let Some(page) = page else {
        fields::of_changed_body(exchange.head_mut());
        return Ok(());
    };
    let transform = match may_change {
        true => Transform::change(coding, Some(page), coding)?,
        false => Transform::look(coding, page)?,
    };
    if may_change {
        fields::of_changed_body(exchange.head_mut());
    }
    exchange.change_body(transform);
    Ok(())
}

/// What came in no coding, in one that the client takes; a page is looked at or added to first.
fn compressed(
    request: &RequestHead,
    exchange: &mut Forward,
    plan: Option<Plan>,
    (coding, levels, place): (Coding, Levels, Place),
) -> io::Result<()> {
    let is_changed = plan.as_ref().is_some_and(|plan| plan.may_change);
    // Of a HEAD's answer there is the head alone.
    if !request.is_head() {
        let page = plan.and_then(|plan| plan.page);
        let transform = Transform::coded(Coding::Identity, page, (coding, levels))?.holding(place);
        exchange.change_body(transform);
    }
    if is_changed {
        fields::of_changed_body(exchange.head_mut());
    }
    fields::of_coded_body(exchange.head_mut(), coding);
    Ok(())
}
