//! local(8) and commands: `|command` of an alias or a `.forward`, and `mailbox_command`.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use daemon::Identity;
use mail_types::quote_822;
use protocol::postfix::Recipient;

use crate::agent::Service;
use crate::agent::expand::{Expansion, Item, Origin};
use crate::agent::header;
use crate::agent::job::Job;
use crate::agent::local::{Local, Step};
use crate::agent::report::Verdict;
use crate::agent::settings::LocalSettings;
use crate::agent::user::User;
use crate::runner::{Copy, Ended, Program, RUNNER, Run};
use crate::task::{self, Failure};

/// What the runner may need beyond the command's own time.
const OVERHEAD: Duration = Duration::from_secs(30);

/// For whom a command is run.
pub struct Of<'a> {
    pub item: &'a Item,
    pub local: &'a Local,
    pub recipient: &'a Recipient,
    /// The user whose mailbox, `.forward` or list it is; what stands in root's files has none.
    pub owner: Option<&'a User>,
}

impl Service {
    /// `|command` in an alias, an `:include:` file or a `.forward`.
    pub(super) async fn command_of_list(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &mut Expansion,
        item: &Item,
        command: &str,
    ) -> Step {
        let recipient = expansion.recipient.clone();
        let verdict = |verdict| Step::Verdict(recipient.address.clone(), verdict);
        if !settings.commands_from.iter().any(|word| word == item.origin.word()) {
            return verdict(Verdict::failed("5.7.1", "mail to command is restricted"));
        }
        let user = match self.privileges(settings, item).await {
            Ok(user) => user,
            Err(failed) => return verdict(failed),
        };
        let mut local = Local::new(&recipient.address, &self.settings.recipient_delimiter);
        if let Origin::Forward(name) = &item.origin {
            local.user.clone_from(name);
        }
        if !expansion.first_time("command", &format!("{}:{} {command}", local.user, user.uid)) {
            return Step::Expanded;
        }
        let of_user = match item.origin {
            Origin::Forward(_) | Origin::Alias(Some(_)) | Origin::Include(Some(_)) => true,
            Origin::Request | Origin::Alias(None) | Origin::Include(None) => false,
        };
        let owner = of_user.then_some(&user);
        let of = Of { item, local: &local, recipient: &recipient, owner };
        verdict(self.run_local(settings, job, &of, &user, command).await)
    }

    /// A user's `mailbox_command`.
    pub(super) async fn command(
        &self,
        settings: &LocalSettings,
        job: &Job,
        of: &Of<'_>,
        command: &str,
    ) -> Verdict {
        let default = match of.owner {
            Some(owner) if owner.uid != 0 => {
                return self.run_local(settings, job, of, owner, command).await;
            }
            _ => Item { origin: Origin::Alias(None), ..of.item.clone() },
        };
        // Never as root.
        match self.privileges(settings, &default).await {
            Ok(user) => self.run_local(settings, job, of, &user, command).await,
            Err(failed) => failed,
        }
    }

    async fn run_local(
        &self,
        settings: &LocalSettings,
        job: &Job,
        of: &Of<'_>,
        user: &User,
        command: &str,
    ) -> Verdict {
        let commands = &settings.commands;
        let macros = of.local.macros(of.owner, &self.settings.recipient_delimiter);
        let directory = macros.expand(&commands.directory).unwrap_or_default();
        let directory = filtered(&directory, &commands.directory_filter);
        let mut environment = commands.environment.clone();
        environment.extend(
            self.variables(job, of)
                .into_iter()
                .map(|(name, value)| (name.to_owned(), filtered(&value, &commands.filter))),
        );
        let run = Run {
            program: Program::Line { line: command.to_owned(), shell: commands.shell.clone() },
            environment,
            directory: self.directory(&directory),
            limit: commands.time_limit,
            name: "local".to_owned(),
            copy: Copy {
                prefix: from_line(&of.item.sender, "MAILER-DAEMON", "\n")
                    + &header::prefix(&of.item.sender, of.recipient),
                eol: "\n".to_owned(),
                quote: false,
                dot: false,
                blank: false,
            },
            data_offset: job.data_offset(),
        };
        match self.run(job, user.uid, user.gid, &run).await {
            Ok(_) => Verdict::delivered(format!("delivered to command: {command}")),
            Err(failure) => Verdict::Failed(failure),
        }
    }

    /// What a command of local(8) finds in its environment.
    fn variables(&self, job: &Job, of: &Of<'_>) -> Vec<(&'static str, String)> {
        let (local, client) = (of.local, &job.request.client);
        let mut variables = vec![
            ("LOGNAME", local.user.clone()),
            ("USER", local.user.clone()),
            ("SENDER", of.item.sender.clone()),
            ("RECIPIENT", of.recipient.address.clone()),
            ("LOCAL", local.local.clone()),
            ("DOMAIN", local.domain.clone()),
        ];
        if let Some(owner) = of.owner {
            variables.push(("HOME", owner.home.display().to_string()));
            variables.push(("SHELL", owner.shell.clone()));
        }
        variables.extend(local.extension.clone().map(|extension| ("EXTENSION", extension)));
        let more = [
            ("ORIGINAL_RECIPIENT", &of.recipient.original),
            ("CLIENT_HOSTNAME", &client.name),
            ("CLIENT_ADDRESS", &client.address),
            ("CLIENT_HELO", &client.helo),
            ("CLIENT_PROTOCOL", &client.protocol),
            ("SASL_METHOD", &client.sasl_method),
            ("SASL_SENDER", &client.sasl_sender),
            ("SASL_USERNAME", &client.sasl_username),
        ];
        variables.extend(
            more.into_iter()
                .filter(|(_, value)| !value.is_empty())
                .map(|(name, value)| (name, value.clone())),
        );
        variables
    }

    /// Where a command starts: programs of Postfix stand in the queue directory.
    pub(super) fn directory(&self, named: &str) -> String {
        if named.is_empty() {
            self.settings.queue.root.display().to_string()
        } else {
            named.to_owned()
        }
    }

    /// Runs a command as a user; what it wrote, or why the mail is not delivered.
    pub(super) async fn run(
        &self,
        job: &Job,
        uid: u32,
        gid: u32,
        run: &Run,
    ) -> Result<String, Failure> {
        let content = job.readable().try_clone();
        let content = content.map_err(|error| Failure::new("4.3.0", error.to_string()))?;
        let identity = Identity { uid, gid, home: "/".to_owned(), groups: Vec::new() };
        let patience = run.limit + OVERHEAD;
        let ended: Result<Ended, _> =
            task::ask(&self.worker, RUNNER, identity, run, Some(OwnedFd::from(content)), patience)
                .await;
        ended.map_err(|gone| Failure::new("4.3.0", gone.to_string()))?.verdict(run.program.shown())
    }
}

/// The line that begins a message in a mailbox file.
pub fn from_line(sender: &str, nobody: &str, eol: &str) -> String {
    let sender = if sender.is_empty() { nobody.to_owned() } else { quote_822(sender) };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = message::date::format_ctime(i64::try_from(now).unwrap_or(0));
    format!("From {sender}  {date}{eol}")
}

/// With `_` for each character that is not allowed.
fn filtered(text: &str, allowed: &str) -> String {
    text.chars().map(|c| if allowed.contains(c) { c } else { '_' }).collect()
}
