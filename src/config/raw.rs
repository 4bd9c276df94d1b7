//! The TOML document as a tree that remembers where everything stands, and collects mistakes.
//!
//! A [`Section`] learns its known keys from being asked for them, so a key that is read is a key that is
//! known, and `finish` can name the nearest one to a key that nobody asked for. Knows no key itself.

use super::error::{ConfigError, Problem, Reading, Source};
use super::value;
use super::words::{alternatives, nearest};
use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One config file: its name, its text, and what was found wrong with it so far.
pub(super) struct Document<'t> {
    source: Source<'t>,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(name: &'t str, text: &'t str) -> Self {
        Self { source: Source::new(name, text), problems: RefCell::default() }
    }

    /// Parses the text; what is no TOML is recorded.
    pub(super) fn parse(&self) -> Spanned<DeTable<'t>> {
        let (table, errors) = DeTable::parse_recoverable(self.source.text);
        for error in errors {
            let at = error.span().unwrap_or(0..0);
            self.record(&at, Reading::Broken, ("", &format!("this is no TOML: {}", error.message())));
        }
        table
    }

    /// Records a mistake at `span`.
    pub(super) fn refuse(&self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.record(span, Reading::Known, (key, &message.into()));
    }

    fn record(&self, span: &Range<usize>, reading: Reading, what: (&str, &str)) {
        self.problems.borrow_mut().push(Problem::locate(&self.source, span, reading, what));
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// Everything that was recorded, in the order of the file; fine where that is nothing.
    pub(super) fn into_result(self) -> Result<(), ConfigError> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| (problem.line, problem.column));
        if problems.is_empty() { Ok(()) } else { Err(ConfigError::Invalid(problems)) }
    }
}

/// A table of the document: `[cache]`, one `[[listener]]`, an inline table.
pub(super) struct Section<'t> {
    document: &'t Document<'t>,
    path: String,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    /// The document itself.
    pub(super) fn root(document: &'t Document<'t>, table: &'t DeTable<'t>) -> Self {
        Self { document, path: String::new(), table, span: 0..0, known: Vec::new() }
    }

    /// The value of `key`, which becomes known here.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.known.push(key);
        let (written, inner) = self.table.iter().find(|(written, _)| written.get_ref() == key)?;
        Some(self.child(written, inner))
    }

    /// The value of `key`; where it is missing, a mistake that shows how to write it.
    pub(super) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'t>> {
        let found = self.value(key);
        if found.is_none() {
            self.refuse(format!("{key:?} is missing; write it like {example}"));
        }
        found
    }

    /// The subsection `key`.
    pub(super) fn section(&mut self, key: &'static str) -> Option<Section<'t>> {
        self.value(key)?.section()
    }

    /// The tables of the array `key` (`[[key]]`), none where it is absent.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Section<'t>> {
        let values = self.value(key).map(|value| value.items()).unwrap_or_default();
        values.into_iter().filter_map(Value::section).collect()
    }

    /// The values of the array `key`, each parsed; those that are wrong are recorded and left out.
    pub(super) fn list<T>(&mut self, key: &'static str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let values = self.value(key).map(|value| value.items()).unwrap_or_default();
        values.iter().filter_map(|value| value.parse(&parse)).collect()
    }

    /// Every entry, whatever its key: where keys are names that the operator chooses from a list.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'t str, Value<'t>)> + use<'t> {
        let path = self.path.clone();
        let document = self.document;
        self.table.iter().map(move |(written, inner)| {
            (written.get_ref().as_ref(), Value::new(document, join(&path, written.get_ref()), written, inner))
        })
    }

    /// Records a mistake of the section as a whole.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.document.refuse(&self.span, &self.path, message);
    }

    /// Records a mistake for every key that nobody asked for.
    pub(super) fn finish(self) {
        for written in self.table.keys() {
            let key: &str = written.get_ref();
            if self.known.contains(&key) {
                continue;
            }
            let mut known = self.known.clone();
            known.sort_unstable();
            let meant =
                nearest(key, &known).map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
            let message = format!("unknown key; {meant}known here: {}", known.join(", "));
            let what = (&*join(&self.path, key), &*message);
            self.document.record(&written.span(), Reading::UnknownKey, what);
        }
    }

    fn child(
        &self,
        written: &'t Spanned<std::borrow::Cow<'t, str>>,
        inner: &'t Spanned<DeValue<'t>>,
    ) -> Value<'t> {
        Value::new(self.document, join(&self.path, written.get_ref()), written, inner)
    }
}

/// One value, its place, and the dotted path of its key.
#[derive(Clone)]
pub(super) struct Value<'t> {
    document: &'t Document<'t>,
    path: String,
    key_span: Range<usize>,
    span: Range<usize>,
    inner: &'t DeValue<'t>,
}

impl<'t> Value<'t> {
    fn new(
        document: &'t Document<'t>,
        path: String,
        written: &Spanned<std::borrow::Cow<'t, str>>,
        inner: &'t Spanned<DeValue<'t>>,
    ) -> Self {
        Self { document, path, key_span: written.span(), span: inner.span(), inner: inner.get_ref() }
    }

    /// Records a mistake at the value.
    pub(super) fn refuse(&self, message: impl Into<String>) {
        self.document.refuse(&self.span, &self.path, message);
    }

    /// Records a mistake at the key.
    pub(super) fn refuse_key(&self, message: impl Into<String>) {
        self.document.refuse(&self.key_span, &self.path, message);
    }

