//! System users and a PAM service that only the demo sees: a mount namespace with its own passwd, shadow, group and pam.d.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use harness::site::Site;

use crate::run::{Done, must};

/// The PAM service of the demo.
const SERVICE: &str = "theoris-demo";
/// The user `info`, whose password is `secret`.
const UID: u32 = 62_500;
const HASH: &str = "$6$theorisdemo$Mmh/s13LhVpm3uLQgLMNrFbFuJmMIYRJVJieou/u5/x9FbaH095hYq7q.eMm4r.68aiVE3A/gN/lrLwpvd25b0";

/// Starts the demo again, as root, where the machine's account files are covered by copies with the demo's users.
pub fn run_in_own_namespace(samples: &Path, directory: &Path, once: bool) -> Done {
    let text = |error: std::io::Error| format!("{}: {error}", directory.display());
    let accounts = directory.join("accounts");
    fs::DirBuilder::new().mode(0o755).create(&accounts).map_err(text)?;
    super::user::copy_tree(samples, &directory.join("etc")).map_err(text)?;
    fs::create_dir_all(directory.join("state")).map_err(text)?;
    let home = directory.join("home/info");
    fs::create_dir_all(&home).map_err(text)?;
    nix::unistd::chown(&home, Some(UID.into()), Some(UID.into()))
        .map_err(|error| format!("{}: {error}", home.display()))?;
    let mut passwd = with_users("/etc/passwd", &["postfix", "dovecot", "dovenull"], |name, id| {
        format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n")
    })?;
    passwd.push_str(&format!("info:x:{UID}:{UID}:Info:{}:/bin/sh\n", home.display()));
    let mut group = with_users(
        "/etc/group",
        &["postfix", "postdrop", "dovecot", "dovenull", "mail"],
        |name, id| format!("{name}:x:{id}:\n"),
    )?;
    group.push_str(&format!("info:x:{UID}:\n"));
    let shadow =
        fs::read_to_string("/etc/shadow").map_err(|error| format!("/etc/shadow: {error}"))?;
    let shadow = format!("{shadow}info:{HASH}:20000:0:99999:7:::\n");
    for (name, text_of, mode) in
        [("passwd", passwd, 0o644), ("group", group, 0o644), ("shadow", shadow, 0o600)]
    {
        fs::write(accounts.join(name), text_of).map_err(text)?;
        fs::set_permissions(accounts.join(name), fs::Permissions::from_mode(mode)).map_err(text)?;
    }
    super::user::copy_tree(Path::new("/etc/pam.d"), &accounts.join("pam.d")).map_err(text)?;
    fs::write(
        accounts.join("pam.d").join(SERVICE),
        "auth required pam_unix.so\naccount required pam_unix.so\n",
    )
    .map_err(text)?;
    // The build may just have replaced the file that this program was started from.
    let this = format!("/proc/{}/exe", std::process::id());
    let binds: String = ["passwd", "group", "shadow", "pam.d"]
        .iter()
        .map(|name| format!("mount --bind '{}/{name}' /etc/{name} && ", accounts.display()))
        .collect();
    let once = if once { "--once" } else { "" };
    let script = format!("{binds}exec {this} demo --pam {once} --inside '{}'", directory.display());
    println!("continuing where only the demo sees its users and the PAM service {SERVICE}");
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation", "private", "/bin/sh", "-c", &script]);
    must(unshare.env("THEORIS_BIN_DIR", crate::run::release_directory()))
}

/// An account file with these names added where they are missing.
fn with_users(
    path: &str,
    names: &[&str],
    line: impl Fn(&str, u32) -> String,
) -> Result<String, String> {
    let mut text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    for (name, id) in names.iter().zip(62_501..) {
        if !text.lines().any(|known| known.split(':').next() == Some(name)) {
            text.push_str(&line(name, id));
        }
    }
    Ok(text)
}

/// Names the demo's PAM service in the rendered dovecot.conf.
pub fn use_own_service(site: &Site) -> Done {
    let path = site.dovecot();
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = text.replace("  driver = pam\n", &format!("  driver = pam\n  args = {SERVICE}\n"));
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}
