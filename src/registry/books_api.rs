//! `/v1/subjects`, `/v1/accounts`, `/v1/servers`, `/v1/service-codes`: the records that orders lean on.

use super::extract::{Named, Params, Write};
use super::ledger::Ledger;
use super::life::book::{Account, Server, ServiceCode, Subject};
use super::life::{Deed, Here, Stop, live_documents, unbroken};
use super::order_api::{ListQuery, answered, malformed, object, one, page};
use super::orders::SubjectForm;
use super::problem::Problem;
use super::records::Kind;
use super::routes::Api;
use super::rules::limits::Product;
use super::rules::{self, Refusal};
use super::versions::version;
use crate::filing::FilingNumber;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The most service codes that a server may have.
const MAX_QUOTA: u32 = 1000;
/// Random octets of a service code.
const CODE_BYTES: usize = 8;

fn listed(what: &str, rows: &[super::records::Row], next_cursor: Option<&str>) -> Response {
    let records: Vec<Value> = rows.iter().filter_map(|it| serde_json::from_str(&it.body).ok()).collect();
    Json(json!({ what: records, "next_cursor": next_cursor })).into_response()
}

/// `GET /v1/subjects`: those that the registry has a record of.
pub(super) async fn subjects(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    let keys = [("number", &params.subject), ("name", &params.name)];
    let (rows, next) = page(&api.registry, Kind::Subject, &keys, &params).await?;
    Ok(listed("subjects", &rows, next.as_deref()))
}

/// `GET /v1/subjects/{id}`: by the record's id or by number, with its live sites.
pub(super) async fn subject(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    let shown = api.consult(move |ledger| shown(ledger, &id)).await?;
    Ok(answered(StatusCode::OK, shown.clone(), Some(&version(&shown))))
}

/// A subject by the id of its record or by its number: its record, its live sites and their names.
fn shown(ledger: &Ledger, id: &str) -> Result<Value, Stop> {
    let number = FilingNumber::parse(id).ok().map(|it| it.subject().to_string());
    let record = match &number {
        Some(number) => ledger.cabinet.found::<Subject>("number", number)?.pop(),
        None => ledger.cabinet.record::<Subject>(id)?,
    };
    shown_of(ledger, id, record.as_ref(), number)
}

fn shown_of(
    ledger: &Ledger,
    id: &str,
    record: Option<&Subject>,
    number: Option<String>,
) -> Result<Value, Stop> {
    let number = number.or_else(|| record?.subject.number.clone());
    let live = match &number {
        Some(number) => live_documents(ledger, number)?,
        None => Vec::new(),
    };
    if record.is_none() && live.is_empty() {
        return Err(no_such_subject(id));
    }
    let sites: BTreeSet<_> = live.iter().filter_map(|(_, it)| it.site()).map(|it| &**it).collect();
    let said = live.iter().find_map(|(_, it)| it.about.subject.as_deref());
    let name = record.map(|it| it.subject.name.as_str()).or(said);
    Ok(json!({
        "id": record.map(|it| &it.id),
        "number": number,
        "name": name,
        "subject": record.map(|it| &it.subject),
        "sites": sites,
        "domains": live.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
    }))
}

fn no_such_subject(id: &str) -> Stop {
    Stop::Missing(Refusal::new("not_found", format!("there is no subject `{id}`"), "没有该主体"))
}

impl Api {
    /// Finds something out without writing.
    pub(super) async fn consult<T: Send + 'static>(
        &self,
        find: impl Fn(&Ledger) -> Result<T, Stop> + Send + Sync + 'static,
    ) -> Result<T, Problem> {
        let find = std::sync::Arc::new(find);
        let asked = find.clone();
        let plan = Box::new(move |ledger: &mut Ledger| match asked(ledger) {
            Err(Stop::Wanted(wanted)) => Some(wanted),
            Ok(_) | Err(_) => None,
        });
        let ledger = self.registry.store.consult(plan).await?;
        find(&ledger).map_err(Problem::from)
    }
}

