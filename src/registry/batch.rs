//! `POST /v1/filings:batch`: many edits as NDJSON, one result per line, alone or all or nothing.

use super::extract::Params;
use super::import::Terms;
use super::ledger::Ledger;
use super::life::said;
use super::model::{Edit, Line, Outcome, Who};
use super::problem::Problem;
use super::routes::Api;
use super::rules::{self, Refusal};
use super::store::Reach;
use super::{Registry, Size, StoreError};
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The longest line, in octets.
pub(super) const MAX_LINE_BYTES: usize = 64 << 10;
/// The longest batch, in octets.
const MAX_BATCH_BYTES: u64 = 4 << 30;
/// Edits that one transaction holds where lines stand alone.
const LINES_PER_COMMIT: usize = 5000;

/// Said of lines that are right themselves.
pub(super) const BATCH_REFUSED: &str = "batch_refused";

/// How lines hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each alone.
    Each,
    /// All or nothing.
    Atomic,
    /// All or nothing, and they are the whole content then.
    Replace,
    /// Each alone, and those that are done are the whole content then; unless that forgets a filing that a refused line
    /// is about, or everything.
    ReplaceByEach,
}

impl Mode {
    /// How an import's lines hang together.
    pub(super) fn of(terms: Terms) -> Self {
        match (terms.is_whole, terms.is_strict) {
            (false, false) => Self::Each,
            (false, true) => Self::Atomic,
            (true, true) => Self::Replace,
            (true, false) => Self::ReplaceByEach,
        }
    }

    fn is_atomic(self) -> bool {
        matches!(self, Self::Atomic | Self::Replace)
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Replace | Self::ReplaceByEach)
    }
}

/// `?atomic=&replace=&dry_run=&reason=`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchQuery {
    #[serde(default)]
    atomic: bool,
    #[serde(default)]
    replace: bool,
    #[serde(default)]
    dry_run: bool,
    reason: Option<String>,
}

/// What a batch did not do.
enum NotDone {
    /// For it was only to be tried: this is what would become of each line.
    Tried(Vec<Done>),
    /// For these reasons.
    Refused(Vec<Done>),
}

/// A line that was read: what it asks for, or why it can't.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) line: u64,
    pub(super) domain: String,
    pub(super) edit: Result<Edit, Refusal>,
}

/// What became of a line.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) line: u64,
    pub(super) domain: String,
    pub(super) outcome: Result<Outcome, Refusal>,
}

/// A result on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResultLine {
    pub(super) line: u64,
    pub(super) domain: String,
    pub(super) status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) detail_zh: Option<String>,
    /// In a dry run: every rule that the line breaks by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) refusals: Vec<serde_json::Value>,
}

/// Reads a JSON object that must be just this: what is no JSON is 400, what is other JSON is 422.
pub(super) fn of_json<T: serde::de::DeserializeOwned>(octets: &[u8]) -> Result<T, Problem> {
    read_object(octets).map_err(|refusal| match refusal.rule {
        "malformed_json" => Problem::Status(StatusCode::BAD_REQUEST, refusal),
        _ => Problem::Refused(refusal),
    })
}

/// Said of JSON that is something else than what is asked for.
pub(super) const MALFORMED_DOCUMENT: &str = "malformed_document";

pub(super) fn read_object<T: serde::de::DeserializeOwned>(octets: &[u8]) -> Result<T, Refusal> {
    let malformed_document = |why: &dyn std::fmt::Display| {
        Refusal::new(MALFORMED_DOCUMENT, format!("not a filing document: {why}"), "内容不是有效的备案文档")
    };
    match serde_json::from_slice(octets) {
        // Serde would take an array of a struct's fields, in their order.
        Ok(_) if !octets.trim_ascii_start().starts_with(b"{") => {
            Err(malformed_document(&"an object is needed"))
        }
        Ok(object) => Ok(object),
        Err(error) if error.is_data() => Err(malformed_document(&error)),
        Err(error) => {
            Err(Refusal::new("malformed_json", format!("not JSON: {error}"), "内容不是有效的 JSON"))
        }
    }
}

/// Every rule that a line breaks by itself.
fn broken(octets: &[u8]) -> Vec<serde_json::Value> {
    let broken = read_object::<Line>(octets).map_or_else(|refusal| vec![refusal], rules::broken_line);
    broken.iter().map(said).collect()
}

