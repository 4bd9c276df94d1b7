//! What all workers read, held so that a request writes nothing that another worker's does: counts of who uses it are
//! the worker's own.

use super::Shared;
use crate::gate::route::Target;
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

/// The rules in force and targets of theirs.
pub(super) struct Mine {
    rules: RefCell<Kept>,
    /// By where they are.
    targets: RefCell<Box<[Option<Own<Target>>]>>,
}

impl Mine {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let mut cache = Cache::new(SharedRules(Arc::clone(shared)));
        let own = Rc::new(Arc::clone(cache.load()));
        Self { rules: RefCell::new(Kept { cache, own }), targets: RefCell::new(vec![None; TARGETS].into()) }
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
        let mut targets = self.targets.borrow_mut();
        // Allocations are some octets apart.
        let place = (Arc::as_ptr(target) as usize / size_of::<Target>()) % targets.len();
        match &targets[place] {
            Some(own) if Arc::ptr_eq(own, target) => Rc::clone(own),
            _ => Rc::clone(targets[place].insert(Rc::new(Arc::clone(target)))),
        }
    }
}

impl fmt::Debug for Mine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mine").finish_non_exhaustive()
    }
}
