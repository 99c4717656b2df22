//! The language of the case files.
//!
//! ```text
//! case a name
//! set NAME = VALUE             a setting of the delivery service
//! lmtp                         the service speaks LMTP
//! via NEXTHOP                  the transport map names a next hop; `via default`: no entry there, `via relay`: a relay domain
//! zone RECORD                  what DNS says instead of `{d} MX 10 mx.{d}` and `mx.{d} A {mx}`
//! server NAME KIND             a host: `smtp`, `port N`, `unix` ({dir}/NAME), `closed`, `unanswering`; `six`,
//!                              `six-closed` and `six-unanswering` are on ::1 with the port {NAME.port}, and `port of NAME` is the same port
//! on NAME STAGE => ACTION      what the host NAME does, see `harness::remote`; `mx` is there without being named
//! tls NAME HOST…               it offers STARTTLS, its certificate is for these names; HOST `!` before: by an authority nobody knows
//! wrapped NAME                 TLS begins before the greeting, not with STARTTLS
//! sends-authority NAME         its authority's certificate goes with its own
//! asks NAME                    it asks for a certificate of the known authority
//! client NAME                  we have one: {NAME.chain}, {NAME.key}, and both in {NAME.both}, key first
//! file NAME LINE               a line of the file {dir}/NAME
//! from ADDRESS PARAMETERS      of the message; `from <> …`
//! rcpt LOCAL PARAMETERS        `a` if there is none; without @ in the case's domain
//! line TEXT                    of the content, with \xNN; `header TEXT` above the empty line
//! message                      the next message, at the same time
//! then                         the next message, when all before are done
//! want LOCAL STATUS DSN TEXT   the outcome for a recipient, `*` for any; TEXT is a part of the log line
//! said NAME TEXT               the host was sent a line that begins so; `unsaid NAME TEXT`
//! notice TEXT                  a line of a notice holds this
//! log TEXT                     a part of another log line of the service
//! any-log                      the log lines need not be the same; a comment says why
//! ```
//!
//! `{d}` stands for the case's domain, `{c}` for its service, `{dir}` for its directory, `{ca}` for the file of the known
//! authority and `{NAME}` for the address of a host. `{NAME.certificate DIGEST}` and `{NAME.public-key DIGEST}` are fingerprints
//! of its certificate, `{NAME.tlsa-certificate}` and `{NAME.tlsa-key}` what a TLSA record says of it, `{ca.tlsa}` of the authority.

use std::collections::BTreeMap;

use super::transcript::Transcript;

#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    /// `c00`, `c01`, …
    pub label: String,
    pub settings: Vec<(String, String)>,
    pub lmtp: bool,
    pub via: Option<String>,
    pub zone: Vec<String>,
    pub servers: BTreeMap<String, Server>,
    pub files: Vec<(String, String)>,
    /// Certificates of our own.
    pub clients: Vec<String>,
    /// Messages that go at the same time.
    pub rounds: Vec<Vec<Message>>,
    pub wants: Vec<Want>,
    pub any_log: bool,
}

#[derive(Debug, Default)]
pub struct Server {
    pub kind: Kind,
    pub rules: Vec<(String, String)>,
    pub certificate: Vec<String>,
    pub wrapped: bool,
    pub asks: bool,
    pub sends_authority: bool,
}

#[derive(Debug, Default, PartialEq)]
pub enum Kind {
    #[default]
    Smtp,
    Port(u16),
    Unix,
    Closed,
    Unanswering,
    Six,
    SixUnanswering,
    SixClosed,
    /// The port of another host.
    PortOf(String),
}

#[derive(Debug, Default)]
pub struct Message {
    pub from: Option<String>,
    pub recipients: Vec<String>,
    pub header: Vec<String>,
    pub body: Vec<String>,
}

