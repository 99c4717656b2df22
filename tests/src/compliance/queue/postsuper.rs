//! `postsuper` of both on the same queue: same words, same files afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::postfix::Postfix;
use harness::{Scratch, binaries, skip};

/// Where a file lies, its name and its mode. The name does not fit the inode.
const FILES: &[(&str, u32)] = &[
    ("incoming/AAAAA11111", 0o700),
    ("active/BBBBB22222", 0o700),
    ("deferred/C/CCCCC33333", 0o700),
    ("deferred/C/CCCCC55555", 0o740),
    ("deferred/AAAAA99999", 0o700), // not where its name belongs
    ("hold/DDDDD44444", 0o700),
    ("incoming/EEEEE66666", 0o600), // not complete
    ("incoming/999.888", 0o600),    // no id
    ("maildrop/FFFFF77777", 0o744),
    ("maildrop/12345.1", 0o600),
    ("corrupt/ABCDE88888", 0o700),
    ("defer/C/CCCCC33333", 0o600),
    ("bounce/BBBBB22222", 0o600),
    ("defer/0/0123456789", 0o600), // of a message that is gone
];

/// These have lain there for ten days.
const OLD: &[&str] = &["incoming/EEEEE66666", "maildrop/12345.1", "maildrop/FFFFF77777"];

const RUNS: &[(&[&str], &str)] = &[
    (&["-d", "CCCCC33333"], ""),
    (&["-d", "BBBBB22222", "-d", "AAAAA11111", "deferred"], ""),
    (&["-d", "ALL"], ""),
    (&["-d", "ALL", "deferred"], ""),
    (&["-d", "ALL", "hold", "maildrop", "defer"], ""),
    (&["-d", "NOPE", "-d", "bad id", "-d", "../x"], ""),
    (&["-d", "EEEEE66666"], ""),
    (&["-d", "FFFFF77777"], ""),
    (&["-d", "ABCDE88888"], ""),
    (&["-d", "all"], ""),
    (&["-d", "-"], "AAAAA11111\nCCCCC33333 x\n\nNOPE\nALL\nDDDDD44444"),
    (&["-h", "CCCCC33333"], ""),
    (&["-h", "DDDDD44444"], ""),
    (&["-h", "EEEEE66666"], ""),
    (&["-h", "ALL"], ""),
    (&["-h", "ALL", "deferred", "maildrop"], ""),
    (&["-h", "-"], "CCCCC55555\nBBBBB22222\n"),
    (&["-H", "DDDDD44444"], ""),
    (&["-H", "CCCCC33333"], ""),
    (&["-H", "ALL"], ""),
    (&["-H", "ALL", "deferred"], ""),
    (&["-r", "CCCCC33333"], ""),
    (&["-r", "FFFFF77777"], ""),
    (&["-r", "ALL"], ""),
    (&["-r", "ALL", "deferred"], ""),
    (&["-r", "ALL", "maildrop"], ""),
    (&["-e", "CCCCC33333", "-e", "CCCCC33333"], ""),
    (&["-e", "ALL"], ""),
    (&["-f", "DDDDD44444"], ""),
    (&["-f", "CCCCC55555"], ""),
    (&["-f", "ALL"], ""),
    (&["-h", "AAAAA11111", "-d", "BBBBB22222", "-r", "CCCCC33333"], ""),
    (&["-d", "ALL", "-h", "ALL"], ""),
    (&["-p"], ""),
    (&["-s"], ""),
    (&["-S"], ""),
    (&["-s", "deferred"], ""),
    (&[], ""),
    (&["deferred"], ""),
    (&["-d", "ALL", "corrupt"], ""),
    (&["nosuch"], ""),
    (&["-x"], ""),
    (&["-d"], ""),
];

fn owner() -> (nix::unistd::Uid, nix::unistd::Gid) {
    let user = nix::unistd::User::from_name("postfix").unwrap().unwrap();
    (user.uid, user.gid)
}

