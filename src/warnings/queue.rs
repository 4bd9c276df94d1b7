//! What is yet to be delivered, what was given up and what was told already, on disk: lines that each say one step, written
//! anew now and then. Lines that a crash cut off the end were never promised to anybody.
//!
//! One process at a time has it. While the disk takes nothing all goes on in memory, and is written whole once it can be.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Events that wait for receivers.
pub(super) const MAX_QUEUED: usize = 10_000;
/// Events that are kept after they were given up; the oldest go first.
pub(super) const MAX_DEAD: usize = 1000;
/// What is remembered as told.
const MAX_TOLD: usize = 200_000;
/// Hosts whose verdicts are remembered beyond the process.
const MAX_STANDINGS: usize = 200_000;
/// Days that a host's verdict is remembered after it was last written.
const STANDING_DAYS: i32 = 90;
/// Lines beyond what is alive that a journal may have before it is written anew.
const SLACK_LINES: usize = 4096;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) body: String,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) event: Event,
    /// Unix milliseconds since when it is tried.
    pub(super) since_ms: i64,
    /// Receivers that have not taken it.
    pub(super) to: Vec<String>,
}

/// An event that a receiver did not take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dead {
    pub(super) event: Event,
    pub(super) to: String,
    pub(super) why: String,
    pub(super) at_ms: i64,
}

/// How something was judged last, beyond the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// The verdict.
    pub(super) is: String,
    /// The filings that it rests on: epoch and number.
    pub(super) position: [u64; 2],
    /// When it was judged.
    pub(super) day: Date,
}

