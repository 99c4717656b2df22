//! What only the programs of one test see of `/etc` and `/dev`: some more users, one PAM service, and a system log.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Log, Scratch};

/// `secret`
const HASH: &str = "$6$RlmCoLV3EnPDquOZ$HshOtrFQq2w.81WQvaktteiPT.XABAjFxWnai38ETiBA0Ws3fxlEOl4oSFPymWkqHsiefYzZoYjVDUfnWXy9H/";

/// A mount namespace for each program that [`PrivateHost::enter`]s it, with the same files.
#[derive(Debug)]
pub struct PrivateHost {
    directory: PathBuf,
    /// What was written to `/dev/log`: `ident: text`, without priority and time.
    pub syslog: Log,
}

impl PrivateHost {
    /// The users `info`, `old` (its account has expired), `must` (has to choose a password) and `locked`, all with the
    /// password `secret`; `/etc/pam.d` holds one service, `dovecot`.
    #[track_caller]
    pub fn lay(scratch: &Scratch, name: &str) -> Self {
        let directory = scratch.directory(name);
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
        let shadow = std::fs::read_to_string("/etc/shadow").unwrap();
        let users = "info:x:4003:4003::/home/info:/bin/sh\nold:x:4004:4004::/home/old:/bin/sh\n\
                     must:x:4005:4005::/home/must:/bin/sh\nlocked:x:4006:4006::/home/locked:/bin/sh\n";
        std::fs::write(directory.join("passwd"), format!("{passwd}{users}")).unwrap();
        let lines = format!(
            "{shadow}info:{HASH}:19000:0:99999:7:::\nold:{HASH}:19000:0:99999:7::100:\n\
             must:{HASH}:0:0:99999:7:::\nlocked:!{HASH}:19000:0:99999:7:::\n"
        );
        std::fs::write(directory.join("shadow"), lines).unwrap();
        let service = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";
        std::fs::write(directory.join("pam"), service).unwrap();
        std::fs::create_dir(directory.join("dev")).unwrap();
        let syslog = Log::default();
        let path = directory.join("log");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let lines = syslog.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                // <86>Nov 22 04:00:00 ident: text
                let text = text.split_once('>').map_or(text.as_str(), |(_, text)| text);
                lines.push(text.get(16..).unwrap_or_default().trim_end().to_owned());
            }
        });
        Self { directory, syslog }
    }

    /// Puts a command into a namespace where all this stands.
    pub fn enter(&self, command: &mut Command) {
        let here = self.directory.display();
        let script = format!(
            "set -e; mount --bind {here}/passwd /etc/passwd; mount --bind {here}/shadow /etc/shadow; \
             mount -t tmpfs tmpfs /etc/pam.d; cp {here}/pam /etc/pam.d/dovecot; \
             mount -t tmpfs tmpfs {here}/dev; ln -s {here}/log {here}/dev/log; ln -s /proc/self/fd {here}/dev/fd; \
             for each in null zero full random urandom; do \
             : >{here}/dev/$each; mount --bind /dev/$each {here}/dev/$each; done; \
             mount --rbind {here}/dev /dev; exec \"$@\""
        );
        let mut wrapped = Command::new("unshare");
        wrapped.args(["-m", "--propagation", "private", "sh", "-c", &script, "sh"]);
        wrapped.arg(command.get_program()).args(command.get_args());
        wrapped.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        *command = wrapped;
    }
}
