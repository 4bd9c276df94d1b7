//! Rows of CSV: our own columns, and those of the ministry's look-up.

use super::looked_up::{self, LookedUp};
use super::rows::cut;
use super::wanting::access_of;
use super::{ImportError, Wanting, files};
use crate::registry::batch::Read as ReadLine;
use crate::registry::model::{Edit, Line};
use crate::registry::rules::Refusal;
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const NOT_UTF8: &str = "not_utf8";
/// The columns that an export writes.
pub(super) const CSV_COLUMNS: [&str; 8] =
    ["domain", "number", "access", "state", "subject", "subject_type", "site_name", "public_security_number"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Domain,
    Number,
    Access,
    State,
    Subject,
    SubjectType,
    SiteName,
    PublicSecurityNumber,
    /// What follows is the ministry's: the subject's number, or on some of its pages the site's.
    MainLicence,
    Nature,
    LimitAccess,
    UpdatedAt,
}

const COLUMNS: usize = Column::UpdatedAt as usize + 1;

/// What columns are called: ours, then the headings and JSON names of the ministry's look-up.
const NAMES: &[(&str, Option<Column>)] = &[
    ("domain", Some(Column::Domain)),
    ("number", Some(Column::Number)),
    ("access", Some(Column::Access)),
    ("state", Some(Column::State)),
    ("subject", Some(Column::Subject)),
    ("subject_type", Some(Column::SubjectType)),
    ("site_name", Some(Column::SiteName)),
    ("public_security_number", Some(Column::PublicSecurityNumber)),
    ("网站域名", Some(Column::Domain)),
    ("域名", Some(Column::Domain)),
    ("serviceLicence", Some(Column::Number)),
    ("网站备案/许可证号", Some(Column::Number)),
    ("网站备案号", Some(Column::Number)),
    ("服务备案/许可证号", Some(Column::Number)),
    ("接入商", Some(Column::Access)),
    ("unitName", Some(Column::Subject)),
    ("主办单位名称", Some(Column::Subject)),
    ("网站名称", Some(Column::SiteName)),
    ("公安备案号", Some(Column::PublicSecurityNumber)),
    ("mainLicence", Some(Column::MainLicence)),
    ("ICP备案/许可证号", Some(Column::MainLicence)),
    ("主体备案号", Some(Column::MainLicence)),
    ("natureName", Some(Column::Nature)),
    ("主办单位性质", Some(Column::Nature)),
    ("limitAccess", Some(Column::LimitAccess)),
    ("是否限制接入", Some(Column::LimitAccess)),
    ("updateRecordTime", Some(Column::UpdatedAt)),
    ("审核日期", Some(Column::UpdatedAt)),
    ("审核通过日期", Some(Column::UpdatedAt)),
    ("更新时间", Some(Column::UpdatedAt)),
    // Told by the look-up, and nothing that a filing has here.
    ("序号", None),
    ("操作", None),
    ("contentTypeName", None),
    ("domainId", None),
    ("leaderName", None),
    ("mainId", None),
    ("serviceId", None),
    ("网站负责人姓名", None),
    ("网站前置审批项", None),
    ("网站首页网址", None),
    ("服务类型", None),
];

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

/// Reads rows until `take` has enough.
pub(super) fn read(
    reader: impl BufRead,
    path: &Path,
    wanting: &Wanting,
    take: &mut impl FnMut(ReadLine, &[u8]) -> bool,
) -> Result<(), ImportError> {
    let ends_line = Arc::<AtomicBool>::default();
    let reader = Ending { reader, ends_line: ends_line.clone() };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(reader);
    let broken = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => files::io_error(path)(error),
        other => ImportError::File(format!("not CSV as it should be: {other:?}")),
    };
    let header = reader.byte_headers().map_err(broken)?;
    let (fields, columns) = (header.len(), columns(header, wanting)?);
    // The first row is told from that of another file with other columns too.
    let mut text = unambiguous(header);
    let mut record = csv::ByteRecord::new();
    // The last row is looked at once it is known to be the last.
    let mut held: Option<(ReadLine, Damage)> = None;
    while reader.read_byte_record(&mut record).map_err(broken)? {
        if let Some((row, _)) = held.take()
            && !take(row, &std::mem::take(&mut text))
        {
            return Ok(());
        }
        let line = record.position().map_or(0, csv::Position::line);
        let field =
            |column: Column| columns[column as usize].and_then(|at| record.get(at)).unwrap_or_default();
        let domain = String::from_utf8_lossy(field(Column::Domain)).into_owned();
        let edit =
            if record.len() == fields { edit(&field, wanting) } else { Err(field_count(fields, &record)) };
        let damage = Damage {
            has_lines: record.as_slice().contains(&b'\n'),
            is_short: record.len() < fields || edit.as_ref().is_err_and(|it| it.rule == NOT_UTF8),
        };
        text.extend(unambiguous(&record));
        held = Some((ReadLine { line, domain, edit }, damage));
    }
    let Some((row, damage)) = held else { return Ok(()) };
    // A quote that is never closed takes all that follows into one field.
    let is_cut = damage.has_lines || (damage.is_short && !ends_line.load(Ordering::Relaxed));
    if row.edit.is_err() && is_cut {
        return Err(cut(row.line));
    }
    take(row, &text);
    Ok(())
}

