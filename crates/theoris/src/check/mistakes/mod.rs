//! What is wrong with a host whoever serves it: plain mistakes, each found from the files and the disk alone.

pub mod certificates;
mod limits;
mod logins;
mod mailboxes;
mod passwords;
mod relay;
pub(crate) mod seams;
pub(crate) mod tables;

use config::dovecot::Config;
use config::postfix::{Host, Service};
use config::{Place, Problems};

use super::files::Files;
use super::machine::Machine;
use super::report::Finding;

/// Everything that is found.
pub fn find(files: &Files, machine: &Machine) -> Vec<Finding> {
    let mut found = Vec::new();
    mailboxes::find(files, machine, &mut found);
    limits::find(files, &mut found);
    logins::find(files, &mut found);
    relay::find(files, &mut found);
    seams::find(files, &mut found);
    tables::find(files, &mut found);
    passwords::find(files, &mut found);
    certificates::find(files, machine, &mut found);
    found
}

/// Where a setting of Postfix is written; main.cf as a whole when it is not.
pub fn place(host: &Host, name: &str) -> Place {
    let written = host.main().written(name).and_then(|value| value.place().cloned());
    written.unwrap_or_else(|| Place::file(host.directory().join("main.cf")))
}

/// A setting as text; empty when nothing sets it.
pub fn text(host: &Host, name: &str) -> String {
    host.main()
        .text(name, &mut Problems::default())
        .map(|text| text.as_str().to_owned())
        .unwrap_or_default()
}

/// What to write: in the language of Dovecot 2.3, or of 2.4.
fn words<'w>(config: &Config, old: &'w str, modern: &'w str) -> &'w str {
    if config.is_modern() { modern } else { old }
}

/// The inet services that speak SMTP to clients: those of smtpd, and what stands behind postscreen.
fn smtp_servers(host: &Host) -> impl Iterator<Item = &Service> {
    use config::postfix::ServiceType::{Inet, Pass};
    host.running("smtpd").filter(|service| matches!(service.kind, Inet | Pass))
}

/// What `main` and `master` set for `found` to look at, in a directory of a test.
#[cfg(test)]
pub mod testing {
    use std::path::Path;

    use super::*;
    use crate::command::arguments::Arguments;
    use crate::command::paths::{self, Paths};

    /// The host's files in `root`: `postfix/main.cf` and the like. `@/` in them stands for the root.
    pub fn files(root: &Path, texts: &[(&str, &str)]) -> Files {
        Files::read(&lay_out(root, texts))
    }

    /// Writes them and tells where they are.
    pub fn lay_out(root: &Path, texts: &[(&str, &str)]) -> Paths {
        for (name, text) in texts {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text.replace("@/", &format!("{}/", root.display()))).unwrap();
        }
        let at = |name: &str| root.join(name).display().to_string();
        let (postfix, dovecot) = (at("postfix"), at("dovecot.conf"));
        let opendkim = at("opendkim.conf");
        let words = ["-c", &postfix, "--dovecot", &dovecot, "-x", &opendkim].map(str::to_owned);
        let mut paths = Paths::of(&Arguments::read(&words, &paths::OPTIONS).unwrap());
        for (named, file) in [
            (&mut paths.postfix, "postfix/main.cf"),
            (&mut paths.dovecot, "dovecot.conf"),
            (&mut paths.opendkim, "opendkim.conf"),
        ] {
            named.by_operator = root.join(file).exists();
        }
        paths
    }

    /// `level place: text; mend`, the root left out.
    pub fn shown(root: &Path, found: &[Finding]) -> String {
        let line = |one: &Finding| {
            let place = one.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
            let mend = one.mend.as_ref().map_or(String::new(), |mend| format!("; {mend}"));
            format!("{:?} {place}{}{mend}\n", one.level, one.text)
        };
        let text: String = found.iter().map(line).collect();
        text.replace(&format!("{}/", root.display()), "/").trim_end().to_owned()
    }

    /// What one finder says of these files.
    pub fn say(texts: &[(&str, &str)], find: impl FnOnce(&Files, &mut Vec<Finding>)) -> String {
        let root = tempfile::tempdir().unwrap();
        let mut found = Vec::new();
        find(&files(root.path(), texts), &mut found);
        shown(root.path(), &found)
    }
}
