//! Pages, however they are cut: every octet passes, and the footer goes in once, where it is surely right.

use super::*;
use crate::telemetry::FooterReports;
use encoding_rs::Encoding;
use proptest::prelude::*;

const NUMBER: &str = "京ICP备12345678号-1";

fn wanted() -> Wanted {
    Wanted { number: FilingNumber::parse(NUMBER).unwrap(), public_security: None, owner: None }
}

/// What comes out of a page that comes in pieces of this size, and what is told of it.
fn pass(page: &[u8], charset: Option<&str>, piece: usize) -> (Vec<u8>, Vec<(&'static str, u64)>) {
    let encoding =
        charset.map(|it| AsciiCompatibleEncoding::new(Encoding::for_label(it.as_bytes()).unwrap()).unwrap());
    let reports = FooterReports::default();
    let place = ("a.cn".to_owned(), "/".to_owned());
    let mut passing = Page::new(wanted(), encoding, true, place, reports.of("a.cn", "inject"));
    let mut out = Vec::new();
    for piece in page.chunks(piece) {
        passing.feed(piece, &mut out);
    }
    passing.end(&mut out);
    let told =
        reports.summaries()[0].pages.iter().filter(|(_, count)| **count > 0).map(|(a, b)| (*a, *b)).collect();
    (out, told)
}

fn footer() -> String {
    markup(&wanted(), false)
}

/// The page in `charset`, in every cut; `expected`: with the footer where `@` stands.
#[track_caller]
fn check(page: &str, charset: Option<&str>, told: &'static str) {
    let encode = |text: &str| match charset {
        Some(label) => Encoding::for_label(label.as_bytes()).unwrap().encode(text).0.into_owned(),
        None => text.as_bytes().to_vec(),
    };
    let (plain, expected) = (page.replace('@', ""), page.replace('@', &footer()));
    for piece in [1, 2, 3, 7, 64, 100_000] {
        let (out, tally) = pass(&encode(&plain), charset, piece);
        assert_eq!(tally, [(told, 1)], "{page} in pieces of {piece}");
        assert!(out == encode(&expected), "{page} in pieces of {piece}: {}", String::from_utf8_lossy(&out));
    }
}

#[test]
fn the_footer_goes_before_the_end_of_the_body() {
    for charset in ["utf-8", "gbk", "gb18030", "gb2312", "big5"] {
        check("<!doctype html><html><body><p>正文</p>@</body></html>\n", Some(charset), "added");
    }
    check("<body>@</BODY\n ></html>", Some("utf-8"), "added");
    check("<body><p></bod></p><div>unclosed@</body></body>", Some("utf-8"), "added");
    check(
        "<body><script>'</body>'</script><!-- </body> --><textarea></body></textarea>@</body>",
        Some("utf-8"),
        "added",
    );
    check("<html><head><meta charset=gbk></head><body>x@</body>", Some("utf-8"), "added");
}

#[test]
fn pages_that_show_their_number_pass_as_they_are() {
    let link = format!("<a href=\"https://beian.miit.gov.cn/\">{NUMBER}</a>");
    for charset in ["utf-8", "gbk", "gb18030"] {
        check(&format!("<body>{link}</body>"), Some(charset), "linked");
    }
    check(
        &format!("<body><a href='http://beian.miit.gov.cn'>备案号 <b>{NUMBER}</b></a></body>"),
        Some("utf-8"),
        "linked",
    );
    check(&format!("<body>{NUMBER}</body>"), Some("utf-8"), "unlinked");
    check(&format!("<body><script>document.write('{NUMBER}')</script></body>"), Some("utf-8"), "unlinked");
    let other = "<body><a href='https://beian.miit.gov.cn/'>沪ICP备1234号</a></body>";
    check(other, Some("utf-8"), "other_number");
}

#[test]
fn doubts_leave_a_page_as_it_is() {
    check("<div>a fragment</div>", Some("utf-8"), "no_page");
    check("<body>no end tag", Some("utf-8"), "missing");
    check("</body><p>no start tag", Some("utf-8"), "no_page");
    let wide: Vec<u8> = "<body></body>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let page = [b"\xff\xfe", &wide[..]].concat();
    assert_eq!(pass(&page, None, 64), (page.clone(), vec![("unsure", 1)]));
    let endless = format!("<body><p title=\"{}", "x".repeat(2 << 20));
    assert_eq!(pass(endless.as_bytes(), None, 16 << 10), (endless.clone().into_bytes(), vec![("unsure", 1)]));
    let large = format!("<body>{}</body>", "<p>words</p>".repeat(MAX_PAGE_BYTES / 12 + 1));
    assert_eq!(pass(large.as_bytes(), None, 16 << 10), (large.clone().into_bytes(), vec![("unsure", 1)]));
}

#[test]
fn a_page_that_names_its_own_encoding() {
    let page = "<html><head><meta charset=\"gbk\"><title>标题</title></head><body>@</body>";
    let gbk = |text: &str| encoding_rs::GBK.encode(text).0.into_owned();
    let (out, _) = pass(&gbk(&page.replace('@', "")), None, 5);
    assert!(out == gbk(&page.replace('@', &footer())));
    // Where nothing says it, the footer is in characters that all encodings share.
    let (out, _) = pass(b"<body></body>", None, 5);
    assert!(
        out.is_ascii() && String::from_utf8(out).unwrap().contains("&#x4EAC;ICP&#x5907;12345678&#x53F7;-1")
    );
}

#[test]
fn the_footer_says_what_the_province_wants() {
    let wanted = Wanted {
        public_security: PublicSecurityNumber::parse("京公网安备11010102000001号").ok(),
        owner: Some("A & <B>".to_owned()),
        ..wanted()
    };
    let html = markup(&wanted, false);
    assert!(html.contains("webSearch?code=11010102000001\""), "{html}");
    assert!(html.contains("版权所有 A &amp; &lt;B&gt;"), "{html}");
    assert!(!markup(&wanted, true).contains("公网安备"));
}

proptest! {
    #[test]
    fn no_octet_is_lost_or_changed(
        pieces in proptest::collection::vec(
            prop_oneof![
                "[<>/a-zA-Z =\"'!-]{0,12}", Just("<body>".to_owned()), Just("</body>".to_owned()), Just("</bo".to_owned()),
                Just("<script>".to_owned()), Just("<select>".to_owned()), Just("<table>".to_owned()), Just("京".to_owned()),
            ],
            0..20,
        ),
        piece in 1..40_usize,
    ) {
        let page = pieces.concat();
        let (out, _) = pass(page.as_bytes(), Some("utf-8"), piece);
        let out = String::from_utf8(out).unwrap();
        prop_assert!(out.matches(NUMBER).count() <= 1);
        prop_assert_eq!(out.replacen(&footer(), "", 1), page);
    }

    #[test]
    fn any_octets_pass(octets in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..50_usize) {
        let (out, told) = pass(&octets, Some("gb18030"), piece);
        if !told.iter().any(|(state, _)| *state == "added") {
            prop_assert_eq!(out, octets);
        }
    }
}
