//! Limits on who files, where, and with what.

use super::{Case, Finding, needed, refused};
use crate::registry::orders::{CertificateKind, SubjectKind};

/// What is asked of a subject that the registry has no record of.
pub(super) fn subject_details_needed(case: &Case<'_>) -> Option<Finding> {
    if !case.order_type.is_file() {
        return None;
    }
    let subject = case.subject;
    let mut missing = Vec::new();
    if subject.name.trim().is_empty() {
        missing.push("name");
    }
    // A number that exists says where it was issued, and who filed was looked at then.
    if !case.is_subject_filed && subject.certificate.is_none() {
        missing.push("certificate");
    }
    if subject.files_in().is_none() {
        missing.push("province");
    }
    if missing.is_empty() {
        return None;
    }
    needed(
        "subject_details_needed",
        format!("say the subject's {}", missing.join(", ")),
        format!("请填写主体信息：{}", missing.join("、")),
    )
}

/// Some provinces cap the number of sites per subject: Hubei and Hunan at one.
pub(super) fn sites_per_subject(case: &Case<'_>) -> Option<Finding> {
    if !case.order_type.issues_site() {
        return None;
    }
    let province = case.subject.files_in()?;
    let most = case.province()?.max_sites?;
    if case.live_sites < most {
        return None;
    }
    let (name, live) = (province.as_str(), case.live_sites);
    refused(
        "sites_per_subject",
        format!("a subject in {name} may have {most} site(s), and this one has {live}"),
        format!("该省份每个主体最多 {most} 个网站，该主体已有 {live} 个"),
    )
}

/// An organisation files in the province of its certificate.
pub(super) fn province_of_certificate(case: &Case<'_>) -> Option<Finding> {
    let issued_in = case.subject.certificate.as_ref()?.province?;
    let files_in = case.subject.files_in()?;
    if case.is_individual() || !case.order_type.is_file() || issued_in == files_in {
        return None;
    }
    refused(
        "province_of_certificate",
        format!("an organisation files where its certificate was issued: in {}", issued_in.as_str()),
        "单位须在证件所在省份备案",
    )
}

/// An individual files elsewhere only with that province's residence permit, where accepted.
pub(super) fn residence_permit(case: &Case<'_>) -> Option<Finding> {
    let home = case.subject.certificate.as_ref()?.province?;
    let files_in = case.subject.files_in()?;
    if !case.is_individual() || !case.order_type.is_file() || home == files_in {
        return None;
    }
    if !case.province()?.residence_permit {
        return refused(
            "residence_permit",
            format!(
                "{} accepts no individuals of other provinces: file in {}",
                files_in.as_str(),
                home.as_str()
            ),
            "该省份不接受外省个人备案，请在证件所在省份备案",
        );
    }
    if case.form.residence_permit == Some(files_in) {
        return None;
    }
    needed(
        "residence_permit",
        format!("an individual of another province needs a residence permit of {}", files_in.as_str()),
        "外省个人须持有该省居住证",
    )
}

/// A foreign company files with its mainland branch's certificate or its representative office's registration.
pub(super) fn foreign_company_certificate(case: &Case<'_>) -> Option<Finding> {
    let certificate = case.subject.certificate.as_ref()?;
    let is_right =
        matches!(certificate.kind, CertificateKind::BranchLicence | CertificateKind::RepresentativeOffice);
    if case.subject.kind != SubjectKind::ForeignEnterprise || !case.order_type.is_file() || is_right {
        return None;
    }
    refused(
        "foreign_company_certificate",
        "a foreign company files with its mainland branch's certificate (`branch_licence`) or its representative \
         office's registration (`representative_office`)",
        "外国企业须以境内分支机构证照或常驻代表机构登记证备案",
    )
}

/// A representative office's registration is accepted by some provinces, never for commercial licences.
pub(super) fn representative_office(case: &Case<'_>) -> Option<Finding> {
    let certificate = case.subject.certificate.as_ref()?;
    if certificate.kind != CertificateKind::RepresentativeOffice || !case.order_type.is_file() {
        return None;
    }
    if case.site().is_some_and(|it| it.commercial) {
        return refused(
            "representative_office",
            "a representative office can't operate services for profit: no licence is given to one",
            "常驻代表机构不得申请经营性许可",
        );
    }
    if case.province()?.representative_office {
        return None;
    }
    refused(
        "representative_office",
        "this province does not accept a representative office's registration: use a branch's certificate",
        "该省份不接受常驻代表机构登记证，请使用境内分支机构证照",
    )
}

/// A principal from outside the mainland needs the site manager's face verification.
pub(super) fn manager_face_verification(case: &Case<'_>) -> Option<Finding> {
    let is_verified = case.site().is_some_and(|it| it.manager_face_verified);
    if !case.subject.principal_from_outside || !case.order_type.is_file() || is_verified {
        return None;
    }
    needed(
        "manager_face_verification",
        "the principal is from outside the mainland: the site's manager is to be verified by face \
         (`site.manager_face_verified`)",
        "主体负责人为境外人士，须由网站负责人完成人脸核验",
    )
}

/// Real-person verification precedes provider review.
pub(super) fn real_person_verification(case: &Case<'_>) -> Option<Finding> {
    if !case.order_type.is_file() || case.form.real_person_verified {
        return None;
    }
    needed(
        "real_person_verification",
        "the applicant's person is to be verified before the provider's review (`real_person_verified`)",
        "提交初审前须完成真实性核验",
    )
}
