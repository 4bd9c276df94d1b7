//! What a site does to requests and responses on their way through, beyond forwarding them.

use crate::config;
use crate::gate::field_rules::FieldRules;
use crate::gate::footer::{Footers, Plan};
use crate::gate::forward::Forward;
use crate::gate::record::Record;
use crate::gate::request::RequestHead;
use crate::gate::transform::{Transform, fields};
use std::sync::Arc;

/// A site's treatment of what passes.
#[derive(Debug)]
pub struct Treatment {
    footers: Option<Arc<Footers>>,
    /// What requests lose and get.
    pub request: Option<FieldRules>,
    response: Option<FieldRules>,
}

impl Treatment {
    /// `None` where everything passes as it is: then nothing is spent on it.
    #[must_use]
    pub fn new(from: &config::Treatment, footers: Option<&Arc<Footers>>) -> Option<Arc<Self>> {
        let request = FieldRules::new(&from.request_headers);
        let response = FieldRules::new(&from.response_headers);
        let is_any = footers.is_some() || request.is_some() || response.is_some();
        is_any.then(|| Arc::new(Self { footers: footers.cloned(), request, response }))
    }

    /// A response's head has come; its body will be read through what is set up here.
    pub fn response(&self, request: &RequestHead, exchange: &mut Forward, record: &Record) {
        if exchange.is_switched() {
            return;
        }
        self.body(request, exchange, record);
        if let Some(rules) = &self.response {
            rules.apply(exchange.head_mut());
        }
    }

    fn body(&self, request: &RequestHead, exchange: &mut Forward, record: &Record) {
        let plan = self.footers.as_ref().and_then(|footers| footers.plan(request, exchange.head(), record));
        let Some(Plan { page, coding, may_change }) = plan else { return };
        let Some(page) = page else { return fields::of_changed_body(exchange.head_mut()) };
        // A coding that can't be set up is a page that can't be looked at.
        let transform = match may_change {
            true => Transform::change(coding, Some(page), coding),
            false => Transform::look(coding, page),
        };
        let Ok(transform) = transform else { return };
        if may_change {
            fields::of_changed_body(exchange.head_mut());
        }
        exchange.change_body(transform);
    }
}