#[derive(Debug)]
pub enum Want {
    Outcome { recipient: String, status: String, dsn: String, text: String },
    Said { server: String, text: String },
    Unsaid { server: String, text: String },
    Log(String),
    Notice(String),
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
                let label = format!("c{:02}", cases.len());
                let rounds = vec![vec![Message::default()]];
                cases.push(Self { name: rest.to_owned(), label, rounds, ..Self::default() });
                continue;
            }
            let case = cases.last_mut().expect("a line before the first case");
            case.line(word, rest).unwrap_or_else(|| panic!("line {}: {line}", number + 1));
        }
        for case in &mut cases {
            case.complete();
        }
        cases
    }

    fn line(&mut self, word: &str, rest: &str) -> Option<()> {
        let pair = || rest.split_once(' ').map(|(one, other)| (one.to_owned(), other.to_owned()));
        match word {
            "set" => {
                let (name, value) = rest.split_once(" =")?;
                self.settings.push((name.to_owned(), value.trim().to_owned()));
            }
            "lmtp" => self.lmtp = true,
            "via" => self.via = Some(rest.to_owned()),
            "zone" => self.zone.push(rest.to_owned()),
            "server" => {
                let (name, kind) = pair()?;
                self.server(&name).kind = match kind.split_once(' ').unwrap_or((&kind, "")) {
                    ("smtp", _) => Kind::Smtp,
                    ("port", number) => match number.strip_prefix("of ") {
                        Some(name) => Kind::PortOf(name.to_owned()),
                        None => Kind::Port(number.parse().ok()?),
                    },
                    ("six", _) => Kind::Six,
                    ("six-unanswering", _) => Kind::SixUnanswering,
                    ("six-closed", _) => Kind::SixClosed,
                    ("unix", _) => Kind::Unix,
                    ("closed", _) => Kind::Closed,
                    ("unanswering", _) => Kind::Unanswering,
                    _ => return None,
                };
            }
            "on" => {
                let (name, rule) = pair()?;
                let (stage, action) = rule.split_once(" => ")?;
                let rule = (stage.to_owned(), action.to_owned());
                self.server(&name).rules.push(rule);
            }
            "tls" => {
                let (name, hosts) = pair()?;
                self.server(&name).certificate = hosts.split(' ').map(str::to_owned).collect();
            }
            "wrapped" => self.server(rest).wrapped = true,
            "sends-authority" => self.server(rest).sends_authority = true,
            "asks" => self.server(rest).asks = true,
            "client" => self.clients.push(rest.to_owned()),
            "file" => self.files.push(pair()?),
            "from" => self.message().from = Some(rest.to_owned()),
            "rcpt" => self.message().recipients.push(rest.to_owned()),
            "line" => self.message().body.push(rest.to_owned()),
            "header" => self.message().header.push(rest.to_owned()),
            "message" => self.rounds.last_mut()?.push(Message::default()),
            "then" => self.rounds.push(vec![Message::default()]),
            "any-log" => self.any_log = true,
            _ => self.wants.push(want(word, rest)?),
        }
        Some(())
    }

    fn server(&mut self, name: &str) -> &mut Server {
        self.servers.entry(name.to_owned()).or_default()
    }

    fn message(&mut self) -> &mut Message {
        self.rounds.last_mut().and_then(|round| round.last_mut()).expect("no message")
    }

    /// What a case that does not say otherwise has.
    fn complete(&mut self) {
        if self.zone.is_empty() {
            self.server("mx");
            self.zone = vec!["{d} MX 10 mx.{d}".to_owned(), "mx.{d} A {mx}".to_owned()];
        }
        for message in self.rounds.iter_mut().flatten() {
            if message.recipients.is_empty() {
                message.recipients.push("a".to_owned());
            }
        }
        assert!(
            self.wants.iter().any(|want| matches!(want, Want::Outcome { .. })),
            "case {} wants no outcome",
            self.name
        );
    }

    pub fn domain(&self) -> String {
        format!("{}.test", self.label)
    }

    /// Whether a transcript has what the case wants.
    pub fn judge(&self, transcript: &Transcript) -> Result<(), String> {
        let filled = |text: &str| text.replace("{d}", &self.domain()).replace("{c}", &self.label);
        for want in &self.wants {
            let fine = match want {
                Want::Outcome { recipient, status, dsn, text } => {
                    let recipient = match recipient.contains('@') {
                        true => filled(recipient),
                        false => format!("{recipient}@{}", self.domain()),
                    };
                    let text = filled(text);
                    let to = match recipient.starts_with('*') {
                        true => "to=<".to_owned(),
                        false => format!("to=<{recipient}>, "),
                    };
                    let dsn = format!("dsn={dsn}, status={status} (");
                    let fits =
                        |line: &String| [&to, &dsn, &text].iter().all(|part| line.contains(*part));
                    transcript.log.iter().any(fits)
                }
                Want::Said { server, text } => transcript.was_told(server, &filled(text)),
                Want::Unsaid { server, text } => !transcript.was_told(server, &filled(text)),
                Want::Notice(text) => {
                    let text = filled(text);
                    transcript.notices.iter().any(|line| line.contains(&text))
                }
                Want::Log(text) => {
                    let text = filled(text);
                    transcript.log.iter().any(|line| line.contains(&text))
                }
            };
            if !fine {
                return Err(format!("wanted {want:?}\n{transcript}"));
            }
        }
        Ok(())
    }
}

fn want(word: &str, rest: &str) -> Option<Want> {
    let pair = || rest.split_once(' ').map(|(one, other)| (one.to_owned(), other.to_owned()));
    Some(match word {
        "want" => {
            let mut words = rest.splitn(4, ' ').map(str::to_owned);
            Want::Outcome {
                recipient: words.next()?,
                status: words.next()?,
                dsn: words.next()?,
                text: words.next().unwrap_or_default(),
            }
        }
        "said" => pair().map(|(server, text)| Want::Said { server, text })?,
        "unsaid" => pair().map(|(server, text)| Want::Unsaid { server, text })?,
        "log" => Want::Log(rest.to_owned()),
        "notice" => Want::Notice(rest.to_owned()),
        _ => return None,
    })
}
