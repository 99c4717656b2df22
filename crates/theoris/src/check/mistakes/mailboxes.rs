//! Mail that is delivered where nobody looks for it: another format or another place than Dovecot's `mail_location`.

use std::path::Path;

use config::files::Disk;
use config::postfix::{self, Host};
use config::{Files as _, Place, Problems, dovecot};

use super::super::files::Files;
use super::super::machine::Machine;
use super::super::report::{Finding, Level};

/// Users whose homes are looked at.
const MOST_USERS: usize = 500;
/// Lines of virtual_mailbox_maps that are compared.
const MOST_LINES: usize = 10_000;

/// A mailbox as its path tells: with `/` at its end a Maildir, else one file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mailbox {
    maildir: bool,
    /// `~/Maildir`, `/var/mail/USER`, `/var/mail/vhosts/DOMAIN/NAME`
    path: String,
}

impl Mailbox {
    fn of_postfix(path: &str) -> Self {
        Self { maildir: path.ends_with('/'), path: tidy(path) }
    }

    fn format(&self) -> &'static str {
        if self.maildir { "a Maildir" } else { "an mbox" }
    }
}

pub fn find(files: &Files, machine: &Machine, found: &mut Vec<Finding>) {
    let Some(config) = &files.dovecot else { return };
    let Some((read, at)) = inbox(config) else { return };
    let modern = config.is_modern();
    if let Some(host) = &files.postfix {
        if let Some((delivered, place)) = of_local(host) {
            compare(&delivered, &place, &read, &at, modern, found);
        }
        if let Some((delivered, place)) = of_virtual(host, &read) {
            compare(&delivered, &place, &read, &at, modern, found);
        }
    }
    let spool_level = match files.postfix.as_ref().is_some_and(has_virtual) {
        true => Level::Note,
        false => Level::Warning,
    };
    on_disk(machine, &read, &at, modern, spool_level, found);
}

fn compare(
    delivered: &Mailbox,
    place: &Place,
    read: &Mailbox,
    at: &Place,
    modern: bool,
    found: &mut Vec<Finding>,
) {
    if delivered == read {
        return;
    }
    let text = format!(
        "Dovecot reads {} at {}, but Postfix delivers into {} at {} ({place}): the mailboxes look empty",
        read.format(),
        read.path,
        delivered.format(),
        delivered.path
    );
    // local(8) can be told to deliver into Maildirs; and only these are served by our daemons.
    let home = read.path.strip_prefix("~/").filter(|_| read.maildir && !delivered.maildir);
    let mend = match home {
        Some(home) => format!("write home_mailbox = {home}/ in main.cf"),
        None if modern => format!("write {}", modern_location(delivered)),
        None => format!("write mail_location = {}", location(delivered)),
    };
    found.push(Finding::critical(at.clone(), text).mend(mend));
}

/// What to write for Dovecot to find it.
fn location(mailbox: &Mailbox) -> String {
    let path = mailbox.path.replace("DOMAIN", "%d").replace("NAME", "%n").replace("USER", "%u");
    match mailbox.maildir {
        true => format!("maildir:{path}"),
        false => format!("mbox:~/mail:INBOX={path}"),
    }
}

/// The same for Dovecot 2.4.
fn modern_location(mailbox: &Mailbox) -> String {
    let path = mailbox
        .path
        .replace("DOMAIN", "%{user | domain}")
        .replace("NAME", "%{user | username}")
        .replace("USER", "%{user}");
    match mailbox.maildir {
        true => format!("mail_driver = maildir and mail_path = {path}"),
        false => format!("mail_driver = mbox, mail_path = ~/mail and mail_inbox_path = {path}"),
    }
}

/// Where Dovecot looks for INBOX, if `mail_location` says.
fn inbox(config: &dovecot::Config) -> Option<(Mailbox, Place)> {
    let mut quiet = Problems::default();
    let view = config.global();
    let written = view.get(dovecot::MAIL_LOCATION, &mut quiet);
    let at = view.place(dovecot::MAIL_LOCATION)?;
    let (driver, rest) = written.split_once(':')?;
    let maildir = match driver {
        "maildir" => true,
        "mbox" => false,
        _ => return None,
    };
    let mut parts = rest.split(':');
    let root = parts.next().unwrap_or_default();
    let named = parts.find_map(|part| part.strip_prefix("INBOX="));
    let path = match named {
        Some(path) => path.to_owned(),
        None if maildir => root.to_owned(),
        None => format!("{}/inbox", root.trim_end_matches('/')),
    };
    Some((Mailbox { maildir, path: tidy(&path) }, at))
}

