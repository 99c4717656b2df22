//! Trees of Debian releases with systemd and the originals; made once and kept outside the repository.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{Done, command, must};

/// What Debian installs beside its base: the originals, and what looks at them.
const PACKAGES: &str = "postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd opendkim opendkim-tools \
                        rsyslog fail2ban python3-minimal libpython3-stdlib openssl";

/// Services start only when a test starts them.
const NOTHING_STARTS: &str = "#!/bin/sh\nexit 101\n";

/// The tree of `release` (`bookworm`, `trixie`), made when it is not there: some minutes, and 700 MB.
///
/// # Errors
///
/// What debootstrap or apt said.
pub fn tree(release: &str) -> Result<PathBuf, String> {
    let directory = cache()?;
    let tree = directory.join(release);
    if tree.is_dir() {
        return Ok(tree);
    }
    println!("making a Debian {release} in {} (once, some minutes)", tree.display());
    let half = directory.join(format!("{release}.half"));
    let text = |error: std::io::Error| format!("{}: {error}", half.display());
    if half.exists() {
        fs::remove_dir_all(&half).map_err(text)?;
    }
    fs::create_dir_all(&half).map_err(text)?;
    let mut debootstrap = command("debootstrap");
    debootstrap.arg("--include=systemd,systemd-sysv,dbus,ca-certificates,iproute2,procps");
    must(debootstrap.arg(release).arg(&half).arg(mirror()?))?;
    originals(&half)?;
    fs::rename(&half, &tree).map_err(text)?;
    Ok(tree)
}

fn originals(tree: &Path) -> Done {
    let policy = tree.join("usr/sbin/policy-rc.d");
    let text = |error: std::io::Error| format!("{}: {error}", policy.display());
    fs::write(&policy, NOTHING_STARTS).map_err(text)?;
    must(command("chmod").arg("755").arg(&policy))?;
    must(command("cp").arg("/etc/resolv.conf").arg(tree.join("etc/resolv.conf")))?;
    let script = format!(
        "echo 'postfix postfix/main_mailer_type select Internet Site' | debconf-set-selections && \
         echo 'postfix postfix/mailname string mail.example.com' | debconf-set-selections && \
         apt-get install -y --no-install-recommends {PACKAGES}"
    );
    let mut install = command("chroot");
    install.arg(tree).args(["/bin/sh", "-c", &script]);
    must(install.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"))?;
    fs::remove_file(&policy).map_err(text)
}

/// `$XDG_CACHE_HOME/theoris/hosts`, or below `~/.cache`.
fn cache() -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let base = base.ok_or("neither HOME nor XDG_CACHE_HOME says where images are kept")?;
    Ok(base.join("theoris/hosts"))
}

/// The mirror of Debian that this machine's own apt uses.
fn mirror() -> Result<String, String> {
    let lists = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    let files = lists.map(|entry| entry.path()).chain([PathBuf::from("/etc/apt/sources.list")]);
    // As apt does: others are somebody's copies.
    let files =
        files.filter(|file| file.extension().is_some_and(|end| end == "list" || end == "sources"));
    for file in files {
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let mut words = line.split_whitespace();
            if matches!(words.next(), Some("URIs:" | "deb"))
                && let Some(mirror) = words.find(|word| word.contains("://"))
                && mirror.trim_end_matches('/').ends_with("/debian")
            {
                return Ok(mirror.to_owned());
            }
        }
    }
    Err("no mirror of Debian in /etc/apt/sources.list or /etc/apt/sources.list.d".into())
}
