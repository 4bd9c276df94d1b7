//! `DomainName`: a name in canonical form, and what can be asked of it.
//!
//! Knows labels, punycode and the public suffix list; refuses to know addresses (beyond
//! telling that something is one) and what a filing is.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{LABEL_MAX, NAME_MAX, NameError, ascii_form, ipv4};

/// `.政务`, the Chinese twin of `.gov.cn`.
const GOVERNMENT_SUFFIXES: [&str; 2] = ["gov.cn", "xn--zfr164b"];
/// Names that are asked for one government name, at most.
const CANDIDATES_MAX: usize = 8;
/// `registrable_at` of a name that has no registrable domain; no offset is as large.
const NOWHERE: u8 = u8::MAX;

/// A DNS name in canonical form: lower-case A-labels, no trailing dot, 1 to 253 octets.
///
/// Held inline, so that judging a request allocates nothing.
#[derive(Clone, Copy)]
pub struct DomainName {
    len: u8,
    /// Where the registrable domain starts: looked up once, asked for often.
    registrable_at: u8,
    is_government: bool,
    bytes: [u8; NAME_MAX],
}

impl DomainName {
    /// Parses what a client sent (Host, `:authority`, SNI): ASCII only, any case, one trailing dot allowed.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        let bytes = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bytes.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        let mut name = Self {
            len: u8::try_from(bytes.len()).map_err(|_| NameError::TooLong)?,
            registrable_at: NOWHERE,
            is_government: false,
            bytes: [0; NAME_MAX],
        };
        let Some(Seen { has_punycode, has_underscore }) = copy_lowered(bytes, &mut name.bytes) else {
            return Err(why_refused(bytes));
        };
        if ipv4::is_expected(bytes) {
            return Err(match ipv4::parse(bytes) {
                Some(_) => NameError::AddressNotName,
                None => NameError::BadAddress,
            });
        }
        if has_punycode && !is_true_punycode(name.as_str()) {
            return Err(NameError::BadPunycode);
        }
        let text = name.as_bytes();
        let is_government =
            GOVERNMENT_SUFFIXES.iter().any(|suffix| text != suffix.as_bytes() && is_within(text, suffix));
        if let Some(start) = registrable_start(text) {
            name.registrable_at = u8::try_from(start).map_err(|_| NameError::TooLong)?;
        }
        name.is_government = is_government;
        // Hosts with an underscore exist; nobody can register one.
        if has_underscore && name.registrable().unwrap_or(name.as_str()).contains('_') {
            return Err(NameError::Underscore);
        }
        Ok(name)
    }

    /// Parses what an operator wrote: Unicode or punycode (UTS 46, hyphens as DNS needs them), one trailing dot allowed.
    pub fn from_user(text: &str) -> Result<Self, NameError> {
        Self::from_wire(ascii_form(text)?.as_bytes())
    }

    /// The canonical ASCII form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII passes `check_label`")
    }

    /// The same as octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The Unicode form, for people.
    pub fn to_unicode(&self) -> String {
        let (text, _) =
            Uts46::new().to_unicode(self.as_str().as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        text.into_owned()
    }

    /// The registrable domain (ICANN section of the public suffix list); `None` for a public suffix or a single label.
    pub fn registrable(&self) -> Option<&str> {
        self.as_str().get(usize::from(self.registrable_at)..)
    }

    /// Whether the name is itself a public suffix (ICANN section); any single label counts as one.
    pub fn is_public_suffix(&self) -> bool {
        self.registrable_at == NOWHERE
    }

    /// Whether it lies under `.gov.cn` or `.政务`, where units may have filings of their own.
    pub fn is_government(&self) -> bool {
        self.is_government
    }

    /// The names whose filing could cover this one, most specific first: only the registrable
    /// domain, or under government suffixes up to eight, from the name itself up to the registrable domain
    /// (a deeper name starts eight labels from the registrable domain).
    pub fn filing_candidates(&self) -> impl Iterator<Item = &str> {
        let name = self.as_str();
        let registrable_at = usize::from(self.registrable_at);
        let has_registrable = !self.is_public_suffix();
        let below = if has_registrable && self.is_government { &name[..registrable_at] } else { "" };
        let labels = below.bytes().filter(|&byte| byte == b'.').count();
        // Every start of a label before the registrable domain: the name's own, and after each dot but the last.
        std::iter::once(0)
            .chain(below.match_indices('.').map(|(dot, _)| dot + 1))
            .take(labels)
            .skip(labels.saturating_sub(CANDIDATES_MAX - 1))
            .chain(has_registrable.then_some(registrable_at))
            .map(move |start| &name[start..])
    }

    /// Whether `self` is `parent` or lies below it (whole labels). `parent` is in canonical form.
    pub fn is_within(&self, parent: &str) -> bool {
        is_within(self.as_bytes(), parent)
    }

    /// The names above this one, nearest first: `b.c`, `c` for `a.b.c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        let name = self.as_str();
        name.match_indices('.').map(move |(dot, _)| &name[dot + 1..])
    }
}

