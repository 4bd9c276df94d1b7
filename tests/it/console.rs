//! The console: what an operator sees and does in a real Chromium, and who is kept out.

use crate::world::browser::Browser;
use crate::world::setup::ADMIN_TOKEN;
use crate::world::{F, U, World, connected, run, wait, wire};
use serde_json::json;
use std::collections::BTreeSet;

fn console(world: &World) -> String {
    format!("http://127.0.0.1:{}", world.admin.port())
}

fn with_lists_and_an_empty_shell() -> World {
    World::with(|setup| {
        setup.toml(
            "[enforcement]\nblock_list = [{ host = \"bad.cn\", reason = \"<b>why</b>\", owner = \"ops\" }]\n\
             exceptions = [{ host = \"old.cn\", until = \"2020-01-01\", reason = \"over\" }]\n\
             [webhooks]\nlook_every = \"1s\"\n",
        )
        .site_for("\"shell.cn\"", "")
        .filing("shell.cn", connected("京ICP备20000061号-1"))
    })
}

#[test]
fn an_operator_clicks_through() {
    let Some(mut browser) = Browser::start() else { return };
    let world = with_lists_and_an_empty_shell();
    // Its last access goes: an empty shell comes up.
    world.cancel("shell.cn", "京ICP备20000061号-1");
    for _ in 0..3 {
        world.get(U, "/<script>alert(1)</script>");
    }
    world.get(F, "/well");
    wait("the domain among those blocked", || world.ask("/v1/blocked").text().contains(U).then_some(()));
    browser.resize(1280, 900);
    browser.open(&format!("{}/?lang=zh", console(&world)));
    browser.wait_for("document.querySelector('[data-key=filings]').textContent === '7'");
    browser.shoot("console.overview");
    let text = |browser: &mut Browser| browser.eval("document.body.innerText").as_str().unwrap().to_owned();
    let overview = text(&mut browser);
    for words in [U, "概况", "摘要", "unfiled", "24 小时趋势", "即将到期"] {
        assert!(overview.contains(words), "no {words}: {overview}");
    }

    browser.click("nav a:nth-of-type(2)");
    browser.wait_for("location.pathname === '/console/look-up' && document.readyState === 'complete'");
    browser.click("#host");
    browser.write("www.filed.cn");
    browser.wait_for("document.getElementById('host').value === 'www.filed.cn'");
    browser.click("form.ask button");
    browser.wait_for(
        "document.querySelector('.verdict') && document.querySelector('.verdict').textContent === 'allow'",
    );
    let shown = text(&mut browser);
    assert!(
        shown.contains("京ICP备20000001号-1") && shown.contains("\"decided_by\": \"filed.cn\""),
        "{shown}"
    );
    let rows = "document.querySelectorAll('[aria-labelledby=table] tbody tr').length";
    assert_eq!(browser.eval(rows), 8, "a row for each scenario");
    let history = browser.eval("document.querySelector('table.history').innerText");
    assert!(history.as_str().unwrap().contains("example-cloud: 有效"), "{history}");
    browser.shoot("console.look-up");

    each_page(&mut browser);
    browser.click(".lang");
    browser
        .wait_for("document.documentElement.lang === 'en' && document.body.innerText.includes('Live log')");
    on_a_phone_in_the_dark(&mut browser, &world);
}

#[track_caller]
fn on_a_phone_in_the_dark(browser: &mut Browser, world: &World) {
    browser.resize(360, 800);
    browser.dark(true);
    for page in [
        "",
        "console/look-up?host=filed.cn&",
        "console/blocked",
        "console/lists",
        "console/due",
        "console/fleet",
        "console/log",
    ] {
        let mark = if page.ends_with('&') { "" } else { "?" };
        browser.open(&format!("{}/{page}{mark}lang=en", console(world)));
        browser.wait_for(
            "document.readyState === 'complete' && document.documentElement.scrollWidth <= innerWidth",
        );
        browser.shoot(&format!("console.phone.{}", page.split('?').next().unwrap().replace('/', ".")));
        if let Some(findings) = browser.findings_within_policy() {
            assert_eq!(findings, [""; 0], "{page}");
        }
    }
}

