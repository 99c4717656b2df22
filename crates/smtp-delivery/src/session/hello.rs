//! From the server's greeting to the moment where it takes mail: EHLO and its fall-back, STARTTLS, login.

use protocol::smtp::ReceivedReply;

use super::features::{Discard, Features, Reading};
use super::{Failure, Server};
use crate::policy::Level;
use crate::settings::Talk;

/// What one connection needs.
pub struct Needs<'a> {
    pub talk: &'a Talk,
    pub server: &'a Server,
    pub lmtp: bool,
    pub discard: Discard,
    /// The message has addresses or headers in UTF-8 and its sender knows that.
    pub smtputf8: bool,
    /// We look for our own name: only on port 25.
    pub loop_detection: bool,
    /// The server is among the best of its domain, so a loop there is one for good.
    pub best: bool,
    pub nexthop: &'a str,
    pub level: Level,
    /// TLS before the greeting.
    pub wrapped: bool,
}

/// What `connection.rs` does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for a reply.
    Read,
    /// Send this line, then wait for its reply.
    Say(String),
    StartTls,
    Login,
    /// The server takes mail now.
    Ready,
    Fail(Failure),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
}

pub struct Hello<'a> {
    needs: Needs<'a>,
    stage: Stage,
    secured: bool,
    pub features: Features,
    /// Lines for the log.
    pub notes: Vec<String>,
}

impl<'a> Hello<'a> {
    pub fn new(needs: Needs<'a>) -> Self {
        Self {
            needs,
            stage: Stage::Greeting,
            secured: false,
            features: Features::default(),
            notes: Vec::new(),
        }
    }

    pub fn begin(&mut self) -> Next {
        if self.needs.wrapped && !self.secured { Next::StartTls } else { Next::Read }
    }

    /// TLS stands. Whatever was said before it counts no more.
    pub fn secured(&mut self) -> Next {
        self.secured = true;
        self.features = Features::default();
        if self.needs.wrapped {
            self.stage = Stage::Greeting;
            return Next::Read;
        }
        self.ehlo()
    }

