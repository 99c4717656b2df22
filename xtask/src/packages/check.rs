//! What every package has to keep to: files at places of ours only, none of another package, nothing set-uid, and scripts
//! that a plain shell reads.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::tree;
use crate::run::{Done, command, must};

/// Where files of ours may stand. A directory ends with a stroke.
const OURS: &[&str] = &[
    "/usr/bin/theoris",
    "/usr/libexec/theoris/",
    "/usr/lib/systemd/system/theoris-",
    "/usr/lib/sysusers.d/theoris.conf",
    "/usr/lib/tmpfiles.d/theoris.conf",
    "/usr/share/doc/theoris/",
    "/usr/share/doc/theoris-",
    "/usr/share/man/man1/theoris",
    "/usr/share/man/man8/theoris-",
    "/usr/share/theoris/",
    "/etc/theoris/",
];

/// The originals beside which they are installed.
const BESIDE: &[&str] =
    &["postfix", "dovecot-core", "dovecot-imapd", "dovecot-pop3d", "opendkim", "fail2ban"];

/// Looks at packages that were made.
pub fn debs(made: &[PathBuf]) -> Done {
    let theirs = theirs("/var/lib/dpkg/info".as_ref());
    for name in BESIDE.iter().filter(|name| !theirs.values().any(|of| of == *name)) {
        println!(
            "{name} is not installed: whether a package of ours has a file of its was not checked"
        );
    }
    let mut seen = BTreeMap::new();
    for path in made {
        let opened = path.with_extension("opened");
        tree::fresh(&opened)?;
        must(command("dpkg-deb").arg("--raw-extract").arg(path).arg(&opened))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        one(&opened, &theirs).map_err(|problem| format!("{name}: {problem}"))?;
        for file in tree::files(&opened)?.into_iter().filter(|file| !file.starts_with("/DEBIAN/")) {
            if let Some(other) = seen.insert(file.clone(), name.clone()) {
                return Err(format!("{file} is in {other} and in {name}"));
            }
        }
        fs::remove_dir_all(&opened).map_err(tree::text(&opened))?;
    }
    Ok(())
}

/// Every file of the packages that are installed here, but for ours.
fn theirs(database: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(database).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(package) = name.strip_suffix(".list") else { continue };
        let package = package.split(':').next().unwrap_or(package);
        if package == "theoris" || package.starts_with("theoris-") {
            continue;
        }
        for path in fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            // /lib, /bin and /sbin are links to those below /usr.
            let merged = ["/lib/", "/bin/", "/sbin/"].iter().any(|old| path.starts_with(old));
            let path = if merged { format!("/usr{path}") } else { path.to_owned() };
            found.insert(path, package.to_owned());
        }
    }
    found
}

