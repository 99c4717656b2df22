//! The services: they take delivery requests from the queue manager and answer each when every recipient's fate is known.

use neighbours::attributes::has_gone;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use daemon::tls::Tls;
use daemon::tls::client::{Authorities, Resume, Sessions, Wish};
use daemon::{Connection as Accepted, Stream, Worker, WorkerError};
use dns::{Hosts, System};
use mail_types::{Entropy, SystemEntropy, Timestamp};
use protocol::postfix::Dialect;
use protocol::postfix::delivery::{
    DeliveryReply, DeliveryRequest, Remaining, RequestReader, agent_greeting,
};
use queue::{Access, Lock, Queue, QueueFile};
use routing::{Key, LookupError, Routing};
use tables::Set;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::cache::{Cache, Place};
use crate::connection::{Connection, ReplyFilter};
use crate::delivery::Delivery;
use crate::policy;
use crate::report::Reporter;
use crate::session::Server;
use crate::session::login::Credentials;
use crate::settings::{ServiceSettings, Settings};

/// Deliveries at a time where master.cf sets no limit.
const MOST: usize = 1000;

/// One service with everything it needs.
pub struct Service {
    pub settings: ServiceSettings,
    pub tables: Arc<Set>,
    pub resolver: Arc<System>,
    pub hosts: Arc<Hosts>,
    pub reporter: Reporter,
    pub authorities: Authorities,
    identity: Option<Tls>,
    sessions: Option<Arc<Sessions>>,
    pub cache: Arc<Cache>,
    generic: Option<Routing<Arc<Set>>>,
    senders: Option<Routing<Arc<Set>>>,
    entropy: SystemEntropy,
    room: Semaphore,
}

