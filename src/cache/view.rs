//! The filings at one moment, for readers: no lock, no shared write.

use super::FilingCache;
use super::shown::Shown;
use crate::domain::DomainName;
use crate::feed::Fingerprint;
use crate::filing::{FilingRecord, covering};
use crate::verdict::{Coverage, Filings};
use arc_swap::Guard;
use std::marker::PhantomData;
use std::sync::Arc;

/// The filings as one request sees them.
#[derive(Debug)]
pub struct View<'a> {
    pub(super) shown: Guard<Option<Arc<Shown>>>,
    pub(super) is_stale: bool,
    pub(super) cache: PhantomData<&'a FilingCache>,
}

impl View<'_> {
    /// Whether it is older than the operator allows, and is not to be served then.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The record of exactly this name (canonical form), whatever its age. Allocates only for odd numbers.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<FilingRecord> {
        self.shown.as_ref()?.find(name)
    }

    /// The fingerprints whose records could decide about `name`; none before the first sync.
    pub fn fingerprints(&self, name: &DomainName) -> impl Iterator<Item = Fingerprint> {
        let shown = self.shown.as_ref();
        name.filing_candidates().filter_map(move |name| Some(shown?.fingerprint(name)))
    }

    /// Whether there is a state at all.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shown.is_some()
    }
}

impl Filings for View<'_> {
    fn coverage(&self, name: &DomainName) -> Coverage {
        let Some(shown) = self.shown.as_ref() else {
            return Coverage::NeverSynced;
        };
        if self.is_stale {
            return Coverage::Stale;
        }
        covering(name, |name| shown.find(name)).map_or(Coverage::Unfiled, Coverage::Filed)
    }
}
