//! The admin API and the registry over TLS: certificates of callers, tokens by their hashes, and the commands that ask.

use crate::world::authority::{Authority, Issued};
use crate::world::process::{self, Process};
use crate::world::setup::{ADMIN_TOKEN, Setup};
use crate::world::{F, World, address, certs, run, wait, wire};
use rustls::ClientConfig;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;

const NAMES: [&str; 2] = ["api.example", "127.0.0.1"];
const TLS: &str = "tls = { cert = \"api.crt\", key = \"api.key\" }";
const MUTUAL: &str = "tls = { cert = \"api.crt\", key = \"api.key\", client_ca_file = \"ca.pem\", client_crl_file = \"crl.pem\" }";

const BASE: &str = "provider = \"p\"\n[[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";

/// A request over TLS: its status, or none where the handshake is as far as it goes.
fn status(config: ClientConfig, to: SocketAddr, request: &str) -> Option<u16> {
    let mut wire = certs::connect(config, to, Some(NAMES[0])).ok()?;
    let answer = wire.send(format!("{request}\r\nHost: {}\r\nContent-Length: 0\r\n", NAMES[0])).send("\r\n");
    answer.response().ok().map(|response| response.status)
}

/// Files of an authority, of a server and of what is revoked.
fn files(directory: &Path) -> Authority {
    let authority = Authority::new("gates");
    authority.write(&directory.join("ca.pem"));
    authority.server(&NAMES).write(directory, "api");
    std::fs::write(directory.join("crl.pem"), authority.revokes(&[9])).unwrap();
    authority
}

#[test]
fn a_registry_that_asks_for_certificates() {
    let mut made = None;
    let world = World::with(|mut setup| {
        made = Some(files(setup.directory()));
        setup.filings.clear();
        setup.registry(MUTUAL)
    });
    let authority = made.unwrap();
    let registry = world.registry.unwrap();
    // A command on the same machine: to the running registry, of which the gate hears.
    let rows = format!("domain,number,access\n{F},京ICP备20000001号-1,example-cloud=active\n");
    std::fs::write(world.path("filings.csv"), rows).unwrap();
    let (code, _, err) = run(world.dir.path(), &["registry", "import", "filings.csv", "-c", "gate.toml"]);
    assert_eq!(code, 0, "{err}");
    world.in_force(F, "allow");
    let (code, out, err) =
        run(world.dir.path(), &["registry", "filing", "show", F, "--json", "-c", "gate.toml"]);
    assert!(code == 0 && out.contains(F), "{out}{err}");

    let ours = authority.client("gate-1", 1);
    let (revoked, stranger) = (authority.client("gate-9", 9), Authority::new("others").client("gate-1", 1));
    let get = format!("GET /v1/filings/{F} HTTP/1.1");
    let ask = |own: Option<&Issued>| status(authority.trusted(own), registry, &get);
    assert_eq!(ask(Some(&ours)), Some(200));
    for (who, own) in [("nothing", None), ("revoked", Some(&revoked)), ("another's", Some(&stranger))] {
        assert_eq!(ask(own), None, "{who}");
    }
    let clear = wire::Wire::clear(registry).send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").response();
    assert!(clear.is_err(), "{clear:?}");

    let follower = World::with(|setup| {
        authority.write(&setup.directory().join("ca.pem"));
        ours.write(setup.directory(), "own");
        setup
            .follow(&format!("https://{registry}"))
            .registry("ca_file = \"ca.pem\"\nclient_cert = \"own.crt\"\nclient_key = \"own.key\"")
    });
    follower.in_force(F, "allow");
    let unknown = World::with(|setup| {
        authority.write(&setup.directory().join("ca.pem"));
        setup.follow(&format!("https://{registry}")).registry("ca_file = \"ca.pem\"").unready()
    });
    wait("the registry's refusal", || unknown.status()["registry_error"].is_string().then_some(()));
    assert_eq!(unknown.ask("/readyz").status, 503);
}

/// A token and its line.
fn token(directory: &Path, name: &str, role: &str) -> (String, String) {
    let (code, line, token) = run(directory, &["token", name, role]);
    assert_eq!(code, 0, "{token}");
    assert!(!line.contains(token.trim()) && line.starts_with(&format!("{name} {role} ")), "{line}");
    (token.trim().to_owned(), line)
}

