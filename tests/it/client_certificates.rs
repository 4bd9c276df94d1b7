//! Certificates of clients: who is let in to a site that asks for them, and what its upstream is told.

use crate::world::authority::{Authority, Issued};
use crate::world::h2::{self, END_HEADERS, END_STREAM, H2, HEADERS, Outcome};
use crate::world::h2_upstream::H2Upstream;
use crate::world::upstream::Request;
use crate::world::wire::{Response, Wire};
use crate::world::{F, UC, World, certs, wait};

/// Under F's filing and certificate: asks for nothing; takes what there is.
const PLAIN: &str = "plain.filed.cn";
const MAYBE: &str = "maybe.filed.cn";
const SUBJECT: &str = "CN=gate-1,O=Example\\, Inc.";
const FORGED: &str = "X-Client-Cert-Subject: CN=admin\r\nx-client-cert-verify: success\r\nClient-Cert: :AAAA:\r\n\
                      X_Client_Cert_Subject: CN=admin\r\n";

/// F and all that shares its site ask for a certificate that `Authority` has issued and not revoked.
fn world() -> (World, Authority) {
    let mut made = None;
    let world = World::with(|setup| {
        let authority = Authority::new("customers");
        authority.write(&setup.directory().join("ca.pem"));
        std::fs::write(setup.directory().join("crl.pem"), authority.revokes(&[9])).unwrap();
        made = Some(authority);
        let asks = "client_certificates = { ca_file = \"ca.pem\", crl_file = \"crl.pem\"";
        setup
            .site(&format!("{asks} }}"))
            .site_for(&format!("\"{PLAIN}\""), "")
            .site_for(&format!("\"{MAYBE}\""), &format!("{asks}, demand = \"optional\" }}\n"))
    });
    (world, made.unwrap())
}

fn connect(world: &World, own: Option<&Issued>, sni: &str, alpn: &[&str]) -> Result<Wire, String> {
    let mut config = world.tls.config(alpn);
    if let Some(own) = own {
        config.client_auth_cert_resolver = own.resolver();
    }
    certs::connect(config, world.https(), Some(sni))
}

/// An answer, or none where the handshake is as far as it goes.
fn get(world: &World, own: Option<&Issued>, (sni, host): (&str, &str), path: &str) -> Option<Response> {
    let mut wire = connect(world, own, sni, &[]).ok()?;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{FORGED}\r\n")).response().ok()
}

/// What the upstream was told of certificates.
fn told(request: &Request) -> Vec<(String, String)> {
    let is_about = |name: &str| name.replace('_', "-").contains("client-cert");
    let about = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    about.filter(|(name, _)| is_about(name)).collect()
}

#[track_caller]
fn assert_named(request: &Request) {
    let told = told(request);
    let names: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    let parts =
        ["verify", "subject", "issuer", "serial", "sha256"].map(|part| format!("x-client-cert-{part}"));
    assert_eq!(names, parts, "each once, and nothing else");
    assert_eq!((told[0].1.as_str(), told[1].1.as_str(), told[3].1.as_str()), ("success", SUBJECT, "01"));
}

