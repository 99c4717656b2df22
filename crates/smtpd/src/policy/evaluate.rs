//! Runs a restriction list.

use neighbours::postmaster::Class;
use protocol::smtp::{is_host_address, is_host_name, is_mail_host_address};
use routing::LookupError;

use super::subject::{Postponed, Subject, Transcript};
use super::{AccessOf, PolicySettings, Restriction, Unresolvable, World, dsn};
use crate::text::printable;

/// Lists in lists in table entries: deeper than this is a loop.
const DEEPEST: usize = 100;

/// What one restriction, or a list, says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Dunno,
    Permit,
    /// The rejection as logged: `550 5.7.1 <x>: ... rejected: ...`.
    Reject(String),
}

/// The end of everything that is being looked at, not only of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    Reject(String),
    HangUp,
}

/// What a list is about: the words of its rejections.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// What stands between `<` and `>`.
    pub name: &'a str,
    /// `Client host`, `Recipient address`, …
    pub class: &'a str,
    /// What a bare table is asked about.
    pub table: Option<AccessOf>,
}

pub const CLIENT: &str = "Client host";
pub const REVERSE_CLIENT: &str = "Unverified Client host";
pub const HELO: &str = "Helo command";
pub const DATA: &str = "Data command";
pub const END_OF_DATA: &str = "End-of-data";
pub const ETRN: &str = "Etrn command";
pub const SASL_USER: &str = "SASL login name";

/// The running of restriction lists for one question.
pub struct Evaluation<'a, W> {
    pub(super) world: &'a W,
    pub(super) settings: &'a PolicySettings,
    pub(super) subject: Subject<'a>,
    pub(super) transcript: &'a mut Transcript,
    /// `warn_if_reject` counts from this depth on; 0: it does not.
    warn_from: usize,
    depth: usize,
    defer_if_reject: Option<Postponed>,
    /// The default action of a policy server that cannot be asked is being carried out.
    pub(super) delegating: bool,
}

impl<'a, W: World> Evaluation<'a, W> {
    pub fn new(
        world: &'a W,
        settings: &'a PolicySettings,
        subject: Subject<'a>,
        transcript: &'a mut Transcript,
    ) -> Self {
        Self {
            world,
            settings,
            subject,
            transcript,
            warn_from: 0,
            depth: 0,
            defer_if_reject: None,
            delegating: false,
        }
    }

    pub(super) fn log(&mut self, line: String) {
        self.transcript.log.push(line);
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.transcript.log.push(format!("warning: {text}"));
    }

    /// Runs a list to the first restriction that decides.
    pub async fn list(&mut self, list: &[Restriction], about: About<'_>) -> Result<Outcome, Stop> {
        self.depth += 1;
        if self.depth > DEEPEST {
            self.warn("restriction lists are nested too deep");
            return Err(self.server_error());
        }
        let mut decided = Outcome::Dunno;
        for (at, restriction) in list.iter().enumerate() {
            if self.transcript.wishes.discard {
                break;
            }
            if *restriction == Restriction::WarnIfReject {
                if self.warn_from == 0 {
                    self.warn_from = self.depth;
                }
                continue;
            }
            let next = list.get(at + 1);
            decided = Box::pin(self.restriction(restriction, next, about)).await?;
            if self.warn_from >= self.depth {
                self.warn_from = 0;
            }
            let both = self.transcript.permit_deferred && self.defer_if_reject.is_some();
            if decided != Outcome::Dunno || both {
                break;
            }
        }
        self.depth -= 1;
        if self.warn_from > self.depth {
            self.warn_from = 0;
        }
        Ok(decided)
    }