/// Reads one line.
fn read_line(line: u64, octets: &[u8]) -> Read {
    match read_object::<Line>(octets) {
        Ok(it) => Read { line, domain: it.domain.clone(), edit: rules::edit(it) },
        Err(refusal) => Read { line, domain: String::new(), edit: Err(refusal) },
    }
}

/// `POST /v1/filings:batch`
pub(super) async fn post(
    State(api): State<Api>,
    who: Who,
    Params(params): Params<BatchQuery>,
    body: Body,
) -> Result<Response, Problem> {
    let BatchQuery { atomic, replace, dry_run, reason } = params;
    let who = who.because(reason)?;
    let mode = match (atomic, replace) {
        (true, true) => Mode::Replace,
        (true, false) => Mode::Atomic,
        (false, false) => Mode::Each,
        (false, true) => {
            return Err(Problem::bad_request(
                "replace_needs_atomic",
                "`replace=true` makes the lines the whole content: it needs `atomic=true`",
                "`replace=true` 须与 `atomic=true` 同时使用",
            ));
        }
    };
    let mut lines = Lines::new(body.into_data_stream());
    lines.broken = dry_run.then(HashMap::new);
    let mut results = Vec::new();
    let mut is_refused = false;
    // What is only tried is tried at once: later lines may lean on those before.
    let most = if mode == Mode::Each && !dry_run { LINES_PER_COMMIT } else { usize::MAX };
    loop {
        let read = lines.take(most).await?;
        let is_last = read.len() < most;
        let done = run((&api.registry, &who), read, mode, dry_run).await?;
        for it in done {
            is_refused |= it.outcome.is_err();
            let refusals = lines.broken.as_mut().and_then(|of| of.remove(&it.line)).unwrap_or_default();
            write_result(&mut results, it, refusals);
        }
        if is_last {
            break;
        }
    }
    let is_failed = is_refused && mode != Mode::Each && !dry_run;
    let status = if is_failed { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    Ok((status, [(header::CONTENT_TYPE, "application/x-ndjson")], results).into_response())
}

fn write_result(out: &mut Vec<u8>, done: Done, refusals: Vec<serde_json::Value>) {
    let Done { line, domain, outcome } = done;
    let result = match outcome {
        Ok(outcome) => {
            let status = outcome.as_str().to_owned();
            ResultLine { line, domain, status, rule: None, detail: None, detail_zh: None, refusals }
        }
        Err(refusal) => ResultLine {
            line,
            domain,
            status: "refused".to_owned(),
            rule: Some(refusal.rule.to_owned()),
            detail: Some(refusal.detail),
            detail_zh: Some(refusal.detail_zh),
            refusals,
        },
    };
    write_line(out, &result);
}

pub(super) fn write_line(out: &mut Vec<u8>, result: &ResultLine) {
    serde_json::to_writer(&mut *out, result).expect("text and numbers are JSON, and memory takes it");
    out.push(b'\n');
}

/// Does what lines ask for, or says what would become of it.
pub(super) async fn run(
    (registry, who): (&Registry, &Who),
    lines: Vec<Read>,
    mode: Mode,
    is_dry_run: bool,
) -> Result<Vec<Done>, StoreError> {
    if mode.is_atomic() && lines.iter().any(|it| it.edit.is_err()) {
        return Ok(lines
            .into_iter()
            .map(|it| Done::not_applied(it.line, it.domain, it.edit.err()))
            .collect());
    }
    let edits = lines.iter().filter_map(|it| it.edit.as_ref().ok());
    let reach = if mode.is_whole() { Reach::All } else { Reach::of(edits) };
    let size = if mode == Mode::Each { Size::Few } else { Size::Bulk };
    let work = move |ledger: &mut Ledger| {
        if mode.is_whole() {
            ledger.clear();
        }
        let apply = |Read { line, domain, edit }: Read| {
            let applied = edit.and_then(|edit| Ok((edit.domain.clone(), ledger.apply(edit)?)));
            let outcome = applied.map(|(name, outcome)| {
                // Against what was there, not against the nothing that the first line met.
                if mode.is_whole() { ledger.outcome_since_loaded(&name, outcome) } else { outcome }
            });
            Done { line, domain, outcome }
        };
        let done: Vec<_> = lines.into_iter().map(apply).collect();
        let is_refused = match mode {
            Mode::Each => false,
            Mode::Atomic | Mode::Replace => done.iter().any(|it| it.outcome.is_err()),
            Mode::ReplaceByEach => is_lossy(ledger, &done),
        };
        match (is_refused, is_dry_run) {
            (true, _) => Err(NotDone::Refused(done)),
            (false, true) => Err(NotDone::Tried(done)),
            (false, false) => Ok(done),
        }
    };
    Ok(match registry.commit(who, size, reach, work).await? {
        Ok(done) | Err(NotDone::Tried(done)) => done,
        Err(NotDone::Refused(done)) => {
            done.into_iter().map(|it| Done::not_applied(it.line, it.domain, it.outcome.err())).collect()
        }
    })
}

/// Whether lines that are refused are about filings that are forgotten for it, or all lines are refused.
fn is_lossy(ledger: &Ledger, done: &[Done]) -> bool {
    let is_forgotten = |it: &Done| {
        let is_meant = it.outcome.as_ref().is_err_and(|refusal| refusal.rule != rules::NOT_FILED);
        is_meant
            && rules::filed_name(&it.domain).is_ok_and(|name| {
                ledger.stored(name.as_str()).is_some() && ledger.document(name.as_str()).is_none()
            })
    };
    let is_nothing = !done.is_empty() && done.iter().all(|it| it.outcome.is_err());
    is_nothing || done.iter().any(is_forgotten)
}

impl Done {
    fn not_applied(line: u64, domain: String, refusal: Option<Refusal>) -> Self {
        let refusal = refusal.unwrap_or_else(|| {
            Refusal::new(
                BATCH_REFUSED,
                "another line of this batch was refused, so nothing was applied",
                "本批次有其他行被拒绝，因此未作任何更改",
            )
        });
        Self { line, domain, outcome: Err(refusal) }
    }
}

/// Lines of a body, as it arrives; blank ones are counted and left out.
struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// Octets of `buffer` that hold no end of line.
    looked_at: usize,
    count: u64,
    octets: u64,
    is_ended: bool,
    /// Where it is asked for: every rule that a refused line breaks, by line.
    broken: Option<HashMap<u64, Vec<serde_json::Value>>>,
}

