//! One filter, from its socket to its last word.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::milter::{
    Actions, Event, Family, MacroClass, Negotiation, Reply, Stage, Steps, VERSION,
};
use protocol::postfix::milter::MacroLists;

use super::link::{Link, LinkError, reason};
use super::settings::{DefaultAction, FilterSettings, offer};
use super::{Response, macros};

/// A filter may ask for patience so often before each answer.
const MOST_PROGRESS: usize = 10_000;

/// How far the filter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not connected.
    Closed,
    /// Negotiated; no client is known to it.
    Ready,
    Envelope,
    Message,
    /// It wants no more of this message.
    AcceptMessage,
    /// It wants no more of this client, or refuses all of it.
    AcceptConnection,
    RejectConnection,
    /// It cannot be talked to; the default action stays.
    Error,
}

/// Names and values that precede an event.
pub(super) type Values = Vec<(Bytes, Bytes)>;

/// The client as filters see it.
#[derive(Clone, Debug)]
pub struct Client {
    /// The verified name, or `unknown`.
    pub name: String,
    pub address: Option<IpAddr>,
    /// 0 if it is not known.
    pub port: u16,
}

impl Client {
    pub(super) fn event(&self) -> Event {
        let host = match self.address {
            Some(address) if self.name == "unknown" => format!("[{address}]"),
            _ => self.name.clone(),
        };
        let address = self.address.map(|address| Bytes::from(address.to_string()));
        let family = match (self.address, address) {
            (Some(IpAddr::V4(_)), Some(address)) => Family::Inet { port: self.port, address },
            (Some(IpAddr::V6(_)), Some(address)) => Family::Inet6 { port: self.port, address },
            _ => Family::Unknown,
        };
        Event::Connect { host: host.into(), family }
    }
}

#[derive(Debug)]
pub(super) struct Filter {
    pub settings: FilterSettings,
    /// For the log: `postfix/smtpd`.
    ident: Arc<str>,
    directory: Arc<std::path::Path>,
    pub link: Option<Link>,
    pub state: State,
    pub version: u32,
    pub actions: Actions,
    /// What it answered.
    pub steps: Steps,
    /// Events that its version does not know.
    pub withheld: Steps,
    /// Lists of its own; empty ones stand for the common list.
    pub macros: Option<MacroLists>,
    /// What it has said for good.
    sticking: Option<Response>,
    skipped: Option<Stage>,
    pub limit: Duration,
}

impl Filter {
    pub fn new(settings: FilterSettings, ident: Arc<str>, directory: Arc<std::path::Path>) -> Self {
        let limit = settings.command_timeout;
        Self {
            settings,
            ident,
            directory,
            link: None,
            state: State::Closed,
            version: 0,
            actions: Actions::default(),
            steps: Steps::default(),
            withheld: Steps::default(),
            macros: None,
            sticking: None,
            skipped: None,
            limit,
        }
    }

    pub fn warn(&self, text: &str) {
        let name = &self.settings.name;
        tracing::warn!(target: "mail", ident = &*self.ident, "warning: milter {name}: {text}");
    }

    /// What it has said for good.
    pub fn last_word(&self) -> Option<Response> {
        self.sticking.clone()
    }

    /// Whether cleanup can go on with it.
    pub const fn is_active(&self) -> bool {
        self.link.is_some() && matches!(self.state, State::Envelope | State::Ready)
    }

