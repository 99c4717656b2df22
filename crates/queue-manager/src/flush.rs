//! The flush service: which mail waits for which destination, and "try this now"
//! (`postqueue -i`, `postqueue -s`, ETRN).

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use config::postfix;
use daemon::{Connection, Role, Worker, WorkerError};
use mail_types::QueueId;
use neighbours::attributes::AttrStream;
use neighbours::trigger::wake;
use protocol::postfix::flush::{FlushRequest, FlushStatus};
use protocol::postfix::trigger::WAKEUP;
use protocol::postfix::{Dialect, greeting, protocols, status_reply};
use queue::{FileState, Queue, QueueDirectory};
use routing::domains::{DomainList, Subdomains};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tables::Set;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::plan::{Asked, Served, Takeover};
use crate::scheduler::log::Log;

pub const TAKEOVER: Takeover =
    Takeover { command: "flush", role: "flush", settings: read, shape, work };

/// A log that grows beyond this is not added to; the mail is still tried at its time.
const LARGEST_LOG: u64 = 4 << 20;
/// Ready (0700), and to be tried although its destination is dead (0040).
const UNTHROTTLE: u32 = 0o740;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// `fast_flush_domains`: the destinations that have logs.
    pub domains: DomainList,
    pub refresh_every: Duration,
    pub qmgr: PathBuf,
    pub timeout: Duration,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let list = view.get(postfix::FAST_FLUSH_DOMAINS, problems);
    let list = postfix::with_files(list, asked.files, problems);
    let parents = view.get(postfix::PARENT_DOMAIN_MATCHES_SUBDOMAINS, problems);
    let subdomains = match parents.iter().any(|word| word.as_str() == "fast_flush_domains") {
        true => Subdomains::WithParent,
        false => Subdomains::WithDot,
    };
    let qmgr = view.get(postfix::QUEUE_SERVICE_NAME, problems);
    let settings = Settings {
        domains: DomainList::new(list, subdomains),
        refresh_every: view.get(postfix::FAST_FLUSH_REFRESH_TIME, problems),
        qmgr: asked.shared.socket(&format!("public/{qmgr}")),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

fn shape(role: &mut Role) {
    role.connections = 50;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in served {
            let settings: Settings = service.settings()?;
            let every = settings.refresh_every.max(Duration::from_secs(60));
            let server = Server::new(
                neighbours::lookup::tables(&worker),
                settings,
                service.shared.queue.clone(),
                service.shared.dialect(),
                Log::new(&service.shared.syslog_name, "flush"),
            );
            let server = Arc::new(server);
            let (worker, listener) = (worker.clone(), worker.listener(&service.listener)?);
            let refreshing = Arc::clone(&server);
            serving.spawn(async move {
                let refresh = async {
                    loop {
                        tokio::time::sleep(every).await;
                        refreshing.obey(FlushRequest::Refresh).await;
                    }
                };
                let serve = worker.serve(listener, |connection: Connection| {
                    let server = Arc::clone(&server);
                    async move { server.serve(connection.stream).await }
                });
                tokio::select! {
                    () = serve => {}
                    () = refresh => {}
                }
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

pub struct Server {
    settings: Settings,
    tables: Set,
    queue: QueueDirectory,
    dialect: Dialect,
    log: Log,
}

impl Server {
    #[must_use]
    pub fn new(
        mut tables: Set,
        settings: Settings,
        queue: QueueDirectory,
        dialect: Dialect,
        log: Log,
    ) -> Self {
        let named: routing::Maps = settings.domains.tables().cloned().collect();
        for problem in tables.open(&named) {
            log.warning(&problem.to_string());
        }
        Self { settings, tables, queue, dialect, log }
    }

    /// Serves one request.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut peer = AttrStream::new(stream, self.settings.timeout);
        if peer.send(&greeting(self.dialect, protocols::FLUSH)).await.is_err() {
            return;
        }
        let status = match peer.list_or_end().await {
            Ok(None) => return,
            Ok(Some(list)) => match FlushRequest::decode(&list) {
                Ok(request) => self.obey(request).await,
                Err(error) => {
                    self.log.warning(&format!("flush socket: {error}"));
                    FlushStatus::Bad
                }
            },
            Err(_) => return,
        };
        let _ = peer.send(&status_reply(status.number())).await;
    }

    /// Does what a request asks.
    pub async fn obey(&self, request: FlushRequest) -> FlushStatus {
        let queue = self.queue.clone();
        let done = match request {
            FlushRequest::Add { site, queue_id } => {
                let Some(log) = self.log_of(&site).await else { return FlushStatus::Denied };
                blocking(move || add(&queue, &log, &queue_id)).await
            }
            FlushRequest::SendSite(site) => {
                let Some(log) = self.log_of(&site).await else { return FlushStatus::Denied };
                blocking(move || release_all(&queue, &[log])).await
            }
            FlushRequest::SendFile(id) => blocking(move || release(&queue, &id)).await,
            FlushRequest::Purge => {
                blocking(move || {
                    let logs: Vec<QueueId> = queue.scan_in("flush")?.collect();
                    release_all(&queue, &logs)
                })
                .await
            }
            FlushRequest::Refresh => blocking(move || refresh(&queue)).await,
        };
        match done {
            Ok(0) => FlushStatus::Ok,
            Ok(_) => {
                if let Err(error) = wake(&self.settings.qmgr, WAKEUP).await {
                    self.log.warning(&format!("cannot wake the queue manager: {error}"));
                }
                FlushStatus::Ok
            }
            Err(error) => {
                self.log.warning(&format!("fast flush: {error}"));
                FlushStatus::Failed
            }
        }
    }

    /// The name of a destination's log; nothing when it has none.
    async fn log_of(&self, site: &str) -> Option<QueueId> {
        let site = site.trim_end_matches('.').to_lowercase();
        let held = self.settings.domains.holds(&self.tables, &site).await;
        held.ok().filter(|&held| held)?;
        let name: String =
            site.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        QueueId::parse(&name).ok()
    }
}

/// Adds an id to a log, once. Gives the number of released messages: none.
fn add(queue: &QueueDirectory, log: &QueueId, id: &QueueId) -> io::Result<usize> {
    let path = queue.path_in("flush", log);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    let mut text = String::new();
    (&mut file).take(LARGEST_LOG).read_to_string(&mut text)?;
    let known = text.lines().any(|line| line == id.as_str());
    if !known && (text.len() as u64) < LARGEST_LOG {
        file.write_all(format!("{id}\n").as_bytes())?;
    }
    Ok(0)
}

/// Lets go of every message in these logs, and empties them.
fn release_all(queue: &QueueDirectory, logs: &[QueueId]) -> io::Result<usize> {
    let mut count = 0;
    for log in logs {
        let path = queue.path_in("flush", log);
        let mut file = match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file?,
        };
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let mut text = String::new();
        (&mut file).take(LARGEST_LOG).read_to_string(&mut text)?;
        for id in text.lines().filter_map(|line| QueueId::parse(line).ok()) {
            count += release(queue, &id)?;
        }
        file.set_len(0)?;
        file.rewind()?;
    }
    Ok(count)
}

/// Makes a message due now, whatever is known of its destination.
fn release(queue: &QueueDirectory, id: &QueueId) -> io::Result<usize> {
    for from in [Queue::Deferred, Queue::Incoming] {
        match queue.state(from, id) {
            Ok((FileState::Ready { force_expire, .. }, _)) => {
                let mode = if force_expire { UNTHROTTLE | 0o010 } else { UNTHROTTLE };
                fs::set_permissions(queue.path(from, id), Permissions::from_mode(mode))?;
                queue.set_time(from, id, SystemTime::now())?;
                if from == Queue::Deferred {
                    queue.rename(id, from, Queue::Incoming)?;
                }
                return Ok(1);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// Drops from the logs what is not in the queue any more.
fn refresh(queue: &QueueDirectory) -> io::Result<usize> {
    let waits = |id: &QueueId| {
        [Queue::Deferred, Queue::Active, Queue::Incoming, Queue::Hold]
            .iter()
            .any(|&place| queue.state(place, id).is_ok())
    };
    for log in queue.scan_in("flush")?.collect::<Vec<_>>() {
        let path = queue.path_in("flush", &log);
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        let mut text = String::new();
        (&mut file).take(LARGEST_LOG).read_to_string(&mut text)?;
        let kept: String = text
            .lines()
            .filter_map(|line| QueueId::parse(line).ok())
            .filter(|id| waits(id))
            .map(|id| format!("{id}\n"))
            .collect();
        if kept.is_empty() {
            fs::remove_file(&path)?;
        } else if kept.len() != text.len() {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(kept.as_bytes())?;
        }
    }
    Ok(0)
}

async fn blocking(work: impl FnOnce() -> io::Result<usize> + Send + 'static) -> io::Result<usize> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(root: &std::path::Path) -> Server {
        for name in ["flush", "incoming", "deferred"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let settings = Settings {
            domains: DomainList::parse("down.test", Subdomains::WithParent),
            refresh_every: Duration::from_secs(60),
            qmgr: root.join("public/qmgr"),
            timeout: Duration::from_secs(5),
        };
        let log = Log::new("postfix", "flush");
        Server::new(Set::default(), settings, QueueDirectory::new(root), Dialect::default(), log)
    }

    #[tokio::test]
    async fn mail_that_waits_for_a_site_is_released_when_it_is_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let server = server(root.path());
        let id = QueueId::parse("640A99A4A51").unwrap();
        let path = server.queue.path(Queue::Deferred, &id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        for (request, status) in [
            (
                FlushRequest::Add { site: "other.test".into(), queue_id: id.clone() },
                FlushStatus::Denied,
            ),
            (
                FlushRequest::Add { site: "a.Down.test".into(), queue_id: id.clone() },
                FlushStatus::Ok,
            ),
            (
                FlushRequest::Add { site: "a.down.test".into(), queue_id: id.clone() },
                FlushStatus::Ok,
            ),
        ] {
            assert_eq!(server.obey(request.clone()).await, status, "{request:?}");
        }
        let log = root.path().join("flush/a_down_test");
        assert_eq!(fs::read_to_string(&log).unwrap(), "640A99A4A51\n");
        assert_eq!(
            server.obey(FlushRequest::SendSite("a.down.test".into())).await,
            FlushStatus::Ok
        );
        let (state, _) = server.queue.state(Queue::Incoming, &id).unwrap();
        assert_eq!(state, FileState::Ready { unthrottle: true, force_expire: false });
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        assert_eq!(server.obey(FlushRequest::SendFile(id)).await, FlushStatus::Ok);
        assert_eq!(server.obey(FlushRequest::Refresh).await, FlushStatus::Ok);
        assert!(!log.exists());
    }
}
