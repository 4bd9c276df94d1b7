//! Verdict × language × media type → ready bytes: what a visitor reads where nothing is forwarded.
//!
//! Templates are rendered ahead, once per reason and language; a request only fills in the domain,
//! the number, the times and the id (escaped for the media type). Knows no socket and no clock.

mod brand;
mod negotiate;
mod problem;
mod reason;
mod skeleton;
mod templates;
mod texts;

use std::borrow::Cow;
use std::cell::RefCell;
use std::path::Path;

use bytes::Bytes;
use serde::Serialize;

use crate::domain::DomainName;

use brand::Said;
pub use brand::{Brand, LINKS_MAX, LOGO_BYTES_MAX, Words, is_link, logo};
pub use negotiate::{is_grpc, negotiate};
pub use reason::{Forwarded, Reason};
use skeleton::{Escape, Other, Presence, Skeleton, Slot, Source, Subject, Values, clean, has_mark};
use templates::{PAGE_HTML, PAGE_TEXT, TEXTS};
pub use templates::{TemplateError, Templates};
use texts::{Labels, Text, Texts, Topic};

/// The visitor's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// 简体中文
    Chinese,
    /// English
    English,
}

impl Language {
    const ALL: [Language; 2] = [Self::Chinese, Self::English];

    /// The language tag (BCP 47), for `content-language` and `lang`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Chinese => Self::English,
            Self::English => Self::Chinese,
        }
    }
}

/// The form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Media {
    /// text/html
    Html,
    /// application/problem+json
    Problem,
    /// text/plain
    Text,
    /// The words of a gRPC status, on one line: for a field, not for a body.
    Grpc,
}

impl Media {
    /// The value of `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
            Self::Text => "text/plain; charset=utf-8",
            Self::Grpc => "application/grpc",
        }
    }
}

/// What one answer says beside the fixed text.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "shown on the page under these names")]
pub struct PageFacts<'a> {
    pub reason: Reason,
    pub status: u16,
    pub domain: Option<&'a str>,
    pub number: Option<&'a str>,
    pub verdict_id: &'a str,
    /// Unix seconds.
    pub synced_at: Option<i64>,
    pub access_under_review: bool,
    /// The operator's own words (block list).
    pub operator_reason: Option<&'a str>,
}

/// A ready answer.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "header and body")]
pub struct Page {
    pub content_type: &'static str,
    pub content_language: &'static str,
    pub body: Bytes,
}

/// Asks now and then whether the page is open by now; without script a link does.
const RECHECK: &str = include_str!("../config/block-page/recheck.js");
/// Longest name in the DNS's text form.
const DOMAIN_CHARS_MAX: usize = 253;
/// Filing numbers have about 20 characters, verdict ids about 30.
const NUMBER_CHARS_MAX: usize = 64;
const VERDICT_ID_CHARS_MAX: usize = 64;
/// A few sentences.
const OPERATOR_REASON_CHARS_MAX: usize = 300;

/// The pages of one topic in one language, by what is known (`Presence`).
#[derive(Debug)]
struct TopicPages {
    html: Vec<Skeleton>,
    text: Vec<Skeleton>,
}

/// Every page, rendered ahead.
#[derive(Debug)]
pub struct BlockPages {
    texts: Texts,
    /// At `page_index`.
    pages: Vec<TopicPages>,
    content_security_policy: String,
    brand: Brand,
}

/// What the pages say of a reason in one language, for another page that says it.
#[derive(Debug, Serialize)]
pub struct PageWords<'a> {
    text: &'a Text,
    labels: &'a Labels,
    brand: Said<'a>,
}

impl BlockPages {
    /// The built-in pages.
    pub fn embedded() -> Self {
        Self::branded(&Brand::default())
    }

    /// The built-in pages under an operator's name.
    pub fn branded(brand: &Brand) -> Self {
        Self::new(&Templates::embedded(), brand).expect("the built-in templates are tested")
    }

    /// The operator's own: any of `page.html`, `page.txt` and `texts.toml` in `directory`, and the
    /// built-in ones for those that it leaves out.
    pub fn from_directory(directory: &Path, brand: &Brand) -> Result<Self, TemplateError> {
        let templates = Templates::read(directory)?;
        Self::new(&templates, brand).map_err(|error| TemplateError {
            file: directory.join(error.file).display().to_string(),
            ..error
        })
    }

