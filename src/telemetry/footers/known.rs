//! Public-security numbers by the filing number of the site that they are of, as far as somebody asked the registry:
//! filings as gates follow them have none. Knows what is wanted and what is known, and asks nobody.

use crate::filing::{FilingNumber, PublicSecurityNumber};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Sites whose number is remembered; beyond them all are asked for anew.
const MAX_KNOWN: usize = 100_000;
/// Sites that may wait to be asked for.
const MAX_WANTED: usize = 1000;
/// How long what the registry said is taken as it is.
const FRESH: Duration = Duration::from_secs(600);

/// What is known and what is wanted.
#[derive(Debug, Default)]
pub struct KnownNumbers {
    inner: Mutex<Inner>,
    is_wanted: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<String, (Option<PublicSecurityNumber>, Instant)>,
    /// Filing numbers, each with a host that it covers.
    wanted: BTreeMap<String, String>,
}

impl KnownNumbers {
    /// The number of the site with this filing number, which covers `host`; `None` while none is known.
    #[must_use]
    pub fn of(&self, filing: &FilingNumber, host: &str) -> Option<PublicSecurityNumber> {
        let filing = filing.to_string();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let found = inner.known.get(&filing);
        let is_fresh = found.is_some_and(|(_, since)| since.elapsed() < FRESH);
        let number = found.and_then(|(number, _)| number.clone());
        if !is_fresh && inner.wanted.len() < MAX_WANTED {
            inner.wanted.insert(filing, host.to_owned());
            self.is_wanted.notify_one();
        }
        number
    }

    /// Waits until something is wanted; filing numbers, each with a host that it covers.
    pub async fn wanted(&self) -> BTreeMap<String, String> {
        loop {
            let wanted = {
                let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut inner.wanted)
            };
            if !wanted.is_empty() {
                return wanted;
            }
            self.is_wanted.notified().await;
        }
    }

    /// What the registry said of the site with this filing number.
    pub fn learn(&self, filing: String, number: Option<PublicSecurityNumber>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.known.len() >= MAX_KNOWN && !inner.known.contains_key(&filing) {
            inner.known.clear();
        }
        inner.known.insert(filing, (number, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_known_is_wanted_once() {
        let known = KnownNumbers::default();
        let filing = FilingNumber::parse("京ICP备12345678号-1").unwrap();
        let number = PublicSecurityNumber::parse("京公网安备11010102000001号").unwrap();
        assert_eq!(known.of(&filing, "a.cn"), None);
        assert_eq!(known.of(&filing, "a.cn"), None);
        let wanted = known.wanted().await;
        assert_eq!(wanted, BTreeMap::from([(filing.to_string(), "a.cn".to_owned())]));
        known.learn(filing.to_string(), Some(number.clone()));
        assert_eq!(known.of(&filing, "a.cn"), Some(number));
        assert!(known.inner.lock().unwrap().wanted.is_empty(), "it is fresh");
    }

    #[test]
    fn what_is_held_is_bounded() {
        let known = KnownNumbers::default();
        for nth in 0..2 * MAX_WANTED {
            let filing = FilingNumber::parse(&format!("京ICP备{:08}号-1", 10_000_000 + nth)).unwrap();
            assert_eq!(known.of(&filing, "a.cn"), None);
        }
        assert_eq!(known.inner.lock().unwrap().wanted.len(), MAX_WANTED);
        for nth in 0..=MAX_KNOWN {
            known.learn(nth.to_string(), None);
        }
        assert_eq!(known.inner.lock().unwrap().known.len(), 1);
    }
}