    /// What the client is doing, for "lost connection with … while …".
    pub fn doing(&self) -> &'static str {
        match self.stage {
            Stage::Greeting => "receiving the initial server greeting",
            Stage::Ehlo if self.needs.lmtp => "performing the LHLO handshake",
            Stage::Ehlo => "performing the EHLO handshake",
            Stage::Helo => "performing the HELO handshake",
            Stage::StartTls => "receiving the STARTTLS response",
        }
    }

    /// Whether the next reply answers STARTTLS, which has a time limit of its own.
    pub fn is_starting_tls(&self) -> bool {
        self.stage == Stage::StartTls
    }

    pub fn reply(&mut self, reply: &ReceivedReply) -> Next {
        match self.stage {
            Stage::Greeting => self.greeting(reply),
            Stage::Ehlo if reply.class() == 2 => self.offers(reply),
            Stage::Ehlo if self.needs.lmtp || reply.code == 421 => self.refused(reply),
            Stage::Ehlo => self.helo(),
            Stage::Helo if reply.class() == 2 => self.decide(),
            Stage::Helo => self.refused(reply),
            Stage::StartTls if reply.class() == 2 => Next::StartTls,
            Stage::StartTls => self.no_tls(reply),
        }
    }

    fn refused(&self, reply: &ReceivedReply) -> Next {
        Next::Fail(Failure::refused(self.needs.server, reply))
    }

    fn greeting(&mut self, reply: &ReceivedReply) -> Next {
        match reply.class() {
            2 => {}
            5 if self.needs.talk.skip_5xx_greeting => {
                return Next::Fail(Failure::refused(self.needs.server, reply).softened());
            }
            _ => return self.refused(reply),
        }
        if self.needs.level == Level::Invalid {
            return Next::Fail(Failure::ours("4.7.0", "client TLS configuration problem"));
        }
        let mut words = reply.lines().flat_map(|line| line.split([' ', '\t']));
        let first = words.next().unwrap_or_default();
        let talk = self.needs.talk;
        if first.eq_ignore_ascii_case(&talk.myhostname) && self.needs.loop_detection {
            self.notes.push(format!(
                "warning: host {} greeted me with my own hostname {}",
                self.needs.server.full(),
                talk.myhostname
            ));
        }
        let offered = words.any(|word| word.eq_ignore_ascii_case("ESMTP"));
        if self.needs.lmtp || ((offered || talk.always_ehlo) && !talk.never_ehlo) {
            self.ehlo()
        } else {
            self.helo()
        }
    }

    fn ehlo(&mut self) -> Next {
        self.stage = Stage::Ehlo;
        let verb = if self.needs.lmtp { "LHLO" } else { "EHLO" };
        Next::Say(format!("{verb} {}", self.needs.talk.helo_name))
    }

    fn helo(&mut self) -> Next {
        self.stage = Stage::Helo;
        Next::Say(format!("HELO {}", self.needs.talk.helo_name))
    }

    fn offers(&mut self, reply: &ReceivedReply) -> Next {
        self.notes.extend(self.needs.discard.note());
        let talk = self.needs.talk;
        let server = self.needs.server.full();
        let reading = Reading {
            discard: &self.needs.discard,
            sasl: talk.sasl,
            filter: &talk.mechanism_filter,
            server: &server,
        };
        self.features = Features::read(reply, &reading, &mut self.notes);
        if self.features.name.eq_ignore_ascii_case(&talk.myhostname) && self.needs.loop_detection {
            self.notes.push(format!(
                "warning: host {server} replied to HELO/EHLO with my own hostname {}",
                talk.myhostname
            ));
            let status = if self.needs.best { "5.4.6" } else { "4.4.6" };
            let reason = format!("mail for {} loops back to myself", self.needs.nexthop);
            return Next::Fail(Failure::ours(status, reason));
        }
        self.decide()
    }

    /// The server has said what it can; is that enough, and what comes before the mail?
    fn decide(&mut self) -> Next {
        let host = self.needs.server.short();
        if self.needs.smtputf8 && !self.features.smtputf8 {
            let reason = format!("SMTPUTF8 is required, but was not offered by host {host}");
            return Next::Fail(Failure::ours("5.6.7", reason));
        }
        if self.features.smtputf8 && !self.features.eight_bit {
            self.notes.push(format!("host {host} offers SMTPUTF8 support, but not 8BITMIME"));
            self.features.eight_bit = true;
        }
        if self.secured {
            return self.login();
        }
        if self.features.starttls && self.needs.level >= Level::May {
            self.stage = Stage::StartTls;
            return Next::Say("STARTTLS".to_owned());
        }
        if self.features.starttls && self.needs.talk.note_starttls_offer {
            self.notes.push(format!("Host offered STARTTLS: [{}]", self.needs.server.host));
        }
        self.without_tls()
    }

    fn without_tls(&self) -> Next {
        if self.needs.level > Level::May {
            let host = self.needs.server.short();
            let reason = format!("TLS is required, but was not offered by host {host}");
            return Next::Fail(Failure::ours("4.7.4", reason));
        }
        self.login()
    }

    /// Offered, and then refused.
    fn no_tls(&mut self, reply: &ReceivedReply) -> Next {
        self.features.starttls = false;
        if self.needs.level > Level::May {
            let reason = format!(
                "TLS is required, but host {} refused to start TLS: {}",
                self.needs.server.short(),
                reply.one_line()
            );
            return Next::Fail(Failure::of_reply(self.needs.server, reply, reason));
        }
        self.login()
    }

    fn login(&self) -> Next {
        if self.needs.talk.sasl && self.features.auth { Next::Login } else { Next::Ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::smtp::ReplyReader;

    fn server() -> Server {
        Server { host: "mx.example.org".into(), address: "192.0.2.1".into(), port: 25 }
    }

    fn talk() -> Talk {
        Talk {
            helo_name: "mail.example.com".into(),
            myhostname: "mail.example.com".into(),
            always_ehlo: true,
            skip_5xx_greeting: true,
            ..Talk::default()
        }
    }

    fn needs<'a>(talk: &'a Talk, server: &'a Server, level: Level) -> Needs<'a> {
        Needs {
            talk,
            server,
            lmtp: false,
            discard: Discard::default(),
            smtputf8: false,
            loop_detection: true,
            best: true,
            nexthop: "example.org",
            level,
            wrapped: false,
        }
    }

    /// Plays the server's replies and shows what the client does, one line each.
    fn play(needs: Needs<'_>, replies: &[&str]) -> Vec<String> {
        let mut hello = Hello::new(needs);
        let mut shown = Vec::new();
        let mut next = hello.begin();
        let mut replies = replies.iter();
        loop {
            match &next {
                Next::Read => {}
                Next::Say(line) => shown.push(line.clone()),
                Next::StartTls => {
                    shown.push("(TLS)".into());
                    next = hello.secured();
                    continue;
                }
                Next::Fail(failure) => {
                    shown.push(format!("{} {}", failure.status, failure.reason));
                    return shown;
                }
                other => {
                    shown.push(format!("{other:?}"));
                    return shown;
                }
            }
            let Some(reply) = replies.next() else { return shown };
            let mut reader = ReplyReader::default();
            let reply = reply.split('|').find_map(|line| reader.line(line.as_bytes()).unwrap());
            next = hello.reply(&reply.unwrap());
        }
    }

    #[test]
    fn transcripts() {
        let (talk, server) = (talk(), server());
        let refused = "host mx.example.org[192.0.2.1] refused to talk to me: ";
        for (level, replies, expected) in [
            (
                Level::None,
                &["220 mx ESMTP", "250-mx|250 STARTTLS"][..],
                vec!["EHLO mail.example.com".to_owned(), "Ready".into()],
            ),
            (
                Level::May,
                &["220 mx", "250-mx|250 STARTTLS", "220 go", "250 mx"],
                ["EHLO mail.example.com", "STARTTLS", "(TLS)", "EHLO mail.example.com", "Ready"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
            (
                Level::May,
                &["220 mx", "250-mx|250 STARTTLS", "454 no"],
                ["EHLO mail.example.com", "STARTTLS", "Ready"].map(str::to_owned).to_vec(),
            ),
            (
                Level::Encrypt,
                &["220 mx", "250-mx|250 STARTTLS", "454 4.7.0 no"],
                vec![
                    "EHLO mail.example.com".into(),
                    "STARTTLS".into(),
                    "4.7.0 TLS is required, but host mx.example.org[192.0.2.1] refused to start TLS: 454 4.7.0 no".into(),
                ],
            ),
            (
                Level::Encrypt,
                &["220 mx", "500 what", "250 mx"],
                vec![
                    "EHLO mail.example.com".into(),
                    "HELO mail.example.com".into(),
                    "4.7.4 TLS is required, but was not offered by host mx.example.org[192.0.2.1]".into(),
                ],
            ),
            (Level::None, &["554 5.7.1 go away"], vec![format!("4.7.1 {refused}554 5.7.1 go away")]),
            (Level::None, &["450 later"], vec![format!("4.0.0 {refused}450 later")]),
            (
                Level::None,
                &["220 mx", "421 4.3.2 busy"],
                vec!["EHLO mail.example.com".into(), format!("4.3.2 {refused}421 4.3.2 busy")],
            ),
            (
                Level::None,
                &["220 mail.example.com ESMTP", "250 mail.example.com"],
                vec![
                    "EHLO mail.example.com".into(),
                    "5.4.6 mail for example.org loops back to myself".into(),
                ],
            ),
        ] {
            assert_eq!(play(needs(&talk, &server, level), replies), expected, "{replies:?}");
        }
    }

    #[test]
    fn old_servers_wrapped_ones_and_those_without_utf8() {
        let (mut talk, server) = (talk(), server());
        talk.always_ehlo = false;
        assert_eq!(
            play(needs(&talk, &server, Level::None), &["220 old"]),
            ["HELO mail.example.com"]
        );
        let wrapped = Needs { wrapped: true, ..needs(&talk, &server, Level::Encrypt) };
        assert_eq!(
            play(wrapped, &["220 mx ESMTP", "250 mx"]),
            ["(TLS)", "EHLO mail.example.com", "Ready"]
        );
        let utf8 = Needs { smtputf8: true, ..needs(&talk, &server, Level::None) };
        let text =
            "5.6.7 SMTPUTF8 is required, but was not offered by host mx.example.org[192.0.2.1]";
        assert_eq!(play(utf8, &["220 mx ESMTP", "250 mx"]), ["EHLO mail.example.com", text]);
        let lmtp = Needs { lmtp: true, ..needs(&talk, &server, Level::None) };
        assert_eq!(play(lmtp, &["220 mx", "250 mx"]), ["LHLO mail.example.com", "Ready"]);
    }
}