fn is_within(name: &[u8], parent: &str) -> bool {
    match name.strip_suffix(parent.as_bytes()) {
        Some(rest) => !parent.is_empty() && (rest.is_empty() || rest.ends_with(b".")),
        None => false,
    }
}

/// What a name is held to in lower case: letters, digits, hyphen, underscore and dot; 0 is anything else.
const LOWERED: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// What a name's labels hold that wants a closer look.
struct Seen {
    has_punycode: bool,
    has_underscore: bool,
}

/// Copies a name in lower case, in one pass; `None` where a label is none.
fn copy_lowered(from: &[u8], to: &mut [u8]) -> Option<Seen> {
    let (mut label_at, mut before) = (0, b'.');
    let (mut has_punycode, mut has_underscore) = (false, false);
    for (at, (&byte, copy)) in from.iter().zip(to).enumerate() {
        let lowered = LOWERED[usize::from(byte)];
        *copy = lowered;
        match lowered {
            0 => return None,
            b'.' if matches!(before, b'.' | b'-') || at - label_at > LABEL_MAX => return None,
            b'.' => label_at = at + 1,
            b'-' if before == b'.' => return None,
            b'-' => has_punycode |= at == label_at + 3 && from[label_at..at].eq_ignore_ascii_case(b"xn-"),
            b'_' => has_underscore = true,
            _ => {}
        }
        before = lowered;
    }
    let is_ended = !matches!(before, b'.' | b'-') && from.len() - label_at <= LABEL_MAX;
    is_ended.then_some(Seen { has_punycode, has_underscore })
}

/// What is wrong with the first label that is none.
#[cold]
fn why_refused(bytes: &[u8]) -> NameError {
    let lowered = bytes.to_ascii_lowercase();
    let refused = lowered.split(|&byte| byte == b'.').find_map(|label| check_label(label).err());
    refused.unwrap_or(NameError::EmptyLabel)
}

fn check_label(label: &[u8]) -> Result<(), NameError> {
    let (Some(first), Some(last)) = (label.first(), label.last()) else {
        return Err(NameError::EmptyLabel);
    };
    for &byte in label {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => {}
            0x80.. => return Err(NameError::NotAscii),
            _ => return Err(NameError::BadCharacter(char::from(byte))),
        }
    }
    if label.len() > LABEL_MAX {
        return Err(NameError::LabelTooLong);
    }
    if *first == b'-' || *last == b'-' {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

/// Whether every `xn--` label is what its Unicode form encodes to: else two spellings would be one
/// name to some parsers and two to others.
fn is_true_punycode(name: &str) -> bool {
    let uts46 = Uts46::new();
    let (unicode, valid) = uts46.to_unicode(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    let has_outer_hyphen = |label: &str| label.starts_with('-') || label.ends_with('-');
    if valid.is_err() || unicode.split('.').any(has_outer_hyphen) {
        return false;
    }
    let ascii = uts46.to_ascii(unicode.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore);
    ascii.is_ok_and(|ascii| ascii == name)
}

/// Where the registrable domain starts, by the ICANN section alone: names under a shared private
/// suffix are covered by the suffix owner's filing.
fn registrable_start(name: &[u8]) -> Option<usize> {
    let mut looked_at = 0;
    let suffix_start = loop {
        let suffix = psl::suffix(&name[looked_at..])?;
        let start = name.len().checked_sub(suffix.as_bytes().len())?;
        if suffix.typ() != Some(psl::Type::Private) {
            break start;
        }
        looked_at = start + name[start..].iter().position(|byte| *byte == b'.')? + 1;
    };
    let above = name[..suffix_start].strip_suffix(b".")?;
    Some(above.iter().rposition(|byte| *byte == b'.').map_or(0, |dot| dot + 1))
}

impl FromStr for DomainName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::from_user(text)
    }
}

impl AsRef<str> for DomainName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for DomainName {
    fn eq(&self, other: &Self) -> bool {
        self.bytes[..usize::from(self.len)] == other.bytes[..usize::from(other.len)]
    }
}

impl Eq for DomainName {}

