//! Each limit by rows: what is changed about an order that breaks none, and what is then found.

use super::*;
use crate::config::FilingRules;
use crate::filing::Province;
use crate::registry::orders::{
    Certificate, CertificateKind, Changes, Content, HolderIs, PriorApproval, Registration, SubjectKind,
};
use crate::verdict::Scenario;
use jiff::civil::date;

/// An order and what is known, to be changed.
struct Told {
    order_type: OrderType,
    domain: &'static str,
    subject: SubjectForm,
    is_subject_filed: bool,
    form: Form,
    account: AccountCase,
    code: Option<Result<CodeCase, UnknownCode>>,
    live_sites: u32,
    site_domains: Vec<String>,
    other_accesses: u32,
}

impl Told {
    fn good() -> Self {
        let certificate = Certificate {
            kind: CertificateKind::BusinessLicence,
            number: "91110000600007D71X".into(),
            province: Some(Province::Beijing),
        };
        let registration = Registration {
            registrar: "示例注册商".into(),
            expires_on: date(2027, 1, 1),
            holder: "示例公司".into(),
            holder_is: HolderIs::Subject,
            holder_verified: true,
            proof: false,
        };
        let site = SiteForm {
            name: Some("示例科技".into()),
            content: vec![Content::General],
            ..SiteForm::default()
        };
        Self {
            order_type: OrderType::First,
            domain: "example.com",
            subject: SubjectForm {
                name: "示例公司".into(),
                certificate: Some(certificate),
                ..SubjectForm::default()
            },
            is_subject_filed: false,
            form: Form {
                account: Some("a1".into()),
                service_code: Some("c1".into()),
                site: Some(site),
                registration: Some(registration),
                real_person_verified: true,
                ..Form::default()
            },
            account: AccountCase::default(),
            code: Some(Ok(CodeCase {
                product: Product::Server,
                account: Some("a1".into()),
                is_used: false,
                is_in_other_order: false,
                used: 0,
                quota: 5,
            })),
            live_sites: 0,
            site_domains: vec!["example.com".into()],
            other_accesses: 0,
        }
    }

