//! Plain to TLS: allowed requests that come in clear are told to come again over https, to the host that was judged
//! and the path as it was sent.
//!
//! Refuses to know of blocked names: those never get here.

use crate::config::InClear;
use crate::domain::HostForm;
use crate::gate::client::Client;
use crate::gate::doors::Doors;
use crate::gate::redirect::Redirection;
use crate::gate::reject::Reject;
use crate::gate::request::{Known, RequestHead};

/// What certificate authorities ask for in clear, and are to find there (RFC 8555, 8.3).
const ACME: &[u8] = b"/.well-known/acme-challenge/";

/// Whether an allowed request may go on as it came.
///
/// # Errors
/// `Redirect`.
pub fn check(
    client: &Client,
    (head, doors): (&RequestHead, &Doors),
    host: &HostForm,
    in_clear: InClear,
) -> Result<(), Reject> {
    let InClear::Redirected(to) = in_clear else { return Ok(()) };
    if client.tls.is_some() || head.path().starts_with(ACME) || came_by_tls(client, head, doors) {
        return Ok(());
    }
    let mut location = format!("https://{host}").into_bytes();
    if to.port != 443 {
        location.extend_from_slice(format!(":{}", to.port).as_bytes());
    }
    // The asterisk of OPTIONS is no path.
    location.extend_from_slice(if head.path() == b"*" { b"/" } else { head.path() });
    Err(Reject::Redirect(Redirection { status: to.status, location: location.into() }))
}

/// Whether a peer that is believed says that it took the request over TLS.
fn came_by_tls(client: &Client, head: &RequestHead, doors: &Doors) -> bool {
    let mut fields = head.fields.of(Known::Forwarding).map(|field| head.field(field));
    client.is_trusted(doors)
        && fields.any(|(name, value)| {
            name.eq_ignore_ascii_case(b"x-forwarded-proto") && value.eq_ignore_ascii_case(b"https")
        })
}
