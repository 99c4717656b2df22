//! IDLE (RFC 2177): waits for the mailbox to change and for the client to be done.

use std::io;
use std::os::fd::AsFd;

use login::stopping;
use mailstore::Watch;
use protocol::imap::Event;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep_until};

use crate::reply::Reply;
use crate::session::Session;
use crate::view::News;
use crate::wire::End;

/// # Errors
///
/// When the client has gone or the worker has to finish.
pub async fn idle(session: &mut Session) -> Result<Reply, End> {
    // Watched before it is looked at: what arrives in between is an event.
    // Without a watch (the user's inotify limit) the mailbox is looked at now and then.
    let watch = session.selected.as_ref().and_then(|view| Watch::new(&view.mailbox).ok());
    let mut events = watch.as_ref().and_then(|watch| events(watch).ok());
    session.line.line("+ idling");
    tell(session).await?;
    let worker = session.worker();
    let (notify, check) = (session.settings.idle_notify, session.settings.idle_check);
    let mut notify_at = Instant::now() + notify;
    let mut check_at = Instant::now() + check;
    loop {
        if let Some(event) = session.line.event_at_hand() {
            return Ok(match event {
                Event::Command(text) if text.trim_ascii().eq_ignore_ascii_case(b"DONE") => {
                    session.news(News::ALL);
                    Reply::ok("Idle completed")
                }
                _ => Reply::bad("Expected DONE"),
            });
        }
        tokio::select! {
            filled = session.line.fill_patiently() => filled?,
            () = changed(&mut events) => tell(session).await?,
            () = sleep_until(check_at), if !check.is_zero() => {
                check_at = Instant::now() + check;
                tell(session).await?;
            }
            () = sleep_until(notify_at), if !notify.is_zero() => {
                notify_at = Instant::now() + notify;
                session.line.line("* OK Still here");
                session.line.flush().await?;
            }
            () = stopping(worker.as_ref()) => return Err(End::Stopping),
        }
    }
}

/// Tells the news now; after some of them the session cannot go on.
async fn tell(session: &mut Session) -> Result<(), End> {
    session.news(News::ALL);
    session.line.flush().await?;
    session.doomed.take().map_or(Ok(()), Err)
}

/// The watch's descriptor for the runtime. It behaves as a pipe does: events are octets to be read.
fn events(watch: &Watch) -> io::Result<Receiver> {
    Receiver::from_owned_fd_unchecked(watch.as_fd().try_clone_to_owned()?)
}

/// Waits until something in the mailbox's directories has changed.
async fn changed(events: &mut Option<Receiver>) {
    loop {
        let Some(readable) = events else { return std::future::pending().await };
        if readable.readable().await.is_err() {
            *events = None;
            continue;
        }
        let mut any = false;
        let mut buffer = [0; 4096];
        let ended = loop {
            match readable.try_read(&mut buffer) {
                Ok(0) => break true,
                Ok(_) => any = true,
                Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
            }
        };
        if ended {
            *events = None;
        }
        if any {
            return;
        }
    }
}
