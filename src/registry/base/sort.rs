//! Sorts any number of entries in bounded memory: by the highest bits into buckets, which go to disk when
//! they grow, then each by itself.

use super::{BaseError, Directory};
use crate::feed::{Digest, Entry, EpochKey, Fingerprint};
use crate::filing::PackedRecord;
use bytes::{Buf, BufMut};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// How many of the highest bits choose a bucket. A hundred million filings come to 40 MiB a bucket.
const BUCKET_BITS: u32 = 6;
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Octets of a bucket in memory: with all of them 64 MiB.
const MAX_HELD_BYTES: usize = 1 << 20;

/// Takes entries in any order, gives them sorted.
#[derive(Debug)]
pub(in crate::registry) struct Sorter {
    key: EpochKey,
    path: PathBuf,
    buckets: Vec<Bucket>,
    /// Entries so far.
    pub(in crate::registry) count: u64,
    /// Over all of them.
    pub(in crate::registry) digest: Digest,
}

#[derive(Debug, Default)]
struct Bucket {
    held: Vec<u8>,
    spilt: Option<File>,
}

impl Sorter {
    /// Sorts entries of this provider under this key, with files in `directory`.
    pub(in crate::registry) fn new(directory: &Directory, provider: &str, key: EpochKey) -> Self {
        Self {
            key,
            path: directory.path_of(provider, super::NEW_ENDING),
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            count: 0,
            digest: Digest::default(),
        }
    }

    /// Takes an entry.
    pub(in crate::registry) fn push(&mut self, entry: &Entry) -> Result<(), BaseError> {
        self.count += 1;
        self.digest.add(self.key.entry_element(entry));
        let at = usize::try_from(entry.fingerprint.0 >> (u64::BITS - BUCKET_BITS)).unwrap_or_default();
        let bucket = &mut self.buckets[at];
        bucket.held.put_u64_le(entry.fingerprint.0);
        bucket.held.put_u64_le(entry.record.0);
        if let Some(text) = &entry.odd {
            bucket.held.put_u16_le(u16::try_from(text.len()).expect("a filing number is short"));
            bucket.held.put_slice(text.as_bytes());
        }
        if bucket.held.len() < MAX_HELD_BYTES {
            return Ok(());
        }
        bucket.spill(&self.path).map_err(|source| BaseError::Io { path: self.path.clone(), source })
    }

    /// Gives all of them, sorted.
    pub(in crate::registry) fn sorted(
        self,
        mut take: impl FnMut(Entry) -> Result<(), BaseError>,
    ) -> Result<(), BaseError> {
        let Self { buckets, path, .. } = self;
        std::thread::scope(|scope| {
            // The next bucket is sorted while this one is taken.
            let (send, sorted) = std::sync::mpsc::sync_channel(0);
            // Whoever takes no more says why.
            let sort = move || {
                let _ = buckets.into_iter().map(Bucket::sorted).try_for_each(|it| send.send(it));
            };
            let thread = std::thread::Builder::new().name("sort".into()).spawn_scoped(scope, sort);
            thread.map_err(|source| BaseError::Io { path: path.clone(), source })?;
            for entries in sorted {
                let entries = entries.map_err(|source| BaseError::Io { path: path.clone(), source })?;
                entries.into_iter().try_for_each(&mut take)?;
            }
            Ok(())
        })
    }
}

impl Bucket {
    fn spill(&mut self, path: &std::path::Path) -> std::io::Result<()> {
        let file = match &mut self.spilt {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                let file =
                    options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
                // It lives as long as it is open, and nothing is left to be cleared away.
                std::fs::remove_file(path)?;
                none.insert(file)
            }
        };
        file.write_all(&self.held)?;
        self.held.clear();
        Ok(())
    }

    fn sorted(self) -> std::io::Result<Vec<Entry>> {
        let mut octets = Vec::new();
        if let Some(mut file) = self.spilt {
            file.rewind()?;
            file.read_to_end(&mut octets)?;
        }
        octets.extend_from_slice(&self.held);
        let (mut rest, mut entries) = (&octets[..], Vec::with_capacity(octets.len() / 16));
        while !rest.is_empty() {
            entries.push(read(&mut rest).ok_or(std::io::ErrorKind::InvalidData)?);
        }
        entries.sort_unstable_by_key(|it| it.fingerprint);
        Ok(entries)
    }
}

fn read(from: &mut &[u8]) -> Option<Entry> {
    let fingerprint = Fingerprint(from.try_get_u64_le().ok()?);
    let record = PackedRecord(from.try_get_u64_le().ok()?);
    let mut odd = None;
    if record.is_odd() {
        let length = usize::from(from.try_get_u16_le().ok()?);
        odd = Some(std::str::from_utf8(from.get(..length)?).ok()?.into());
        from.advance(length);
    }
    Some(Entry { fingerprint, record, odd })
}
