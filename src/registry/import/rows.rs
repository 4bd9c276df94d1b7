//! Rows of a file, read and checked: alone by the rules, and against each other.

use super::{Format, ImportError, Source, files};
use crate::registry::batch::{MAX_LINE_BYTES, Read as ReadLine, ResultLine, read_line};
use crate::registry::model::{Access, Action, Edit, Line};
use crate::registry::rules::{self, Refusal};
use crate::registry::store::STAGED_ROWS;
use serde::Serialize;
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The columns that a CSV file may have; the first two it must have.
pub(super) const CSV_COLUMNS: [&str; 8] =
    ["domain", "number", "access", "state", "subject", "subject_type", "site_name", "public_security_number"];
const REQUIRED_COLUMNS: usize = 2;
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

/// Reads rows and checks each by the rules; `take` is given some at a time, and says whether to go on.
pub(super) fn read(source: Source, take: impl FnMut(Vec<ReadLine>) -> bool) -> Result<(), ImportError> {
    let mut handed = Handed { rows: Vec::with_capacity(STAGED_ROWS), take };
    match source.format {
        Format::Csv => read_csv(source.reader, &source.path, &mut |row| handed.add(row))?,
        Format::Ndjson => read_ndjson(source.reader, &source.path, &mut |row| handed.add(row))?,
    }
    handed.flush();
    Ok(())
}

/// Rows on their way.
struct Handed<T> {
    rows: Vec<ReadLine>,
    take: T,
}

impl<T: FnMut(Vec<ReadLine>) -> bool> Handed<T> {
    fn add(&mut self, row: ReadLine) -> bool {
        self.rows.push(row);
        self.rows.len() < STAGED_ROWS || self.flush()
    }

    fn flush(&mut self) -> bool {
        (self.take)(std::mem::replace(&mut self.rows, Vec::with_capacity(STAGED_ROWS)))
    }
}

/// Holds the rows of a small file against each other.
pub(super) fn checked(rows: Vec<ReadLine>) -> Vec<ReadLine> {
    let mut checked = Checked::default();
    let check = |ReadLine { line, domain, edit }| {
        let edit = edit.and_then(|edit| checked.fit(line, edit));
        ReadLine { line, domain, edit }
    };
    rows.into_iter().map(check).collect()
}

/// What later rows are held against.
#[derive(Default)]
struct Checked {
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
        let Action::Put(document) = &mut edit.action else { return Ok(edit) };
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
    mut reader: impl BufRead,
    path: &Path,
    take: &mut impl FnMut(ReadLine) -> bool,
) -> Result<(), ImportError> {
    let (mut text, mut line) = (Vec::new(), 0);
    loop {
        text.clear();
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
        let length = reader.by_ref().take(most).read_until(b'\n', &mut text);
        if length.map_err(files::io_error(path))? == 0 {
            return Ok(());
        }
        line += 1;
        let is_cut = text.last() != Some(&b'\n');
        if text.len() > MAX_LINE_BYTES {
            return Err(ImportError::File(format!("line {line} is longer than {MAX_LINE_BYTES} octets")));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let row = read_line(line, &text);
        if is_cut && row.edit.as_ref().is_err_and(|it| it.rule == "malformed_json") {
            return Err(cut(line));
        }
        if !take(row) {
            return Ok(());
        }
    }
}

/// A file without its end: what is missing can't be known.
fn cut(line: u64) -> ImportError {
    ImportError::File(format!("the file seems to be cut off in its last row, on line {line}"))
}

/// What passes, and whether the last of it ended a line.
struct Ending<R> {
    reader: R,
    ends_line: Arc<AtomicBool>,
}

impl<R: Read> Read for Ending<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(into)?;
        if let Some(last) = into[..read].last() {
            self.ends_line.store(*last == b'\n', Ordering::Relaxed);
        }
        Ok(read)
    }
}

