//! The thread that takes events, puts them on disk, and sends them until they are taken or too old.
//!
//! Each receiver has one event under way at a time, and its own pauses between tries, which grow with every failure: who is
//! away keeps nobody else waiting. An event may come twice (its id is the same), for whoever is killed between an answer and its
//! note sends it again.

use super::delivery::{Hook, LONGEST_PAUSE, Refusal, deliver, pause, request};
use super::queue::{Before, Event, Pending, Queue, Standing};
use super::state::{Stuck, WarningState};
use super::thread::{Ends, Order, Warnings};
use super::{Item, Message, Warning, words};
use crate::config::WarningKind;
use crate::telemetry::VerdictChange;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How often the queue is asked for while another process has it, or the disk takes nothing.
const LOOK: Duration = Duration::from_millis(500);
/// Items that are taken before they are written.
const MAX_BATCH: usize = 512;
/// What the state of all filings is remembered as.
const FILINGS: &str = "(filings)";

/// Of one event to one receiver.
#[derive(Debug, Clone, Copy)]
struct Tries {
    failed: u32,
    next: Instant,
}

#[derive(Debug)]
struct Landed {
    seq: u64,
    hook: usize,
    result: Result<(), Refusal>,
}

/// The thread's own.
pub(super) struct Sender {
    ends: Ends,
    hooks: Vec<Hook>,
    give_up_after: Duration,
    provider: String,
    gate: String,
    directory: PathBuf,
    state: Arc<WarningState>,
    queue: Option<Queue>,
    flights: JoinSet<Landed>,
    tries: HashMap<(u64, usize), Tries>,
}

impl Sender {
    /// With a client for each receiver.
    pub(super) fn new(warnings: Warnings, ends: Ends) -> io::Result<Self> {
        let Warnings { config, provider, gate, directory, state } = warnings;
        state.set_hooks(config.hooks.iter().map(|hook| hook.name.as_str()));
        Ok(Self {
            ends,
            hooks: config.hooks.into_iter().map(Hook::new).collect::<Result<_, _>>()?,
            give_up_after: config.give_up_after,
            provider,
            gate,
            directory,
            state,
            queue: None,
            flights: JoinSet::new(),
            tries: HashMap::new(),
        })
    }

