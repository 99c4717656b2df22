//! The first moments of a worker, in one place and in this order: take what the supervisor passes,
//! give up every privilege, only then start threads, the log and the work.
//!
//! Whatever confines a worker further belongs between [`confine`] and the log.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use crate::descriptors::{self, read_memory};
use crate::handover::{self, Descriptor, FromWorker, Start, ToWorker};
use crate::journal::Target;
use crate::{Daemon, Worker, WorkerError, exit, log, privileges, sandbox};

/// Settings and keys of one role.
const LARGEST_START: usize = 64 * 1024 * 1024;

/// Why a worker did not get as far as its work, with its exit code.
type Failure = (String, u8);

pub(crate) fn worker_main<D: Daemon>() -> ExitCode {
    let channel = match take_channel() {
        Ok(channel) => channel,
        Err(error) => {
            return exit::usage(
                D::NAME,
                &format!("workers are started by the supervisor: {error}"),
            );
        }
    };
    let Ok((start, passed)) = receive_start(&channel) else {
        return ExitCode::from(exit::TEMPORARY);
    };
    let ended = match begin::<D>(start, passed, &channel) {
        Ok(worker) => work::<D>(worker, &channel),
        Err((text, code)) => {
            report(&channel, text, code);
            ExitCode::from(code)
        }
    };
    log::flush(Duration::from_secs(1));
    ended
}

/// The control socket is our stdin; the real stdin becomes empty.
fn take_channel() -> io::Result<OwnedFd> {
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    if rustix::net::sockopt::socket_type(&channel)? != rustix::net::SocketType::SEQPACKET {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "stdin is no control socket"));
    }
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(channel)
}

fn receive_start(channel: &OwnedFd) -> io::Result<(Start, Vec<(Descriptor, OwnedFd)>)> {
    let mut passed = Vec::new();
    loop {
        let datagram = descriptors::receive_blocking(channel)?;
        let (message, _) = handover::decode::<ToWorker>(&datagram.bytes)?;
        match message {
            ToWorker::Descriptors(names) => {
                passed.extend(names.into_iter().zip(datagram.descriptors))
            }
            ToWorker::Start => {
                let memory = datagram.descriptors.into_iter().next();
                let memory = memory.ok_or(io::ErrorKind::InvalidData)?;
                let start = serde_json::from_slice(&read_memory(memory, LARGEST_START)?)?;
                return Ok((start, passed));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn begin<D: Daemon>(
    start: Start,
    passed: Vec<(Descriptor, OwnedFd)>,
    channel: &OwnedFd,
) -> Result<Worker, Failure> {
    confine(&start)?;
    let (logs, passed) = log_files(passed);
    let target = start.journal.clone().map_or(Target::Stderr, Target::Journal);
    log::init(&start.log, D::NAME, target);
    log::redirect(&start.log, logs);
    let control = channel.try_clone().map_err(|error| (error.to_string(), exit::SYSTEM))?;
    Worker::new(start, passed, control).map_err(|error| (exit::chain(&error), exit::CONFIGURATION))
}

/// The log's files, in their order, and what else was passed.
fn log_files(passed: Vec<(Descriptor, OwnedFd)>) -> (Vec<OwnedFd>, Vec<(Descriptor, OwnedFd)>) {
    let is_log = |(what, _): &(Descriptor, OwnedFd)| matches!(what, Descriptor::Log(_));
    let (mut logs, others): (Vec<_>, Vec<_>) = passed.into_iter().partition(is_log);
    logs.sort_by(|(one, _), (other, _)| one.cmp(other));
    (logs.into_iter().map(|(_, file)| file).collect(), others)
}

/// Gives up what the worker must not have. After this there is no way back.
fn confine(start: &Start) -> Result<(), Failure> {
    if let Ok(name) = CString::new(start.role.as_bytes()) {
        let _ = rustix::thread::set_name(&name);
    }
    // No group or world bits by accident; services that want them set modes themselves.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    raise_descriptor_limit();
    if let Some(account) = &start.account {
        privileges::drop_to(account).map_err(|error| (error.to_string(), exit::PRIVILEGES))?;
    }
    sandbox::enter(start.sandbox.as_ref(), start.mode, start.home.as_deref())
        .map_err(|error| (error.to_string(), exit::PRIVILEGES))
}

/// The usual 1024 are for programs that use select(2).
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX).min(1_000_000);
    if limit.current.is_some_and(|current| current < most) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..limit });
    }
}

fn work<D: Daemon>(worker: Worker, channel: &OwnedFd) -> ExitCode {
    let role = worker.role().to_owned();
    let was_ready = worker.clone();
    let result = match role.as_str() {
        crate::control::ROLE => crate::control::work(&worker, D::NAME),
        crate::users::ROLE => crate::users::work(&worker),
        _ => D::work(worker),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if was_ready.is_ready() => {
            tracing::error!(target: "mail", "{role}: {}", exit::chain(&error));
            ExitCode::from(exit::TEMPORARY)
        }
        Err(error) => {
            let code = match error {
                WorkerError::NotPlanned { .. } | WorkerError::Settings { .. } => {
                    exit::CONFIGURATION
                }
                WorkerError::Io { .. } | WorkerError::Service(_) => exit::TEMPORARY,
            };
            report(channel, exit::chain(&error), code);
            ExitCode::from(code)
        }
    }
}

fn report(channel: &OwnedFd, mut text: String, code: u8) {
    text.truncate(text.floor_char_boundary(2000));
    if let Ok(bytes) = handover::encode(&FromWorker::Failed { text, code }, &[]) {
        let _ = descriptors::send(channel, &bytes, &[]);
    }
}
