//! The originals and clients that the suites run against, from the distribution's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::run::{Done, must, target_directory};

/// Debian's and Ubuntu's packages, each with a file that shows that it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("postfix", "/usr/sbin/postfix"),
    ("postfix-pcre", "/usr/lib/postfix/postfix-pcre.so"),
    ("dovecot-core", "/usr/sbin/dovecot"),
    ("dovecot-imapd", "/usr/lib/dovecot/imap"),
    ("dovecot-pop3d", "/usr/lib/dovecot/pop3"),
    ("dovecot-lmtpd", "/usr/lib/dovecot/lmtp"),
    ("swaks", "/usr/bin/swaks"),
    ("libnet-ssleay-perl", "/usr/lib/x86_64-linux-gnu/perl5/5.36/Net/SSLeay.pm"),
    ("isync", "/usr/bin/mbsync"),
    ("fetchmail", "/usr/bin/fetchmail"),
    ("msmtp", "/usr/bin/msmtp"),
    ("mutt", "/usr/bin/mutt"),
    ("getmail6", "/usr/bin/getmail"),
    ("offlineimap3", "/usr/bin/offlineimap"),
    ("bsdutils", "/usr/bin/script"),
    ("curl", "/usr/bin/curl"),
    ("python3", "/usr/bin/python3"),
    ("strace", "/usr/bin/strace"),
    ("libpam0g", "/lib/x86_64-linux-gnu/libpam.so.0"),
    ("systemd", "/usr/bin/systemd-analyze"),
    ("util-linux", "/usr/bin/unshare"),
    ("opendkim", "/usr/sbin/opendkim"),
    ("fail2ban", "/usr/bin/fail2ban-regex"),
    ("pflogsumm", "/usr/sbin/pflogsumm"),
    ("opendkim-tools", "/usr/sbin/opendkim-testkey"),
    ("python3-dkim", "/usr/lib/python3/dist-packages/dkim/__init__.py"),
    ("python3-nacl", "/usr/lib/python3/dist-packages/nacl/__init__.py"),
    ("openssl", "/usr/bin/openssl"),
    ("rspamd", "/usr/bin/rspamd"),
    ("clamav-daemon", "/usr/sbin/clamd"),
    ("clamav-milter", "/usr/sbin/clamav-milter"),
];

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what the suites need and is missing. Where that cannot be done, the tests that need a peer say that they were
/// skipped.
pub fn install() -> Done {
    install_these(PACKAGES)
}

/// Installs those of `packages` whose file is missing, where that can be done: as root on a machine with apt. Their
/// services are not started.
pub fn install_these(packages: &[(&str, &str)]) -> Done {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    if let Err(problem) = modern_dovecot() {
        println!("the tests against Dovecot 2.4 will be skipped: {problem}");
    }
    if missing.is_empty()
        || !nix::unistd::geteuid().is_root()
        || !Path::new("/usr/bin/apt-get").exists()
    {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let ours = !Path::new(POLICY).exists();
    if ours {
        let script = "#!/bin/sh\nexit 101\n";
        fs::write(POLICY, script).map_err(|error| format!("{POLICY}: {error}"))?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("{POLICY}: {error}"))?;
    }
    let apt = |words: &[&str]| {
        must(Command::new("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(missing);
    let done = apt(&["update", "-qq"]).and_then(|()| apt(&install));
    if ours {
        fs::remove_file(POLICY).map_err(|error| format!("{POLICY}: {error}"))?;
    }
    done
}

/// Debian 13's Dovecot: what its `doveconf` needs to run beside the distribution's own files.
const MODERN: &[&str] = &["dovecot-core", "libc6", "libgcc-s1", "liblzma5", "libunwind8"];

/// Unpacks the `doveconf` of Dovecot 2.4 into `target/peers/dovecot-2.4`, once: some 15 MB are fetched.
fn modern_dovecot() -> Done {
    let peers = target_directory().join("peers");
    let root = peers.join("dovecot-2.4");
    if root.join("usr/bin/doveconf").exists() || !Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    let work = peers.join("fetch");
    for directory in ["lists/partial", "cache/archives/partial", "debs"] {
        let path = work.join(directory);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let list = work.join("sources.list");
    let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let source = format!("deb [signed-by={keys}] http://deb.debian.org/debian trixie main\n");
    fs::write(&list, source).map_err(|error| format!("{}: {error}", list.display()))?;
    let apt = || {
        let mut apt = Command::new("apt-get");
        let directory = |name: &str| work.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={}", directory("lists")),
            format!("Dir::Cache={}", directory("cache")),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt.arg("-qq").current_dir(work.join("debs"));
        apt
    };
    must(apt().arg("update"))?;
    must(apt().arg("download").args(MODERN))?;
    let unpacked = work.join("root");
    let debs = work.join("debs");
    for deb in fs::read_dir(&debs).map_err(|error| format!("{}: {error}", debs.display()))? {
        let deb = deb.map_err(|error| error.to_string())?.path();
        must(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    }
    fs::rename(&unpacked, &root).map_err(|error| format!("{}: {error}", root.display()))?;
    fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))
}
