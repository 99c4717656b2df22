//! Debian's Postfix, Dovecot and OpenDKIM on a rendered sample, in the foreground as in a container: what our daemons do
//! on the same files, they do.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::log::eventually;
use crate::site::Site;

/// Running originals. Dropping them ends them, and waits for it.
pub struct Originals {
    postfix: PathBuf,
    master: i32,
    children: Vec<Child>,
    filter: Option<Child>,
}

impl Originals {
    /// Starts what the site configures; its log is theirs, whatever it says about one.
    #[track_caller]
    pub fn start(site: &Site) -> Self {
        make_tables(site);
        log_to_stdout(site);
        let mut children = Vec::new();
        let filter = site.root().join("etc/opendkim.conf").exists().then(|| filter(site));
        let dovecot = site.dovecot();
        children.push(start(site, &["dovecot", "-F", "-c", dovecot.to_str().unwrap()]));
        site.log.wait_for("starting up");
        let postfix = site.postfix();
        children.push(start(site, &["postfix", "-c", postfix.to_str().unwrap(), "start-fg"]));
        site.log.wait_for("daemon started");
        let master = eventually("Postfix's master.pid", || {
            fs::read_to_string(site.queue().join("pid/master.pid")).ok()?.trim().parse().ok()
        });
        let port = site.port("smtp");
        eventually("Postfix's port", || TcpStream::connect((site.address(), port)).ok().map(drop));
        Self { postfix, master, children, filter }
    }

    /// Ends OpenDKIM alone.
    pub fn stop_filter(&mut self) {
        if let Some(mut child) = self.filter.take() {
            end(&mut child);
        }
    }
}

impl Drop for Originals {
    fn drop(&mut self) {
        let stop = Command::new("postfix").arg("-c").arg(&self.postfix).arg("stop").output();
        drop(stop);
        eventually("Postfix's master to end", || {
            (!PathBuf::from(format!("/proc/{}", self.master)).exists()).then_some(())
        });
        self.stop_filter();
        self.children.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let _ = child.wait();
}

/// A program in the foreground, its output in the site's log; names are resolved where the site says.
fn start(site: &Site, words: &[&str]) -> Child {
    let mut command = match site.nameserver() {
        None => Command::new(words[0]),
        Some(server) => {
            let names = site.root().join("resolv.conf");
            fs::write(&names, format!("nameserver {}\n", server.ip())).unwrap();
            let mut command = Command::new("unshare");
            let script = "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"";
            command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
            command.arg(names).arg(words[0]);
            command
        }
    };
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    site.log.follow(child.stdout.take().unwrap());
    site.log.follow(child.stderr.take().unwrap());
    child
}

fn filter(site: &Site) -> Child {
    let conf = site.root().join("etc/opendkim.conf");
    let child = start(site, &["opendkim", "-f", "-x", conf.to_str().unwrap()]);
    if !fs::read_to_string(&conf).unwrap().contains("local:") {
        let at = (site.address(), site.port("milter"));
        eventually("OpenDKIM's port", || TcpStream::connect(at).ok().map(drop));
    }
    child
}

/// The databases of `hash:` tables.
fn make_tables(site: &Site) {
    let text = fs::read_to_string(site.postfix().join("main.cf")).unwrap();
    for word in text.split([' ', ',', '\n']) {
        let Some(path) = word.strip_prefix("hash:") else { continue };
        let command = if path.ends_with("aliases") { "postalias" } else { "postmap" };
        let made = Command::new(command).arg("-c").arg(site.postfix()).arg(word).output().unwrap();
        assert!(
            made.status.success(),
            "{command} {word}: {}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
}

/// Where the sample leaves the log to syslog, it comes out here too.
fn log_to_stdout(site: &Site) {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    let (main, master) = (site.postfix().join("main.cf"), site.postfix().join("master.cf"));
    if !read(&main).contains("maillog_file") {
        site.set_main("maillog_file", "/dev/stdout");
    }
    let services = read(&master);
    if !services.contains("postlogd") {
        fs::write(&master, format!("{services}postlog unix-dgram n - n - 1 postlogd\n")).unwrap();
    }
    let dovecot = site.dovecot();
    // A listener's owner has to have a name there, and the tests' vmail has none.
    let vmail = format!("    user = {}\n", crate::dovecot::VMAIL);
    let text = read(&dovecot).replace(&vmail, "    user = root\n");
    // A container's own root is enough of a cage.
    let stats = "service stats {\n  chroot =\n}\n";
    let log = if text.contains("log_path") { "" } else { "log_path = /dev/stdout\n" };
    fs::write(&dovecot, format!("{text}{log}{stats}")).unwrap();
}
