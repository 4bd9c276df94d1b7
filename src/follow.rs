//! Follows a registry: the whole state once, then its changes; verifies, shows, saves, backs off.
//!
//! The only writer of the cache. Whatever a registry sends that does not add up is refused whole: the old
//! state keeps serving, a counter tells, and the follower starts over from what it holds or from a snapshot.
//! Freshness comes from verified words of the registry alone. Knows nothing of requests and verdicts.

mod flips;
mod pace;
mod saver;
mod stats;
mod stream;

pub use stats::{FollowStats, Refused};

use crate::cache::saved::{SavedError, SavedState};
use crate::cache::{Assembly, Batch, Effect, FilingCache, Refusal};
use crate::feed::{Entry, Frame, Position, Summary};
use flips::Flips;
use pace::{Backoff, Pace};
use reqwest::{Certificate, Client, Url, header, redirect};
use saver::Saver;
use stats::count;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use stream::{Failure, Feed};
use tokio::sync::watch;
use tokio::time::timeout;

/// Whom to follow, and for whom.
pub struct FollowOptions {
    /// The registry, `http://` or `https://`.
    pub url: String,
    /// Its bearer token.
    pub token: Option<String>,
    /// The only authorities that are believed, where given (PEM).
    pub ca_file: Option<PathBuf>,
    /// Our id as an access provider.
    pub provider: String,
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
    /// The file of authorities can't be used.
    #[error("can't use certificates from {}: {reason}", path.display())]
    Authorities {
        /** The file. */
        path: PathBuf,
        /** Why. */
        reason: String,
    },
    /// The HTTP client can't be made.
    #[error("can't make the registry client")]
    Client(#[source] reqwest::Error),
}

/// Keeps a cache in step with a registry.
pub struct Follower {
    feed: Feed,
    cache: Arc<FilingCache>,
    stats: Arc<FollowStats>,
    saver: Saver,
    pace: Pace,
    flips: Flips,
    backoff: Backoff,
    wants_snapshot: bool,
    /// An update went through on the operator's word, and the registry is not caught up with yet.
    is_release_used: bool,
}

impl Follower {
    /// Takes the data directory; connects to nothing yet.
    ///
    /// # Errors
    /// `FollowError`.
    pub fn new(options: FollowOptions) -> Result<Self, FollowError> {
        let pace = Pace::default();
        let feed = feed(&options, &pace)?;
        let saved = SavedState::open(&options.directory)?;
        Ok(Self {
            feed,
            saver: Saver::new(saved, &options.provider, &options.cache, &options.stats),
            cache: options.cache,
            stats: options.stats,
            pace,
            flips: Flips::new(options.hold_flips_above),
            backoff: Backoff::default(),
            wants_snapshot: false,
            is_release_used: false,
        })
    }

    /// Shows the saved state, if there is one that can be used; says whether. Call it before listening: with
    /// it the gate starts without the registry. Blocks on the disk.
    pub fn load_saved(&self) -> bool {
        self.saver.load(Instant::now())
    }

    /// Follows until told to stop (or until nobody can tell any more), then saves once more.
    pub async fn run(mut self, mut shutdown: watch::Receiver<bool>) {
        let saver = self.saver.clone();
        tokio::select! {
            biased;
            _ = shutdown.wait_for(|&is_over| is_over) => {}
            never = self.follow() => match never {},
            never = saver.run() => match never {},
        }
        self.stats.set_connected(false);
        saver.save().await;
    }

    async fn follow(&mut self) -> Infallible {
        loop {
            let result = match self.cache.position() {
                Some(position) if !self.wants_snapshot => match self.changes(position).await {
                    Ok(never) => match never {},
                    Err(failure) => Err(failure),
                },
                _ => self.snapshot().await,
            };
            self.stats.set_connected(false);
            if let Err(failure) = result {
                self.recover(&failure).await;
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
            if self.stats.held() != Some(*effect) {
                tracing::error!(
                    newly_blocked = effect.newly_blocked,
                    filings = effect.of,
                    "an update would newly block very many filings: it waits for an operator's word"
                );
            }
            self.stats.set_held(Some(*effect));
            let _ = timeout(self.pace.held_retry, self.stats.released()).await;
            return;
        }
        // After a snapshot that failed, changes may do; they ask for a snapshot again if they don't.
        let tried_snapshot = std::mem::replace(&mut self.wants_snapshot, failure.needs_snapshot());
        if tried_snapshot {
            self.wants_snapshot = false;
        }
        if self.wants_snapshot {
            count(&self.stats.resyncs);
        }
        let wait = self.backoff.next(&self.pace);
        let retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            reason = failure as &dyn std::error::Error,
            retry_ms,
            wants_snapshot = self.wants_snapshot,
            "following the registry was interrupted; the filings held keep serving"
        );
        tokio::time::sleep(wait).await;
    }

