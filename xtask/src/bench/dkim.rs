//! Signing: how long Postfix's smtpd waits at the end of a message when a filter on a TCP port signs it, and when none does.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::client::Client;
use harness::postfix::Postfix;
use harness::{Daemon, Scratch, dkim, log, ports};

use crate::run::Done;

const MAIN: &str = "\
relay_domains = bench.example
relay_transport = discard:
in_flow_delay = 0
";

const WARM: usize = 10;
const MESSAGES: usize = 40;

/// Milliseconds of one side: the middle of all messages, without and with what Postfix itself takes.
struct Side {
    name: &'static str,
    whole: f64,
    filter: f64,
}

pub fn run(json: bool) -> Done {
    let scratch = Scratch::new();
    let directory = scratch.directory("filter");
    let key = directory.join("key");
    dkim::generate(&format!("k example.com:sel1:{}\n", key.display()), None);
    let (our_port, their_port) = (ports::free(), ports::free());
    let conf = |name: &str, port: u16, more: &str| {
        let text = format!(
            "Syslog no\nBackground no\nRequireSafeKeys no\nDomain example.com\nSelector sel1\nKeyFile {}\n\
             Canonicalization relaxed/simple\nOversignHeaders From\nSocket inet:{port}@127.0.0.1\n{more}",
            key.display()
        );
        scratch.write(name, text).display().to_string()
    };
    let our_conf = conf("ours.conf", our_port, "UserID nobody\n");
    let their_conf = conf("theirs.conf", their_port, "");
    let _ours = Daemon::start("dkim-milter", &directory, &["-x", &our_conf]);
    let _theirs = opendkim(&their_conf, their_port)
        .map_err(|error| format!("/usr/sbin/opendkim: {error}"))?;
    let mut postfix = Postfix::lay(&scratch, MAIN);
    let (with_ours, with_theirs) = (ports::free(), ports::free());
    for (port, milter) in [(with_ours, our_port), (with_theirs, their_port)] {
        postfix.add_services(&format!(
            "127.0.0.1:{port} inet n - n - - smtpd -o smtpd_milters=inet:127.0.0.1:{milter}"
        ));
    }
    postfix.start();
    let alone = median(&times(postfix.port));
    let sides: Vec<Side> = [("ours", with_ours), ("OpenDKIM", with_theirs)]
        .into_iter()
        .map(|(name, port)| {
            let whole = median(&times(port));
            Side { name, whole, filter: whole - alone }
        })
        .collect();
    if json {
        let figures: Vec<String> = sides
            .iter()
            .map(|side| {
                format!(
                    "\"{}\":{{\"message_ms\":{:.3},\"filter_ms\":{:.3}}}",
                    side.name, side.whole, side.filter
                )
            })
            .collect();
        println!("{{\"bench\":\"dkim\",\"alone_ms\":{alone:.3},{}}}", figures.join(","));
        return Ok(());
    }
    println!(
        "\nend of a message to 250, milliseconds, medians of {MESSAGES} (without a filter: {alone:.2})"
    );
    println!("{:<12} {:>10} {:>12}", "", "message", "in the filter");
    for side in &sides {
        println!("{:<12} {:>10.2} {:>12.2}", side.name, side.whole, side.filter);
    }
    Ok(())
}

/// OpenDKIM, ended with the figure.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn opendkim(conf: &str, port: u16) -> Result<Peer, std::io::Error> {
    let mut command = Command::new("/usr/sbin/opendkim");
    command
        .args(["-f", "-x", conf])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = command.spawn()?;
    log::eventually("OpenDKIM's port", || TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
    Ok(Peer(child))
}

/// From the final dot to the answer.
fn times(port: u16) -> Vec<Duration> {
    let mut client = Client::tcp(port);
    client.reply();
    client.expect("EHLO client.example", "250");
    let body = "A line of an ordinary message, as people write them.\r\n".repeat(20);
    let message = format!(
        "From: Alice <alice@example.com>\r\nTo: bob@bench.example\r\nSubject: bench\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n\
         Message-Id: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n{body}"
    );
    let mut times = Vec::new();
    for round in 0..WARM + MESSAGES {
        client.expect("MAIL FROM:<alice@example.com>", "250");
        client.expect("RCPT TO:<bob@bench.example>", "250");
        client.expect("DATA", "354");
        let start = Instant::now();
        client.raw(format!("{message}.\r\n").as_bytes());
        let reply = client.reply();
        assert!(reply.starts_with("250"), "{reply}");
        if round >= WARM {
            times.push(start.elapsed());
        }
    }
    times
}

fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
