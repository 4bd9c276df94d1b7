//! What is known about an order's subject and domain: from records, and from filings that were never ordered here.

use super::book::{Account, Order, Server, ServiceCode, SiteNote, Subject};
use super::{Here, Stop};
use crate::domain::DomainName;
use crate::filing::{AccessState, FilingNumber, FilingState};
use crate::registry::ledger::Ledger;
use crate::registry::model::Document;
use crate::registry::orders::{
    DomainStanding, Facts, Form, OrderType, SubjectForm, SubjectKind, SubjectStanding,
};
use crate::registry::records::Wanted;
use crate::registry::rules::Refusal;
use crate::registry::rules::limits::{AccountCase, Case, CodeCase, Finding, UnknownCode, findings};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whom an order names as its subject.
#[derive(Debug, Clone)]
pub(in crate::registry) enum SubjectInput {
    /// Nobody: whoever filed the domain.
    Unsaid,
    /// By number, by the record's id, or by name.
    Text(String),
    /// In so many words.
    Form(SubjectForm),
}

/// What was found.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) subject: SubjectForm,
    pub(super) record: Option<Subject>,
    /// The subject's live documents.
    pub(super) live: Vec<(Arc<str>, Document)>,
    /// The domain's own document.
    pub(super) document: Option<Document>,
    /// All names of the domain's site.
    pub(super) site_domains: Vec<String>,
    pub(super) note: Option<SiteNote>,
    pub(super) facts: Facts,
}

/// Whether a document is of a filing that has a number and was not given up.
pub(in crate::registry) fn is_live(document: &Document) -> bool {
    matches!(document.state, FilingState::Filed | FilingState::Restricted)
}

fn is_here(document: &Document, here: &str) -> bool {
    document.access.0.get(here) == Some(&AccessState::Active)
}

/// The subject's number in a document's.
pub(super) fn subject_number(document: &Document) -> Option<String> {
    let number = FilingNumber::parse(document.number.as_deref()?).ok()?;
    Some(number.subject().to_string())
}

/// The live documents under a subject's number.
pub(in crate::registry) fn live_documents(
    ledger: &Ledger,
    number: &str,
) -> Result<Vec<(Arc<str>, Document)>, Wanted> {
    let names = ledger.cabinet.names_of_number(number)?;
    let document = |name: &Arc<str>| Some((name.clone(), ledger.document(name)?.clone()));
    Ok(names.iter().filter_map(document).filter(|(_, it)| is_live(it)).collect())
}

pub(super) fn survey(
    ledger: &Ledger,
    here: &Here,
    input: &SubjectInput,
    domain: Option<&DomainName>,
) -> Result<Survey, Stop> {
    let document = match domain {
        Some(domain) => {
            ledger.cabinet.need(Wanted::Domain(domain.as_str().into()))?;
            ledger.document(domain.as_str()).cloned()
        }
        None => None,
    };
    let filed = document.as_ref().filter(|it| is_live(it));
    let (mut subject, record) = resolve(ledger, input, filed)?;
    let live = match &subject.number {
        Some(number) => live_documents(ledger, number)?,
        None => Vec::new(),
    };
    complete(&mut subject, &live);
    let number = filed.and_then(|it| it.site());
    let note = match number {
        Some(number) => ledger.cabinet.record::<SiteNote>(number)?,
        None => None,
    };
    let of_site = live.iter().filter(|(_, it)| number.is_some() && it.site() == number);
    let site_domains = of_site.map(|(name, _)| name.to_string()).collect();
    let is_elsewhere = |(id, state): (&String, &AccessState)| {
        *id != here.provider && matches!(state, AccessState::Active | AccessState::Cancelled)
    };
    let facts = Facts {
        subject: standing(&live, &here.provider),
        domain: domain_standing(filed, &subject, &here.provider),
        was_elsewhere: filed.is_some_and(|it| it.access.0.iter().any(is_elsewhere)),
        is_in_account: note.as_ref().is_some_and(|it| it.account.is_some()),
    };
    Ok(Survey { subject, record, live, document, site_domains, note, facts })
}

fn standing(live: &[(Arc<str>, Document)], here: &str) -> SubjectStanding {
    if live.is_empty() {
        SubjectStanding::Unfiled
    } else if live.iter().any(|(_, it)| is_here(it, here)) {
        SubjectStanding::Here
    } else {
        SubjectStanding::Elsewhere
    }
}