    async fn restriction(
        &mut self,
        restriction: &Restriction,
        next: Option<&Restriction>,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        use Restriction as R;
        let (subject, settings) = (self.subject, self.settings);
        let codes = &settings.codes;
        let (name, class) = (about.name, about.class);
        match restriction {
            R::WarnIfReject => Ok(Outcome::Dunno),
            R::Permit => {
                self.ignored_after("permit", next);
                Ok(self.permit("permit", class, name, ""))
            }
            R::Defer => {
                let outcome = self.reject(
                    codes.defer,
                    "4.3.2",
                    &format!("<{name}>: {class} rejected: Try again later"),
                );
                self.ignored_after("defer", next);
                Ok(outcome)
            }
            R::Reject => {
                let text = format!("<{name}>: {class} rejected: Access denied");
                let outcome = self.reject(codes.reject, "5.7.1", &text);
                self.ignored_after("reject", next);
                Ok(outcome)
            }
            R::DeferIfPermit => {
                let text = format!("<{name}>: {class} rejected: defer_if_permit requested");
                Ok(self.defer_if_permit(450, "4.7.0", text))
            }
            R::DeferIfReject => {
                let text = format!("<{name}>: {class} rejected: defer_if_reject requested");
                self.defer_if_reject(450, "4.7.0", text);
                Ok(Outcome::Dunno)
            }
            R::Sleep(seconds) => {
                tokio::time::sleep(std::time::Duration::from_secs(*seconds)).await;
                Ok(Outcome::Dunno)
            }
            R::RejectUnauthPipelining if subject.pipelined => {
                let text =
                    format!("<{name}>: {class} rejected: Improper use of SMTP command pipelining");
                Ok(self.reject_as(Class::Protocol, 503, "5.5.0", &text))
            }
            R::RejectPlaintextSession if !subject.tls => {
                Ok(self.reject(codes.plaintext, "4.7.1", "Session encryption is required"))
            }
            R::RejectUnauthPipelining | R::RejectPlaintextSession => Ok(Outcome::Dunno),
            R::Access(of, table) => self.access(*of, table, about).await,
            R::Table(table) => match about.table {
                Some(of) => self.access(of, table, about).await,
                None => {
                    self.warn(&format!(
                        "specify one of (check_client_access, check_reverse_client_hostname_access, \
                         check_helo_access, check_sender_access, check_recipient_access, \
                         check_etrn_access) before {class} restriction \"{table}\""
                    ));
                    Err(self.server_error())
                }
            },
            R::Listed(of, site) => self.reject_listed(*of, site).await,
            R::PermitListed(of, site) => self.permit_listed(*of, site, restriction.name()).await,
            R::RejectMapsRbl => self.reject_maps_rbl().await,
            R::Servers(of, servers, table) => {
                self.server_access(*of, *servers, table, restriction.name(), about).await
            }
            R::Policy(server) => self.delegated(server, about).await,
            R::RejectUnknownClientHostname => Ok(self.unknown_client()),
            R::RejectUnknownReverseClientHostname => Ok(self.unknown_reverse_client()),
            R::Class(class_name) => match settings.classes.get(class_name) {
                Some(list) => self.list(list, about).await,
                None => {
                    self.warn(&format!("unknown smtpd restriction: \"{class_name}\""));
                    Err(self.server_error())
                }
            },
            other if is_about_client_or_helo(other) => self.client_or_helo(other).await,
            other => self.addresses(other, about).await,
        }
    }

    async fn client_or_helo(&mut self, restriction: &Restriction) -> Result<Outcome, Stop> {
        use Restriction as R;
        let client = self.subject.client.name_and_address();
        let (word, subject_helo) = (restriction.name(), self.subject.helo);
        let permitted = match restriction {
            R::PermitInetInterfaces => self.is_own_address(),
            R::PermitMynetworks => {
                let (name, address) = (&self.subject.client.name, self.subject.client.address);
                let holds = self.settings.networks.holds(self.world.tables(), name, address).await;
                holds.map_err(|error| self.lookup_failed(&error, &client))?
            }
            R::PermitSaslAuthenticated => {
                self.subject.sasl_active
                    && self
                        .subject
                        .login
                        .is_some_and(|login| !login.method.eq_ignore_ascii_case("anonymous"))
            }
            Restriction::RejectUnknownHeloHostname => {
                return Ok(match subject_helo {
                    Some(helo) if !helo.starts_with('[') => self.unknown_helo(helo).await,
                    _ => self.helo(restriction),
                });
            }
            _ => return Ok(self.helo(restriction)),
        };
        Ok(if permitted { self.permit(word, CLIENT, &client, "") } else { Outcome::Dunno })
    }

