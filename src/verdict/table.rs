//! filing-rules' "Scenarios" table: what each product requires in each region, as data.
//!
//! Knows the table and the operator's overrides of its cells; refuses to know filings and hosts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which of the provider's products the domain is used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// Servers, load balancers.
    Web,
    /// Shop or company site.
    Shop,
    /// Hosted site-building.
    SiteBuilder,
    /// Webmail.
    Mail,
    /// Object storage.
    Oss,
    /// Acceleration.
    Cdn,
    /// Web application firewall.
    Waf,
    /// Scrubbing.
    Ddos,
}

/// Where the service runs (per scenario: servers, bucket, acceleration area, origin).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Region {
    /** 中国内地 */
    Mainland,
    /** 全球 */
    Global,
    /** 境外 */
    Overseas,
}

/// What a scenario asks of a domain in a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Nothing.
    None,
    /// A filing number.
    Number,
    /// A filing number and access here.
    NumberAndAccess,
}

/// What a cancelled access means where only a number is required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelledPolicy {
    /// Let pass.
    Allow,
    /// Block.
    Block,
    /// Allow while another provider's access is active.
    IfConnectedElsewhere,
}

/// Text that names no value of one of this table's enums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of {0}")]
pub struct UnknownName(&'static str);

/// `[scenario.NAME]` overrides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScenarioOverride {
    /// Instead of the default in the mainland.
    pub mainland: Option<Requirement>,
    /// Instead of the default where both are served.
    pub global: Option<Requirement>,
    /// Instead of the default abroad.
    pub overseas: Option<Requirement>,
    /// Instead of `if_connected_elsewhere`.
    pub access_cancelled: Option<CancelledPolicy>,
    /// The sites' own servers are here: access here is required everywhere.
    pub origin_here: bool,
}

/// One scenario's row in force, for printing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which scenario.
    pub scenario: Scenario,
    /// Required in the mainland.
    pub mainland: Requirement,
    /// Required where both are served.
    pub global: Requirement,
    /// Required abroad.
    pub overseas: Requirement,
    /// What a cancelled access means where only a number is required.
    pub access_cancelled: CancelledPolicy,
    /// Whether access here is required whatever the cells say; the cells have it in them.
    pub origin_here: bool,
}

const fn row(scenario: Scenario, within: Requirement, cancelled: CancelledPolicy) -> Row {
    Row {
        scenario,
        mainland: within,
        global: within,
        overseas: Requirement::None,
        access_cancelled: cancelled,
        origin_here: false,
    }
}

/// The defaults, in the order of `Scenario::ALL`.
const DEFAULTS: [Row; 8] = {
    use CancelledPolicy::{Block, IfConnectedElsewhere};
    use Requirement::{Number, NumberAndAccess};
    [
        row(Scenario::Web, NumberAndAccess, Block),
        row(Scenario::Shop, NumberAndAccess, Block),
        row(Scenario::SiteBuilder, NumberAndAccess, Block),
        row(Scenario::Mail, NumberAndAccess, IfConnectedElsewhere),
        row(Scenario::Oss, Number, IfConnectedElsewhere),
        row(Scenario::Cdn, Number, IfConnectedElsewhere),
        row(Scenario::Waf, Number, IfConnectedElsewhere),
        row(Scenario::Ddos, Number, IfConnectedElsewhere),
    ]
};

/// The table in force.
#[derive(Debug, Clone)]
pub(super) struct Table([Row; 8]);

impl Table {
    pub(super) fn new(overrides: &[(Scenario, ScenarioOverride)]) -> Self {
        let mut rows = DEFAULTS;
        for (scenario, change) in overrides {
            let row = &mut rows[scenario.index()];
            row.mainland = change.mainland.unwrap_or(row.mainland);
            row.global = change.global.unwrap_or(row.global);
            row.overseas = change.overseas.unwrap_or(row.overseas);
            row.origin_here |= change.origin_here;
            if !scenario.always_blocks_cancelled() {
                row.access_cancelled = change.access_cancelled.unwrap_or(row.access_cancelled);
            }
        }
        for row in &mut rows {
            if row.origin_here {
                row.mainland = Requirement::NumberAndAccess;
                row.global = Requirement::NumberAndAccess;
                row.overseas = Requirement::NumberAndAccess;
            }
        }
        Self(rows)
    }

