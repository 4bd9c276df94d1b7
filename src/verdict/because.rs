//! One sentence for each decision, for people: Chinese, then English.
//!
//! Knows decisions; refuses to know pages, next steps and media types.

use super::{Decision, Requirement, Verdict};

pub(super) fn sentences(decision: &Decision<'_>) -> (&'static str, &'static str) {
    let record = decision.covering.as_ref().map(|it| &it.record);
    let is_under_review = record.is_some_and(|it| it.access_under_review);
    let is_elsewhere = record.is_some_and(|it| it.connected_elsewhere);
    match decision.verdict {
        Verdict::Allow => allow(decision),
        Verdict::Exempt if decision.entry.is_some() => {
            ("该主机在运营方的例外名单中", "the operator lists this host as an exception")
        }
        Verdict::Exempt => ("该地域的服务无需ICP备案", "services in this region need no ICP filing"),
        Verdict::Unfiled => ("该域名未备案", "no ICP filing covers this domain"),
        Verdict::NotConnected if is_under_review => (
            "该域名已备案，但未在本接入商接入；接入备案正在审核中",
            "the domain is filed but not connected at this access provider; an order to connect it is under review",
        ),
        Verdict::NotConnected => (
            "该域名已备案，但未在本接入商接入",
            "the domain is filed but not connected at this access provider",
        ),
        Verdict::AccessCancelled if is_elsewhere => (
            "该域名在本接入商的接入已取消，现由其他接入商接入",
            "the domain's access at this provider was cancelled; it is connected at another one",
        ),
        Verdict::AccessCancelled => (
            "该域名在本接入商的接入已取消，且未在其他接入商接入，已成为空壳网站",
            "the domain's access at this provider was cancelled and no other provider connects it: an empty shell",
        ),
        Verdict::Pending => (
            "该域名的备案正在审核中，尚未取得备案号",
            "the domain's filing is under review and has no number yet",
        ),
        Verdict::Deregistered => ("该域名的备案已注销", "the domain's filing was deregistered"),
        Verdict::IpLiteral => (
            "通过IP地址访问的网站须另向当地管局备案",
            "a site reached by its IP address must be filed with the local authority",
        ),
        Verdict::Restricted => (
            "管局已责令关闭该网站或限制其接入",
            "the authority has ordered the site closed or restricted its access",
        ),
        Verdict::OperatorBlock => ("该主机在运营方的封禁名单中", "the operator blocks this host"),
        Verdict::Unavailable => ("暂无可依据的备案数据", "there is no filing data that may be relied on"),
        Verdict::MalformedHost => ("主机名缺失、有误或有歧义", "the host is missing, malformed or ambiguous"),
        Verdict::Misdirected => (
            "该主机与此连接的服务器名称不属于同一备案",
            "the host and the connection's server name are not covered by one filing",
        ),
        Verdict::NoSite => {
            ("该域名可以访问，但未配置站点", "the domain is allowed, but no site is configured for it")
        }
        Verdict::Unverified => (
            "尚未同步备案数据，运营方选择先行转发",
            "filings were never synced, and the operator chose to forward meanwhile",
        ),
    }
}

fn allow(decision: &Decision<'_>) -> (&'static str, &'static str) {
    if decision.entry.is_some() {
        return ("该IP地址已在当地管局备案", "the address is filed with the local authority");
    }
    match decision.requirement {
        Requirement::NumberAndAccess => {
            ("该域名已备案，并在本接入商接入", "the domain is filed and connected at this access provider")
        }
        Requirement::Number | Requirement::None => (
            "该域名已备案，此场景只要求备案号",
            "the domain is filed, and this scenario asks for a number only",
        ),
    }
}
