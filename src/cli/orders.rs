//! `registry order`, `filing`, `history`, `due`, `server` and `service-code`: the filing life cycle for people.
//!
//! Tables for the eye, JSON with `--json`; what a rule refuses goes to standard error in both languages.

mod arguments;

use super::ask::{Answer, Asked};
use super::{FAILED, block_on, table};
use anyhow::Context;
pub(super) use arguments::{
    CodeArguments, DueArguments, FilingCommand, HistoryArguments, OrderCommand, ServerArguments,
};
use arguments::{CorrectArguments, ListArguments, OpenArguments, Shared, StepArguments, Told};
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

/// The longest file of an order, in octets.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// Said of a day in a year that the working calendar lacks.
const BY_WEEKENDS: &str = "weekends only 仅按周末计算";

/// What is asked, and how the answer is shown.
struct Call<'a> {
    shared: &'a Shared,
    method: Method,
    path: String,
    pairs: Vec<(&'static str, String)>,
    body: Option<Value>,
    show: fn(&Value) -> Vec<[String; 2]>,
}

pub(super) fn order(command: &OrderCommand) -> anyhow::Result<ExitCode> {
    match command {
        OrderCommand::Open(arguments) => open(arguments),
        OrderCommand::Show { id, shared } => run(&get(shared, format!("/v1/orders/{id}"), order_rows)),
        OrderCommand::List(arguments) => list(arguments),
        OrderCommand::Submit(arguments) => step("submit", arguments),
        OrderCommand::Pass(arguments) => step("pass", arguments),
        OrderCommand::Verify(arguments) => step("verify", arguments),
        OrderCommand::Approve(arguments) => step("approve", arguments),
        OrderCommand::Reject(arguments) => step("reject", arguments),
        OrderCommand::Withdraw(arguments) => step("withdraw", arguments),
        OrderCommand::Correct(CorrectArguments { id, told }) => {
            let words = words(told)?;
            run(&post(&told.shared, format!("/v1/orders/{id}/correct"), words, told.dry_run))
        }
    }
}

fn get(shared: &Shared, path: String, show: fn(&Value) -> Vec<[String; 2]>) -> Call<'_> {
    Call { shared, method: Method::GET, path, pairs: Vec::new(), body: None, show }
}

fn post(shared: &Shared, path: String, words: Map<String, Value>, is_dry_run: bool) -> Call<'_> {
    let pairs = if is_dry_run { vec![("dry_run", "true".to_owned())] } else { Vec::new() };
    Call { shared, method: Method::POST, path, pairs, body: Some(Value::Object(words)), show: order_rows }
}

fn open(arguments: &OpenArguments) -> anyhow::Result<ExitCode> {
    let mut words = words(&arguments.told)?;
    if let Some(intent) = arguments.intent.and_then(|it| it.to_possible_value()) {
        words.insert("intent".to_owned(), intent.get_name().into());
    }
    if let Some(domain) = &arguments.domain {
        words.insert("domain".to_owned(), domain.as_str().into());
    }
    if arguments.whole_subject {
        words.insert("whole_subject".to_owned(), true.into());
    }
    run(&post(&arguments.told.shared, "/v1/orders".to_owned(), words, arguments.told.dry_run))
}

fn step(name: &str, arguments: &StepArguments) -> anyhow::Result<ExitCode> {
    let mut words = Map::new();
    if let Some(reason) = &arguments.reason {
        words.insert("reason".to_owned(), reason.as_str().into());
    }
    let path = format!("/v1/orders/{}/{name}", arguments.id);
    run(&post(&arguments.shared, path, words, arguments.dry_run))
}

/// What the file says, and the options over it.
fn words(told: &Told) -> anyhow::Result<Map<String, Value>> {
    let mut words = match &told.file {
        Some(path) => read(path)?,
        None => Map::new(),
    };
    let options =
        [("subject", &told.subject), ("account", &told.account), ("service_code", &told.service_code)];
    for (key, value) in options {
        if let Some(value) = value {
            words.insert(key.to_owned(), value.as_str().into());
        }
    }
    if told.confirm_empty_shell {
        words.insert("confirm_empty_shell".to_owned(), true.into());
    }
    Ok(words)
}

fn read(path: &Path) -> anyhow::Result<Map<String, Value>> {
    let unread = || format!("can't read {}", path.display());
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(MAX_FILE_BYTES).read_to_string(&mut text).with_context(unread)?;
    } else {
        std::fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
            .with_context(unread)?;
    }
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON object", path.display()))
}

