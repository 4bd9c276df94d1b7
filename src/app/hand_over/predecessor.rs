//! The new process's side: takes what the old one hands over, and tells it how far it has come.

use super::channel::Channel;
use super::{FromNew, FromOld, PREPARE_TIME, RELEASE_TIME, VARIABLE};
use crate::app::listeners::Inherited;
use anyhow::{Context, Result, bail};
use std::net::TcpListener;

/// The process that this one takes over from.
#[derive(Debug)]
pub(in crate::app) struct Predecessor {
    channel: Channel,
    ticket_keys: Vec<String>,
}

impl Predecessor {
    /// The one that started this process to hand over, if one did, and the sockets that it handed over; else
    /// those of the service manager.
    pub(in crate::app) fn meet() -> Result<(Option<Self>, Inherited)> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok((None, Inherited::activated()?));
        }
        let channel = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)
            .with_context(|| format!("{VARIABLE} is set, but standard input is closed"))?;
        // Nothing reads standard input from here on; as a terminal's it would only be in the way.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let mut predecessor = Self { channel: Channel::of(channel), ticket_keys: Vec::new() };
        let inherited = predecessor.inherit().with_context(|| {
            format!(
                "can't take over; {VARIABLE} is set by a gate for the one that it starts, and by nobody else"
            )
        })?;
        Ok((Some(predecessor), inherited))
    }

    /// What session tickets are sealed with.
    pub(in crate::app) fn ticket_keys(&self) -> &[String] {
        &self.ticket_keys
    }

    fn inherit(&mut self) -> Result<Inherited> {
        let mut groups: Vec<(String, Vec<TcpListener>)> = Vec::new();
        loop {
            let (message, sockets) = self.channel.receive(PREPARE_TIME)?;
            match message {
                FromOld::Sockets { group, name: _ } if group < groups.len() => {
                    groups[group].1.extend(sockets)
                }
                FromOld::Sockets { name, .. } => groups.push((name, sockets)),
                FromOld::Tickets { keys } => self.ticket_keys = keys,
                FromOld::End => return Ok(Inherited { handed: groups, activated: Vec::new() }),
                FromOld::Released { .. } => bail!("the old process left before it handed its sockets over"),
            }
        }
    }

    /// Says that all is built, and waits until data directory and database are free. Whether the old process had
    /// filings.
    pub(in crate::app) fn prepared(&self) -> Result<bool> {
        self.channel.send(&FromNew::Prepared, &[])?;
        let (message, _) =
            self.channel.receive(RELEASE_TIME).context("the old process did not release what it holds")?;
        match message {
            FromOld::Released { has_filings } => Ok(has_filings),
            other => bail!("the old process said {other:?} instead of releasing what it holds"),
        }
    }

    /// Says that this process accepts.
    pub(in crate::app) fn ready(self) -> Result<()> {
        self.channel.send(&FromNew::Ready, &[]).context("the old process is gone")
    }
}
