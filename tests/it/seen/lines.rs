//! What the access log's lines say, and in which format.

use crate::world::upstream::Then;
use crate::world::{F, U, World, wait};

const JSON: &str = r#"fields = ["ended", "client", "caller", "host", "referer", "head_us", "connect_us", "queue_us", "status"]"#;
const COMBINED: &str = "format = \"combined\"\nfields = [\"host\", \"verdict\", \"ended\"]";

/// The log's lines, once there are so many.
fn lines(world: &World, count: usize) -> Vec<String> {
    wait(&format!("{count} lines"), || {
        let text = std::fs::read_to_string(world.path("access.log")).ok()?;
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

fn trusting(lines: &str) -> World {
    World::with(|setup| setup.http("trusted_peers = [\"127.0.0.0/8\", \"10.0.0.0/8\"]").log_lines(lines))
}

#[test]
fn a_line_says_what_was_chosen() {
    let world = trusting(JSON);
    let (one, rest) = ("GET /x HTTP/1.1\r\nHost: filed.cn\r\n", "Referer: a\"b\r\n\r\n");
    let ask = |chain: &str| {
        let mut wire = world.connect();
        wire.send(one);
        // The gate has seen the first part when it answers what comes on another connection.
        world.get(U, "/between");
        wire.send(format!("X-Forwarded-For: {chain}\r\n{rest}")).response().unwrap();
    };
    ask("203.0.113.9, 10.0.0.1");
    let log = wait("the line", || world.log().into_iter().find(|line| line["host"] == F));
    let keys: Vec<_> = log.as_object().unwrap().keys().map(String::as_str).collect();
    // serde_json sorts keys; the order is the text's.
    assert_eq!(keys.len(), 8, "{log}");
    assert_eq!((log["ended"].as_str(), log["caller"].as_str()), (Some("--"), Some("203.0.113.9")), "{log}");
    assert_eq!((log["status"].as_u64(), log["referer"].as_str()), (Some(200), Some("a\"b")), "{log}");
    assert!(log["client"].as_str().unwrap().starts_with("127.0.0.1:") && log["queue_us"].is_null(), "{log}");
    assert!(log["head_us"].is_u64() && log["connect_us"].is_u64(), "{log}");
    let text = lines(&world, 2).into_iter().find(|line| line.contains("\"filed.cn\"")).unwrap();
    let places: Vec<_> = ["ended", "client", "caller", "host", "referer", "head_us", "connect_us", "status"]
        .map(|key| text.find(&format!("\"{key}\":")).unwrap())
        .to_vec();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn the_combined_format() {
    let world = trusting(COMBINED);
    world.upstream.answers("/", "HTTP/1.1 203 X\r\nContent-Length: 5\r\n\r\nhello", Then::Keep);
    world.send(
        "GET /a\"b HTTP/1.1\r\nHost: filed.cn\r\nX-Forwarded-For: 203.0.113.9\r\nUser-Agent: \x1b[31m\r\n\
         Referer: https://x/\r\n\r\n",
    );
    world.send("GET /b HTTP/1.1\r\nHost: filed.cn\r\nUser-Agent: curl\u{202e}\r\n\r\n");
    let blocked = world.get(U, "/");
    let log = lines(&world, 3);
    let after_time = |line: &str| {
        let (client, rest) = line.split_once(" - - [").unwrap();
        let (time, rest) = rest.split_once("] ").unwrap();
        assert_eq!(time.len(), "14/Nov/2023:22:13:20 +0000".len(), "{line}");
        format!("{client} {rest}")
    };
    let has = |expected: &str| {
        assert!(log.iter().any(|line| after_time(line) == expected), "{expected}\n{}", log.join("\n"));
    };
    has(r#"127.0.0.1 "GET /b HTTP/1.1" 203 5 "-" "curl\xE2\x80\xAE" host="filed.cn" verdict=allow ended=--"#);
    let page = blocked.body.len();
    has(&format!(
        r#"127.0.0.1 "GET / HTTP/1.1" 451 {page} "-" "-" host="unfiled.cn" verdict=unfiled ended=PR"#
    ));
    // A control character in a head is malformed: nothing of it but its line is left.
    assert!(log.iter().any(|line| line.contains("verdict=malformed_request ended=PR")), "{log:?}");
}
