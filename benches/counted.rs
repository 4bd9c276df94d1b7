//! What a request and its parts cost in instructions and allocations, held against bounds: `cargo test` runs it, as tests
//! are built, so that a slowdown can't slip in. Counted by valgrind, never timed: a busy machine does not show.
//!
//! ```text
//! cargo test --bench counted               # as continuous integration does
//! cargo test --bench counted -- update     # writes the bounds of test builds anew
//! cargo bench --bench counted              # the same for release builds
//! ```
//!
//! Bounds are in `counted.txt`. Where valgrind is missing, allocations alone are looked at, and that is said; with `CI`
//! set it is an error.

#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "counted/bounds.rs"]
mod bounds;
#[path = "counted/parts.rs"]
mod parts;
#[path = "counted/path.rs"]
mod path;
#[path = "counted/valgrind.rs"]
mod valgrind;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::process::ExitCode;

/// Times that a part is done before what counts.
const WARM: usize = 50;
/// Times that count.
const TIMES: usize = 200;
/// The word that makes this program do the parts, for valgrind to look on.
const MEASURE: &str = "measure";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| !one.starts_with("--")).collect();
    match arguments.first().map(String::as_str) {
        Some(MEASURE) => {
            all();
            ExitCode::SUCCESS
        }
        Some("update") => bounds::check(true),
        None => bounds::check(false),
        // Filters, as `cargo test FILTER` gives them to every program of tests.
        Some(_) if arguments.iter().any(|filter| "counted".contains(filter.as_str())) => bounds::check(false),
        Some(_) => ExitCode::SUCCESS,
    }
}

/// Does every part; gives what each took from the heap.
fn all() -> Vec<(&'static str, u64)> {
    let mut counts = Vec::new();
    parts::all(&mut counts);
    path::all(&mut counts);
    counts
}

/// Counts what its thread takes from the heap.
struct Counting;

thread_local! {
    static TAKEN: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    TAKEN.set(TAKEN.get() + 1);
}

// SAFETY: all is passed on to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, octets: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, octets) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// valgrind collects while this runs.
#[inline(never)]
fn collected(what: &mut dyn FnMut()) {
    what();
    black_box(());
}

/// What counts begins or ends here: valgrind hands out what it has collected and begins anew. Gives the allocations of
/// this thread since the last.
#[inline(never)]
fn boundary() -> u64 {
    black_box(TAKEN.replace(0))
}
