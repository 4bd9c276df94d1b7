//! What may be written into the registry: each refusal has a name, and says what would be right.
//!
//! Pure: text in, an `Edit` or a `Refusal` out. Source: filing-rules, "Which filing covers a host".

pub(super) mod limits;

use super::model::{About, Action, Document, Edit, Line, PutBody};
use crate::domain::{DomainName, HostForm, NameError};
use crate::filing::{AccessState, FilingNumber, FilingState, PublicSecurityNumber};
use std::sync::Arc;

/// The longest free text of a document, in characters.
const MAX_TEXT_CHARS: usize = 256;
/// The longest id of a provider or gate, in octets.
const MAX_ID_BYTES: usize = 64;
/// The most providers that one site may have an access at.
const MAX_ACCESSES: usize = 64;

/// Why something is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Refusal {
    /// The rule's name: stable, for machines.
    pub rule: &'static str,
    /// What is wrong and what would be right, in English.
    pub detail: String,
    /// The same in Chinese.
    pub detail_zh: String,
}

impl Refusal {
    /// Makes one.
    pub fn new(rule: &'static str, detail: impl Into<String>, detail_zh: impl Into<String>) -> Self {
        Self { rule, detail: detail.into(), detail_zh: detail_zh.into() }
    }
}

/// A name that someone asks about: any valid DNS name.
///
/// # Errors
/// `ip_address` or `invalid_name`.
pub(super) fn name(text: &str) -> Result<DomainName, Refusal> {
    match DomainName::from_user(text) {
        Ok(name) => Ok(name),
        Err(error) => Err(name_refusal(text, error)),
    }
}

fn name_refusal(text: &str, error: NameError) -> Refusal {
    if matches!(HostForm::from_user(text), Ok(HostForm::Ip(_))) {
        return Refusal::new(
            "ip_address",
            format!("`{text}` is an IP address; filing by address is handled by the local authority"),
            format!("`{text}` 是 IP 地址；IP 地址的备案由当地管局办理"),
        );
    }
    Refusal::new(
        "invalid_name",
        format!("`{text}` is no valid domain name: {error}"),
        format!("`{text}` 不是有效的域名"),
    )
}

/// A name that may have a filing of its own: a registrable domain, or one below it under government suffixes.
///
/// # Errors
/// The refusal, which names the registrable domain where there is one.
pub(super) fn filed_name(text: &str) -> Result<DomainName, Refusal> {
    let name = name(text)?;
    let Some(registrable) = name.registrable() else {
        return Err(
            if name.as_str().contains('.')
                || psl::suffix(name.as_str().as_bytes()).is_some_and(|s| s.is_known())
            {
                Refusal::new(
                    "public_suffix",
                    format!(
                        "`{text}` is a public suffix, under which domains are registered; it is never filed"
                    ),
                    format!("`{text}` 是公共后缀，不能备案"),
                )
            } else {
                Refusal::new(
                    "single_label",
                    format!("`{text}` is a single label; a filing is made for a registrable domain"),
                    format!("`{text}` 只有一级；备案应使用可注册的域名"),
                )
            },
        );
    };
    if registrable == name.as_str() || name.is_government() {
        return Ok(name);
    }
    Err(Refusal::new(
        "not_registrable_domain",
        format!(
            "`{name}` lies below the registrable domain `{registrable}`: file `{registrable}`, which covers it"
        ),
        format!("`{name}` 不是可注册的域名；请备案 `{registrable}`，其备案覆盖所有下级域名"),
    ))
}

/// A provider's id: letters, digits, `-`, `_` and `.`.
///
/// # Errors
/// `invalid_provider`.
pub(super) fn provider(id: &str) -> Result<(), Refusal> {
    if is_id(id) {
        return Ok(());
    }
    Err(Refusal::new(
        "invalid_provider",
        format!("`{id}` is no provider id: 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` and `.`"),
        format!("`{id}` 不是有效的接入商标识：1 至 {MAX_ID_BYTES} 个字母、数字、`-`、`_` 或 `.`"),
    ))
}

/// The name that a gate goes by.
///
/// # Errors
/// `invalid_gate`.
pub(super) fn gate(id: &str) -> Result<(), Refusal> {
    if is_id(id) {
        return Ok(());
    }
    Err(Refusal::new(
        "invalid_gate",
        format!("`{id}` is no gate's name: 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` and `.`"),
        format!("`{id}` 不是有效的网关名称：1 至 {MAX_ID_BYTES} 个字母、数字、`-`、`_` 或 `.`"),
    ))
}

