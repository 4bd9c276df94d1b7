//! Columns for people: as wide as what stands in them, Chinese characters counted double.

use crate::config::text_width;
use std::io::{self, Write};

/// Writes rows with two spaces between columns; the last column is not padded.
pub(super) fn write<const N: usize>(out: &mut impl Write, rows: &[[&str; N]]) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| text_width(row[column])).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width + 2 - text_width(cell)));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_stand_below_each_other() {
        let mut out = Vec::new();
        super::write(&mut out, &[["a", "京ICP备1号", "x"], ["bcd", "-", ""]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "a    京ICP备1号  x\nbcd  -\n");
    }
}
