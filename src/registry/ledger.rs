//! What edits do to filings: names leave and join sites, accesses hold for the whole site.
//!
//! Pure: works on the documents that were loaded for it and says in the end which names differ. Whoever
//! loads must bring every named domain, every site that is named or left, and all domains of those sites.

use super::model::{Access, Action, Document, Edit, Outcome, Stored};
use super::records::Cabinet;
use super::rules::{self, Refusal};
use crate::filing::FilingState;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The documents at hand, before and after.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    domains: HashMap<Arc<str>, Slot>,
    sites: HashMap<Arc<str>, Site>,
    /// Names that an edit reached, in the order in which it did.
    touched: Vec<Arc<str>>,
    /// Records of the filing life cycle, written in the same transaction.
    pub(super) cabinet: Cabinet,
    /// What the change log says of why.
    pub(super) why: Option<String>,
}

#[derive(Debug, Default)]
struct Slot {
    before: Option<Stored>,
    now: Option<Document>,
    is_touched: bool,
}

#[derive(Debug, Default)]
struct Site {
    access_before: Option<Arc<Access>>,
    access: Arc<Access>,
    domains: BTreeSet<Arc<str>>,
}

/// What became of one name.
pub(super) struct Difference {
    pub(super) domain: Arc<str>,
    pub(super) before: Option<Stored>,
    pub(super) after: Option<Document>,
}

/// What became of one site.
pub(super) enum SiteDifference {
    /// Is new, or its accesses are others.
    Written { number: Arc<str>, access: Arc<Access>, is_new: bool },
    /// Its last domain left.
    Gone { number: Arc<str> },
}

impl Ledger {
    /// Takes a name as the database holds it.
    pub(super) fn load(&mut self, domain: Arc<str>, stored: Stored) {
        if self.domains.contains_key(&domain) {
            return;
        }
        if let Some(number) = stored.document.site() {
            let site = self.sites.entry(number.clone()).or_default();
            site.access_before = Some(stored.document.access.clone());
            site.access = stored.document.access.clone();
            site.domains.insert(domain.clone());
        }
        let now = Some(stored.document.clone());
        self.domains.insert(domain, Slot { before: Some(stored), now, is_touched: false });
    }

    /// Whether the name is filed, as of the edits so far.
    pub(super) fn document(&self, domain: &str) -> Option<&Document> {
        self.domains.get(domain)?.now.as_ref()
    }

    /// What the name was in the database.
    pub(super) fn stored(&self, domain: &str) -> Option<&Stored> {
        self.domains.get(domain)?.before.as_ref()
    }

    /// Forgets everything, so that the edits that follow make the whole content.
    pub(super) fn clear(&mut self) {
        for site in self.sites.values_mut() {
            site.domains.clear();
            site.access = Arc::default();
        }
        let mut domains: Vec<_> = self.domains.keys().cloned().collect();
        domains.sort_unstable();
        for domain in &domains {
            self.slot(domain).now = None;
        }
    }

    /// Does one edit, wholly or not at all.
    pub(super) fn apply(&mut self, edit: Edit) -> Result<Outcome, Refusal> {
        let Edit { domain, action } = edit;
        match action {
            Action::Put(document) => Ok(self.put(&domain, document)),
            Action::Deregister => self.deregister(&domain),
            Action::Purge => {
                self.document(&domain).ok_or_else(|| rules::not_filed(&domain))?;
                self.leave_site(&domain);
                self.slot(&domain).now = None;
                Ok(Outcome::Deleted)
            }
        }
    }

    /// What an edit that had this `outcome` did, held against what was loaded.
    pub(super) fn outcome_since_loaded(&self, domain: &str, outcome: Outcome) -> Outcome {
        match (outcome, self.stored(domain)) {
            (Outcome::Deleted, _) | (_, None) => outcome,
            (_, Some(was)) if self.document(domain) == Some(&was.document) => Outcome::Unchanged,
            (_, Some(_)) => Outcome::Updated,
        }
    }

