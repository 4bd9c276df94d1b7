//! Rows of a file, read and checked: alone by the rules, and against each other.

use super::{Format, ImportError, files};
use crate::registry::batch::{MAX_LINE_BYTES, Read as ReadLine, ResultLine, read_line};
use crate::registry::model::{Access, Action, Edit, Line};
use crate::registry::rules::{self, Refusal};
use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;

/// The columns that a CSV file may have; the first two it must have.
pub(super) const CSV_COLUMNS: [&str; 8] =
    ["domain", "number", "access", "state", "subject", "subject_type", "site_name", "public_security_number"];
const REQUIRED_COLUMNS: usize = 2;
/// Rows between two calls of `progress`.
const PROGRESS_ROWS: u64 = 1000;
/// Sets of accesses that are shared in memory: most files know a few.
const MAX_SHARED: usize = 32;

/// A row that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
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

    /// From what a running registry said of a line of the batch; `numbers` has the file's lines.
    pub(super) fn of_result(result: ResultLine, numbers: &[u64]) -> Self {
        let at = usize::try_from(result.line.saturating_sub(1)).unwrap_or(usize::MAX);
        Self {
            line: numbers.get(at).copied().unwrap_or(result.line),
            domain: result.domain,
            rule: result.rule.unwrap_or_default(),
            detail: result.detail.unwrap_or_default(),
            detail_zh: result.detail_zh.unwrap_or_default(),
        }
    }
}

/// The rows of a file, every one of them let through by the rules.
#[derive(Debug)]
pub struct Rows {
    pub(super) edits: Vec<(u64, Edit)>,
}

impl Rows {
    /// Reads a file (`-` is standard input); `progress` is told the rows read so far.
    ///
    /// # Errors
    /// `Refused` with every row that breaks a rule.
    pub fn read(path: &Path, progress: impl FnMut(u64)) -> Result<Self, ImportError> {
        let (reader, format) = files::open(path)?;
        Self::parse(reader, format, progress)
    }

    /// Reads rows in `format`.
    ///
    /// # Errors
    /// `Refused` with every row that breaks a rule.
    pub fn parse(
        reader: impl BufRead,
        format: Format,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, ImportError> {
        let mut checked = Checked::default();
        let mut take = |row: ReadLine| {
            checked.add(row);
            if checked.rows % PROGRESS_ROWS == 0 {
                progress(checked.rows);
            }
        };
        match format {
            Format::Csv => read_csv(reader, &mut take)?,
            Format::Ndjson => read_ndjson(reader, &mut take)?,
        }
        progress(checked.rows);
        if checked.refused.is_empty() {
            Ok(Self { edits: checked.edits })
        } else {
            Err(ImportError::Refused(checked.refused))
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

/// Rows so far, with what later ones are held against.
#[derive(Default)]
struct Checked {
    rows: u64,
    edits: Vec<(u64, Edit)>,
    refused: Vec<RefusedRow>,
    names: HashMap<Arc<str>, u64>,
    sites: HashMap<Arc<str>, (Arc<Access>, u64)>,
    shared: Vec<Arc<Access>>,
}

impl Checked {
    fn add(&mut self, row: ReadLine) {
        self.rows += 1;
        let ReadLine { line, domain, edit } = row;
        match edit.and_then(|edit| self.fit(line, edit)) {
            Ok(edit) => self.edits.push((line, edit)),
            Err(refusal) => self.refused.push(RefusedRow::new(line, domain, refusal)),
        }
    }

    /// Holds an edit against those before it: the last one would win silently otherwise.
    fn fit(&mut self, line: u64, mut edit: Edit) -> Result<Edit, Refusal> {
        if let Some(first) = self.names.insert(edit.domain.clone(), line) {
            return Err(Refusal::new(
                "duplicate_domain",
                format!("`{}` is on line {first} already; leave one of the two out", edit.domain),
                format!("`{}` 已在第 {first} 行出现，请去掉其中一行", edit.domain),
            ));
        }
        let Action::Put(document) = &mut edit.action else { return Ok(edit) };
        document.access = self.share(&document.access);
        let Some(number) = document.site() else { return Ok(edit) };
        let (access, first) =
            self.sites.entry(number.clone()).or_insert_with(|| (document.access.clone(), line));
        if *access == document.access {
            return Ok(edit);
        }
        Err(Refusal::new(
            "site_access_conflict",
            format!("access holds for the whole site: line {first} gives {number} other accesses"),
            format!("接入信息对整个网站有效：第 {first} 行为 {number} 填写了不同的接入信息"),
        ))
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

fn read_ndjson(mut reader: impl BufRead, take: &mut impl FnMut(ReadLine)) -> Result<(), ImportError> {
    let (mut text, mut line) = (Vec::new(), 0);
    loop {
        text.clear();
        let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX) + 1;
        let length = reader.by_ref().take(most).read_until(b'\n', &mut text);
        if length.map_err(files::io_error(Path::new("the import")))? == 0 {
            return Ok(());
        }
        line += 1;
        if text.len() > MAX_LINE_BYTES {
            return Err(ImportError::File(format!("line {line} is longer than {MAX_LINE_BYTES} octets")));
        }
        if !text.trim_ascii().is_empty() {
            take(read_line(line, &text));
        }
    }
}

fn read_csv(reader: impl BufRead, take: &mut impl FnMut(ReadLine)) -> Result<(), ImportError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(reader);
    let broken = |error: csv::Error| ImportError::File(format!("not CSV as it should be: {error}"));
    let columns = columns(reader.byte_headers().map_err(broken)?)?;
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(broken)? {
        let line = record.position().map_or(0, csv::Position::line);
        let field = |column: usize| columns[column].and_then(|at| record.get(at)).unwrap_or_default();
        let domain = String::from_utf8_lossy(field(0)).into_owned();
        take(ReadLine { line, domain, edit: csv_edit(&field) });
    }
    Ok(())
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
