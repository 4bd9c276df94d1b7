//! The tasks of a connection's streams: run on this worker, each to be ended by itself.

use futures_util::FutureExt as _;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use tokio::task::{self, AbortHandle};

/// Runs a connection's streams on this worker, and knows how to end each.
#[derive(Clone, Default)]
pub(super) struct Streams(Rc<RefCell<HashMap<task::Id, AbortHandle, BuildHasherDefault<Spread>>>>);

/// Numbers of tasks are the runtime's, in turn: no client can choose them.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        octets.iter().for_each(|octet| self.write_u64(u64::from(*octet)));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio: neighbours end up far apart (multiplicative hashing).
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Streams {
    /// How to end the stream whose task this is called from.
    pub(super) fn current(&self) -> Option<AbortHandle> {
        self.0.borrow().get(&task::id()).cloned()
    }
}

/// Takes a stream's task out of the table when it ends, or is ended before it ran: it is dropped as that task.
struct Entry(Streams);

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(id) = task::try_id() {
            self.0.0.borrow_mut().remove(&id);
        }
    }
}

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, future: F) {
        let entry = Entry(self.clone());
        // An async block around it would hold the future twice.
        let task = task::spawn_local(future.map(move |_| drop(entry)));
        self.0.borrow_mut().insert(task.id(), task.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::rt::Executor as _;
    use std::future::{pending, ready};

    /// However a task ends: by itself, or before it ran.
    #[test]
    fn what_is_over_is_not_in_the_table() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (streams, local) = (Streams::default(), task::LocalSet::new());
        local.block_on(&runtime, async {
            streams.execute(ready(()));
            streams.execute(pending::<()>());
            streams.execute(pending::<()>());
            assert_eq!(streams.0.borrow().len(), 3);
            while streams.0.borrow().len() > 2 {
                task::yield_now().await;
            }
            let handles: Vec<_> = streams.0.borrow().values().cloned().collect();
            handles.iter().for_each(AbortHandle::abort);
            streams.execute(pending::<()>());
            streams.0.borrow().values().for_each(AbortHandle::abort);
            while !streams.0.borrow().is_empty() {
                task::yield_now().await;
            }
        });
    }
}
