//! A DNS name, parsed once: IDNA, IP address forms, registrable domain.
//!
//! Knows nothing of filings, sockets or clocks. Two ways in: `from_wire` for bytes that a
//! client sent (only the ASCII form is a name there) and `from_user` for what operators
//! write in config, commands, imports and APIs (Unicode and punycode are equal). Everything
//! that two parsers could read in two ways is an error, never a guess.

mod ipv4;
mod name;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

pub use name::DomainName;

/// Octets of the longest name.
const NAME_MAX: usize = 253;
/// Octets of the longest label.
const LABEL_MAX: usize = 63;
/// Octets of operator's text beyond which no name can come out, so that IDNA is spared them.
const USER_TEXT_MAX: usize = 2048;

/// Why bytes are not a name. The message says what would be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name is missing")]
    Empty,
    /// Over 253 octets.
    #[error("a name has at most 253 octets")]
    TooLong,
    /// Over 63 octets between two dots.
    #[error("a label has at most 63 octets")]
    LabelTooLong,
    /// Two dots in a row, or one at the start.
    #[error("a name has no empty label: labels are parted by single dots")]
    EmptyLabel,
    /// A hyphen at a label's start or end.
    #[error("a label neither starts nor ends with a hyphen")]
    Hyphen,
    /// An ASCII character that no name holds.
    #[error("a name is made of letters, digits, hyphens and dots, not {0:?}")]
    BadCharacter(char),
    /// Raw bytes beyond ASCII where only the ASCII form is a name.
    #[error("a name is ASCII here: write its xn-- form")]
    NotAscii,
    /// An underscore in the part that is registered.
    #[error("an underscore may stand below the registered domain only")]
    Underscore,
    /// `xn--` that is no punycode of a valid label.
    #[error("an xn-- label must be the punycode of a valid Unicode label")]
    BadPunycode,
    /// Unicode that UTS 46 refuses.
    #[error("a Unicode name must be valid under IDNA (UTS 46)")]
    BadUnicode,
    /// Ends in a number, or stands in brackets, but is no address.
    #[error("this must be an IP address (192.0.2.1, [2001:db8::1] without zone), and is none")]
    BadAddress,
    /// An address where only a name will do.
    #[error("a name is needed here, not an IP address")]
    AddressNotName,
    /// Not one port of 1 to 65535.
    #[error("one port from 1 to 65535 may follow the host")]
    BadPort,
}

/// What a Host header, an `:authority` or a target's authority names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "names are held inline so that judging a request allocates nothing"
)]
pub enum HostForm {
    /// A DNS name.
    Name(DomainName),
    /// A bare IP address, in whatever form the client wrote it; an IPv4-mapped one as its IPv4 twin.
    Ip(IpAddr),
}

/// Host and port of one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Name or address.
    pub host: HostForm,
    /// The port, where a non-empty one was given.
    pub port: Option<u16>,
}

impl Authority {
    /// Parses an authority as it is on the wire: `host`, `host:port`, `[v6]`, `[v6]:port`. No userinfo, no list,
    /// no path, query or percent characters. Every IPv4 form that WHATWG's parser knows (dotted, short, decimal, octal, hex) is an address;
    /// a name whose last label is numeric but that is no address is malformed.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        let (host, port) = split_port(bytes)?;
        Ok(Self { host: HostForm::from_wire(host)?, port })
    }
}

