//! main.cf and master.cf, ours and postconf's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ::config::files::Disk;
use ::config::postfix::{self, Host};
use ::config::{Problems, register};
use harness::Scratch;

/// `postconf -c DIRECTORY ARGUMENTS`, its warnings dropped.
fn postconf(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("/usr/sbin/postconf")
        .arg("-c")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "postconf {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    let pair =
        |line: &str| line.split_once(" =").map(|(name, value)| (name.to_owned(), one_line(value)));
    text.lines().filter_map(pair).collect()
}

/// postconf and we keep different numbers of blanks where lines are joined.
fn one_line(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Values that depend on the process that asks.
const OF_THE_PROCESS: &[&str] = &["process_id", "process_name", "service_name", "debugger_command"];

/// Writes a file as of an hour ago: Postfix reads one that has just changed again and again until it has settled.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(3600)).unwrap();
}

/// Every parameter of the installed Postfix, expanded, and the ones written, as postconf has them.
#[track_caller]
fn same_values(directory: &Path) {
    let mut problems = Problems::default();
    let host = Host::read(&Disk, directory, &mut problems);
    let view = host.main();
    for (name, theirs) in pairs(&postconf(directory, &["-x"])) {
        let Some(fact) = register::find(postfix::FACTS, &name) else { continue };
        if OF_THE_PROCESS.contains(&name.as_str()) || fact.kind == "raw" {
            continue;
        }
        let ours =
            view.text(&name, &mut problems).map(|text| one_line(text.as_str())).unwrap_or_default();
        assert_eq!(ours, theirs, "{name} in {}", directory.display());
    }
    let theirs = pairs(&postconf(directory, &["-n"]));
    for (name, value) in &theirs {
        if name != "config_directory" {
            assert_eq!(
                view.written(name).map(|value| one_line(value.as_str())).as_ref(),
                Some(value),
                "{name}"
            );
        }
    }
    // postconf -n leaves out what nothing uses; we keep it, and say so.
    for name in view.names() {
        let told = problems
            .iter()
            .any(|problem| problem.text.contains(&format!("unknown setting {name},")));
        assert!(
            told || theirs.contains_key(name),
            "{name} is not in postconf -n, and we did not say so"
        );
    }
}

/// The services and their fields as `postconf -M` has them.
#[track_caller]
fn same_services(directory: &Path) {
    let host = Host::read(&Disk, directory, &mut Problems::default());
    let theirs = postconf(directory, &["-M"]);
    let theirs: Vec<Vec<&str>> =
        theirs.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    let services: Vec<_> = host.services().collect();
    let names = |line: &Vec<&str>| format!("{} {} {}", line[0], line[1], line[7]);
    let kind = |kind| match kind {
        postfix::ServiceType::Inet => "inet",
        postfix::ServiceType::Unix => "unix",
        postfix::ServiceType::UnixDgram => "unix-dgram",
        postfix::ServiceType::Fifo => "fifo",
        postfix::ServiceType::Pass => "pass",
    };
    let ours: Vec<String> = services
        .iter()
        .map(|service| format!("{} {} {}", service.name, kind(service.kind), service.command))
        .collect();
    assert_eq!(ours, theirs.iter().map(names).collect::<Vec<_>>());
    for (service, fields) in services.iter().zip(&theirs) {
        let chroot = service.chroot.map_or("-", |chroot| if chroot { "y" } else { "n" });
        let limit = service.limit.map_or("-".to_owned(), |limit| limit.to_string());
        assert_eq!((chroot, limit.as_str()), (fields[4], fields[6]), "{}", service.name);
    }
}

/// The overrides as `postconf -P` has them.
#[track_caller]
fn same_overrides(directory: &Path) {
    let host = Host::read(&Disk, directory, &mut Problems::default());
    let theirs = pairs(&postconf(directory, &["-P"]));
    let mut ours = BTreeMap::new();
    for service in host.services() {
        let kind = format!("{:?}", service.kind).to_ascii_lowercase();
        for known in &service.overrides {
            ours.insert(
                format!("{}/{kind}/{}", service.name, known.name),
                one_line(known.value.as_str()),
            );
        }
    }
    assert_eq!(ours, theirs);
}

