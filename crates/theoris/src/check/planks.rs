//! Plank by plank: what there is to take over, and what its daemon says of the host's files.

use std::path::Path;

use config::dovecot::ListenerKind;
use config::opendkim::names;
use config::postfix::{Host, Service, ServiceType};
use config::{Files as _, Place, Problem, Problems, dovecot, files::Disk, postfix};

use super::Asked;
use super::daemons::{self, Verdict};
use super::files::{DOVECOT, Files, OPENDKIM, POSTFIX};
use super::machine::Machine;
use super::mistakes::tables;
use super::report::{Finding, PlankReport, Report, State};
use crate::plank::Plank;

/// Programs of master.cf that Postfix goes on with, whatever is adopted.
const STAY: [&str; 8] =
    ["verify", "proxymap", "tlsmgr", "scache", "postlogd", "spawn", "qmqpd", "master"];

/// Fills in the planks and what stands in their way.
pub fn look(asked: &Asked, files: &Files, machine: &Machine, report: &mut Report) {
    let (mut present, mut answered) = (Vec::new(), Vec::new());
    for &plank in &asked.planks {
        let (state, what) = match found(files, plank) {
            Ok(what) if is_ours(files, plank) => (State::Ours, what),
            Ok(what) => (State::Ready, what),
            Err(why) => (State::Absent, why),
        };
        let mut line = PlankReport { plank, state, what, warnings: 0, obstacles: 0 };
        if state != State::Absent {
            present.push(plank);
            if ask_daemon(files, &mut line, report) {
                answered.push(plank);
            }
        }
        report.planks.push(line);
    }
    machine.obstacles(&present).into_iter().for_each(|finding| report.find(finding));
    storage(files, &present, report);
    if let Some(host) = &files.postfix {
        of_postfix(host, &present, report);
        tell_of_tables(tables::foreign(host, &present), &answered, report);
    }
}

/// Adds what is found of settings, each with its value. The daemons say it too: of each table, and not for which setting
/// it is asked.
fn tell_of_tables(found: Vec<(Finding, String)>, answered: &[Plank], report: &mut Report) {
    let of_tables = |known: &&Finding| known.text.contains(": table type ");
    let said: Vec<Finding> = report.findings.iter().filter(of_tables).cloned().collect();
    for (mut finding, value) in found {
        let says_so = |known: &Finding| {
            let table = known.text.split_once(": table type ").map(|(table, _)| table);
            table.is_some_and(|table| value.contains(table))
        };
        // These two name every table that they would ask: what they do not name, they do not ask.
        let knows =
            |plank| matches!(plank, Plank::SmtpOut | Plank::SmtpIn) && answered.contains(&plank);
        finding.planks.retain(|plank| {
            let told = |known: &Finding| known.planks.contains(plank) && says_so(known);
            !knows(*plank) || said.iter().any(told)
        });
        if finding.planks.is_empty() {
            continue;
        }
        report.findings.retain(|known| {
            !says_so(known) || known.planks.iter().any(|plank| !finding.planks.contains(plank))
        });
        report.find(finding);
    }
}

/// The daemon's own reading of the files: it alone knows what it can run with.
/// False when it did not answer.
fn ask_daemon(files: &Files, line: &mut PlankReport, report: &mut Report) -> bool {
    let plank = line.plank;
    let verdict = daemons::check(&files.here(), plank);
    let answered = matches!(verdict, Verdict::Problems(_));
    match verdict {
        Verdict::Problems(problems) => {
            for problem in &problems {
                report.find(Finding::from(problem).of(plank));
            }
        }
        Verdict::NotInstalled(why) => {
            // What can be told without it.
            let told = files.problems_of(plank);
            told.iter().for_each(|problem: &Problem| report.find(Finding::from(problem).of(plank)));
            if line.state == State::Ready {
                line.state = State::Unchecked;
            }
            let text = format!("our daemon is not installed, so its own check did not run ({why})");
            report.find(
                Finding::warning(None, text)
                    .mend(format!(
                        "install theoris-{}, or name its directory with --daemons",
                        plank.daemon()
                    ))
                    .of(plank),
            );
        }
        Verdict::Broken(why) => {
            report.find(
                Finding::critical(None, why).mend("install our daemons of this version").of(plank),
            );
        }
    }
    answered
}

