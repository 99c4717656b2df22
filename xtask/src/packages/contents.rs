//! Which package holds what, and where it goes.

use std::path::{Path, PathBuf};

use crate::run::root;

/// One package, whatever its format.
pub struct Package {
    pub name: String,
    /// The crate whose dependencies it carries.
    pub holds: &'static str,
    pub summary: String,
    pub description: String,
    pub files: Vec<File>,
    /// A daemon's package: `@DAEMON@` and `@PLANK@` of its scripts.
    pub daemon: Option<&'static Daemon>,
}

/// Something at a place of ours.
pub struct File {
    pub from: Source,
    /// Absolute.
    pub to: String,
    pub mode: u32,
}

pub enum Source {
    /// A program that was built; it goes without its debugging sections.
    Program(PathBuf),
    Copy(PathBuf),
    /// A page of the manual, with these words for others; it is compressed.
    Page {
        model: PathBuf,
        words: Vec<(&'static str, &'static str)>,
    },
}

pub struct Daemon {
    pub name: &'static str,
    pub plank: &'static str,
    /// Of whom it takes over, for people.
    pub instead_of: &'static str,
    /// What it does, as half a sentence.
    pub does: &'static str,
    /// The host's files.
    pub reads: &'static str,
}

const POSTFIX: &str = "main.cf and master.cf";
const DOVECOT: &str = "dovecot.conf";

pub const DAEMONS: [Daemon; 8] = [
    Daemon {
        name: "smtpd",
        plank: "smtp-in",
        instead_of: "Postfix's smtpd(8), postscreen(8) and anvil(8)",
        does: "receives mail by SMTP",
        reads: POSTFIX,
    },
    Daemon {
        name: "queue-manager",
        plank: "queue",
        instead_of: "Postfix's pickup(8), cleanup(8), qmgr(8), bounce(8) and showq(8)",
        does: "owns the mail queue",
        reads: POSTFIX,
    },
    Daemon {
        name: "smtp-delivery",
        plank: "smtp-out",
        instead_of: "Postfix's smtp(8) and lmtp(8)",
        does: "carries mail to other hosts",
        reads: POSTFIX,
    },
    Daemon {
        name: "lmtp-delivery",
        plank: "mda",
        instead_of: "Postfix's local(8), virtual(8) and pipe(8) and Dovecot's lmtp",
        does: "writes mail into mailboxes",
        reads: "main.cf, master.cf and dovecot.conf",
    },
    Daemon {
        name: "imapd",
        plank: "imap",
        instead_of: "Dovecot's imap-login and imap",
        does: "gives mail to IMAP clients",
        reads: DOVECOT,
    },
    Daemon {
        name: "pop3d",
        plank: "pop3",
        instead_of: "Dovecot's pop3-login and pop3",
        does: "gives mail to POP3 clients",
        reads: DOVECOT,
    },
    Daemon {
        name: "dkim-milter",
        plank: "dkim",
        instead_of: "OpenDKIM",
        does: "signs and verifies mail",
        reads: "opendkim.conf",
    },
    Daemon {
        name: "authd",
        plank: "auth",
        instead_of: "Dovecot's auth and auth-worker",
        does: "answers who may log in",
        reads: DOVECOT,
    },
];

/// The classic names, in a directory of ours: the originals keep theirs in PATH.
const CLASSIC: [&str; 8] = [
    "sendmail",
    "mailq",
    "postqueue",
    "postsuper",
    "postcat",
    "postdrop",
    "opendkim-genkey",
    "opendkim-testkey",
];

pub const PROGRAMS: &str = "/usr/libexec/theoris";
pub const UNITS: &str = "/usr/lib/systemd/system";

/// All of them: the command first, then the daemons, which need it.
pub fn packages(from: &Path) -> Vec<Package> {
    let mut packages = vec![command(from)];
    packages.extend(DAEMONS.iter().map(|daemon| of(daemon, from)));
    packages
}

fn program(from: &Path, name: &str, to: String) -> File {
    File { from: Source::Program(from.join(name)), to, mode: 0o755 }
}

