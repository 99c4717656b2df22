//! The conversation with one mail server, without its socket: events in, answers and log lines out.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dns::Resolver;
use mail_types::Clock;
use protocol::milter::{Actions, Event, Family, Negotiation, Reply, Steps, VERSION};
use sender_authentication::dkim::canonical::BodyHash;
use sender_authentication::dkim::signature::Times;
use sender_authentication::dkim::verify::{Policy, Verifier};

use crate::author::{self, Author};
use crate::keys::KeyStore;
use crate::macros::Macros;
use crate::message::{Client, Message, Work};
use crate::outcome::{Level, Output};
use crate::settings::{Action, Settings};
use crate::signing::Deferred;
use crate::{hosts, signing, verifying};

/// What all conversations share.
pub struct Filter<R> {
    pub settings: Settings,
    pub keys: KeyStore,
    pub resolver: R,
    pub clock: Box<dyn Clock>,
}

/// The peer is no mail server, or not one that we can talk to.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation(pub &'static str);

/// What was agreed on.
#[derive(Clone, Copy)]
struct Agreed {
    skip: bool,
    /// What stands in front of a header value that we write.
    lead: &'static str,
    quarantine: bool,
}

pub struct Session<R> {
    filter: Arc<Filter<R>>,
    agreed: Option<Agreed>,
    macros: Macros,
    client: Client,
    message: Option<Message>,
}

/// As OpenDKIM asks for: no HELO, no unknown commands, no DATA; skipping; white space as it is.
const STEPS: Steps = Steps(
    Steps::NO_HELO.0
        | Steps::NO_UNKNOWN.0
        | Steps::NO_DATA.0
        | Steps::SKIP.0
        | Steps::LEADING_SPACE.0,
);

impl<R: Resolver> Session<R> {
    pub fn new(filter: Arc<Filter<R>>) -> Self {
        Self { filter, agreed: None, macros: Macros::default(), client: nobody(), message: None }
    }

    /// The settings that this conversation began with.
    pub fn settings(&self) -> &Settings {
        &self.filter.settings
    }

    /// Takes one event. `None` is the end of the conversation.
    ///
    /// # Errors
    ///
    /// [`Violation`], after which nothing can be believed.
    pub async fn event(&mut self, event: Event) -> Result<Option<Output>, Violation> {
        let agreed = match (&event, self.agreed) {
            (Event::Negotiate(offer), None) => return self.negotiate(offer).map(Some),
            (Event::Negotiate(_), Some(_)) => return Err(Violation("a second negotiation")),
            (_, None) => return Err(Violation("an event before the negotiation")),
            (_, Some(agreed)) => agreed,
        };
        let output = match event {
            Event::Negotiate(_) => Output::default(),
            Event::Macros { code, values } => {
                self.macros.set(code, values);
                if self.macros.too_many() {
                    return Err(Violation("too many macros"));
                }
                Output::default()
            }
            Event::Connect { host, family } => self.connect(&host, &family),
            Event::Helo(_) | Event::Data | Event::Unknown(_) => Output::reply(Reply::Continue),
            Event::Mail { .. } => {
                self.message = Some(Message::new(&self.filter.settings));
                Output::reply(Reply::Continue)
            }
            Event::Rcpt { address, .. } => {
                self.message().recipient(&address);
                Output::reply(Reply::Continue)
            }
            Event::Header { name, value } => self.header(agreed, &name, &value),
            Event::Eoh => self.end_of_header(),
            Event::Body(piece) => {
                let wanted = self.message().body(&piece);
                Output::reply(if wanted || !agreed.skip { Reply::Continue } else { Reply::Skip })
            }
            Event::Eom(piece) => self.end_of_message(agreed, &piece).await,
            Event::Abort => {
                self.forget();
                Output::default()
            }
            Event::Quit => return Ok(None),
            Event::QuitNewConnection => {
                self.forget();
                (self.macros, self.client) = (Macros::default(), nobody());
                Output::default()
            }
        };
        Ok(Some(output))
    }

