//! name → site → filing → verdict: the steps of the walk that decide. No step touches a socket.

use crate::config::Mode;
use crate::domain::{DomainName, HostForm};
use crate::gate::client::{Client, Defaults, TlsFacts, Whose};
use crate::gate::doors::Door;
use crate::gate::headers;
use crate::gate::record::Record;
use crate::gate::reject::Reject;
use crate::gate::request::{BodyLength, RequestHead};
use crate::gate::route::{Route, Target};
use crate::gate::rules::Rules;
use crate::gate::worker::Worker;
use crate::verdict::{self, Coverage, Decision, Filings, Question, Verdict};
use jiff::civil::Date;
use std::sync::Arc;
use std::time::Instant;

/// The one name that the request is judged by and forwarded under.
///
/// # Errors
/// `MalformedHost` or `MalformedRequest`; `Loop` where the request came by this gate before.
pub fn name<'h>(head: &'h RequestHead, via: &str, record: &mut Record) -> Result<&'h HostForm, Reject> {
    let authority = match &head.authority {
        Some(Ok(authority)) => authority,
        Some(Err(reject)) => return Err(reject.clone()),
        None => return Err(Reject::MalformedHost),
    };
    record.host = Some(authority.host.clone());
    if headers::has_looped(head, via) { Err(Reject::Loop) } else { Ok(&authority.host) }
}

/// Whether the client may ask at all now, for this site, and for something this large.
///
/// # Errors
/// `Shed`, `Denied`, `RateLimited` or `BodyTooLarge`.
pub fn limits(
    worker: &Worker,
    client: &Client,
    (rules, site, target): (&Rules, Option<&Arc<Route>>, &Target),
    head: &RequestHead,
) -> Result<(), Reject> {
    if worker.overload.is_over() {
        return Err(Reject::Shed);
    }
    networks(rules, client, site, head)?;
    let limits = &rules.limits;
    if let Some(rate) = limits.request_rate
        && let Some(caller) = client.caller(head, &rules.doors)
        && !worker.shared.rates.admits(limits.client.of(caller), rate, Instant::now())
    {
        return Err(Reject::RateLimited);
    }
    if let Some(rate) = &target.rate
        && let Some(caller) = client.caller(head, &rules.doors)
        && !rate.admits(limits.client.of(caller), Instant::now())
    {
        return Err(Reject::RateLimited);
    }
    match head.body {
        BodyLength::Exactly(octets) if octets > target.body_bytes => Err(Reject::BodyTooLarge),
        _ => Ok(()),
    }
}

/// Whether listener and site answer whoever it is that asks, by the settings in force: the listener's may be others
/// than when the client connected.
///
/// # Errors
/// `Denied`.
pub fn networks(
    rules: &Rules,
    client: &Client,
    site: Option<&Arc<Route>>,
    head: &RequestHead,
) -> Result<(), Reject> {
    let door = rules.doors.of(&client.listener);
    let is_for_all = door.networks.is_empty() && site.is_none_or(|site| site.networks.is_empty());
    if is_for_all && client.balancer.is_none() {
        return Ok(());
    }
    if admits(door, &client.whose(head, &rules.doors), site) { Ok(()) } else { Err(Reject::Denied) }
}

/// Whether those are answered for whom something is served. Whom a trusted peer speaks for is not known before its
/// requests: the listener's networks are held against that as well. Whom a PROXY header names is taken at that word
/// as long as the peer is trusted whose word it is.
#[must_use]
pub fn admits(door: &Door, whose: &Whose, site: Option<&Arc<Route>>) -> bool {
    if whose.balancer.is_some_and(|balancer| !door.trusts(balancer)) {
        return false;
    }
    let asks = if door.trusts(whose.address) { whose.caller } else { whose.address };
    door.networks.admits(asks) && site.is_none_or(|site| site.networks.admits(asks))
}

/// Whether the name may be asked for on this connection: SNI and Host under one filing, Host in the certificate
/// (filing-rules, `misdirected`).
///
/// # Errors
/// `Misdirected`.
pub fn connection(client: &Client, host: &HostForm, filings: &impl Filings) -> Result<(), Reject> {
    let Some(tls) = &client.tls else { return Ok(()) };
    let name = match (host, &tls.sni) {
        (HostForm::Name(name), Some(sni)) if name == sni => return Ok(()),
        // A client that calls an address can't name it in SNI (RFC 6066, 3): the verdict tells it more.
        (HostForm::Ip(_), None) => return Ok(()),
        (HostForm::Ip(_), Some(_)) => return Err(Reject::Misdirected),
        (HostForm::Name(name), _) => name,
    };
    let is_together = tls.names.cover(name) && is_under_one_filing(tls, name, filings);
    if is_together { Ok(()) } else { Err(Reject::Misdirected) }
}

