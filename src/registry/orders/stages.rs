//! The stages of an order, and the steps between them: every illegal one is refused by a name of its own.

use super::OrderType;
use crate::registry::rules::Refusal;
use serde::{Deserialize, Serialize};

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Stage {
    /** 草稿 */
    Draft,
    /** 初审 */
    ProviderReview,
    /** 短信核验 */
    SmsVerification,
    /** 管局审核 */
    AuthorityReview,
    /** 已通过 */
    Approved,
    /** 已驳回 */
    Rejected,
    /** 已撤回 */
    Withdrawn,
}

/// What can be done with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Step {
    /// The owner hands it in.
    Submit,
    /// The provider passes it on.
    Pass,
    /// The owner confirmed by message.
    Verify,
    /// The authority approves.
    Approve,
    /// The provider or the authority rejects.
    Reject,
    /// The owner takes it back.
    Withdraw,
    /// The owner changes what it says.
    Correct,
}

impl Stage {
    /// The name in APIs.
    pub(in crate::registry) fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::ProviderReview => "provider_review",
            Self::SmsVerification => "sms_verification",
            Self::AuthorityReview => "authority_review",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Handed in, and not decided yet.
    pub(in crate::registry) fn is_under_review(self) -> bool {
        matches!(self, Self::ProviderReview | Self::SmsVerification | Self::AuthorityReview)
    }

    /// Under way: nobody opens a second order beside it.
    pub(in crate::registry) fn is_open(self) -> bool {
        self == Self::Draft || self.is_under_review()
    }
}

impl Step {
    pub(in crate::registry) const ALL: [Self; 7] =
        [Self::Submit, Self::Pass, Self::Verify, Self::Approve, Self::Reject, Self::Withdraw, Self::Correct];

    /// The name in paths and logs.
    pub(in crate::registry) fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Pass => "pass",
            Self::Verify => "verify",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Withdraw => "withdraw",
            Self::Correct => "correct",
        }
    }
}

/// Where a step leads.
///
/// # Errors
/// The rule that the step breaks.
pub(in crate::registry) fn next(order_type: OrderType, stage: Stage, step: Step) -> Result<Stage, Refusal> {
    use Stage::{Approved, AuthorityReview, Draft, ProviderReview, Rejected, SmsVerification, Withdrawn};
    match (stage, step) {
        (Draft | Rejected | Withdrawn, Step::Submit) => Ok(ProviderReview),
        (Draft | Rejected | Withdrawn, Step::Correct) => Ok(Draft),
        (Draft | ProviderReview | SmsVerification | AuthorityReview, Step::Withdraw) => Ok(Withdrawn),
        (ProviderReview | SmsVerification | AuthorityReview, Step::Reject) => Ok(Rejected),
        (ProviderReview, Step::Pass) => Ok(after_provider_review(order_type)),
        (SmsVerification, Step::Verify) => Ok(AuthorityReview),
        (AuthorityReview, Step::Approve) => Ok(Approved),
        (stage, step) => Err(illegal(order_type, stage, step)),
    }
}

fn after_provider_review(order_type: OrderType) -> Stage {
    if order_type.needs_sms() {
        Stage::SmsVerification
    } else if order_type.needs_authority() {
        Stage::AuthorityReview
    } else {
        Stage::Approved
    }
}

