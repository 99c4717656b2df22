//! A backend worker: root, one question at a time.

use crate::backend::{Question, answer};
use crate::passwd_file::Files;
use crate::server::LINK;
use daemon::{Worker, WorkerError};
use nix::syslog::{Facility, LogFlags};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Questions after which the process is replaced: PAM modules leak.
const QUESTIONS: usize = 100;

/// Runs a backend worker until it has answered its share.
///
/// # Errors
///
/// What keeps it from starting.
pub fn run(worker: &Worker) -> Result<(), WorkerError> {
    // What PAM's modules log has the name of Dovecot's process: fail2ban's filter asks for it.
    let _ = nix::syslog::openlog(Some(c"auth"), LogFlags::empty(), Facility::LOG_AUTH);
    let files = Arc::new(Files::default());
    worker.run(async {
        let link = worker.link_server(LINK)?;
        for _ in 0..QUESTIONS {
            let next = tokio::select! {
                _ = worker.finishing() => return Ok(()),
                next = link.next() => next.map_err(WorkerError::io(LINK))?,
            };
            let Some(mut request) = next else { return Ok(()) };
            let payload = zeroize::Zeroizing::new(std::mem::take(&mut request.payload));
            let Ok(question) = serde_json::from_slice::<Question>(&payload) else { continue };
            let files = Arc::clone(&files);
            let done = tokio::task::spawn_blocking(move || answer(question, &files)).await;
            if let Ok(reply) = done
                && let Ok(bytes) = serde_json::to_vec(&reply)
            {
                // the asker may have given up
                let _ = request.answer.write_all(&bytes).await;
            }
        }
        Ok(())
    })
}
