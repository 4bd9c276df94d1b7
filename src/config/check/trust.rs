//! Authorities and revocation lists of clients and upstreams: whether they still hold.

use super::{Finding, Level, SOON_DAYS, finding};
use crate::config::{Config, TrustKind};
use jiff::Timestamp;

const DAY_S: i64 = 24 * 60 * 60;

pub(super) fn trust(config: &Config, now: Timestamp) -> Vec<Finding> {
    let ends = config.trust_ends();
    let looked_at = ends.iter().map(|end| {
        let (what, place) = match end.kind {
            TrustKind::Certificate => ("the first certificate in it to end", "site.tls"),
            TrustKind::RevocationList => ("its list", "site.client_certificates"),
        };
        // Beside a certificate that has ended there may be others; lists are renewed by the day or the week.
        let (over, soon) = match end.kind {
            TrustKind::Certificate => (Level::Warning, SOON_DAYS),
            TrustKind::RevocationList => (Level::Error, 1),
        };
        let until = Timestamp::from_second(end.not_after)
            .map_or_else(|_| "for ever".to_owned(), |end| format!("until {end}"));
        let (level, remark) = match (end.not_after - now.as_second()).div_euclid(DAY_S) {
            ..0 => (over, "has expired, so nobody is believed by it; renew it"),
            left if left < soon => (Level::Warning, "expires soon; renew it"),
            _ => (Level::Ok, "is good"),
        };
        finding(level, place, format!("{}: {what} {remark}; {until}", end.file.display()))
    });
    looked_at.collect()
}
