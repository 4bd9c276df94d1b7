//! Which type an order is, from what is known about its subject and its domain.

use super::{Form, Intent, OrderType, Platform};
use crate::registry::rules::Refusal;
use jiff::civil::{Date, date};

/// The last day of the predecessor platform is the day before.
const PREDECESSOR_ENDED: Date = date(2010, 6, 1);

/// Where the subject's live filings are connected. "Here" means an active access here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum SubjectStanding {
    /// It has no live filing.
    Unfiled,
    /// It has, and none is connected here.
    Elsewhere,
    /// At least one site is connected here.
    Here,
}

/// What exactly this name is: its own record, not one that covers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum DomainStanding {
    /// Unfiled, pending or deregistered.
    New,
    /// Filed under another subject.
    OfAnother,
    /// Filed under this subject, and connected here.
    Here,
    /// Filed under this subject, not (or no longer) connected here.
    Elsewhere,
    /// Its site was ordered closed.
    Restricted,
}

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct Facts {
    /// Of the subject.
    pub(in crate::registry) subject: SubjectStanding,
    /// Of the domain.
    pub(in crate::registry) domain: DomainStanding,
    /// Whether any other provider has, or had, an access.
    pub(in crate::registry) was_elsewhere: bool,
    /// Whether the filing is in an account already, or its history says that it was.
    pub(in crate::registry) is_in_account: bool,
}

/// The type, and why it is that one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Recognised {
    /// Which.
    pub(in crate::registry) order_type: OrderType,
    /// In English.
    pub(in crate::registry) why: &'static str,
    /// In Chinese.
    pub(in crate::registry) why_zh: &'static str,
}

/// Recognises the type.
///
/// # Errors
/// The rule by which there is no such order.
pub(in crate::registry) fn recognise(
    intent: Intent,
    facts: Facts,
    form: &Form,
) -> Result<Recognised, Refusal> {
    if facts.domain == DomainStanding::OfAnother {
        return Err(Refusal::new(
            "domain_of_another_subject",
            "the domain is filed under another subject, which must give it up first",
            "该域名已备案在其他主体名下，须先由原主体注销",
        ));
    }
    match intent {
        Intent::File => file(facts),
        Intent::Change => existing(facts, OrderType::Change),
        Intent::CancelAccess => existing(facts, OrderType::CancelAccess),
        Intent::Deregister if form.whole_subject => subject(facts),
        Intent::Deregister => existing(facts, OrderType::Deregister),
        Intent::Claim => claim(facts, form),
        Intent::Import => import(facts, form),
    }
}

fn found(order_type: OrderType, why: &'static str, why_zh: &'static str) -> Result<Recognised, Refusal> {
    Ok(Recognised { order_type, why, why_zh })
}

fn file(facts: Facts) -> Result<Recognised, Refusal> {
    use DomainStanding as Domain;
    use SubjectStanding as Subject;
    match (facts.subject, facts.domain) {
        (_, Domain::Here) => Err(Refusal::new(
            "already_connected",
            "the domain is filed and connected here: to change its filing use the intent `change`",
            "该域名已在此接入；如需变更请提交变更备案",
        )),
        (_, Domain::Restricted) => Err(restricted()),
        (Subject::Unfiled, Domain::New) => found(
            OrderType::First,
            "neither the subject nor the domain has a live filing with anyone",
            "主体和域名均无有效备案",
        ),
        (Subject::Elsewhere, Domain::New) => found(
            OrderType::NewSiteElsewhere,
            "the subject is filed, but only through other providers; the domain is new",
            "主体已备案但未在此接入，域名为新域名",
        ),
        (Subject::Here, Domain::New) => found(
            OrderType::NewSiteHere,
            "the subject is filed here; the domain is new",
            "主体已在此备案，域名为新域名",
        ),
        (Subject::Here, Domain::Elsewhere) => found(
            OrderType::ContinuedAccess,
            "the domain is filed but not connected here; another site of its subject is",
            "域名已备案但未在此接入，主体已有其他网站在此接入",
        ),
        // A subject whose only record of a filing is this domain's is filed by it.
        (Subject::Elsewhere | Subject::Unfiled, Domain::Elsewhere) => found(
            OrderType::NewAccess,
            "subject and domain are filed, and nothing of the subject is connected here",
            "主体和域名均已备案，且主体在此尚无接入",
        ),
        (_, Domain::OfAnother) => Err(not_filed_here()),
    }
}

