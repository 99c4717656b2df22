//! `opendkim-genkey`: a new key, and the DNS record that publishes it.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crypto::PrivateKey;

use super::options::{self, Known};

const NAME: &str = "opendkim-genkey";

const OPTIONS: &[Known] = &[
    ('a', "append-domain", false),
    ('b', "bits", true),
    ('D', "directory", true),
    ('d', "domain", true),
    ('h', "hash-algorithms", true),
    ('\0', "help", false),
    ('n', "note", true),
    ('r', "restrict", false),
    ('s', "selector", true),
    ('S', "", false),
    ('\0', "subdomains", false),
    ('t', "testmode", false),
    ('v', "verbose", false),
    ('V', "version", false),
];

const USAGE: &str = "\
opendkim-genkey: usage: opendkim-genkey [options]
\t--append-domain        include domain name in zone file stub
\t--bits=n               use n bits to generate the key
\t--directory=path       leave output in the named directory
\t--domain=name          generate data for the named domain [localhost]
\t--hash-algorithms=list limit to use of the named algorithm(s)
\t--help                 print help and exit
\t--note=string          include specified note in zone data
\t--restrict             restrict key to email use only
\t--selector=name        selector name [default]
\t--subdomains           allow signing of subdomains
\t--testmode             indicate key is in test mode
\t--verbose              increased output
\t--version              print version and exit
";

/// What the words ask for.
struct Wanted {
    bits: usize,
    directory: PathBuf,
    domain: String,
    selector: String,
    hashes: String,
    note: Option<String>,
    append: bool,
    restrict: bool,
    subdomains: bool,
    testing: bool,
    verbose: bool,
}

/// Runs the program; the exit code.
pub fn run(words: &[String]) -> u8 {
    let options = match options::read(words, OPTIONS) {
        Ok(options) => options,
        Err(word) => {
            eprintln!("Unknown option: {}", word.trim_start_matches('-'));
            eprint!("{USAGE}");
            return 1;
        }
    };
    if options.iter().any(|(name, _)| name == "help") {
        eprint!("{USAGE}");
        return 0;
    }
    if options.iter().any(|(name, _)| name == "V") {
        println!("{NAME} v2.11.0");
        return 0;
    }
    let Some(wanted) = Wanted::read(&options) else {
        eprint!("{USAGE}");
        return 1;
    };
    match wanted.write() {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{NAME}: {why}");
            1
        }
    }
}

impl Wanted {
    fn read(options: &[(String, String)]) -> Option<Self> {
        let last = |name: &str| {
            options.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.clone())
        };
        let on = |name: &str| {
            let off = format!("!{name}");
            options
                .iter()
                .rfind(|(one, _)| *one == name || *one == off)
                .map(|(one, _)| *one == name)
        };
        Some(Self {
            bits: last("b").map_or(Some(2048), |bits| bits.parse().ok())?,
            directory: last("D").map_or_else(|| ".".into(), PathBuf::from),
            domain: last("d").unwrap_or_else(|| "localhost".to_owned()),
            selector: last("s").unwrap_or_else(|| "default".to_owned()),
            hashes: last("h").unwrap_or_else(|| "sha256".to_owned()),
            note: last("n"),
            append: on("a").unwrap_or(false),
            restrict: on("r").unwrap_or(false),
            subdomains: on("subdomains").unwrap_or(true) && !on("S").unwrap_or(false),
            testing: on("t").unwrap_or(false),
            verbose: on("v").unwrap_or(false),
        })
    }

    fn write(&self) -> Result<(), String> {
        let say = |text: String| {
            if self.verbose {
                eprintln!("{NAME}: {text}");
            }
        };
        if !self.directory.is_dir() {
            let shown = self.directory.display();
            return Err(format!("{shown}: chdir(): No such file or directory"));
        }
        say("generating private key".to_owned());
        let (key, text) = PrivateKey::generate_rsa(self.bits).map_err(|error| error.to_string())?;
        let private = format!("{}.private", self.selector);
        write(&self.directory.join(&private), &text)?;
        say(format!("private key written to {private}"));
        say("extracting public key".to_owned());
        let public = key.rsa_public().map(|public| crypto::pem::encode(&public.to_der()));
        let record = format!("{}.txt", self.selector);
        write(&self.directory.join(&record), &self.record(&public.unwrap_or_default()))?;
        say(format!("DNS TXT record written to {record}"));
        Ok(())
    }

    /// The lines for a zone file.
    fn record(&self, public: &str) -> String {
        let selector = &self.selector;
        let below = if self.append { format!(".{}.", self.domain) } else { String::new() };
        let note =
            self.note.as_ref().map_or_else(String::new, |note| format!(" n=\\\"{note}\\\";"));
        let flags = match (self.testing, self.subdomains) {
            (false, true) => "",
            (true, true) => "t=y; ",
            (false, false) => "t=s; ",
            (true, false) => "t=y:s; ",
        };
        let restrict = if self.restrict { "s=email; " } else { "" };
        let hashes = &self.hashes;
        let mut text = format!(
            "{selector}._domainkey{below}\tIN\tTXT\t( \"v=DKIM1;{note} h={hashes}; k=rsa; {flags}{restrict}\"\n\t  \"p="
        );
        let mut rest = public;
        while let Some((piece, after)) = rest.split_at_checked(250) {
            text.push_str(piece);
            text.push_str("\"\n\t  \"");
            rest = after;
        }
        text.push_str(rest);
        text.push_str("\" ) ");
        if !self.domain.is_empty() {
            text.push_str(&format!(" ; ----- DKIM key {selector} for {}", self.domain));
        }
        text.push('\n');
        text
    }
}

/// Writes a file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("unable to write to {}: {error}", path.display());
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same words to Debian's program give the same record, but for the key.
    #[test]
    fn records_are_opendkims() {
        let read = |directory: &Path, name: &str| {
            let text = std::fs::read_to_string(directory.join(name)).unwrap();
            text.lines()
                .map(|line| line.split("p=M").next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for words in [
            "-s sel1 -d example.com",
            "--selector=sel1 --domain=example.com --bits=2048",
            "-s sel1 -d example.com -a -t -S -r -n note",
            "-ssel1 -rt -h sha256:sha1 --nosubdomains",
        ] {
            let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            let with = |directory: &Path| {
                [words.clone(), vec!["-D".into(), directory.display().to_string()]].concat()
            };
            assert_eq!(run(&with(ours.path())), 0);
            let record = read(ours.path(), "sel1.txt");
            for file in ["sel1.txt", "sel1.private"] {
                let mode = ours.path().join(file).metadata().unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{file}");
            }
            let peer =
                std::process::Command::new("opendkim-genkey").args(with(theirs.path())).status();
            if peer.is_ok_and(|status| status.success()) {
                let theirs = read(theirs.path(), "sel1.txt");
                // the last line holds the end of the key
                assert_eq!(record[..2], theirs[..2], "{words:?}");
                let end = |lines: &[String]| {
                    lines.last().unwrap().split('"').next_back().unwrap().to_owned()
                };
                assert_eq!(end(&record), end(&theirs));
            }
        }
        assert_eq!(run(&["-x".to_owned()]), 1);
        assert_eq!(
            run(&["-b".to_owned(), "1024".to_owned(), "-D".to_owned(), "/tmp".to_owned()]),
            1
        );
        assert_eq!(run(&["-D".to_owned(), "/none".to_owned()]), 1);
    }
}
