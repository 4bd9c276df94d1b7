//! Limits on the site: its names, what it is called, what it is about, its last access.

use super::{Case, Finding, needed, noted, refused};
use crate::registry::orders::{Content, OrderType, PriorApproval};
use crate::registry::rules::filed_name;

/// One domain per site: a second one is a site of its own.
pub(super) fn one_domain_per_site(case: &Case<'_>) -> Option<Finding> {
    let wanted = case.form.changes.as_ref()?.domains.as_ref()?;
    if case.order_type != OrderType::Change || !(wanted.len() > 1 && case.site_domains.len() == 1) {
        return None;
    }
    refused(
        "one_domain_per_site",
        "a site has exactly one domain: file the other one as a new site",
        "一个网站只能有一个域名：请为其他域名新增网站",
    )
}

/// Names can't be changed or added: a site with several may only drop some.
pub(super) fn names_only_dropped(case: &Case<'_>) -> Option<Finding> {
    let wanted = case.form.changes.as_ref()?.domains.as_ref()?;
    if case.order_type != OrderType::Change {
        return None;
    }
    let is_held = |wanted: &String| {
        filed_name(wanted).is_ok_and(|name| case.site_domains.iter().any(|it| it == name.as_str()))
    };
    let is_subset = wanted.iter().all(is_held);
    if is_subset && !wanted.is_empty() {
        return None;
    }
    refused(
        "names_only_dropped",
        format!(
            "a site's names can't be changed or added, only dropped, and one must stay; it has {}",
            case.site_domains.join(", ")
        ),
        format!("网站域名不能更换或新增，只能减少且至少保留一个；现有 {}", case.site_domains.join("、")),
    )
}

/// A change says what changes.
pub(super) fn changes_needed(case: &Case<'_>) -> Option<Finding> {
    if case.order_type != OrderType::Change || case.form.changes.is_some() {
        return None;
    }
    needed("changes_needed", "say what the order changes, in `changes`", "请在 `changes` 中填写变更内容")
}

/// What sites may be called.
pub(super) fn site_name(case: &Case<'_>) -> Option<Finding> {
    let changed = case.form.changes.as_ref().and_then(|it| it.site_name.as_deref());
    let name = match case.order_type {
        OrderType::Change => changed?,
        it if it.issues_site() => match case.site().and_then(|it| it.name.as_deref()) {
            Some(name) => name,
            None => {
                return needed("site_name", "say the site's name, `site.name`", "请填写网站名称 `site.name`");
            }
        },
        _ => return None,
    };
    let names = &case.limits.site_name;
    let chars = name.trim().chars().count();
    if !(names.min_chars..=names.max_chars).contains(&chars) {
        return refused(
            "site_name",
            format!("a site's name has {} to {} characters", names.min_chars, names.max_chars),
            format!("网站名称应为 {} 至 {} 个字", names.min_chars, names.max_chars),
        );
    }
    if name.trim().chars().all(|char| !char.is_alphabetic()) {
        return refused(
            "site_name",
            "a site's name can't be digits and signs alone",
            "网站名称不能全为数字或符号",
        );
    }
    // Who has the State's name in its own may have it in its site's.
    let is_own = |word: &&String| !case.subject.name.contains(word.as_str());
    let for_individuals = names.forbidden_for_individuals.iter().filter(|_| case.is_individual());
    let words = names.forbidden.iter().filter(is_own).chain(for_individuals);
    let word = words.into_iter().find(|it| name.contains(it.as_str()))?;
    refused(
        "site_name",
        format!("a site of this subject can't have `{word}` in its name"),
        format!("该主体的网站名称不能含有“{word}”"),
    )
}

/// An individual can't file content of a business or industry.
pub(super) fn individual_content(case: &Case<'_>) -> Option<Finding> {
    let is_businesslike = |it: &Content| !matches!(it, Content::General | Content::Forum);
    if !case.is_individual() || !case.site()?.content.iter().any(is_businesslike) {
        return None;
    }
    refused(
        "individual_content",
        "an individual can't file content of a business or industry: file as an organisation",
        "个人不得备案企业或行业内容，请以单位名义备案",
    )
}

/// Forums can't be filed: the approval that they would need is no longer issued.
pub(super) fn forum(case: &Case<'_>) -> Option<Finding> {
    if !case.site()?.content.contains(&Content::Forum) {
        return None;
    }
    refused(
        "forum",
        "forum sites can't be filed: the approval that they would need is no longer issued",
        "论坛类网站不能备案：所需的专项审批已停止办理",
    )
}

/// Content that needs prior approval needs that document, or a statement why none is needed.
pub(super) fn prior_approval(case: &Case<'_>) -> Option<Finding> {
    let site = case.site()?;
    if !site.content.iter().any(|it| it.needs_prior_approval()) {
        return None;
    }
    let text = match &site.prior_approval {
        Some(PriorApproval::Document(text) | PriorApproval::Statement(text)) => text.trim(),
        None => "",
    };
    if !text.is_empty() {
        return None;
    }
    needed(
        "prior_approval",
        "this content needs prior approval: give its document's number in `site.prior_approval`, or a statement \
         where the approving body says that none is needed",
        "该内容需要前置审批：请提供审批文件，或主管部门认为无需审批的情况说明",
    )
}

/// A commercial licence is applied for after the filing.
pub(super) fn commercial_licence(case: &Case<'_>) -> Option<Finding> {
    if !case.site()?.commercial {
        return None;
    }
    noted(
        "commercial_licence",
        "services for profit need an ICP licence, which is applied for after the filing",
        "经营性服务须在备案后另行申请 ICP 许可证",
    )
}

/// Cancelling the last access warns, and asks for confirmation.
pub(super) fn last_access(case: &Case<'_>) -> Option<Finding> {
    if case.order_type != OrderType::CancelAccess || case.other_accesses > 0 {
        return None;
    }
    let detail = "this is the site's last access: its number becomes an empty shell and may be revoked";
    let zh = "这是该网站的最后一个接入：取消后备案号成为空壳，可能被注销";
    if case.form.confirm_empty_shell {
        return noted("last_access", detail, zh);
    }
    needed(
        "last_access",
        format!("{detail}; confirm with `\"confirm_empty_shell\": true`, or deregister instead"),
        format!("{zh}；请以 `\"confirm_empty_shell\": true` 确认，或改为注销备案"),
    )
}
