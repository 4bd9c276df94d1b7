//! Rows of a file, read and checked: alone by the rules, and against each other.

use super::{Format, ImportError, Source, Wanting, files, looked_up, maps, tables};
use crate::registry::batch::{MALFORMED_DOCUMENT, MAX_LINE_BYTES, Read as ReadLine, ResultLine, read_object};
use crate::registry::model::{Access, Action, Edit, Line};
use crate::registry::rules::{self, Refusal};
use crate::registry::store::{MARK_ROWS, Mark, STAGED_ROWS};
use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

/// Sets of accesses that are shared in memory: most files know a few.
const MAX_SHARED: usize = 32;

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedRow {
    /// Its line in the file, from 1.
    pub line: u64,
    /// The name as written.
    pub domain: String,
    /// The rule's name.
    pub rule: String,
    /// What would be right, in English.
    pub detail: String,
    /// The same in Chinese.
    pub detail_zh: String,
}

impl RefusedRow {
    pub(super) fn new(line: u64, domain: String, refusal: Refusal) -> Self {
        let Refusal { rule, detail, detail_zh } = refusal;
        Self { line, domain, rule: rule.to_owned(), detail, detail_zh }
    }

    /// A row that was refused when it was read.
    pub(super) fn of_read(row: ReadLine) -> Option<Self> {
        Some(Self::new(row.line, row.domain, row.edit.err()?))
    }

    /// From what a running registry said.
    pub(super) fn of_result(result: ResultLine) -> Self {
        Self {
            line: result.line,
            domain: result.domain,
            rule: result.rule.unwrap_or_default(),
            detail: result.detail.unwrap_or_default(),
            detail_zh: result.detail_zh.unwrap_or_default(),
        }
    }
}

/// What a reader of rows hands on.
pub(super) enum Handed {
    /// Rows up to this mark were set aside before: those that follow come after it. First, where marks were known.
    From(Option<Mark>),
    /// The next rows, and how far that is where it is to be marked.
    Rows(Vec<ReadLine>, Option<Mark>),
}

/// Reads rows and checks each by the rules; `take` is given some at a time, and says whether to go on. Rows that `known`
/// marks say are aside already are left out.
pub(super) fn read(
    source: Source,
    known: Vec<Mark>,
    take: impl FnMut(Handed) -> bool,
) -> Result<(), ImportError> {
    let Source { reader, format, path, wanting, .. } = source;
    let mut handed = Handing::new(known, take);
    // What rows come to depends on these too.
    handed.digest.update(format!("{format:?} {wanting:?}").as_bytes());
    match format {
        Format::Csv => tables::read(reader, &path, &wanting, &mut |row, text| handed.add(row, text))?,
        Format::Ndjson => read_ndjson(reader, &path, &wanting, &mut |row, text| handed.add(row, text))?,
        Format::Map => maps::read(reader, &path, &wanting, &mut |row, text| handed.add(row, text))?,
    }
    handed.end();
    Ok(())
}

/// Rows on their way.
struct Handing<T> {
    /// Over rows as they stand in the file.
    digest: Context,
    count: u64,
    /// Marks to come that may be met, and the last one that was.
    known: std::vec::IntoIter<Mark>,
    next: Option<Mark>,
    met: Option<Mark>,
    /// Rows since then while marks are being met, else those of the next run.
    rows: Vec<ReadLine>,
    is_meeting: bool,
    take: T,
}

impl<T: FnMut(Handed) -> bool> Handing<T> {
    fn new(known: Vec<Mark>, take: T) -> Self {
        let mut known = known.into_iter();
        let next = known.next();
        let (is_meeting, rows) = (next.is_some(), Vec::with_capacity(STAGED_ROWS));
        Self { digest: Context::new(&SHA256), count: 0, known, next, met: None, rows, is_meeting, take }
    }

    fn mark(&self, line: u64) -> Mark {
        Mark { rows: self.count, line, digest: self.digest.clone().finish().as_ref().to_vec() }
    }

    fn add(&mut self, row: ReadLine, text: &[u8]) -> bool {
        let line = row.line;
        self.digest.update(&text.len().to_le_bytes());
        self.digest.update(text);
        self.count += 1;
        self.rows.push(row);
        if self.is_meeting {
            return self.meet(line);
        }
        if self.rows.len() < STAGED_ROWS {
            return true;
        }
        let mark = self.count.is_multiple_of(MARK_ROWS).then(|| self.mark(line));
        self.hand(mark)
    }

    fn hand(&mut self, mark: Option<Mark>) -> bool {
        let rows = std::mem::replace(&mut self.rows, Vec::with_capacity(STAGED_ROWS));
        (self.take)(Handed::Rows(rows, mark))
    }

    /// Holds the rows so far against the next mark, where they are as many.
    fn meet(&mut self, line: u64) -> bool {
        let Some(next) = self.next.take_if(|it| it.rows <= self.count) else { return true };
        if next != self.mark(line) {
            return self.part();
        }
        self.rows.clear();
        self.met = Some(next);
        self.next = self.known.next();
        if self.next.is_some() { true } else { self.part() }
    }