/// Why a step can't be taken.
fn illegal(order_type: OrderType, stage: Stage, step: Step) -> Refusal {
    let (rule, detail, zh) = match (stage, step) {
        (Stage::Approved, _) => {
            ("order_approved", "the order is approved and over", "订单已通过，不能再操作")
        }
        (Stage::Draft, _) => ("order_not_submitted", "the order is a draft: submit it first", "订单尚未提交"),
        (Stage::Rejected, _) => (
            "order_rejected",
            "the order was rejected: correct it, or submit it again",
            "订单已被驳回，请更正后重新提交",
        ),
        (Stage::Withdrawn, _) => (
            "order_withdrawn",
            "the order was withdrawn: correct it, or submit it again",
            "订单已撤回，请更正后重新提交",
        ),
        (_, Step::Submit | Step::Correct) => {
            ("order_under_review", "the order is under review: withdraw it first", "订单正在审核，请先撤回")
        }
        (_, Step::Verify) if !order_type.needs_sms() => (
            "sms_verification_not_needed",
            "an order of this type is not verified by message",
            "该类订单无需短信核验",
        ),
        (Stage::ProviderReview, _) => {
            ("provider_review_pending", "the provider has not passed the order on yet", "订单尚在初审")
        }
        (_, Step::Pass) => ("provider_review_done", "the provider passed the order on already", "初审已通过"),
        (Stage::SmsVerification, _) => {
            ("sms_verification_pending", "the owner has not confirmed by message yet", "尚未完成短信核验")
        }
        (_, Step::Verify | Step::Approve | Step::Reject | Step::Withdraw) => {
            ("sms_verification_done", "the owner confirmed by message already", "短信核验已完成")
        }
    };
    let detail = format!("can't {} an order in `{}`: {detail}", step.as_str(), stage.as_str());
    Refusal::new(rule, detail, zh)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each stage's row: what the steps lead to, in the order of `Step::ALL`; a rule's name where refused.
    #[track_caller]
    fn check(order_type: OrderType, stage: Stage, expected: [&str; 7]) {
        let led = Step::ALL.map(|step| match next(order_type, stage, step) {
            Ok(stage) => stage.as_str(),
            Err(refusal) => {
                assert!(!refusal.detail_zh.is_empty());
                refusal.rule
            }
        });
        assert_eq!(led, expected, "{order_type:?} {stage:?}");
    }

    #[test]
    fn drafts_and_what_came_back() {
        use OrderType as T;
        for order_type in T::ALL {
            for (stage, rule, withdrawn) in [
                (Stage::Draft, "order_not_submitted", "withdrawn"),
                (Stage::Rejected, "order_rejected", "order_rejected"),
                (Stage::Withdrawn, "order_withdrawn", "order_withdrawn"),
            ] {
                check(order_type, stage, ["provider_review", rule, rule, rule, rule, withdrawn, "draft"]);
            }
            check(order_type, Stage::Approved, ["order_approved"; 7]);
        }
    }

    /// What pass, verify and approve lead to; the other steps are the same in every review.
    #[track_caller]
    fn check_review(order_type: OrderType, stage: Stage, [pass, verify, approve]: [&str; 3]) {
        let busy = "order_under_review";
        check(order_type, stage, [busy, pass, verify, approve, "rejected", "withdrawn", busy]);
    }

    #[test]
    fn reviews() {
        use OrderType::{CancelAccess, Claim, First};
        use Stage::{AuthorityReview, ProviderReview, SmsVerification};
        let (pending, done) = ("provider_review_pending", "provider_review_done");
        let no_sms = "sms_verification_not_needed";
        check_review(First, ProviderReview, ["sms_verification", pending, pending]);
        check_review(CancelAccess, ProviderReview, ["authority_review", no_sms, pending]);
        check_review(Claim, ProviderReview, ["approved", no_sms, pending]);
        check_review(First, SmsVerification, [done, "authority_review", "sms_verification_pending"]);
        check_review(First, AuthorityReview, [done, "sms_verification_done", "approved"]);
        check_review(CancelAccess, AuthorityReview, [done, no_sms, "approved"]);
    }

    /// From a draft every type reaches approval, and nothing else than `Pass` and `Verify` lies between.
    #[test]
    fn every_type_has_a_way_to_approval() {
        for order_type in OrderType::ALL {
            let mut stage = next(order_type, Stage::Draft, Step::Submit).unwrap();
            for step in [Step::Pass, Step::Verify, Step::Approve] {
                stage = next(order_type, stage, step).unwrap_or(stage);
            }
            assert_eq!(stage, Stage::Approved, "{order_type:?}");
        }
    }
}
