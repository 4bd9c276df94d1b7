//! No secret is told: neither by errors, nor by logs, nor by any page for operators.

use crate::world::setup::{ADMIN_TOKEN, Setup};
use crate::world::upstream::{Then, Upstream};
use crate::world::{F, U, World, run, wait, wire};
use serde_json::Value;
use std::path::Path;

/// A configured secret: what it is, and what it says.
type Secret = (&'static str, String);

const REGISTRY_TOKEN: &str = "S3CRET-registry-token";
const SESSION_TICKETS: &str =
    "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e7";

/// Whatever is made up by these tests has this in it.
const MARK: &str = "S3CRET";

fn files(directory: &Path) -> Vec<Secret> {
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write("registry.token", REGISTRY_TOKEN);
    write("hook.secret", "S3CRET-of-the-hook");
    write("otlp.token", "S3CRET-of-the-collector");
    write("tickets", SESSION_TICKETS);
    let (code, line, token) = run(directory, &["token", "desk", "reader"]);
    assert_eq!(code, 0, "{token}");
    write("admin.tokens", &line);
    write("registry.tokens", &line.replace(" reader ", " reviewer "));
    // A line in the middle of the key is what nobody else writes.
    let key = std::fs::read_to_string(directory.join("certs/shared.key")).unwrap();
    vec![
        ("what the tests make up", MARK.to_owned()),
        ("the admin token", ADMIN_TOKEN.to_owned()),
        ("a token known by its hash", token.trim().to_owned()),
        ("the keys of tickets", SESSION_TICKETS[..32].to_owned()),
        ("a certificate's key", key.lines().nth(1).unwrap()[40..].to_owned()),
    ]
}

fn configured(mut setup: Setup, receiver: &Upstream) -> Setup {
    let receiver = receiver.address;
    // What is put into the registry here wants its token.
    setup.filings.clear();
    setup
        .admin("token_file = \"admin.token\"\ntokens_file = \"admin.tokens\"")
        .registry("token_file = \"registry.token\"\ntokens_file = \"registry.tokens\"")
        .tls("ticket_keys = \"tickets\"")
        .site(
            "[site.request_headers]\nset = { authorization = \"Basic S3CRET\", cookie = \"a=S3CRET\", x-api-key = \"S3CRET\" }",
        )
        .toml(&format!(
            "[audit]\nfile = \"audit.log\"\n\
             [otlp]\nendpoint = \"http://u:S3CRET@{receiver}/traces?key=S3CRET\"\ntoken_file = \"otlp.token\"\n\
             [[webhook]]\nname = \"fails\"\nurl = \"http://{receiver}/hook/S3CRET?word=S3CRET\"\nsecret_file = \"hook.secret\"\n\
             [[webhook]]\nname = \"away\"\nurl = \"http://127.0.0.1:1/S3CRET\"\nsecret_file = \"hook.secret\"\n"
        ))
}

/// Configs with a secret in a mistake: what is replaced by what, and the key that the error names.
const MISTAKES: [(&str, &str, &str); 15] = [
    (
        "[cache]",
        "[[site]]\nhosts = [\"x.cn\"]\nupstreams = [\"http://u:S3CRET@10.0.0.1/x\"]\n[cache]",
        "site.upstreams",
    ),
    (
        "[cache]",
        "[[site]]\nhosts = [\"x.cn\"]\nupstreams = [\n  \"u:S3CRET@10.0.0.1\",\n]\n[cache]",
        "site.upstreams",
    ),
    (
        "[registry.embedded]",
        "[registry]\nurl = \"http://u:S3CRET@10.0.0.1\"\n[registry.embedded]",
        "registry.url",
    ),
    ("\"sqlite:registry.db\"", "\"postgres://u:S3CRET@[::1:/x\"", "registry.embedded.database"),
    ("\"sqlite:registry.db\"", "\"mysql://u:S3CRET@10.0.0.1/x\"", "registry.embedded.database"),
    (
        "[audit]",
        "[[webhook]]\nname = \"x\"\nurl = \"htp://u:S3CRET@h/S3CRET\"\nsecret_file = \"hook.secret\"\n[audit]",
        "webhook.url",
    ),
    ("secret_file = \"hook.secret\"", "secret = \"S3CRET\"", "webhook.secret"),
    ("token_file = \"admin.token\"", "token = \"S3CRET\"", "admin.token"),
    ("token_file = \"registry.token\"", "token_file = \"S3CRET-as-such\"", "registry.embedded.token_file"),
    ("token_file = \"otlp.token\"", "password = 'S3CRET'", "otlp.password"),
    ("endpoint = \"http", "endpoint = \"ftp", "otlp.endpoint"),
    ("[cache]", "[syslog]\nto = \"http://u:S3CRET@h\"\n[cache]", "syslog.to"),
    ("[cache]", "[cash]\npassword = \"S3CRET\"\n[cache]", "cash"),
    ("x-api-key = \"S3CRET\" }", "x-api-key = \"S3CRET\", x_y = \"S3CRET\" }", "x_y"),
    ("token_file = \"admin.token\"", "token = S3CRET", "this is no TOML"),
];

/// Files with a mistake: the name, what it holds, and what the refusal names.
const BROKEN_FILES: [(&str, &str, &str); 5] = [
    ("hook.secret", "S3CRET", "webhook.secret_file"),
    ("otlp.token", "S3CRET and more", "otlp.token_file"),
    ("registry.tokens", "desk S3CRET 5ec7e7", "registry.embedded.tokens_file"),
    ("tickets", "S3CRET", "ticket_keys"),
    (
        "certs/own.key",
        // In pieces: it looks like a key and is none.
        concat!("-----BEGIN ", "PRIVATE KEY-----\nS3CRETS3CRET\n-----END ", "PRIVATE KEY-----\n"),
        "own.key",
    ),
];

/// What is told, and by whom.
fn told(world: &World) -> Vec<(&'static str, String)> {
    let file = |name: &str| std::fs::read_to_string(world.path(name)).unwrap_or_default();
    let mut told = vec![
        ("the log", world.process.output()),
        ("the access log", file("access.log")),
        ("the audit log", file("audit.log")),
    ];
    for path in [
        "/v1/status",
        "/v1/config",
        "/metrics",
        "/v1/log",
        "/v1/lists",
        "/v1/warnings",
        "/v1/upstreams",
        "/v1/blocked",
        "/",
        "/console/log",
        "/console/due",
        "/console/upstreams",
        "/console/lists",
        "/console/fleet",
    ] {
        told.push((path, world.ask(path).text()));
    }
    told
}

#[track_caller]
fn none_is_told(secrets: &[Secret], told: &[(&str, String)]) {
    for (place, text) in told {
        for (what, secret) in secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{what} in {place}: {}", line.unwrap());
        }
    }
}

