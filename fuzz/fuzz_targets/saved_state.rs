//! A saved state of any octets is refused or restored, and restored alike the next time.
//!
//! Input: the checkpoint's length (3, little-endian), the checkpoint, the journal that was begun with it. Checksums
//! are put right, so that what is in the records is looked at.

#![no_main]

use beian_gate::cache::saved;
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

const CHECKSUM: usize = 8;

/// In memory where there is such a place: two files for each input.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let shared = Path::new("/dev/shm");
    let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
    let directory = parent.join(format!("beian-gate-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory of our own");
    directory
});

fuzz_target!(|input: &[u8]| {
    let Some((length, files)) = input.split_first_chunk::<3>() else { return };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
    let Some((checkpoint, journal)) = files.split_at_checked(length) else { return };
    let write = |name: &str, octets: &[u8]| {
        std::fs::write(DIRECTORY.join(name), sealed(octets)).expect("there is room");
    };
    write("filings.state", checkpoint);
    write("filings.journal.1", journal);
    let read = || match saved::read(&DIRECTORY, "example-cloud") {
        Ok(found) => Ok(found.map(|(table, at_ms)| (table.position(), table.digest(), at_ms))),
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(read(), read());
});

/// With the checksums of as many whole records as there are.
fn sealed(octets: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    let mut rest = &mut octets[..];
    while let Some((head, after)) = rest.split_first_chunk_mut::<4>() {
        let length = u32::from_le_bytes(*head) as usize;
        if length < CHECKSUM || length > after.len() {
            break;
        }
        let (record, next) = after.split_at_mut(length);
        let (body, sum) = record.split_at_mut(length - CHECKSUM);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
        sum.copy_from_slice(&hash.as_ref()[..CHECKSUM]);
        rest = next;
    }
    octets
}
