//! Filing numbers: a number's canonical text parses back to it, and its bits unpack to it.

#![no_main]

use beian_gate::filing::FilingNumber;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Some(bits) = input.first_chunk::<8>().map(|octets| u64::from_le_bytes(*octets))
        && let Some(number) = FilingNumber::unpack(bits)
    {
        assert_eq!(number.pack(), Some(bits));
        check(&number);
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(number) = FilingNumber::parse(text)
    {
        check(&number);
    }
});

fn check(number: &FilingNumber) {
    let text = number.to_string();
    assert_eq!(FilingNumber::parse(&text).as_ref(), Ok(number), "{text}");
    if let Some(bits) = number.pack() {
        assert_eq!(FilingNumber::unpack(bits).as_ref(), Some(number), "{text}");
    }
    let subject = number.subject();
    assert!(!subject.is_site(), "{text}");
    assert_eq!(subject.subject(), subject, "{text}");
    assert_eq!(subject.province(), number.province(), "{text}");
    assert_eq!(FilingNumber::parse(&subject.to_string()), Ok(subject), "{text}");
    let _ = (number.kind(), number.is_licence());
}
