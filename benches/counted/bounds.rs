//! The bounds: what each part cost when they were last written, and what is said where one costs more.

use crate::{TIMES, all, valgrind};
use std::fmt::Write as _;
use std::process::ExitCode;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counted.txt");
/// Percent that a part may cost above what it did: another compiler or processor is not another program.
const SLACK_PERCENT: u64 = 10;
const HEAD: &str = "\
# What the parts of a request cost: instructions each time in test builds, in release builds, and allocations in 200
# times. Written by `cargo test --bench counted -- update` and `cargo bench --bench counted -- update`.
";

/// A part's bound; 0 instructions: not counted yet.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Bound {
    in_tests: u64,
    in_releases: u64,
    allocations: u64,
}

impl Bound {
    fn of(text: &str, part: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix(part)?.strip_prefix(' '))?;
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self { in_tests: next()?, in_releases: next()?, allocations: next()? })
    }

    fn instructions(&mut self) -> &mut u64 {
        if cfg!(debug_assertions) { &mut self.in_tests } else { &mut self.in_releases }
    }
}

/// The most that may be where it was so much.
fn most(was: u64) -> u64 {
    was + was * SLACK_PERCENT / 100
}

/// Counts every part and holds it against its bound, or writes the bounds.
pub(crate) fn check(updates: bool) -> ExitCode {
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    let allocations = all();
    let instructions = valgrind::instructions(allocations.len());
    if instructions.is_none() {
        let is_needed = updates || std::env::var_os("CI").is_some();
        eprintln!("SKIPPED: instructions are not counted, for valgrind (a Debian package) is not installed");
        if is_needed {
            return ExitCode::FAILURE;
        }
    }
    let (mut written, mut complaints) = (HEAD.to_owned(), Vec::new());
    for (index, (part, allocations)) in allocations.into_iter().enumerate() {
        let instructions = instructions.as_ref().map(|all| all[index] / TIMES as u64);
        let mut bound = Bound::of(&text, part).unwrap_or_default();
        let shown = instructions.map_or("not counted".to_owned(), |count| format!("{count:>7} instructions"));
        eprintln!("{part:22} {shown}, {allocations:>5} allocations in {TIMES}");
        let now = (*bound.instructions(), bound.allocations);
        for (what, is, was) in [
            ("instructions each time", instructions.unwrap_or(0), now.0),
            ("allocations in all times", allocations, now.1),
        ] {
            if is > most(was) {
                complaints
                    .push(format!("{part}: {is} {what}; it was {was} and may be {} at most", most(was)));
            }
        }
        *bound.instructions() = instructions.unwrap_or(0);
        bound.allocations = allocations;
        let _ = writeln!(written, "{part} {} {} {}", bound.in_tests, bound.in_releases, bound.allocations);
    }
    if updates {
        std::fs::write(FILE, written).expect("the bounds can be written");
        return ExitCode::SUCCESS;
    }
    for complaint in &complaints {
        eprintln!("TOO MUCH: {complaint}");
    }
    if complaints.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "what got dearer on purpose: `cargo test --bench counted -- update`, and say why in the commit"
    );
    ExitCode::FAILURE
}
