//! Where a listener listens: an address or a Unix socket's file, and how its sockets are set.

use crate::config::parse::optional;
use crate::config::raw::{Section, Value};
use crate::config::{KeepAlive, LocalSocket, NO_ADDRESS, SocketOptions, value};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path that the system takes for a Unix socket, without its end, and with room for the name beside it
/// under which the socket is made.
const MAX_PATH_BYTES: usize = 100;
/// The longest `tcp_keepalive.idle` and `.interval`, in seconds: the system's.
const MAX_KEEP_ALIVE_S: u64 = 32_767;

/// `address`, and all that goes with it.
pub(super) fn place(
    section: &mut Section<'_>,
    address: Option<&Value<'_>>,
) -> Option<(SocketAddr, Option<LocalSocket>, SocketOptions)> {
    let local = local(section, address);
    let socket = options(section, local.is_some());
    if let Some(local) = local {
        return Some((NO_ADDRESS, Some(local?), socket));
    }
    let parsed = address?.parse(value::socket_address)?;
    if parsed.is_ipv4()
        && let Some(value) = section.value("ipv6_only")
    {
        value.refuse_key("it goes with an IPv6 address, like \"[::]:443\"; leave it out");
    }
    Some((parsed, None, socket))
}

/// A Unix socket, or what is wrong with it; `None` where the address is none.
#[allow(clippy::option_option, reason = "a socket that is wrong is no address either")]
fn local(section: &mut Section<'_>, address: Option<&Value<'_>>) -> Option<Option<LocalSocket>> {
    let text = address.and_then(|value| value.string_if_any()?.strip_prefix("unix:"));
    let keys = ["mode", "owner", "group"].map(|key| section.value(key));
    let (Some(address), Some(text)) = (address, text) else {
        for value in keys.into_iter().flatten() {
            value.refuse_key(
                "it goes with a Unix socket, address = \"unix:/run/beian-gate.sock\"; leave it out",
            );
        }
        return None;
    };
    let [mode, owner, group] = keys;
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.file_name().is_none() || text.len() > MAX_PATH_BYTES {
        address.refuse(format!(
            "{text:?} can't be a socket's file; give a whole path of at most {MAX_PATH_BYTES} octets, like \
             \"unix:/run/beian-gate.sock\""
        ));
        return Some(None);
    }
    let mode = mode.map_or(Some(0o660), |value| value.parse(permissions));
    let owner = owner.map(|value| value.parse(|name| id(name, Path::new("/etc/passwd"))));
    let group = group.map(|value| value.parse(|name| id(name, Path::new("/etc/group"))));
    Some(Some(LocalSocket { path, mode: mode?, owner: owner.flatten(), group: group.flatten() }))
}

/// `0660`
fn permissions(text: &str) -> Result<u32, String> {
    let parsed = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777 && text.len() >= 3);
    parsed.ok_or_else(|| format!("{text:?} is no permission; write one in octal, like \"0660\""))
}

/// A number, or a name that `file` (`/etc/passwd`, `/etc/group`) knows.
fn id(text: &str, file: &Path) -> Result<u32, String> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let known = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let of_line = |line: &str| {
        let mut parts = line.split(':');
        (parts.next() == Some(text)).then(|| parts.nth(1)?.parse().ok()).flatten()
    };
    known
        .lines()
        .find_map(of_line)
        .ok_or_else(|| format!("{} knows no {text:?}; write a name that it has, or a number", file.display()))
}

fn options(section: &mut Section<'_>, is_local: bool) -> SocketOptions {
    let mut options = SocketOptions::default();
    if let Some(backlog) = optional(section, "backlog", |value| value.integer(1..=65_535)) {
        options.backlog = u16::try_from(backlog).unwrap_or(u16::MAX);
    }
    if let Some(is_only) = optional(section, "ipv6_only", Value::boolean) {
        options.is_only_v6 = is_only;
    }
    (options.keep_alive, options.user_timeout) = peer_watch(section, is_local);
    options
}

/// `tcp_keepalive`, `tcp_user_timeout`
pub(in crate::config::parse) fn peer_watch(
    section: &mut Section<'_>,
    is_local: bool,
) -> (Option<KeepAlive>, Option<Duration>) {
    let keep_alive = section.value("tcp_keepalive");
    let user_timeout = section.value("tcp_user_timeout");
    if is_local {
        for value in [&keep_alive, &user_timeout].into_iter().flatten() {
            value.refuse_key("a Unix socket knows no such thing; leave it out");
        }
    }
    let keep_alive = keep_alive.and_then(|value| self::keep_alive(&value));
    (keep_alive, user_timeout.and_then(|value| value.duration()))
}

/// `"60s"`, or `{ idle = "60s", interval = "10s", probes = 6 }`.
fn keep_alive(value: &Value<'_>) -> Option<KeepAlive> {
    let seconds = |value: &Value<'_>| {
        let time = value.duration()?;
        if !(1..=MAX_KEEP_ALIVE_S).contains(&time.as_secs()) {
            value.refuse(format!(
                "the system takes whole seconds, 1 to {MAX_KEEP_ALIVE_S}; write one like \"60s\""
            ));
            return None;
        }
        Some(time)
    };
    let mut set = KeepAlive { idle: seconds_of(60), interval: seconds_of(10), probes: 6 };
    if !value.is_table() {
        set.idle = seconds(value)?;
        return Some(set);
    }
    let mut section = value.clone().section()?;
    if let Some(idle) = optional(&mut section, "idle", seconds) {
        set.idle = idle;
    }
    if let Some(interval) = optional(&mut section, "interval", seconds) {
        set.interval = interval;
    }
    if let Some(probes) = optional(&mut section, "probes", |value| value.integer(1..=127)) {
        set.probes = u8::try_from(probes).unwrap_or(u8::MAX);
    }
    section.finish();
    Some(set)
}

fn seconds_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_and_owners() {
        assert_eq!((permissions("0660"), permissions("666")), (Ok(0o660), Ok(0o666)));
        for wrong in ["", "6", "0o660", "1777", "rw", "888"] {
            assert!(permissions(wrong).is_err(), "{wrong}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "root:x:0:0::/root:/bin/sh\nwww-data:x:33:34::/:/bin/sh\n").unwrap();
        assert_eq!(id("www-data", file.path()), Ok(33));
        assert_eq!(id("7", file.path()), Ok(7));
        assert!(id("www", file.path()).unwrap_err().contains("knows no \"www\""));
    }
}
