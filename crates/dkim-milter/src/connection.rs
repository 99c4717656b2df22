//! One connection of a mail server: reads frames, runs the conversation, writes each answer with one call.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use daemon::{Connection, Stream, Worker, WorkerError};
use dns::Resolver;
use mail_types::SystemClock;
use protocol::milter::{BadFrame, BadMessage, Event, Frame, LONGEST_FRAME};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::keys::{KeyStore, Passed};
use crate::log;
use crate::session::{Filter, Session, Violation};
use crate::settings::Settings;

/// libmilter's own patience with a mail server.
const IDLE: Duration = Duration::from_secs(7210);

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error(transparent)]
    Message(#[from] BadMessage),
    #[error("{}", .0.0)]
    Violation(Violation),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs the worker.
///
/// # Errors
///
/// What keeps it from starting.
pub fn work(worker: &Worker) -> Result<(), WorkerError> {
    let settings: Settings = worker.settings()?;
    worker.run(async {
        let resolver = dns::System::new(&dns::Settings {
            servers: settings.resolver.servers.clone(),
            timeout: settings.resolver.timeout,
            attempts: settings.resolver.attempts,
            ..dns::Settings::default()
        });
        let keys = KeyStore::new(Box::new(Passed::new(worker)));
        let clock = Box::new(SystemClock);
        let filter = Arc::new(Filter { settings, keys, resolver, clock });
        let mut accepting = JoinSet::new();
        for listener in worker.listeners()? {
            let (worker, filter) = (worker.clone(), Arc::clone(&filter));
            accepting.spawn(async move {
                let each =
                    |connection: Connection| serve(connection, Session::new(Arc::clone(&filter)));
                worker.serve(listener, each).await;
            });
        }
        accepting.join_all().await;
        Ok(())
    })
}

async fn serve<R: Resolver>(connection: Connection, mut session: Session<R>) {
    if let Stream::Tcp(stream) = &connection.stream {
        // an answer is one small segment that nothing follows: waiting for more only delays the mail
        let _ = stream.set_nodelay(true);
    }
    let mut stream = connection.stream;
    match converse(&mut stream, &mut session).await {
        Ok(()) => {}
        Err(Broken::Io(_)) => {} // the mail server went away; it knows why
        Err(broken) => {
            let ident = session.settings().log.name.as_str();
            tracing::warn!(target: "mail", ident, "milter connection ended: {broken}");
        }
    }
}

async fn converse<R: Resolver>(
    stream: &mut Stream,
    session: &mut Session<R>,
) -> Result<(), Broken> {
    let (mut input, mut output) = (BytesMut::with_capacity(16 * 1024), Vec::new());
    loop {
        let mut answered = false;
        while let Some(frame) = Frame::take(&mut input, LONGEST_FRAME)? {
            let event = Event::decode(frame)?;
            let Some(out) = session.event(event).await.map_err(Broken::Violation)? else {
                return Ok(());
            };
            log::write(session.settings(), out.lines);
            output.clear();
            out.replies.iter().for_each(|reply| reply.encode(&mut output));
            if !output.is_empty() {
                stream.write_all(&output).await?;
                answered = true;
            }
        }
        if !answered {
            acknowledge(stream);
        }
        match timeout(IDLE, stream.read_buf(&mut input)).await {
            Ok(Ok(0)) | Err(_) => return Ok(()),
            Ok(read) => read?,
        };
    }
}

/// What got no answer is acknowledged at once. A mail server sends macros and the end of a message without waiting for one,
/// and its kernel holds the next packet back until they are acknowledged, which ours would put off for 40 milliseconds.
fn acknowledge(stream: &Stream) {
    if let Stream::Tcp(stream) = stream {
        let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
    }
}
