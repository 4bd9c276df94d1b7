//! Logs and spans that go elsewhere: to a syslog collector, and to one of traces.

use crate::world::upstream::{Then, Upstream};
use crate::world::{F, U, World, wait};
use serde_json::Value;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Messages until one is of that kind and holds that text.
fn until(kind: &str, text: &str, mut next: impl FnMut() -> String) -> String {
    loop {
        let message = next();
        let fields: Vec<_> = message.splitn(8, ' ').collect();
        assert!(fields[0].starts_with('<') && fields[0].ends_with(">1") && fields[6] == "-", "{message}");
        assert!(fields[1].parse::<jiff::Timestamp>().is_ok(), "{message}");
        if fields[5] == kind && fields[7].contains(text) {
            return message;
        }
    }
}

#[test]
fn syslog_over_udp() {
    let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = collector.local_addr().unwrap();
    let world = World::with(|setup| {
        setup.toml(&format!(
            "[syslog]\nto = \"udp://{address}\"\nfacility = \"local3\"\napp_name = \"edge\"\n"
        ))
    });
    let mut buffer = vec![0; 65536];
    let mut next = || {
        let octets = collector.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..octets].to_vec()).unwrap()
    };
    world.get(U, "/seen");
    let line = until("access", "\"/seen\"", &mut next);
    assert!(line.starts_with("<158>1 ") && line.contains(" edge "), "{line}");
    let json: Value = serde_json::from_str(line.splitn(8, ' ').last().unwrap()).unwrap();
    assert_eq!((json["host"].as_str(), json["ended"].as_str()), (Some(U), Some("PR")));
    // The file has it as well.
    wait("the file", || world.log().iter().any(|line| line["target"] == "/seen").then_some(()));
    world.process.hang_up();
    until("event", "reloaded config", &mut next);
    wait("the count", || (world.metric("beian_gate_syslog_sent_total") >= 3).then_some(()));
}

#[test]
fn syslog_over_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let collector = UnixDatagram::bind(&path).unwrap();
    collector.set_read_timeout(Some(PATIENCE)).unwrap();
    let world = World::with(|setup| {
        let section = format!("[syslog]\nto = \"unix://{}\"\nevents = \"off\"\n", path.display());
        setup.log("off").log_lines("fields = [\"host\", \"verdict\"]").toml(&section)
    });
    world.get(F, "/");
    let mut buffer = vec![0; 65536];
    let octets = collector.recv(&mut buffer).unwrap();
    let message = String::from_utf8(buffer[..octets].to_vec()).unwrap();
    assert!(message.ends_with(r#" access - {"host":"filed.cn","verdict":"allow"}"#), "{message}");
}

/// A collector that comes late, and goes: what it missed is counted, the gate goes on.
#[test]
fn syslog_over_tcp() {
    // An address of its own: nobody else takes a port of it meanwhile.
    let reserved = TcpListener::bind("127.77.12.3:0").unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let world = World::with(|setup| setup.toml(&format!("[syslog]\nto = \"tcp://{address}\"\n")));
    wait("lines lost", || {
        world.get(F, "/early");
        (world.metric("beian_gate_syslog_dropped_total") > 0).then_some(())
    });
    let collector = wait("the port", || TcpListener::bind(address).ok());
    collector.set_nonblocking(true).unwrap();
    let (mut stream, _) = wait("a connection", || {
        world.get(F, "/late");
        collector.accept().ok()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut octet = [0];
    let message = until("access", "/late", || {
        let mut length = String::new();
        loop {
            stream.read_exact(&mut octet).unwrap();
            match octet[0] {
                b' ' => break,
                digit => length.push(digit.into()),
            }
        }
        let mut message = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut message).unwrap();
        String::from_utf8(message).unwrap()
    });
    assert!(!message.contains('\n'), "{message}");
    world.assert_well();
}

/// What a collector got: the spans of all its requests.
fn spans(collector: &Upstream) -> Vec<Value> {
    let mut spans = Vec::new();
    for request in collector.requests() {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/v1/traces"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let resource = &body["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "edge", "{body}");
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().iter().cloned());
    }
    spans
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|one| one["key"] == key).map_or(&Value::Null, |one| &one["value"])
}

