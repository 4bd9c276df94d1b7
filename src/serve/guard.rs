//! Who may call: bearer tokens by their hashes, and who has shown too many wrong ones.

use axum::extract::Request;
use axum::http::header;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens that one address may show in a stretch of time, before its right one counts for nothing either.
const MAX_FAILURES: u32 = 20;
/// That stretch.
const FAILURE_STRETCH: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted at once.
const MAX_FAILING: usize = 4096;

/// Who calls, by TCP.
#[derive(Debug, Clone, Copy)]
pub struct Caller(/** Its address. */ pub IpAddr);

/// What a caller's token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It is the right one, or none is asked for.
    Right,
    /// It is not.
    Wrong,
    /// It isn't looked at: too many wrong ones came from there.
    TooOften,
}

/// Bearer tokens of which callers must show one, as their hashes, and who has failed to.
#[derive(Debug, Default)]
pub struct Guard {
    hashes: Vec<[u8; 32]>,
    failing: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

impl Guard {
    /// Of a token; without one everybody may call.
    #[must_use]
    pub fn new(token: Option<String>) -> Self {
        Self::of(token.into_iter().map(|token| hash(&token)).collect())
    }

    /// Of tokens that hash to these; without any everybody may call.
    #[must_use]
    pub fn of(hashes: Vec<[u8; 32]>) -> Self {
        Self { hashes, failing: Mutex::default() }
    }

    /// Whether a token is asked for.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.hashes.is_empty()
    }

    /// Looks at the token that a request shows.
    pub fn look(&self, request: &Request) -> Shown {
        match self.whose(request) {
            Ok(_) => Shown::Right,
            Err(shown) => shown,
        }
    }

    /// Which of the tokens a request shows; the first where none is asked for.
    ///
    /// # Errors
    /// What else it shows.
    pub fn whose(&self, request: &Request) -> Result<usize, Shown> {
        if self.hashes.is_empty() {
            return Ok(0);
        }
        // Who shows none doesn't guess: a page that asks before the log-in, or after its session, locks nobody out.
        let Some(token) = bearer(request) else { return Err(Shown::Wrong) };
        let shown = self.which(token);
        let caller = request.extensions().get::<Caller>().map(|caller| network(caller.0));
        match (self.judge(caller, shown.is_some(), Instant::now()), shown) {
            (Shown::Right, Some(which)) => Ok(which),
            (Shown::Right, None) => Err(Shown::Wrong),
            (refused, _) => Err(refused),
        }
    }

    /// Looks at all of them, however early one fits, so that the time it takes says nothing.
    fn which(&self, token: &str) -> Option<usize> {
        let given = hash(token);
        let is_same = |it: &[u8; 32]| aws_lc_rs::constant_time::verify_slices_are_equal(it, &given).is_ok();
        self.hashes
            .iter()
            .enumerate()
            .fold(None, |found, (at, it)| if is_same(it) { Some(at) } else { found })
    }

    fn judge(&self, caller: Option<IpAddr>, is_right: bool, now: Instant) -> Shown {
        let Some(caller) = caller else { return if is_right { Shown::Right } else { Shown::Wrong } };
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= FAILURE_STRETCH;
        let failures =
            failing.get(&caller).filter(|(_, since)| !is_over(since)).map_or(0, |(failures, _)| *failures);
        if failures >= MAX_FAILURES {
            return Shown::TooOften;
        }
        if is_right {
            return Shown::Right;
        }
        if failing.len() >= MAX_FAILING {
            failing.retain(|_, (_, since)| !is_over(since));
        }
        if failures > 0 {
            failing.entry(caller).and_modify(|(failures, _)| *failures += 1);
        } else if failing.len() < MAX_FAILING || failing.contains_key(&caller) {
            failing.insert(caller, (1, now));
        }
        Shown::Wrong
    }
}

/// What one owner is taken to have: an IPv4 address, or 64 bits of an IPv6 one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, given) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
}

/// A token's SHA-256.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_is_not_listened_to_for_a_while() {
        let guard = Guard::new(Some("secret".to_owned()));
        let (one, other) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let now = Instant::now();
        for _ in 0..MAX_FAILURES {
            assert_eq!(guard.judge(one, false, now), Shown::Wrong);
        }
        assert_eq!(guard.judge(one, true, now), Shown::TooOften);
        assert_eq!(guard.judge(other, true, now), Shown::Right);
        assert_eq!(guard.judge(one, true, now + FAILURE_STRETCH), Shown::Right);
        assert_eq!(guard.judge(one, false, now + FAILURE_STRETCH), Shown::Wrong);
    }

    #[test]
    fn who_shows_none_is_not_taken_to_guess() {
        let guard = Guard::new(Some("secret".to_owned()));
        let ask = |token: Option<&str>| {
            let caller = Caller(IpAddr::from([192, 0, 2, 1]));
            let mut request = Request::builder().extension(caller);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            guard.whose(&request.body(axum::body::Body::empty()).unwrap())
        };
        for _ in 0..=2 * MAX_FAILURES {
            assert_eq!(ask(None), Err(Shown::Wrong));
        }
        assert_eq!(ask(Some("secret")), Ok(0));
        for _ in 0..MAX_FAILURES {
            assert_eq!(ask(Some("guess")), Err(Shown::Wrong));
        }
        assert_eq!(ask(Some("secret")), Err(Shown::TooOften));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let guard = Guard::new(Some("secret".to_owned()));
        let now = Instant::now();
        for number in 0..2 * u32::try_from(MAX_FAILING).unwrap() {
            guard.judge(Some(IpAddr::from(number.to_be_bytes())), false, now);
        }
        assert_eq!(guard.failing.lock().unwrap().len(), MAX_FAILING);
    }
}
