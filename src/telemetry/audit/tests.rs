//! The writer's thread: what is told is written, and what can't be is recorded as lost.

use super::*;

const ROTATION: Rotation = Rotation { bytes: 1 << 20, age: Duration::from_secs(3600), keep: 0 };

fn begin(found: Found) -> AuditEvent {
    AuditEvent::Begin {
        version: "0",
        provider: "p".to_owned(),
        gate: "g".to_owned(),
        pid: 1,
        config: None,
        torn_bytes: found.torn_bytes,
        missing_lines: found.missing_lines,
    }
}

fn events(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_told_is_written_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let thread = AuditThread::start(&path, ROTATION, begin).unwrap();
    let sink = thread.sink();
    let turned = Turned {
        domain: "\u{202e}x\"\n.cn".into(),
        verdict: "unfiled",
        listener: "[::1]:80".parse().unwrap(),
    };
    sink.turned_away(turned.clone(), 1);
    sink.turned_away(turned, 3);
    sink.others_turned_away(2);
    thread.finish();
    let expected = ["begin", "blocked", "blocked_again", "blocked_others", "end"];
    assert_eq!(events(&path), expected);
    assert_eq!(sink.state().lines.load(Ordering::Relaxed), 5);
    assert_eq!(sink.state().head(), read_head(&path).unwrap());
    sink.tell(AuditEvent::End);
    assert_eq!(sink.state().dropped.load(Ordering::Relaxed), 1, "nobody writes any more");
}

#[test]
fn what_finds_no_room_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.log");
    let thread = AuditThread::start(&path, ROTATION, begin).unwrap();
    let sink = thread.sink();
    sink.state.dropped.fetch_add(7, Ordering::Relaxed);
    thread.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""event":"dropped","records":7"#), "{text}");
}
