//! A filter of either kind on a private directory, a mail server that talks to it by script, and dkimpy.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use harness::daemon::Daemon;
use harness::dns::Server;
use harness::log::eventually;
use harness::{Log, Scratch};

pub const KEY: &str = include_str!("../../../../crates/crypto/tests/data/rsa-2048.pem");
pub const SMALL: &str = include_str!("../../../../crates/crypto/tests/data/rsa-1024.pem");
pub const TINY: &str = include_str!("../../../../crates/crypto/tests/data/rsa-768.pem");
pub const ED25519: &str = include_str!("../../../../crates/crypto/tests/data/ed25519.pem");

/// The record of a key: what stands behind `p=`, and `k=` where it is needed.
pub fn record(key: &str) -> String {
    let key = crypto::PrivateKey::parse(key.as_bytes()).unwrap();
    match (key.rsa_public(), key.ed25519_public()) {
        (Some(public), _) => format!("p={}", crypto::pem::encode(&public.to_der())),
        (None, Some(public)) => format!("k=ed25519; p={}", crypto::pem::encode(&public.octets())),
        (None, None) => String::new(),
    }
}

/// A zone line for the harness's name server.
pub fn zone_line(selector: &str, text: &str) -> String {
    let pieces: Vec<String> = text
        .as_bytes()
        .chunks(200)
        .map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)))
        .collect();
    format!("{selector}._domainkey.example.com TXT {}\n", pieces.join(" "))
}

/// Whose filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Ours,
    Theirs,
}

/// A running filter on a unix socket. `DIR` in its configuration is its directory.
pub struct Filter {
    pub socket: PathBuf,
    theirs: Option<Child>,
    _ours: Option<Daemon>,
}

impl Filter {
    pub fn start(whose: Whose, scratch: &Scratch, name: &str, names: &Server, conf: &str) -> Self {
        let directory = scratch.directory(name);
        for (file, key) in [("key", KEY), ("ed25519", ED25519), ("small", SMALL)] {
            let path = scratch.write(&format!("{name}/{file}"), key);
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .unwrap();
        }
        let socket = directory.join("socket");
        let common = format!(
            "Syslog no\nBackground no\nRequireSafeKeys no\nSocket local:{}\nNameservers {}\n",
            socket.display(),
            names.address().ip()
        );
        let own = if whose == Whose::Ours { "UserID nobody\n" } else { "" };
        let text = format!("{common}{own}{conf}").replace("DIR", &directory.display().to_string());
        let file = scratch.write(&format!("{name}/opendkim.conf"), text);
        let file = file.to_str().unwrap();
        match whose {
            Whose::Ours => {
                let daemon = Daemon::start_with(
                    "dkim-milter",
                    &directory,
                    &["-x", file],
                    Log::default(),
                    |_| {},
                );
                Self { socket, theirs: None, _ours: Some(daemon) }
            }
            Whose::Theirs => {
                let mut command = Command::new("/usr/sbin/opendkim");
                command.args(["-f", "-x", file]).stdin(Stdio::null()).stdout(Stdio::null());
                let child = command.stderr(Stdio::null()).spawn().unwrap();
                eventually("OpenDKIM's socket", || UnixStream::connect(&socket).ok().map(drop));
                Self { socket, theirs: Some(child), _ours: None }
            }
        }
    }

    /// One message from a client at `address`, as Postfix reports it.
    pub fn filter(&self, address: &str, message: &[u8]) -> Answer {
        Conversation::open(&self.socket).message(address, message)
    }

    /// The verdict on a message from elsewhere: the part of Authentication-Results behind our name.
    pub fn verdict(&self, message: &[u8]) -> String {
        let answer = self.filter("192.0.2.1", message);
        let found = answer.inserted("Authentication-Results");
        found.map_or_else(
            || "no results".to_owned(),
            |value| value.split_once(';').map_or(value.clone(), |(_, rest)| rest.trim().to_owned()),
        )
    }

