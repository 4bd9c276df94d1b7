//! What an order does to filings: while it is under review, once it is approved, and where it ends otherwise.

use super::book::{Account, Order, ServiceCode, SiteNote, Subject};
use super::steps::public_security_due;
use super::survey::Survey;
use super::{Deed, Here, Stop};
use crate::filing::{AccessState, FilingNumber, FilingState};
use crate::registry::ledger::Ledger;
use crate::registry::model::{About, Access, Action, Document, Edit, Line};
use crate::registry::orders::{Changes, OrderType, Platform};
use crate::registry::records::{Counter, Wanted};
use crate::registry::rules::{self, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The highest serial that six digits hold.
const MAX_SERIAL: u64 = 999_999;

impl Deed {
    fn put(&mut self, domain: &str, document: Document) {
        self.edits.push(Edit { domain: domain.into(), action: Action::Put(document) });
    }
}

fn with_access(document: &Document, provider: &str, state: Option<AccessState>) -> Document {
    let mut access = document.access.0.clone();
    match state {
        Some(state) => access.insert(provider.to_owned(), state),
        None => access.remove(provider),
    };
    Document { access: Arc::new(Access(access)), ..document.clone() }
}

/// An order is under review: the name is pending, or its access is.
pub(super) fn mark(order: &mut Order, survey: &Survey, deed: &mut Deed) {
    let Some(domain) = order.domain.clone() else { return };
    let document = survey.document.as_ref();
    if order.order_type.issues_site() {
        if document.is_some_and(|it| it.state == FilingState::Pending) {
            return;
        }
        order.before = document.map(|it| serde_json::json!(Line::of(&domain, it)));
        let access = BTreeMap::from([(order.provider.clone(), AccessState::UnderReview)]);
        deed.put(
            &domain,
            Document {
                number: None,
                state: FilingState::Pending,
                access: Arc::new(Access(access)),
                about: about(order, &About::default()),
            },
        );
        order.is_marked = true;
    } else if let Some(document) = document.filter(|_| order.order_type.is_access())
        && !document.access.0.contains_key(&order.provider)
    {
        // A cancelled access stays one meanwhile: that is what visitors are to be told.
        deed.put(&domain, with_access(document, &order.provider, Some(AccessState::UnderReview)));
        order.is_marked = true;
    }
}

/// An order ended without approval: what it made of the name is taken back.
pub(super) fn unmark(ledger: &Ledger, order: &mut Order, deed: &mut Deed) -> Result<(), Wanted> {
    let (Some(domain), true) = (order.domain.clone(), order.is_marked) else { return Ok(()) };
    ledger.cabinet.need(Wanted::Domain(domain.as_str().into()))?;
    order.is_marked = false;
    let Some(document) = ledger.document(&domain) else { return Ok(()) };
    let before = order.before.take().and_then(|it| serde_json::from_value::<Line>(it).ok());
    if order.order_type.issues_site() {
        if document.state != FilingState::Pending {
            return Ok(());
        }
        match before {
            Some(line) => deed.put(&domain, Document::as_logged(line.into_body())),
            None => deed.edits.push(Edit { domain: domain.as_str().into(), action: Action::Purge }),
        }
    } else if document.access.0.get(&order.provider) == Some(&AccessState::UnderReview) {
        deed.put(&domain, with_access(document, &order.provider, None));
    }
    Ok(())
}

fn about(order: &Order, was: &About) -> About {
    let site_name = order.details.site.as_ref().and_then(|it| it.name.as_deref());
    let or_was = |new: Option<&str>, was: &Option<Box<str>>| new.map(Into::into).or_else(|| was.clone());
    let name = Some(order.subject.name.as_str()).filter(|it| !it.is_empty());
    About {
        subject: or_was(name, &was.subject),
        subject_type: Some(order.subject.kind.as_str().into()),
        site_name: or_was(site_name, &was.site_name),
        public_security_number: was.public_security_number.clone(),
    }
}

pub(super) fn approve(
    ledger: &Ledger,
    here: &Here,
    order: &mut Order,
    survey: &Survey,
    deed: &mut Deed,
) -> Result<(), Stop> {
    order.is_marked = false;
    order.before = None;
    match order.order_type {
        OrderType::First | OrderType::NewSiteElsewhere | OrderType::NewSiteHere => {
            let subject = match (&survey.subject.number, order.order_type) {
                (Some(number), OrderType::NewSiteElsewhere | OrderType::NewSiteHere) => number.clone(),
                _ => issue_subject(ledger, here, order, deed)?,
            };
            let site = issue_site(ledger, &subject, deed)?;
            order.subject.number = Some(subject);
            connect(order, survey, &site, deed);
            order.number = Some(site);
            settle(ledger, here, order, survey, deed)
        }
        OrderType::NewAccess | OrderType::ContinuedAccess => {
            if let Some(site) = order.number.clone() {
                connect(order, survey, &site, deed);
            }
            settle(ledger, here, order, survey, deed)
        }
        OrderType::Change => change(ledger, order, survey, deed),
        OrderType::CancelAccess => {
            if let (Some(domain), Some(document)) = (&order.domain, &survey.document) {
                deed.put(domain, with_access(document, &order.provider, Some(AccessState::Cancelled)));
            }
            Ok(())
        }
        OrderType::Deregister => {
            let is_given_up =
                |name: &str| order.details.whole_subject || survey.site_domains.iter().any(|it| it == name);
            let given_up = survey.live.iter().filter(|(name, _)| is_given_up(name));
            deed.edits
                .extend(given_up.map(|(name, _)| Edit { domain: name.clone(), action: Action::Deregister }));
            Ok(())
        }
        OrderType::Claim | OrderType::Import => {
            let platform =
                if order.order_type == OrderType::Claim { Platform::Predecessor } else { Platform::Older };
            if let Some(number) = &order.number {
                let note = survey.note.clone().unwrap_or_default();
                let account = order.details.account.clone();
                deed.keep(&SiteNote { number: number.clone(), account, platform: Some(platform), ..note });
            }
            keep_subject(ledger, here, order, survey, deed)
        }
    }
}

/// The name is filed under that number, and connected here.
fn connect(order: &Order, survey: &Survey, site: &str, deed: &mut Deed) {
    let Some(domain) = &order.domain else { return };
    let live = survey.document.as_ref().filter(|it| super::is_live(it));
    let nothing = About::default();
    let was = survey.document.as_ref().map_or(&nothing, |it| &it.about);
    let base = Document {
        number: Some(site.into()),
        state: FilingState::Filed,
        access: live.map(|it| it.access.clone()).unwrap_or_default(),
        about: about(order, was),
    };
    deed.put(domain, with_access(&base, &order.provider, Some(AccessState::Active)));
}

/// A subject's number: by province and year, each serial once.
fn issue_subject(ledger: &Ledger, here: &Here, order: &Order, deed: &mut Deed) -> Result<String, Stop> {
    let Some(province) = order.subject.files_in() else {
        return Err(
            Refusal::new("province_needed", "say the subject's `province`", "请填写主体所在省份").into()
        );
    };
    let head = format!("{}ICP备{}", province.glyph(), here.today.year());
    let number = |serial: u64| format!("{head}{serial:06}号");
    let counter = format!("serial {head}");
    let mut serial = ledger.cabinet.record::<Counter>(&counter)?.map_or(1, |it| it.last + 1);
    // The ministry's own numbers come in by imports, and take no serial of ours.
    if !ledger.cabinet.names_of_number(&number(serial))?.is_empty() {
        serial = serial.max(ledger.cabinet.last_serial(&head)? + 1);
    }
    if serial > MAX_SERIAL {
        return Err(Refusal::new(
            "serials_exhausted",
            format!("{head} has no serials left"),
            "本年序号已用尽",
        )
        .into());
    }
    deed.keep(&Counter { id: counter, last: serial });
    Ok(number(serial))
}

/// A site's number under a subject's: an index that was never given before, to a live site or not.
fn issue_site(ledger: &Ledger, subject: &str, deed: &mut Deed) -> Result<String, Wanted> {
    let names = ledger.cabinet.names_of_number(subject)?;
    let numbers = names.iter().filter_map(|it| ledger.document(it)?.number.clone());
    let given = numbers.filter_map(|it| FilingNumber::parse(&it).ok()?.index()).max().unwrap_or(0);
    let counter = format!("sites {subject}");
    let counted = ledger.cabinet.record::<Counter>(&counter)?.map_or(0, |it| it.last);
    let index = counted.max(u64::from(given)) + 1;
    deed.keep(&Counter { id: counter, last: index });
    Ok(format!("{subject}-{index}"))
}

/// What an approval leaves beside the filing: the subject's record, the account's, the used code, the site's clocks.
fn settle(
    ledger: &Ledger,
    here: &Here,
    order: &mut Order,
    survey: &Survey,
    deed: &mut Deed,
) -> Result<(), Stop> {
    if let Some(code) = &order.details.service_code
        && let Some(held) = ledger.cabinet.record::<ServiceCode>(code)?
    {
        deed.keep(&ServiceCode { used_by: Some(order.id.clone()), ..held });
    }
    if let Some(number) = &order.number {
        let mut note = survey.note.clone().unwrap_or_default();
        note.number.clone_from(number);
        note.account = note.account.or_else(|| order.details.account.clone());
        if order.order_type.issues_site() {
            let said = order.details.site.as_ref().and_then(|it| it.opened_on);
            let opened_on = said.unwrap_or(here.today);
            note.opened_on = Some(opened_on);
            note.public_security_due_on = Some(public_security_due(opened_on));
        }
        let registration = order.details.registration.as_ref().map(|it| it.expires_on);
        note.registration_expires_on = registration.or(note.registration_expires_on);
        deed.keep(&note);
    }
    keep_subject(ledger, here, order, survey, deed)
}

/// The subject's record, and the account that files for it and for no other.
fn keep_subject(
    ledger: &Ledger,
    here: &Here,
    order: &mut Order,
    survey: &Survey,
    deed: &mut Deed,
) -> Result<(), Stop> {
    let cabinet = &ledger.cabinet;
    let mut known = survey.record.clone();
    if let (None, Some(number)) = (&known, &order.subject.number) {
        known = cabinet.found::<Subject>("number", number)?.pop();
    }
    if let Some(certificate) = &order.subject.certificate {
        let holder = cabinet.found::<Subject>("certificate", certificate.number.trim())?.pop();
        if let (Some(holder), Some(known)) = (&holder, &known)
            && holder.id != known.id
        {
            let detail = format!("the certificate is that of {} ({})", holder.subject.name, holder.id);
            return Err(Refusal::new("certificate_of_another_subject", detail, "该证件已属于其他主体").into());
        }
        known = known.or(holder);
    }
    let (id, created_at) = match known {
        Some(known) => (known.id, known.created_at),
        None => (format!("subject-{:08}", deed.count(cabinet, "subject")?), here.at),
    };
    order.subject_id = Some(id.clone());
    if let Some(account) = &order.details.account {
        deed.keep(&Account { id: account.clone(), subject: Some(id.clone()) });
    }
    deed.keep(&Subject { id, subject: order.subject.clone(), created_at });
    Ok(())
}

fn change(ledger: &Ledger, order: &mut Order, survey: &Survey, deed: &mut Deed) -> Result<(), Stop> {
    let Some(changes) = order.details.changes.clone() else { return Ok(()) };
    let public_security_number = match &changes.public_security_number {
        Some(number) => Some(rules::public_security_number(number)?),
        None => None,
    };
    let site_name = rules::text("site_name", changes.site_name.clone())?;
    let subject_name = rules::text("subject_name", changes.subject_name.clone())?;
    for (name, document) in &survey.live {
        let is_of_site = survey.site_domains.iter().any(|it| **it == **name);
        if is_of_site && is_dropped(&changes, name) {
            deed.edits.push(Edit { domain: name.clone(), action: Action::Deregister });
            continue;
        }
        let mut changed = document.clone();
        let about = &mut changed.about;
        about.subject = subject_name.clone().or(about.subject.take());
        let kind = changes.subject_kind.map(|it| it.as_str().into());
        about.subject_type = kind.or(about.subject_type.take());
        if is_of_site {
            about.site_name = site_name.clone().or(about.site_name.take());
            about.public_security_number =
                public_security_number.clone().or(about.public_security_number.take());
        }
        if changed != *document {
            deed.put(name, changed);
        }
    }
    if let Some(record) = &survey.record {
        let mut subject = record.subject.clone();
        subject.name = subject_name.map_or(subject.name, Into::into);
        subject.kind = changes.subject_kind.unwrap_or(subject.kind);
        deed.keep(&Subject { subject, ..record.clone() });
    }
    // Untrue data is corrected by a change.
    let number = order.number.as_deref().unwrap_or_default();
    if let Some(note) = ledger.cabinet.record::<SiteNote>(number)?.filter(|it| it.correction.is_some()) {
        deed.keep(&SiteNote { correction: None, ..note });
    }
    Ok(())
}

fn is_dropped(changes: &Changes, name: &str) -> bool {
    let names = |it: &String| rules::filed_name(it).is_ok_and(|it| it.as_str() == name);
    changes.domains.as_ref().is_some_and(|stay| !stay.iter().any(names))
}