fn copy(from: impl AsRef<Path>, to: impl Into<String>) -> File {
    File { from: Source::Copy(root().join(from)), to: to.into(), mode: 0o644 }
}

fn unit(name: &str) -> File {
    copy(format!("systemd/theoris-{name}.service"), format!("{UNITS}/theoris-{name}.service"))
}

fn of(daemon: &'static Daemon, from: &Path) -> Package {
    let Daemon { name, plank, instead_of, does, reads } = daemon;
    let page = [
        ("@DAEMON@", *name),
        ("@PLANK@", plank),
        ("@INSTEAD@", instead_of),
        ("@DOES@", does),
        ("@READS@", reads),
    ];
    let page = File {
        from: Source::Page { model: root().join("packages/man/daemon.8"), words: page.to_vec() },
        to: format!("/usr/share/man/man8/theoris-{name}.8.gz"),
        mode: 0o644,
    };
    let mut files = vec![program(from, name, format!("{PROGRAMS}/{name}")), unit(name), page];
    if *name == "dkim-milter" {
        let to = format!("/usr/share/doc/theoris-{name}/unprivileged.conf");
        files.push(copy(format!("systemd/unprivileged/theoris-{name}.conf"), to));
    }
    Package {
        name: format!("theoris-{name}"),
        holds: name,
        summary: format!("mail daemon that {does}, in the place of an original"),
        description: format!(
            "It {does}, with the host's own configuration, sockets and files, in the\nplace of {instead_of}.\n\
             It is installed beside them and is not started: \"theoris adopt {plank}\" swaps it in\nwhere that can be done by command, and \
             \"systemctl start theoris-{name}\" starts it."
        ),
        files,
        daemon: Some(daemon),
    }
}

fn command(from: &Path) -> Package {
    let mut files = vec![
        program(from, "theoris", "/usr/bin/theoris".into()),
        unit("guard"),
        copy("systemd/sysusers.conf", "/usr/lib/sysusers.d/theoris.conf"),
        copy("systemd/tmpfiles.conf", "/usr/lib/tmpfiles.d/theoris.conf"),
        copy("packages/fail2ban.conf", "/usr/share/theoris/fail2ban.conf"),
    ];
    let give_back = copy("packages/give-back", format!("{PROGRAMS}/give-back"));
    files.push(File { mode: 0o755, ..give_back });
    for (page, section) in [("theoris", 1), ("theoris-give-back", 8)] {
        let model = root().join(format!("packages/man/{page}.{section}"));
        files.push(File {
            from: Source::Page { model, words: Vec::new() },
            to: format!("/usr/share/man/man{section}/{page}.{section}.gz"),
            mode: 0o644,
        });
    }
    files.extend(CLASSIC.map(|name| program(from, name, format!("{PROGRAMS}/classic/{name}"))));
    for page in ["theoris", "swapping", "migration", "packages", "differences", "settings"] {
        files.push(copy(format!("docs/{page}.md"), format!("/usr/share/doc/theoris/{page}.md")));
    }
    Package {
        name: "theoris".into(),
        holds: "theoris",
        summary: "mail daemons swapped for Postfix, Dovecot and OpenDKIM one by one".into(),
        description: "The operator's command: what of this mail host can be taken over today and what is\n\
                      wrong with it, taking over, giving back, status, and the life of a message. It\n\
                      changes nothing until it is told to."
            .into(),
        files,
        daemon: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_with_those_that_it_links_to() {
        let command = command("/".as_ref());
        let shipped = |page: &str| command.files.iter().any(|file| file.to.ends_with(page));
        for file in &command.files {
            let Source::Copy(page) = &file.from else { continue };
            if page.extension().is_some_and(|ending| ending == "md") {
                let text = std::fs::read_to_string(page).unwrap();
                for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                    let target = target.split('#').next().unwrap_or_default();
                    let there = target.contains("://") || shipped(&format!("/{target}"));
                    assert!(there, "{} links to {target}", page.display());
                }
            }
        }
    }
}
