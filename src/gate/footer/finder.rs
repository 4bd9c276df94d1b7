//! Finds in a page's octets, as they come, what it shows and where its body ends (by `lol_html`, whose output is not used).

use super::shown::{Seen, Sought};
use lol_html::html_content::{Element, TextChunk, TextType};
use lol_html::{
    AsciiCompatibleEncoding, DocumentContentHandlers, HtmlRewriter, MemorySettings, OutputSink, Selector,
    Settings,
};
use std::borrow::Cow;
use std::cell::{Cell, Ref, RefCell};
use std::rc::Rc;

/// Octets that parsing one page may hold: a tag is held until it is whole.
const MAX_MEMORY_BYTES: usize = 1 << 20;

/// What was found so far.
struct Found {
    seen: RefCell<Seen>,
    has_body: Cell<bool>,
    /// The octet at which `</body>` begins.
    body_end: Cell<Option<usize>>,
    /// How the page is encoded, once something said so.
    encoding: Cell<Option<&'static encoding_rs::Encoding>>,
}

/// A page being read.
pub(super) struct Finder {
    parser: HtmlRewriter<'static, Unused>,
    found: Rc<Found>,
    is_begun: bool,
}

/// Takes what the parser would pass on; learns from it how the page is encoded.
struct Unused {
    found: Rc<Found>,
    is_told: bool,
}

impl OutputSink for Unused {
    fn handle_chunk(&mut self, _: &[u8]) {}

    fn set_encoding(&mut self, encoding: AsciiCompatibleEncoding) {
        // The first time it is what was assumed, the second what the page says.
        if std::mem::replace(&mut self.is_told, true) {
            self.found.encoding.set(Some(encoding.into()));
        }
    }
}

impl Finder {
    pub(super) fn new(sought: Sought, encoding: Option<AsciiCompatibleEncoding>) -> Self {
        let found = Rc::new(Found {
            seen: RefCell::new(Seen::new(sought)),
            has_body: Cell::new(false),
            body_end: Cell::new(None),
            encoding: Cell::new(encoding.map(Into::into)),
        });
        let settings = Settings::new()
            .with_encoding(encoding.unwrap_or_else(AsciiCompatibleEncoding::utf_8))
            .with_adjust_charset_on_meta_tag(encoding.is_none())
            .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(MAX_MEMORY_BYTES))
            .append_element_content_handler(body(&found))
            .append_element_content_handler(link(&found))
            .append_document_content_handler(text(&found));
        let parser = HtmlRewriter::new(settings, Unused { found: Rc::clone(&found), is_told: false });
        Self { parser, found, is_begun: false }
    }

    /// Reads on; `false` where the page can't be read.
    pub(super) fn read(&mut self, octets: &[u8]) -> bool {
        let is_wide = !std::mem::replace(&mut self.is_begun, !octets.is_empty())
            && (octets.starts_with(b"\xff\xfe") || octets.starts_with(b"\xfe\xff"));
        !is_wide && self.parser.write(octets).is_ok()
    }

    pub(super) fn body_end(&self) -> Option<usize> {
        self.found.body_end.get()
    }

    pub(super) fn has_body(&self) -> bool {
        self.found.has_body.get()
    }

    pub(super) fn seen(&self) -> Ref<'_, Seen> {
        self.found.seen.borrow()
    }

    /// Markup as the page is encoded; where nothing says how that is, in the characters that all encodings share.
    pub(super) fn encode<'m>(&self, markup: &'m str) -> Cow<'m, [u8]> {
        match self.found.encoding.get() {
            Some(encoding) => encoding.encode(markup).0,
            None => {
                let reference =
                    |c: char| if c.is_ascii() { c.to_string() } else { format!("&#x{:X};", u32::from(c)) };
                markup.chars().map(reference).collect::<String>().into_bytes().into()
            }
        }
    }
}

type Handler = lol_html::ElementContentHandlers<'static>;

fn on(
    selector: &str,
    handler: impl FnMut(&mut Element<'_, '_>) -> lol_html::HandlerResult + 'static,
) -> (Cow<'static, Selector>, Handler) {
    let selector = selector.parse().expect("a selector that is written here");
    (Cow::Owned(selector), Handler::default().element(handler))
}

/// The body, and where it ends.
fn body(found: &Rc<Found>) -> (Cow<'static, Selector>, Handler) {
    let found = Rc::clone(found);
    on("body", move |body| {
        // A second one is a mistake of the page's, or a page within a page.
        if !found.has_body.replace(true)
            && let Some(handlers) = body.end_tag_handlers()
        {
            let found = Rc::clone(&found);
            handlers.push(Box::new(move |end| {
                found.body_end.set(Some(end.source_location().bytes().start));
                Ok(())
            }));
        }
        Ok(())
    })
}

/// Links, and where they lead.
fn link(found: &Rc<Found>) -> (Cow<'static, Selector>, Handler) {
    let found = Rc::clone(found);
    on("a", move |link| {
        found.seen.borrow_mut().link(link.get_attribute("href").as_deref());
        if let Some(handlers) = link.end_tag_handlers() {
            let found = Rc::clone(&found);
            handlers.push(Box::new(move |_| {
                found.seen.borrow_mut().link(None);
                Ok(())
            }));
        }
        Ok(())
    })
}

/// The text that a visitor reads, and that of scripts, which may write more.
fn text(found: &Rc<Found>) -> DocumentContentHandlers<'static> {
    let found = Rc::clone(found);
    DocumentContentHandlers::default().text(move |text: &mut TextChunk<'_>| {
        if matches!(text.text_type(), TextType::Data | TextType::ScriptData) {
            found.seen.borrow_mut().text(text.as_str(), text.last_in_text_node());
        }
        Ok(())
    })
}