impl HostForm {
    /// Parses what an operator or API caller wrote: a name (Unicode or ASCII) or an address; an optional `:port` is ignored.
    pub fn from_user(text: &str) -> Result<Self, NameError> {
        if let Ok(ip) = Ipv6Addr::from_str(text) {
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        let (host, _port) = split_port(text.as_bytes())?;
        Self::from_user_portless(&text[..host.len()])
    }

    /// As `from_user`, where a port would be a mistake.
    pub fn from_user_portless(text: &str) -> Result<Self, NameError> {
        if let Ok(ip) = Ipv6Addr::from_str(text) {
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        Self::from_wire(ascii_form(text)?.as_bytes())
    }

    /// Parses without a port, from the wire.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, NameError> {
        if let [b'[', inner @ .., b']'] = bytes {
            let text = std::str::from_utf8(inner).map_err(|_| NameError::NotAscii)?;
            let ip = Ipv6Addr::from_str(text).map_err(|_| NameError::BadAddress)?;
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        if ipv4::is_expected(bytes) {
            if bytes.len() > NAME_MAX + 1 {
                return Err(NameError::TooLong);
            }
            let ip = ipv4::parse(bytes).ok_or(NameError::BadAddress)?;
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        DomainName::from_wire(bytes).map(Self::Name)
    }

    /// The name, unless it is an address.
    pub fn name(&self) -> Option<&DomainName> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }
}

impl fmt::Display for HostForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Parts `host[:port]`; what is left of the host is looked at elsewhere.
fn split_port(authority: &[u8]) -> Result<(&[u8], Option<u16>), NameError> {
    let host_len = if authority.first() == Some(&b'[') {
        let close = authority.iter().position(|&byte| byte == b']');
        close.ok_or(NameError::BadAddress)? + 1
    } else {
        let colon = authority.iter().position(|&byte| byte == b':');
        colon.unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at(host_len);
    match rest {
        // `host:` names no port (RFC 3986 §3.2.3).
        [] | [b':'] => Ok((host, None)),
        [b':', digits @ ..] => Ok((host, Some(port(digits)?))),
        _ => Err(NameError::BadAddress),
    }
}

fn port(digits: &[u8]) -> Result<u16, NameError> {
    // `u16::from_str` would take a sign, and any number of leading zeros.
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NameError::BadPort);
    }
    let text = std::str::from_utf8(digits).map_err(|_| NameError::BadPort)?;
    match text.parse() {
        Ok(0) | Err(_) => Err(NameError::BadPort),
        Ok(port) => Ok(port),
    }
}

/// What an operator wrote, as the ASCII form that the wire would carry; not checked beyond IDNA.
fn ascii_form(text: &str) -> Result<Cow<'_, str>, NameError> {
    if text.is_ascii() {
        return Ok(Cow::Borrowed(text));
    }
    if text.len() > USER_TEXT_MAX {
        return Err(NameError::TooLong);
    }
    // Hyphens and lengths are checked afterwards, with our own errors: `r3---a` is a name in real use.
    Uts46::new()
        .to_ascii(text.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
        .map_err(|_| NameError::BadUnicode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(authority: &str, expected: Result<(&str, Option<u16>), NameError>) {
        let parsed = Authority::from_wire(authority.as_bytes());
        let shown = parsed.map(|it| (it.host.to_string(), it.port));
        let expected = expected.map(|(host, port)| (host.to_owned(), port));
        assert_eq!(shown, expected, "{authority:?}");
    }

    #[test]
    fn authorities() {
        check("example.com", Ok(("example.com", None)));
        check("EXAMPLE.Com.", Ok(("example.com", None)));
        check("example.com:80", Ok(("example.com", Some(80))));
        check("example.com.:65535", Ok(("example.com", Some(65535))));
        check("example.com:", Ok(("example.com", None)));
        check("localhost:8080", Ok(("localhost", Some(8080))));
        check("192.0.2.1:00080", Ok(("192.0.2.1", Some(80))));
        check("[2001:DB8::1]", Ok(("[2001:db8::1]", None)));
        check("[2001:db8::1]:443", Ok(("[2001:db8::1]", Some(443))));
        check("[2001:db8::1]:", Ok(("[2001:db8::1]", None)));
        check("[::ffff:192.0.2.1]", Ok(("192.0.2.1", None)));
        check("[::ffff:c000:201]", Ok(("192.0.2.1", None)));
        check("0xc0000201", Ok(("192.0.2.1", None)));
        check("192.0.2.1.", Ok(("192.0.2.1", None)));
    }

    #[test]
    fn malformed_authorities() {
        use NameError::*;
        check("", Err(Empty));
        check(".", Err(EmptyLabel));
        check(":80", Err(Empty));
        check("example.com..", Err(EmptyLabel));
        check(".example.com", Err(EmptyLabel));
        check("example..com", Err(EmptyLabel));
        for port in ["x", "0", "65536", "000080", "+80", "-1", "80:80", ":80", "80 ", "８０"] {
            check(&format!("example.com:{port}"), Err(BadPort));
        }
        check("f.example@u.example", Err(BadCharacter('@')));
        check("user:pw@u.example", Err(BadPort));
        check("f.example,u.example", Err(BadCharacter(',')));
        check("f.example, u.example", Err(BadCharacter(',')));
        check(" example.com", Err(BadCharacter(' ')));
        check("example.com ", Err(BadCharacter(' ')));
        check("example.com/", Err(BadCharacter('/')));
        check("example.com?q", Err(BadCharacter('?')));
        check("example.com#f", Err(BadCharacter('#')));
        check("example.com\\", Err(BadCharacter('\\')));
        check("%65xample.com", Err(BadCharacter('%')));
        check("example.com\0", Err(BadCharacter('\0')));
        check("例子.中国", Err(NotAscii));
        check("ｅxample.com", Err(NotAscii));
        check("example。com", Err(NotAscii));
        check("example.1", Err(BadAddress));
        check("192.0.2.256", Err(BadAddress));
        check("0xc01c5020201c201c2061", Err(BadAddress));
        check("[2001:db8::1%25eth0]", Err(BadAddress));
        check("[2001:db8::1%eth0]", Err(BadAddress));
        check("[192.0.2.1]", Err(BadAddress));
        check("[]", Err(BadAddress));
        check("[::1", Err(BadAddress));
        check("[::1]80", Err(BadAddress));
        check("[::1].", Err(BadAddress));
        check("::1", Err(BadPort));
        check("2001:db8::1", Err(BadPort));
    }

    #[test]
    fn hosts_from_users() {
        for (text, expected) in [
            ("例子.中国", "xn--fsqu00a.xn--fiqs8s"),
            ("例子。中国：", ""),
            ("ｅｘａｍｐｌｅ．ｃｏｍ", "example.com"),
            ("example.com:443", "example.com"),
            ("例子.中国:443", "xn--fsqu00a.xn--fiqs8s"),
            ("１９２.０.２.１", "192.0.2.1"),
            ("3221225985", "192.0.2.1"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("", ""),
            ("https://example.com", ""),
        ] {
            let shown = HostForm::from_user(text).map(|host| host.to_string());
            assert_eq!(shown.unwrap_or_default(), expected, "{text}");
        }
        assert!(HostForm::from_user_portless("example.com:443").is_err());
        assert!(HostForm::from_user_portless("[2001:db8::1]:443").is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Authority::from_wire(&bytes);
            let _ = HostForm::from_wire(&bytes);
            let _ = HostForm::from_user(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn what_is_shown_parses_back(text in "[a-z0-9.:\\[\\]x-]{1,24}") {
            if let Ok(authority) = Authority::from_wire(text.as_bytes()) {
                let again = HostForm::from_wire(authority.host.to_string().as_bytes());
                prop_assert_eq!(again, Ok(authority.host));
            }
        }
    }
}
