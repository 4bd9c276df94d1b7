//! Filing numbers: every form in real use, its canonical text, and 57 bits for the common ones.
//!
//! Refuses to know whether a number was ever issued. Forms, seen on sites and at the ministry's query:
//!
//! | form | example |
//! | --- | --- |
//! | filing, subject and site | `京ICP备12345678号`, `陕ICP备2024026116号-1`, older `沪ICP备050123号` |
//! | app, mini-program, quick app | `京ICP备12345678号-1A`, `-1X`, `-1K` |
//! | licence, older | `京ICP证030173号`, `京ICP证030173号-102` |
//! | licence, by class of service | `粤B2-20090059-5`, `合字B2-20210001`, `A2.B1-20090001` |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::province::{PROVINCES, Province};
use crate::digits::Digits;

/// Characters beyond which no number goes, spaces included.
const TEXT_MAX: usize = 64;

const INDEX_BITS: u32 = 14;
const KIND_BITS: u32 = 2;
const SERIAL_BITS: u32 = 34;
const PROVINCE_BITS: u32 = 6;
const KIND_AT: u32 = INDEX_BITS;
const SERIAL_AT: u32 = KIND_AT + KIND_BITS;
const TEN_DIGITS_AT: u32 = SERIAL_AT + SERIAL_BITS;
const PROVINCE_AT: u32 = TEN_DIGITS_AT + 1;
/// Bits that `FilingNumber::pack` uses, counted from the lowest.
pub const NUMBER_BITS: u32 = PROVINCE_AT + PROVINCE_BITS;

/// An ICP filing or licence number in any real form (主体备案号, 网站备案号, 许可证号).
///
/// Equal where the canonical text is; `蜀` and `川` stay as written. The common form is held as bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilingNumber(Form);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Form {
    /// `pack`'s bits.
    Common(u64),
    /// Canonical text of a number that doesn't fit them.
    Odd(Box<str>),
}

/// What a site number's last letter says it was issued to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /** 网站 */
    Website,
    /** APP, `A` */
    App,
    /** 小程序, `X` */
    MiniProgram,
    /** 快应用, `K` */
    QuickApp,
}

/// Why text is not a filing number; the message shows a right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {wanted}")]
pub struct NumberError {
    /// What was given, cut to a sensible length.
    pub text: String,
    wanted: &'static str,
}

impl NumberError {
    pub(super) fn new(text: &str, wanted: &'static str) -> Self {
        let text = text.chars().take(TEXT_MAX).collect();
        Self { text, wanted }
    }
}

