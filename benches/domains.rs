//! Names and filings as they are in the real world, from a seed: the same ones every time.
//!
//! Lengths and suffixes follow what is filed in China: pinyin and digits below com, cn and a few others, Chinese names
//! as A-labels, and 2 % below government suffixes, where units have filings of their own.

use beian_gate::filing::{FilingNumber, FilingRecord, Status};

/// Of 1,000 names, how many are below which suffix; government ones aside.
const SUFFIXES: [(u64, &str); 9] = [
    (560, "com"),
    (240, "cn"),
    (70, "com.cn"),
    (40, "net"),
    (30, "top"),
    (20, "xn--fiqs8s"),
    (20, "net.cn"),
    (15, "org"),
    (5, "org.cn"),
];
/// Of 1,000 names, how many are below a government suffix.
const GOVERNMENT: u64 = 20;
const SYLLABLES: [&str; 48] = [
    "an", "bai", "bei", "bo", "chang", "chuang", "da", "dian", "dong", "fang", "feng", "fu", "gao", "guang",
    "hai", "hao", "heng", "hong", "hua", "jia", "jian", "jin", "ke", "kun", "lan", "li", "long", "mei",
    "ming", "nan", "ning", "ping", "qi", "rui", "shan", "sheng", "shi", "tai", "tian", "tong", "wan", "wei",
    "xin", "yang", "yi", "yun", "zhi", "zhong",
];
const PROVINCES: [&str; 8] = ["京", "沪", "粤", "浙", "苏", "鲁", "川", "陕"];

/// A generator of numbers (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len() as u64);
        from[usize::try_from(at).expect("it is below a length")]
    }
}

/// The filed name with this index; no two indexes give the same one.
pub(crate) fn filed(index: u64) -> String {
    name(index, "")
}

/// A name that no index is filed under.
pub(crate) fn unfiled(index: u64) -> String {
    name(index, "x-")
}

/// A host as it is asked for below a filed name: two in three begin with `www` or another label.
pub(crate) fn host(filed: &str, numbers: &mut Numbers) -> String {
    match numbers.below(6) {
        0 | 1 => filed.to_owned(),
        2 | 3 => format!("www.{filed}"),
        4 => format!("m.{filed}"),
        _ => format!("img{}.cdn.{filed}", numbers.below(16)),
    }
}

/// The record of the filing with this index: 3 in 100 hold a licence number, which no slot has room for.
pub(crate) fn record(index: u64) -> FilingRecord {
    let mut numbers = Numbers(!index);
    let (province, serial) = (numbers.pick(&PROVINCES), numbers.below(100_000_000));
    let text = match numbers.below(100) {
        0..3 => format!("{province}B2-{}-{}", 20_000_000 + serial % 1_000_000, 1 + numbers.below(9)),
        3..40 => format!(
            "{province}ICP备20{:02}{:06}号-{}",
            19 + serial % 7,
            serial % 1_000_000,
            1 + numbers.below(9)
        ),
        _ => format!("{province}ICP备{serial:08}号-{}", 1 + numbers.below(9)),
    };
    FilingRecord {
        status: Status::Connected,
        connected_elsewhere: false,
        access_under_review: false,
        number: Some(FilingNumber::parse(&text).expect("numbers of this form exist")),
    }
}

fn name(index: u64, prefix: &str) -> String {
    let mut numbers = Numbers(index);
    let place = numbers.below(1000);
    let word: String = (0..2 + numbers.below(3)).map(|_| numbers.pick(&SYLLABLES)).collect();
    // The index in base 36 keeps names apart, as digits in real names do.
    let label = format!("{prefix}{word}{}", base36(index));
    if place < GOVERNMENT {
        return match numbers.below(3) {
            0 => format!("{label}.gov.cn"),
            1 => format!("{}.{label}.gov.cn", numbers.pick(&SYLLABLES)),
            _ => format!("{label}.xn--zfr164b"),
        };
    }
    let mut place = numbers.below(1000);
    for (share, suffix) in SUFFIXES {
        if place < share {
            return format!("{label}.{suffix}");
        }
        place -= share;
    }
    format!("{label}.cn")
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        let digit = u32::try_from(number % 36).expect("it is below 36");
        digits.push(char::from_digit(digit, 36).expect("it is below 36"));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}