/// `%u`, `%n` and `%d` as words, the home as `~`, no `/` at the end.
fn tidy(path: &str) -> String {
    let mut path = path.trim_end_matches('/').to_owned();
    for (variable, word) in [
        ("%Lu", "USER"),
        ("%u", "USER"),
        ("%Ln", "NAME"),
        ("%n", "NAME"),
        ("%Ld", "DOMAIN"),
        ("%d", "DOMAIN"),
        ("%{user}", "USER"),
        ("%{user|username}", "NAME"),
        ("%{user | username}", "NAME"),
        ("%{user | domain}", "DOMAIN"),
        ("%{user|domain}", "DOMAIN"),
        ("%h", "~"),
        ("%Lh", "~"),
        ("%{home}", "~"),
    ] {
        path = path.replace(variable, word);
    }
    // What is one directory under two names on most systems.
    path.strip_prefix("/var/spool/mail").map_or(path.clone(), |rest| format!("/var/mail{rest}"))
}

/// Whether the mailboxes are those of virtual domains; local(8) has the system's mail alone then.
fn has_virtual(host: &Host) -> bool {
    !super::text(host, "virtual_mailbox_domains").is_empty()
}

/// Where local(8) puts mail, if it does so by itself and these are the mailboxes.
fn of_local(host: &Host) -> Option<(Mailbox, Place)> {
    let mut quiet = Problems::default();
    let main = host.main();
    let local = super::text(host, "local_transport").starts_with("local:")
        && host.running("local").next().is_some()
        && !super::text(host, "mydestination").is_empty();
    let others =
        ["mailbox_transport_maps", "mailbox_transport", "mailbox_command_maps", "mailbox_command"];
    if !local || has_virtual(host) || others.iter().any(|name| !super::text(host, name).is_empty())
    {
        return None;
    }
    let home = main.get(postfix::HOME_MAILBOX, &mut quiet);
    if !home.is_empty() {
        return Some((
            Mailbox::of_postfix(&format!("~/{home}")),
            super::place(host, "home_mailbox"),
        ));
    }
    let spool = main.get(postfix::MAIL_SPOOL_DIRECTORY, &mut quiet);
    let maildir = if spool.ends_with('/') { "/" } else { "" };
    let path = format!("{}/USER{maildir}", spool.trim_end_matches('/'));
    Some((Mailbox::of_postfix(&path), super::place(host, "mail_spool_directory")))
}

/// The first mailbox of virtual(8) that is not where Dovecot looks.
fn of_virtual(host: &Host, read: &Mailbox) -> Option<(Mailbox, Place)> {
    if super::text(host, "virtual_transport") != "virtual"
        || host.running("virtual").next().is_none()
    {
        return None;
    }
    let base = super::text(host, "virtual_mailbox_base");
    let maps = super::text(host, "virtual_mailbox_maps");
    for word in maps.split(|c: char| c.is_whitespace() || c == ',') {
        let Some((kind, path)) = word.trim_start_matches("proxy:").split_once(':') else {
            continue;
        };
        if !matches!(kind, "hash" | "btree" | "lmdb" | "cdb" | "texthash") {
            continue;
        }
        let content = Disk.read(path.as_ref()).unwrap_or_default();
        for (index, line) in String::from_utf8_lossy(&content).lines().take(MOST_LINES).enumerate()
        {
            let Some((address, value)) = line.split_once(|c: char| c.is_ascii_whitespace()) else {
                continue;
            };
            let Some((name, domain)) = address.split_once('@') else { continue };
            if name.is_empty() || line.starts_with('#') {
                continue;
            }
            let whole = format!("{}/{}", base.trim_end_matches('/'), value.trim());
            let delivered = Mailbox::of_postfix(&whole);
            let expected =
                read.path.replace("DOMAIN", domain).replace("NAME", name).replace("USER", address);
            // Homes of virtual users are in the user database, which is not asked here.
            if expected.contains('~') && delivered.maildir == read.maildir {
                return None;
            }
            if delivered.maildir != read.maildir || delivered.path != expected {
                let general = delivered.path.replace(domain, "DOMAIN").replace(name, "NAME");
                return Some((Mailbox { path: general, ..delivered }, Place::new(path, index + 1)));
            }
        }
    }
    None
}

