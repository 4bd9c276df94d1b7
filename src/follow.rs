//! Follows a registry: the whole state once, then its changes; verifies, shows, saves, backs off.
//!
//! The only writer of the cache. Whatever a registry sends that does not add up is refused whole: the old
//! state keeps serving, a counter tells, and the follower goes on from what it holds, asks for a repair, or
//! takes a snapshot. Freshness comes from verified words of the registry alone. Knows nothing of requests and
//! verdicts; network and clock are given (`stream::Registry`, tokio's), so that all of it runs in a simulation.

mod acknowledge;
mod exchanges;
mod flips;
mod hold;
mod http;
mod pace;
mod saver;
mod stats;
mod stream;

pub use stats::{FollowStats, HeldUpdate, Refused, Word};

use self::http::HttpRegistry;
use crate::cache::saved::{SavedError, SavedState};
use crate::cache::{Assembly, FilingCache, Refusal};
use crate::config::Trust;
use crate::link::LinkError;
use acknowledge::Acknowledger;
use flips::Flips;
use hold::Bounds;
use pace::{Backoff, Pace};
use saver::Saver;
use stats::count;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stream::{Failure, Registry};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Repairs in a row that may fail before a snapshot is taken instead.
const MAX_FAILED_REPAIRS: u32 = 2;

/// Whom to follow, and for whom.
pub struct FollowOptions {
    /// Registries of one database, `http://` or `https://`, of which one at a time is followed.
    pub urls: Vec<String>,
    /// Its bearer token.
    pub token: Option<String>,
    /// Whom to believe, and what to show.
    pub trust: Trust,
    /// Our id as an access provider.
    pub provider: String,
    /// What this gate is called towards the registry : 1 to 64 letters, digits, `-`, `_`, `.`.
    pub gate: String,
    /// Where the state is saved.
    pub directory: PathBuf,
    /// The share of filings above which newly blocking them waits for an operator.
    pub hold_flips_above: f64,
    /// What is kept up to date.
    pub cache: Arc<FilingCache>,
    /// What is counted.
    pub stats: Arc<FollowStats>,
}

/// Why a follower can't be made.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The data directory is another process's.
    #[error(transparent)]
    Saved(#[from] SavedError),
    /// Not a URL that can be followed.
    #[error("registry url `{0}` is not usable; one looks like https://registry.example:7443")]
    Url(/** As given. */ String),
    /// A token that can't be sent.
    #[error("the registry token holds characters that a header can't carry")]
    Token,
    /// The files of certificates can't be used.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The HTTP client can't be made.
    #[error("can't make the registry client")]
    Client(#[source] reqwest::Error),
}

/// Keeps a cache in step with a registry.
pub struct Follower {
    registry: Arc<dyn Registry>,
    provider: Box<str>,
    gate: Box<str>,
    cache: Arc<FilingCache>,
    stats: Arc<FollowStats>,
    saver: Saver,
    pace: Pace,
    bounds: Bounds,
    backoff: Backoff,
    next: Next,
    failed_repairs: u32,
    partial: Option<Partial>,
    /// The last stream of changes said more than where it began: what such a first word says is current.
    trusts_first: bool,
    /// Rung when a word of the registry came true.
    in_force: Arc<Notify>,
}

/// What is asked for next, where there is a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Changes,
    Repair,
    Snapshot,
}

/// A snapshot that was cut: its whole frames are in the assembly.
struct Partial {
    assembly: Assembly,
    /// Where the last of them ended.
    whole: u64,
    etag: Option<Box<str>>,
}

/// Hands the data directory of a follower that runs to another process, and takes it back.
#[derive(Debug, Clone)]
pub struct Keeper(Saver);

impl Keeper {
    /// Saves once more and leaves the directory; the follower goes on and saves nothing.
    pub async fn release(&self) {
        self.0.release().await;
    }

    /// Takes the directory back.
    ///
    /// # Errors
    /// Another process has it, or the system says no; the follower then goes on without saving.
    pub fn retake(&self) -> Result<(), SavedError> {
        self.0.retake()
    }
}

impl Follower {
    /// Takes the data directory; connects to nothing yet.
    ///
    /// # Errors
    /// `FollowError`.
    pub fn new(options: FollowOptions) -> Result<Self, FollowError> {
        let registry = Arc::new(HttpRegistry::new(&options, &Pace::default())?);
        Self::over(registry, options)
    }