/// What a subject says, and every rule that it breaks by itself.
fn subject_form(words: serde_json::Map<String, Value>) -> Result<(SubjectForm, Vec<Refusal>), Problem> {
    let mut form: SubjectForm = serde_json::from_value(Value::Object(words))
        .map_err(|error| malformed("malformed_subject", &error))?;
    let mut broken = Vec::new();
    match rules::text("name", Some(std::mem::take(&mut form.name))) {
        Ok(Some(name)) => form.name = name.into(),
        Ok(None) => {
            broken.push(Refusal::new("subject_name_needed", "say the subject's `name`", "请填写主体名称"));
        }
        Err(refusal) => broken.push(refusal),
    }
    match form.number.as_deref().map(FilingNumber::parse) {
        Some(Ok(number)) => form.number = Some(number.subject().to_string()),
        Some(Err(error)) => {
            broken.push(Refusal::new("invalid_number", error.to_string(), "主体备案号无效"));
        }
        None => {}
    }
    Ok((form, broken))
}

/// The refusal where another record has the number or the certificate.
fn twin(ledger: &Ledger, id: &str, form: &SubjectForm) -> Result<Option<Refusal>, Stop> {
    let mut others = Vec::new();
    if let Some(number) = &form.number {
        others.extend(ledger.cabinet.found::<Subject>("number", number)?);
    }
    if let Some(certificate) = &form.certificate {
        others.extend(ledger.cabinet.found::<Subject>("certificate", certificate.number.trim())?);
    }
    Ok(others.iter().find(|it| it.id != id).map(|other| {
        Refusal::new(
            "subject_known",
            format!("the number or certificate is that of `{}` already", other.id),
            "该备案号或证件已属于其他主体记录",
        )
    }))
}

/// `POST /v1/subjects`
pub(super) async fn open_subject(write: Write, body: Body) -> Result<Response, Problem> {
    let (form, broken) = subject_form(object(body).await?)?;
    let act = move |ledger: &Ledger, here: &Here| {
        let twin = twin(ledger, "", &form)?;
        unbroken(broken.iter().cloned().chain(twin).collect())?;
        let mut deed = Deed { is_new: true, ..Deed::default() };
        let id = format!("subject-{:08}", deed.count(&ledger.cabinet, "subject")?);
        let subject = Subject { id, subject: form.clone(), created_at: here.at };
        deed.keep(&subject);
        deed.version = Some(version(&shown_of(ledger, &subject.id, Some(&subject), None)?));
        deed.answer = json!(subject);
        Ok(deed)
    };
    write.enact(act).await
}

/// `PUT /v1/subjects/{id}`: its record's id. The number stays what approvals made it.
pub(super) async fn put_subject(write: Write, Named(id): Named, body: Body) -> Result<Response, Problem> {
    let (form, broken) = subject_form(object(body).await?)?;
    let act = move |ledger: &Ledger, here: &Here| {
        let was = ledger.cabinet.record::<Subject>(&id)?.ok_or_else(|| no_such_subject(&id))?;
        here.holds(Some(&version(&shown_of(ledger, &id, Some(&was), None)?)))?;
        let twin = twin(ledger, &id, &form)?;
        let number = form.number.clone().or_else(|| was.subject.number.clone());
        let is_other = was.subject.number.is_some() && was.subject.number != number;
        let moved = is_other.then(|| {
            Refusal::new("number_stays", "a subject's number can't be changed", "主体备案号不能更改")
        });
        unbroken(broken.iter().cloned().chain(twin).chain(moved).collect())?;
        let subject = Subject { subject: SubjectForm { number, ..form.clone() }, ..was };
        let mut deed = Deed::default();
        deed.keep(&subject);
        deed.version = Some(version(&shown_of(ledger, &id, Some(&subject), None)?));
        deed.answer = json!(subject);
        Ok(deed)
    };
    write.enact(act).await
}

/// `GET /v1/accounts`
pub(super) async fn accounts(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    let (rows, next) = page(&api.registry, Kind::Account, &[("subject", &params.subject)], &params).await?;
    Ok(listed("accounts", &rows, next.as_deref()))
}

/// `GET /v1/accounts/{id}`
pub(super) async fn account(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    Ok(Json(one::<Account>(&api.registry, &id, "account").await?).into_response())
}

/// `GET /v1/servers`
pub(super) async fn servers(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    let (rows, next) = page(&api.registry, Kind::Server, &[("account", &params.account)], &params).await?;
    Ok(listed("servers", &rows, next.as_deref()))
}

