//! Filings to a file that an import reads back identically.

use super::files::{Target, io_error, is_standard};
use super::tables::CSV_COLUMNS;
use super::wanting::text_of;
use super::{Format, ImportError};
use crate::registry::model::{Document, Line};
use crate::registry::{Registry, StoreError};
use std::io::{self, Write};
use std::path::Path;

/// Rows between two calls of `progress`.
const PROGRESS_ROWS: u64 = 1000;

/// Writes every filing to `path` (`-` is standard output, as CSV); a file takes its name once it is whole.
///
/// # Errors
/// Where the database or the file fails.
pub async fn export_to(
    registry: &Registry,
    path: &Path,
    progress: impl FnMut(u64) + Send,
) -> Result<u64, ImportError> {
    let failed = io_error(path);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".partial");
    let temporary = Path::new(&temporary);
    let (mut target, format) = Target::create(path, temporary)?;
    let rows = export(registry, format, &mut target, progress).await?;
    target.finish().map_err(&failed)?;
    if !is_standard(path) {
        std::fs::rename(temporary, path).map_err(&failed)?;
    }
    Ok(rows)
}

/// Writes every filing to `out`, by name; says how many.
///
/// # Errors
/// Where the database or `out` fails.
pub async fn export(
    registry: &Registry,
    format: Format,
    out: &mut (impl Write + Send),
    mut progress: impl FnMut(u64) + Send,
) -> Result<u64, ImportError> {
    let mut rows = 0;
    let mut failed = None;
    let mut writer = Writer::begin(format, out).map_err(io_error(Path::new("the export")))?;
    let scanned = registry.store.scan(|domain, stored| {
        if let Err(error) = writer.write(&domain, &stored.document) {
            failed = Some(error);
            return Err(StoreError::Corrupt("the export's file failed".to_owned()));
        }
        rows += 1;
        if rows % PROGRESS_ROWS == 0 {
            progress(rows);
        }
        Ok(())
    });
    let scanned = scanned.await;
    if let Some(error) = failed {
        return Err(io_error(Path::new("the export"))(error));
    }
    scanned?;
    writer.finish().map_err(io_error(Path::new("the export")))?;
    progress(rows);
    Ok(rows)
}

enum Writer<'a, W: Write> {
    Csv(Box<csv::Writer<&'a mut W>>),
    Ndjson(&'a mut W),
    Map(&'a mut W),
}

impl<'a, W: Write> Writer<'a, W> {
    fn begin(format: Format, out: &'a mut W) -> io::Result<Self> {
        match format {
            Format::Ndjson => Ok(Self::Ndjson(out)),
            Format::Map => Ok(Self::Map(out)),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(CSV_COLUMNS).map_err(io::Error::other)?;
                Ok(Self::Csv(Box::new(writer)))
            }
        }
    }

    fn write(&mut self, domain: &str, document: &Document) -> io::Result<()> {
        match self {
            Self::Csv(writer) => {
                let about = &document.about;
                let text = |it: &'_ Option<Box<str>>| it.as_deref().unwrap_or_default().to_owned();
                let record = [
                    domain.to_owned(),
                    document.number.as_deref().unwrap_or_default().to_owned(),
                    text_of(&document.access),
                    document.state.as_str().to_owned(),
                    text(&about.subject),
                    text(&about.subject_type),
                    text(&about.site_name),
                    text(&about.public_security_number),
                ];
                writer.write_record(record).map_err(io::Error::other)
            }
            Self::Ndjson(out) => {
                serde_json::to_writer(&mut **out, &Line::of(domain, document))?;
                out.write_all(b"\n")
            }
            // What has no number stands in no map.
            Self::Map(out) => match document.site() {
                Some(number) => writeln!(out, "{domain} {number}"),
                None => Ok(()),
            },
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Csv(mut writer) => writer.flush(),
            Self::Ndjson(out) | Self::Map(out) => out.flush(),
        }
    }
}
