//! Limits on accounts and the orders in them.

use super::{Case, Finding, needed, refused};

/// An account with an order under way for a domain can't open a second for it.
pub(super) fn order_under_way(case: &Case<'_>) -> Option<Finding> {
    if !case.account.has_open_order {
        return None;
    }
    refused(
        "order_under_way",
        "there is an order under way for this domain already: finish or withdraw that one",
        "该域名已有进行中的订单，请先完成或撤回该订单",
    )
}

/// An order belongs to an account.
pub(super) fn account_needed(case: &Case<'_>) -> Option<Finding> {
    if case.form.account.is_some() {
        return None;
    }
    needed("account_needed", "say whose `account` the order is opened in", "请填写订单所属账号 `account`")
}

/// One account, one subject.
pub(super) fn one_account_one_subject(case: &Case<'_>) -> Option<Finding> {
    if !case.account.has_other_subject {
        return None;
    }
    refused(
        "one_account_one_subject",
        "the account has another subject: an account files for one subject only",
        "该账号已有其他主体：一个账号只能备案一个主体",
    )
}
