//! One provider's state at one position, as a file of a snapshot's very octets that can also be read by range.
//!
//! Entries are sorted by fingerprint. A frame holds whole ranges where they are small, so that one can be
//! read alone; which frames a range lies in is kept in memory. Nothing of a file is trusted before all of it
//! was read and added up. Files are only ever made whole (temporary, synced, renamed), and are never changed.

mod sort;
mod write;

pub(super) use sort::Sorter;
pub(super) use write::BaseWriter;

use crate::feed::{
    Digest, Entry, EpochKey, Fingerprint, Frame, FrameReader, MAX_FRAME_BYTES, Position, RANGES, Summary,
    fingerprints_in, range_of,
};
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file is called behind its provider.
const ENDING: &str = "base";
/// And before it is whole.
const NEW_ENDING: &str = "base.new";

/// Why there is no base.
#[derive(Debug, thiserror::Error)]
pub(super) enum BaseError {
    /// The epoch's key must go.
    #[error("two names have one fingerprint")]
    Collision,
    /// The disk's fault.
    #[error("can't read or write {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Whoever gives the entries did not come to an end.
    #[error("the filings could not be read to their end")]
    BrokeOff,
    /// The file is not what it says it is.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged { path: PathBuf, problem: &'static str },
}

/// Whose state at which position, under which key.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) provider: Box<str>,
    pub(super) key: EpochKey,
    pub(super) summary: Summary,
}

impl Head {
    fn frame(&self) -> Frame {
        Frame::Snapshot { provider: self.provider.clone(), key: self.key.clone(), summary: self.summary }
    }
}

/// A file that was written or read whole.
#[derive(Debug)]
pub(super) struct Base {
    head: Head,
    file: File,
    path: PathBuf,
    index: Index,
    length: u64,
    etag: String,
}

/// Where ranges are, and what they add up to.
#[derive(Debug)]
struct Index {
    /// Each frame of entries: where it begins, and how long it is.
    frames: Vec<(u64, u32)>,
    /// Each range's first frame and the one after its last.
    ranges: Vec<(u32, u32)>,
    digests: Vec<Digest>,
    count: u64,
    last: Fingerprint,
}

impl Index {
    fn new() -> Self {
        Self {
            frames: Vec::new(),
            ranges: vec![(0, 0); RANGES],
            digests: vec![Digest::default(); RANGES],
            count: 0,
            last: Fingerprint(0),
        }
    }

    /// Takes the next frame's entries; false where they are out of order.
    fn take(&mut self, key: &EpochKey, entries: &[Entry], offset: u64, length: u32) -> bool {
        let number = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        self.frames.push((offset, length));
        for entry in entries {
            if entry.fingerprint <= self.last {
                return false;
            }
            self.last = entry.fingerprint;
            self.count += 1;
            let range = range_of(entry.fingerprint);
            self.digests[range].add(key.entry_element(entry));
            let (first, end) = &mut self.ranges[range];
            if *end == 0 {
                *first = number;
            }
            *end = number + 1;
        }
        true
    }

    fn adds_up_to(&self, summary: &Summary) -> bool {
        (self.count, sum(&self.digests)) == (summary.count, summary.digest)
    }
}

/// All ranges' digests together.
pub(super) fn sum(ranges: &[Digest]) -> Digest {
    let mut digest = Digest::default();
    ranges.iter().for_each(|it| digest.add(it.0));
    digest
}

impl Base {
    /// Opens the provider's file, if there is one, and reads all of it.
    pub(super) fn open(directory: &Directory, provider: &str) -> Result<Option<Self>, BaseError> {
        let path = directory.path_of(provider, ENDING);
        let io = |source| BaseError::Io { path: path.clone(), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let damaged = |problem| BaseError::Damaged { path: path.clone(), problem };
        let mut frames = Frames { input: &file, path: &path, offset: 0 };
        let Some((Frame::Snapshot { provider: named, key, summary }, ..)) = frames.next()? else {
            return Err(damaged("no head"));
        };
        if *named != *provider {
            return Err(damaged("another provider's"));
        }
        let mut index = Index::new();
        loop {
            match frames.next()? {
                Some((Frame::Entries(entries), offset, length)) => {
                    if !index.take(&key, &entries, offset, length) {
                        return Err(damaged("out of order"));
                    }
                }
                Some((Frame::End, ..)) => break,
                _ => return Err(damaged("no end")),
            }
        }
        if frames.next()?.is_some() || !index.adds_up_to(&summary) {
            return Err(damaged("does not add up"));
        }
        let length = frames.offset;
        let head = Head { provider: named, key, summary };
        Ok(Some(Self::whole(head, file, path, index, length)))
    }

    fn whole(head: Head, file: File, path: PathBuf, index: Index, length: u64) -> Self {
        // The head has the key and a time: no two files that differ begin alike.
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &head.frame().to_bytes());
        let tag = crate::hexadecimal::hexadecimal(&hash.as_ref()[..16]);
        Self { head, file, path, index, length, etag: format!("\"{tag}\"") }
    }

