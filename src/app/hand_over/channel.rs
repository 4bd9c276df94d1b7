//! Messages between an old and a new process, with sockets travelling along.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Sockets that travel with one message; the kernel takes 253.
pub(super) const MAX_SOCKETS: usize = 128;
/// Octets of a message.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;
const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_SOCKETS));

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// Both ends, each closed where a process executes another program.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that this process was given.
    pub(super) fn of(end: OwnedFd) -> Self {
        Self(end)
    }

    pub(super) fn send(&self, message: &impl Serialize, sockets: &[TcpListener]) -> io::Result<()> {
        let octets = serde_json::to_vec(message)?;
        if octets.len() > MAX_MESSAGE_BYTES || sockets.len() > MAX_SOCKETS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut along = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !along.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        sendmsg(&self.0, &[IoSlice::new(&octets)], &mut along, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message and the sockets that came with it; `UnexpectedEof` where the other side is gone, `TimedOut`
    /// where it says nothing for so long.
    pub(super) fn receive<M: DeserializeOwned>(
        &self,
        patience: Duration,
    ) -> io::Result<(M, Vec<TcpListener>)> {
        socket2::SockRef::from(&self.0).set_read_timeout(Some(patience))?;
        let mut octets = vec![0; MAX_MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut along = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut into = [IoSliceMut::new(&mut octets)];
            match recvmsg(&self.0, &mut into, &mut along, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(rustix::io::Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
                other => break other?.bytes,
            }
        };
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in along.drain() {
            if let RecvAncillaryMessage::ScmRights(travelled) = message {
                sockets.extend(travelled.map(TcpListener::from));
            }
        }
        Ok((serde_json::from_slice(&octets[..received])?, sockets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_travel() {
        let (old, new) = Channel::pair().unwrap();
        let new = Channel::of(new);
        let sockets: Vec<_> = (0..MAX_SOCKETS).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|it| it.local_addr().unwrap()).collect();
        old.send(&"these", &sockets).unwrap();
        old.send(&"none", &[]).unwrap();
        drop((old, sockets));
        let (text, arrived) = new.receive::<String>(Duration::from_secs(5)).unwrap();
        assert_eq!(text, "these");
        assert_eq!(arrived.iter().map(|it| it.local_addr().unwrap()).collect::<Vec<_>>(), addresses);
        // They are open although the sender closed its own.
        assert!(std::net::TcpStream::connect(addresses[0]).is_ok());
        let (text, arrived) = new.receive::<String>(Duration::from_secs(5)).unwrap();
        assert_eq!((text.as_str(), arrived.len()), ("none", 0));
        let gone = new.receive::<String>(Duration::from_secs(5)).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn silence_ends_and_nonsense_is_an_error() {
        let (old, new) = Channel::pair().unwrap();
        let new = Channel::of(new);
        let late = new.receive::<String>(Duration::from_millis(20)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        old.send(&7, &[]).unwrap();
        assert!(new.receive::<String>(Duration::from_secs(5)).is_err());
    }
}