    /// Renders every page ahead, so that what is wrong shows now and not at a visitor's request.
    pub fn new(templates: &Templates, brand: &Brand) -> Result<Self, TemplateError> {
        let at = |file: &str| {
            let file = file.to_owned();
            move |problem| TemplateError { file: file.clone(), problem }
        };
        let texts = Texts::parse(&templates.texts).map_err(at(TEXTS))?;
        if has_mark(&templates.texts) {
            return Err(at(TEXTS)("holds a private-use character from U+E0F0 to U+E0F7".to_owned()));
        }
        let mut html = Source::parse(PAGE_HTML, &templates.page_html).map_err(at(PAGE_HTML))?;
        let mut text = Source::parse(PAGE_TEXT, &templates.page_text).map_err(at(PAGE_TEXT))?;
        let said = Language::ALL.map(|language| brand.said(language));
        let script = (!brand.without_recheck).then_some(RECHECK);
        let mut pages = Vec::with_capacity(Topic::COUNT * Language::ALL.len());
        for topic in Topic::all() {
            for language in Language::ALL {
                let about = About {
                    texts: &texts,
                    topic,
                    language,
                    brand: &said[language as usize],
                    script: script.filter(|_| topic.may_open()),
                };
                pages.push(TopicPages {
                    html: skeletons(&mut html, &about).map_err(at(PAGE_HTML))?,
                    text: skeletons(&mut text, &about).map_err(at(PAGE_TEXT))?,
                });
            }
        }
        let content_security_policy = brand.content_security_policy(script);
        Ok(Self { texts, pages, content_security_policy, brand: brand.clone() })
    }

    /// What the pages say of a reason, and under whose name.
    pub fn words(&self, reason: Reason, access_under_review: bool, language: Language) -> PageWords<'_> {
        let here = self.texts.language(language);
        PageWords {
            text: here.text(Topic::new(reason, access_under_review)),
            labels: &here.labels,
            brand: self.brand.said(language),
        }
    }

    /// The value of `content-security-policy` that goes with every page.
    pub fn content_security_policy(&self) -> &str {
        &self.content_security_policy
    }

    /// The answer to one request. Facts may hold anything; they are cleaned and escaped.
    pub fn render(&self, facts: &PageFacts<'_>, media: Media, language: Language) -> Page {
        let topic = Topic::new(facts.reason, facts.access_under_review);
        let status = facts.status.to_string();
        let values = values(facts, &status);
        let pages = &self.pages[page_index(topic, language)];
        let filled = |skeletons: &[Skeleton], escape| {
            skeletons[Presence::of(&values).index(skeletons.len())].fill(&values, escape)
        };
        let body = match media {
            Media::Html => filled(&pages.html, Escape::Html),
            Media::Text => filled(&pages.text, Escape::None),
            Media::Grpc => grpc_words(&self.texts.language(language).text(topic).summary, &values),
            Media::Problem => {
                let domain = facts.domain.map(|domain| clean(domain, DOMAIN_CHARS_MAX));
                let subject = problem::Subject {
                    reason: facts.reason,
                    topic,
                    status: facts.status,
                    domain: domain.as_deref(),
                    texts: self.texts.language(language),
                };
                problem::render(&subject, &values)
            }
        };
        Page { content_type: media.content_type(), content_language: language.tag(), body }
    }
}

/// What happened, to which name, and the id that the log repeats.
fn grpc_words(summary: &str, values: &Values<'_>) -> Bytes {
    let words = [summary, values.known(Slot::Domain).unwrap_or_default(), values.text(Slot::VerdictId)];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").into()
}

fn page_index(topic: Topic, language: Language) -> usize {
    topic.index() * Language::ALL.len() + language as usize
}

/// What the pages of one topic in one language are made of.
struct About<'a> {
    texts: &'a Texts,
    topic: Topic,
    language: Language,
    brand: &'a Said<'a>,
    script: Option<&'a str>,
}

fn skeletons(source: &mut Source, about: &About<'_>) -> Result<Vec<Skeleton>, String> {
    let About { texts, topic, language, brand, script } = *about;
    let here = texts.language(language);
    let other = texts.language(language.other()).text(topic);
    let subject = Subject {
        lang: language.tag(),
        blocked: topic.is_blocked(),
        text: here.text(topic),
        labels: &here.labels,
        other: Other { lang: language.other().tag(), title: &other.title, summary: &other.summary },
        brand,
    };
    let with_operator_reason = topic == Topic::Reason(Reason::OperatorBlock);
    Presence::all(with_operator_reason).map(|presence| source.skeleton(subject, script, presence)).collect()
}

