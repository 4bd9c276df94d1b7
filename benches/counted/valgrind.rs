//! This program once more, with valgrind looking on.

use crate::MEASURE;
use std::path::Path;
use std::process::Command;

/// Instructions of each part, in order; `None` where there is no valgrind.
pub(crate) fn instructions(parts: usize) -> Option<Vec<u64>> {
    let directory = tempfile::tempdir().expect("a directory for what valgrind writes");
    let out = directory.path().join("out");
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--toggle-collect=*counted::collected*",
            "--dump-before=*counted::boundary*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(this)
        .arg(MEASURE)
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("valgrind: {error}"),
    };
    assert!(output.status.success(), "valgrind: {}", String::from_utf8_lossy(&output.stderr));
    // Each part lies between two boundaries: the second of two dumps is its.
    Some((1..=parts).map(|part| total(&directory.path().join(format!("out.{}", part * 2)))).collect())
}

/// What a dump sums up to.
fn total(dump: &Path) -> u64 {
    let text = std::fs::read_to_string(dump).unwrap_or_else(|error| panic!("{}: {error}", dump.display()));
    let sums =
        text.lines().filter_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    sums.filter_map(|sum| sum.trim().parse().ok()).max().unwrap_or_else(|| panic!("no sum in {text}"))
}
