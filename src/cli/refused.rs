//! Rows of a file that rules refuse: a line each on standard error, in both languages, and a report where one is asked for.

use crate::registry::RefusedRow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Where refused rows are named.
#[derive(Default)]
pub(super) struct Refused {
    report: Option<BufWriter<File>>,
}

impl Refused {
    /// Names them in a new file too, one JSON object a line.
    pub(super) fn with_report(path: &Path) -> io::Result<Self> {
        Ok(Self { report: Some(BufWriter::new(File::create(path)?)) })
    }

    /// Names one.
    pub(super) fn name(&mut self, row: &RefusedRow) -> io::Result<()> {
        let RefusedRow { line, domain, rule, detail, detail_zh } = row;
        writeln!(io::stderr(), "line {line}: {domain}: {rule}: {detail_zh} / {detail}")?;
        let Some(report) = &mut self.report else { return Ok(()) };
        serde_json::to_writer(&mut *report, row)?;
        report.write_all(b"\n")
    }

    /// Ends the report.
    pub(super) fn end(self) -> io::Result<()> {
        match self.report {
            Some(mut report) => report.flush(),
            None => Ok(()),
        }
    }
}