/// What was remembered of something that is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    Unknown,
    Same,
    /// It was judged by later filings than now.
    Later,
    /// It was judged otherwise.
    Other(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Line {
    Add {
        seq: u64,
        pending: Pending,
    },
    Done {
        seq: u64,
        to: String,
    },
    Dead {
        seq: u64,
        to: String,
        why: String,
        at_ms: i64,
    },
    /// Of a journal that was written anew.
    Buried {
        dead: Dead,
    },
    /// All that is dead is tried again.
    Again {
        at_ms: i64,
    },
    Told {
        key: String,
        until: Date,
    },
    Stands {
        host: String,
        standing: Standing,
    },
}

#[derive(Debug, Default)]
struct State {
    pending: BTreeMap<u64, Pending>,
    dead: VecDeque<Dead>,
    told: HashMap<String, Date>,
    standings: HashMap<String, Standing>,
    next: u64,
}

/// The queue, open.
#[derive(Debug)]
pub(super) struct Queue {
    directory: PathBuf,
    _lock: File,
    /// None while it can't be written.
    journal: Option<File>,
    lines: usize,
    unwritten: String,
    has_promise: bool,
    state: State,
}

impl State {
    fn apply(&mut self, line: Line) {
        match line {
            Line::Add { seq, pending } => {
                self.next = self.next.max(seq + 1);
                self.pending.insert(seq, pending);
            }
            Line::Done { seq, to } => _ = self.settle(seq, &to),
            Line::Dead { seq, to, why, at_ms } => {
                if let Some(event) = self.settle(seq, &to) {
                    self.bury(Dead { event, to, why, at_ms });
                }
            }
            Line::Buried { dead } => self.bury(dead),
            Line::Again { at_ms } => {
                for Dead { event, to, .. } in std::mem::take(&mut self.dead) {
                    self.pending.insert(self.next, Pending { event, since_ms: at_ms, to: vec![to] });
                    self.next += 1;
                }
            }
            Line::Told { key, until } => {
                if self.told.len() < MAX_TOLD || self.told.contains_key(&key) {
                    self.told.insert(key, until);
                }
            }
            Line::Stands { host, standing } => {
                if self.standings.len() < MAX_STANDINGS || self.standings.contains_key(&host) {
                    self.standings.insert(host, standing);
                }
            }
        }
    }

    /// The receiver is done with the event.
    fn settle(&mut self, seq: u64, to: &str) -> Option<Event> {
        let pending = self.pending.get_mut(&seq)?;
        let before = pending.to.len();
        pending.to.retain(|one| one != to);
        let (event, has_had) = (pending.event.clone(), pending.to.len() < before);
        if pending.to.is_empty() {
            self.pending.remove(&seq);
        }
        has_had.then_some(event)
    }

    fn bury(&mut self, dead: Dead) {
        if self.dead.len() == MAX_DEAD {
            self.dead.pop_front();
        }
        self.dead.push_back(dead);
    }

    fn forget(&mut self, today: Date) {
        self.told.retain(|_, until| *until >= today);
        let is_recent = |it: &Standing| it.day.until(today).is_ok_and(|span| span.get_days() < STANDING_DAYS);
        self.standings.retain(|_, it| is_recent(it));
    }

    fn lines(&self) -> impl Iterator<Item = Line> {
        let pending = self.pending.iter().map(|(seq, it)| Line::Add { seq: *seq, pending: it.clone() });
        let dead = self.dead.iter().map(|it| Line::Buried { dead: it.clone() });
        let told = self.told.iter().map(|(key, until)| Line::Told { key: key.clone(), until: *until });
        let standings = self.standings.iter();
        let standings = standings.map(|(host, it)| Line::Stands { host: host.clone(), standing: it.clone() });
        pending.chain(dead).chain(told).chain(standings)
    }

    fn alive(&self) -> usize {
        self.pending.len() + self.dead.len() + self.told.len() + self.standings.len()
    }
}

fn push(to: &mut String, line: &Line) {
    // Maps of texts and numbers are always JSON.
    if let Ok(text) = serde_json::to_string(line) {
        to.push_str(&text);
        to.push('\n');
    }
}

impl Queue {
    /// Takes the queue in a directory, made where it is missing; `WouldBlock` while another process has it.
    pub(super) fn open(directory: &Path, today: Date) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(directory.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut state = State::default();
        let text = match std::fs::read(directory.join("queue")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = memchr::memrchr(b'\n', &text).map_or(0, |end| end + 1);
        for line in text[..whole].split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(line) => state.apply(line),
                Err(error) => tracing::error!(%error, "a line of the queue of webhooks can't be read"),
            }
        }
        state.forget(today);
        let mut queue = Self {
            directory: directory.to_owned(),
            _lock: lock,
            journal: None,
            lines: 0,
            unwritten: String::new(),
            has_promise: false,
            state,
        };
        queue.write_anew()?;
        Ok(queue)
    }

    /// Adds an event; false where there is no room.
    pub(super) fn add(&mut self, pending: Pending) -> bool {
        if self.state.pending.len() >= MAX_QUEUED {
            return false;
        }
        self.has_promise = true;
        self.note(Line::Add { seq: self.state.next, pending });
        true
    }

    /// The receiver took the event.
    pub(super) fn done(&mut self, seq: u64, to: &str) {
        self.note(Line::Done { seq, to: to.to_owned() });
    }

    /// The receiver will not be asked again.
    pub(super) fn give_up(&mut self, seq: u64, to: &str, why: String, at_ms: i64) {
        self.note(Line::Dead { seq, to: to.to_owned(), why, at_ms });
    }

    /// Tries again what was given up.
    pub(super) fn again(&mut self, at_ms: i64) {
        self.has_promise = true;
        self.note(Line::Again { at_ms });
    }

    /// Whether this is told for the first time; it is told from here on.
    pub(super) fn tell(&mut self, key: &str, until: Date) -> bool {
        let is_new = !self.state.told.contains_key(key);
        if is_new {
            self.note(Line::Told { key: key.to_owned(), until });
        }
        is_new
    }

    /// Notes how a host is judged; says how it was before.
    pub(super) fn stands(&mut self, host: &str, standing: Standing) -> Before {
        let before = match self.state.standings.get(host) {
            None => Before::Unknown,
            Some(known) if standing.position < known.position => return Before::Later,
            Some(known) if known.is == standing.is => return Before::Same,
            Some(known) => Before::Other(known.is.clone()),
        };
        self.note(Line::Stands { host: host.to_owned(), standing });
        before
    }

    /// Events that wait, the oldest first.
    pub(super) fn pending(&self) -> &BTreeMap<u64, Pending> {
        &self.state.pending
    }

    /// Events that were given up, the oldest first.
    pub(super) fn dead(&self) -> &VecDeque<Dead> {
        &self.state.dead
    }

    /// Whether all is on disk, or can be put there.
    pub(super) fn is_whole(&self) -> bool {
        self.journal.is_some()
    }

    /// Forgets receivers that there are no longer; says how many events were for them.
    pub(super) fn keep_only(&mut self, names: &[&str]) -> usize {
        let is_other = |to: &&String| !names.contains(&to.as_str());
        let others: Vec<(u64, String)> = self
            .state
            .pending
            .iter()
            .flat_map(|(seq, it)| it.to.iter().filter(is_other).map(|to| (*seq, to.clone())))
            .collect();
        others.iter().for_each(|(seq, to)| self.done(*seq, to));
        others.len()
    }

    fn note(&mut self, line: Line) {
        push(&mut self.unwritten, &line);
        self.lines += 1;
        self.state.apply(line);
    }

    /// Writes what was noted; what was added is on stable storage afterwards.
    pub(super) fn flush(&mut self, today: Date) -> io::Result<()> {
        if self.journal.is_none() || self.lines > self.state.alive() * 2 + SLACK_LINES {
            self.state.forget(today);
            return self.write_anew();
        }
        let Some(journal) = self.journal.as_mut().filter(|_| !self.unwritten.is_empty()) else {
            return Ok(());
        };
        let sync = |it: &File| if self.has_promise { it.sync_data() } else { Ok(()) };
        if let Err(error) = journal.write_all(self.unwritten.as_bytes()).and_then(|()| sync(journal)) {
            // What is in the file now is not known: it is written anew once that goes.
            self.journal = None;
            return Err(error);
        }
        self.unwritten.clear();
        self.has_promise = false;
        Ok(())
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let mut text = String::new();
        self.lines = 0;
        for line in self.state.lines() {
            push(&mut text, &line);
            self.lines += 1;
        }
        let (aside, path) = (self.directory.join("queue.new"), self.directory.join("queue"));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        File::open(&self.directory)?.sync_all()?;
        self.journal = Some(OpenOptions::new().append(true).open(&path)?);
        self.unwritten.clear();
        self.has_promise = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