fn existing(facts: Facts, order_type: OrderType) -> Result<Recognised, Refusal> {
    match facts.domain {
        DomainStanding::Here => {
            found(order_type, "the domain is filed and connected here", "该域名已在此接入")
        }
        // Giving up what the authority closed is always open to its owner.
        DomainStanding::Restricted if order_type != OrderType::Change => {
            found(order_type, "the domain is filed, and its site restricted", "该域名已备案，网站被限制接入")
        }
        DomainStanding::Restricted => Err(restricted()),
        DomainStanding::New | DomainStanding::OfAnother | DomainStanding::Elsewhere => Err(not_filed_here()),
    }
}

fn subject(facts: Facts) -> Result<Recognised, Refusal> {
    if facts.subject == SubjectStanding::Here {
        return found(
            OrderType::Deregister,
            "the subject is filed here; it is given up with all its sites",
            "主体已在此备案，将连同全部网站一并注销",
        );
    }
    Err(not_filed_here())
}

fn claim(facts: Facts, form: &Form) -> Result<Recognised, Refusal> {
    if !matches!(facts.domain, DomainStanding::Here) {
        return Err(not_filed_here());
    }
    if facts.is_in_account {
        return Err(already_imported());
    }
    if facts.was_elsewhere {
        return Err(Refusal::new(
            "connected_elsewhere_since",
            "the filing was connected to another provider since: it can't be claimed",
            "该备案此后曾在其他接入商接入，不能认领",
        ));
    }
    let is_old = form.filed_on.is_some_and(|day| day < PREDECESSOR_ENDED);
    if !is_old || form.platform.is_some_and(|it| it != Platform::Predecessor) {
        return Err(Refusal::new(
            "not_on_predecessor",
            "only a filing made before 2010-06-01 on the predecessor platform can be claimed: say `filed_on`",
            "仅 2010-06-01 前在前身平台办理的备案可以认领，请填写 `filed_on`",
        ));
    }
    found(
        OrderType::Claim,
        "filed before 2010-06-01 on the predecessor platform, and with no other provider since",
        "2010-06-01 前在前身平台办理，此后未在其他接入商接入",
    )
}

fn import(facts: Facts, form: &Form) -> Result<Recognised, Refusal> {
    if !matches!(facts.domain, DomainStanding::Here) {
        return Err(not_filed_here());
    }
    if facts.is_in_account {
        return Err(already_imported());
    }
    if form.platform.is_some_and(|it| it != Platform::Older) {
        return Err(Refusal::new(
            "not_on_older_platform",
            "a filing of the predecessor platform is claimed, not imported",
            "前身平台的备案应认领，而非导入",
        ));
    }
    found(
        OrderType::Import,
        "the filing is connected here and in no account yet",
        "该备案已在此接入，尚未归入任何账号",
    )
}

fn not_filed_here() -> Refusal {
    Refusal::new(
        "not_filed_here",
        "there is no filing of exactly this name (or subject) with an active access here",
        "该域名（或主体）在此没有有效接入的备案",
    )
}

fn already_imported() -> Refusal {
    Refusal::new(
        "already_imported",
        "the filing was brought into an account before: that is done once, and the account stays",
        "该备案已归入账号；只能办理一次，且不能更换账号",
    )
}

