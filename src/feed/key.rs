//! The secret of an epoch: fingerprints and digest derive from it.

use super::{Entry, Fingerprint};
use crate::filing::PackedRecord;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher13 as SipHasher13x128};
use std::hash::Hasher;

/// 32 secret octets, new with each epoch: 16 for fingerprints, 16 for the digest.
#[derive(Clone)]
pub struct EpochKey {
    bytes: [u8; Self::LEN],
    names: SipHasher13,
    elements: SipHasher13x128,
}

impl EpochKey {
    /// Octets in a key.
    pub const LEN: usize = 32;

    /// A new random key.
    ///
    /// # Errors
    /// Where the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; Self::LEN];
        getrandom::fill(&mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }

    /// The key made of these octets.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let half = |at: usize| -> [u8; 16] { std::array::from_fn(|i| bytes[at + i]) };
        Self {
            bytes,
            names: SipHasher13::new_with_key(&half(0)),
            elements: SipHasher13x128::new_with_key(&half(16)),
        }
    }

    /// The octets: a secret, for the wire and the saved state only.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        self.bytes
    }

    /// The fingerprint of a filed name in canonical form.
    #[must_use]
    pub fn fingerprint(&self, name: &str) -> Fingerprint {
        let bits = self.names.hash(name.as_bytes());
        // 0 marks an empty slot; the one name in 2^64 that hashes to it shares 1's fingerprint,
        // and a collision is the registry's to find.
        Fingerprint(bits.max(1))
    }

    /// An entry's share of the digest. `record` is as it travels: an odd record's side-table index is not part of it.
    #[must_use]
    pub fn element(&self, fingerprint: Fingerprint, record: PackedRecord, odd: Option<&str>) -> u128 {
        let mut hasher = self.elements;
        hasher.write_u64(fingerprint.0.to_le());
        hasher.write_u64(record.0.to_le());
        if let Some(text) = odd {
            hasher.write(text.as_bytes());
        }
        hasher.finish128().as_u128()
    }

    /// `element` of a whole entry.
    #[must_use]
    pub fn entry_element(&self, entry: &Entry) -> u128 {
        self.element(entry.fingerprint, entry.record, entry.odd.as_deref())
    }
}

impl PartialEq for EpochKey {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.bytes, &other.bytes).is_ok()
    }
}

impl Eq for EpochKey {}

impl std::fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochKey(secret)")
    }
}