    /// Until told to end.
    pub(super) async fn run(mut self) {
        loop {
            let order = *self.ends.told.borrow_and_update();
            match order {
                Order::Run => self.open(),
                Order::Release => self.leave(),
                Order::End => {
                    self.open();
                    self.gather(None);
                    return self.leave();
                }
            }
            let next = self.set_out();
            tokio::select! {
                item = self.ends.from.recv(), if self.queue.is_some() => self.gather(item),
                Some(landed) = self.flights.join_next() => self.landed(landed.ok()),
                _ = self.ends.told.changed() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            self.flush();
        }
    }

    fn open(&mut self) {
        if self.queue.is_some() {
            return;
        }
        match Queue::open(&self.directory, today()) {
            Ok(mut queue) => {
                let names: Vec<_> = self.hooks.iter().map(|hook| hook.config.name.as_str()).collect();
                let others = queue.keep_only(&names);
                if others > 0 {
                    tracing::warn!(
                        events = others,
                        "events for webhooks that are no longer configured are dropped"
                    );
                }
                self.queue = Some(queue);
                self.state.set_error(None);
                self.ends.says.send_replace(true);
                self.show();
                self.show_stuck();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.state.set_error(Some("another process has the queue of webhooks".to_owned()));
            }
            Err(error) => self.failed(&error),
        }
    }

    fn leave(&mut self) {
        if self.queue.is_none() {
            return;
        }
        self.flights.abort_all();
        self.flush();
        self.queue = None;
        self.tries.clear();
        self.hooks.iter_mut().for_each(|hook| hook.is_busy = false);
        self.flights = JoinSet::new();
        self.ends.says.send_replace(false);
    }

    /// Takes what was handed over, a batch at most.
    fn gather(&mut self, first: Option<Item>) {
        let mut item = first.or_else(|| self.ends.from.try_recv().ok());
        for _ in 0..MAX_BATCH {
            match item {
                Some(Item::Warning(warning)) => self.add(warning),
                Some(Item::Verdict(change)) => self.judged(&change),
                Some(Item::Filings { is_reliable, hosts }) => self.filings(is_reliable, hosts),
                Some(Item::Resend) => {
                    self.queue.iter_mut().for_each(|queue| queue.again(Timestamp::now().as_millisecond()));
                    self.show_stuck();
                }
                None => break,
            }
            item = self.ends.from.try_recv().ok();
        }
    }

    /// A first judgement in this process is news where another process had judged otherwise; one by older filings than were
    /// known before is none.
    fn judged(&mut self, change: &VerdictChange) {
        let Some(queue) = &mut self.queue else { return };
        let host = format!("{} {} {}", change.host, change.scenario, change.region);
        let standing = Standing { is: change.verdict.to_owned(), position: change.position, day: today() };
        let Before::Other(was) = queue.stands(&host, standing) else { return };
        let mut data = json!(change);
        data["was"] = was.as_str().into();
        let message = words::verdict(change, &was);
        self.add(Warning { kind: WarningKind::VerdictChanged, message, data, once: None });
    }

    /// That filings can be relied on is news only after they could not.
    fn filings(&mut self, is_reliable: bool, hosts: usize) {
        let Some(queue) = &mut self.queue else { return };
        let is = if is_reliable { "reliable" } else { "not reliable" }.to_owned();
        match queue.stands(FILINGS, Standing { is, position: [0, 0], day: today() }) {
            Before::Other(_) => {}
            Before::Unknown if !is_reliable => {}
            Before::Unknown | Before::Same | Before::Later => return,
        }
        let (message, data) =
            (words::filings(is_reliable), json!({ "reliable": is_reliable, "hosts": hosts }));
        self.add(Warning { kind: WarningKind::FilingsStale, message, data, once: None });
    }

    fn add(&mut self, warning: Warning) {
        let Some(queue) = &mut self.queue else { return };
        let Warning { kind, message, data, once } = warning;
        if once.as_ref().is_some_and(|(key, until)| !queue.tell(key, *until)) {
            return;
        }
        self.state.count(kind);
        tracing::warn!(event = kind.as_str(), "{}", message.en);
        let wants = |hook: &&Hook| hook.config.events.contains(&kind);
        let to: Vec<_> = self.hooks.iter().filter(wants).map(|hook| hook.config.name.clone()).collect();
        let Some(id) = id(&self.provider, once.as_ref().map(|(key, _)| key.as_str())) else { return };
        let now = Timestamp::now();
        let about = Head { provider: &self.provider, gate: &self.gate, id: &id, now };
        let event = Event { body: body(kind, &about, &message, &data), id, kind: kind.as_str().to_owned() };
        if !to.is_empty() && !queue.add(Pending { event, since_ms: now.as_millisecond(), to }) {
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&mut self) {
        let Some(queue) = &mut self.queue else { return };
        let was_whole = queue.is_whole();
        match queue.flush(today()) {
            Ok(()) if was_whole => {}
            Ok(()) => self.state.set_error(None),
            Err(error) => self.failed(&error),
        }
        self.show();
    }

    fn failed(&self, error: &io::Error) {
        self.state.write_errors.fetch_add(1, Ordering::Relaxed);
        self.state.set_error(Some(format!("{}: {error}", self.directory.display())));
    }

    /// Sends what is due; says when something is due next.
    fn set_out(&mut self) -> Instant {
        let now = Instant::now();
        let Some(queue) = self.queue.as_ref() else { return now + LOOK };
        let mut wake = now + if queue.is_whole() { LONGEST_PAUSE } else { LOOK };
        for (nth, hook) in self.hooks.iter_mut().enumerate().filter(|(_, hook)| !hook.is_busy) {
            let of_hook = queue.pending().iter().filter(|(_, it)| it.to.contains(&hook.config.name));
            let due =
                of_hook.map(|(seq, it)| (self.tries.get(&(*seq, nth)).map_or(now, |it| it.next), *seq, it));
            let Some((at, seq, pending)) = due.min_by_key(|(at, seq, _)| (*at, *seq)) else { continue };
            if at > now {
                wake = wake.min(at);
                continue;
            }
            hook.is_busy = true;
            let request = request(hook, &pending.event);
            self.flights.spawn(async move { Landed { seq, hook: nth, result: deliver(request).await } });
        }
        wake
    }

    fn landed(&mut self, landed: Option<Landed>) {
        let Some(Landed { seq, hook: nth, result }) = landed else { return };
        let (Some(queue), Some(hook)) = (&mut self.queue, self.hooks.get_mut(nth)) else { return };
        hook.is_busy = false;
        let name = hook.config.name.clone();
        let now = Timestamp::now();
        let Err(Refusal { why, is_final }) = result else {
            self.tries.remove(&(seq, nth));
            queue.done(seq, &name);
            return self.state.hook(nth, |state| {
                state.delivered.fetch_add(1, Ordering::Relaxed);
                state.last_s.store(now.as_second(), Ordering::Relaxed);
                state.set_error(None);
            });
        };
        self.state.hook(nth, |state| {
            state.failed.fetch_add(1, Ordering::Relaxed);
            state.set_error(Some(why.clone()));
        });
        let since_ms = queue.pending().get(&seq).map_or(0, |it| it.since_ms);
        let age = Duration::from_millis(u64::try_from(now.as_millisecond() - since_ms).unwrap_or_default());
        if is_final || age >= self.give_up_after {
            tracing::error!(
                webhook = name,
                seq,
                why,
                "an event is given up; it is kept and can be sent again"
            );
            self.tries.remove(&(seq, nth));
            queue.give_up(seq, &name, why, now.as_millisecond());
            return self.show_stuck();
        }
        let tries = self.tries.entry((seq, nth)).or_insert(Tries { failed: 0, next: Instant::now() });
        tries.next = Instant::now() + pause(tries.failed);
        tries.failed = tries.failed.saturating_add(1);
    }

    /// Brings what others see up to date.
    fn show(&self) {
        let Some(queue) = &self.queue else { return };
        for (nth, hook) in self.hooks.iter().enumerate() {
            let name = &hook.config.name;
            let queued = queue.pending().values().filter(|it| it.to.contains(name)).count();
            let dead = queue.dead().iter().filter(|it| it.to == *name).count();
            self.state.hook(nth, |state| {
                state.queued.store(queued as u64, Ordering::Relaxed);
                state.dead.store(dead as u64, Ordering::Relaxed);
            });
        }
    }

    fn show_stuck(&self) {
        let Some(queue) = &self.queue else { return };
        let stuck = queue.dead().iter().rev().map(|it| Stuck {
            id: it.event.id.clone(),
            event: it.event.kind.clone(),
            webhook: it.to.clone(),
            why: it.why.clone(),
            given_up: Timestamp::from_millisecond(it.at_ms).unwrap_or_default().to_string(),
        });
        self.state.set_stuck(stuck.collect());
    }
}

fn today() -> jiff::civil::Date {
    crate::verdict::day(Timestamp::now())
}

/// An event's id: the same from every gate of a provider for what is told once.
fn id(provider: &str, key: Option<&str>) -> Option<String> {
    let mut octets = [0; 16];
    match key {
        Some(key) => {
            let text = format!("{provider}\n{key}");
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
            octets.copy_from_slice(hash.as_ref().first_chunk::<16>()?);
        }
        None => getrandom::fill(&mut octets).ok()?,
    }
    Some(format!("evt_{}", crate::hexadecimal::hexadecimal(&octets)))
}

struct Head<'h> {
    provider: &'h str,
    gate: &'h str,
    id: &'h str,
    now: Timestamp,
}

fn body(kind: WarningKind, head: &Head<'_>, message: &Message, data: &Value) -> String {
    json!({
        "type": kind.as_str(), "timestamp": head.now.to_string(), "id": head.id,
        "provider": head.provider, "gate": head.gate, "message": message, "data": data,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_once_has_one_id_everywhere() {
        assert_eq!(id("a", Some("x")), id("a", Some("x")));
        assert_ne!(id("a", Some("x")), id("b", Some("x")));
        assert_ne!(id("a", None), id("a", None));
    }
}
