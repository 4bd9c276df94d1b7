//! Scalars as people write them in a config: durations, sizes, addresses, upstreams, host patterns.
//!
//! Text in, value or a message that says what would be right out. Knows no key and no file.

use super::{HostRule, Upstream, UpstreamScheme};
use crate::domain::{DomainName, HostForm};
use crate::verdict::HostPattern;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Ten years: what is longer is a slip, and sums of such never overflow.
const LONGEST_MS: u64 = 10 * 366 * 24 * 3_600_000;

/// The longest path that the system takes for a Unix socket (`sun_path`, without its end).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// `24h`, `10s`, `500ms`, `30m`, `7d`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a duration; write one like \"10s\", \"500ms\", \"30m\" or \"24h\"");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (count, after) = split_digits(rest).ok_or_else(wrong)?;
        let after = after.trim_start();
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit_ms: u64 = match &after[..unit_len] {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => {
                return Err(format!(
                    "{text:?} has no unit; write one like \"10s\", \"500ms\", \"30m\" or \"24h\""
                ));
            }
            _ => return Err(wrong()),
        };
        let part_ms = count.checked_mul(unit_ms).filter(|&ms| ms <= LONGEST_MS);
        total_ms = part_ms
            .map(|ms| total_ms + ms)
            .filter(|&ms| ms <= LONGEST_MS)
            .ok_or_else(|| format!("{text:?} is too long; at most ten years"))?;
        rest = after[unit_len..].trim_start();
    }
    Ok(Duration::from_millis(total_ms))
}

/// `65536`, `32 KiB`, `1 MiB`, `1 GiB`: octets.
pub(super) fn size(text: &str) -> Result<usize, String> {
    let wrong = || format!("{text:?} is not a size; write one like \"32 KiB\", \"1 MiB\" or \"65536\"");
    let (count, unit) = split_digits(text.trim()).ok_or_else(wrong)?;
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    count.checked_mul(unit).and_then(|octets| usize::try_from(octets).ok()).ok_or_else(wrong)
}

fn split_digits(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// `127.0.0.1:8080`, `[::1]:0`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address with a port; write one like \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::]:443\"")
    })
}

/// `10.0.0.0/8` or one address.
pub(super) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    text.parse().or_else(|_| text.parse().map(|ip: IpAddr| ip.into())).map_err(|_| not_a_network(text))
}

fn not_a_network(text: &str) -> String {
    format!("{text:?} is not an address or network; write one like \"10.0.0.0/8\" or \"192.0.2.1\"")
}

/// `2027-01-01`
pub(super) fn date(text: &str) -> Result<jiff::civil::Date, String> {
    text.parse().map_err(|_| format!("{text:?} is not a date; write one like \"2027-01-01\""))
}

/// A provider's id: it stands in URNs, in query strings and in `provider=active` lists.
pub(super) fn provider(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) {
        return Err(format!(
            "{text:?} is not a provider id; use 1 to 64 letters, digits, \"-\", \"_\" or \".\", like \"example-cloud\""
        ));
    }
    Ok(text.to_owned())
}

/// What metrics call a site: never a host, for those are its clients' business and without number.
pub(super) fn site_name(text: &str) -> Result<Arc<str>, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_plain) || text == "other" {
        return Err(format!(
            "{text:?} is not a name for a site; use 1 to 64 letters, digits, \"-\" or \"_\", like \"shop\", and not \"other\""
        ));
    }
    Ok(text.into())
}

/// `example.com`, `*.example.com`, an address: what a site names.
pub(super) fn host_rule(text: &str) -> Result<HostRule, String> {
    refuse_decoration(text)?;
    if let Some(parent) = text.strip_prefix("*.") {
        return DomainName::from_user(parent).map(HostRule::Below).map_err(|error| not_a_host(text, &error));
    }
    match HostForm::from_user_portless(text) {
        Ok(HostForm::Name(name)) => Ok(HostRule::Exact(name)),
        Ok(HostForm::Ip(ip)) => Ok(HostRule::Ip(ip)),
        Err(error) => Err(not_a_host(text, &error)),
    }
}

/// `example.com`, `*.example.com`, an address or a CIDR: what an operator's list names.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    refuse_decoration(text)?;
    HostPattern::parse(text).map_err(|error| not_a_host(text, &error))
}

