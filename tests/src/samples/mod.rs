//! The samples in `etc/` at work: one scene, played by our daemons and by Debian's originals on the same files.

mod container;
mod recipe;
mod sender;
mod start;

use std::net::Ipv4Addr;
use std::path::Path;

use harness::client::{Client, trust};
use harness::dns::Server;
use harness::originals::Originals;
use harness::site::{Host, Site};
use harness::{Daemon, Scratch, ports};
use protocol::base64;

const HOST: &str = "mail.example.com";
const PASSWORD: &str = "secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
}

/// A running site. Fields are dropped in order: who runs first, then the directory.
struct Rig {
    ours: Vec<(&'static str, Daemon)>,
    theirs: Option<Originals>,
    site: Site,
    /// Where clients are: 127.0.0.1, or where nobody takes them for a neighbour.
    source: Ipv4Addr,
    _scratch: Scratch,
}

impl Rig {
    /// Lays `sample` out, with a name server or without, and starts it after `prepare`.
    #[track_caller]
    fn start(
        sample: &str,
        whose: Whose,
        names: Option<&Server>,
        prepare: impl FnOnce(&Site),
    ) -> Self {
        let scratch = Scratch::new();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(sample);
        let host = Host { nameserver: names.map(Server::address), ..Host::default() };
        let site = Site::render_for(&host, &path, &scratch.directory("s"), |_| ports::free());
        prepare(&site);
        let (mut ours, mut theirs) = (Vec::new(), None);
        match whose {
            Whose::Ours => {
                let start = |name| (name, site.start_as_configured(name));
                ours.extend(site.daemons().map(start));
            }
            Whose::Theirs => theirs = Some(Originals::start(&site)),
        }
        Self { ours, theirs, site, source: Ipv4Addr::LOCALHOST, _scratch: scratch }
    }

    #[track_caller]
    fn connect(&self, port: &str) -> Client {
        Client::from(self.source, self.site.port(port))
    }

    /// Greeted and inside TLS, on port 587.
    #[track_caller]
    fn submission(&self) -> Client {
        let mut client = self.connect("submission");
        assert!(client.reply().starts_with("220 "), "{}", client.transcript);
        client.expect("EHLO client.example.com", "250");
        client.expect("STARTTLS", "220");
        let mut client = client.start_tls(HOST, &trust(&self.site.ca));
        client.expect("EHLO client.example.com", "250");
        client
    }

    /// And logged in.
    #[track_caller]
    fn logged_in(&self, user: &str) -> Client {
        let mut client = self.submission();
        client.expect(&plain(user, PASSWORD), "235 2.7.0");
        client
    }

    /// TLS from the first byte.
    #[track_caller]
    fn tls(&self, port: &str) -> Client {
        Client::tls(self.site.port(port), HOST, &trust(&self.site.ca))
    }
}

fn plain(user: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", base64::encode(format!("\0{user}\0{password}").as_bytes()))
}

/// One message on an open conversation.
#[track_caller]
fn send(client: &mut Client, from: &str, to: &str, subject: &str) {
    client.expect(&format!("MAIL FROM:<{from}>"), "250 2.1.0");
    client.expect(&format!("RCPT TO:<{to}>"), "250 2.1.5");
    client.expect("DATA", "354");
    let content = format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nX-Mailer: a program\r\n\
         Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{}@client.example.com>\r\n\r\nOne line\r\n.",
        subject.replace(' ', "-")
    );
    client.expect(&content, "250 2.0.0 Ok: queued as ");
}

/// Whether both kinds can play here.
fn can_run() -> bool {
    harness::skip::can_run(true, &["postfix", "dovecot", "opendkim", "unshare"])
}
