//! Section 1: names. Every row is a Host value; most bypasses of a name filter are here.

use super::Expect::{self, Block, Forward, ForwardOrRefuse, Ip, Refuse, Status};
use super::{LANES, Lane, http2, octets};
use crate::world::World;
use crate::world::h2::Outcome;

/// Hosts in the Host header of an HTTP/1.1 request, in clear and over TLS.
#[track_caller]
fn check(rows: &[(&str, Expect)]) {
    let world = World::with(|setup| {
        setup.site_for("\"exempt.cn\", \"*.exempt.cn\"", "").toml(
            "[enforcement]\nexceptions = [{ host = \"exempt.cn\", until = \"2099-01-01\", reason = \"r\", owner = \"o\" }]",
        )
    });
    let request = |host: &str| format!("GET /name HTTP/1.1⏎Host: {host}⏎⏎");
    let texts: Vec<_> = rows.iter().map(|(host, expect)| (request(host), *expect)).collect();
    super::check_made(&world, &texts);
    for lane in LANES {
        for (host, expect) in rows {
            for name in [":authority", "host"] {
                check_http2(&world, lane, (name, host), *expect);
            }
        }
    }
    world.assert_well();
}

/// The same in a stream's `:authority`, or in its `host` alone.
#[track_caller]
fn check_http2(world: &World, lane: Lane, (name, host): (&str, &str), expect: Expect) {
    // Here nothing is taken off a value: a space is part of it.
    let expect = match expect {
        Forward(exactly) if octets(host).iter().any(|octet| octet.is_ascii_whitespace()) => {
            ForwardOrRefuse(exactly)
        }
        other => other,
    };
    let before = world.upstream.heads().len();
    let mut h2 = http2::open(world, lane);
    let mut fields = http2::fields("{}");
    fields.push((name.into(), octets(host)));
    h2.request(1, &fields);
    let outcome = h2.outcome(1);
    let seen: Vec<_> =
        world.upstream.heads().split_off(before).iter().map(|one| one.host().to_owned()).collect();
    let is_forwarded = outcome == Outcome::Status(200);
    let is_right = match expect {
        Forward(exactly) | ForwardOrRefuse(exactly) if is_forwarded => seen == [exactly],
        _ => seen.is_empty(),
    };
    assert!(
        http2::is_as(expect, lane, &outcome) && is_right,
        "{lane:?} {name}={host:?} expected {expect:?}: {outcome:?}, upstream {seen:?}"
    );
}

#[test]
fn filed_in_every_spelling() {
    check(&[
        ("filed.cn", Forward("filed.cn")),
        ("FILED.CN", Forward("filed.cn")),
        ("fIlEd.Cn", Forward("filed.cn")),
        ("filed.cn.", Forward("filed.cn")),
        ("filed.cn:80", Forward("filed.cn")),
        ("filed.cn:", Forward("filed.cn")),
        ("filed.cn.:8080", Forward("filed.cn")),
        ("  filed.cn  ", Forward("filed.cn")),
        ("⇥filed.cn", Forward("filed.cn")),
        ("www.filed.cn", Forward("www.filed.cn")),
        ("WWW.filed.CN.", Forward("www.filed.cn")),
        ("xn--fiqs8s.filed.cn", Forward("xn--fiqs8s.filed.cn")),
    ]);
}

#[test]
fn unfiled_in_every_spelling() {
    check(&[
        ("unfiled.cn", Block),
        ("UNFILED.CN", Block),
        ("unFiled.Cn", Block),
        ("unfiled.cn.", Block),
        ("unfiled.cn:80", Block),
        ("unfiled.cn:443", Block),
        ("unfiled.cn:65535", Block),
        ("unfiled.cn:", Block),
        ("unfiled.cn.:", Block),
        ("unfiled.cn.:8080", Block),
        ("www.unfiled.cn", Block),
        ("a.b.c.d.unfiled.cn", Block),
        ("unfiled-cert.cn", Block),
        ("nobody-knows.com", Block),
    ]);
}

#[test]
fn suffix_tricks() {
    check(&[
        ("filed.cn.evil.example", Block),
        ("filed.cn.unfiled.cn", Block),
        ("filed.cn.com", Block),
        ("evilfiled.cn", Block),
        ("evil-filed.cn", Block),
        ("filed.com", Block),
        ("filed.com.cn", Block),
        ("filed.gov.cn", Block),
        ("filedcn", Refuse),
        ("cn", Refuse),
        ("com.cn", Refuse),
        ("gov.cn", Refuse),
        ("localhost", Refuse),
        ("www.exempt.cn", Block),
        ("evilexempt.cn", Block),
    ]);
}

#[test]
fn no_names() {
    check(&[
        ("", Status(400)),
        (".", Status(400)),
        ("..", Status(400)),
        (".filed.cn", Status(400)),
        (".unfiled.cn", Status(400)),
        ("filed.cn..", Status(400)),
        ("unfiled.cn..", Status(400)),
        ("www..filed.cn", Status(400)),
        ("*.filed.cn", Status(400)),
        ("*", Status(400)),
        ("-filed.cn", Refuse),
        ("xn--a.cn", Refuse),
        ("xn--.filed.cn", Refuse),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.filed.cn", Status(400)),
        ("filed.cn␀", Status(400)),
        ("filed.cn␀.unfiled.cn", Status(400)),
        ("unfiled.cn␀.filed.cn", Status(400)),
        ("filed.cn␁", Status(400)),
        ("⍰filed.cn", Status(400)),
        ("政府.政务", Status(400)),
        ("ｆｉｌｅｄ.cn", Status(400)),
        ("filed。cn", Status(400)),
        ("filed．cn", Status(400)),
        ("fileⓓ.cn", Status(400)),
        ("file\u{ad}d.cn", Status(400)),
        ("ſiled.cn", Status(400)),
    ]);
}

