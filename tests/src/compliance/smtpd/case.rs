//! The language of the case files.
//!
//! ```text
//! case a name
//! set NAME = VALUE            a setting of the service; @POLICY@ is the port of the policy server
//! from ADDRESS                the client's own address
//! screen                      postscreen stands in front of the service
//! tls WORDS                   the client speaks TLS from the next connection on: `openssl s_client WORDS`,
//!                             with STARTTLS unless the first word is `wrapped`
//! again                       the connection ends, and another one begins
//! beside                      another one begins, and the old one stays to the end
//!                             (lines that several connections write may come in any order)
//! > LINE                      sent with CRLF; \r \n \0 \t \\ \xNN, \*NxREST (REST N times), \ at the end: no CRLF
//! any-log                     the logs need not be the same; a comment says why
//! < 250 2.1.0 Ok              the beginning of a reply, its lines joined by " | "
//! < EOF                       the server has closed
//! queued N                    so many messages are in the queue at the end
//! log TEXT                    a line of the log holds this, without what differs from run to run
//! asked TEXT                  a request to the policy server holds this
//! told N                      so many notices go to the postmaster
//! gone N                      so many have got a queue id and vanished
//! ```

#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub settings: Vec<(String, String)>,
    pub steps: Vec<Step>,
    pub queued: usize,
    /// So many messages got a queue id and are not in the queue.
    pub gone: usize,
    /// Log lines may differ: the case says why in a comment.
    pub any_log: bool,
    /// What the log must hold, even where the two logs differ.
    pub log: Vec<String>,
    /// Notices to the postmaster, where they are looked at.
    pub told: Option<usize>,
    /// What the policy server must hear.
    pub asked: Vec<String>,
    /// postscreen stands in front.
    pub screened: bool,
    /// The client's address.
    pub from: Option<std::net::IpAddr>,
    /// The words of `openssl s_client`, if the client speaks TLS.
    pub tls: Option<String>,
}

#[derive(Debug)]
pub enum Step {
    Send(Vec<u8>),
    Expect(String),
    Again,
    Beside,
}

impl Case {
    pub fn sets(&self, setting: &str) -> bool {
        self.settings.iter().any(|(name, _)| name == setting)
    }

    pub fn read_all(text: &str) -> Vec<Self> {
        let mut cases: Vec<Self> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            if word.is_empty() || word.starts_with('#') {
                continue;
            }
            if word == "case" {
                cases.push(Self { name: rest.to_owned(), ..Self::default() });
                continue;
            }
            let case = cases.last_mut().expect("a line before the first case");
            match word {
                "set" => {
                    let (name, value) = rest.split_once(" =").expect("set NAME = VALUE");
                    case.settings.push((name.to_owned(), value.trim().to_owned()));
                }
                ">" => case.steps.push(Step::Send(unescape(rest))),
                "<" => case.steps.push(Step::Expect(rest.to_owned())),
                "tls" => case.tls = Some(rest.to_owned()),
                "again" => case.steps.push(Step::Again),
                "beside" => case.steps.push(Step::Beside),
                "queued" => case.queued = rest.parse().expect("a number"),
                "gone" => case.gone = rest.parse().expect("a number"),
                "told" => case.told = Some(rest.parse().expect("a number")),
                "log" => case.log.push(rest.to_owned()),
                "asked" => case.asked.push(rest.to_owned()),
                "any-log" => case.any_log = true,
                "screen" => case.screened = true,
                "from" => case.from = Some(rest.parse().expect("an address")),
                _ => panic!("line {}: {line}", number + 1),
            }
        }
        cases
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, end) = unescaped(text);
    if end {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The octets, and whether a line ending belongs behind them.
fn unescaped(text: &str) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    let mut end = true;
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b't') => bytes.push(b'\t'),
            Some(b'0') => bytes.push(0),
            Some(b'x') => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                let digits = std::str::from_utf8(&digits).unwrap().to_owned();
                bytes.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            // \*NxTEXT: TEXT N times
            Some(b'*') => {
                let text = String::from_utf8(rest.by_ref().collect()).unwrap();
                let (count, what) = text.split_once('x').unwrap();
                let (what, ends) = unescaped(what);
                bytes.extend(what.repeat(count.parse().unwrap()));
                end = ends;
            }
            Some(other) => bytes.push(other),
            None => end = false,
        }
    }
    (bytes, end)
}