    /// Whose state, where.
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// The digest over each range.
    pub(super) fn digests(&self) -> &[Digest] {
        &self.index.digests
    }

    /// Octets of the whole.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Names these very octets (RFC 9110 §8.8.3, strong).
    pub(super) fn etag(&self) -> &str {
        &self.etag
    }

    /// Octets from `offset` on, at most `most`. Blocks.
    pub(super) fn octets(&self, offset: u64, most: usize) -> Result<Vec<u8>, BaseError> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut octets = vec![0; left.min(most)];
        self.file.read_exact_at(&mut octets, offset).map_err(|source| self.io(source))?;
        Ok(octets)
    }

    fn io(&self, source: std::io::Error) -> BaseError {
        BaseError::Io { path: self.path.clone(), source }
    }

    /// A frame as it travels. Blocks.
    fn frame_octets(&self, number: u32) -> Result<Vec<u8>, BaseError> {
        let at = usize::try_from(number).ok().and_then(|it| self.index.frames.get(it));
        let &(offset, length) =
            at.ok_or_else(|| BaseError::Damaged { path: self.path.clone(), problem: "no such frame" })?;
        self.octets(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// A frame's entries. Blocks.
    fn frame(&self, number: u32) -> Result<Vec<Entry>, BaseError> {
        let mut reader = FrameReader::default();
        reader.push(&self.frame_octets(number)?);
        match reader.next_frame() {
            Ok(Some(Frame::Entries(entries))) => Ok(entries),
            _ => Err(BaseError::Damaged { path: self.path.clone(), problem: "a frame is broken" }),
        }
    }

    /// Reads ranges one after another.
    pub(super) fn ranges(self: &Arc<Self>) -> RangeReader {
        RangeReader { base: self.clone(), held: None }
    }

    /// Whether any of these is the fingerprint of a filed name. Blocks.
    pub(super) fn has_any(&self, mut wanted: Vec<Fingerprint>) -> Result<bool, BaseError> {
        wanted.sort_unstable();
        let mut held: Vec<(u32, Vec<Fingerprint>)> = Vec::new();
        for of_range in wanted.chunk_by(|a, b| range_of(*a) == range_of(*b)) {
            let Some(range) = of_range.first().map(|it| range_of(*it)) else { continue };
            let (first, end) = self.index.ranges[range];
            held.retain(|(number, _)| (first..end).contains(number));
            for number in first..end {
                if !held.iter().any(|it| it.0 == number) {
                    held.push((number, self.fingerprints(number)?));
                }
            }
            let is_filed = |it: &Fingerprint| held.iter().any(|(_, filed)| filed.binary_search(it).is_ok());
            if of_range.iter().any(is_filed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A frame's fingerprints, sorted. Blocks.
    fn fingerprints(&self, number: u32) -> Result<Vec<Fingerprint>, BaseError> {
        let damaged = |_| BaseError::Damaged { path: self.path.clone(), problem: "a frame is broken" };
        fingerprints_in(&self.frame_octets(number)?).map_err(damaged)
    }
}

/// Reads ranges; a frame that several lie in is read once, where they are asked for in order.
#[derive(Debug)]
pub(super) struct RangeReader {
    base: Arc<Base>,
    held: Option<(u32, Vec<Entry>)>,
}

impl RangeReader {
    /// Gives every entry of the range, sorted. Blocks.
    pub(super) fn each(&mut self, range: usize, mut take: impl FnMut(&Entry)) -> Result<(), BaseError> {
        let (first, end) = self.base.index.ranges[range];
        for number in first..end {
            let entries = match self.held.take() {
                Some((held, entries)) if held == number => entries,
                _ => self.base.frame(number)?,
            };
            let start = entries.partition_point(|it| range_of(it.fingerprint) < range);
            entries[start..].iter().take_while(|it| range_of(it.fingerprint) == range).for_each(&mut take);
            self.held = Some((number, entries));
        }
        Ok(())
    }
}

/// Frames of a file, one at a time, each with its place.
struct Frames<'a> {
    input: &'a File,
    path: &'a Path,
    offset: u64,
}

impl Frames<'_> {
    fn next(&mut self) -> Result<Option<(Frame, u64, u32)>, BaseError> {
        let damaged = |problem| BaseError::Damaged { path: self.path.to_owned(), problem };
        let io = |source| BaseError::Io { path: self.path.to_owned(), source };
        let mut head = [0; 4];
        let got = self.input.read(&mut head).map_err(io)?;
        if got == 0 {
            return Ok(None);
        }
        self.input.read_exact(&mut head[got..]).map_err(io)?;
        let length = u32::from_le_bytes(head);
        if usize::try_from(length).is_ok_and(|length| length > MAX_FRAME_BYTES) {
            return Err(damaged("a frame is too long"));
        }
        let mut octets = head.to_vec();
        self.input.take(u64::from(length)).read_to_end(&mut octets).map_err(io)?;
        let mut reader = FrameReader::default();
        reader.push(&octets);
        let Ok(Some(frame)) = reader.next_frame() else { return Err(damaged("a frame is broken")) };
        let place = self.offset;
        self.offset += u64::from(length) + 4;
        Ok(Some((frame, place, length + 4)))
    }
}

/// The directory that bases are in. Only the owner may enter: they hold the key.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// The one at this path; made where it is missing, and freed of what is not whole or of another epoch.
    pub(super) fn open(path: &Path, epoch: u64) -> Result<Self, BaseError> {
        let directory = Self(path.to_owned());
        match DirBuilder::new().mode(0o700).create(&directory.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(directory.io(error)),
            _ => {}
        }
        for name in directory.names(|it| it.ends_with(&format!(".{NEW_ENDING}")))? {
            directory.remove(&name)?;
        }
        directory.keep_epoch(epoch)?;
        Ok(directory)
    }

    /// Removes bases of other epochs.
    pub(super) fn keep_epoch(&self, epoch: u64) -> Result<(), BaseError> {
        for name in self.names(is_base)? {
            if self.position_of(&name)?.map(|it| it.epoch) != Some(epoch) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Whether a base is of a later position than this one of its epoch.
    pub(super) fn is_ahead_of(&self, seq: u64) -> Result<bool, BaseError> {
        let positions = self.names(is_base)?.into_iter().map(|name| self.position_of(&name));
        Ok(positions.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().any(|it| it.seq > seq))
    }

    fn io(&self, source: std::io::Error) -> BaseError {
        BaseError::Io { path: self.0.clone(), source }
    }

    fn path_of(&self, provider: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{provider}.{ending}"))
    }

    /// Removes bases of other providers than these, where there are more than `most`.
    pub(super) fn prune(&self, kept: &[Box<str>], most: usize) -> Result<(), BaseError> {
        let names = self.names(is_base)?;
        if names.len() <= most {
            return Ok(());
        }
        let is_kept = |name: &str| kept.iter().any(|it| name == format!("{it}.{ENDING}"));
        names.iter().filter(|it| !is_kept(it)).try_for_each(|it| self.remove(it))
    }

    fn names(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<String>, BaseError> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(|error| self.io(error))? {
            let name = entry.map_err(|error| self.io(error))?.file_name();
            names.extend(name.to_str().filter(|it| is_wanted(it)).map(str::to_owned));
        }
        Ok(names)
    }

    /// The position in a base's head; `None` where the head can't be read.
    fn position_of(&self, name: &str) -> Result<Option<Position>, BaseError> {
        let path = self.0.join(name);
        let file = File::open(&path).map_err(|source| BaseError::Io { path: path.clone(), source })?;
        match (Frames { input: &file, path: &path, offset: 0 }).next() {
            Ok(Some((Frame::Snapshot { summary, .. }, ..))) => Ok(Some(summary.position)),
            _ => Ok(None),
        }
    }

    fn remove(&self, name: &str) -> Result<(), BaseError> {
        std::fs::remove_file(self.0.join(name)).map_err(|error| self.io(error))
    }
}

fn is_base(name: &str) -> bool {
    name.ends_with(&format!(".{ENDING}"))
}
