//! The audit log's file: lines are added whole or not at all, on stable storage before they count as written; rotated by
//! size and age, with the chain going on from file to file.
//!
//! Several processes may write one log (at a hand-over two do): each batch is added under the file's lock, and
//! whoever finds the file longer than it left it goes on from its last line. Beside the log stands its head
//! (`FILE.head`): number and hash of the last line, which tells when lines were cut off its end.

use super::chain::{LineHash, Link, MAX_LINE_BYTES, Place};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Times that the file is looked for anew where others rotate it meanwhile.
const MAX_REOPENS: usize = 8;

/// When a file is full, and what becomes of full ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Octets.
    pub bytes: u64,
    /// Since its first line.
    pub age: Duration,
    /// Full files that are kept; 0 keeps all.
    pub keep: usize,
}

/// What was found at the end of a log when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Octets of a line that a crash cut; they were taken away.
    pub torn_bytes: u64,
    /// Lines that the head knows of and the file does not hold.
    pub missing_lines: u64,
}

/// The log, open for adding.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Up to where the file is known.
    length: u64,
    end: Link,
    /// Number and time of the file's first line.
    first: Option<(u64, Timestamp)>,
    found: Found,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// The file that was full before it.
    pub(super) rotated: Option<PathBuf>,
    /// Why the head beside the log could not be written, where it could not.
    pub(super) head_error: Option<io::Error>,
}

/// `FILE.head`
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    seq: u64,
    hash: String,
}

impl Ledger {
    /// Opens the log, or begins one.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent)?;
        }
        let mut ledger = Self {
            path: path.to_owned(),
            rotation,
            file: append_to(path)?,
            length: 0,
            end: Link::START,
            first: None,
            found: Found::default(),
        };
        let head = read_head(path)?;
        ledger.end = head.unwrap_or(Link::START);
        ledger.lock()?;
        let caught_up = ledger.catch_up();
        ledger.file.unlock()?;
        caught_up?;
        ledger.found.missing_lines = head.map_or(0, |head| head.seq.saturating_sub(ledger.end.seq));
        Ok(ledger)
    }

    /// The last line.
    pub(super) fn end(&self) -> Link {
        self.end
    }

    /// What was found at the end since this was last asked.
    pub(super) fn take_found(&mut self) -> Found {
        std::mem::take(&mut self.found)
    }

    /// Adds a line for each event, all of them or none.
    pub(super) fn add(&mut self, events: &[(i64, String)], now: Timestamp) -> io::Result<Added> {
        self.lock()?;
        let added = self.add_locked(events, now);
        let unlocked = self.file.unlock();
        let added = added?;
        unlocked?;
        Ok(added)
    }

    fn add_locked(&mut self, events: &[(i64, String)], now: Timestamp) -> io::Result<Added> {
        self.catch_up()?;
        let rotated = if self.is_full(now) { Some(self.rotate()?) } else { None };
        let (mut end, mut lines) = (self.end, Vec::new());
        if let Some(from) = &rotated {
            let name = from.file_name().unwrap_or_default().to_string_lossy();
            let event = serde_json::json!({ "event": "rotated", "from": name });
            end.add(now.as_millisecond(), &event.to_string(), &mut lines);
        }
        for (at_ms, event) in events {
            end.add(*at_ms, event, &mut lines);
        }
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            // A part of a line would be taken for a break of the chain.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.first = self.first.or(Some((self.end.seq + 1, now)));
        self.length += lines.len() as u64;
        self.end = end;
        Ok(Added { rotated, head_error: self.write_head().err() })
    }

    /// Takes the lock of the file that stands under the path now.
    fn lock(&mut self) -> io::Result<()> {
        for _ in 0..MAX_REOPENS {
            match self.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            let ours = self.file.metadata()?;
            let is_there = |there: std::fs::Metadata| (there.dev(), there.ino()) == (ours.dev(), ours.ino());
            if std::fs::metadata(&self.path).is_ok_and(is_there) {
                return Ok(());
            }
            self.file.unlock()?;
            self.file = append_to(&self.path)?;
            (self.length, self.first) = (0, None);
        }
        Err(io::Error::other("the audit log is replaced again and again"))
    }

    /// Reads what others added, and takes away what a crash left of a line.
    fn catch_up(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        if length == self.length {
            return Ok(());
        }
        let (whole, last) = last_line(&mut self.file, length)?;
        if whole < length {
            self.file.set_len(whole)?;
            self.found.torn_bytes += length - whole;
        }
        if let Some(line) = last {
            let no_line = || io::Error::other("its last line is no line of an audit log; move the file away");
            let place = Place::of(&line).ok_or_else(no_line)?;
            self.end = Link { seq: place.seq, hash: LineHash::of(&line) };
            let first = first_line(&mut self.file)?;
            self.first = Some((first.seq, first.time));
        }
        self.length = whole;
        Ok(())
    }

    fn is_full(&self, now: Timestamp) -> bool {
        let age = |began: Timestamp| now.duration_since(began).unsigned_abs();
        self.length >= self.rotation.bytes
            || self.first.is_some_and(|(_, began)| age(began) >= self.rotation.age && began < now)
    }

    /// Puts the full file aside, by the numbers of its first and last line, and begins another under its name.
    fn rotate(&mut self) -> io::Result<PathBuf> {
        let first = self.first.map_or(self.end.seq, |(seq, _)| seq);
        let aside = with_suffix(&self.path, &format!(".{first:012}-{:012}", self.end.seq));
        std::fs::rename(&self.path, &aside)?;
        self.file = append_to(&self.path)?;
        match self.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        (self.length, self.first) = (0, None);
        // Another process may have been quicker to add to it.
        self.catch_up()?;
        self.forget_oldest();
        Ok(aside)
    }

    fn forget_oldest(&self) {
        let mut full = rotated(&self.path);
        let excess = if self.rotation.keep == 0 { 0 } else { full.len().saturating_sub(self.rotation.keep) };
        for path in full.drain(..excess) {
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!("[audit] keep: removed {}", path.display()),
                Err(error) => tracing::warn!(%error, "[audit] keep: can't remove {}", path.display()),
            }
        }
    }

    fn write_head(&self) -> io::Result<()> {
        let head = Head { seq: self.end.seq, hash: self.end.hash.to_string() };
        let (path, aside) = (head_path(&self.path), with_suffix(&self.path, ".head.new"));
        std::fs::write(&aside, serde_json::to_string(&head)? + "\n")?;
        std::fs::rename(aside, path)
    }
}

