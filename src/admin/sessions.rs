//! Operators who showed the token in a browser: a cookie stands for it, for as long as a working day.
//!
//! The cookie is random, known to this process alone, and kept here as a digest.

use crate::config::Role;
use crate::hexadecimal::hexadecimal;
use axum::http::{HeaderMap, header};
use std::collections::HashMap;
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
pub(super) struct Sessions(Mutex<HashMap<Digest, (Instant, Role)>>);

impl Sessions {
    /// Begins a session: the value of `Set-Cookie`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn begin(&self, role: Role, now: Instant) -> Result<String, getrandom::Error> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)?;
        let secret = hexadecimal(&random);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (since, _)| now.saturating_duration_since(*since) < LIFETIME);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, (since, _))| *since).map(|(digest, _)| *digest)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(digest(&secret), (now, role));
        Ok(format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", LIFETIME.as_secs()))
    }

    /// What the session under way may do that the request is of.
    pub(super) fn role(&self, fields: &HeaderMap, now: Instant) -> Option<Role> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.is_empty() {
            return None;
        }
        let live = |(since, _): &&(Instant, Role)| now.saturating_duration_since(*since) < LIFETIME;
        cookies(fields).find_map(|cookie| sessions.get(&digest(cookie)).filter(live)).map(|(_, role)| *role)
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
        let set = sessions.begin(Role::Reader, now).unwrap();
        assert!(set.contains("HttpOnly; SameSite=Strict"), "{set}");
        let cookie = set.split(';').next().unwrap();
        let both = format!("other=1; {cookie}");
        assert_eq!(sessions.role(&fields(&both), now), Some(Role::Reader));
        assert_eq!(sessions.role(&fields(&both), now + LIFETIME), None);
        assert_eq!(sessions.role(&fields("beian_gate_session=guess"), now), None);
        assert_eq!(sessions.role(&HeaderMap::new(), now), None);
        sessions.end(&fields(&both));
        assert_eq!(sessions.role(&fields(&both), now), None);
        for _ in 0..2 * MAX_SESSIONS {
            sessions.begin(Role::Reader, now).unwrap();
        }
        assert_eq!(sessions.0.lock().unwrap().len(), MAX_SESSIONS);
    }
}
