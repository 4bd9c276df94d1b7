//! Saved state: what is written is read, what is damaged is put aside.

use super::*;
use crate::feed::EpochKey;
use crate::filing::{FilingNumber, FilingRecord, Status};
use std::os::unix::fs::PermissionsExt;

const PROVIDER: &str = "example-cloud";

fn table() -> Table {
    let mut table = Table::new(EpochKey::from_bytes([3; 32]));
    for (seed, number) in
        ["京ICP备12345678号-1", "沪ICP证030173号", "粤ICP备2021123456号-2"].iter().enumerate()
    {
        let record = FilingRecord {
            status: Status::Connected,
            connected_elsewhere: seed == 1,
            access_under_review: false,
            number: Some(FilingNumber::parse(number).unwrap()),
        };
        table.put(&format!("n{seed}.cn"), &record);
    }
    table.set_position(crate::feed::Position { epoch: 4, seq: 9 });
    table
}

fn saved(directory: &Path) -> Vec<u8> {
    SavedState::open(directory).unwrap().save(PROVIDER, &table().copy(), 1234).unwrap();
    fs::read(directory.join(FILE)).unwrap()
}

#[test]
fn what_was_saved_is_what_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/data");
    let state = SavedState::open(&path).unwrap();
    assert!(state.load(PROVIDER).unwrap().is_none());
    state.save(PROVIDER, &table().copy(), 1234).unwrap();
    state.save(PROVIDER, &table().copy(), 5678).unwrap();
    let (loaded, synced_at_ms) = state.load(PROVIDER).unwrap().unwrap();
    assert_eq!((loaded.position(), loaded.count(), synced_at_ms), (table().position(), 3, 5678));
    assert_eq!(loaded.digest(), table().digest());
    for name in ["n0.cn", "n1.cn", "n2.cn", "n3.cn"] {
        assert_eq!(loaded.find(name), table().find(name), "{name}");
    }
    let mode = fs::metadata(path.join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!path.join(FILE_ASIDE).exists());
}

#[track_caller]
fn check_damaged(octets: &[u8], what: &str) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE), octets).unwrap();
    let state = SavedState::open(directory.path()).unwrap();
    let Err(SavedError::Damaged { moved_to: Some(bad), .. }) = state.load(PROVIDER) else {
        panic!("{what}: taken");
    };
    assert_eq!(bad.extension().unwrap(), "bad", "{what}");
    assert_eq!(fs::read(bad).unwrap(), octets, "{what}");
    assert!(state.load(PROVIDER).unwrap().is_none(), "{what}");
}

#[test]
fn a_damaged_file_is_never_taken_and_never_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let good = saved(directory.path());
    for length in 0..good.len() {
        check_damaged(&good[..length], &format!("cut to {length}"));
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        check_damaged(&bad, &format!("bit flipped in octet {at}"));
    }
    check_damaged(&[&good[..], &[0]].concat(), "one octet more");
    check_damaged(&[&good[..], &Frame::End.to_bytes()[..]].concat(), "one frame more");
    check_damaged(&good.repeat(2), "twice");
}

#[test]
fn another_provider_s_state_is_put_aside() {
    let directory = tempfile::tempdir().unwrap();
    saved(directory.path());
    let state = SavedState::open(directory.path()).unwrap();
    let error = state.load("another-cloud").unwrap_err().to_string();
    assert!(error.contains("for provider `example-cloud`") && error.contains(".bad"), "{error}");
}

#[test]
fn a_directory_belongs_to_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let first = SavedState::open(directory.path()).unwrap();
    let error = SavedState::open(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("lock is locked by another process") && error.contains("cache.directory"),
        "{error}"
    );
    drop(first);
    SavedState::open(directory.path()).unwrap();
}

#[test]
fn what_can_t_be_written_leaves_the_old_state_and_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let good = saved(directory.path());
    let state = SavedState::open(directory.path()).unwrap();
    // Whoever runs the test, a directory can't be replaced by a file.
    let obstacle = directory.path().join(FILE_ASIDE);
    fs::create_dir(&obstacle).unwrap();
    assert!(matches!(state.save(PROVIDER, &table().copy(), 9), Err(SavedError::Io { .. })));
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), good);
    fs::remove_dir(obstacle).unwrap();
    state.save(PROVIDER, &table().copy(), 9).unwrap();
    // A half-written file of a process that was killed is in nobody's way.
    fs::write(directory.path().join(FILE_ASIDE), b"half").unwrap();
    assert_eq!(state.load(PROVIDER).unwrap().unwrap().1, 9);
    state.save(PROVIDER, &table().copy(), 10).unwrap();
    assert_eq!(state.load(PROVIDER).unwrap().unwrap().1, 10);
}

#[test]
fn without_a_directory_memory_keeps_serving() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::write(&path, b"a file in the way").unwrap();
    let state = SavedState::open(&path).unwrap();
    assert!(state.save(PROVIDER, &table().copy(), 1).is_err());
    fs::remove_file(&path).unwrap();
    state.save(PROVIDER, &table().copy(), 1).unwrap();
    assert!(matches!(SavedState::open(&path), Err(SavedError::Locked { .. })));
}