#[track_caller]
fn span_of(collector: &Upstream, path: &str) -> Value {
    wait(&format!("the span of {path}"), || {
        spans(collector).into_iter().find(|span| attribute(span, "url.path")["stringValue"] == path)
    })
}

#[test]
fn spans_go_to_a_collector() {
    let collector = Upstream::start();
    collector.answers("/v1/traces", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Then::Keep);
    let address = collector.address;
    let world = World::with(|setup| {
        let section = format!("[otlp]\nendpoint = \"http://{address}/v1/traces\"\nservice = \"edge\"\n");
        setup.toml(&section)
    });
    world.get(F, "/new?a=b");
    let span = span_of(&collector, "/new");
    let sent = world.upstream.arrived("/new?a=b");
    let (trace, id) = (span["traceId"].as_str().unwrap(), span["spanId"].as_str().unwrap());
    assert_eq!(sent.header("traceparent"), Some(&*format!("00-{trace}-{id}-01")), "the gate is the parent");
    assert_eq!(
        (&span["kind"], &span["parentSpanId"], &span["name"]),
        (&2.into(), &Value::Null, &"GET".into())
    );
    assert_eq!(attribute(&span, "http.response.status_code")["intValue"], "200");
    assert_eq!(attribute(&span, "server.address")["stringValue"], F);
    assert_eq!(attribute(&span, "beian.verdict")["stringValue"], "allow");
    let at = |key: &str| span[key].as_str().unwrap().parse::<u128>().unwrap();
    assert!(at("startTimeUnixNano") <= at("endTimeUnixNano"));
    // Whoever began the trace said that it is recorded: the gate's part belongs to theirs, and theirs goes no further.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    world.send(&format!(
        "GET /joined HTTP/1.1\r\nHost: {F}\r\ntraceparent: {parent}\r\ntracestate: a=1\r\n\r\n"
    ));
    let joined = span_of(&collector, "/joined");
    assert_eq!(joined["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(joined["parentSpanId"], "00f067aa0ba902b7");
    let sent = world.upstream.arrived("/joined");
    let id = joined["spanId"].as_str().unwrap();
    assert_eq!(sent.all("traceparent"), [format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{id}-01")]);
    assert_eq!(sent.all("tracestate"), ["a=1"]);
    // And where they said that it is not, it is not.
    let unsampled = parent.replace("-01", "-00");
    world.send(&format!("GET /unsampled HTTP/1.1\r\nHost: {F}\r\ntraceparent: {unsampled}\r\n\r\n"));
    assert!(world.upstream.arrived("/unsampled").header("traceparent").unwrap().ends_with("-00"));
    world.get(U, "/blocked");
    let blocked = span_of(&collector, "/blocked");
    assert_eq!(attribute(&blocked, "beian.ended")["stringValue"], "PR");
    assert!(spans(&collector).iter().all(|span| attribute(span, "url.path")["stringValue"] != "/unsampled"));
    wait("the count", || (world.metric("beian_gate_spans_sent_total") >= 3).then_some(()));
    assert_eq!(world.metric("beian_gate_spans_dropped_total"), 0);
}

#[test]
fn a_collector_that_is_away_costs_nothing() {
    let world = World::with(|setup| setup.toml("[otlp]\nendpoint = \"http://127.0.0.1:1/v1/traces\"\n"));
    for _ in 0..3 {
        assert_eq!(world.get(F, "/").status, 200);
    }
    wait("the losses", || (world.metric("beian_gate_spans_dropped_total") >= 3).then_some(()));
    assert!(world.metric("beian_gate_span_export_errors_total") >= 2);
    world.assert_well();
}