/// An address or a CIDR, with IPv4-mapped IPv6 as the IPv4 that hosts are compared as.
pub(super) fn address_pattern(text: &str) -> Result<HostPattern, String> {
    match HostPattern::parse(text) {
        Ok(pattern @ HostPattern::Net(_)) => Ok(pattern),
        _ => Err(not_a_network(text)),
    }
}

/// What people write around a host, each with the remedy.
fn refuse_decoration(text: &str) -> Result<(), String> {
    if text == "*" {
        return Err("\"*\" names no host; what no [[site]] names goes to [default_site]".to_owned());
    }
    if text.strip_prefix("*.").unwrap_or(text).contains('*') {
        return Err(format!(
            "{text:?} has a \"*\" in the wrong place; only \"*.\" in front of a name is understood"
        ));
    }
    if text.contains("://") {
        return Err(format!("{text:?} is a URL; write the host alone, like \"example.com\""));
    }
    let is_v6 = text.starts_with('[') && text.ends_with(']') || text.matches(':').count() > 1;
    if text.contains(':') && !is_v6 {
        return Err(format!("{text:?} has a port; write the host alone, like \"example.com\""));
    }
    Ok(())
}

fn not_a_host(text: &str, error: &dyn std::error::Error) -> String {
    format!("{text:?} is not a host: {error}; write one like \"example.com\" or \"*.example.com\"")
}

/// `http://10.0.0.1:8080`, `https://name`, `h2c://[::1]:50051`, `tcp://10.0.0.9:443`.
pub(super) fn upstream(text: &str) -> Result<Upstream, String> {
    if let Some(local) = local_upstream(text) {
        return local;
    }
    let (scheme, rest) = text.split_once("://").ok_or_else(|| {
        format!("{text:?} has no scheme; write an upstream like \"http://10.0.0.1:8080\" (http, https, h2c or tcp)")
    })?;
    let (scheme, default_port) = match scheme {
        "http" => (UpstreamScheme::Http, Some(80)),
        "https" => (UpstreamScheme::Https, Some(443)),
        "h2c" => (UpstreamScheme::H2c, Some(80)),
        "tcp" => (UpstreamScheme::Tcp, None),
        _ => {
            return Err(format!(
                "{scheme:?} is not an upstream scheme; use \"http\", \"https\", \"h2c\" or \"tcp\""
            ));
        }
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!("{text:?} must be scheme, host and port alone, without user, path or query"));
    }
    let (host, port) = split_port(rest);
    let port = match port {
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|&port| port > 0)
            .ok_or_else(|| format!("{text:?} has no valid port; use 1 to 65535"))?,
        None => default_port.ok_or_else(|| format!("{text:?} needs a port, like \"tcp://10.0.0.9:443\""))?,
    };
    let host = match HostForm::from_user_portless(host) {
        Ok(HostForm::Ip(ip)) => ip.to_string(),
        Ok(HostForm::Name(name)) => name.as_str().to_owned(),
        Err(error) => return Err(format!("{text:?} has no valid host: {error}")),
    };
    Ok(Upstream { scheme, host, port })
}

/// `unix:/run/app.sock` (HTTP/1.1), or with `https+`, `h2c+`, `tcp+` in front; `None`: it is none of these.
fn local_upstream(text: &str) -> Option<Result<Upstream, String>> {
    let (scheme, path) = text.split_once("unix:")?;
    let scheme = match scheme {
        "" | "http+" => UpstreamScheme::Http,
        "https+" => UpstreamScheme::Https,
        "h2c+" => UpstreamScheme::H2c,
        "tcp+" => UpstreamScheme::Tcp,
        _ => return None,
    };
    let is_path = path.starts_with('/') && !path.starts_with("//") && !path.ends_with('/');
    Some(if is_path && path.len() <= MAX_SOCKET_PATH_BYTES && path.chars().all(|char| !char.is_control()) {
        Ok(Upstream { scheme, host: path.to_owned(), port: 0 })
    } else {
        Err(format!(
            "{path:?} can't be a socket's file; write its whole path, at most {MAX_SOCKET_PATH_BYTES} octets, like \
             \"unix:/run/app.sock\""
        ))
    })
}

