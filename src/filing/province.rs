//! The provinces whose authorities issue numbers, and the glyphs they write. Knows no rules.

use serde::{Deserialize, Serialize};

/// A province, autonomous region or municipality of the mainland.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the documentation")]
#[rustfmt::skip]
pub enum Province {
    Beijing, Tianjin, Hebei, Shanxi, InnerMongolia, Liaoning, Jilin, Heilongjiang, Shanghai, Jiangsu,
    Zhejiang, Anhui, Fujian, Jiangxi, Shandong, Henan, Hubei, Hunan, Guangdong, Guangxi, Hainan,
    Chongqing, Sichuan, Guizhou, Yunnan, Tibet, Shaanxi, Gansu, Qinghai, Ningxia, Xinjiang,
}

/// Glyphs in the order of their packed codes, which count from 1. The order is part of the feed
/// and of saved states: append only.
#[rustfmt::skip]
pub(super) const PROVINCES: [(char, Province); 35] = {
    use Province::*;
    [
        ('京', Beijing), ('津', Tianjin), ('冀', Hebei), ('晋', Shanxi), ('蒙', InnerMongolia),
        ('辽', Liaoning), ('吉', Jilin), ('黑', Heilongjiang), ('沪', Shanghai), ('苏', Jiangsu),
        ('浙', Zhejiang), ('皖', Anhui), ('闽', Fujian), ('赣', Jiangxi), ('鲁', Shandong),
        ('豫', Henan), ('鄂', Hubei), ('湘', Hunan), ('粤', Guangdong), ('桂', Guangxi),
        ('琼', Hainan), ('渝', Chongqing), ('川', Sichuan), ('蜀', Sichuan), ('贵', Guizhou),
        ('黔', Guizhou), ('云', Yunnan), ('滇', Yunnan), ('藏', Tibet), ('陕', Shaanxi),
        ('甘', Gansu), ('陇', Gansu), ('青', Qinghai), ('宁', Ningxia), ('新', Xinjiang),
    ]
};

impl Province {
    /// The province that writes this glyph on its numbers; some have two.
    pub fn from_glyph(glyph: char) -> Option<Self> {
        let found = PROVINCES.iter().find(|it| it.0 == glyph);
        found.map(|it| it.1)
    }

    /// The glyph that its authority writes on new numbers.
    pub fn glyph(self) -> char {
        let found = PROVINCES.iter().find(|it| it.1 == self);
        found.expect("every province has a glyph in the table").0
    }

    /// The name in APIs and data: `inner_mongolia`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Beijing => "beijing",
            Self::Tianjin => "tianjin",
            Self::Hebei => "hebei",
            Self::Shanxi => "shanxi",
            Self::InnerMongolia => "inner_mongolia",
            Self::Liaoning => "liaoning",
            Self::Jilin => "jilin",
            Self::Heilongjiang => "heilongjiang",
            Self::Shanghai => "shanghai",
            Self::Jiangsu => "jiangsu",
            Self::Zhejiang => "zhejiang",
            Self::Anhui => "anhui",
            Self::Fujian => "fujian",
            Self::Jiangxi => "jiangxi",
            Self::Shandong => "shandong",
            Self::Henan => "henan",
            Self::Hubei => "hubei",
            Self::Hunan => "hunan",
            Self::Guangdong => "guangdong",
            Self::Guangxi => "guangxi",
            Self::Hainan => "hainan",
            Self::Chongqing => "chongqing",
            Self::Sichuan => "sichuan",
            Self::Guizhou => "guizhou",
            Self::Yunnan => "yunnan",
            Self::Tibet => "tibet",
            Self::Shaanxi => "shaanxi",
            Self::Gansu => "gansu",
            Self::Qinghai => "qinghai",
            Self::Ningxia => "ningxia",
            Self::Xinjiang => "xinjiang",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glyphs_and_names_lead_back() {
        for (_, province) in PROVINCES {
            assert_eq!(Province::from_glyph(province.glyph()), Some(province));
            assert_eq!(serde_json::to_value(province).unwrap(), province.as_str());
        }
        assert_eq!(Province::Sichuan.glyph(), '川');
    }
}
