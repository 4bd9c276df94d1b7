//! Opening an order, and every step after that.

use super::book::{Event, MAX_EVENTS, Order};
use super::survey::{Question, SubjectInput, Survey, hold_against_rules, survey};
use super::{Deed, Here, Stop, effects};
use crate::config::Due;
use crate::domain::DomainName;
use crate::registry::ledger::Ledger;
use crate::registry::model::Who;
use crate::registry::orders::{Form, Intent, Recognised, Stage, Step, next, recognise};
use crate::registry::rules::limits::{Finding, Weight};
use crate::registry::rules::{self, Refusal};
use crate::registry::versions::version;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

/// Working days that the provider has for its review.
const PROVIDER_REVIEW_DAYS: u16 = 1;
/// Working days that the authority has.
const AUTHORITY_REVIEW_DAYS: u16 = 20;

/// An order as it is handed in.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Opening {
    pub(in crate::registry) intent: Intent,
    pub(in crate::registry) subject: SubjectInput,
    pub(in crate::registry) domain: Option<String>,
    pub(in crate::registry) form: Form,
}

/// Opens an order as a draft.
pub(in crate::registry) fn open(ledger: &Ledger, here: &Here, opening: &Opening) -> Result<Deed, Stop> {
    let domain = domain_of(opening.domain.as_deref(), &opening.form, opening.intent)?;
    words_are_good(&opening.form)?;
    if let SubjectInput::Form(subject) = &opening.subject {
        rules::text("subject.name", Some(subject.name.clone()))?;
    }
    let survey = survey(ledger, here, &opening.subject, domain.as_ref())?;
    let Recognised { order_type, why, why_zh } = recognise(opening.intent, survey.facts, &opening.form)?;
    let question = Question { order_type, order_id: "", domain: domain.as_ref(), form: &opening.form };
    let found = not_refused(hold_against_rules(ledger, here, &survey, &question)?, Weight::Refused)?;
    let mut deed = Deed { is_new: true, ..Deed::default() };
    let id = format!("order-{:08}", deed.count(&ledger.cabinet, "order")?);
    let mut order = Order {
        id,
        intent: opening.intent,
        order_type,
        why: why.to_owned(),
        why_zh: why_zh.to_owned(),
        stage: Stage::Draft,
        provider: here.provider.clone(),
        number: site_number(&survey),
        subject_id: survey.record.as_ref().map(|it| it.id.clone()),
        subject: survey.subject,
        domain: domain.map(|it| it.as_str().to_owned()),
        details: opening.form.clone(),
        created_at: here.at,
        updated_at: here.at,
        due_on: None,
        due_by_calendar: true,
        events: Vec::new(),
        needs: Vec::new(),
        notes: Vec::new(),
        before: None,
        is_marked: false,
    };
    order.found(&found);
    order.stepped(here, "open", None);
    deed.leave(&order);
    Ok(deed)
}

impl Deed {
    fn leave(&mut self, order: &Order) {
        self.keep(order);
        self.version = Some(version(order));
        self.answer = order.shown();
    }
}

/// Takes a step; `words` is the body that came with it.
pub(in crate::registry) fn step(
    ledger: &Ledger,
    here: &Here,
    (id, step): (&str, Step),
    words: &Map<String, Value>,
) -> Result<Deed, Stop> {
    let missing = || Refusal::new("no_such_order", format!("there is no order `{id}`"), "没有该订单");
    let mut order = ledger.cabinet.record::<Order>(id)?.ok_or_else(|| Stop::Missing(missing()))?;
    here.holds(Some(&version(&order)))?;
    next(order.order_type, order.stage, step)?;
    if order.events.len() >= MAX_EVENTS {
        let detail = format!("the order has been through {MAX_EVENTS} steps: open another one");
        return Err(Refusal::new("too_many_steps", detail, "该订单的操作次数过多，请另开订单").into());
    }
    let mut deed = Deed::default();
    let reason = reason(words)?;
    match step {
        Step::Correct => correct(ledger, here, &mut order, words)?,
        Step::Submit => submit(ledger, here, &mut order, &mut deed)?,
        Step::Reject if reason.is_none() => {
            let detail = "say why, in `reason`: the owner has to know what to correct";
            return Err(Refusal::new("reason_needed", detail, "驳回须在 `reason` 中说明原因").into());
        }
        Step::Reject | Step::Withdraw => effects::unmark(ledger, &mut order, &mut deed)?,
        Step::Pass | Step::Verify | Step::Approve => {}
    }
    order.stage = next(order.order_type, order.stage, step)?;
    if order.stage == Stage::Approved {
        approve(ledger, here, &mut order, &mut deed)?;
    }
    order.due(due(here, order.stage));
    order.updated_at = here.at;
    deed.why = Some(match &reason {
        Some(reason) => format!("{} {}: {reason}", order.id, step.as_str()),
        None => format!("{} {}", order.id, step.as_str()),
    });
    order.stepped(here, step.as_str(), reason);
    deed.leave(&order);
    Ok(deed)
}