impl FilingNumber {
    /// Parses every real form (spaces dropped, full-width letters, ideographic digits, dashes and
    /// parentheses normalised, `ICP` in any case, a left-out `号` put back).
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        normalise(text)
            .and_then(|text| parse_normalised(&text))
            .map(Self)
            .ok_or_else(|| NumberError::new(text, "filing number; one looks like 京ICP备12345678号-1"))
    }

    /// The subject's number: this one without its site index.
    pub fn subject(&self) -> Self {
        Self(match &self.0 {
            Form::Common(bits) => Form::Common(bits >> SERIAL_AT << SERIAL_AT),
            Form::Odd(text) => {
                let subject = &text[..subject_len(text)];
                // The index may be all that was odd about it.
                parse_normalised(subject).unwrap_or_else(|| Form::Odd(subject.into()))
            }
        })
    }

    /// Whether it names one site (has an index), as opposed to a subject.
    pub fn is_site(&self) -> bool {
        self.index().is_some()
    }

    /// The site's index under its subject: 1 in `…号-1`.
    pub fn index(&self) -> Option<u32> {
        match &self.0 {
            Form::Common(bits) => u32::try_from(field(*bits, 0, INDEX_BITS)).ok().filter(|index| *index > 0),
            Form::Odd(text) => parse_index(&text[subject_len(text)..]).and_then(|it| it.0),
        }
    }

    /// What the last letter says it was issued to.
    pub fn kind(&self) -> ServiceKind {
        match &self.0 {
            Form::Common(bits) => ServiceKind::from_bits(field(*bits, KIND_AT, KIND_BITS)),
            Form::Odd(text) => {
                parse_index(&text[subject_len(text)..]).map_or(ServiceKind::Website, |(_, kind)| kind)
            }
        }
    }

    /// Whether it is a licence (许可) rather than a filing.
    pub fn is_licence(&self) -> bool {
        matches!(&self.0, Form::Odd(text) if !text.contains('备'))
    }

    /// Whose authority issued it; `None` where the ministry itself did.
    pub fn province(&self) -> Option<Province> {
        match &self.0 {
            Form::Common(bits) => province_of_code(field(*bits, PROVINCE_AT, PROVINCE_BITS)).map(|it| it.1),
            Form::Odd(text) => text.chars().next().and_then(Province::from_glyph),
        }
    }

    /// Adds its canonical text, as `Display` says it, without `fmt`.
    pub fn put(&self, out: &mut Vec<u8>) {
        let bits = match &self.0 {
            Form::Common(bits) => *bits,
            Form::Odd(text) => return out.extend_from_slice(text.as_bytes()),
        };
        if let Some((glyph, _)) = province_of_code(field(bits, PROVINCE_AT, PROVINCE_BITS)) {
            out.extend_from_slice(glyph.encode_utf8(&mut [0; 4]).as_bytes());
        }
        let width = if serial_width(bits) == 10 { 10 } else { 8 };
        out.extend_from_slice("ICP备".as_bytes());
        out.extend_from_slice(Digits::padded(field(bits, SERIAL_AT, SERIAL_BITS), width).as_bytes());
        out.extend_from_slice("号".as_bytes());
        let index = field(bits, 0, INDEX_BITS);
        if index > 0 {
            out.push(b'-');
            out.extend_from_slice(Digits::decimal(index).as_bytes());
            out.extend_from_slice(self.kind().letter().as_bytes());
        }
    }

    /// Packs into 57 bits where the common form allows it (`[province]ICP备[8 or 10 digits]号[-index]`); else the number is
    /// an odd one, and goes beside the record as text.
    ///
    /// From the lowest bit: index 14 (0: none), kind 2, serial 34, ten digits 1, province 6 (from 1; never 0).
    pub fn pack(&self) -> Option<u64> {
        match self.0 {
            Form::Common(bits) => Some(bits),
            Form::Odd(_) => None,
        }
    }

    /// The reverse of `pack`; `None` for bits that no number packs to.
    pub fn unpack(bits: u64) -> Option<Self> {
        let serial_limit = 10_u64.pow(serial_width(bits));
        let is_index_missing = field(bits, 0, INDEX_BITS) == 0;
        let is_kind_given = field(bits, KIND_AT, KIND_BITS) != 0;
        let is_real = bits >> NUMBER_BITS == 0
            && province_of_code(field(bits, PROVINCE_AT, PROVINCE_BITS)).is_some()
            && field(bits, SERIAL_AT, SERIAL_BITS) < serial_limit
            && !(is_index_missing && is_kind_given);
        is_real.then_some(Self(Form::Common(bits)))
    }
}

impl ServiceKind {
    fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::App,
            2 => Self::MiniProgram,
            3 => Self::QuickApp,
            _ => Self::Website,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Self::Website => 0,
            Self::App => 1,
            Self::MiniProgram => 2,
            Self::QuickApp => 3,
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Website => "",
            Self::App => "A",
            Self::MiniProgram => "X",
            Self::QuickApp => "K",
        }
    }
}

impl fmt::Display for FilingNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match &self.0 {
            Form::Common(bits) => *bits,
            Form::Odd(text) => return f.write_str(text),
        };
        let (glyph, _) = province_of_code(field(bits, PROVINCE_AT, PROVINCE_BITS))
            .expect("only codes of the table are packed");
        let serial = field(bits, SERIAL_AT, SERIAL_BITS);
        let width = if serial_width(bits) == 10 { 10 } else { 8 };
        write!(f, "{glyph}ICP备{serial:0width$}号")?;
        match field(bits, 0, INDEX_BITS) {
            0 => Ok(()),
            index => write!(f, "-{index}{}", self.kind().letter()),
        }
    }
}

impl FromStr for FilingNumber {
    type Err = NumberError;

    fn from_str(text: &str) -> Result<Self, NumberError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for FilingNumber {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        Self::parse(&text)
    }
}

impl From<FilingNumber> for String {
    fn from(number: FilingNumber) -> Self {
        number.to_string()
    }
}

fn field(bits: u64, at: u32, width: u32) -> u64 {
    bits >> at & ((1 << width) - 1)
}