#[test]
fn who_is_let_in() {
    let (world, authority) = world();
    let (ours, revoked) = (authority.client("gate-1", 1), authority.client("gate-9", 9));
    let stranger = Authority::new("customers").client("gate-1", 1);
    assert_eq!(get(&world, Some(&ours), (F, F), "/ours").unwrap().status, 200);
    assert_named(&world.upstream.request("/ours"));
    for (who, own) in [("nothing", None), ("revoked", Some(&revoked)), ("another's", Some(&stranger))] {
        assert!(get(&world, own, (F, F), "/refused").is_none(), "{who}");
    }
    // A blocked name of the same site shows its page to everybody.
    assert_eq!(get(&world, None, (UC, UC), "/blocked").unwrap().status, 451);

    // What may be shown, need not.
    assert_eq!(get(&world, None, (MAYBE, MAYBE), "/without").unwrap().status, 200);
    let without = told(&world.upstream.request("/without"));
    assert_eq!(without, [("x-client-cert-verify".to_owned(), "none".to_owned())]);
    assert_eq!(get(&world, Some(&ours), (MAYBE, MAYBE), "/with").unwrap().status, 200);
    assert_named(&world.upstream.request("/with"));
    assert!(get(&world, Some(&revoked), (MAYBE, MAYBE), "/refused").is_none());

    // Where nobody is asked, nobody can say so.
    assert_eq!(get(&world, None, (PLAIN, PLAIN), "/plain").unwrap().status, 200);
    assert_eq!(told(&world.upstream.request("/plain")), []);

    // A connection for one site is none for another that asks for something else; nor is one in clear.
    for (sni, host) in [(PLAIN, F), (PLAIN, MAYBE), (MAYBE, F), (F, MAYBE)] {
        let answer = get(&world, Some(&ours), (sni, host), "/refused").unwrap();
        assert_eq!((answer.status, answer.verdict()), (421, "misdirected"), "{sni} {host}");
    }
    assert_eq!(get(&world, Some(&ours), (F, PLAIN), "/plain-too").unwrap().status, 200);
    assert_eq!(told(&world.upstream.request("/plain-too")), [], "its upstream is not told");
    assert_eq!(world.get(F, "/refused").status, 421);
    let clear = format!("GET /clear HTTP/1.1\r\nHost: {MAYBE}\r\n{FORGED}\r\n");
    assert_eq!(world.send(&clear).status, 200);
    assert_eq!(told(&world.upstream.request("/clear")), []);
    assert!(world.upstream.heads().iter().all(|request| request.target != "/refused"));

    // Lists are read again when they change; 2 was good until then.
    let second = authority.client("gate-2", 2);
    assert_eq!(get(&world, Some(&second), (F, F), "/second").unwrap().status, 200);
    let since = world.ask("/v1/config").json()["since"].clone();
    std::fs::write(world.path("crl.pem"), authority.revokes(&[2])).unwrap();
    wait("the new list", || get(&world, Some(&second), (F, F), "/last").is_none().then_some(()));
    let metric = |name: &str, file: &str| {
        let found = format!("beian_gate_{name}{{file=\"{file}\"}} ");
        let text = world.ask("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(&found)?.parse::<i64>().ok())
    };
    // 2100-01-01, as the authority writes them.
    assert_eq!(metric("revocation_list_next_update_seconds", "crl.pem"), Some(4_102_444_800));
    assert!(metric("trust_not_after_seconds", "ca.pem").is_some());
    // One that is wrong changes nothing, and is told of.
    std::fs::write(world.path("crl.pem"), "no list").unwrap();
    wait("the refusal", || (world.metric("beian_gate_reload_refused") == 1).then_some(()));
    assert_eq!(get(&world, Some(&ours), (F, F), "/still").unwrap().status, 200);
    assert!(get(&world, Some(&second), (F, F), "/refused").is_none());
    assert_eq!(world.ask("/v1/config").json()["since"], since, "the config is the same");
}

/// Whom upstreams are believed by is watched as well.
#[test]
fn upstreams_authorities() {
    let upstream = H2Upstream::start_tls();
    let world = World::with(|setup| {
        Authority::new("another").write(&setup.directory().join("upstreams.pem"));
        let address = upstream.address;
        setup.toml(&format!(
            "[[site]]\nhosts = [\"secured.filed.cn\"]\nupstreams = [\"https://{address}\"]\n\
             tls = {{ ca_file = \"upstreams.pem\" }}\n"
        ))
    });
    assert_eq!(world.get("secured.filed.cn", "/").status, 502);
    std::fs::write(world.path("upstreams.pem"), &upstream.pem).unwrap();
    wait("the new authority", || (world.get("secured.filed.cn", "/").status == 200).then_some(()));
}

#[test]
fn streams() {
    let (world, authority) = world();
    let ours = authority.client("gate-1", 1);
    let fields = |host: &str, path: &str| {
        let pairs = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", path),
            (":authority", host),
            ("x-client-cert-subject", "CN=admin"),
            ("client-cert", ":AAAA:"),
        ];
        pairs.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
    };
    let ask = |h2: &mut H2, stream: u32, host: &str, path: &str| {
        h2.frame(HEADERS, END_HEADERS | END_STREAM, stream, &h2::block(&fields(host, path)));
        h2.outcome(stream)
    };
    let mut h2 = H2::start(connect(&world, Some(&ours), F, &["h2"]).unwrap());
    assert_eq!(ask(&mut h2, 1, F, "/stream"), Outcome::Status(200));
    assert_named(&world.upstream.arrived("/stream"));
    assert_eq!(ask(&mut h2, 3, MAYBE, "/refused"), Outcome::Status(421));
    assert_eq!(ask(&mut h2, 5, F, "/again"), Outcome::Status(200));
    let mut plain = H2::start(connect(&world, Some(&ours), PLAIN, &["h2"]).unwrap());
    assert_eq!(ask(&mut plain, 1, F, "/refused"), Outcome::Status(421));
    assert_eq!(ask(&mut plain, 3, PLAIN, "/plain"), Outcome::Status(200));
    assert_eq!(told(&world.upstream.arrived("/plain")), []);
    assert!(world.upstream.heads().iter().all(|request| request.target != "/refused"));
}