    /// Takes the whole state, and shows it if it adds up.
    async fn snapshot(&mut self) -> Result<(), Failure> {
        // What arrives is at least as new as this moment.
        let asked_at = Instant::now();
        let mut frames = self.feed.open("snapshot", &[], &self.pace).await?;
        let mut assembly = Assembly::new(&self.feed.provider);
        let (table, _) = loop {
            let next = timeout(self.pace.snapshot_frame, frames.next(self.pace.silence)).await;
            let next = next.map_err(|_| Failure::Silent(self.pace.snapshot_frame))??;
            if let Some(whole) = assembly.take(next.ok_or(Failure::Truncated)?)? {
                break whole;
            }
        };
        let (position, filings) = (table.position(), table.count());
        let (cache, flips, stats) = (Arc::clone(&self.cache), self.flips.clone(), Arc::clone(&self.stats));
        let shown = tokio::task::spawn_blocking(move || {
            let mut seen = None;
            let permit = |effect| {
                seen = Some(effect);
                stats.is_released() || flips.permits(effect, asked_at)
            };
            cache.supersede(table, asked_at, permit).map(|()| seen)
        });
        // A panic in there would be a bug; it is a failed snapshot here.
        let effect = shown.await.map_err(|_| Failure::Truncated)??;
        self.applied(effect, asked_at);
        self.wants_snapshot = false;
        count(&self.stats.snapshots);
        self.saver.want(true);
        tracing::info!(
            filings,
            epoch = position.epoch,
            seq = position.seq,
            "took a snapshot of the registry"
        );
        Ok(())
    }

    /// Takes changes after `held` until something is wrong.
    async fn changes(&mut self, held: Position) -> Result<Infallible, Failure> {
        let asked = [("epoch", held.epoch), ("after", held.seq)];
        let mut frames = self.feed.open("changes", &asked, &self.pace).await?;
        let began = Instant::now();
        loop {
            let next = timeout(self.pace.silence, frames.next(self.pace.silence)).await;
            let next = next.map_err(|_| Failure::Silent(self.pace.silence))??;
            let now = Instant::now();
            match next.ok_or(Failure::Ended)? {
                Frame::Batch { after, entries, summary } => self.take_batch(after, &entries, summary, now)?,
                Frame::Heartbeat(summary) => self.take_heartbeat(&summary, now)?,
                Frame::Snapshot { .. } | Frame::Entries(_) | Frame::End | Frame::Ranges { .. } => {
                    return Err(Failure::Order);
                }
            }
            self.stats.set_connected(true);
            self.stats.set_error(None);
            if began.elapsed() >= self.pace.stable_after {
                self.backoff.reset();
            }
        }
    }

    fn take_batch(
        &mut self,
        after: Position,
        entries: &[Entry],
        summary: Summary,
        now: Instant,
    ) -> Result<(), Failure> {
        let mut seen = None;
        let permit = |effect| {
            seen = Some(effect);
            self.stats.is_released() || self.flips.permits(effect, now)
        };
        self.cache.apply(&Batch { after, entries, summary }, now, permit)?;
        self.applied(seen, now);
        count(&self.stats.batches);
        self.stats.changes.fetch_add(entries.len().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
        self.saver.want(false);
        Ok(())
    }

    fn take_heartbeat(&mut self, summary: &Summary, now: Instant) -> Result<(), Failure> {
        self.cache.confirm(summary, now)?;
        count(&self.stats.heartbeats);
        if std::mem::take(&mut self.is_release_used) {
            self.stats.end_release();
            self.flips.forget();
        }
        Ok(())
    }

    /// Remembers what an update did, and that an operator's word was used for it.
    fn applied(&mut self, effect: Option<Effect>, now: Instant) {
        if let Some(effect) = effect {
            self.flips.add(effect, now);
        }
        self.stats.set_held(None);
        self.is_release_used |= self.stats.is_released();
    }
}

fn feed(options: &FollowOptions, pace: &Pace) -> Result<Feed, FollowError> {
    let unusable = || FollowError::Url(options.url.clone());
    let mut base = Url::parse(&options.url).map_err(|_| unusable())?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(unusable());
    }
    base.set_path(&format!("{}/v1/feed/", base.path().trim_end_matches('/')));
    base.set_query(None);
    base.set_fragment(None);
    let authorization = match &options.token {
        None => None,
        Some(token) => {
            let value = header::HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value = value.map_err(|_| FollowError::Token)?;
            value.set_sensitive(true);
            Some(value)
        }
    };
    // No proxy from the environment, and no redirect that a token would follow.
    let mut client =
        Client::builder().no_proxy().redirect(redirect::Policy::none()).connect_timeout(pace.connect);
    if let Some(path) = &options.ca_file {
        let unusable = |reason| FollowError::Authorities { path: path.clone(), reason };
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        if certificates.is_empty() {
            return Err(unusable("it holds no certificate".into()));
        }
        client = client.tls_certs_only(certificates);
    }
    let client = client.build().map_err(FollowError::Client)?;
    Ok(Feed { client, base, authorization, provider: options.provider.as_str().into() })
}

#[cfg(test)]
mod tests;