    fn is_own_address(&self) -> bool {
        self.subject
            .client
            .socket_address
            .is_some_and(|address| self.settings.own_addresses.contains(&address))
    }

    fn helo(&mut self, restriction: &Restriction) -> Outcome {
        let Some(helo) = self.subject.helo else {
            return Outcome::Dunno;
        };
        let codes = self.settings.codes;
        let bad_address = |this: &mut Self| {
            let inner = helo.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            if inner
                .filter(|inner| !inner.is_empty())
                .map_or_else(|| is_mail_host_address(helo), is_mail_host_address)
            {
                return Outcome::Dunno;
            }
            let text = format!("<{helo}>: {HELO} rejected: invalid ip address");
            this.reject(codes.invalid_hostname, "5.5.2", &text)
        };
        if *restriction == Restriction::PermitNakedIpAddress {
            self.warn(
                "restriction permit_naked_ip_address is deprecated. Use permit_mynetworks or \
                 permit_sasl_authenticated instead",
            );
            if !helo.bytes().all(|c| c.is_ascii_digit() || c == b'.' || c == b':') {
                return Outcome::Dunno;
            }
            return match bad_address(self) {
                Outcome::Dunno => self.permit("permit_naked_ip_address", HELO, helo, ""),
                rejected => rejected,
            };
        }
        if helo.starts_with('[') {
            return bad_address(self);
        }
        let name = without_final_dot(helo);
        if *restriction == Restriction::RejectInvalidHeloHostname {
            if is_host_name(name) || is_host_address(name) {
                return Outcome::Dunno;
            }
            let text = format!("<{helo}>: {HELO} rejected: Invalid name");
            return self.reject(codes.invalid_hostname, "5.5.2", &text);
        }
        if is_name(name, self.subject.smtputf8) && name.contains('.') {
            return Outcome::Dunno;
        }
        let text = format!("<{helo}>: {HELO} rejected: need fully-qualified hostname");
        self.reject(codes.non_fqdn, "5.5.2", &text)
    }

    /// A rejection: logged, and under `warn_if_reject` no more than that.
    pub(super) fn reject(&mut self, code: u16, status: &str, text: &str) -> Outcome {
        self.reject_as(Class::Policy, code, status, text)
    }

    /// One that is not a matter of policy.
    pub(super) fn reject_as(
        &mut self,
        class: Class,
        code: u16,
        status: &str,
        text: &str,
    ) -> Outcome {
        self.transcript.wrong.add(class);
        let warn_only = self.warn_from > 0;
        let mut full = checked(code, status, text, &mut self.transcript.log);
        if !warn_only
            && full.starts_with('5')
            && let Some(postponed) = self.defer_if_reject.take()
        {
            self.warn_from = 0;
            full = checked(
                postponed.code,
                &postponed.status,
                &postponed.text,
                &mut self.transcript.log,
            );
        }
        let full = consistent(full, self.settings.soft_bounce);
        self.log(self.subject.line(if warn_only { "reject_warning" } else { "reject" }, &full));
        if warn_only { Outcome::Dunno } else { Outcome::Reject(full) }
    }

    /// A rejection for a fault of ours, which `warn_if_reject` does not soften.
    fn fault(&mut self, class: Class, code: u16, status: &str, text: &str) -> Stop {
        self.transcript.wrong.add(class);
        let full = consistent(checked(code, status, text, &mut self.transcript.log), false);
        self.log(self.subject.line("reject", &full));
        Stop::Reject(full)
    }

    pub(super) fn server_error(&mut self) -> Stop {
        self.fault(Class::Software, 451, "4.3.5", "Server configuration error")
    }

    pub(super) fn lookup_failed(&mut self, error: &LookupError, name: &str) -> Stop {
        self.warn(&error.to_string());
        self.fault(Class::Data, 451, "4.3.0", &format!("<{name}>: Temporary lookup failure"))
    }

