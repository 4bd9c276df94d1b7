//! A name server: what a test says a name stands for, over UDP, with a TTL of nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// What is said of a name.
#[derive(Debug, Clone)]
pub enum Says {
    /// These addresses; none of a kind is an answer without records.
    Addresses(Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// It has failed to find out.
    Failed,
}

pub struct Dns {
    pub address: SocketAddr,
    names: Arc<Mutex<HashMap<String, Says>>>,
}

const A: u16 = 1;
const AAAA: u16 = 28;

impl Dns {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let names = Arc::<Mutex<HashMap<String, Says>>>::default();
        let of_thread = Arc::clone(&names);
        std::thread::spawn(move || {
            let mut octets = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut octets) {
                if let Some(answer) = answer(&octets[..length], &of_thread) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, names }
    }

    pub fn says(&self, name: &str, what: Says) {
        self.names.lock().unwrap().insert(name.to_owned(), what);
    }

    pub fn has(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|one| one.parse().unwrap()).collect();
        self.says(name, Says::Addresses(addresses));
    }
}

/// The answer to a question (RFC 1035, 4): the question again, and records that point to its name.
fn answer(asked: &[u8], names: &Mutex<HashMap<String, Says>>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*asked.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(asked.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*asked.get(at)?, *asked.get(at + 1)?]);
    let question = asked.get(12..at + 4)?;
    let says = names.lock().unwrap().get(&labels.join(".")).cloned().unwrap_or(Says::NoSuchName);
    let (code, records): (u8, Vec<Vec<u8>>) = match says {
        Says::NoSuchName => (3, Vec::new()),
        Says::Failed => (2, Vec::new()),
        Says::Addresses(addresses) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(v4) if kind == A => Some(v4.octets().to_vec()),
                IpAddr::V6(v6) if kind == AAAA => Some(v6.octets().to_vec()),
                _ => None,
            };
            (0, addresses.into_iter().filter_map(octets).collect())
        }
    };
    let count = u8::try_from(records.len()).ok()?;
    let mut answer = asked[..2].to_vec();
    answer.extend([0x84, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    for record in records {
        let length = u8::try_from(record.len()).ok()?;
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 0, 0, length]);
        answer.extend(record);
    }
    Some(answer)
}