    pub(super) fn row(&self, scenario: Scenario) -> &Row {
        &self.0[scenario.index()]
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.0
    }
}

impl Row {
    /// The cell for a region.
    pub fn requirement(&self, region: Region) -> Requirement {
        match region {
            Region::Mainland => self.mainland,
            Region::Global => self.global,
            Region::Overseas => self.overseas,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<13} mainland={:<18} global={:<18} overseas={:<18} access_cancelled={}",
            self.scenario.as_str(),
            self.mainland.as_str(),
            self.global.as_str(),
            self.overseas.as_str(),
            self.access_cancelled.as_str(),
        )
    }
}

impl Scenario {
    /// Every scenario, in the table's order.
    pub const ALL: [Scenario; 8] =
        [Self::Web, Self::Shop, Self::SiteBuilder, Self::Mail, Self::Oss, Self::Cdn, Self::Waf, Self::Ddos];

    /// The name in config, APIs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Shop => "shop",
            Self::SiteBuilder => "site_builder",
            Self::Mail => "mail",
            Self::Oss => "oss",
            Self::Cdn => "cdn",
            Self::Waf => "waf",
            Self::Ddos => "ddos",
        }
    }

    /// `web`, `shop` and `site_builder` block a cancelled domain whatever the operator says.
    pub fn always_blocks_cancelled(self) -> bool {
        matches!(self, Self::Web | Self::Shop | Self::SiteBuilder)
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl Region {
    /// Every region.
    pub const ALL: [Region; 3] = [Self::Mainland, Self::Global, Self::Overseas];

    /// The name in config, APIs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mainland => "mainland",
            Self::Global => "global",
            Self::Overseas => "overseas",
        }
    }
}

impl Requirement {
    /// Every requirement, the least first.
    pub const ALL: [Requirement; 3] = [Self::None, Self::Number, Self::NumberAndAccess];

    /// The name in config and APIs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Number => "number",
            Self::NumberAndAccess => "number_and_access",
        }
    }
}

impl CancelledPolicy {
    /// Every policy.
    pub const ALL: [CancelledPolicy; 3] = [Self::Allow, Self::Block, Self::IfConnectedElsewhere];

    /// The name in config.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block => "block",
            Self::IfConnectedElsewhere => "if_connected_elsewhere",
        }
    }
}

impl FromStr for Scenario {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownName("web, shop, site_builder, mail, oss, cdn, waf, ddos"))
    }
}

impl FromStr for Region {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownName("mainland, global, overseas"))
    }
}

impl FromStr for Requirement {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownName("none, number, number_and_access"))
    }
}

impl FromStr for CancelledPolicy {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|it| it.as_str() == text);
        found.ok_or(UnknownName("allow, block, if_connected_elsewhere"))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_where_they_are_looked_for() {
        let table = Table::new(&[]);
        for scenario in Scenario::ALL {
            assert_eq!(table.row(scenario).scenario, scenario);
        }
    }

    #[test]
    fn names_parse_back() {
        for it in Scenario::ALL {
            assert_eq!(it.as_str().parse(), Ok(it));
            assert_eq!(serde_json::to_string(&it).unwrap(), format!("\"{it}\""));
        }
        for it in Region::ALL {
            assert_eq!(it.as_str().parse(), Ok(it));
            assert_eq!(serde_json::to_string(&it).unwrap(), format!("\"{it}\""));
        }
        for it in Requirement::ALL {
            assert_eq!(it.as_str().parse(), Ok(it));
            assert_eq!(serde_json::to_string(&it).unwrap(), format!("\"{it}\""));
        }
        for it in CancelledPolicy::ALL {
            assert_eq!(it.as_str().parse(), Ok(it));
        }
        let error = "Web".parse::<Scenario>().unwrap_err().to_string();
        assert_eq!(error, "expected one of web, shop, site_builder, mail, oss, cdn, waf, ddos");
    }
}
