//! Public-security filing numbers: the second, separate filing that every site owes.
//!
//! Knows the form; refuses to know which region a number's digits name.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::number::{NumberError, normalise, split_digits};
use super::province::Province;

/// A public-security filing number (公安联网备案号): `京公网安备11010102000001号`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicSecurityNumber {
    text: Box<str>,
}

impl PublicSecurityNumber {
    /// Parses with spaces inside allowed; prints without.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let parse = |text: &str| {
            let (glyph, rest) = text.split_at_checked(text.chars().next()?.len_utf8())?;
            Province::from_glyph(glyph.chars().next()?)?;
            let (digits, rest) = split_digits(rest.strip_prefix("公网安备")?);
            let is_whole = digits.len() == 14 && matches!(rest, "" | "号");
            is_whole.then(|| format!("{glyph}公网安备{digits}号").into())
        };
        let text = normalise(text).and_then(|text| parse(&text)).ok_or_else(|| {
            let wanted = "public-security number; one looks like 京公网安备11010102000001号";
            NumberError::new(text, wanted)
        })?;
        Ok(Self { text })
    }
}

impl fmt::Display for PublicSecurityNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for PublicSecurityNumber {
    type Error = NumberError;

    fn try_from(text: String) -> Result<Self, NumberError> {
        Self::parse(&text)
    }
}

impl From<PublicSecurityNumber> for String {
    fn from(number: PublicSecurityNumber) -> Self {
        number.text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn public_security_numbers() {
        for text in [
            "京公网安备11010102000001号",
            " 京公网安备 11010102000001 号",
            "京公网安备　１１０１０１０２０００００１号",
            "京公网安备11010102000001",
        ] {
            let number = PublicSecurityNumber::parse(text).unwrap();
            assert_eq!(number.to_string(), "京公网安备11010102000001号", "{text}");
        }
        for text in ["", "京公网安备1101010200000号", "公网安备11010102000001号", "京ICP备12345678号"]
        {
            assert!(PublicSecurityNumber::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}") {
            let _ = PublicSecurityNumber::parse(&text);
        }
    }
}
