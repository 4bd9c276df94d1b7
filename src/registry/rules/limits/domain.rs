//! Limits on the domain: its suffix, its registration, its holder, and names of governments.

use super::{Case, Finding, needed, noted, refused};
use crate::registry::orders::{HolderIs, Registration, SubjectKind};

/// Of orders that bring a domain here.
fn registration<'a>(case: &'a Case<'_>) -> Option<&'a Registration> {
    case.form.registration.as_ref().filter(|_| case.order_type.is_file())
}

/// The domain's suffix is approved by the ministry.
pub(super) fn suffix_not_approved(case: &Case<'_>) -> Option<Finding> {
    let domain = case.domain.filter(|_| case.order_type.is_file())?;
    let suffix = domain.as_str().rsplit('.').next()?;
    if case.limits.domain.suffixes.iter().any(|it| it == suffix) {
        return None;
    }
    refused(
        "suffix_not_approved",
        format!(
            "the ministry has not approved the top-level domain `.{suffix}`: no name under it can be filed"
        ),
        format!("顶级域名 `.{suffix}` 未获工信部批准，不能备案"),
    )
}

/// What the registration says is known.
pub(super) fn registration_needed(case: &Case<'_>) -> Option<Finding> {
    if !case.order_type.is_file() || case.form.registration.is_some() {
        return None;
    }
    needed(
        "registration_needed",
        "say what the domain's `registration` says: registrar, expires_on, holder, holder_verified",
        "请填写域名注册信息 `registration`：注册商、到期日、持有人及其实名认证",
    )
}

/// Its registrar is approved by the ministry.
pub(super) fn registrar_not_approved(case: &Case<'_>) -> Option<Finding> {
    let (registrar, approved) = (&registration(case)?.registrar, &case.limits.domain.registrars);
    let is_good = !registrar.trim().is_empty() && (approved.is_empty() || approved.contains(registrar));
    if is_good {
        return None;
    }
    refused(
        "registrar_not_approved",
        format!(
            "the ministry has not approved the registrar `{registrar}`: move the domain to one that it has"
        ),
        format!("注册商 `{registrar}` 未获工信部批准，请将域名转入已批准的注册商"),
    )
}

/// Its registration is valid.
pub(super) fn domain_expired(case: &Case<'_>) -> Option<Finding> {
    let expires_on = registration(case)?.expires_on;
    if case.today <= expires_on {
        return None;
    }
    refused(
        "domain_expired",
        format!("the domain's registration ended on {expires_on}: renew it"),
        format!("域名注册已于 {expires_on} 到期，请续费"),
    )
}

/// Its holder is real-name verified.
pub(super) fn holder_not_verified(case: &Case<'_>) -> Option<Finding> {
    if registration(case)?.holder_verified {
        return None;
    }
    refused(
        "holder_not_verified",
        "the domain's holder is not real-name verified at the registrar",
        "域名持有人未完成实名认证",
    )
}

/// Its holder is the subject, or for an organisation someone who stands for it.
pub(super) fn holder_not_subject(case: &Case<'_>) -> Option<Finding> {
    let registration = registration(case)?;
    let holder = registration.holder.trim();
    let allows_proof = case.province().is_some_and(|it| it.holder_with_proof);
    let is_organisation = !case.is_individual();
    let stands = match registration.holder_is {
        HolderIs::Subject => holder == case.subject.name.trim(),
        HolderIs::LegalRepresentative => {
            let named = case.subject.legal_representative.as_deref().map(str::trim);
            is_organisation && named == Some(holder)
        }
        HolderIs::Shareholder | HolderIs::SeniorManager => {
            is_organisation && registration.proof && allows_proof
        }
    };
    if stands {
        return None;
    }
    refused(
        "holder_not_subject",
        "the domain's holder must be the subject; for an organisation also its legal representative, or with proof \
         a shareholder or senior manager where the province allows it",
        "域名持有人须为主体本身；单位也可为其法定代表人，或在所在省份允许时凭证明为股东、高级管理人员",
    )
}

/// Government sites use `.gov.cn` or `.政务` names and nothing else.
pub(super) fn government_suffix(case: &Case<'_>) -> Option<Finding> {
    let domain = case.domain.filter(|_| case.order_type.is_file())?;
    if case.subject.kind != SubjectKind::Government || domain.is_government() {
        return None;
    }
    refused(
        "government_suffix",
        format!(
            "a government's site uses `.gov.cn` or `.政务` names and nothing else; `{domain}` is neither"
        ),
        "政府网站只能使用 `.gov.cn` 或 `.政务` 域名",
    )
}

/// Public institutions without administrative duties don't belong there.
pub(super) fn institution_on_government_suffix(case: &Case<'_>) -> Option<Finding> {
    let domain = case.domain.filter(|_| case.order_type.is_file())?;
    if case.subject.kind != SubjectKind::InstitutionWithoutDuties || !domain.is_government() {
        return None;
    }
    refused(
        "institution_on_government_suffix",
        "a public institution without administrative duties does not belong on a government name",
        "不承担行政职能的事业单位不得使用政府域名",
    )
}

/// Whoever is no government body files only the registrable domain.
pub(super) fn not_a_government_body(case: &Case<'_>) -> Option<Finding> {
    let domain = case.domain.filter(|_| case.order_type.is_file())?;
    let is_body = matches!(case.subject.kind, SubjectKind::Government | SubjectKind::Institution);
    let registrable = domain.registrable()?;
    if is_body || !domain.is_government() || registrable == domain.as_str() {
        return None;
    }
    refused(
        "not_a_government_body",
        format!("only government bodies have filings below a registrable domain: file `{registrable}`"),
        format!("非政府单位只能备案可注册的域名 `{registrable}`"),
    )
}

/// Units below `a.gov.cn` are handled by a person.
pub(super) fn assisted_handling(case: &Case<'_>) -> Option<Finding> {
    let domain = case.domain.filter(|_| case.order_type.is_file())?;
    if !domain.is_government() || domain.registrable() == Some(domain.as_str()) {
        return None;
    }
    noted(
        "assisted_handling",
        "a unit below a government's domain: the provider's staff handles the order together with the authority",
        "政府域名下级单位的备案须由接入商人工协助办理",
    )
}
