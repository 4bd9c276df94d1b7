//! Unix sockets: made, accepted on, connected to.
//!
//! What comes of one is a stream of octets like TCP's, and the type that the data path has for those holds any stream
//! socket: it is read, written, spliced and shut down alike. Addresses are all that it has none of, and nobody asks a
//! stream for them.

use crate::config::LocalSocket;
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use tokio::net::{TcpStream, UnixListener, UnixStream};

/// Makes a listening socket at that path. A file that a socket left there whose process is gone is replaced; anything
/// else is not.
///
/// # Errors
/// `AddrInUse` where somebody listens there, `AlreadyExists` where there is a file of another kind; the system's.
pub fn bind(local: &LocalSocket, backlog: u16) -> io::Result<TcpListener> {
    make_room(&local.path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    // Before there is a file: it is never open to more than it is to be in the end.
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(local.mode))?;
    socket.bind(&SockAddr::unix(&local.path)?)?;
    permit(local)?;
    socket.listen(backlog.into())?;
    Ok(socket.into())
}

/// Lets in who may open it.
///
/// # Errors
/// The system's.
pub fn permit(local: &LocalSocket) -> io::Result<()> {
    if local.owner.is_some() || local.group.is_some() {
        std::os::unix::fs::chown(&local.path, local.owner, local.group)?;
    }
    std::fs::set_permissions(&local.path, Permissions::from_mode(local.mode))
}

/// Takes the file away: nobody is to find a socket that accepts no more.
pub fn withdraw(local: &LocalSocket) {
    // What stays behind is taken for what it is by the next to come.
    let _ = std::fs::remove_file(&local.path);
}

fn make_room(path: &Path) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        // Nobody has it any more.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        // It answers, or has too much to do to answer.
        Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

/// The next connection.
///
/// # Errors
/// The system's.
pub async fn accept(socket: &UnixListener) -> io::Result<TcpStream> {
    stream(socket.accept().await?.0)
}

/// Connects to the socket at that path.
///
/// # Errors
/// The system's.
pub async fn connect(path: &str) -> io::Result<TcpStream> {
    stream(UnixStream::connect(path).await?)
}

fn stream(socket: UnixStream) -> io::Result<TcpStream> {
    TcpStream::from_std(OwnedFd::from(socket.into_std()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn local(path: &Path) -> LocalSocket {
        LocalSocket { path: path.to_owned(), mode: 0o600, owner: None, group: None }
    }

    #[tokio::test]
    async fn octets_pass_both_ways() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let socket = OwnedFd::from(bind(&local(&path), 16).unwrap());
        let listener = UnixListener::from_std(socket.into()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (client, server) = tokio::join!(connect(path.to_str().unwrap()), accept(&listener));
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        client.write_all(b"there").await.unwrap();
        client.shutdown().await.unwrap();
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        server.write_all(b"and back").await.unwrap();
        drop(server);
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "thereand back");
    }

    #[test]
    fn what_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        let first = bind(&local(&path), 1).unwrap();
        assert_eq!(bind(&local(&path), 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(path.exists(), "a socket that is closed leaves its file");
        drop(bind(&local(&path), 1).unwrap());
        withdraw(&local(&path));
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(bind(&local(&path), 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
