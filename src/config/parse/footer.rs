//! `[site.footer]`, and the provinces' rules that `[footer]` names.

use super::optional;
use crate::config::raw::{Document, Section, Value};
use crate::config::{ConfigError, Footer, FooterMode, FooterRule, FooterRules, ShownNumber};
use crate::filing::{Province, PublicSecurityNumber};
use serde::Deserialize as _;
use serde::de::value::{Error, StrDeserializer};

/// The rules that the binary carries.
const BUILT_IN: &str = include_str!("../../../config/footers.toml");
const MODES: [(&str, FooterMode); 3] =
    [("off", FooterMode::Off), ("check", FooterMode::Check), ("inject", FooterMode::Inject)];
const NUMBERS: [(&str, ShownNumber); 2] = [("site", ShownNumber::Site), ("subject", ShownNumber::Subject)];
/// Octets of the name of a copyright holder.
const MAX_OWNER_BYTES: usize = 256;

pub(super) fn footer(section: Option<Section<'_>>) -> Footer {
    let Some(mut section) = section else { return Footer::default() };
    let mode = optional(&mut section, "mode", |value| value.choice("a footer mode", &MODES));
    let public_security = optional(&mut section, "public_security", |value| {
        value.parse(|text| PublicSecurityNumber::parse(text).map_err(|error| error.to_string()))
    });
    let owner = optional(&mut section, "owner", |value| value.parse(owner));
    section.finish();
    Footer { mode: mode.unwrap_or_default(), public_security, owner }
}

fn owner(text: &str) -> Result<String, String> {
    let is_name =
        !text.trim().is_empty() && text.len() <= MAX_OWNER_BYTES && !text.contains(char::is_control);
    if is_name {
        Ok(text.trim().to_owned())
    } else {
        Err(format!("write the copyright holder's name in one line of at most {MAX_OWNER_BYTES} octets"))
    }
}

/// `[footer]`
pub(super) fn rules(section: Option<Section<'_>>) -> FooterRules {
    let built_in = || of_text("config/footers.toml", BUILT_IN).unwrap_or_default();
    let Some(mut section) = section else { return built_in() };
    let rules = optional(&mut section, "rules", |value| from_file(value));
    section.finish();
    rules.unwrap_or_else(built_in)
}

fn from_file(value: &Value<'_>) -> Option<FooterRules> {
    let path = value.path()?;
    let read = std::fs::read_to_string(&path)
        .map_err(|error| {
            format!("can't read {}: {error}; config/footers.toml shows what belongs in it", path.display())
        })
        .and_then(|text| of_text(&path.to_string_lossy(), &text).map_err(|error| error.to_string()));
    match read {
        Ok(rules) => Some(rules),
        Err(message) => {
            value.refuse(message);
            None
        }
    }
}

fn of_text(name: &str, text: &str) -> Result<FooterRules, ConfigError> {
    let document = Document::new(name, text);
    let table = document.parse();
    let root = Section::root(&document, table.get_ref());
    let mut rules = FooterRules::default();
    let mut by_name = Vec::new();
    for (name, value) in root.entries() {
        if name == "default" {
            rules.default =
                value.section().map(|section| rule(section, FooterRule::default())).unwrap_or_default();
        } else {
            by_name.push((name, value));
        }
    }
    for (name, value) in by_name {
        let Ok(province) = Province::deserialize(StrDeserializer::<Error>::new(name)) else {
            value.refuse_key(
                "this is no province; write one like [guangdong] or [inner_mongolia], or [default]",
            );
            continue;
        };
        if let Some(section) = value.section() {
            rules.provinces.insert(province, rule(section, rules.default));
        }
    }
    document.into_result().map(|()| rules)
}

fn rule(mut section: Section<'_>, default: FooterRule) -> FooterRule {
    let number = optional(&mut section, "number", |value| value.choice("a number to show", &NUMBERS));
    let copyright = optional(&mut section, "copyright", Value::boolean);
    section.finish();
    FooterRule { number: number.unwrap_or(default.number), copyright: copyright.unwrap_or(default.copyright) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rules_are_rules() {
        let rules = of_text("f.toml", BUILT_IN).unwrap();
        assert_eq!(rules.of(Some(Province::Guangdong)).number, ShownNumber::Subject);
        assert_eq!(rules.of(Some(Province::Beijing)), FooterRule::default());
        assert_eq!(rules.of(None).number, ShownNumber::Site);
    }

    #[test]
    fn mistakes_are_named() {
        #[track_caller]
        fn check(text: &str, part: &str) {
            let error = of_text("f.toml", text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        check("[atlantis]\nnumber = \"site\"\n", "no province");
        check("[default]\nnumber = \"both\"\n", "use \"site\" or \"subject\"");
        check("[hunan]\ncopyrigth = true\n", "did you mean \"copyright\"");
    }

    #[test]
    fn a_province_inherits_the_default_wherever_it_stands() {
        let rules =
            of_text("f.toml", "[hunan]\nnumber = \"subject\"\n[default]\ncopyright = true\n").unwrap();
        assert_eq!(
            rules.of(Some(Province::Hunan)),
            FooterRule { number: ShownNumber::Subject, copyright: true }
        );
    }
}
