//! Limits on service codes (备案服务码) and the servers behind them.

use super::{Case, CodeCase, Finding, Product, UnknownCode, needed, refused};
use crate::verdict::Scenario;

fn code<'a>(case: &'a Case<'_>) -> Option<&'a CodeCase> {
    case.code.and_then(Result::ok)
}

/// Filing and access orders need a code; a shop needs none.
pub(super) fn service_code_needed(case: &Case<'_>) -> Option<Finding> {
    let is_exempt = !case.order_type.is_file() || case.form.scenario == Some(Scenario::Shop);
    if is_exempt || case.form.service_code.is_some() {
        return None;
    }
    needed(
        "service_code_needed",
        "a filing or access order needs the `service_code` of a server bought here (scenario `shop` needs none)",
        "备案和接入订单需要在此购买的服务器的备案服务码 `service_code`（`shop` 场景除外）",
    )
}

/// The code is one of ours.
pub(super) fn service_code_unknown(case: &Case<'_>) -> Option<Finding> {
    if !matches!(case.code, Some(Err(UnknownCode))) {
        return None;
    }
    refused("service_code_unknown", "there is no such service code", "备案服务码不存在")
}

/// A used code can't be used again.
pub(super) fn service_code_used(case: &Case<'_>) -> Option<Finding> {
    if !code(case)?.is_used {
        return None;
    }
    refused(
        "service_code_used",
        "the service code was used up by a successful filing: take another one",
        "备案服务码已被使用，请更换",
    )
}

/// A code is of the account that it was given to.
pub(super) fn service_code_of_another_account(case: &Case<'_>) -> Option<Finding> {
    let given_to = code(case)?.account.as_ref()?;
    if case.form.account.as_ref().is_none_or(|it| it == given_to) {
        return None;
    }
    refused(
        "service_code_of_another_account",
        "the service code was given to another account",
        "备案服务码属于其他账号",
    )
}

/// A code is in one order at a time.
pub(super) fn service_code_taken(case: &Case<'_>) -> Option<Finding> {
    if !code(case)?.is_in_other_order {
        return None;
    }
    refused(
        "service_code_taken",
        "another order under way names this service code",
        "备案服务码已在其他进行中的订单里使用",
    )
}

/// Load balancers are verified through their servers.
pub(super) fn load_balancer(case: &Case<'_>) -> Option<Finding> {
    if code(case)?.product != Product::LoadBalancer {
        return None;
    }
    refused(
        "load_balancer",
        "a load balancer has no service code: take one of a server behind it",
        "负载均衡须通过其后端服务器的备案服务码验证",
    )
}

/// Each server has a quota of codes, which renewal does not raise.
pub(super) fn server_quota(case: &Case<'_>) -> Option<Finding> {
    let code = code(case)?;
    if code.is_used || code.product == Product::LoadBalancer || code.used < code.quota {
        return None;
    }
    let (used, quota) = (code.used, code.quota);
    refused(
        "server_quota",
        format!("{used} of the server's {quota} service codes are used; renewing it gives no more"),
        format!("该服务器的 {quota} 个备案服务码已用 {used} 个；续费不增加额度"),
    )
}