fn is_under_one_filing(tls: &TlsFacts, name: &DomainName, filings: &impl Filings) -> bool {
    let Some(sni) = &tls.sni else { return true };
    match (filings.coverage(sni), filings.coverage(name)) {
        (Coverage::Filed(one), Coverage::Filed(other)) => one.filed_name(sni) == other.filed_name(name),
        (Coverage::Filed(_), _) | (_, Coverage::Filed(_)) => false,
        // Without filings to compare, only names of one registrable domain can be said to belong together.
        (Coverage::NeverSynced | Coverage::Stale, _) => sni.registrable() == name.registrable(),
        _ => true,
    }
}

/// Whether the client was asked for the certificate that the site wants: by the name in SNI, so on a connection for
/// another name it was not (RFC 9110, 15.5.20).
///
/// # Errors
/// `Misdirected`.
pub fn certificate(client: &Client, site: Option<&Arc<Route>>) -> Result<(), Reject> {
    let Some(wanted) = site.and_then(|site| site.clients.as_ref()) else { return Ok(()) };
    let is_met = match &client.tls {
        Some(tls) => tls.shown.as_ref().is_some_and(|shown| shown.to.asked == wanted.asked),
        // In clear there is nothing to show.
        None => wanted.is_optional(),
    };
    if is_met { Ok(()) } else { Err(Reject::Misdirected) }
}

/// The site that names the host; it carries scenario and region, else the listener's hold.
#[must_use]
pub fn site<'a>(rules: &'a Rules, host: &HostForm) -> Option<&'a Arc<Route>> {
    rules.routes.find(host)
}

/// The filing that covers the host, and what follows from it here.
#[must_use]
pub fn decide<'r>(
    rules: &'r Rules,
    defaults: Defaults,
    (host, site): (&HostForm, Option<&Arc<Route>>),
    filings: &impl Filings,
    today: Date,
) -> Decision<'r> {
    let Defaults { scenario, region } = product(defaults, site);
    let question = Question {
        host,
        scenario,
        region,
        origin_here: site.is_some_and(|site| site.target.origin_here),
        today,
    };
    verdict::decide(&question, &rules.policy, filings)
}

/// As which product, and where, a host is judged: its site says, else the listener that it came by.
#[must_use]
pub fn product(defaults: Defaults, site: Option<&Arc<Route>>) -> Defaults {
    Defaults {
        scenario: site.and_then(|site| site.scenario).unwrap_or(defaults.scenario),
        region: site.and_then(|site| site.region).unwrap_or(defaults.region),
    }
}

/// Enforce or monitor: the site's own mode, else the gate's.
#[must_use]
pub fn mode(rules: &Rules, site: Option<&Arc<Route>>) -> Mode {
    site.and_then(|site| site.target.mode).unwrap_or(rules.mode)
}

/// Lets a request pass, or not: the verdict, unless monitor mode or an ACME challenge lets it through all the same.
///
/// # Errors
/// `Blocked`, `Unavailable`, or `NoSite` where it is allowed but goes nowhere.
pub fn pass<'r>(
    rules: &Rules,
    decision: &Decision<'_>,
    site: Option<&'r Arc<Route>>,
    head: &RequestHead,
    record: &mut Record,
) -> Result<&'r Arc<Target>, Reject> {
    record.decided(decision);
    if !decision.verdict.is_forwarded() {
        let is_let_through =
            mode(rules, site) == Mode::Monitor || (rules.acme_passthrough && is_acme_challenge(head));
        if !is_let_through {
            return Err(match decision.verdict {
                Verdict::Unavailable => Reject::Unavailable,
                blocked => Reject::Blocked(blocked),
            });
        }
        record.would_block = Some(decision.verdict);
    }
    site.map(|site| site.target.of_path(head.path())).ok_or(Reject::NoSite)
}

/// Whether what passed is served here.
///
/// # Errors
/// `Redirect`: the target's own.
pub fn here(target: &Target, head: &RequestHead) -> Result<(), Reject> {
    match &target.redirect {
        None => Ok(()),
        Some(redirect) => Err(Reject::Redirect(redirect.of(head.path()))),
    }
}

/// An HTTP-01 challenge and nothing else (RFC 8555, 8.3): one token of base64url below the well-known path, without a
/// body, and without a tunnel in its place.
#[must_use]
pub fn is_acme_challenge(head: &RequestHead) -> bool {
    let token = head.path().strip_prefix(b"/.well-known/acme-challenge/");
    let is_token = |token: &[u8]| {
        !token.is_empty() && token.iter().all(|o| o.is_ascii_alphanumeric() || b"-_".contains(o))
    };
    let is_bare = head.upgrade.is_none() && head.body == BodyLength::None;
    is_bare && head.method() == b"GET" && token.is_some_and(is_token)
}