    /// The message with the signatures that the filter adds to mail of ours.
    pub fn signed(&self, message: &[u8]) -> Vec<u8> {
        let answer = self.filter("127.0.0.1", message);
        let value = answer.inserted("DKIM-Signature").unwrap_or_else(|| panic!("{answer:?}"));
        [b"DKIM-Signature:", value.replace('\n', "\r\n").as_bytes(), b"\r\n", message].concat()
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(child) = &mut self.theirs {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a filter said from the end of the header on: codes with payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub Vec<(char, String)>);

impl Answer {
    /// The value of the first inserted field with this name.
    pub fn inserted(&self, name: &str) -> Option<String> {
        self.0.iter().filter(|(code, _)| *code == 'i').find_map(|(_, payload)| {
            payload
                .get(4..)?
                .strip_prefix(name)?
                .strip_prefix('\0')?
                .strip_suffix('\0')
                .map(str::to_owned)
        })
    }

    /// Without what differs from one signature to the next: its time and its octets.
    pub fn settled(&self) -> Self {
        let settle = |payload: &String| {
            let mut out = payload.clone();
            if let Some(at) = out.find("t=1") {
                let end = out[at..].find(';').map_or(out.len(), |length| at + length);
                out.replace_range(at..end, "t=T");
            }
            if let Some(at) = out.find("\tb=") {
                out.truncate(at);
            }
            out
        };
        Self(self.0.iter().map(|(code, payload)| (*code, settle(payload))).collect())
    }
}

/// The mail server's side of one connection.
pub struct Conversation(UnixStream);

impl Conversation {
    pub fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut conversation = Self(stream);
        conversation.send(b'O', &[6_u32, 0x1ff, 0x1f_ffff].map(u32::to_be_bytes).concat());
        assert_eq!(conversation.receive().0, 'O');
        conversation
    }

    fn send(&mut self, code: u8, payload: &[u8]) {
        let length = u32::try_from(payload.len() + 1).unwrap().to_be_bytes();
        self.0.write_all(&[&length[..], &[code], payload].concat()).unwrap();
    }

    fn receive(&mut self) -> (char, String) {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut frame).unwrap();
        (char::from(frame[0]), frame[1..].iter().map(|&octet| char::from(octet)).collect())
    }

    fn ask(&mut self, code: u8, payload: &[u8]) -> (char, String) {
        self.send(code, payload);
        self.receive()
    }

    pub fn message(mut self, address: &str, message: &[u8]) -> Answer {
        self.send(b'D', b"Cj\0mx.example.net\0{daemon_name}\0mx.example.net\0");
        let client = format!("client.example\04\0\x19{address}\0");
        let mut said = vec![self.ask(b'C', client.as_bytes())];
        said.push(self.ask(b'M', b"<alice@example.com>\0"));
        said.push(self.ask(b'R', b"<bob@example.org>\0"));
        let at = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let (header, body) = (&message[..at], &message[at + 4..]);
        for field in fields(header) {
            let colon = field.iter().position(|&octet| octet == b':').unwrap();
            self.send(b'D', b"Li\0QUEUEID\0");
            let payload = [&field[..colon], b"\0", &field[colon + 1..], b"\0"].concat();
            let reply = self.ask(b'L', &payload);
            if reply.0 != 'c' {
                said.push(reply);
                return Answer(said);
            }
        }
        said.push(self.ask(b'N', b""));
        let mut skip = false;
        for piece in body.chunks(65535) {
            if said.last().is_some_and(|(code, _)| *code == 'c') && !skip {
                let reply = self.ask(b'B', piece);
                skip = reply.0 == 's';
            }
        }
        if said.last().is_some_and(|(code, _)| *code == 'c') {
            self.send(b'E', b"");
            loop {
                said.push(self.receive());
                if said.last().is_some_and(|(code, _)| "cartdyf".contains(*code)) {
                    break;
                }
            }
        }
        self.send(b'Q', b"");
        Answer(said)
    }
}

/// Fields with their lines divided by LF, as a mail server reports them.
fn fields(header: &[u8]) -> Vec<Vec<u8>> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for line in header.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match fields.last_mut() {
            Some(field) if line.starts_with(b" ") || line.starts_with(b"\t") => {
                field.push(b'\n');
                field.extend_from_slice(line);
            }
            _ => fields.push(line.to_vec()),
        }
    }
    fields
}

/// dkimpy in a process of its own.
pub struct Dkimpy {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Dkimpy {
    pub fn start() -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", include_str!("peer.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, request: String) -> String {
        writeln!(self.input, "{request}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().trim_matches('"').to_owned()
    }

    pub fn is_good(&mut self, message: &[u8], selector: &str, record: &str) -> bool {
        let message = crypto::pem::encode(message);
        self.ask(format!(
            "{{\"do\":\"verify\",\"message\":\"{message}\",\"keys\":{{\"{selector}._domainkey.example.com\":\"{record}\"}}}}"
        )) == "true"
    }

    /// The message with dkimpy's signature.
    pub fn signed(
        &mut self,
        message: &[u8],
        c: &str,
        selector: &str,
        key: &str,
        more: &str,
    ) -> Vec<u8> {
        let (encoded, key) = (crypto::pem::encode(message), key.replace('\n', "\\n"));
        let field = self.ask(format!(
            "{{\"do\":\"sign\",\"message\":\"{encoded}\",\"c\":\"{c}\",\"selector\":\"{selector}\",\"domain\":\"example.com\",\"key\":\"{key}\"{more}}}"
        ));
        let field = crypto::pem::decode(field.as_bytes()).unwrap_or_else(|| panic!("{field}"));
        [&field[..], message].concat()
    }
}

impl Drop for Dkimpy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
