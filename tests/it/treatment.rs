//! What a site does to messages beyond forwarding them: fields, redirects, pages for errors. Each over both protocols.

use crate::world::h2_upstream::H2Upstream;
use crate::world::upstream::Then;
use crate::world::{F, U, World, wait};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// An HTTP/2 connection to the plain listener.
pub async fn h2(world: &World) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(TcpStream::connect(world.http()).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    client
}

/// One GET: status, fields, body.
pub async fn h2_get(
    client: &mut SendRequest<Full<Bytes>>,
    host: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> (u16, HeaderMap, Bytes) {
    let mut request = Request::get(format!("http://{host}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = client.send_request(request.body(Full::default()).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    (head.status.as_u16(), head.headers, body.collect().await.unwrap().to_bytes())
}

const RULES: &str = r#"
[site.request_headers]
remove = ["x-debug", "Cookie"]
set = { x-env = "prod", user-agent = "gate" }
add = { x-list = ["1", "2"] }
[site.response_headers]
remove = ["server"]
set = { x-frame-options = "DENY", "cache-control" = "no-cache" }
add = { set-cookie = "a=b" }
"#;

#[tokio::test]
async fn fields_are_set_added_and_removed() {
    let world = World::with(|setup| {
        let upstream = setup.upstream;
        setup.site(RULES).site(&format!(
            "[[site.route]]\nprefix = \"/r\"\nupstreams = [\"http://{upstream}\"]\n\
             [site.route.request_headers]\nset = {{ x-env = \"route\" }}\nremove = [\"x-list\"]\n\
             [site.route.response_headers]\nremove = [\"x-frame-options\", \"set-cookie\"]\n"
        ))
    });
    let answer = "HTTP/1.1 200 OK\r\nServer: old\r\nCache-Control: max-age=9\r\nX-Frame-Options: a\r\nX-Kept: y\r\n\
                  Set-Cookie: c=d\r\nContent-Length: 2\r\n\r\nok";
    world.upstream.answers("/", answer, Then::Keep);
    let fields = "X-Debug: 1\r\nx-debug: 2\r\nCookie: s=1\r\nX-Env: forged\r\nX-List: 0\r\nUser-Agent: curl\r\nX-Kept: y\r\n";
    let check = |path: &str, env: &str, list: &[&str], added: bool, got: &HeaderMap| {
        let seen = world.upstream.arrived(path);
        assert_eq!((seen.all("x-debug").len(), seen.all("cookie").len()), (0, 0), "{seen:?}");
        assert_eq!((seen.all("x-env"), seen.all("user-agent")), (vec![env], vec!["gate"]), "{seen:?}");
        assert_eq!((seen.all("x-list"), seen.header("x-kept")), (list.to_vec(), Some("y")), "{seen:?}");
        let all = |name: &str| got.get_all(name).iter().map(|it| it.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            (all("server").len(), all("x-kept"), all("cache-control")),
            (0, vec!["y"], vec!["no-cache"])
        );
        let expected = if added { (vec!["DENY"], vec!["c=d", "a=b"]) } else { (vec![], vec![]) };
        assert_eq!((all("x-frame-options"), all("set-cookie")), expected, "{got:?}");
    };
    let h1 = |path: &str| {
        let got = world.send(&format!("GET {path} HTTP/1.1\r\nHost: {F}\r\n{fields}\r\n"));
        assert_eq!((got.status, got.text().as_str()), (200, "ok"));
        let pairs = got.headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        pairs.collect::<HeaderMap>()
    };
    check("/h1", "prod", &["0", "1", "2"], true, &h1("/h1"));
    check("/r/h1", "route", &[], false, &h1("/r/h1"));
    let mut client = h2(&world).await;
    for (path, env, list, added) in
        [("/h2", "prod", &["0", "1", "2"][..], true), ("/r/h2", "route", &[], false)]
    {
        let asked = [
            ("x-debug", "1"),
            ("cookie", "s=1"),
            ("cookie", "t=2"),
            ("x-env", "forged"),
            ("x-list", "0"),
            ("user-agent", "curl"),
            ("x-kept", "y"),
        ];
        let (status, got, body) = h2_get(&mut client, F, path, &asked).await;
        assert_eq!((status, &body[..]), (200, &b"ok"[..]));
        check(path, env, list, added, &got);
    }
    world.upstream.assert_only(&[F]);
}

#[test]
fn fields_towards_an_http2_upstream() {
    let upstream = H2Upstream::start();
    let site =
        format!("[[site]]\nhosts = [\"h2.filed.cn\"]\nupstreams = [\"h2c://{}\"]\n{RULES}", upstream.address);
    let world = World::with(|setup| setup.toml(&site));
    let asked =
        "GET /only-head HTTP/1.1\r\nHost: h2.filed.cn\r\nX-Debug: 1\r\nX-Env: forged\r\nCookie: a\r\n\r\n";
    let got = world.send(asked);
    let seen = upstream.seen().remove(0);
    assert_eq!(
        (seen.header("x-env"), seen.header("x-debug"), seen.header("cookie")),
        (Some("prod"), None, None)
    );
    assert_eq!(seen.headers.get_all("x-list").iter().count(), 2);
    assert_eq!(
        (got.header("x-frame-options"), got.header("set-cookie")),
        (Some("DENY"), Some("a=b")),
        "{got:?}"
    );
}

#[tokio::test]
async fn what_is_elsewhere_is_said_to_be_there() {
    let world = World::with(|setup| {
        setup
            .toml(
                "[[site]]\nhosts = [\"old.filed.cn\", \"old.unfiled.cn\"]\nredirect = { to = \"https://new.example\", status = 308 }\n",
            )
            .site(
                "[[site.route]]\nprefix = \"/blog\"\nredirect = { to = \"/news/\", path = \"rest\" }\n\
                 [[site.route]]\nprefix = \"/gone\"\nredirect = { to = \"https://a.example/?gone\", status = 302, path = \"replace\" }\n",
            )
    });
    let mut client = h2(&world).await;
    let rows = [
        ("old.filed.cn", "/a//b?c=%20", 308, "https://new.example/a//b?c=%20"),
        (F, "/blog/2026?x", 301, "/news/2026?x"),
        (F, "/blog//evil.example", 301, "/news//evil.example"),
        (F, "/gone/x", 302, "https://a.example/?gone"),
    ];
    for (host, path, status, location) in rows {
        let got = world.get(host, path);
        assert_eq!((got.status, got.header("location")), (status, Some(location)), "{got:?}");
        assert_eq!((got.verdict(), got.header("cache-control")), ("redirect", Some("no-store")), "{got:?}");
        let (h2_status, fields, _) = h2_get(&mut client, host, path, &[]).await;
        assert_eq!((h2_status, fields["location"].to_str().unwrap()), (status, location));
        assert_eq!(fields["beian-verdict"], "redirect");
    }
    // The verdict stands before every redirect, and what is no redirect's goes on.
    assert_eq!(world.get("old.unfiled.cn", "/").verdict(), "unfiled");
    assert_eq!(world.get(F, "/blogs").status, 200);
    assert_eq!(world.upstream.heads().len(), 1);
    let lines = wait("the log", || Some(world.log()).filter(|lines| lines.len() == 2 * rows.len() + 2));
    assert_eq!((&lines[0]["verdict"], &lines[0]["status"]), (&"redirect".into(), &308.into()));
    assert_eq!(lines[0]["number"], "京ICP备20000001号-1");
}

#[tokio::test]
async fn errors_in_the_operators_words() {
    let world = World::with(|setup| {
        let file = |name: &str, text: &str| std::fs::write(setup.directory().join(name), text).unwrap();
        file("502.html", "<h1>ours</h1>");
        file("502.json", "{\"ours\": true}");
        file("404.txt", "nothing here");
        file("route.html", "<h1>the route's</h1>");
        let nowhere = "http://127.0.0.1:1";
        setup.toml(&format!(
            "[error_pages]\n404 = \"404.txt\"\n\
             [[site]]\nhosts = [\"down.filed.cn\"]\nupstreams = [\"{nowhere}\"]\n\
             [site.error_pages]\n502 = [\"502.html\", \"502.json\"]\n\
             [[site.route]]\nprefix = \"/api\"\nupstreams = [\"{nowhere}\"]\n\
             [site.route.error_pages]\n502 = \"route.html\"\n\
             [[site]]\nhosts = [\"plain.filed.cn\"]\nupstreams = [\"{nowhere}\"]\n"
        ))
    });
    let ask = |host: &str, path: &str, accept: &str| {
        world.send(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"))
    };
    let rows = [
        ("down.filed.cn", "/", "*/*", 502, "text/html; charset=utf-8", "<h1>ours</h1>"),
        ("down.filed.cn", "/", "application/json", 502, "application/json", "{\"ours\": true}"),
        ("down.filed.cn", "/", "text/plain", 502, "text/html; charset=utf-8", "<h1>ours</h1>"),
        ("down.filed.cn", "/api/x", "*/*", 502, "text/html; charset=utf-8", "<h1>the route's</h1>"),
        ("nosite.filed.cn.example", "/", "*/*", 451, "text/html; charset=utf-8", ""),
    ];
    for (host, path, accept, status, kind, body) in rows {
        let got = ask(host, path, accept);
        assert_eq!((got.status, got.header("content-type")), (status, Some(kind)), "{got:?}");
        assert!(got.header("beian-verdict-id").is_some() && got.header("cache-control") == Some("no-store"));
        if status == 502 {
            assert_eq!((got.text().as_str(), got.verdict()), (body, "upstream_error"), "{got:?}");
            assert_eq!((got.header("content-language"), got.header("content-security-policy")), (None, None));
        }
    }
    // A site without pages of its own, and an unfiled name, are told what they always were.
    assert!(ask("plain.filed.cn", "/", "*/*").header("content-language").is_some());
    assert!(world.get(U, "/").header("content-language").is_some());
    let mut client = h2(&world).await;
    let (status, fields, body) = h2_get(&mut client, "down.filed.cn", "/", &[]).await;
    assert_eq!(
        (status, &body[..], &fields["beian-verdict"]),
        (502, &b"<h1>ours</h1>"[..], &"upstream_error".parse().unwrap())
    );
}

/// An allowed host that no site names reads what `[error_pages]` has.
#[test]
fn no_site_in_the_operators_words() {
    let world = World::with(|setup| {
        std::fs::write(setup.directory().join("404.txt"), "nothing here").unwrap();
        setup
            .toml("[error_pages]\n404 = \"404.txt\"\n")
            .filing("elsewhere.cn", crate::world::connected("京ICP备20000009号-1"))
    });
    let got = world.get("elsewhere.cn", "/");
    assert_eq!((got.status, got.verdict(), got.text().as_str()), (404, "no_site", "nothing here"), "{got:?}");
}
