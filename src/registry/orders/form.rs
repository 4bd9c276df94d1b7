//! What an order says: the words of its applicant, as JSON. Nothing of it is believed before a rule looked at it.

use crate::filing::Province;
use crate::verdict::Scenario;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// What is applied for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Intent {
    /// To have a domain filed, or its filing connected, here.
    File,
    /// To change what a filing says.
    Change,
    /// To give up the access here.
    CancelAccess,
    /// To give up a site, or the subject with all its sites.
    Deregister,
    /// To take over a filing of the predecessor platform.
    Claim,
    /// To bring a filing of an older platform into an account.
    Import,
}

/// What kind of person or organisation files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum SubjectKind {
    /** 个人 */
    Individual,
    /** 企业 */
    #[default]
    Enterprise,
    /** 政府机关 */
    Government,
    /** 事业单位 */
    Institution,
    /** 无行政职能的事业单位 */
    InstitutionWithoutDuties,
    /** 社会团体 */
    SocialOrganization,
    /** 外国企业 */
    ForeignEnterprise,
}

impl SubjectKind {
    /// What documents say, where they say it in these words.
    pub(in crate::registry) fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(text.into()).ok()
    }

    /// The name in documents.
    pub(in crate::registry) fn as_str(self) -> &'static str {
        match self {
            Self::Individual => "individual",
            Self::Enterprise => "enterprise",
            Self::Government => "government",
            Self::Institution => "institution",
            Self::InstitutionWithoutDuties => "institution_without_duties",
            Self::SocialOrganization => "social_organization",
            Self::ForeignEnterprise => "foreign_enterprise",
        }
    }
}

/// What a subject files with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::registry) struct Certificate {
    /// Which.
    pub(in crate::registry) kind: CertificateKind,
    /// Its number.
    pub(in crate::registry) number: String,
    /// Where it was issued.
    pub(in crate::registry) province: Option<Province>,
}

/// Kinds of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum CertificateKind {
    /** 身份证 */
    IdCard,
    /** 营业执照 */
    BusinessLicence,
    /** 外国企业在华分支机构的证照 */
    BranchLicence,
    /** 外国企业常驻代表机构登记证 */
    RepresentativeOffice,
    /** 统一社会信用代码证书 */
    OrganizationCode,
    /** 其他 */
    Other,
}

/// Who files (主体).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::registry) struct SubjectForm {
    /// The person's or organisation's name.
    pub(in crate::registry) name: String,
    /// Its number, where it is filed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) number: Option<String>,
    /// Of what kind.
    pub(in crate::registry) kind: SubjectKind,
    /// Where it files; else where its certificate was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) province: Option<Province>,
    /// What it files with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) certificate: Option<Certificate>,
    /// An organisation's legal representative, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) legal_representative: Option<String>,
    /// Whether the principal is from outside the mainland.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) principal_from_outside: bool,
}

impl SubjectForm {
    /// Whose authority decides.
    pub(in crate::registry) fn files_in(&self) -> Option<Province> {
        self.province.or_else(|| self.certificate.as_ref()?.province)
    }
}

/// What a site is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Content {
    /** 一般 */
    General,
    /** 企业或行业 */
    Business,
    /** 论坛 */
    Forum,
    /** 新闻 */
    News,
    /** 出版 */
    Publishing,
    /** 药品和医疗器械 */
    Medicine,
    /** 视听节目 */
    Audiovisual,
    /** 文化 */
    Culture,
    /** 教育培训 */
    Education,
    /** 网络预约车 */
    RideHailing,
    /** 互联网金融 */
    Finance,
}

impl Content {
    /// Needs a document of another body before it may be filed (前置审批).
    pub(in crate::registry) fn needs_prior_approval(self) -> bool {
        !matches!(self, Self::General | Self::Business | Self::Forum)
    }
}

/// What shows that a site may be about what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(in crate::registry) enum PriorApproval {
    /// The document's number.
    Document(String),
    /// Why the approving body says that none is needed.
    Statement(String),
}

/// Who holds the domain, towards the subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum HolderIs {
    /// The subject itself.
    #[default]
    Subject,
    /// Its legal representative.
    LegalRepresentative,
    /// A shareholder.
    Shareholder,
    /// A senior manager.
    SeniorManager,
}

/// What the domain's registration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::registry) struct Registration {
    /// By name.
    pub(in crate::registry) registrar: String,
    /// The last day on which it is valid.
    pub(in crate::registry) expires_on: Date,
    /// By name.
    pub(in crate::registry) holder: String,
    /// What the holder is to the subject.
    #[serde(default)]
    pub(in crate::registry) holder_is: HolderIs,
    /// Whether the holder is real-name verified.
    #[serde(default)]
    pub(in crate::registry) holder_verified: bool,
    /// Whether there is proof of what the holder is.
    #[serde(default)]
    pub(in crate::registry) proof: bool,
}

/// The site (网站).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::registry) struct SiteForm {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) name: Option<String>,
    /// What it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::registry) content: Vec<Content>,
    /// Where that needs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) prior_approval: Option<PriorApproval>,
    /// Whether it is operated for profit, for which a licence is needed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) commercial: bool,
    /// Whether its manager was verified by face.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) manager_face_verified: bool,
    /// When it opened, if not on the day of its approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) opened_on: Option<Date>,
}

/// What a change makes of a filing; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::registry) struct Changes {
    /// The subject's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) subject_name: Option<String>,
    /// The subject's kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) subject_kind: Option<SubjectKind>,
    /// The site's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) site_name: Option<String>,
    /// The site's domains: some of those that it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) domains: Option<Vec<String>>,
    /// The number of its public-security filing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) public_security_number: Option<String>,
}

/// Which platform a filing was made on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::registry) enum Platform {
    /// The provider's predecessor.
    Predecessor,
    /// An older one of this provider.
    Older,
}

/// What an order says beside intent, subject and domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::registry) struct Form {
    /// Whose account it is opened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) account: Option<String>,
    /// Which product the domain is used with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) scenario: Option<Scenario>,
    /// What ties it to a server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) service_code: Option<String>,
    /// The site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) site: Option<SiteForm>,
    /// The domain's registration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) registration: Option<Registration>,
    /// Whether the applicant's person was verified.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) real_person_verified: bool,
    /// Where an individual may live and file beside home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) residence_permit: Option<Province>,
    /// Known and accepted: the number is an empty shell without the last access.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) confirm_empty_shell: bool,
    /// To deregister the subject with all its sites.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(in crate::registry) whole_subject: bool,
    /// What a change changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) changes: Option<Changes>,
    /// When the filing was made that is claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) filed_on: Option<Date>,
    /// Where it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::registry) platform: Option<Platform>,
}