fn list(arguments: &ListArguments) -> anyhow::Result<ExitCode> {
    let mut call = get(&arguments.shared, "/v1/orders".to_owned(), |_| Vec::new());
    let given = [("account", &arguments.account), ("domain", &arguments.domain), ("stage", &arguments.stage)];
    call.pairs = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    let heads =
        ["ORDER 订单", "TYPE 类型", "STAGE 阶段", "DOMAIN 域名", "SUBJECT 主体", "NUMBER 备案号", "DUE 期限"];
    listed(&call, "orders", heads, |it| {
        let of = |key: &str| text(&it[key]);
        [
            of("id"),
            of("type"),
            of("stage"),
            of("domain"),
            text(&it["subject"]["name"]),
            of("number"),
            of("due_on"),
        ]
    })
}

pub(super) fn filing(command: &FilingCommand) -> anyhow::Result<ExitCode> {
    let FilingCommand::Show { domain, shared } = command;
    let mut call = get(shared, format!("/v1/filings/{domain}"), |answer| {
        let keys = [
            "domain",
            "decided_by",
            "status",
            "number",
            "state",
            "subject",
            "subject_type",
            "site_name",
            "public_security_number",
            "empty_shell",
            "updated_at",
        ];
        let mut rows = keys.map(|key| [key.to_owned(), text(&answer[key])]).to_vec();
        let access = answer["access"].as_object().into_iter().flatten();
        rows.extend(access.map(|(provider, state)| [format!("access {provider}"), text(state)]));
        rows
    });
    let provider = shared.config.load()?.provider;
    if !provider.is_empty() {
        call.pairs = vec![("provider", provider)];
    }
    run(&call)
}

pub(super) fn history(arguments: &HistoryArguments) -> anyhow::Result<ExitCode> {
    let HistoryArguments { of, kind, request, shared } = arguments;
    let mut call = get(shared, "/v1/changes".to_owned(), |_| Vec::new());
    let key = if kind == "filing" { "domain" } else { "record" };
    let given = [("kind", Some(kind)), (key, of.as_ref()), ("request", request.as_ref())];
    call.pairs = given.into_iter().filter_map(|(key, value)| Some((key, value?.clone()))).collect();
    let heads = ["SEQ 序号", "AT 时间", "WHO 经办", "OF 对象", "NOW 变更后", "WHY 原因", "REQUEST 请求"];
    listed(&call, "changes", heads, |it| {
        let of = |key: &str| text(&it[key]);
        let what = of(if it["record"].is_null() { "domain" } else { "record" });
        [of("seq"), of("at"), of("who"), what, became(&it["after"]), of("why"), of("request")]
    })
}

/// What a filing or a record is now, in a few words.
fn became(after: &Value) -> String {
    let access = after["access"].as_object().into_iter().flatten();
    let accesses: Vec<_> = access.map(|(provider, state)| format!("{provider}={}", text(state))).collect();
    let name = &after["subject"]["name"];
    let words = ["state", "stage", "type", "product", "quota", "server", "used_by", "number", "account"];
    let mut said: Vec<_> = words.iter().map(|key| text(&after[key])).collect();
    said.extend([text(name), accesses.join(";")]);
    said.retain(|it| !it.is_empty());
    said.join(" ")
}

pub(super) fn due(arguments: &DueArguments) -> anyhow::Result<ExitCode> {
    let mut call = get(&arguments.shared, "/v1/due".to_owned(), |_| Vec::new());
    let given = [("kind", &arguments.kind), ("before", &arguments.before)];
    call.pairs = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    let heads = [
        "KIND 事项",
        "DUE 期限",
        "OVERDUE 逾期",
        "CALENDAR 日历",
        "OF 对象",
        "DOMAIN 域名",
        "SINCE 自",
        "REASON 原因",
    ];
    listed(&call, "due", heads, |it| {
        let of = |key: &str| text(&it[key]);
        let overdue = if it["overdue"] == true { "overdue 逾期" } else { "" };
        let what = if it["order"].is_null() { of("number") } else { of("order") };
        let by = if it["by_calendar"] == false { BY_WEEKENDS } else { "" };
        let by = by.to_owned();
        [of("kind"), of("due_on"), overdue.to_owned(), by, what, of("domain"), of("since"), of("reason")]
    })
}

pub(super) fn server(arguments: &ServerArguments) -> anyhow::Result<ExitCode> {
    let ServerArguments { id, product, quota, account, reason, shared } = arguments;
    let body = json!({ "product": product, "quota": quota, "account": account });
    let path = format!("/v1/servers/{id}");
    run(&Call { shared, method: Method::PUT, path, pairs: why(reason), body: Some(body), show: all_rows })
}

pub(super) fn code(arguments: &CodeArguments) -> anyhow::Result<ExitCode> {
    let CodeArguments { server, account, reason, shared } = arguments;
    let body = json!({ "server": server, "account": account });
    let path = "/v1/service-codes".to_owned();
    run(&Call { shared, method: Method::POST, path, pairs: why(reason), body: Some(body), show: all_rows })
}