fn domain_standing(filed: Option<&Document>, subject: &SubjectForm, here: &str) -> DomainStanding {
    let Some(document) = filed else { return DomainStanding::New };
    if subject_number(document) != subject.number {
        DomainStanding::OfAnother
    } else if document.state == FilingState::Restricted {
        DomainStanding::Restricted
    } else if is_here(document, here) {
        DomainStanding::Here
    } else {
        DomainStanding::Elsewhere
    }
}

/// Fills in what filings say of a subject that left it out.
fn complete(subject: &mut SubjectForm, live: &[(Arc<str>, Document)]) {
    let about = live.iter().map(|(_, it)| &it.about);
    if subject.name.is_empty() {
        subject.name = about.clone().find_map(|it| it.subject.as_deref()).unwrap_or_default().to_owned();
        let kind = about.clone().find_map(|it| SubjectKind::parse(it.subject_type.as_deref()?));
        subject.kind = kind.unwrap_or(subject.kind);
    }
    if subject.files_in().is_none() {
        let number = subject.number.as_deref().and_then(|it| FilingNumber::parse(it).ok());
        subject.province = number.and_then(|it| it.province());
    }
}

/// The subject that is meant: its words, its number where it has one, its record where there is one.
fn resolve(
    ledger: &Ledger,
    input: &SubjectInput,
    filed: Option<&Document>,
) -> Result<(SubjectForm, Option<Subject>), Stop> {
    let cabinet = &ledger.cabinet;
    let by_number = |number: String| -> Result<(SubjectForm, Option<Subject>), Stop> {
        let record = cabinet.found::<Subject>("number", &number)?.pop();
        let form = record.as_ref().map(|it| it.subject.clone()).unwrap_or_default();
        Ok((SubjectForm { number: Some(number), ..form }, record))
    };
    match input {
        SubjectInput::Unsaid => match filed.and_then(subject_number) {
            Some(number) => by_number(number),
            None => Err(subject_needed().into()),
        },
        SubjectInput::Text(text) => {
            if let Ok(number) = FilingNumber::parse(text) {
                return by_number(number.subject().to_string());
            }
            if let Some(record) = cabinet.record::<Subject>(text)? {
                return Ok((record.subject.clone(), Some(record)));
            }
            let named = SubjectForm { name: text.trim().to_owned(), ..SubjectForm::default() };
            by_words(ledger, named, filed)
        }
        SubjectInput::Form(form) => match &form.number {
            Some(number) => {
                let number = FilingNumber::parse(number)
                    .map_err(|error| Refusal::new("invalid_number", error.to_string(), "主体备案号无效"))?;
                let (known, record) = by_number(number.subject().to_string())?;
                let words = SubjectForm { number: known.number, ..form.clone() };
                Ok((if form.name.is_empty() { known_with(known.name, words) } else { words }, record))
            }
            None => by_words(ledger, form.clone(), filed),
        },
    }
}

fn known_with(name: String, form: SubjectForm) -> SubjectForm {
    SubjectForm { name, ..form }
}

/// A subject without a number at hand: known by its certificate, else an organisation by its name.
fn by_words(
    ledger: &Ledger,
    form: SubjectForm,
    filed: Option<&Document>,
) -> Result<(SubjectForm, Option<Subject>), Stop> {
    let name = form.name.trim();
    if name.is_empty() {
        return Err(subject_needed().into());
    }
    let cabinet = &ledger.cabinet;
    let mut records = match &form.certificate {
        Some(certificate) => cabinet.found::<Subject>("certificate", certificate.number.trim())?,
        None => Vec::new(),
    };
    if records.is_empty() && form.kind != SubjectKind::Individual {
        records = cabinet.found::<Subject>("name", name)?;
        // Of one name and another certificate: someone else.
        records.retain(|it| form.certificate.is_none() || it.subject.certificate.is_none());
    }
    if records.len() == 1
        && let Some(record) = records.pop()
    {
        let number = record.subject.number.clone();
        let known = if form.certificate.is_some() { form } else { record.subject.clone() };
        return Ok((SubjectForm { number, ..known }, Some(record)));
    }
    if let Some(document) = filed.filter(|it| it.about.subject.as_deref() == Some(name)) {
        return Ok((SubjectForm { number: subject_number(document), ..form }, None));
    }
    // People of one name are many; an organisation's is its own.
    if form.kind == SubjectKind::Individual {
        return Ok((form, None));
    }
    let named = cabinet.names_of_name(name)?.iter().filter_map(|it| ledger.document(it));
    let mut numbers: BTreeSet<String> = named.filter(|it| is_live(it)).filter_map(subject_number).collect();
    if numbers.len() > 1 {
        return Err(Refusal::new(
            "subject_ambiguous",
            format!("`{name}` has several numbers: say which, in `subject`"),
            "该名称对应多个主体备案号，请填写主体备案号",
        )
        .into());
    }
    Ok((SubjectForm { number: numbers.pop_first(), ..form }, None))
}

