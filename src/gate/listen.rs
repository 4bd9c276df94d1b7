//! Listening sockets, one per worker and address, and who may still connect.

use crate::config::{KeepAlive, NO_ADDRESS, SocketOptions};
use crate::gate::local;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpStream, UnixListener};

const SHARDS: usize = 64;

/// Binds one listening socket per worker to the same address; a port of 0 is chosen once, for all.
///
/// # Errors
/// The system's; nothing stays bound then.
pub fn bind(address: SocketAddr, options: SocketOptions, workers: usize) -> io::Result<Vec<TcpListener>> {
    // A port that another process holds must be an error, not a share in it: SO_REUSEPORT would hide that.
    if address.port() != 0 {
        drop(socket(address, options, false)?);
    }
    let first = socket(address, options, true)?;
    let bound = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(socket(bound, options, true)?);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, options: SocketOptions, is_shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.is_only_v6)?;
    }
    // Small writes are whole messages here. Accepted sockets inherit it: no call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    tune(&SockRef::from(&socket), options)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog.into())?;
    Ok(socket.into())
}

/// Sets what accepted sockets inherit.
fn tune(socket: &SockRef<'_>, options: SocketOptions) -> io::Result<()> {
    socket.set_keepalive(options.keep_alive.is_some())?;
    watch_peer(socket, options.keep_alive, options.user_timeout)
}

/// Has the system find out whether the peer is still there; does nothing that is not asked for.
///
/// # Errors
/// The system's.
pub fn watch_peer(
    socket: &SockRef<'_>,
    keep_alive: Option<KeepAlive>,
    user_timeout: Option<Duration>,
) -> io::Result<()> {
    if let Some(KeepAlive { idle, interval, probes }) = keep_alive {
        let set = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes.into());
        socket.set_tcp_keepalive(&set)?;
    }
    socket.set_tcp_user_timeout(user_timeout)
}

/// The same for a listening socket that is there already, of an older process or config.
///
/// # Errors
/// The system's.
pub fn retune(socket: &TcpListener, options: SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    tune(&socket, options)?;
    socket.listen(options.backlog.into())
}

/// What connections come by.
#[derive(Debug)]
pub enum Source {
    /// An address.
    Tcp(tokio::net::TcpListener),
    /// A Unix socket.
    Local(UnixListener),
}

impl Source {
    /// Of a socket that listens, within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn new(socket: TcpListener, is_local: bool) -> io::Result<Self> {
        Ok(match is_local {
            true => Self::Local(UnixListener::from_std(OwnedFd::from(socket).into())?),
            false => Self::Tcp(tokio::net::TcpListener::from_std(socket)?),
        })
    }

    /// The next connection, and whose it is; an IPv4 client's address is one, whatever the socket's.
    ///
    /// # Errors
    /// The system's.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Tcp(socket) => {
                let (tcp, peer) = socket.accept().await?;
                Ok((tcp, SocketAddr::new(peer.ip().to_canonical(), peer.port())))
            }
            Self::Local(socket) => Ok((local::accept(socket).await?, NO_ADDRESS)),
        }
    }
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
    client: Option<IpAddr>,
}

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(most: usize, most_per_client: usize) -> Arc<Self> {
        let clients = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { most, most_per_client, open: AtomicUsize::new(0), clients, hash: RandomState::new() })
    }

    /// A place for one more connection; whose it is, `Place::claim` tells. `None` where the limit is reached.
    #[must_use]
    pub fn admit(self: &Arc<Self>) -> Option<Place> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { admission: Arc::clone(self), client: None })
    }

    /// That there may be.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
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

impl Place {
    /// Counts the place as this client's (`ClientWidth::of`); `false` where it has as many as it may have.
    #[must_use]
    pub fn claim(&mut self, client: IpAddr) -> bool {
        let mut shard = self.admission.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(client).or_default();
        if *count >= self.admission.most_per_client {
            return false;
        }
        *count += 1;
        self.client = Some(client);
        true
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.open.fetch_sub(1, Ordering::Relaxed);
        let Some(client) = self.client else { return };
        let mut shard = self.admission.shard(client).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientWidth;

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(3, 2);
        let admit = |text: &str| {
            let mut place = admission.admit()?;
            place.claim(ClientWidth::default().of(text.parse().unwrap())).then_some(place)
        };
        let first = admit("2001:db8::1").unwrap();
        let _second = admit("2001:db8::2").unwrap();
        assert!(admit("2001:db8::3").is_none(), "two for each client, and a /64 is one");
        let _third = admit("192.0.2.2").unwrap();
        assert!(admit("192.0.2.2").is_none(), "three in all");
        drop(first);
        assert!(admit("::ffff:192.0.2.2").is_some());
        assert_eq!(admission.open(), 2);
    }

    #[test]
    fn a_port_in_use_is_an_error() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(
            bind(held.local_addr().unwrap(), SocketOptions::default(), 2).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    /// Accepted sockets need no call of their own.
    #[test]
    fn what_is_set_is_inherited() {
        let seconds = std::time::Duration::from_secs;
        let keep_alive = Some(KeepAlive { idle: seconds(7), interval: seconds(3), probes: 2 });
        let options = SocketOptions { keep_alive, user_timeout: Some(seconds(9)), ..Default::default() };
        let listener = bind("127.0.0.1:0".parse().unwrap(), options, 1).unwrap().remove(0);
        let accept = || {
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            loop {
                match listener.accept() {
                    Ok((tcp, _)) => return tcp,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        };
        let tcp = accept();
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds(7));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds(3));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 2);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(seconds(9)));
        retune(&listener, SocketOptions::default()).unwrap();
        assert!(!SockRef::from(&accept()).keepalive().unwrap());
    }

    #[test]
    fn workers_share_a_chosen_port() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), SocketOptions::default(), 3).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|l| l.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports.iter().all(|port| *port == ports[0]));
    }
}
