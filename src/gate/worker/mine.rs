//! What all workers read, held so that a request writes nothing that another worker's does: counts of who uses it are
//! the worker's own.

use super::Shared;
use crate::gate::endpoint::Endpoint;
use crate::gate::route::choose::Member;
use crate::gate::route::{Members, Servers, Target};
use crate::gate::rules::Rules;
use arc_swap::{ArcSwap, Cache};
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// Targets that a worker keeps as its own.
const TARGETS: usize = 1024;

/// What all workers share, counted by this one alone who uses it.
#[allow(clippy::redundant_allocation, reason = "the outer count is what only this worker writes")]
pub type Own<T> = Rc<Arc<T>>;

/// Where a worker looks for new rules.
struct SharedRules(Arc<Shared>);

impl std::ops::Deref for SharedRules {
    type Target = ArcSwap<Rules>;

    fn deref(&self) -> &ArcSwap<Rules> {
        &self.0.rules
    }
}

/// The rules last seen, beside where newer ones would show.
struct Kept {
    cache: Cache<SharedRules, Arc<Rules>>,
    own: Own<Rules>,
}

/// A target, and the servers that its names stood for when it was last asked for them.
#[derive(Clone)]
struct KeptTarget {
    own: Own<Target>,
    named: Option<Own<Box<[Member]>>>,
}

/// The rules in force and targets of theirs.
pub(super) struct Mine {
    rules: RefCell<Kept>,
    /// By where they are.
    targets: RefCell<Box<[Option<KeptTarget>]>>,
    /// Of endpoints, by their slots.
    labels: RefCell<Vec<Option<Own<str>>>>,
}

/// The place of a target among those that are kept: allocations are some octets apart.
fn place(target: &Target) -> usize {
    (std::ptr::from_ref(target) as usize / size_of::<Target>()) % TARGETS
}

impl Mine {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut cache = Cache::new(SharedRules(Arc::clone(shared)));
        let own = Rc::new(Arc::clone(cache.load()));
        Self {
            rules: RefCell::new(Kept { cache, own }),
            targets: RefCell::new(vec![None; TARGETS].into()),
            labels: RefCell::default(),
        }
    }

    /// The rules in force: only a reload makes it look at what is shared.
    pub(super) fn rules(&self) -> Own<Rules> {
        let mut kept = self.rules.borrow_mut();
        let Kept { cache, own } = &mut *kept;
        let current = cache.load();
        if !Arc::ptr_eq(current, own) {
            *own = Rc::new(Arc::clone(current));
            self.targets.borrow_mut().fill(None);
        }
        Rc::clone(own)
    }

    /// A target of theirs.
    pub(super) fn target(&self, target: &Arc<Target>) -> Own<Target> {
        let kept = &mut self.targets.borrow_mut()[place(target)];
        match kept {
            Some(kept) if Arc::ptr_eq(&kept.own, target) => Rc::clone(&kept.own),
            _ => Rc::clone(&kept.insert(KeptTarget { own: Rc::new(Arc::clone(target)), named: None }).own),
        }
    }

    /// What an endpoint is called in the log.
    pub(super) fn label(&self, endpoint: &Endpoint) -> Own<str> {
        let mut labels = self.labels.borrow_mut();
        if labels.len() <= endpoint.slot {
            labels.resize(endpoint.slot + 1, None);
        }
        let kept = &mut labels[endpoint.slot];
        match kept {
            Some(label) if Arc::ptr_eq(label, &endpoint.label) => Rc::clone(label),
            _ => Rc::clone(kept.insert(Rc::new(Arc::clone(&endpoint.label)))),
        }
    }

    /// The servers of a target, as they are now.
    pub(super) fn members<'t>(&self, target: &'t Target) -> Members<'t> {
        let Servers::Named(named) = &target.servers else { return target.servers.now() };
        let now = named.load();
        let mut targets = self.targets.borrow_mut();
        let kept = targets[place(target)].as_mut().filter(|kept| std::ptr::eq(&**kept.own, target));
        // Another target took its place meanwhile: counted where all count.
        let Some(kept) = kept else { return target.servers.now() };
        match &kept.named {
            Some(known) if Arc::ptr_eq(known, &now) => Members::Named(Rc::clone(known)),
            _ => Members::Named(Rc::clone(kept.named.insert(Rc::new(Arc::clone(&now))))),
        }
    }
}

impl fmt::Debug for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mine").finish_non_exhaustive()
    }
}
