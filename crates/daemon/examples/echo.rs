//! A tiny line service on the daemon crate, for its integration tests: every mechanism of the
//! supervisor and its workers is reached by a line that a client sends.

#![allow(clippy::panic)] // it panics when it is told to

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use config::postfix::TableFile;
use daemon::tls::IdentityFiles;
use daemon::{
    Account, Args, Daemon, Identity, Link, Listen, Place, Plan, Problems, Processes, Role, Stream,
    UserRange, Wire, Worker, WorkerError,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The configuration: JSON, so that its problems have a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    listen: SocketAddr,
    greeting: String,
    #[serde(default)]
    unix: Option<PathBuf>,
    #[serde(default)]
    control: Option<PathBuf>,
    /// Certificate and key by name; no name for the default.
    #[serde(default)]
    identities: Vec<(Option<String>, PathBuf, PathBuf)>,
    #[serde(default)]
    secret: Option<PathBuf>,
    #[serde(default = "one")]
    processes: usize,
    #[serde(default)]
    user: Option<String>,
    #[serde(default = "hundred")]
    connections: usize,
    #[serde(default)]
    reload_grace_ms: Option<u64>,
    #[serde(default)]
    stop_grace_ms: Option<u64>,
    #[serde(default)]
    fail: Option<String>,
    /// The oracle does not get ready.
    #[serde(default)]
    slow: bool,
    #[serde(default)]
    watch: Option<PathBuf>,
    #[serde(default)]
    broker: Option<String>,
    #[serde(default)]
    idle_ms: Option<u64>,
    #[serde(default)]
    read: Option<PathBuf>,
    #[serde(default)]
    table: Option<PathBuf>,
    #[serde(default)]
    write: Option<PathBuf>,
    #[serde(default)]
    network: bool,
}

fn one() -> usize {
    1
}

fn hundred() -> usize {
    100
}

#[derive(Serialize, Deserialize)]
struct Settings {
    greeting: String,
    fail: Option<String>,
}

struct Echo;

impl Daemon for Echo {
    const NAME: &'static str = "echo";

    fn plan(args: &Args) -> Result<Plan, Problems> {
        let mut problems = Problems::default();
        let path = args.config_or("echo.conf");
        let text = std::fs::read(&path);
        let text = text.inspect_err(|error| {
            problems.error(Place::file(&path), error.to_string());
        });
        let config = text.ok().and_then(|text| {
            let config = serde_json::from_slice::<Config>(&text);
            let config = config.inspect_err(|error| {
                problems.error(Place::new(&path, error.line()), error.to_string());
            });
            config.ok()
        });
        let Some(config) = config else { return Err(problems) };
        if config.greeting.is_empty() {
            problems.warning(Place::file(&path), "an empty greeting confuses clients");
        }
        Ok(plan(config, problems))
    }

    fn work(worker: Worker) -> Result<(), WorkerError> {
        let settings: Option<Settings> = match worker.role() {
            "line" => Some(worker.settings()?),
            _ => None,
        };
        match settings.as_ref().and_then(|settings| settings.fail.as_deref()) {
            Some("error") => return Err(WorkerError::service("told to fail")),
            Some(_) => std::process::exit(3),
            None => {}
        }
        if worker.role() == "oracle" && worker.settings()? {
            loop {
                std::thread::park();
            }
        }
        worker.clone().run(async move {
            match worker.role() {
                "line" => lines(&worker, settings.map(|s| s.greeting).unwrap_or_default()).await,
                "oracle" => oracle(&worker).await,
                "user" => user(&worker).await,
                role => Err(WorkerError::service(format!("no role {role}"))),
            }
        })
    }
}