/// What the change log is to say of why.
fn why(reason: &Option<String>) -> Vec<(&'static str, String)> {
    reason.iter().map(|it| ("reason", it.clone())).collect()
}

fn answered(call: &Call<'_>) -> anyhow::Result<Answer> {
    let config = call.shared.config.load()?;
    block_on(async {
        let pairs: Vec<(&str, &str)> = call.pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        Asked::of(&config).await?.ask(call.method.clone(), &call.path, &pairs, call.body.as_ref()).await
    })
}

fn run(call: &Call<'_>) -> anyhow::Result<ExitCode> {
    let Answer { status, body } = answered(call)?;
    let is_refused = !status.is_success() || body["accepted"] == false;
    let mut out = std::io::stdout().lock();
    if call.shared.json {
        writeln!(out, "{body:#}")?;
    } else if status.is_success() {
        let rows = (call.show)(&body);
        let rows: Vec<[&str; 2]> = rows.iter().map(|it| it.each_ref().map(String::as_str)).collect();
        table::write(&mut out, &rows)?;
    } else {
        refused(&body, status.as_u16())?;
    }
    Ok(if is_refused { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn listed<const N: usize>(
    call: &Call<'_>,
    what: &str,
    heads: [&str; N],
    row: fn(&Value) -> [String; N],
) -> anyhow::Result<ExitCode> {
    let Answer { status, body } = answered(call)?;
    let mut out = std::io::stdout().lock();
    if call.shared.json {
        writeln!(out, "{body:#}")?;
    } else if status.is_success() {
        let rows: Vec<[String; N]> = body[what].as_array().into_iter().flatten().map(row).collect();
        let shown = rows.iter().map(|it| it.each_ref().map(String::as_str));
        if rows.is_empty() {
            writeln!(std::io::stderr(), "无记录 / nothing is listed")?;
        } else {
            table::write(&mut out, &std::iter::once(heads).chain(shown).collect::<Vec<_>>())?;
        }
        if let Some(year) = body["calendar_missing"].as_i64() {
            writeln!(
                std::io::stderr(),
                "工作日历缺少 {year} 年，仅按周末计算 / the working calendar lacks {year}: weekends alone count in it"
            )?;
        }
        if !body["next_cursor"].is_null() {
            writeln!(std::io::stderr(), "… 还有更多 / there are more: see next_cursor with --json")?;
        }
    } else {
        refused(&body, status.as_u16())?;
    }
    Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn refused(body: &Value, status: u16) -> std::io::Result<()> {
    let mut err = std::io::stderr().lock();
    writeln!(
        err,
        "{} ({status}): {} / {}",
        text(&body["rule"]),
        text(&body["detail_zh"]),
        text(&body["detail"])
    )?;
    for which in ["refusals", "needs"] {
        for said in body[which].as_array().into_iter().flatten().filter(|it| it["rule"] != body["rule"]) {
            writeln!(
                err,
                "{}: {} / {}",
                text(&said["rule"]),
                text(&said["detail_zh"]),
                text(&said["detail"])
            )?;
        }
    }
    Ok(())
}

/// As it is read: text without quotes, nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn all_rows(body: &Value) -> Vec<[String; 2]> {
    body.as_object().into_iter().flatten().map(|(key, value)| [key.clone(), text(value)]).collect()
}

fn order_rows(body: &Value) -> Vec<[String; 2]> {
    let of = |key: &str| [key.to_owned(), text(&body[key])];
    let mut rows = Vec::new();
    if body["dry_run"] == true {
        rows.push(of("accepted"));
    }
    if !body["type"].is_null() {
        rows.push(of("id"));
        rows.push(["type".to_owned(), format!("{} {}", text(&body["type"]), text(&body["type_zh"]))]);
        rows.push(["why".to_owned(), format!("{} / {}", text(&body["why_zh"]), text(&body["why"]))]);
        rows.push(of("stage"));
        rows.extend([of("domain"), ["subject".to_owned(), text(&body["subject"]["name"])], of("number")]);
        let by = if body["due_by_calendar"] == false { BY_WEEKENDS } else { "" };
        let due_on = format!("{} {by}", text(&body["due_on"]));
        rows.extend([["due_on".to_owned(), due_on.trim().to_owned()], of("next")]);
    }
    for (which, word) in [("refusals", "refused"), ("needs", "needs"), ("notes", "note")] {
        for said in body[which].as_array().into_iter().flatten() {
            let line =
                format!("{}: {} / {}", text(&said["rule"]), text(&said["detail_zh"]), text(&said["detail"]));
            rows.push([word.to_owned(), line]);
        }
    }
    rows
}
