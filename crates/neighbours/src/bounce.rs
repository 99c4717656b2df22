//! Client of the bounce, defer and trace services: what agents and the queue manager report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_types::QueueId;
use protocol::postfix::bounce::{BounceRequest, Notice};
use protocol::postfix::{Dialect, Dsn, Recipient, protocols, read_greeting, read_status};

use crate::attributes::{AttrIoError, AttrStream};

/// Which of the three services; each keeps a log of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Bounce,
    Defer,
    Trace,
}

/// A report was not taken: the caller must try again later, nothing is lost.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Io(#[from] AttrIoError),
    #[error("service reports status {0}")]
    Refused(i32),
}

/// One request for each connection.
#[derive(Clone, Debug)]
pub struct BounceClient {
    bounce: PathBuf,
    defer: PathBuf,
    trace: PathBuf,
    dialect: Dialect,
    limit: Duration,
}

impl BounceClient {
    /// `private` is the directory of the sockets; the names are `bounce_service_name` and its like.
    #[must_use]
    pub fn new(
        private: &Path,
        [bounce, defer, trace]: [&str; 3],
        dialect: Dialect,
        limit: Duration,
    ) -> Self {
        let at = |name: &str| private.join(name);
        Self { bounce: at(bounce), defer: at(defer), trace: at(trace), dialect, limit }
    }

    /// Adds a recipient to the message's log. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`ReportError`]: treat the recipient as deferred.
    pub async fn append(
        &self,
        to: Report,
        flags: u32,
        queue_id: &QueueId,
        recipient: &Recipient,
        dsn: &Dsn,
    ) -> Result<(), ReportError> {
        let (recipient, dsn) = (recipient.clone(), dsn.clone());
        let queue_id = queue_id.clone();
        self.ask(to, &BounceRequest::Append { flags, queue_id, recipient, dsn }).await
    }

    /// Any other request: return the message, warn, tell of successes.
    ///
    /// # Errors
    ///
    /// [`ReportError`]: the message must stay in the queue.
    pub async fn ask(&self, to: Report, request: &BounceRequest) -> Result<(), ReportError> {
        let path = match to {
            Report::Bounce => &self.bounce,
            Report::Defer => &self.defer,
            Report::Trace => &self.trace,
        };
        let mut stream = AttrStream::connect(path, self.limit).await?;
        if self.dialect.server_names_protocol() {
            let greeting = stream.list().await?;
            read_greeting(&greeting, protocols::BOUNCE).map_err(AttrIoError::from)?;
        }
        stream.send(&request.encode(self.dialect)).await?;
        match read_status(&stream.list().await?).map_err(AttrIoError::from)? {
            0 => Ok(()),
            status => Err(ReportError::Refused(status)),
        }
    }

    /// Returns the message to its sender with what the log says.
    ///
    /// # Errors
    ///
    /// As [`BounceClient::ask`].
    pub async fn flush(&self, to: Report, notice: Notice) -> Result<(), ReportError> {
        self.ask(to, &BounceRequest::Flush(notice)).await
    }
}