    /// From here on the file is new.
    fn part(&mut self) -> bool {
        self.is_meeting = false;
        if !(self.take)(Handed::From(self.met.take())) {
            return false;
        }
        let held = std::mem::take(&mut self.rows);
        let last = held.len();
        let mut rows = held.into_iter().peekable();
        let mut handed = 0;
        while rows.peek().is_some() {
            let run: Vec<_> = rows.by_ref().take(STAGED_ROWS).collect();
            handed += run.len();
            let line = run.last().map_or(0, |it| it.line);
            let is_marked = handed == last && self.count.is_multiple_of(MARK_ROWS);
            let mark = is_marked.then(|| self.mark(line));
            if !(self.take)(Handed::Rows(run, mark)) {
                return false;
            }
        }
        true
    }

    fn end(&mut self) {
        // Whoever takes no more says why.
        let _ = !self.is_meeting || self.part();
        let _ = self.hand(None);
    }
}

/// Holds the rows of a small file against each other.
pub(super) fn checked(rows: Vec<ReadLine>, is_whole: bool) -> Vec<ReadLine> {
    let mut checked = Checked { is_whole, ..Checked::default() };
    let check = |ReadLine { line, domain, edit }| {
        let edit = edit.and_then(|edit| checked.fit(line, edit));
        ReadLine { line, domain, edit }
    };
    rows.into_iter().map(check).collect()
}

/// What later rows are held against.
#[derive(Default)]
struct Checked {
    /// Nothing of before counts, so that there is nothing to delete.
    is_whole: bool,
    names: HashMap<Arc<str>, u64>,
    sites: HashMap<Arc<str>, (Arc<Access>, u64)>,
    shared: Vec<Arc<Access>>,
}

impl Checked {
    /// Holds an edit against those before it.
    fn fit(&mut self, line: u64, mut edit: Edit) -> Result<Edit, Refusal> {
        if let Some(first) = self.names.insert(edit.domain.clone(), line) {
            return Err(rules::duplicate_domain(&edit.domain, first));
        }
        let Action::Put(document) = &mut edit.action else {
            return if self.is_whole { Err(rules::not_filed(&edit.domain)) } else { Ok(edit) };
        };
        document.access = self.share(&document.access);
        let Some(number) = document.site() else { return Ok(edit) };
        let (access, first) =
            self.sites.entry(number.clone()).or_insert_with(|| (document.access.clone(), line));
        if *access == document.access { Ok(edit) } else { Err(rules::site_access_conflict(number, *first)) }
    }

    fn share(&mut self, access: &Arc<Access>) -> Arc<Access> {
        if let Some(known) = self.shared.iter().find(|it| *it == access) {
            return known.clone();
        }
        if self.shared.len() < MAX_SHARED {
            self.shared.push(access.clone());
        }
        access.clone()
    }
}

fn read_ndjson(
    reader: impl BufRead,
    path: &Path,
    wanting: &Wanting,
    take: &mut impl FnMut(ReadLine, &[u8]) -> bool,
) -> Result<(), ImportError> {
    let mut lines = Lines::new(reader, path);
    while let Some(FileLine { number: line, octets: text, is_last }) = lines.next_line()? {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let row = read_row(line, text, wanting);
        if is_last && row.edit.as_ref().is_err_and(|it| it.rule == "malformed_json") {
            return Err(cut(line));
        }
        if !take(row, text) {
            return Ok(());
        }
    }
    Ok(())
}

/// A line of a file.
pub(super) struct FileLine<'l> {
    /// From 1.
    pub(super) number: u64,
    pub(super) octets: &'l [u8],
    /// Nothing ends it: whoever wrote it may have been cut off.
    pub(super) is_last: bool,
}

/// A file's lines, one at a time.
pub(super) struct Lines<'p, R> {
    reader: R,
    path: &'p Path,
    text: Vec<u8>,
    line: u64,
}

impl<'p, R: BufRead> Lines<'p, R> {
    pub(super) fn new(reader: R, path: &'p Path) -> Self {
        Self { reader, path, text: Vec::new(), line: 0 }
    }

    /// The next line; none after the last.
    ///
    /// # Errors
    /// Where the file can't be read, or a line is too long.
    pub(super) fn next_line(&mut self) -> Result<Option<FileLine<'_>>, ImportError> {
        self.text.clear();
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
        let length = self.reader.by_ref().take(most).read_until(b'\n', &mut self.text);
        if length.map_err(files::io_error(self.path))? == 0 {
            return Ok(None);
        }
        self.line += 1;
        if self.text.len() > MAX_LINE_BYTES {
            let detail = format!("line {} is longer than {MAX_LINE_BYTES} octets", self.line);
            return Err(ImportError::File(detail));
        }
        let is_last = self.text.last() != Some(&b'\n');
        Ok(Some(FileLine { number: self.line, octets: &self.text, is_last }))
    }
}

/// Reads one row: ours, or the ministry's look-up's.
fn read_row(line: u64, text: &[u8], wanting: &Wanting) -> ReadLine {
    match read_object::<Line>(text) {
        Err(refusal) if refusal.rule == MALFORMED_DOCUMENT => match looked_up::read(text) {
            Some((domain, told)) => ReadLine { line, domain, edit: told.and_then(|it| wanting.edit(it)) },
            None => ReadLine { line, domain: String::new(), edit: Err(refusal) },
        },
        Err(refusal) => ReadLine { line, domain: String::new(), edit: Err(refusal) },
        Ok(ours) => ReadLine { line, domain: ours.domain.clone(), edit: wanting.edit(ours) },
    }
}

/// A file without its end: what is missing can't be known.
pub(super) fn cut(line: u64) -> ImportError {
    ImportError::File(format!("the file seems to be cut off in its last row, on line {line}"))
}
