//! local(8): system users and aliases.
//!
//! In Postfix's order: aliases, the user's `.forward`, `mailbox_transport_maps`, `mailbox_transport`,
//! `mailbox_command`, `home_mailbox`, the spool; for unknown names `fallback_transport` and
//! `luser_relay`.

use std::path::PathBuf;

use protocol::postfix::Recipient;
use routing::{Context, Key, Maps, Resolution, TableName, split_extension};
use tables::Owner;
use tables::alias::Target as Named;

use crate::agent::command::Of;
use crate::agent::expand::{Expansion, Item, Origin};
use crate::agent::forward::Forward;
use crate::agent::job::{self, Job};
use crate::agent::report::Verdict;
use crate::agent::settings::LocalSettings;
use crate::agent::user::{Macros, User};
use crate::agent::virtual_mailbox::target;
use crate::agent::{Service, header, verdict_of};
use crate::task::{Found, Outcome, Source, Target, Task, Whose};

/// `.forward` and `:include:` files beyond this are refused.
const LONGEST_LIST: u64 = 256 * 1024;
const MISCONFIGURED: &str = "mail system configuration error";

/// What one step came to.
pub(super) enum Step {
    /// It became other items, or there was nothing to do.
    Expanded,
    /// The outcome for an address.
    Verdict(String, Verdict),
    /// Another agent has it, and has reported; whether it is done.
    Passed(bool),
    Forward(Forward),
}

/// An address of ours, taken apart.
pub(super) struct Local {
    pub address: String,
    /// `user+extension`, lower case.
    pub local: String,
    pub user: String,
    pub extension: Option<String>,
    pub domain: String,
}

impl Local {
    pub fn new(address: &str, delimiter: &str) -> Self {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let local = local.to_lowercase();
        let (user, extension) = match split_extension(&local, delimiter) {
            Some((user, rest)) => (user.to_owned(), Some(rest.chars().skip(1).collect())),
            None => (local.clone(), None),
        };
        Self { address: address.to_owned(), user, extension, domain: domain.to_owned(), local }
    }

    pub fn macros<'a>(&'a self, user: Option<&'a User>, delimiter: &'a str) -> Macros<'a> {
        Macros {
            user: &self.user,
            home: user.map(|user| user.home.as_path()),
            shell: user.map_or("", |user| user.shell.as_str()),
            local: &self.local,
            domain: &self.domain,
            recipient: &self.address,
            extension: self.extension.as_deref(),
            delimiter,
        }
    }
}

impl Service {
    /// Serves one recipient with all it stands for; whether everything is done.
    pub(super) async fn local(
        &self,
        settings: &LocalSettings,
        job: &Job,
        recipient: &Recipient,
    ) -> bool {
        let mut expansion = Expansion::new(recipient, &job.request.sender);
        let mut forwards: Vec<Forward> = Vec::new();
        let (mut done, mut outcomes) = (true, 0);
        while let Some(item) = expansion.next() {
            let step = self.step(settings, job, &mut expansion, &item).await;
            outcomes += usize::from(!matches!(step, Step::Expanded));
            match step {
                Step::Expanded => {}
                Step::Passed(final_) => done &= final_,
                Step::Verdict(address, verdict) => {
                    let reported = expansion.reported(&address);
                    done &= self.reporter.conclude(&job.request, &reported, &verdict).await;
                }
                Step::Forward(forward) => {
                    match forwards.iter_mut().find(|known| known.sender == forward.sender) {
                        Some(known) => known.recipients.extend(forward.recipients),
                        None => forwards.push(forward),
                    }
                }
            }
        }
        if outcomes == 0 {
            // Aliases that name only each other: the message must not vanish.
            let text = format!("mail forwarding loop for {}", recipient.address);
            let verdict = Verdict::failed("5.4.6", text);
            return self.reporter.conclude(&job.request, recipient, &verdict).await;
        }
        for forward in &forwards {
            done &= self.send_on(job, recipient, forward).await;
        }
        done
    }

