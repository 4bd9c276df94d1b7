//! A WebSocket server's part of RFC 6455: messages of a client come back, pings are answered, a close is returned.

const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// What is said to the frames at the front of `octets`, which are taken out; what is incomplete stays.
pub fn answer(octets: &mut Vec<u8>) -> Vec<u8> {
    let mut said = Vec::new();
    while let Some((first, payload, end)) = frame(octets) {
        octets.drain(..end);
        // Messages come back as they are, piece by piece, a ping as a pong, a close as a close.
        said.push(if first == PING { PONG } else { first });
        match payload.len() {
            short @ 0..126 => said.push(u8::try_from(short).unwrap()),
            middling @ 126..65536 => {
                said.push(126);
                said.extend(u16::try_from(middling).unwrap().to_be_bytes());
            }
            long => {
                said.push(127);
                said.extend((long as u64).to_be_bytes());
            }
        }
        said.extend(payload);
    }
    said
}

/// The first frame, if it is whole: its first octet, what it says, and where it ends. Clients' frames are masked.
fn frame(octets: &[u8]) -> Option<(u8, Vec<u8>, usize)> {
    let (first, second) = (*octets.first()?, *octets.get(1)?);
    assert!(second & 0x80 != 0, "clients' frames are masked");
    let (length, from) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(octets.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(octets.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask = octets.get(from..from + 4)?;
    let masked = octets.get(from + 4..from + 4 + length)?;
    let payload = masked.iter().zip(mask.iter().cycle()).map(|(octet, mask)| octet ^ mask).collect();
    Some((first, payload, from + 4 + length))
}
