//! The rewrite service (trivial-rewrite): addresses completed and resolved for every other program.

use std::sync::Arc;
use std::time::Duration;

use config::postfix::{self, Table};
use daemon::{Connection, Role, Worker, WorkerError};
use neighbours::attributes::AttrStream;
use protocol::postfix::rewrite::{Resolution, RewriteRequest, Rewritten, Rule, ServerState, flags};
use protocol::postfix::{Dialect, greeting, protocols};
use routing::{Class, Context, LookupError, Maps, Routing};
use serde::{Deserialize, Serialize};
use tables::Set;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::plan::{Asked, Served, Takeover};
use crate::scheduler::log::Log;

pub const TAKEOVER: Takeover =
    Takeover { command: "trivial-rewrite", role: "rewrite", settings: read, shape, work };

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub routing: routing::Settings,
    /// An idle client keeps its connection this long.
    pub timeout: Duration,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let mut tables = Set::default();
    for setting in [
        postfix::TRANSPORT_MAPS,
        postfix::RELOCATED_MAPS,
        postfix::SENDER_DEPENDENT_RELAYHOST_MAPS,
        postfix::SENDER_DEPENDENT_DEFAULT_TRANSPORT_MAPS,
    ] {
        check(&mut tables, &view.get(setting, problems), problems);
    }
    let settings = Settings {
        routing: routing::Settings::read(view, asked.files, problems),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

/// Opens tables to see whether they can be, and says at their place in main.cf what is wrong.
pub fn check(set: &mut Set, tables: &[Table], problems: &mut config::Problems) {
    for table in tables {
        for problem in set.open(&Maps::of(std::slice::from_ref(table))) {
            // A file that is not there yet defers mail, as with Postfix; an unknown type never works.
            match (problem.unusable, &problem.file) {
                (true, None) => problems.error(table.at.clone(), problem.to_string()),
                _ => problems.warning(table.at.clone(), problem.to_string()),
            };
        }
    }
}

fn shape(role: &mut Role) {
    role.connections = 1000;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    worker.run(async {
        let mut serving = tokio::task::JoinSet::new();
        for service in served {
            let settings: Settings = service.settings()?;
            let log = Log::new(&service.shared.syslog_name, "trivial-rewrite");
            let mut tables = neighbours::lookup::tables(&worker);
            for problem in tables.open(&settings.routing.tables_to_resolve()) {
                log.warning(&problem.to_string());
            }
            let server = Arc::new(Server {
                routing: Routing { settings: settings.routing, tables },
                dialect: service.shared.dialect(),
                timeout: settings.timeout,
                log,
            });
            let (worker, listener) = (worker.clone(), worker.listener(&service.listener)?);
            serving.spawn(async move {
                worker
                    .serve(listener, |connection: Connection| {
                        let (server, worker) = (Arc::clone(&server), worker.clone());
                        async move {
                            worker.until_finishing(server.serve(connection.stream)).await;
                        }
                    })
                    .await;
            });
        }
        while serving.join_next().await.is_some() {}
        Ok(())
    })
}

/// Answers many requests on each connection.
pub struct Server<T> {
    pub routing: Routing<T>,
    pub dialect: Dialect,
    pub timeout: Duration,
    pub log: Log,
}

impl<T: routing::Tables> Server<T> {
    /// Serves one client until it closes. A malformed request ends its connection.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut peer = AttrStream::new(stream, self.timeout);
        if peer.send(&greeting(self.dialect, protocols::REWRITE)).await.is_err() {
            return;
        }
        while let Ok(Some(list)) = peer.list_or_end().await {
            let answer = match RewriteRequest::decode(&list) {
                Ok(request) => self.answer(&request).await,
                Err(error) => return self.log.warning(&format!("rewrite socket: {error}")),
            };
            if peer.send(&answer).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, request: &RewriteRequest) -> Vec<u8> {
        match request {
            RewriteRequest::Rewrite { rule, address } => {
                let context = match rule {
                    Rule::Local => Context::Local,
                    Rule::Remote => Context::Remote,
                };
                let address = self.routing.settings.rewriting.rewrite(context, address);
                Rewritten { server: ServerState::Stays, address }.encode()
            }
            RewriteRequest::Resolve { sender, address } => {
                self.resolution(self.routing.resolve(sender, address).await, address)
            }
            RewriteRequest::Verify { sender, address } => {
                self.resolution(self.routing.resolve_probe(sender, address).await, address)
            }
        }
    }

    fn resolution(
        &self,
        resolved: Result<routing::Resolution, LookupError>,
        address: &str,
    ) -> Vec<u8> {
        let answer = match resolved {
            Ok(routing::Resolution::Route(route)) => Resolution {
                server: ServerState::Stays,
                flags: class_flag(route.class)
                    | if route.source_routed { flags::ROUTED } else { 0 },
                transport: route.transport,
                nexthop: route.nexthop,
                recipient: route.recipient,
            },
            Ok(routing::Resolution::BadSyntax { recipient }) => {
                unresolved(recipient, flags::ERROR | flags::CLASS_DEFAULT)
            }
            Err(error) => {
                self.log.warning(&error.to_string());
                unresolved(address.to_owned(), flags::FAIL)
            }
        };
        answer.encode()
    }
}

/// Postfix's own words for fields that mean nothing then.
fn unresolved(recipient: String, flags: u32) -> Resolution {
    Resolution {
        server: ServerState::Stays,
        transport: "CHANNEL NOT UPDATED".to_owned(),
        nexthop: "NEXTHOP NOT UPDATED".to_owned(),
        recipient,
        flags,
    }
}

fn class_flag(class: Class) -> u32 {
    match class {
        Class::Local => flags::CLASS_LOCAL,
        Class::VirtualAlias => flags::CLASS_ALIAS,
        Class::VirtualMailbox => flags::CLASS_VIRTUAL,
        Class::Relay => flags::CLASS_RELAY,
        Class::Default => flags::CLASS_DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::files::Memory;
    use config::postfix::Host;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn server() -> Server<Set> {
        let files = Memory::with([
            ("/p/main.cf", "mydomain = example.com\nmydestination = hash:/nowhere\n"),
            ("/p/master.cf", ""),
        ]);
        let mut problems = config::Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let settings = routing::Settings::read(&host.main(), &files, &mut problems);
        let mut tables = Set::default();
        let opened = tables.open(&settings.tables_to_resolve());
        assert!(opened.iter().any(|problem| problem.unusable));
        Server {
            routing: Routing { settings, tables },
            dialect: Dialect::default(),
            timeout: Duration::from_secs(5),
            log: Log::new("postfix", "trivial-rewrite"),
        }
    }

    async fn says(input: &[u8]) -> Vec<u8> {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        near.write_all(input).await.unwrap();
        near.shutdown().await.unwrap();
        server().serve(far).await;
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn nonsense_ends_its_connection_and_nothing_else() {
        let greeting = b"protocol\0trivial_rewrite_protocol\0\0";
        for input in [
            &b"GET / HTTP/1.0\r\n\r\n"[..],
            b"request\0",
            b"request\0delete\0\0",
            b"request\0rewrite\0rule\0sideways\0address\0x\0\0",
            b"request\0rewrite\0address\0x\0rule\0local\0\0",
            b"\0\0\0\0",
            &[b'a'; 300_000],
        ] {
            assert_eq!(says(input).await, greeting, "{:?}", &input[..input.len().min(40)]);
        }
    }

    #[tokio::test]
    async fn a_table_that_cannot_be_asked_is_told_and_bounces_nothing() {
        let answer = says(b"request\0resolve\0sender\0\0address\0a@b.example\0\0").await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.ends_with("recipient\0a@b.example\0flags\08\0\0"), "{answer:?}");
    }
}