    /// Where the value stands, for a mistake found later.
    pub(super) fn place(&self) -> Place {
        Place { span: self.span.clone(), path: self.path.clone() }
    }

    fn expected(&self, what: &str) {
        self.refuse(format!("this must be {what}, not {}", named_type(self.inner)));
    }

    pub(super) fn string(&self) -> Option<&'t str> {
        let found = self.inner.as_str();
        if found.is_none() {
            self.expected("a string in quotes");
        }
        found
    }

    /// The string, where it is one.
    pub(super) fn string_if_any(&self) -> Option<&'t str> {
        self.inner.as_str()
    }

    /// A string that `parse` understands, or the mistake that it reports.
    pub(super) fn parse<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match parse(self.string()?) {
            Ok(parsed) => Some(parsed),
            Err(message) => {
                self.refuse(message);
                None
            }
        }
    }

    /// One of a few words. `what` names their kind: "a protocol".
    pub(super) fn choice<T: Copy>(&self, what: &str, choices: &[(&str, T)]) -> Option<T> {
        self.parse(|text| {
            let found = choices.iter().find(|(word, _)| *word == text);
            found.map(|(_, chosen)| *chosen).ok_or_else(|| {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                format!("{text:?} is not {what}; use {}", alternatives(&words))
            })
        })
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let found = self.inner.as_bool();
        if found.is_none() {
            self.expected("true or false");
        }
        found
    }

    /// A whole number within `range`.
    pub(super) fn integer(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let Some(written) = self.inner.as_integer() else {
            self.expected("a whole number");
            return None;
        };
        let found = usize::from_str_radix(written.as_str(), written.radix()).ok();
        self.within(found, range, written)
    }

    /// A number within `range`.
    pub(super) fn fraction(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let found = match self.inner {
            DeValue::Float(written) => written.as_str().parse().ok(),
            DeValue::Integer(written) => written.as_str().parse().ok(),
            _ => {
                self.expected("a number");
                return None;
            }
        };
        let written = &self.document.source.text[self.span.clone()];
        self.within(found, range, &written)
    }

    fn within<T>(&self, found: Option<T>, range: RangeInclusive<T>, written: &impl Display) -> Option<T>
    where
        T: PartialOrd + Display,
    {
        let fits = found.filter(|number| range.contains(number));
        if fits.is_none() {
            self.refuse(format!("{written} is out of range; use {} to {}", range.start(), range.end()));
        }
        fits
    }

    /// A duration that is not zero.
    pub(super) fn duration(&self) -> Option<Duration> {
        let found = self.duration_or_zero()?;
        if found.is_zero() {
            self.refuse("a duration of zero lets nothing through; use at least \"1ms\"");
            return None;
        }
        Some(found)
    }

    pub(super) fn duration_or_zero(&self) -> Option<Duration> {
        if self.inner.is_integer() {
            self.refuse(
                "a duration needs a unit, in quotes; write one like \"10s\", \"500ms\", \"30m\" or \"24h\"",
            );
            return None;
        }
        self.parse(value::duration)
    }

    /// A size in octets: a string with a unit, or a number.
    pub(super) fn size(&self, range: RangeInclusive<usize>) -> Option<usize> {
        if self.inner.is_integer() {
            return self.integer(range);
        }
        let octets = self.parse(value::size)?;
        self.within(Some(octets), range, &octets)
    }

    /// A day: a string or a TOML date.
    pub(super) fn date(&self) -> Option<jiff::civil::Date> {
        match self.inner.as_datetime() {
            Some(written) => match value::date(&written.to_string()) {
                Ok(date) if written.time.is_none() => Some(date),
                _ => {
                    self.refuse(format!("{written} is not a date; write one like \"2027-01-01\""));
                    None
                }
            },
            None => self.parse(value::date),
        }
    }

    /// A path that is not empty.
    pub(super) fn path(&self) -> Option<std::path::PathBuf> {
        self.parse(|text| match text {
            "" => Err("a path is missing between the quotes".to_owned()),
            text => Ok(text.into()),
        })
    }

    pub(super) fn is_list(&self) -> bool {
        self.inner.as_array().is_some()
    }

    pub(super) fn is_empty_list(&self) -> bool {
        self.inner.as_array().is_some_and(|items| items.is_empty())
    }

    pub(super) fn is_table(&self) -> bool {
        self.inner.is_table()
    }

    pub(super) fn is_integer(&self) -> bool {
        self.inner.is_integer()
    }

    /// The items of an array.
    pub(super) fn items(&self) -> Vec<Value<'t>> {
        let Some(items) = self.inner.as_array() else {
            self.expected("a list in brackets");
            return Vec::new();
        };
        let item = |inner: &'t Spanned<DeValue<'t>>| Value {
            key_span: inner.span(),
            span: inner.span(),
            inner: inner.get_ref(),
            ..self.clone()
        };
        items.iter().map(item).collect()
    }

    /// The value as a table.
    pub(super) fn section(self) -> Option<Section<'t>> {
        let Some(table) = self.inner.as_table() else {
            self.expected("a table");
            return None;
        };
        Some(Section {
            document: self.document,
            path: self.path,
            table,
            span: self.key_span,
            known: Vec::new(),
        })
    }
}

/// A place in the document, to come back to when sections are compared.
#[derive(Clone)]
pub(super) struct Place {
    /// Octets.
    pub(super) span: Range<usize>,
    /// Dotted path of the key.
    pub(super) path: String,
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn named_type(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