    async fn send_on(&self, job: &Job, recipient: &Recipient, forward: &Forward) -> bool {
        let verdict = match self.forward(job, &recipient.address, forward).await {
            Ok(id) => Verdict::Sent { text: format!("forwarded as {id}"), action: "expanded" },
            Err(error) => {
                self.reporter.warn(&job.request, &format!("forward: {error}"));
                Verdict::failed("4.3.0", "unable to forward message")
            }
        };
        self.reporter.conclude(&job.request, recipient, &verdict).await
    }

    async fn step(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &mut Expansion,
        item: &Item,
    ) -> Step {
        match &item.target {
            Named::Address(address) => self.address(settings, job, expansion, item, address).await,
            Named::Include(path) => self.include(settings, expansion, item, path).await,
            Named::File(path) => self.file(settings, job, expansion, item, path).await,
            Named::Command(command) => {
                self.command_of_list(settings, job, expansion, item, command).await
            }
        }
    }

    /// An address: one of ours is expanded or delivered here, any other is sent on.
    async fn address(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &mut Expansion,
        item: &Item,
        text: &str,
    ) -> Step {
        let (address, ours) = match (&item.origin, &self.routing) {
            (Origin::Request, _) | (_, None) => (text.to_owned(), true),
            (_, Some(routing)) => {
                // `\name`: the mailbox of that name, not its aliases; `seen` sees to that.
                let plain = text.trim_start_matches('\\');
                let whole = settings.routing.rewriting.rewrite(Context::Local, plain);
                let internal = mail_types::unquote_822(&whole);
                match routing.resolve(&item.sender, &internal).await {
                    Ok(Resolution::Route(route)) => {
                        (route.recipient, route.transport == self.settings.name)
                    }
                    Ok(Resolution::BadSyntax { recipient }) => {
                        let verdict = Verdict::failed("5.1.3", "bad address syntax");
                        return Step::Verdict(recipient, verdict);
                    }
                    Err(error) => {
                        self.warn(&error.to_string());
                        let verdict = Verdict::failed("4.3.0", "address resolver failure");
                        return Step::Verdict(internal, verdict);
                    }
                }
            }
        };
        if !expansion.first_time("recipient", &address) {
            return Step::Expanded;
        }
        if !ours {
            return forward(expansion, item, address);
        }
        if header::loops(&job.delivered_to, &address) {
            let text = format!("mail forwarding loop for {address}");
            return Step::Verdict(address, Verdict::failed("5.4.6", text));
        }
        let local = Local::new(&address, &self.settings.recipient_delimiter);
        match self.aliases(settings, expansion, item, &local).await {
            Ok(true) => return Step::Expanded,
            Ok(false) => {}
            Err(verdict) => return Step::Verdict(address, verdict),
        }
        let elsewhere = match &item.origin {
            Origin::Include(_) => true,
            Origin::Forward(user) => *user != local.user,
            Origin::Request | Origin::Alias(_) => item.owned,
        };
        if elsewhere {
            forward(expansion, item, address)
        } else {
            self.person(settings, job, expansion, item, &local).await
        }
    }

