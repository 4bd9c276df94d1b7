//! A record as a number below 2^53 instead of 64 bits, small for those that are common: what a slot has room for.
//!
//! Mixed radix, the site's index outermost: the narrower a slot is, the fewer indexes it holds, and nothing else
//! changes. What has no code, or too large a one, is kept by `odd`. Exact: a record that has a code is got back
//! bit by bit, whatever the bits mean.

use crate::filing::PackedRecord;

/// A slot that was never used.
pub(super) const FREE: u64 = 0;
/// A slot whose name was deleted.
pub(super) const DELETED: u64 = 1;
/// Set where the other bits are an index into `odd`.
pub(super) const ODD: u64 = 1 << 63;
/// The lowest code of a record.
const FIRST: u64 = 2;

// Where `PackedRecord` and `FilingNumber::pack` put things.
const INDEX_AND_KIND_BITS: u32 = 16;
const SERIAL_BITS: u32 = 34;
const TEN_DIGITS_AT: u32 = INDEX_AND_KIND_BITS + SERIAL_BITS;
const PROVINCE_AT: u32 = TEN_DIGITS_AT + 1;
const PROVINCE_BITS: u32 = 6;
const UNUSED_AT: u32 = PROVINCE_AT + PROVINCE_BITS;
const STATUS_AT: u32 = UNUSED_AT + 1;
const STATUS_BITS: u32 = 3;
const FLAGS_AT: u32 = STATUS_AT + STATUS_BITS;
const FLAGS_BITS: u32 = 2;

const STATUSES: u64 = 6;
/// 0 is none.
const PROVINCES: u64 = 36;
const HEADS: u64 = (1 << FLAGS_BITS) * STATUSES * PROVINCES;
const EIGHT_DIGITS: u64 = 100_000_000;
/// Serials of ten digits begin with the year of issue.
const TEN_DIGITS_FROM: u64 = 2_015_000_000;
const TEN_DIGITS: u64 = 20_000_000;
const SERIALS: u64 = EIGHT_DIGITS + TEN_DIGITS;

/// The code of a record; none for one that has to be kept elsewhere.
pub(super) fn compact(record: PackedRecord) -> Option<u64> {
    let field = |at: u32, bits: u32| record.0 >> at & ((1 << bits) - 1);
    if record.is_odd() || field(UNUSED_AT, 1) != 0 {
        return None;
    }
    let (status, province) =
        (field(STATUS_AT, STATUS_BITS).checked_sub(1)?, field(PROVINCE_AT, PROVINCE_BITS));
    let serial = match (field(TEN_DIGITS_AT, 1), field(INDEX_AND_KIND_BITS, SERIAL_BITS)) {
        (0, serial) if serial < EIGHT_DIGITS => serial,
        (1, serial) => match serial.checked_sub(TEN_DIGITS_FROM)? {
            since if since < TEN_DIGITS => EIGHT_DIGITS + since,
            _ => return None,
        },
        _ => return None,
    };
    if status >= STATUSES || province >= PROVINCES {
        return None;
    }
    let head = (field(FLAGS_AT, FLAGS_BITS) * STATUSES + status) * PROVINCES + province;
    let index_and_kind = field(0, INDEX_AND_KIND_BITS);
    Some(FIRST + (index_and_kind * SERIALS + serial) * HEADS + head)
}

/// The record of a code that `compact` gave.
pub(super) fn expand(code: u64) -> PackedRecord {
    let code = code.saturating_sub(FIRST);
    let (rest, head) = (code / HEADS, code % HEADS);
    let (index_and_kind, serial) = (rest / SERIALS, rest % SERIALS);
    let (rest, province) = (head / PROVINCES, head % PROVINCES);
    let (flags, status) = (rest / STATUSES, rest % STATUSES + 1);
    let serial = match serial.checked_sub(EIGHT_DIGITS) {
        None => serial << INDEX_AND_KIND_BITS,
        Some(since) => 1 << TEN_DIGITS_AT | (TEN_DIGITS_FROM + since) << INDEX_AND_KIND_BITS,
    };
    PackedRecord(flags << FLAGS_AT | status << STATUS_AT | province << PROVINCE_AT | serial | index_and_kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filing::{FilingNumber, FilingRecord, Status};
    use proptest::prelude::*;

    fn record(number: &str) -> PackedRecord {
        let number = Some(FilingNumber::parse(number).unwrap());
        let record = FilingRecord {
            status: Status::Pending,
            connected_elsewhere: true,
            access_under_review: false,
            number,
        };
        record.pack().0
    }

    #[test]
    fn common_records_have_small_codes() {
        let rows = [
            ("京ICP备12345678号", Some(37)),
            ("新ICP备99999999号-9", Some(40)),
            ("粤ICP备2024123456号-20", Some(41)),
            ("京ICP备12345678号-1A", Some(51)),
            ("京ICP备12345678号-16383K", Some(53)),
            ("京ICP备1234567890号-1", None),
            ("京ICP证030173号", None),
        ];
        for (number, most_bits) in rows {
            let code = compact(record(number));
            assert_eq!(code.is_some(), most_bits.is_some(), "{number}");
            assert!(
                code.is_none_or(|code| u64::BITS - code.leading_zeros() <= most_bits.unwrap()),
                "{number}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_code_is_its_record_s(
            bits in any::<u64>(),
            (province, serial, is_new, index) in (0_u64..40, 0_u64..130_000_000, any::<bool>(), 0_u64..1 << 16),
        ) {
            let number = province << PROVINCE_AT | index;
            let serial = match is_new {
                true => 1 << TEN_DIGITS_AT | (TEN_DIGITS_FROM + serial % 30_000_000) << INDEX_AND_KIND_BITS,
                false => serial << INDEX_AND_KIND_BITS,
            };
            let head = bits >> UNUSED_AT << UNUSED_AT;
            let likely = head & !PackedRecord::ODD & !(1 << UNUSED_AT) | number | serial;
            for bits in [bits, head | number | serial, likely] {
                if let Some(code) = compact(PackedRecord(bits)) {
                    prop_assert_eq!(expand(code), PackedRecord(bits));
                    prop_assert!((FIRST..1 << 53).contains(&code));
                }
            }
        }
    }
}