/// The id that a caller gives to an account or a server.
///
/// # Errors
/// `invalid_id`.
pub(super) fn record_id(id: &str) -> Result<(), Refusal> {
    if is_id(id) {
        return Ok(());
    }
    Err(Refusal::new(
        "invalid_id",
        format!("`{id}` is no id: 1 to {MAX_ID_BYTES} letters, digits, `-`, `_` and `.`"),
        format!("`{id}` 不是有效的标识：1 至 {MAX_ID_BYTES} 个字母、数字、`-`、`_` 或 `.`"),
    ))
}

fn is_id(id: &str) -> bool {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(is_good)
}

/// A digest as it is shown: 32 hexadecimal digits.
///
/// # Errors
/// `invalid_digest`.
pub(super) fn digest(text: &str) -> Result<u128, Refusal> {
    let is_good = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_good).ok_or_else(|| {
        Refusal::new(
            "invalid_digest",
            "a digest is 32 hexadecimal digits".to_owned(),
            "摘要应为 32 位十六进制数字".to_owned(),
        )
    })
}

/// What a line of a batch or file asks for.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn edit(line: Line) -> Result<Edit, Refusal> {
    let domain = filed_name(&line.domain)?;
    if line.delete || line.purge {
        deletion(&line)?;
        let action = if line.purge { Action::Purge } else { Action::Deregister };
        return Ok(Edit { domain: domain.as_str().into(), action });
    }
    put(&domain, line.into_body())
}

fn deletion(line: &Line) -> Result<(), Refusal> {
    if line.delete && !line.has_document() {
        return Ok(());
    }
    Err(Refusal::new(
        "delete_with_document",
        "a deletion is `domain`, `\"delete\": true` and at most `\"purge\": true`",
        "删除行只能包含 `domain`、`\"delete\": true` 和可选的 `\"purge\": true`",
    ))
}

/// Every rule that a line breaks, in the order in which `edit` names the first.
pub(super) fn broken_line(line: Line) -> Vec<Refusal> {
    let mut broken: Vec<_> = filed_name(&line.domain).err().into_iter().collect();
    if line.delete || line.purge {
        broken.extend(deletion(&line).err());
    } else {
        broken.extend(self::broken(&line.into_body()));
    }
    broken
}

/// The edit that makes `domain` what `body` says.
///
/// # Errors
/// The first rule that it breaks.
pub(super) fn put(domain: &DomainName, body: PutBody) -> Result<Edit, Refusal> {
    Ok(Edit { domain: domain.as_str().into(), action: Action::Put(document(body)?) })
}

/// Every rule that a document breaks, in the order in which `put` names the first.
pub(super) fn broken(body: &PutBody) -> Vec<Refusal> {
    let mut broken = Vec::new();
    broken.extend(number(body.number.as_deref().unwrap_or_default().trim(), body.state).err());
    // One part at a time: what is left out here breaks no rule of its own.
    let parts = || PutBody { state: FilingState::Deregistered, ..PutBody::default() };
    let is_active = body.access.0.values().any(|it| *it == AccessState::Active);
    if body.access.0.len() > MAX_ACCESSES || (is_active && body.state == FilingState::Deregistered) {
        broken.extend(document(PutBody { access: body.access.clone(), ..parts() }).err());
    }
    broken.extend(body.access.0.keys().filter_map(|id| provider(id).err()));
    match text("public_security_number", body.public_security_number.clone()) {
        Ok(Some(number)) => broken.extend(public_security_number(&number).err()),
        Ok(None) => {}
        Err(refusal) => broken.push(refusal),
    }
    for (field, value) in
        [("subject", &body.subject), ("subject_type", &body.subject_type), ("site_name", &body.site_name)]
    {
        broken.extend(text(field, value.clone()).err());
    }
    broken
}

fn document(body: PutBody) -> Result<Document, Refusal> {
    let number = number(body.number.as_deref().unwrap_or_default().trim(), body.state)?;
    if body.access.0.len() > MAX_ACCESSES {
        return Err(Refusal::new(
            "too_many_accesses",
            format!("a site has accesses at {MAX_ACCESSES} providers at most"),
            format!("一个网站最多有 {MAX_ACCESSES} 个接入商"),
        ));
    }
    let is_active = |state: &AccessState| *state == AccessState::Active;
    if body.state == FilingState::Deregistered && body.access.0.values().any(is_active) {
        return Err(Refusal::new(
            "deregistered_with_access",
            "a deregistered name has no active access",
            "已注销的域名不能有有效的接入",
        ));
    }
    for id in body.access.0.keys() {
        provider(id)?;
    }
    let public_security_number = match text("public_security_number", body.public_security_number)? {
        Some(number) => Some(public_security_number(&number)?),
        None => None,
    };
    let about = About {
        subject: text("subject", body.subject)?,
        subject_type: text("subject_type", body.subject_type)?,
        site_name: text("site_name", body.site_name)?,
        public_security_number,
    };
    Ok(Document { number, state: body.state, access: Arc::new(body.access), about })
}

