//! What the DNS says of the host and its domains: MX, SPF, DMARC, the DKIM keys, and the name of its address.
//!
//! Every question has a time limit, and so has all of it: a host without a name server gets one line, not a long wait.

use std::collections::BTreeSet;
use std::time::Duration;

use config::opendkim::names;
use config::postfix::{Host, Pattern};
use config::theoris::Theoris;
use config::{Files as _, Place, Problems, files::Disk, postfix};
use crypto::PrivateKey;
use dns::{Failure, Resolver};
use sender_authentication::dkim::key;

use super::files::Files;
use super::report::Finding;
use crate::opendkim::testkey::{Bad, compare};
use crate::plank::Plank;

/// Domains that are looked up; a provider with thousands has tools of its own.
const MOST_DOMAINS: usize = 20;
const MOST_KEYS: usize = 20;
const MOST_LINES: usize = 10_000;
const ONE_QUESTION: Duration = Duration::from_secs(3);
const ALL_QUESTIONS: Duration = Duration::from_secs(20);

/// Asks the host's own resolver, or that of theoris.toml.
pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let named = &files.paths.theoris;
    let toml = (named.path.as_path(), named.by_operator);
    let theoris = Theoris::read(&Disk, toml, environment, &[], &mut Problems::default());
    let resolv_conf = Disk.read("/etc/resolv.conf".as_ref()).unwrap_or_default();
    let mut settings =
        dns::Settings::new(&theoris.resolver, &String::from_utf8_lossy(&resolv_conf));
    settings.timeout = settings.timeout.min(ONE_QUESTION);
    settings.attempts = 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let asker =
                Asker { resolver: dns::System::new(&settings), found: Vec::new(), silent: 0 };
            found.extend(asker.all(files).await);
        }),
        Err(error) => found.push(Finding::note(None, format!("the DNS was not asked: {error}"))),
    }
}

struct Asker<R> {
    resolver: R,
    found: Vec<Finding>,
    /// Questions in a row without an answer.
    silent: usize,
}

/// What a look-up tells: records, none, or nothing at all.
enum Told<T> {
    Records(Vec<T>),
    None,
    Unknown,
}

impl<R: Resolver> Asker<R> {
    async fn all(mut self, files: &Files) -> Vec<Finding> {
        let whole = tokio::time::timeout(ALL_QUESTIONS, self.ask(files)).await;
        if whole.is_err() || self.silent >= 3 {
            let text =
                "the name server does not answer: mail waits, and some records were not looked at";
            self.found.push(
                Finding::warning(None, text)
                    .mend("see /etc/resolv.conf, or leave it out with --no-dns"),
            );
        }
        self.found
    }

    async fn ask(&mut self, files: &Files) {
        if let Some(host) = &files.postfix {
            self.host(host).await;
            for (domain, at) in domains(host) {
                if self.silent >= 3 {
                    return;
                }
                self.domain(&domain, &at, &super::mistakes::text(host, "myhostname")).await;
            }
        }
        for key in keys(files) {
            if self.silent >= 3 {
                return;
            }
            self.key(&key).await;
        }
    }

    fn told<T>(&mut self, answer: Result<dns::Answer<T>, Failure>) -> Told<T> {
        match answer {
            Ok(answer) => {
                self.silent = 0;
                Told::Records(answer.records)
            }
            Err(failure) if failure.is_absence() => {
                self.silent = 0;
                Told::None
            }
            Err(_) => {
                self.silent += 1;
                Told::Unknown
            }
        }
    }

    /// The name of the host has an address, and the address that name.
    async fn host(&mut self, host: &Host) {
        let name = super::mistakes::text(host, "myhostname");
        let at = super::mistakes::place(host, "myhostname");
        if !name.contains('.') {
            return;
        }
        let answer = self.resolver.a(&name).await;
        let addresses = match self.told(answer) {
            Told::Unknown => return,
            Told::None => {
                let answer = self.resolver.aaaa(&name).await;
                if matches!(self.told(answer), Told::None) {
                    let text = format!(
                        "{name} (myhostname) has no address in the DNS: other hosts may refuse its mail"
                    );
                    self.found.push(
                        Finding::warning(at, text).mend(format!("publish an A record for {name}")),
                    );
                }
                return;
            }
            Told::Records(addresses) => addresses,
        };
        let Some(address) =
            addresses.into_iter().find(|address| !address.is_private() && !address.is_loopback())
        else {
            return;
        };
        let answer = self.resolver.ptr(address.into()).await;
        let text = match self.told(answer) {
            Told::Records(names) if names.iter().any(|known| known.eq_ignore_ascii_case(&name)) => {
                return;
            }
            Told::Records(names) => format!(
                "the address {address} of {name} is called {}: large receivers want the name that greets them",
                names.first().map_or("", String::as_str)
            ),
            Told::None => format!(
                "the address {address} of {name} has no name (PTR): large receivers refuse its mail"
            ),
            Told::Unknown => return,
        };
        self.found.push(
            Finding::warning(at, text).mend(format!("have your provider name {address} {name}")),
        );
    }