fn restricted() -> Refusal {
    Refusal::new(
        "site_restricted",
        "the authority ordered the site closed or restricted: put right what it objected to first",
        "该网站已被责令关闭或限制接入，请先整改",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use DomainStanding as Domain;
    use SubjectStanding as Subject;

    #[track_caller]
    fn check(intent: Intent, subject: Subject, domain: Domain, expected: &str) {
        check_with(
            intent,
            Facts { subject, domain, was_elsewhere: false, is_in_account: false },
            &old(),
            expected,
        );
    }

    #[track_caller]
    fn check_with(intent: Intent, facts: Facts, form: &Form, expected: &str) {
        let found = match recognise(intent, facts, form) {
            Ok(found) => found.order_type.as_str(),
            Err(refusal) => refusal.rule,
        };
        assert_eq!(found, expected, "{intent:?} {facts:?}");
    }

    fn old() -> Form {
        Form { filed_on: Some(date(2010, 5, 31)), ..Form::default() }
    }

    #[test]
    fn filing() {
        let file = Intent::File;
        check(file, Subject::Unfiled, Domain::New, "first");
        check(file, Subject::Elsewhere, Domain::New, "new_site_elsewhere");
        check(file, Subject::Here, Domain::New, "new_site_here");
        check(file, Subject::Elsewhere, Domain::Elsewhere, "new_access");
        check(file, Subject::Here, Domain::Elsewhere, "continued_access");
        for subject in [Subject::Unfiled, Subject::Elsewhere, Subject::Here] {
            check(file, subject, Domain::OfAnother, "domain_of_another_subject");
            check(file, subject, Domain::Restricted, "site_restricted");
            check(file, subject, Domain::Here, "already_connected");
        }
    }

    #[test]
    fn what_is_filed_here() {
        for (intent, name) in [
            (Intent::Change, "change"),
            (Intent::CancelAccess, "cancel_access"),
            (Intent::Deregister, "deregister"),
            (Intent::Claim, "claim"),
            (Intent::Import, "import"),
        ] {
            check(intent, Subject::Here, Domain::Here, name);
            for domain in [Domain::New, Domain::Elsewhere] {
                check(intent, Subject::Here, domain, "not_filed_here");
            }
            check(intent, Subject::Here, Domain::OfAnother, "domain_of_another_subject");
        }
        check(Intent::Change, Subject::Elsewhere, Domain::Restricted, "site_restricted");
        check(Intent::Deregister, Subject::Elsewhere, Domain::Restricted, "deregister");
    }

    #[test]
    fn the_whole_subject() {
        let form = Form { whole_subject: true, ..Form::default() };
        for (subject, expected) in [
            (Subject::Here, "deregister"),
            (Subject::Elsewhere, "not_filed_here"),
            (Subject::Unfiled, "not_filed_here"),
        ] {
            let facts = Facts { subject, domain: Domain::New, was_elsewhere: false, is_in_account: false };
            check_with(Intent::Deregister, facts, &form, expected);
        }
    }

    #[test]
    fn claims_and_imports() {
        let facts = Facts {
            subject: Subject::Here,
            domain: Domain::Here,
            was_elsewhere: false,
            is_in_account: false,
        };
        let on = |day| Form { filed_on: Some(day), ..Form::default() };
        let of = |platform| Form { platform: Some(platform), ..old() };
        check_with(Intent::Claim, facts, &on(date(2010, 6, 1)), "not_on_predecessor");
        check_with(Intent::Claim, facts, &Form::default(), "not_on_predecessor");
        check_with(Intent::Claim, facts, &of(Platform::Older), "not_on_predecessor");
        check_with(Intent::Claim, facts, &of(Platform::Predecessor), "claim");
        check_with(Intent::Import, facts, &of(Platform::Predecessor), "not_on_older_platform");
        let moved = Facts { was_elsewhere: true, ..facts };
        check_with(Intent::Claim, moved, &old(), "connected_elsewhere_since");
        check_with(Intent::Import, moved, &old(), "import");
        let taken = Facts { is_in_account: true, ..facts };
        check_with(Intent::Claim, taken, &old(), "already_imported");
        check_with(Intent::Import, taken, &old(), "already_imported");
    }
}
