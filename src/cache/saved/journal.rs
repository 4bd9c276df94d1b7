//! The journal: what happened since a checkpoint began, batch by batch, appended to a file.
//!
//! A journal follows a state, which its head names. It is read up to the last whole record; what comes after
//! was never made sure of. Nothing is appended to a journal that an error or a crash may have left torn.

use super::disk::{Disk, Output};
use super::record::{Damage, Head, Kind, body_bytes, is_same, open, put, put_summary, seal, take_summary};
use crate::cache::pending::Taken;
use crate::feed::{EpochKey, Summary};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const PREFIX: &str = "filings.journal.";
const READ_BYTES: usize = 1 << 18;

/// The name of the journal with this number.
pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number}")
}

/// The number of the journal with this name.
pub(super) fn number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.parse().ok()?;
    // Only the form that is written: `+1` and `01` are nobody's.
    (self::name(number) == name).then_some(number)
}

/// A journal that is being written.
pub(super) struct Journal {
    output: Box<dyn Output>,
    pub(super) number: u64,
    pub(super) key: EpochKey,
    /// The state that it leads to.
    pub(super) last: Summary,
    head_bytes: u64,
    pub(super) length: u64,
}

impl Journal {
    /// Begins one, and makes sure of it.
    pub(super) fn create(disk: &dyn Disk, head: &Head) -> io::Result<Self> {
        let mut octets = Vec::new();
        head.put(&mut octets, Kind::Journal);
        seal(&mut octets);
        let mut output = disk.create(&name(head.number))?;
        output.write(&octets)?;
        output.sync()?;
        disk.sync_names()?;
        let length = u64::try_from(octets.len()).unwrap_or(u64::MAX);
        let (number, key, last) = (head.number, head.key.clone(), head.begin);
        Ok(Self { output, number, key, last, head_bytes: length, length })
    }

    /// Goes on with one that was read to its end.
    pub(super) fn resume(disk: &dyn Disk, read: &End, key: &EpochKey, last: Summary) -> io::Result<Self> {
        let output = disk.append(&name(read.number), read.length)?;
        Ok(Self { output, number: read.number, key: key.clone(), last, head_bytes: 0, length: read.length })
    }

    /// Whether what was taken follows the state that this journal leads to.
    pub(super) fn is_continued_by(&self, taken: &Taken) -> bool {
        taken.base.is_some_and(|base| is_same(&base, &self.last)) && taken.key == self.key
    }

    /// Appends what happened, and makes sure of it. After an error nothing may be appended any more.
    pub(super) fn append(&mut self, taken: Taken) -> io::Result<()> {
        let mut octets = taken.records;
        if octets.is_empty() && self.last == taken.now {
            return Ok(());
        }
        put(&mut octets, Kind::Mark, |octets| put_summary(octets, &taken.now));
        if !seal(&mut octets) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "changes are too long to be saved"));
        }
        self.output.write(&octets)?;
        self.output.sync()?;
        self.length += u64::try_from(octets.len()).unwrap_or(u64::MAX);
        self.last = taken.now;
        Ok(())
    }

    /// Octets of records after the head of one that was begun here.
    pub(super) fn record_bytes(&self) -> u64 {
        self.length - self.head_bytes
    }
}

/// How many filings there are at a journal's end, by its last record: a hint, for nothing else is looked at.
pub(super) fn filings_at_end(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let mut octets = Vec::new();
    put(&mut octets, Kind::Mark, |octets| put_summary(octets, &Summary::default()));
    let start = file.metadata().ok()?.len().checked_sub(octets.len().try_into().ok()?)?;
    file.read_exact_at(&mut octets, start).ok()?;
    match open(&octets[4..]) {
        Ok((Kind::Mark, mut payload)) => Some(take_summary(&mut payload).ok()?.count),
        _ => None,
    }
}

/// Where reading a journal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub(super) number: u64,
    /// Octets of whole records.
    pub(super) length: u64,
    /// Whether nothing follows them.
    pub(super) is_clean: bool,
}

/// A journal that is being read.
pub(super) struct Reading {
    file: BufReader<File>,
    /// Octets that are not read yet, of those that were there when it was opened.
    left: u64,
    offset: u64,
    body: Vec<u8>,
}

/// What comes next in a journal.
pub(super) enum Next<'a> {
    Record(Kind, &'a [u8]),
    /// Nothing.
    End,
    /// A record that was not written to its end.
    Torn,
    /// Something that was never written like this.
    Damaged(Damage),
}

impl Reading {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let left = file.metadata()?.len();
        let file = BufReader::with_capacity(READ_BYTES, file);
        Ok(Self { file, left, offset: 0, body: Vec::new() })
    }

    /// Octets of the records so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn next(&mut self) -> io::Result<Next<'_>> {
        if self.left == 0 {
            return Ok(Next::End);
        }
        if self.left < 4 {
            return Ok(Next::Torn);
        }
        let mut head = [0; 4];
        self.file.read_exact(&mut head)?;
        let length = match body_bytes(head) {
            Ok(length) => length,
            Err(Damage::Length(0)) if self.is_zero_to_the_end()? => return Ok(Next::Torn),
            Err(damage) => return Ok(Next::Damaged(damage)),
        };
        let whole = 4 + u64::try_from(length).unwrap_or(u64::MAX);
        if self.left < whole {
            return Ok(Next::Torn);
        }
        self.body.resize(length, 0);
        self.file.read_exact(&mut self.body)?;
        match open(&self.body) {
            Ok((kind, payload)) => {
                self.left -= whole;
                self.offset += whole;
                Ok(Next::Record(kind, payload))
            }
            // A file system may have made room for what it had no time to write.
            Err(_) if self.body.iter().all(|&octet| octet == 0) => Ok(Next::Torn),
            Err(damage) => Ok(Next::Damaged(damage)),
        }
    }

    fn is_zero_to_the_end(&mut self) -> io::Result<bool> {
        let mut octets = vec![0; READ_BYTES];
        loop {
            match self.file.read(&mut octets)? {
                0 => return Ok(true),
                read if octets[..read].iter().any(|&octet| octet != 0) => return Ok(false),
                _ => {}
            }
        }
    }
}
