//! Warnings: what comes up, what was told, and what became of it at each receiver.

use super::Text;
use crate::config::WarningKind;
use crate::warnings::{HookState, WarningState};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) fn render(text: &mut Text, state: &WarningState) {
    text.family("upcoming", "gauge", "What comes up or is overdue for what is served here, by event.");
    for kind in WarningKind::ALL {
        text.sample("upcoming", &label("event", kind.as_str()), state.upcoming_of(kind));
    }
    text.family("warnings_total", "counter", "Events that webhooks were told of, by event.");
    for kind in WarningKind::ALL {
        text.sample("warnings_total", &label("event", kind.as_str()), state.told(kind));
    }
    text.one(
        "warnings_dropped_total",
        "counter",
        "Events that found no room.",
        state.dropped.load(Ordering::Relaxed),
    );
    text.one(
        "webhook_queue_write_errors_total",
        "counter",
        "Times that the queue of webhooks could not be written.",
        state.write_errors.load(Ordering::Relaxed),
    );
    of_hooks(text, state, ("webhook_queued", "gauge", "Events that wait for the webhook."), |it| &it.queued);
    let dead = ("webhook_dead", "gauge", "Events that the webhook did not take in time; they are kept.");
    of_hooks(text, state, dead, |it| &it.dead);
    let delivered = ("webhook_delivered_total", "counter", "Events that the webhook took.");
    of_hooks(text, state, delivered, |it| &it.delivered);
    let failed = ("webhook_failed_tries_total", "counter", "Tries that failed.");
    of_hooks(text, state, failed, |it| &it.failed);
}

fn of_hooks(
    text: &mut Text,
    state: &WarningState,
    (name, kind, help): (&str, &str, &str),
    counter: fn(&HookState) -> &AtomicU64,
) {
    text.family(name, kind, help);
    state.each_hook(|hook| {
        text.sample(name, &label("webhook", &hook.name), counter(hook).load(Ordering::Relaxed));
    });
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}