    fn put(&mut self, domain: &Arc<str>, mut document: Document) -> Outcome {
        let was = self.document(domain).cloned();
        if document.state == FilingState::Deregistered && document.number.is_none() {
            document.number = was.as_ref().and_then(|it| it.number.clone());
        }
        let from = was.as_ref().and_then(Document::site).cloned();
        if from.as_ref() != document.site() {
            self.leave_site(domain);
        }
        if let Some(number) = document.site().cloned() {
            document.access = self.join_site(&number, domain, &document.access);
        } else if let Some(was) = was.as_ref().filter(|it| may_inherit(it.state, document.state)) {
            document.access = Arc::new(was.access.replaced_by(&document.access));
        }
        if was.as_ref() == Some(&document) {
            return Outcome::Unchanged;
        }
        self.slot(domain).now = Some(document);
        if was.is_some() { Outcome::Updated } else { Outcome::Created }
    }

    fn deregister(&mut self, domain: &Arc<str>) -> Result<Outcome, Refusal> {
        let mut document = self.document(domain).ok_or_else(|| rules::not_filed(domain))?.clone();
        match document.state {
            FilingState::Deregistered => return Ok(Outcome::Unchanged),
            // It never had a number, so nothing was there that could be deregistered and shadow a parent.
            FilingState::Pending => self.slot(domain).now = None,
            FilingState::Filed | FilingState::Restricted => {
                self.leave_site(domain);
                document.state = FilingState::Deregistered;
                document.access = Arc::new(document.access.replaced_by(&Access::default()));
                self.slot(domain).now = Some(document);
            }
        }
        Ok(Outcome::Deleted)
    }

    fn leave_site(&mut self, domain: &Arc<str>) {
        let Some(number) = self.document(domain).and_then(Document::site).cloned() else { return };
        if let Some(site) = self.sites.get_mut(&number) {
            site.domains.remove(domain);
            if site.domains.is_empty() {
                site.access = Arc::default();
            }
        }
    }

    /// The site's accesses, now that `wanted` replaced them for all its domains.
    fn join_site(&mut self, number: &Arc<str>, domain: &Arc<str>, wanted: &Arc<Access>) -> Arc<Access> {
        let site = self.sites.entry(number.clone()).or_default();
        site.domains.insert(domain.clone());
        let merged = site.access.replaced_by(wanted);
        if *site.access == merged {
            return site.access.clone();
        }
        let merged = Arc::new(merged);
        site.access = merged.clone();
        let others: Vec<_> = site.domains.iter().filter(|it| *it != domain).cloned().collect();
        for other in others {
            if let Some(document) = &mut self.slot(&other).now {
                document.access = merged.clone();
            }
        }
        merged
    }

    /// The slot, for writing.
    fn slot(&mut self, domain: &Arc<str>) -> &mut Slot {
        let slot = self.domains.entry(domain.clone()).or_default();
        if !slot.is_touched {
            slot.is_touched = true;
            self.touched.push(domain.clone());
        }
        slot
    }

    /// Which sites and names differ from what was loaded.
    pub(super) fn finish(mut self) -> (Vec<SiteDifference>, Vec<Difference>) {
        let mut sites = Vec::new();
        for (number, site) in self.sites {
            match (site.access_before, site.domains.is_empty()) {
                (Some(_), true) => sites.push(SiteDifference::Gone { number }),
                (None, true) => {}
                (before, false) => {
                    if before.as_ref() != Some(&site.access) {
                        let is_new = before.is_none();
                        sites.push(SiteDifference::Written { number, access: site.access, is_new });
                    }
                }
            }
        }
        let mut names = Vec::new();
        for domain in self.touched {
            let Some(slot) = self.domains.remove(&domain) else { continue };
            if slot.before.as_ref().map(|it| &it.document) != slot.now.as_ref() {
                names.push(Difference { domain, before: slot.before, after: slot.now });
            }
        }
        (sites, names)
    }
}

/// Whether a name without a site keeps accesses that its new document leaves out, as cancelled ones.
fn may_inherit(was: FilingState, now: FilingState) -> bool {
    was == now || now == FilingState::Deregistered
}
