//! The checkpoint: a whole table in a file, a record for each part that holds anything.
//!
//! It is written while the table changes: a part is copied as it is at that moment, without any lock. What
//! comes out is a mixture of states, which the journal's records from its head's state on put right.

use super::disk::{Disk, Output};
use super::record::{
    Damage, Entries, Head, Kind, MAX_RECORD_BYTES, PREFIX_BYTES, Tail, body_bytes, open, put, seal, take,
    take_entries,
};
use crate::cache::FilingCache;
use crate::cache::table::{Built, PARTS, Rebuild, Table, Unfit};
use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Small parts are written together until they are this many octets.
const WRITE_BYTES: usize = if cfg!(test) { 256 } else { 1 << 20 };
/// Parts that make another thread worth its while.
const PARTS_PER_THREAD: usize = 64;
const MAX_THREADS: usize = 8;
/// The kind of the first record of a file of version 1.
const VERSION_1: u8 = b'S';
/// Longer heads there aren't: the provider's name is a text.
const MAX_HEAD_BYTES: usize = 1024;

/// A checkpoint on its way to the disk.
pub(super) struct Writing {
    output: Box<dyn Output>,
    octets: Vec<u8>,
    entries: Entries,
    filings: u64,
    written: u64,
}

impl Writing {
    pub(super) fn begin(disk: &dyn Disk, name: &str, head: &Head) -> io::Result<Self> {
        let output = disk.create(name)?;
        let mut octets = Vec::new();
        head.put(&mut octets, Kind::Checkpoint);
        Ok(Self { output, octets, entries: Entries::default(), filings: 0, written: 0 })
    }

    /// Copies a part as it is now.
    pub(super) fn part(&mut self, cache: &FilingCache, index: usize) -> io::Result<()> {
        let start = self.octets.len();
        let (octets, entries) = (&mut self.octets, &mut self.entries);
        let mut filings = 0;
        put(octets, Kind::Part, |octets| {
            octets.extend(u16::try_from(index).unwrap_or(u16::MAX).to_le_bytes());
            entries.begin(octets);
            cache.each_in_part(index, |fingerprint, record, odd| {
                entries.put(octets, fingerprint, record, odd);
                filings += 1;
            });
            entries.end(octets);
        });
        if filings == 0 {
            octets.truncate(start);
            return Ok(());
        }
        self.filings += filings;
        if octets.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    pub(super) fn filings(&self) -> u64 {
        self.filings
    }

    /// Ends it and makes sure of it; returns its length.
    pub(super) fn end(mut self, tail: &Tail) -> io::Result<u64> {
        tail.put(&mut self.octets);
        self.flush()?;
        self.output.sync()?;
        Ok(self.written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !seal(&mut self.octets) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a part is too long to be saved"));
        }
        self.output.write(&self.octets)?;
        self.written += u64::try_from(self.octets.len()).unwrap_or(u64::MAX);
        self.octets.clear();
        Ok(())
    }
}

/// What a checkpoint's file holds.
pub(super) struct Checkpoint {
    pub(super) head: Head,
    pub(super) tail: Tail,
    /// The mixture of the states between head and tail.
    pub(super) table: Table,
    pub(super) length: u64,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Unreadable {
    Damage(Damage),
    Io(io::Error),
    /// It is of version 1.
    Version1,
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Self {
        Self::Damage(damage)
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Damage(Damage::Truncated);
        }
        Self::Io(error)
    }
}

impl From<Unfit> for Unreadable {
    fn from(_: Unfit) -> Self {
        Self::Damage(Damage::Malformed("a filing that is out of place or comes twice"))
    }
}

/// Where a record's body is.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: usize,
}

impl Checkpoint {
    /// Reads the file, and checks each record and whose it is. Whether it adds up is for the journal to show.
    /// The table gets room for `expected` filings, should it hold fewer.
    pub(super) fn read(file: &File, provider: &str, expected: u64) -> Result<Self, Unreadable> {
        let length = file.metadata()?.len();
        let (first, kind) = place(file, 0, length)?;
        if kind == VERSION_1 {
            return Err(Unreadable::Version1);
        }
        if kind != Kind::Checkpoint as u8 || first.length > MAX_HEAD_BYTES {
            return Err(Damage::Version.into());
        }
        let mut body = Vec::new();
        let head = Head::take(body_of(file, first, &mut body)?.1)?;
        if *head.provider != *provider {
            return Err(Damage::Provider(head.provider).into());
        }
        let (parts, last) = parts(file, first, length)?;
        let tail = Tail::take(body_of(file, last, &mut body)?.1)?;
        let rebuild = Rebuild::new(head.key.clone(), tail.filings, expected);
        let table = rebuild_all(file, &parts, &rebuild)?;
        let mut table = rebuild.finish(table)?;
        if table.count() != tail.filings {
            return Err(Damage::Malformed("a part is missing").into());
        }
        table.set_position(head.begin.position);
        Ok(Self { head, tail, table, length })
    }
}

