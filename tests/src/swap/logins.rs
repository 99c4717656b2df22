//! Logins at Postfix while Dovecot, which is asked, is reloaded by `theoris adopt` and `release`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use harness::client::Client;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::skip;
use harness::strace::attached;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lines::complaints;
use super::login::{AT_A_RELOAD, site_beside};

const CLIENTS: usize = 3;
/// For each socket that Dovecot makes: with dozens of them auth's is gone for some tenths of a second, and not for the
/// half of a millisecond that it usually is.
const EACH_SOCKET: &str = "inject=bind:delay_enter=10000";

/// strace that makes Dovecot's master slow.
struct Slow(Child);

impl Slow {
    fn begin(master: i32) -> Self {
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-e", "trace=bind", "-e", EACH_SOCKET]);
        command.args(["-p", &master.to_string()]);
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        attached(&[master]);
        Self(strace)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// Clients that log in, each at an smtpd that has just started, and one that looks at the socket.
struct Clients {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(port: u16, socket: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (served, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let client = |_| {
            let (stop, served) = (stop.clone(), served.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    logs_in(port);
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        let mut threads: Vec<_> = (0..CLIENTS).map(client).collect();
        let (stopped, counted) = (stop.clone(), gone.clone());
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                counted.fetch_add(usize::from(!socket.exists()), Ordering::SeqCst);
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }));
        Self { stop, served, gone, threads }
    }

    #[track_caller]
    fn flow(&self) {
        let now = self.served.load(Ordering::SeqCst);
        eventually("logins", || {
            let more = self.served.load(Ordering::SeqCst) >= now + 2 * CLIENTS;
            (more || self.threads.iter().any(JoinHandle::is_finished)).then_some(())
        });
    }

    /// Nobody has met an smtpd that did not serve.
    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn logs_in(port: u16) {
    let mut client = Client::tcp(port);
    // \0alice@example.org\0secret
    let login = "AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==";
    let greeting = client.reply();
    assert!(greeting.starts_with("220"), "{greeting:?}");
    for (line, wanted) in [("EHLO client.example", "250"), (login, "235"), ("QUIT", "221")] {
        let answer = client.ask(line);
        assert!(answer.starts_with(wanted), "{}", client.transcript);
    }
}

/// An smtpd that starts while Dovecot makes its sockets anew would end with `no SASL authentication mechanisms`, and master
/// would start no other one for a minute.
#[test]
fn no_smtpd_starts_while_the_socket_for_logins_is_gone() {
    if !skip::can_run(true, &["dovecot", "postfix", "unshare", "strace"]) {
        return;
    }
    let site = site_beside("!include_try conf.d/*.conf", |scratch, dovecot| {
        let socket = dovecot.socket("auth-client");
        let mut postfix = Postfix::lay(
            scratch,
            &format!(
                "max_use = 1\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n",
                socket.display()
            ),
        );
        postfix.start();
        Some(postfix)
    });
    let clients = Clients::start(site.host.postfix().port, site.dovecot.socket("auth-client"));
    clients.flow();
    for verb in ["adopt", "release"] {
        let gone = clients.gone.load(Ordering::SeqCst);
        let slow = Slow::begin(site.dovecot.master_pid());
        site.host.must(&[verb, "pop3"]);
        drop(slow);
        assert!(clients.gone.load(Ordering::SeqCst) > gone, "Dovecot was reloaded");
        clients.flow();
    }
    site.host.no_complaints(&[]);
    clients.end();
    let log = std::fs::read_to_string(site.host.scratch.join("dovecot.log")).unwrap();
    let bad = complaints(&log, AT_A_RELOAD);
    assert!(bad.is_empty(), "{bad:#?}");
}
