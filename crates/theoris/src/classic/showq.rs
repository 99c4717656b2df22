//! Asking the showq service, or the queue itself when the mail system is down.

use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use protocol::postfix::showq::{Answer, QueueEntry, ShowqReader};

use super::{Fatal, Site, code, why};

const PATIENCE: Duration = Duration::from_secs(3600);

/// Gives every message to `tell`.
pub fn each(
    site: &Site,
    program: &str,
    mut tell: impl FnMut(QueueEntry) -> io::Result<()>,
) -> Result<(), Fatal> {
    match UnixStream::connect(&site.showq) {
        Ok(stream) => read(stream, &mut tell),
        Err(error) if nix::unistd::geteuid().is_root() => {
            eprintln!(
                "{program}: warning: Mail system is down -- accessing queue directly (Connect to the Postfix showq service: {})",
                why(&error)
            );
            site.queue.list(&site.listing, |entry| tell(entry).is_ok());
            Ok(())
        }
        Err(error) => Err(Fatal::new(
            code::UNAVAILABLE,
            format!("Queue report unavailable - mail system is down ({})", why(&error)),
        )),
    }
}

fn read(
    mut stream: UnixStream,
    tell: &mut impl FnMut(QueueEntry) -> io::Result<()>,
) -> Result<(), Fatal> {
    let failed = |error: &dyn std::fmt::Display| {
        Fatal::new(code::UNAVAILABLE, format!("malformed showq server response: {error}"))
    };
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(&error))?;
    let (mut reader, mut buffer) = (ShowqReader::default(), BytesMut::new());
    let mut chunk = vec![0; 16 * 1024];
    loop {
        match reader.read(&mut buffer).map_err(|error| failed(&error))? {
            Answer::End => return Ok(()),
            Answer::Entry(entry) => {
                if tell(entry).is_err() {
                    return Ok(()); // `mailq | head`
                }
            }
            Answer::NeedMore => match stream.read(&mut chunk) {
                Ok(0) => return Err(failed(&"the service ended early")),
                Ok(count) => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error)),
            },
        }
    }
}