impl Lines {
    fn new(body: BodyDataStream) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            looked_at: 0,
            count: 0,
            octets: 0,
            is_ended: false,
            broken: None,
        }
    }

    /// The next lines, at most `most`; fewer at the end only.
    async fn take(&mut self, most: usize) -> Result<Vec<Read>, Problem> {
        let mut lines = Vec::new();
        while lines.len() < most {
            let Some(line) = self.next().await? else { break };
            self.count += 1;
            if !line.trim_ascii().is_empty() {
                let read = read_line(self.count, &line);
                if let Some(of) = self.broken.as_mut().filter(|_| read.edit.is_err()) {
                    of.insert(self.count, broken(&line));
                }
                lines.push(read);
            }
        }
        Ok(lines)
    }

    async fn next(&mut self) -> Result<Option<BytesMut>, Problem> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.looked_at..]) {
                let line = self.buffer.split_to(self.looked_at + end);
                self.buffer.advance(1);
                self.looked_at = 0;
                return if line.len() > MAX_LINE_BYTES { Err(self.too_long()) } else { Ok(Some(line)) };
            }
            self.looked_at = self.buffer.len();
            if self.looked_at > MAX_LINE_BYTES || self.octets > MAX_BATCH_BYTES {
                return Err(self.too_long());
            }
            if self.is_ended {
                self.looked_at = 0;
                return Ok(if self.buffer.is_empty() { None } else { Some(self.buffer.split()) });
            }
            match self.body.next().await {
                Some(Ok(octets)) => {
                    self.octets += octets.len() as u64;
                    self.buffer.extend_from_slice(&octets);
                }
                Some(Err(error)) => {
                    return Err(Problem::bad_request(
                        "truncated",
                        format!("the body broke off: {error}"),
                        "请求中断",
                    ));
                }
                None => self.is_ended = true,
            }
        }
    }

    fn too_long(&self) -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!(
                "line {} or the batch is too long: at most {MAX_LINE_BYTES} and {MAX_BATCH_BYTES} octets",
                self.count + 1
            ),
            "行或批次过长",
        )
    }
}