impl Files {
    /// The paths of what is there: a daemon that reads two products is told of those alone.
    fn here(&self) -> daemons::Here<'_> {
        daemons::Here {
            paths: &self.paths,
            postfix: self.postfix.is_some(),
            dovecot: self.dovecot.is_some(),
        }
    }

    /// What the daemon of a plank would say at least.
    fn problems_of(&self, plank: Plank) -> Vec<Problem> {
        let mut problems = Problems::default();
        if let Some(host) = &self.postfix
            && !plank.commands().is_empty()
        {
            problems.extend(self.told_of(POSTFIX));
            host.report_unsupported(plank.commands(), &mut problems);
        }
        if let Some(config) = &self.dovecot
            && !plank.dovecot_readers().is_empty()
        {
            problems.extend(self.told_of(DOVECOT));
            config.report_unsupported(plank.dovecot_readers(), &mut problems);
        }
        if let (Plank::Dkim, Some(config)) = (plank, &self.opendkim) {
            problems.extend(self.told_of(OPENDKIM));
            config.report_unsupported(&mut problems);
        }
        problems.iter().cloned().collect()
    }
}

/// What there is of a plank, or why there is nothing.
fn found(files: &Files, plank: Plank) -> Result<String, String> {
    match plank {
        Plank::Dkim => {
            let config = files.opendkim.as_ref().ok_or("OpenDKIM is not installed")?;
            let socket = config.text(names::SOCKET).ok_or("opendkim.conf names no Socket")?;
            Ok(format!("OpenDKIM at {socket}"))
        }
        Plank::Auth => of_dovecot(files, "auth", None),
        Plank::Pop3 => of_dovecot(files, "pop3-login", Some("pop3")),
        Plank::Imap => of_dovecot(files, "imap-login", Some("imap")),
        Plank::Mda => {
            let lmtp = of_dovecot(files, "lmtp", Some("lmtp"));
            match (services(files, plank), lmtp) {
                (Ok(agents), Ok(lmtp)) => Ok(format!("{agents}; {lmtp}")),
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
                (Err(why), Err(_)) => Err(why),
            }
        }
        Plank::SmtpOut | Plank::SmtpIn | Plank::Queue => services(files, plank),
    }
}

/// The services of master.cf that a plank takes over.
fn services(files: &Files, plank: Plank) -> Result<String, String> {
    let host = files.postfix.as_ref().ok_or("Postfix is not installed")?;
    let names: Vec<&str> = of_plank(host, plank).map(|service| service.name.as_str()).collect();
    if names.is_empty() {
        return Err(format!("no service of master.cf runs {}", plank.commands().join(", ")));
    }
    Ok(format!("Postfix's {}", names.join(", ")))
}

fn of_plank(host: &Host, plank: Plank) -> impl Iterator<Item = &Service> {
    host.services().filter(move |service| {
        plank.commands().contains(&service.command.as_str())
            && (plank != Plank::SmtpIn || service.kind == ServiceType::Inet)
    })
}

/// The listeners of a service of Dovecot.
fn of_dovecot(files: &Files, service: &str, protocol: Option<&str>) -> Result<String, String> {
    let config = files.dovecot.as_ref().ok_or("Dovecot is not installed")?;
    let mut quiet = Problems::default();
    let wanted = config.global().get(dovecot::PROTOCOLS, &mut quiet);
    if let Some(protocol) = protocol.filter(|name| !wanted.iter().any(|word| word.text == *name)) {
        return Err(format!("protocols of dovecot.conf has no {protocol}"));
    }
    let service = config.service(service, &mut quiet).ok_or("Dovecot has no such service")?;
    let mut shown: Vec<String> = Vec::new();
    for listener in &service.listeners {
        match &listener.kind {
            ListenerKind::Inet { port, .. } => shown.push(format!("port {port}")),
            ListenerKind::Unix { path, .. } if listener.at.is_some() => {
                shown.push(path.display().to_string());
            }
            ListenerKind::Unix { .. } | ListenerKind::Fifo { .. } => {}
        }
    }
    if shown.is_empty() {
        let count = service.listeners.len();
        shown.push(format!("{count} socket{}", if count == 1 { "" } else { "s" }));
    }
    Ok(format!("Dovecot's {}: {}", service.name, shown.join(", ")))
}

