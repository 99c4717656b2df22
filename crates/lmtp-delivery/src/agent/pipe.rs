//! pipe(8): a service of master.cf that gives whole messages to a command.

mod arguments;
pub mod settings;

use protocol::postfix::delivery::Remaining;

use crate::agent::Service;
use crate::agent::command::from_line;
use crate::agent::header;
use crate::agent::job::Job;
use crate::agent::report::Verdict;
use crate::runner::{Copy, Program, Run};
use arguments::Values;
use mail_types::quote_822;
use settings::PipeSettings;

const MISCONFIGURED: &str = "mail system configuration error";
/// Of the output of a command that did its work, this much is logged.
const SHOWN: usize = 100;

impl Service {
    /// Serves a request with all its recipients at once.
    pub(super) async fn pipe(&self, settings: &PipeSettings, job: &Job) -> Remaining {
        let verdict = match self.obstacle(settings, job) {
            Some(verdict) => verdict,
            None => self.pipe_through(settings, job).await,
        };
        let mut remaining = Remaining::Nothing;
        for recipient in &job.request.recipients {
            let done = self.reporter.conclude(&job.request, recipient, &verdict).await;
            if !done || !self.mark_done(job, recipient) {
                remaining = Remaining::Something;
            }
        }
        remaining
    }

    /// Why the command is not even started.
    fn obstacle(&self, settings: &PipeSettings, job: &Job) -> Option<Verdict> {
        let recipients = &job.request.recipients;
        for (flag, wanted) in [('D', settings.delivered_to), ('O', settings.original_to)] {
            if wanted && recipients.len() > 1 {
                let name = &self.settings.name;
                self.warn(&format!(
                    "pipe flag `{flag}' requires {name}_destination_recipient_limit = 1"
                ));
                return Some(Verdict::failed("4.3.5", MISCONFIGURED));
            }
        }
        if settings.size_limit != 0 && job.request.size > settings.size_limit {
            return Some(Verdict::failed("5.2.3", "message too large"));
        }
        let first = recipients.first().filter(|_| settings.delivered_to)?;
        header::loops(&job.delivered_to, &first.address).then(|| {
            Verdict::failed("5.4.6", format!("mail forwarding loop for {}", first.address))
        })
    }

    async fn pipe_through(&self, settings: &PipeSettings, job: &Job) -> Verdict {
        let values = Values::new(settings, &self.settings.recipient_delimiter, &job.request);
        let arguments = match values.expand(&settings.argv) {
            Ok(arguments) => arguments,
            Err(name) => {
                let service = &self.settings.name;
                self.warn(&format!("service {service}: unknown macro name: \"{name}\""));
                return Verdict::failed("4.3.5", MISCONFIGURED);
            }
        };
        let run = Run {
            program: Program::Arguments(arguments),
            environment: settings.environment.clone(),
            directory: self.directory(&settings.directory),
            limit: settings.time_limit,
            name: "pipe".to_owned(),
            copy: Copy {
                prefix: self.prefix(settings, job),
                eol: settings.eol.clone(),
                quote: settings.quote,
                dot: settings.dot,
                blank: settings.blank,
            },
            data_offset: job.data_offset(),
        };
        match self.run(job, settings.uid, settings.gid, &run).await {
            Ok(output) => {
                let shown: String = output.chars().take(SHOWN).collect();
                let shown = if shown.is_empty() { shown } else { format!(" ({shown})") };
                Verdict::Sent {
                    text: format!("delivered via {} service{shown}", self.settings.name),
                    action: if settings.is_final { "delivered" } else { "relayed" },
                }
            }
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// The header lines that the flags ask for.
    fn prefix(&self, settings: &PipeSettings, job: &Job) -> String {
        let (mut prefix, eol) = (String::new(), &settings.eol);
        let sender = match job.request.sender.as_str() {
            "" => &settings.null_sender,
            sender => sender,
        };
        if settings.from_line {
            prefix += &from_line(sender, "MAILER-DAEMON", eol);
        }
        if settings.return_path {
            let sender = if sender.is_empty() { String::new() } else { quote_822(sender) };
            prefix += &format!("Return-Path: <{sender}>{eol}");
        }
        let Some(first) = job.request.recipients.first() else { return prefix };
        if settings.original_to && !first.original.is_empty() {
            prefix += &format!("X-Original-To: {}{eol}", quote_822(&first.original));
        }
        if settings.delivered_to {
            prefix += &format!("Delivered-To: {}{eol}", quote_822(&first.address));
        }
        prefix
    }
}