/// Mail of the other format in the homes of the host's users.
fn on_disk(
    machine: &Machine,
    read: &Mailbox,
    at: &Place,
    modern: bool,
    spool_level: Level,
    found: &mut Vec<Finding>,
) {
    if !read.maildir {
        for (_, home) in machine.users.iter().take(MOST_USERS) {
            let maildir = home.join("Maildir");
            if maildir.join("cur").is_dir() && maildir.join("new").is_dir() {
                let text = format!(
                    "Dovecot reads mbox, but there is a Maildir at {}: what is in it is not shown",
                    maildir.display()
                );
                return found.push(Finding::critical(at.clone(), text).mend(if modern {
                    "write mail_driver = maildir and mail_path = ~/Maildir"
                } else {
                    "write mail_location = maildir:~/Maildir"
                }));
            }
        }
        return;
    }
    for (name, _) in machine.users.iter().take(MOST_USERS) {
        let spool = Path::new("/var/mail").join(name);
        if std::fs::metadata(&spool).is_ok_and(|file| file.is_file() && file.len() > 0) {
            let text = format!(
                "Dovecot reads a Maildir, but mail lies in the mbox {}: it is not shown",
                spool.display()
            );
            let mend = "move it with `doveadm import`, or keep that user's mbox";
            return found.push(Finding::new(spool_level, at.clone(), text).mend(mend));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{files, shown};
    use super::*;

    const MASTER: &str = "local unix - n n - - local\nvirtual unix - n n - - virtual\n";

    fn say(main: &str, dovecot: &str, more: &[(&str, &str)]) -> String {
        let root = tempfile::tempdir().unwrap();
        let mut texts = vec![
            ("postfix/main.cf", main),
            ("postfix/master.cf", MASTER),
            ("dovecot.conf", dovecot),
        ];
        texts.extend_from_slice(more);
        let read = files(root.path(), &texts);
        let home = root.path().join("home/info");
        let machine = Machine { users: vec![("info".into(), home)], ..Machine::default() };
        let mut found = Vec::new();
        find(&read, &machine, &mut found);
        shown(root.path(), &found)
    }

    /// What a provider's mailboxes looked like to a fetching service: a login, and no mail.
    #[test]
    fn another_format_than_postfix_delivers_is_told() {
        insta::assert_snapshot!(
            say("mydestination = a\n\nhome_mailbox = Maildir/\n", "mail_location = mbox:~/mail:INBOX=/var/mail/%u\n", &[]),
            @"Critical /dovecot.conf:1: Dovecot reads an mbox at /var/mail/USER, but Postfix delivers into a Maildir at ~/Maildir (/postfix/main.cf:3): the mailboxes look empty; write mail_location = maildir:~/Maildir"
        );
        insta::assert_snapshot!(
            say("", "mail_location = maildir:~/Maildir\n", &[]),
            @"Critical /dovecot.conf:1: Dovecot reads a Maildir at ~/Maildir, but Postfix delivers into an mbox at /var/mail/USER (/postfix/main.cf): the mailboxes look empty; write home_mailbox = Maildir/ in main.cf"
        );
    }

    #[test]
    fn what_fits_is_not_told() {
        for (main, location) in [
            ("home_mailbox = Maildir/\n", "maildir:~/Maildir"),
            ("home_mailbox = Maildir/\n", "maildir:%h/Maildir/"),
            ("mail_spool_directory = /var/spool/mail\n", "mbox:~/mail:INBOX=/var/mail/%u"),
            ("mail_spool_directory = /srv/mail/\n", "maildir:/srv/mail/%u"),
            ("mailbox_transport = lmtp:unix:private/dovecot-lmtp\n", "maildir:~/Maildir"),
            ("mydestination =\n", "maildir:~/Maildir"),
            // The mailboxes are those of the virtual domains; local(8) has the system's mail alone.
            (
                "mydestination = localhost\nvirtual_mailbox_domains = a.example\nvirtual_transport = lmtp:unix:private/lmtp\n",
                "maildir:/v/%d/%n",
            ),
        ] {
            assert_eq!(
                say(main, &format!("mail_location = {location}\n"), &[]),
                "",
                "{main}{location}"
            );
        }
        assert_eq!(
            say("home_mailbox = Maildir/\n", "protocols = imap\n", &[]),
            "",
            "Dovecot finds it out"
        );
    }

    #[test]
    fn a_maildir_in_a_home_is_told_when_mbox_is_read() {
        let told = say(
            "mydestination =\n",
            "mail_location = mbox:~/mail:INBOX=/var/mail/%u\n",
            &[("home/info/Maildir/cur/1", ""), ("home/info/Maildir/new/1", "")],
        );
        assert!(told.contains("there is a Maildir at /home/info/Maildir"), "{told}");
    }

    /// As in the sample `guide`: vmail's mailboxes, and system users whose mail goes to the spool. What would make
    /// Dovecot read the spool would hide the mailboxes.
    #[test]
    fn the_spool_of_system_users_is_nothing_to_virtual_mailboxes() {
        let main = "mydestination = localhost\nvirtual_mailbox_domains = texthash:/d\nvirtual_mailbox_base = /v\n\
                    virtual_mailbox_maps = texthash:@/postfix/boxes\n";
        let location = "mail_location = maildir:/v/%d/%n/Maildir\n";
        let boxes = |value: &str| format!("jo@a.example  {value}\n");
        assert_eq!(say(main, location, &[("postfix/boxes", &boxes("a.example/jo/Maildir/"))]), "");
        let told = say(main, location, &[("postfix/boxes", &boxes("a.example/jo/"))]);
        assert_eq!(told.matches("the mailboxes look empty").count(), 1, "{told}");

        let root = tempfile::tempdir().unwrap();
        let spool = root.path().join("spool");
        std::fs::write(&spool, "From root\n").unwrap();
        // A name that is a whole path stands for a user's file in the spool.
        let users = vec![(spool.display().to_string(), root.path().join("home"))];
        let machine = Machine { users, ..Machine::default() };
        for (main, level) in [(main, Level::Note), ("mydestination =\n", Level::Warning)] {
            let texts = [
                ("postfix/main.cf", main),
                ("postfix/master.cf", MASTER),
                ("dovecot.conf", location),
            ];
            let mut found = Vec::new();
            find(&files(root.path(), &texts), &machine, &mut found);
            let levels: Vec<Level> = found.iter().map(|one| one.level).collect();
            assert_eq!(levels, [level], "{main}");
        }
    }

    #[test]
    fn virtual_mailboxes_are_compared_too() {
        let main = "mydestination =\nvirtual_mailbox_domains = a.example\nvirtual_mailbox_base = /v\nvirtual_mailbox_maps = hash:@/postfix/boxes\n";
        let location = "mail_location = maildir:/v/%d/%n/Maildir\n";
        let boxes = |value: &str| format!("# x\njo@a.example  {value}\n");
        for (value, fits) in [
            ("a.example/jo/Maildir/", true),
            ("a.example/jo/", false),
            ("a.example/jo/Maildir", false),
        ] {
            let told = say(main, location, &[("postfix/boxes", &boxes(value))]);
            assert_eq!(told.is_empty(), fits, "{value}: {told}");
        }
        insta::assert_snapshot!(
            say(main, location, &[("postfix/boxes", &boxes("a.example/jo/"))]),
            @"Critical /dovecot.conf:1: Dovecot reads a Maildir at /v/DOMAIN/NAME/Maildir, but Postfix delivers into a Maildir at /v/DOMAIN/NAME (/postfix/boxes:2): the mailboxes look empty; write mail_location = maildir:/v/%d/%n"
        );
    }
}