    async fn domain(&mut self, domain: &str, at: &Place, host: &str) {
        let answer = self.resolver.mx(domain).await;
        if matches!(self.told(answer), Told::None) {
            let answer = self.resolver.a(domain).await;
            if matches!(self.told(answer), Told::None) {
                let text = format!("{domain} has no MX record: no mail comes for it");
                self.found.push(
                    Finding::warning(at.clone(), text)
                        .mend(format!("publish: {domain}. MX 10 {host}.")),
                );
            }
        }
        let answer = self.resolver.txt(domain).await;
        match self.told(answer) {
            Told::Records(records) => self.spf(domain, at, &texts(&records, "v=spf1")),
            Told::None => self.spf(domain, at, &[]),
            Told::Unknown => {}
        }
        let answer = self.resolver.txt(&format!("_dmarc.{domain}")).await;
        let policies = match self.told(answer) {
            Told::Records(records) => texts(&records, "v=DMARC1"),
            Told::None => self.of_parent(domain).await,
            Told::Unknown => return,
        };
        if policies.is_empty() {
            let text = format!("{domain} has no DMARC record: large receivers ask for one");
            let mend = format!(
                "publish: _dmarc.{domain}. TXT \"v=DMARC1; p=none; rua=mailto:postmaster@{domain}\""
            );
            self.found.push(Finding::warning(at.clone(), text).mend(mend));
        } else if policies.len() > 1 {
            let text = format!("{domain} has {} DMARC records: none counts", policies.len());
            self.found.push(Finding::warning(at.clone(), text).mend("keep one of them"));
        }
    }

    /// The policy of the domain above holds for its subdomains.
    async fn of_parent(&mut self, domain: &str) -> Vec<String> {
        let Some((_, parent)) = domain.split_once('.').filter(|(_, parent)| parent.contains('.'))
        else {
            return Vec::new();
        };
        let answer = self.resolver.txt(&format!("_dmarc.{parent}")).await;
        match self.told(answer) {
            Told::Records(records) => texts(&records, "v=DMARC1"),
            Told::None | Told::Unknown => Vec::new(),
        }
    }

    fn spf(&mut self, domain: &str, at: &Place, records: &[String]) {
        let (text, mend) = match records {
            [] => (
                format!("{domain} has no SPF record: others cannot tell its mail from forged mail"),
                format!("publish: {domain}. TXT \"v=spf1 mx -all\""),
            ),
            [record] => {
                let everyone = record.split_whitespace().any(|term| matches!(term, "+all" | "all"));
                if !everyone {
                    return;
                }
                (
                    format!("the SPF record of {domain} allows everybody to send ({record})"),
                    "end it with ~all or -all".to_owned(),
                )
            }
            several => (
                format!("{domain} has {} SPF records: none counts", several.len()),
                "put them together in one".to_owned(),
            ),
        };
        self.found.push(Finding::warning(at.clone(), text).mend(mend));
    }

    /// The record of a DKIM key, beside the key.
    async fn key(&mut self, signing: &Signing) {
        let Some(name) = key::name(&signing.selector, &signing.domain) else { return };
        let private = Disk
            .read(signing.path.as_ref())
            .ok()
            .and_then(|octets| PrivateKey::parse(&octets).ok());
        let publish = private
            .as_ref()
            .and_then(record)
            .map(|record| format!("publish: {name}. TXT \"{record}\""));
        let mend = publish.unwrap_or_else(|| {
            "publish the record that opendkim-genkey wrote beside the key".to_owned()
        });
        let answer = self.resolver.txt(&name).await;
        let text = match self.told(answer) {
            Told::Unknown => return,
            Told::None => format!(
                "there is no record {name}: receivers take the signatures of {} for bad",
                signing.domain
            ),
            Told::Records(records) => match records.as_slice() {
                [record] => match compare(record, private.as_ref()) {
                    Ok(()) => return,
                    Err(Bad::Mismatch) => format!(
                        "the record {name} is that of another key than {}: receivers take the signatures for bad",
                        signing.path
                    ),
                    Err(Bad::Unavailable(why)) => {
                        format!("the record {name} is no usable key ({why})")
                    }
                },
                several => format!(
                    "{name} has {} records: receivers may take the wrong one",
                    several.len()
                ),
            },
        };
        self.found.push(Finding::critical(signing.at.clone(), text).mend(mend).of(Plank::Dkim));
    }
}