    /// Connects and negotiates.
    pub async fn connect(&mut self) {
        if self.state != State::Closed {
            return;
        }
        let offer = match offer(&self.settings.protocol) {
            Ok(offer) => offer,
            Err(problem) => {
                self.warn(&problem);
                self.misconfigured();
                return;
            }
        };
        self.withheld = all_events().without(offer.steps);
        let name = &self.settings.name;
        let place = match name.split_once(':') {
            Some(("unix" | "local", path)) if !path.starts_with('/') => {
                format!("unix:{}", self.directory.join(path).display())
            }
            _ => name.clone(),
        };
        match Link::connect(&place, self.settings.connect_timeout).await {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                let reason = reason(&error);
                tracing::warn!(target: "mail", ident = &*self.ident,
                    "warning: connect to Milter service {name}: {reason}");
                self.failed();
                return;
            }
        }
        match self.negotiate(offer).await {
            Ok(()) => self.state = State::Ready,
            Err(problem) => {
                self.warn(&problem);
                self.failed();
            }
        }
    }

    async fn negotiate(&mut self, offer: Negotiation) -> Result<(), String> {
        let limit = self.settings.command_timeout;
        let in_handshake = |what: &str, error: &LinkError| {
            format!("can't {what} SMFIC_OPTNEG reply packet header: {error}")
        };
        let Some(link) = &mut self.link else { return Err("not connected".to_owned()) };
        link.put(&Event::Negotiate(offer.clone()));
        link.flush(limit).await.map_err(|error| in_handshake("write", &error))?;
        let frame = link.frame(limit).await.map_err(|error| in_handshake("read", &error))?;
        let answer = match (frame.code, Reply::decode(frame)) {
            (_, Ok(Reply::Negotiate(answer))) => answer,
            (b'O', Err(error)) => return Err(format!("{error} in initial handshake")),
            (code, _) => {
                let shown = char::from(code).escape_default();
                return Err(format!("unexpected reply \"{shown}\" in initial handshake"));
            }
        };
        if answer.version > offer.version {
            let (theirs, ours) = (answer.version, offer.version);
            return Err(format!(
                "protocol version {theirs} conflict with MTA protocol version {ours}"
            ));
        }
        if !offer.actions.contains(answer.actions) {
            let (theirs, ours) = (answer.actions.0, offer.actions.0);
            return Err(format!(
                "request mask 0x{theirs:x} conflict with MTA request mask 0x{ours:x}"
            ));
        }
        if answer.version < offer.version {
            // Version 5 was never spoken; its filters get what version 4 knows.
            let known = (2..=answer.version.min(VERSION)).rev().find_map(Steps::offered);
            match known {
                Some(known) => self.withheld = self.withheld | all_events().without(known),
                None => self.warn(&format!("unexpected protocol version {}", answer.version)),
            }
        }
        (self.version, self.actions, self.steps) = (answer.version, answer.actions, answer.steps);
        self.take_macros(answer.macros);
        Ok(())
    }

    fn take_macros(&mut self, wanted: Vec<(u32, Bytes)>) {
        if wanted.is_empty() {
            return;
        }
        let mut lists = MacroLists::default();
        for (number, names) in wanted {
            match MacroClass::of_number(number) {
                Some(class) => {
                    let names = String::from_utf8_lossy(&names).into_owned();
                    macros::set(&mut lists, class, names);
                }
                None => self.warn(&format!("ignoring unknown macro type {number}")),
            }
        }
        self.macros = Some(lists);
    }

    /// It cannot be talked to.
    pub fn failed(&mut self) -> Option<Response> {
        let response = match self.settings.default_action {
            DefaultAction::Accept => None,
            DefaultAction::Reject => Some(Response::reply(Response::UNAVAILABLE)),
            DefaultAction::Tempfail => Some(Response::reply(Response::LATER)),
            DefaultAction::Quarantine => Some(Response::Hold),
            DefaultAction::Shutdown => {
                Some(Response::reply("421 4.7.1 Service unavailable - try again later"))
            }
        };
        self.give_up(response)
    }

    /// It asks for what cannot be, or its configuration does.
    pub fn misconfigured(&mut self) -> Option<Response> {
        let response = match self.settings.default_action {
            DefaultAction::Accept => None,
            DefaultAction::Quarantine => Some(Response::Hold),
            DefaultAction::Reject | DefaultAction::Tempfail => {
                Some(Response::reply(Response::MISCONFIGURED))
            }
            DefaultAction::Shutdown => {
                Some(Response::reply("421 4.3.5 Server configuration problem - try again later"))
            }
        };
        self.give_up(response)
    }

    fn give_up(&mut self, response: Option<Response>) -> Option<Response> {
        if let Some(link) = self.link.take() {
            link.shut_down();
        }
        self.state = State::Error;
        self.sticking = response;
        self.last_word()
    }

    /// Whether events of this kind reach it now; if not, what it has said before is its answer.
    pub const fn listens(&self, stage: Stage) -> bool {
        match stage {
            Stage::Connect => matches!(self.state, State::Ready),
            Stage::Helo => matches!(self.state, State::Envelope | State::AcceptMessage),
            _ => matches!(self.state, State::Envelope),
        }
    }

    /// Sends an event and takes the answer.
    pub async fn ask(&mut self, event: &Event, values: Values) -> Option<Response> {
        let stage = event.stage()?;
        if !self.tell(stage, event, values).await {
            return self.last_word();
        }
        loop {
            match self.reply(stage).await {
                Ok(reply) => {
                    if let Some(response) = self.decide(stage, reply) {
                        return response;
                    }
                }
                Err(response) => return response,
            }
        }
    }

    /// Sends an event; whether an answer is to come.
    pub async fn tell(&mut self, stage: Stage, event: &Event, values: Values) -> bool {
        if self.link.is_none() || self.sticking.is_some() {
            let (event, name) = (stage.name(), &self.settings.name);
            tracing::warn!(target: "mail", ident = &*self.ident,
                "warning: milter8_event: attempt to send event {event} to milter {name} after error");
            return false;
        }
        if !self.withheld.wants(stage) || self.skipped == Some(stage) {
            return false;
        }
        self.skipped = None;
        let (wants, answers) = (self.steps.wants(stage), self.steps.answers(stage));
        let limit = self.limit;
        let Some(link) = &mut self.link else { return false };
        // Macros come even before an event that is suppressed.
        link.put(&Event::Macros { code: stage.code(), values });
        if wants {
            link.put(event);
        }
        let waits = wants && answers;
        if (waits || link.is_full())
            && let Err(error) = link.flush(limit).await
        {
            self.warn(&format!("error writing command: {error}"));
            self.failed();
            return false;
        }
        waits
    }

    /// The next reply that is more than a sign of life.
    pub async fn reply(&mut self, stage: Stage) -> Result<Reply, Option<Response>> {
        let limit = self.limit;
        for _ in 0..MOST_PROGRESS {
            let Some(link) = &mut self.link else { return Err(self.last_word()) };
            let frame = match link.frame(limit).await {
                Ok(frame) => frame,
                Err(LinkError::Frame(error)) => {
                    self.warn(&error.to_string());
                    return Err(self.failed());
                }
                Err(error) => {
                    let event = stage.name();
                    self.warn(&format!("can't read {event} reply packet header: {error}"));
                    return Err(self.failed());
                }
            };
            match Reply::decode(frame) {
                Ok(Reply::Progress) => {}
                Ok(reply) => return Ok(reply),
                Err(error) => {
                    self.warn(&format!(
                        "unexpected filter response: {error} after event {}",
                        stage.name()
                    ));
                    return Err(self.failed());
                }
            }
        }
        self.warn(&format!(
            "more than {MOST_PROGRESS} SMFIR_PROGRESS after event {}",
            stage.name()
        ));
        Err(self.failed())
    }

    /// What a reply that is no edit means: "not yet" (another one follows) and "go on" are two things.
    pub fn decide(&mut self, stage: Stage, reply: Reply) -> Option<Option<Response>> {
        let connecting = matches!(stage, Stage::Connect | Stage::Helo);
        Some(match reply {
            Reply::Continue => self.last_word(),
            Reply::Accept if connecting => {
                self.close(State::AcceptConnection);
                self.last_word()
            }
            Reply::Accept => {
                self.state = State::AcceptMessage;
                self.last_word()
            }
            Reply::Discard if connecting => {
                self.warn("DISCARD action is not allowed for connect or helo");
                self.last_word()
            }
            Reply::Discard => {
                self.state = State::AcceptMessage;
                Some(Response::Discard)
            }
            Reply::Reject => self.refuse(connecting, Response::reply(Response::REJECTED)),
            Reply::Tempfail => self.refuse(connecting, Response::reply(Response::LATER)),
            Reply::Shutdown => {
                self.close(State::RejectConnection);
                self.sticking = Some(Response::Shutdown);
                self.last_word()
            }
            Reply::ReplyCode(text) => match reply_text(&text) {
                Some(text) => self.refuse(connecting, Response::Reply(text)),
                None => {
                    let shown: String = String::from_utf8_lossy(&text)
                        .chars()
                        .map(|c| if c.is_control() { '?' } else { c })
                        .collect();
                    self.warn(&format!("malformed reply: {shown}"));
                    self.misconfigured()
                }
            },
            Reply::Quarantine { .. } => {
                self.sticking = Some(Response::Hold);
                return None;
            }
            Reply::Skip => {
                self.skipped = Some(stage);
                self.last_word()
            }
            other => {
                let (reply, event) = (other.name(), stage.name());
                self.warn(&format!("unexpected filter response {reply} after event {event}"));
                self.failed()
            }
        })
    }

    fn refuse(&mut self, connecting: bool, response: Response) -> Option<Response> {
        if connecting {
            self.close(State::RejectConnection);
            self.sticking = Some(response.clone());
        }
        Some(response)
    }

    /// libmilter's filters close the socket themselves when they are done with a client.
    fn close(&mut self, state: State) {
        self.link = None;
        self.state = state;
    }

    /// The message is over.
    pub fn abort(&mut self) {
        if matches!(self.state, State::Envelope | State::Message | State::AcceptMessage)
            && let Some(link) = &mut self.link
        {
            link.put(&Event::Abort);
            self.state = State::Envelope;
        }
    }

    /// The client is gone.
    pub async fn quit(&mut self) {
        if matches!(self.state, State::Envelope | State::Message | State::AcceptMessage)
            && let Some(mut link) = self.link.take()
        {
            link.put(&Event::Quit);
            let _ = link.flush(self.settings.command_timeout).await; // it may have gone first
        }
        self.link = None;
        self.state = State::Closed;
        self.sticking = None;
        self.skipped = None;
    }
}

