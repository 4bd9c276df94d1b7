//! Listening sockets, one per worker and address, and who may still connect.

use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that may wait to be accepted, per socket.
const BACKLOG: i32 = 4096;
const SHARDS: usize = 64;

/// Binds one listening socket per worker to the same address; a port of 0 is chosen once, for all.
///
/// # Errors
/// The system's; nothing stays bound then.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // A port that another process holds must be an error, not a share in it: SO_REUSEPORT would hide that.
    if address.port() != 0 {
        drop(socket(address, false)?);
    }
    let first = socket(address, true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(socket(bound, true)?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Counts connections: in all, and per client address.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    most_per_client: usize,
    open: AtomicUsize,
    clients: Vec<Mutex<HashMap<IpAddr, usize>>>,
    hash: RandomState,
}

/// A connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        let clients = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { most, most_per_client, open: AtomicUsize::new(0), clients, hash: RandomState::new() })
    }

    /// A place for one more connection of this client; `None` where a limit is reached.
    #[must_use]
    pub fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let mut shard = self.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(client).or_default();
        if *count >= self.most_per_client {
            drop(shard);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        *count += 1;
        Some(Place { admission: Arc::clone(self), client })
    }

    /// Connections open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn shard(&self, client: IpAddr) -> &Mutex<HashMap<IpAddr, usize>> {
        &self.clients[usize::try_from(self.hash.hash_one(client) % SHARDS as u64).unwrap_or(0)]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let mut shard = self.admission.shard(self.client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(3, 2);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert!(admission.admit(one).is_none(), "two for each client");
        let _third = admission.admit(other).unwrap();
        assert!(admission.admit(other).is_none(), "three in all");
        drop(first);
        assert!(admission.admit(other).is_some());
        assert_eq!(admission.open(), 2);
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(bind(held.local_addr().unwrap(), 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn workers_share_a_chosen_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }
}
