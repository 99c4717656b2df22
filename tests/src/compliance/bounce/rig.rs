//! A bounce service with nothing behind it: its notices are read from the incoming queue, where cleanup put them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch};
use protocol::postfix::Dialect;
use protocol::postfix::bounce::BounceRequest;
use protocol::postfix::record::{RecordType, write, write_attribute};

/// Whose services answer on `private/bounce`, `private/defer` and `private/trace`; cleanup is always Postfix's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    Theirs,
    Ours,
}

pub struct Rig {
    postfix: Postfix,
    daemon: Option<Daemon>,
    _scratch: Scratch,
}

/// A message in the active queue.
#[derive(Clone, Debug)]
pub struct Message {
    pub sender: &'static str,
    pub recipients: &'static [&'static str],
    /// The content: records, so that long lines can be told.
    pub content: Vec<(char, Vec<u8>)>,
}

impl Rig {
    /// `files` are written beside main.cf; `{dir}` in `main` is their directory.
    pub fn start(cast: Cast, main: &str, files: &[(&str, &[u8])]) -> Self {
        let scratch = Scratch::new();
        let directory = scratch.join("postfix");
        let main = main.replace("{dir}", directory.to_str().unwrap());
        let mut postfix = Postfix::lay(&scratch, &format!("in_flow_delay = 0\n{main}"));
        for (name, text) in files {
            scratch.write(&format!("postfix/{name}"), text);
        }
        // Nobody shall take the notices away, not even ours.
        let master = directory.join("master.cf");
        let text = fs::read_to_string(&master).unwrap();
        let idle = |line: &&str| !line.starts_with("qmgr") && !line.starts_with("pickup");
        let text: String = text.lines().filter(idle).map(|line| format!("{line}\n")).collect();
        fs::write(master, text).unwrap();
        if cast == Cast::Ours {
            postfix.without(&[("bounce", "unix"), ("defer", "unix"), ("trace", "unix")]);
        }
        postfix.start();
        let config = directory.to_str().unwrap().to_owned();
        let daemon = (cast == Cast::Ours)
            .then(|| Daemon::start("queue-manager", &scratch.directory("run"), &["-c", &config]));
        Self { postfix, daemon, _scratch: scratch }
    }

    pub fn log(&self) -> &Log {
        self.daemon.as_ref().map_or(&self.postfix.log, |daemon| &daemon.log)
    }

    /// Puts a message into the active queue. Returns the offsets of its recipients.
    pub fn lay(&self, id: &str, message: &Message) -> Vec<i64> {
        let mut head = Vec::new();
        write(&mut head, RecordType::TIME, b"1795295949 123456");
        write_attribute(&mut head, "create_time", "1795295949");
        write_attribute(&mut head, "log_ident", id);
        write(&mut head, RecordType::SENDER, message.sender.as_bytes());
        const SIZE_RECORD: usize = 2 + 95;
        let mut offsets = Vec::new();
        for recipient in message.recipients {
            offsets.push(i64::try_from(SIZE_RECORD + head.len()).unwrap());
            write(&mut head, RecordType::RECIPIENT, recipient.as_bytes());
        }
        write(&mut head, RecordType::MESSAGE, b"");
        let mut content = Vec::new();
        for (kind, data) in &message.content {
            let kind = if *kind == 'L' { RecordType::CONTINUED } else { RecordType::LINE };
            write(&mut content, kind, data);
        }
        let (size, offset) = (content.len(), SIZE_RECORD + head.len());
        let record = format!(
            "{size:>15} {offset:>15} {:>15} {:>15} {size:>15} {:>15}",
            message.recipients.len(),
            0,
            0
        );
        let mut file = Vec::new();
        write(&mut file, RecordType::SIZE, record.as_bytes());
        file.extend(head);
        file.extend(content);
        write(&mut file, RecordType::EXTRACTED, b"");
        write(&mut file, RecordType::END, b"");
        let path = self.path("active", id);
        fs::write(&path, file).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        self.give_to_postfix(&path);
        offsets
    }

    pub fn give_to_postfix(&self, path: &Path) {
        let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap();
        nix::unistd::chown(path, Some(owner.uid), Some(owner.gid)).unwrap();
    }

    pub fn path(&self, queue: &str, id: &str) -> PathBuf {
        match queue {
            "defer" | "deferred" => self.postfix.queue().join(queue).join(&id[..1]).join(id),
            _ => self.postfix.queue().join(queue).join(id),
        }
    }

