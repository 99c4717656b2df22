//! The planks of a host whose originals serve: in and out as `docs/migration.md` says, while mail flows, and through what
//! befalls a host meanwhile.

use std::fs;

use super::complaints;
use super::document::{self, Line};
use super::flow::{self, Mood};
use super::guest::Guest;
use super::traps;
use crate::run::{Done, root};

/// The first of the sections in which planks go out again.
const BACK: &str = "Give the planks back";
/// So much mail flows between two steps.
const SOME: usize = 8;

/// Every file of the originals' configuration with its owner, mode and sum; and what is started at boot.
const FILES: &str = "find /etc/postfix /etc/dovecot /etc/opendkim /etc/opendkim.conf /etc/default -not -type d \
    -printf '%p %u:%g %m %l ' \\( -type f -exec sha256sum {} \\; -o -printf '\\n' \\) | sort; \
    systemctl is-enabled postfix dovecot opendkim";

/// What must not be there when all is given back.
const LEFT: &str = "systemctl list-units --state=active,failed --no-legend 'theoris-*'; \
    find /var/spool/postfix /run /etc/systemd /run/systemd/system /etc/dovecot -iname '*theoris*' \
        -not -path '/run/systemd/*unit*' -not -path '/run/theoris*' -not -path '/run/systemd/propagate/*'; \
    find /var/lib/theoris -type f -not -name '*lock' -not -name adopted.json 2>/dev/null || true; grep -l 'theoris:' /etc/postfix/master.cf || true";

/// What the originals have said since a time.
pub const LOG: &str = "journalctl -b --since=@SINCE --facility=mail -o short --no-pager";

/// Swaps all of them in, lets everything happen, and swaps them out.
pub fn swapped(guest: &mut Guest, step: &dyn Fn(&str)) -> Done {
    let page = root().join("docs/migration.md");
    let text = fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let sections = document::sections(&text);
    if !sections.iter().any(|section| section.heading == BACK) {
        return Err(format!("{}: there is no section {BACK:?}", page.display()));
    }
    guest.run("systemctl start rsyslog opendkim dovecot postfix")?;
    let before = guest.run(FILES)?;
    flow::start(guest)?;
    flow::more(guest, SOME, Mood::Calm)?;
    step("mail flows through the originals");
    for section in &sections {
        if section.heading == BACK {
            traps::all(guest, step)?;
        }
        let since = guest.run("date +%s")?;
        for line in &section.commands {
            command(guest, line).map_err(|problem| told(guest, &problem))?;
        }
        if !section.commands.iter().any(restarts) {
            let log = guest.run(&LOG.replace("SINCE", since.trim()))?;
            let complaints = complaints::of(&log);
            if !complaints.is_empty() {
                return Err(format!("{}: in the log:\n{}", section.heading, complaints.join("\n")));
            }
        }
        step(&format!("docs/migration.md: {}", section.heading));
    }
    let messages = flow::end(guest).map_err(|problem| told(guest, &problem))?;
    let left = guest.run(LEFT)?;
    if !left.trim().is_empty() {
        return Err(format!("left behind: {left}"));
    }
    let after = guest.run(FILES)?;
    if after != before {
        return Err(format!("the host's files differ:\nbefore:\n{before}\nafter:\n{after}"));
    }
    step(&format!(
        "every one of {messages} messages arrived, signed; UIDs, flags and UIDLs are as they were, and every file of the host"
    ));
    Ok(())
}

/// Whether it takes an original away for a while.
fn restarts(line: &Line) -> bool {
    line.command.contains("restart") || line.command.contains("reinstall")
}

/// Runs one line of the page; mail flows on.
fn command(guest: &Guest, line: &Line) -> Done {
    let Line { command, also } = line;
    let said = guest.run(&format!("{{ {command}\n}} || [ $? = {also} ]"))?;
    if command.starts_with("theoris release") && command.contains("dkim") {
        return named(guest, &said);
    }
    let mood = if restarts(line) { Mood::Restart } else { Mood::Calm };
    flow::more(guest, SOME, mood).map_err(|problem| format!("{command}\n{said}{problem}"))
}

/// What went out unsigned has its queue id in the words of the release.
fn named(guest: &Guest, said: &str) -> Done {
    for name in flow::unsigned(guest, SOME, Mood::Calm)? {
        let log = guest.run(&format!(
            "journalctl -b --facility=mail -o cat --no-pager | grep -F 'message-id={name}' | head -n 1"
        ))?;
        let id = log.split(':').next().unwrap_or_default();
        if id.is_empty() || !said.contains(id) {
            return Err(format!("{name} ({id}) went unsigned, and theoris release said:\n{said}"));
        }
    }
    Ok(())
}

/// A problem with what the planks are.
pub fn told(guest: &Guest, problem: &str) -> String {
    let status = guest.run("theoris status || true").unwrap_or_else(|why| why);
    format!("{status}\n{problem}")
}
