//! `postqueue`, and `mailq` which is `postqueue -p`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use mail_types::QueueId;
use protocol::postfix::flush::{FlushRequest, FlushStatus};
use protocol::postfix::trigger::{FLUSH_QUEUE, WAKEUP};
use protocol::postfix::{AttrReader, protocols, read_greeting, read_status};

use super::listing::{Listing, json};
use super::options::{Word, parse};
use super::{Caller, Fatal, Site, code, config_directory, showq};

const USAGE: &str =
    "usage: postqueue -f | postqueue -i queueid | postqueue -j | postqueue -p | postqueue -s site";
const PATIENCE: Duration = Duration::from_secs(10);

/// What one run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    List,
    Json,
    Flush,
    FlushFile(String),
    FlushSite(String),
}

/// `postqueue`.
///
/// # Errors
///
/// [`Fatal`], as the original ends.
pub fn run(words: Vec<String>) -> Result<(), Fatal> {
    let usage = || Fatal::new(code::UNAVAILABLE, USAGE);
    let (options, operands) = parse(&words, "c:fi:jps:v");
    let (mut directory, mut request) = (None, None);
    for option in options {
        let one = match option {
            Word::Value('c', value) => {
                directory = Some(value);
                continue;
            }
            Word::Flag('v') => continue,
            Word::Flag('p') => Request::List,
            Word::Flag('j') => Request::Json,
            Word::Flag('f') => Request::Flush,
            Word::Value('i', id) => Request::FlushFile(id),
            Word::Value('s', site) => Request::FlushSite(site),
            _ => return Err(usage()),
        };
        if request.replace(one).is_some() {
            return Err(usage());
        }
    }
    let request = request.filter(|_| operands.is_empty()).ok_or_else(usage)?;
    let site = Site::read(&config_directory(directory.as_deref()), code::UNAVAILABLE)?;
    perform(&site, "postqueue", &request)
}

/// `mailq`, whose options are those of sendmail and mean nothing here but `-C`.
///
/// # Errors
///
/// As [`run`].
pub fn mailq(words: Vec<String>) -> Result<(), Fatal> {
    let (options, _) = parse(&words, "C:c:v");
    let directory = options.into_iter().find_map(|option| match option {
        Word::Value('C' | 'c', value) => Some(value),
        _ => None,
    });
    let site = Site::read(&config_directory(directory.as_deref()), code::UNAVAILABLE)?;
    perform(&site, "mailq", &Request::List)
}

/// Does it.
///
/// # Errors
///
/// As [`run`].
pub fn perform(site: &Site, program: &str, request: &Request) -> Result<(), Fatal> {
    let caller = Caller::this();
    let list = matches!(request, Request::List | Request::Json);
    let (may, what) = if list {
        (&site.may_list, "view the mail queue")
    } else {
        (&site.may_flush, "flush the mail queue")
    };
    if !caller.is_allowed(may, &site.mail_owner) {
        let text = format!("User {}({}) is not allowed to {what}", caller.name, caller.uid);
        return Err(Fatal::new(code::NO_PERMISSION, text));
    }
    match request {
        Request::List => print_text(site, program),
        Request::Json => {
            let mut out = io::BufWriter::new(io::stdout().lock());
            showq::each(site, program, |entry| out.write_all(json(&entry).as_bytes()))?;
            let _ = out.flush();
            Ok(())
        }
        Request::Flush => {
            trigger(&site.socket("public/qmgr"), FLUSH_QUEUE)?;
            trigger(&site.pickup, WAKEUP)
        }
        Request::FlushFile(id) => {
            let id = QueueId::parse(id)
                .map_err(|_| Fatal::new(code::UNAVAILABLE, format!("Invalid queue ID: {id}")))?;
            flush(site, &FlushRequest::SendFile(id))
        }
        Request::FlushSite(name) => flush(site, &FlushRequest::SendSite(name.clone())),
    }
}

fn print_text(site: &Site, program: &str) -> Result<(), Fatal> {
    let mut listing = Listing::new(site.queue.long_ids);
    let mut out = io::BufWriter::new(io::stdout().lock());
    showq::each(site, program, |entry| out.write_all(listing.message(&entry).as_bytes()))?;
    let _ = out.write_all(listing.footer().as_bytes()).and_then(|()| out.flush());
    Ok(())
}

fn down() -> Fatal {
    Fatal::new(code::UNAVAILABLE, "Cannot flush mail queue - mail system is down")
}

fn trigger(socket: &Path, bytes: &[u8]) -> Result<(), Fatal> {
    let sent = UnixStream::connect(socket).and_then(|mut stream| {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes)
    });
    sent.map_err(|_| down())
}

fn flush(site: &Site, request: &FlushRequest) -> Result<(), Fatal> {
    let status = ask(site, request).map_err(|_| down())?;
    match FlushStatus::of(status) {
        FlushStatus::Ok => Ok(()),
        FlushStatus::Bad => {
            Err(Fatal::new(code::UNAVAILABLE, format!("Invalid request: {request:?}")))
        }
        FlushStatus::Denied => {
            let text = "Flush service is not configured for this destination".to_owned();
            Err(Fatal::new(code::UNAVAILABLE, text))
        }
        FlushStatus::Failed => Err(down()),
    }
}

fn ask(site: &Site, request: &FlushRequest) -> io::Result<i32> {
    let mut stream = UnixStream::connect(site.socket("public/flush"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut lists, mut buffer) = (AttrReader::default(), BytesMut::new());
    let mut next = |stream: &mut UnixStream| loop {
        if let Some(list) = lists.read(&mut buffer).map_err(io::Error::other)? {
            return Ok(list);
        }
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk)? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            count => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    };
    if site.dialect.server_names_protocol() {
        let greeting = next(&mut stream)?;
        read_greeting(&greeting, protocols::FLUSH).map_err(io::Error::other)?;
    }
    stream.write_all(&request.encode())?;
    read_status(&next(&mut stream)?).map_err(io::Error::other)
}