#[test]
fn ports() {
    check(&[
        ("filed.cn:http", Status(400)),
        ("filed.cn:65536", Status(400)),
        ("filed.cn:99999999999", Status(400)),
        ("filed.cn:-1", Status(400)),
        ("filed.cn:+80", Status(400)),
        ("filed.cn:8 0", Status(400)),
        ("filed.cn: 80", Status(400)),
        ("filed.cn:80:80", Status(400)),
        ("filed.cn::80", Status(400)),
        ("unfiled.cn:80:filed.cn", Status(400)),
        (":80", Status(400)),
        (":", Status(400)),
        ("filed.cn:80.", Status(400)),
        ("filed.cn:８０", Status(400)),
    ]);
}

#[test]
fn userinfo_lists_and_paths() {
    check(&[
        ("filed.cn@unfiled.cn", Status(400)),
        ("unfiled.cn@filed.cn", Status(400)),
        ("user:pass@filed.cn", Status(400)),
        ("@filed.cn", Status(400)),
        ("filed.cn@", Status(400)),
        ("filed.cn, unfiled.cn", Status(400)),
        ("unfiled.cn,filed.cn", Status(400)),
        ("filed.cn,", Status(400)),
        ("filed.cn unfiled.cn", Status(400)),
        ("unfiled.cn⇥filed.cn", Status(400)),
        ("filed.cn/", Status(400)),
        ("filed.cn/unfiled.cn", Status(400)),
        ("filed.cn?unfiled.cn", Status(400)),
        ("filed.cn#unfiled.cn", Status(400)),
        ("filed.cn\\unfiled.cn", Status(400)),
        ("filed.cn;unfiled.cn", Status(400)),
        ("http://filed.cn", Status(400)),
        ("//filed.cn", Status(400)),
        ("\"filed.cn\"", Status(400)),
        ("<filed.cn>", Status(400)),
        ("[filed.cn]", Status(400)),
        ("(x)filed.cn", Status(400)),
        ("filed%2ecn", Status(400)),
        ("filed.cn%00.unfiled.cn", Status(400)),
        ("%75nfiled.cn", Status(400)),
        ("%66iled.cn", Status(400)),
    ]);
}

#[test]
fn addresses() {
    check(&[
        ("127.0.0.1", Ip),
        ("127.0.0.1:80", Ip),
        ("127.0.0.1.", Ip),
        ("203.0.113.9", Ip),
        ("127.1", Ip),
        ("127.0.1", Ip),
        ("2130706433", Ip),
        ("017700000001", Ip),
        ("0x7f000001", Ip),
        ("0X7F.1", Ip),
        ("0x7f.0x0.0x0.0x1", Ip),
        ("0177.0.0.1", Ip),
        ("00000177.0.0.1", Ip),
        ("0", Ip),
        ("256.256.256.256", Ip),
        ("1.2.3.4.5", Ip),
        ("09.1.1.1", Ip),
        ("1.2.3.0x", Ip),
        ("4294967296", Ip),
        ("[::1]", Ip),
        ("[::1]:443", Ip),
        ("[2001:DB8::1]", Ip),
        ("[::ffff:127.0.0.1]", Ip),
        ("[::127.0.0.1]", Ip),
        ("[fe80::1%25eth0]", Ip),
        ("[fe80::1%eth0]", Ip),
        ("[v1.filed.cn]", Ip),
        ("[]", Ip),
        ("[::1", Ip),
        ("::1]", Ip),
        ("::1", Ip),
        ("[::1]filed.cn", Ip),
        ("[::1]:80:80", Ip),
    ]);
}

/// Names at the limits that DNS sets.
#[test]
fn lengths() {
    let label = "a".repeat(63);
    // 61 + 3 × 64 = 253 octets: `tail` and three labels.
    let name = |rest: usize| format!("{}.{label}.{label}.{label}.filed.cn", "a".repeat(rest));
    let world = World::start();
    let rows = [
        (format!("{label}.filed.cn"), 200),
        (name(52), 200),
        (name(53), 400),
        ("a.".repeat(200) + "filed.cn", 400),
    ];
    for (host, status) in rows {
        let response = world.get(&host, "/name");
        assert_eq!(response.status, status, "{} octets: {host} {response:?}", host.len());
    }
    world.assert_well();
}

/// Two dots that a shell may add: of one name on one connection, decided anew each time.
#[test]
fn spelling_changes_on_one_connection() {
    let world = World::start();
    let mut wire = world.connect();
    for (host, status) in
        [("filed.cn", 200), ("UNFILED.cn.", 451), ("FILED.cn.", 200), ("unfiled.cn:80", 451)]
    {
        wire.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(wire.response().unwrap().status, status, "{host}");
    }
    world.upstream.assert_only(&["filed.cn"]);
}
