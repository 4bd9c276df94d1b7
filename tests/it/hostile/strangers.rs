//! Who is no operator: pages of other sites in an operator's browser, guessers of tokens, and markup in whatever others
//! write that operators read.

use crate::world::browser::Browser;
use crate::world::setup::{ADMIN_TOKEN, Setup};
use crate::world::upstream::Then;
use crate::world::wire::{self, Response, Wire};
use crate::world::{F, PROVIDER, U, World, address, wait};
use serde_json::{Value, json};
use std::collections::BTreeSet;
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

/// What is no text where it is no text: an element and an attribute of names that no template has.
const MARKUP: &str = "\"'><zzz-evil zzz=1 onclick=alert(1)>x</zzz-evil><script>zzz=1</script>";
/// What remains of it to be seen.
const SEEN: &str = "zzz-evil";

fn with_markup_everywhere(setup: Setup) -> Setup {
    let certs = setup.directory().join("certs");
    fs::copy(certs.join("own.crt"), certs.join("'><zzz-evil zzz=1>.crt")).unwrap();
    fs::copy(certs.join("own.key"), certs.join("'><zzz-evil zzz=1>.key")).unwrap();
    let (text, short) = (MARKUP.replace('"', "\\\""), "\\\"'><zzz-evil zzz=1>");
    let document = json!({
        "number": "京ICP备20000061号-1", "access": { PROVIDER: "active" }, "subject": MARKUP, "site_name": MARKUP,
    });
    setup
        .filing("marked.cn", document)
        .site_for("\"marked.cn\"", "[site.footer]\nmode = \"check\"")
        .toml(&format!(
            "[enforcement]\nblock_list = [{{ host = \"bad.cn\", reason = \"{text}\", owner = \"{text}\" }}]\n\
             exceptions = [{{ host = \"good.cn\", until = \"2020-01-01\", reason = \"{text}\", owner = \"{text}\" }}]\n\
             [block_page]\nname = \"{short}\"\ncontact = \"{short}\"\n\
             [lookup]\naddress = \"127.0.0.1:0\"\nper_minute = 6000\nburst = 1000\n\
             [webhooks]\nlook_every = \"1s\"\n"
        ))
}

/// What a stranger and an upstream can put in front of an operator.
fn strangers(world: &World) {
    world.upstream.on("/", |exchange| {
        exchange.body();
        let page = format!("<html><body>{MARKUP}</body></html>");
        let head =
            format!("Content-Type: text/html\r\nX-Server: {MARKUP}\r\nContent-Length: {}\r\n", page.len());
        exchange.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n{page}").as_bytes());
        Then::Keep
    });
    let target = "/%22%3E<zzz-evil>'%22zzz?\"><zzz-evil=1>".replace('"', "'");
    let fields = format!(
        "User-Agent: {MARKUP}\r\nReferer: {MARKUP}\r\nCookie: {MARKUP}\r\nX-Forwarded-For: {MARKUP}\r\n"
    );
    for host in ["marked.cn", F, U, "bad.cn", "<zzz-evil zzz=1>.cn", "a\"><zzz-evil>"] {
        world.send(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"));
    }
    // A gate's name, and one that asks for no filing at all.
    let said =
        json!({ "provider": PROVIDER, "gate": MARKUP, "epoch": 1, "seq": 1, "digest": "0", "lag_ms": 1 });
    let registry = world.registry.unwrap();
    let answer = wire::ask(registry, "POST", "/v1/feed/acknowledgements", &said.to_string());
    assert!((400..500).contains(&answer.status), "no gate is called so: {answer:?}");
    let order = json!({ "intent": MARKUP, "account": MARKUP, "domain": MARKUP });
    let answer = wire::ask(registry, "POST", "/v1/orders", &order.to_string());
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

/// Every `element` and `element.attribute` that templates have, and style and script of block pages.
fn known_to_templates() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for directory in ["src/admin/console", "src/lookup", "src/block_page", "config/block-page"] {
        let Ok(entries) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)) else {
            continue;
        };
        for path in entries
            .map(|entry| entry.unwrap().path())
            .filter(|it| it.extension().is_some_and(|e| e == "html"))
        {
            names_in(&fs::read_to_string(&path).unwrap(), &mut known);
        }
    }
    // A parser adds them where they are left out; a browser shows what is plain text in the others.
    let made = ["html", "head", "body", "tbody", "pre", "pre.style", "meta", "meta.name", "meta.content"];
    known.extend(made.map(str::to_owned));
    assert!(known.contains("form.action") && known.len() > 60, "{known:?}");
    known
}