fn plan(config: Config, problems: Problems) -> Plan {
    let account = config.user.as_deref().and_then(|user| Account::named(user).ok());
    let mut line = Role {
        account: account.clone(),
        processes: Processes::Fixed(config.processes),
        threads: 2,
        connections: config.connections,
        listeners: vec!["echo".to_owned()],
        ends_first: true, // it asks the oracle
        files: config.secret.iter().map(|path| ("secret".to_owned(), path.clone())).collect(),
        ..Role::new("line")
    }
    .with_settings(&Settings { greeting: config.greeting, fail: config.fail });
    if !config.identities.is_empty() {
        let identities = config.identities.into_iter().map(|(name, certificate, key)| {
            IdentityFiles { names: name.into_iter().collect(), certificate, key, place: None }
        });
        line.tls.push(daemon::tls::Plan {
            name: "tls".to_owned(),
            policy: daemon::tls::Policy::default(),
            identities: identities.collect(),
        });
    }
    line.needs().read.extend(config.read);
    line.opens_tables(config.table.map(|text| TableFile { text, index: None }));
    line.needs().write.extend(config.write);
    line.needs().network = config.network;
    line.needs().users = true;
    let idle = Duration::from_millis(config.idle_ms.unwrap_or(60_000));
    let oracle = Role { account, alone: true, ..Role::new("oracle") }.with_settings(&config.slow);
    let user = Role {
        processes: Processes::OnDemand { max: 3, idle },
        hand_over_from: vec![config.broker.unwrap_or("line".to_owned())],
        ..Role::new("user")
    };
    let mut plan = Plan {
        listeners: vec![Listen::tcp("echo", config.listen)],
        roles: vec![line, oracle, user],
        links: vec![Link {
            name: "oracle".to_owned(),
            clients: vec!["line".to_owned()],
            server: "oracle".to_owned(),
        }],
        control: config.control,
        watch: config.watch.into_iter().collect(),
        users: UserRange { first_uid: 1000, ..UserRange::default() },
        watch_every: Some(Duration::from_millis(20)),
        problems,
        ..Plan::default()
    };
    if let Some(path) = config.unix {
        plan.listeners.push(Listen::unix("echo", path, 0o666));
    }
    if let Some(grace) = config.reload_grace_ms {
        plan.grace.reload = Duration::from_millis(grace);
    }
    if let Some(grace) = config.stop_grace_ms {
        plan.grace.stop = Duration::from_millis(grace);
    }
    plan
}

async fn lines(worker: &Worker, greeting: String) -> Result<(), WorkerError> {
    let listener = worker.listener("echo")?;
    worker
        .serve(listener, |connection| {
            let (worker, greeting) = (worker.clone(), greeting.clone());
            async move {
                let peer = connection.peer;
                let wire = Wire::from(connection);
                if let Err(error) = converse(&worker, &greeting, wire).await {
                    tracing::info!(target: "mail", ident = "echo/line", "lost {peer:?}: {error}");
                }
            }
        })
        .await;
    Ok(())
}