/// Fields as octets that no other fields have.
fn unambiguous(record: &csv::ByteRecord) -> Vec<u8> {
    let mut octets = Vec::with_capacity(record.as_slice().len() + record.len() * size_of::<u64>());
    for field in record {
        octets.extend_from_slice(&(field.len() as u64).to_le_bytes());
        octets.extend_from_slice(field);
    }
    octets
}

/// What tells a row that is cut off from one that is wrong.
struct Damage {
    has_lines: bool,
    is_short: bool,
}

fn field_count(expected: usize, record: &csv::ByteRecord) -> Refusal {
    let found = record.len();
    Refusal::new(
        "wrong_field_count",
        format!("the row has {found} fields, and the header names {expected}"),
        format!("该行有 {found} 个字段，表头有 {expected} 个"),
    )
}

/// Where each column is.
fn columns(header: &csv::ByteRecord, wanting: &Wanting) -> Result<[Option<usize>; COLUMNS], ImportError> {
    let mut columns = [None; COLUMNS];
    for (at, name) in header.iter().enumerate() {
        // What spreadsheets put before the first column's name.
        let name = String::from_utf8_lossy(name.strip_prefix("\u{feff}".as_bytes()).unwrap_or(name));
        let Some((_, column)) = NAMES.iter().find(|(known, _)| *known == name.trim()) else {
            return Err(ImportError::File(format!(
                "unknown column `{name}`; the columns are {}, or those of the ministry's look-up (docs/operations.md)",
                CSV_COLUMNS.join(", ")
            )));
        };
        let Some(column) = column else { continue };
        if columns[*column as usize].replace(at).is_some() {
            return Err(ImportError::File(format!("column `{name}` is there twice, or under two names")));
        }
    }
    let has = |column: Column| columns[column as usize].is_some();
    let has_number = has(Column::Number) || has(Column::MainLicence) || wanting.number.is_some();
    let missing = match (has(Column::Domain), has_number) {
        (false, _) => "domain",
        (true, false) => "number",
        (true, true) => return Ok(columns),
    };
    Err(ImportError::File(format!(
        "column `{missing}` is missing; the first line names the columns: {} (the first two are required)",
        CSV_COLUMNS.join(", ")
    )))
}

fn edit<'r>(field: &impl Fn(Column) -> &'r [u8], wanting: &Wanting) -> Result<Edit, Refusal> {
    let text = |column: Column| -> Result<Option<String>, Refusal> {
        match std::str::from_utf8(field(column)) {
            Ok("") => Ok(None),
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Refusal::new(
                NOT_UTF8,
                "the row is not UTF-8: save the file as UTF-8",
                "该行不是 UTF-8 编码，请将文件另存为 UTF-8",
            )),
        }
    };
    let state = match text(Column::State)? {
        Some(state) => Some(state.parse().map_err(|error: crate::filing::FilingStateError| {
            Refusal::new("invalid_state", format!("`{state}`: {error}"), format!("`{state}` 不是有效的状态"))
        })?),
        None => None,
    };
    let line = Line {
        domain: text(Column::Domain)?.unwrap_or_default(),
        number: text(Column::Number)?,
        access: text(Column::Access)?.map(|it| access_of(&it)).transpose()?,
        state,
        subject: text(Column::Subject)?,
        subject_type: text(Column::SubjectType)?,
        site_name: text(Column::SiteName)?,
        public_security_number: text(Column::PublicSecurityNumber)?,
        ..Line::default()
    };
    let told = LookedUp {
        main_licence: text(Column::MainLicence)?,
        nature: text(Column::Nature)?,
        limit_access: text(Column::LimitAccess)?,
        updated_at: text(Column::UpdatedAt)?,
    };
    wanting.edit(looked_up::line(line, &told)?)
}