/// Serves all services.
pub fn work(worker: Worker) -> Result<(), WorkerError> {
    let settings: Settings = worker.settings()?;
    let mut entropies = Vec::new();
    for _ in &settings.services {
        entropies.push(SystemEntropy::open().map_err(WorkerError::io("/dev/urandom"))?);
    }
    let service = worker.clone();
    worker.run(async move {
        let resolver = Arc::new(System::new(&dns::Settings {
            servers: settings.resolver.servers,
            timeout: settings.resolver.timeout,
            attempts: settings.resolver.attempts,
            ..dns::Settings::default()
        }));
        let hosts = Arc::new(Hosts::parse(&settings.resolver.hosts));
        let mut serving = tokio::task::JoinSet::new();
        for (settings, entropy) in settings.services.into_iter().zip(entropies) {
            let listener = service.listener(&settings.listener)?;
            let (resolver, hosts) = (Arc::clone(&resolver), Arc::clone(&hosts));
            let agent = Service::new(&service, settings, resolver, hosts, entropy);
            let agent = Arc::new(agent);
            let worker = service.clone();
            serving.spawn(async move {
                let handle = |accepted| {
                    let agent = Arc::clone(&agent);
                    async move { agent.serve(accepted).await }
                };
                worker.serve(listener, handle).await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

impl Service {
    fn new(
        worker: &Worker,
        settings: ServiceSettings,
        resolver: Arc<System>,
        hosts: Arc<Hosts>,
        entropy: SystemEntropy,
    ) -> Self {
        let reporter = Reporter::new(&settings);
        let tables = Arc::new(open_tables(worker, &settings, &reporter));
        let reporter = reporter.filtered(&tables, &settings);
        let routing = |settings: &routing::Settings| Routing {
            settings: settings.clone(),
            tables: Arc::clone(&tables),
        };
        let limit = if settings.limit == 0 { MOST } else { settings.limit };
        Self {
            generic: settings.generic.as_ref().map(|generic| routing(&generic.routing)),
            senders: settings
                .sasl
                .as_ref()
                .and_then(|sasl| sasl.routing.as_ref())
                .map(|settings| routing(settings)),
            authorities: Authorities::from_pem(settings.tls.authorities.as_bytes()),
            identity: worker.tls(&settings.listener).ok(),
            sessions: settings.tls.sessions.map(|lasting| Arc::new(Sessions::new(lasting))),
            room: Semaphore::new(limit),
            cache: Arc::new(Cache::default()),
            settings,
            tables,
            resolver,
            hosts,
            reporter,
            entropy,
        }
    }

    async fn serve(&self, accepted: Accepted) {
        if let Err(error) = self.converse(accepted.stream).await
            && !has_gone(&error)
        {
            self.reporter.note(&format!("warning: delivery request: {error}"));
        }
    }

    /// One request; then the queue manager closes. It may also close without one. Who comes when all places are taken waits
    /// for the greeting.
    async fn converse(&self, mut stream: Stream) -> io::Result<()> {
        let _room = self.room.acquire().await.map_err(io::Error::other)?;
        let dialect = Dialect::of_version(&self.settings.mail_version).unwrap_or_default();
        let patience = self.settings.ipc_timeout;
        stream.write_all(&agent_greeting(dialect)).await?;
        stream.flush().await?;
        let mut reader = RequestReader::new(dialect);
        let mut buffer = BytesMut::new();
        let request = loop {
            if let Some(request) = reader.read(&mut buffer).map_err(io::Error::other)? {
                break request;
            }
            if timeout(patience, stream.read_buf(&mut buffer)).await?? == 0 {
                let idle = reader.is_idle() && buffer.is_empty();
                return if idle { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        let reply = self.deliver(request).await;
        stream.write_all(&reply.encode()).await?;
        stream.flush().await?;
        let _ = timeout(patience, stream.read(&mut [0; 1])).await;
        Ok(())
    }

    async fn deliver(&self, mut request: DeliveryRequest) -> DeliveryReply {
        request.stats.agent_handoff = Timestamp::from(SystemTime::now());
        let later = DeliveryReply { status: Remaining::Something, ..DeliveryReply::default() };
        if request.recipients.is_empty() || request.nexthop.is_empty() {
            self.reporter.warn(&request, "delivery request without recipients or next hop");
            return later;
        }
        let directory = self.settings.queue.clone();
        let (name, id) = (request.queue_name.clone(), request.queue_id.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let queue = Queue::named(&name).ok_or(io::ErrorKind::InvalidInput)?;
            let file = QueueFile::open(&directory, queue, &id, Lock::Shared)?;
            Ok::<_, io::Error>((file, directory.open(queue, &id, Access::Read)?))
        });
        match opened.await {
            Ok(Ok((file, readable))) => Delivery::new(self, file, readable, request).run().await,
            // The message was delivered or deleted meanwhile.
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => later,
            Ok(Err(error)) => {
                self.reporter.warn(&request, &format!("open queue file: {error}"));
                later
            }
            Err(_) => later,
        }
    }

    /// A random number, for the order of equals.
    pub fn random(&self) -> u64 {
        self.entropy.number().unwrap_or(0)
    }

    /// What nobody can guess, for SCRAM.
    pub fn nonce(&self) -> String {
        let mut octets = [0; 18];
        let _ = self.entropy.fill(&mut octets);
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Whose login a connection carries, where that depends on the sender.
    pub fn sender_of(&self, request: &DeliveryRequest) -> Option<String> {
        let by_sender = self.settings.sasl.as_ref().is_some_and(|sasl| sasl.by_sender);
        by_sender.then(|| request.sender.clone())
    }

    /// The login for a server: by sender, by the server's name, by the next hop as written.
    pub async fn credentials(
        &self,
        sender: &str,
        host: &str,
        nexthop: &str,
    ) -> Result<Option<Credentials>, LookupError> {
        let Some(sasl) = &self.settings.sasl else { return Ok(None) };
        let mut found = None;
        if let Some(routing) = &self.senders
            && !sender.is_empty()
        {
            found = routing.find_address(&sasl.passwords, sender).await?.map(|found| found.answer);
        }
        for key in [host, nexthop] {
            if found.is_none() {
                found = sasl.passwords.find(&self.tables, key, Key::Whole).await?;
            }
        }
        Ok(found.map(|entry| {
            let (user, password) = entry.split_once(':').unwrap_or((&entry, ""));
            Credentials { user: user.to_owned(), password: password.to_owned() }
        }))
    }

    /// What a handshake with this server is to be like. A session is good for the same server under the same policy.
    pub fn wish(&self, policy: &policy::Destination, server: &Server) -> Wish {
        let resume = self.sessions.as_ref().map(|sessions| Resume {
            sessions: Arc::clone(sessions),
            key: format!("{} {policy:?}", server.full()),
        });
        Wish { identity: self.identity.clone(), resume, ..policy.wish(&self.authorities) }
    }

    /// `smtp_reply_filter`
    pub fn reply_filter(&self) -> Option<ReplyFilter> {
        let maps = &self.settings.talk.reply_filter;
        let tables = || Arc::clone(&self.tables);
        (!maps.is_empty()).then(|| ReplyFilter { tables: tables(), maps: maps.clone() })
    }

    /// An address as the outside is to see it (`smtp_generic_maps`).
    pub async fn generic(&self, address: &str) -> Result<String, String> {
        let (Some(generic), Some(routing)) = (&self.settings.generic, &self.generic) else {
            return Ok(address.to_owned());
        };
        if address.is_empty() {
            return Ok(String::new());
        }
        let mapped = routing.generic(&generic.maps, generic.propagate, address).await;
        let mapped = mapped.map_err(|error| error.to_string())?;
        Ok(mapped.unwrap_or_else(|| address.to_owned()))
    }

    /// Keeps a connection for a moment; then it gets its QUIT.
    pub fn keep(&self, connection: Connection, place: Place) {
        let idle = self.settings.reuse.idle;
        self.cache.keep(connection, place, idle);
        let cache = Arc::clone(&self.cache);
        drop(tokio::spawn(async move {
            sleep(idle + Duration::from_millis(10)).await;
            for mut connection in cache.expired() {
                connection.say("QUIT");
                connection.close().await;
            }
        }));
    }
}

fn open_tables(worker: &Worker, settings: &ServiceSettings, reporter: &Reporter) -> Set {
    let mut tables = neighbours::lookup::tables(worker);
    let mut problems = Vec::new();
    let talk = &settings.talk;
    let mut maps = vec![&settings.tls.policy_maps, &talk.discard_maps, &talk.reply_filter];
    maps.push(&settings.status_filter);
    maps.extend(settings.checks.tables());
    maps.extend(settings.sasl.as_ref().map(|sasl| &sasl.passwords));
    maps.extend(settings.generic.as_ref().map(|generic| &generic.maps));
    for maps in maps {
        problems.extend(tables.open(maps));
    }
    let routing = settings.generic.as_ref().map(|generic| &generic.routing);
    let senders = settings.sasl.as_ref().and_then(|sasl| sasl.routing.as_ref());
    for routing in routing.into_iter().chain(senders) {
        problems.extend(tables.open(&routing.tables()));
    }
    for problem in &problems {
        reporter.note(&format!("warning: {problem}"));
    }
    tables
}
