//! Questions to the address verification service (`private/verify`).

use std::path::Path;
use std::time::Duration;

use neighbours::attributes::{AttrIoError, AttrStream};
use protocol::postfix::{AttrWriter, Dialect, read_greeting};

use crate::policy::Probe;

/// The service's name in its greeting is misspelt in Postfix, too.
const PROTOCOL: &str = "address_verification_prrotocol";

/// What the service knows of `address`; it starts a probe if it knows nothing.
pub async fn query(
    socket: &Path,
    dialect: Dialect,
    limit: Duration,
    address: &str,
) -> Result<Probe, AttrIoError> {
    let mut stream = AttrStream::connect(socket, limit).await?;
    if dialect.server_names_protocol() {
        read_greeting(&stream.list().await?, PROTOCOL)?;
    }
    let mut request = AttrWriter::new();
    request.text("request", "query");
    request.text("address", address);
    stream.send(&request.end()).await?;
    let answer = stream.list().await?;
    let mut fields = answer.fields();
    let done = fields.uint("status")?;
    let status = fields.uint("recipient_status")?;
    let reason = fields.string("reason")?;
    if done != 0 {
        return Err(AttrIoError::Closed);
    }
    Ok(match status {
        0 => Probe::Deliverable,
        1 => Probe::Deferred(reason),
        2 => Probe::Undeliverable(reason),
        _ => Probe::Pending(reason),
    })
}