#[test]
fn without_the_token_nothing_is_shown() {
    let world = World::with(|setup| setup.admin("token_file = \"admin.token\"\n"));
    let ask = |method: &str, path: &str, fields: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n{fields}content-length: {length}\r\n\r\n{body}",
            world.admin
        );
        wire::Wire::clear(world.admin).send(request).response().unwrap()
    };
    let pages = [
        "/",
        "/console/look-up?host=filed.cn",
        "/console/due",
        "/console/log",
        "/v1/log",
        "/v1/lists",
        "/v1/warnings",
    ];
    for path in pages {
        let page = ask("GET", path, "accept: text/html\r\n", "");
        assert_eq!(page.status, 401, "{path}");
        assert!(page.text().contains("name=\"token\"") && !page.text().contains("filed.cn"), "{path}");
        assert_eq!(ask("GET", path, "", "").status, 401, "{path}");
    }
    assert_eq!(ask("POST", "/login", "", "token=wrong").status, 401);
    let entered = ask("POST", "/login", "", &format!("token={}", ADMIN_TOKEN));
    assert_eq!((entered.status, entered.header("location")), (303, Some("/")));
    let set = entered.header("set-cookie").unwrap().to_owned();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    assert!(
        set.starts_with("beian_gate_session=") && !set.contains("Secure"),
        "in clear, on loopback: {set}"
    );
    let cookie = format!("cookie: {}\r\n", set.split(';').next().unwrap());
    for path in pages {
        assert_eq!(ask("GET", path, &cookie, "").status, 200, "{path}");
    }
    let foreign = format!("{cookie}origin: https://evil.example\r\n");
    assert_eq!(ask("POST", "/console/held/apply", &foreign, "").status, 403, "a page of another site");
    assert_eq!(ask("POST", "/console/held/apply", &cookie, "").status, 409, "nothing is held");
    assert_eq!(ask("POST", "/logout", &cookie, "").status, 303);
    assert_eq!(ask("GET", "/", &cookie, "").status, 401);
    let policy = ask("GET", "/", "accept: text/html\r\n", "");
    assert!(policy.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"));
}

/// The menu, a form and its answer without a mouse; what has the focus is seen.
#[test]
fn the_keyboard_is_enough() {
    let Some(mut browser) = Browser::start() else { return };
    let world = World::start();
    browser.resize(1280, 900);
    browser.open(&format!("{}/?lang=en", console(&world)));
    browser.press("Tab");
    browser.wait_for("document.activeElement.className === 'skip'");
    assert_eq!(browser.eval("document.activeElement.getBoundingClientRect().left >= 0"), true);
    for words in ["Overview", "Look up"] {
        browser.press("Tab");
        browser.wait_for(&format!("document.activeElement.innerText === {}", json!(words)));
        let outline = browser.eval("getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "{words}");
    }
    browser.press("Enter");
    browser.wait_for("location.pathname === '/console/look-up' && document.readyState === 'complete'");
    // The link past the menu, the menu, the language.
    let most = 1 + 7 + 1 + 1;
    for _ in 0..most {
        browser.press("Tab");
        if browser.eval("document.activeElement.id") == "host" {
            break;
        }
    }
    assert_eq!(browser.eval("document.activeElement.id"), "host");
    browser.write("www.filed.cn");
    browser.wait_for("document.getElementById('host').value === 'www.filed.cn'");
    browser.press("Enter");
    browser.wait_for(
        "document.querySelector('.verdict') && document.querySelector('.verdict').textContent === 'allow'",
    );
}

/// Pages offer what the caller's role allows, and keep the language and the question.
#[test]
fn a_reader_is_offered_no_change() {
    let mut reader = String::new();
    let world = World::with(|setup| {
        let (code, line, token) = run(setup.directory(), &["token", "desk", "reader"]);
        assert_eq!(code, 0, "{token}");
        reader = token.trim().to_owned();
        std::fs::write(setup.directory().join("admin.tokens"), line).unwrap();
        std::fs::write(setup.directory().join("hook.secret"), "0123456789abcdef").unwrap();
        setup.admin("token_file = \"admin.token\"\ntokens_file = \"admin.tokens\"\n").toml(
            "[[webhook]]\nname = \"ops\"\nurl = \"http://127.0.0.1:1/\"\nsecret_file = \"hook.secret\"\n",
        )
    });
    let ask = |line: &str, fields: &str, body: &str| {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: {}\r\n{fields}\r\ncontent-length: {length}\r\n\r\n{body}",
            world.admin
        );
        wire::Wire::clear(world.admin).send(request).response().unwrap()
    };
    for (token, offered, status) in [(reader.as_str(), false, 403), (ADMIN_TOKEN, true, 303)] {
        let bearer = format!("authorization: Bearer {token}");
        let due = ask("GET /console/due?lang=en", &bearer, "").text();
        assert!(due.contains("Who is told"), "{due}");
        assert_eq!(due.contains("Send a test event"), offered, "{due}");
        assert!(!due.contains("Log out"), "there is no session to end: {due}");
        assert_eq!(ask("POST /console/warnings/test", &bearer, "").status, status);
        let page = ask("GET /console/look-up?host=a.filed.cn&lang=en", &bearer, "").text();
        assert!(page.contains("href=\"?host=a.filed.cn&amp;lang=zh\""), "{page}");
    }
    let refused = ask("POST /login?lang=en", "accept: text/html", "token=wrong");
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("That is not an admin token"), "{}", refused.text());
    let entered = ask("POST /login?lang=en", "accept: text/html", &format!("token={reader}"));
    assert_eq!((entered.status, entered.header("location")), (303, Some("/?lang=en")));
    let cookie = format!("cookie: {}", entered.header("set-cookie").unwrap().split(';').next().unwrap());
    let overview = ask("GET /", &cookie, "").text();
    assert!(overview.contains("/logout"), "{overview}");
}