/// Fills the queue anew.
fn fill(queue: &Path) {
    let (uid, gid) = owner();
    for name in [
        "maildrop", "incoming", "active", "deferred", "hold", "bounce", "defer", "trace", "corrupt",
    ] {
        let directory = queue.join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        nix::unistd::chown(&directory, Some(uid), Some(gid)).unwrap();
    }
    for (name, mode) in FILES {
        let path = queue.join(name);
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        nix::unistd::chown(parent, Some(uid), Some(gid)).unwrap();
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        nix::unistd::chown(&path, Some(uid), Some(gid)).unwrap();
        if OLD.contains(name) {
            let old = std::time::SystemTime::now() - std::time::Duration::from_secs(864_000);
            fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }
    }
}

/// What each file is now: its directory, its mode, and its name or that it fits the inode.
fn look(queue: &Path) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut walk: Vec<PathBuf> = vec![queue.to_owned()];
    while let Some(directory) = walk.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if entry.file_name() != "pid" {
                    walk.push(entry.path());
                }
                continue;
            }
            let what = fs::read_to_string(entry.path()).unwrap_or_default();
            if !what.contains('/') {
                continue; // a lock, not ours
            }
            let path = entry.path().strip_prefix(queue).unwrap().display().to_string();
            let fits = format!("{:X}", metadata.ino());
            let known = FILES.iter().find(|(name, _)| *name == what).unwrap().0;
            let message = ["incoming", "active", "deferred", "hold", "maildrop"];
            // A log is renamed with its message.
            let named = match message.iter().any(|queue| known.starts_with(queue)) {
                true => path.replace(&fits, "INODE"),
                false => path.get(..path.len().min(13)).unwrap_or(&path).to_owned(),
            };
            seen.insert(what, format!("{named} {:o}", metadata.mode() & 0o7777));
        }
    }
    seen
}

fn run(
    program: &Path,
    postfix: &Postfix,
    words: &[&str],
    input: &str,
) -> (Vec<String>, Option<i32>) {
    let mut child = Command::new(program)
        .args(words)
        .env("MAIL_CONFIG", postfix.config())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // getopt's own line, and files in the order of the directory.
    let mut lines: Vec<String> = text
        .lines()
        .filter(|line| !line.contains("overriding earlier entry"))
        .filter(|line| !line.contains(": invalid option -- ") && !line.contains(" requires an arg"))
        .map(str::to_owned)
        .collect();
    if words.contains(&"ALL")
        || words.iter().all(|word| !word.starts_with(['-']) || word.len() == 2)
    {
        lines.sort_by_key(|line| line.contains("bogus file name").then(|| line.clone()));
    }
    (lines, output.status.code())
}

#[test]
fn both_postsupers_do_the_same() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let postfix = Postfix::lay(&scratch, "maillog_file =\n");
    postfix.check();
    let mut differing = Vec::new();
    for (words, input) in RUNS {
        fill(&postfix.queue());
        let theirs = run(Path::new("/usr/sbin/postsuper"), &postfix, words, input);
        let expected = (theirs, look(&postfix.queue()));
        fill(&postfix.queue());
        let ours = run(&binaries::path("postsuper"), &postfix, words, input);
        let got = (ours, look(&postfix.queue()));
        if got != expected {
            let files = |seen: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
                let mut seen = seen.clone();
                seen.retain(|file, what| other.get(file) != Some(what));
                format!("{seen:?}")
            };
            differing.push(format!(
                "{words:?}:\n theirs {:?} {}\n ours   {:?} {}",
                expected.0,
                files(&expected.1, &got.1),
                got.0,
                files(&got.1, &expected.1)
            ));
        }
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// Only root may, and only on the queue that it names.
#[test]
fn postsuper_is_for_the_superuser() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    use std::os::unix::process::CommandExt as _;
    let said = |program: &Path| {
        let output = Command::new(program).args(["-d", "ALL"]).uid(65_534).gid(65_534).output();
        let output = output.unwrap();
        (String::from_utf8_lossy(&output.stderr).into_owned(), output.status.code())
    };
    let scratch = Scratch::new();
    let copy = scratch.join("postsuper"); // where anybody may start it
    fs::copy(binaries::path("postsuper"), &copy).unwrap();
    assert_eq!(said(&copy), said(Path::new("/usr/sbin/postsuper")));
}