/// Those of the records that are of this kind.
fn texts(records: &[Vec<u8>], kind: &str) -> Vec<String> {
    let text = records.iter().map(|record| String::from_utf8_lossy(record).into_owned());
    text.filter(|text| {
        text.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
            && !text[kind.len()..].starts_with(|c: char| c.is_ascii_alphanumeric())
    })
    .collect()
}

/// What to publish for a key.
fn record(key: &PrivateKey) -> Option<String> {
    if let Some(public) = key.rsa_public() {
        return Some(format!(
            "v=DKIM1; h=sha256; k=rsa; p={}",
            crypto::pem::encode(&public.to_der())
        ));
    }
    let public = key.ed25519_public()?;
    Some(format!("v=DKIM1; k=ed25519; p={}", crypto::pem::encode(&public.octets())))
}

/// A key that OpenDKIM signs with.
struct Signing {
    domain: String,
    selector: String,
    path: String,
    at: Option<Place>,
}

fn keys(files: &Files) -> Vec<Signing> {
    let Some(config) = &files.opendkim else { return Vec::new() };
    let Some(table) = config.list(names::KEYTABLE) else {
        let path = config.text(names::KEYFILE).unwrap_or_default().to_owned();
        let selector = config.text(names::SELECTOR).unwrap_or("default").to_owned();
        let domains = config.list(names::DOMAIN).unwrap_or_default();
        let domains = domains
            .split(',')
            .map(str::trim)
            .filter(|domain| domain.contains('.') && !path.is_empty());
        let signing = |domain: &str| Signing {
            domain: domain.to_owned(),
            selector: selector.clone(),
            path: path.clone(),
            at: config.place(names::SELECTOR),
        };
        return domains.take(MOST_KEYS).map(signing).collect();
    };
    let path =
        ["file:", "refile:"].iter().find_map(|kind| table.strip_prefix(kind)).unwrap_or(table);
    let content = Disk.read(path.as_ref()).unwrap_or_default();
    let mut found = Vec::new();
    for (index, line) in String::from_utf8_lossy(&content).lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let Some((_, value)) = line.trim().split_once(|c: char| c.is_ascii_whitespace()) else {
            continue;
        };
        let parts: Vec<&str> = value.trim().splitn(3, ':').collect();
        let [domain, selector, key] = parts.as_slice() else { continue };
        // `%` stands for the sender's domain.
        if domain.contains('%') || found.len() >= MOST_KEYS {
            continue;
        }
        found.push(Signing {
            domain: (*domain).to_owned(),
            selector: (*selector).to_owned(),
            path: (*key).to_owned(),
            at: Some(Place::new(path, index + 1)),
        });
    }
    found
}

