//! The client's part of a case, and the wires that it may go over.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::case::{Case, Step};
use super::transcript::{is_queue_id, normal};

/// What was said, and how often.
pub struct Conversation {
    pub replies: Vec<String>,
    /// Queue ids at the end of replies.
    pub ids: Vec<String>,
    pub connections: usize,
}

/// Plays the client's part of a case. `ended` waits until so many connections have ended in the log.
pub fn converse(
    case: &Case,
    connect: impl Fn() -> Result<Client, String>,
    ended: impl Fn(usize),
) -> Result<Conversation, String> {
    let mut client = connect()?;
    let (mut connections, mut kept) = (1, Vec::new());
    let (mut replies, mut ids) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match step {
            Step::Send(bytes) => client.send(bytes),
            Step::Again => {
                drop(client);
                ended(connections);
                (client, connections) = (connect()?, connections + 1);
            }
            Step::Beside => {
                kept.push(client);
                (client, connections) = (connect()?, connections + 1);
            }
            Step::Expect(wanted) => {
                let reply = reply(&mut client.input)?;
                if !reply.starts_with(wanted) {
                    return Err(format!("wanted {wanted:?}, got {reply:?}"));
                }
                let id = reply.rsplit(' ').next().filter(|word| is_queue_id(word));
                ids.extend(id.map(str::to_owned));
                replies.push(normal(&reply));
            }
        }
    }
    if ids.len() != case.queued + case.gone {
        return Err(format!("wanted {} queued, got {}", case.queued, ids.len()));
    }
    Ok(Conversation { replies, ids, connections })
}

/// From `from`, or from wherever.
fn connect(from: Option<std::net::IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let to = ([127, 0, 0, 1], port).into();
    let Some(from) = from else { return TcpStream::connect(to) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(to).await?.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

/// A client in the clear or over TLS. It ends when it is dropped.
pub struct Client {
    input: BufReader<Box<dyn Read>>,
    output: Box<dyn Write>,
    end: Box<dyn FnMut()>,
}

impl Client {
    pub fn plain(
        from: Option<std::net::IpAddr>,
        port: u16,
        patience: Duration,
    ) -> Result<Self, String> {
        let stream = self::connect(from, port).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let input: Box<dyn Read> = Box::new(stream.try_clone().unwrap());
        let end = stream.try_clone().unwrap();
        let end = Box::new(move || drop(end.shutdown(Shutdown::Both)));
        Ok(Self { input: BufReader::new(input), output: Box::new(stream), end })
    }

    /// Debian's openssl, which begins with STARTTLS unless `words` say otherwise, and ends by itself in time.
    pub fn tls(port: u16, words: &str) -> Result<Self, String> {
        let mut command = Command::new("timeout");
        command.args(["30", "openssl", "s_client", "-quiet"]);
        if !words.starts_with("wrapped") {
            command.args(["-starttls", "smtp"]);
        }
        command
            .arg("-connect")
            .arg(format!("127.0.0.1:{port}"))
            .args(words.trim_start_matches("wrapped").split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("openssl: {error}"))?;
        let input: Box<dyn Read> = Box::new(child.stdout.take().unwrap());
        let output: Box<dyn Write> = Box::new(child.stdin.take().unwrap());
        let end = Box::new(move || {
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(Self { input: BufReader::new(input), output, end })
    }

    /// A server in this process.
    pub fn of(input: impl Read + 'static, output: impl Write + 'static) -> Self {
        Self {
            input: BufReader::new(Box::new(input)),
            output: Box::new(output),
            end: Box::new(|| ()),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.output.write_all(bytes).and_then(|()| self.output.flush());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        (self.end)();
    }
}

/// A whole reply, lines joined by ` | `; `EOF` when the server has closed.
fn reply(input: &mut impl BufRead) -> Result<String, String> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => return Ok("EOF".to_owned()),
            Ok(_) if !line.ends_with("\r\n") => return Err(format!("line without CRLF: {line:?}")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok("EOF".to_owned());
            }
            Err(error) => return Err(format!("no reply: {error}; so far {lines:?}")),
        }
        let more = line.as_bytes().get(3) == Some(&b'-');
        lines.push(line.trim_end().to_owned());
        if !more {
            return Ok(lines.join(" | "));
        }
    }
}
