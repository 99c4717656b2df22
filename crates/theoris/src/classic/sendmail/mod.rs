//! `sendmail`: mail from local programs, through postdrop into the queue.

mod message;
mod options;

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bytes::BytesMut;
use protocol::postfix::AttrReader;
use protocol::postfix::cleanup::{CleanupStatus, Outcome};
use protocol::postfix::submission::read_drop_greeting;

use super::postqueue::{self, Request};
use super::{Caller, Fatal, Site, code, config_directory};
use options::{Mode, Options};

/// # Errors
///
/// [`Fatal`], as the original ends: mostly with 75.
pub fn run(words: Vec<String>) -> Result<(), Fatal> {
    let options = Options::read(&words)?;
    let directory = config_directory(options.config.as_deref());
    let site = Site::read(&directory, code::TEMPORARY)?;
    match &options.mode {
        Mode::Submit => submit(&site, &options),
        Mode::List => postqueue::perform(&site, "mailq", &Request::List),
        Mode::Flush => postqueue::perform(&site, "sendmail", &Request::Flush),
        Mode::FlushFile(id) => {
            postqueue::perform(&site, "sendmail", &Request::FlushFile(id.clone()))
        }
        Mode::FlushSite(name) => {
            postqueue::perform(&site, "sendmail", &Request::FlushSite(name.clone()))
        }
        Mode::Unsupported(what) => {
            Err(Fatal::new(code::TEMPORARY, format!("{what} is not supported by this sendmail")))
        }
    }
}

fn submit(site: &Site, options: &Options) -> Result<(), Fatal> {
    let caller = Caller::this();
    let who = format!("{}({})", caller.name, caller.uid);
    let mut input = io::stdin().lock();
    let records = message::records(options, &caller, site.line_length, &mut input)
        .map_err(|error| Fatal::new(code::TEMPORARY, format!("{who}: {error}")))?;
    if site.message_size_limit > 0 && records.len() as u64 > site.message_size_limit {
        return Err(Fatal::new(code::TEMPORARY, format!("{who}: message file too big")));
    }
    let outcome = drop_mail(site, &records)
        .map_err(|error| Fatal::new(code::TEMPORARY, format!("{who}: {error}")))?;
    match outcome.status.fault() {
        None => {
            if options.verify || options.verbose {
                let sender = options.sender.clone().unwrap_or_else(|| caller.name.clone());
                println!("Mail Delivery Status Report will be mailed to <{sender}>.");
            }
            Ok(())
        }
        Some(_) if outcome.status.contains(CleanupStatus::NOPERM) => {
            Err(Fatal::new(code::NO_PERMISSION, outcome.reason))
        }
        Some(fault) => {
            let text = if outcome.reason.is_empty() { fault.text } else { &outcome.reason };
            Err(Fatal::new(code::TEMPORARY, format!("{who}: {text}")))
        }
    }
}

/// Hands the records to postdrop and hears what became of them.
fn drop_mail(site: &Site, records: &[u8]) -> io::Result<Outcome> {
    let mut child = Command::new(postdrop(site))
        .arg("-r")
        .env("MAIL_CONFIG", &site.config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(records),
        None => Ok(()),
    };
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(64 * 1024).read_to_end(&mut answer)?;
    }
    let status = child.wait()?;
    let outcome = read_answer(&answer);
    match (outcome, written) {
        (Some(outcome), _) => Ok(outcome),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(io::Error::other(format!("unable to execute postdrop: {status}"))),
    }
}

fn read_answer(answer: &[u8]) -> Option<Outcome> {
    let (mut reader, mut buffer) = (AttrReader::default(), BytesMut::from(answer));
    let greeting = reader.read(&mut buffer).ok()??;
    read_drop_greeting(&greeting).ok()?;
    let last = reader.read(&mut buffer).ok()??;
    Outcome::decode(&last).ok()
}

/// The one beside this program, unless only the system's has the rights that are needed.
fn postdrop(site: &Site) -> PathBuf {
    let system = site.command_directory.join("postdrop");
    let beside = std::env::current_exe().ok().map(|path| path.with_file_name("postdrop"));
    let Some(beside) = beside.filter(|path| path.exists()) else { return system };
    let set_gid =
        std::fs::metadata(&beside).is_ok_and(|data| data.permissions().mode() & 0o2000 != 0);
    let maildrop = site.queue.root.join("maildrop");
    let may_write = rustix::fs::access(&maildrop, rustix::fs::Access::WRITE_OK).is_ok();
    if set_gid || may_write || !system.exists() { beside } else { system }
}

#[cfg(test)]
mod tests {
    use super::read_answer;

    #[test]
    fn the_last_words_of_postdrop_count() {
        let both = b"protocol\0postdrop_protocol\0queue_id\0ABC\0\0status\x004\0reason\0\0\0";
        assert_eq!(read_answer(both).unwrap().status.0, 4);
        assert!(read_answer(b"queue_id\0ABC\0\0").is_none());
        assert!(read_answer(b"").is_none());
    }
}