async fn converse(
    worker: &Worker,
    greeting: &str,
    mut wire: Wire,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    wire.send(format!("{greeting} {}\r\n", worker.generation()).as_bytes()).await?;
    while let Some(line) = wire.line(1000).await? {
        let text = String::from_utf8_lossy(&line.bytes).into_owned();
        let (command, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match command {
            "quit" => break,
            "panic" => panic!("told to panic"),
            "pid" => wire.queue(format!("{}\r\n", std::process::id()).as_bytes()),
            "status" => wire.queue(status().as_bytes()),
            "table" => {
                use std::os::unix::fs::FileExt;
                let (mut text, file) = ([0; 100], worker.table(rest.as_ref()));
                let length = file.map_or(Ok(0), |file| file.read_at(&mut text, 0))?;
                wire.queue(text.get(..length).unwrap_or_default());
                wire.queue(b"\r\n");
            }
            "try" => wire.queue(format!("{}\r\n", attempt(rest)).as_bytes()),
            "user" => wire.queue(format!("{:?}\r\n", worker.users()?.user(rest).await).as_bytes()),
            "file" => {
                wire.queue(&worker.file("secret", 1000)?);
                wire.queue(b"\r\n");
            }
            "ask" => {
                let mut answer = worker.link("oracle")?.ask(rest.as_bytes(), Vec::new()).await?;
                let mut text = String::new();
                answer.read_to_string(&mut text).await?;
                wire.queue(format!("{text}\r\n").as_bytes());
            }
            "starttls" => {
                wire.queue(b"go\r\n");
                let pipelined = wire.start_tls(&worker.tls("tls")?).await?;
                let facts = wire.tls().map(|facts| format!("{} {}", facts.version, facts.cipher));
                wire.queue(format!("{pipelined:?} {}\r\n", facts.unwrap_or_default()).as_bytes());
            }
            "log" => {
                for number in 0..rest.parse()? {
                    tracing::info!(target: "mail", ident = "echo/line", number, "line {number}");
                }
                wire.queue(b"logged\r\n");
            }
            "become" => {
                let uid = rest.parse()?;
                let identity =
                    Identity { uid, gid: uid, home: "/nowhere".to_owned(), groups: vec![] };
                wire.flush().await?;
                let (stream, input) = wire.into_parts()?;
                let socket = vec![stream.into_descriptor()?];
                worker.hand_over("user", identity, &[b"+", &input[..]].concat(), socket).await?;
                return Ok(());
            }
            _ => wire.queue(format!("{text}\r\n").as_bytes()),
        }
        wire.flush().await?;
    }
    wire.close().await;
    Ok(())
}

/// What a worker that a peer has taken over might try; how it ends.
fn attempt(what: &str) -> String {
    let (what, rest) = what.split_once(' ').unwrap_or((what, ""));
    let done = match what {
        "read" => std::fs::read(rest).map(drop),
        "write" => std::fs::write(rest, "x"),
        "connect" => std::net::TcpStream::connect(rest).map(drop),
        "listen" => std::net::TcpListener::bind("127.0.0.1:0").map(drop),
        "exec" => std::process::Command::new(rest).status().map(drop),
        "setuid" => nix::unistd::setuid(0.into()).map_err(Into::into),
        "signal" => {
            let one = nix::unistd::Pid::from_raw(1);
            nix::sys::signal::kill(one, nix::sys::signal::Signal::SIGCONT).map_err(Into::into)
        }
        "ptrace" => nix::sys::ptrace::attach(nix::unistd::getppid()).map_err(Into::into),
        "thread" => std::thread::spawn(|| {}).join().map_err(|_| std::io::ErrorKind::Other.into()),
        _ => Err(std::io::ErrorKind::Unsupported.into()),
    };
    done.map_or_else(|error| error.to_string(), |()| "done".to_owned())
}

/// What a process has left of its privileges, on one line.
fn status() -> String {
    let wanted = ["Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "NoNewPrivs:", "Seccomp:"];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut line = String::new();
    for entry in status.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        let _ = write!(line, "{};", entry.replace('\t', " "));
    }
    line + "\r\n"
}

async fn oracle(worker: &Worker) -> Result<(), WorkerError> {
    worker.alone().await;
    let server = worker.link_server("oracle")?;
    loop {
        let request = tokio::select! {
            _ = worker.finishing() => return Ok(()),
            request = server.next() => request.map_err(WorkerError::io("link"))?,
        };
        let Some(mut request) = request else { return Ok(()) };
        if request.payload == b"die" {
            std::process::abort();
        }
        let answer =
            format!("{} says: {}", worker.generation(), String::from_utf8_lossy(&request.payload));
        let _ = request.answer.write_all(answer.as_bytes()).await;
    }
}

async fn user(worker: &Worker) -> Result<(), WorkerError> {
    let mut handed_over = worker.handed_over();
    loop {
        let next = tokio::select! {
            _ = worker.finishing() => return Ok(()),
            next = handed_over.next() => next,
        };
        let Some(socket) = next.descriptors.into_iter().next() else { continue };
        let Ok(stream) = Stream::from_descriptor(socket) else { continue };
        let wire = Wire::new(stream).with_input(next.payload.get(1..).unwrap_or_default());
        let greeting = format!("uid {}", next.identity.uid);
        let (busy, handle) = (worker.busy(), worker.clone());
        worker.spawn_connection(busy, async move {
            let _ = converse(&handle, &greeting, wire).await;
        });
    }
}

fn main() -> ExitCode {
    daemon::main::<Echo>()
}