    /// Looks the name up in `alias_maps`, with its extension and without; whether it was an alias.
    async fn aliases(
        &self,
        settings: &LocalSettings,
        expansion: &mut Expansion,
        item: &Item,
        local: &Local,
    ) -> Result<bool, Verdict> {
        let maps = &settings.alias_maps;
        let mut names = vec![local.local.as_str()];
        if local.extension.is_some() {
            names.push(&local.user);
        }
        for name in names {
            let Some((value, table)) = self.alias(maps, name).await? else { continue };
            if !expansion.first_time("alias", name) {
                continue; // an alias that names itself means the user
            }
            let owner = self.lookup(maps, &format!("owner-{name}")).await?;
            let sender = match (&owner, item.sender.is_empty()) {
                (Some(_), false) => format!("owner-{name}@{}", local.domain),
                _ => item.sender.clone(),
            };
            let origin = match self.tables.owner(&table) {
                Some(Owner::Root) => Origin::Alias(None),
                Some(Owner::User(uid)) => Origin::Alias(Some(uid)),
                None => {
                    self.warn(&format!("no owner UID for alias database {table}"));
                    return Err(Verdict::failed("4.3.0", MISCONFIGURED));
                }
            };
            let like = Item {
                origin,
                sender,
                owned: owner.is_some(),
                depth: item.depth + 1,
                ..item.clone()
            };
            if !expansion.push(Named::parse_list(&value), &like) {
                self.warn(&format!("alias {name}: too many or too deeply nested targets"));
                return Err(Verdict::failed("5.4.6", "alias database loop"));
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// The value of an alias, and the table that has it.
    async fn alias(&self, maps: &Maps, name: &str) -> Result<Option<(String, TableName)>, Verdict> {
        for table in maps.iter() {
            let one: Maps = std::iter::once(table.clone()).collect();
            if let Some(value) = self.lookup(&one, name).await? {
                return Ok(Some((value, table.clone())));
            }
        }
        Ok(None)
    }

    async fn lookup(&self, maps: &Maps, key: &str) -> Result<Option<String>, Verdict> {
        maps.find(&self.tables, key, Key::Whole).await.map_err(|error| {
            self.warn(&error.to_string());
            Verdict::failed("4.3.0", "alias database unavailable")
        })
    }

    /// A name that is no alias: a user, or nobody.
    async fn person(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &mut Expansion,
        item: &Item,
        local: &Local,
    ) -> Step {
        let verdict = |verdict| Step::Verdict(local.address.clone(), verdict);
        let user = match User::named(&self.worker, &local.user).await {
            Ok(user) => user,
            Err(why) => {
                self.warn(&format!("cannot find the user {}: {why}", local.user));
                return verdict(Verdict::failed("4.3.0", "user lookup error"));
            }
        };
        if let Some(user) = &user
            && user.uid != 0
            && item.origin != Origin::Forward(local.user.clone())
        {
            match self.dot_forward(settings, expansion, item, local, user).await {
                Ok(true) => return Step::Expanded,
                Ok(false) => {}
                Err(failed) => return verdict(failed),
            }
        }
        let transport = match self.transport(settings, &local.user, user.is_some()).await {
            Ok(transport) => transport,
            Err(failed) => return verdict(failed),
        };
        if !transport.is_empty() {
            let recipient = expansion.reported(&local.address);
            return match self.pass(job, &recipient, &transport).await {
                Ok(done) => Step::Passed(done),
                Err(error) => {
                    self.warn(&format!("connect to transport private/{transport}: {error}"));
                    verdict(Verdict::failed("4.3.0", "mail transport unavailable"))
                }
            };
        }
        match user {
            Some(user) => verdict(self.mailbox(settings, job, expansion, item, local, &user).await),
            None => self.unknown(settings, expansion, item, local),
        }
    }

    /// `mailbox_transport` for users, `fallback_transport` for all others.
    async fn transport(
        &self,
        settings: &LocalSettings,
        user: &str,
        known: bool,
    ) -> Result<String, Verdict> {
        let of_users = self.lookup(&settings.mailbox_transport_maps, user).await?;
        let of_users = of_users.unwrap_or_else(|| settings.mailbox_transport.clone());
        if known || !of_users.is_empty() {
            return Ok(of_users);
        }
        let fallback = self.lookup(&settings.fallback_transport_maps, user).await?;
        Ok(fallback.unwrap_or_else(|| settings.fallback_transport.clone()))
    }

    fn unknown(
        &self,
        settings: &LocalSettings,
        expansion: &mut Expansion,
        item: &Item,
        local: &Local,
    ) -> Step {
        let macros = local.macros(None, &self.settings.recipient_delimiter);
        let relay = macros.expand(&settings.luser_relay).unwrap_or_default();
        let origin = Origin::Alias(None);
        let like = Item { origin, depth: item.depth + 1, ..item.clone() };
        let named = Named::parse_list(&relay);
        if !named.is_empty()
            && expansion.first_time("luser_relay", &local.user)
            && expansion.push(named, &like)
        {
            return Step::Expanded;
        }
        let text = format!("unknown user: \"{}\"", local.user);
        Step::Verdict(local.address.clone(), Verdict::failed("5.1.1", text))
    }

    /// The user's `.forward`, read as the user; whether there was one.
    async fn dot_forward(
        &self,
        settings: &LocalSettings,
        expansion: &mut Expansion,
        item: &Item,
        local: &Local,
        user: &User,
    ) -> Result<bool, Verdict> {
        let macros = local.macros(Some(user), &self.settings.recipient_delimiter);
        let expand = |path: &String| macros.expand(path).map(PathBuf::from);
        let paths: Vec<PathBuf> = settings.forward_path.iter().filter_map(expand).collect();
        if paths.is_empty() {
            return Ok(false);
        }
        let Some(found) = self.read(user, paths, Whose::Reader).await? else { return Ok(false) };
        let like = Item {
            origin: Origin::Forward(local.user.clone()),
            owned: false,
            depth: item.depth + 1,
            ..item.clone()
        };
        let named = list(&found.text);
        if named.is_empty() {
            return Ok(false); // an empty file means the mailbox
        }
        // The user's own name in there means the mailbox, not a loop.
        expansion.forget("recipient", &local.address);
        if expansion.push(named, &like) {
            Ok(true)
        } else {
            Err(Verdict::failed("5.4.6", "too many or too deeply nested .forward targets"))
        }
    }

    async fn read(
        &self,
        user: &User,
        paths: Vec<PathBuf>,
        whose: Whose,
    ) -> Result<Option<Found>, Verdict> {
        let target = Target::Read { paths, limit: LONGEST_LIST, whose };
        let task = Task { content: Source::Nothing, prefix: String::new(), target };
        match job::ask(&self.worker, user.identity(&self.settings.groups), &task, None).await {
            Outcome::Text(found) => Ok(found),
            Outcome::Failed(failure) => Err(Verdict::Failed(failure)),
            _ => Err(Verdict::failed("4.3.0", "unexpected answer of the delivery worker")),
        }
    }

    async fn include(
        &self,
        settings: &LocalSettings,
        expansion: &mut Expansion,
        item: &Item,
        path: &str,
    ) -> Step {
        let address = expansion.recipient.address.clone();
        let reader = match self.privileges(settings, item).await {
            Ok(user) => user,
            Err(verdict) => return Step::Verdict(address, verdict),
        };
        let found = match self.read(&reader, vec![path.into()], Whose::Anybody).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                let text = format!("cannot open include file {path}");
                return Step::Verdict(address, Verdict::failed("4.2.0", text));
            }
            Err(verdict) => return Step::Verdict(address, verdict),
        };
        let origin = Origin::Include(Some(found.owner).filter(|uid| *uid != 0));
        let like = Item { origin, depth: item.depth + 1, ..item.clone() };
        if expansion.first_time("include", path) && !expansion.push(list(&found.text), &like) {
            return Step::Verdict(address, Verdict::failed("5.4.6", "include file loop"));
        }
        Step::Expanded
    }

    /// Who reads and writes what an alias or a `.forward` names: the user whose file says so, and for root's files the one
    /// of `default_privs`.
    pub(super) async fn privileges(
        &self,
        settings: &LocalSettings,
        item: &Item,
    ) -> Result<User, Verdict> {
        let name = match &item.origin {
            Origin::Forward(user) => user,
            Origin::Alias(Some(owner)) | Origin::Include(Some(owner)) => {
                return match User::numbered(&self.worker, *owner).await {
                    Ok(Some(user)) => Ok(user),
                    Ok(None) | Err(_) => {
                        self.warn(&format!(
                            "cannot find the owner of a list of addresses: {owner}"
                        ));
                        Err(Verdict::failed("4.3.0", MISCONFIGURED))
                    }
                };
            }
            _ => &settings.default_privs,
        };
        match User::named(&self.worker, name).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) | Err(_) => {
                self.warn(&format!("there is no user {name}"));
                Err(Verdict::failed("4.3.5", MISCONFIGURED))
            }
        }
    }

    /// `/path` in an alias or a `.forward`.
    async fn file(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &mut Expansion,
        item: &Item,
        path: &str,
    ) -> Step {
        let address = expansion.recipient.address.clone();
        if !settings.files_from.iter().any(|word| word == item.origin.word()) {
            let text = format!("mail to file is restricted: {path}");
            return Step::Verdict(address, Verdict::failed("5.7.1", text));
        }
        let user = match self.privileges(settings, item).await {
            Ok(user) => user,
            Err(verdict) => return Step::Verdict(address, verdict),
        };
        let prefix = header::prefix(&item.sender, &expansion.recipient);
        let mut target = target(&self.settings, path.into(), &item.sender, &user.name);
        if let Target::Mbox(mbox) = &mut target {
            mbox.owned = false;
        }
        let outcome =
            job.deliver(&self.worker, user.identity(&self.settings.groups), prefix, target).await;
        let verdict = match verdict_of(outcome) {
            Verdict::Sent { .. } => Verdict::delivered(format!("delivered to file: {path}")),
            failed @ Verdict::Failed(_) => failed,
        };
        Step::Verdict(address, verdict)
    }

    /// The user's own mailbox.
    async fn mailbox(
        &self,
        settings: &LocalSettings,
        job: &Job,
        expansion: &Expansion,
        item: &Item,
        local: &Local,
        user: &User,
    ) -> Verdict {
        let command = match self.lookup(&settings.mailbox_command_maps, &local.user).await {
            Ok(command) => command.unwrap_or_else(|| settings.mailbox_command.clone()),
            Err(verdict) => return verdict,
        };
        if !command.is_empty() {
            let recipient = expansion.reported(&local.address);
            let of = Of { item, local, recipient: &recipient, owner: Some(user) };
            return self.command(settings, job, &of, &command).await;
        }
        if user.uid == 0 {
            return Verdict::failed("4.3.5", "mail is not delivered as root: alias root to a user");
        }
        let path = if settings.home_mailbox.is_empty() {
            let spool = settings.mail_spool_directory.trim_end_matches('/');
            let slash = if settings.mail_spool_directory.ends_with('/') { "/" } else { "" };
            format!("{spool}/{}{slash}", user.name)
        } else {
            format!("{}/{}", user.home.display(), settings.home_mailbox)
        };
        let identity = user.identity(&self.settings.groups);
        let prefix = header::prefix(&item.sender, &expansion.reported(&local.address));
        let target = target(&self.settings, path.into(), &item.sender, &user.name);
        verdict_of(job.deliver(&self.worker, identity, prefix, target).await)
    }
}

/// Sends an address on, under the sender that its alias has.
fn forward(expansion: &Expansion, item: &Item, address: String) -> Step {
    let recipient = expansion.reported(&address);
    Step::Forward(Forward { sender: item.sender.clone(), recipients: vec![recipient] })
}

/// The targets of a `.forward` or `:include:` file, its comment lines left out.
fn list(text: &str) -> Vec<Named> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.flat_map(Named::parse_list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let local = Local::new("Info+Shop@Example.com", "+");
        assert_eq!((local.user.as_str(), local.extension.as_deref()), ("info", Some("shop")));
        assert_eq!((local.local.as_str(), local.domain.as_str()), ("info+shop", "Example.com"));
        assert_eq!(Local::new("postmaster", "").user, "postmaster");
    }

    #[test]
    fn forward_files_are_lists_with_comments() {
        let named = list("# my mail\n\\info, \"|/usr/bin/vacation info\"\n/home/info/copy\na@b\n");
        assert_eq!(named.len(), 4);
        // `\info`: Postfix drops the backslash too; the user's own name is the mailbox.
        assert_eq!(named[0], Named::Address("info".into()));
        assert_eq!(named[2], Named::File("/home/info/copy".into()));
    }
}
