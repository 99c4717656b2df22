//! Client of the flush service: remembers which mail waits for which destination.

use std::path::PathBuf;
use std::time::Duration;

use mail_types::QueueId;
use protocol::postfix::flush::{FlushRequest, FlushStatus};
use protocol::postfix::{Dialect, protocols, read_greeting, read_status};

use crate::attributes::{AttrIoError, AttrStream};

/// One request for each connection.
#[derive(Clone, Debug)]
pub struct FlushClient {
    path: PathBuf,
    dialect: Dialect,
    limit: Duration,
}

impl FlushClient {
    #[must_use]
    pub fn new(path: PathBuf, dialect: Dialect, limit: Duration) -> Self {
        Self { path, dialect, limit }
    }

    /// Asks for anything.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]
    pub async fn ask(&self, request: &FlushRequest) -> Result<FlushStatus, AttrIoError> {
        let mut stream = AttrStream::connect(&self.path, self.limit).await?;
        if self.dialect.server_names_protocol() {
            read_greeting(&stream.list().await?, protocols::FLUSH)?;
        }
        stream.send(&request.encode()).await?;
        Ok(FlushStatus::of(read_status(&stream.list().await?)?))
    }

    /// Remembers that a message waits for its recipient's domain. It is only a help for "send it
    /// now": whether it succeeds matters to nobody.
    pub async fn add(&self, recipient: &str, queue_id: &QueueId) {
        let Some((_, site)) = recipient.rsplit_once('@') else { return };
        let request = FlushRequest::Add { site: site.to_owned(), queue_id: queue_id.clone() };
        let _ = self.ask(&request).await;
    }
}