/// `GET /v1/servers/{id}`
pub(super) async fn server(State(api): State<Api>, Named(id): Named) -> Result<Response, Problem> {
    let server = one::<Server>(&api.registry, &id, "server").await?;
    Ok(answered(StatusCode::OK, json!(server), Some(&version(&server))))
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerBody {
    #[serde(default = "a_server")]
    product: Product,
    account: Option<String>,
    quota: Option<u32>,
}

fn a_server() -> Product {
    Product::Server
}

/// `PUT /v1/servers/{id}`
pub(super) async fn put_server(write: Write, Named(id): Named, body: Body) -> Result<Response, Problem> {
    let body: ServerBody = serde_json::from_value(Value::Object(object(body).await?))
        .map_err(|error| malformed("malformed_server", &error))?;
    let ids = body.account.iter().chain([&id]);
    let broken: Vec<_> = ids.filter_map(|it| rules::record_id(it).err()).collect();
    let act = move |ledger: &Ledger, here: &Here| {
        let was = ledger.cabinet.record::<Server>(&id)?;
        here.holds(was.as_ref().map(version).as_deref())?;
        let quota = body.product.fixed_quota().or(body.quota).unwrap_or(1);
        let is_raised = quota > MAX_QUOTA || was.as_ref().is_some_and(|it| quota > it.quota);
        let raised = is_raised.then(|| {
            let detail = format!(
                "a server's quota is set once, to {MAX_QUOTA} at most; renewing it does not raise it"
            );
            Refusal::new("quota_not_raised", detail, "服务器的备案服务码额度不因续费增加")
        });
        unbroken(broken.iter().cloned().chain(raised).collect())?;
        let server = Server { id: id.clone(), product: body.product, account: body.account.clone(), quota };
        let mut deed = Deed { is_new: was.is_none(), ..Deed::default() };
        deed.keep(&server);
        deed.version = Some(version(&server));
        deed.answer = json!(server);
        Ok(deed)
    };
    write.enact(act).await
}

/// `GET /v1/service-codes`
pub(super) async fn codes(
    State(api): State<Api>,
    Params(params): Params<ListQuery>,
) -> Result<Response, Problem> {
    let keys = [("server", &params.server), ("account", &params.account)];
    let (rows, next) = page(&api.registry, Kind::ServiceCode, &keys, &params).await?;
    Ok(listed("service_codes", &rows, next.as_deref()))
}

/// `GET /v1/service-codes/{code}`
pub(super) async fn code(State(api): State<Api>, Named(code): Named) -> Result<Response, Problem> {
    Ok(Json(one::<ServiceCode>(&api.registry, &code, "service code").await?).into_response())
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    server: String,
    account: Option<String>,
}

/// `POST /v1/service-codes`: a new code of a server, within its quota.
pub(super) async fn issue_code(write: Write, body: Body) -> Result<Response, Problem> {
    let body: CodeBody = serde_json::from_value(Value::Object(object(body).await?))
        .map_err(|error| malformed("malformed_service_code", &error))?;
    let misnamed = body.account.as_deref().and_then(|it| rules::record_id(it).err());
    let mut random = [0; CODE_BYTES];
    getrandom::fill(&mut random).map_err(super::StoreError::Randomness)?;
    let code = format!("sc-{:016x}", u64::from_le_bytes(random));
    let act = move |ledger: &Ledger, _: &Here| {
        let mut broken: Vec<_> = misnamed.iter().cloned().collect();
        let Some(server) = ledger.cabinet.record::<Server>(&body.server)? else {
            let detail = format!("there is no server `{}`: PUT /v1/servers/{{id}} first", body.server);
            broken.push(Refusal::new("server_unknown", detail, "没有该服务器"));
            return Err(Stop::refused(broken));
        };
        let issued = ledger.cabinet.found::<ServiceCode>("server", &server.id)?.len();
        if server.product == Product::LoadBalancer {
            let detail = "a load balancer has no service code: take one of a server behind it";
            broken.push(Refusal::new("load_balancer", detail, "负载均衡须通过其后端服务器验证"));
        }
        if issued >= server.quota as usize {
            let detail = format!("the server has {} service codes, and {issued} are issued", server.quota);
            broken.push(Refusal::new("server_quota", detail, "该服务器的备案服务码额度已用完"));
        }
        unbroken(broken)?;
        let account = body.account.clone().or_else(|| server.account.clone());
        let code = ServiceCode { code: code.clone(), server: server.id, account, used_by: None };
        let mut deed = Deed { is_new: true, ..Deed::default() };
        deed.keep(&code);
        deed.answer = json!(code);
        Ok(deed)
    };
    write.enact(act).await
}