fn one(opened: &Path, theirs: &BTreeMap<String, String>) -> Done {
    let files = tree::files(opened)?;
    let mut problems = Vec::new();
    let conffiles = fs::read_to_string(opened.join("DEBIAN/conffiles")).unwrap_or_default();
    for file in &files {
        if let Some(script) = file.strip_prefix("/DEBIAN/") {
            if ["preinst", "postinst", "prerm", "postrm"].contains(&script) {
                must(command("sh").arg("-n").arg(opened.join("DEBIAN").join(script)))?;
            }
            continue;
        }
        if let Some(package) = theirs.get(file) {
            problems.push(format!("{file} belongs to {package}"));
        }
        if !OURS.iter().any(|place| file.starts_with(place)) {
            problems.push(format!("{file} is no place of ours"));
        }
        if file.starts_with("/etc/") != conffiles.lines().any(|line| line == file) {
            problems.push(format!("{file}: files below /etc, and no others, are conffiles"));
        }
        let path = opened.join(file.trim_start_matches('/'));
        let facts = fs::symlink_metadata(&path).map_err(tree::text(&path))?;
        if !facts.is_file() || facts.nlink() != 1 {
            // `postfix set-permissions` makes what is behind a classic name set-gid.
            problems.push(format!("{file} is not a file of its own"));
            continue;
        }
        let mode = facts.permissions().mode() & 0o7777;
        if mode != 0o644 && mode != 0o755 {
            problems.push(format!("{file} has mode {mode:o}"));
        }
    }
    let has = |end: &str| {
        files.iter().any(|file| file.starts_with("/usr/share/doc/") && file.ends_with(end))
    };
    for paper in ["/copyright", "/CHANGELOG.md", "/LICENSE-MIT", "/LICENSE-APACHE"] {
        if !has(paper) {
            problems.push(format!("no {paper}"));
        }
    }
    units(opened, &files, &mut problems)?;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

/// What a unit starts is in the package, and the package starts and enables nothing.
fn units(opened: &Path, files: &[String], problems: &mut Vec<String>) -> Done {
    for unit in files.iter().filter(|file| file.ends_with(".service")) {
        let path = opened.join(unit.trim_start_matches('/'));
        let text = fs::read_to_string(&path).map_err(tree::text(&path))?;
        let starts = text.lines().find_map(|line| line.strip_prefix("ExecStart="));
        let program = starts.and_then(|line| line.split(' ').next()).unwrap_or_default();
        if !files.iter().any(|file| file == program) {
            problems.push(format!("{unit} starts {program:?}, which is not in the package"));
        }
    }
    for script in ["postinst", "preinst"] {
        let text = fs::read_to_string(opened.join("DEBIAN").join(script)).unwrap_or_default();
        for verb in ["systemctl start", "systemctl enable", "deb-systemd-helper", "--now"] {
            if text.contains(verb) {
                problems.push(format!("{script} says {verb}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[(&str, u32)]) -> harness::Scratch {
        let scratch = harness::Scratch::new();
        for paper in ["copyright", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            tree::write(scratch.path(), &format!("/usr/share/doc/theoris-x/{paper}"), 0o644, "")
                .unwrap();
        }
        for (path, mode) in files {
            tree::write(
                scratch.path(),
                path,
                *mode,
                "ExecStart=/usr/libexec/theoris/x\nsystemctl start x\n",
            )
            .unwrap();
        }
        scratch
    }

    #[test]
    fn a_package_keeps_to_its_places() {
        let theirs = BTreeMap::from([("/usr/libexec/theoris/y".to_owned(), "postfix".to_owned())]);
        for (files, wanted) in [
            (&[("/usr/libexec/theoris/x", 0o755)][..], ""),
            (&[("/usr/sbin/sendmail", 0o755)], "/usr/sbin/sendmail is no place of ours"),
            (&[("/usr/libexec/theoris/y", 0o755)], "belongs to postfix"),
            (&[("/usr/libexec/theoris/x", 0o2755)], "has mode 2755"),
            (&[("/etc/theoris/x", 0o644)], "conffiles"),
            (
                &[("/usr/lib/systemd/system/theoris-x.service", 0o644)],
                "which is not in the package",
            ),
            (&[("/DEBIAN/postinst", 0o755)], "postinst says systemctl start"),
        ] {
            let scratch = package(files);
            let found = one(scratch.path(), &theirs).err().unwrap_or_default();
            assert!(
                found.contains(wanted) && found.is_empty() == wanted.is_empty(),
                "{files:?}: {found}"
            );
        }
    }

    /// `postfix set-permissions` follows links: with `postqueue` as one, the program behind it becomes set-gid postdrop.
    #[test]
    fn a_classic_name_that_is_a_link_is_refused() {
        for link in [std::os::unix::fs::symlink, fs::hard_link] as [fn(_, _) -> _; 2] {
            let program = "/usr/libexec/theoris/theoris";
            let scratch = package(&[(program, 0o755)]);
            let place = |file: &str| scratch.join(file.trim_start_matches('/'));
            link(place(program), place("/usr/libexec/theoris/postqueue")).unwrap();
            let found = one(scratch.path(), &BTreeMap::new()).unwrap_err();
            assert!(found.contains("postqueue is not a file of its own"), "{found}");
        }
        // A directory that is one would take its files past the check.
        let scratch = package(&[("/usr/libexec/theoris/x", 0o755)]);
        std::os::unix::fs::symlink(scratch.join("usr/libexec"), scratch.join("usr/lib")).unwrap();
        let found = one(scratch.path(), &BTreeMap::new()).unwrap_err();
        assert!(found.contains("/usr/lib is not a file of its own"), "{found}");
    }

    #[test]
    fn a_file_of_an_installed_package_is_known_by_its_place_below_usr() {
        let scratch = harness::Scratch::new();
        scratch.write("postfix.list", "/.\n/lib/systemd/system/postfix.service\n");
        scratch.write("theoris-smtpd.list", "/usr/libexec/theoris/smtpd\n");
        let theirs = theirs(scratch.path());
        assert_eq!(theirs.get("/usr/lib/systemd/system/postfix.service").unwrap(), "postfix");
        assert!(!theirs.contains_key("/usr/libexec/theoris/smtpd"));
    }
}
