//! The product's own names in Chinese, as filing-rules.md has them: verdicts, statuses, products, regions.
//!
//! Names stay readable beside their translation: they are what config, logs and metrics say.

use minijinja::value::Value;
use minijinja::{Environment, HtmlEscape, State};

const CHINESE: &[(&str, &str)] = &[
    // Verdicts.
    ("allow", "放行"),
    ("exempt", "豁免"),
    ("unverified", "未核验放行"),
    ("unfiled", "未备案"),
    ("not_connected", "未在此接入"),
    ("access_cancelled", "已取消接入"),
    ("pending", "备案审核中"),
    ("deregistered", "已注销"),
    ("ip_literal", "用 IP 地址访问"),
    ("restricted", "被限制接入"),
    ("operator_block", "封禁名单"),
    ("unavailable", "无法核验"),
    ("malformed_host", "域名有误"),
    ("malformed_request", "请求有误"),
    ("misdirected", "连接不符"),
    ("method_refused", "方法不支持"),
    ("too_large", "过大"),
    ("request_timeout", "请求超时"),
    ("rate_limited", "过于频繁"),
    ("loop", "转发循环"),
    ("redirect", "跳转"),
    ("no_site", "没有站点"),
    ("upstream_error", "上游出错"),
    ("upstream_timeout", "上游超时"),
    ("overloaded", "过载"),
    ("client_gone", "客户端离开"),
    ("health", "探活"),
    // Statuses, states and accesses.
    ("connected", "已接入"),
    ("filed", "已备案"),
    ("active", "有效"),
    ("cancelled", "已取消"),
    ("under_review", "审核中"),
    // Products and regions.
    ("web", "云服务器、负载均衡"),
    ("shop", "商城、企业官网"),
    ("site_builder", "建站"),
    ("mail", "企业邮箱"),
    ("oss", "对象存储"),
    ("cdn", "CDN 加速"),
    ("waf", "Web 应用防火墙"),
    ("ddos", "DDoS 防护"),
    ("mainland", "中国内地"),
    ("global", "全球"),
    ("overseas", "中国内地以外"),
    // What comes up.
    ("verdict_changed", "结论变化"),
    ("filing_ending", "备案将终止"),
    ("empty_shell", "空壳网站"),
    ("registration_lapsing", "域名注册到期"),
    ("public_security_due", "公安联网备案"),
    ("correction_due", "更正备案信息"),
    ("certificate_expiring", "证书到期"),
    ("exception_expiring", "例外到期"),
    ("filings_stale", "备案数据过期"),
    ("flips_held", "更新待决定"),
    ("test", "测试"),
    // What the gate says of itself.
    ("waiting", "等待决定"),
    ("refused", "已拒绝"),
    ("never synced: no filing data yet", "尚未同步过备案数据"),
    (
        "filing data is older than enforcement.stale_after allows",
        "备案数据已超过 enforcement.stale_after 允许的时长",
    ),
    ("draining: this process ends once its requests are done", "正在退出：处理完手头的请求后结束"),
];

/// What it is called in Chinese, where that is known.
fn chinese(name: &str) -> Option<&'static str> {
    CHINESE.iter().find(|(known, _)| *known == name).map(|(_, chinese)| *chinese)
}

fn is_english(state: &State<'_, '_>) -> bool {
    state.lookup("lang").is_some_and(|lang| lang.as_str() == Some("en"))
}

/// Teaches templates `say(name)`, which is the name in the page's language, and `code(name)`, which is the name as
/// config and logs have it, in Chinese after its translation.
pub(super) fn teach(templates: &mut Environment<'_>) {
    templates.add_function("say", |state: &State<'_, '_>, name: String| match chinese(&name) {
        Some(chinese) if !is_english(state) => chinese.to_owned(),
        _ => name,
    });
    templates.add_function("code", |state: &State<'_, '_>, name: String| {
        let code = format!("<code>{}</code>", HtmlEscape(&name));
        Value::from_safe_string(match chinese(&name) {
            Some(chinese) if !is_english(state) => format!("{chinese} {code}"),
            _ => code,
        })
    });
    templates.add_filter("grouped", |number: u64| grouped(number));
}

/// With a comma before every three figures.
fn grouped(number: u64) -> String {
    let figures = number.to_string();
    let mut text = String::new();
    for (nth, figure) in figures.chars().enumerate() {
        if nth > 0 && (figures.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(figure);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WarningKind;
    use crate::gate::record::Outcome;
    use crate::verdict::{Region, Scenario};

    #[test]
    fn every_name_has_a_translation() {
        let names = Outcome::names().into_iter().chain(Scenario::ALL.map(Scenario::as_str));
        let names =
            names.chain(Region::ALL.map(Region::as_str)).chain(WarningKind::ALL.map(WarningKind::as_str));
        let unknown: Vec<_> = names.filter(|name| chinese(name).is_none()).collect();
        assert_eq!(unknown, [""; 0]);
    }

    #[test]
    fn templates_say_it() {
        let mut templates = Environment::new();
        teach(&mut templates);
        let said = |lang: &str, text: &str| templates.render_str(text, minijinja::context! { lang }).unwrap();
        let text = "{{ say('cdn') }}|{{ code('unfiled') }}|{{ code('<b>') }}|{{ 10234567|grouped }}|{{ 999|grouped }}";
        assert_eq!(
            said("zh", text),
            "CDN 加速|未备案 <code>unfiled</code>|<code>&lt;b&gt;</code>|10,234,567|999"
        );
        assert_eq!(said("en", text), "cdn|<code>unfiled</code>|<code>&lt;b&gt;</code>|10,234,567|999");
    }
}
