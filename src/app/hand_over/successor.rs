//! The old process's side: starts the new one, hands it the sockets, and learns how far it has come.

use super::channel::{Channel, MAX_SOCKETS};
use super::{FromNew, FromOld, PREPARE_TIME, READY_TIME, VARIABLE};
use crate::app::listeners::Group;
use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc as handed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What service managers say to one process and not to its children.
const OF_THIS_PROCESS: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How long a new process that failed may take to end, and how often that is looked at.
const END_TIME: Duration = Duration::from_secs(1);
const END_POLL: Duration = Duration::from_millis(10);

/// How far the new process has come.
#[derive(Debug)]
pub(in crate::app) enum Event {
    /// It waits for data directory and database: `Successor::released` says that they are free.
    Prepared,
    /// It accepts.
    Ready,
    /// It ended, or was ended; why.
    Failed(anyhow::Error),
}

/// The process that was started to take over.
#[derive(Debug)]
pub(in crate::app) struct Successor {
    /// Its number.
    pub(in crate::app) pid: u32,
    events: mpsc::UnboundedReceiver<Event>,
    release: handed::Sender<bool>,
}

impl Successor {
    /// Starts it with this process's arguments, and hands it these sockets and what session tickets are sealed with.
    pub(in crate::app) fn start(groups: Vec<Arc<Group>>, ticket_keys: Vec<String>) -> Result<Self> {
        if std::process::id() == 1 {
            bail!(
                "this is process 1, whose end would end all others of its container; start a new container instead"
            );
        }
        let program = program()?;
        let (channel, theirs) = Channel::pair()?;
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).env(VARIABLE, "1").stdin(Stdio::from(theirs));
        for variable in OF_THIS_PROCESS {
            command.env_remove(variable);
        }
        let child = command.spawn().with_context(|| format!("can't start {}", program.display()))?;
        // Its end of the channel: held here, the channel would outlive it.
        drop(command);
        tracing::info!(pid = child.id(), program = %program.display(), "SIGUSR2: handing over to a new process");
        let (tell, events) = mpsc::unbounded_channel();
        let (release, released) = handed::channel();
        let pid = child.id();
        let talk = Talk { child, channel, tell, released };
        std::thread::Builder::new().name("hand-over".into()).spawn(move || talk.run(&groups, ticket_keys))?;
        Ok(Self { pid, events, release })
    }

    /// What comes next.
    pub(in crate::app) async fn event(&mut self) -> Event {
        let event = self.events.recv().await;
        event.unwrap_or_else(|| Event::Failed(anyhow::anyhow!("nobody tells how it goes on")))
    }

    /// Data directory and database are free.
    pub(in crate::app) fn released(&self, has_filings: bool) {
        // Nobody takes it where the new process ended meanwhile, which the next event tells.
        let _ = self.release.send(has_filings);
    }

    /// Ends it: the old process is to end, and not to be followed.
    pub(in crate::app) fn kill(&self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

/// The conversation, on a thread of its own: it waits on the channel.
struct Talk {
    child: Child,
    channel: Channel,
    tell: mpsc::UnboundedSender<Event>,
    released: handed::Receiver<bool>,
}

impl Talk {
    fn run(mut self, groups: &[Arc<Group>], ticket_keys: Vec<String>) {
        let event = match self.hand_over(groups, ticket_keys) {
            Ok(()) => Event::Ready,
            Err(error) => Event::Failed(self.end(error)),
        };
        let _ = self.tell.send(event);
    }

    fn hand_over(&self, groups: &[Arc<Group>], ticket_keys: Vec<String>) -> Result<()> {
        for (number, group) in groups.iter().enumerate() {
            for sockets in group.sockets.chunks(MAX_SOCKETS) {
                let message = FromOld::Sockets { group: number, name: group.name.clone() };
                self.channel.send(&message, sockets).context("its sockets can't be sent")?;
            }
        }
        self.channel.send(&FromOld::Tickets { keys: ticket_keys }, &[])?;
        self.channel.send(&FromOld::End, &[])?;
        self.expect(&FromNew::Prepared, PREPARE_TIME)?;
        self.tell.send(Event::Prepared)?;
        let has_filings = self.released.recv()?;
        self.channel.send(&FromOld::Released { has_filings }, &[])?;
        self.expect(&FromNew::Ready, READY_TIME)
    }

    fn expect(&self, message: &FromNew, patience: Duration) -> Result<()> {
        let (said, _) = self.channel.receive::<FromNew>(patience).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => anyhow::anyhow!("it ended before it was ready"),
            io::ErrorKind::TimedOut => anyhow::anyhow!("it was not {message:?} within {patience:?}"),
            _ => error.into(),
        })?;
        if said == *message { Ok(()) } else { bail!("it said {said:?} where {message:?} was due") }
    }

    /// Makes sure that the new process is gone; what there is to say of its end.
    fn end(&mut self, error: anyhow::Error) -> anyhow::Error {
        // One that ends by itself tells more by its exit code than one that is killed.
        let since = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && since.elapsed() < END_TIME {
            std::thread::sleep(END_POLL);
        }
        let ended = match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            _ => self.child.kill().and_then(|()| self.child.wait()),
        };
        match ended {
            Ok(status) => error.context(format!("the new process failed ({status})")),
            Err(_) => error,
        }
    }
}

/// The binary to start: what this process was started as, which may be another file by now.
fn program() -> Result<PathBuf> {
    let named = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if named.components().count() > 1 {
        return Ok(named);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|it| it.join(&named)).find(|it| it.is_file());
    if let Some(found) = found.filter(|_| !named.as_os_str().is_empty()) {
        return Ok(found);
    }
    let running = std::env::current_exe().context("can't tell what binary this is")?;
    Ok(replaced(&running))
}

/// The kernel names a binary that was replaced `PATH (deleted)`.
fn replaced(running: &Path) -> PathBuf {
    let text = running.as_os_str().to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| running.to_owned(), |path| OsString::from(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_binary_is_found_at_its_path() {
        for (running, expected) in [("/usr/bin/a", "/usr/bin/a"), ("/usr/bin/a (deleted)", "/usr/bin/a")] {
            assert_eq!(replaced(Path::new(running)), Path::new(expected));
        }
    }
}