/// Mail that none of our daemons can open. Where one of them was asked and refuses the line, its own words stand.
fn storage(files: &Files, present: &[Plank], report: &mut Report) {
    let Some(config) = &files.dovecot else { return };
    let mut quiet = Problems::default();
    let view = config.global();
    let lmtp = of_dovecot(files, "lmtp", Some("lmtp")).is_ok();
    let planks: Vec<Plank> = present
        .iter()
        .copied()
        .filter(|plank| {
            matches!(plank, Plank::Imap | Plank::Pop3) || (*plank == Plank::Mda && lmtp)
        })
        .collect();
    if planks.is_empty() {
        return;
    }
    for namespace in view.namespaces(&mut quiet) {
        let Some((driver, _)) =
            namespace.location.split_once(':').filter(|(driver, _)| *driver != "maildir")
        else {
            continue;
        };
        let own = namespace
            .at
            .filter(|_| namespace.location != view.get(dovecot::MAIL_LOCATION, &mut quiet));
        let place = own.or_else(|| view.place(dovecot::MAIL_LOCATION));
        let text = format!("the mailboxes are {driver}, and only Maildir is served");
        let mend =
            "keep these planks with Dovecot, or move the mail into a Maildir with `doveadm sync`";
        let refused = format!("mail storage {driver:?}");
        let said = |known: &&mut Finding| known.place == place && known.text.starts_with(&refused);
        match report.findings.iter_mut().find(said) {
            Some(known) => {
                known.mend = Some(mend.into());
                known.planks.extend(&planks);
                known.planks.sort_unstable();
                known.planks.dedup();
            }
            None => report.find(Finding {
                planks: planks.clone(),
                ..Finding::critical(place, text).mend(mend)
            }),
        }
    }
}

/// Marked in master.cf, or remembered by `theoris adopt`.
pub fn is_ours(files: &Files, plank: Plank) -> bool {
    let host = files.postfix.as_ref();
    host.is_some_and(|host| of_plank(host, plank).any(|service| service.adopted))
        || is_remembered(&files.paths.state, plank)
}

/// The record of `theoris adopt` is an object with a member for each plank that is ours.
fn is_remembered(state: &Path, plank: Plank) -> bool {
    let text = Disk.read(&state.join("adopted.json")).unwrap_or_default();
    let record: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    record.get(plank.name()).is_some()
}

/// What adopting meets in master.cf and in the instance, beside settings.
fn of_postfix(host: &Host, present: &[Plank], report: &mut Report) {
    let planks: Vec<Plank> =
        present.iter().copied().filter(|plank| !plank.commands().is_empty()).collect();
    if planks.is_empty() {
        return;
    }
    let mut tell = |finding: Finding| report.find(Finding { planks: planks.clone(), ..finding });
    let master = Place::file(host.directory().join("master.cf"));
    let name = host.main().text("multi_instance_name", &mut Problems::default());
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let text = format!("this is {name}, not the default instance of Postfix");
        tell(
            Finding::critical(name.place().cloned(), text)
                .mend("adopt the default instance alone; this one stays with Postfix"),
        );
    }
    let jailed: Vec<&str> = host
        .services()
        .filter(|service| host.is_chrooted(service))
        .filter(|service| {
            planks.iter().any(|plank| plank.commands().contains(&service.command.as_str()))
        })
        .map(|service| service.name.as_str())
        .collect();
    if !jailed.is_empty() {
        let queue = host.main().get(postfix::QUEUE_DIRECTORY, &mut Problems::default());
        let text = format!(
            "{} have chroot y: an absolute path of a socket or a table, /x, means {queue}/x there, and to us too",
            jailed.join(", ")
        );
        tell(Finding::note(master.clone(), text));
    }
    let stay: Vec<String> = host
        .services()
        .filter(|service| {
            !Plank::ALL.iter().any(|plank| plank.commands().contains(&service.command.as_str()))
        })
        .map(|service| match STAY.contains(&service.command.as_str()) {
            true => service.name.clone(),
            false => format!("{} ({})", service.name, service.command),
        })
        .collect();
    if !stay.is_empty() {
        let text = format!("{} stay with Postfix, so its master keeps running", stay.join(", "));
        tell(Finding::note(master, text));
    }
}

