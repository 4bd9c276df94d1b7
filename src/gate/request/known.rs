//! Names of fields that the gate acts upon, told apart while a head is read. Pure.

/// Field names that the gate acts upon; everything else is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Passed on as it is.
    Other,
    /// Host.
    Host,
    /// Content-Length.
    ContentLength,
    /// Transfer-Encoding.
    TransferEncoding,
    /// Connection.
    Connection,
    /// Upgrade.
    Upgrade,
    /// Expect.
    Expect,
    /// Via.
    Via,
    /// TE: what the neighbour takes; never passed on as it is.
    Te,
    /// X-Forwarded-For.
    ForwardedFor,
    /// Forwarded and every other `X-Forwarded-*`: the gate's to write.
    Forwarding,
    /// `Client-Cert` (RFC 9440) and every `X-Client-Cert-*`: the gate's to write.
    ClientCertificate,
    /// A field between neighbours (RFC 9110, 7.6.1), or one that only the gate may set (`beian-*`).
    Dropped,
    /// Accept.
    Accept,
    /// Accept-Language.
    AcceptLanguage,
    /// User-Agent.
    UserAgent,
}

impl Known {
    pub(super) const COUNT: usize = Self::UserAgent as usize + 1;

    /// Classifies a field name (a token), in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        // Names are told by their length and first letter, as one number: length times 1,000 and the letter.
        let (expected, known) = match name.len() * 1_000 + usize::from(first.to_ascii_lowercase()) {
            2_116 => ("te", Self::Te),
            3_118 => ("via", Self::Via),
            4_104 => ("host", Self::Host),
            6_101 => ("expect", Self::Expect),
            6_097 => ("accept", Self::Accept),
            7_117 => ("upgrade", Self::Upgrade),
            7_116 => ("trailer", Self::Dropped),
            9_102 => ("forwarded", Self::Forwarding),
            9_120 => ("x-real-ip", Self::Forwarding),
            10_099 => ("connection", Self::Connection),
            11_099 => ("client-cert", Self::ClientCertificate),
            17_099 => ("client-cert-chain", Self::ClientCertificate),
            10_107 => ("keep-alive", Self::Dropped),
            10_117 => ("user-agent", Self::UserAgent),
            14_099 => ("content-length", Self::ContentLength),
            14_104 => ("http2-settings", Self::Dropped),
            15_120 => ("x-forwarded-for", Self::ForwardedFor),
            15_097 => ("accept-language", Self::AcceptLanguage),
            16_112 => ("proxy-connection", Self::Dropped),
            17_116 => ("transfer-encoding", Self::TransferEncoding),
            18_112 => ("proxy-authenticate", Self::Dropped),
            19_112 => ("proxy-authorization", Self::Dropped),
            _ => return Self::of_many(name),
        };
        if is_token(name, expected.as_bytes()) {
            return known;
        }
        Self::of_many(name)
    }

    /// Names that are known by how they begin.
    fn of_many(name: &[u8]) -> Self {
        match name.first() {
            Some(b'x' | b'X') if starts_with(name, b"x-forwarded-") => Self::Forwarding,
            Some(b'x' | b'X') if starts_with(name, b"x-client-cert-") => Self::ClientCertificate,
            Some(b'b' | b'B') if starts_with(name, b"beian-") => Self::Dropped,
            _ => Self::Other,
        }
    }
}

/// Whether a token is `known` (lower-case letters, hyphens, digits) in any case: no other octet of a token becomes one
/// of these by its sixth bit.
fn is_token(name: &[u8], known: &[u8]) -> bool {
    name.len() == known.len() && name.iter().zip(known).all(|(octet, known)| octet | 0x20 == *known)
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Known) {
        for name in [name.to_owned(), name.to_ascii_uppercase()] {
            assert_eq!(Known::of(name.as_bytes()), expected, "{name}");
            assert_eq!(Known::of(format!("{name}-").as_bytes()), Known::of_many(name.as_bytes()), "{name}-");
        }
    }

    #[test]
    fn names_are_known_in_any_case() {
        for name in ["trailer", "keep-alive", "http2-settings", "proxy-connection", "beian-verdict"] {
            check(name, Known::Dropped);
        }
        check("proxy-authenticate", Known::Dropped);
        check("proxy-authorization", Known::Dropped);
        check("te", Known::Te);
        check("via", Known::Via);
        check("host", Known::Host);
        check("expect", Known::Expect);
        check("accept", Known::Accept);
        check("upgrade", Known::Upgrade);
        check("forwarded", Known::Forwarding);
        check("x-real-ip", Known::Forwarding);
        check("client-cert", Known::ClientCertificate);
        check("client-cert-chain", Known::ClientCertificate);
        check("x-client-cert-subject", Known::ClientCertificate);
        check("x-forwarded-host", Known::Forwarding);
        check("connection", Known::Connection);
        check("user-agent", Known::UserAgent);
        check("content-length", Known::ContentLength);
        check("accept-language", Known::AcceptLanguage);
        check("transfer-encoding", Known::TransferEncoding);
        assert_eq!(Known::of(b"x-forwarded-for"), Known::ForwardedFor);
        check("cookie", Known::Other);
        check("", Known::Other);
    }
}
