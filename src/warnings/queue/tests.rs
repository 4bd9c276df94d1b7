//! The queue against its promises: what was added is there after a crash, and nothing is there for ever.

use super::*;
use jiff::civil::date;

const TODAY: Date = date(2026, 11, 26);

fn pending(id: usize, to: &[&str]) -> Pending {
    let event = Event { id: format!("event-{id}"), kind: "test".to_owned(), body: "{}".to_owned() };
    Pending { event, since_ms: 0, to: to.iter().map(|it| (*it).to_owned()).collect() }
}

fn standing(is: &str, position: [u64; 2]) -> Standing {
    Standing { is: is.to_owned(), position, day: TODAY }
}

fn ids(queue: &Queue) -> Vec<(&str, Vec<&str>)> {
    queue
        .pending()
        .values()
        .map(|it| (it.event.id.as_str(), it.to.iter().map(String::as_str).collect()))
        .collect()
}

#[test]
fn what_was_added_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(directory.path(), TODAY).unwrap();
    assert_eq!(Queue::open(directory.path(), TODAY).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for id in 0..3 {
        assert!(queue.add(pending(id, &["a", "b"])));
    }
    queue.done(0, "a");
    queue.give_up(1, "a", "answered 500".to_owned(), 7);
    queue.done(1, "b");
    assert!(queue.tell("once", date(2026, 12, 1)) && !queue.tell("once", date(2026, 12, 1)));
    assert_eq!(queue.stands("a.cn", standing("allow", [7, 3])), Before::Unknown);
    queue.flush(TODAY).unwrap();
    let path = directory.path().join("queue");
    let mut torn = std::fs::read(&path).unwrap();
    torn.extend_from_slice(b"{\"is\":\"add\",\"seq\":9,\"pen");
    std::fs::write(&path, torn).unwrap();
    drop(queue);
    let mut queue = Queue::open(directory.path(), TODAY).unwrap();
    assert_eq!(ids(&queue), [("event-0", vec!["b"]), ("event-2", vec!["a", "b"])]);
    assert_eq!(queue.dead()[0].why, "answered 500");
    assert!(!queue.tell("once", TODAY), "it was told before");
    assert_eq!(queue.stands("a.cn", standing("unfiled", [7, 2])), Before::Later);
    assert_eq!(queue.stands("a.cn", standing("allow", [7, 4])), Before::Same);
    assert_eq!(queue.stands("a.cn", standing("unfiled", [7, 4])), Before::Other("allow".to_owned()));
    queue.again(8);
    assert_eq!(ids(&queue)[2], ("event-1", vec!["a"]));
    assert_eq!(queue.keep_only(&["b"]), 2);
    assert_eq!(ids(&queue), [("event-0", vec!["b"]), ("event-2", vec!["b"])]);
    queue.flush(TODAY).unwrap();
    drop(queue);
    let mut queue = Queue::open(directory.path(), date(2026, 12, 2)).unwrap();
    assert_eq!(ids(&queue).len(), 2);
    assert!(queue.tell("once", date(2026, 12, 1)), "it was forgotten when its day was over");
}

#[test]
fn nothing_grows_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(directory.path(), TODAY).unwrap();
    for id in 0..MAX_QUEUED + 5 {
        assert_eq!(queue.add(pending(id, &["a"])), id < MAX_QUEUED);
    }
    let all: Vec<_> = queue.pending().keys().copied().collect();
    for seq in all {
        queue.give_up(seq, "a", "away".to_owned(), 0);
    }
    assert_eq!((queue.pending().len(), queue.dead().len()), (0, MAX_DEAD));
    queue.flush(TODAY).unwrap();
    let lines = std::fs::read_to_string(directory.path().join("queue")).unwrap().lines().count();
    assert_eq!(lines, MAX_DEAD, "written anew without what is over");
}

/// A disk that takes nothing: all goes on, and is there once it can be written.
#[test]
fn a_full_disk_loses_nothing_that_is_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(directory.path(), TODAY).unwrap();
    queue.journal = Some(OpenOptions::new().append(true).open("/dev/full").unwrap());
    assert!(queue.add(pending(0, &["a"])));
    assert!(queue.flush(TODAY).is_err());
    assert_eq!(ids(&queue).len(), 1);
    queue.flush(TODAY).unwrap();
    drop(queue);
    assert_eq!(ids(&Queue::open(directory.path(), TODAY).unwrap()).len(), 1);
}
