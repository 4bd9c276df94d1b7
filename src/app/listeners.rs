//! Listening sockets: those that an older process or the service manager handed over, else bound here; and which
//! worker accepts on which.
//!
//! Kernels deal new connections out among all sockets of a `SO_REUSEPORT` group, also among those that nobody
//! accepts on: none of a group is ever left out, and none is closed while another process still takes from it.

use crate::config::{self, NO_ADDRESS, SocketOptions};
use crate::gate::client::Listener;
use crate::gate::doors::Doors;
use crate::gate::{listen, local};
use anyhow::{Context, Result};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// All sockets of one address: one per worker of the process that bound them.
#[derive(Debug)]
pub(super) struct Group {
    /// What they are for, by kind and address as configured: how a successor finds them.
    pub(super) name: String,
    /// Where they are bound (a port of 0 resolved); `NO_ADDRESS` where it is a Unix socket.
    pub(super) address: SocketAddr,
    /// A Unix socket.
    pub(super) is_local: bool,
    /// At least one.
    pub(super) sockets: Vec<TcpListener>,
}

impl Group {
    fn new(name: String, sockets: Vec<TcpListener>) -> Result<Arc<Self>> {
        let first = sockets.first().context("a group of sockets holds one at least")?;
        let is_local = local_path(first).is_some();
        let address = if is_local { NO_ADDRESS } else { first.local_addr()? };
        Ok(Arc::new(Self { name, address, is_local, sockets }))
    }

    /// A handle of its own to the first socket, for who serves it alone.
    pub(super) fn one(&self) -> io::Result<TcpListener> {
        self.sockets[0].try_clone()
    }

    /// Handles to the sockets on which this worker of so many accepts: each socket has a worker, each worker a
    /// socket.
    pub(super) fn for_worker(&self, worker: usize, workers: usize) -> io::Result<Vec<TcpListener>> {
        let sockets = self.sockets.len();
        if worker >= sockets {
            return Ok(vec![self.sockets[worker % sockets].try_clone()?]);
        }
        self.sockets.iter().skip(worker).step_by(workers.max(1)).map(TcpListener::try_clone).collect()
    }
}

/// Where a Unix socket was bound.
fn local_path(socket: &TcpListener) -> Option<PathBuf> {
    let bound = socket2::SockRef::from(socket).local_addr().ok()?;
    bound.as_pathname().map(Path::to_owned)
}

/// Sockets that this process was given, by name or by address, until somebody takes them.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// By an older process of ours.
    pub(super) handed: Vec<(String, Vec<TcpListener>)>,
    /// By the service manager (`LISTEN_FDS`).
    pub(super) activated: Vec<TcpListener>,
}

impl Inherited {
    /// Those of the service manager.
    pub(super) fn activated() -> Result<Self> {
        let mut given = listenfd::ListenFd::from_env();
        let mut activated = Vec::new();
        for at in 0..given.len() {
            // One that is no Unix socket's stays where it is, to be taken as the other kind.
            if let Ok(Some(local)) = given.take_unix_listener(at) {
                activated.push(OwnedFd::from(local).into());
                continue;
            }
            let socket = given.take_tcp_listener(at);
            activated.extend(socket.context("LISTEN_FDS: a socket that is no listener's, of TCP or Unix")?);
        }
        Ok(Self { handed: Vec::new(), activated })
    }

    /// The sockets of that name, or those bound to that address, or new ones.
    pub(super) fn take_or_bind(
        &mut self,
        name: String,
        address: SocketAddr,
        (workers, key): (usize, &str),
    ) -> Result<Arc<Group>> {
        if let Some(at) = self.handed.iter().position(|(handed, _)| *handed == name) {
            return Group::new(name, self.handed.swap_remove(at).1);
        }
        let is_there = |socket: &TcpListener| socket.local_addr().is_ok_and(|bound| bound == address);
        if let Some(at) = self.activated.iter().position(is_there) {
            let socket = self.activated.remove(at);
            socket.set_nonblocking(true)?;
            // What `listen::bind` sets as well: accepted sockets inherit it.
            let _ = socket2::SockRef::from(&socket).set_tcp_nodelay(true);
            return Group::new(name, vec![socket]);
        }
        let bound = listen::bind(address, SocketOptions::default(), workers);
        Group::new(name, bound.with_context(|| cannot_listen(&address, key))?)
    }

    /// The same for a listener, its sockets set as it says.
    fn take_or_bind_for(
        &mut self,
        name: String,
        listener: &config::Listener,
        (workers, key): (usize, &str),
    ) -> Result<Arc<Group>> {
        let at = |place: &dyn std::fmt::Display| cannot_listen(place, key);
        if let Some(local) = &listener.local {
            let is_there = |socket: &TcpListener| local_path(socket).as_ref() == Some(&local.path);
            let handed = self.handed.iter().position(|(handed, _)| *handed == name);
            let activated = self.activated.iter().position(is_there);
            if let Some(sockets) = handed.map(|at| self.handed.swap_remove(at).1) {
                return Group::new(name, sockets);
            }
            let socket = match activated {
                Some(at) => self.activated.remove(at),
                None => {
                    local::bind(local, listener.socket.backlog).with_context(|| at(&local.path.display()))?
                }
            };
            socket.set_nonblocking(true)?;
            return Group::new(name, vec![socket]);
        }
        let is_given = self.handed.iter().any(|(handed, _)| *handed == name)
            || self.activated.iter().any(|it| it.local_addr().is_ok_and(|bound| bound == listener.address));
        if is_given {
            return self.take_or_bind(name, listener.address, (workers, key));
        }
        let bound = listen::bind(listener.address, listener.socket, workers);
        Group::new(name, bound.with_context(|| at(&listener.address))?)
    }

