//! `POST /v1/filings:import`: a whole file as a body, set aside as it arrives.

use super::{Event, Format, ImportError, Imported, RefusedRow, Source, Terms, Wanting, import_as};
use crate::registry::batch::{ResultLine, write_line};
use crate::registry::extract::Params;
use crate::registry::model::Who;
use crate::registry::problem::Problem;
use crate::registry::routes::Api;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use std::io;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The longest body, in octets.
const MAX_BODY_BYTES: u64 = 64 << 30;
/// The rule's name of a file that would forget filings.
pub(super) const REPLACE_FORGETS: &str = "replace_forgets";
/// Pieces of a body that wait to be read, and events that wait to be sent.
const WAITING: usize = 16;

/// `?replace=&strict=&dry_run=&format=&number=&access=&reason=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::registry) struct ImportQuery {
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    dry_run: bool,
    format: Format,
    number: Option<String>,
    access: Option<String>,
    reason: Option<String>,
}

/// `POST /v1/filings:import`
pub(in crate::registry) async fn post(
    State(api): State<Api>,
    who: Who,
    Params(params): Params<ImportQuery>,
    body: Body,
) -> Result<Response, Problem> {
    let ImportQuery { replace, strict, dry_run, format, number, access, reason } = params;
    let who = who.because(reason)?;
    let wanting = Wanting::new(number, access.as_deref())?;
    let terms = Terms { is_whole: replace, is_strict: strict, is_dry_run: dry_run };
    let (pieces, waiting) = mpsc::channel(WAITING);
    tokio::spawn(receive(body.into_data_stream(), pieces));
    let source = Source::of(Received { waiting, piece: Bytes::new() }, format).with(wanting);
    let (sender, mut events) = mpsc::channel(WAITING);
    let import = tokio::spawn(async move { import_as(&api.registry, who, source, terms, sender).await });
    while let Some(event) = events.recv().await {
        match event {
            Event::Phase(_) | Event::Resumed(_) => {}
            Event::Refused(row) => {
                return Ok(rows(StatusCode::UNPROCESSABLE_ENTITY, line(row), events, import));
            }
            Event::Done(imported) => return Ok(rows(StatusCode::OK, summary(imported), events, import)),
        }
    }
    match import.await.map_err(|error| failed(error.to_string()))? {
        Ok(imported) => Ok(axum::Json(imported).into_response()),
        Err(error) => Err(problem(error)),
    }
}

/// Hands a body on; one that nobody reads any longer is read to its end, so that its sender comes to read the answer.
async fn receive(mut body: BodyDataStream, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let mut octets = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error));
        octets += piece.as_ref().map_or(0, |it| it.len() as u64);
        let is_over = octets > MAX_BODY_BYTES;
        let piece = if is_over { Err(io::ErrorKind::FileTooLarge.into()) } else { piece };
        let is_broken = piece.is_err();
        let _ = pieces.send(piece).await;
        if is_broken {
            return;
        }
    }
}

/// A body as something that a thread reads.
struct Received {
    waiting: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl io::Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.waiting.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// A first line, and the rows that are refused, as they come.
fn rows(
    status: StatusCode,
    first: Bytes,
    events: mpsc::Receiver<Event>,
    import: JoinHandle<Result<Imported, ImportError>>,
) -> Response {
    let lines =
        stream::unfold((Some(first), events, Some(import)), async |(next, mut events, mut import)| {
            let row = match next {
                Some(line) => Some(line),
                None => loop {
                    match events.recv().await {
                        Some(Event::Refused(row)) => break Some(line(row)),
                        Some(Event::Phase(_) | Event::Done(_) | Event::Resumed(_)) => {}
                        None => break None,
                    }
                },
            };
            if let Some(line) = row {
                return Some((Ok(line), (None, events, import)));
            }
            // An answer that breaks off must not look like a whole one.
            match import.take()?.await {
                Ok(Ok(_) | Err(ImportError::Refused(_))) => None,
                Ok(Err(ImportError::Forgets(rows))) => Some((Ok(forgets(rows)), (None, events, None))),
                Ok(Err(error)) => Some((Err(io::Error::other(error)), (None, events, None))),
                Err(error) => Some((Err(io::Error::other(error)), (None, events, None))),
            }
        });
    let body = Body::from_stream(lines.boxed());
    (status, [(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// What was imported, ahead of the rows that were left out.
fn summary(imported: Imported) -> Bytes {
    let mut octets = serde_json::to_vec(&imported).expect("numbers are JSON, and memory takes them");
    octets.push(b'\n');
    octets.into()
}

/// After the refused rows of a file that would be the whole content.
fn forgets(rows: u64) -> Bytes {
    let mut octets = Vec::new();
    let result = ResultLine {
        line: 0,
        domain: String::new(),
        status: "refused".to_owned(),
        rule: Some(REPLACE_FORGETS.to_owned()),
        detail: Some(ImportError::Forgets(rows).to_string()),
        refusals: Vec::new(),
        detail_zh: Some(format!("{rows} 个被拒绝的行中有涉及现有备案的，整体替换会丢失这些备案，因此未导入")),
    };
    write_line(&mut octets, &result);
    octets.into()
}

fn line(row: RefusedRow) -> Bytes {
    let RefusedRow { line, domain, rule, detail, detail_zh } = row;
    let mut octets = Vec::new();
    let result = ResultLine {
        line,
        domain,
        status: "refused".to_owned(),
        rule: Some(rule),
        detail: Some(detail),
        detail_zh: Some(detail_zh),
        refusals: Vec::new(),
    };
    write_line(&mut octets, &result);
    octets.into()
}

fn problem(error: ImportError) -> Problem {
    match error {
        ImportError::Store(error) => Problem::Store(error),
        ImportError::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("an import has at most {MAX_BODY_BYTES} octets"),
            "导入内容过长",
        ),
        ImportError::Io { source, .. } => {
            Problem::bad_request("truncated", format!("the body broke off: {source}"), "请求中断")
        }
        ImportError::File(detail) => Problem::bad_request("malformed_file", detail, "文件格式不正确"),
        error @ (ImportError::Refused(_) | ImportError::Forgets(_) | ImportError::Remote { .. }) => {
            failed(error.to_string())
        }
    }
}

fn failed(why: String) -> Problem {
    Problem::Store(crate::registry::StoreError::Corrupt(why))
}
