//! Orders (备案订单): what is applied for, which type that is, and through which stages it moves.
//!
//! Pure: knows no clock, no database, no HTTP. Source: filing-rules, "Orders".

mod form;
mod recognise;
mod stages;

#[cfg(test)]
pub(super) use form::Certificate;
pub(super) use form::{
    CertificateKind, Changes, Content, Form, HolderIs, Intent, Platform, PriorApproval, Registration,
    SiteForm, SubjectForm, SubjectKind,
};
pub(super) use recognise::{DomainStanding, Facts, Recognised, SubjectStanding, recognise};
pub(super) use stages::{Stage, Step, next};

use serde::{Deserialize, Serialize};

/// What an order is, by what is known about its subject and domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrderType {
    /** 首次备案 */
    First,
    /** 新增网站（原备案不在此） */
    NewSiteElsewhere,
    /** 新增网站（原备案在此） */
    NewSiteHere,
    /** 新增接入备案 */
    NewAccess,
    /** 继续接入备案 */
    ContinuedAccess,
    /** 变更备案 */
    Change,
    /** 取消接入 */
    CancelAccess,
    /** 注销备案 */
    Deregister,
    /** 认领备案 */
    Claim,
    /** 导入备案 */
    Import,
}

impl OrderType {
    #[cfg(test)]
    pub(super) const ALL: [Self; 10] = [
        Self::First,
        Self::NewSiteElsewhere,
        Self::NewSiteHere,
        Self::NewAccess,
        Self::ContinuedAccess,
        Self::Change,
        Self::CancelAccess,
        Self::Deregister,
        Self::Claim,
        Self::Import,
    ];

    /// The name in APIs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::NewSiteElsewhere => "new_site_elsewhere",
            Self::NewSiteHere => "new_site_here",
            Self::NewAccess => "new_access",
            Self::ContinuedAccess => "continued_access",
            Self::Change => "change",
            Self::CancelAccess => "cancel_access",
            Self::Deregister => "deregister",
            Self::Claim => "claim",
            Self::Import => "import",
        }
    }

    /// The name that owners know.
    pub(super) fn zh(self) -> &'static str {
        match self {
            Self::First => "首次备案",
            Self::NewSiteElsewhere => "新增网站（原备案不在此）",
            Self::NewSiteHere => "新增网站（原备案在此）",
            Self::NewAccess => "新增接入备案",
            Self::ContinuedAccess => "继续接入备案",
            Self::Change => "变更备案",
            Self::CancelAccess => "取消接入",
            Self::Deregister => "注销备案",
            Self::Claim => "认领备案",
            Self::Import => "导入备案",
        }
    }

    /// A first filing or a new site: approval issues a site number.
    pub(super) fn issues_site(self) -> bool {
        matches!(self, Self::First | Self::NewSiteElsewhere | Self::NewSiteHere)
    }

    /// An access for a number that exists.
    pub(super) fn is_access(self) -> bool {
        matches!(self, Self::NewAccess | Self::ContinuedAccess)
    }

    /// One of the types of `file`.
    pub(super) fn is_file(self) -> bool {
        self.issues_site() || self.is_access()
    }

    /// Whether the owner confirms it by a message to the telephone (短信核验).
    pub(super) fn needs_sms(self) -> bool {
        self.is_file() || matches!(self, Self::Change | Self::Deregister)
    }

    /// Whether the authority has a say: attaching a filing to an account is the provider's own business.
    pub(super) fn needs_authority(self) -> bool {
        !matches!(self, Self::Claim | Self::Import)
    }
}
