//! Client of the rewrite service (`private/rewrite`): Postfix's trivial-rewrite or ours.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::postfix::rewrite::{Resolution, RewriteRequest, Rewritten, Rule, ServerState};
use protocol::postfix::{AttrList, Dialect, protocols, read_greeting};
use tokio::net::UnixStream;

use crate::attributes::{AttrIoError, AttrStream};

/// Connections that are kept for the next question.
const KEPT: usize = 16;

/// Asks over kept connections, as many at a time as there are callers.
#[derive(Debug)]
pub struct RewriteClient {
    path: PathBuf,
    dialect: Dialect,
    limit: Duration,
    idle: Mutex<Vec<AttrStream<UnixStream>>>,
}

impl RewriteClient {
    #[must_use]
    pub fn new(path: PathBuf, dialect: Dialect, limit: Duration) -> Self {
        Self { path, dialect, limit, idle: Mutex::default() }
    }

    /// Completes an address in external form.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]
    pub async fn rewrite(&self, rule: Rule, address: &str) -> Result<String, AttrIoError> {
        let request = RewriteRequest::Rewrite { rule, address: address.to_owned() };
        let list = self.ask(&request).await?;
        Ok(Rewritten::decode(&list)?.address)
    }

    /// Finds class, transport and next hop of an address in internal form.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]
    pub async fn resolve(&self, sender: &str, address: &str) -> Result<Resolution, AttrIoError> {
        let request = RewriteRequest::Resolve { sender: sender.into(), address: address.into() };
        Ok(Resolution::decode(&self.ask(&request).await?)?)
    }

    /// As [`RewriteClient::resolve`], for an address probe.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]
    pub async fn verify(&self, sender: &str, address: &str) -> Result<Resolution, AttrIoError> {
        let request = RewriteRequest::Verify { sender: sender.into(), address: address.into() };
        Ok(Resolution::decode(&self.ask(&request).await?)?)
    }

    /// A kept connection may have died since: then the question is asked once more on a new one.
    async fn ask(&self, request: &RewriteRequest) -> Result<AttrList, AttrIoError> {
        let bytes = request.encode();
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut stream) = kept
            && stream.send(&bytes).await.is_ok()
            && let Ok(list) = stream.list().await
        {
            self.keep(stream, &list);
            return Ok(list);
        }
        let mut stream = AttrStream::connect(&self.path, self.limit).await?;
        if self.dialect.server_names_protocol() {
            read_greeting(&stream.list().await?, protocols::REWRITE)?;
        }
        stream.send(&bytes).await?;
        let list = stream.list().await?;
        self.keep(stream, &list);
        Ok(list)
    }

    fn keep(&self, stream: AttrStream<UnixStream>, answer: &AttrList) {
        let leaves = Rewritten::decode(answer)
            .map(|answer| answer.server)
            .or_else(|_| Resolution::decode(answer).map(|answer| answer.server));
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(leaves, Ok(ServerState::Stays)) && idle.len() < KEPT {
            idle.push(stream);
        }
    }
}
