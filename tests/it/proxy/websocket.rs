//! WebSockets by a browser: over HTTP/1.1 and as a stream of HTTP/2, towards upstreams of either kind.

use super::streams::{GUID, switch};
use crate::world::browser::Browser;
use crate::world::h2_upstream::H2Upstream;
use crate::world::upstream::Then;
use crate::world::{F, World, frames, wait};

const STREAMS: &str = "streams.filed.cn";

/// What a page says and hears: a greeting, what is long, and an orderly end.
const TALK: &str = "new Promise((done, failed) => {
    const socket = new WebSocket(URL, ['chat']), heard = [];
    const long = '长'.repeat(50000);
    socket.onopen = () => { heard.push(socket.protocol); socket.send('hello'); socket.send(long); };
    socket.onmessage = message => {
        heard.push(message.data === long ? 'all of it' : message.data);
        if (heard.length === 3) socket.close(1000, 'done');
    };
    socket.onclose = end => done([...heard, end.code, end.wasClean]);
})";

#[test]
fn a_browser_talks() {
    let Some(mut browser) = Browser::start_with(&["--ignore-certificate-errors"]) else { return };
    let upstream = H2Upstream::start_with_tunnels();
    let address = upstream.address;
    let world = World::with(|setup| {
        setup.toml(&format!("[[site]]\nhosts = [\"{STREAMS}\"]\nupstreams = [\"h2c://{address}\"]\n"))
    });
    world.upstream.answers(
        "/page",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<p>hi",
        Then::Keep,
    );
    world.upstream.on("/ws-frames", |exchange| {
        switch(exchange, GUID);
        let mut octets = Vec::new();
        while let Some(bytes) = exchange.raw() {
            octets.extend(bytes);
            exchange.send(frames::answer(&mut octets));
        }
        Then::Close
    });
    let ports = [("http", "ws", world.http().port()), ("https", "wss", world.https().port())];
    for (scheme, socket, port) in ports {
        for host in [F, STREAMS] {
            // Where a connection is there that takes them, it is a stream of that.
            browser.open(&format!("{scheme}://{host}:{port}/page"));
            let url = format!("'{socket}://{host}:{port}/ws-frames/{scheme}'");
            let heard = browser.eval(&TALK.replace("URL", &url));
            let expected = serde_json::json!(["chat", "hello", "all of it", 1000, true]);
            assert_eq!(heard, expected, "{url}");
            let http = if scheme == "https" { "2" } else { "1.1" };
            wait("its line", || {
                let path = format!("/ws-frames/{scheme}");
                let is_it = |line: &serde_json::Value| line["target"] == *path && line["host"] == host;
                let line = world.log().into_iter().find(|line| is_it(line))?;
                assert_eq!((&line["http"], &line["ended"]), (&http.into(), &"--".into()), "{line}");
                Some(())
            });
        }
    }
    let methods: Vec<_> = upstream.seen().into_iter().filter(|seen| seen.method == "CONNECT").collect();
    assert_eq!(methods.len(), 2, "it was asked for streams alone: {:?}", upstream.seen());
}