/// What commands say of a config.
#[track_caller]
fn commands_refuse(directory: &Path, secrets: &[Secret], names: &str) {
    for arguments in
        [["config", "check"].as_slice(), &["config", "show"], &["run"], &["registry", "export", "-"]]
    {
        let (code, out, err) = run(directory, &[arguments, &["-c", "gate.toml"]].concat());
        assert!(code != 0 && (out.clone() + &err).contains(names), "{arguments:?}: {code} {out}{err}");
        none_is_told(secrets, &[("a command's words", out + &err)]);
    }
}

/// Reads the config again, and waits until it is refused for that.
#[track_caller]
fn refused(world: &World, names: &str) {
    world.process.hang_up();
    wait(names, || {
        let status = world.status();
        status["reload"]["error"].as_str().filter(|error| error.contains(names)).map(drop)
    });
}

#[test]
fn no_secret_is_told() {
    let receiver = Upstream::start();
    receiver.on("/", |exchange| {
        exchange.body();
        exchange.answer("500 No", "");
        Then::Close
    });
    let mut secrets = Vec::new();
    let world = World::with(|setup| {
        secrets = files(setup.directory());
        configured(setup, &receiver)
    });
    let registry = world.registry.unwrap();
    let with_token = |token: &str| format!("Authorization: Bearer {token}\r\n");
    for domain in [F, "other.cn"] {
        let body = crate::world::connected("京ICP备20000001号-1").to_string();
        let put = ("PUT", &*format!("/v1/filings/{domain}"));
        let answer = wire::try_ask_with(registry, put, &with_token(REGISTRY_TOKEN), &body).unwrap();
        assert!(domain != F || answer.status < 300, "{answer:?}");
    }
    world.in_force(F, "allow");
    secrets.push(("a session", log_in(&world)));
    strangers(&world);
    // A warning is due, and neither receiver takes it.
    let test = wire::try_ask_with(world.admin, ("POST", "/v1/warnings/test"), &with_token(ADMIN_TOKEN), "");
    assert!(test.unwrap().status < 300);
    wait("both receivers to fail", || {
        let hooks = world.status()["warnings"]["webhooks"].as_array()?.clone();
        hooks.iter().all(|hook| hook["error"].is_string()).then_some(())
    });
    wait("the collector to fail", || world.process.output().contains("takes no spans").then_some(()));

    let good = std::fs::read_to_string(world.path("gate.toml")).unwrap();
    let write = |text: &str| std::fs::write(world.path("gate.toml"), text).unwrap();
    for (from, to, names) in MISTAKES {
        assert!(good.contains(from), "{from}");
        write(&good.replacen(from, to, 1));
        refused(&world, names);
        let error = world.status()["reload"]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("gate.toml:") && error.contains('^'), "it says where: {error}");
    }
    write(&good);
    for (name, text, names) in BROKEN_FILES {
        let before = std::fs::read(world.path(name)).unwrap();
        std::fs::write(world.path(name), text).unwrap();
        refused(&world, names);
        std::fs::write(world.path(name), before).unwrap();
    }
    world.process.hang_up();
    wait("the good config", || (world.status()["reload"]["is_in_force"] == true).then_some(()));
    world.assert_well();
    wait("its line", || world.log().iter().any(|line| line["target"] == "/well").then_some(()));
    wait("the audit log", || {
        let lines = std::fs::read_to_string(world.path("audit.log")).unwrap();
        (lines.matches("\"reload\"").count() > MISTAKES.len()).then_some(())
    });
    none_is_told(&secrets, &told(&world));
    // They were there to be told: the upstream and the receiver have seen what is for them.
    assert_eq!(world.upstream.arrived("/well").header("cookie"), Some("a=S3CRET"));
    assert!(receiver.requests().iter().any(|it| it.target.contains("/hook/S3CRET")));
}

