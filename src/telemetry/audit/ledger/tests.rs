//! The ledger on a real disk: crashes, full files, two writers.

use super::*;
use crate::telemetry::audit::verify::Verifier;

const ROTATION: Rotation = Rotation { bytes: 1 << 20, age: Duration::from_secs(3600), keep: 0 };

fn event(nth: usize) -> (i64, String) {
    (now().as_millisecond(), format!(r#"{{"event":"end","nth":{nth}}}"#))
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

#[track_caller]
fn check_chain(path: &Path, lines: u64) {
    let mut verifier = Verifier::default();
    for file in rotated(path).iter().chain([&path.to_owned()]) {
        verifier.file(&std::fs::read(file).unwrap()[..], |_| {}).unwrap().unwrap();
    }
    assert_eq!(verifier.end().map_or(0, |end| end.seq), lines);
    assert_eq!(read_head(path).unwrap(), verifier.end());
}

#[test]
fn the_chain_goes_on_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/audit.log");
    let mut ledger = Ledger::open(&path, ROTATION).unwrap();
    ledger.add(&[event(1), event(2)], now()).unwrap();
    drop(ledger);
    let mut file = append_to(&path).unwrap();
    file.write_all(br#"{"seq":3,"time":"20"#).unwrap();
    let mut ledger = Ledger::open(&path, ROTATION).unwrap();
    assert_eq!(ledger.take_found(), Found { torn_bytes: 19, missing_lines: 0 });
    ledger.add(&[event(3)], now()).unwrap();
    check_chain(&path, 3);
}

#[test]
fn lines_that_were_cut_off_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let mut ledger = Ledger::open(&path, ROTATION).unwrap();
    (0..3).for_each(|nth| _ = ledger.add(&[event(nth)], now()).unwrap());
    let text = std::fs::read_to_string(&path).unwrap();
    let first = text.split_inclusive('\n').next().unwrap();
    std::fs::write(&path, first).unwrap();
    let mut ledger = Ledger::open(&path, ROTATION).unwrap();
    assert_eq!(ledger.take_found(), Found { torn_bytes: 0, missing_lines: 2 });
    std::fs::write(&path, "no audit log\n").unwrap();
    assert!(Ledger::open(&path, ROTATION).unwrap_err().to_string().contains("no line of an audit log"));
}

#[test]
fn full_files_are_put_aside_and_anchored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let small = Rotation { bytes: 200, ..ROTATION };
    let mut ledger = Ledger::open(&path, small).unwrap();
    for nth in 0..10 {
        ledger.add(&[event(nth), event(nth)], now()).unwrap();
    }
    let full = rotated(&path);
    assert!(full.len() > 3 && full[0].to_str().unwrap().ends_with("audit.log.000000000001-000000000002"));
    check_chain(&path, 20 + full.len() as u64);
    let old = now() + jiff::SignedDuration::from_hours(2);
    let mut ledger = Ledger::open(&path, ROTATION).unwrap();
    assert!(ledger.add(&[event(0)], old).unwrap().rotated.is_some(), "an old file is full as well");
    let mut ledger = Ledger::open(&path, Rotation { keep: 2, ..small }).unwrap();
    (0..3).for_each(|nth| _ = ledger.add(&[event(nth), event(nth)], now()).unwrap());
    assert_eq!(rotated(&path).len(), 2);
}

#[test]
fn two_writers_keep_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let small = Rotation { bytes: 1000, ..ROTATION };
    let (mut one, mut other) = (Ledger::open(&path, small).unwrap(), Ledger::open(&path, small).unwrap());
    for nth in 0..20 {
        one.add(&[event(nth)], now()).unwrap();
        other.add(&[event(nth)], now()).unwrap();
        other.add(&[event(nth)], now()).unwrap();
    }
    check_chain(&path, 60 + rotated(&path).len() as u64);
    one.lock().unwrap();
    assert_eq!(other.add(&[event(0)], now()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