    /// One request to a service: its status, or that it hung up.
    pub fn ask(&self, service: &str, request: &BounceRequest) -> String {
        self.ask_with(service, &request.encode(Dialect::V3_6))
    }

    pub fn ask_with(&self, service: &str, request: &[u8]) -> String {
        let path = self.postfix.queue().join("private").join(service);
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).replace('\0', "|");
        let text = text.strip_prefix("protocol|delivery_status_protocol||").unwrap_or(&text);
        match text.strip_prefix("status|") {
            Some("0||") => "done".to_owned(),
            Some(_) => "failed".to_owned(),
            None => format!("no status: {text}"),
        }
    }

    /// Takes the notices out of the incoming queue: envelope and text, without what is new each time.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        for entry in fs::read_dir(self.postfix.queue().join("incoming")).unwrap().flatten() {
            let id = entry.file_name().into_string().unwrap();
            // A file that is gone is one that cleanup has taken back.
            let Ok(metadata) = entry.metadata() else { continue };
            let mode = metadata.permissions().mode();
            if mode & 0o700 == 0o700 {
                notices.push(shown(&fs::read(entry.path()).unwrap(), &id));
            }
            let _ = fs::remove_file(entry.path());
        }
        notices.sort();
        notices
    }

    /// What the service has said of a message so far.
    pub fn said(&self, about: &str) -> Vec<String> {
        let mut said = Vec::new();
        for line in self.log().lines() {
            let Some((_, text)) = line.text.split_once("/bounce[") else { continue };
            let Some((_, text)) = text.split_once("]: ") else { continue };
            if text.contains(about) {
                let words = text.split(' ').map(|word| match is_id(word) && word != about {
                    true => "NEW",
                    false => word,
                });
                said.push(words.collect::<Vec<_>>().join(" "));
            }
        }
        said
    }
}

fn is_id(word: &str) -> bool {
    word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
}

/// Sender, recipients, encoding and content of a queue file.
fn shown(mut file: &[u8], id: &str) -> String {
    let mut text = String::new();
    let mut in_content = false;
    while let [kind, rest @ ..] = file {
        let (mut length, mut size) = (0, 0);
        loop {
            length |= usize::from(rest[size] & 0x7f) << (7 * size);
            size += 1;
            if rest[size - 1] & 0x80 == 0 {
                break;
            }
        }
        let (data, after) = rest[size..].split_at(length);
        file = after;
        let line: String = data
            .iter()
            .map(|&byte| match byte {
                b'\t' => "\\t".to_owned(),
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            })
            .collect();
        match kind {
            b'S' | b'R' => text.push_str(&format!("{} <{line}>\n", char::from(*kind))),
            b'A' if line.starts_with("encoding=") || line.starts_with("trace_flags=") => {
                text.push_str(&format!("A {line}\n"));
            }
            b'C' => {
                let utf8 = line.split_whitespace().nth(5).unwrap_or("0");
                text.push_str(&format!("smtputf8 {utf8}\n"));
            }
            b'M' => in_content = true,
            b'X' => in_content = false,
            b'N' | b'L' if in_content => {
                text.push_str(&format!("{} {}\n", char::from(*kind), masked(&line, id)));
            }
            _ => {}
        }
    }
    text
}

/// Without ids and times of the notice itself.
fn masked(line: &str, id: &str) -> String {
    let line = line.replace(id, "NEWID");
    if line.starts_with("Date: ") {
        return "Date: NOW".to_owned();
    }
    if let Some((before, _)) = line.split_once("id NEWID; ") {
        return format!("{before}id NEWID; NOW");
    }
    if line.starts_with("Message-Id: <") || line.starts_with("Message-ID: <20") {
        return "Message-Id: <NOW.NEWID@>".to_owned();
    }
    // The boundary: QUEUEID.SECONDS/HOST
    match line.split_once('/') {
        Some((before, after)) if before.rsplit_once('.').is_some_and(|(_, n)| is_time(n)) => {
            let before = before.rsplit_once('.').map_or("", |(before, _)| before);
            format!("{before}.TIME/{after}")
        }
        _ => line,
    }
}

fn is_time(word: &str) -> bool {
    word.len() == 10 && word.bytes().all(|b| b.is_ascii_digit())
}