/// Logs in with the token; the session's cookie.
fn log_in(world: &World) -> String {
    let login = |token: &str| {
        let body = format!("token={token}");
        wire::Wire::clear(world.admin)
            .send(format!(
                "POST /login HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}",
                world.admin,
                body.len()
            ))
            .response()
            .unwrap()
    };
    assert_eq!(login("S3CRET-wrong").status, 401);
    let cookie = login(ADMIN_TOKEN).header("set-cookie").unwrap().to_owned();
    cookie.split([';', '=']).nth(1).unwrap().to_owned()
}

/// Requests that show secrets, right and wrong, to everybody.
fn strangers(world: &World) {
    let shown = "Authorization: Bearer S3CRET\r\nProxy-Authorization: Basic S3CRET\r\nCookie: session=S3CRET\r\nX-Api-Key: S3CRET\r\n";
    for host in [F, U, "10.0.0.1", "a b"] {
        world.send(&format!("GET /asked HTTP/1.1\r\nHost: {host}\r\n{shown}\r\n"));
    }
    for address in [world.admin, world.registry.unwrap()] {
        for line in ["GET /v1/status", "GET /v1/filings/filed.cn", "PUT /v1/filings/filed.cn"] {
            let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\n{shown}Content-Length: 0\r\n\r\n");
            let answer = wire::Wire::clear(address).send(request).response().unwrap();
            assert!(matches!(answer.status, 401 | 404), "{line}: {answer:?}");
        }
    }
}

/// Commands say what is wrong, and where, without the secret in it.
#[test]
fn commands_tell_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    crate::world::certs::make(directory.path());
    let secrets = files(directory.path());
    let setup =
        || configured(Setup::new(directory.path(), "127.0.0.1:1".parse().unwrap()), &Upstream::start());
    let config = setup().write();
    let good = std::fs::read_to_string(&config).unwrap();
    for (from, to, names) in [MISTAKES[0], MISTAKES[3], MISTAKES[5], MISTAKES[7], MISTAKES[14]] {
        std::fs::write(&config, good.replacen(from, to, 1)).unwrap();
        commands_refuse(directory.path(), &secrets, names);
    }
    // The address of a server that is away is shown: the password in it is not.
    let away = "postgres://me:S3CRET@127.0.0.1:1/x?password=S3CRET&connect_timeout=1";
    std::fs::write(&config, good.replace("sqlite:registry.db", away)).unwrap();
    for arguments in [["run"].as_slice(), &["registry", "export", "-"], &["registry", "serve"]] {
        let (code, out, err) = run(directory.path(), &[arguments, &["-c", "gate.toml"]].concat());
        assert!(code != 0 && err.contains("127.0.0.1:1"), "{arguments:?}: {code} {out}{err}");
        none_is_told(&secrets, &[("a command's words", out + &err)]);
    }
    std::fs::write(&config, &good).unwrap();
    let (code, out, err) = run(directory.path(), &["config", "show", "-c", "gate.toml"]);
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert!(
        code == 0 && shown["config"]["otlp"]["endpoint"].as_str().unwrap().contains("/traces"),
        "{out}{err}"
    );
    none_is_told(&secrets, &[("config show", out + &err)]);
}
