//! The public look-up page: what a site's owner reads of one domain, and what nobody reads.

use crate::world::browser::Browser;
use crate::world::wire::{Response, Wire};
use crate::world::{F, U, UNIT_CANCELLED, World, address, setup::Setup};
use std::net::SocketAddr;

fn with_page(lines: &str) -> World {
    World::with(|setup: Setup| {
        setup.toml(&format!(
            "[lookup]\naddress = \"127.0.0.1:0\"\n{lines}\n[block_page]\nname = \"示例云\"\ncontact = \"电话 400\"\n"
        ))
    })
}

fn page(world: &World) -> SocketAddr {
    address(world.status()["lookup"].as_str().unwrap())
}

fn ask(at: SocketAddr, target: &str, fields: &str) -> Response {
    // A public page is asked for under any name that leads to it.
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: beian.example\r\nconnection: close\r\n{fields}\r\n");
    Wire::clear(at).send(request).response().unwrap()
}

#[test]
fn one_domain_is_told_of_with_what_to_do_next() {
    let world = with_page("per_minute = 6000\nburst = 1000");
    let at = page(&world);
    let check = |entered: &str, lang: &str, status: u16, words: &[&str]| {
        let response = ask(at, &format!("/?domain={entered}&lang={lang}"), "");
        let text = response.text();
        assert_eq!(response.status, status, "{entered}: {text}");
        for word in words {
            assert!(text.contains(word), "{entered}: no {word} in {text}");
        }
        assert!(!text.contains("127.0.0.1"), "{entered}: nothing of upstreams or listeners");
        response
    };
    let asking = ask(at, "/", "");
    assert!(asking.status == 200 && asking.text().contains("示例云") && !asking.text().contains("<dl>"));
    let policy = asking.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    check(U, "zh", 200, &["该网站尚未备案", "首次备案", "不收取任何费用", "电话 400"]);
    check(U, "en", 200, &["free of charge", "<html lang=\"en\">"]);
    check(F, "zh", 200, &["可以访问", "京ICP备20000001号-1"]);
    check(&format!("https://www.{F}/path"), "zh", 200, &["可以访问"]);
    check(UNIT_CANCELLED, "zh", 200, &["取消接入不等于注销备案"]);
    check("10.1", "zh", 200, &["ip_literal"]);
    check("%E6%94%BF%E5%BA%9C.%E6%94%BF%E5%8A%A1", "zh", 200, &["政府.政务 (xn--mxtq1m.xn--zfr164b)"]);
    check("a.cn,b.cn", "en", 400, &["aria-invalid", "This is not a domain"]);
    check("%3Cscript%3Ealert(1)%3C/script%3E", "zh", 400, &["&lt;script&gt;"]);
    check(&"x".repeat(5000), "zh", 400, &["这不是一个域名"]);
    assert_eq!(ask(at, "/v1/status", "").status, 404);
    assert!(world.ask("/metrics").text().contains("beian_gate_lookups_total{result=\"answered\"}"));
    world.assert_well();
}

#[test]
fn who_asks_too_often_waits() {
    let world = with_page("per_minute = 1\nburst = 3\ntrusted_peers = [\"127.0.0.1\"]");
    let at = page(&world);
    let as_client =
        |client: &str| ask(at, &format!("/?domain={U}"), &format!("x-forwarded-for: {client}\r\n"));
    for _ in 0..3 {
        assert_eq!(as_client("203.0.113.9").status, 200);
    }
    let refused = as_client("203.0.113.9");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
    assert!(refused.text().contains("查询过于频繁"), "{}", refused.text());
    assert_eq!(as_client("198.51.100.1, 203.0.113.9").status, 429, "what a client claims counts for nothing");
    assert_eq!(as_client("203.0.113.10").status, 200, "others are answered");
    assert_eq!(ask(at, "/", "x-forwarded-for: 203.0.113.9\r\n").status, 200, "the empty form is");
    let own = with_page("per_minute = 1\nburst = 1");
    let at = page(&own);
    assert_eq!(ask(at, &format!("/?domain={U}"), "x-forwarded-for: 1.1.1.1\r\n").status, 200);
    assert_eq!(ask(at, &format!("/?domain={U}"), "x-forwarded-for: 1.1.1.2\r\n").status, 429, "not trusted");
}

#[test]
fn a_browser_can_use_it_at_any_width() {
    let Some(mut browser) = Browser::start() else { return };
    let world = with_page("per_minute = 6000\nburst = 1000");
    let url = format!("http://{}", page(&world));
    for (nth, entered) in ["", F, U, UNIT_CANCELLED, "a..b"].into_iter().enumerate() {
        for lang in ["zh", "en"] {
            browser.dark(nth % 2 == 0);
            for width in [320, 768, 1440] {
                let what = format!("lookup.{nth}.{lang}.{width}");
                browser.resize(width, 900);
                browser.open(&format!("{url}/?domain={entered}&lang={lang}"));
                crate::pages::check_layout(&mut browser, &what);
                browser.shoot(&what);
            }
            if let Some(findings) = browser.findings_within_policy() {
                assert_eq!(findings, [""; 0], "{entered} {lang}");
            }
        }
    }
    browser.open(&format!("{url}/?lang=zh"));
    browser.click("#domain");
    browser.write(U);
    browser.click("form button");
    browser.wait_for("document.querySelector('#result')?.textContent.includes('尚未备案')");
    browser.click("header a");
    browser.wait_for("document.documentElement.lang === 'en'");
}