/// Elements of a template's text, each with whatever looks like an attribute before its end.
fn names_in(text: &str, known: &mut BTreeSet<String>) {
    for part in text.split('<').skip(1) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name: String = part.chars().take_while(|c| is_name(*c)).collect();
        if !part.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        for word in part.split(|c: char| c.is_whitespace() || c == '"' || c == '}' || c == '>').skip(1) {
            let attribute: String =
                word.chars().take_while(|c| is_name(*c) || c.is_ascii_uppercase()).collect();
            known.insert(format!("{name}.{}", attribute.to_ascii_lowercase()));
        }
        known.insert(name.to_ascii_lowercase());
    }
}

/// The page as the browser made it of its text: no element, attribute, script or address beyond the templates'.
#[track_caller]
fn only_the_templates(browser: &mut Browser, known: &BTreeSet<String>, page: &str) {
    let found = browser.eval(
        "[...document.querySelectorAll('*')].flatMap(it => [it.localName, ...it.getAttributeNames().map(name => it.localName + '.' + name)])",
    );
    for name in found.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_ascii_lowercase()) {
        assert!(known.contains(&name), "{page}: {name} is of no template");
        let attribute = name.split('.').nth(1).unwrap_or_default();
        assert!(!attribute.starts_with("on") && !name.contains("zzz"), "{page}: {name}");
    }
    let odd = "[...document.querySelectorAll('[href],[src],[action]')].map(it => it.getAttribute('href') || it.getAttribute('src') || it.getAttribute('action')).filter(it => /^\\s*(javascript|data|vbscript):/i.test(it)).length";
    assert_eq!(browser.eval(odd), 0, "{page}");
    assert_eq!(browser.eval("typeof zzz"), "undefined", "{page}: a script of others ran");
}

#[test]
fn markup_of_others_is_text_on_every_page() {
    let Some(mut browser) = Browser::start() else { return };
    let world = World::with(with_markup_everywhere);
    strangers(&world);
    wait("the requests in the log", || world.ask("/v1/log").text().contains(SEEN).then_some(()));
    wait("a page without its number", || world.ask("/v1/footers").text().contains("marked.cn").then_some(()));
    world.cancel("marked.cn", "京ICP备20000061号-1");
    let known = known_to_templates();
    let query = "%22%3E%3Czzz-evil%20zzz%3D1%3E%27";
    let (admin, http) = (format!("http://{}", world.admin), world.http().port());
    let lookup = format!("http://{}", address(world.status()["lookup"].as_str().unwrap()));
    let pages = [
        format!("{admin}/?zzz={query}&{query}=1"),
        format!("{admin}/console/look-up?host=marked.cn&{query}={query}"),
        format!("{admin}/console/look-up?host={query}"),
        format!("{admin}/console/blocked?from={query}&{query}"),
        format!("{admin}/console/blocked?x={query}"),
        format!("{admin}/console/lists?x={query}"),
        format!("{admin}/console/due?x={query}"),
        format!("{admin}/console/fleet?x={query}"),
        format!("{admin}/console/log?x={query}&host={query}"),
        format!("{lookup}/?domain={query}"),
        format!("{lookup}/?domain=marked.cn&{query}"),
        format!("http://bad.cn:{http}/{query}?{query}"),
        format!("http://unfiled.cn:{http}/<zzz-evil>?"),
    ];
    let mut seen = 0;
    for page in pages.iter().flat_map(|url| ["zh", "en"].map(|lang| format!("{url}&lang={lang}"))) {
        browser.open(&page);
        only_the_templates(&mut browser, &known, &page);
        // As text it is there: in the page, or in what a field holds.
        let text = "document.documentElement.textContent + [...document.querySelectorAll('input')].map(it => it.value)";
        seen += usize::from(browser.eval(&format!("({text}).includes('{SEEN}')")) == true);
    }
    assert!(seen >= 8, "{seen} pages show what strangers wrote");
    // The log's lines come by script.
    browser.open(&format!("{admin}/console/log?lang=en"));
    browser.wait_for(&format!("document.body.textContent.includes('{SEEN}')"));
    only_the_templates(&mut browser, &known, "the log's lines");
    world.process.assert_running();
}

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