    pub(super) fn unresolvable(&mut self, error: &Unresolvable, address: &str) -> Stop {
        self.warn(&error.to_string());
        self.fault(Class::Data, 451, "4.3.0", &format!("<{address}>: Temporary lookup failure"))
    }

    pub(super) fn permit(&mut self, action: &str, class: &str, name: &str, rest: &str) -> Outcome {
        let listed = self
            .settings
            .log_permits
            .iter()
            .any(|word| word.eq_ignore_ascii_case(action) || word == "static:all");
        if listed && !self.transcript.permit_deferred {
            let text = format!("action={action} for {class}={name} {rest}");
            self.log(self.subject.line("permit", &text));
        }
        Outcome::Permit
    }

    /// Refuses if the request would be permitted in the end. Under `warn_if_reject` it is told now.
    pub(super) fn defer_if_permit(&mut self, code: u16, status: &str, text: String) -> Outcome {
        if self.warn_from > 0 {
            return self.reject(code, status, &text);
        }
        if !self.transcript.permit_deferred {
            self.transcript.permit_deferred = true;
            self.transcript.defer_if_permit =
                Some(Postponed { code, status: status.to_owned(), text });
        }
        Outcome::Dunno
    }

    pub(super) fn defer_if_reject(&mut self, code: u16, status: &str, text: String) {
        if self.defer_if_reject.is_none() {
            self.defer_if_reject = Some(Postponed { code, status: status.to_owned(), text });
        }
    }

    pub(super) fn warns_only(&self) -> bool {
        self.warn_from > 0
    }

    /// Address statuses follow what is refused.
    pub(super) fn fixed(&mut self, status: &str, class: &str) -> String {
        let (status, note) = dsn::fixed_status(status, class);
        self.transcript.log.extend(note);
        status
    }

    fn ignored_after(&mut self, word: &str, next: Option<&Restriction>) {
        if let Some(next) = next.filter(|_| self.warn_from == 0) {
            self.warn(&format!("restriction `{}' after `{word}' is ignored", next.name()));
        }
    }
}

fn is_about_client_or_helo(restriction: &Restriction) -> bool {
    use Restriction as R;
    matches!(
        restriction,
        R::PermitInetInterfaces
            | R::PermitMynetworks
            | R::PermitSaslAuthenticated
            | R::PermitNakedIpAddress
            | R::RejectInvalidHeloHostname
            | R::RejectNonFqdnHeloHostname
            | R::RejectUnknownHeloHostname
    )
}

/// `example.com.` means `example.com`; `example..` means nothing.
pub(super) fn without_final_dot(name: &str) -> &str {
    match name.strip_suffix('.') {
        Some(bare) if !bare.is_empty() && !bare.ends_with('.') => bare,
        _ => name,
    }
}

/// A host name, in SMTPUTF8 transactions also one that is not ASCII.
pub(super) fn is_name(name: &str, smtputf8: bool) -> bool {
    if smtputf8 && !name.is_ascii() {
        return name.split('.').all(|label| !label.is_empty() && label.len() <= 63);
    }
    is_host_name(name)
}

/// Code, status and text of a rejection, or a harmless one when an administrator's table has no valid code.
fn checked(code: u16, status: &str, text: &str, log: &mut Vec<String>) -> String {
    let full = format!("{code} {status} {text}");
    if !(400..600).contains(&code) {
        log.push(format!("warning: SMTP reply code configuration error: {full}"));
        return "450 4.7.1 Service unavailable".to_owned();
    }
    if mail_types::EnhancedStatus::parse(status).is_err() {
        log.push(format!("warning: DSN detail code configuration error: {full}"));
        return "450 4.7.1 Service unavailable".to_owned();
    }
    let mut full = printable(&full, ' ');
    full.truncate(full.floor_char_boundary(510));
    full
}

/// The status has the class of the code.
fn consistent(mut full: String, soft: bool) -> String {
    if soft && full.starts_with('5') {
        full.replace_range(..1, "4");
    }
    if let Some(class) = full.get(..1).map(str::to_owned) {
        full.replace_range(4..5, &class);
    }
    full
}
