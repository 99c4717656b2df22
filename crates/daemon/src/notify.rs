//! Telling the service manager (sd_notify). Without one, nothing happens.

use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::descriptors;

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(target: "mail", "warning: cannot notify the service manager: {error}");
    }
}

pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// `Type=notify-reload` wants the time of the reload; older managers ignore it.
pub(crate) fn reloading() {
    let Ok(now) = NotifyState::monotonic_usec_now() else { return };
    tell(&[NotifyState::Reloading, now]);
}

pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

pub(crate) fn alive() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// How often [`alive`] has to be said: twice in the interval that the manager waits.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|interval| interval / 2)
}

/// Gives a listening socket into the manager's keeping: if even the supervisor is killed, nobody is
/// refused, and the next one finds it among its inherited sockets.
pub(crate) fn keep(name: &str, socket: BorrowedFd<'_>) {
    if let Some(manager) = manager() {
        let _ = descriptors::send(
            &manager,
            format!("FDSTORE=1\nFDNAME={name}\n").as_bytes(),
            &[socket],
        );
    }
}

pub(crate) fn forget(name: &str) {
    if let Some(manager) = manager() {
        let _ = manager.send(format!("FDSTOREREMOVE=1\nFDNAME={name}\n").as_bytes());
    }
}

/// The manager's socket: a path, or an abstract name behind `@`.
fn manager() -> Option<UnixDatagram> {
    let name = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(&name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address).ok()?;
    Some(socket)
}
