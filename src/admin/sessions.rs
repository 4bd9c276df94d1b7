//! Operators who showed the token in a browser: a cookie stands for it, for as long as a working day.
//!
//! The cookie is random, known to this process alone, and kept here as a digest.

use axum::http::{HeaderMap, header};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const COOKIE: &str = "beian_gate_session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(10 * 3600);
/// Sessions at once; a further one ends the oldest.
const MAX_SESSIONS: usize = 64;

type Digest = [u8; 32];

/// Who is logged in.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Digest, Instant>>);

impl Sessions {
    /// Begins a session: the value of `Set-Cookie`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn begin(&self, now: Instant) -> Result<String, getrandom::Error> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)?;
        let mut secret = String::new();
        for octet in random {
            // Writing to a String can't fail.
            let _ = write!(secret, "{octet:02x}");
        }
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, since| now.saturating_duration_since(*since) < LIFETIME);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, since)| **since).map(|(digest, _)| *digest)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(digest(&secret), now);
        Ok(format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", LIFETIME.as_secs()))
    }

    /// Whether the request is of a session under way.
    pub(super) fn holds(&self, fields: &HeaderMap, now: Instant) -> bool {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !sessions.is_empty()
            && cookies(fields).any(|cookie| {
                let since = sessions.get(&digest(cookie));
                since.is_some_and(|since| now.saturating_duration_since(*since) < LIFETIME)
            })
    }

    /// Ends the sessions of a request; gives the value of `Set-Cookie`.
    pub(super) fn end(&self, fields: &HeaderMap) -> String {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for cookie in cookies(fields) {
            sessions.remove(&digest(cookie));
        }
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }
}

fn cookies(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = fields.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

fn digest(secret: &str) -> Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(cookie: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, cookie.parse().unwrap())])
    }

    #[test]
    fn sessions_begin_and_end() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let set = sessions.begin(now).unwrap();
        assert!(set.contains("HttpOnly; SameSite=Strict"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let both = format!("other=1; {cookie}");
        assert!(sessions.holds(&fields(&both), now));
        assert!(!sessions.holds(&fields(&both), now + LIFETIME));
        assert!(!sessions.holds(&fields("beian_gate_session=guess"), now));
        assert!(!sessions.holds(&HeaderMap::new(), now));
        sessions.end(&fields(&both));
        assert!(!sessions.holds(&fields(&both), now));
        for _ in 0..2 * MAX_SESSIONS {
            sessions.begin(now).unwrap();
        }
        assert_eq!(sessions.0.lock().unwrap().len(), MAX_SESSIONS);
    }
}