fn read_csv(
    reader: impl BufRead,
    path: &Path,
    take: &mut impl FnMut(ReadLine) -> bool,
) -> Result<(), ImportError> {
    let ends_line = Arc::<AtomicBool>::default();
    let reader = Ending { reader, ends_line: ends_line.clone() };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(reader);
    let broken = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => files::io_error(path)(error),
        other => ImportError::File(format!("not CSV as it should be: {other:?}")),
    };
    let header = reader.byte_headers().map_err(broken)?;
    let (fields, columns) = (header.len(), columns(header)?);
    let mut record = csv::ByteRecord::new();
    // The last row is looked at once it is known to be the last.
    let mut held: Option<(ReadLine, bool)> = None;
    while reader.read_byte_record(&mut record).map_err(broken)? {
        if let Some((row, _)) = held.take()
            && !take(row)
        {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: usize| columns[column].and_then(|at| record.get(at)).unwrap_or_default();
        let domain = String::from_utf8_lossy(field(0)).into_owned();
        let edit = if record.len() == fields { csv_edit(&field) } else { Err(field_count(fields, &record)) };
        let has_lines = edit.is_err() && record.as_slice().contains(&b'\n');
        held = Some((ReadLine { line, domain, edit }, has_lines));
    }
    let Some((row, has_lines)) = held else { return Ok(()) };
    // A quote that is never closed takes all that follows into one field.
    if row.edit.is_err() && (has_lines || !ends_line.load(Ordering::Relaxed)) {
        return Err(cut(row.line));
    }
    take(row);
    Ok(())
}

fn field_count(expected: usize, record: &csv::ByteRecord) -> Refusal {
    let found = record.len();
    Refusal::new(
        "wrong_field_count",
        format!("the row has {found} fields, and the header names {expected}"),
        format!("该行有 {found} 个字段，表头有 {expected} 个"),
    )
}

/// Where each of `CSV_COLUMNS` is.
fn columns(header: &csv::ByteRecord) -> Result<[Option<usize>; CSV_COLUMNS.len()], ImportError> {
    let mut columns = [None; CSV_COLUMNS.len()];
    for (at, name) in header.iter().enumerate() {
        // What spreadsheets put before the first column's name.
        let name = String::from_utf8_lossy(name.strip_prefix("\u{feff}".as_bytes()).unwrap_or(name));
        let Some(column) = CSV_COLUMNS.iter().position(|it| *it == name.trim()) else {
            return Err(ImportError::File(format!(
                "unknown column `{name}`; the columns are {}",
                CSV_COLUMNS.join(", ")
            )));
        };
        if columns[column].replace(at).is_some() {
            return Err(ImportError::File(format!("column `{name}` is there twice")));
        }
    }
    match columns[..REQUIRED_COLUMNS].iter().position(Option::is_none) {
        Some(missing) => Err(ImportError::File(format!(
            "column `{}` is missing; the first line names the columns: {} (the first two are required)",
            CSV_COLUMNS[missing],
            CSV_COLUMNS.join(", ")
        ))),
        None => Ok(columns),
    }
}

fn csv_edit<'r>(field: &impl Fn(usize) -> &'r [u8]) -> Result<Edit, Refusal> {
    let text = |column: usize| -> Result<Option<String>, Refusal> {
        let octets = field(column);
        match std::str::from_utf8(octets) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Refusal::new(
                "not_utf8",
                "the row is not UTF-8: save the file as UTF-8",
                "该行不是 UTF-8 编码，请将文件另存为 UTF-8",
            )),
        }
    };
    let state = match text(3)? {
        Some(state) => Some(state.parse().map_err(|error: crate::filing::FilingStateError| {
            Refusal::new("invalid_state", format!("`{state}`: {error}"), format!("`{state}` 不是有效的状态"))
        })?),
        None => None,
    };
    rules::edit(Line {
        domain: text(0)?.unwrap_or_default(),
        number: text(1)?,
        access: text(2)?.map(|it| csv_access(&it)).transpose()?,
        state,
        subject: text(4)?,
        subject_type: text(5)?,
        site_name: text(6)?,
        public_security_number: text(7)?,
        ..Line::default()
    })
}

/// `provider=active;other=cancelled`
fn csv_access(text: &str) -> Result<Access, Refusal> {
    let mut access = Access::default();
    for part in text.split(';').map(str::trim).filter(|it| !it.is_empty()) {
        let parsed =
            part.split_once('=').and_then(|(id, state)| Some((id.trim(), state.trim().parse().ok()?)));
        let is_new = parsed.is_some_and(|(id, state)| access.0.insert(id.to_owned(), state).is_none());
        if !is_new {
            return Err(Refusal::new(
                "invalid_access",
                format!(
                    "`{part}`: access is `provider=active;other=cancelled`, each provider once, in state active, cancelled or under_review"
                ),
                format!("`{part}` 无效：接入信息的写法为 `provider=active;other=cancelled`"),
            ));
        }
    }
    Ok(access)
}
