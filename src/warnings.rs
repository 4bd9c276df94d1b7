//! Warnings before outages: what operators are told, by signed webhooks and metrics, of the domains that are served here.
//!
//! An event is on disk before it is sent, is sent until somebody takes it or it has grown too old, and what nobody
//! took is kept and shown. Whoever has something to tell hands it over and goes on. Knows what is told and to whom; what
//! comes up is found in `upcoming`, what has changed is `served`'s.

mod delivery;
mod queue;
mod sender;
mod signature;
mod state;
mod thread;
mod upcoming;
mod words;

pub use state::{HookState, Stuck, WarningState};
pub use thread::{WarningThread, Warnings};
pub use upcoming::{Lookout, Upcoming};

use crate::config::WarningKind;
use crate::telemetry::{AuditEvent, VerdictChange};
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Events that may wait for the thread.
const MAX_WAITING: usize = 8192;

/// The same in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// 中文
    pub zh: String,
    /// English
    pub en: String,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// In words.
    pub message: Message,
    /// In fields.
    pub data: Value,
    /// Told once for this, and never again until that day.
    pub once: Option<(String, Date)>,
}

#[derive(Debug)]
enum Item {
    Warning(Warning),
    /// A host is judged, for the first time or otherwise than before.
    Verdict(Box<VerdictChange>),
    /// Whether filings can be relied on, and for how many hosts.
    Filings {
        is_reliable: bool,
        hosts: usize,
    },
    /// What nobody took is to be tried again.
    Resend,
}

/// Where warnings are handed over. Clones are the same.
#[derive(Debug, Clone)]
pub struct WarningSink {
    to: mpsc::Sender<Item>,
    state: Arc<WarningState>,
}

impl WarningSink {
    /// Hands over what is to be told.
    pub fn warn(&self, warning: Warning) {
        self.send(Item::Warning(warning));
    }

    /// Hands over what happened to the hosts that are served, as far as it is worth a warning.
    pub fn happened(&self, event: &AuditEvent) {
        match event {
            AuditEvent::Verdict(change) => self.send(Item::Verdict(Box::new(change.clone()))),
            AuditEvent::Filings { reliable, hosts } => {
                self.send(Item::Filings { is_reliable: *reliable, hosts: *hosts });
            }
            AuditEvent::Held { state, newly_blocked, of } => self.warn(Warning {
                kind: WarningKind::FlipsHeld,
                message: words::held(state, *newly_blocked, *of),
                data: json!({ "state": state, "newly_blocked": newly_blocked, "of": of }),
                once: None,
            }),
            _ => {}
        }
    }

    /// Tells everybody who asked for that kind of events that the way works.
    pub fn test(&self) {
        let (message, data) = (words::test(), Value::Null);
        self.warn(Warning { kind: WarningKind::Test, message, data, once: None });
    }

    /// Tries again what nobody took.
    pub fn resend(&self) {
        self.send(Item::Resend);
    }

    fn send(&self, item: Item) {
        if self.to.try_send(item).is_err() {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