fn subject_needed() -> Refusal {
    Refusal::new(
        "subject_needed",
        "say who files, in `subject`: a number (京ICP备12345678号), or an object with name, kind and certificate",
        "请填写主体 `subject`：主体备案号，或包含名称、性质和证件的对象",
    )
}

/// What an order is held against beside its survey.
pub(super) struct Question<'a> {
    pub(super) order_type: OrderType,
    /// Not to be held against itself.
    pub(super) order_id: &'a str,
    pub(super) domain: Option<&'a DomainName>,
    pub(super) form: &'a Form,
}

/// What all rules say.
pub(super) fn hold_against_rules(
    ledger: &Ledger,
    here: &Here,
    survey: &Survey,
    question: &Question<'_>,
) -> Result<Vec<Finding>, Stop> {
    let account = account_case(ledger, survey, question)?;
    let code = code_case(ledger, question)?;
    let sites: BTreeSet<_> = survey.live.iter().filter_map(|(_, it)| it.site()).collect();
    let is_active_elsewhere =
        |(id, state): (&String, &AccessState)| *id != here.provider && *state == AccessState::Active;
    let others = survey
        .document
        .as_ref()
        .map_or(0, |it| it.access.0.iter().filter(|(id, state)| is_active_elsewhere((id, state))).count());
    Ok(findings(&Case {
        order_type: question.order_type,
        domain: question.domain,
        subject: &survey.subject,
        is_subject_filed: survey.subject.number.is_some(),
        form: question.form,
        account: &account,
        code: code.as_ref().map(|it| it.as_ref().map_err(|_| UnknownCode)),
        live_sites: u32::try_from(sites.len()).unwrap_or(u32::MAX),
        site_domains: &survey.site_domains,
        other_accesses: u32::try_from(others).unwrap_or(u32::MAX),
        today: here.today,
        limits: &here.rules.limits,
    }))
}

fn account_case(ledger: &Ledger, survey: &Survey, question: &Question<'_>) -> Result<AccountCase, Stop> {
    let Some(id) = &question.form.account else { return Ok(AccountCase::default()) };
    let bound_to = ledger.cabinet.record::<Account>(id)?.and_then(|it| it.subject);
    let own = survey.record.as_ref().map(|it| it.id.as_str());
    let has_other_subject = bound_to.is_some_and(|it| Some(it.as_str()) != own);
    let has_open_order = match question.domain {
        Some(domain) => {
            let orders = ledger.cabinet.found::<Order>("domain", domain.as_str())?;
            let is_beside = |it: &Order| it.id != question.order_id && it.stage.is_open();
            orders.iter().filter(|it| is_beside(it)).any(|it| it.details.account.as_ref() == Some(id))
        }
        None => false,
    };
    Ok(AccountCase { has_other_subject, has_open_order })
}

fn code_case(
    ledger: &Ledger,
    question: &Question<'_>,
) -> Result<Option<Result<CodeCase, UnknownCode>>, Stop> {
    let Some(code) = question.form.service_code.as_ref().filter(|_| question.order_type.is_file()) else {
        return Ok(None);
    };
    let cabinet = &ledger.cabinet;
    let Some(held) = cabinet.record::<ServiceCode>(code)? else { return Ok(Some(Err(UnknownCode))) };
    let Some(server) = cabinet.record::<Server>(&held.server)? else { return Ok(Some(Err(UnknownCode))) };
    let of_server = cabinet.found::<ServiceCode>("server", &server.id)?;
    let used = of_server.iter().filter(|it| it.used_by.is_some()).count();
    let orders = cabinet.found::<Order>("service_code", code)?;
    let is_beside = |it: &Order| it.id != question.order_id && it.stage.is_under_review();
    Ok(Some(Ok(CodeCase {
        product: server.product,
        account: held.account.clone(),
        is_used: held.used_by.is_some(),
        is_in_other_order: orders.iter().any(is_beside),
        used: u32::try_from(used).unwrap_or(u32::MAX),
        quota: server.quota,
    })))
}
