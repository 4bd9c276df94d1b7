//! The registry: holds filings, answers about them over HTTP, and feeds what changes to gates.
//!
//! Knows nothing of gates, caches and verdicts. Filings are committed by one writer at a time, in
//! `Registry::commit`; whoever follows the feed sees commits in that order.

mod acknowledged;
mod base;
mod batch;
mod books_api;
mod changes;
mod due_api;
mod extract;
mod feed_api;
mod filings;
mod followers;
mod history_api;
mod hold;
mod idempotency;
mod import;
mod ledger;
mod life;
mod lock;
mod model;
mod openapi;
mod order_api;
mod orders;
mod problem;
mod records;
mod roles;
mod routes;
mod rules;
mod sites_api;
mod store;
mod tail;
mod versions;
mod view;

pub use import::{
    At, Event, Format, ImportError, Imported, Phase, RefusedRow, Source, Terms, Wanting, export, export_to,
    import, import_via,
};
pub use model::{About, Access, Document, Outcome, Stored, logged_record};
pub use routes::Options;
pub use rules::Refusal;
pub use store::StoreError;

use crate::config::Database;
use crate::domain::DomainName;
use crate::filing::{Covering, Filing};
use changes::Feed;
use ledger::Ledger;
use model::Who;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use store::{Author, Committed, Reach, Store, now_ms};
use tail::Tail;
use tokio::sync::{Mutex, mpsc, watch};

/// A bulk write of more changes than this begins a new epoch instead of flooding the log; a file of more rows is
/// imported by way of tables aside.
const MAX_FED_CHANGES: usize = 100_000;
/// How often a view is filled anew under a new key before its collisions are an error.
const KEY_TRIES: usize = 3;

/// A database of filings, open. Clones are the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    store: Arc<Store>,
    feed: Arc<Feed>,
    /// How far the log was followed, where other processes write to it too.
    tail: Arc<Mutex<Tail>>,
    /// `MAX_FED_CHANGES`, but for tests.
    most_fed: usize,
}

/// The filing that covers a name, and where it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The filed name that decided.
    pub decided_by: String,
    /// The filing.
    pub filing: Filing,
    /// What a gate of the provider holds of it.
    pub covering: Covering,
    /// The document as stored.
    pub stored: Stored,
}

/// Whether a commit's changes go to followers one by one, or may begin a new epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Few,
    Bulk,
}

/// Where the registry that has this database open serves; `None` where none does.
#[must_use]
pub fn running_at(database: &Path) -> Option<SocketAddr> {
    lock::running_at(database)
}

impl Registry {
    /// Opens the database, made where it is missing, as the one registry that writes to it. `serving_at` is
    /// what `running_at` then tells others.
    ///
    /// # Errors
    /// Names the file and the remedy.
    pub async fn open(database: &Database, serving_at: Option<SocketAddr>) -> Result<Self, StoreError> {
        let (store, directory) = Store::open(database, serving_at).await?;
        let feed = Arc::new(Feed::new(Some(directory)));
        Ok(Self::of(store, feed))
    }

    /// Opens the database to read it, whether or not a registry is running for it.
    ///
    /// # Errors
    /// Names the file and the remedy; a missing file is not made.
    pub async fn open_read_only(database: &Database) -> Result<Self, StoreError> {
        let store = Store::open_read_only(database).await?;
        Ok(Self::of(store, Arc::new(Feed::new(None))))
    }

    fn of(store: Store, feed: Arc<Feed>) -> Self {
        Self { store: Arc::new(store), feed, tail: Arc::default(), most_fed: MAX_FED_CHANGES }
    }

