//! Large clear bodies go from socket to socket by `splice(2)`: their octets never enter this process.
//!
//! The octets wait in a pipe, of which each worker keeps a few; one is held only while something is in it. Knows
//! nothing of HTTP: who calls says how many octets may go.

use rustix::pipe::{PipeFlags, SpliceFlags};
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// From this many octets on a body is spliced: below it the copying costs less than the calls.
pub const FROM_BYTES: u64 = 256 * 1024;
/// Octets that a pipe is asked to hold.
const PIPE_BYTES: usize = 256 * 1024;
/// Spare pipes kept per worker.
const MAX_SPARE: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(spare) = SPARE.with_borrow_mut(Vec::pop) {
            return Ok(spare);
        }
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Beyond what the system allows it stays as it is, and takes more calls.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }

    /// Only an empty pipe may go to the next.
    fn give_back(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MAX_SPARE {
                spare.push(self);
            }
        });
    }
}

/// Which side failed.
#[derive(Debug)]
pub enum Failure {
    /// Where octets come from.
    From(io::Error),
    /// Where they go.
    To(io::Error),
}

/// Octets on their way.
#[derive(Debug, Default)]
pub struct Splice {
    /// Never empty, and how much is in it.
    pipe: Option<(Pipe, usize)>,
    /// Octets that have arrived.
    pub moved: u64,
}

impl Splice {
    /// Whether octets are on their way: nothing else may be written before they have arrived.
    #[must_use]
    pub fn holds_octets(&self) -> bool {
        self.pipe.is_some()
    }

    /// Moves octets as far as both sides let it, `left` at most, which counts what was taken. Ready when `left` have
    /// arrived (`true`) or `from` has ended (`false`) and nothing is under way.
    ///
    /// # Errors
    /// `Failure`; octets in the pipe are lost then.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&TcpStream, &TcpStream),
        left: &mut u64,
    ) -> Poll<Result<bool, Failure>> {
        loop {
            if let Some((pipe, held)) = &mut self.pipe {
                ready!(to.poll_write_ready(cx)).map_err(Failure::To)?;
                let written = to.try_io(Interest::WRITABLE, || splice(&pipe.read, to, *held));
                match written {
                    Ok(0) => return Poll::Ready(Err(Failure::To(io::ErrorKind::WriteZero.into()))),
                    Ok(octets) => {
                        *held = held.saturating_sub(octets);
                        self.moved += octets as u64;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(Failure::To(error))),
                }
                if *held == 0
                    && let Some((pipe, _)) = self.pipe.take()
                {
                    pipe.give_back();
                }
                continue;
            }
            if *left == 0 {
                return Poll::Ready(Ok(true));
            }
            // Into an empty pipe, so that `WouldBlock` can only speak of the socket.
            ready!(from.poll_read_ready(cx)).map_err(Failure::From)?;
            let pipe = Pipe::take().map_err(Failure::From)?;
            let most = usize::try_from(*left).unwrap_or(usize::MAX).min(PIPE_BYTES);
            match from.try_io(Interest::READABLE, || splice(from, &pipe.write, most)) {
                Ok(0) => {
                    pipe.give_back();
                    return Poll::Ready(Ok(false));
                }
                Ok(octets) => {
                    *left -= octets as u64;
                    self.pipe = Some((pipe, octets));
                }
                Err(error) => {
                    pipe.give_back();
                    if error.kind() != io::ErrorKind::WouldBlock {
                        return Poll::Ready(Err(Failure::From(error)));
                    }
                }
            }
        }
    }
}

fn splice(from: &impl std::os::fd::AsFd, to: &impl std::os::fd::AsFd, most: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}
