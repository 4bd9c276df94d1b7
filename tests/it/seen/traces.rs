//! Traces (W3C Trace Context): what of them reaches the upstream, and the log.

use crate::treatment::{h2, h2_get};
use crate::world::{F, U, World, wait};
use serde_json::Value;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const MALFORMED: &str = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";

/// The trace in the log's line of that target.
fn logged(world: &World, target: &str) -> Value {
    let line = |line: &Value| line["target"] == target;
    let line = wait(&format!("the line of {target}"), || world.log().into_iter().find(line));
    line["trace_id"].clone()
}

/// The fields as the upstream got them: traceparent, tracestate.
fn arrived(world: &World, target: &str) -> (Vec<String>, Vec<String>) {
    let request = world.upstream.arrived(target);
    let all = |name: &str| request.all(name).into_iter().map(str::to_owned).collect();
    (all("traceparent"), all("tracestate"))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().copied().map(str::to_owned).collect()
}

fn get(world: &World, path: &str, fields: &str) {
    world.send(&format!("GET {path} HTTP/1.1\r\nHost: {F}\r\n{fields}\r\n"));
}

/// Who takes no part in a trace passes its fields on as they came.
#[test]
fn traces_pass_through() {
    let world = World::start();
    get(&world, "/good", &format!("Traceparent: {PARENT}\r\nTracestate: a=1\r\ntracestate: b=2\r\n"));
    assert_eq!(arrived(&world, "/good"), (strings(&[PARENT]), strings(&["a=1", "b=2"])));
    assert_eq!(logged(&world, "/good"), ID);
    get(&world, "/malformed", &format!("traceparent: {MALFORMED}\r\ntracestate: a=1\r\n"));
    assert_eq!(arrived(&world, "/malformed"), (strings(&[MALFORMED]), strings(&["a=1"])));
    assert_eq!(logged(&world, "/malformed"), Value::Null);
    get(&world, "/none", "");
    assert_eq!(arrived(&world, "/none"), (vec![], vec![]));
}

/// What the upstream and the log have is one new trace.
fn assert_made(world: &World, target: &str) {
    let (parents, states) = arrived(world, target);
    let [parent] = &parents[..] else { panic!("{target}: {parents:?}") };
    let parts: Vec<_> = parent.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{parent}");
    assert!(parts[0] == "00" && parts[3] == "01" && parts[1] != ID && parts[2] != "0".repeat(16), "{parent}");
    assert_eq!((states, logged(world, target)), (vec![], parts[1].into()), "{target}");
}

#[tokio::test]
async fn traces_are_begun() {
    let world = World::with(|setup| setup.first("trace = true"));
    get(&world, "/good", &format!("Traceparent: {PARENT}\r\nTracestate: a=1\r\n"));
    assert_eq!(arrived(&world, "/good"), (strings(&[PARENT]), strings(&["a=1"])));
    assert_eq!(logged(&world, "/good"), ID);
    let rows = [
        ("/none", String::new()),
        ("/malformed", format!("Traceparent: {MALFORMED}\r\nTracestate: a=1\r\n")),
        ("/two", format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\ntracestate: a=1\r\n")),
        ("/state", "TraceState: a=1\r\n".to_owned()),
    ];
    for (path, fields) in &rows {
        get(&world, path, fields);
        assert_made(&world, path);
    }
    let mut client = h2(&world).await;
    h2_get(&mut client, F, "/h2", &[("traceparent", MALFORMED), ("tracestate", "a=1")]).await;
    assert_made(&world, "/h2");
    h2_get(&mut client, F, "/h2-good", &[("traceparent", PARENT)]).await;
    assert_eq!(arrived(&world, "/h2-good").0, strings(&[PARENT]));
    // What is blocked is part of a trace as well.
    world.get(U, "/blocked");
    assert_eq!(logged(&world, "/blocked").as_str().map(str::len), Some(32));
}
