//! Connections to policy servers, kept and shared by all clients of the worker.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::policy::{Endpoint, PolicyServer};

/// Connections to one server that wait for their next question.
const MOST_IDLE: usize = 100;
/// An answer is a line of text.
const LONGEST_ANSWER: usize = 64 * 1024;
/// `smtpd_policy_service_try_limit = 0` means again and again; not here.
const MOST_TRIES: u32 = 100;

/// The idle connections, by endpoint.
#[derive(Debug, Default)]
pub struct Delegates(Mutex<HashMap<String, Vec<Idle>>>);

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Duplex for T {}

#[derive(Debug)]
struct Idle {
    stream: Box<dyn Duplex>,
    since: Instant,
    opened: Instant,
    requests: u32,
}

impl Delegates {
    /// The `action` that the server answers; with warnings to log. `addresses` finds a server's host.
    pub async fn ask<F: Future<Output = Option<IpAddr>>>(
        &self,
        server: &PolicyServer,
        request: &str,
        address: impl Fn(String) -> F,
    ) -> (Option<String>, Vec<String>) {
        let mut warnings = Vec::new();
        let tries = match server.try_limit {
            0 => MOST_TRIES,
            limit => limit,
        };
        for attempt in 1..=tries {
            let idle = match self.take(server) {
                Some(idle) => Ok(idle),
                None => connect(server, &address).await.inspect_err(|error| {
                    warnings.push(format!("connect to {}: {}", server.shown, reason(error)));
                }),
            };
            let result = match idle {
                Ok(mut idle) => match exchange(&mut idle, server.timeout, request).await {
                    Ok(action) => {
                        self.keep(server, idle);
                        return (Some(action), warnings);
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let expected = matches!(
                result.kind(),
                io::ErrorKind::BrokenPipe
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::UnexpectedEof
            );
            if attempt == tries || !expected {
                let (name, reason) = (&server.shown, reason(&result));
                warnings.push(format!("problem talking to server {name}: {reason}"));
            }
            if attempt < tries {
                tokio::time::sleep(server.retry_delay).await;
            }
        }
        (None, warnings)
    }

    fn take(&self, server: &PolicyServer) -> Option<Idle> {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.get_mut(&server.shown)?;
        pool.retain(|idle| {
            idle.since.elapsed() < server.max_idle && idle.opened.elapsed() < server.max_ttl
        });
        pool.pop()
    }

    fn keep(&self, server: &PolicyServer, mut idle: Idle) {
        idle.requests += 1;
        if server.request_limit > 0 && idle.requests >= server.request_limit {
            return;
        }
        idle.since = Instant::now();
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools.entry(server.shown.clone()).or_default();
        if pool.len() < MOST_IDLE {
            pool.push(idle);
        }
    }
}

async fn connect<F: Future<Output = Option<IpAddr>>>(
    server: &PolicyServer,
    address: impl Fn(String) -> F,
) -> io::Result<Idle> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let stream: Box<dyn Duplex> = match &server.endpoint {
        Endpoint::Unix(path) => {
            Box::new(timeout(server.timeout, UnixStream::connect(path)).await.map_err(late)??)
        }
        Endpoint::Inet { host, port } => {
            let address = match host.trim_matches(['[', ']']).parse() {
                Ok(address) => Some(address),
                Err(_) => address(host.clone()).await,
            };
            let address =
                address.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "host not found"))?;
            let stream = TcpStream::connect((address, *port));
            let stream = timeout(server.timeout, stream).await.map_err(late)??;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    let now = Instant::now();
    Ok(Idle { stream, since: now, opened: now, requests: 0 })
}

async fn exchange(idle: &mut Idle, limit: Duration, request: &str) -> io::Result<String> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(limit, async {
        idle.stream.write_all(request.as_bytes()).await?;
        idle.stream.flush().await
    })
    .await
    .map_err(late)??;
    let mut answer = Vec::new();
    loop {
        if let Some(action) = action_of(&answer) {
            return action.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no action"));
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "endless answer"));
        }
        let read = timeout(limit, idle.stream.read_buf(&mut answer)).await.map_err(late)??;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The action in a finished answer: `None` before its end, `Some(None)` if it has none.
fn action_of(answer: &[u8]) -> Option<Option<String>> {
    let mut action = None;
    let mut rest = answer;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at_checked(end)?;
        rest = after.get(1..)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Some(action);
        }
        if let Some(value) = line.strip_prefix(b"action=")
            && action.is_none()
        {
            action = std::str::from_utf8(value).ok().map(str::to_owned);
        }
    }
    None
}

/// As strerror(3) has it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "Connection timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "Connection reset by peer".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_with_an_empty_line() {
        for (answer, action) in [
            ("action=DUNNO\n\n", Some(Some("DUNNO"))),
            ("x=y\naction=REJECT no\r\n\r\n", Some(Some("REJECT no"))),
            ("action=DUNNO\n", None),
            ("\n", Some(None)),
            ("", None),
        ] {
            let found = action_of(answer.as_bytes());
            assert_eq!(found.as_ref().map(Option::as_deref), action, "{answer:?}");
        }
        assert_eq!(action_of(b"action=\xff\n\n"), Some(None));
    }
}
