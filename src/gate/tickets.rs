//! What session tickets are sealed with: one ring of keys for all certificates, which survives reloads and hand-overs.
//!
//! The first key seals, all open. Keys of the gate's own change by themselves, and old ones are forgotten, so that a
//! key that leaks opens hours of tickets and not years of them. Keys of a file, for gates that share clients, change
//! with the file (RFC 5077, 5.5).

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long a key of the gate's own seals.
const SEALING_TIME: Duration = Duration::from_hours(6);
/// Keys of the gate's own that open: the one that seals, and the one before it.
const OWN_KEYS: usize = 2;
/// Keys that a file may hold.
const MAX_KEYS: usize = 16;
const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;
/// Octets of a key: its name, then the secret.
const KEY_BYTES: usize = NAME_BYTES + SECRET_BYTES;
/// What clients are told: a ticket is good for at least as long as its key seals.
const LIFETIME_S: u32 = 6 * 60 * 60;

/// Seals tickets, and opens them.
#[derive(Debug)]
pub struct Tickets(RwLock<Ring>);

#[derive(Debug)]
struct Ring {
    /// The first seals.
    keys: Vec<Key>,
    /// When the first was made; none: it is of a file, and changes with it.
    since: Option<Instant>,
}

struct Key {
    octets: [u8; KEY_BYTES],
    sealing: RandomizedNonceKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system has no randomness, or the key can't be used.
    #[error("no key for session tickets can be made")]
    Unusable,
    /// Not what a file of keys is.
    #[error(
        "line {0} is no key of 96 hexadecimal digits, or one of more than {MAX_KEYS}; make one with `openssl rand -hex 48`"
    )]
    Line(/** Counted from 1. */ usize),
    /// A file without a key.
    #[error("there is no key in it; make one with `openssl rand -hex 48`")]
    Empty,
}

impl Key {
    fn of(octets: [u8; KEY_BYTES]) -> Result<Self, KeyError> {
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &octets[NAME_BYTES..]);
        Ok(Self { octets, sealing: sealing.map_err(|_| KeyError::Unusable)? })
    }

    fn random() -> Result<Self, KeyError> {
        let mut octets = [0; KEY_BYTES];
        getrandom::fill(&mut octets).map_err(|_| KeyError::Unusable)?;
        Self::of(octets)
    }

    fn name(&self) -> &[u8] {
        &self.octets[..NAME_BYTES]
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self.sealing.seal_in_place_append_tag(Aad::from(self.name()), &mut sealed).ok()?;
        Some([self.name(), nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let rest = ticket.strip_prefix(self.name())?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut octets = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.sealing.open_in_place(nonce, Aad::from(self.name()), &mut octets).ok()?.len();
        octets.truncate(plain);
        Some(octets)
    }
}

/// Reads keys: one a line, the first seals; empty lines and those that begin with `#` are let be.
fn parse<'t>(lines: impl Iterator<Item = &'t str>) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    for (at, line) in lines.enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let octets = octets(line).filter(|_| keys.len() < MAX_KEYS).ok_or(KeyError::Line(at + 1))?;
        keys.push(Key::of(octets)?);
    }
    if keys.is_empty() { Err(KeyError::Empty) } else { Ok(keys) }
}

fn octets(hex: &str) -> Option<[u8; KEY_BYTES]> {
    let mut octets = [0; KEY_BYTES];
    if hex.len() != 2 * KEY_BYTES || !hex.is_ascii() {
        return None;
    }
    for (octet, digits) in octets.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    // What `from_str_radix` takes beside digits.
    (!hex.contains('+')).then_some(octets)
}

impl Tickets {
    /// With a key of its own.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn new() -> Result<Self, KeyError> {
        Ok(Self(RwLock::new(Ring { keys: vec![Key::random()?], since: Some(Instant::now()) })))
    }

    /// Goes on with the keys that another process gave.
    ///
    /// # Errors
    /// What was given is no keys; nothing has changed.
    pub fn go_on(&self, given: &[String]) -> Result<(), KeyError> {
        let keys = parse(given.iter().map(String::as_str))?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Ring { keys, since: Some(Instant::now()) };
        Ok(())
    }

    /// All keys, for the process that takes over.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.iter().map(|key| crate::hexadecimal::hexadecimal(&key.octets)).collect()
    }

    /// From now on the keys of a file: its text.
    ///
    /// # Errors
    /// What is wrong with it; nothing has changed.
    pub fn share(&self, text: &str) -> Result<(), KeyError> {
        let keys = parse(text.lines())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Ring { keys, since: None };
        Ok(())
    }

    /// From now on keys of its own again, if they are a file's.
    ///
    /// # Errors
    /// `Unusable`.
    pub fn unshare(&self) -> Result<(), KeyError> {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if ring.since.is_none() {
            *ring = Ring { keys: vec![Key::random()?], since: Some(Instant::now()) };
        }
        Ok(())
    }

    fn rotate(&self, now: Instant) {
        let is_due = |ring: &Ring| ring.since.is_some_and(|since| now >= since + SEALING_TIME);
        if !is_due(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first. Without randomness the old key goes on.
        if is_due(&ring)
            && let Ok(key) = Key::random()
        {
            ring.keys.insert(0, key);
            ring.keys.truncate(OWN_KEYS);
            ring.since = Some(now);
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.rotate(Instant::now());
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys.first()?.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.rotate(Instant::now());
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ring.keys.iter().find_map(|key| key.open(cipher))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let (tickets, other) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let sealed = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(other.decrypt(&sealed), None);
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(tickets.decrypt(&bent), None, "octet {at}");
            assert_eq!(tickets.decrypt(&sealed[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_change_and_are_forgotten() {
        let tickets = Tickets::new().unwrap();
        let sealed = tickets.encrypt(b"session").unwrap();
        let now = Instant::now();
        tickets.rotate(now + SEALING_TIME);
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]), "the one before opens");
        assert_ne!(tickets.encrypt(b"session").unwrap()[..NAME_BYTES], sealed[..NAME_BYTES]);
        tickets.rotate(now + SEALING_TIME * 2);
        assert_eq!(tickets.decrypt(&sealed), None);
    }

    #[test]
    fn another_process_goes_on_with_them() {
        let (old, new) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let sealed = old.encrypt(b"session").unwrap();
        new.go_on(&old.keys()).unwrap();
        assert_eq!(new.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert!(new.go_on(&["nonsense".to_owned()]).is_err());
        assert!(new.decrypt(&sealed).is_some(), "nothing has changed");
    }

    #[test]
    fn keys_of_a_file() {
        let (one, two) = ("ab".repeat(KEY_BYTES), "12".repeat(KEY_BYTES));
        let (gate, other) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        gate.share(&one).unwrap();
        other.share(&format!("# newest first\n{two}\n\n{one}\n")).unwrap();
        let sealed = gate.encrypt(b"session").unwrap();
        assert!(other.decrypt(&sealed).is_some());
        assert!(gate.decrypt(&other.encrypt(b"session").unwrap()).is_none(), "sealed by the newer one");
        gate.rotate(Instant::now() + SEALING_TIME * 9);
        assert!(other.decrypt(&gate.encrypt(b"x").unwrap()).is_some(), "a file's keys stay");
        let wrong = [("", KeyError::Empty), ("zz", KeyError::Line(1)), (&one[2..], KeyError::Line(1))];
        for (text, error) in wrong {
            assert_eq!(gate.share(text), Err(error), "{text:?}");
        }
        let many = format!("{one}\n").repeat(MAX_KEYS + 1);
        assert_eq!(gate.share(&many), Err(KeyError::Line(MAX_KEYS + 1)));
    }
}
