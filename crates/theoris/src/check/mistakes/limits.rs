//! Limits that contradict each other.

use config::Problems;
use config::postfix::{self, Host};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(host) = &files.postfix else { return };
    mailbox_limits(host, found);
    rate_delay(host, found);
}

/// local(8) and virtual(8) do not start when a whole message could be larger than a mailbox.
fn mailbox_limits(host: &Host, found: &mut Vec<Finding>) {
    let main = host.main();
    let mut quiet = Problems::default();
    let message = main.get(postfix::MESSAGE_SIZE_LIMIT, &mut quiet);
    let shown = |limit| if limit == 0 { "no limit (0)".to_owned() } else { format!("{limit}") };
    for (name, limit, program, domains) in [
        (
            "mailbox_size_limit",
            main.get(postfix::MAILBOX_SIZE_LIMIT, &mut quiet),
            "local",
            "mydestination",
        ),
        (
            "virtual_mailbox_limit",
            main.get(postfix::VIRTUAL_MAILBOX_LIMIT, &mut quiet),
            "virtual",
            "virtual_mailbox_domains",
        ),
    ] {
        let used = host.running(program).next().is_some()
            && !super::text(host, domains).is_empty()
            && (program != "virtual" || super::tables::hands_to_virtual(host));
        if !used || limit == 0 || (limit >= message && message != 0) {
            continue;
        }
        let set = if main.written(name).is_some() { name } else { "message_size_limit" };
        let text = format!(
            "{name} ({limit}) is smaller than message_size_limit ({}): {program} does not start, and its mail waits in the queue",
            shown(message)
        );
        found.push(
            Finding::critical(super::place(host, set), text)
                .mend(format!("write {name} = 0; a quota is Dovecot's (quota_rule, or quota_storage_size in 2.4)"))
                .of(Plank::Mda),
        );
    }
    let maildir = main.get(postfix::HOME_MAILBOX, &mut quiet).ends_with('/');
    let limit = main.get(postfix::MAILBOX_SIZE_LIMIT, &mut quiet);
    if maildir && limit != 0 && limit >= message && main.written("mailbox_size_limit").is_some() {
        let text = format!(
            "mailbox_size_limit ({limit}) limits each file of a Maildir, which is one message, and not the mailbox"
        );
        found.push(
            Finding::note(super::place(host, "mailbox_size_limit"), text)
                .mend("a quota is Dovecot's (quota_rule, or quota_storage_size in 2.4)"),
        );
    }
}

/// With a delay between deliveries there is one at a time.
fn rate_delay(host: &Host, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    let delay = host.main().get(postfix::DEFAULT_DESTINATION_RATE_DELAY, &mut quiet);
    let limit = host.main().written("default_destination_concurrency_limit");
    if !delay.is_zero() && limit.is_some_and(|limit| limit.as_str() != "1") {
        let text = format!(
            "default_destination_rate_delay ({} s) sends one message at a time to each destination, so default_destination_concurrency_limit has no effect",
            delay.as_secs()
        );
        found.push(
            Finding::note(super::place(host, "default_destination_rate_delay"), text)
                .mend("keep one of the two"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::say;
    use super::*;

    const MASTER: &str = "local unix - n n - - local\nvirtual unix - n n - - virtual\n";

    fn told(main: &str) -> String {
        say(&[("postfix/main.cf", main), ("postfix/master.cf", MASTER)], find)
    }

    /// 50 MB messages beside the default of 51,200,000 for a virtual mailbox.
    #[test]
    fn a_mailbox_smaller_than_a_message_is_told() {
        insta::assert_snapshot!(
            told("mydestination =\nvirtual_mailbox_domains = a.example\nmessage_size_limit = 52428800\n"),
            @"Critical /postfix/main.cf:3: virtual_mailbox_limit (51200000) is smaller than message_size_limit (52428800): virtual does not start, and its mail waits in the queue; write virtual_mailbox_limit = 0; a quota is Dovecot's (quota_rule, or quota_storage_size in 2.4)"
        );
        insta::assert_snapshot!(
            told("message_size_limit = 0\n"),
            @"Critical /postfix/main.cf:1: mailbox_size_limit (51200000) is smaller than message_size_limit (no limit (0)): local does not start, and its mail waits in the queue; write mailbox_size_limit = 0; a quota is Dovecot's (quota_rule, or quota_storage_size in 2.4)"
        );
        assert_eq!(told("mailbox_size_limit = 0\nmessage_size_limit = 0\n"), "");
        // No mail goes to virtual(8).
        assert_eq!(
            told(
                "mydestination =\nvirtual_mailbox_domains = a.example\nmessage_size_limit = 52428800\nvirtual_transport = lmtp:unix:x\n"
            ),
            ""
        );
    }

    #[test]
    fn a_limit_that_is_no_quota_is_told() {
        insta::assert_snapshot!(
            told("home_mailbox = Maildir/\nmailbox_size_limit = 1073741824\n"),
            @"Note /postfix/main.cf:2: mailbox_size_limit (1073741824) limits each file of a Maildir, which is one message, and not the mailbox; a quota is Dovecot's (quota_rule, or quota_storage_size in 2.4)"
        );
        insta::assert_snapshot!(
            told("default_destination_rate_delay = 1s\ndefault_destination_concurrency_limit = 5\n"),
            @"Note /postfix/main.cf:1: default_destination_rate_delay (1 s) sends one message at a time to each destination, so default_destination_concurrency_limit has no effect; keep one of the two"
        );
    }
}
