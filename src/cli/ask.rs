//! Asks the registry that the config names: the one that is running for the database, the one that is followed, or,
//! where none runs, the database itself through the same API, served to this process alone.

use crate::config::{Config, Database, Registry as Named, Trust, token_of_environment};
use crate::link::secured;
use crate::registry::{self, Options, Registry};
use anyhow::{Context, bail};
use reqwest::{Client, Method, StatusCode, redirect};
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that can be asked.
pub(super) struct Asked {
    client: Client,
    /// Of one database: the first that can be reached answers.
    bases: Vec<String>,
    token: Option<String>,
    /// Where this process serves the database to itself: dropped, it stops.
    _serving: Option<watch::Sender<bool>>,
}

/// What it answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl Asked {
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let builder = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE);
        match config.registry.as_ref() {
            Some(Named::Remote { urls, token, trust }) => {
                let client = secured(builder, trust)?.build()?;
                let token = token.clone().or_else(token_of_environment);
                Ok(Self { client, bases: urls.clone(), token, _serving: None })
            }
            Some(Named::Embedded(embedded)) => {
                let running = match &embedded.database {
                    Database::Sqlite(path) => registry::running_at(path),
                    // Its other registries hear of what is written to it by any.
                    Database::Postgres { .. } => None,
                };
                if let Some(address) = running {
                    let (builder, scheme) = match &embedded.tls {
                        Some(tls) => (secured(builder, &Trust::in_own(tls))?, "https"),
                        None => (builder, "http"),
                    };
                    let bases = vec![format!("{scheme}://{}", reachable(address))];
                    let token = embedded.token.clone().or_else(token_of_environment);
                    return Ok(Self { client: builder.build()?, bases, token, _serving: None });
                }
                let client = builder.build()?;
                let (base, serving) = serve(config, embedded).await?;
                Ok(Self { client, bases: vec![base], token: None, _serving: Some(serving) })
            }
            None => bail!("the config has no [registry]: give `url`, or [registry.embedded]"),
        }
    }

    /// Asks, with a query's pairs and a body.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        pairs: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut unreached = None;
        for base in &self.bases {
            let mut url = reqwest::Url::parse(base)?;
            url.set_path(path);
            if !pairs.is_empty() {
                url.query_pairs_mut().extend_pairs(pairs);
            }
            match self.request(method.clone(), url, body).send().await {
                Ok(response) => return answer(response).await,
                Err(error) if error.is_connect() => unreached = Some((base, error)),
                Err(error) => return Err(error).with_context(|| format!("the registry at {base} broke off")),
            }
        }
        match unreached {
            Some((base, error)) => {
                Err(error).with_context(|| format!("the registry at {base} does not answer"))
            }
            None => bail!("the config names no registry"),
        }
    }

    fn request(&self, method: Method, url: reqwest::Url, body: Option<&Value>) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        }
    }
}

async fn answer(response: reqwest::Response) -> anyhow::Result<Answer> {
    let (status, octets) = (response.status(), response.bytes().await?);
    Ok(Answer { status, body: serde_json::from_slice(&octets).unwrap_or(Value::Null) })
}

async fn serve(
    config: &Config,
    embedded: &crate::config::EmbeddedRegistry,
) -> anyhow::Result<(String, watch::Sender<bool>)> {
    let opened = Registry::open(&embedded.database, None).await?;
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let options =
        Options { provider: config.provider.clone(), rules: embedded.rules.clone(), ..Options::default() };
    let (serving, stopped) = watch::channel(false);
    tokio::spawn(async move { opened.serve(listener, options, stopped).await });
    Ok((format!("http://{address}"), serving))
}

/// An address that listens on every interface is called on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
