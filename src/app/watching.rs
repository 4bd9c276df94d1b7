//! Watches config and certificates on disk, and says when they have changed.
//!
//! Directories are watched and not files, for files are replaced: by a rename, or as Kubernetes does it, by a symlink
//! that leads elsewhere. What the system tells is only a reason to look; what counts is whether the files are others
//! than before. Where the system tells nothing (a network's disk), they are looked at now and then.

use crate::config::{Config, ConfigSource};
use notify::{RecursiveMode, Watcher as _};
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// Files that were others than before are looked at again after this, until they stay: a certificate and its key are
/// two.
const QUIET_TIME: Duration = Duration::from_millis(250);
/// The longest that they may go on changing before they are taken as they are.
const BUSY_TIME: Duration = Duration::from_secs(2);
/// How long nobody listens after a false alarm. A database beside the config has the system tell of each write of it.
const REST_TIME: Duration = Duration::from_secs(2);
/// How often they are looked at without a reason.
const LOOK_TIME: Duration = Duration::from_secs(60);
/// Files of the certificates' directory that are looked at.
const MAX_FILES: usize = 200_000;

/// What has changed on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    Config,
    Certificates,
    /// Whom sites believe, clients and upstreams.
    Trust,
}

/// What is watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Watched {
    /// Where changes of it are to be told.
    config: Option<PathBuf>,
    directory: PathBuf,
    files: Vec<PathBuf>,
    /// Of authorities and revocation lists, and what is shown to upstreams.
    trust: BTreeSet<PathBuf>,
}

impl Watched {
    fn of(config: &Config) -> Self {
        let file = match &config.source {
            ConfigSource::File(path) if config.reload_on_change => Some(path.clone()),
            _ => None,
        };
        let pairs = config
            .tls
            .certificates
            .iter()
            .flat_map(|(cert, key)| [cert.clone(), key.clone(), cert.with_extension("ocsp")]);
        let files = pairs.chain(config.tls.ticket_keys.clone()).collect();
        let trust = config.trust_files().cloned().collect();
        Self { config: file, directory: config.tls.directory.clone(), files, trust }
    }

    /// Those in which a change of what is watched shows.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let files = self.files.iter().chain(&self.trust).chain(&self.config).chain([&self.directory]);
        files.map(|file| parent(file)).chain([self.directory.clone()]).collect()
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What a file is, wherever symlinks lead: another inode, time or size is another file.
type Stamp = Vec<(PathBuf, Option<(u64, u64, i64, i64)>)>;

fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}

fn stamps<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Stamp {
    paths.into_iter().map(|path| (path.clone(), stamp(path))).collect()
}

/// Of the certificates.
fn certificates(watched: &Watched) -> Stamp {
    let listing = std::fs::read_dir(&watched.directory).into_iter().flatten().flatten().take(MAX_FILES);
    let is_ours = |path: &PathBuf| {
        path.extension().and_then(|it| it.to_str()).is_some_and(|it| matches!(it, "crt" | "key" | "ocsp"))
    };
    let mut files: Vec<PathBuf> = listing.map(|entry| entry.path()).filter(is_ours).collect();
    files.sort_unstable();
    stamps(files.iter().chain(&watched.files))
}

/// Watches; another task does it.
#[derive(Debug)]
pub(super) struct Watching {
    watched: watch::Sender<Watched>,
    changes: mpsc::Receiver<Changed>,
}

impl Watching {
    /// Begins with what this config names. Must be called within a runtime.
    pub(super) fn start(config: &Config) -> Self {
        let (watched, newest) = watch::channel(Watched::of(config));
        let (tell, changes) = mpsc::channel(2);
        tokio::spawn(run(newest, tell));
        Self { watched, changes }
    }

    /// Goes on with what another config names.
    pub(super) fn follow(&self, config: &Config) {
        let wanted = Watched::of(config);
        self.watched.send_if_modified(|watched| {
            let is_other = *watched != wanted;
            *watched = wanted;
            is_other
        });
    }

    /// What has changed next.
    pub(super) async fn changed(&mut self) -> Changed {
        match self.changes.recv().await {
            Some(changed) => changed,
            None => std::future::pending().await,
        }
    }
}

/// What the files were when they were looked at.
#[derive(Debug, PartialEq, Eq)]
struct Looked {
    config: Stamp,
    certificates: Stamp,
    trust: Stamp,
}

impl Looked {
    fn at(watched: &Watched) -> Self {
        let (config, trust) = (stamps(&watched.config), stamps(&watched.trust));
        Self { config, certificates: certificates(watched), trust }
    }

    /// What is to be told of where it was like that before. A config that is read again reads all the others.
    fn changes(&self, before: &Self) -> Vec<Changed> {
        if self.config != before.config {
            return vec![Changed::Config];
        }
        let both = [
            (self.certificates != before.certificates, Changed::Certificates),
            (self.trust != before.trust, Changed::Trust),
        ];
        both.into_iter().filter_map(|(is_other, changed)| is_other.then_some(changed)).collect()
    }
}

async fn run(mut newest: watch::Receiver<Watched>, tell: mpsc::Sender<Changed>) {
    loop {
        let watched = newest.borrow_and_update().clone();
        tokio::select! {
            Over = look_on(&watched, &tell) => return,
            changed = newest.changed() => if changed.is_err() { return },
        }
    }
}

/// Nobody wants to know any more.
struct Over;

/// Tells of changes, until nobody listens.
async fn look_on(watched: &Watched, tell: &mpsc::Sender<Changed>) -> Over {
    let mut known = Looked::at(watched);
    loop {
        let bell = Arc::new(Notify::new());
        let watcher = watcher(watched, &bell);
        // What happened while nobody listened is found by looking, once somebody does.
        if Looked::at(watched) == known {
            // Running out is a reason as well.
            let _ = timeout(LOOK_TIME, bell.notified()).await;
        }
        // However much happens in these directories from here on, it wakes nobody.
        drop(watcher);
        let new = settled(watched).await;
        if new == known {
            sleep(REST_TIME).await;
            continue;
        }
        for changed in new.changes(&known) {
            if tell.send(changed).await.is_err() {
                return Over;
            }
        }
        known = new;
    }
}

/// What the files are once they stay as they are, or have not for long enough.
async fn settled(watched: &Watched) -> Looked {
    let until = Instant::now() + BUSY_TIME;
    let mut last = Looked::at(watched);
    loop {
        sleep(QUIET_TIME).await;
        let new = Looked::at(watched);
        if new == last || Instant::now() >= until {
            return new;
        }
        last = new;
    }
}

/// Rings the bell for everything that happens in these directories, as long as it lives.
fn watcher(watched: &Watched, bell: &Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let bell = Arc::clone(bell);
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event as well, and looking at what changed reads.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            bell.notify_one();
        }
    });
    let mut watcher = match made {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "the system does not tell of changed files; they are looked at every minute");
            return None;
        }
    };
    for directory in watched.directories() {
        // One that is not there can't be watched; its parent tells when it comes.
        if directory.is_dir()
            && let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive)
        {
            let directory = directory.display();
            tracing::warn!(%error, "{directory} can't be watched; it is looked at every minute");
        }
    }
    Some(watcher)
}
