//! What warnings say, in both languages.

use super::Message;
use crate::config::WarningKind;
use crate::telemetry::VerdictChange;
use jiff::civil::Date;

fn message(zh: String, en: String) -> Message {
    Message { zh, en }
}

pub(super) fn verdict(change: &VerdictChange, was: &str) -> Message {
    let VerdictChange { host, verdict, because_zh, because, .. } = change;
    message(
        format!("{host}：结论由 {was} 变为 {verdict}。{because_zh}"),
        format!("{host}: {was} became {verdict}. {because}"),
    )
}

pub(super) fn filings(is_reliable: bool) -> Message {
    if is_reliable {
        message("备案数据已恢复可用".to_owned(), "filing data can be relied on again".to_owned())
    } else {
        message(
            "没有可依据的备案数据：从未同步，或已超过 enforcement.stale_after".to_owned(),
            "no filing data can be relied on: never synced, or older than enforcement.stale_after".to_owned(),
        )
    }
}

pub(super) fn held(state: &str, newly_blocked: u64, of: u64) -> Message {
    match state {
        "over" => {
            message("等待决定的更新已处理".to_owned(), "the update that waited no longer waits".to_owned())
        }
        _ => message(
            format!(
                "一次更新将新阻断 {newly_blocked} 个备案（共 {of} 个），状态为 {state}；请用 `beian-gate held` 决定"
            ),
            format!(
                "an update would newly block {newly_blocked} of {of} filings and is {state}; decide with `beian-gate held`"
            ),
        ),
    }
}

pub(super) fn test() -> Message {
    message("这是一次测试，无需处理".to_owned(), "this is a test; nothing is to be done".to_owned())
}

/// What comes up: a domain, file or entry, and its day.
pub(super) fn upcoming(
    kind: WarningKind,
    what: &str,
    due_on: Option<Date>,
    days_left: Option<i32>,
) -> Message {
    let (zh, en) = match kind {
        WarningKind::FilingEnding => {
            ("审核中的订单将取消其接入或注销其备案", "an order under review will end its access or filing")
        }
        WarningKind::EmptyShell => (
            "备案号已成空壳网站，可能被注销；请重新接入",
            "its number is an empty shell and may be revoked: connect it again",
        ),
        WarningKind::RegistrationLapsing => ("域名注册即将到期，请续费", "its registration ends: renew it"),
        WarningKind::PublicSecurityDue => ("应办理公安联网备案", "its public-security filing is due"),
        WarningKind::CorrectionDue => {
            ("备案信息不真实，应在期限内更正", "its filing says something untrue: correct it in time")
        }
        WarningKind::CertificateExpiring => ("证书即将到期，请更换", "this certificate ends: renew it"),
        WarningKind::ExceptionExpiring => {
            ("例外即将到期，此后按备案判定", "this exception ends: filings decide after it")
        }
        _ => ("", ""),
    };
    let (day_zh, day_en) = match (due_on, days_left) {
        (Some(day), Some(left)) if left < 0 => {
            (format!("（期限 {day}，已逾期 {} 天）", -left), format!(" (by {day}, {} days ago)", -left))
        }
        (Some(day), Some(left)) => {
            (format!("（期限 {day}，还有 {left} 天）"), format!(" (by {day}, in {left} days)"))
        }
        _ => Default::default(),
    };
    message(format!("{what}：{zh}{day_zh}"), format!("{what}: {en}{day_en}"))
}
