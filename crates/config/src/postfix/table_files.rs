//! The files of all lookup tables that a host names: what a sandbox lets daemons read.

use std::path::PathBuf;

use super::host::Host;
use super::view::View;

/// The file of a lookup table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct TableFile {
    pub text: PathBuf,
    /// Where postmap puts the indexed form; its change, and not the text's, says that the text counts.
    pub index: Option<PathBuf>,
}

impl TableFile {
    /// What has to change before the text is read again.
    pub fn signal(&self) -> &PathBuf {
        self.index.as_ref().filter(|index| index.exists()).unwrap_or(&self.text)
    }
}

const KINDS: [(&str, &str); 8] = [
    ("hash", "db"),
    ("btree", "db"),
    ("lmdb", "lmdb"),
    ("cdb", "cdb"),
    ("texthash", ""),
    ("cidr", ""),
    ("pcre", ""),
    ("regexp", ""),
];

impl Host {
    /// The tables of every setting, in main.cf and in `-o`, and of the defaults that name some.
    pub fn table_files(&self) -> Vec<TableFile> {
        let mut found = Vec::new();
        let mut look = |view: &View<'_>| {
            for name in view.names().into_iter().chain(["alias_maps", "alias_database"]) {
                if let Ok(text) = view.expanded(name) {
                    collect(text.as_str(), &mut found);
                }
            }
        };
        look(&self.main());
        for service in self.services().filter(|service| !service.overrides.is_empty()) {
            look(&self.view(service));
        }
        found.sort();
        found.dedup();
        found
    }
}

fn collect(text: &str, found: &mut Vec<TableFile>) {
    for word in text.split(|c: char| c.is_whitespace() || ",{}".contains(c)) {
        let Some((before, path)) = word.split_once(":/") else { continue };
        let kind = before.rsplit(':').next().unwrap_or_default();
        if let Some((_, ending)) = KINDS.iter().find(|(known, _)| *known == kind) {
            let index = (!ending.is_empty()).then(|| format!("/{path}.{ending}").into());
            found.push(TableFile { text: format!("/{path}").into(), index });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Problems;
    use crate::files::Memory;

    #[test]
    fn tables_are_found_wherever_they_are_named() {
        let files = Memory::with([
            (
                "/p/main.cf",
                "alias_maps = hash:/etc/aliases\nx = cdb:/t/x\nsmtpd_sender_restrictions = check_sender_access $x,\n permit\nheader_checks = pipemap:{pcre:/t/h,regexp:/t/r}\n",
            ),
            ("/p/master.cf", "smtp inet n - y - - smtpd -o smtpd_client_restrictions=cidr:/t/c\n"),
        ]);
        let host = Host::read(&files, "/p".as_ref(), &mut Problems::default());
        let names: Vec<String> = host
            .table_files()
            .iter()
            .map(|file| {
                let index = file.index.as_ref().map(|index| format!(" {}", index.display()));
                format!("{}{}", file.text.display(), index.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            names,
            ["/etc/aliases /etc/aliases.db", "/t/c", "/t/h", "/t/r", "/t/x /t/x.cdb"]
        );
    }
}