fn due(here: &Here, stage: Stage) -> Option<Due> {
    let after = |days| Some(here.rules.calendar.after(here.today, days));
    match stage {
        Stage::ProviderReview => after(PROVIDER_REVIEW_DAYS),
        Stage::AuthorityReview => after(AUTHORITY_REVIEW_DAYS),
        Stage::Draft | Stage::SmsVerification | Stage::Approved | Stage::Rejected | Stage::Withdrawn => None,
    }
}

fn reason(words: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let said = words.get("reason").and_then(Value::as_str).map(str::to_owned);
    Ok(rules::text("reason", said)?.map(Into::into))
}

fn domain_of(text: Option<&str>, form: &Form, intent: Intent) -> Result<Option<DomainName>, Refusal> {
    match text {
        Some(text) => rules::filed_name(text).map(Some),
        None if intent == Intent::Deregister && form.whole_subject => Ok(None),
        None => Err(Refusal::new(
            "domain_needed",
            "say which `domain` the order is about",
            "请填写订单涉及的域名 `domain`",
        )),
    }
}

/// Words that end up in documents and keys are held to what those may hold.
fn words_are_good(form: &Form) -> Result<(), Refusal> {
    if let Some(account) = &form.account {
        rules::record_id(account)?;
    }
    rules::text("site.name", form.site.as_ref().and_then(|it| it.name.clone()))?;
    rules::text("service_code", form.service_code.clone())?;
    Ok(())
}

fn site_number(survey: &Survey) -> Option<String> {
    survey.document.as_ref().and_then(|it| it.site()).map(|it| it.to_string())
}

/// The findings, where none weighs as much as `most` or more.
fn not_refused(found: Vec<Finding>, most: Weight) -> Result<Vec<Finding>, Stop> {
    let is_too_much = |it: &Finding| match most {
        Weight::Needed => it.weight != Weight::Noted,
        Weight::Refused | Weight::Noted => it.weight == Weight::Refused,
    };
    if found.iter().any(is_too_much) { Err(Stop::Found(found)) } else { Ok(found) }
}

/// Looks at an order anew, as it stands.
fn looked_at(
    ledger: &Ledger,
    here: &Here,
    order: &Order,
    most: Weight,
) -> Result<(Survey, Recognised, Vec<Finding>), Stop> {
    let domain = domain_of(order.domain.as_deref(), &order.details, order.intent)?;
    let input = SubjectInput::Form(order.subject.clone());
    let survey = survey(ledger, here, &input, domain.as_ref())?;
    let recognised = recognise(order.intent, survey.facts, &order.details)?;
    let question = Question {
        order_type: recognised.order_type,
        order_id: &order.id,
        domain: domain.as_ref(),
        form: &order.details,
    };
    let found = not_refused(hold_against_rules(ledger, here, &survey, &question)?, most)?;
    Ok((survey, recognised, found))
}

impl Order {
    fn recognised(&mut self, recognised: &Recognised, survey: &Survey, found: &[Finding]) {
        self.order_type = recognised.order_type;
        recognised.why.clone_into(&mut self.why);
        recognised.why_zh.clone_into(&mut self.why_zh);
        self.subject = survey.subject.clone();
        self.subject_id = survey.record.as_ref().map(|it| it.id.clone());
        self.number = site_number(survey);
        self.found(found);
    }

