//! Circuit breaking: how many requests and connections a server bears, from all workers together, and who waits.
//!
//! Places are given in the order in which they were asked for. Only servers with limits have a breaker at all.

use crate::config;
use crate::gate::reject::Reject;
use crate::gate::watch::{Expired, Watch};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place at a server, until it is dropped.
pub type Place = OwnedSemaphorePermit;

/// The limits of one server, and what is left of them.
#[derive(Debug)]
pub struct Breaker {
    limits: config::Breaker,
    requests: Option<Arc<Semaphore>>,
    connections: Option<Arc<Semaphore>>,
    /// Requests that wait.
    pending: AtomicUsize,
    /// Those of them that wait for a connection.
    wanted: AtomicUsize,
    /// Requests that were refused.
    pub refused: AtomicU64,
}

/// Counts one that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let waiting = Self(count);
        (count.fetch_add(1, Ordering::AcqRel) < most).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Breaker {
    /// With all its places free.
    #[must_use]
    pub fn new(limits: &config::Breaker) -> Self {
        let places = |most: Option<usize>| most.map(|most| Arc::new(Semaphore::new(most)));
        Self {
            requests: places(limits.requests),
            connections: places(limits.connections),
            limits: limits.clone(),
            pending: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Whether another request would wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.requests.as_ref().is_some_and(|places| places.available_permits() == 0)
    }

    /// Whether somebody waits for a connection that may be open and idle.
    #[must_use]
    pub fn wants_connections(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    /// Requests that wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }

    /// A place for a request. `gone` is asked whether somebody still waits for it.
    ///
    /// # Errors
    /// `Overloaded` where too many wait, or it took too long.
    pub async fn request(
        &self,
        watch: &Watch,
        gone: impl FnMut(&mut Context<'_>) -> Result<(), Reject>,
    ) -> Result<Option<Place>, Reject> {
        self.place(self.requests.as_ref(), watch, gone).await
    }

    /// A place for a connection.
    ///
    /// # Errors
    /// As above.
    pub async fn connection(&self, watch: &Watch) -> Result<Option<Place>, Reject> {
        let Some(places) = &self.connections else { return Ok(None) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Some(place));
        }
        // Workers that keep an idle one give it up.
        let _wanted = Waiting::new(&self.wanted, usize::MAX);
        self.place(Some(places), watch, |_| Ok(())).await
    }

    async fn place(
        &self,
        places: Option<&Arc<Semaphore>>,
        watch: &Watch,
        mut gone: impl FnMut(&mut Context<'_>) -> Result<(), Reject>,
    ) -> Result<Option<Place>, Reject> {
        let Some(places) = places else { return Ok(None) };
        if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            return Ok(Some(place));
        }
        let refused = || {
            self.refused.fetch_add(1, Ordering::Relaxed);
            Reject::Overloaded
        };
        let _pending = Waiting::new(&self.pending, self.limits.pending).ok_or_else(refused)?;
        watch.within(self.limits.pending_timeout);
        let mut waiting = pin!(Arc::clone(places).acquire_owned());
        let waited = watch.bound(|cx| match waiting.as_mut().poll(cx) {
            Poll::Ready(place) => Poll::Ready(place.map_err(|_| Reject::Overloaded)),
            Poll::Pending => gone(cx).map_or_else(|reject| Poll::Ready(Err(reject)), |()| Poll::Pending),
        });
        match waited.await {
            Ok(place) => place.map(Some),
            Err(Expired::Cut) => Err(Reject::Cut),
            Err(_) => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::watch::Clock;
    use std::time::Duration;

    #[tokio::test]
    async fn so_many_and_so_many_wait() {
        let limits = config::Breaker {
            requests: Some(1),
            connections: None,
            pending: 1,
            pending_timeout: Duration::from_secs(60),
        };
        let (breaker, clock) = (Breaker::new(&limits), Clock::new());
        let (one, two) = (clock.watch(), clock.watch());
        let first = breaker.request(&one, |_| Ok(())).await.unwrap();
        assert!(breaker.is_full());
        let second = breaker.request(&one, |_| Ok(()));
        let others = async {
            assert_eq!(breaker.pending(), 1);
            let third = breaker.request(&two, |_| Ok(())).await;
            assert_eq!(third.map(drop), Err(Reject::Overloaded));
            drop(first);
        };
        let (second, ()) = futures_util::future::join(second, others).await;
        assert!(second.is_ok_and(|place| place.is_some()));
        assert_eq!((breaker.pending(), breaker.refused.load(Ordering::Relaxed)), (0, 1));
        assert!(!breaker.is_full());
    }
}
