//! What systemd is told, where it started this process: readiness, reloads, who is the main process, and that it is
//! alive (`sd_notify(3)`). Elsewhere all of this is nothing.

use sd_notify::NotifyState;
use std::time::Duration;

/// The gate serves.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun; `ready` ends it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The gate drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is this service's main one from here on.
pub(super) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Says again and again that this process is alive, where the service manager asks for it; never ends.
pub(super) async fn watchdog() -> std::convert::Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| *limit > Duration::ZERO) else {
        return std::future::pending().await;
    };
    let mut interval = tokio::time::interval(limit / 3);
    loop {
        interval.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager can't be told");
    }
}