fn serial_width(bits: u64) -> u32 {
    if field(bits, TEN_DIGITS_AT, 1) == 1 { 10 } else { 8 }
}

fn province_of_code(code: u64) -> Option<(char, Province)> {
    let index = usize::try_from(code).ok()?.checked_sub(1)?;
    PROVINCES.get(index).copied()
}

/// Octets of an odd number's canonical text that are the subject's.
fn subject_len(text: &str) -> usize {
    let after_mark = text.find('号').map(|at| at + '号'.len_utf8());
    let after_serial = || text.find('-').map(|at| at + 1 + 8);
    after_mark.or_else(after_serial).map_or(text.len(), |len| len.min(text.len()))
}

/// Drops and maps what people and pages write differently; `None` where it can't be a number.
pub(super) fn normalise(text: &str) -> Option<String> {
    let mut normal = String::with_capacity(text.len().min(4 * TEXT_MAX));
    let mut is_open = false;
    for (count, c) in text.chars().enumerate() {
        if count == TEXT_MAX {
            return None;
        }
        let half_width = match c {
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0)?,
            _ => c,
        };
        match half_width.to_ascii_uppercase() {
            // What nearly all of a number consists of, first.
            c @ ('0'..='9' | 'A'..='Z' | '-' | '备' | '证' | '号') => normal.push(c),
            c if c.is_whitespace() || c == '\u{200b}' || c == '\u{feff}' => {}
            // `（京）ICP备…`: around a part, never one alone.
            '(' | '〔' if !is_open => is_open = true,
            ')' | '〕' if is_open => is_open = false,
            '‐'..='―' | '−' | '﹘' | '﹣' | 'ー' => normal.push('-'),
            '〇' | '零' => normal.push('0'),
            '備' => normal.push('备'),
            '證' => normal.push('证'),
            '號' => normal.push('号'),
            c => match "一二三四五六七八九".chars().zip('1'..).find(|it| it.0 == c) {
                Some((_, digit)) => normal.push(digit),
                None => normal.push(c),
            },
        }
    }
    (!is_open).then_some(normal)
}

fn parse_normalised(text: &str) -> Option<Form> {
    let (province, rest) = PROVINCES
        .iter()
        .zip(1_u64..)
        .find_map(|((glyph, _), code)| Some((code, text.strip_prefix(*glyph)?)))
        .map_or((None, text), |(code, rest)| (Some(code), rest));
    match (province, rest.strip_prefix("ICP")) {
        (Some(code), Some(rest)) => parse_icp(&text[..text.len() - rest.len()], code, rest),
        (None, Some(_)) => None,
        (_, None) => parse_licence_by_class(text, rest),
    }
}

/// `备12345678号-1` or `证030173号-1`, after `head` (province and `ICP`).
fn parse_icp(head: &str, province: u64, text: &str) -> Option<Form> {
    let (mark, rest) = match text.strip_prefix('备') {
        Some(rest) => ('备', rest),
        None => ('证', text.strip_prefix('证')?),
    };
    let (serial, rest) = split_digits(rest);
    // Nine digits are ten with one lost; shorter ones are of the first years.
    if !matches!(serial.len(), 4..=8 | 10) {
        return None;
    }
    let (index, kind) = parse_index(rest.strip_prefix('号').unwrap_or(rest))?;
    let packed_index = u64::from(index.unwrap_or(0));
    let is_common = mark == '备' && matches!(serial.len(), 8 | 10) && packed_index < 1 << INDEX_BITS;
    if is_common {
        let ten_digits = u64::from(serial.len() == 10);
        return Some(Form::Common(
            province << PROVINCE_AT
                | ten_digits << TEN_DIGITS_AT
                | serial.parse::<u64>().ok()? << SERIAL_AT
                | kind.bits() << KIND_AT
                | packed_index,
        ));
    }
    let tail = print_index(index, kind);
    Some(Form::Odd(format!("{head}{mark}{serial}号{tail}").into()))
}

