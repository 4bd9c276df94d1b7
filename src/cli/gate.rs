//! The running gate, asked over its admin API as its config says.

use crate::app::whereabouts;
use crate::config::{Admin, Config, Trust, token_of_environment};
use crate::link;
use anyhow::Context as _;
use reqwest::{Client, Method, RequestBuilder, Url};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// A gate on this machine or the next answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// A gate that may be running.
pub(super) struct Gate {
    /// Where it says that it is.
    pub(super) address: SocketAddr,
    client: Client,
    scheme: &'static str,
    token: Option<String>,
}

impl Gate {
    /// The config's; none where it has no admin API, or no gate says where it is.
    ///
    /// # Errors
    /// What is wrong with the files of its TLS.
    pub(super) fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(admin) = &config.admin else { return Ok(None) };
        let Some(address) = gate_address(config, admin) else { return Ok(None) };
        let builder = Client::builder().no_proxy().timeout(PATIENCE);
        let (builder, scheme) = match &admin.tls {
            Some(tls) => (link::secured(builder, &Trust::in_own(tls)).context("admin.tls")?, "https"),
            None => (builder, "http"),
        };
        let token = admin.token.clone().or_else(token_of_environment);
        Ok(Some(Self { address, client: builder.build()?, scheme, token }))
    }

    /// A request for a path with a query's pairs.
    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        pairs: &[(&str, &str)],
    ) -> anyhow::Result<RequestBuilder> {
        let base = format!("{}://{}{path}", self.scheme, self.address);
        let request = self.client.request(method, Url::parse_with_params(&base, pairs)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }
}

/// Where the gate says that it is, else where the config puts it; loopback where that is every interface.
pub(super) fn gate_address(config: &Config, admin: &Admin) -> Option<SocketAddr> {
    let mut address = match admin.address.port() {
        0 => whereabouts::find(&config.cache.directory)?,
        _ => admin.address,
    };
    if address.ip().is_unspecified() {
        let is_v4 = address.is_ipv4();
        address.set_ip(if is_v4 { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    Some(address)
}