/// Debian's files, and each sample, mean the same to both.
#[test]
fn shipped_files_and_samples_mean_what_postconf_says() {
    if !harness::skip::can_run(false, &["postconf"]) {
        return;
    }
    let scratch = Scratch::new();
    let debian = scratch.directory("debian");
    write(
        &debian.join("main.cf"),
        &std::fs::read_to_string("/usr/share/postfix/main.cf.dist").unwrap(),
    );
    std::fs::copy("/usr/share/postfix/master.cf.dist", debian.join("master.cf")).unwrap();
    let tls = scratch.directory("tls");
    let text = ["main.cf.debian", "main.cf.tls"]
        .map(|name| std::fs::read_to_string(format!("/usr/share/postfix/{name}")).unwrap());
    write(&tls.join("main.cf"), &text.concat());
    std::fs::copy("/etc/postfix/master.cf", tls.join("master.cf")).unwrap();
    let mut all = vec![debian, tls, "/etc/postfix".into()];
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc");
    all.extend(harness::site::SAMPLES.iter().map(|sample| samples.join(sample).join("postfix")));
    for directory in all {
        same_values(&directory);
        same_services(&directory);
        same_overrides(&directory);
    }
}

/// The syntax's corners: each main.cf means the same to both.
#[test]
fn tricky_main_cf_means_what_postconf_says() {
    if !harness::skip::can_run(false, &["postconf"]) {
        return;
    }
    let cases = [
        "myhostname = a.example.com\n# comment\n\nmydestination = $myhostname,\n   localhost\n# in between\n\n\t$mydomain\n",
        "a = ${{3.7} == {3.7} ? {eq} : {ne}}\nb = ${{10} > {9} ? {n} : {t}}\nc = ${{10x} > {9} ? {n}:{t}}\nmyorigin = $a$b$c\n",
        "foo = x\nmydestination = ${foo?yes} ${foo:no} ${none?yes} ${none:no} ${foo?{a b}:{c d}} ${none?{a b}:{c d}}\n",
        "relayhost = $$literal $(myhostname) ${ myhostname } ${myhostname ? {a} : {b}}\n",
        "compatibility_level = 0\n",
        "compatibility_level = 2\nmynetworks_style = class\n",
        "compatibility_level = 3.6\nmydomain = example.org\n",
        "mynetworks_style = subnet\nmyhostname = only\n",
        "myhostname = h.example.net\nmyhostname = second.example.net\n",
        "smtpd_banner=$myhostname ESMTP\nsmtpd_client_restrictions=\n  check_client_access inline:{ {a = b}, c=d }\n  permit\n",
        "smtpd_restriction_classes = mine, yours\nmine = permit\nyours = reject\nunused_thing = 1\n",
        "maximal_queue_lifetime = 3\ndelay_warning_time = 4h\nlocal_destination_concurrency_limit = 7\n",
        "home_mailbox =\nrecipient_delimiter = +-\nforward_path = $home/.forward${recipient_delimiter}${extension}\n",
        "virtual_alias_maps = ${{$compatibility_level} <level {3.6} ? {hash:/a} : {hash:/b}}\n",
        "mydestination = ${myhostname?${mydomain:${none}}}${empty?{x}:{${{a} != {b}?{deep}}}}\nempty =\n",
    ];
    let scratch = Scratch::new();
    for (index, text) in cases.iter().enumerate() {
        let directory = scratch.directory(&index.to_string());
        write(&directory.join("main.cf"), text);
        write(&directory.join("master.cf"), "");
        same_values(&directory);
    }
}

/// Braces, continuation lines, options and operands of master.cf.
#[test]
fn tricky_master_cf_means_what_postconf_says() {
    if !harness::skip::can_run(false, &["postconf"]) {
        return;
    }
    let scratch = Scratch::new();
    let directory = scratch.directory("master");
    write(&directory.join("main.cf"), "mine = permit\n");
    let text = "# comment\nsmtp inet n - n - - smtpd\n  -o smtpd_helo_required=yes\n# between\n\n  -o { smtpd_banner = one  two }\n\
        [127.0.0.1]:10025 inet n - y - 5 smtpd -v -o syslog_name=postfix/$service_name -o mynetworks=\n\
        pickup unix n - - 60? 1 pickup\nlog unix-dgram n - n - 1 postlogd\npass pass - - n - - smtpd -o {smtpd_client_restrictions=$mine, reject}\n\
        pipe unix - n n - - pipe -o syslog_name=x\n  flags=DR user=nobody argv=/bin/true -o not=this ${recipient}\n";
    write(&directory.join("master.cf"), text);
    same_services(&directory);
    same_overrides(&directory);
    let mut problems = Problems::default();
    let host = Host::read(&Disk, &directory, &mut problems);
    let pipe = host.running("pipe").next().unwrap();
    assert_eq!(pipe.operands.first().map(|word| word.as_str()), Some("flags=DR"));
    assert_eq!(problems.to_string(), "");
}