#[cfg(test)]
mod tests {
    use super::super::mistakes::testing::files;
    use super::super::report::Level;
    use super::*;

    /// What the files alone tell; our daemons are not asked.
    fn told(main: &str, master: &str, dovecot: &str) -> Vec<Finding> {
        let root = tempfile::tempdir().unwrap();
        let texts =
            [("postfix/main.cf", main), ("postfix/master.cf", master), ("dovecot.conf", dovecot)];
        let mut files = files(root.path(), &texts);
        files.paths.daemons = root.path().join("none");
        let asked = Asked { paths: files.paths.clone(), planks: Plank::ALL.to_vec(), dns: false };
        let machine = Machine { kernel: (6, 1), systemd: true, root: true, ..Machine::default() };
        let mut report = Report::new(&files, &machine);
        look(&asked, &files, &machine, &mut report);
        report.findings
    }

    fn of<'f>(found: &'f [Finding], text: &str) -> &'f Finding {
        let one = found.iter().find(|one| one.text.contains(text));
        one.unwrap_or_else(|| panic!("{text}: {found:#?}"))
    }

    #[test]
    fn an_instance_of_its_own_stays_with_postfix() {
        let main = "multi_instance_name = postfix-out\nqueue_directory = /q\n";
        let master = "smtp unix - - y - - smtp\nscan unix - - n - - spawn argv=/x\n";
        let found = told(main, master, "protocols =\n");
        let instance = of(&found, "this is postfix-out, not the default instance of Postfix");
        assert_eq!(
            (instance.level, instance.planks.as_slice()),
            (Level::Critical, &[Plank::SmtpOut][..])
        );
        assert_eq!(instance.place.as_ref().map(|place| place.line), Some(1));
        assert_eq!(of(&found, "smtp have chroot y: ").level, Level::Note);
        assert_eq!(of(&found, "scan stay with Postfix, ").level, Level::Note);
    }

    /// A plugin stands in the way of the planks whose programs would load it, and of no other.
    #[test]
    fn a_plugin_stands_in_the_way_of_its_planks() {
        let dovecot = "protocols = imap pop3 lmtp\nmail_location = maildir:~/Maildir\n\
                       protocol lmtp {\n  mail_plugins = sieve\n}\nprotocol imap {\n  mail_plugins = imap_acl fts\n}\n";
        let found = told("", "", dovecot);
        for (plugin, level, planks) in [
            ("sieve", Level::Critical, [Plank::Mda]),
            ("imap_acl", Level::Critical, [Plank::Imap]),
            ("fts", Level::Warning, [Plank::Imap]),
        ] {
            let one = of(&found, &format!("the plugin {plugin} is not ours"));
            assert_eq!((one.level, one.planks.as_slice()), (level, &planks[..]), "{plugin}");
        }
    }

    #[test]
    fn mail_that_is_no_maildir_is_told_once() {
        let dovecot = "protocols = imap pop3\nmail_location = mbox:~/mail:INBOX=/var/mail/%u\n";
        let found = told("", "", dovecot);
        let alone = of(&found, "the mailboxes are mbox");
        assert_eq!((alone.level, alone.planks.len()), (Level::Critical, 2));

        let root = tempfile::tempdir().unwrap();
        let files = files(root.path(), &[("dovecot.conf", dovecot)]);
        let mut report = Report::new(&files, &Machine::default());
        let text = "mail storage \"mbox\" is not supported, only maildir";
        report.find(Finding::critical(alone_place(&files), text).of(Plank::Imap));
        storage(&files, &[Plank::Pop3, Plank::Imap], &mut report);
        let [one] = report.findings.as_slice() else { panic!("{:#?}", report.findings) };
        assert_eq!((one.text.as_str(), &one.planks), (text, &vec![Plank::Pop3, Plank::Imap]));
        assert!(one.mend.as_ref().is_some_and(|mend| mend.contains("doveadm sync")));
    }

    /// What a daemon says of a table is said once, of the setting and all planks that ask it; smtpd knows what it asks.
    #[test]
    fn a_table_is_told_once_and_to_who_asks_it() {
        let main = "virtual_alias_maps = hash:/x, proxy:mysql:/v.cf\ncanonical_maps = mysql:/c.cf\n\
                    smtpd_sasl_exceptions_networks = mysql:/idle.cf\nsender_canonical_maps = mysql:/idle.cf\n\
                    smtpd_sender_login_maps = mysql:/c.cf\n";
        let master = "smtp inet n - n - - smtpd\ncleanup unix n - n - 0 cleanup\n";
        let root = tempfile::tempdir().unwrap();
        let texts = [("postfix/main.cf", main), ("postfix/master.cf", master)];
        let mut files = files(root.path(), &texts);
        let daemon = root.path().join("smtpd");
        let said: String = ["proxy:mysql:/v.cf", "mysql:/c.cf", "mysql:/other.cf"]
            .map(|table| format!(r#"{{"place":null,"severity":"error","text":"{table}: table type mysql is not"}}"#))
            .join(",");
        std::fs::write(&daemon, format!("#!/bin/sh\necho '[{said}]'\n")).unwrap();
        std::fs::set_permissions(&daemon, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        files.paths.daemons = root.path().to_owned();
        let asked = Asked { paths: files.paths.clone(), planks: Plank::ALL.to_vec(), dns: false };
        let machine = Machine { kernel: (6, 1), systemd: true, root: true, ..Machine::default() };
        let mut report = Report::new(&files, &machine);
        look(&asked, &files, &machine, &mut report);
        let line = |one: &Finding| {
            let planks: Vec<&str> = one.planks.iter().map(|plank| plank.name()).collect();
            format!("{}: {}", planks.join(" "), one.text)
        };
        let told = report.findings.iter().filter(|one| one.text.contains("mysql")).map(line);
        insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
        smtp-in: mysql:/other.cf: table type mysql is not
        smtp-in queue: virtual_alias_maps asks a table of type mysql, which our daemons cannot ask yet
        smtp-in queue: canonical_maps asks a table of type mysql, which our daemons cannot ask yet
        queue: sender_canonical_maps asks a table of type mysql, which our daemons cannot ask yet
        smtp-in: smtpd_sender_login_maps asks a table of type mysql, which our daemons cannot ask yet
        ");
    }

    fn alone_place(files: &Files) -> Option<Place> {
        files.dovecot.as_ref()?.global().place(dovecot::MAIL_LOCATION)
    }

    #[test]
    fn what_is_adopted_is_known_by_marks_and_by_the_record() {
        let root = tempfile::tempdir().unwrap();
        let master = "#theoris: smtp inet n - n - - smtpd\nsmtp unix - - n - - smtp\n";
        let mut files = files(
            root.path(),
            &[
                ("postfix/main.cf", ""),
                ("postfix/master.cf", master),
                ("state/adopted.json", "{\"imap\":{\"back\":[]}}"),
            ],
        );
        files.paths.state = root.path().join("state");
        let ours: Vec<Plank> =
            Plank::ALL.into_iter().filter(|plank| is_ours(&files, *plank)).collect();
        assert_eq!(ours, [Plank::Imap, Plank::SmtpIn]);
        files.paths.state = root.path().join("none");
        assert!(!is_ours(&files, Plank::Imap));
    }
}
