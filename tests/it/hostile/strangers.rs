//! Who is no operator: pages of other sites in an operator's browser, guessers of tokens.

use crate::world::setup::{ADMIN_TOKEN, Setup};
use crate::world::wire::{self, Response, Wire};
use crate::world::{F, World};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A request with these fields.
fn browse(address: SocketAddr, method: &str, path: &str, fields: &str) -> Response {
    let mut wire = Wire::clear(address);
    wire.send(format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"));
    wire.response_to(method).unwrap()
}

/// What changes something, of a router's text: whatever is routed there comes along by itself.
fn changes_in(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for route in text.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap().to_owned();
        for (call, method) in
            [("post(", "POST"), ("put(", "PUT"), ("delete(", "DELETE"), ("patch(", "PATCH"), ("any(", "POST")]
        {
            if route.contains(call) {
                found.push((method, path.clone()));
            }
        }
    }
    found
}

/// Everything of the admin address.
fn admin_changes() -> Vec<(&'static str, String)> {
    let source = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let mut files = vec!["src/admin.rs".to_owned()];
    for directory in ["src/admin", "src/admin/console"] {
        let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        files.extend(names.filter(|name| name.ends_with(".rs")).map(|name| format!("{directory}/{name}")));
    }
    files.iter().flat_map(|name| changes_in(&source(name))).collect()
}