    /// Ends the feed's epoch, for a database that was put back to an earlier state: every gate takes a snapshot. Gives
    /// the new one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn new_epoch(&self) -> Result<u64, StoreError> {
        let mut writer = self.store.writer().await?;
        let meta = store::new_epoch(&mut writer.session(), None).await?;
        self.forget_views();
        Ok(meta.epoch)
    }

    /// Whether nothing is filed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        self.store.is_empty().await
    }

    /// Imports a CSV text where nothing is filed yet; says how many rows it took.
    ///
    /// # Errors
    /// As `import`.
    pub async fn load_sample(&self, csv: &str) -> Result<Option<Imported>, ImportError> {
        if !self.is_empty().await? {
            return Ok(None);
        }
        let source = Source::of(std::io::Cursor::new(csv.to_owned()), Format::Csv);
        let (events, mut heard) = mpsc::channel(1);
        let terms = Terms { is_strict: true, ..Terms::default() };
        let import = import::import_as(self, Who::named("sample"), source, terms, events);
        let hear = async {
            while let Some(event) = heard.recv().await {
                if let Event::Refused(RefusedRow { line, domain, rule, detail, .. }) = event {
                    tracing::error!(line, domain, rule, detail, "a sample filing is refused");
                }
            }
        };
        tokio::join!(import, hear).0.map(Some)
    }

    /// The filing that covers `name`, as seen from `provider`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn covering(&self, name: &DomainName, provider: &str) -> Result<Option<Found>, StoreError> {
        let candidates: Vec<&str> = name.filing_candidates().collect();
        let mut found: HashMap<_, _> = self.store.documents(&candidates).await?.into_iter().collect();
        let filing = |filed: &str| found.get(filed).and_then(|it| it.document.filing(filed));
        let Some(covering) = crate::filing::covering(name, |filed| Some(filing(filed)?.seen_from(provider)))
        else {
            return Ok(None);
        };
        let decided_by = covering.filed_name(name).to_owned();
        let Some(filing) = filing(&decided_by) else { return Ok(None) };
        Ok(found.remove(&*decided_by).map(|stored| Found { decided_by, filing, covering, stored }))
    }

    /// Serves the API and the feed until `shutdown` says true; open streams end then.
    ///
    /// # Errors
    /// Where the listener fails.
    pub async fn serve(
        &self,
        listener: std::net::TcpListener,
        options: Options,
        shutdown: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let calendar = options.rules.calendar.clone();
        let (served, (), (), ()) = tokio::join!(
            routes::serve(self.clone(), listener, options, shutdown.clone()),
            due_api::warn_of_calendar(&calendar, shutdown.clone()),
            self.follow_log(shutdown.clone()),
            import::sweep(self, shutdown)
        );
        served
    }

    /// The only way to change filings: runs `work`, commits what differs, tells the feed.
    ///
    /// Runs to its end even if the caller goes away, for a commit that the feed does not learn of would
    /// leave followers wrong.
    async fn commit<T, E>(
        &self,
        who: &Who,
        size: Size,
        reach: Reach,
        work: impl FnOnce(&mut Ledger) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, StoreError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (registry, who) = (self.clone(), who.clone());
        let task = tokio::spawn(async move {
            let mut writer = registry.store.writer().await?;
            let author = Author { who: &who, at_ms: now_ms() };
            let most_fed = if size == Size::Bulk { registry.most_fed } else { usize::MAX };
            let written = store::write(&mut writer.session(), author, (reach, most_fed), work).await;
            let committed = match written {
                Ok(Ok(committed)) => committed,
                Ok(Err(refused)) => return Ok(Err(refused)),
                Err(error) => {
                    drop(writer);
                    // Whether a commit that failed was one is for the database to say.
                    registry.doubt().await;
                    return Err(error);
                }
            };
            let Committed { value, changes, meta, at_ms, is_new_epoch } = committed;
            if registry.store.is_shared() {
                drop(writer);
                registry.hear_log().await;
            } else if is_new_epoch {
                registry.forget_views();
            } else {
                registry.publish(&mut writer, &changes, &meta, at_ms).await?;
            }
            Ok(Ok(value))
        });
        task.await.map_err(|error| StoreError::Corrupt(format!("a write did not finish: {error}")))?
    }
}

#[cfg(test)]
impl Registry {
    /// Takes files of more rows than this by way of tables aside.
    fn with_most_fed(mut self, changes: usize) -> Self {
        self.most_fed = changes;
        self
    }
}

#[cfg(test)]
mod tests;
