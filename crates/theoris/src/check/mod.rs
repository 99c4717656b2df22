//! `theoris check`: reads the host's files and says, plank by plank, whether it can be adopted today, what in the files
//! we do otherwise, and what is plainly wrong with the host. It changes nothing and needs no running daemon.

pub(crate) mod daemons;
pub(crate) mod files;
pub(crate) mod machine;
pub(crate) mod mistakes;
pub(crate) mod planks;
pub(crate) mod print;
pub(crate) mod records;
pub(crate) mod report;
#[cfg(test)]
mod setups;

use crate::command::Command;
use crate::command::arguments::{Arguments, Known};
use crate::command::paths::{self, Paths};
use crate::command::shown::{self, Paint};
use crate::plank::Plank;

use files::Files;
use machine::Machine;
use report::Report;

pub const COMMAND: Command = Command {
    name: "check",
    usage: "[PLANK…] [--all] [--json] [--no-dns] [-c DIRECTORY] [--dovecot FILE] [-x FILE] [--theoris FILE] [--daemons DIRECTORY] [--state DIRECTORY]",
    about: "tells which planks can be adopted, and what is wrong with the host's files",
    run,
};

const OPTIONS: [Known; 3] = [("--all", false), ("--json", false), ("--no-dns", false)];

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    paths: Paths,
    planks: Vec<Plank>,
    dns: bool,
}

fn run(words: &[String]) -> Result<u8, String> {
    let known: Vec<Known> = OPTIONS.into_iter().chain(paths::OPTIONS).collect();
    let arguments = Arguments::read(words, &known)?;
    let asked = Asked {
        paths: Paths::of(&arguments),
        planks: planks(&arguments.operands)?,
        dns: !arguments.has("--no-dns"),
    };
    let report = look(&asked, Machine::this(&asked.paths));
    if arguments.has("--json") {
        let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        shown::print(&format!("{text}\n"));
    } else {
        shown::print(&print::text(&report, Paint::of_terminal(), arguments.has("--all")));
    }
    Ok(report::code_of(report.worst()))
}

fn planks(named: &[String]) -> Result<Vec<Plank>, String> {
    if named.is_empty() {
        return Ok(Plank::ALL.to_vec());
    }
    let all = Plank::ALL.map(Plank::name).join(", ");
    let plank = |name: &String| {
        Plank::named(name).ok_or_else(|| format!("there is no plank {name}; the planks are {all}"))
    };
    named.iter().map(plank).collect()
}

/// Looks at everything.
fn look(asked: &Asked, machine: Machine) -> Report {
    let files = Files::read(&asked.paths);
    let mut report = Report::new(&files, &machine);
    planks::look(asked, &files, &machine, &mut report);
    report.mistakes = mistakes::find(&files, &machine);
    if asked.dns {
        records::find(&files, &mut report.mistakes);
    }
    report.settings = files.settings(&asked.planks);
    report.count();
    report.sort();
    report
}

#[cfg(test)]
mod tests {
    use super::mistakes::testing::lay_out;
    use super::*;

    const MAIN: &str = "\
myhostname = mail.example.com
home_mailbox = Maildir/
biff = yes
message_size_limit = 52428800
mailbox_size_limit = 1073741824
smtp_helo_timeout = 5s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_proxy_filter = inet:localhost:10025
smtpd_bannner = x
daemon_directory = /usr/lib/postfix
queue_directory = @/q
alias_maps =
";
    const MASTER: &str = "\
smtp inet n - y - - smtpd
smtp unix - - n - - smtp
local unix - n n - - local
tlsmgr unix - - n 1000? 1 tlsmgr
policy unix - n n - 0 spawn user=nobody argv=/usr/bin/policy
#theoris: cleanup unix n - n - 0 cleanup
";
    const DOVECOT: &str = "\
protocols = imap
mail_location = maildir:~/Maildir
disable_plaintext_auth = no
passdb {
  driver = passwd-file
  args = @/users
}
service auth {
  unix_listener @/q/smtpd {
    mode = 0660
  }
}
";

    fn report(words: &[&str]) -> (Report, String) {
        let root = tempfile::tempdir().unwrap();
        let paths = lay_out(
            root.path(),
            &[
                ("postfix/main.cf", MAIN),
                ("postfix/master.cf", MASTER),
                ("dovecot.conf", DOVECOT),
                ("users", "jo:{PLAIN}x:1000:1000::/home/jo::\n"),
            ],
        );
        let paths = Paths { daemons: "/none".into(), ..paths };
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let asked = Asked { paths, planks: planks(&words).unwrap(), dns: false };
        let machine = Machine {
            host_name: "mail.example.com".into(),
            system: "Debian GNU/Linux 12 (bookworm), Linux 6.1.0".into(),
            kernel: (6, 1),
            systemd: true,
            root: true,
            postfix: Some("3.7.11".into()),
            dovecot: Some("2.3.19.1".into()),
            ..Machine::default()
        };
        let report = look(&asked, machine);
        let text = print::text(&report, Paint::PLAIN, false);
        let text = text.replace(&root.path().display().to_string(), "");
        (report, text.replacen(env!("CARGO_PKG_VERSION"), "VERSION", 1))
    }

    #[test]
    fn the_report_tells_planks_obstacles_mistakes_and_settings() {
        let (report, text) = report(&[]);
        insta::assert_snapshot!(text);
        assert_eq!(report.worst(), Some(report::Level::Critical));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["planks"][6]["plank"], "smtp-in");
        assert_eq!(json["planks"][6]["state"], "blocked");
        assert_eq!(json["settings"][0]["meaning"], "obeyed");
    }

    #[test]
    fn of_named_planks_only_what_concerns_them_is_told() {
        let (report, text) = report(&["smtp-out"]);
        assert_eq!(report.planks.len(), 1);
        let names: Vec<&str> = report.settings.iter().map(|one| one.name.as_str()).collect();
        assert!(names.contains(&"smtp_helo_timeout") && !names.contains(&"smtpd_sasl_type"));
        assert!(!text.contains("smtpd_proxy_filter"), "{text}");
    }
}