/// What is blocked has the name that the verdict is about: the domain above it may be in order.
#[test]
fn what_is_blocked_is_called_by_its_name() {
    let world = World::with(|setup| {
        setup.toml(
            "[enforcement]\nblock_list = [{ host = \"bad.filed.cn\", reason = \"r\", owner = \"ops\" }]\n",
        )
    });
    for host in ["bad.filed.cn", "www.two.town.gov.cn", "www.unfiled.cn"] {
        assert_eq!(world.get(host, "/").status, 451, "{host}");
    }
    wait("all of them", || {
        let blocked = world.ask("/v1/blocked").json();
        let named: BTreeSet<_> =
            blocked["domains"].as_array()?.iter().map(|it| it["domain"].as_str()).collect();
        let expected = ["bad.filed.cn", "two.town.gov.cn", "unfiled.cn"].map(Some);
        (named == BTreeSet::from(expected)).then_some(())
    });
}

/// A ranking of more domains than one page holds has a next page.
#[test]
fn the_ranking_goes_on() {
    let world = World::start();
    let mut wire = world.connect();
    for nth in 0..230 {
        let sent = wire.send(format!("GET / HTTP/1.1\r\nHost: n{nth}.cn\r\n\r\n")).response().unwrap();
        assert_eq!(sent.status, 451);
    }
    let page = |from: usize| world.ask(&format!("/console/blocked?lang=en&from={from}")).text();
    let rows = |page: &str| page.matches("<svg class=\"spark\"").count();
    wait("the first page", || {
        (rows(&page(0)) == 200 && page(0).contains("from=200&amp;lang=en")).then_some(())
    });
    wait("the second page", || (rows(&page(200)) == 30).then_some(()));
    assert!(!page(200).contains("Further domains"));
}

/// Clicks through the other pages of the menu.
#[track_caller]
fn each_page(browser: &mut Browser) {
    for (page, words) in [
        ("/console/blocked", ["unfiled", "127.0.0.1:"]),
        ("/console/lists", ["<b>why</b>", "已过期"]),
        ("/console/due", ["shell.cn：备案号已成空壳网站", "没有 [[webhook]]"]),
        ("/console/fleet", ["落后", "正常"]),
        ("/console/log", ["/well", "filed.cn"]),
    ] {
        browser.click(&format!("nav a[href^='{page}']"));
        browser.wait_for(&format!("location.pathname === '{page}' && document.readyState === 'complete'"));
        for word in words {
            browser.wait_for(&format!("document.body.innerText.includes({})", json!(word)));
        }
        assert_eq!(browser.eval("document.querySelectorAll('main script, main b b').length"), 0, "{page}");
        let wide = browser.eval("document.documentElement.scrollWidth <= innerWidth");
        assert_eq!(wide, true, "{page} is wider than the window");
        browser.shoot(&format!("console{}", page.replace('/', ".")));
        if let Some(findings) = browser.findings_within_policy() {
            assert_eq!(findings, [""; 0], "{page}");
        }
    }
}