    /// As `new`, whoever answers for the registry.
    fn over(registry: Arc<dyn Registry>, options: FollowOptions) -> Result<Self, FollowError> {
        let saved = SavedState::open(&options.directory)?;
        Ok(Self {
            registry,
            saver: Saver::new(saved, &options.provider, &options.cache, &options.stats),
            provider: options.provider.into(),
            gate: options.gate.into(),
            cache: options.cache,
            stats: options.stats,
            pace: Pace::default(),
            bounds: Bounds::new(Flips::new(options.hold_flips_above)),
            backoff: Backoff::default(),
            next: Next::Changes,
            failed_repairs: 0,
            partial: None,
            trusts_first: true,
            in_force: Arc::default(),
        })
    }

    /// Shows the saved state, if there is one that can be used; says whether. Call it before listening: with
    /// it the gate starts without the registry. Blocks on the disk.
    pub fn load_saved(&self) -> bool {
        self.saver.load(now())
    }

    /// Who hands its data directory over.
    #[must_use]
    pub fn keeper(&self) -> Keeper {
        Keeper(self.saver.clone())
    }

    /// Follows until told to stop (or until nobody can tell any more), then saves once more.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let saver = self.saver.clone();
        let acknowledger = Acknowledger {
            registry: Arc::clone(&self.registry),
            cache: Arc::clone(&self.cache),
            stats: Arc::clone(&self.stats),
            provider: self.provider.clone(),
            gate: self.gate.clone(),
            pace: self.pace,
            wanted: Arc::clone(&self.in_force),
        };
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|&is_over| is_over) => {}
            never = self.follow() => match never {},
            never = acknowledger.run() => match never {},
            never = saver.run() => match never {},
        }
        self.stats.set_connected(false);
        saver.save().await;
    }

    async fn follow(&mut self) -> Infallible {
        loop {
            let result = match (self.cache.followed(), self.next) {
                (None, _) | (_, Next::Snapshot) => self.snapshot().await,
                (Some(_), Next::Repair) => self.repair().await,
                (Some(position), Next::Changes) => match self.changes(position).await {
                    Ok(never) => match never {},
                    Err(failure) => Err(failure),
                },
            };
            self.stats.set_connected(false);
            match result {
                Ok(()) => (self.next, self.failed_repairs) = (Next::Changes, 0),
                Err(failure) => self.recover(&failure).await,
            }
        }
    }

    /// Counts and says what went wrong, decides how to go on, and waits.
    async fn recover(&mut self, failure: &Failure) {
        count(&self.stats.reconnects);
        if let Some(kind) = failure.refused() {
            self.stats.count_refused(kind);
        }
        self.stats.set_error(Some(failure.to_string()));
        if let Failure::Refusal(Refusal::Held(effect)) = failure {
            self.tell_held(*effect);
            self.wait(self.pace.held_retry).await;
            return;
        }
        if failure.is_of_one_registry() {
            self.registry.turn_to_next();
        }
        self.next = self.after(failure);
        if self.next == Next::Snapshot {
            count(&self.stats.resyncs);
        }
        let wait = self.backoff.next(&self.pace);
        let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            reason = failure as &dyn std::error::Error,
            retry_ms,
            next = ?self.next,
            "following the registry was interrupted; the filings held keep serving"
        );
        self.wait(wait).await;
    }

    /// What is asked for after a failure: changes as long as they can lead on, then a repair, then a snapshot.
    fn after(&mut self, failure: &Failure) -> Next {
        match self.next {
            Next::Changes if !failure.ends_changes() => Next::Changes,
            Next::Changes if failure.ends_repair() && !matches!(failure, Failure::Gone) => Next::Snapshot,
            Next::Changes => Next::Repair,
            Next::Repair => {
                self.failed_repairs += 1;
                if failure.ends_repair() || self.failed_repairs >= MAX_FAILED_REPAIRS {
                    self.failed_repairs = 0;
                    Next::Snapshot
                } else {
                    Next::Repair
                }
            }
            // After a snapshot that failed, changes may do; they say so if they don't.
            Next::Snapshot => Next::Changes,
        }
    }

    /// Waits, with an ear for the operator, whose yes ends it.
    async fn wait(&mut self, patience: Duration) {
        let (stats, until) = (Arc::clone(&self.stats), Instant::now() + patience);
        loop {
            tokio::select! {
                biased;
                word = stats.word() => {
                    self.obey(word);
                    if word == Word::Apply {
                        return;
                    }
                }
                () = tokio::time::sleep_until(until) => return,
            }
        }
    }
}

/// The moment on the monotonic clock, which a test may hold still.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;