/// The full files of a log, oldest first.
#[must_use]
pub fn rotated(path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_full = |it: &str| {
        let range = it.strip_prefix(name).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        range.split_once('-').is_some_and(|(first, last)| {
            [first, last].iter().all(|seq| seq.len() >= 12 && seq.bytes().all(|it| it.is_ascii_digit()))
        })
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut full: Vec<_> =
        entries.filter(|it| it.file_name().to_str().is_some_and(is_full)).map(|it| it.path()).collect();
    full.sort();
    full
}

/// The last line that the head beside a log knows of.
///
/// # Errors
/// The system's, or that it is no head.
pub fn read_head(log: &Path) -> io::Result<Option<Link>> {
    let path = head_path(log);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let head: Option<Head> = serde_json::from_str(&text).ok();
    let link = head.and_then(|head| Some(Link { seq: head.seq, hash: LineHash::parse(&head.hash)? }));
    link.map(Some).ok_or_else(|| io::Error::other(format!("{} is no head of an audit log", path.display())))
}

fn head_path(log: &Path) -> PathBuf {
    with_suffix(log, ".head")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)
}

/// Where the last whole line ends, and that line without its newline.
fn last_line(file: &mut File, length: u64) -> io::Result<(u64, Option<Vec<u8>>)> {
    // The last whole line and what a crash left of another.
    let from = length.saturating_sub(2 * MAX_LINE_BYTES as u64);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(length - from).read_to_end(&mut tail)?;
    let Some(end) = memchr::memrchr(b'\n', &tail) else {
        return if from == 0 { Ok((0, None)) } else { Err(io::Error::other("it ends in no line")) };
    };
    let start = memchr::memrchr(b'\n', &tail[..end]).map_or(0, |at| at + 1);
    Ok((from + end as u64 + 1, Some(tail[start..end].to_vec())))
}

fn first_line(file: &mut File) -> io::Result<Place> {
    file.seek(SeekFrom::Start(0))?;
    let mut start = Vec::new();
    file.take(MAX_LINE_BYTES as u64).read_to_end(&mut start)?;
    let line = start.split(|octet| *octet == b'\n').next().unwrap_or_default();
    Place::of(line)
        .ok_or_else(|| io::Error::other("its first line is no line of an audit log; move the file away"))
}

#[cfg(test)]
mod tests;
