//! The lists of each SMTP stage, in Postfix's order.

use neighbours::postmaster::Class;

use super::evaluate::{About, CLIENT, DATA, END_OF_DATA, ETRN, Evaluation, HELO, Outcome, Stop};
use super::subject::{Stage, reply};
use super::{AccessOf, PolicySettings, Restriction, Subject, Transcript, Verdict, World, dsn};

/// What a stage needs: the question, the rules, and what earlier stages left behind.
pub struct Check<'a, W> {
    pub world: &'a W,
    pub settings: &'a PolicySettings,
    pub subject: Subject<'a>,
    pub transcript: &'a mut Transcript,
}

impl<W: World> Check<'_, W> {
    /// At the connection, or at the first RCPT if checks are delayed.
    pub async fn client(&mut self) -> Verdict {
        self.transcript.permit_deferred = false;
        let name = self.subject.client.name_and_address();
        let about = About { name: &name, class: CLIENT, table: Some(AccessOf::Client) };
        let list = &self.settings.lists.client;
        let outcome = self.list(list, about).await;
        self.transcript.deferred_by_client = self.transcript.permit_deferred;
        verdict(outcome)
    }

    pub async fn helo(&mut self) -> Verdict {
        let Some(name) = self.subject.helo else {
            return Verdict::Pass;
        };
        self.transcript.permit_deferred = self.transcript.deferred_by_client;
        let about = About { name, class: HELO, table: Some(AccessOf::Helo) };
        let outcome = self.list(&self.settings.lists.helo, about).await;
        self.transcript.deferred_by_helo = self.transcript.permit_deferred;
        verdict(outcome)
    }

    pub async fn sender(&mut self) -> Verdict {
        let Some(name) = self.subject.sender else {
            return Verdict::Pass;
        };
        self.transcript.permit_deferred =
            self.transcript.deferred_by_client || self.transcript.deferred_by_helo;
        self.transcript.sender_checked = false;
        let about = About { name, class: dsn::SENDER, table: Some(AccessOf::Sender) };
        let mut outcome = self.list(&self.settings.lists.sender, about).await;
        self.transcript.deferred_by_sender = self.transcript.permit_deferred;
        let unrejected = matches!(outcome, Ok(Outcome::Dunno | Outcome::Permit));
        if self.settings.reject_unlisted_sender
            && unrejected
            && !self.transcript.wishes.discard
            && !name.is_empty()
        {
            outcome = self.evaluation().listed(name, dsn::SENDER).await;
        }
        verdict(outcome)
    }

    /// All lists that a recipient has to pass. `postmaster` without a domain always does.
    pub async fn recipient(&mut self) -> Verdict {
        let Some(name) = self.subject.recipient else {
            return Verdict::Pass;
        };
        if name.eq_ignore_ascii_case("postmaster") {
            return Verdict::Pass;
        }
        self.transcript.recipient_checked = false;
        if self.settings.delay_reject {
            let mut verdict = self.client().await;
            if verdict == Verdict::Pass {
                verdict = self.helo().await;
            }
            if verdict == Verdict::Pass {
                verdict = self.sender().await;
            }
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        self.transcript.permit_deferred = self.transcript.deferred_by_sender;
        let about = About { name, class: dsn::RECIPIENT, table: Some(AccessOf::Recipient) };
        let settings = self.settings;
        let lists = &settings.lists;
        let (first, second) = if self.settings.relay_before_recipient {
            (&lists.relay, &lists.recipient)
        } else {
            (&lists.recipient, &lists.relay)
        };
        let mut outcome = self.list(first, about).await;
        if matches!(outcome, Ok(Outcome::Dunno | Outcome::Permit)) {
            outcome = self.list(second, about).await;
        }
        outcome = self.after_permit(outcome);
        if self.settings.reject_unlisted_recipient
            && matches!(outcome, Ok(Outcome::Dunno | Outcome::Permit))
            && !self.transcript.wishes.discard
        {
            outcome = self.evaluation().listed(name, dsn::RECIPIENT).await;
        }
        verdict(outcome)
    }

    pub async fn data(&mut self) -> Verdict {
        let about = About { name: "DATA", class: DATA, table: None };
        self.whole_message(&self.settings.lists.data, about).await
    }

    pub async fn end_of_data(&mut self) -> Verdict {
        let about = About { name: "END-OF-MESSAGE", class: END_OF_DATA, table: None };
        self.subject.stage = Stage::EndOfMessage;
        self.whole_message(&self.settings.lists.end_of_data, about).await
    }

    pub async fn etrn(&mut self) -> Verdict {
        let Some(name) = self.subject.etrn else {
            return Verdict::Pass;
        };
        if self.settings.delay_reject {
            let mut verdict = self.client().await;
            if verdict == Verdict::Pass {
                verdict = self.helo().await;
            }
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        self.transcript.permit_deferred =
            self.transcript.deferred_by_client || self.transcript.deferred_by_helo;
        let about = About { name, class: ETRN, table: Some(AccessOf::Etrn) };
        let outcome = self.list(&self.settings.lists.etrn, about).await;
        verdict(self.after_permit(outcome))
    }

    /// Is mail of this client completed as our own is (`local_header_rewrite_clients`)?
    ///
    /// # Errors
    ///
    /// The reply for a lookup that failed.
    pub async fn is_local_rewrite(&mut self) -> Result<bool, protocol::smtp::Reply> {
        for restriction in &self.settings.local_rewrite_clients {
            let (client, tables) = (self.subject.client, self.world.tables());
            let found = match restriction {
                Restriction::PermitInetInterfaces => Ok(client
                    .socket_address
                    .is_some_and(|address| self.settings.own_addresses.contains(&address))),
                Restriction::PermitMynetworks => {
                    self.settings.networks.holds(tables, &client.name, client.address).await
                }
                Restriction::PermitSaslAuthenticated => Ok(self.subject.sasl_active
                    && self
                        .subject
                        .login
                        .is_some_and(|l| !l.method.eq_ignore_ascii_case("anonymous"))),
                Restriction::Table(table) | Restriction::Access(_, table) => {
                    let maps: routing::Maps = [table.clone()].into_iter().collect();
                    let key = client.address_text();
                    maps.find(tables, &key, routing::Key::Whole).await.map(|found| found.is_some())
                }
                _ => Ok(false),
            };
            match found {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    self.transcript.log.push(format!("warning: {error}"));
                    self.transcript.wrong.add(Class::Resource);
                    let text = "451 4.3.0 Temporary lookup error";
                    self.transcript.log.push(self.subject.line("reject", text));
                    return Err(reply(text));
                }
            }
        }
        Ok(false)
    }

    /// DATA and end-of-data: about all recipients, so none is named when there are several.
    async fn whole_message(&mut self, list: &[Restriction], about: About<'_>) -> Verdict {
        if self.subject.recipients > 1 {
            self.subject.recipient = None;
        }
        self.transcript.permit_deferred = false;
        let outcome = self.list(list, about).await;
        verdict(self.after_permit(outcome))
    }

    /// An earlier "maybe" turns permission into a refusal for now.
    fn after_permit(&mut self, outcome: Result<Outcome, Stop>) -> Result<Outcome, Stop> {
        match outcome {
            Ok(Outcome::Dunno | Outcome::Permit) if self.transcript.permit_deferred => {
                match self.transcript.defer_if_permit.clone() {
                    Some(later) => {
                        Ok(self.evaluation().reject(later.code, &later.status, &later.text))
                    }
                    None => outcome,
                }
            }
            outcome => outcome,
        }
    }

    async fn list(&mut self, list: &[Restriction], about: About<'_>) -> Result<Outcome, Stop> {
        if list.is_empty() {
            return Ok(Outcome::Dunno);
        }
        self.evaluation().list(list, about).await
    }

    fn evaluation(&mut self) -> Evaluation<'_, W> {
        Evaluation::new(self.world, self.settings, self.subject, self.transcript)
    }
}

fn verdict(outcome: Result<Outcome, Stop>) -> Verdict {
    match outcome {
        Ok(Outcome::Dunno | Outcome::Permit) => Verdict::Pass,
        Ok(Outcome::Reject(text)) | Err(Stop::Reject(text)) => Verdict::Refuse(reply(&text)),
        Err(Stop::HangUp) => Verdict::HangUp,
    }
}
