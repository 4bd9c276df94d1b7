//! What was seen at the foot of pages, by site: counted, and the pages that lack something remembered, boundedly.

mod known;

pub use known::KnownNumbers;

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Hosts of one site whose lacking pages are remembered.
const MAX_HOSTS: usize = 1000;
/// Octets of a path that are remembered.
const MAX_PATH_BYTES: usize = 256;
/// How often the log is told of one site's lacking pages at most.
const LOG_EVERY: Duration = Duration::from_secs(3600);

/// What one page was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FooterSighting {
    /// Shows its number, linked to the ministry's site.
    Linked,
    /// Shows its number, but not as that link.
    Unlinked,
    /// Links another number.
    Other,
    /// Shows none.
    Missing,
    /// Showed none; the footer was added.
    Added,
    /// A fragment: HTML without a body.
    NoPage,
    /// Can't be read, or is too large.
    Unsure,
}

impl FooterSighting {
    /// All.
    pub const ALL: [Self; 7] =
        [Self::Linked, Self::Unlinked, Self::Other, Self::Missing, Self::Added, Self::NoPage, Self::Unsure];

    /// As metrics and the API call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Unlinked => "unlinked",
            Self::Other => "other_number",
            Self::Missing => "missing",
            Self::Added => "added",
            Self::NoPage => "no_page",
            Self::Unsure => "unsure",
        }
    }

    fn is_lacking(self) -> bool {
        matches!(self, Self::Unlinked | Self::Other | Self::Missing)
    }
}

/// The last page of a host that lacks something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LackingPage {
    /// `unlinked`, `other_number` or `missing`.
    pub state: &'static str,
    /// The page's path.
    pub path: String,
    /// What it should show.
    pub number: String,
    /// Whether it shows a public-security number.
    pub has_public_security: bool,
    /// When, Unix seconds.
    pub at: i64,
}

#[derive(Debug, Default)]
struct Lacking {
    hosts: BTreeMap<String, LackingPage>,
    logged: Option<Instant>,
}

/// One site's footers.
#[derive(Debug, Default)]
pub struct FooterReport {
    site: String,
    mode: Mutex<&'static str>,
    counts: [AtomicU64; FooterSighting::ALL.len()],
    without_public_security: AtomicU64,
    lacking: Mutex<Lacking>,
    /// Public-security numbers of all sites, as far as they are known.
    pub known: Arc<KnownNumbers>,
}

/// One site's footers, as the API shows them.
#[derive(Debug, Clone, Serialize)]
pub struct FooterSummary {
    /// The site, by its first host.
    pub site: String,
    /// `check` or `inject`.
    pub mode: &'static str,
    /// Pages by what they were found to be.
    pub pages: BTreeMap<&'static str, u64>,
    /// Pages without a public-security number.
    pub without_public_security: u64,
    /// Hosts with pages that lack their number, and the last such page of each.
    pub lacking: BTreeMap<String, LackingPage>,
}

impl FooterReport {
    /// One page was seen; `page`: host, path, and the number that it should show.
    pub fn add(&self, sighting: FooterSighting, page: Option<(&str, &str, &str)>) {
        let place = FooterSighting::ALL.iter().position(|it| *it == sighting).unwrap_or(0);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        let Some((host, path, number)) = page else { return };
        let path = bounded(path);
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if !sighting.is_lacking() {
            // Only the same page can show that it was put right.
            if lacking.hosts.get(host).is_some_and(|page| page.path == path) {
                lacking.hosts.remove(host);
            }
            return;
        }
        if lacking.hosts.len() < MAX_HOSTS || lacking.hosts.contains_key(host) {
            let page = LackingPage {
                state: sighting.as_str(),
                path: path.to_owned(),
                number: number.to_owned(),
                has_public_security: true,
                at: jiff::Timestamp::now().as_second(),
            };
            lacking.hosts.insert(host.to_owned(), page);
        }
        if lacking.logged.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            lacking.logged = Some(Instant::now());
            tracing::warn!(
                site = %self.site, %host, %path, %number, found = sighting.as_str(),
                "a page lacks its filing number linked to https://beian.miit.gov.cn/; /v1/footers lists all"
            );
        }
    }

    /// Whether the same page shows a public-security number.
    pub fn public_security(&self, is_shown: bool, (host, path): (&str, &str)) {
        if is_shown {
            return;
        }
        self.without_public_security.fetch_add(1, Ordering::Relaxed);
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(page) = lacking.hosts.get_mut(host).filter(|page| page.path == bounded(path)) {
            page.has_public_security = false;
        }
    }

    fn summary(&self) -> FooterSummary {
        FooterSummary {
            site: self.site.clone(),
            mode: *self.mode.lock().unwrap_or_else(PoisonError::into_inner),
            pages: FooterSighting::ALL
                .iter()
                .zip(&self.counts)
                .map(|(sighting, count)| (sighting.as_str(), count.load(Ordering::Relaxed)))
                .collect(),
            without_public_security: self.without_public_security.load(Ordering::Relaxed),
            lacking: self.lacking.lock().unwrap_or_else(PoisonError::into_inner).hosts.clone(),
        }
    }
}

fn bounded(path: &str) -> &str {
    &path[..path.floor_char_boundary(MAX_PATH_BYTES)]
}

/// Every site's, kept over reloads.
#[derive(Debug, Default)]
pub struct FooterReports {
    reports: Mutex<BTreeMap<String, Arc<FooterReport>>>,
    known: Arc<KnownNumbers>,
}

impl FooterReports {
    /// The report of a site, which is in `mode` now.
    #[must_use]
    pub fn of(&self, site: &str, mode: &'static str) -> Arc<FooterReport> {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.entry(site.to_owned()).or_insert_with(|| {
            let known = Arc::clone(&self.known);
            Arc::new(FooterReport { site: site.to_owned(), known, ..FooterReport::default() })
        });
        *report.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
        Arc::clone(report)
    }

    /// Public-security numbers of all sites, as far as they are known.
    #[must_use]
    pub fn known(&self) -> Arc<KnownNumbers> {
        Arc::clone(&self.known)
    }

    /// All of them.
    #[must_use]
    pub fn summaries(&self) -> Vec<FooterSummary> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        reports.values().map(|report| report.summary()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_was_put_right_is_forgotten() {
        let reports = FooterReports::default();
        let report = reports.of("a.cn", "check");
        report.add(FooterSighting::Missing, Some(("a.cn", "/", "京ICP备1号")));
        report.public_security(false, ("a.cn", "/"));
        report.add(FooterSighting::Linked, Some(("a.cn", "/other", "京ICP备1号")));
        let lacking = reports.summaries()[0].lacking.clone();
        assert_eq!((lacking["a.cn"].state, lacking["a.cn"].has_public_security), ("missing", false));
        report.add(FooterSighting::Linked, Some(("a.cn", "/", "京ICP备1号")));
        assert!(reports.summaries()[0].lacking.is_empty());
        assert_eq!(reports.summaries()[0].pages["linked"], 2);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let report = FooterReport::default();
        for host in 0..2 * MAX_HOSTS {
            report.add(FooterSighting::Missing, Some((&format!("{host}.cn"), &"é".repeat(1000), "n")));
        }
        let lacking = report.summary().lacking;
        assert_eq!(lacking.len(), MAX_HOSTS);
        assert!(lacking.values().all(|page| page.path.len() <= MAX_PATH_BYTES));
    }
}