/// Everything of the registry, as it describes itself.
fn registry_changes(registry: SocketAddr) -> Vec<(&'static str, String)> {
    let described = wire::ask(registry, "GET", "/openapi.json", "").json();
    let paths = described["paths"].as_object().unwrap();
    let methods = [("post", "POST"), ("put", "PUT"), ("delete", "DELETE"), ("patch", "PATCH")];
    let of = |(path, item): (&String, &Value)| {
        let there = methods.iter().filter(|(key, _)| !item[*key].is_null());
        there.map(|(_, method)| (*method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

/// A path with names for its parameters.
fn filled(path: &str) -> String {
    path.replace("{domain}", F)
        .replace("{*upstream}", "http://127.0.0.1:1")
        .replace("{step}", "submit")
        .split('/')
        .map(|part| if part.starts_with('{') { "x1" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn pages_of_other_sites() {
    let world = World::start();
    let registry = world.registry.unwrap();
    let (admin_s, registry_s) = (admin_changes(), registry_changes(registry));
    for known in [
        "/v1/held/apply",
        "/v1/held/refuse",
        "/v1/upstreams/{*upstream}",
        "/v1/warnings/test",
        "/v1/warnings/resend",
        "/login",
        "/logout",
        "/console/held/apply",
        "/console/held/refuse",
        "/console/warnings/test",
        "/console/warnings/resend",
    ] {
        assert!(admin_s.iter().any(|(_, path)| path == known), "{known} is not among {admin_s:?}");
    }
    for known in
        ["/v1/filings:batch", "/v1/filings:import", "/v1/filings/{domain}", "/v1/orders", "/v1/service-codes"]
    {
        assert!(registry_s.iter().any(|(_, path)| path == known), "{known} is not among {registry_s:?}");
    }
    const WORDS: &str = "pages of other sites";
    for (address, changes) in [(world.admin, &admin_s), (registry, &registry_s)] {
        let own = format!("Host: {address}\r\n");
        for (method, path) in changes {
            let path = filled(path);
            for field in [
                "Origin: https://evil.example",
                "Origin: null",
                "Origin: http://127.0.0.1",
                "Sec-Fetch-Site: cross-site",
                "Sec-Fetch-Site: same-site",
                "Sec-Fetch-Site: same-origin\r\nOrigin: https://evil.example",
            ] {
                let answer = browse(address, method, &path, &format!("{own}{field}\r\n"));
                assert!(
                    answer.status == 403 && answer.text().contains(WORDS),
                    "{field} {method} {path}: {answer:?}"
                );
            }
            // A name of theirs that leads to this machine.
            let answer =
                browse(address, method, &path, "Host: evil.example\r\nOrigin: http://evil.example\r\n");
            assert_eq!(answer.status, 403, "{method} {path}");
        }
        let foreign = "Host: evil.example\r\n";
        assert_eq!(browse(address, "GET", "/v1/status", foreign).status, 403, "a name that leads here");
        let healthy = browse(address, "GET", "/healthz", &own);
        assert_eq!((healthy.status, healthy.header("x-frame-options")), (200, Some("DENY")));
        assert_eq!(healthy.header("x-content-type-options"), Some("nosniff"));
    }
    // The same without a word of where it comes from is what a command sends: nothing of the sort is said.
    let own = format!("Host: {}\r\nOrigin: http://{0}\r\nSec-Fetch-Site: same-origin\r\n", world.admin);
    assert_eq!(browse(world.admin, "POST", "/v1/held/apply", &own).status, 409, "nothing is held");
    assert_eq!(world.get(F, "/x").status, 200);
    let filing = wire::ask(registry, "GET", &format!("/v1/filings/{F}"), "");
    assert_eq!(filing.status, 200, "it is there yet");
}

/// A connection from another address of this machine.
fn from(own: [u8; 4], to: SocketAddr) -> Wire {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((own, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(crate::world::DEADLINE)).unwrap();
    Wire::over(Box::new(std::net::TcpStream::from(socket)))
}

#[test]
fn who_guesses_tokens_waits() {
    const REGISTRY_TOKEN: &str = "another-token-of-visible-characters";
    let world = World::with(|mut setup: Setup| {
        std::fs::write(setup.directory().join("registry.token"), REGISTRY_TOKEN).unwrap();
        setup.filings.clear();
        setup.admin("token_file = \"admin.token\"").registry("token_file = \"registry.token\"")
    });
    let ask = |own: [u8; 4], to: SocketAddr, path: &str, token: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {to}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        from(own, to).send(request).response().unwrap().status
    };
    let (guesser, other) = ([127, 0, 0, 2], [127, 0, 0, 3]);
    let registry = world.registry.unwrap();
    for (to, path, right) in
        [(world.admin, "/v1/status", ADMIN_TOKEN), (registry, "/v1/filings", REGISTRY_TOKEN)]
    {
        assert_eq!(ask(guesser, to, path, right), 200);
        for nth in 0..20 {
            assert_eq!(ask(guesser, to, path, &format!("guess-{nth}")), 401, "{path} {nth}");
        }
        for token in ["guess-20", right, right] {
            assert_eq!(
                ask(guesser, to, path, token),
                429,
                "{path}: nothing from there is looked at, {token}"
            );
        }
        assert_eq!(ask(other, to, path, right), 200, "{path}: others are not meant");
        assert_eq!(ask(guesser, to, "/healthz", "any"), 200, "what needs no token goes on");
    }
    // The log-in of the console is the same door.
    let body = format!("token={ADMIN_TOKEN}");
    let login = |own: [u8; 4]| {
        let request = format!(
            "POST /login HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
            world.admin,
            body.len()
        );
        from(own, world.admin).send(request).response().unwrap().status
    };
    assert_eq!((login(guesser), login(other)), (429, 303));
    world.process.assert_running();
}

/// An element and an attribute of names that no template has.
const MARKUP: &str = "\"'><zzz-evil zzz=1 onclick=alert(1)>x</zzz-evil><script>zzz=1</script>";
/// The way in, where nobody is let in yet: it repeats nothing.
#[test]
fn the_log_in_page_repeats_nothing() {
    let world = World::with(|setup| setup.admin("token_file = \"admin.token\""));
    let query = "%22%3E%3Czzz-evil%20zzz%3D1%3E%27";
    let fields = format!("Host: {}\r\nAccept: text/html\r\nUser-Agent: {MARKUP}\r\n", world.admin);
    for (method, path) in [
        ("GET", format!("/?{query}={query}&lang={query}")),
        ("GET", format!("/console/look-up?host={query}")),
        ("POST", format!("/login?{query}&lang={query}")),
    ] {
        let page = browse(world.admin, method, &path, &fields);
        assert!(page.status == 401 && page.text().contains("name=\"token\""), "{path}: {page:?}");
        // What it was asked with is in the link to the other language alone, in escapes.
        assert!(!page.text().contains("<zzz") && !page.text().contains("zzz=1"), "{path}: {}", page.text());
    }
}
