//! Operators who showed the token in a browser: a cookie stands for it, for as long as a working day.
//!
//! The cookie is random, known to this process alone, and kept here as a digest. Over TLS it never leaves in clear:
//! cookies know no ports, and the same name may well be served in clear beside the admin address.

use crate::config::Role;
use crate::hexadecimal::hexadecimal;
use axum::http::{HeaderMap, header};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const COOKIE: &str = "beian_gate_session";
/// The same where the admin address speaks TLS: browsers take it from there alone, for this host and all paths
/// (RFC 6265bis, 4.1.3.2).
const COOKIE_OVER_TLS: &str = "__Host-beian_gate_session";
/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(10 * 3600);
/// Sessions at once; a further one ends the oldest.
const MAX_SESSIONS: usize = 64;

type Digest = [u8; 32];

/// Who is logged in.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<Digest, (Instant, Role)>>,
    is_over_tls: bool,
}

impl Sessions {
    /// Of an admin address that speaks TLS, or does not.
    pub(super) fn new(is_over_tls: bool) -> Self {
        Self { live: Mutex::default(), is_over_tls }
    }

    /// `Set-Cookie` of a session that lasts that long.
    fn set(&self, secret: &str, max_age_s: u64) -> String {
        let (name, secure) = (self.name(), if self.is_over_tls { "; Secure" } else { "" });
        format!("{name}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}{secure}")
    }

    fn name(&self) -> &'static str {
        if self.is_over_tls { COOKIE_OVER_TLS } else { COOKIE }
    }

    /// Begins a session: the value of `Set-Cookie`.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(super) fn begin(&self, role: Role, now: Instant) -> Result<String, getrandom::Error> {
        let mut random = [0; 24];
        getrandom::fill(&mut random)?;
        let secret = hexadecimal(&random);
        let mut sessions = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, (since, _)| now.saturating_duration_since(*since) < LIFETIME);
        if sessions.len() >= MAX_SESSIONS
            && let Some(oldest) =
                sessions.iter().min_by_key(|(_, (since, _))| *since).map(|(digest, _)| *digest)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(digest(&secret), (now, role));
        Ok(self.set(&secret, LIFETIME.as_secs()))
    }

    /// What the session under way may do that the request is of.
    pub(super) fn role(&self, fields: &HeaderMap, now: Instant) -> Option<Role> {
        let sessions = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.is_empty() {
            return None;
        }
        let live = |(since, _): &&(Instant, Role)| now.saturating_duration_since(*since) < LIFETIME;
        cookies(fields, self.name())
            .find_map(|cookie| sessions.get(&digest(cookie)).filter(live))
            .map(|(_, role)| *role)
    }

    /// Ends the sessions of a request; gives the value of `Set-Cookie`.
    pub(super) fn end(&self, fields: &HeaderMap) -> String {
        let mut sessions = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for cookie in cookies(fields, self.name()) {
            sessions.remove(&digest(cookie));
        }
        self.set("", 0)
    }
}

fn cookies<'f>(fields: &'f HeaderMap, wanted: &'static str) -> impl Iterator<Item = &'f str> {
    let lines = fields.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(move |pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
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
        let (sessions, now) = (Sessions::new(false), Instant::now());
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
        assert_eq!(sessions.live.lock().unwrap().len(), MAX_SESSIONS);
    }

    #[test]
    fn over_tls_the_cookie_stays_there() {
        let now = Instant::now();
        let (clear, secure) = (Sessions::new(false), Sessions::new(true));
        let set = clear.begin(Role::Reader, now).unwrap();
        assert!(set.starts_with("beian_gate_session=") && !set.contains("Secure"), "{set}");
        let set = secure.begin(Role::Reader, now).unwrap();
        assert!(set.starts_with("__Host-beian_gate_session=") && set.contains("; Path=/;"), "{set}");
        assert!(set.ends_with("; Secure") && !set.contains("Domain"), "{set}");
        let cookie = set.split(';').next().unwrap();
        assert_eq!(secure.role(&fields(cookie), now), Some(Role::Reader));
        assert_eq!(
            secure.role(&fields(cookie.trim_start_matches("__Host-")), now),
            None,
            "a name anybody may set"
        );
        let end = secure.end(&fields(cookie));
        assert!(
            end.starts_with("__Host-beian_gate_session=;") && end.ends_with("Max-Age=0; Secure"),
            "{end}"
        );
        assert_eq!(secure.role(&fields(cookie), now), None);
    }
}