/// Splits a port off; the colons of a bracketed address are none.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[host_end..].rfind(':') {
        Some(colon) => (&authority[..host_end + colon], Some(&authority[host_end + colon + 1..])),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        #[track_caller]
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(duration(text).ok().map(|d| d.as_millis()), expected.map(u128::from), "{text}");
        }
        check("24h", Some(86_400_000));
        check("10s", Some(10_000));
        check("500ms", Some(500));
        check("30m", Some(1_800_000));
        check("2 min", Some(120_000));
        check("7d", Some(604_800_000));
        check("1m30s", Some(90_000));
        check("0s", Some(0));
        for wrong in [
            "",
            " ",
            "10",
            "s",
            "10 y",
            "-1s",
            "1.5s",
            "10s!",
            "99999999999999999999s",
            "40000d",
            "9999999999999d",
        ] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes() {
        #[track_caller]
        fn check(text: &str, expected: Option<usize>) {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        check("32 KiB", Some(32_768));
        check("1 MiB", Some(1_048_576));
        check("65536", Some(65_536));
        check("64KiB", Some(65_536));
        check("10 B", Some(10));
        for wrong in ["", "KiB", "32 KB", "1.5 MiB", "-1", "99999999999999999999", "18446744073709551615 GiB"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn upstreams() {
        #[track_caller]
        fn check(text: &str, expected: Result<(UpstreamScheme, &str, u16), &str>) {
            match (upstream(text), expected) {
                (Ok(up), Ok((scheme, host, port))) => {
                    assert_eq!((up.scheme, up.host.as_str(), up.port), (scheme, host, port));
                }
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        check("http://10.0.0.1:8080", Ok((UpstreamScheme::Http, "10.0.0.1", 8080)));
        check("http://backend/", Ok((UpstreamScheme::Http, "backend", 80)));
        check("https://Backend.Example", Ok((UpstreamScheme::Https, "backend.example", 443)));
        check("h2c://[::1]:50051", Ok((UpstreamScheme::H2c, "::1", 50051)));
        check("h2c://[::1]", Ok((UpstreamScheme::H2c, "::1", 80)));
        check("tcp://10.0.0.9:443", Ok((UpstreamScheme::Tcp, "10.0.0.9", 443)));
        check("tcp://10.0.0.9", Err("needs a port"));
        check("unix:/run/app.sock", Ok((UpstreamScheme::Http, "/run/app.sock", 0)));
        check("http+unix:/run/app.sock", Ok((UpstreamScheme::Http, "/run/app.sock", 0)));
        check("h2c+unix:/run/app.sock", Ok((UpstreamScheme::H2c, "/run/app.sock", 0)));
        check("tcp+unix:/run/app.sock", Ok((UpstreamScheme::Tcp, "/run/app.sock", 0)));
        check("unix:run/app.sock", Err("write its whole path"));
        check("unix:///run/app.sock", Err("write its whole path"));
        check("https+unix:/run/app.sock", Ok((UpstreamScheme::Https, "/run/app.sock", 0)));
        check("ftp+unix:/run/app.sock", Err("has no scheme"));
        check("10.0.0.1:8080", Err("has no scheme"));
        check("ftp://x", Err("\"ftp\" is not an upstream scheme"));
        check("http://u@x", Err("without user"));
        check("http://x/path", Err("without user, path"));
        check("http://x:0", Err("no valid port"));
        check("http://x:", Err("no valid port"));
        check("http://:80", Err("no valid host"));
    }

    #[test]
    fn host_patterns() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (host_pattern(text), expected) {
                (Ok(pattern), Ok(debug)) => assert_eq!(format!("{pattern:?}"), debug),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
        check("Example.com.", Ok("Exact(example.com)"));
        check("*.政府.政务", Ok("Below(xn--mxtq1m.xn--zfr164b)"));
        check("203.0.113.7", Ok("Net(203.0.113.7/32)"));
        check("[2001:db8::1]", Ok("Net(2001:db8::1/128)"));
        check("10.0.0.0/8", Ok("Net(10.0.0.0/8)"));
        check("10.0.0.0/40", Err("looks like 10.0.0.0/8"));
        check("*", Err("[default_site]"));
        check("a.*.com", Err("wrong place"));
        check("https://example.com/", Err("is a URL"));
        check("example.com:80", Err("has a port"));
        check("a..b", Err("not a host"));
        check("*.", Err("is not a host"));
        check("*.gov.cn", Err("public suffix"));
    }
}