    fn found(&mut self, found: &[Finding]) {
        let of =
            |weight| found.iter().filter(move |it| it.weight == weight).map(|it| said(&it.refusal)).collect();
        self.needs = of(Weight::Needed);
        self.notes = of(Weight::Noted);
    }

    fn stepped(&mut self, here: &Here, step: &str, reason: Option<String>) {
        let Who { name, request, .. } = &here.who;
        self.events.push(Event {
            at: here.at,
            who: name.to_string(),
            request: request.as_deref().map(str::to_owned),
            step: step.to_owned(),
            stage: self.stage,
            reason,
        });
    }

    /// As the API shows it.
    pub(in crate::registry) fn shown(&self) -> Value {
        let mut shown = json!(self);
        if let Some(object) = shown.as_object_mut() {
            object.remove("before");
            object.remove("is_marked");
        }
        shown["type_zh"] = self.order_type.zh().into();
        let is_legal = |step: &Step| next(self.order_type, self.stage, *step).is_ok();
        shown["next"] = Step::ALL.iter().filter(|it| is_legal(it)).map(|it| it.as_str()).collect();
        shown
    }
}

/// A rule's word as JSON.
pub(in crate::registry) fn said(refusal: &Refusal) -> Value {
    json!({ "rule": refusal.rule, "detail": refusal.detail, "detail_zh": refusal.detail_zh })
}

/// What is given replaces what was said before; null takes it back.
fn correct(ledger: &Ledger, here: &Here, order: &mut Order, words: &Map<String, Value>) -> Result<(), Stop> {
    let malformed = |error: &dyn std::fmt::Display| {
        Refusal::new("malformed_order", format!("not what an order says: {error}"), "订单内容无效")
    };
    let mut details = json!(order.details);
    for (key, value) in words {
        match key.as_str() {
            "reason" => {}
            "subject" => {
                let number = order.subject.number.take();
                order.subject = serde_json::from_value(value.clone()).map_err(|error| malformed(&error))?;
                order.subject.number = order.subject.number.take().or(number);
            }
            "domain" | "intent" => {
                let detail = format!("`{key}` can't be corrected: withdraw this order and open another one");
                return Err(
                    Refusal::new("order_about_another", detail, "不能更正域名或意图，请另开订单").into()
                );
            }
            _ if value.is_null() => {
                details.as_object_mut().map(|it| it.remove(key));
            }
            _ => details[key] = value.clone(),
        }
    }
    order.details = serde_json::from_value(details).map_err(|error| malformed(&error))?;
    words_are_good(&order.details)?;
    rules::text("subject.name", Some(order.subject.name.clone()))?;
    let (survey, recognised, found) = looked_at(ledger, here, order, Weight::Refused)?;
    order.recognised(&recognised, &survey, &found);
    Ok(())
}

fn submit(ledger: &Ledger, here: &Here, order: &mut Order, deed: &mut Deed) -> Result<(), Stop> {
    let (survey, recognised, found) = looked_at(ledger, here, order, Weight::Needed)?;
    order.recognised(&recognised, &survey, &found);
    effects::mark(order, &survey, deed);
    Ok(())
}

fn approve(ledger: &Ledger, here: &Here, order: &mut Order, deed: &mut Deed) -> Result<(), Stop> {
    let (survey, recognised, _) = looked_at(ledger, here, order, Weight::Needed)?;
    if recognised.order_type != order.order_type {
        let detail = format!(
            "what is known changed since the order was submitted: it would be `{}` now; reject it",
            recognised.order_type.as_str()
        );
        return Err(
            Refusal::new("order_outdated", detail, "提交后情况已变化，订单类型不再适用，请驳回").into()
        );
    }
    effects::approve(ledger, here, order, &survey, deed)
}

/// The last day of a public-security filing.
pub(super) fn public_security_due(opened_on: Date) -> Date {
    /// Days from a site's opening in which it is due.
    const DAYS: i64 = 30;
    opened_on.checked_add(jiff::Span::new().days(DAYS)).unwrap_or(opened_on)
}