fn values<'a>(facts: &PageFacts<'a>, status: &'a str) -> Values<'a> {
    let synced_at = facts.synced_at.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let operator_reason = facts.operator_reason.filter(|_| facts.reason == Reason::OperatorBlock);
    let mut values = Values::default();
    values.set(Slot::Domain, facts.domain.map(shown_domain));
    values.set(Slot::Number, facts.number.map(|number| clean(number, NUMBER_CHARS_MAX)));
    values.set(Slot::Verdict, Some(Cow::Borrowed(facts.reason.as_str())));
    values.set(Slot::VerdictId, Some(clean(facts.verdict_id, VERDICT_ID_CHARS_MAX)));
    values.set(Slot::Status, Some(Cow::Borrowed(status)));
    let (shown, iso) = synced_at.map(shown_time).unzip();
    values.set(Slot::SyncedAt, shown.map(Cow::Owned));
    values.set(Slot::SyncedAtIso, iso.map(Cow::Owned));
    values.set(Slot::OperatorReason, operator_reason.map(|reason| clean(reason, OPERATOR_REASON_CHARS_MAX)));
    values
}

thread_local! {
    /// The last time that was shown, and how: pages between two changes show the same.
    static SHOWN: RefCell<(i64, String, String)> = const { RefCell::new((i64::MIN, String::new(), String::new())) };
}

/// A time as people in Beijing read it, and as machines do.
fn shown_time(at: jiff::Timestamp) -> (String, String) {
    SHOWN.with_borrow_mut(|(second, shown, iso)| {
        if *second != at.as_second() {
            *shown = crate::bilingual::beijing(at.as_second()).unwrap_or_default();
            (*second, *iso) = (at.as_second(), at.to_string());
        }
        (shown.clone(), iso.clone())
    })
}

