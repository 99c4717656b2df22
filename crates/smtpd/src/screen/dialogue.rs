//! The dialogue that leads nowhere: for clients that have failed a test, or must be watched after the greeting. It
//! refuses every recipient and says in the log who was meant.

use super::progress::{LATER, Progress, Test, deep};
use super::settings::{Reaction, ScreenSettings};
use crate::text::{cut, escaped, logged, printable};

/// One client in this dialogue.
#[derive(Debug)]
pub struct Dialogue<'a> {
    settings: &'a ScreenSettings,
    /// `[address]:port`
    client: &'a str,
    pub progress: &'a mut Progress,
    helo: Option<String>,
    esmtp: bool,
    sender: Option<String>,
    commands: u32,
    /// The last command that was known, for the log.
    pub place: &'static str,
    pub log: Vec<String>,
}

/// What is sent, and whether that is the end.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(String),
    Last(String),
}

const COMMANDS: [&str; 15] = [
    "HELO", "EHLO", "STARTTLS", "XCLIENT", "XFORWARD", "AUTH", "MAIL", "RCPT", "DATA", "BDAT",
    "RSET", "NOOP", "VRFY", "ETRN", "QUIT",
];

impl<'a> Dialogue<'a> {
    pub fn new(settings: &'a ScreenSettings, client: &'a str, progress: &'a mut Progress) -> Self {
        Self {
            settings,
            client,
            progress,
            helo: None,
            esmtp: false,
            sender: None,
            commands: 0,
            place: "CONNECT",
            log: Vec::new(),
        }
    }

    /// One command line without its end. `ahead` is what the client has sent behind it already; `forbidden`
    /// whether the first word is none that a mail program says.
    pub fn command(
        &mut self,
        line: &str,
        bare_newline: bool,
        ahead: &[u8],
        forbidden: bool,
        now: u64,
    ) -> Answer {
        if bare_newline && self.progress.watches(Test::BareNewline) {
            let shown = escaped(line.as_bytes().get(..100).unwrap_or(line.as_bytes()));
            self.log.push(format!("BARE NEWLINE from {} after {shown}", self.client));
            if let Some(end) = self.fault(Test::BareNewline, "521 5.5.1 Protocol error", now) {
                return end;
            }
        }
        let (word, rest) = split(line);
        let earlier = self.place;
        let known = COMMANDS.into_iter().find(|known| known.eq_ignore_ascii_case(word));
        self.place = known.unwrap_or("UNIMPLEMENTED");
        if known.is_none() && self.progress.watches(Test::NonSmtp) && forbidden {
            let shown = escaped(rest.as_bytes().get(..100).unwrap_or(rest.as_bytes()));
            let word = printable(word, '?');
            let word = cut(&word, 100);
            self.log.push(format!(
                "NON-SMTP COMMAND from {} after {earlier}: {word} {shown}",
                self.client
            ));
            let goodbye = "521 5.7.0 Error: I can break rules, too. Goodbye.";
            if let Some(end) = self.fault(Test::NonSmtp, goodbye, now) {
                return end;
            }
        }
        if known != Some("BDAT") && self.progress.watches(Test::Pipelining) && !ahead.is_empty() {
            let shown = escaped(ahead.get(..100).unwrap_or(ahead));
            let word = printable(word, '?');
            self.log.push(format!(
                "COMMAND PIPELINING from {} after {}: {shown}",
                self.client,
                cut(&word, 100)
            ));
            if let Some(end) = self.fault(Test::Pipelining, "521 5.5.1 Protocol error", now) {
                return end;
            }
        }
        if known == Some("RCPT") {
            self.progress.reached_recipient(self.settings, now);
        }
        self.commands += 1;
        if self.commands > self.settings.command_count && known != Some("QUIT") {
            self.log.push(format!("COMMAND COUNT LIMIT from {} after {earlier}", self.client));
            return Answer::Last(self.unavailable());
        }
        self.execute(known, rest)
    }

    /// A deep test has failed.
    fn fault(&mut self, test: Test, goodbye: &str, now: u64) -> Option<Answer> {
        let settings = self.settings;
        let reaction = deep(settings, test).reaction;
        let soonest =
            [settings.greet, settings.pipelining, settings.non_smtp, settings.bare_newline]
                .iter()
                .map(|test| test.ttl)
                .chain([settings.dnsbl.min_ttl])
                .min()
                .unwrap_or_default();
        self.progress.failed_deep(test, reaction, now + soonest.as_secs());
        (reaction == Reaction::Drop).then(|| Answer::Last(goodbye.to_owned()))
    }

    /// 421 for a client that asks too much.
    #[must_use]
    pub fn unavailable(&self) -> String {
        format!("421 {} Service unavailable - try again later", self.settings.host)
    }