#[test]
fn an_admin_api_over_tls_that_knows_tokens_by_their_hashes() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let authority = files(dir.path());
    let (operator, one) = token(dir.path(), "li.wei", "operator");
    let (reader, other) = token(dir.path(), "desk", "reader");
    std::fs::write(dir.path().join("admin.tokens"), one + &other).unwrap();
    let setup = Setup::new(dir.path(), "127.0.0.1:1".parse().unwrap());
    let config = setup.admin(&format!("tokens_file = \"admin.tokens\"\n{TLS}")).write();
    let config = config.to_str().unwrap();
    let gate = Process::start(&["run", "-c", config], dir.path());
    let banner = gate.banner("admin");
    assert!(banner.starts_with("https://"), "{banner}");
    let admin = address(&banner);

    let shown = |line: &str, token: &str| {
        status(authority.trusted(None), admin, &format!("{line} HTTP/1.1\r\nAuthorization: Bearer {token}"))
    };
    assert_eq!(shown("GET /healthz", "none"), Some(200));
    let rows = [
        ("GET /v1/status", "wrong", 401),
        ("GET /v1/status", reader.as_str(), 200),
        ("POST /v1/held/apply", reader.as_str(), 403),
        ("POST /v1/held/apply", operator.as_str(), 409),
    ];
    for (line, token, expected) in rows {
        assert_eq!(shown(line, token), Some(expected), "{line} {token}");
    }

    // Commands believe the certificate in the config's file; the token comes from whoever runs them.
    let check = |token: &str| {
        let mut command = process::command(&["check", F, "--json", "-c", config], dir.path());
        let out = command.env("BEIAN_GATE_TOKEN", token).output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap()["source"].clone()
    };
    assert_eq!(check(&reader), "gate");
    assert_ne!(check("wrong"), "gate");

    // Renewed by another authority: in force with the next connection.
    let renewed = Authority::new("renewed");
    renewed.server(&NAMES).write(dir.path(), "api");
    wait("the new certificate", || status(renewed.trusted(None), admin, "GET /healthz HTTP/1.1"));
    assert_eq!(shown("GET /healthz", "none"), None);
    assert_eq!(check(&reader), "gate");
}

/// A session begun over TLS stays there: its cookie is never sent in clear, nor set from there.
#[test]
fn a_session_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let authority = files(dir.path());
    let setup = Setup::new(dir.path(), "127.0.0.1:1".parse().unwrap());
    let config = setup.admin(&format!("token_file = \"admin.token\"\n{TLS}")).write();
    let gate = Process::start(&["run", "-c", config.to_str().unwrap()], dir.path());
    let admin = address(&gate.banner("admin"));
    let ask = |line: &str, fields: &str, body: &str| {
        let mut wire = certs::connect(authority.trusted(None), admin, Some(NAMES[0])).unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\n{fields}Content-Length: {length}\r\n\r\n{body}",
            NAMES[0]
        );
        wire.send(request).response().unwrap()
    };
    let entered = ask("POST /login", "", &format!("token={ADMIN_TOKEN}"));
    let set = entered.header("set-cookie").unwrap().to_owned();
    assert_eq!(entered.status, 303);
    assert!(set.starts_with("__Host-beian_gate_session="), "{set}");
    for part in ["Path=/", "Secure", "HttpOnly", "SameSite=Strict"] {
        assert!(set.split("; ").any(|it| it == part), "no {part}: {set}");
    }
    assert!(!set.contains("Domain"), "{set}");
    let cookie = format!("Cookie: {}\r\n", set.split(';').next().unwrap());
    assert_eq!(ask("GET /v1/status", &cookie, "").status, 200);
    assert_eq!(ask("GET /v1/status", &cookie.replace("__Host-", ""), "").status, 401);
    let left = ask("POST /logout", &cookie, "");
    let gone = left.header("set-cookie").unwrap();
    assert!(left.status == 303 && gone.starts_with("__Host-") && gone.contains("Max-Age=0"), "{gone}");
    assert_eq!(ask("GET /v1/status", &cookie, "").status, 401);
}

