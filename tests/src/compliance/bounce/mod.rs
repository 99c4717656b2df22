//! Delivery status notifications: the same requests go to Postfix's bounce, defer and trace services and to
//! ours, and the notices that cleanup gets from them are the same, line by line.

mod cases;
mod rig;

use std::fs;

use harness::skip;
use mail_types::QueueId;
use protocol::postfix::bounce::{BounceRequest, Notice};

use cases::{Ask, Case};
use rig::{Cast, Rig};

/// Runs all cases and tells what came of each.
fn run(cast: Cast, main: &str, files: &[(&str, &[u8])], cases: &[Case]) -> Vec<String> {
    let rig = Rig::start(cast, main, files);
    let ids: Vec<String> = (1..=cases.len()).map(|n| format!("ABCDE{n:05X}")).collect();
    let mut told: Vec<String> = Vec::new();
    for (case, id) in cases.iter().zip(&ids) {
        told.push(one(&rig, case, id));
    }
    // The last words come after the last answer.
    let last =
        Notice { queue_id: QueueId::parse("FFFFFFFFFF").unwrap(), ..cases[0].notice.clone() };
    let word =
        if main.contains("double_bounce_sender = twice") { "twice" } else { "double-bounce" };
    let sender = format!("{word}@mail.example.com");
    rig.ask("bounce", &BounceRequest::Flush(Notice { sender, ..last }));
    rig.log().wait_for("FFFFFFFFFF: undeliverable postmaster notification discarded");
    for (text, id) in told.iter_mut().zip(&ids) {
        for line in rig.said(id) {
            text.push_str(&format!("LOG {line}\n"));
        }
    }
    told
}

fn one(rig: &Rig, case: &Case, id: &str) -> String {
    let queue_id = QueueId::parse(id).unwrap();
    let offsets = case.message.as_ref().map(|message| rig.lay(id, message)).unwrap_or_default();
    let mut text = format!("## {}\n", case.name);
    if !matches!(case.ask, Ask::One) {
        for (n, (recipient, dsn)) in case.reports.iter().enumerate() {
            let mut recipient = recipient.clone();
            recipient.offset = offsets.get(n).copied().unwrap_or(0);
            let request = BounceRequest::Append {
                flags: 0,
                queue_id: queue_id.clone(),
                recipient,
                dsn: dsn.clone(),
            };
            text.push_str(&format!("append: {}\n", rig.ask(case.service, &request)));
        }
    }
    let log = rig.path(case.service, id);
    text.push_str(&String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()));
    let notice = Notice { queue_id, ..case.notice.clone() };
    text.push_str(&format!("answer: {}\n", rig.ask(case.service, &case.request(notice))));
    text.push_str(if log.exists() { "log: kept\n" } else { "log: gone\n" });
    if let Ok(file) = fs::read(rig.path("active", id)) {
        let marks: String =
            offsets.iter().map(|&at| char::from(file[usize::try_from(at).unwrap()])).collect();
        text.push_str(&format!("recipients: {marks}\n"));
    }
    for mut notice in rig.notices() {
        if case.message.is_none() {
            // Postfix forgets to close the last part (docs/differences.md).
            notice = notice.replace(&format!("N \nN --{id}.TIME/mail.example.com--\n"), "");
        }
        text.push_str(&format!("notice:\n{notice}"));
    }
    text
}

#[track_caller]
fn alike(main: &str, files: &[(&str, &[u8])], cases: &[Case]) {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let theirs = run(Cast::Theirs, main, files, cases);
    if let Some(path) = std::env::var_os("THEORIS_SHOW_NOTICES") {
        fs::write(path, theirs.concat()).unwrap();
    }
    let ours = run(Cast::Ours, main, files, cases);
    let mut differing = String::new();
    for (ours, theirs) in ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs) {
        let at = ours.lines().zip(theirs.lines()).take_while(|(a, b)| a == b).count();
        let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
        let name = theirs.lines().next().unwrap_or_default();
        differing.push_str(&format!(
            "{name}, line {at}:\n  theirs: {}\n  ours:   {}\n",
            line(theirs),
            line(ours)
        ));
    }
    assert!(differing.is_empty(), "\n{differing}");
}

#[test]
fn notices_are_alike() {
    let cases: Vec<Case> = cases::common().into_iter().chain(cases::special()).collect();
    alike("", &[], &cases);
}

/// Copies for the postmaster, threads, the old form of From, odd names.
#[test]
fn notices_of_a_curious_postmaster_are_alike() {
    let main = "notify_classes = bounce, 2bounce, delay\n2bounce_notice_recipient = doubles\n\
        bounce_notice_recipient = bounces@example.com\ndelay_notice_recipient = delays\n\
        enable_threaded_bounces = yes\nheader_from_format = obsolete\nmail_name = Post (fix) 1.0\n\
        backwards_bounce_logfile_compatibility = no\nbounce_size_limit = 500\nmyorigin = origin.example\n";
    let cases: Vec<Case> = cases::common().into_iter().chain(cases::special()).collect();
    alike(main, &[], &cases);
}

/// Without SMTPUTF8, through header checks, of any size.
#[test]
fn notices_without_utf8_are_alike() {
    let main = "smtputf8_enable = no\ninternal_mail_filter_classes = bounce\nbounce_size_limit = 5000000\n\
        header_checks = regexp:{{/^Subject:/ PREPEND X-Checked: yes}}\nnotify_classes = 2bounce\n\
        maximal_queue_lifetime = 36h\ndelay_warning_time = 5400s\ndouble_bounce_sender = twice\n";
    alike(main, &[], &without_utf8());
}

/// Where SMTPUTF8 is off nobody asks for it.
fn without_utf8() -> Vec<Case> {
    cases::common().into_iter().filter(|case| case.notice.sendopts == 0).collect()
}

/// One template of each kind; the success one is Latin-1.
const TEMPLATES: &[u8] = b"# The words of this host.

failure_template = <<EOF
Charset: iso-8859-1
From: Postmaster at example <post@example.com>
Subject: Could not be delivered
POSTMASTER-Subject: Look at this


This is ${myhostname} of $(mydomain): $$1,
lifetime $maximal_queue_lifetime_seconds s, $maximal_queue_lifetime_minutes m,
$maximal_queue_lifetime_hours h, $maximal_queue_lifetime_days d, $maximal_queue_lifetime_weeks w.

  # no comment
EOF

   # a comment
delay_template=<<   END
Subject : Late

Late: ${delay_warning_time_minutes} minutes, ${mail_name?yes}${nosuchname?no}
END
success_template = <<X
charset:utf-8

gr\xfc\xdfe
X
verify_template = <<EOF
No header here.
: neither here
EOF
";

/// Templates that are ignored, each for another reason.
const BAD_TEMPLATES: &str = "\
failure_template = <<EOF
Subject:

empty
EOF
delay_template = <<EOF
Subject: x

caf\u{e9}
EOF
success_template = <<EOF
Postmaster-Subject: inapplicable

x
EOF
verify_template = <<EOF
Subject: only a header

EOF
other_template = <<EOF
Subject: x
EOF
";

#[test]
fn templates_of_the_host_are_alike() {
    let main = "bounce_template_file = {dir}/bounce.cf\nnotify_classes = bounce\ndelay_warning_time = 2h\n";
    alike(main, &[("bounce.cf", TEMPLATES)], &cases::common());
    alike(&format!("{main}smtputf8_enable = no\n"), &[("bounce.cf", TEMPLATES)], &without_utf8());
    alike(main, &[("bounce.cf", BAD_TEMPLATES.as_bytes())], &cases::common());
}