/// The Unicode form with the ASCII form beside it where they differ, so that look-alikes show.
fn shown_domain(domain: &str) -> Cow<'_, str> {
    let ascii = clean(domain, DOMAIN_CHARS_MAX);
    // Without an A-label there is nothing else to show, nor without a name.
    if domain.is_ascii() && !domain.contains("--") && !domain.ends_with('.') {
        return ascii;
    }
    let unicode = DomainName::from_user(domain).map(|name| name.to_unicode()).unwrap_or_default();
    let unicode = clean(&unicode, DOMAIN_CHARS_MAX);
    if unicode.is_empty() || unicode.eq_ignore_ascii_case(&ascii) {
        ascii
    } else {
        format!("{unicode} ({ascii})").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static PAGES: LazyLock<BlockPages> = LazyLock::new(BlockPages::embedded);
    const MEDIA: [Media; 3] = [Media::Html, Media::Problem, Media::Text];
    const PAGE_BYTES_MAX: usize = 12 * 1024;

    fn facts(reason: Reason) -> PageFacts<'static> {
        PageFacts {
            reason,
            status: 451,
            domain: Some("www.example.com"),
            number: Some("京ICP备12345678号-1"),
            verdict_id: "01JZX7Q4N9V3K2",
            synced_at: Some(1_767_323_045),
            access_under_review: false,
            operator_reason: None,
        }
    }

    fn body(facts: &PageFacts<'_>, media: Media, language: Language) -> String {
        String::from_utf8(PAGES.render(facts, media, language).body.to_vec()).unwrap()
    }

    fn problem(facts: &PageFacts<'_>) -> serde_json::Value {
        serde_json::from_str(&body(facts, Media::Problem, Language::English)).unwrap()
    }

    #[test]
    fn reasons_stand_at_their_own_index_under_distinct_names() {
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert_eq!(Reason::ALL.iter().filter(|reason| reason.is_blocked()).count(), 8);
        assert!(Topic::all().enumerate().all(|(index, topic)| topic.index() == index));
    }

    #[test]
    fn verdicts_that_do_not_forward_have_a_reason() {
        for verdict in Verdict::ALL {
            let reason = Reason::try_from(verdict);
            assert_eq!(reason.is_err(), verdict.is_forwarded(), "{verdict:?}");
            assert_eq!(reason.is_ok_and(Reason::is_blocked), verdict.is_blocked(), "{verdict:?}");
        }
    }

    #[test]
    fn every_page_is_complete_and_small() {
        for reason in Reason::ALL {
            for language in Language::ALL {
                let text = PAGES.texts.language(language).text(Topic::Reason(reason));
                let html = PAGES.render(&facts(reason), Media::Html, language);
                let page = std::str::from_utf8(&html.body).unwrap();
                assert_eq!(
                    (html.content_type, html.content_language),
                    ("text/html; charset=utf-8", language.tag())
                );
                assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
                assert!(page.contains(&format!("<html lang=\"{}\">", language.tag())));
                for expected in
                    [&text.title, "www.example.com", "京ICP备12345678号-1", "01JZX7Q4N9V3K2", reason.as_str()]
                {
                    assert!(page.contains(expected), "{expected} in {page}");
                }
                let scripts = page.matches("<script>").count();
                assert_eq!(scripts, usize::from(Topic::Reason(reason).may_open()), "{page}");
                assert!(
                    page.matches("<script").count() == scripts
                        && !page.contains("src=")
                        && !page.contains("url("),
                    "{page}"
                );
                assert!(!has_mark(page));
                assert!(page.len() < PAGE_BYTES_MAX, "{reason:?} {language:?}: {} bytes", page.len());
            }
        }
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let unknown = PageFacts { domain: None, number: None, synced_at: None, ..facts(Reason::Unavailable) };
        let page = body(&unknown, Media::Html, Language::English);
        for absent in ["<dt>Domain</dt>", "<dt>Filing number</dt>", "<time", "class=\"domain\""] {
            assert!(!page.contains(absent), "{absent}");
        }
        let problem = problem(&unknown);
        assert!(problem["domain"].is_null() && problem["number"].is_null() && problem["synced_at"].is_null());
        assert!(
            body(&PageFacts { synced_at: Some(i64::MAX), ..unknown }, Media::Html, Language::English) == page
        );
    }

    #[test]
    fn problem_has_the_members_of_the_contract() {
        let problem = problem(&facts(Reason::Unfiled));
        let steps = &PAGES.texts.language(Language::English).text(Topic::Reason(Reason::Unfiled)).steps;
        for (member, expected) in [
            ("type", "urn:beian-gate:verdict:unfiled"),
            ("title", "This site has no ICP filing"),
            ("instance", "urn:beian-gate:verdict-id:01JZX7Q4N9V3K2"),
            ("verdict", "unfiled"),
            ("verdict_id", "01JZX7Q4N9V3K2"),
            ("domain", "www.example.com"),
            ("number", "京ICP备12345678号-1"),
            ("next_step", &steps[0]),
            ("synced_at", "2026-01-02T03:04:05Z"),
        ] {
            assert_eq!(problem[member], expected, "{member}");
        }
        assert_eq!(problem["status"], 451);
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("No ICP filing")));
        assert_eq!(problem.as_object().map(serde_json::Map::len), Some(11));
    }

    #[test]
    fn an_order_under_review_is_said_where_access_is_missing() {
        for (reason, expected) in
            [(Reason::NotConnected, true), (Reason::AccessCancelled, true), (Reason::Unfiled, false)]
        {
            let facts = PageFacts { access_under_review: true, ..facts(reason) };
            let problem = problem(&facts);
            assert_eq!(problem["title"].as_str().unwrap().contains("under review"), expected, "{reason:?}");
            assert_eq!(problem["verdict"], reason.as_str());
            let page = body(&facts, Media::Html, Language::Chinese);
            assert_eq!(page.contains("接入备案正在审核"), expected, "{reason:?}");
            assert!(page.contains(reason.as_str()));
        }
    }

    #[test]
    fn the_operators_reason_is_shown_for_the_operators_block_only() {
        let words = Some("wartime archive, ask ops");
        for reason in [Reason::OperatorBlock, Reason::Unfiled] {
            let facts = PageFacts { operator_reason: words, ..facts(reason) };
            for media in MEDIA {
                let shown = body(&facts, media, Language::English).contains("wartime archive");
                assert_eq!(shown, reason == Reason::OperatorBlock, "{reason:?} {media:?}");
            }
        }
    }

    /// `UPDATE_GOLDEN=1` writes the files anew; read the difference before committing it.
    #[track_caller]
    fn check_golden(file: &str, facts: &PageFacts<'_>, media: Media, language: Language) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/block_page").join(file);
        let body = body(facts, media, language);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &body).unwrap();
        }
        assert!(std::fs::read_to_string(&path).unwrap_or_default() == body, "{file} differs from\n{body}");
    }

    #[test]
    fn pages_read_as_agreed() {
        let unfiled = PageFacts { number: None, ..facts(Reason::Unfiled) };
        check_golden("unfiled.zh.html", &unfiled, Media::Html, Language::Chinese);
        check_golden(
            "access_cancelled.en.txt",
            &facts(Reason::AccessCancelled),
            Media::Text,
            Language::English,
        );
        let under_review = PageFacts { access_under_review: true, ..facts(Reason::NotConnected) };
        check_golden("not_connected_under_review.zh.json", &under_review, Media::Problem, Language::Chinese);
    }

    #[test]
    fn hostile_values_stay_text() {
        let hostile = "<script>alert('1')</script>\"&\u{0}\r\n\u{1b}[31m\u{202e}\u{e0f0}{{ 7*7 }}";
        let long = hostile.repeat(500);
        for value in [hostile, &long] {
            for reason in Reason::ALL {
                let facts = PageFacts {
                    domain: Some(value),
                    number: Some(value),
                    verdict_id: value,
                    operator_reason: Some(value),
                    ..facts(reason)
                };
                let html = body(&facts, Media::Html, Language::English);
                let scripts = usize::from(Topic::Reason(reason).may_open());
                assert!(
                    html.matches("<script").count() == scripts
                        && html.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;")
                );
                assert!(
                    html.contains("{{ 7*7 }}") && html.len() < 2 * PAGE_BYTES_MAX,
                    "{} bytes",
                    html.len()
                );
                let text = body(&facts, Media::Text, Language::English);
                for page in [&html, &text] {
                    assert!(!page.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'));
                }
                assert_eq!(
                    text.lines().count(),
                    body(&self::facts(reason), Media::Text, Language::English).lines().count()
                        + usize::from(reason == Reason::OperatorBlock)
                );
                let problem = problem(&facts);
                assert!(
                    problem["domain"].as_str().unwrap().starts_with("<script>alert('1')</script>\"&[31m")
                );
            }
        }
    }

    #[test]
    fn an_operators_directory_replaces_what_it_holds() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(PAGE_HTML), "<h1>{{ text.title }} {{ domain }}</h1>\n").unwrap();
        let pages = BlockPages::from_directory(directory.path(), &Brand::default()).unwrap();
        let page = pages.render(&facts(Reason::Unfiled), Media::Html, Language::English);
        assert_eq!(page.body, "<h1>This site has no ICP filing www.example.com</h1>\n");
        let text = pages.render(&facts(Reason::Unfiled), Media::Text, Language::English);
        assert_eq!(text.body, body(&facts(Reason::Unfiled), Media::Text, Language::English));
    }

    #[track_caller]
    fn check_refused(name: &str, source: &str, expected: &[&str]) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(name), source).unwrap();
        let message =
            BlockPages::from_directory(directory.path(), &Brand::default()).unwrap_err().to_string();
        assert!(message.starts_with(&directory.path().join(name).display().to_string()), "{message}");
        assert!(expected.iter().all(|part| message.contains(part)), "{message}");
    }

    #[test]
    fn a_bad_template_is_refused_with_file_and_reason() {
        check_refused(PAGE_HTML, "<h1>\n{% if %}", &["syntax error", "page.html:2"]);
        check_refused(PAGE_HTML, "\n\n{{ domian }}", &["undefined", "page.html:3"]);
        check_refused(PAGE_HTML, "\u{e0f3}", &["private-use"]);
        check_refused(PAGE_TEXT, "{{ text.titel }}", &["undefined", "page.txt:1"]);
        let texts = Templates::embedded().texts;
        check_refused(TEXTS, "zh = 1", &["line 1"]);
        check_refused(
            TEXTS,
            &texts.replace("[en.reason.loop]", "[en.reason.lop]"),
            &["[en.reason.loop] is missing"],
        );
        check_refused(
            TEXTS,
            &format!("{texts}\n[zh.reason.x]\ntitle=''\nsummary=''\nsteps=[]"),
            &["[zh.reason.x]", "remove"],
        );
        check_refused(TEXTS, &texts.replacen("summary =", "sumary =", 1), &["sumary"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(
            BlockPages::from_directory(empty.path(), &Brand::default())
                .unwrap_err()
                .to_string()
                .contains("holds none of page.html")
        );
    }

    fn facts_of_any_kind()
    -> impl Strategy<Value = (usize, Option<String>, Option<String>, String, Option<i64>, bool)> {
        (
            0..Reason::ALL.len(),
            any::<Option<String>>(),
            any::<Option<String>>(),
            any::<String>(),
            any::<Option<i64>>(),
            any::<bool>(),
        )
    }

    proptest! {
        #[test]
        fn render_never_panics((reason, one, two, id, synced_at, access_under_review) in facts_of_any_kind()) {
            let facts = PageFacts {
                domain: one.as_deref(), number: two.as_deref(), verdict_id: &id, synced_at, access_under_review,
                operator_reason: one.as_deref(), ..facts(Reason::ALL[reason])
            };
            for media in MEDIA {
                let page = PAGES.render(&facts, media, Language::Chinese);
                prop_assert!(std::str::from_utf8(&page.body).is_ok());
            }
            serde_json::from_str::<serde_json::Value>(&body(&facts, Media::Problem, Language::English)).unwrap();
        }
    }
}
