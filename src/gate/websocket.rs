//! What a WebSocket's opening needs beyond HTTP (RFC 6455, 1.3): the answer to a key.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a server puts behind a key before it hashes both.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Octets of a key.
const KEY_BYTES: usize = 16;

/// The field that asks by a key.
pub const KEY: &[u8] = b"sec-websocket-key";
/// The field that answers it.
pub const ACCEPT: &[u8] = b"sec-websocket-accept";

/// A key of the gate's own.
///
/// # Errors
/// The system has no randomness to give.
pub fn key() -> Result<String, getrandom::Error> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)?;
    Ok(STANDARD.encode(key))
}

/// The only right answer to a key.
#[must_use]
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6455, 1.3.
    #[test]
    fn a_key_has_one_answer() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_ne!(key().unwrap(), key().unwrap());
    }
}