    fn found(&self) -> Vec<(&'static str, Weight)> {
        let limits = FilingRules::default().limits;
        let domain = DomainName::from_user(self.domain).unwrap();
        let case = Case {
            order_type: self.order_type,
            domain: Some(&domain),
            subject: &self.subject,
            is_subject_filed: self.is_subject_filed,
            form: &self.form,
            account: &self.account,
            code: self.code.as_ref().map(|it| it.as_ref().map_err(|_| UnknownCode)),
            live_sites: self.live_sites,
            site_domains: &self.site_domains,
            other_accesses: self.other_accesses,
            today: date(2026, 11, 25),
            limits: &limits,
        };
        // A rule is known by one name only.
        for (name, rule) in LIMITS {
            assert!(rule(&case).is_none_or(|it| it.refusal.rule == *name), "{name}");
        }
        findings(&case).into_iter().map(|it| (it.refusal.rule, it.weight)).collect()
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut Told), expected: &[(&'static str, Weight)]) {
    let mut told = Told::good();
    change(&mut told);
    assert_eq!(told.found(), expected);
}

fn site(told: &mut Told) -> &mut SiteForm {
    told.form.site.as_mut().unwrap()
}

fn registration(told: &mut Told) -> &mut Registration {
    told.form.registration.as_mut().unwrap()
}

fn code(told: &mut Told) -> &mut CodeCase {
    told.code.as_mut().unwrap().as_mut().unwrap()
}

fn certificate(told: &mut Told, kind: CertificateKind, province: Province) {
    told.subject.certificate = Some(Certificate { kind, number: "1".into(), province: Some(province) });
}

use Weight::{Needed, Noted, Refused};

#[test]
fn a_good_order_breaks_none() {
    check(|_| {}, &[]);
    check(|told| told.is_subject_filed = true, &[]);
    for order_type in OrderType::ALL {
        let mut told = Told::good();
        told.order_type = order_type;
        told.form.changes = Some(Changes::default());
        told.other_accesses = 1;
        assert_eq!(told.found(), [], "{order_type:?}");
    }
}

#[test]
fn accounts() {
    check(|told| told.account.has_open_order = true, &[("order_under_way", Refused)]);
    check(|told| told.form.account = None, &[("account_needed", Needed)]);
    check(|told| told.account.has_other_subject = true, &[("one_account_one_subject", Refused)]);
}

#[test]
fn subjects() {
    check(|told| told.subject.certificate = None, &[("subject_details_needed", Needed)]);
    check(
        |told| {
            told.is_subject_filed = true;
            told.subject.certificate = None;
            told.subject.province = Some(Province::Beijing);
        },
        &[],
    );
    for (province, live_sites, expected) in [
        (Province::Hubei, 0, None),
        (Province::Hubei, 1, Some(("sites_per_subject", Refused))),
        (Province::Hunan, 1, Some(("sites_per_subject", Refused))),
        (Province::Beijing, 30, None),
    ] {
        check(
            |told| {
                certificate(told, CertificateKind::BusinessLicence, province);
                told.live_sites = live_sites;
            },
            expected.as_slice(),
        );
    }
    check(|told| told.subject.province = Some(Province::Tianjin), &[("province_of_certificate", Refused)]);
    check(|told| told.form.real_person_verified = false, &[("real_person_verification", Needed)]);
    check(|told| told.subject.principal_from_outside = true, &[("manager_face_verification", Needed)]);
    check(
        |told| {
            told.subject.principal_from_outside = true;
            site(told).manager_face_verified = true;
        },
        &[],
    );
}

#[test]
fn individuals_elsewhere() {
    let moved = |permit: Option<Province>| {
        move |told: &mut Told| {
            told.subject.kind = SubjectKind::Individual;
            certificate(told, CertificateKind::IdCard, Province::Henan);
            told.subject.province = Some(Province::Shanghai);
            told.form.residence_permit = permit;
        }
    };
    check(moved(None), &[("residence_permit", Needed)]);
    check(moved(Some(Province::Beijing)), &[("residence_permit", Needed)]);
    check(moved(Some(Province::Shanghai)), &[]);
}

#[test]
fn foreign_companies() {
    let foreign = |kind: CertificateKind, province: Province| {
        move |told: &mut Told| {
            told.subject.kind = SubjectKind::ForeignEnterprise;
            certificate(told, kind, province);
        }
    };
    check(
        foreign(CertificateKind::BusinessLicence, Province::Beijing),
        &[("foreign_company_certificate", Refused)],
    );
    check(foreign(CertificateKind::BranchLicence, Province::Hainan), &[]);
    check(foreign(CertificateKind::RepresentativeOffice, Province::Beijing), &[]);
    check(
        foreign(CertificateKind::RepresentativeOffice, Province::Hainan),
        &[("representative_office", Refused)],
    );
    check(
        |told| {
            foreign(CertificateKind::RepresentativeOffice, Province::Beijing)(told);
            site(told).commercial = true;
        },
        &[("representative_office", Refused), ("commercial_licence", Noted)],
    );
}

#[test]
fn domains() {
    check(|told| told.domain = "example.zip", &[("suffix_not_approved", Refused)]);
    check(|told| told.domain = "例子.中国", &[]);
    check(|told| told.form.registration = None, &[("registration_needed", Needed)]);
    check(|told| registration(told).registrar = " ".into(), &[("registrar_not_approved", Refused)]);
    check(|told| registration(told).expires_on = date(2026, 11, 24), &[("domain_expired", Refused)]);
    check(|told| registration(told).expires_on = date(2026, 11, 25), &[]);
    check(|told| registration(told).holder_verified = false, &[("holder_not_verified", Refused)]);
    let holder = |holder: &'static str, is: HolderIs, proof: bool| {
        move |told: &mut Told| {
            told.subject.legal_representative = Some("张三".into());
            let registration = registration(told);
            registration.holder = holder.into();
            registration.holder_is = is;
            registration.proof = proof;
        }
    };
    let refused = &[("holder_not_subject", Refused)];
    check(holder("别的公司", HolderIs::Subject, true), refused);
    check(holder("张三", HolderIs::LegalRepresentative, false), &[]);
    check(holder("李四", HolderIs::LegalRepresentative, true), refused);
    check(holder("李四", HolderIs::Shareholder, false), refused);
    check(holder("李四", HolderIs::SeniorManager, true), &[]);
    check(
        |told| {
            holder("张三", HolderIs::LegalRepresentative, true)(told);
            told.subject.kind = SubjectKind::Individual;
        },
        refused,
    );
}

#[test]
fn governments() {
    let of = |kind: SubjectKind, domain: &'static str| {
        move |told: &mut Told| {
            told.subject.kind = kind;
            told.domain = domain;
        }
    };
    use SubjectKind::{Enterprise, Government, Institution, InstitutionWithoutDuties};
    let assisted = ("assisted_handling", Noted);
    check(of(Government, "example.com"), &[("government_suffix", Refused)]);
    check(of(Government, "town.gov.cn"), &[]);
    check(of(Government, "政府.政务"), &[]);
    check(of(Government, "unit.town.gov.cn"), &[assisted]);
    check(of(Institution, "unit.town.gov.cn"), &[assisted]);
    check(of(Enterprise, "town.gov.cn"), &[]);
    check(of(Enterprise, "unit.town.gov.cn"), &[("not_a_government_body", Refused), assisted]);
    check(of(InstitutionWithoutDuties, "town.gov.cn"), &[("institution_on_government_suffix", Refused)]);
    check(of(InstitutionWithoutDuties, "example.com"), &[]);
}