/// What certificates are for: by whom they are issued to, or each by its digest; a token counts before them.
#[test]
fn roles_of_certificates() {
    let dir = tempfile::tempdir().unwrap();
    certs::make(dir.path());
    let authority = files(dir.path());
    let [desk, chief, other] = ["desk", "chief", "other"].map(|name| authority.client(name, 1));
    let (reader, line) = token(dir.path(), "machine", "reader");
    std::fs::write(dir.path().join("admin.tokens"), line).unwrap();
    let roles = format!(
        "client_roles = [{{ subject = \"CN=desk,O=Example\\\\, Inc.\", role = \"reader\" }}, \
         {{ sha256 = \"{}\", role = \"operator\" }}]",
        chief.sha256()
    );
    let tls = MUTUAL.replace(" }", &format!(", {roles} }}"));
    let start = |more: &str| {
        let setup = Setup::new(dir.path(), "127.0.0.1:1".parse().unwrap());
        let config = setup.admin(&format!("{more}{tls}")).write();
        let gate = Process::start(&["run", "-c", config.to_str().unwrap()], dir.path());
        let admin = address(&gate.banner("admin"));
        (gate, admin, config)
    };
    let (read, change) = ("GET /v1/status HTTP/1.1", "POST /v1/held/apply HTTP/1.1");
    let (gate, admin, config) = start("");
    let shown = |own: &Issued, line: &str| status(authority.trusted(Some(own)), admin, line);
    assert_eq!((shown(&desk, read), shown(&desk, change)), (Some(200), Some(403)));
    assert_eq!((shown(&chief, read), shown(&chief, change)), (Some(200), Some(409)));
    for line in [read, change] {
        assert_eq!(shown(&other, line), Some(403), "{line}");
        // Where no token is known, showing one makes nobody an operator.
        assert_eq!(shown(&other, &format!("{line}\r\nAuthorization: Bearer any")), Some(403), "{line}");
    }
    // Commands on this machine show the API's own.
    let (_, out, err) = run(dir.path(), &["check", F, "--json", "-c", config.to_str().unwrap()]);
    assert!(out.contains("\"gate\""), "{out}{err}");
    drop(gate);

    let (_gate, admin, _) = start("tokens_file = \"admin.tokens\"\n");
    let shown = |own: &Issued, line: &str| status(authority.trusted(Some(own)), admin, line);
    let with_token = |line: &str| format!("{line}\r\nAuthorization: Bearer {reader}");
    assert_eq!((shown(&desk, change), shown(&chief, change)), (Some(403), Some(409)));
    assert_eq!((shown(&other, read), shown(&other, &with_token(read))), (Some(401), Some(200)));
    assert_eq!(shown(&chief, &with_token(change)), Some(403), "it asked as the token's holder");
}

#[test]
fn nothing_is_open_to_a_network() {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let check = |tables: &str| {
        std::fs::write(dir.path().join("a.toml"), format!("{BASE}{tables}")).unwrap();
        let (code, out, err) = run(dir.path(), &["config", "check", "-c", "a.toml"]);
        (code, out + &err)
    };
    for section in [
        "[registry.embedded]\n[admin]\naddress = \"0.0.0.0:9090\"\n",
        "[registry.embedded]\naddress = \"[::]:7070\"\n",
    ] {
        let (code, said) = check(&format!("{section}{TLS}"));
        assert!(code == 2 && said.contains("must show a token or a certificate"), "{said}");
        let (_, said) = check(&format!("{section}{MUTUAL}"));
        assert!(!said.contains("must show"), "{said}");
    }
    let (code, said) =
        check("[registry.embedded]\n[admin]\ntls = { cert = \"api.crt\", key = \"ca.pem\" }\n");
    assert!(code != 0 && said.contains("ca.pem"), "{said}");
    let (code, said) =
        check("[admin]\ntls = { cert = \"api.crt\", key = \"api.key\", client_crl_file = \"crl.pem\" }\n");
    assert!(code == 2 && said.contains("client_ca_file"), "{said}");
    for (role, part) in [
        ("{ role = \"reader\" }", "say whose it is by one"),
        ("{ subject = \"CN=a\", role = \"gate\" }", "a role"),
        ("{ sha256 = \"12\", role = \"reader\" }", "64 hexadecimal digits"),
    ] {
        let tls = MUTUAL.replace(" }", &format!(", client_roles = [{role}] }}"));
        let (code, said) = check(&format!("[admin]\n{tls}\n"));
        assert!(code == 2 && said.contains(part), "{said}");
    }
}