    fn execute(&mut self, known: Option<&'static str>, rest: &str) -> Answer {
        let argument = rest.split(' ').find(|word| !word.is_empty());
        let reply = |text: &str| Answer::Reply(text.to_owned());
        match known {
            Some("HELO") => match argument {
                None => reply("501 Syntax: HELO hostname"),
                Some(name) => {
                    self.greeted(name);
                    Answer::Reply(format!("250 {}", self.settings.host))
                }
            },
            Some("EHLO") => match argument {
                None => reply("501 Syntax: EHLO hostname"),
                Some(name) => {
                    self.greeted(name);
                    self.esmtp = true;
                    Answer::Reply(self.offers())
                }
            },
            Some("STARTTLS") => reply("502 5.5.1 Error: command not implemented"),
            Some("MAIL") => self.mail(rest),
            Some("RCPT") => self.rcpt(rest),
            Some("DATA") => {
                self.log.push(format!("DATA without valid RCPT from {}", self.client));
                Answer::Last(match (argument, &self.sender) {
                    (Some(_), _) => "501 5.5.4 Syntax: DATA".to_owned(),
                    (None, None) => "503 5.5.1 Error: need RCPT command".to_owned(),
                    (None, Some(_)) => "554 5.5.1 Error: no valid recipients".to_owned(),
                })
            }
            Some("BDAT") => {
                self.log.push(format!("BDAT without valid RCPT from {}", self.client));
                Answer::Last(match (argument, &self.sender) {
                    (None, _) => "501 5.5.4 Syntax: BDAT count [LAST]".to_owned(),
                    (Some(_), None) => "554 5.5.1 Error: need MAIL command".to_owned(),
                    (Some(_), Some(_)) => "554 5.5.1 Error: no valid recipients".to_owned(),
                })
            }
            Some("RSET") => {
                self.sender = None;
                reply("250 2.0.0 Ok")
            }
            Some("NOOP") => reply("250 2.0.0 Ok"),
            Some("VRFY") if argument.is_none() => reply("501 5.5.4 Syntax: VRFY address"),
            Some("VRFY") if self.settings.disable_vrfy => {
                reply("502 5.5.1 VRFY command is disabled")
            }
            Some("VRFY") => Answer::Reply(self.refusal()),
            Some("ETRN") if self.settings.helo_required && self.helo.is_none() => {
                reply("503 5.5.1 Error: send HELO/EHLO first")
            }
            Some("ETRN") if argument.is_none() => reply("500 Syntax: ETRN domain"),
            Some("ETRN") => reply("458 Unable to queue messages"),
            Some("QUIT") => Answer::Last("221 2.0.0 Bye".to_owned()),
            _ => reply("502 5.5.2 Error: command not recognized"),
        }
    }

    fn greeted(&mut self, name: &str) {
        self.helo = Some(printable(name, '?'));
        self.sender = None;
    }

    fn offers(&self) -> String {
        let mut lines = vec![self.settings.host.clone()];
        lines.extend(self.settings.keywords.iter().cloned());
        let last = lines.len() - 1;
        let line = |(at, line): (usize, &String)| {
            format!("250{}{line}", if at == last { ' ' } else { '-' })
        };
        lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
    }

    fn mail(&mut self, rest: &str) -> Answer {
        let reply = |text: &str| Answer::Reply(text.to_owned());
        if self.settings.helo_required && self.helo.is_none() {
            return reply("503 5.5.1 Error: send HELO/EHLO first");
        }
        if self.sender.is_some() {
            return reply("503 5.5.1 Error: nested MAIL command");
        }
        let Some((_, path)) = rest.split_once(':') else {
            return reply("501 5.5.4 Syntax: MAIL FROM:<address>");
        };
        self.sender = Some(address(path));
        reply("250 2.1.0 Ok")
    }

    fn rcpt(&mut self, rest: &str) -> Answer {
        let reply = |text: &str| Answer::Reply(text.to_owned());
        let Some(sender) = &self.sender else { return reply("503 5.5.1 Error: need MAIL command") };
        let Some((_, path)) = rest.split_once(':') else {
            return reply("501 5.5.4 Syntax: RCPT TO:<address>");
        };
        let refusal = self.refusal();
        self.log.push(format!(
            "NOQUEUE: reject: RCPT from {}: {refusal}; from=<{}>, to=<{}>, proto={}, helo=<{}>",
            self.client,
            logged(&printable(sender, '?')),
            logged(&printable(&address(path), '?')),
            if self.esmtp { "ESMTP" } else { "SMTP" },
            self.helo.as_deref().unwrap_or_default()
        ));
        Answer::Reply(refusal)
    }

    fn refusal(&self) -> String {
        let mut refusal = self.progress.refusal.clone().unwrap_or_else(|| LATER.to_owned());
        if self.settings.soft_bounce && refusal.starts_with('5') {
            refusal.replace_range(..1, "4");
            if refusal.as_bytes().get(4) == Some(&b'5') {
                refusal.replace_range(4..5, "4");
            }
        }
        refusal
    }
}

/// The first word, without the blanks before it, and what follows.
pub fn split(line: &str) -> (&str, &str) {
    let line = line.trim_start_matches(' ');
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    (word, rest.trim_start_matches(' '))
}

/// The address of MAIL or RCPT, without quotes.
fn address(path: &str) -> String {
    let path = path.trim_start_matches(' ');
    let (path, stop) = path.strip_prefix('<').map_or((path, ' '), |path| (path, '>'));
    let (mut address, mut quoted) = (String::new(), false);
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match c {
            _ if c == stop && !quoted => break,
            '"' => quoted = !quoted,
            '\\' => address.extend(rest.next()),
            _ => address.push(c),
        }
    }
    match address.strip_prefix('@').and_then(|route| route.split_once(':')) {
        Some((_, behind)) => behind.to_owned(),
        None => address,
    }
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn addresses_lose_routes_and_quotes() {
        for (path, wanted) in [
            ("<a@b>", "a@b"),
            (" a@b SIZE=1", "a@b"),
            ("<@r,@s:a@b>", "a@b"),
            ("<\"a b\"@c> X", "a b@c"),
            ("<>", ""),
            ("<a\\", "a"),
        ] {
            assert_eq!(address(path), wanted, "{path}");
        }
    }
}
