//! An import through the registry that is running for the database, so that its followers learn of it.

use super::receive::REPLACE_FORGETS;
use super::{Event, Format, ImportError, Imported, RefusedRow, Source, Terms, files};
use crate::config::Trust;
use crate::link::secured;
use crate::registry::batch::ResultLine;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use std::io::Read;
use std::net::SocketAddr;
use tokio::sync::mpsc;

/// Octets that are sent at once.
const PIECE_BYTES: usize = 128 << 10;
/// Pieces that are read ahead.
const PIECES_AHEAD: usize = 4;
/// The longest line of an answer, in octets.
const MAX_RESULT_BYTES: usize = 1 << 20;

/// Where a registry runs.
#[derive(Debug)]
pub struct At {
    /// Its address.
    pub address: SocketAddr,
    /// How TLS is spoken with it; in the clear without.
    pub trust: Option<Trust>,
}

impl From<SocketAddr> for At {
    fn from(address: SocketAddr) -> Self {
        Self { address, trust: None }
    }
}

/// Imports what `source` reads, sent as it is read.
///
/// # Errors
/// As `import`, and where the registry can't be reached.
pub async fn import_via(
    at: impl Into<At>,
    token: Option<&str>,
    source: Source,
    terms: Terms,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    let At { address, trust } = at.into();
    let remote = |problem: String| ImportError::Remote { address, problem };
    let format = match source.format {
        Format::Csv => "csv",
        Format::Ndjson => "ndjson",
        Format::Map => "map",
    };
    let scheme = if trust.is_some() { "https" } else { "http" };
    let client = secured(reqwest::Client::builder().no_proxy(), &trust.unwrap_or_default())
        .map_err(|error| remote(error.to_string()))?;
    let client = client.build().map_err(|error| remote(error.to_string()))?;
    let Terms { is_whole, is_strict, is_dry_run } = terms;
    let flags = [("replace", is_whole), ("strict", is_strict), ("dry_run", is_dry_run)];
    let base = format!("{scheme}://{address}/v1/filings:import");
    let mut url = reqwest::Url::parse(&base).map_err(|error| remote(error.to_string()))?;
    url.query_pairs_mut()
        .extend_pairs(flags.map(|(key, it)| (key, it.to_string())))
        .append_pair("format", format)
        .extend_pairs(source.wanting.number.iter().map(|it| ("number", it)))
        .extend_pairs(source.wanting.access_text().iter().map(|it| ("access", it)))
        .extend_pairs(source.why.iter().map(|it| ("reason", it)));
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    let sending = tokio::task::spawn_blocking(move || send(source, &sender));
    let body = stream::unfold(pieces, async |mut pieces: mpsc::Receiver<std::io::Result<Bytes>>| {
        Some((pieces.recv().await?, pieces))
    });
    let mut request = client.post(url).body(reqwest::Body::wrap_stream(body));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await;
    // Where the file could not be read, the request failed for that.
    sending.await.map_err(|error| remote(error.to_string()))??;
    let response = response.map_err(|error| remote(described(&error)))?;
    let is_result = response.headers().get("content-type").is_some_and(|it| it == "application/x-ndjson");
    if is_result {
        return refused(response, address, events).await;
    }
    let status = response.status();
    let answer = response.bytes().await.map_err(|error| remote(described(&error)))?;
    if !status.is_success() {
        return Err(remote(format!("{status} {}", String::from_utf8_lossy(&answer))));
    }
    serde_json::from_slice(&answer).map_err(|error| remote(error.to_string()))
}

/// The error and what it comes from: reqwest's own text leaves the causes out.
fn described(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |it| it.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Reads the file to its end, or until nobody wants more.
fn send(source: Source, pieces: &mpsc::Sender<std::io::Result<Bytes>>) -> Result<(), ImportError> {
    let Source { mut reader, path, .. } = source;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match reader.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {
                if pieces.blocking_send(Ok(piece.into())).is_err() {
                    return Ok(());
                }
            }
            Err(error) => {
                // The body must break off, for what it has so far would else be imported.
                let _ = pieces.blocking_send(Err(error.kind().into()));
                return Err(files::io_error(&path)(error));
            }
        }
    }
}

/// Makes events of refused rows; what was imported without them stands before them.
async fn refused(
    mut response: reqwest::Response,
    address: SocketAddr,
    events: mpsc::Sender<Event>,
) -> Result<Imported, ImportError> {
    let remote = |problem: String| ImportError::Remote { address, problem };
    let (mut imported, mut forgets) = (None, false);
    let mut is_summary = response.status().is_success();
    let (mut buffer, mut count) = (BytesMut::new(), 0);
    while let Some(piece) = response.chunk().await.map_err(|error| remote(described(&error)))? {
        buffer.extend_from_slice(&piece);
        while let Some(end) = memchr::memchr(b'\n', &buffer) {
            let line = buffer.split_to(end + 1);
            if std::mem::take(&mut is_summary) {
                imported = Some(serde_json::from_slice(&line).map_err(|error| remote(error.to_string()))?);
                continue;
            }
            let result: ResultLine =
                serde_json::from_slice(&line).map_err(|error| remote(error.to_string()))?;
            if result.rule.as_deref() == Some(REPLACE_FORGETS) {
                forgets = true;
                continue;
            }
            count += 1;
            // Whether anyone takes it is not the import's concern.
            let _ = events.send(Event::Refused(RefusedRow::of_result(result))).await;
        }
        if buffer.len() > MAX_RESULT_BYTES {
            return Err(remote("a line of its answer is too long".to_owned()));
        }
    }
    match imported {
        Some(imported) => Ok(imported),
        None if forgets => Err(ImportError::Forgets(count)),
        None => Err(ImportError::Refused(count)),
    }
}
