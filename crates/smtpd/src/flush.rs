//! ETRN's question to the flush service (`public/flush`).

use std::io;

use bytes::BytesMut;
use protocol::postfix::flush::{FlushRequest, FlushStatus};
use protocol::postfix::{AttrReader, protocols, read_greeting, read_status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::settings::Queue;

/// Asks that mail for `site` be delivered now.
pub async fn send_site(queue: &Queue, site: &str) -> io::Result<FlushStatus> {
    match timeout(queue.ipc_timeout, ask(queue, site)).await {
        Ok(answer) => answer,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn ask(queue: &Queue, site: &str) -> io::Result<FlushStatus> {
    let bad = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut stream = UnixStream::connect(&queue.flush).await?;
    let (mut reader, mut input) = (AttrReader::default(), BytesMut::new());
    let mut greeted = !queue.dialect().server_names_protocol();
    let request = FlushRequest::SendSite(site.to_owned()).encode();
    if greeted {
        stream.write_all(&request).await?;
    }
    loop {
        while let Some(list) = reader.read(&mut input).map_err(bad)? {
            if greeted {
                return Ok(FlushStatus::of(read_status(&list).map_err(bad)?));
            }
            read_greeting(&list, protocols::FLUSH).map_err(bad)?;
            greeted = true;
            stream.write_all(&request).await?;
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