/// `[province or 合字]B2-20090059[-5]`, the classes one or several of A1, A2, B1, B2 in order.
fn parse_licence_by_class(text: &str, after_province: &str) -> Option<Form> {
    let has_province = text.len() != after_province.len();
    let rest = match after_province.strip_prefix("合字") {
        Some(rest) if !has_province => rest,
        _ => after_province,
    };
    let (classes, rest) = rest.split_once('-')?;
    let classes_known: Option<Vec<usize>> =
        classes.split('.').map(|class| ["A1", "A2", "B1", "B2"].iter().position(|it| *it == class)).collect();
    if !classes_known?.is_sorted_by(|a, b| a < b) {
        return None;
    }
    let head = &text[..text.len() - rest.len()];
    let (serial, rest) = split_digits(rest);
    if serial.len() != 8 {
        return None;
    }
    let (index, kind) = parse_index(rest.strip_prefix('号').unwrap_or(rest))?;
    let tail = print_index(index, kind);
    Some(Form::Odd(format!("{head}{serial}{tail}").into()))
}

pub(super) fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Nothing, `-1`, or `-1A`. The outer `None` is an error.
fn parse_index(text: &str) -> Option<(Option<u32>, ServiceKind)> {
    if text.is_empty() {
        return Some((None, ServiceKind::Website));
    }
    let (index, letter) = split_digits(text.strip_prefix('-')?);
    let kind = match letter {
        "" => ServiceKind::Website,
        "A" => ServiceKind::App,
        "X" => ServiceKind::MiniProgram,
        "K" => ServiceKind::QuickApp,
        _ => return None,
    };
    let is_real = matches!(index.len(), 1..=6) && !index.starts_with('0');
    is_real.then_some((index.parse().ok(), kind))
}