/// Every bit that suppresses an event.
fn all_events() -> Steps {
    Stage::ALL.into_iter().fold(Steps::default(), |all, stage| all | Steps::suppressing(stage))
}

/// A filter's reply for the client: 4xx or 5xx, an enhanced code of the same class if any, the same code in every
/// line. `%%` becomes `%`, a single one goes; what could end a line early is shown as `?`.
fn reply_text(text: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(text).into_owned();
    let text = text.split('\0').next().unwrap_or_default();
    let code = text.get(..3)?;
    let class = code.chars().next().filter(|class| matches!(class, '4' | '5'))?;
    let mut lines = Vec::new();
    for line in text.split("\r\n") {
        let rest = line.strip_prefix(code)?;
        let digits = code.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || !(rest.is_empty() || rest.starts_with([' ', '-'])) {
            return None;
        }
        let body = rest.get(1..).unwrap_or_default();
        if body.starts_with(|c: char| c.is_ascii_digit()) && !body.starts_with(class) {
            return None;
        }
        lines.push(format!("{code}{}{}", rest.get(..1).unwrap_or(" "), unescape(body)));
    }
    Some(lines.join("\r\n"))
}

fn unescape(text: &str) -> String {
    let mut chars = text.chars();
    let mut result = String::new();
    while let Some(c) = chars.next() {
        match c {
            '%' => result.extend(chars.next()),
            c if c.is_control() && c != '\t' => result.push('?'),
            c => result.push(c),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::reply_text;

    #[test]
    fn a_reply_is_taken_as_postfix_takes_it() {
        for (said, told) in [
            ("550 5.7.1 no", Some("550 5.7.1 no")),
            ("550 nodsn", Some("550 nodsn")),
            ("450 4.7.1 50%% off %x", Some("450 4.7.1 50% off x")),
            ("550-5.7.1 a\r\n550 5.7.1 b", Some("550-5.7.1 a\r\n550 5.7.1 b")),
            ("550 5.7.1 a\nb\rc", Some("550 5.7.1 a?b?c")),
            ("550 4.7.1 x", None),
            ("550-5.7.1 a\r\n451 4.7.1 b", None),
            ("550-a\r\n", None),
            ("250 ok", None),
            ("55x no", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(reply_text(said.as_bytes()).as_deref(), told, "{said:?}");
        }
    }
}