/// Where the parts' records are, by the parts' numbers, and the tail. The numbers are unchecked.
fn parts(file: &File, first: Place, length: u64) -> Result<(Vec<(usize, Place)>, Place), Unreadable> {
    let mut parts: Vec<(usize, Place)> = Vec::new();
    let mut offset = end(first);
    loop {
        let (found, kind) = place(file, offset, length)?;
        offset = end(found);
        if kind == Kind::Tail as u8 {
            return if offset == length { Ok((parts, found)) } else { Err(Damage::TooLong.into()) };
        }
        if kind != Kind::Part as u8 {
            return Err(Damage::Malformed("no part where one is expected").into());
        }
        let mut number = [0; 2];
        file.read_exact_at(&mut number, found.offset + 1)?;
        let number = usize::from(u16::from_le_bytes(number));
        if number >= PARTS || parts.last().is_some_and(|&(last, _)| last >= number) {
            return Err(Damage::Malformed("a part that does not follow").into());
        }
        parts.push((number, found));
    }
}

/// The record that begins at `offset`, and its kind, unchecked.
fn place(file: &File, offset: u64, length: u64) -> Result<(Place, u8), Unreadable> {
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact_at(&mut prefix, offset)?;
    let [head @ .., kind] = prefix;
    let found = Place { offset: offset + 4, length: body_bytes(head)? };
    if end(found) > length {
        return Err(Damage::Truncated.into());
    }
    Ok((found, kind))
}

fn end(place: Place) -> u64 {
    place.offset + u64::try_from(place.length).unwrap_or(u64::MAX)
}

fn body_of<'a>(file: &File, place: Place, into: &'a mut Vec<u8>) -> Result<(Kind, &'a [u8]), Unreadable> {
    debug_assert!(place.length <= MAX_RECORD_BYTES, "`body_bytes` saw to it");
    if into.len() < place.length {
        into.resize(place.length, 0);
    }
    let body = &mut into[..place.length];
    file.read_exact_at(body, place.offset)?;
    Ok(open(body)?)
}

/// Builds every segment, on as many threads as there are cores, this one among them.
fn rebuild_all(file: &File, parts: &[(usize, Place)], rebuild: &Rebuild) -> Result<Vec<Built>, Unreadable> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
    let segments: Vec<_> =
        parts.chunk_by(|one, next| rebuild.place_of(one.0) == rebuild.place_of(next.0)).collect();
    let helpers = (parts.len() / PARTS_PER_THREAD).min(cores - 1);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Built>, Unreadable> {
        let (mut body, mut built) = (Vec::new(), Vec::new());
        while let Some(parts) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            built.push(rebuild_one(file, parts, &mut body, rebuild)?);
        }
        Ok(built)
    };
    std::thread::scope(|scope| {
        let thread = || std::thread::Builder::new().name("load".into());
        // Where no thread can be had, the others do its part.
        let helpers: Vec<_> = (0..helpers).filter_map(|_| thread().spawn_scoped(scope, work).ok()).collect();
        let mut built = work();
        for helper in helpers {
            let more = helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            built = built.and_then(|mut built| {
                built.append(&mut more?);
                Ok(built)
            });
        }
        built
    })
}

fn rebuild_one(
    file: &File,
    parts: &[(usize, Place)],
    body: &mut Vec<u8>,
    rebuild: &Rebuild,
) -> Result<Built, Unreadable> {
    let misplaced = |_| Damage::Malformed("a filing that is out of place or comes twice");
    let first = parts.first().map_or(0, |part| part.0);
    let mut segment = rebuild.segment(rebuild.place_of(first));
    for &(part, place) in parts {
        let mut payload = body_of(file, place, body)?.1;
        let number = usize::from(u16::from_le_bytes(take(&mut payload)?));
        if number != part {
            return Err(Damage::Malformed("a part that changes while it is read").into());
        }
        take_entries(payload, |fingerprint, record, odd| {
            segment.add(part, fingerprint, record, odd).map_err(misplaced)
        })?;
    }
    Ok(segment.done()?)
}