fn print_index(index: Option<u32>, kind: ServiceKind) -> String {
    index.map_or_else(String::new, |index| format!("-{index}{}", kind.letter()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `expected`: canonical text, subject, index, whether it packs.
    #[track_caller]
    fn check(text: &str, expected: (&str, &str, Option<u32>, bool)) {
        let number = FilingNumber::parse(text).unwrap();
        let (shown, subject) = (number.to_string(), number.subject().to_string());
        let packs = number.pack().is_some();
        assert_eq!((&*shown, &*subject, number.index(), packs), expected, "{text}");
        assert_eq!(FilingNumber::parse(&shown), Ok(number.clone()));
        assert_eq!(FilingNumber::parse(&subject), Ok(number.subject()));
        assert_eq!(number.is_site(), number.index().is_some());
        if let Some(bits) = number.pack() {
            assert!(bits != 0 && bits < 1 << NUMBER_BITS);
            assert_eq!(FilingNumber::unpack(bits), Some(number));
        }
    }

    #[test]
    fn every_real_form() {
        let subject = "京ICP备12345678号";
        let site = "京ICP备12345678号-1";
        check(subject, (subject, subject, None, true));
        check(site, (site, subject, Some(1), true));
        check("京ICP备05000001号-16383", ("京ICP备05000001号-16383", "京ICP备05000001号", Some(16383), true));
        check(
            "京ICP备05000001号-16384",
            ("京ICP备05000001号-16384", "京ICP备05000001号", Some(16384), false),
        );
        check("陕ICP备2024026116号-1", ("陕ICP备2024026116号-1", "陕ICP备2024026116号", Some(1), true));
        check("沪ICP备050123号", ("沪ICP备050123号", "沪ICP备050123号", None, false));
        for letter in ["A", "X", "K"] {
            let text = format!("{subject}-12{letter}");
            check(&text, (&text, subject, Some(12), true));
        }
        check("京ICP证030173号", ("京ICP证030173号", "京ICP证030173号", None, false));
        check("京ICP证030173号-102", ("京ICP证030173号-102", "京ICP证030173号", Some(102), false));
        check("粤B2-20090059", ("粤B2-20090059", "粤B2-20090059", None, false));
        check("粤B2-20090059-5", ("粤B2-20090059-5", "粤B2-20090059", Some(5), false));
        check("粤B2-20090059-5A", ("粤B2-20090059-5A", "粤B2-20090059", Some(5), false));
        check("合字B2-20210001", ("合字B2-20210001", "合字B2-20210001", None, false));
        check("A2.B1.B2-20090001-2", ("A2.B1.B2-20090001-2", "A2.B1.B2-20090001", Some(2), false));
    }

    #[test]
    fn what_people_write() {
        let subject = "京ICP备12345678号";
        let site = ("京ICP备12345678号-1", subject, Some(1), true);
        for text in [
            " 京 icp备 12345678 号 - 1\n",
            "京ＩＣＰ备１２３４５６７８号－１",
            "京ICP备12345678号—1",
            "京ICP备12345678号–1",
            "京Icp备一二三四五六七八号-一",
            "（京）ICP备12345678号-1",
            "京(ICP)备12345678号-1",
            "京ICP備12345678號-1",
            "京ICP备12345678-1",
            "\u{feff}京ICP备12345678号\u{3000}-1",
        ] {
            check(text, site);
        }
        check("粤b2－20090059－5", ("粤B2-20090059-5", "粤B2-20090059", Some(5), false));
        check("合字B2-20210001号", ("合字B2-20210001", "合字B2-20210001", None, false));
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "",
            "-",
            "京",
            "京ICP",
            "ICP备12345678号",
            "京ICP备号",
            "京ICP备123号",
            "京ICP备123456789号",
            "京ICP备12345678901号",
            "京ICP备12345678号-",
            "京ICP备12345678号-0",
            "京ICP备12345678号-01",
            "京ICP备12345678号-1B",
            "京ICP备12345678号A",
            "京ICP备12345678号1",
            "京ICP备12345678号-1-2",
            "港ICP备12345678号",
            "京京ICP备12345678号",
            "京ICP备12345678号-1 粤B2-20090059",
            "京公网安备11010102000001号",
            "粤B3-20090059",
            "粤B2-2009005",
            "粤B2.B1-20090059",
            "粤合字B2-20210001",
            "(京ICP备12345678号",
            "京)ICP(备12345678号",
            "京ICP备12345678号-9999999",
            "备案中",
        ] {
            assert!(FilingNumber::parse(text).is_err(), "{text}");
        }
        let long = FilingNumber::parse(&"京".repeat(10_000)).unwrap_err();
        assert_eq!(long.text.chars().count(), TEXT_MAX);
        let message = FilingNumber::parse("x").unwrap_err().to_string();
        assert_eq!(message, "`x` is no filing number; one looks like 京ICP备12345678号-1");
    }

    #[test]
    fn provinces_and_kinds() {
        for (text, province) in [
            ("蜀ICP备12345678号", Some(Province::Sichuan)),
            ("川ICP备12345678号", Some(Province::Sichuan)),
            ("鄂ICP证030173号", Some(Province::Hubei)),
            ("合字B2-20210001", None),
        ] {
            assert_eq!(FilingNumber::parse(text).unwrap().province(), province, "{text}");
        }
        let number = |text| FilingNumber::parse(text).unwrap();
        assert_ne!(number("蜀ICP备12345678号"), number("川ICP备12345678号"));
        assert_eq!(number("京ICP备12345678号-1X").kind(), ServiceKind::MiniProgram);
        assert_eq!(number("粤B2-20090059-5A").kind(), ServiceKind::App);
        assert_eq!(number("粤B2-20090059").kind(), ServiceKind::Website);
        assert!(number("粤B2-20090059").is_licence() && number("京ICP证030173号").is_licence());
        assert!(!number("京ICP备12345678号").is_licence() && !number("沪ICP备050123号").is_licence());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = FilingNumber::parse(&text);
        }

        #[test]
        fn what_is_shown_parses_back(
            text in "(京|川|蜀|新|合字)?(ICP备|icp证|B2-|A2.B1-)[0-9]{6,10}号?(-[0-9]{1,6}[AXK]?)?",
        ) {
            let Ok(number) = FilingNumber::parse(&text) else { return Ok(()) };
            prop_assert_eq!(FilingNumber::parse(&number.to_string()), Ok(number.clone()));
            let mut put = Vec::new();
            number.put(&mut put);
            prop_assert_eq!(put, number.to_string().into_bytes());
            prop_assert_eq!(FilingNumber::parse(&number.subject().to_string()), Ok(number.subject()));
            prop_assert_eq!(number.subject().index(), None);
            if let Some(bits) = number.pack() {
                prop_assert_eq!(FilingNumber::unpack(bits), Some(number));
            }
        }

        #[test]
        fn any_bits_unpack_to_what_packs_to_them(bits in prop_oneof![any::<u64>(), 0_u64..1 << NUMBER_BITS]) {
            let Some(number) = FilingNumber::unpack(bits) else { return Ok(()) };
            prop_assert_eq!(number.pack(), Some(bits));
            prop_assert_eq!(FilingNumber::parse(&number.to_string()), Ok(number));
        }
    }
}