impl PartialOrd for DomainName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DomainName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for DomainName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> DomainName {
        DomainName::from_user(text).unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: Result<&str, NameError>) {
        let parsed = DomainName::from_wire(text.as_bytes());
        assert_eq!(parsed.map(|name| name.to_string()), expected.map(str::to_owned), "{text:?}");
    }

    #[test]
    fn names_on_the_wire() {
        check("example.com", Ok("example.com"));
        check("WWW.Example.COM.", Ok("www.example.com"));
        check("localhost", Ok("localhost"));
        check("a_b.example.com", Ok("a_b.example.com"));
        check("_dmarc.example.com", Ok("_dmarc.example.com"));
        check("r3---sn-abc.example.com", Ok("r3---sn-abc.example.com"));
        check("4u.example", Ok("4u.example"));
        check("XN--FSQU00A.xn--FIQS8S", Ok("xn--fsqu00a.xn--fiqs8s"));
        check(&"a.".repeat(127), Ok(&["a"; 127].join(".")));
        check(&format!("{}.com", "a".repeat(63)), Ok(&format!("{}.com", "a".repeat(63))));
    }

    #[test]
    fn what_is_no_name() {
        use NameError::*;
        check("", Err(Empty));
        check(".", Err(EmptyLabel));
        check("..", Err(EmptyLabel));
        check("a..b", Err(EmptyLabel));
        check("-a.com", Err(Hyphen));
        check("a-.com", Err(Hyphen));
        check("xn--.com", Err(Hyphen));
        check("xn--abc-.com", Err(Hyphen));
        check("a_b.com", Err(Underscore));
        check("my_host", Err(Underscore));
        check(&format!("{}.com", "a".repeat(64)), Err(LabelTooLong));
        check(&format!("{}bc", "a.".repeat(126)), Err(TooLong));
        check("192.0.2.1", Err(AddressNotName));
        check("example.1", Err(BadAddress));
        check("*.example.com", Err(BadCharacter('*')));
    }

    #[test]
    fn punycode_must_round_trip() {
        for text in [
            "xn--a.com",
            "xn--zzzzzzzzzzzz.com",
            // Capital, full-width, ligature, combining accent, soft hyphen, joiner, full stop
            // inside the encoded label: UTS 46 maps or refuses each.
            "xn--a-gea.com",
            "xn--b-yq0i.com",
            "xn--x-sy8h.com",
            "xn--ex-8tb.com",
            "xn--ab-5da.com",
            "xn--ab-m1t.com",
            "xn--r6j326gk8h.com",
            "xn--xn---epa.com",
            "example.xn--0",
        ] {
            check(text, Err(NameError::BadPunycode));
        }
        check("xn--fa-hia.de", Ok("xn--fa-hia.de"));
    }

    #[test]
    fn unicode_and_punycode_are_equal_for_users() {
        for (text, ascii) in [
            ("例子.中国", "xn--fsqu00a.xn--fiqs8s"),
            ("例子。中国。", "xn--fsqu00a.xn--fiqs8s"),
            ("政府.政务", "xn--mxtq1m.xn--zfr164b"),
            ("faß.de", "xn--fa-hia.de"),
            ("ＷＷＷ．Ｅｘａｍｐｌｅ．ｃｏｍ", "www.example.com"),
            ("XN--FSQU00A.中国", "xn--fsqu00a.xn--fiqs8s"),
        ] {
            assert_eq!(name(text).as_str(), ascii, "{text}");
            assert_eq!(name(ascii), name(text), "{text}");
        }
        assert_eq!(name("xn--fsqu00a.xn--fiqs8s").to_unicode(), "例子.中国");
        assert_eq!(name("example.com").to_unicode(), "example.com");
        for text in ["例 子.中国", "例/子.中国", "例\u{ffff}.中国", "-例.中国", "a℀.com"] {
            assert!(DomainName::from_user(text).is_err(), "{text}");
        }
        assert_eq!(DomainName::from_user(&"例".repeat(1000)), Err(NameError::TooLong));
    }

    #[test]
    fn registrable_domains() {
        for (text, expected) in [
            ("example.com", Some("example.com")),
            ("a.b.example.com", Some("example.com")),
            ("www.example.com.cn", Some("example.com.cn")),
            ("a.gov.cn", Some("a.gov.cn")),
            ("b.a.gov.cn", Some("a.gov.cn")),
            ("www.example.bj.cn", Some("example.bj.cn")),
            ("bench.test", Some("bench.test")),
            ("www.bench.test", Some("bench.test")),
            ("www.政府.政务", Some("xn--mxtq1m.xn--zfr164b")),
            ("www.例子.中国", Some("xn--fsqu00a.xn--fiqs8s")),
            ("www.例子.公司.cn", Some("xn--fsqu00a.xn--55qx5d.cn")),
            // Shared private suffixes are covered by their owner's filing.
            ("someone.github.io", Some("github.io")),
            ("a.s3.cn-north-1.amazonaws.com.cn", Some("amazonaws.com.cn")),
            ("www.ck", Some("www.ck")),
            ("a.b.c.ck", Some("b.c.ck")),
            ("com", None),
            ("com.cn", None),
            ("gov.cn", None),
            ("bj.cn", None),
            ("政务", None),
            ("localhost", None),
        ] {
            assert_eq!(name(text).registrable(), expected, "{text}");
            assert_eq!(name(text).is_public_suffix(), expected.is_none(), "{text}");
        }
    }

    #[test]
    fn government_names_are_walked_others_asked_once() {
        for (text, expected) in [
            ("a.b.example.com", "example.com"),
            ("com", ""),
            ("gov.cn", ""),
            ("a.gov.cn", "a.gov.cn"),
            ("c.b1.a.gov.cn", "c.b1.a.gov.cn b1.a.gov.cn a.gov.cn"),
            (
                "j.i.h.g.f.e.d.c.b.a.gov.cn",
                "h.g.f.e.d.c.b.a.gov.cn g.f.e.d.c.b.a.gov.cn f.e.d.c.b.a.gov.cn \
                 e.d.c.b.a.gov.cn d.c.b.a.gov.cn c.b.a.gov.cn b.a.gov.cn a.gov.cn",
            ),
            ("www.政府.政务", "www.xn--mxtq1m.xn--zfr164b xn--mxtq1m.xn--zfr164b"),
            ("a.notgov.cn", "notgov.cn"),
        ] {
            let candidates: Vec<_> = name(text).filing_candidates().map(str::to_owned).collect();
            assert_eq!(candidates.join(" "), expected, "{text}");
        }
        assert!(!name("gov.cn").is_government() && !name("政务").is_government());
    }

    #[test]
    fn within_means_whole_labels() {
        for (text, parent, expected) in [
            ("example.com", "example.com", true),
            ("a.example.com", "example.com", true),
            ("evilexample.com", "example.com", false),
            ("example.com.evil.example", "example.com", false),
            ("com", "example.com", false),
            ("example.com", "", false),
        ] {
            assert_eq!(name(text).is_within(parent), expected, "{text} {parent}");
        }
        let parents: Vec<_> = name("a.b.c").parents().map(str::to_owned).collect();
        assert_eq!(parents, ["b.c", "c"]);
    }

    proptest! {
        /// The one pass takes what each label's check takes.
        #[test]
        fn one_pass_is_as_label_by_label(text in "[a-zA-Z0-9._x-]{1,70}|(xn--|-|[.]|é|a{60,64}|a|N|_){1,6}") {
            let lowered = text.to_ascii_lowercase();
            let labels = || lowered.as_bytes().split(|&byte| byte == b'.');
            let mut copied = vec![0; text.len()];
            let seen = copy_lowered(text.as_bytes(), &mut copied);
            prop_assert_eq!(seen.is_some(), labels().all(|label| check_label(label).is_ok()));
            if let Some(seen) = seen {
                prop_assert_eq!(copied, lowered.as_bytes());
                prop_assert_eq!(seen.has_punycode, labels().any(|label| label.starts_with(b"xn--")));
                prop_assert_eq!(seen.has_underscore, lowered.contains('_'));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = DomainName::from_user(&text);
            let _ = DomainName::from_wire(text.as_bytes());
        }

        #[test]
        fn spelling_does_not_matter(
            text in "(xn--)?[a-z0-9_-]{1,8}(\\.[a-z0-9]{1,8}){0,4}",
            upper in any::<u64>(),
        ) {
            let Ok(plain) = DomainName::from_wire(text.as_bytes()) else { return Ok(()) };
            let other: String = text
                .char_indices()
                .map(|(at, c)| if upper >> (at % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
                .chain(['.'])
                .collect();
            prop_assert_eq!(DomainName::from_wire(other.as_bytes()), Ok(plain));
            prop_assert_eq!(DomainName::from_user(&plain.to_unicode()), Ok(plain));
        }

        #[test]
        fn unicode_survives_the_round_trip(text in "[\\p{Han}a-z0-9]{1,10}\\.(中国|com|政务)") {
            let Ok(name) = DomainName::from_user(&text) else { return Ok(()) };
            prop_assert_eq!(DomainName::from_wire(name.as_str().as_bytes()), Ok(name));
            prop_assert_eq!(DomainName::from_user(&name.to_unicode()), Ok(name));
        }
    }
}