    /// Says what nobody took.
    pub(super) fn finish(self) {
        for socket in &self.activated {
            let address = local_path(socket).map(|path| path.display().to_string());
            let address = address.or_else(|| Some(socket.local_addr().ok()?.to_string())).unwrap_or_default();
            tracing::warn!(
                address,
                "the service manager handed over a socket that no address in the config names; closing it"
            );
        }
    }
}

/// What to say where an address can't be had.
fn cannot_listen(address: &dyn std::fmt::Display, key: &str) -> String {
    format!(
        "{key}: can't listen on {address}; stop what holds it, or give another address (port 0 takes a free one)"
    )
}

/// A listener of the config and its sockets.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) listener: Arc<Listener>,
    pub(super) group: Arc<Group>,
    /// What it speaks.
    pub(super) protocol: config::Protocol,
}

/// Where clients connect. Workers accept on what the newest layout holds, and on nothing else.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// In the order of the config.
    pub(super) bound: Vec<Bound>,
}

impl Layout {
    /// Takes or binds every listener, or nothing. What `old` has stays as it is; how it is set, `doors` say.
    pub(super) fn new(
        (configured, doors): (&[config::Listener], &Doors),
        workers: usize,
        inherited: &mut Inherited,
        old: &Self,
    ) -> Result<Self> {
        let keys = config::Listener::keys(configured);
        let bound = configured.iter().zip(keys).enumerate().map(|(index, (listener, key))| {
            let name = format!("listener {key}");
            let known = old.bound.iter().find(|it| it.group.name == name);
            let group = match known {
                Some(known) => Arc::clone(&known.group),
                None => {
                    let place = format!("listener {}", index + 1);
                    inherited.take_or_bind_for(name, listener, (workers, &place))?
                }
            };
            set(&group, listener)?;
            let protocol = listener.protocol;
            let listener = match known {
                Some(known) => Arc::clone(&known.listener),
                None => {
                    let place = doors.place(&key).context("a listener without settings")?;
                    Arc::new(Listener::new((key, place), listener, group.address))
                }
            };
            Ok(Bound { listener, group, protocol })
        });
        Ok(Self { bound: bound.collect::<Result<_>>()? })
    }

    /// Where clients connect, as the admin API shows it.
    pub(super) fn addresses(&self) -> Vec<(config::Protocol, SocketAddr)> {
        let tcp = self.bound.iter().filter(|it| !it.group.is_local);
        tcp.map(|it| (it.protocol, it.listener.address)).collect()
    }

    /// The Unix sockets among them, as text.
    pub(super) fn locals(&self) -> Vec<(config::Protocol, String)> {
        let local = |it: &Bound| Some((it.protocol, it.listener.local.as_deref()?.to_owned()));
        self.bound.iter().filter_map(local).collect()
    }
}

/// Sets sockets as a config says that is not the one they were made by.
fn set(group: &Group, listener: &config::Listener) -> Result<()> {
    match &listener.local {
        Some(local) => local::permit(local)
            .with_context(|| format!("can't set mode, owner and group of {}", local.path.display())),
        None => group
            .sockets
            .iter()
            .try_for_each(|socket| listen::retune(socket, listener.socket))
            .with_context(|| format!("can't set the sockets of {}", listener.address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn bind(sockets: usize) -> Vec<TcpListener> {
        listen::bind(any(), SocketOptions::default(), sockets).unwrap()
    }

    fn group(sockets: usize) -> Arc<Group> {
        Group::new("listener".into(), bind(sockets)).unwrap()
    }

    /// A socket that nobody accepts on keeps its share of the connections waiting for ever.
    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        for (sockets, workers) in [(1, 1), (1, 4), (2, 5), (4, 2), (5, 3), (8, 8), (3, 1)] {
            let group = group(sockets);
            let seats: Vec<usize> =
                (0..workers).map(|worker| group.for_worker(worker, workers).unwrap().len()).collect();
            assert!(seats.iter().all(|held| *held > 0), "{sockets} sockets, {workers} workers: {seats:?}");
            assert_eq!(seats.iter().sum::<usize>(), sockets.max(workers), "{sockets}, {workers}: {seats:?}");
        }
    }

    #[test]
    fn what_was_handed_over_is_taken_by_name_and_once() {
        let [first, second] = [2, 1].map(bind);
        let ports = [&first, &second].map(|it| it[0].local_addr().unwrap());
        let handed = vec![("listener a".to_owned(), first), ("listener b".to_owned(), second)];
        let mut inherited = Inherited { handed, activated: Vec::new() };
        let mut take =
            |name: &str| inherited.take_or_bind(name.to_owned(), any(), (1, "key")).unwrap().address;
        assert!(!ports.contains(&take("admin")), "another's sockets are not taken");
        assert_eq!([take("listener a"), take("listener b")], ports);
        assert!(!ports.contains(&take("listener b")), "they are taken once");
    }

    #[test]
    fn what_the_service_manager_opened_is_found_by_address() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut inherited = Inherited { activated: vec![socket], ..Inherited::default() };
        let group = inherited.take_or_bind("listener".to_owned(), address, (4, "key")).unwrap();
        assert_eq!((group.address, group.sockets.len()), (address, 1));
    }
}