    fn negotiate(&mut self, offer: &Negotiation) -> Result<Output, Violation> {
        if offer.version < 2 {
            return Err(Violation("a protocol version before 2"));
        }
        let quarantine =
            self.filter.settings.on.quarantines() && offer.actions.contains(Actions::QUARANTINE);
        let needed = Actions::ADD_HEADERS | Actions::CHANGE_HEADERS;
        if !offer.actions.contains(needed) {
            return Err(Violation("a server that lets nobody change the header"));
        }
        let wanted = if quarantine { Actions::QUARANTINE } else { Actions(0) };
        let actions = (needed | wanted | Actions::SET_MACROS).both(offer.actions);
        let steps = STEPS.both(offer.steps);
        self.agreed = Some(Agreed {
            skip: steps.contains(Steps::SKIP),
            lead: if steps.contains(Steps::LEADING_SPACE) { " " } else { "" },
            quarantine,
        });
        let version = offer.version.min(VERSION);
        let answer = Negotiation { version, actions, steps, macros: Vec::new() };
        Ok(Output::reply(Reply::Negotiate(answer)))
    }

    fn connect(&mut self, host: &[u8], family: &Family) -> Output {
        self.forget();
        let address = match family {
            Family::Inet { address, .. } | Family::Inet6 { address, .. } => {
                std::str::from_utf8(address).ok().and_then(|text| text.parse().ok())
            }
            Family::Unix { .. } | Family::Unknown => None,
        };
        self.client = Client {
            host: String::from_utf8_lossy(host).into_owned(),
            address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        let peers = self.filter.settings.senders.peers.as_ref();
        let is_peer =
            peers.is_some_and(|list| hosts::matches(list, &self.client.host, self.client.address));
        Output::reply(if is_peer { Reply::Accept } else { Reply::Continue })
    }

    fn message(&mut self) -> &mut Message {
        let settings = &self.filter.settings;
        self.message.get_or_insert_with(|| Message::new(settings))
    }

    fn forget(&mut self) {
        self.message = None;
        self.macros.end_of_message();
    }

    fn header(&mut self, agreed: Agreed, name: &[u8], value: &[u8]) -> Output {
        let filter = Arc::clone(&self.filter);
        if name.contains(&b';') {
            // legal in RFC 5322, but no name that h= could hold
            let mut out = Output::reply(Reply::Continue);
            let name = String::from_utf8_lossy(name);
            out.log(Level::Notice, format!("ignoring header field '{name}'"));
            return out;
        }
        // without the agreement the server has taken one space away and puts one back
        let value = if agreed.lead.is_empty() { [b" ", value].concat() } else { value.to_vec() };
        if self.message().field(&filter.settings, name, &value) {
            return Output::reply(Reply::Continue);
        }
        let replies = match filter.settings.on.security {
            Action::Reject => vec![Reply::Reject],
            Action::Tempfail => vec![Reply::Tempfail],
            Action::Discard => vec![Reply::Discard],
            // mail can be put aside only at its end
            Action::Accept | Action::Quarantine => vec![Reply::Accept],
        };
        Output { replies, lines: vec![(Level::Notice, "too much header data".to_owned())] }
    }

    fn end_of_header(&mut self) -> Output {
        let mut out = Output::default();
        let (filter, client) = (Arc::clone(&self.filter), self.client.clone());
        let macros = std::mem::take(&mut self.macros);
        let reply = decide(&filter, &client, &macros, self.message(), &mut out);
        self.macros = macros;
        out.replies.push(reply);
        out
    }

    async fn end_of_message(&mut self, agreed: Agreed, piece: &[u8]) -> Output {
        let mut out = Output::default();
        let filter = Arc::clone(&self.filter);
        let settings = &filter.settings;
        let mut message = match self.message.take() {
            Some(message) => message,
            None => Message::new(settings),
        };
        message.body(piece);
        message.name(&self.macros);
        let host = self.macros.get("j").unwrap_or_else(|| "unknown-host".to_owned());
        let authserv_id = settings.authserv_id.clone().unwrap_or_else(|| host.clone());
        let lead = agreed.lead;
        let work = std::mem::replace(&mut message.work, Work::Malformed);
        let mut last = match work {
            Work::Header => vec![Reply::Accept],
            Work::Malformed => {
                if !settings.pass_malformed {
                    out.replies.push(verifying::malformed(&authserv_id, lead));
                }
                out.replies.push(Reply::Accept);
                return out;
            }
            Work::Sign(signers, body) => {
                let time = now(filter.clock.as_ref());
                match signing::sign(settings, &message, &signers, *body, time, lead, &mut out) {
                    Ok(()) => vec![Reply::Accept],
                    Err(Deferred) => {
                        out.replies.clear();
                        verifying::carry_out(
                            Action::Tempfail,
                            "4.7.0",
                            Some("resource unavailable"),
                        )
                    }
                }
            }
            Work::Verify(verifier) => {
                verifying::forged(settings, &authserv_id, &message, &mut out);
                let outcomes = verifier.finish(&filter.resolver).await;
                verifying::finish(settings, &authserv_id, &message, &outcomes, lead, &mut out)
            }
        };
        if settings.software_header && last.first() == Some(&Reply::Accept) {
            let value = format!("{lead}OpenDKIM Filter v2.11.0 {host} {}", message.job());
            out.replies.push(verifying::insert("DKIM-Filter", &value));
        }
        if !agreed.quarantine {
            last.retain(|reply| !matches!(reply, Reply::Quarantine { .. }));
        }
        out.replies.append(&mut last);
        self.forget();
        out
    }
}

/// What is to be done with a message whose header is complete, in OpenDKIM's order.
fn decide<R: Resolver>(
    filter: &Filter<R>,
    client: &Client,
    macros: &Macros,
    message: &mut Message,
    out: &mut Output,
) -> Reply {
    let settings = &filter.settings;
    message.name(macros);
    let job = message.job().to_owned();
    let author = match author(settings, message) {
        Ok(author) => author,
        Err(line) => {
            out.log(Level::Info, format!("{job}: {line}"));
            message.work = Work::Malformed;
            return Reply::Continue;
        }
    };
    if settings.senders.exempt_domains.as_ref().is_some_and(|list| list.contains(&author.domain)) {
        if settings.log.why {
            let domain = &author.domain;
            out.log(Level::Info, format!("{job}: domain '{domain}' exempted, accepting"));
        }
        return Reply::Accept;
    }
    let ours = signing::is_ours(settings, client, macros, &job, out);
    let signers = signing::signers(settings, &filter.keys, &author, ours, message, client, out);
    let Ok(signers) = signers else { return Reply::Tempfail };
    let role = settings.role;
    if if signers.is_empty() { !role.verify } else { !role.sign } {
        return Reply::Accept;
    }
    if signers.is_empty() {
        let policy = Policy {
            most_signatures: settings.verifying.most_signatures,
            least_key_bits: settings.verifying.least_key_bits,
            must_be_signed: settings.verifying.must_be_signed.clone(),
        };
        let times =
            Times { now: now(filter.clock.as_ref()), drift: settings.verifying.clock_drift };
        message.work = Work::Verify(Box::new(Verifier::new(message.fields.clone(), policy, times)));
        return Reply::Continue;
    }
    let never = &settings.signing.never_to;
    if let Some(address) = message.recipients.iter().find(|address| never.contains(address)) {
        out.log(Level::Info, format!("{job}: skipping signing of mail to '{address}'"));
        return Reply::Accept;
    }
    let (_, limit) = signing::length_limit(settings, message);
    let hash = BodyHash::new(message.body, crypto::Hash::Sha256, limit);
    message.work = Work::Sign(signers, Box::new(hash));
    Reply::Continue
}

/// The author by the first of the sender headers, or the line that says why there is none.
fn author(settings: &Settings, message: &Message) -> Result<Author, String> {
    let names = settings.senders.headers.iter().map(String::as_str).chain(["From"]);
    let Some(field) = names.into_iter().find_map(|name| message.first(name)) else {
        return Err("can't determine message sender; accepting".to_owned());
    };
    match author::parse(field.value()) {
        Some(author) => Ok(author),
        None if settings.role.sign => {
            let (name, value) =
                (String::from_utf8_lossy(field.name()), String::from_utf8_lossy(field.value()));
            Err(format!("can't parse {name}: header value '{value}'"))
        }
        None => Ok(Author { user: String::new(), domain: String::new() }),
    }
}

fn now(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.timestamp().seconds).unwrap_or_default()
}

fn nobody() -> Client {
    Client { host: String::new(), address: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

#[cfg(test)]
mod tests;