fn number(text: &str, state: FilingState) -> Result<Option<Arc<str>>, Refusal> {
    match (text.is_empty(), state) {
        (true, FilingState::Pending | FilingState::Deregistered) => return Ok(None),
        (true, FilingState::Filed | FilingState::Restricted) => {
            return Err(Refusal::new(
                "number_missing",
                "a filing has a site number, like 京ICP备12345678号-1; without one yet it is `\"state\": \"pending\"`",
                "备案须有网站备案号，如 京ICP备12345678号-1；尚无备案号的请用 `\"state\": \"pending\"`",
            ));
        }
        (false, FilingState::Pending) => {
            return Err(Refusal::new(
                "pending_with_number",
                "a pending filing has no number yet; with a number it is `\"state\": \"filed\"`",
                "备案中的域名尚无备案号；已有备案号的请用 `\"state\": \"filed\"`",
            ));
        }
        (false, _) => {}
    }
    let number = FilingNumber::parse(text).map_err(|error| {
        Refusal::new(
            "invalid_number",
            error.to_string(),
            format!("`{text}` 不是有效的备案号；正确的备案号如 京ICP备12345678号-1"),
        )
    })?;
    if !number.is_site() {
        return Err(Refusal::new(
            "number_without_site_index",
            format!("`{number}` is a subject's number; a site's has an index, like {number}-1"),
            format!("`{number}` 是主体备案号；网站备案号带有序号，如 {number}-1"),
        ));
    }
    Ok(Some(number.to_string().into()))
}

/// A public-security filing's number in canonical form.
///
/// # Errors
/// `invalid_public_security_number`.
pub(super) fn public_security_number(text: &str) -> Result<Box<str>, Refusal> {
    match PublicSecurityNumber::parse(text) {
        Ok(number) => Ok(number.to_string().into()),
        Err(_) => Err(Refusal::new(
            "invalid_public_security_number",
            format!(
                "`{text}` is no public-security filing number; one looks like 京公网安备11010102000001号"
            ),
            format!("`{text}` 不是有效的公安备案号；正确的如 京公网安备11010102000001号"),
        )),
    }
}

/// Free text: trimmed, `None` where nothing is left.
///
/// # Errors
/// `invalid_text`.
pub(super) fn text(field: &'static str, value: Option<String>) -> Result<Option<Box<str>>, Refusal> {
    let Some(value) = value else { return Ok(None) };
    let value = value.trim();
    if value.chars().count() > MAX_TEXT_CHARS || value.chars().any(char::is_control) {
        return Err(Refusal::new(
            "invalid_text",
            format!("`{field}` has at most {MAX_TEXT_CHARS} characters and no control characters"),
            format!("`{field}` 最多 {MAX_TEXT_CHARS} 个字符，且不含控制字符"),
        ));
    }
    Ok(if value.is_empty() { None } else { Some(value.into()) })
}

/// Said of a name that is not there to be deleted.
pub(super) const NOT_FILED: &str = "not_filed";

/// The refusal of a name that is not there to be deleted.
#[must_use]
pub(super) fn not_filed(domain: &str) -> Refusal {
    Refusal::new(
        NOT_FILED,
        format!("`{domain}` has no filing of exactly this name"),
        format!("`{domain}` 本身没有备案记录"),
    )
}

/// Said of a name's second row in a file: the last one would win silently otherwise.
#[must_use]
pub(super) fn duplicate_domain(domain: &str, first_line: u64) -> Refusal {
    Refusal::new(
        "duplicate_domain",
        format!("`{domain}` is on line {first_line} already; leave one of the two out"),
        format!("`{domain}` 已在第 {first_line} 行出现，请去掉其中一行"),
    )
}

/// Said of a row that gives a site other accesses than the site's first row in the file.
#[must_use]
pub(super) fn site_access_conflict(number: &str, first_line: u64) -> Refusal {
    Refusal::new(
        "site_access_conflict",
        format!("access holds for the whole site: line {first_line} gives {number} other accesses"),
        format!("接入信息对整个网站有效：第 {first_line} 行为 {number} 填写了不同的接入信息"),
    )
}
