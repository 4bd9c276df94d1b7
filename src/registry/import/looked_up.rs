//! What the ministry's look-up (工信部备案查询) tells of a filing, as the fields of ours.
//!
//! Pure. The look-up does not tell by whom a site is connected: that is given with the import, or not known.

use crate::filing::{FilingNumber, FilingState};
use crate::registry::model::{Access, Line};
use crate::registry::rules::Refusal;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The fields that are not already ours.
#[derive(Debug, Default)]
pub(super) struct LookedUp {
    /// The subject's number; on some pages the site's.
    pub(super) main_licence: Option<String>,
    /// What kind of person or organisation, in Chinese.
    pub(super) nature: Option<String>,
    /// 是 or 否.
    pub(super) limit_access: Option<String>,
    /// When the authority last passed it.
    pub(super) updated_at: Option<String>,
}

/// An object of the look-up's list, as its API answers; `access` may be added.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Listed {
    domain: String,
    service_licence: Option<String>,
    main_licence: Option<String>,
    unit_name: Option<String>,
    nature_name: Option<String>,
    limit_access: Option<String>,
    update_record_time: Option<String>,
    access: Option<Access>,
    #[serde(rename = "serviceName")]
    site_name: Option<String>,
    #[serde(default, rename = "contentTypeName")]
    _content: IgnoredAny,
    #[serde(default, rename = "domainId")]
    _domain_id: IgnoredAny,
    #[serde(default, rename = "leaderName")]
    _leader: IgnoredAny,
    #[serde(default, rename = "mainId")]
    _main_id: IgnoredAny,
    #[serde(default, rename = "serviceId")]
    _service_id: IgnoredAny,
    #[serde(default, rename = "dataAuditId")]
    _audit_id: IgnoredAny,
    #[serde(default, rename = "mainUnitAddress")]
    _address: IgnoredAny,
    #[serde(default, rename = "serviceType")]
    _service_type: IgnoredAny,
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
}

/// Names that only such an object has.
const MARKS: [&str; 4] = ["serviceLicence", "mainLicence", "unitName", "natureName"];

/// Reads a row of JSON that is the look-up's; `None` where it is not.
pub(super) fn read(text: &[u8]) -> Option<(String, Result<Line, Refusal>)> {
    let has = |mark: &&str| memchr::memmem::find(text, mark.as_bytes()).is_some();
    if !MARKS.iter().any(has) {
        return None;
    }
    let listed: Listed = serde_json::from_slice(text).ok()?;
    let text = |it: Option<String>| it.filter(|it| !it.trim().is_empty());
    let domain = listed.domain.clone();
    let ours = Line {
        domain: listed.domain,
        number: text(listed.service_licence),
        access: listed.access,
        subject: text(listed.unit_name),
        site_name: text(listed.site_name),
        ..Line::default()
    };
    let told = LookedUp {
        main_licence: text(listed.main_licence),
        nature: text(listed.nature_name),
        limit_access: text(listed.limit_access),
        updated_at: text(listed.update_record_time),
    };
    Some((domain, line(ours, &told)))
}

/// A line with what the look-up tells.
pub(super) fn line(mut line: Line, told: &LookedUp) -> Result<Line, Refusal> {
    if let Some(main) = &told.main_licence {
        line.number = Some(number(line.number.take(), main)?);
    }
    if let (None, Some(nature)) = (&line.subject_type, &told.nature) {
        line.subject_type = Some(kind(nature).to_owned());
    }
    if let (None, Some(said)) = (line.state, &told.limit_access) {
        line.state = Some(state(said)?);
    }
    if let Some(said) = &told.updated_at {
        date(said)?;
    }
    Ok(line)
}

/// The site's number, which is one of the subject's.
fn number(service: Option<String>, main: &str) -> Result<String, Refusal> {
    let Some(service) = service else { return Ok(main.to_owned()) };
    let subject = |text: &str| FilingNumber::parse(text).ok().map(|it| it.subject().to_string());
    // Wrong numbers are refused as such, by the rule on numbers.
    match (subject(&service), subject(main)) {
        (Some(of_service), Some(of_main)) if of_service != of_main => Err(Refusal::new(
            "licences_differ",
            format!("`{service}` is no site of the subject `{main}`"),
            format!("网站备案号 `{service}` 不属于主体备案号 `{main}`"),
        )),
        _ => Ok(service),
    }
}

/// Our name of what a subject is; the look-up's own where we have none.
fn kind(nature: &str) -> &str {
    match nature.trim() {
        "个人" => "individual",
        "企业" => "enterprise",
        "政府机关" => "government",
        "事业单位" => "institution",
        "社会团体" | "社会组织" | "群团组织" => "social_organization",
        other => other,
    }
}

fn state(said: &str) -> Result<FilingState, Refusal> {
    match said.trim() {
        "是" => Ok(FilingState::Restricted),
        "否" => Ok(FilingState::Filed),
        other => Err(Refusal::new(
            "invalid_limit_access",
            format!("`{other}`: whether access is restricted (是否限制接入, limitAccess) is 是 or 否"),
            format!("`{other}`：是否限制接入应为“是”或“否”"),
        )),
    }
}

/// Looked at, so that columns that slipped are noticed, and not kept.
fn date(said: &str) -> Result<(), Refusal> {
    let day = said.trim().get(..10).map(|it| it.replace('/', "-"));
    if day.is_some_and(|it| it.parse::<jiff::civil::Date>().is_ok()) {
        return Ok(());
    }
    Err(Refusal::new(
        "invalid_update_time",
        format!("`{said}`: the update time begins with a day, like 2024-05-31"),
        format!("`{said}`：审核日期应如 2024-05-31"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::orders::SubjectKind;

    #[test]
    fn natures_are_kinds_of_subjects() {
        for nature in ["个人", "企业", "政府机关", "事业单位", "社会团体", "社会组织", "群团组织"]
        {
            assert!(SubjectKind::parse(kind(nature)).is_some(), "{nature}");
        }
        assert_eq!(kind("国防机构"), "国防机构");
    }

    #[test]
    fn days_are_looked_at() {
        for good in ["2024-05-31", "2024-05-31 10:20:30", "2024/05/31", " 2024-05-31"] {
            assert_eq!(date(good), Ok(()), "{good}");
        }
        for bad in ["", "企业", "2024-13-01", "24-05-31", "京ICP备12345678号"] {
            assert_eq!(date(bad).unwrap_err().rule, "invalid_update_time", "{bad}");
        }
    }
}
