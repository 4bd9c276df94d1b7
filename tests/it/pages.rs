//! What visitors and operators see, in a real Chromium: layout, contrast and names by axe-core, scripts at work.

use crate::world::browser::Browser;
use crate::world::{U, World};
use beian_gate::block_page::{BlockPages, Brand, Language, Media, PageFacts, Reason, Words};

const WIDTHS: [u32; 3] = [320, 768, 1440];

fn facts(reason: Reason) -> PageFacts<'static> {
    PageFacts {
        reason,
        status: 451,
        domain: Some("a-rather-long-label-as-some-sites-have-them.example-of-a-company.com.cn"),
        number: Some("京ICP备12345678号-1"),
        verdict_id: "0123456789abcdef",
        synced_at: Some(1_767_323_045),
        access_under_review: false,
        operator_reason: Some("按用户要求停止 (ticket 4711)"),
    }
}

/// Nothing stands outside the window, and text can be read.
#[track_caller]
pub fn check_layout(browser: &mut Browser, what: &str) {
    let outside = browser.eval(
        "[...document.body.querySelectorAll('*')].filter(it => { const box = it.getBoundingClientRect(); \
         return box.width > 0 && (box.left < -0.5 || box.right > innerWidth + 0.5); }).map(it => it.outerHTML.slice(0, 80))",
    );
    assert_eq!(outside, serde_json::json!([]), "{what}: outside the window");
    let small = browser.eval(
        "[...document.body.querySelectorAll('p,li,dd,dt,h1,h2,h3,a,td,th,label,input,button')]\
         .filter(it => it.getClientRects().length && parseFloat(getComputedStyle(it).fontSize) < 12).length",
    );
    assert_eq!(small, 0, "{what}: text too small");
    assert_eq!(browser.eval("document.querySelectorAll('h1').length"), 1, "{what}: one heading");
}

fn brand() -> Brand {
    let words = |zh: &str, en: &str| Words { zh: zh.to_owned(), en: Some(en.to_owned()) };
    Brand {
        name: Some(words("示例云计算有限公司", "Example Cloud Computing")),
        logo: beian_gate::block_page::logo(
            b"<svg xmlns='http://www.w3.org/2000/svg' width='90' height='30'><rect width='90' height='30' fill='#a3301f'/></svg>",
        )
        .ok(),
        contact: Some(words("备案咨询电话 400-000-0000", "Filing desk +86 400 000 0000")),
        links: vec![(words("备案系统", "Filing system"), "https://beian.example/".to_owned())],
        without_recheck: false,
    }
}

#[test]
fn every_page_fits_and_can_be_used_by_all() {
    let Some(mut browser) = Browser::start() else { return };
    let pages = [BlockPages::embedded(), BlockPages::branded(&brand())];
    for (nth, reason) in Reason::ALL.into_iter().enumerate() {
        for language in [Language::Chinese, Language::English] {
            let what = format!("{}.{}", reason.as_str(), language.tag());
            // Every other page in the dark, every other reason under an operator's name.
            browser.dark((nth + usize::from(language == Language::English)).is_multiple_of(2));
            let page = pages[nth % 2].render(&facts(reason), Media::Html, language);
            for width in WIDTHS {
                browser.resize(width, 900);
                browser.show(std::str::from_utf8(&page.body).unwrap());
                check_layout(&mut browser, &format!("{what} at {width}"));
                browser.shoot(&format!("{what}.{width}"));
            }
            if let Some(findings) = browser.findings() {
                assert_eq!(findings, [""; 0], "{what}");
            }
        }
    }
}

#[test]
fn a_blocked_page_opens_by_itself() {
    let Some(mut browser) = Browser::start() else { return };
    let world = World::with(|setup| setup.toml("[block_page]\nname = \"示例云\"\n"));
    // The page looks after fifteen seconds; here seconds pass more quickly.
    let hurry = "const wait = window.setTimeout; window.setTimeout = (what, ms) => wait(what, ms / 100)";
    browser.call("Page.addScriptToEvaluateOnNewDocument", &serde_json::json!({ "source": hurry }));
    let url = format!("http://{U}:{}/page?x=1", world.http().port());
    browser.open(&url);
    browser.wait_for("!document.getElementById('recheck').hidden");
    assert!(browser.eval("document.querySelector('header').innerText").as_str().unwrap().contains("示例云"));
    browser.eval("document.body.id = 'before'");
    browser.click(".recheck a");
    browser.wait_for("document.body.id !== 'before' && document.readyState === 'complete'");
    assert_ne!(browser.eval("document.getElementById('recheck')"), serde_json::Value::Null, "still blocked");
    world.file(U, "京ICP备20000009号-1");
    browser.wait_for("!document.getElementById('recheck') && document.readyState === 'complete'");
    assert_eq!(browser.eval("location.pathname + location.search"), "/page?x=1");
    let seen = world.upstream.heads();
    let is_known = |target: &str| target == "/page?x=1" || target == "/favicon.ico";
    assert!(seen.iter().all(|head| is_known(&head.target)), "only this page is asked for: {seen:?}");
}