#[test]
fn sites() {
    let named = |kind: SubjectKind, name: &'static str| {
        move |told: &mut Told| {
            told.subject.kind = kind;
            site(told).name = Some(name.into());
        }
    };
    use SubjectKind::{Enterprise, Individual};
    let refused = &[("site_name", Refused)];
    check(|told| site(told).name = None, &[("site_name", Needed)]);
    check(named(Enterprise, "示例"), refused);
    check(named(Enterprise, "123456"), refused);
    check(named(Enterprise, "中国示例网"), refused);
    check(named(Enterprise, "示例商城"), &[]);
    check(named(Individual, "示例商城"), refused);
    check(named(Individual, "我的笔记"), &[]);
    check(
        |told| {
            told.subject.name = "中国示例集团".into();
            registration(told).holder = told.subject.name.clone();
            site(told).name = Some("中国示例网".into());
        },
        &[],
    );
    let about = |kind: SubjectKind, content: Content, prior: Option<PriorApproval>| {
        move |told: &mut Told| {
            told.subject.kind = kind;
            site(told).content = vec![content];
            site(told).prior_approval = prior;
        }
    };
    check(about(Individual, Content::Business, None), &[("individual_content", Refused)]);
    check(about(Enterprise, Content::Business, None), &[]);
    check(about(Enterprise, Content::Forum, None), &[("forum", Refused)]);
    check(about(Individual, Content::Forum, None), &[("forum", Refused)]);
    let needed = &[("prior_approval", Needed)];
    check(about(Enterprise, Content::News, None), needed);
    check(about(Enterprise, Content::Medicine, Some(PriorApproval::Document(" ".into()))), needed);
    check(about(Enterprise, Content::Medicine, Some(PriorApproval::Document("京-1".into()))), &[]);
    check(about(Enterprise, Content::Finance, Some(PriorApproval::Statement("无需".into()))), &[]);
    check(|told| site(told).commercial = true, &[("commercial_licence", Noted)]);
}

#[test]
fn changes_and_cancellations() {
    let change = |domains: &'static [&'static str], has: &'static [&'static str]| {
        move |told: &mut Told| {
            told.order_type = OrderType::Change;
            let list = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
            told.form.changes = Some(Changes { domains: Some(list(domains)), ..Changes::default() });
            told.site_domains = list(has);
        }
    };
    let refused = ("names_only_dropped", Refused);
    check(change(&["a.cn"], &["a.cn", "b.cn"]), &[]);
    check(change(&["a.cn", "b.cn"], &["a.cn", "b.cn"]), &[]);
    check(change(&["c.cn"], &["a.cn", "b.cn"]), &[refused]);
    check(change(&[], &["a.cn", "b.cn"]), &[refused]);
    check(change(&["b.cn"], &["a.cn"]), &[refused]);
    check(change(&["a.cn", "b.cn"], &["a.cn"]), &[("one_domain_per_site", Refused), refused]);
    check(|told| told.order_type = OrderType::Change, &[("changes_needed", Needed)]);
    let cancel = |others: u32, confirmed: bool| {
        move |told: &mut Told| {
            told.order_type = OrderType::CancelAccess;
            told.other_accesses = others;
            told.form.confirm_empty_shell = confirmed;
        }
    };
    check(cancel(0, false), &[("last_access", Needed)]);
    check(cancel(0, true), &[("last_access", Noted)]);
    check(cancel(1, false), &[]);
}

#[test]
fn service_codes() {
    check(
        |told| {
            told.form.service_code = None;
            told.code = None;
        },
        &[("service_code_needed", Needed)],
    );
    check(
        |told| {
            told.form.service_code = None;
            told.code = None;
            told.form.scenario = Some(Scenario::Shop);
        },
        &[],
    );
    check(|told| told.code = Some(Err(UnknownCode)), &[("service_code_unknown", Refused)]);
    check(|told| code(told).is_used = true, &[("service_code_used", Refused)]);
    check(|told| code(told).account = Some("a2".into()), &[("service_code_of_another_account", Refused)]);
    check(|told| code(told).account = None, &[]);
    check(|told| code(told).is_in_other_order = true, &[("service_code_taken", Refused)]);
    check(|told| code(told).product = Product::LoadBalancer, &[("load_balancer", Refused)]);
    check(|told| code(told).used = 4, &[]);
    check(|told| code(told).used = 5, &[("server_quota", Refused)]);
    assert_eq!(Product::SiteBuilder.fixed_quota(), Some(1));
    assert_eq!(Product::IotBandwidth.fixed_quota(), Some(1));
    assert_eq!(Product::Server.fixed_quota(), None);
}