/// The domains that this host takes mail for, and where that is said.
fn domains(host: &Host) -> Vec<(String, Place)> {
    let mut quiet = Problems::default();
    let main = host.main();
    let own = super::mistakes::text(host, "myhostname").to_ascii_lowercase();
    let mut found: Vec<(String, Place)> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut add = |domain: &str, at: Place| {
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        let public = domain.contains('.')
            && domain != own
            && !["localhost.", "localhost"].iter().any(|start| domain.starts_with(start))
            && ![".local", ".localdomain", ".internal", ".lan", ".test", ".invalid"]
                .iter()
                .any(|end| domain.ends_with(end))
            && dns::is_host_name(&domain);
        if public && found.len() < MOST_DOMAINS && seen.insert(domain.clone()) {
            found.push((domain, at));
        }
    };
    for (name, items) in [
        ("mydestination", main.get(postfix::MYDESTINATION, &mut quiet)),
        ("virtual_mailbox_domains", main.get(postfix::VIRTUAL_MAILBOX_DOMAINS, &mut quiet)),
        ("virtual_alias_domains", main.get(postfix::VIRTUAL_ALIAS_DOMAINS, &mut quiet)),
    ] {
        for item in items.into_iter().filter(|item| !item.negated) {
            let at = item.at.clone().unwrap_or_else(|| super::mistakes::place(host, name));
            match &item.pattern {
                Pattern::Text(domain) => add(domain, at),
                Pattern::Table(table)
                    if matches!(
                        table.kind.as_str(),
                        "hash" | "btree" | "lmdb" | "cdb" | "texthash"
                    ) =>
                {
                    let content = Disk.read(table.name.as_ref()).unwrap_or_default();
                    for (index, line) in
                        String::from_utf8_lossy(&content).lines().take(MOST_LINES).enumerate()
                    {
                        let key = line.split_whitespace().next().unwrap_or_default();
                        // virtual_alias_maps, the default of virtual_alias_domains, has addresses too.
                        if !line.starts_with(['#', ' ', '\t']) && !key.contains('@') {
                            add(key, Place::new(&table.name, index + 1));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::mistakes::testing::{files, shown};
    use super::*;
    use dns::testing::Zone;

    const KEY: &str = include_str!("../../../crypto/tests/data/rsa-2048.pem");
    const OTHER: &str = include_str!("../../../crypto/tests/data/rsa-1024.pem");
    const MAIN: &str = "myhostname = mail.example.com\nmydomain = example.com\nmydestination = $myhostname, localhost, $mydomain\n";

    fn say(zone: Zone, opendkim: Option<&str>) -> String {
        let root = tempfile::tempdir().unwrap();
        let mut texts =
            vec![("postfix/main.cf", MAIN), ("postfix/master.cf", ""), ("key.pem", KEY)];
        texts.push(("KeyTable", "# x\nk example.com:default:@/key.pem\n"));
        texts.extend(opendkim.map(|text| ("opendkim.conf", text)));
        let read = files(root.path(), &texts);
        let asker = Asker { resolver: zone, found: Vec::new(), silent: 0 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        shown(root.path(), &runtime.block_on(asker.all(&read)))
    }

    fn fine() -> Zone {
        Zone::new()
            .with_a("mail.example.com", [203, 0, 113, 10])
            .with_ptr([203, 0, 113, 10], "mail.example.com")
            .with_mx("example.com", 10, "mail.example.com")
    }

    #[test]
    fn missing_records_are_told_with_what_to_publish() {
        insta::assert_snapshot!(say(fine(), None), @r#"
        Warning /postfix/main.cf:2: example.com has no SPF record: others cannot tell its mail from forged mail; publish: example.com. TXT "v=spf1 mx -all"
        Warning /postfix/main.cf:2: example.com has no DMARC record: large receivers ask for one; publish: _dmarc.example.com. TXT "v=DMARC1; p=none; rua=mailto:postmaster@example.com"
        "#);
        let complete = fine()
            .with_txt("example.com", "v=spf1 +mx +ip4:203.0.113.10 ~all")
            .with_txt("example.com", "some-site-verification=1")
            .with_txt("_dmarc.example.com", "v=DMARC1; p=none");
        assert_eq!(say(complete, None), "");
        insta::assert_snapshot!(say(Zone::new().with_a("mail.example.com", [203, 0, 113, 10]).with_txt("example.com", "v=spf1 +all").with_txt("_dmarc.example.com", "v=DMARC1; p=none"), None), @r"
        Warning /postfix/main.cf:1: the address 203.0.113.10 of mail.example.com has no name (PTR): large receivers refuse its mail; have your provider name 203.0.113.10 mail.example.com
        Warning /postfix/main.cf:2: example.com has no MX record: no mail comes for it; publish: example.com. MX 10 mail.example.com.
        Warning /postfix/main.cf:2: the SPF record of example.com allows everybody to send (v=spf1 +all); end it with ~all or -all
        ");
    }

    #[test]
    fn a_dkim_record_is_compared_with_the_key() {
        let complete = || {
            fine()
                .with_txt("example.com", "v=spf1 mx -all")
                .with_txt("_dmarc.example.com", "v=DMARC1; p=none")
        };
        let opendkim = Some("KeyTable @/KeyTable\n");
        let name = "default._domainkey.example.com";
        let right = record(&PrivateKey::parse(KEY.as_bytes()).unwrap()).unwrap();
        let wrong = record(&PrivateKey::parse(OTHER.as_bytes()).unwrap()).unwrap();
        assert_eq!(say(complete().with_txt(name, &right), opendkim), "");
        let told = say(complete().with_txt(name, &wrong), opendkim);
        assert!(told.starts_with("Critical /KeyTable:2: the record default._domainkey.example.com is that of another key than /key.pem"), "{told}");
        assert!(told.ends_with(&format!("publish: {name}. TXT \"{right}\"")), "{told}");
        let told = say(complete(), opendkim);
        assert!(
            told.starts_with(
                "Critical /KeyTable:2: there is no record default._domainkey.example.com"
            ),
            "{told}"
        );
        let told = say(
            complete().with_txt(name, "v=DKIM1; p="),
            Some("Domain example.com\nSelector default\nKeyFile @/key.pem\n"),
        );
        assert!(told.starts_with("Critical /opendkim.conf:2: the record default._domainkey.example.com is no usable key (Revoked key)"), "{told}");
    }

    #[test]
    fn a_silent_name_server_is_told_once() {
        let zone = ["mail.example.com", "example.com", "_dmarc.example.com"]
            .iter()
            .fold(Zone::new(), |zone, name| zone.fail(name, Failure::TimedOut));
        assert_eq!(
            say(zone, None),
            "Warning the name server does not answer: mail waits, and some records were not looked at; see /etc/resolv.conf, or leave it out with --no-dns"
        );
    }
}
