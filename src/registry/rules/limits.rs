//! What an order is held against: every limit is one small function that has the rule's name.
//!
//! Pure: a case in, findings out. Source: filing-rules, "Limits the registry checks".

mod account;
mod code;
mod domain;
mod site;
mod subject;

#[cfg(test)]
mod tests;

use super::Refusal;
use crate::config::{FilingLimits, ProvinceLimits};
use crate::domain::DomainName;
use crate::registry::orders::{Form, OrderType, SiteForm, SubjectForm};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// How a rule stands with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Weight {
    /// It breaks the rule.
    Refused,
    /// It does not say yet what the rule asks for: it can be saved, not submitted.
    Needed,
    /// It may go on, and someone should know.
    Noted,
}

/// What a rule says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Finding {
    pub(in crate::registry) weight: Weight,
    pub(in crate::registry) refusal: Refusal,
}

/// A service code (备案服务码) and what it is bound to, as far as rules look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct CodeCase {
    pub(in crate::registry) product: Product,
    /// The account that it was given to.
    pub(in crate::registry) account: Option<String>,
    /// Used up by a successful filing.
    pub(in crate::registry) is_used: bool,
    /// Another open order names it.
    pub(in crate::registry) is_in_other_order: bool,
    /// How many codes of its server are used, and may be.
    pub(in crate::registry) used: u32,
    pub(in crate::registry) quota: u32,
}

/// No code of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) struct UnknownCode;

/// What was bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Product {
    /** 云服务器 */
    Server,
    /** 负载均衡 */
    LoadBalancer,
    /** 建站产品 */
    SiteBuilder,
    /** 物联网带宽包 */
    IotBandwidth,
}

impl Product {
    /// How many codes it may have, where it is not a server with a quota of its own.
    pub(in crate::registry) fn fixed_quota(self) -> Option<u32> {
        match self {
            Self::Server => None,
            Self::LoadBalancer => Some(0),
            Self::SiteBuilder | Self::IotBandwidth => Some(1),
        }
    }
}

/// What is known of the account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::registry) struct AccountCase {
    /// Its subject is another one than the order's.
    pub(in crate::registry) has_other_subject: bool,
    /// It has an order under way for the same domain.
    pub(in crate::registry) has_open_order: bool,
}

/// Everything that rules look at.
#[derive(Debug, Clone)]
pub(in crate::registry) struct Case<'a> {
    pub(in crate::registry) order_type: OrderType,
    /// None where the whole subject is given up.
    pub(in crate::registry) domain: Option<&'a DomainName>,
    pub(in crate::registry) subject: &'a SubjectForm,
    /// Whether the subject is one that the registry has a record of, with a number.
    pub(in crate::registry) is_subject_filed: bool,
    pub(in crate::registry) form: &'a Form,
    pub(in crate::registry) account: &'a AccountCase,
    /// None where none is named; `Err` where the named one is not known.
    pub(in crate::registry) code: Option<Result<&'a CodeCase, UnknownCode>>,
    /// Live sites of the subject, anywhere.
    pub(in crate::registry) live_sites: u32,
    /// The site's names, where there is one.
    pub(in crate::registry) site_domains: &'a [String],
    /// Active accesses of the site at other providers.
    pub(in crate::registry) other_accesses: u32,
    /// The day in UTC+8.
    pub(in crate::registry) today: Date,
    pub(in crate::registry) limits: &'a FilingLimits,
}

/// A rule: its name, and what it says.
type Rule = (&'static str, fn(&Case<'_>) -> Option<Finding>);

/// Every limit, in the order in which an order is held against them.
pub(in crate::registry) const LIMITS: &[Rule] = &[
    ("order_under_way", account::order_under_way),
    ("account_needed", account::account_needed),
    ("one_account_one_subject", account::one_account_one_subject),
    ("subject_details_needed", subject::subject_details_needed),
    ("sites_per_subject", subject::sites_per_subject),
    ("province_of_certificate", subject::province_of_certificate),
    ("residence_permit", subject::residence_permit),
    ("foreign_company_certificate", subject::foreign_company_certificate),
    ("representative_office", subject::representative_office),
    ("manager_face_verification", subject::manager_face_verification),
    ("real_person_verification", subject::real_person_verification),
    ("suffix_not_approved", domain::suffix_not_approved),
    ("registration_needed", domain::registration_needed),
    ("registrar_not_approved", domain::registrar_not_approved),
    ("domain_expired", domain::domain_expired),
    ("holder_not_verified", domain::holder_not_verified),
    ("holder_not_subject", domain::holder_not_subject),
    ("government_suffix", domain::government_suffix),
    ("institution_on_government_suffix", domain::institution_on_government_suffix),
    ("not_a_government_body", domain::not_a_government_body),
    ("assisted_handling", domain::assisted_handling),
    ("one_domain_per_site", site::one_domain_per_site),
    ("names_only_dropped", site::names_only_dropped),
    ("changes_needed", site::changes_needed),
    ("site_name", site::site_name),
    ("individual_content", site::individual_content),
    ("forum", site::forum),
    ("prior_approval", site::prior_approval),
    ("commercial_licence", site::commercial_licence),
    ("last_access", site::last_access),
    ("service_code_needed", code::service_code_needed),
    ("service_code_unknown", code::service_code_unknown),
    ("service_code_used", code::service_code_used),
    ("service_code_of_another_account", code::service_code_of_another_account),
    ("service_code_taken", code::service_code_taken),
    ("load_balancer", code::load_balancer),
    ("server_quota", code::server_quota),
];

/// What all rules say, refusals first.
pub(in crate::registry) fn findings(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<_> = LIMITS.iter().filter_map(|(_, rule)| rule(case)).collect();
    found.sort_by_key(|it| match it.weight {
        Weight::Refused => 0,
        Weight::Needed => 1,
        Weight::Noted => 2,
    });
    found
}

impl Case<'_> {
    fn site(&self) -> Option<&SiteForm> {
        self.form.site.as_ref()
    }

    fn province(&self) -> Option<ProvinceLimits> {
        Some(self.limits.province(self.subject.files_in()?, self.today))
    }

    /// What a change says the subject is called then, else its name.
    fn is_individual(&self) -> bool {
        self.subject.kind == crate::registry::orders::SubjectKind::Individual
    }
}

fn refused(rule: &'static str, detail: impl Into<String>, zh: impl Into<String>) -> Option<Finding> {
    Some(Finding { weight: Weight::Refused, refusal: Refusal::new(rule, detail, zh) })
}

fn needed(rule: &'static str, detail: impl Into<String>, zh: impl Into<String>) -> Option<Finding> {
    Some(Finding { weight: Weight::Needed, refusal: Refusal::new(rule, detail, zh) })
}

fn noted(rule: &'static str, detail: impl Into<String>, zh: impl Into<String>) -> Option<Finding> {
    Some(Finding { weight: Weight::Noted, refusal: Refusal::new(rule, detail, zh) })
}
